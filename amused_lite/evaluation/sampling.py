"""Every choice of sampling against the number of steps, on the held-out prompts: the tables of docs/sampling.md.

    python -m amused_lite.evaluation.sampling --count 100 --out table.md

The choices are the defaults with one thing changed. A picture counts where every thing asked for is found in its
colour. The prompts come after the 300 that the model's score is given for: defaults chosen here do not flatter it.
"""

import argparse
import math
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from amused_lite.evaluation.evaluate import draw_prompts
from amused_lite.evaluation.judge import Judge
from amused_lite.evaluation.judge_training import default_judge_path
from amused_lite.evaluation.metrics import has_nothing_else, has_subjects
from amused_lite.pipeline import AmusedPipeline
from amused_lite.training.scenes import HeldoutPrompt, heldout_prompts

STEPS = (4, 12, 24)

CHOICES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "guidance 1.5": {"guidance_scale": 1.5},
    "guidance 3": {"guidance_scale": 3.0},
    "guidance 4": {"guidance_scale": 4.0},
    "guidance 6": {"guidance_scale": 6.0},
    "guidance rising to 2": {"guidance_schedule": "linear"},
    "guidance rising to 4": {"guidance_schedule": "linear", "guidance_scale": 4.0},
    "guided first half": {"guidance_interval": (0.0, 0.5)},
    "guided last half": {"guidance_interval": (0.5, 1.0)},
    "guided middle half": {"guidance_interval": (0.25, 0.75)},
    "token temperature 0.7": {"token_temperature": 0.7},
    "token temperature 0.3": {"token_temperature": 0.3},
    "token temperature 1": {"token_temperature": 1.0},
    "temperature 1, top-k 8": {"token_temperature": 1.0, "top_k": 8},
    "temperature 1, top-p 0.9": {"token_temperature": 1.0, "top_p": 0.9},
    "mask temperature 0": {"mask_temperature": (0.0, 0.0)},
    "mask temperature 1": {"mask_temperature": (1.0, 0.0)},
    "mask temperature 4": {"mask_temperature": (4.0, 0.0)},
    "mask temperature 8": {"mask_temperature": (8.0, 0.0)},
    "linear masks": {"mask_schedule": "linear"},
    "square masks": {"mask_schedule": "square"},
    "arccos masks": {"mask_schedule": "arccos"},
    "halton": {"order": "halton"},
    "halton, arccos masks": {"order": "halton", "mask_schedule": "arccos"},
    "4 steps of refining": {"refine": 4},
}


def measure(
    amused: AmusedPipeline, judge: Judge, prompts: Sequence[HeldoutPrompt], options: dict[str, Any]
) -> tuple[int, int, float]:
    """(pictures with every thing right, those with nothing else besides, seconds a picture)."""
    began = time.perf_counter()
    pictures = list(draw_prompts(amused, prompts, **options))
    seconds = (time.perf_counter() - began) / len(prompts)
    pairs = [(entry.scene, judge.detect(picture)) for entry, picture in zip(prompts, pictures, strict=True)]
    right = sum(has_subjects(*pair) for pair in pairs)
    return right, sum(has_nothing_else(*pair) for pair in pairs), seconds


def _measure_choice(
    model: str, judge: Path, prompts: slice, steps: Sequence[int], name: str
) -> list[tuple[int, int, float]]:
    import torch

    torch.set_num_threads(1)  # one process a core
    amused = AmusedPipeline.open(model, threads=1, keep_loaded=True)
    return [
        measure(amused, Judge.load(judge), heldout_prompts(prompts.stop)[prompts], {"steps": number, **CHOICES[name]})
        for number in steps
    ]


def row(name: str, cells: Sequence[tuple[int, int, float]], count: int) -> str:
    """One line of the table: right / right and nothing else, in percent, for each number of steps; last the seconds."""
    shares = [f"{right / count:.0%} / {alone / count:.0%}" for right, alone, _ in cells]
    return f"| {name} | {' | '.join(shares)} | {cells[-1][2]:.2f} |"


def main(arguments: list[str] | None = None) -> int:
    """Measure every choice and print the table as it grows."""
    parser = argparse.ArgumentParser(description="The tables of docs/sampling.md.")
    parser.add_argument("-m", "--model", default="tiny", help="as for generate (tiny)")
    parser.add_argument("--count", type=int, default=100, help="held-out prompts; every 20 hold all categories (100)")
    parser.add_argument("--first", type=int, default=300, help="leave out so many, which scores are given for (300)")
    parser.add_argument("--steps", type=int, nargs="*", default=list(STEPS), help="numbers of steps (4 12 24)")
    parser.add_argument("--processes", type=int, default=1, help="choices measured side by side (1)")
    parser.add_argument("--judge", type=Path, default=default_judge_path(), help="the judge's weights")
    parser.add_argument("--only", nargs="*", choices=CHOICES, default=list(CHOICES), metavar="NAME")
    parser.add_argument("--out", type=Path, help="write the table here as well")
    args = parser.parse_args(arguments)
    error = 50 / math.sqrt(args.count)
    lines = [
        f"{args.count} held-out prompts; one standard error is at most {error:.1f} points.",
        "",
        f"| choice | {' | '.join(f'{steps} steps' for steps in args.steps)} | seconds at {args.steps[-1]} |",
        "|---" * (len(args.steps) + 2) + "|",
    ]
    print("\n".join(lines), flush=True)
    with ProcessPoolExecutor(args.processes) as pool:
        prompts = slice(args.first, args.first + args.count)
        jobs = {
            name: pool.submit(_measure_choice, args.model, args.judge, prompts, args.steps, name) for name in args.only
        }
        for name, job in jobs.items():
            lines.append(row(name, job.result(), args.count))
            print(lines[-1], flush=True)
    if args.out:
        args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
