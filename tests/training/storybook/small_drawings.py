"""Sets of drawings made by code, shaped like the fetched ones: every hand, every thing, one shape and its shade."""

import colorsys
import json
import zlib
from pathlib import Path

from amused_lite.training.storybook.kinds import HANDS, HELD_OUT_HANDS, KINDS, Kind

_CANVAS = {"flat": 32, "shaded": 128, "blob": 128, "soft": 512, "ink": 32, "twemoji": 36, "openmoji": 72}


def write_sets(folder: Path) -> Path:
    """Write what `fetch` would leave in the folder, with drawings of its own; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for hand in HANDS + HELD_OUT_HANDS:
        icons = {kind.icons[hand]: {"body": _body(hand, kind)} for kind in KINDS.values() if hand in kind.icons}
        side = _CANVAS[hand]
        (folder / f"{hand}.json").write_text(json.dumps({"icons": icons, "width": side, "height": side}))
    return folder


def _body(hand: str, kind: Kind) -> str:
    """A rounded block off the middle, with a darker stripe and a white spot: colour and shape by the name."""
    number = zlib.crc32(f"{hand} {kind.name}".encode())
    unit = _CANVAS[hand] / 32
    left, top, width, height = 2 + number % 5, 3 + number // 8 % 5, 12 + number // 64 % 10, 12 + number // 512 % 10
    light, dark = (_hex(number // 4096 % 36 / 36, value) for value in (0.9, 0.6))
    if hand == "ink":
        light = dark = "currentColor"
    block = f'x="{left}" width="{width}"'
    return (
        f'<g transform="scale({unit})"><rect {block} y="{top}" height="{height}" rx="3" fill="{light}"/>'
        f'<rect {block} y="{top + height - 7}" height="4" fill="{dark}"/>'
        f'<circle cx="{left + 3}" cy="{top + 3}" r="1.5" fill="#fff"/></g>'
    )


def _hex(hue: float, value: float) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hsv_to_rgb(hue, 0.8, value))
