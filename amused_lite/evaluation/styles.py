"""What learning a style is worth: drawn looks the model never saw, learned from 1, 3 and 10 pictures, and judged.

    python -m amused_lite.evaluation.styles OUT [--looks sepia,neon] [--pictures 1,3] [--count 40]

It goes on where it was stopped: adapters and pictures that are there are not made again. Everything is seeded and
nothing selected. Styles are scored against held-out pictures of the look; objects and colours by a judge that was
taught all looks but one, on the same prompts for every column.
"""

import argparse
import json
import random
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from amused_lite.adapters.file import load_adapter
from amused_lite.analysis.contact_sheet import contact_sheet
from amused_lite.evaluation.judge import Detection, Judge
from amused_lite.evaluation.judge_training import default_judge_path, train_judge
from amused_lite.files.images import open_picture
from amused_lite.pipeline import AmusedPipeline
from amused_lite.style.config import train_config_of
from amused_lite.style.data import StylePicture, trigger
from amused_lite.style.score import Picture, StyleScale, StyleStatistics, nearest_style
from amused_lite.training import scenes
from amused_lite.training.scenes import COLOURLESS, STYLE_LOOKS, HeldoutPrompt, Scene, style_look

JUDGE_STEPS = 6000  # 55 minutes of one busy core
UNTAUGHT = "aerochrome"  # on which nothing was tuned, and which the judge reads as it is
SHOWN = 6  # prompts on a contact sheet
_TEACHING, _CENTRE = 77, 78  # seeds of the pictures to learn from, and of those that define the look


@dataclass(frozen=True)
class Column:
    """One set of pictures of the prompts, in figures."""

    name: str
    style: float  # 0 as the base's plain pictures, 1 as held-out pictures of the look
    taken: float  # share of pictures whose nearest look is this one
    things: float  # share in which every object asked for is found, in its colour unless the look has none
    minutes: float = 0.0  # of a processor core, for learning and what comes before it


def prompts_for(count: int) -> list[HeldoutPrompt]:
    """The first held-out prompts that ask for no style of their own."""
    return [prompt for prompt in scenes.heldout_prompts() if prompt.scene.style == "flat"][:count]


def teaching_scenes(count: int, seed: int = _TEACHING) -> list[Scene]:
    """Training scenes of one object each, whose backdrops take turns."""
    stream = (scenes.random_scene(seed, index, "train") for index in range(2000))
    single = [scene for scene in stream if scene.style == "flat" and scene.layout == "single"]
    chosen: list[Scene] = []
    for number in range(count):
        backdrop = scenes.BACKDROPS[number % len(scenes.BACKDROPS)]
        chosen.append(next(scene for scene in single if scene.backdrop == backdrop and scene not in chosen))
    return chosen


