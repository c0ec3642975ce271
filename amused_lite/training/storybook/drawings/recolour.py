"""Give a drawing's main part another colour and keep its light and shade, by way of OKLCH."""

from dataclasses import dataclass

import numpy as np

INK = "#26221f"

# Lightness, chroma and hue (degrees) in OKLCH of what each word means.
_WORDS = {
    "red": (0.60, 0.22, 27),
    "orange": (0.73, 0.18, 55),
    "yellow": (0.87, 0.17, 95),
    "green": (0.64, 0.18, 145),
    "blue": (0.56, 0.18, 256),
    "purple": (0.50, 0.20, 305),
    "pink": (0.76, 0.15, 355),
    "white": (0.95, 0.004, 250),
    "black": (0.26, 0.010, 270),
}
_INK_DEPTH = 0.8  # lines are thin, so coloured ink is darker than a coloured area
_GREY = 0.05  # chroma below which a pixel has no colour to speak of
_HUES = 36  # bins of 10 degrees
_REACH, _FADE = 45.0, 20.0  # degrees: hues this near to the main one change with it, and fewer and fewer beyond

_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


@dataclass(frozen=True)
class MainPart:
    """What a colour word is about in a drawing: all that has its commonest hue, or all greys where most is grey."""

    hue: float | None  # degrees; None of greys
    lightness: float  # mean, 0 to 1
    chroma: float  # mean


def main_part(pixels: np.ndarray) -> MainPart:
    """Find the main part of a drawing, (H, W, 4) uint8, RGBA, not premultiplied: hues weighed by area and chroma."""
    lightness, chroma, hue = _oklch(pixels)
    main_hue = _main_hue(pixels[..., 3] / 255, lightness, chroma, hue)
    weight = _share(lightness, chroma, hue, main_hue) * pixels[..., 3]
    means = [float((part * weight).sum() / max(weight.sum(), 1e-6)) for part in (lightness, chroma)]
    return MainPart(main_hue, *means)


def recoloured(pixels: np.ndarray, part: MainPart, colour: str) -> np.ndarray:
    """The drawing with its main part in another colour.

    Its lightness goes along one rising curve that takes the mean to the new colour's, so that what was darker stays
    darker.

    Args:
        pixels: (H, W, 4) uint8, RGBA, not premultiplied.
        part: its main part, found once at one size so that all sizes look alike.
        colour: one of `red` to `black`.

    Returns:
        As `pixels`.
    """
    pixels = pixels.copy()
    drawn = pixels[..., 3] > 0
    old = pixels[drawn, :3].astype(np.float64)
    lightness, chroma, hue = _oklch(old)
    share = _share(lightness, chroma, hue, part.hue)
    target, target_chroma, target_hue = _WORDS[colour]
    risen = np.where(
        lightness <= part.lightness,
        lightness * target / part.lightness,
        1 - (1 - lightness) * (1 - target) / (1 - part.lightness),
    )
    if part.hue is None:
        strength, turned = np.ones_like(chroma), np.zeros_like(hue)
    else:
        strength, turned = np.clip(chroma / part.chroma, 0, 1.25), 0.3 * _apart(hue, part.hue)
    new = _rgb(risen, target_chroma * strength, target_hue + turned)
    pixels[drawn, :3] = np.clip(np.rint(old + (new - old) * share[:, None]), 0, 255).astype(np.uint8)
    return pixels


def ink_colour(colour: str) -> str:
    """Ink of a colour, as #rrggbb."""
    lightness, chroma, hue = (np.array(part) for part in _WORDS[colour])
    red, green, blue = np.rint(_rgb(lightness * _INK_DEPTH, chroma * _INK_DEPTH, hue)).astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"


def _main_hue(alpha: np.ndarray, lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> float | None:
    """The hue of the main part in degrees, or None where most of a drawing is grey."""
    coloured = alpha * (chroma > _GREY)
    if coloured.sum() < 0.3 * (alpha * (lightness > 0.35)).sum():
        return None
    bins, _ = np.histogram(hue, _HUES, (0, 360), weights=coloured * np.sqrt(chroma))
    smooth = bins * 2 + np.roll(bins, 1) + np.roll(bins, -1)
    centre = (int(smooth.argmax()) + 0.5) * 360 / _HUES
    near = coloured * (np.abs(_apart(hue, centre)) < 15)
    return float(centre + (near * _apart(hue, centre)).sum() / near.sum()) % 360


def _share(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray, main_hue: float | None) -> np.ndarray:
    """How far each pixel belongs to the main part, 0 to 1."""
    if main_hue is None:
        return np.clip((_GREY * 1.4 - chroma) / (_GREY * 0.4), 0, 1) * np.clip((lightness - 0.35) / 0.1, 0, 1)
    near = np.clip((_REACH + _FADE - np.abs(_apart(hue, main_hue))) / _FADE, 0, 1)
    return near * np.clip((chroma - 0.02) / 0.03, 0, 1)


def _apart(hue: np.ndarray, other: float) -> np.ndarray:
    """Degrees from `other` to each hue, -180 to 180."""
    return (hue - other + 180) % 360 - 180


def _oklch(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lightness 0 to 1, chroma, and hue in degrees of sRGB, (..., 3 or more) of 0 to 255."""
    value = pixels[..., :3] / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    lab = np.cbrt(linear @ _TO_LMS.T) @ _TO_LAB.T
    hue = np.degrees(np.arctan2(lab[..., 2], lab[..., 1])) % 360
    return lab[..., 0], np.hypot(lab[..., 1], lab[..., 2]), hue


def _rgb(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """sRGB 0 to 255 (..., 3) of OKLCH; what sRGB cannot show loses chroma in steps until it can."""
    best = _linear(lightness, np.zeros_like(lightness), hue)
    for keep in (0.2, 0.4, 0.55, 0.7, 0.85, 1.0):
        linear = _linear(lightness, chroma * keep, hue)
        shown = ((linear > -0.002) & (linear < 1.002)).all(-1, keepdims=True)
        best = np.where(shown, linear, best)
    value = np.clip(best, 0, 1)
    return 255 * np.where(value <= 0.0031308, value * 12.92, 1.055 * value ** (1 / 2.4) - 0.055)


def _linear(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> np.ndarray:
    angle = np.radians(hue)
    lab = np.stack(np.broadcast_arrays(lightness, chroma * np.cos(angle), chroma * np.sin(angle)), axis=-1)
    return (lab @ np.linalg.inv(_TO_LAB).T) ** 3 @ np.linalg.inv(_TO_LMS).T
