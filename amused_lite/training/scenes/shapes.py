"""The twelve kinds as vector shapes: data, drawn by `draw.py`.

Paths are written as in SVG (absolute M L C Q Z), with two additions: `O cx cy rx ry` an ellipse and `R x y w h` a
rectangle. The box is 100 x 100, x to the right and y down. Parts are painted in order.
"""

from dataclasses import dataclass
from typing import Literal

Tone = Literal["main", "light", "dark", "deep", "wood", "leaf", "cream", "ink", "paper"]


@dataclass(frozen=True)
class Part:
    """One filled shape, or a line of the given width where `line` is not 0 (both in hundredths of the box)."""

    tone: Tone
    path: str
    line: float = 0.0


SHAPES: dict[str, tuple[Part, ...]] = {
    "balloon": (
        Part("deep", "M50 80 Q40 88 50 92 Q58 95 50 100", line=2.4),
        Part("dark", "M50 72 L41 83 L59 83 Z"),
        Part("main", "M50 0 C74 0 86 18 86 36 C86 56 66 76 50 76 C34 76 14 56 14 36 C14 18 26 0 50 0 Z"),
        Part("light", "M34 12 C24 18 20 30 24 40 C30 44 32 40 31 34 C30 28 33 22 40 17 C43 13 40 9 34 12 Z"),
    ),
    "house": (
        Part("dark", "R70 8 13 30"),
        Part("main", "R12 44 76 54"),
        Part("dark", "M50 2 L100 48 L0 48 Z"),
        Part("deep", "R42 64 17 34"),
        Part("cream", "R20 58 15 17"),
        Part("cream", "R66 58 15 17"),
    ),
    "tree": (
        Part("wood", "M42 56 L58 56 L60 100 L40 100 Z"),
        Part("main", "O50 24 25 24 O27 44 24 21 O73 44 24 21 O50 48 24 20"),
        Part("dark", "O33 50 5 5 O64 40 5 5 O50 60 4.5 4.5 O48 26 4.5 4.5"),
    ),
    "star": (
        Part("main", "M50 0 L63 35 L100 38 L71 61 L81 98 L50 77 L19 98 L29 61 L0 38 L37 35 Z"),
        Part("light", "M50 26 L57 45 L77 46 L61 58 L67 78 L50 66 L33 78 L39 58 L23 46 L43 45 Z"),
    ),
    "heart": (
        Part("main", "M50 96 C20 72 2 52 2 31 C2 15 14 5 27 5 C38 5 46 11 50 20 C54 11 62 5 73 5 C86 5 98 15 98 31 "
             "C98 52 80 72 50 96 Z"),
        Part("light", "M24 15 C14 18 10 28 13 38 C15 44 22 43 21 36 C20 30 22 26 29 23 C35 20 31 13 24 15 Z"),
    ),
    "boat": (
        Part("wood", "R46 2 5 68"),
        Part("main", "M54 4 L96 62 L54 62 Z"),
        Part("light", "M43 14 L43 62 L8 62 Z"),
        Part("main", "M0 68 L100 68 L84 96 L16 96 Z"),
        Part("dark", "M0 68 L100 68 L96 76 L4 76 Z"),
    ),
    "car": (
        Part("main", "M24 52 L34 24 L70 24 L84 52 Z"),
        Part("main", "M0 54 Q0 48 8 48 L88 48 Q100 52 100 64 L100 78 L0 78 Z"),
        Part("cream", "M32 47 L39 30 L51 30 L51 47 Z M56 30 L67 30 L76 47 L56 47 Z"),
        Part("dark", "R0 64 100 6"),
        Part("ink", "O24 78 14 14 O76 78 14 14"),
        Part("light", "O24 78 6 6 O76 78 6 6"),
    ),
    "fish": (
        Part("dark", "M36 30 Q52 4 70 30 Z M44 74 Q54 92 64 72 Z"),
        Part("main", "M70 50 L100 22 Q92 50 100 78 Z"),
        Part("main", "M0 50 Q16 22 44 22 Q68 24 82 50 Q68 76 44 78 Q16 78 0 50 Z"),
        Part("light", "M12 60 Q26 74 46 73 Q60 72 68 62 Q40 68 12 60 Z"),
        Part("deep", "M34 30 Q44 50 34 70", line=3.0),
        Part("paper", "O20 44 7.5 7.5"),
        Part("ink", "O19 44 3.8 3.8"),
    ),
    "flower": (
        Part("leaf", "M50 52 L50 100", line=5.0),
        Part("leaf", "M50 92 Q26 92 18 70 Q44 70 50 92 Z M50 84 Q72 84 82 62 Q56 62 50 84 Z"),
        Part("main", "O50 13 13 14 O72 26 14 13 O72 48 14 13 O50 60 13 14 O28 48 14 13 O28 26 14 13 O50 37 18 18"),
        Part("deep", "O50 37 12 12"),
    ),
    "mushroom": (
        Part("cream", "M36 50 L64 50 Q62 80 70 98 L30 98 Q38 80 36 50 Z"),
        Part("dark", "M2 50 Q50 66 98 50 L98 58 Q50 74 2 58 Z"),
        Part("main", "M0 56 C0 20 24 2 50 2 C76 2 100 20 100 56 Q50 66 0 56 Z"),
        Part("paper", "O50 20 9 7.5 O24 36 8 8 O76 36 8 8 O50 46 8 6.5"),
    ),
    "cup": (
        Part("dark", "O78 46 17 19", line=8.0),
        Part("main", "M6 16 L78 16 L72 78 Q70 92 56 92 L28 92 Q14 92 12 78 Z"),
        Part("light", "M16 34 L24 34 L27 76 L20 76 Z"),
        Part("deep", "O42 16 36 9"),
    ),
    "moon": (
        Part("main", "M62 0 C26 0 6 24 6 50 C6 76 26 100 62 100 C72 100 82 96 88 91 C58 88 40 72 40 50 C40 28 58 12 "
             "88 9 C82 4 72 0 62 0 Z"),
        Part("dark", "O23 38 5.5 5.5 O30 62 7 7 O48 87 4.5 4.5 O45 14 4 4"),
    ),
}  # fmt: skip
