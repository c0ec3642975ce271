"""What each edit leaves alone, how much it draws, and that its recipe draws it again: on the bundled model."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_pipeline import CONFIG, TableRuntime, conditioning

from amused_lite.editing.operations import edit, inpaint, outpaint, reroll, vary
from amused_lite.editing.token_operations import FIRST_STEP, count_steps, edit_steps, pack_cells, unpack_cells
from amused_lite.files.images import SourceImage
from amused_lite.files.png import Edit, Recipe
from amused_lite.pipeline import AmusedPipeline, Picture
from amused_lite.sampling import loop, noise
from amused_lite.sampling.loop import Step, mask_least_likely, token_log_likelihood
from amused_lite.sampling.schedule import start_masked
from amused_lite.sampling.settings import GenerateOptions
from amused_lite.task import Task

PROMPT, OTHER = "a red balloon in a meadow", "a blue house at night"
N, CELL, GRID = 1024, 16, 32


@pytest.fixture(scope="module")
def amused() -> AmusedPipeline:
    return AmusedPipeline.open("tiny", "onnx", threads=1, keep_loaded=True)


@pytest.fixture(scope="module")
def picture(amused: AmusedPipeline) -> Picture:
    return amused.generate(PROMPT, seed=3, steps=4)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """Something the model did not draw, of another shape: 700 x 520 of smooth colours."""
    values = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((700, 520), Image.Resampling.BICUBIC)


def rectangle(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste(255, box)
    return mask


def masked_at_first(amused: AmusedPipeline, task: Task) -> np.ndarray:
    """bool (N,): the tokens that are open when the first step begins."""
    seen: list[np.ndarray] = []
    runtime = amused.runtime
    original = runtime.unmask

    def spy(tokens: np.ndarray, *rest: Any) -> Any:
        seen.append(tokens[0] == runtime.config.uvit.mask_token_id)
        return original(tokens, *rest)

    runtime.unmask = spy  # type: ignore[method-assign]
    try:
        next(amused.steps(task))
    finally:
        del runtime.unmask  # type: ignore[attr-defined]
    return seen[0]


def again(amused: AmusedPipeline, recipe: Recipe) -> np.ndarray:
    return last(amused, Task.from_recipe(recipe)).picture_tokens


def last(amused: AmusedPipeline, task: Task) -> Step:
    *_, step = amused.steps(task)
    return step


@pytest.mark.parametrize(("strength", "count"), [(0.3, 391), (0.5, 724), (0.7, 886), (1.0, 1024)])
def test_strength_says_how_many_tokens_are_masked(
    amused: AmusedPipeline, picture: Picture, strength: float, count: int
) -> None:
    task = vary(amused, picture, OTHER, strength=strength, seed=1, steps=12)
    assert masked_at_first(amused, task).sum() == count
    assert amused.total_steps(task) == int(12 * strength)


def test_which_tokens_are_masked_hangs_on_seed_and_picture(amused: AmusedPipeline, picture: Picture) -> None:
    task = vary(amused, picture, OTHER, seed=1)
    first = masked_at_first(amused, task)
    np.testing.assert_array_equal(masked_at_first(amused, vary(amused, picture, OTHER, seed=1)), first)
    for other in (vary(amused, picture, OTHER, seed=2), replace(task, image_index=1)):
        again = masked_at_first(amused, other)
        assert again.sum() == first.sum() == 724
        # of two independent draws of 724 of 1024, both hold 512 +- 8 (hypergeometric); 6 of that either way
        assert abs(int((again & first).sum()) - 512) < 48


def test_variations_keep_what_was_not_masked(amused: AmusedPipeline, picture: Picture) -> None:
    task = vary(amused, picture, OTHER, strength=0.5, seed=1, steps=4)
    kept = ~masked_at_first(amused, task)
    result = last(amused, task).tokens[0]
    np.testing.assert_array_equal(result[kept], picture.recipe.tokens[kept])
    assert (result[~kept] != picture.recipe.tokens[~kept]).mean() > 0.3  # another prompt: most of it is another thing


LOCK = rectangle((64, 64), (0, 0, 40, 30))  # of a picture of 512: px 0 to 320 and 0 to 240
LOCKED = np.zeros((GRID, GRID), bool)
LOCKED[:15, :20] = True


@pytest.mark.parametrize(
    ("operation", "settings"),
    [(vary, {"strength": 1.0}), (vary, {"strength": 0.5}), (edit, {"share": 0.5}), (reroll, {"share": 1.0})],
)
def test_locked_tokens_never_change(
    amused: AmusedPipeline, picture: Picture, operation: Any, settings: dict[str, float]
) -> None:
    task = operation(amused, picture, OTHER, lock=LOCK, seed=2, steps=3, **settings)
    for step in amused.steps(task):
        np.testing.assert_array_equal(step.tokens[0][LOCKED.ravel()], picture.recipe.tokens[LOCKED.ravel()])
    assert (step.tokens[0] != picture.recipe.tokens).mean() > 0.2
    if settings.get("strength") == 1.0:
        np.testing.assert_array_equal(masked_at_first(amused, task), ~LOCKED.ravel())
    elif "strength" in settings:
        assert masked_at_first(amused, task).sum() == start_masked(N - 300, 3, 2)


def test_inpainting_redraws_the_touched_cells_and_nothing_else(amused: AmusedPipeline, picture: Picture) -> None:
    mask = rectangle((512, 512), (100, 200, 161, 290))  # cells 6 to 10 across, 12 to 18 down
    cells = np.zeros((GRID, GRID), bool)
    cells[12:19, 6:11] = True
    task = inpaint(amused, picture, mask, OTHER, seed=1, steps=3)
    np.testing.assert_array_equal(masked_at_first(amused, task), cells.ravel())
    step = last(amused, task)
    np.testing.assert_array_equal(step.tokens[0][~cells.ravel()], picture.recipe.tokens[~cells.ravel()])
    result = np.asarray(amused.finish(task, step.tokens[0]).image)
    outside = np.asarray(mask) == 0
    np.testing.assert_array_equal(result[outside], np.asarray(picture.image)[outside])
    assert (result[~outside] != np.asarray(picture.image)[~outside]).any()


def test_without_pasting_the_picture_is_its_tokens(amused: AmusedPipeline, picture: Picture) -> None:
    mask = rectangle((512, 512), (100, 200, 161, 290))
    result = amused.run(inpaint(amused, picture, mask, OTHER, paste=False, seed=1, steps=2))
    np.testing.assert_array_equal(np.asarray(result.image), np.asarray(amused.decode(result.recipe.tokens)))


@pytest.mark.parametrize("paste", [True, False])
def test_a_large_picture_keeps_its_size_and_everything_around_the_square(
    amused: AmusedPipeline, photo: Image.Image, paste: bool
) -> None:
    mask = rectangle(photo.size, (600, 30, 660, 90))
    result = amused.run(inpaint(amused, photo, mask, OTHER, paste=paste, seed=1, steps=2))
    assert result.image.size == photo.size == (result.recipe.width, result.recipe.height)
    assert result.recipe.edit is not None
    left, top, side = result.recipe.edit.settings["box"]
    assert (left, top, side) == (176, 0, 512)  # 188 would be the end, 176 the last cell before it
    same = (np.asarray(result.image) == np.asarray(photo)).all(-1)
    area = np.asarray(mask) > 0
    if paste:
        assert same[~area].all()
    else:
        square = np.zeros_like(area)
        square[top : top + side, left : left + side] = True
        assert same[~square].all() and not same[square & ~area].all()


def test_own_tokens_are_used_and_others_are_read(amused: AmusedPipeline, picture: Picture, photo: Image.Image) -> None:
    def tokens(source: Any) -> np.ndarray:
        return vary(amused, source, OTHER).edit.tokens

    np.testing.assert_array_equal(tokens(picture), picture.recipe.tokens)
    read = tokens(picture.image)
    assert (read != picture.recipe.tokens).any()  # reading is not exact, which is why it is avoided
    for foreign in (replace(picture.recipe, model_hash="00"), replace(picture.recipe, width=1)):
        smaller = picture.image.resize((511, 511)) if foreign.width == 1 else picture.image
        assert (tokens(SourceImage(smaller, foreign)) != picture.recipe.tokens).any()
    whole = amused.runtime.encode_image(
        np.ascontiguousarray(
            np.asarray(photo.crop((90, 0, 610, 520)).resize((512, 512), 1), np.float32).transpose(2, 0, 1)
        )[None]
        / 255
    )
    np.testing.assert_array_equal(tokens(photo), whole[0])


def test_padding_uses_the_whole_picture_and_gives_its_shape_back(amused: AmusedPipeline, photo: Image.Image) -> None:
    result = amused.run(vary(amused, photo, OTHER, pad=True, strength=0.3, steps=4, seed=1))
    assert result.image.size == (512, 380)  # 700 x 520 to 512 wide
    reread = amused.decode(vary(amused, photo, OTHER, pad=True).edit.tokens).crop((0, 66, 512, 446))
    shrunk = photo.resize((512, 380), Image.Resampling.LANCZOS)
    error = np.asarray(reread, np.float32) - np.asarray(shrunk, np.float32)
    assert 10 * np.log10(255**2 / (error**2).mean()) > 20  # dB: the tokenizer's own, at the right place


@pytest.mark.parametrize("share", [0.08, 0.5])
def test_every_round_of_an_edit_draws_another_share(amused: AmusedPipeline, picture: Picture, share: float) -> None:
    before = picture.recipe.tokens
    rounds = list(amused.steps(edit(amused, picture, OTHER, share=share, seed=4, steps=5)))
    assert [(step.index, step.steps) for step in rounds] == [(i, 5) for i in range(5)]
    opened: list[set[int]] = []
    for step in rounds:
        changed = np.flatnonzero(step.tokens[0] != before)
        assert 0 < len(changed) <= int(share * N)
        opened.append(set(changed.tolist()))
        before = step.tokens[0]
    deal = int(1 / share)  # so many rounds until every token had its turn
    assert sum(map(len, opened[:deal])) == len(set.union(*opened[:deal]))


def test_edits_draw_from_the_likeliest_three(amused: AmusedPipeline, picture: Picture) -> None:
    task = edit(amused, picture, OTHER, share=0.1, seed=4, steps=1)
    assert task.options.top_k == 3
    conditioning = amused.condition(OTHER, "", task.options)
    step = last(amused, task)
    chance = np.flatnonzero(step.tokens[0] != picture.recipe.tokens)
    hidden = picture.recipe.tokens.copy()
    opened = np.argsort(-noise.mask_noise(4, 0, 0, N), kind="stable")[: int(0.1 * N)]
    assert set(chance) <= set(opened)
    hidden[opened] = amused.runtime.config.uvit.mask_token_id
    log_probs = amused.runtime.predict(hidden[None], conditioning, amused.runtime.config.guidance_scale)[0]
    rank = (log_probs[opened] > np.take_along_axis(log_probs[opened], step.tokens[0][opened, None], -1)).sum(-1)
    assert rank.max() <= 2 and rank.max() > 0


def test_the_least_sure_are_drawn_again(amused: AmusedPipeline, picture: Picture) -> None:
    task = reroll(amused, picture, share=0.2, seed=5, steps=3)
    assert (task.prompt, task.negative_prompt) == (PROMPT, "")
    conditioning = amused.condition(PROMPT, "", task.options)
    scale = amused.runtime.config.guidance_scale
    sure = token_log_likelihood(amused.runtime, conditioning, picture.recipe.tokens[None], scale)
    mask = amused.runtime.config.uvit.mask_token_id
    expected = mask_least_likely(picture.recipe.tokens[None], sure, 204, mask)[0] == mask
    np.testing.assert_array_equal(masked_at_first(amused, task), expected)
    result = last(amused, task).tokens[0]
    np.testing.assert_array_equal(result[~expected], picture.recipe.tokens[~expected])


@pytest.mark.parametrize("add", [{"right": 512}, {"left": 100, "top": 40}, {"bottom": 7}])
def test_outpainting_keeps_known_tokens_and_pixels(
    amused: AmusedPipeline, picture: Picture, add: dict[str, int]
) -> None:
    task = outpaint(amused, picture, OTHER, seed=6, steps=2, **add)
    result = amused.run(task)
    left, top = add.get("left", 0), add.get("top", 0)
    assert result.image.size == (512 + left + add.get("right", 0), 512 + top + add.get("bottom", 0))
    part = np.asarray(result.image)[top : top + 512, left : left + 512]
    np.testing.assert_array_equal(part, np.asarray(picture.image))
    row, column, rows, columns = task.edit.settings["known"]
    canvas = result.recipe.tokens.reshape(task.edit.settings["grid"])
    known = canvas[row : row + rows, column : column + columns]
    np.testing.assert_array_equal(known.ravel(), picture.recipe.tokens)
    assert canvas.size * 256 >= result.image.width * result.image.height
    assert amused.total_steps(task) == 2 * {"right": 2, "left": 3, "bottom": 1}[next(iter(add))]


def test_outpainting_again_goes_on_from_the_canvas(amused: AmusedPipeline, picture: Picture) -> None:
    first = amused.run(outpaint(amused, picture, right=256, seed=7, steps=1))
    second = outpaint(amused, first, bottom=256, seed=8, steps=1)
    assert second.edit.settings["known"] == (0, 0, 32, 48)
    np.testing.assert_array_equal(second.edit.tokens, first.recipe.tokens)
    square = vary(amused, SourceImage(first.image, first.recipe), OTHER)  # and its middle has tokens of its own
    canvas = first.recipe.tokens.reshape(32, 48)
    np.testing.assert_array_equal(square.edit.tokens, canvas[:, 8:40].ravel())


def test_a_picture_of_any_size_is_outpainted_at_its_own(amused: AmusedPipeline, photo: Image.Image) -> None:
    result = amused.run(outpaint(amused, photo, OTHER, left=70, bottom=13, seed=9, steps=1))
    assert result.image.size == (770, 533)
    np.testing.assert_array_equal(np.asarray(result.image)[:520, 70:], np.asarray(photo))


TASKS = {
    "vary": lambda a, p: vary(a, p, OTHER, "red", 2, 0.5, LOCK, steps=4, order="halton", guidance_interval=(0, 0.5)),
    "inpaint": lambda a, p: inpaint(a, p, LOCK, OTHER, steps=2, mask_schedule="linear", top_p=0.9, seed=2**64 - 1),
    "outpaint": lambda a, p: outpaint(a, p, OTHER, left=256, steps=1, seed=1),
    "edit": lambda a, p: edit(a, p, OTHER, share=0.2, steps=3, guidance_schedule="linear"),
    "reroll": lambda a, p: reroll(a, p, share=0.3, steps=2, lock=LOCK),
}


@pytest.mark.parametrize("operation", TASKS)
def test_a_recipe_is_enough_to_do_it_again(amused: AmusedPipeline, picture: Picture, operation: str) -> None:
    task = TASKS[operation](amused, picture)
    assert sum(1 for _ in amused.steps(task)) == amused.total_steps(task)
    result = amused.run(task)
    read = Recipe.from_json(result.recipe.to_json())
    assert read.edit is not None and read.edit.operation == operation
    np.testing.assert_array_equal(again(amused, read), result.recipe.tokens)
    assert count_steps(amused.runtime.config, read.options, read.edit) == amused.total_steps(task)


def test_a_plain_recipe_is_done_again_too(amused: AmusedPipeline, picture: Picture) -> None:
    np.testing.assert_array_equal(again(amused, picture.recipe), picture.recipe.tokens)


def test_no_runtime_edits_otherwise(amused: AmusedPipeline, picture: Picture) -> None:
    on_torch = AmusedPipeline.open("tiny", "torch", keep_loaded=True)
    for make in TASKS.values():
        ours, theirs = (last(one, make(one, picture)) for one in (amused, on_torch))
        np.testing.assert_array_equal(ours.tokens, theirs.tokens)


def test_edits_draw_noise_that_no_picture_and_no_other_step_has(
    amused: AmusedPipeline, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture varied under its own seed would else draw its own tokens again."""
    original, drawn = loop._draw_noise, []

    def spy(config: Any, settings: Any, pictures: range, step: int, needed: Any) -> Any:
        drawn.append(step)
        return original(config, settings, pictures, step, needed)

    monkeypatch.setattr(loop, "_draw_noise", spy)
    for make in TASKS.values():
        drawn.clear()
        task = make(amused, picture)
        last(amused, task)
        assert len(drawn) == len(set(drawn)) == amused.total_steps(task)
        assert min(drawn) >= FIRST_STEP > 1000 * 1000  # beyond the most steps and refining steps a picture can have


