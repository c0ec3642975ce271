"""The bundled model from nothing, stage by stage. Every stage resumes where it stopped and skips what is done.

    tokenizer -> vqgan -> clip -> ranker -> tokens -> uvit -> decoder

Then the exporter makes a bundle of `Build.networks()`.

`tokens` and `decoder` may run in a second process while `uvit` trains: its pool of pictures grows with the steps, and
finishing the decoder leaves the codes alone. `ranker` needs `clip` only, and nothing needs it.
"""

import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from amused_lite.bundle import TOKENIZER, WEIGHTS, Bundle
from amused_lite.config import PRESETS, ModelConfig
from amused_lite.models.checkpoint import text_from_open_clip
from amused_lite.models.clip_image import CLIPImage
from amused_lite.models.clip_text import CLIPText
from amused_lite.models.networks import Networks, SavedWeights
from amused_lite.models.uvit import UViT
from amused_lite.models.vqgan import VQGAN
from amused_lite.tokenizer import Tokenizer
from amused_lite.training import scenes
from amused_lite.training.clip import CLIPRecipe, train_clip
from amused_lite.training.decoder import DecoderRecipe, train_decoder
from amused_lite.training.loop import TrainingRun, subset
from amused_lite.training.ranker import RankerRecipe, train_ranker
from amused_lite.training.tokens import SceneSource, TokenPool, encode_pictures
from amused_lite.training.uvit import RECIPES, Batches, UViTRecipe, initialize, train_uvit
from amused_lite.training.vqgan import VQGANRecipe, train_vqgan

STAGES = ("tokenizer", "vqgan", "clip", "ranker", "tokens", "uvit", "decoder")
SCENE_SEED = 3  # scenes of this seed are the U-ViT's training set


