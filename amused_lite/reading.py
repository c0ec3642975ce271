"""Files that people hand over, read into declared types: every field has a type and a range, every complaint one line.

A kind of file is a dataclass or a msgspec Struct whose fields carry their ranges (`Annotated[int, Meta(ge=1, le=64)]`);
`__post_init__` says what fields have to do with each other. Knows no kind of file itself.
"""

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

LARGEST = 16 * 2**20  # bytes of a text file; the largest known, a published tokenizer.json, has 4 million
_SHOWN = 40  # characters of a value in a message
_WHERE = re.compile(r"(?s)(.*?)(?: - at (`key` in )?`\$\.?(.*)`)?")
_GOT = re.compile(r", got .*")
Kind = TypeVar("Kind")


def read_small(path: str | Path, remedy: str, most: int = LARGEST) -> bytes:
    """A whole file of at most `most` bytes; pipes and devices, which may never end, are refused unread.

    Raises:
        FileNotFoundError: there is no such file; the message ends with the remedy.
        ValueError: it is no plain file, or too large.
        OSError: it may not be read.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError(f"{path} is a pipe or a device, expected a plain file; {remedy}")
            data = file.read(most + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"{path} is missing; {remedy}") from error
    except IsADirectoryError as error:
        raise ValueError(f"{path} is a folder, expected a file; {remedy}") from error
    except OSError as error:
        raise named_error(error, path) from error
    if len(data) > most:
        raise ValueError(f"{path} has more than {most} bytes, which is not meant; {remedy}")
    return data


def named_error(error: OSError, path: str | Path) -> OSError:
    """The same error with the name of its file, which the system leaves out where reading fails and not opening."""
    return error if error.filename else OSError(error.errno, error.strerror, str(path))


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for who writes into a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_text(path: str | Path, remedy: str, most: int = LARGEST) -> str:
    """`read_small`, as UTF-8.

    Raises:
        FileNotFoundError, ValueError, OSError: see `read_small`; or it is no text.
    """
    try:
        return read_small(path, remedy, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 (byte {error.start}); {remedy}") from error


def parse_object(text: str | bytes, where: str, remedy: str) -> dict[str, Any]:
    """JSON text to the object it holds, unchecked.

    Raises:
        ValueError: it is no JSON, or not an object.
    """
    try:
        values = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{where} is JSON nested too deeply; {remedy}") from error
    except ValueError as error:
        reason = " ".join(str(error).split())[:80]
        raise ValueError(f"{where} is not JSON ({reason}); {remedy}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{where} holds {_shown(values)}, expected a JSON object; {remedy}")
    return values


def check_version(values: Mapping[str, Any], field: str, known: int, where: str, remedy: str) -> None:
    """Raise ValueError unless a file is of the version that this program reads. Comes before anything else is read."""
    version = values.get(field)
    if type(version) is not int or version != known:
        advice = "update amused-lite" if type(version) is int and version > known else remedy
        raise ValueError(f"{where}: {field} is {_shown(version)}, this version reads {known}; {advice}")


def convert(
    values: Any, kind: type[Kind], where: str, remedy: str, closed: bool = True, names: Mapping[str, str] | None = None
) -> Kind:
    """Values out of JSON to a declared kind.

    Args:
        values: dicts, lists, words and numbers.
        kind: a dataclass or Struct.
        where: what names the file in a complaint.
        remedy: what to do about it.
        closed: refuse fields that the kind does not have; files of other programs may hold more than is read.
        names: our field -> what the file calls it, where that differs.

    Raises:
        ValueError: naming the first field that has another type or is out of range: got, expected, what to do.
    """
    try:
        made = msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"{where}: {_complaint(values, kind, str(error), names or {})}; {remedy}") from error
    if closed and (stranger := next(_strangers(values, inspect.type_info(kind), ""), None)):
        raise ValueError(f"{where}: {stranger[:_SHOWN]!r} is not known, expected only declared fields; {remedy}")
    return made


def read_json(path: str | Path, kind: type[Kind], remedy: str, closed: bool = True) -> Kind:
    """A JSON file of a declared kind: `read_text`, `parse_object` and `convert`.

    Raises:
        FileNotFoundError, ValueError, OSError: see there.
    """
    return convert(parse_object(read_text(path, remedy), str(path), remedy), kind, str(path), remedy, closed)


def _complaint(values: Any, kind: type, message: str, names: Mapping[str, str]) -> str:
    """msgspec's message as ours: `layers is 1000000000, expected int of at most 256`."""
    match = _WHERE.fullmatch(message)
    assert match is not None
    said, key, place = match[1], match[2], match[3] or ""
    steps, got = _follow(values, kind, message, re.findall(r"\[(?:\d+|\.\.\.)\]|[^.\[\]]+", place))
    path = _cut(".".join(names.get(step, step) for step in steps), 60) or "the whole"
    if missing := re.fullmatch(r"Object missing required field `(.*)`", said):
        name = names.get(missing[1], missing[1])
        return f"{f'{path}.{name}' if steps else name} is missing"
    if said.startswith("Invalid enum value"):
        return f"{path} is {_shown(got)}, expected one of {', '.join(_choices(kind, place))}"
    if said.endswith("out of range"):
        return f"{path} is {_shown(got)}, expected a number that fits 64 bits"
    if not said.startswith("Expected"):
        return f"{path}: {said}" if steps else said  # of a __post_init__
    expected = _GOT.sub("", said.removeprefix("Expected ")).replace("`", "").replace("array", "list")
    if choice := re.search(r"matching regex '\^\(([\w|]+)\)\$'", expected):
        expected = f"one of {choice[1].replace('|', ', ')}"
    elif "matching regex" in expected:
        expected = f"{expected.partition(' matching')[0]} of the form {expected.partition('regex ')[2]}"
    return f"{'a key of ' if key else ''}{path} is {_shown(got)}, expected {expected}"