def test_cells_survive_packing() -> None:
    for count in (1, 8, 64, 1001):
        cells = np.random.default_rng(count).random(count) < 0.5
        np.testing.assert_array_equal(unpack_cells(pack_cells(cells), count), cells)
    assert pack_cells(None) is None and not unpack_cells(None, 5).any()
    with pytest.raises(ValueError, match="the model has 1024"):
        unpack_cells(pack_cells(np.ones(64, bool)), 1024)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda a, p: vary(a, p, OTHER, strength=0.0), "strength must be above 0 and at most 1, got 0"),
        (lambda a, p: vary(a, p, OTHER, strength=1.5), "strength must be above 0 and at most 1, got 1.5"),
        (lambda a, p: vary(a, p, OTHER, strength=0.05), "less than one step"),
        (lambda a, p: vary(a, p, ""), "the prompt is empty"),
        (lambda a, p: vary(a, p.image), "holds no prompt of its own"),
        (lambda a, p: vary(a, p, OTHER, refine=2), "refine is for new pictures"),
        (lambda a, p: vary(a, p, OTHER, steps=2000), "steps must be at most 1024"),
        (lambda a, p: vary(a, p, OTHER, lock=Image.new("L", (8, 8), 255)), "the mask marks the whole picture"),
        (lambda a, p: edit(a, p, OTHER, share=0), "share must be above 0 and at most 1, got 0"),
        (lambda a, p: reroll(a, p, share=float("nan")), "share must be above 0 and at most 1, got nan"),
        (lambda a, p: inpaint(a, p, Image.new("L", (8, 8)), OTHER), "the mask marks nothing"),
        (lambda a, p: inpaint(a, p, LOCK, OTHER, feather=-1), "feather must be 0 px or more, got -1"),
        (lambda a, p: outpaint(a, p, OTHER), "must be 0 px or more and not all 0, got 0, 0, 0, 0"),
        (lambda a, p: outpaint(a, p, OTHER, left=-5), "must be 0 px or more and not all 0, got -5, 0, 0, 0"),
        (lambda a, p: outpaint(a, p, OTHER, right=40_000), r"40512x512 px \(81024 tokens\) are too many"),
        (
            lambda a, p: outpaint(a, Image.new("RGB", (16, 16_000)), OTHER, top=16),
            r"16x16016 px \(1025024 tokens\) are too many: at most 16384 px a side",
        ),
    ],
)
def test_impossible_edits_are_explained_before_the_first_step(
    amused: AmusedPipeline, picture: Picture, make: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(amused, picture)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operation": "bake"}, "edit 'bake' is unknown"),
        ({"settings": {}}, "is not whole"),
        ({"settings": {"strength": "a", "locked": None}}, "is not whole"),
        ({"settings": {"strength": 0.5, "locked": "%%"}}, "is not whole"),
        ({"settings": {"strength": 0.5, "locked": "AAAA"}}, "the model has 1024"),
        ({"tokens": np.zeros(64, np.int32)}, "64 tokens, this model takes 1024"),
        (
            {"operation": "outpaint", "settings": {"grid": [10**9, 10**9], "known": [0, 0, 1, 1]}},
            "canvas of 1000000000",
        ),
        ({"operation": "outpaint", "settings": {"grid": [64, 32], "known": [40, 0, 32, 32]}}, "canvas of 64x32"),
        (
            {"operation": "outpaint", "settings": {"grid": [64, 32], "known": [0, 0, 30, 32]}},
            "has 1024 tokens, expected 30",
        ),
        ({"operation": "outpaint", "settings": {"grid": [64], "known": [0, 0, 32, 32]}}, "not enough values"),
    ],
)
def test_tampered_records_are_explained(
    amused: AmusedPipeline, picture: Picture, change: dict[str, Any], message: str
) -> None:
    record = replace(Edit("vary", {"strength": 0.5, "locked": None}, picture.recipe.tokens), **change)
    options = picture.recipe.options
    with pytest.raises(ValueError, match=message):
        edit_steps(amused.runtime, amused.condition(PROMPT, "", options), options, 0, record)


