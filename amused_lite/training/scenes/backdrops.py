"""The six backdrops as vector layers: data, drawn by `draw.py`. Coordinates are px of a 512 px picture.

Flat bands with edges on the token grid, and one small feature that moves between the three variants. Colours keep their
distance from the object colours of `scene.py`.
"""

from dataclasses import dataclass

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Layer:
    """One filled path (in the notation of `shapes.py`); the cartoon style outlines it where `outlined`."""

    rgb: RGB
    path: str
    outlined: bool = True


_GROUND = "R0 352 512 160"


def _cloud(x: int, y: int, rgb: RGB = (255, 255, 255)) -> Layer:
    return Layer(rgb, f"O{x} {y} 32 20 O{x + 32} {y - 12} 32 24 O{x + 64} {y} 32 20", outlined=False)


def _dots(rgb: RGB, radius: int, *places: tuple[int, int]) -> Layer:
    return Layer(rgb, " ".join(f"O{x} {y} {radius} {radius}" for x, y in places), outlined=False)


def _meadow(hill: int, cloud: int) -> tuple[Layer, ...]:
    return (
        _cloud(cloud, 64),
        Layer((150, 206, 128), f"O{hill} 368 176 96"),
        Layer((172, 220, 140), _GROUND),
        _dots((214, 238, 186), 4, (40, 472), (152, 488), (264, 472), (376, 488), (488, 472)),
    )


def _sea(shift: int, cloud: int) -> tuple[Layer, ...]:
    crests = " ".join(
        f"M{x} {y} Q{x + 16} {y - 12} {x + 32} {y} Q{x + 16} {y - 5} {x} {y} Z"
        for row, y in enumerate((392, 440, 488))
        for x in range(32 + (shift + 64 * row) % 128, 480, 128)
    )
    return (_cloud(cloud, 64), Layer((98, 186, 206), _GROUND), Layer((206, 240, 244), crests, outlined=False))


def _desert(dune: int, side: int) -> tuple[Layer, ...]:
    return (
        Layer((222, 178, 112), f"M{dune - 224} 352 Q{dune - 64} 336 {dune} 256 Q{dune + 80} 336 {dune + 224} 352 Z"),
        Layer((236, 200, 142), _GROUND),
        Layer(
            (222, 182, 120),
            f"M{side} 448 Q{side + 96} 416 {side + 192} 448 Q{side + 96} 436 {side} 448 Z",
            outlined=False,
        ),
    )


def _snow(hill: int, shift: int) -> tuple[Layer, ...]:
    flakes = ((48, 64), (160, 112), (272, 48), (384, 112), (464, 64), (96, 208), (432, 208))
    return (
        Layer((206, 218, 234), f"M{hill - 176} 352 L{hill} 192 L{hill + 176} 352 Z"),
        Layer((232, 240, 250), _GROUND),
        _dots((244, 249, 255), 5, *((x + shift, y) for x, y in flakes)),
    )


def _night(hill: int, shift: int) -> tuple[Layer, ...]:
    stars = ((32, 48), (144, 96), (256, 32), (368, 96), (464, 48), (80, 192), (432, 192), (176, 288), (336, 288))
    return (
        _dots((236, 236, 200), 3, *((x + shift, y) for x, y in stars)),
        Layer((58, 74, 112), f"O{hill} 368 192 64"),
        Layer((42, 58, 84), _GROUND),
    )


def _sunset(sun: int, band: int) -> tuple[Layer, ...]:
    return (
        Layer((250, 178, 132), "R0 160 512 192", outlined=False),
        Layer((255, 226, 160), f"O{sun} 352 80 80"),
        Layer((104, 66, 98), _GROUND),
        Layer((150, 96, 118), f"R{band} 400 160 8 R{band - 32} 448 224 8", outlined=False),
    )


# For each backdrop the colour of the sky and the layers of each variant.
BACKDROP_LAYERS: dict[str, tuple[RGB, tuple[tuple[Layer, ...], ...]]] = {
    "meadow": ((196, 230, 250), (_meadow(128, 368), _meadow(384, 80), _meadow(256, 32))),
    "sea": ((214, 240, 246), (_sea(0, 64), _sea(64, 352), _sea(32, 208))),
    "desert": ((252, 238, 206), (_desert(128, 288), _desert(384, 32), _desert(256, 160))),
    "snow": ((180, 196, 220), (_snow(384, 0), _snow(128, 16), _snow(256, -16))),
    "night": ((50, 56, 116), (_night(128, 0), _night(384, 16), _night(256, -16))),
    "sunset": ((236, 140, 130), (_sunset(400, 320), _sunset(112, 32), _sunset(256, 176))),
}
