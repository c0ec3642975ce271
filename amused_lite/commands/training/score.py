"""`amused-lite score`: CLIP score, FID and KID of folders of pictures."""

import argparse
import json
from typing import Any

from amused_lite.console.arguments import named, present, threads
from amused_lite.system.extras import require_extra

_EXAMPLES = """\
examples:
  amused-lite score out/pictures --ranker ViT-L-14:clip.safetensors
  amused-lite score out/steps-4 out/steps-12 --reference coco/val2014 --inception inception.safetensors

PICTURES are folders as tokenize reads them: captions beside the pictures, or a metadata.jsonl. The CLIP score is the
mean cosine of picture and caption; take another encoder than the one that the model listens to. FID and KID compare
with the pictures of --reference in the features of torch-fidelity's Inception, whose weights are not downloaded: load
pt_inception-2015-12-05 once with torch.load(..., weights_only=True) and save it with safetensors. FID depends on the
number of pictures: compare equal numbers only. For GenEval, see synthesize --geneval.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `score`."""
    parser.description = "Measure folders of pictures: against their captions, and against other pictures."
    parser.epilog = _EXAMPLES
    parser.add_argument("pictures", type=present, nargs="+", metavar="PICTURES", help="folders; a line for each")
    parser.add_argument(
        "--ranker", type=named, metavar="ARCH:FILE", help="CLIP score by an open_clip model and its safetensors weights"
    )
    parser.add_argument("--reference", type=present, metavar="FOLDER", help="FID and KID to these pictures")
    parser.add_argument("--inception", type=present, metavar="FILE", help="torch-fidelity's weights, as safetensors")
    parser.add_argument("--threads", type=threads, metavar="N", help="processor threads (all)")
    parser.add_argument("--json", action="store_true", help="print a JSON object for each folder")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    if not args.ranker and not args.reference:
        raise ValueError("nothing to measure by; give --ranker ARCH:FILE for a CLIP score, or --reference FOLDER")
    if bool(args.reference) != bool(args.inception):
        raise ValueError("FID and KID need both --reference FOLDER and --inception FILE, which is not downloaded")
    require_extra("train", "score", "torch")
    from amused_lite.evaluation.pictures import RESIZE, distance, features_of, fit_of, open_inception
    from amused_lite.models.open_clip_ranker import OpenClipRanker
    from amused_lite.training.loop.fit import use_threads

    use_threads(args.threads)
    ranker = OpenClipRanker(args.ranker) if args.ranker else None
    inception = open_inception(args.inception) if args.inception else None
    reference = features_of(args.reference, inception) if inception else None
    for folder in args.pictures:
        found: dict[str, Any] = {"pictures": str(folder)}
        if ranker:
            found["clip"] = fit_of(folder, ranker)._asdict() | {"ranker": args.ranker.partition(":")[0]}
        if reference is not None:
            near = distance(features_of(folder, inception), reference)
            found["distance"] = near._asdict() | {"to": str(args.reference), "resize": RESIZE}
        print(json.dumps(found) if args.json else _line(found), flush=True)
    return 0


def _line(found: dict[str, Any]) -> str:
    said = [found["pictures"]]
    if clip := found.get("clip"):
        said.append(f"CLIP score {clip['mean']:.4f} +- {clip['error']:.4f} ({clip['ranker']}, n={clip['count']})")
    if near := found.get("distance"):
        said.append(f"FID {near['fid']:.3f}  KID {near['kid']:.5f} +- {near['kid_deviation']:.5f}")
        said.append(f"({near['count']} pictures to {near['reference']} of {near['to']}, {near['resize']})")
    return "  ".join(said)