@pytest.mark.parametrize(
    ("grid", "known"),
    [
        ((8, 16), (0, 0, 8, 8)),
        ((8, 12), (0, 4, 8, 8)),
        ((9, 40), (1, 13, 8, 8)),
        ((29, 31), (10, 11, 8, 9)),
        ((40, 8), (0, 0, 8, 8)),
        ((24, 24), (16, 16, 8, 8)),
        ((20, 50), (3, 0, 10, 30)),
    ],
)
def test_windows_fill_every_canvas_from_the_known_tokens_outwards(
    grid: tuple[int, int], known: tuple[int, int, int, int]
) -> None:
    """On a runtime of 8 x 8 tokens that notes what it is shown."""
    runtime = TableRuntime()
    top, left, rows, columns = known
    record = Edit("outpaint", {"grid": grid, "known": known}, np.arange(rows * columns, dtype=np.int32) % 32)
    options = GenerateOptions(steps=2)
    original, shown = runtime.unmask, []

    def spy(tokens: np.ndarray, *rest: Any) -> Any:
        shown.append(tokens[0] != CONFIG.uvit.mask_token_id)
        return original(tokens, *rest)

    runtime.unmask = spy  # type: ignore[method-assign]
    steps = list(edit_steps(runtime, conditioning(1), options, 0, record))
    assert len(steps) == len(shown) == count_steps(CONFIG, options, record) == steps[0].steps
    assert [step.index for step in steps] == list(range(len(steps)))
    for step in steps:
        canvas = step.tokens[0].reshape(grid)
        np.testing.assert_array_equal(canvas[top : top + rows, left : left + columns].ravel(), record.tokens)
    assert (canvas < 32).all()  # no masks are left
    assert min(seen.sum() for seen in shown[::2]) >= 3 * 7  # of 64: half a window less its edges of one token
    middle = steps[1].tokens[0].reshape(grid)
    if grid[1] - left - columns >= 8:  # the edge of the first window is open again, for the next one to draw
        assert (middle == CONFIG.uvit.mask_token_id).any(0)[left + columns + 3]
