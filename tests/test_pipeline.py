"""The host loop's rules, on a small runtime that computes the published step in NumPy from a table of logits."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from amused_lite.conditioning import Conditioning, MicroConditioning
from amused_lite.config import ModelConfig, TextConfig, UViTConfig, VQGANConfig
from amused_lite.pipeline import AmusedPipeline
from amused_lite.runtimes.base import (
    ModelInfo,
    StepControls,
    StepNoise,
    check_prompt,
    check_step,
    check_tokens,
    conditioning_shapes,
)
from amused_lite.sampling.loop import unmask_tokens
from amused_lite.sampling.schedule import mask_schedule
from amused_lite.sampling.settings import GenerateOptions
from amused_lite.task import Task
from amused_lite.tokenizer import Tokenizer

CONFIG = ModelConfig(
    text=TextConfig(600, 16, 8, 2, 2, 16, 8, start_token_id=598, end_token_id=599),
    uvit=UViTConfig(
        grid=8,
        codebook_size=32,
        vocab_size=64,
        token_width=8,
        block_width=8,
        block_heads=2,
        res_blocks=1,
        hidden_size=8,
        layers=1,
        heads=2,
        feedforward_width=8,
        text_width=8,
        pooled_width=8,
        micro_width=4,
    ),
    vqgan=VQGANConfig(channels=(4, 4), latent_channels=4, codebook_size=32, norm="none"),
    guidance_scale=2.0,
)
N, K, MASK = CONFIG.uvit.num_tokens, CONFIG.uvit.codebook_size, CONFIG.uvit.mask_token_id


class TableRuntime:
    """A runtime whose logits are a fixed table plus what the prompt says; every rule of a step is the published one."""

    name = "table"
    first_step = ""
    config = CONFIG

    def __init__(self) -> None:
        self.table = np.random.default_rng(0).normal(0, 2, (CONFIG.uvit.vocab_size, K)).astype(np.float32)
        self.controls: list[StepControls] = []
        self.encoded: list[str] = []
        self.released: list[str] = []

    def encode_prompt(self, text_ids: np.ndarray, micro_conditioning: np.ndarray) -> Conditioning:
        check_prompt(CONFIG, text_ids, micro_conditioning)
        self.encoded.append(str(text_ids.sum()))
        value = np.float32(text_ids.sum() % 97 / 97)
        shapes = conditioning_shapes(CONFIG, len(text_ids))
        return Conditioning(*(np.full(shape, value, np.float32) for shape in shapes))

    def unmask(
        self, tokens: np.ndarray, conditioning: Conditioning, controls: StepControls, noise: StepNoise
    ) -> tuple[np.ndarray, np.ndarray]:
        check_step(CONFIG, tokens, conditioning, controls, noise)
        self.controls.append(controls)
        says = conditioning.block_modulation[:, 0, 0, 0]
        negative, prompt = says[: len(tokens)], says[len(tokens) :]
        pull = (negative + controls.guidance_scale * (prompt - negative))[:, None, None]
        logits = self.table[tokens] + pull * np.arange(K, dtype=np.float32)
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        drawn = (log_probs / controls.token_temperature + noise.token_noise).argmax(-1).astype(np.int32)
        unknown = tokens == MASK
        sampled_tokens = np.where(unknown, drawn, tokens)
        chosen = np.take_along_axis(log_probs, drawn[..., None], -1)[..., 0]
        confidence = np.where(unknown, chosen + controls.mask_temperature * noise.order_noise, np.float32(1e4))
        rank = (confidence[:, None, :] <= confidence[:, :, None]).sum(-1)
        return np.where(rank <= controls.num_masked[:, None], np.int32(MASK), sampled_tokens), sampled_tokens

    def decode_image(self, tokens: np.ndarray) -> np.ndarray:
        check_tokens(CONFIG, tokens)
        grey = (tokens / np.float32(K - 1)).astype(np.float32).reshape(len(tokens), 1, 8, 8)
        return np.ascontiguousarray(grey.repeat(3, 1).repeat(2, 2).repeat(2, 3))

    def encode_image(self, pixels: np.ndarray) -> np.ndarray:
        return np.rint(pixels[:, 0, ::2, ::2] * (K - 1)).astype(np.int32).reshape(len(pixels), N)

    def release(self, module: str) -> None:
        self.released.append(module)


def conditioning(rows: int) -> Conditioning:
    return Conditioning(*(np.zeros(shape, np.float32) for shape in conditioning_shapes(CONFIG, 2 * rows)))


def final(runtime: TableRuntime, rows: int = 1, image_index: int = 0, **options: Any) -> np.ndarray:
    *_, last = unmask_tokens(runtime, conditioning(rows), GenerateOptions(**options), image_index)
    return last.tokens


@pytest.mark.parametrize("steps", [1, 2, 7, 12, 64])
def test_the_schedule_is_kept_and_known_tokens_stay(steps: int) -> None:
    before = np.full((1, N), MASK)
    counts = []
    for step in unmask_tokens(TableRuntime(), conditioning(1), GenerateOptions(steps=steps, seed=1)):
        known = before != MASK
        assert (step.tokens[known] == before[known]).all()
        assert (step.sampled_tokens[step.tokens != MASK] == step.tokens[step.tokens != MASK]).all()
        assert (step.sampled_tokens < K).all()
        counts.append(int((step.tokens == MASK).sum()))
        before = step.tokens
    assert counts == mask_schedule(N, steps)


def test_a_seed_is_a_picture() -> None:
    runtime = TableRuntime()
    np.testing.assert_array_equal(final(runtime, seed=5), final(runtime, seed=5))
    assert (final(runtime, seed=5) != final(runtime, seed=6)).any()
    assert (final(runtime, seed=5) != final(runtime, seed=5, image_index=1)).any()


def test_a_picture_of_a_batch_equals_itself_alone() -> None:
    runtime = TableRuntime()
    batch = final(runtime, rows=4, seed=9, image_index=2)
    for row in range(4):
        np.testing.assert_array_equal(batch[row : row + 1], final(runtime, seed=9, image_index=2 + row))


def test_temperatures_and_defaults_reach_the_runtime() -> None:
    runtime = TableRuntime()
    final(runtime, steps=5, mask_temperature=(4.0, 0.0))
    assert [control.mask_temperature for control in runtime.controls] == [4, 3, 2, 1, 0]
    assert {control[:2] for control in runtime.controls} == {(2.0, 1.0)}  # the model's own
    runtime.controls.clear()
    final(runtime, steps=2, guidance_scale=0.0, token_temperature=0.5)
    assert {control[:2] for control in runtime.controls} == {(0.0, 0.5)}  # 0 is a choice, not a missing value


def test_given_tokens_are_kept_and_rows_may_have_different_holes() -> None:
    start = np.tile(np.arange(N, dtype=np.int32) % K, (3, 1))
    start[0, :10], start[1, 5:60] = MASK, MASK  # the third row has nothing to draw
    steps = list(unmask_tokens(TableRuntime(), conditioning(3), GenerateOptions(steps=6, seed=3), tokens=start))
    assert [(step.tokens == MASK).sum(-1).tolist() for step in steps] == [
        [a, b, 0] for a, b in zip(mask_schedule(10, 6), mask_schedule(55, 6), strict=True)
    ]
    kept = start != MASK
    assert (steps[-1].tokens[kept] == start[kept]).all()


def test_closing_early_stops_the_work() -> None:
    runtime = TableRuntime()
    steps = unmask_tokens(runtime, conditioning(1), GenerateOptions(steps=12))
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert len(runtime.controls) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be 1 to 1048576, got 0"),
        ({"seed": -1}, "seed must be 0 to"),
        ({"seed": 2**64}, "seed must be 0 to"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be 0 to 100, got nan"),
        ({"guidance_scale": -1}, "guidance_scale"),
        ({"token_temperature": 0}, "token_temperature must be 0.01 to 10"),
        ({"mask_temperature": (2.0, -1.0)}, "mask_temperature"),
        ({"mask_temperature": (float("inf"), 0.0)}, "mask_temperature"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GenerateOptions(**options)


def test_more_steps_than_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match=f"at most {N} for this model"):
        final(TableRuntime(), steps=N + 1)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["a red balloon above a blue house"], vocab_size=600, context_length=16)


@pytest.fixture
def amused(tokenizer: Tokenizer) -> AmusedPipeline:
    return AmusedPipeline(TableRuntime(), tokenizer, ModelInfo("table", "00" * 32))


def test_a_picture_carries_its_recipe(amused: AmusedPipeline) -> None:
    picture = amused.generate("a red balloon", "blue", image_index=2, seed=4, steps=5)
    assert picture.image.size == (16, 16)
    recipe = picture.recipe
    assert (recipe.prompt, recipe.negative_prompt, recipe.seed, recipe.picture) == ("a red balloon", "blue", 4, 2)
    assert (recipe.steps, recipe.guidance_scale, recipe.micro_conditioning) == (5, 2.0, (16, 16, 0, 0, 6))
    again = amused.finish(Task("a red balloon", "blue", GenerateOptions(seed=4, steps=5), 2), recipe.tokens)
    np.testing.assert_array_equal(np.asarray(again.image), np.asarray(picture.image))


def test_prompts_matter(amused: AmusedPipeline) -> None:
    images = [
        amused.generate(*words, seed=1).recipe.tokens.tobytes()
        for words in (("a red balloon",), ("a blue house",), ("a red balloon", "a blue house"))
    ]
    assert len(set(images)) == 3


def test_the_empty_prompt_is_encoded_once(amused: AmusedPipeline) -> None:
    runtime = amused.runtime
    assert isinstance(runtime, TableRuntime)
    amused.generate("a red balloon", seed=1)
    amused.generate("a red balloon", seed=2)
    amused.generate("a blue house", seed=1)
    assert len(runtime.encoded) == 3  # the empty one, and two prompts
    sized = MicroConditioning(16, 16, aesthetic_score=3)
    amused.generate("a blue house", seed=1, micro_conditioning=sized)
    assert len(runtime.encoded) == 5  # another micro-conditioning, another empty prompt


def test_modules_are_released_when_done(amused: AmusedPipeline, tokenizer: Tokenizer) -> None:
    runtime = amused.runtime
    assert isinstance(runtime, TableRuntime)
    amused.generate("a red balloon")
    assert runtime.released == ["encode_prompt", "unmask"]
    kept = AmusedPipeline(TableRuntime(), tokenizer, ModelInfo("table", ""), keep_loaded=True)
    kept.generate("a red balloon")
    assert isinstance(kept.runtime, TableRuntime) and kept.runtime.released == []


@pytest.mark.parametrize("prompt", ["", "  \n\t ", "word " * 10_000, "a \udcff"])
def test_impossible_prompts_are_refused(amused: AmusedPipeline, prompt: str) -> None:
    with pytest.raises(ValueError, match="prompt"):
        amused.generate(prompt)


def test_errors_come_before_the_first_step(amused: AmusedPipeline) -> None:
    with pytest.raises(ValueError, match="steps"):
        amused.steps(Task("a red balloon", options=GenerateOptions(steps=N + 1)))
    with pytest.raises(ValueError, match="empty"):
        amused.steps(Task(" "))


def test_options_are_values() -> None:
    assert replace(GenerateOptions(), seed=3) == GenerateOptions(seed=3)
