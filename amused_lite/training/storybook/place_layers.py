"""The places of the storybook as vector layers: data, drawn by `places.py`.

Every place is a function of the side of the picture and the height of its horizon, both px and multiples of 16. What it
draws keeps its size in px at every side, so that a token of a place looks alike at 256 and at 512. Few flat colours,
edges on the token grid where a shape allows it, nothing that could be taken for one of the things, and features near
the left and right rather than behind what stands in the middle.
"""

from dataclasses import dataclass

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class PlaceLayer:
    """One filled path in the notation of `scenes/shapes.py`, in its colour by day.

    `drawn`: an ink drawing shows its outline. `lit`: its colour at night instead of a darker one. `fixed`: the colour
    holds at any time of day.
    """

    rgb: RGB
    path: str
    drawn: bool = True
    lit: RGB | None = None
    fixed: bool = False


Layers = tuple[PlaceLayer, ...]

WATER, SAND, GRASS, LEAF = (118, 190, 216), (240, 214, 160), (176, 218, 142), (146, 196, 128)
GLASS = (186, 222, 242)


def _ground(side: int, top: int, rgb: RGB) -> PlaceLayer:
    return PlaceLayer(rgb, f"R-8 {top} {side + 16} {side + 8 - top}")  # beyond the edges: no outline shows there


def _dots(rgb: RGB, radius: int, places: list[tuple[int, int]], **how: bool) -> PlaceLayer:
    path = " ".join(f"O{x} {y} {radius} {radius}" for x, y in places)
    return PlaceLayer(rgb, path, drawn=how.get("drawn", False), fixed=how.get("fixed", False))


