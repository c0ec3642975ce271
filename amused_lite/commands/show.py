"""`amused-lite show`: how a picture was made."""

import argparse
from typing import TYPE_CHECKING

from amused_lite.commands.provenance import read_recorded
from amused_lite.console.terminal import printable

if TYPE_CHECKING:
    from amused_lite.files.png import Recipe

_EXAMPLES = """\
examples:
  amused-lite show star.png
  amused-lite show star.tokens --json
  amused-lite generate --from star.png -s 8        the same settings, another seed
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `show`."""
    parser.description = "Print the recipe in a picture or tokens file."
    parser.epilog = _EXAMPLES
    parser.add_argument("file", metavar="FILE", help="a PNG or .tokens file that amused-lite made")
    parser.add_argument("--json", action="store_true", help="print it as JSON, with its tokens")


def run(args: argparse.Namespace) -> int:
    """Print the recipe."""
    import json

    recipe, _ = read_recorded(args.file)
    if args.json:
        print(json.dumps(json.loads(recipe.to_json())))  # in ASCII: nothing in it can steer a terminal
        return 0
    lines = _lines(recipe)
    width = max(len(name) for name in lines)
    for name, value in lines.items():
        print(f"{name:<{width}}  {printable(value)}")
    return 0


def _lines(recipe: "Recipe") -> dict[str, str]:
    """What there is to say, as a reader wants it: what was left at its default is not said."""
    from amused_lite.sampling.settings import SETTINGS

    steps = f"{recipe.steps}" + (f" and {recipe.refine} to refine" if recipe.refine else "")
    size = f"{recipe.width}x{recipe.height}, {len(recipe.tokens)} tokens out of {recipe.codebook_size}"
    seed = f"{recipe.seed}" + (f", picture {recipe.picture}" if recipe.picture else "")
    first, last = recipe.guidance_interval
    guidance = f"{recipe.guidance_scale:g}"
    if recipe.guidance_schedule != "constant":
        guidance += f", {recipe.guidance_schedule}"
    if (first, last) != (0, 1):
        guidance += f", from {first:g} to {last:g} of the way"
    drawn_by = f"temperature {recipe.token_temperature:g}"
    drawn_by += f", top-k {recipe.top_k}" if recipe.top_k is not None else ""
    drawn_by += f", top-p {recipe.top_p:g}" if recipe.top_p is not None else ""
    start, end = recipe.mask_temperature
    order = f"{recipe.order}, {recipe.mask_schedule} schedule, mask temperature {start:g} to {end:g}"
    for name, setting in SETTINGS.items():
        if setting.since > 1 and (value := getattr(recipe, name)) != setting.default:
            drawn_by += f", {name.replace('_', '-')} {value}"
    lines = {"prompt": recipe.prompt}
    if recipe.negative_prompt:
        lines["negative prompt"] = recipe.negative_prompt
    if recipe.edit is not None:
        said = [f"{name} {value}" for name, value in recipe.edit.settings.items() if value is not None]
        lines["edited"] = ", ".join([recipe.edit.operation, *(words for words in said if len(words) <= 60)])
    return lines | {
        "seed": seed,
        "steps": steps,
        "guidance": guidance,
        "tokens": drawn_by,
        "order": order,
        "size": size,
        "model": f"{recipe.model}, {recipe.model_hash[:10]}",
        "made by": f"amused-lite {recipe.version} on {recipe.runtime}",
    }
