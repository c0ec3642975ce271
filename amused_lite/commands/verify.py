"""`amused-lite verify`: make a picture again from its recipe, and say whether it is the same."""

import argparse
import json
import math
from typing import TYPE_CHECKING

from amused_lite.commands.provenance import open_recorded, read_recorded
from amused_lite.console.arguments import named
from amused_lite.console.flags import add_machine_flags
from amused_lite.console.terminal import printable

if TYPE_CHECKING:
    from amused_lite.analysis.verify import Verification
    from amused_lite.files.png import Recipe
    from amused_lite.pipeline import AmusedPipeline

_EXAMPLES = """\
examples:
  amused-lite verify star.png
  amused-lite verify star.png -m models/mine         by a model that is not where the recipe says
  amused-lite verify star.png --runtime torch        on another engine than the one that made it

exit code: 0 identical, 1 different, 2 not to be verified
"""
DIFFERS = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `verify`."""
    parser.description = "Make a picture again from the recipe in its file, and compare tokens and pixels."
    parser.epilog = _EXAMPLES
    parser.add_argument("file", metavar="FILE", help="a PNG or .tokens file that amused-lite made")
    parser.add_argument("-m", "--model", type=named, metavar="MODEL", help="instead of the model that the recipe names")
    parser.add_argument(
        "--adapter", type=named, action="append", default=[], metavar="FILE[:WEIGHT]", help="a style it was made with"
    )
    parser.add_argument("--style-scale", type=float, metavar="A", help="that it was made with")
    parser.add_argument("--runtime", type=named, metavar="NAME", help="instead of the runtime that the recipe names")
    add_machine_flags(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Regenerate, compare, report."""
    recipe, image = read_recorded(args.file)

    from amused_lite.analysis.verify import verify

    amused = open_recorded(recipe.model, recipe.runtime, args)
    try:
        verdict = verify(amused, recipe, image)
    except ValueError as error:
        raise ValueError(f"{args.file}: {error}") from error
    if args.json:
        print(json.dumps(_report(verdict)))
    else:
        for line in _lines(verdict, recipe, amused):
            print(printable(line))
    return 0 if verdict.identical else DIFFERS


def _report(verdict: "Verification") -> dict[str, object]:
    psnr = verdict.psnr if verdict.psnr is None or math.isfinite(verdict.psnr) else str(verdict.psnr)  # JSON has no inf
    return {"identical": verdict.identical, "tampered": verdict.tampered, **vars(verdict), "psnr": psnr}


def _lines(verdict: "Verification", recipe: "Recipe", amused: "AmusedPipeline") -> list[str]:
    """The verdict first, then what explains it."""
    if verdict.differing:
        tokens = f"{verdict.differing} of {verdict.tokens} tokens differ"
    else:
        tokens = f"all {verdict.tokens} tokens are the same"
    said = [f"{'identical' if verdict.identical else 'different'}: {tokens}{_pixels(verdict)}"]
    if verdict.other_model:
        theirs, ours = verdict.other_model[:10], amused.info.model_hash[:10]
        said.append(f"other model: made by {recipe.model} {theirs}, made again by {amused.info.name} {ours}")
    if verdict.other_adapters:
        said.append(f"other adapters: made with {verdict.other_adapters}; name their files with --adapter")
    if verdict.other_runtime:
        said.append(f"other runtime: made on {verdict.other_runtime}, made again on {amused.runtime.name}")
    if verdict.other_version:
        said.append(f"other version: made by amused-lite {verdict.other_version}")
    if verdict.tampered and verdict.differing:
        said.append("tampered: its recipe or its tokens were changed after it was made")
    elif verdict.tampered:
        said.append("tampered: its pixels were changed after it was made")
    return said


def _pixels(verdict: "Verification") -> str:
    if verdict.psnr is None:
        return ""
    if verdict.psnr == math.inf:
        return ", and every pixel"
    if verdict.psnr == -math.inf:
        return ", the pictures differ in size"
    close = "pixels differ by rounding only" if verdict.pixels_equal else "pixels differ"
    return f", {close} (PSNR {verdict.psnr:.1f} dB)"