def _grid(side: int, top: int, across: int = 128, down: int = 64) -> list[tuple[int, int]]:
    """Staggered places from `top` to the lower edge, the same inside every token they fall into."""
    rows = enumerate(range(top, side, down))
    return [(x, y) for row, y in rows for x in range(24 + row % 2 * across // 2, side, across)]


def _row(side: int, top: int, rgb: RGB, across: int, height: int) -> PlaceLayer:
    """A scalloped row of round tops standing on `top`: bushes or far trees."""
    path = " ".join(f"O{x} {top} {across * 5 // 8} {height}" for x in range(0, side + across, across))
    return PlaceLayer(rgb, path, drawn=False)


def _crests(side: int, top: int, bottom: int, rgb: RGB) -> PlaceLayer:
    path = " ".join(
        f"M{x} {y} Q{x + 16} {y - 12} {x + 32} {y} Q{x + 16} {y - 5} {x} {y} Z"
        for row, y in enumerate(range(top, bottom, 48))
        for x in range(16 + row % 2 * 64, side - 16, 128)
    )
    return PlaceLayer(rgb, path, drawn=False)


def meadow(side: int, top: int) -> Layers:
    return (
        PlaceLayer(LEAF, f"O{side // 4} {top + 16} {side * 3 // 8} 80"),
        PlaceLayer((160, 208, 134), f"O{side * 7 // 8} {top + 16} {side // 4} 48"),
        _ground(side, top, GRASS),
        _dots((246, 240, 190), 4, _grid(side, top + 56)),
    )


def beach(side: int, top: int) -> Layers:
    return (
        _ground(side, top, WATER),
        _crests(side, top + 24, top + 40, (208, 236, 244)),
        PlaceLayer((244, 250, 250), f"R-8 {top + 48} {side + 16} 8", drawn=False),
        _ground(side, top + 56, SAND),
        _dots((222, 190, 136), 4, _grid(side, top + 88)),
    )


def sea(side: int, top: int) -> Layers:
    return (
        _ground(side, top, WATER),
        PlaceLayer((98, 172, 206), f"R-8 {side - 64} {side + 16} 64", drawn=False),
        _crests(side, top + 32, side, (206, 236, 244)),
    )


def desert(side: int, top: int) -> Layers:
    left, right = side // 4, side * 7 // 8
    return (
        PlaceLayer((230, 188, 124), f"M{left - 240} {top} Q{left - 64} {top - 16} {left} {top - 96} "
              f"Q{left + 80} {top - 16} {left + 240} {top} Z"),
        PlaceLayer((222, 176, 112), f"M{right - 160} {top} Q{right - 48} {top - 8} {right} {top - 48} "
              f"Q{right + 48} {top - 8} {right + 160} {top} Z"),
        _ground(side, top, (244, 208, 150)),
        PlaceLayer((230, 190, 128), " ".join(
            f"M{x} {y} Q{x + 48} {y - 20} {x + 96} {y} Q{x + 48} {y - 10} {x} {y} Z"
            for x, y in _grid(side, top + 64, 192)), drawn=False),
    )  # fmt: skip


def snow(side: int, top: int) -> Layers:
    return (
        PlaceLayer((206, 222, 240), f"O{side // 4} {top + 16} {side * 3 // 8} 96"),
        PlaceLayer((220, 232, 246), f"O{side * 7 // 8} {top + 16} {side // 4} 64"),
        _ground(side, top, (240, 246, 252)),
        PlaceLayer((216, 228, 242), " ".join(
            f"M{x} {y} Q{x + 40} {y - 16} {x + 80} {y} Q{x + 40} {y - 8} {x} {y} Z"
            for x, y in _grid(side, top + 64, 160)), drawn=False),
    )  # fmt: skip


def forest(side: int, top: int) -> Layers:
    trunks = " ".join(f"R{x} {top - 96} 16 96" for x in range(24, side, 64))
    return (
        _row(side, top - 112, (112, 172, 122), 64, 48),
        PlaceLayer((112, 172, 122), f"R-8 {top - 112} {side + 16} 112", drawn=False),
        PlaceLayer((134, 116, 92), trunks),
        _row(side, top, (136, 190, 116), 32, 16),
        _ground(side, top, (154, 200, 124)),
        _dots((134, 180, 108), 5, _grid(side, top + 56)),
    )


def mountains(side: int, top: int) -> Layers:
    peaks = ((side // 8, 176), (side * 7 // 8, 144), (side // 2, 80))
    caps = " ".join(
        f"M{x - 48} {top - h + 48} L{x} {top - h} L{x + 48} {top - h + 48} L{x + 16} {top - h + 36} "
        f"L{x} {top - h + 52} L{x - 16} {top - h + 36} Z"
        for x, h in peaks[:2]
    )
    return (
        *(PlaceLayer((166, 174, 196), f"M{x - h} {top} L{x} {top - h} L{x + h} {top} Z") for x, h in reversed(peaks)),
        PlaceLayer((244, 247, 252), caps),
        _ground(side, top, (170, 206, 150)),
        _dots((148, 186, 130), 5, _grid(side, top + 56)),
    )


def city(side: int, top: int) -> Layers:
    heights = (160, 112, 192, 128, 176, 96)
    houses = [(x, heights[x // 64 % 6]) for x in range(0, side, 64)]
    tints = ((196, 178, 190), (176, 186, 206), (206, 196, 178))
    walls = tuple(
        PlaceLayer(tints[tint], " ".join(f"R{x} {top - h} 64 {h}" for x, h in houses if x // 64 % 3 == tint))
        for tint in range(3)
    )
    panes = [f"R{x + 12 + 24 * n} {y} 16 16" for x, h in houses for n in range(2) for y in range(top - h + 16, top, 32)]
    dashes = " ".join(f"R{x} {side - 32} 48 8" for x in range(16, side, 96))
    return (
        *walls,
        PlaceLayer((228, 232, 238), " ".join(panes), drawn=False, lit=(250, 222, 140)),
        PlaceLayer((208, 204, 200), f"R-8 {top} {side + 16} 32"),
        _ground(side, top + 32, (164, 166, 174)),
        PlaceLayer((236, 236, 232), dashes),
    )


def farm(side: int, top: int) -> Layers:
    posts = " ".join(f"R{x} {top - 40} 8 48" for x in range(12, side, 64))
    rails = f"R-8 {top - 32} {side + 16} 8 R-8 {top - 12} {side + 16} 8"
    furrows = " ".join(f"R-8 {y} {side + 16} 16" for y in range(top + 32, side, 32))
    sprouts = " ".join(f"O{x - 5} {y} 6 4 O{x + 5} {y} 6 4" for x, y in _grid(side, top + 40, 64, 32))
    barn = side - 104
    return (
        _row(side, top, (168, 204, 140), 128, 48),
        PlaceLayer((196, 120, 106), f"M{barn} {top} L{barn} {top - 64} L{barn + 40} {top - 96} L{barn + 80} {top - 64} "
              f"L{barn + 80} {top} Z"),
        PlaceLayer((240, 232, 220), f"R{barn + 24} {top - 40} 32 40"),
        PlaceLayer((226, 206, 172), posts + " " + rails),
        PlaceLayer((190, 212, 124), f"R-8 {top} {side + 16} 16"),
        _ground(side, top + 16, (206, 176, 126)),
        PlaceLayer((192, 160, 112), furrows, drawn=False),
        PlaceLayer((146, 184, 104), sprouts, drawn=False),
    )  # fmt: skip


def living_room(side: int, top: int) -> Layers:
    return (
        PlaceLayer((244, 226, 204), f"R-8 0 {side + 16} {top}", drawn=False),
        _dots((236, 214, 188), 4, _grid(side, 24, 64, 48)),
        *_window(side - 144, max(32, top // 2 - 96)),
        PlaceLayer((160, 116, 96), f"R{32} {max(48, top // 2 - 80)} 80 64"),
        PlaceLayer((206, 222, 200), f"R{40} {max(56, top // 2 - 72)} 64 48"),
        PlaceLayer((250, 244, 236), f"R-8 {top - 16} {side + 16} 16"),
        _ground(side, top, (206, 160, 120)),
        PlaceLayer((216, 130, 124), f"O{side // 2} {(top + side) // 2 + 24} {side * 3 // 8} {(side - top) * 5 // 16}"),
    )  # fmt: skip


def kitchen(side: int, top: int) -> Layers:
    tiles = " ".join(f"R{x} 0 4 {top - 80}" for x in range(32, side, 64))
    rows = " ".join(f"R-8 {y} {side + 16} 4" for y in range(top % 64, top - 80, 64))
    doors = " ".join(f"R{x + 8} {top - 56} 80 48" for x in range(0, side, 96))
    knobs = [(x + 80, top - 32) for x in range(0, side, 96)]
    squares = " ".join(
        f"R{x} {y} 64 32" for row, y in enumerate(range(top, side, 32)) for x in range(row % 2 * 64, side, 128)
    )
    return (
        PlaceLayer((222, 240, 236), f"R-8 0 {side + 16} {top}", drawn=False),
        PlaceLayer((204, 226, 222), tiles + " " + rows, drawn=False),
        *_window(side - 144, max(16, top // 2 - 112)),
        PlaceLayer((240, 226, 196), f"R-8 {top - 64} {side + 16} 64", drawn=False),
        PlaceLayer((250, 240, 216), doors),
        _dots((170, 150, 120), 4, knobs),
        PlaceLayer((150, 122, 104), f"R-8 {top - 80} {side + 16} 16"),
        _ground(side, top, (240, 236, 228)),
        PlaceLayer((214, 208, 204), squares, drawn=False),
    )


def _window(left: int, top: int) -> Layers:
    return (
        PlaceLayer((252, 250, 244), f"R{left} {top} 112 96"),
        PlaceLayer(GLASS, f"R{left + 8} {top + 8} 44 80 R{left + 60} {top + 8} 44 80", lit=(40, 50, 98)),
    )


def lake(side: int, top: int) -> Layers:
    bank = side * 3 // 4
    reeds = [(x + n * 16, 40 - n * 8) for x in (16, side - 64) for n in range(3)]
    return (
        _row(side, top, (150, 196, 140), 96, 40),
        PlaceLayer(GRASS, f"R-8 {top - 16} {side + 16} 16", drawn=False),
        PlaceLayer(WATER, f"R-8 {top} {side + 16} {bank - top}"),
        _crests(side, top + 24, bank - 8, (206, 236, 244)),
        _ground(side, bank, GRASS),
        PlaceLayer((126, 164, 96), " ".join(f"R{x} {bank + 8 - h} 6 {h}" for x, h in reeds), drawn=False),
        _dots((156, 204, 126), 5, _grid(side, bank + 40)),
    )


def park(side: int, top: int) -> Layers:
    middle = side // 2
    trees = [(64, top - 64), (side - 64, top - 64)]
    return (
        _row(side, top, (150, 200, 138), 64, 40),
        PlaceLayer((160, 136, 112), " ".join(f"R{x - 8} {y} 16 64" for x, y in trees)),
        PlaceLayer((130, 186, 126), " ".join(f"O{x} {y} 48 48" for x, y in trees)),
        _ground(side, top, (184, 222, 150)),
        PlaceLayer((238, 222, 188), f"M{middle - 32} {top} L{middle + 32} {top} L{middle + side * 3 // 8} {side} "
              f"L{middle - side * 3 // 8} {side} Z"),
    )  # fmt: skip


def space(side: int, top: int) -> Layers:
    craters = " ".join(f"O{x} {y} 36 10" for x, y in _grid(side, top + 40, 160, 56))
    return (
        PlaceLayer((168, 170, 190), f"O{side // 4} {top + 16} {side // 4} 40", fixed=True),
        PlaceLayer((182, 184, 202), f"R-8 {top} {side + 16} {side - top}", fixed=True),
        PlaceLayer((156, 158, 180), craters, fixed=True),
    )


def paper(side: int, top: int) -> Layers:
    return ()
