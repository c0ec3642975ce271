"""What a trace says of a picture is what happened: on the bundled model, compared with the steps themselves."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amused_lite.analysis import trace as look
from amused_lite.analysis.trace import Trace, colour_preview, colours_of, film_frames, overlay, write_film, write_maps
from amused_lite.cli import main
from amused_lite.files.png import read_recipe
from amused_lite.pipeline import AmusedPipeline
from amused_lite.sampling.loop import Step, unmask_tokens
from amused_lite.sampling.settings import GenerateOptions
from amused_lite.task import Task

PROMPT = "a red balloon in a meadow"
STEPS, MASK = 5, 1087


@pytest.fixture(scope="module")
def amused() -> AmusedPipeline:
    return AmusedPipeline.open("tiny", "onnx", threads=1, keep_loaded=True)


@pytest.fixture(scope="module")
def steps(amused: AmusedPipeline) -> list[Step]:
    return list(amused.steps(Task(PROMPT, options=GenerateOptions(seed=2, steps=STEPS), trace=True)))


@pytest.fixture(scope="module")
def trace(steps: list[Step]) -> Trace:
    return Trace.of(steps, MASK)


def small(tokens: np.ndarray) -> Image.Image:
    """A decoder that needs no model."""
    return Image.fromarray((tokens.reshape(32, 32) % 256).astype(np.uint8)).convert("RGB").resize((128, 128))


def test_looking_changes_nothing(amused: AmusedPipeline, trace: Trace) -> None:
    plain = amused.generate(PROMPT, seed=2, steps=STEPS)
    np.testing.assert_array_equal(trace.tokens, plain.recipe.tokens)


def test_every_token_is_fixed_exactly_once(trace: Trace) -> None:
    known = trace.frames != MASK
    before = np.vstack([np.zeros((1, known.shape[1]), bool), known[:-1]])
    fixed = known & ~before
    assert (fixed.sum(0) == 1).all() and not (before & ~known).any()
    np.testing.assert_array_equal(fixed.argmax(0), trace.fixed_at)
    np.testing.assert_array_equal(np.take_along_axis(trace.frames, trace.fixed_at[None], 0)[0], trace.tokens)


def test_probabilities_are_those_of_the_law_in_the_step_that_fixed_the_token(steps: list[Step], trace: Trace) -> None:
    log_probs = np.stack([step.log_probs[0] for step in steps if step.log_probs is not None])
    places = np.arange(len(trace.tokens))
    own = np.exp(log_probs[trace.fixed_at, places, trace.tokens])
    np.testing.assert_array_equal(trace.probability, own)
    np.testing.assert_array_equal(
        trace.alternative_probability, np.exp(log_probs[trace.fixed_at[:, None], places[:, None], trace.alternatives])
    )
    assert (trace.alternatives[:, 0] == log_probs[trace.fixed_at, places].argmax(-1)).all()


def test_alternatives_are_the_likeliest_in_order(trace: Trace) -> None:
    assert trace.alternatives.shape == (1024, look.ALTERNATIVES)
    assert (np.diff(trace.alternative_probability, axis=1) <= 0).all()
    assert all(len(set(row)) == look.ALTERNATIVES for row in trace.alternatives.tolist())
    listed = (trace.alternatives == trace.tokens[:, None]).any(1)
    # A token that is not listed is less likely than all that are.
    assert (trace.probability[~listed] <= trace.alternative_probability[~listed, -1]).all()
    assert (trace.second_choice != trace.tokens).all()


def test_a_token_that_was_known_keeps_its_place_and_a_refined_one_counts_last(amused: AmusedPipeline) -> None:
    start = np.full((1, 1024), MASK, np.int32)
    start[0, :100] = 5
    options = GenerateOptions(seed=1, steps=2)
    conditioning = amused.condition(PROMPT, "", options)
    part = Trace.of(unmask_tokens(amused.runtime, conditioning, options, tokens=start, trace=True), MASK)
    assert (part.fixed_at[:100] == -1).all() and (part.fixed_at[100:] >= 0).all()
    assert (part.tokens[:100] == 5).all() and (part.probability[:100] == 1).all()
    refined = Trace.of(amused.steps(Task(PROMPT, options=GenerateOptions(seed=1, steps=2, refine=2), trace=True)), MASK)
    assert len(refined.frames) == 4
    assert (refined.fixed_at >= 2).sum() == int(0.3 * 1024)  # the share that refining draws again


def test_steps_without_their_law_are_refused(amused: AmusedPipeline) -> None:
    with pytest.raises(ValueError, match="trace=True"):
        Trace.of(amused.steps(Task(PROMPT, options=GenerateOptions(steps=1))), MASK)
    with pytest.raises(ValueError, match="no step"):
        Trace.of([], MASK)


def test_arrays_load_without_pickle(trace: Trace, tmp_path: Path) -> None:
    with np.load(trace.save(tmp_path / "a.npz"), allow_pickle=False) as found:
        for name in Trace.__dataclass_fields__:
            stored = {"sampled_tokens": "guesses"}.get(name, name)  # the file keeps its first name
            np.testing.assert_array_equal(found[stored], getattr(trace, name))


def test_the_colours_rise_evenly_in_brightness() -> None:
    colours = colours_of(np.linspace(0, 1, 33)).astype(float)
    linear = np.where(colours <= 0.04045 * 255, colours / 255 / 12.92, ((colours / 255 + 0.055) / 1.055) ** 2.4)
    lightness = 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16  # CIE L*, even to the eye
    steps = np.diff(lightness)
    assert (steps > 0).all()
    assert steps.max() < 2 * steps.mean()  # no step of the scale looks much larger than another
    assert lightness[0] < 20 and lightness[-1] > 85


def test_an_overlay_shows_each_value_in_its_cell() -> None:
    values = np.linspace(0, 1, 16)
    sheet = overlay(Image.new("RGB", (64, 64), "white"), values, (0, 1), "title", "{:.1f}".format, strength=1.0)
    assert sheet.width == 64 and sheet.height > 64  # the legend stands below
    cells = np.asarray(sheet)[8:64:16, 8:64:16].reshape(16, 3)
    np.testing.assert_array_equal(cells, colours_of(values))


def test_maps_are_written(trace: Trace, tmp_path: Path) -> None:
    paths = write_maps(trace, small, tmp_path / "maps")
    assert [path.name for path in paths] == ["when.png", "sure.png", "second-choice.png", "trace.npz"]
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == sorted(path.name for path in paths)
    np.testing.assert_array_equal(np.asarray(Image.open(paths[2])), np.asarray(small(trace.second_choice)))


def test_a_film_has_a_frame_for_each_step(trace: Trace, tmp_path: Path) -> None:
    frames = list(film_frames(trace, small, MASK))
    assert len(frames) == STEPS
    film = Image.open(write_film(frames, tmp_path / "a.gif"))
    assert film.n_frames == STEPS  # type: ignore[attr-defined]  # Pillow's GIF class has it
    strip = Image.open(write_film(frames, tmp_path / "a.png"))
    assert strip.width > strip.height
    assert frames[-1].tobytes() == small(trace.tokens).tobytes()  # nothing is masked at the end
    paled = np.asarray(frames[0]) != np.asarray(small(trace.sampled_tokens[0]))
    assert paled.any(-1).mean() > 0.5  # most is, at first


def test_a_preview_is_the_colour_table() -> None:
    table = np.random.default_rng(0).integers(0, 256, (9, 3), dtype=np.uint8)
    tokens = np.arange(9, dtype=np.int32)
    preview = colour_preview(table, (3, 3))(tokens)
    np.testing.assert_array_equal(np.asarray(preview).reshape(9, 3), table)


def test_the_command_writes_maps_and_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["generate", PROMPT, "-s", "2", "--steps", "2", "-q", "-o", "a.png", "--film", "a.gif", "--quick-film"]
    assert main([*words, "--maps", "maps"]) == 0
    assert Image.open("a.gif").n_frames == 2  # type: ignore[attr-defined]
    with np.load("maps/trace.npz") as found:
        np.testing.assert_array_equal(found["tokens"], read_recipe("a.png").tokens)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--film", "a.avi"], "must end in .gif or .png"),
        (["--quick-film"], "add --film"),
        (["--maps", "m", "--best-of", "2"], "leave out --best-of"),
        (["--draft-steps", "4"], "add --best-of"),
        (["--grid"], "add --best-of"),
        (["--best-of", "2", "--draft-steps", "12"], "draft_steps must be 1 or more and below steps, 12"),
        (["--best-of", "2", "--ranker", "x"], "must be an architecture and its weights"),
        (["--best-of", "2", "--ranker", "ViT-B-32:w.pt"], "no safetensors file"),
        (["--best-of", "0"], "must be 1 or more"),
        (["--best-of", "99999"], "at most 256"),
        (["--from", "none.png"], "none.png"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code = main(["generate", PROMPT, *flags])
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line and list(tmp_path.iterdir()) == []
