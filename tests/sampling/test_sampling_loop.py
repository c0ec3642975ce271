"""The loop's choices on the bundled model: what is skipped, what stays, and that no runtime answers otherwise."""

from typing import Any

import numpy as np
import pytest

from amused_lite.conditioning import Conditioning
from amused_lite.pipeline import AmusedPipeline
from amused_lite.runtimes.torch import TorchRuntime
from amused_lite.sampling.distribution import halton_order
from amused_lite.sampling.first_step import FirstStep
from amused_lite.sampling.loop import (
    LIKELIHOOD_PASSES,
    mask_least_likely,
    token_log_likelihood,
    unmask_tokens,
)
from amused_lite.sampling.settings import GenerateOptions
from amused_lite.task import Task

PROMPT = "a red balloon on a meadow"


@pytest.fixture(scope="module")
def amused() -> AmusedPipeline:
    return AmusedPipeline.open("tiny", "onnx", threads=1, keep_loaded=True)


@pytest.fixture(scope="module")
def on_torch() -> AmusedPipeline:
    return AmusedPipeline.open("tiny", "torch", keep_loaded=True)


def last_tokens(amused: AmusedPipeline, **options: Any) -> np.ndarray:
    *_, last = amused.steps(Task(PROMPT, options=GenerateOptions(**options)))
    return last.tokens


class Counting:
    """A runtime that notes how many rows of conditioning each step was given."""

    def __init__(self, amused: AmusedPipeline) -> None:
        self.inner, self.config, self.rows = amused.runtime, amused.runtime.config, []
        self.first_step = amused.runtime.first_step

    def unmask(self, tokens: np.ndarray, conditioning: Conditioning, *rest: Any) -> Any:
        self.rows.append(len(conditioning.block_text))
        return self.inner.unmask(tokens, conditioning, *rest)

    def predict(self, tokens: np.ndarray, conditioning: Conditioning, *rest: Any) -> Any:
        self.rows.append(len(conditioning.block_text))
        return self.inner.predict(tokens, conditioning, *rest)


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({}, [2] * 8),
        ({"guidance_interval": (0.25, 0.75)}, [1, 1, 2, 2, 2, 2, 1, 1]),
        ({"guidance_interval": (0.5, 1.0)}, [1] * 4 + [2] * 4),
        ({"guidance_schedule": "linear"}, [1] + [2] * 7),
        ({"guidance_scale": 1.0}, [1] * 8),
    ],
)
def test_unguided_steps_leave_out_the_negative_half(
    amused: AmusedPipeline, options: dict[str, Any], rows: list[int]
) -> None:
    runtime = Counting(amused)
    chosen = GenerateOptions(steps=8, **options)
    list(unmask_tokens(runtime, amused.condition(PROMPT, "", chosen), chosen))  # type: ignore[arg-type]
    assert runtime.rows == rows


@pytest.mark.parametrize(("kept", "asked"), [("halves", [1] * 5), ("whole", [2, 2, 2, 1])])
def test_the_first_step_is_computed_once_for_a_prompt_and_its_negative_half_once_for_all(
    amused: AmusedPipeline, kept: str, asked: list[int]
) -> None:
    """Two seeds, another prompt, another scale, no guidance: the tokens of a run that remembers nothing."""
    runtime = Counting(amused)
    runtime.first_step = kept
    first = FirstStep(runtime)  # type: ignore[arg-type]
    for prompt, seed, scale in ((PROMPT, 1, 3.0), (PROMPT, 2, 3.0), ("a blue star", 2, 3.0), ("a blue star", 2, 5.0)):
        options = GenerateOptions(steps=2, seed=seed, guidance_scale=scale)
        pair = amused.condition(prompt, "", options)
        expected, got = (list(unmask_tokens(amused.runtime, pair, options, first=memory)) for memory in (None, first))
        for one, other in zip(expected, got, strict=True):
            np.testing.assert_array_equal(one.tokens, other.tokens)
            np.testing.assert_array_equal(one.sampled_tokens, other.sampled_tokens)
    unguided = GenerateOptions(steps=2, guidance_scale=1.0)
    list(unmask_tokens(runtime, pair, unguided, first=first))  # type: ignore[arg-type]
    assert runtime.rows == [*asked, 1]  # and the second, unguided step
    late = GenerateOptions(steps=2, seed=1)
    list(unmask_tokens(amused.runtime, pair, late, tokens=got[0].tokens, first_step=1, first=first))
    assert runtime.rows == [*asked, 1]  # nothing is remembered of a step in which tokens are known


def test_weights_in_training_are_never_remembered(amused: AmusedPipeline, on_torch: AmusedPipeline) -> None:
    assert isinstance(on_torch.runtime, TorchRuntime)
    assert TorchRuntime.from_networks(on_torch.runtime.networks()).first_step == ""
    assert (amused.runtime.first_step, on_torch.runtime.first_step) == ("halves", "halves")


def test_linear_guidance_rises_from_one_to_the_scale(amused: AmusedPipeline) -> None:
    settings = GenerateOptions(steps=5, guidance_scale=9.0, guidance_schedule="linear").complete(amused.runtime.config)
    assert settings.guidance_scales() == [1, 3, 5, 7, 9]


BENT = [
    {"order": "halton"},
    {"top_k": 3},
    {"top_p": 0.8},
    {"min_p": 0.2},
    {"mask_schedule": "arccos"},
    {"guidance_interval": (0.0, 0.5)},
    {"refine": 2},
    {"order": "halton", "top_p": 0.9, "guidance_schedule": "linear", "mask_schedule": "square", "refine": 1},
]


