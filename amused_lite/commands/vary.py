"""`amused-lite vary`: image to image, also for other styles."""

import argparse

from amused_lite.commands.editing import add_edit_flags, add_whole_flags, read_mask, read_source, run_edit

_EXAMPLES = """\
examples:
  amused-lite vary balloon.png --count 4
      four variations of a picture that amused-lite made, by its own prompt
  amused-lite vary holiday.jpg "a boat at sea, paper cut-out" --strength 0.7
      another style: say the whole picture and the style, and let more of it be drawn anew
  amused-lite vary balloon.png "a blue balloon" --lock sky.png
      what is white in sky.png stays as it is, token for token

Strength 0.3 keeps most of the picture, 0.5 its layout, 1.0 nothing but what is locked.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vary`."""
    parser.description = "Make variations of a picture: a part of its tokens is drawn anew (image to image)."
    parser.epilog = _EXAMPLES
    parser.add_argument("file", metavar="FILE", help="the picture, of any size and common format")
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", help="what it shall show (what FILE was made from)")
    parser.add_argument("--strength", type=float, default=0.5, metavar="S", help="how much may change, up to 1 (0.5)")
    add_whole_flags(parser)
    add_edit_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Read, draw, save."""
    source = read_source(args)
    lock = read_mask(args.lock, source)

    from amused_lite.editing.operations import vary

    words = args.prompt, args.negative_prompt, args.picture
    return run_edit(
        args, lambda amused, options: vary(amused, source, *words, args.strength, lock, args.pad, **options)
    )
