"""`amused-lite train`: a model from nothing, stage by stage."""

import argparse
from typing import TYPE_CHECKING

from amused_lite.console.arguments import check_folder, named, path, threads, whole
from amused_lite.system.extras import require_extra

if TYPE_CHECKING:
    from amused_lite.training.build import Build

EXAMPLES = """
stages, in order (each resumes where it stopped; Ctrl-C saves first):
  fetch       the drawings that the world is made of, 48 MB, by npm
  tokenizer   byte-pair merges from captions
  vqgan       pictures to tokens and back
  tokens-256  pictures of 256 px encoded once
  uvit-256    the masked transformer and its text tower on them; hours
  tokens-512  pictures of 512 px encoded once
  uvit-512    the transformer goes on with these; hours
  decoder     the decoder alone, for finer edges
  ranker      an image tower beside the frozen text tower, to rank pictures
  bundle      everything in one folder that generate opens
The world "scenes", which made the model tiny, has clip before tokens and uvit, in one size.

examples:
  amused-lite train runs/storybook                       all of it
  amused-lite train runs/storybook --stage uvit-256      only that stage, or go on with it
  amused-lite train runs/storybook --stage tokens-256    beside it, in a second process
  amused-lite train runs/try --small                     minutes, to see that everything works
  amused-lite generate "a red car" -m runs/storybook/bundle
  amused-lite train runs/more --world scenes --from tiny      go on from the bundled model
"""
BUNDLE = "bundle"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `train`."""
    parser.epilog = EXAMPLES
    parser.add_argument("folder", type=path, help="where the drawings and the runs live, for example runs/storybook")
    parser.add_argument("--stage", action="append", metavar="STAGE", help="run only this stage (may be repeated)")
    parser.add_argument(
        "--world", choices=("storybook", "scenes"), default="storybook", help="what it learns from (%(default)s)"
    )
    parser.add_argument("--threads", type=threads, metavar="N", help="processor threads (all)")
    parser.add_argument("--stop-after", type=whole(1), metavar="STEPS", help="end this session of a U-ViT early")
    parser.add_argument("--steps", type=whole(1), help="of the last uvit stage in all (the preset's)")
    parser.add_argument(
        "--from", dest="source", type=named, metavar="MODEL", help="go on from a bundle's weights, such as tiny"
    )
    parser.add_argument("--small", action="store_true", help="minutes instead of hours, to see that everything works")


def run(args: argparse.Namespace) -> int:
    """Run the stages asked for."""
    require_extra("train", "train", "torch", "skia", "resvg_py", "open_clip", "matplotlib")
    check_folder(args.folder)
    from amused_lite.training.loop.fit import use_threads

    use_threads(args.threads)
    build = _build(args)
    stages = (*build.stages, BUNDLE)
    if strange := [stage for stage in args.stage or () if stage not in stages]:
        raise ValueError(f"there is no stage {strange[0]!r} here; choose one of {', '.join(stages)}")
    for stage in args.stage or stages:
        print(f"stage {stage}", flush=True)
        if stage == BUNDLE:
            _export(build)
        elif not build.run(stage, args.stop_after):
            print("stopped early; the same command goes on from here")
            return 130
    return 0


def _build(args: argparse.Namespace) -> "Build":
    from dataclasses import replace

    from amused_lite.bundle import WEIGHTS, open_bundle
    from amused_lite.runtimes.open import find_model
    from amused_lite.training.presets import WORLDS, small

    build = WORLDS[args.world](args.folder)
    if args.small:
        build = small(build)
    if args.source:
        source = open_bundle(find_model(args.source))
        source.path(WEIGHTS)  # says that it has none
        build = replace(build, source=source)
        build.check_source()
    if args.steps:
        *_, last = build.parts
        part = build.parts[last]
        config = replace(part.train_config, steps=args.steps)
        build = replace(build, parts=build.parts | {last: replace(part, train_config=config)})
    return build


def _export(build: "Build") -> None:
    from amused_lite.export.bundle import export_bundle
    from amused_lite.export.options import ExportOptions
    from amused_lite.export.weights import SourceModel
    from amused_lite.vocabulary import Vocabulary

    export_bundle(SourceModel(build.networks(), build.tokenizer_file()), build.folder / BUNDLE, ExportOptions())
    Vocabulary(build.world.words()).save(build.folder / BUNDLE)
