"""`amused-lite generate`: a prompt becomes PNG files."""

import argparse
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amused_lite.generate import Amused, GenerateOptions, Picture

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
    parser.add_argument("-o", "--output", default="outputs", metavar="PATH", help="a .png file, or a folder (outputs)")
    parser.add_argument("--count", type=_whole(1), default=1, metavar="N", help="how many pictures (1)")

    look = parser.add_argument_group("how it looks")
    look.add_argument("-s", "--seed", type=int, default=-1, metavar="N", help="repeats a picture; -1: random (-1)")
    look.add_argument(
        "--picture", type=_whole(0), default=0, metavar="K", help="number of the first picture within its seed (0)"
    )
    look.add_argument("--steps", type=int, default=12, metavar="N", help="unmask steps (12)")
    look.add_argument("--guidance-scale", type=float, metavar="G", help="pull towards the prompt (the model's own)")
    look.add_argument(
        "--mask-temperature",
        type=_temperatures,
        default=(2.0, 0.0),
        metavar="A,B",
        help="randomness of the order, first and last step (2,0)",
    )
    look.add_argument(
        "--token-temperature", type=float, metavar="T", help="randomness of the drawing (the model's own)"
    )
    look.add_argument("-W", "--width", type=int, metavar="PX", help="only the model's own size is possible")
    look.add_argument("-H", "--height", type=int, metavar="PX", help="likewise")

    engine = parser.add_argument_group("model and engine")
    engine.add_argument(
        "-m",
        "--model",
        default="tiny",
        metavar="MODEL",
        help="tiny (bundled), a bundle folder, a diffusers folder or a hub id (tiny)",
    )
    engine.add_argument("--runtime", default="auto", metavar="NAME", help="auto, onnx or torch (auto)")
    engine.add_argument("--threads", type=_whole(1), metavar="N", help="processor threads (all)")

    report = parser.add_argument_group("output")
    report.add_argument("--no-metadata", action="store_true", help="leave the recipe out of the PNG")
    report.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    report.add_argument("-q", "--quiet", action="store_true", help="no progress, and only paths are printed")


def run(args: argparse.Namespace) -> int:
    """Make the pictures and print a line for each, or one JSON object."""
    started = time.perf_counter()
    seed = secrets.randbelow(2**32) if args.seed == -1 else args.seed
    folder, name = _check_output(args.output)

    from amused_lite.generate import Amused, GenerateOptions, check_prompts

    check_prompts(args.prompt, args.negative_prompt)
    options = GenerateOptions(
        steps=args.steps,
        guidance_scale=args.guidance_scale,
        mask_temperature=args.mask_temperature,
        token_temperature=args.token_temperature,
        seed=seed,
    )
    amused = Amused.open(args.model, args.runtime, args.threads, keep_loaded=args.count > 1)
    _check_size(args.width, args.height, amused.runtime.config.image_size)
    _warn_dropped(amused, args.prompt, args.negative_prompt)
    made = []
    for picture in range(args.picture, args.picture + args.count):
        result = _draw(amused, args, picture, options)
        path = result.save(folder / (name or f"{_slug(args.prompt)}-{seed}.png"), metadata=not args.no_metadata)
        now = time.perf_counter()
        made.append({"path": str(path), "seed": seed, "picture": picture, "seconds": round(now - started, 3)})
        started = now
        if not args.json:
            _print_line(made[-1], args)
    if args.json:
        print(json.dumps(_report(made, result, options)))
    return 0


def _draw(amused: "Amused", args: argparse.Namespace, picture: int, options: "GenerateOptions") -> "Picture":
    from tqdm import tqdm

    steps = amused.steps(args.prompt, args.negative_prompt, picture, options)
    hidden = True if args.quiet else None  # None: hidden where stderr is no terminal
    tokens = None
    with tqdm(total=options.steps, desc="unmasking", unit="step", leave=False, file=sys.stderr, disable=hidden) as bar:
        for step in steps:
            tokens = step.tokens
            bar.update()
    assert tokens is not None
    return amused.finish(tokens[0], args.prompt, args.negative_prompt, picture, options)


def _print_line(made: dict[str, Any], args: argparse.Namespace) -> None:
    if args.quiet:
        print(made["path"], flush=True)
        return
    number = f"  picture {made['picture']}" if args.count > 1 or args.picture else ""
    print(f"{made['path']}  seed {made['seed']}{number}  {made['seconds']:.1f} s", flush=True)


def _report(made: list[dict[str, Any]], last: "Picture", options: "GenerateOptions") -> dict[str, Any]:
    recipe = last.recipe
    return {
        "pictures": made,
        "prompt": recipe.prompt,
        "negative_prompt": recipe.negative_prompt,
        "steps": recipe.steps,
        "guidance_scale": recipe.guidance_scale,
        "mask_temperature": options.mask_temperature,
        "token_temperature": recipe.token_temperature,
        "width": recipe.width,
        "height": recipe.height,
        "model": recipe.model,
        "model_hash": recipe.model_hash,
        "runtime": recipe.runtime,
        "version": recipe.version,
    }


def _check_output(output: str) -> tuple[Path, str]:
    """Folder and file name (empty: to be made up) of -o. Finds out before the work that it cannot be written."""
    target = Path(output).expanduser()
    if target.is_dir() or output.endswith(("/", os.sep)) or not target.suffix:
        folder, name = target, ""
    elif target.suffix.lower() == ".png":
        folder, name = target.parent, target.name
    else:
        raise ValueError(f"output {output} must end in .png or be a folder, got {target.suffix}")
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise ValueError(f"output {output} cannot be made: {existing} is a file; choose another place with -o")
    if not os.access(existing, os.W_OK):
        raise ValueError(f"output {output}: {existing} may not be written; choose another place with -o")
    return folder, name


def _check_size(width: int | None, height: int | None, size: int) -> None:
    for flag, value in (("-W", width), ("-H", height)):
        if value is not None and value != size:
            raise ValueError(f"this model makes {size}x{size} pictures, got {flag} {value}; leave -W and -H out")


def _warn_dropped(amused: "Amused", prompt: str, negative_prompt: str) -> None:
    for name, text in (("prompt", prompt), ("negative prompt", negative_prompt)):
        rest = amused.dropped(text)
        if rest:
            shown = rest if len(rest) <= 60 else rest[:57] + "..."
            print(f"amused-lite: warning: the {name} is too long for this model; not read: {shown!r}", file=sys.stderr)


def _slug(prompt: str) -> str:
    words = re.sub(r"[^\w]+", "-", prompt.lower()).strip("-_")
    return words.encode()[:60].decode(errors="ignore").rstrip("-") or "picture"


def _whole(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from error
        if value < least:
            raise argparse.ArgumentTypeError(f"must be {least} or more, got {value}")
        return value

    return parse


def _temperatures(text: str) -> tuple[float, float]:
    first, comma, last = text.partition(",")
    try:
        return (float(first), float(last)) if comma else (float(first), 0.01)  # one number falls to 0.01, as published
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be one number or two like 2,0, got {text!r}") from error
