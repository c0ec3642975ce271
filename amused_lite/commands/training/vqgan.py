"""`amused-lite vqgan`: a model's VQ-GAN, or its decoder alone, goes on learning from pictures."""

import argparse
import sys

from amused_lite.console.arguments import check_folder, check_other_folder, named, number, path, present, threads, whole
from amused_lite.system.extras import require_extra

_EXAMPLES = """\
what learns:
  decoder    finer pictures of the same tokens (as Muse's decoder was tuned): the model draws at once, and all that was
             trained with it fits
  all        encoder, codes and decoder: pictures that the model's codes have no words for
  new        the same from random weights, in the model's sizes
After all and new the U-ViT knows other codes than the VQ-GAN has: tokenize and finetune come next.

examples:
  amused-lite vqgan tiny pictures/ out/finer
  amused-lite generate "a red house" -m out/finer
  amused-lite vqgan amused/amused-256 "photos/{000..099}.tar" out/codes --learn new --batch 64 --device cuda \\
      --perceptual vgg16.safetensors
  amused-lite tokenize pictures/ out/data -m out/codes
  amused-lite finetune out/codes out/data out/mine --steps 100000 --batch 256

Sources of pictures are those of tokenize; captions are not needed. Half of the steps are without the discriminator. The
log says how many codes are in use; unused ones are put where pictures need them. Ctrl-C finishes the step and saves to
OUT.work; the same command goes on. For a small decoder for drafts, see amused-lite distil.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vqgan`."""
    parser.description = "Train a model's VQ-GAN, or its decoder alone, on pictures."
    parser.epilog = _EXAMPLES
    parser.add_argument("model", type=named, metavar="MODEL", help="tiny, a bundle, a diffusers folder or a hub id")
    parser.add_argument("source", type=named, metavar="SOURCE", help="a folder of pictures, tar files or a drawn world")
    parser.add_argument("out", type=path, metavar="OUT", help="the folder to make, in MODEL's own form")
    parser.add_argument(
        "--learn", choices=("decoder", "all", "new"), default="decoder", help="what learns, see below (decoder)"
    )
    parser.add_argument("--pictures", type=whole(1), metavar="N", help="how many, of a drawn world")
    parser.add_argument(
        "--steps", type=whole(2, 10**8), metavar="N", help="of the training (decoder 2000, all 10000, new 100000)"
    )
    parser.add_argument("--batch", type=whole(1, 10**6), metavar="N", help="crops in a step (8)")
    parser.add_argument("--crop", type=whole(32, 8192), metavar="PX", help="their side (256, or the model's)")
    parser.add_argument("--learning-rate", type=number(1e-9, 1), metavar="L", help="of AdamW (1e-4)")
    parser.add_argument(
        "--perceptual", type=present, metavar="FILE", help="weights of VGG-16, safetensors: its features count too"
    )
    parser.add_argument("--device", type=named, default="cpu", metavar="NAME", help="cpu or cuda (cpu)")
    parser.add_argument("--threads", type=threads, metavar="N", help="processor threads (all)")


def run(args: argparse.Namespace) -> int:
    """Open, learn, measure, write."""
    require_extra("train", "vqgan", "torch", "accelerate")
    check_folder(args.out)
    from amused_lite.runtimes.open import find_model

    folder = find_model(args.model)
    check_other_folder(args.out, folder)
    from amused_lite.commands.training.finetune import write_model
    from amused_lite.training.base_model import BaseModel
    from amused_lite.training.data.pictures import find_source
    from amused_lite.training.loop.fit import use_threads
    from amused_lite.training.pixels.own import OwnPictures, PixelTraining, quality, settings, train
    from amused_lite.training.presets import WORLDS

    use_threads(args.threads)
    work = args.out.with_name(f"{args.out.name}.work")
    worlds = {name: lambda build=build: build(work).world for name, build in WORLDS.items()}
    source = find_source(args.source, worlds, work, args.pictures)
    base = BaseModel.open(folder, args.threads, args.device)
    names = ("steps", "batch", "crop", "learning_rate")
    config = settings(base, args.learn, **{name: getattr(args, name) for name in names})
    pictures = OwnPictures(source, config.canvas)
    before = quality(base.networks.vqgan, pictures)
    made = train(PixelTraining(base, pictures, args.learn, config, args.perceptual), work)
    if made is None:
        print(f"stopped early; the same command goes on from here ({work})", file=sys.stderr)
        return 130
    after, codes = quality(made.networks.vqgan, pictures), made.networks.config.vqgan.codebook_size
    write_model(made, folder, args.out, "VQ-GAN trained", repainted=True)
    said = f"{before[0]:.1f} -> {after[0]:.1f} dB, {before[1]} -> {after[1]} of {codes} codes on 16 of the pictures"
    use = 'generate "..."' if args.learn == "decoder" else "tokenize SOURCE DATA"
    print(f"{args.out}  {said}\nuse it: amused-lite {use} -m {args.out}")
    return 0
