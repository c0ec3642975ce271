"""The unmask step against diffusers' AmusedScheduler, fed the same random numbers, and its own promises."""

import published
import pytest
import torch
from diffusers import AmusedScheduler
from torch import Tensor

from amused_lite.conditioning import Conditioning
from amused_lite.config import PRESETS
from amused_lite.models.networks import Networks
from amused_lite.models.unmask import UnmaskStep, UnmaskTail, draw_tokens, guide, remask
from amused_lite.sampling.schedule import mask_schedule

CODES, MASK = 96, 120
ONE = torch.ones(1)


class TableModel:
    """Logits that depend on every token, without a network."""

    def __init__(self, tokens: int) -> None:
        generator = torch.Generator().manual_seed(99)
        self.table = torch.randn(MASK + 1, CODES, generator=generator) * 3
        self.places = torch.randn(tokens, CODES, generator=generator) * 2

    def __call__(self, tokens: Tensor) -> Tensor:
        seen = self.table[tokens]
        return seen.mean(1, keepdim=True) * 4 + seen * 0.3 + self.places


@pytest.mark.parametrize("steps", [4, 8, 12, 16, 18, 20, 24])
@pytest.mark.parametrize("tokens", [256, 1024])
@torch.no_grad()
def test_every_grid_equals_diffusers_scheduler(tokens: int, steps: int) -> None:
    model, tail, batch = TableModel(tokens), UnmaskTail(MASK), 2
    different = compared = 0
    for seed in range(5):
        scheduler = AmusedScheduler(mask_token_id=MASK)
        scheduler.set_timesteps(steps, (2, 0))
        generator = torch.Generator().manual_seed(seed)
        noise = published.PublishedNoise(seed)
        temperatures = torch.linspace(2, 0, steps)
        theirs = torch.full((batch, tokens), MASK)
        ours = theirs.int()
        for index, num_masked in enumerate(mask_schedule(tokens, steps)):
            step = scheduler.step(model(theirs), scheduler.timesteps[index], theirs, generator=generator)
            theirs = step.prev_sample
            token_noise, order_noise = noise.draw(batch, tokens, CODES, last=index == steps - 1)
            counts = torch.full((batch,), num_masked, dtype=torch.int32)
            ours, sampled_tokens, _ = tail(
                model(ours.long()), ours, ONE, temperatures[index : index + 1], counts, token_noise, order_noise
            )
            different += int((ours != theirs).sum()) + int((sampled_tokens != step.pred_original_sample).sum())
            compared += 2 * ours.numel()
            assert int((ours == MASK).sum(1).max()) == num_masked
    print(f"{tokens} tokens, {steps} steps, 5 seeds: {different} of {compared:,} tokens differ from diffusers")
    assert different == 0


@torch.no_grad()
def test_known_tokens_are_never_masked_again() -> None:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, CODES, (3, 64), generator=generator, dtype=torch.int32)
    tokens[:, ::3] = MASK  # 22 of 64
    counts = torch.tensor([0, 7, 21], dtype=torch.int32)
    logits = torch.randn(3, 64, CODES, generator=generator) * 50
    order_noise = torch.randn(3, 64, generator=generator)
    token_noise = torch.randn(3, 64, CODES, generator=generator)
    after, sampled_tokens, _ = UnmaskTail(MASK)(logits, tokens, ONE, ONE * 9, counts, token_noise, order_noise)
    known = tokens != MASK
    assert torch.equal(after[known], tokens[known])
    assert torch.equal(sampled_tokens[known], tokens[known])
    assert (sampled_tokens < CODES).all()
    assert (after == MASK).sum(1).tolist() == [0, 7, 21]
    assert after.dtype == sampled_tokens.dtype == torch.int32


def test_ties_at_the_edge_follow_the_published_rule() -> None:
    confidence = torch.tensor([[0.0, 1.0, 1.0, 1.0, 2.0]])
    sampled_tokens = torch.arange(5, dtype=torch.int32)[None]
    published_rule = [confidence < confidence.sort(-1).values[:, k : k + 1] for k in range(5)]
    for k, masked in enumerate(published_rule):
        assert torch.equal(remask(confidence, sampled_tokens, torch.tensor([k]), MASK) == MASK, masked)


def test_the_draw_follows_the_law() -> None:
    """Adding Gumbel noise before the argmax draws each code as often as its probability says, at any temperature."""
    generator = torch.Generator().manual_seed(2)
    log_probs = torch.randn(7, generator=generator).log_softmax(-1)
    uniform = torch.rand(1, 200_000, 7, generator=generator)
    for temperature in (1.0, 0.5):
        drawn = draw_tokens(log_probs.expand(1, 200_000, 7), torch.tensor([temperature]), -(-uniform.log()).log())
        found = torch.bincount(drawn[0], minlength=7) / 200_000
        assert (found - (log_probs / temperature).softmax(-1)).abs().max() < 5e-3


def test_guidance_one_is_the_prompt_alone() -> None:
    negative, prompted = torch.randn(2, 3, 4)
    assert torch.allclose(guide(negative, prompted, ONE), prompted)
    assert torch.equal(guide(negative, prompted, 0 * ONE), negative)


@torch.no_grad()
def test_step_guides_features_as_if_they_were_logits() -> None:
    """The step mixes before the head; the published pipeline mixes after it."""
    torch.manual_seed(0)
    config = PRESETS["tiny"]
    networks = Networks(config).eval()
    published.shake(networks.uvit)
    side = networks.uvit.token_side
    conditioning = networks.uvit.prompt_side(
        torch.randn(4, 32, 192), torch.randn(4, 192), torch.tensor([[512.0, 512, 0, 0, 6]]).repeat(4, 1)
    )
    tokens = published.random_tokens(2, 32, config.uvit.vocab_size).int()
    negative, prompted = side(torch.cat([tokens, tokens]), conditioning).chunk(2)
    logits = guide(negative, prompted, ONE * 7)
    noise = published.PublishedNoise(3).draw(2, 1024, 1024, last=False)
    rest = (ONE, ONE, torch.tensor([300, 400], dtype=torch.int32), *noise)
    expected = UnmaskTail(config.uvit.mask_token_id)(logits, tokens, *rest)
    got = UnmaskStep(side)(tokens, *conditioning, ONE * 7, *rest)
    assert [torch.equal(a, b) for a, b in zip(got[:2], expected[:2], strict=True)] == [True, True]
    torch.testing.assert_close(got[2], expected[2], rtol=0, atol=1e-4)  # of about -20

    alone = Conditioning(*(array[2:] for array in conditioning))  # without the negative rows: half the work
    unguided = UnmaskTail(config.uvit.mask_token_id)(side(tokens, alone), tokens, *rest)
    got = UnmaskStep(side)(tokens, *alone, ONE * 7, *rest)
    assert [torch.equal(a, b) for a, b in zip(got, unguided, strict=True)] == [True, True, True]
