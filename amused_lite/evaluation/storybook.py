"""Score a model of the storybook on its held-out prompts, while it is being trained or finished.

    python -m amused_lite.evaluation.storybook runs/storybook                     the run as it stands
    python -m amused_lite.evaluation.storybook runs/storybook --part -256         its part on pictures of 256 px
    python -m amused_lite.evaluation.storybook runs/storybook -m runs/storybook/bundle --sheet sheet.png

The folder is that of `amused-lite train`: it holds the drawings, and the judge once it was taught. Prompt k is drawn
with seed k; nothing is selected.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from amused_lite.analysis.contact_sheet import contact_sheet
from amused_lite.evaluation.evaluate import reconstruction
from amused_lite.evaluation.metrics import table
from amused_lite.evaluation.story_judge import StoryJudge
from amused_lite.evaluation.story_lessons import train_story_judge
from amused_lite.evaluation.story_metrics import calibrate_pages, crispness, frechet_distance, score_pages
from amused_lite.pipeline import AmusedPipeline
from amused_lite.training.loop.fit import use_threads
from amused_lite.training.presets import storybook
from amused_lite.training.storybook.draw import draw
from amused_lite.training.storybook.prompts import heldout_prompts

_SHEET = 64  # pictures


def open_run(folder: Path, part: str | None) -> AmusedPipeline:
    """What a run has trained so far, with averaged weights, on torch."""
    from amused_lite.runtimes.base import ModelInfo
    from amused_lite.runtimes.torch import TorchRuntime

    build = storybook(folder)
    runtime = TorchRuntime.from_networks(build.networks(part))
    return AmusedPipeline(runtime, build.tokenizer(), ModelInfo(str(folder), ""), keep_loaded=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Teach the judge what is missing, draw, judge and print. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Score a model of the storybook on its held-out prompts.")
    parser.add_argument("folder", type=Path, help="of `amused-lite train`: drawings, judge, and the run")
    parser.add_argument("-m", "--model", help="an exported model in place of the run")
    parser.add_argument("--part", help="of the run: -256 or -512 (the last one)")
    parser.add_argument("--count", type=int, default=500, help="prompts (%(default)s)")
    parser.add_argument("--guidance-scale", type=float)
    parser.add_argument("--token-temperature", type=float)
    parser.add_argument("--sheet", type=Path, help=f"write the first {_SHEET} pictures with their prompts to this PNG")
    parser.add_argument(
        "--calibrate", action="store_true", help="also score renders: fresh, through the VQ-GAN, shuffled"
    )
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    use_threads(args.threads)
    storybook(args.folder).world.use(args.folder)
    judge_folder = args.folder / "judge"
    taught = judge_folder / "judge.safetensors"
    judge = StoryJudge.load(taught) if taught.is_file() else train_story_judge(judge_folder)
    amused = AmusedPipeline.open(args.model) if args.model else open_run(args.folder, args.part)
    prompts = heldout_prompts(amused.runtime.config.image_size)[: args.count]
    chosen = {name: getattr(args, name) for name in ("guidance_scale", "token_temperature")}
    options = {name: value for name, value in chosen.items() if value is not None}
    pictures = [
        np.asarray(amused.generate(entry.prompt, seed=seed, **options).image)
        for seed, entry in enumerate(tqdm(prompts, unit="picture", file=sys.stderr, disable=None))
    ]
    if args.sheet:
        contact_sheet(pictures[:_SHEET], [entry.prompt for entry in prompts[:_SHEET]], args.sheet, columns=8)
    renders = [draw(entry.scene) for entry in prompts]
    columns = {amused.info.name: score_pages(prompts, [judge.detect(picture) for picture in pictures])}
    if args.calibrate:
        columns |= calibrate_pages(judge, prompts, renders, reconstruction(amused))
    near = {
        "crispness, share of the renders'": crispness(pictures) / crispness(renders),
        "frechet distance to renders": frechet_distance(judge, pictures, renders),
    }
    if args.json:
        print(json.dumps({name: {f.name: [f.right, f.n] for f in figures} for name, figures in columns.items()} | near))
    else:
        print(table(columns), *(f"{name:<34}{value:>15.3f}" for name, value in near.items()), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
