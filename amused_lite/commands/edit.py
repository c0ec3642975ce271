"""`amused-lite vary`, `inpaint`, `outpaint`, `edit` and `reroll`: an earlier picture becomes another."""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from amused_lite.console.arguments import whole
from amused_lite.console.flags import (
    add_engine_flags,
    add_output_flags,
    add_sampling_flags,
    add_seed_flags,
    check_output,
    keeps_loaded,
    open_pipeline,
    options_from,
    progress,
    recipe_report,
    warn,
)
from amused_lite.editing.settings import OPERATIONS
from amused_lite.files.atomic import slug

if TYPE_CHECKING:
    from PIL import Image

    from amused_lite.files.images import SourceImage
    from amused_lite.pipeline import AmusedPipeline
    from amused_lite.sampling.settings import GenerateOptions
    from amused_lite.task import Task

_ALPHA = "alpha"
_PROMPT = "the whole new picture, in quotes"


class EditCommand(NamedTuple):
    """One of the subcommands; its own flags are those of `OPERATIONS`."""

    name: str
    description: str
    prompt: str  # help of PROMPT
    epilog: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options of the subcommand."""
        operation = OPERATIONS[self.name]
        parser.description, parser.epilog = self.description, self.epilog
        parser.add_argument("file", metavar="FILE", help="the picture, of any size and common format")
        if operation.mask == "drawn":
            marked = f"a picture, white where to draw (any size); {_ALPHA}: what is see-through in FILE"
            parser.add_argument("mask", metavar="MASK", help=marked)
        parser.add_argument("prompt", metavar="PROMPT", nargs=None if operation.needs_prompt else "?", help=self.prompt)
        self._add_own_flags(parser)
        parser.add_argument("-n", "--negative-prompt", default="", metavar="TEXT", help="what to keep away from")
        parser.add_argument("--count", type=whole(1), default=1, metavar="N", help="how many results (1)")
        parser.add_argument(
            "--from-pixels",
            action="store_true",
            help="read FILE's tokens from its pixels, though it carries them: for a file that another program changed",
        )
        add_seed_flags(parser)
        add_sampling_flags(parser, **operation.defaults)
        (refine,) = (action for action in parser._actions if action.dest == "refine")
        refine.help = argparse.SUPPRESS  # refused with a word about reroll
        add_engine_flags(parser)
        add_output_flags(parser)

    def _add_own_flags(self, parser: argparse.ArgumentParser) -> None:
        for name, setting in OPERATIONS[self.name].settings.items():
            if setting.kind is bool:
                flag, action = (f"no-{name}", "store_false") if setting.default else (name, "store_true")
                said = f"do not {setting.help}" if setting.default else setting.help
                parser.add_argument(f"--{flag}", dest=name, action=action, help=said)
            else:
                facts: dict[str, Any] = {"type": whole(0) if setting.kind is int else float}
                facts |= {"default": setting.default, "metavar": setting.metavar, "help": setting.description}
                parser.add_argument(f"--{name}", **facts)
        if OPERATIONS[self.name].mask == "kept":
            kept = f"a picture, white where nothing may change (any size; {_ALPHA}: what is see-through)"
            parser.add_argument("--lock", dest="mask", metavar="MASK", help=kept)

    def run(self, args: argparse.Namespace) -> int:
        """Read, draw, save; print a line for each result, or one JSON object."""
        started = time.perf_counter()
        folder, name = check_output(args.output)
        source = _read_source(args)
        mask = _read_mask(args.mask, source) if OPERATIONS[self.name].mask else None
        options = options_from(args)

        keep = keeps_loaded(args, args.count > 1)
        amused = open_pipeline(args, keep)
        task = self._task(args, amused, source, mask, options)
        warn(amused, task.prompt, task.negative_prompt)
        name = name or f"{slug(Path(args.file).stem)}-{self.name}-{options.seed}.png"
        made: list[dict[str, Any]] = []
        for index in range(args.picture, args.picture + args.count):
            with progress(args.quiet) as watch:
                result = amused.run(task.at(index), watch)
            path = result.save(folder / name, metadata=not args.no_metadata)
            now = time.perf_counter()
            made.append({"path": str(path), "seed": options.seed, "picture": index, "seconds": round(now - started, 3)})
            started = now
            if not args.json:
                _print_line(made[-1], args)
        if args.json:
            assert task.edit is not None
            said = {"edit": {"operation": self.name, **task.edit.settings}}
            print(json.dumps({"pictures": made, **said, **recipe_report(result.recipe)}))
        return 0

    def _task(
        self,
        args: argparse.Namespace,
        amused: "AmusedPipeline",
        source: "SourceImage",
        mask: "Image.Image | None",
        options: "GenerateOptions",
    ) -> "Task":
        from amused_lite.editing.operations import make_task

        own = {name: getattr(args, name) for name in OPERATIONS[self.name].settings}
        words = args.prompt, args.negative_prompt
        return make_task(self.name, amused, source, *words, mask=mask, image_index=args.picture, **own, **vars(options))


def _read_source(args: argparse.Namespace) -> "SourceImage":
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


def _read_mask(path: str | None, source: "SourceImage") -> "Image.Image | None":
    """A mask file, or with the word "alpha" what is see-through in the picture itself.

    Raises:
        FileNotFoundError, ValueError: see `open_mask` and `to_area`, or the picture has no see-through parts.
    """
    from PIL import ImageOps

    from amused_lite.files.images import open_mask, to_area

    if path is None:
        return None
    if path == _ALPHA:
        if source.alpha is None:
            raise ValueError(f"the picture has no see-through parts; give a mask instead of {_ALPHA!r}")
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


def _note(path: str, text: str) -> None:
    print(f"amused-lite: note: {path}: {text}", file=sys.stderr)


def _print_line(made: dict[str, Any], args: argparse.Namespace) -> None:
    if args.quiet:
        print(made["path"], flush=True)
        return
    number = f"  picture {made['picture']}" if args.count > 1 or args.picture else ""
    print(f"{made['path']}  seed {made['seed']}{number}  {made['seconds']:.1f} s", flush=True)


vary = EditCommand(
    "vary",
    "Make variations of a picture: a part of its tokens is drawn anew (image to image).",
    "what it shall show (what FILE was made from)",
    """\
