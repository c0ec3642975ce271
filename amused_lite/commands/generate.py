"""`amused-lite generate`: a prompt becomes PNG files."""

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

from amused_lite.commands.flags import (
    add_engine_flags,
    add_output_flags,
    add_sampling_flags,
    check_output,
    options_from,
    slug,
    warn_dropped,
    watched,
    whole,
)

if TYPE_CHECKING:
    from amused_lite.generate import Amused, Picture
    from amused_lite.options import GenerateOptions

_EXAMPLES = """\
examples:
  amused-lite generate "a red balloon above a blue house in a meadow"
      one picture in outputs/, from a random seed that is printed
  amused-lite generate "a yellow star" -s 7 -o star.png
      the same picture every time
  amused-lite generate "two green trees" --count 4 -o trees/
      four pictures; number 2 alone, later: -s SEED --picture 2
  amused-lite generate "a boat at night" -n "red" --steps 16 --guidance-scale 4
      away from the negative prompt, with more steps and a stronger pull to the prompt
  amused-lite generate "a cat" -m amused/amused-512
      the published 512x512 model, downloaded once (3.5 GB; needs the torch extra)

Existing files are never overwritten: a name that is taken gets a number.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags, named as other programs of this kind name them."""
    parser.description = "Make pictures from a prompt, with the bundled model unless another is named."
    parser.epilog = _EXAMPLES
    parser.add_argument("prompt", metavar="PROMPT", help="what to draw, in quotes")
    parser.add_argument("-n", "--negative-prompt", default="", metavar="TEXT", help="what to keep away from")
    parser.add_argument("--count", type=whole(1), default=1, metavar="N", help="how many pictures (1)")
    parser.add_argument("-W", "--width", type=int, metavar="PX", help="only the model's own size is possible")
    parser.add_argument("-H", "--height", type=int, metavar="PX", help="likewise")
    add_sampling_flags(parser)
    add_engine_flags(parser)
    add_output_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Make the pictures and print a line for each, or one JSON object."""
    started = time.perf_counter()
    folder, name = check_output(args.output)

    from amused_lite.generate import Amused, check_prompts

    check_prompts(args.prompt, args.negative_prompt)
    options = options_from(args)
    seed = options.seed
    amused = Amused.open(args.model, args.runtime, args.threads, keep_loaded=args.count > 1)
    _check_size(args.width, args.height, amused.runtime.config.image_size)
    warn_dropped(amused, args.prompt, args.negative_prompt)
    made = []
    for picture in range(args.picture, args.picture + args.count):
        result = _draw(amused, args, picture, options)
        path = result.save(folder / (name or f"{slug(args.prompt)}-{seed}.png"), metadata=not args.no_metadata)
        now = time.perf_counter()
        made.append({"path": str(path), "seed": seed, "picture": picture, "seconds": round(now - started, 3)})
        started = now
        if not args.json:
            _print_line(made[-1], args)
    if args.json:
        print(json.dumps(_report(made, result)))
    return 0


def _draw(amused: "Amused", args: argparse.Namespace, picture: int, options: "GenerateOptions") -> "Picture":
    steps = amused.steps(args.prompt, args.negative_prompt, picture, options)
    tokens = None
    for step in watched(steps, options.steps + options.refine, args.quiet):
        tokens = step.tokens
    assert tokens is not None
    return amused.finish(tokens[0], args.prompt, args.negative_prompt, picture, options)


def _print_line(made: dict[str, Any], args: argparse.Namespace) -> None:
    if args.quiet:
        print(made["path"], flush=True)
        return
    number = f"  picture {made['picture']}" if args.count > 1 or args.picture else ""
    print(f"{made['path']}  seed {made['seed']}{number}  {made['seconds']:.1f} s", flush=True)


def _report(made: list[dict[str, Any]], last: "Picture") -> dict[str, Any]:
    from amused_lite.options import GenerateOptions

    recipe = last.recipe
    names = (*GenerateOptions.__dataclass_fields__, "prompt", "negative_prompt", "width", "height")
    about = ("model", "model_hash", "runtime", "version")
    return {"pictures": made, **{name: getattr(recipe, name) for name in (*names, *about)}}


def _check_size(width: int | None, height: int | None, size: int) -> None:
    for flag, value in (("-W", width), ("-H", height)):
        if value is not None and value != size:
            raise ValueError(f"this model makes {size}x{size} pictures, got {flag} {value}; leave -W and -H out")
