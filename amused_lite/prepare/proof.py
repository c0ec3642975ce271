"""The self-test of a prepared model: what torch computes of the published weights, and how near the bundle comes.

Torch runs first and its results wait in a file, so that its weights and the bundle's are never in memory together. The
bounds tell a wrong graph or weight from rounding: random weights, of which 8 bits leave little, must pass them too.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from amused_lite.bundle import Bundle
from amused_lite.conditioning import Conditioning, stack_pair
from amused_lite.config import ModelConfig
from amused_lite.export.colours import colour_grids, fit_colours
from amused_lite.export.parity import Lockstep
from amused_lite.models.networks import Weights, empty_part, fill
from amused_lite.runtimes.base import Runtime
from amused_lite.runtimes.open import open_engine
from amused_lite.sampling.loop import unmask_tokens
from amused_lite.sampling.settings import GenerateOptions

STEPS = 2  # from nothing, and from what the first one left
Arrays = dict[str, np.ndarray]


class StreamedWeights:
    """`Weights` that are read into memory of their own, which goes when a part does; mapped files stay."""

    def __init__(self, config: ModelConfig, tensors: Callable[[str], Any]) -> None:
        self.config, self._tensors = config, tensors

    def part(self, name: str) -> Any:
        """One of `networks.PARTS`."""
        import torch

        arrays = {key: torch.from_numpy(array.astype(np.float32)) for key, array in self._tensors(name)}
        return fill(empty_part(self.config, name), arrays)


def record(weights: Weights, done: Callable[[str], object]) -> Arrays:
    """What torch makes of one prompt, two steps and a picture, and the table of colours.

    done: is given what comes next.
    """
    from amused_lite.runtimes.torch import TorchRuntime

    config, runtime = weights.config, TorchRuntime(weights)
    done("the prompt, in torch")
    ids, micro = _prompt(config)
    pair = _pair(runtime, ids, micro)
    runtime.release("encode_prompt")
    done("two steps, in torch")
    found: Arrays = {"ids": ids, "micro": micro, **pair._asdict()}
    for step in unmask_tokens(runtime, pair, GenerateOptions(steps=STEPS), trace=True):
        assert step.log_probs is not None and step.drawn is not None
        found[f"tokens_{step.index}"], found[f"sampled_{step.index}"] = step.tokens, step.sampled_tokens
        found["log_probs"] = step.log_probs[step.drawn]  # of the last step
    runtime.release("unmask")
    done("two pictures, in torch")
    grids = colour_grids(config.uvit.grid, config.uvit.codebook_size)
    quick = TorchRuntime(weights, precision="auto")
    pictures = [quick.decode_image(tokens) for tokens in grids]
    quick.release("decode_image")
    found |= {"codes": grids[0], "picture": pictures[0].astype(np.float16)}
    done("a picture to tokens, in torch")
    found["encoded"] = runtime.encode_image(found["picture"].astype(np.float32))
    codebook = weights.part("vqgan").codebook.detach().numpy()
    found["colours"] = fit_colours(codebook, grids, pictures)
    return found


def compare(bundle: Bundle, found: Arrays, threads: int | None, done: Callable[[str], object]) -> dict[str, float]:
    """How far a bundle is from what `record` found.

    Raises:
        ValueError: it is another model; see `check`.
    """
    runtime, config = open_engine(bundle, threads=threads), bundle.config
    done("the prompt")
    pair = _pair(runtime, found["ids"], found["micro"])
    figures = {"encode_prompt": max(_distance(array, found[name]) for name, array in pair._asdict().items())}
    runtime.release("encode_prompt")
    done("two steps")
    both = Lockstep(_Replay(config, found), runtime)  # type: ignore[arg-type]  # no more is called
    for _ in unmask_tokens(both, pair, GenerateOptions(steps=STEPS)):  # type: ignore[arg-type]
        continue
    figures["unmask.agreement"] = float(np.concatenate(both.same).mean())
    scale = GenerateOptions().complete(config).guidance_scale
    before = found[f"tokens_{STEPS - 2}"]
    log_probs = runtime.predict(before, pair, scale)[before == config.uvit.mask_token_id]
    figures["unmask.logits"] = _distance(_centred(log_probs), _centred(found["log_probs"]))
    runtime.release("unmask")
    done("a picture")
    figures["decode_image"] = _distance(runtime.decode_image(found["codes"]), found["picture"].astype(np.float32))
    runtime.release("decode_image")
    if "encode_image" in bundle.manifest.precision:
        done("a picture to tokens")
        encoded = runtime.encode_image(found["picture"].astype(np.float32))
        figures["encode_image"] = float(np.mean(encoded != found["encoded"]))
    return figures


def check(figures: dict[str, float], bounds: dict[str, float]) -> None:
    """Raise ValueError where a figure is above its bound: the bundle does not compute what the published model does."""
    for name, bound in bounds.items():
        if not figures.get(name, 0.0) <= bound:  # written so that NaN fails
            remedy = "the published files may be damaged, or this is a defect: please report it"
            raise ValueError(
                f"the prepared model's {name} is {figures[name]:.2g} from torch, {bound} allowed; {remedy}"
            )


class _Replay:
    """The leader of a `Lockstep`: torch's steps, as they were recorded."""

    def __init__(self, config: ModelConfig, found: Arrays) -> None:
        self.config, self._found, self._step = config, found, 0

    def unmask(self, *_: Any) -> tuple[np.ndarray, np.ndarray]:
        """See `Runtime`."""
        step, self._step = self._step, self._step + 1
        return self._found[f"tokens_{step}"], self._found[f"sampled_{step}"]


def _prompt(config: ModelConfig) -> tuple[np.ndarray, np.ndarray]:
    """text_ids (2, T) of the empty prompt and of some words, micro-conditioning (1, 5)."""
    text, size = config.text, config.image_size
    ids = np.full((2, text.context_length), text.end_token_id, np.int32)
    ids[:, 0] = text.start_token_id
    words = text.context_length // 2 - 1
    ids[1, 1 : 1 + words] = np.random.default_rng(0).integers(0, text.start_token_id, words)
    return ids, np.array([[size, size, 0, 0, 6]], np.float32)


def _pair(runtime: Runtime, ids: np.ndarray, micro: np.ndarray) -> Conditioning:
    return stack_pair(*(runtime.encode_prompt(ids[row : row + 1], micro) for row in range(2)))


def _distance(got: np.ndarray, expected: np.ndarray) -> float:
    """Root mean square of the difference, over that of the expected values about their mean."""
    spread = float(np.square(expected - expected.mean(dtype=np.float64)).mean(dtype=np.float64))
    return float(np.sqrt(np.square(got - expected).mean(dtype=np.float64) / max(spread, 1e-12)))


def _centred(log_probs: np.ndarray) -> np.ndarray:
    """Logits, but for a number that nothing depends on."""
    return log_probs - log_probs.mean(-1, keepdims=True)


def save(found: Arrays, path: Path) -> None:
    """Write what `record` found; it appears when it is complete."""
    partial = path.with_name(f".{path.name}")
    with partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **found)  # type: ignore[arg-type]
    partial.replace(path)


def load(path: Path) -> Arrays:
    """What `save` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)
