"""`amused-lite distil`: a bundle whose pictures a small decoder paints, for drafts."""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from amused_lite.bundle import TARGETS
from amused_lite.console.arguments import check_folder, check_other_folder, named, path, present, threads, whole
from amused_lite.system.extras import require_extra

if TYPE_CHECKING:
    from amused_lite.training.base_model import BaseModel

_EXAMPLES = """\
examples:
  amused-lite distil tiny out/draft
  amused-lite generate "a red star above a house" -m out/draft
  amused-lite distil amused/amused-512 out/draft-512 --prompts mine.txt --pictures 64 --steps 3000 --widths 64,128,192
      mine.txt holds prompts of the kind you draw, one in a line
  amused-lite quantize out/draft-512 out/draft-8bit --method dynamic

The model draws pictures, its own decoder paints them in full, and a small decoder learns to paint the same tokens. The
U-ViT, the codes and the encoder stay as they are, so the same seed draws the same tokens, and the model's own decoder
paints them whenever the finished picture is wanted. How near the draft comes is printed and kept in the manifest.
Ctrl-C finishes the step and saves to OUT.work; the same command goes on.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `distil`."""
    parser.description = "Teach a small decoder to paint a model's tokens, and write a bundle that drafts with it."
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "model", type=named, metavar="MODEL", help="tiny, an ONNX bundle, a diffusers folder or a hub id"
    )
    parser.add_argument("out", metavar="OUT", type=path, help="the bundle folder to make; replaces a bundle")
    parser.add_argument("--to", dest="target", default="onnx", metavar="TARGET", help=f"{', '.join(TARGETS)} (onnx)")
    parser.add_argument("--precision", default="float16", metavar="NAME", help="float16 or float32 (float16)")
    parser.add_argument("--prompts", type=present, metavar="FILE", help="what to draw, a prompt in a line, in turn")
    parser.add_argument(
        "--pictures", type=whole(16, 100_000), default=96, metavar="N", help="of the model's own to learn (96)"
    )
    parser.add_argument("--steps", type=whole(1), default=1500, metavar="N", help="of training (1500)")
    parser.add_argument(
        "--widths", type=_widths, default="32,64", metavar="A,B", help="of the decoder, finest level first (32,64)"
    )
    parser.add_argument("--threads", type=threads, metavar="N", help="processor threads (all)")


def run(args: argparse.Namespace) -> int:
    """Draw, teach, measure, export."""
    require_extra("export", "distill a draft decoder", "torch", "safetensors")
    from amused_lite.export.options import ExportOptions, require_target
    from amused_lite.runtimes.open import find_model

    options = ExportOptions(target=args.target, precision=args.precision)
    require_target(args.target)
    check_folder(args.out)
    lines = _lines(args.prompts)
    folder = find_model(args.model)
    check_other_folder(args.out, folder)
    from amused_lite.export.bundle import check_out, export_bundle
    from amused_lite.export.weights import open_source
    from amused_lite.training.base_model import BaseModel
    from amused_lite.training.distill import (
        DistillConfig,
        DistilledWeights,
        distill,
        fidelity,
        own_examples,
        with_distilled_decoder,
    )
    from amused_lite.training.loop.fit import use_threads

    check_out(args.out)
    train_config = DistillConfig(widths=args.widths, pictures=args.pictures, steps=args.steps)
    use_threads(args.threads)
    base = BaseModel.open(folder, args.threads)
    with_distilled_decoder(
        base.networks.config.vqgan, train_config.widths
    )  # says what is wrong with them before any work
    prompts = _prompts(lines, base, train_config.pictures)
    work = args.out.with_name(f"{args.out.name}.work")
    work.mkdir(parents=True, exist_ok=True)
    shown = own_examples(base, prompts, work)
    draft = distill(base, shown, train_config, work)
    if draft is None:
        print("stopped early; the same command goes on from here", file=sys.stderr)
        return 130
    figure = fidelity(draft, shown, train_config)
    said = {
        "widths": list(train_config.widths),
        "steps": train_config.steps,
        "pictures": train_config.pictures,
        "psnr": round(figure, 1),
    }
    with tempfile.TemporaryDirectory() as scratch:
        source = open_source(folder, Path(scratch))
        weights = DistilledWeights(source.weights, draft)
        name = f"{source.name or base.preset} (draft decoder)"
        export_bundle(source._replace(weights=weights, colours=None, draft=said), args.out, options, name)
    print(f"{args.out}  {args.target}  the draft is {figure:.1f} dB from the model's own decoder on held-out pictures")
    return 0


def _widths(text: str) -> tuple[int, ...]:
    width = whole(1, 16_384)
    try:
        return tuple(width(part) for part in text.split(","))
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"are numbers with commas between them, such as 32,64: {error}") from None


def _lines(file: Path | None) -> list[str]:
    """The prompts of a file, one in each line; none without a file.

    Raises:
        FileNotFoundError, ValueError: it cannot be read, or holds no prompt.
    """
    if file is None:
        return []
    from amused_lite.pipeline import check_prompts
    from amused_lite.reading import read_text

    remedy = "write a prompt in each line"
    lines = [line.strip() for line in read_text(file, remedy).splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{file} holds no prompt; {remedy}")
    for line in lines:
        check_prompts(line)
    return lines


def _prompts(lines: list[str], base: "BaseModel", count: int) -> list[str]:
    """So many prompts: the file's, or ours for this kind of model, over and over."""
    from amused_lite.training.base_model import scene_captions

    if lines:
        pass
    elif base.preset == "tiny":
        lines = scene_captions(count)
    else:
        from amused_lite.evaluation.prompts import PICTURES

        lines = list(PICTURES)
    return [lines[number % len(lines)] for number in range(count)]