def teaching_pictures(look: str, count: int, folder: Path) -> list[StylePicture]:
    """Pictures to learn a look from, as files, with what they show."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for number, scene in enumerate(teaching_scenes(count)):
        path = folder / f"{look}-{number:02d}.png"
        if not path.exists():
            Image.fromarray(style_look(look, scene)).save(path)
        pictures.append(StylePicture(path, scenes.caption(scene, random.Random(number), always_backdrop=True)))
    return pictures


def learn(look: str, pictures: Sequence[StylePicture], out: Path, model: str, changes: dict[str, Any]) -> float:
    """Train an adapter unless it is there already; the minutes of one processor core that it took."""
    from amused_lite.style.job import PRIOR, default_prompts, make_job, work_folder
    from amused_lite.training.base_model import BaseModel, generated_examples

    if out.exists():
        return float(load_adapter(out).record.recipe.get("minutes", 0.0))
    began, shared = time.process_time(), out.parent / PRIOR
    taken = shared.with_suffix(".seconds")
    base, work = BaseModel.open(model), work_folder(out)
    train_config = replace(train_config_of(base.preset), **changes)
    work.mkdir(parents=True, exist_ok=True)
    if train_config.guessed_share:  # the own pictures are the same for all, and each would have taken this long
        if not taken.exists():
            generated_examples(base, default_prompts(base.preset, train_config), shared)
            taken.write_text(f"{time.process_time() - began:.1f}")
        else:
            began -= float(taken.read_text())
        shutil.copy(shared, work / PRIOR)
    job = make_job(base, pictures, look, out, train_config)
    if job.train() is None:
        raise SystemExit(130)  # stopped; the same command goes on
    minutes = (time.process_time() - began) / 60
    adapter = job.adapter(job.train_config.steps)
    adapter.record.recipe["minutes"] = round(minutes, 1)
    job.save(adapter)
    return minutes


def look_judge(path: Path | None = None) -> Judge:
    """A judge that was taught every look but `UNTAUGHT`, trained once.

    Half of its looks are not fully there, and half of its pictures are blurred: what is drawn is never as clean as the
    look itself, and the question is what it shows.
    """
    path = path or default_judge_path().with_name("judge-looks.safetensors")
    names = [name for name in STYLE_LOOKS if name != UNTAUGHT]

    def restyle(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        made = picture
        if rng.random() < 0.7:
            strength = 1.0 if rng.random() < 0.5 else rng.uniform(0.5, 1.0)
            look = STYLE_LOOKS[names[rng.integers(len(names))]](picture)
            made = (picture + strength * (look.astype(np.float32) - picture)).astype(np.uint8)
        if rng.random() < 0.5:
            blur = ImageFilter.GaussianBlur(rng.uniform(0, 4) * len(picture) / 512)
            made = np.asarray(Image.fromarray(made).filter(blur))
        return made

    return Judge.load(path) if path.exists() else train_judge(JUDGE_STEPS, path, restyle=restyle)


def things_right(scene: Scene, detection: Detection, colours: bool) -> bool:
    """Every object asked for is found, in its colour if that counts."""
    if colours:
        return set(scene.subjects) <= {(thing.kind, thing.colour) for thing in detection.things}
    return {kind for kind, _ in scene.subjects} <= {thing.kind for thing in detection.things}


@dataclass(frozen=True)
class Ruler:
    """The reference set and judge that every column is measured with."""

    look: str
    scale: StyleScale
    looks: Sequence[StyleStatistics]  # with the plain one
    judge: Judge
    prompts: Sequence[HeldoutPrompt]

    @classmethod
    def of(cls, look: str, plain: Sequence[Picture], judge: Judge, prompts: Any) -> "Ruler":
        """Measure the base's plain pictures and held-out pictures of the look."""
        others = teaching_scenes(12, _CENTRE)
        looks = {name: StyleStatistics.of(name, [_shown(name, scene) for scene in others]) for name in STYLE_LOOKS}
        known = [
            *looks.values(),
            StyleStatistics.of("plain", [Image.fromarray(scenes.draw(scene)) for scene in others]),
        ]
        real = [_shown(look, prompt.scene) for prompt in prompts]
        return cls(look, StyleScale.of(looks[look], plain, real), known, judge, prompts)

    def column(self, name: str, pictures: Sequence[Picture], minutes: float = 0.0) -> Column:
        """The figures of one picture for each prompt."""
        colours = self.look not in COLOURLESS
        detections = [self.judge.detect(np.asarray(picture)) for picture in pictures]
        right = [things_right(p.scene, v, colours) for p, v in zip(self.prompts, detections, strict=True)]
        taken = [nearest_style(picture, self.looks) == self.look for picture in pictures]
        style = float(np.mean([self.scale.score(picture) for picture in pictures]))
        return Column(name, style, float(np.mean(taken)), float(np.mean(right)), minutes)


def _shown(look: str, scene: Scene) -> Image.Image:
    return Image.fromarray(style_look(look, scene))


@dataclass(frozen=True)
class LookPictures:
    """One set of pictures of the prompts."""

    name: str
    pictures: Sequence[Picture]
    minutes: float = 0.0  # of a processor core, for learning and what comes before it


def draw(amused: AmusedPipeline, prompts: Sequence[HeldoutPrompt], words: str, folder: Path) -> list[Image.Image]:
    """A picture of each prompt, drawn once; prompt k has seed k."""

    def make(seed: int, path: Path) -> None:
        amused.generate(f"{prompts[seed].prompt} {words}".strip(), seed=seed).save(path)

    return _made_once(folder, len(prompts), make)


def repaint(amused: AmusedPipeline, folder: Path, drawn: Path, count: int) -> list[Image.Image]:
    """The pictures in `drawn` from the tokens that their files keep, as another decoder paints them; made once."""

    def make(_: int, path: Path) -> None:
        train_config = open_picture(drawn / path.name).recipe
        assert train_config is not None  # `draw` has saved it
        amused.decode(train_config.tokens).save(path)

    return _made_once(folder, count, make)


