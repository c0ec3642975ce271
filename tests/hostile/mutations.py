"""Wrong values for every field of a kind of file, out of its own declaration: a new field is covered at once."""

import math
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

Path = tuple[str | int, ...]  # of keys and indices
MISSING = object()


def mutations(kind: Any, good: Any) -> Iterator[tuple[Path, Any]]:
    """Places in `good`, values out of JSON of this kind, and what makes them wrong there."""
    assert not _is_wrong(kind, good), f"{kind} refuses what should be right"  # or nothing below would prove anything
    for path, value in _of(inspect.type_info(kind), good, ()):
        if not path or _is_wrong(kind, put(good, path, value)):
            yield path, value


def put(values: Any, path: Path, value: Any) -> Any:
    """A copy with another value at a place, or without it."""
    if not path:
        return value
    first, *rest = path
    values = {} if values is None else values
    if isinstance(values, list):
        return [put(old, tuple(rest), value) if i == first else old for i, old in enumerate(values)]
    inner = put(values.get(first), tuple(rest), value)
    return {**{k: v for k, v in values.items() if k != first}, **({} if inner is MISSING else {first: inner})}


def _is_wrong(kind: Any, values: Any) -> bool:
    """Whether a declaration refuses it: null is no mutation where null may be."""
    try:
        msgspec.convert(values, kind)
    except (msgspec.ValidationError, ValueError):
        return True
    return False


def _of(shape: Any, good: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    match shape:
        case inspect.DataclassType() | inspect.StructType():
            yield from ((path, bad) for bad in (3, None, [], "x"))
            for field in shape.fields if isinstance(good, dict) else ():
                place = (*path, field.encode_name)
                if field.required:
                    yield place, MISSING
                if field.encode_name in good:
                    yield from _of(field.type, good[field.encode_name], place)
                else:
                    yield from ((place, bad) for bad in _plain(field.type))
        case inspect.UnionType():
            for one in shape.types:
                yield from _of(one, good, path)
        case inspect.DictType():
            yield from ((path, bad) for bad in (3, [], "x"))
            name = next(iter(good)) if isinstance(good, dict) and good else "entry"
            yield from _of(shape.value_type, good.get(name) if isinstance(good, dict) else None, (*path, name))
        case inspect.ListType() | inspect.VarTupleType() | inspect.TupleType():
            yield from ((path, bad) for bad in (3, {}, "x"))
            if isinstance(shape, inspect.TupleType):
                yield path, []
                items: tuple[Any, ...] = shape.item_types
            else:
                items = (shape.item_type,)
                if shape.max_length is not None and shape.max_length <= 1000:
                    yield path, [0] * (shape.max_length + 1)
            if isinstance(good, list) and good:
                for index, item in enumerate(items):
                    yield from _of(item, good[index], (*path, index))
        case _:
            yield from ((path, bad) for bad in _plain(shape))


def _plain(shape: Any) -> list[Any]:
    """Wrong words and numbers."""
    match shape:
        case inspect.IntType():
            ends = [end + step for end, step in ((shape.ge, -1), (shape.le, 1), (shape.lt, 0)) if end is not None]
            return ["x", 1.5, True, None, [1], 10**30, *ends]
        case inspect.FloatType():
            ends = [end + step for end, step in ((shape.ge, -1), (shape.le, 1), (shape.gt, 0)) if end is not None]
            return ["x", True, None, {}, math.nan, 10**400, *ends]
        case inspect.StrType():
            long = ["y" * (shape.max_length + 1)] if shape.max_length is not None else []
            return [5, None, ["x"], *long, *(["\x1b[31m!!"] if shape.pattern else [])]
        case inspect.BoolType():
            return [1, "yes", None]
        case inspect.LiteralType():
            return ["\x1b[31mnonsense", 5, None]
        case inspect.UnionType():
            return [bad for one in shape.types for bad in _plain(one)]
    return [3, "x"] if isinstance(shape, inspect.DataclassType | inspect.DictType | inspect.ListType) else []
