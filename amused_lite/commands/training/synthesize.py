"""`amused-lite synthesize`: captions to pictures that a model makes, to learn from."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amused_lite.console.arguments import check_folder, named, number, path, present, threads, whole
from amused_lite.system.extras import require_extra

if TYPE_CHECKING:
    from amused_lite.analysis.ranking import Ranker
    from amused_lite.training.data.synthesize import Teacher

_EXAMPLES = """\
examples:
  amused-lite synthesize captions.txt out/pictures
  amused-lite tokenize out/pictures out/synthetic --clip-score 0.2
  amused-lite finetune tiny out/data:3 out/synthetic:1 out/mine         three of four samples are your own
  amused-lite synthesize coco.jsonl out/sdxl --teacher stabilityai/stable-diffusion-xl-base-1.0 \\
      --refiner stabilityai/stable-diffusion-xl-refiner-1.0 --steps 35 --device cuda --ranker ViT-L-14:clip.safetensors
  amused-lite synthesize evaluation_metadata.jsonl out/geneval --geneval

CAPTIONS holds a caption a line, or (.jsonl) objects with a text, caption or prompt. Of --count pictures of each the one
that fits its caption best is kept, as aMUSEd's fine-tuning data was made. The aesthetic score of synthetic pictures is
nobody's measurement and is left out. Work that is stopped or killed goes on with the same command.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `synthesize`."""
    parser.description = "Make pictures of captions with a model, and keep the best of each."
    parser.epilog = _EXAMPLES
    parser.add_argument("captions", type=present, metavar="CAPTIONS", help="what to draw, see below")
    parser.add_argument("out", type=path, metavar="OUT", help="the folder of pictures to make, or to go on with")
    parser.add_argument(
        "--teacher", type=named, default="tiny", metavar="MODEL", help="of amused-lite or of diffusers (tiny)"
    )
    parser.add_argument("--refiner", type=named, metavar="MODEL", help="of diffusers, for the last fifth of the steps")
    parser.add_argument("--count", type=whole(1, 256), default=4, metavar="N", help="pictures of a caption (4)")
    parser.add_argument(
        "--ranker", type=named, metavar="ARCH:FILE", help="an open_clip architecture and its safetensors weights"
    )
    parser.add_argument("--geneval", action="store_true", help="keep all, in the folders that GenEval's scorer reads")
    parser.add_argument("--steps", type=whole(1, 1000), metavar="N", help="of the teacher (its own)")
    parser.add_argument("--guidance-scale", type=number(0, 100), metavar="G", help="of the teacher (its own)")
    parser.add_argument("--device", type=named, default="cpu", metavar="NAME", help="cpu or cuda (cpu)")
    parser.add_argument("--threads", type=threads, metavar="N", help="processor threads (all)")


def run(args: argparse.Namespace) -> int:
    """Read, open, make."""
    require_extra("train", "synthesize", "torch")
    check_folder(args.out)
    from amused_lite.training.data.synthesize import geneval, read_captions, synthesize
    from amused_lite.training.loop.fit import use_threads

    rows = read_captions(args.captions)
    use_threads(args.threads)
    teacher, ranker = _open(args)
    if args.geneval:
        made = geneval(teacher, rows, args.out, args.count)
    else:
        said = {"steps": args.steps, "guidance_scale": args.guidance_scale, "ranker": args.ranker}
        made = synthesize(teacher, ranker, [row["text"] for row in rows], args.out, args.count, said)
    print(f"{args.out}  {made} pictures of {len(rows)} captions by {json.dumps(args.teacher)}")
    return 0


def _open(args: argparse.Namespace) -> "tuple[Teacher, Ranker | None]":
    """What makes the pictures and what chooses among them."""
    chooses = args.count > 1 and not args.geneval
    if args.ranker and not chooses:
        raise ValueError("--ranker chooses among several pictures; leave it out, or give --count 2 or more")
    ranker: Ranker | None = None
    if args.ranker:
        from amused_lite.models.open_clip_ranker import OpenClipRanker

        ranker = OpenClipRanker(args.ranker)
    settings = {"guidance_scale": args.guidance_scale, "num_inference_steps": args.steps}
    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    if args.refiner or not _is_own(args.teacher):
        if chooses and ranker is None:
            raise ValueError(
                f"{args.teacher} has no ranker; name one with --ranker, or make one picture with --count 1"
            )
        require_extra("train", "a teacher of diffusers", "diffusers")
        from amused_lite.training.data.synthesize import DiffusersTeacher

        return DiffusersTeacher(args.teacher, args.refiner, args.device, given), ranker
    from amused_lite.analysis.ranking import OwnRanker
    from amused_lite.pipeline import AmusedPipeline
    from amused_lite.sampling.settings import GenerateOptions
    from amused_lite.training.base_model import BaseModel
    from amused_lite.training.data.synthesize import AmusedTeacher

    if args.device == "cpu":
        amused = AmusedPipeline.open(args.teacher, threads=args.threads, keep_loaded=True)
    else:
        amused = BaseModel.open(args.teacher, args.threads, args.device).amused()
    options = GenerateOptions(**{name.replace("num_inference_", ""): value for name, value in given.items()})
    return AmusedTeacher(amused, options), ranker or (OwnRanker(amused) if chooses else None)


def _is_own(model: str) -> bool:
    """Whether amused-lite opens a model, and not diffusers alone."""
    from amused_lite.reading import read_text
    from amused_lite.runtimes.open import is_hub_id

    if is_hub_id(model):
        return model.startswith("amused/")
    index = Path(model) / "model_index.json"
    return not index.is_file() or "AmusedPipeline" in read_text(index, "download the model again")