def _made_once(folder: Path, count: int, make: Callable[[int, Path], None]) -> list[Image.Image]:
    """So many pictures in a folder, by number; `make` writes those that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for number in range(count):
        path = folder / f"{number:02d}.png"
        if not path.exists():
            make(number, path)
        with Image.open(path) as opened:
            pictures.append(opened.convert("RGB"))
    return pictures


def draw_look(
    look: str,
    counts: Sequence[int],
    prompts: Sequence[HeldoutPrompt],
    folder: Path,
    model: str,
    changes: dict[str, Any],
) -> list[LookPictures]:
    """The picture sets of one style: references, base, base with the style's words in the prompt, and adapters."""
    amused = AmusedPipeline.open(model, keep_loaded=True)
    sets = [
        LookPictures("the look itself", [_shown(look, prompt.scene) for prompt in prompts]),
        LookPictures("base", draw(amused, prompts, "", folder / "base")),
        LookPictures("words only", draw(amused, prompts, trigger(look), folder / f"{look}-words")),
    ]
    for count in counts:
        out = folder / f"{look}-{count}.safetensors"
        minutes = learn(look, teaching_pictures(look, count, folder / "pictures"), out, model, changes)
        styled = AmusedPipeline.open(model, keep_loaded=True, adapters=[str(out)])
        words, place = load_adapter(out).record.trigger, folder / f"{look}-{count}"
        if words:
            pictures = draw(styled, prompts, words, place)
        else:  # a style of the decoder: no words, the base's own tokens
            pictures = repaint(styled, place, folder / "base", len(prompts))
        sets.append(LookPictures(f"{count} picture{'s' if count > 1 else ''}", pictures, minutes))
        print(f"{look}, {sets[-1].name}: drawn, after {minutes:.1f} core-minutes of learning", flush=True)
    return sets


def judge_look(look: str, sets: Sequence[LookPictures], prompts: Sequence[HeldoutPrompt], judge: Judge) -> list[Column]:
    """Every set in figures."""
    ruler = Ruler.of(look, sets[1].pictures, judge, prompts)
    return [ruler.column(drawn.name, drawn.pictures, drawn.minutes) for drawn in sets]


def sheet(sets: Sequence[LookPictures], prompts: Sequence[HeldoutPrompt], path: Path) -> None:
    """The first pictures of every set, a row each."""
    pictures = [picture for drawn in sets for picture in drawn.pictures[:SHOWN]]
    names = [f"{drawn.name}: {entry.prompt}" for drawn in sets for entry in prompts[:SHOWN]]
    contact_sheet(pictures, names, path, columns=min(SHOWN, len(prompts)))


def table(look: str, columns: Sequence[Column], count: int) -> str:
    """One look in Markdown."""
    asked = "objects right" if look in COLOURLESS else "objects and colours right"
    lines = [f"| {look}, n = {count} | style | taken for it | {asked} | core-minutes |", "|---|---|---|---|---|"]
    for c in columns:
        minutes = f"{c.minutes:.1f}" if c.minutes else ""
        lines.append(f"| {c.name} | {c.style:.2f} | {c.taken:.0%} | {c.things:.0%} | {minutes} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is missing, draw, judge; print tables and write them as JSON. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Score styles learned from a few pictures.")
    parser.add_argument("out", type=Path, help="folder for adapters, pictures and contact sheets; it resumes")
    parser.add_argument(
        "--looks",
        default="popart,negative,aerochrome,infrared",
        help=f"of {', '.join(STYLE_LOOKS)} (%(default)s)",
    )
    parser.add_argument("--pictures", default="1,3,10", help="how many to learn from (%(default)s)")
    parser.add_argument("--count", type=int, default=228, help="prompts, at most all (%(default)s)")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--judge", type=Path, help="the judge's weights; taught once, in about an hour")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON", help="a number of the recipe")
    args = parser.parse_args(arguments)
    changes = {name: json.loads(value) for name, _, value in (item.partition("=") for item in args.set)}
    prompts, results = prompts_for(args.count), {}
    counts = [int(number) for number in args.pictures.split(",")]
    drawn = {}
    for look in args.looks.split(","):
        drawn[look] = draw_look(look, counts, prompts, args.out, args.model, changes)
        sheet(drawn[look], prompts, args.out / f"{look}.png")
    judge = look_judge(args.judge)
    for look, sets in drawn.items():
        columns = judge_look(look, sets, prompts, judge)
        results[look] = [vars(column) for column in columns]
        print(table(look, columns, len(prompts)), flush=True)
        (args.out / "styles.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
