"""`amused-lite outpaint`: extend a picture beyond its edges."""

import argparse

from amused_lite.arguments import whole
from amused_lite.commands.editing import add_edit_flags, add_paste_flags, read_source, run_edit

_EXAMPLES = """\
examples:
  amused-lite outpaint balloon.png --right 512
      twice as wide, by the prompt that it was made from
  amused-lite outpaint holiday.jpg "a meadow" --left 200 --right 200
      say what the new parts show; the picture itself keeps its pixels and its resolution
  amused-lite outpaint balloon.png "hills under a blue sky" --left 128 --right 128 --top 128 --bottom 128

Large amounts are drawn window by window, so time grows with what is added.
"""
SIDES = ("left", "right", "top", "bottom")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `outpaint`."""
    parser.description = "Draw what lies beyond a picture's edges."
    parser.epilog = _EXAMPLES
    parser.add_argument("file", metavar="FILE", help="the picture, of any size and common format")
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", help="what is there (what FILE was made from)")
    for side in SIDES:
        parser.add_argument(f"--{side}", type=whole(0), default=0, metavar="PX", help="px of FILE to add there (0)")
    add_paste_flags(parser)
    add_edit_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Read, draw, save."""
    source = read_source(args)

    from amused_lite.editing.operations import outpaint

    words = args.prompt, args.negative_prompt, args.picture
    sides = {side: getattr(args, side) for side in SIDES}
    paste = {"paste": not args.no_paste, "feather": args.feather}
    return run_edit(args, lambda amused, options: outpaint(amused, source, *words, **sides, **paste, **options))
