"""The one reader of handed-over files: types, ranges and complaints."""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta

from amused_lite.reading import check_version, convert, parse_object, read_json, read_small, read_text


@dataclass(frozen=True)
class Inner:
    width: Annotated[int, Meta(ge=1, le=100)] = 3

    def __post_init__(self) -> None:
        if self.width == 13:
            raise ValueError("width 13 is unlucky")


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    share: Annotated[float, Meta(ge=-1, le=1)] = 0.0
    kind: Literal["a", "b"] = "a"
    pair: tuple[float, float] = (0.0, 0.0)
    table: dict[str, Inner] = field(default_factory=dict)
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{4}$")] = "0000"


COMPLAINTS: list[tuple[Any, str]] = [
    ({}, "name is missing"),
    ({"name": 5}, "name is 5, expected str"),
    ({"name": "x" * 99, "share": "y" * 99}, f'share is "{"y" * 36}..., expected float'),
    ({"name": "x", "inner": {"width": 10**9}}, "inner.width is 1000000000, expected int <= 100"),
    ({"name": "x", "inner": {"width": True}}, "inner.width is true, expected int"),
    ({"name": "x", "inner": {"width": 13}}, "inner: width 13 is unlucky"),
    ({"name": "x", "inner": {"depth": 1}}, "'inner.depth' is not known"),
    ({"name": "x", "share": math.nan}, "share is NaN, expected float >= -1.0"),
    ({"name": "x", "share": 10**400}, "share is a number of more than 40 digits, expected a number that fits 64 bits"),
    ({"name": "x", "kind": "c"}, 'kind is "c", expected one of a, b'),
    ({"name": "x", "pair": [1]}, "pair is a list of 1, expected list of length 2"),
    ({"name": "x", "pair": [1, None]}, "pair.1 is null, expected float"),
    ({"name": "x", "table": {"one": {}, "two": {"width": 0}}}, "table.two.width is 0, expected int >= 1"),
    ({"name": "x", "sha256": "no"}, "sha256 is \"no\", expected str of the form '^[0-9a-f]{4}$'"),
    ({"name": "x", "surprise": 1}, "'surprise' is not known"),
    ([], "the whole is a list of 0, expected object"),
]


@pytest.mark.parametrize(("values", "said"), COMPLAINTS)
def test_complaints_name_the_field_and_what_was_expected(values: Any, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        convert(values, Outer, "a.json", "get it again")
    message = str(caught.value)
    assert message.startswith(f"a.json: {said}") and message.endswith("; get it again")
    assert len(message) < 200


def test_foreign_files_may_hold_more_and_call_it_otherwise() -> None:
    assert convert({"name": "x", "more": 1}, Outer, "a.json", "-", closed=False) == Outer("x")
    with pytest.raises(ValueError, match="their_name is 5"):
        convert({"name": 5}, Outer, "a.json", "-", names={"name": "their_name"})


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "[" * 100_000, "1" * 10_000, b"\xff"])
def test_what_is_no_object(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"^a\.json (is|holds) .*; get it again$"):
        parse_object(text, "a.json", "get it again")


@pytest.mark.parametrize("version", [None, "1", 1.0, True, 2, 10**30, [1]])
def test_versions(version: Any) -> None:
    with pytest.raises(ValueError, match=r"v is .*, this version reads 1; (update|get)"):
        check_version({"v": version}, "v", 1, "a.json", "get it again")
    check_version({"v": 1}, "v", 1, "a.json", "get it again")


def test_only_plain_small_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"x" * 11)
    for name, said in (("pipe", "a pipe or a device"), ("large", "more than 10 bytes"), (".", "a folder")):
        with pytest.raises(ValueError, match=said):
            read_small(tmp_path / name, "get it again", 10)
    with pytest.raises(ValueError, match="a pipe or a device"):
        read_small("/dev/zero", "get it again")
    with pytest.raises(FileNotFoundError, match="is missing; get it again"):
        read_small(tmp_path / "large" / "inside", "get it again")
    (tmp_path / "bytes").write_bytes(b"a\xff")
    with pytest.raises(ValueError, match=r"not text in UTF-8 \(byte 1\)"):
        read_text(tmp_path / "bytes", "get it again")
    (tmp_path / "right.json").write_text('\ufeff{"name": "x"}')
    assert read_json(tmp_path / "right.json", Outer, "get it again") == Outer("x")