@pytest.mark.parametrize("options", BENT, ids=lambda options: ",".join(options))
def test_every_choice_gives_the_same_tokens_on_onnx_and_torch(
    amused: AmusedPipeline, on_torch: AmusedPipeline, options: dict[str, Any]
) -> None:
    ours = last_tokens(amused, steps=4, seed=5, **options)
    np.testing.assert_array_equal(ours, last_tokens(on_torch, steps=4, seed=5, **options))
    assert (ours != last_tokens(amused, steps=4, seed=5)).any()  # and the choice changes something


def test_looking_changes_nothing(amused: AmusedPipeline) -> None:
    options = GenerateOptions(steps=4, seed=2)
    plain = list(amused.steps(Task(PROMPT, options=options)))
    looked = list(amused.steps(Task(PROMPT, options=options, trace=True)))
    for one, other in zip(plain, looked, strict=True):
        np.testing.assert_array_equal(one.tokens, other.tokens)
        np.testing.assert_array_equal(one.sampled_tokens, other.sampled_tokens)
        assert one.log_probs is None and other.log_probs is not None
        np.testing.assert_allclose(np.exp(other.log_probs).sum(-1), 1, atol=1e-4)  # of 1024 float32 terms


def test_halton_fixes_tokens_in_its_own_order(amused: AmusedPipeline) -> None:
    mask = amused.runtime.config.uvit.mask_token_id
    fixed: list[int] = []
    for step in amused.steps(Task(PROMPT, options=GenerateOptions(steps=6, order="halton"))):
        known = np.flatnonzero(step.tokens[0] != mask)
        fixed += sorted(set(known.tolist()) - set(fixed))
        assert set(fixed) == set(halton_order((32, 32))[: len(fixed)].tolist())
    assert len(fixed) == 1024


def test_a_late_entry_uses_the_late_steps(amused: AmusedPipeline) -> None:
    """Entering where a whole run stood, with the noise of those steps, ends as the whole run does."""
    options = GenerateOptions(steps=6, seed=9)
    conditioning = amused.condition(PROMPT, "", options)
    whole = list(unmask_tokens(amused.runtime, conditioning, options))
    *_, late = unmask_tokens(
        amused.runtime, conditioning, options, tokens=whole[2].tokens, first_step=3, open_tokens=1024
    )
    np.testing.assert_array_equal(late.tokens, whole[-1].tokens)


def test_refining_redraws_the_least_sure_and_keeps_the_rest(amused: AmusedPipeline) -> None:
    options = GenerateOptions(steps=4, seed=3)
    conditioning = amused.condition(PROMPT, "", options)
    *_, last = unmask_tokens(amused.runtime, conditioning, options)
    sure = token_log_likelihood(amused.runtime, conditioning, last.tokens, 3.0)
    start = mask_least_likely(last.tokens, sure, 307, amused.runtime.config.uvit.mask_token_id)
    hidden = start != last.tokens
    assert hidden.sum() == 307 and sure[hidden].max() <= sure[~hidden].min()
    refined = last_tokens(amused, steps=4, seed=3, refine=2)
    np.testing.assert_array_equal(refined[~hidden], last.tokens[~hidden])
    task = Task(PROMPT, options=GenerateOptions(steps=4, refine=2))
    steps = [(step.index, step.steps) for step in amused.steps(task)]
    assert steps == [(i, 6) for i in range(6)]


def test_sureness_hides_every_token_once_and_judges_it_from_the_rest(amused: AmusedPipeline) -> None:
    """Against a plain loop: the same parts, one prediction each."""
    options = GenerateOptions(steps=2, seed=4)
    conditioning = amused.condition(PROMPT, "", options)
    *_, last = unmask_tokens(amused.runtime, conditioning, options)
    sure = token_log_likelihood(amused.runtime, conditioning, last.tokens, 3.0)
    place = 517
    part = int(np.flatnonzero(halton_order((32, 32)) == place)[0]) % LIKELIHOOD_PASSES
    hidden = last.tokens.copy()
    hidden[0, halton_order((32, 32))[part::LIKELIHOOD_PASSES]] = amused.runtime.config.uvit.mask_token_id
    log_probs = amused.runtime.predict(hidden, conditioning, 3.0)
    assert sure[0, place] == log_probs[0, place, last.tokens[0, place]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k must be 1 to 16777216, got 0"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, got 0"),
        ({"top_p": float("nan")}, "top_p must be above 0"),
        ({"min_p": 0.0}, "min_p must be above 0 and at most 1, got 0"),
        ({"order": "random"}, "order 'random' is unknown; choose one of confidence, halton"),
        ({"mask_schedule": "sine"}, "mask_schedule 'sine' is unknown"),
        ({"guidance_schedule": "cosine"}, "guidance_schedule 'cosine' is unknown; choose one of constant, linear"),
        ({"guidance_interval": (0.8, 0.2)}, "guidance_interval must rise, got 0.8 to 0.2"),
        ({"guidance_interval": (0.0, 1.5)}, "guidance_interval must be 0 to 1, got 1.5"),
        ({"refine": -1}, "refine must be 0 to 1000, got -1"),
    ],
)
def test_impossible_choices_are_explained(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        GenerateOptions(**options)
