"""The `amused-lite` command, run in this process so that libraries load once, and pictures for it to start from."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import names
import numpy as np
from PIL import Image, ImageDraw


def run(*words: str | Path) -> str:
    """Run one command; returns what it printed.

    Raises:
        RuntimeError: it failed.
    """
    said, complaints = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complaints):
        try:
            code = names.main([str(word) for word in words])
        except SystemExit as ended:  # argparse
            code = ended.code if isinstance(ended.code, int) else 2
    if code:
        raise RuntimeError(f"amused-lite {' '.join(map(str, words))} ended with {code}: {complaints.getvalue()}")
    return said.getvalue()


def run_json(*words: str | Path) -> dict[str, Any]:
    """Run one command with `--json`."""
    return json.loads(run(*words, "--json").splitlines()[-1])


def write_photo(path: Path) -> Path:
    """A picture that no model made: smooth colours and two shapes, wider than high."""
    down, right = np.mgrid[0:400, 0:640]
    pixels = np.stack([right * 255 // 639, down * 255 // 399, (right + down) % 256], -1).astype(np.uint8)
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    draw.rectangle((120, 180, 280, 360), fill=(200, 60, 40))
    draw.polygon([(420, 320), (500, 90), (580, 320)], fill=(240, 220, 60))
    image.save(path)
    return path


def write_mask(path: Path, box: tuple[int, int, int, int], size: tuple[int, int]) -> Path:
    """White in the box (left, top, right, bottom), black elsewhere."""
    mask = Image.new("L", size)
    mask.paste(255, box)
    mask.save(path)
    return path


def write_cut_out(path: Path, source: Path) -> Path:
    """The same picture with its upper right quarter see-through."""
    with Image.open(source) as opened:
        image = opened.convert("RGBA")
    width, height = image.size
    image.putalpha(Image.new("L", image.size, 255))
    image.paste((0, 0, 0, 0), (width // 2, 0, width, height // 2))
    image.save(path)
    return path
