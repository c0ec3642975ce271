"""`amused-lite inpaint`: draw a masked part of a picture anew."""

import argparse

from amused_lite.commands.editing import (
    ALPHA,
    add_edit_flags,
    add_paste_flags,
    read_mask,
    read_source,
    run_edit,
    set_default,
)

_EXAMPLES = """\
examples:
  amused-lite inpaint balloon.png mask.png "a yellow star above a house in a meadow"
      mask.png is white where the star shall be; say the whole new picture
  amused-lite inpaint cut-out.png alpha "a boat at sea"
      the see-through parts of the picture itself are drawn
  amused-lite inpaint holiday.jpg mask.png "a tree" --count 4 -o trees/
      of a large picture the model sees the part around the mask; the rest keeps its pixels and its size

Everything that is not white keeps its pixels, bit for bit, unless --no-paste says otherwise.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inpaint`."""
    parser.description = "Draw a marked part of a picture anew."
    parser.epilog = _EXAMPLES
    parser.add_argument("file", metavar="FILE", help="the picture, of any size and common format")
    parser.add_argument(
        "mask", metavar="MASK", help=f"a picture, white where to draw (any size); {ALPHA}: what is see-through in FILE"
    )
    parser.add_argument("prompt", metavar="PROMPT", help="the whole new picture, in quotes")
    add_paste_flags(parser)
    add_edit_flags(parser)
    set_default(parser, "mask_schedule", "linear")


def run(args: argparse.Namespace) -> int:
    """Read, draw, save."""
    source = read_source(args)
    mask = read_mask(args.mask, source)
    assert mask is not None

    from amused_lite.editing.operations import inpaint

    words = args.prompt, args.negative_prompt, args.picture
    return run_edit(
        args,
        lambda amused, options: inpaint(amused, source, mask, *words, not args.no_paste, args.feather, **options),
    )
