"""How well a model edits, told by the judge, and the guide's pictures: `python -m amused_lite.evaluation.editing`.

Every case starts from a fresh drawing, which the model has never seen as tokens of its own. Case k has seed k.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from amused_lite.analysis.contact_sheet import contact_sheet
from amused_lite.editing.operations import edit, inpaint, outpaint, vary
from amused_lite.evaluation.judge import Detection, Judge
from amused_lite.evaluation.judge_training import default_judge_path, train_judge
from amused_lite.evaluation.metrics import Figure, has_nothing_else, has_subjects, table
from amused_lite.pipeline import AmusedPipeline
from amused_lite.training.scenes import (
    BACKDROPS,
    CELL,
    COLOURS,
    KINDS,
    SIZE,
    Scene,
    caption,
    draw,
    is_heldout,
    random_scene,
)

AROUND = CELL  # px that a mask reaches beyond the thing it marks: people paint generously
TORN = 8  # of 255: a row whose step is larger shows something that is cut off
ROWS = 4  # cases on a picture of the guide
CHANGES = ("colour", "backdrop", "kind")
BACKDROP_WORDS = {name: f"{name} background" for name in BACKDROPS}  # as captions end; nothing else is said


@dataclass(frozen=True)
class Case:
    """A drawing, what it shall become, and which of its things goes."""

    number: int
    before: Scene
    after: Scene
    place: int = 0

    @property
    def prompt(self) -> str:
        return caption(self.after, Random(f"editing/{self.number}"), always_backdrop=True)

    @property
    def image(self) -> Image.Image:
        return Image.fromarray(draw(self.before))

    @property
    def mask(self) -> Image.Image:
        """White on the box of the thing that goes, and a little around it."""
        thing = self.before.things[self.place]
        reach = thing.size // 2 + AROUND
        mask = Image.new("L", (SIZE, SIZE))
        mask.paste(255, (thing.x - reach, thing.y - reach, thing.x + reach, thing.y + reach))
        return mask


@dataclass(frozen=True)
class EditOutcome:
    """A case, its edited picture, and what the judge detects in it."""

    case: Case
    image: Image.Image
    detection: Detection


def replacing_cases(count: int) -> list[Case]:
    """One thing gives way to another of another colour: half of them alone, half of them one of a pair."""
    cases = []
    for number in range(count):
        rng = Random(f"replace/{number}")
        before = _scene(("single",) if number % 2 == 0 else ("beside", "stacked"), f"replace/{number}")
        place = rng.randrange(len(before.subjects))
        cases.append(Case(number, before, _other_thing(before, place, rng), place))
    return cases


def changing_cases(count: int) -> list[Case]:
    """One thing alone, of which one attribute changes: colour, backdrop and kind in turn."""
    cases = []
    for number in range(count):
        rng = Random(f"change/{number}")
        before = _scene(("single",), f"change/{number}")
        cases.append(Case(number, before, _other_attribute(before, CHANGES[number % len(CHANGES)], rng)))
    return cases


def replace_things(amused: AmusedPipeline, judge: Judge, count: int, **options: Any) -> Iterator[EditOutcome]:
    """Inpaint the box of the thing that goes."""
    for case in replacing_cases(count):
        image = amused.run(inpaint(amused, case.image, case.mask, case.prompt, seed=case.number, **options)).image
        yield EditOutcome(case, image, judge.detect(image))


def change_things(amused: AmusedPipeline, judge: Judge, count: int, **options: Any) -> Iterator[EditOutcome]:
    """Edit without a mask."""
    for case in changing_cases(count):
        image = amused.run(edit(amused, case.image, case.prompt, seed=case.number, **options)).image
        yield EditOutcome(case, image, judge.detect(image))


def widen_pictures(amused: AmusedPipeline, count: int, **options: Any) -> Iterator[tuple[Image.Image, Image.Image]]:
    """Double the canvas to the right, with more of the backdrop: the result, and the same without matched colours."""
    for number in range(count):
        scene = _scene(("single",), f"widen/{number}")
        given = amused, Image.fromarray(draw(scene)), BACKDROP_WORDS[scene.backdrop]
        picture = amused.run(outpaint(*given, right=SIZE, seed=number, **options))
        plain = amused.finish(outpaint(*given, right=SIZE, feather=0), picture.recipe.tokens)
        yield picture.image, plain.image


def is_replaced(result: EditOutcome) -> bool:
    """The new thing is there in its colour, the rest is as it was, and nothing else is seen."""
    return (
        has_nothing_else(result.case.after, result.detection)
        and result.detection.backdrop == result.case.before.backdrop
    )


def is_changed(result: EditOutcome) -> bool:
    """The attribute that the prompt names is the new one."""
    after = result.case.after
    if after.backdrop != result.case.before.backdrop:
        return result.detection.backdrop == after.backdrop
    return has_subjects(after, result.detection)


def is_all_as_said(result: EditOutcome) -> bool:
    """The attribute is the new one and everything else is the old one."""
    return (
        has_nothing_else(result.case.after, result.detection)
        and result.detection.backdrop == result.case.after.backdrop
    )


def figures(replaced: list[EditOutcome], changed: list[EditOutcome]) -> list[Figure]:
    """What came out, each with its n."""

    def figure(name: str, right: Callable[[EditOutcome], bool], results: list[EditOutcome]) -> Figure:
        return Figure(name, sum(map(right, results)), len(results))

    by_change = {name: [result for result in changed if _change(result.case) == name] for name in CHANGES}
    pairs = [result for result in replaced if len(result.case.before.things) > 1]
    alone = [result for result in replaced if len(result.case.before.things) == 1]
    return [
        figure("replaced, rest unchanged", is_replaced, replaced),
        figure("  of them alone", is_replaced, alone),
        figure("  of them in pairs", is_replaced, pairs),
        figure("attribute changed", is_changed, changed),
        *(figure(f"  of them {name}", is_changed, results) for name, results in by_change.items()),
        figure("  and all else unchanged", is_all_as_said, changed),
    ]


def steps_at(image: Image.Image, column: int) -> np.ndarray:
    """Mean differences, of 255, of the px left and right of a column's edge: one for each row."""
    pixels = np.asarray(image, np.float32)
    return np.abs(pixels[:, column] - pixels[:, column - 1]).mean(-1)


