"""What the editing subcommands share: their flags, the files they read, and the run of a task."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amused_lite.arguments import whole
from amused_lite.commands.flags import (
    add_engine_flags,
    add_output_flags,
    add_sampling_flags,
    add_seed_flags,
    check_output,
    keeps_loaded,
    options_from,
    slug,
    warn_adapters,
    warn_dropped,
    watched,
)

if TYPE_CHECKING:
    from PIL import Image

    from amused_lite.editing.operations import Task
    from amused_lite.files.images import SourceImage
    from amused_lite.files.png import Recipe
    from amused_lite.pipeline import AmusedPipeline

    Make = Callable[[AmusedPipeline, dict[str, Any]], Task]

ALPHA = "alpha"


def add_edit_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that every edit has."""
    parser.add_argument("-n", "--negative-prompt", default="", metavar="TEXT", help="what to keep away from")
    parser.add_argument("--count", type=whole(1), default=1, metavar="N", help="how many results (1)")
    parser.add_argument(
        "--from-pixels",
        action="store_true",
        help="read FILE's tokens from its pixels, though it carries them: for a file that another program has changed",
    )
    add_seed_flags(parser)
    add_sampling_flags(parser)
    (refine,) = (action for action in parser._actions if action.dest == "refine")
    refine.help = argparse.SUPPRESS  # refused with a word about reroll
    add_engine_flags(parser)
    add_output_flags(parser)


def set_default(parser: argparse.ArgumentParser, name: str, value: Any) -> None:
    """Another default than the other commands have, in the help too."""
    (action,) = (action for action in parser._actions if action.dest == name)
    action.help = (action.help or "").replace(f"({action.default})", f"({value})")
    action.default = value


def add_whole_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of edits that work on the whole picture."""
    parser.add_argument(
        "--lock",
        metavar="MASK",
        help="a picture, white where nothing may change (any size; alpha: what is see-through)",
    )
    parser.add_argument("--pad", action="store_true", help="use all of a picture that is not square, not its middle")


def add_paste_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of edits that are laid into the earlier picture."""
    parser.add_argument(
        "--no-paste", action="store_true", help="give the model's own picture, without the earlier one's pixels"
    )
    parser.add_argument(
        "--feather", type=whole(0), metavar="PX", help="match colours over so many px at the border (one token)"
    )


def read_source(args: argparse.Namespace) -> "SourceImage":
    """FILE; what was done to it to make it fit is said on stderr.

    Raises:
        FileNotFoundError, ValueError: see `open_picture`.
    """
    from amused_lite.files.images import open_picture

    source = open_picture(args.file)
    for note in source.notes:
        _note(args.file, note)
    if args.from_pixels and source.recipe is not None:
        source = replace(source, recipe=replace(source.recipe, model_hash=""))  # of no model: its tokens are nobody's
    return source


def read_mask(path: str | None, source: "SourceImage") -> "Image.Image | None":
    """A mask file, or with the word "alpha" what is see-through in the picture itself.

    Raises:
        FileNotFoundError, ValueError: see `open_mask` and `to_area`, or the picture has no see-through parts.
    """
    from PIL import ImageOps

    from amused_lite.files.images import open_mask, to_area

    if path is None:
        return None
    if path == ALPHA:
        if source.alpha is None:
            raise ValueError(f"the picture has no see-through parts; give a mask instead of {ALPHA!r}")
        return ImageOps.invert(source.alpha)
    mask = open_mask(path)
    try:
        to_area(mask, source.image.size)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if mask.size != source.image.size:
        sizes = f"its {mask.width}x{mask.height} px were stretched to the picture's"
        _note(path, f"{sizes} {source.image.width}x{source.image.height}")
    return mask


def run_edit(args: argparse.Namespace, make: "Make", **defaults: Any) -> int:
    """Run a task for each picture wanted, save the results and print a line for each, or one JSON object.

    make: from the opened model and the sampling options to the task.
    defaults: what the operation uses where a flag was left out; see `options_from`.
    """
    started = time.perf_counter()
    folder, name = check_output(args.output)
    options = options_from(args, **defaults)

    from amused_lite.pipeline import AmusedPipeline

    keep = keeps_loaded(args, args.count > 1)
    amused = AmusedPipeline.open(args.model, args.runtime, args.threads, keep, args.adapter, args.style_scale)
    task = make(amused, vars(options))
    warn_dropped(amused, task.prompt, task.negative_prompt)
    warn_adapters(amused, task.prompt)
    name = name or f"{slug(Path(args.file).stem)}-{args.command}-{options.seed}.png"
    made: list[dict[str, Any]] = []
    for picture in range(args.picture, args.picture + args.count):
        task = replace(task, image_index=picture)
        *_, last = watched(task.steps(), task.total, args.quiet)
        result = task.finish(last.tokens[0])
        path = result.save(folder / name, metadata=not args.no_metadata)
        now = time.perf_counter()
        made.append({"path": str(path), "seed": options.seed, "picture": picture, "seconds": round(now - started, 3)})
        started = now
        if not args.json:
            _print_line(made[-1], args)
    if args.json:
        print(json.dumps(_report(made, result.recipe)))
    return 0


def _note(path: str, text: str) -> None:
    print(f"amused-lite: note: {path}: {text}", file=sys.stderr)


def _print_line(made: dict[str, Any], args: argparse.Namespace) -> None:
    if args.quiet:
        print(made["path"], flush=True)
        return
    number = f"  picture {made['picture']}" if args.count > 1 or args.picture else ""
    print(f"{made['path']}  seed {made['seed']}{number}  {made['seconds']:.1f} s", flush=True)


def _report(made: list[dict[str, Any]], recipe: "Recipe") -> dict[str, Any]:
    from amused_lite.sampling.settings import GenerateOptions

    assert recipe.edit is not None
    names = (*GenerateOptions.__dataclass_fields__, "prompt", "negative_prompt", "width", "height")
    about = ("model", "model_hash", "runtime", "version")
    edit = {"operation": recipe.edit.operation, **recipe.edit.settings}
    return {"pictures": made, "edit": edit, **{name: getattr(recipe, name) for name in (*names, *about)}}
