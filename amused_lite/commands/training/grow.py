"""`amused-lite grow`: a model of small pictures becomes one of pictures twice as large, to go on training."""

import argparse
from dataclasses import replace

from amused_lite.console.arguments import check_folder, check_other_folder, named, path
from amused_lite.system.extras import require_extra

_EXAMPLES = """\
examples:
  amused-lite grow amused/amused-256 out/grown
  amused-lite tokenize pictures/ out/data-512 -m out/grown
  amused-lite finetune out/grown out/data-512 out/mine-512 --steps 100000 --batch 64 --warmup 2000

As amused-512 came from a model of 256 px: the U-ViT gains a layer that halves the grid of tokens before its blocks and
one that doubles it after them. It draws nothing good before it has learned; pictures of the small size are forgotten.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `grow`."""
    parser.description = "Make of a model one for pictures of twice the side, to go on training."
    parser.epilog = _EXAMPLES
    parser.add_argument("model", type=named, metavar="MODEL", help="amused/amused-256, or one of its form")
    parser.add_argument("out", type=path, metavar="OUT", help="the folder to make, in MODEL's own form")


def run(args: argparse.Namespace) -> int:
    """Open, grow, write."""
    require_extra("train", "grow", "torch", "safetensors")
    check_folder(args.out)
    from amused_lite.runtimes.open import find_model

    folder = find_model(args.model)
    check_other_folder(args.out, folder)
    from amused_lite.commands.training.finetune import write_model
    from amused_lite.training.base_model import BaseModel
    from amused_lite.training.grow import grown

    base = BaseModel.open(args.model)
    made = grown(base.networks)
    write_model(replace(base, networks=made), folder, args.out, "grown")
    print(f"{args.out}  draws {made.config.image_size} px once it is trained: amused-lite tokenize ... -m {args.out}")
    return 0