def _follow(values: Any, kind: type, message: str, parts: Sequence[str]) -> tuple[list[str], Any]:
    """The way to the value that a message is about, and the value. msgspec leaves out which entry of a dict it was."""
    steps: list[str] = []
    got = values
    for part in parts:
        if part == "[...]" and isinstance(got, dict):
            part = _culprit(values, kind, message, steps, got)
            got = got.get(part)
        elif part.startswith("[") and isinstance(got, list | tuple):
            part = part[1:-1]
            got = got[int(part)] if part.isdigit() and int(part) < len(got) else None
        else:
            got = got.get(part) if isinstance(got, dict) else None
        steps.append(part)
    return steps, got


def _culprit(values: Any, kind: type, message: str, steps: Sequence[str], entries: dict[str, Any]) -> str:
    """The entry of a dict without which the same complaint would not be made first."""
    for name, value in entries.items():
        try:
            msgspec.convert(_with(values, steps, {name: value}), kind)
        except msgspec.ValidationError as error:
            if str(error) == message:
                return name
    return "..."


def _with(values: Any, steps: Sequence[str], inner: Any) -> Any:
    if not steps:
        return inner
    key: Any = steps[0]
    if isinstance(values, list | tuple):
        return [_with(v, steps[1:], inner) if i == int(key) else v for i, v in enumerate(values)]
    return {**values, key: _with(values[key], steps[1:], inner)}


def _choices(kind: type, place: str) -> list[str]:
    """The words of the Literal at a place."""
    shape: Any = inspect.type_info(kind)
    for part in re.findall(r"\[(?:\d+|\.\.\.)\]|[^.\[\]]+", place):
        shapes = shape.types if isinstance(shape, inspect.UnionType) else (shape,)
        shape = next((inner for one in shapes if (inner := _inside(one, part)) is not None), None)
    shapes = shape.types if isinstance(shape, inspect.UnionType) else (shape,)
    return [str(word) for one in shapes if isinstance(one, inspect.LiteralType) for word in one.values]


def _inside(shape: Any, part: str) -> Any:
    """The declared shape one step further in."""
    match shape:
        case inspect.DataclassType() | inspect.StructType():
            return next((field.type for field in shape.fields if field.encode_name == part), None)
        case inspect.DictType():
            return shape.value_type
        case inspect.ListType() | inspect.VarTupleType():
            return shape.item_type
        case inspect.TupleType():
            return shape.item_types[0]
    return None


def _strangers(values: Any, shape: Any, place: str) -> Iterator[str]:
    """Fields that are there and not declared."""
    if isinstance(shape, inspect.UnionType):
        kinds = inspect.DataclassType | inspect.StructType
        shape = next((one for one in shape.types if isinstance(one, kinds)), None)
    if not isinstance(values, dict):
        return
    if isinstance(shape, inspect.DataclassType | inspect.StructType):
        known = {field.encode_name: field.type for field in shape.fields}
        for name, value in values.items():
            if name not in known:
                yield f"{place}{name}"
            else:
                yield from _strangers(value, known[name], f"{place}{name}.")
    elif isinstance(shape, inspect.DictType):
        for name, value in values.items():
            yield from _strangers(value, shape.value_type, f"{place}{name}.")


def _shown(value: Any) -> str:
    """A value as JSON has it, or what it is where that is long."""
    if isinstance(value, dict):
        return f"an object of {len(value)} fields"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, int) and abs(value) > 10**_SHOWN:
        return "a number of more than 40 digits"  # Python refuses to print very long ones
    text = json.dumps(value) if isinstance(value, str | int | float | bool | None) else type(value).__name__
    return _cut(text, _SHOWN)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
