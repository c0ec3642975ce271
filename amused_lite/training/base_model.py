"""A model that training starts from: its networks in memory, and pictures that it generates as examples."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from amused_lite.adapters.lora import preset_of
from amused_lite.adapters.torch import hash_of
from amused_lite.files.safetensors import open_tensors, write_tensors
from amused_lite.models.networks import Networks
from amused_lite.pipeline import AmusedPipeline
from amused_lite.runtimes.base import ModelInfo
from amused_lite.runtimes.open import open_model
from amused_lite.runtimes.torch import TorchRuntime
from amused_lite.sampling.settings import GenerateOptions
from amused_lite.task import Task
from amused_lite.tokenizer import Tokenizer
from amused_lite.training.scenes import caption, random_scene


@dataclass(frozen=True)
class CropTokens:
    """Every picture's crops as tokens. P pictures, C crops of each."""

    tokens: Tensor  # (P, C, N) int64
    micro: Tensor  # (P, C, 5): width, height, crop_top, crop_left, aesthetic_score, as the published trainer has them
    captions: tuple[str, ...]  # what each shows, without words of style


PROMPTS = 96  # of the bundled model's own pictures, where none are given
Progress = Callable[[Iterable[Any], str, int], Iterable[Any]]  # (items, what is done, how many) -> the same items


def terminal_bar(items: Iterable[Any], what: str, total: int) -> Iterable[Any]:
    """Progress of what comes before the learning, on a terminal."""
    return tqdm(items, what, total, leave=False, disable=None)


@dataclass(frozen=True)
class BaseModel:
    """An opened model with all its networks in memory."""

    networks: Networks
    tokenizer: Tokenizer
    info: ModelInfo
    hash: str  # see `lora.base_hash`

    @classmethod
    def open(cls, model: str | Path, threads: int | None = None, device: str = "cpu") -> "BaseModel":
        """Any model that the torch runtime opens.

        Raises:
            FileNotFoundError, ValueError, MissingExtraError: see `open_model`.
            ValueError: there is no such device.
        """
        try:
            place = torch.device(device)
            torch.empty(1, device=place)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(
                f"device {device!r} cannot be used here; choose cpu, or cuda where there is one"
            ) from error
        runtime, tokenizer, info = open_model(model, "torch", threads)
        assert isinstance(runtime, TorchRuntime)
        networks = runtime.networks()
        return cls(networks.to(place), tokenizer, info, hash_of(networks.uvit.token_side))

    @property
    def preset(self) -> str:
        return preset_of(self.networks.config)

    @property
    def codebook_hash(self) -> str:
        """Hex sha256 of the codes at float16: models with the same read the same tokens."""
        return hashlib.sha256(self.networks.vqgan.codebook.detach().half().cpu().numpy().tobytes()).hexdigest()

    def amused(self) -> AmusedPipeline:
        """The networks as they are now, adapters in training included, ready to draw."""
        device = str(next(self.networks.parameters()).device)
        return AmusedPipeline(
            TorchRuntime.from_networks(self.networks, device), self.tokenizer, self.info, keep_loaded=True
        )


def generated_examples(
    base: BaseModel, prompts: Sequence[str], cache: Path, bar: Progress = terminal_bar
) -> CropTokens:
    """A picture of the base for each prompt, drawn once; see `StyleTrainConfig`. Resumes after the last one."""
    key = hashlib.sha256(json.dumps([base.info.model_hash, *prompts]).encode()).hexdigest()
    begun = cache.is_file() and open_tensors(cache).metadata.get("of") == key
    rows = [*open_tensors(cache).read()["tokens"].copy()] if begun else []
    if missing := list(enumerate(prompts))[len(rows) :]:
        amused = base.amused()
        for seed, prompt in bar(missing, "the model's own pictures", len(missing)):
            *_, last = amused.steps(Task(prompt, options=GenerateOptions(seed=seed)))
            rows.append(last.tokens[0].astype(np.int32))
            write_tensors(cache, {"tokens": np.stack(rows)}, {"of": key})
    tokens = torch.from_numpy(np.stack(rows)).long()[:, None]
    return CropTokens(tokens, torch.zeros(len(prompts), 1, 5), tuple(prompts))


def scene_captions(number: int) -> list[str]:
    """So many captions of training scenes that ask for no style."""
    stream = (random_scene(PROMPTS, index, "train") for index in count())
    plain = islice((scene for scene in stream if scene.style == "flat"), number)
    return [caption(scene, Random(index), always_backdrop=True) for index, scene in enumerate(plain)]
