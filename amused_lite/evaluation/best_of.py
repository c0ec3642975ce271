"""Whether ranking helps: the judge's figures of the first, the chosen and all of N pictures, on the held-out prompts.

    python -m amused_lite.evaluation.best_of -m runs/more/bundle --count 60 --best-of 4 --draft-steps 4

The judge is not the ranker: it never saw a caption. A picture counts where every thing asked for is found in its
colour.
"""

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from amused_lite.analysis.ranking import OwnRanker, as_draft, candidates, finished_draft
from amused_lite.evaluation.judge import Judge
from amused_lite.evaluation.judge_training import default_judge_path
from amused_lite.evaluation.metrics import has_nothing_else, has_subjects
from amused_lite.pipeline import AmusedPipeline, Picture
from amused_lite.sampling.settings import GenerateOptions
from amused_lite.task import Task
from amused_lite.training.scenes import HeldoutPrompt, heldout_prompts

Right = tuple[bool, bool]  # every thing is there; and nothing else is


def compare(
    amused: AmusedPipeline,
    judge: Judge,
    prompts: Sequence[HeldoutPrompt],
    options: GenerateOptions,
    count: int,
    drafts: int,
) -> dict[str, list[Right]]:
    """For each way to choose, whether its picture of each prompt is right; prompt k is drawn with seed k.

    "all" holds every candidate of every prompt, which is what choosing blindly gives; "any" is the best of choices.
    """
    ranker = OwnRanker(amused)
    found: dict[str, list[Right]] = {}
    seconds: dict[str, float] = {}

    def note(way: str, *rights: Right) -> None:
        found.setdefault(way, []).extend(rights)

    for seed, entry in enumerate(tqdm(prompts, unit="prompt", disable=None)):
        tasks = [Task(entry.prompt, options=replace(options, seed=seed), image_index=index) for index in range(count)]

        def right(picture: Picture, entry: HeldoutPrompt = entry) -> Right:
            detection = judge.detect(picture.image)
            return has_subjects(entry.scene, detection), has_nothing_else(entry.scene, detection)

        began = time.perf_counter()
        full = candidates(amused, ranker, tasks)
        seconds["full"] = seconds.get("full", 0) + time.perf_counter() - began
        rights = {candidate.picture.recipe.picture: right(candidate.picture) for candidate in full}
        note("all", *rights.values())
        note("first", rights[0])
        note(f"best of {count}", rights[full[0].picture.recipe.picture])
        note("any", (any(one for one, _ in rights.values()), any(alone for _, alone in rights.values())))
        if drafts:
            began = time.perf_counter()
            sketches = candidates(amused, ranker, [as_draft(task, drafts) for task in tasks])
            chosen = sketches[0].picture
            finished = amused.run(finished_draft(tasks[chosen.recipe.picture], drafts))
            seconds["drafts"] = seconds.get("drafts", 0) + time.perf_counter() - began
            note("first draft, finished", right(amused.run(finished_draft(tasks[0], drafts))))
            note("best draft, finished", right(finished))
            note("best draft, drawn anew", rights[chosen.recipe.picture])
    for name, total in seconds.items():
        print(f"{name}: {total / len(prompts):.2f} s a prompt")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Compare and print a table."""
    parser = argparse.ArgumentParser(description="Does ranking choose better pictures?")
    parser.add_argument("-m", "--model", default="tiny", help="a model with a ranker (tiny)")
    parser.add_argument("--count", type=int, default=60, help="held-out prompts; every 20 hold all categories (60)")
    parser.add_argument("--best-of", type=int, default=4, help="candidates for each (4)")
    parser.add_argument("--draft-steps", type=int, default=0, help="also compare drafts of so many steps (none)")
    parser.add_argument("--steps", type=int, default=12, help="unmask steps (12)")
    parser.add_argument("--judge", type=Path, default=default_judge_path(), help="the judge's weights")
    args = parser.parse_args(arguments)
    amused = AmusedPipeline.open(args.model, keep_loaded=True)
    options = GenerateOptions(steps=args.steps)
    prompts = heldout_prompts()[: args.count]
    found = compare(amused, Judge.load(args.judge), prompts, options, args.best_of, args.draft_steps)
    print(f"{args.count} held-out prompts; one standard error is at most {50 / math.sqrt(args.count):.1f} points.\n")
    print("| choice | things right | and nothing else | n |\n|---|---|---|---|")
    for way, rights in found.items():
        shares = [sum(column) / len(rights) for column in zip(*rights, strict=True)]
        print(f"| {way} | {shares[0]:.0%} | {shares[1]:.0%} | {len(rights)} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