@dataclass(frozen=True)
class Build:
    """Where the runs live and how much of everything; the defaults made the bundled model."""

    folder: Path
    source: Bundle | None = None  # go on from this model: left are `tokens`, `uvit`, `decoder`, and `ranker` if missing
    config: ModelConfig = PRESETS["tiny"]
    vqgan: VQGANRecipe = field(default_factory=VQGANRecipe)
    decoder: DecoderRecipe = field(default_factory=DecoderRecipe)
    clip: CLIPRecipe = field(default_factory=CLIPRecipe)
    ranker: RankerRecipe = field(default_factory=RankerRecipe)
    uvit: UViTRecipe = RECIPES["tiny"]
    pictures: int = 40_960
    first_pictures: int = 3_584  # what the U-ViT starts with while the rest is still being encoded
    pictures_per_step: float = 2.5

    def run(self, stage: str, stop_after: int | None = None) -> bool:
        """Run one stage of `STAGES`; returns whether it came to its end.

        Args:
            stop_after: end this session of the U-ViT after so many steps.
        """
        if self.source and stage in ("tokenizer", "vqgan", "clip"):
            return True
        match stage:
            case "tokenizer":
                self.train_tokenizer()
            case "vqgan":
                train_vqgan(self.config.vqgan, self.vqgan, self.folder / "vqgan")
                return self._steps("vqgan") == self.vqgan.steps
            case "clip":
                train_clip(self.config.text, self.clip, self.tokenizer(), self.folder / "clip")
                return self._steps("clip") == self.clip.steps
            case "ranker":
                if self.source and self.source.config.ranker:
                    return True
                train_ranker(self.text_model(), self.ranker, self.tokenizer(), self.folder / "ranker")
                return self._steps("ranker") == self.ranker.steps
            case "tokens":
                encode_pictures(self.vqgan_model(), self.folder / "tokens", _draw, self.pictures)
            case "uvit":
                self.train_uvit(stop_after)
                return self._steps("uvit") == self.uvit.steps
            case "decoder":
                train_decoder(self._vqgan_as_trained(), self.decoder, self.vqgan, self.folder / "decoder")
                return self._steps("decoder") == self.decoder.steps
            case _:
                raise ValueError(f"unknown stage {stage!r}; expected one of {', '.join(STAGES)}")
        return True

    def train_tokenizer(self) -> None:
        """Byte-pair merges from 20,000 captions."""
        path = self.folder / "tokenizer.json"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            scenes_ = (scenes.random_scene(SCENE_SEED, i, "train") for i in range(20_000))
            captions = [scenes.caption(scene, random.Random(i)) for i, scene in enumerate(scenes_)]
            Tokenizer.train(captions, self.config.text.vocab_size, self.config.text.context_length).save(path)

    def tokenizer(self) -> Tokenizer:
        text = self.config.text
        return Tokenizer.from_file(self.tokenizer_file(), text.context_length, text.start_token_id, text.end_token_id)

    def vqgan_model(self) -> VQGAN:
        """With the finished decoder once there is one."""
        model = self._vqgan_as_trained()
        if self._steps("decoder"):
            finished = nn.ModuleList([model.post_quant, model.decoder])
            finished.load_state_dict(self._weights("decoder", "ema"))
        return model

    def _vqgan_as_trained(self) -> VQGAN:
        if self.source:
            return convert_conv2d_weight_memory_format(self._source_part("vqgan"), torch.channels_last)
        model = convert_conv2d_weight_memory_format(VQGAN(self.config.vqgan), torch.channels_last)
        model.load_state_dict(self._weights("vqgan"))
        return model.eval()

    def text_model(self) -> CLIPText:
        if self.source:
            return self._source_part("text")
        return text_from_open_clip(self._weights("clip"), self.config.text, "clip run").eval()

    def ranker_model(self) -> CLIPImage | None:
        """None where neither this build nor the model it goes on from has one."""
        if self._steps("ranker"):
            model = CLIPImage(self.config.text.projection_width)
            model.load_state_dict(self._weights("ranker"))
            return model.eval()
        return self._source_part("ranker") if self.source and self.source.config.ranker else None

    def uvit_model(self) -> UViT:
        """What the U-ViT's training starts from."""
        torch.manual_seed(self.uvit.seed)
        model = UViT(self.config.uvit)
        if self.source:
            model.prompt_side, model.token_side = (
                self._source_part(f"uvit.{side}") for side in ("prompt_side", "token_side")
            )
        else:
            initialize(model)
        return model.train()

    def _source_part(self, name: str) -> Any:
        assert self.source is not None
        return SavedWeights(self.source.path(WEIGHTS), self.config).part(name)

    def train_uvit(self, stop_after: int | None = None) -> None:
        self._made("tokens", "tokens")
        scored = {scenes.meaning(prompt.scene) for prompt in scenes.heldout_prompts()}
        pool = TokenPool(
            self.folder / "tokens",
            self.first_pictures,
            self.pictures_per_step,
            self.pictures,
            reserved=lambda index: scenes.meaning(scenes.random_scene(SCENE_SEED, index, "train")) in scored,
        )
        source = SceneSource(pool, SCENE_SEED, self.config.image_size)
        batches = Batches(self.uvit, source, self.tokenizer())
        train_uvit(self.uvit_model(), self.text_model(), self.uvit, batches, self.folder / "uvit", stop_after)
        TrainingRun(self.folder / "uvit").plot("loss", "norm")

    def tokenizer_file(self) -> Path:
        """Where `tokenizer` reads from."""
        return self.source.path(TOKENIZER) if self.source else self._made("tokenizer", "tokenizer.json")

    def networks(self) -> Networks:
        """Everything trained so far in one model, with the U-ViT's averaged weights."""
        ranker = self.ranker_model()
        networks = Networks(replace(self.config, ranker=ranker is not None))
        networks.text, networks.ranker = self.text_model(), ranker
        networks.vqgan = convert_conv2d_weight_memory_format(self.vqgan_model(), torch.contiguous_format)
        networks.uvit.load_state_dict(self._weights("uvit", "ema"))
        return networks.eval()

    def _steps(self, stage: str) -> int:
        saved = TrainingRun(self.folder / stage).load()
        return saved[0] if saved else 0

    def _weights(self, stage: str, prefix: str = "model") -> dict[str, torch.Tensor]:
        self._made(stage, f"{stage}/checkpoint.safetensors")
        saved = TrainingRun(self.folder / stage).load()
        assert saved is not None  # _made has seen the file
        return subset(saved[1], prefix)

    def _made(self, stage: str, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there yet; run the stage {stage!r} first")
        return path


def _draw(index: int) -> np.ndarray:
    return scenes.draw(scenes.random_scene(SCENE_SEED, index, "train"))


def small(folder: Path) -> Build:
    """A build of minutes that shows the machinery works; its pictures are nothing."""
    tiny = Build(folder)
    return replace(
        tiny,
        vqgan=replace(tiny.vqgan, steps=30, whole_steps=2, plain_steps=10, batch=6),
        decoder=replace(tiny.decoder, steps=10),
        clip=replace(tiny.clip, steps=10, batch=8),
        ranker=replace(tiny.ranker, steps=5, batch=4),
        uvit=replace(tiny.uvit, steps=20, batch=2, warmup=5, cooldown=5, compile=False),
        pictures=512,
        first_pictures=512,
    )