examples:
  amused-lite vary balloon.png --count 4
      four variations of a picture that amused-lite made, by its own prompt
  amused-lite vary holiday.jpg "a boat at sea, paper cut-out" --strength 0.7
      another style: say the whole picture and the style, and let more of it be drawn anew
  amused-lite vary balloon.png "a blue balloon" --lock sky.png
      what is white in sky.png stays as it is, token for token

Strength 0.3 keeps most of the picture, 0.5 its layout, 1.0 nothing but what is locked.
""",
)
inpaint = EditCommand(
    "inpaint",
    "Draw a marked part of a picture anew.",
    _PROMPT,
    """\
examples:
  amused-lite inpaint balloon.png mask.png "a yellow star above a house in a meadow"
      mask.png is white where the star shall be; say the whole new picture
  amused-lite inpaint cut-out.png alpha "a boat at sea"
      the see-through parts of the picture itself are drawn
  amused-lite inpaint holiday.jpg mask.png "a tree" --count 4 -o trees/
      of a large picture the model sees the part around the mask; the rest keeps its pixels and its size

Everything that is not white keeps its pixels, bit for bit, unless --no-paste says otherwise.
""",
)
outpaint = EditCommand(
    "outpaint",
    "Draw what lies beyond a picture's edges.",
    "what is there (what FILE was made from)",
    """\
examples:
  amused-lite outpaint balloon.png --right 512
      twice as wide, by the prompt that it was made from
  amused-lite outpaint holiday.jpg "a meadow" --left 200 --right 200
      say what the new parts show; the picture itself keeps its pixels and its resolution
  amused-lite outpaint balloon.png "hills under a blue sky" --left 128 --right 128 --top 128 --bottom 128

Large amounts are drawn window by window, so time grows with what is added.
""",
)
edit = EditCommand(
    "edit",
    "Change a picture by a new prompt, without a mask (Muse's mask-free editing).",
    _PROMPT,
    """\
examples:
  amused-lite edit balloon.png "a blue balloon above a house in a meadow"
      say the whole new picture, not the change
  amused-lite edit boat.jpg "a boat at night" -n "sun" --guidance-scale 4 --steps 24
      more rounds and a stronger pull go further
  amused-lite edit cup.png "a green cup on a beach" --lock beach.png --count 3
      what is white in beach.png stays as it is, token for token

Each step hides a small random share of the picture and draws it again under the new prompt.
""",
)
reroll = EditCommand(
    "reroll",
    "Draw the tokens again that the model itself finds least likely, and keep the rest.",
    "what it shows (what FILE was made from)",
    """\
examples:
  amused-lite reroll balloon.png
      the tenth of the picture that the model finds least likely, drawn again by its own prompt
  amused-lite reroll balloon.png --share 0.3 --count 4
  amused-lite reroll photo.jpg "a tree in a meadow" --lock face.png
      what is white in face.png stays as it is, token for token
""",
)
