"""Where a scene happens: drawn places by day, at dusk and at night, in four kinds of weather.

All of it is drawn behind the things, rain and fog too, so that the things keep their tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import skia

from amused_lite.files.images import Pixels
from amused_lite.training.scenes.draw import parse_path
from amused_lite.training.storybook import place_layers
from amused_lite.training.storybook.place_layers import RGB, Layers, PlaceLayer

TIMES = ("day", "dusk", "night")
WEATHERS = ("clear", "rain", "snow", "fog")
VARIANTS = 2  # as drawn, and mirrored


@dataclass(frozen=True)
class Place:
    """A kind of backdrop. `phrases` say it; `times` and `weathers` are those it has, the default first.

    `holds` are the ways of being placed (`Kind.place`) that suit it; "large" things do not fit `indoors`. On
    `boundless` paper a thing may be anywhere. `afloat(side)` is the one row on which things float, px from the top of a
    picture of that side; without it the whole ground is water, or dry.
    """

    phrases: tuple[str, ...]
    layers: Callable[[int, int], Layers]
    holds: frozenset[str]
    times: tuple[str, ...] = TIMES
    weathers: tuple[str, ...] = WEATHERS
    indoors: bool = False
    boundless: bool = False
    afloat: Callable[[int], int] | None = None


_LAND = frozenset({"stands", "lies", "flies"})
_SHORE = frozenset({"stands", "lies", "flies", "floats"})
_WET = ("clear", "rain", "fog")


def horizon(side: int) -> int:
    """Height of the horizon, px from the top of a picture of `side` px, on the token grid."""
    return side * 5 // 8 // 16 * 16


def _by_the_horizon(side: int) -> int:
    return horizon(side) + 32


def _by_the_bank(side: int) -> int:
    return side * 3 // 4 - 16


PLACES: dict[str, Place] = {
    "meadow": Place(("in a meadow", "in the meadow", "on the grass"), place_layers.meadow, _LAND),
    "beach": Place(
        ("on the beach", "at the beach", "on a beach"),
        place_layers.beach,
        _SHORE,
        weathers=_WET,
        afloat=_by_the_horizon,
    ),
    "sea": Place(
        ("at sea", "on the sea", "in the sea"), place_layers.sea, frozenset({"floats", "flies"}), weathers=_WET
    ),
    "desert": Place(("in the desert", "in a desert"), place_layers.desert, _LAND, weathers=("clear",)),
    "snow": Place(
        ("in a snowy field", "in a snowy landscape", "in a snow field"),
        place_layers.snow,
        _LAND,
        weathers=("clear", "snow"),
    ),
    "forest": Place(("in a forest", "in the forest", "in the woods"), place_layers.forest, _LAND),
    "mountains": Place(("in the mountains", "in front of mountains"), place_layers.mountains, _LAND),
    "city": Place(("in a city street", "in the city", "on a street"), place_layers.city, _LAND),
    "farm": Place(("on a farm", "at the farm", "on the farm"), place_layers.farm, _LAND),
    "living room": Place(
        ("in a living room", "in the living room"),
        place_layers.living_room,
        frozenset({"stands", "lies"}),
        weathers=("clear",),
        indoors=True,
    ),
    "kitchen": Place(
        ("in a kitchen", "in the kitchen"),
        place_layers.kitchen,
        frozenset({"stands", "lies"}),
        weathers=("clear",),
        indoors=True,
    ),
    "lake": Place(
        ("at a lake", "by the lake", "by a lake"), place_layers.lake, _SHORE, weathers=_WET, afloat=_by_the_bank
    ),
    "park": Place(("in a park", "in the park"), place_layers.park, _LAND),
    "space": Place(("in outer space", "in space"), place_layers.space, _LAND, times=("night",), weathers=("clear",)),
    "paper": Place(
        ("on plain paper", "on a plain background", "on white paper"),
        place_layers.paper,
        _SHORE,
        times=("day",),
        weathers=("clear",),
        boundless=True,
    ),
}

_DAY_SKY, _NIGHT_SKY = (194, 228, 248), (44, 54, 106)
_DUSK_SKY = ((190, 146, 178), (218, 158, 164), (242, 182, 152), (252, 212, 162))  # from the top to the horizon
_DULL_SKY = {"rain": (160, 176, 194), "snow": (204, 212, 224), "fog": (216, 222, 226)}
_FALLING = {"rain": (214, 228, 242), "snow": (255, 255, 255)}
_FALLING_INK = (176, 184, 198)
_FOG = (222, 226, 230)
_PAPER = (250, 246, 236)
_INK_LINE = 3.0


@lru_cache(maxsize=256)
def backdrop(place: str, time: str, weather: str, variant: int, side: int, ink: bool = False) -> Pixels:
    """The empty place: uint8 (side, side, 3), RGB, not to be written to.

    `side` is a multiple of 128 px. `ink` draws outlines on washed paper. Raises KeyError for an unknown place.
    """
    pixels = np.empty((side, side, 4), np.uint8)
    with skia.Surface(pixels, skia.kRGBA_8888_ColorType) as canvas:
        for layer in _all_layers(place, time, weather, side):
            path, rgb = _path(layer.path), _tone(layer, time, weather)
            if ink:
                rgb = _wash(rgb, time) if layer.rgb not in _FALLING.values() or time == "night" else _FALLING_INK
            canvas.drawPath(path, skia.Paint(AntiAlias=True, Color=skia.Color(*rgb)))
            if ink and layer.drawn:
                canvas.drawPath(path, _pen(time))
    picture = pixels[:, ::-1, :3] if variant else pixels[..., :3]
    picture = np.ascontiguousarray(picture)
    picture.flags.writeable = False
    return picture


@lru_cache(maxsize=1024)
def _path(text: str) -> skia.Path:
    return parse_path(text)


def _all_layers(place: str, time: str, weather: str, side: int) -> Layers:
    top = horizon(side)
    if PLACES[place].boundless:
        return (PlaceLayer(_PAPER, f"R0 0 {side} {side}", drawn=False),)
    layers = _sky(time, weather, side) + PLACES[place].layers(side, top)
    if weather == "fog":
        bands = " ".join(f"R0 {y} {side} 16" for y in range(top - 128, side, 64))
        layers += (PlaceLayer((236, 239, 241), bands, drawn=False),)
    return layers + _falling(weather, side)


def _sky(time: str, weather: str, side: int) -> Layers:
    whole = f"R0 0 {side} {side}"
    if weather != "clear":
        return (PlaceLayer(_DULL_SKY[weather], whole, drawn=False),)
    if time == "dusk":
        step = horizon(side) // 64 * 16
        return tuple(
            PlaceLayer(rgb, f"R0 {band * step} {side} {side - band * step}", drawn=False, fixed=True)
            for band, rgb in enumerate(_DUSK_SKY)
        )
    if time == "night":
        stars = " ".join(f"O{x + y % 32} {y} 3 3" for y in range(24, side, 72) for x in range(24 + y % 48, side, 112))
        return (
            PlaceLayer(_NIGHT_SKY, whole, drawn=False, fixed=True),
            PlaceLayer((238, 236, 206), stars, drawn=False, fixed=True),
        )
    cloud = " ".join(f"O{x} 64 32 16 O{x + 32} 52 32 22 O{x + 64} 64 32 16" for x in (side - 144, 64)[: side // 256])
    return (PlaceLayer(_DAY_SKY, whole, drawn=False), PlaceLayer((250, 253, 255), cloud))


def _falling(weather: str, side: int) -> Layers:
    if weather not in _FALLING:
        return ()
    places = [(x, y) for row, y in enumerate(range(16, side, 48)) for x in range(12 + row % 2 * 32, side, 64)]
    if weather == "rain":
        path = " ".join(f"M{x + 8} {y - 12} L{x + 11} {y - 12} L{x} {y + 12} L{x - 3} {y + 12} Z" for x, y in places)
    else:
        path = " ".join(f"O{x} {y} 5 5" for x, y in places)
    return (PlaceLayer(_FALLING[weather], path, drawn=False, fixed=True),)


def _tone(layer: PlaceLayer, time: str, weather: str) -> RGB:
    """The colour of a layer at this time and in this weather."""
    if layer.fixed:
        return layer.rgb
    rgb = layer.rgb
    if time == "night" and layer.lit:
        return layer.lit
    if weather == "fog":
        rgb = _mix(rgb, _FOG, 0.42)
    elif weather in _DULL_SKY:
        rgb = _mix(rgb, _DULL_SKY[weather], 0.3)
    if time == "dusk":
        return _mix(rgb, (176, 84, 104), 0.36)
    return _mix(rgb, (12, 22, 74), 0.62) if time == "night" else rgb


def _wash(rgb: RGB, time: str) -> RGB:
    """A colour as a thin wash over the paper of an ink drawing."""
    return rgb if time == "night" else _mix(rgb, _PAPER, 0.72)


def _pen(time: str) -> skia.Paint:
    rgb = (136, 146, 190) if time == "night" else (156, 148, 140)
    return skia.Paint(AntiAlias=True, Color=skia.Color(*rgb), Style=skia.Paint.kStroke_Style, StrokeWidth=_INK_LINE)


def _mix(rgb: RGB, other: RGB, share: float) -> RGB:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(rgb, other, strict=True))
    return red, green, blue
