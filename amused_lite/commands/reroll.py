"""`amused-lite reroll`: draw the least likely tokens of a picture again."""

import argparse

from amused_lite.commands.editing import add_edit_flags, add_whole_flags, read_mask, read_source, run_edit

_EXAMPLES = """\
examples:
  amused-lite reroll balloon.png
      the tenth of the picture that the model finds least likely, drawn again by its own prompt
  amused-lite reroll balloon.png --share 0.3 --count 4
  amused-lite reroll photo.jpg "a tree in a meadow" --lock face.png
      what is white in face.png stays as it is, token for token
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `reroll`."""
    parser.description = "Draw the tokens again that the model itself finds least likely, and keep the rest."
    parser.epilog = _EXAMPLES
    parser.add_argument("file", metavar="FILE", help="the picture, of any size and common format")
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", help="what it shows (what FILE was made from)")
    parser.add_argument("--share", type=float, default=0.1, metavar="S", help="how much of it, up to 1 (0.1)")
    add_whole_flags(parser)
    add_edit_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Read, draw, save."""
    source = read_source(args)
    lock = read_mask(args.lock, source)

    from amused_lite.editing.operations import reroll

    words = args.prompt, args.negative_prompt, args.picture
    return run_edit(args, lambda amused, options: reroll(amused, source, *words, args.share, lock, args.pad, **options))