def main() -> None:
    """Measure, print the figures, and write the pictures where they are wanted."""
    parser = argparse.ArgumentParser(prog="python -m amused_lite.evaluation.editing", description=__doc__)
    parser.add_argument("-m", "--model", default="tiny", help="as for generate (default: %(default)s)")
    parser.add_argument("--runtime", default="auto", help="as for generate")
    parser.add_argument("--threads", type=int, help="processor threads")
    parser.add_argument("--cases", type=int, default=50, help="of each kind (default: %(default)s)")
    parser.add_argument("--judge", type=Path, help="the judge's weights; taught once, in about 8 minutes, if absent")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="write the guide's pictures there")
    args = parser.parse_args()
    amused = AmusedPipeline.open(args.model, args.runtime, args.threads, keep_loaded=True)
    path = args.judge or default_judge_path()
    judge = Judge.load(path) if path.exists() else train_judge(path=path)

    def watched(name: str, results: Iterator[Any]) -> list[Any]:
        return list(tqdm(results, name, args.cases, file=sys.stderr))

    replaced = watched("replacing", replace_things(amused, judge, args.cases))
    changed = watched("changing", change_things(amused, judge, args.cases))
    widened = watched("widening", widen_pictures(amused, args.cases))
    print(table({amused.info.name: figures(replaced, changed)}))
    images, plain = ([pair[place] for pair in widened] for place in (0, 1))
    print(_seams("step where the picture ends", images, SIZE))
    print(_seams("the same with --feather 0", plain, SIZE))
    print(_seams("an eighth of a picture further", images, SIZE + SIZE // 8))
    if args.images:
        write_pictures(amused, replaced, changed, images, args.images)


def write_pictures(
    amused: AmusedPipeline,
    replaced: list[EditOutcome],
    changed: list[EditOutcome],
    widened: list[Image.Image],
    folder: Path,
) -> None:
    """The first cases of each kind, nothing selected."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [(result.case, (result.case.image, _marked(result.case), result.image)) for result in replaced[:ROWS]]
    _strips(rows, ("before", "marked"), folder / "editing-inpaint.png")
    rows = [(result.case, (result.case.image, result.image)) for result in changed[:ROWS]]
    _strips(rows, ("before",), folder / "editing-edit.png")
    wide = Image.new("RGB", (SIZE, SIZE // 2 * len(widened[:ROWS])))
    for number, image in enumerate(widened[:ROWS]):
        wide.paste(image.resize((SIZE, SIZE // 2), Image.Resampling.LANCZOS), (0, number * SIZE // 2))
    wide.save(folder / "editing-outpaint.png")
    case = changed[0].case
    strengths = (0.3, 0.5, 0.7, 1.0)
    tasks = [vary(amused, case.image, case.prompt, strength=value, seed=0) for value in strengths]
    pictures = [amused.run(task).image for task in tasks]
    captions = ["before", *(f"strength {value:g}: {case.prompt}" for value in strengths)]
    contact_sheet([case.image, *pictures], captions, folder / "editing-vary.png", columns=len(captions))


def _strips(rows: list[tuple[Case, tuple[Image.Image, ...]]], names: tuple[str, ...], path: Path) -> None:
    """Two cases a row, each with its prompt below the last picture."""
    pictures = [image for _, images in rows for image in images]
    captions = [text for case, _ in rows for text in (*names, case.prompt)]
    contact_sheet(pictures, captions, path, columns=2 * (len(names) + 1))


def _marked(case: Case) -> Image.Image:
    image = case.image
    ImageDraw.Draw(image).rectangle(case.mask.getbbox() or (0, 0, 0, 0), fill=(255, 255, 255))
    return image


def _seams(name: str, images: list[Image.Image], column: int) -> str:
    """How a column's edge looks: the step in the middle row by size, and how many rows are torn."""
    steps = np.stack([steps_at(image, column) for image in images])
    middle, torn = np.median(steps, 1), (steps > TORN).mean()
    return (
        f"{name:<34}{np.median(middle):.2f} of 255 (at most {middle.max():.2f}), torn rows {torn:.1%}, n={len(images)}"
    )


def _scene(layouts: tuple[str, ...], key: str) -> Scene:
    """The first scene of a stream that has one of these layouts; none that training reads."""
    seed = Random(key).randrange(2**31, 2**32)
    return next(scene for index in range(10_000) if (scene := random_scene(seed, index)).layout in layouts)


def _other_thing(scene: Scene, place: int, rng: Random) -> Scene:
    """With another kind in another colour at one place, in a combination that training knows."""
    _, colour = scene.subjects[place]
    taken = {name for name, _ in scene.subjects}
    while True:
        new = rng.choice([name for name in KINDS if name not in taken]), rng.choice([c for c in COLOURS if c != colour])
        subjects = (*scene.subjects[:place], new, *scene.subjects[place + 1 :])
        if not is_heldout(after := replace(scene, subjects=subjects)):
            return after


def _other_attribute(scene: Scene, name: str, rng: Random) -> Scene:
    """With one attribute changed, in a combination that training knows."""
    kind, colour = scene.subjects[0]
    while True:
        if name == "backdrop":
            return replace(scene, backdrop=rng.choice([other for other in BACKDROPS if other != scene.backdrop]))
        if name == "colour":
            subject = kind, rng.choice([other for other in COLOURS if other != colour])
        else:
            subject = rng.choice([other for other in KINDS if other != kind]), colour
        if not is_heldout(after := replace(scene, subjects=(subject,))):
            return after


def _change(case: Case) -> str:
    if case.before.backdrop != case.after.backdrop:
        return "backdrop"
    return "colour" if case.before.subjects[0][0] == case.after.subjects[0][0] else "kind"


if __name__ == "__main__":
    main()
