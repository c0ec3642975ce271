"""Compare two recordings of record.py: python tests/equality/compare.py BEFORE.json AFTER.json

On one kind of machine with the same libraries every figure must be equal, bit for bit. Where either differs, sums are
added in another order: then tokens must agree for nearly all pictures, losses to a few percent, graphs are compared
where the libraries that write them are the same, and the rest is left out. What is new in AFTER is no difference.

exit code: 0 equal, 1 different, 2 not to be compared
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOSSES_WITHIN = 0.02  # of the value, on another kind of machine: torch adds up in orders of its own
TOKENS_SHARE = 0.95  # of the entries whose tokens must agree there: one near tie decided otherwise changes a picture
COUNTED = ("matched", "resisted", "preferred", "codes")  # in a log: shares of few, which jump
SETS = ("names", "keys", "texts")  # lists of names that may grow and must not shrink
# Removed on purpose: within noise, without a user, and never read.
MAY_GO = ("--guidance-every", "--batch", "defaults")
EXACT_ANYWHERE = (*SETS, "text", "parameters", "recipe", "record", "seeds", "size", "state")
ON_GRAPHS = ("torch", "onnx", "onnxscript", "openvino")  # the libraries that write exports
WHY = {
    "tokens": "other tokens are drawn",
    "earlier": "the picture to be edited is read as other tokens",
    "pixels": "the tokens are the same: decoding, or how a picture is put together, changed",
    "recipe": "a setting, or what a file says of it, changed",
    "losses": "a training draws other batches or adds up otherwise",
    "weights": "other weights are learned or written",
    "graph": "an export computes by other operators, shapes or edges",
    "names": "something that could be asked for is gone",
    "keys": "an answer lacks a field",
}


def kinds_differ(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Why bits may differ: each fact of machine and libraries that is not the same."""
    said = []
    for part in ("machine", "libraries"):
        for name in sorted(before[part].keys() | after[part].keys()):
            one, other = before[part].get(name), after[part].get(name)
            if isinstance(one, list) and isinstance(other, list):
                one, other = (sorted({*a} - {*b}) for a, b in ((one, other), (other, one)))
            if one != other:
                said.append(f"{name} {one} before, {other} after")
    return said


def differences(before: Any, after: Any, place: str = "") -> Iterator[str]:
    """Where two values differ; what only `after` has is none."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            inside = f"{place}.{key}" if place else key
            if key in after:
                yield from differences(value, after[key], inside)
            else:
                yield f"{inside} is gone"
    elif place.rpartition(".")[2] in SETS and isinstance(after, list):
        yield from (f"{name} is gone from the {place}" for name in before if name not in (*after, *MAY_GO))
    elif before != after:
        yield f"{place}: {_short(before)} became {_short(after)}"


def far(before: Any, after: Any) -> bool:
    """Whether numbers, or nested lists and dicts of them, are further apart than `LOSSES_WITHIN`."""
    if isinstance(before, dict) and isinstance(after, dict):
        return any(far(value, after.get(key, math.nan)) for key, value in before.items() if key not in COUNTED)
    if isinstance(before, list) and isinstance(after, list):
        return len(before) != len(after) or any(map(far, before, after))
    if isinstance(before, int | float) and isinstance(after, int | float):
        # Figures near nothing, such as an export's distance from torch, count as nothing.
        return not math.isclose(before, after, rel_tol=LOSSES_WITHIN, abs_tol=0.01)
    return before != after


def compare_entries(before: dict[str, Any], after: dict[str, Any], same_kind: bool, graphs: bool) -> list[str]:
    """A line for each difference, with a guess at its reason.

    same_kind: machine and libraries are the same, so that bits must be.
    graphs: the libraries that write exports are the same.
    """
    lines, tokens = [], []
    for name, entry in before.items():
        if name not in after:
            lines.append(f"{name}: it is gone")
            continue
        for field, value in entry.items():
            other = after[name].get(field)
            if same_kind or field in EXACT_ANYWHERE or (graphs and field in ("graph", "operators")):
                found = list(differences({field: value}, {field: other} if field in after[name] else {}))
            elif field in ("losses", "scores"):
                found = [f"{field}: {_short(value)} became {_short(other)}"] if far(value, other) else []
            else:
                found = []
                if field == "tokens":
                    tokens.append((name, value == other))
            if field == "pixels" and entry.get("tokens") != after[name].get("tokens"):
                continue  # other tokens are other pixels
            lines += [f"{name}: {one}{f' ({WHY[field]})' if field in WHY else ''}" for one in found]
    changed = [name for name, equal in tokens if not equal]
    if tokens and len(changed) > (1 - TOKENS_SHARE) * len(tokens):
        lines.append(f"{len(changed)} of {len(tokens)} results have other tokens: {', '.join(changed)}")
    return lines


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:97]}..."


def report(before: dict[str, Any], after: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What may be said about two recordings: differences, and notes on how they were compared.

    Raises:
        ValueError: they are of different models.
    """
    if before["model"] != after["model"]:
        raise ValueError("the recordings are of different bundled models; record the earlier version again")
    kinds = kinds_differ(before, after)
    graphs = all(before["libraries"].get(name) == after["libraries"].get(name) for name in ON_GRAPHS)
    notes = [f"note: {kind}" for kind in kinds]
    if kinds:
        notes.append("note: so tokens and losses are compared to a tolerance; pixels and weights are left out")
    new = [name for name in after["entries"] if name not in before["entries"]]
    if new:
        notes.append(f"note: {len(new)} results are new: {', '.join(new[:5])}{' ...' if len(new) > 5 else ''}")
    return compare_entries(before["entries"], after["entries"], not kinds, graphs), notes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, metavar="BEFORE.json")
    parser.add_argument("after", type=Path, metavar="AFTER.json")
    parser.add_argument("--only", action="append", metavar="NAME", help="results that begin so (may be repeated)")
    args = parser.parse_args()
    try:
        both = [json.loads(path.read_text()) for path in (args.before, args.after)]
        for recorded in both:
            entries = recorded["entries"].items()
            recorded["entries"] = {key: one for key, one in entries if key.startswith(tuple(args.only or ("",)))}
        lines, notes = report(*both)
    except (OSError, ValueError, KeyError) as error:
        print(f"compare.py: error: not two recordings that can be compared: {error!r}", file=sys.stderr)
        return 2
    print("\n".join([*notes, *lines]), end="\n" if notes or lines else "")
    first, second = both
    count = len(first["entries"])
    verdict = f"{len(lines)} differences" if lines else "no difference"
    print(f"{verdict} among {count} results, {first['commit']} against {second['commit']}")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
