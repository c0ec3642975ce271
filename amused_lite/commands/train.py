"""`amused-lite train`: rebuild the bundled model from nothing, stage by stage."""

import argparse

from amused_lite.arguments import check_folder, named, path, threads, whole
from amused_lite.extras import require_extra

STAGES = ("tokenizer", "vqgan", "clip", "ranker", "tokens", "uvit", "decoder", "bundle")
EXAMPLES = """
stages, in order (each resumes where it stopped; Ctrl-C saves first):
  tokenizer   byte-pair merges from captions                  seconds
  vqgan       pictures to tokens and back                     15 minutes on one core
  clip        a small CLIP; its text tower is then frozen     15 minutes
  ranker      its image tower again, smaller, to rank pictures 12 minutes
  tokens      scenes encoded once                             25 minutes
  uvit        the masked transformer                          hours
  decoder     the decoder alone, for finer edges              20 minutes
  bundle      everything in one folder that generate opens    2 minutes

examples:
  amused-lite train runs/tiny                       all of it
  amused-lite train runs/tiny --stage uvit          only that stage, or go on with it
  amused-lite generate "a red star" -m runs/tiny/bundle
  amused-lite train runs/more --from tiny           go on from the bundled model
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `train`."""
    parser.epilog = EXAMPLES
    parser.add_argument("folder", type=path, help="where the runs live, for example runs/tiny")
    parser.add_argument("--stage", choices=STAGES, action="append", help="run only this stage (may be repeated)")
    parser.add_argument("--threads", type=threads, help="processor threads (default: all)")
    parser.add_argument("--stop-after", type=whole(1), metavar="STEPS", help="end this session of the U-ViT early")
    parser.add_argument(
        "--steps", type=whole(1), help="train the U-ViT for so many steps in all (default: the preset's)"
    )
    parser.add_argument(
        "--from", dest="source", type=named, metavar="MODEL", help="go on from a bundle's weights, such as tiny"
    )
    parser.add_argument("--small", action="store_true", help="minutes instead of hours, to see that everything works")


def run(args: argparse.Namespace) -> int:
    """Run the stages asked for."""
    require_extra("train", "train", "torch", "skia", "open_clip", "matplotlib")
    check_folder(args.folder)
    from amused_lite.bundle import WEIGHTS, open_bundle
    from amused_lite.runtimes.open import find_model

    source_bundle = open_bundle(find_model(args.source)) if args.source else None
    if source_bundle is not None:
        source_bundle.path(WEIGHTS)  # says that it has none
    from dataclasses import replace

    from amused_lite.export.bundle import export_bundle
    from amused_lite.export.options import ExportOptions
    from amused_lite.export.weights import SourceModel
    from amused_lite.training.build import Build, small
    from amused_lite.training.loop import use_threads

    use_threads(args.threads)
    build = small(args.folder) if args.small else Build(args.folder)
    if source_bundle is not None:
        build = replace(build, source=source_bundle)
    if args.steps:
        build = replace(build, uvit=replace(build.uvit, steps=args.steps))
    for stage in args.stage or STAGES:
        print(f"stage {stage}", flush=True)
        if stage == "bundle":
            source = SourceModel(build.networks(), build.tokenizer_file())
            export_bundle(source, args.folder / "bundle", ExportOptions())
        elif not build.run(stage, args.stop_after):
            print("stopped early; the same command goes on from here")
            return 130
    return 0
