"""What is known of a picture beside its pixels: its caption and scores, out of files that other programs write."""

from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from amused_lite.reading import convert, parse_object, read_text

METADATA = "metadata.jsonl"
LONGEST = 10_000  # bytes of a caption
_FORM = 'write lines like {"file_name": "a.png", "text": "a boat"}'
_LARGEST_TABLE = 2**30  # bytes of a metadata.jsonl: ten million lines
_Score = Annotated[float, Meta(ge=-1e3, le=1e3)] | None
_Side = Annotated[int, Meta(ge=0, le=2**20)] | None
# As LAION's tables, img2dataset and open-muse call them -> ours.
_NAMES = {
    "caption": "text",
    "prompt": "text",
    "TEXT": "text",
    "AESTHETIC_SCORE": "aesthetic_score",
    "aesthetic": "aesthetic_score",
    "punsafe": "unsafe",
    "pwatermark": "watermark",
    "similarity": "clip_score",
}


class PictureFacts(Struct):
    """A picture's caption and what was measured of it; None where nobody did."""

    text: Annotated[str, Meta(max_length=LONGEST)] = ""
    file_name: str = ""
    aesthetic_score: _Score = None  # 0 to 10, LAION's predictor
    watermark: _Score = None  # probability that it has one
    unsafe: _Score = None  # probability that it is not safe for work
    clip_score: _Score = None  # cosine of picture and caption
    original_width: _Side = None  # px, before somebody made it smaller
    original_height: _Side = None


def facts_of(values: dict[str, Any], where: str) -> PictureFacts:
    """A JSON object of any of the known programs.

    Raises:
        ValueError: a field has another type or is out of range.
    """
    ours = {_NAMES.get(name, name): value for name, value in values.items() if value is not None}
    return convert(ours, PictureFacts, where, _FORM, closed=False)


def read_table(folder: Path) -> dict[str, PictureFacts]:
    """The rows of a folder's `metadata.jsonl`, by file name; none where there is no such file.

    Raises:
        ValueError: a line cannot be read or names no file; names file and line.
    """
    path, rows = folder / METADATA, {}
    if not path.is_file():
        return rows
    for number, line in enumerate(read_text(path, _FORM, _LARGEST_TABLE).splitlines(), 1):
        if line.strip():
            where = f"{path}, line {number}"
            facts = facts_of(parse_object(line, where, _FORM), where)
            if not facts.file_name:
                raise ValueError(f"{where}: file_name is missing; {_FORM}")
            rows[facts.file_name] = facts
    return rows


def text_beside(picture: Path) -> str:
    """The caption in a text file of the picture's name (`a.txt` or `a.png.txt`); "" where there is none.

    Raises:
        ValueError: it is no text.
    """
    for text in (picture.with_suffix(".txt"), picture.with_name(f"{picture.name}.txt")):
        if text.is_file():
            return read_text(text, "write what the picture shows", LONGEST)
    return ""
