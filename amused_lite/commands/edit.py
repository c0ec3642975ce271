"""`amused-lite edit`: mask-free editing."""

import argparse

from amused_lite.commands.editing import add_edit_flags, add_whole_flags, read_mask, read_source, run_edit

_EXAMPLES = """\
examples:
  amused-lite edit balloon.png "a blue balloon above a house in a meadow"
      say the whole new picture, not the change
  amused-lite edit boat.jpg "a boat at night" -n "sun" --guidance-scale 4 --steps 24
      more rounds and a stronger pull go further
  amused-lite edit cup.png "a green cup on a beach" --lock beach.png --count 3
      what is white in beach.png stays as it is, token for token

Each step hides a small random share of the picture and draws it again under the new prompt.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `edit`."""
    parser.description = "Change a picture by a new prompt, without a mask (Muse's mask-free editing)."
    parser.epilog = _EXAMPLES
    parser.add_argument("file", metavar="FILE", help="the picture, of any size and common format")
    parser.add_argument("prompt", metavar="PROMPT", help="the whole new picture, in quotes")
    parser.add_argument(
        "--share", type=float, default=0.16, metavar="S", help="how much each step draws again, up to 1 (0.16)"
    )
    add_whole_flags(parser)
    add_edit_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Read, draw, save."""
    source = read_source(args)
    lock = read_mask(args.lock, source)

    from amused_lite.editing.operations import EDIT_TOP_K, edit

    words = args.prompt, args.negative_prompt, args.picture
    return run_edit(
        args,
        lambda amused, options: edit(amused, source, *words, args.share, lock, args.pad, **options),
        top_k=EDIT_TOP_K,
    )
