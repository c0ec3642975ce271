"""A model from nothing, stage by stage. Every stage resumes where it stopped and skips what is done.

    fetch -> tokenizer -> vqgan -> [clip] -> tokens -> uvit, for each size of pictures -> decoder -> ranker

Then the exporter makes a bundle of `Build.networks()`.

`tokens` and `decoder` may run in a second process while `uvit` trains: its pool of pictures grows with the steps, and
finishing the decoder leaves the codes alone. Nothing needs `ranker`, which needs the finished text tower.
"""

import hashlib
import random
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format
from tqdm import trange

from amused_lite.bundle import TOKENIZER, WEIGHTS, Bundle
from amused_lite.config import ModelConfig
from amused_lite.models.checkpoint import text_from_open_clip
from amused_lite.models.clip_image import CLIPImage
from amused_lite.models.clip_text import CLIPText
from amused_lite.models.networks import Networks, SavedWeights
from amused_lite.models.uvit import UViT
from amused_lite.models.vqgan import VQGAN
from amused_lite.tokenizer import Tokenizer
from amused_lite.training.clip import CLIPTrainConfig, train_clip
from amused_lite.training.data.batches import Batches
from amused_lite.training.data.order import EpochOrder
from amused_lite.training.data.shards import SHARD, TokenShards, column_path, write_shard
from amused_lite.training.data.tokenize import ENCODED_AT_ONCE, encode_pixels
from amused_lite.training.loop.fit import TrainingRun
from amused_lite.training.loop.state import subset
from amused_lite.training.pixels.decoder import DecoderTrainConfig, train_decoder
from amused_lite.training.pixels.vqgan import VQGANTrainConfig, train_vqgan
from amused_lite.training.ranker import RankerTrainConfig, train_ranker
from amused_lite.training.uvit import UViTLoss, initialize, initialize_text, train_uvit
from amused_lite.training.uvit_config import UViTTrainConfig
from amused_lite.training.world import World, WorldSource, codebook_picture


@dataclass(frozen=True)
class UViTPart:
    """A part of the U-ViT's training, on pictures of one size. Each part goes on from the one before."""

    train_config: UViTTrainConfig
    pictures: int  # encoded in all
    first_pictures: int  # what it starts with while the rest is still being encoded
    pictures_per_step: float
    canvas: int = 512  # side of its pictures in px


@dataclass(frozen=True)
class Build:
    """Where the runs live and how much of everything; `presets` has those of the worlds."""

    folder: Path
    world: World
    config: ModelConfig
    parts: dict[str, UViTPart]  # by what their stages' names end in: {"-256": ...} has tokens-256 and uvit-256
    captions: int  # that the tokenizer learns from
    vqgan: VQGANTrainConfig
    decoder: DecoderTrainConfig = field(default_factory=DecoderTrainConfig)
    ranker: RankerTrainConfig = field(default_factory=RankerTrainConfig)
    clip: CLIPTrainConfig | None = None  # None: the text tower learns with the U-ViT
    source: Bundle | None = None  # go on from this model; `stages` says what is left to do

    @property
    def stages(self) -> tuple[str, ...]:
        """The names that `run` takes, in order."""
        (*_, last), clip = self.parts, ("clip",) if self.clip else ()
        if self.source:
            ranker = () if self.source.config.ranker else ("ranker",)
            return ("fetch", f"tokens{last}", f"uvit{last}", "decoder", *ranker)
        parts = [f"{stage}{part}" for part in self.parts for stage in ("tokens", "uvit")]
        return ("fetch", "tokenizer", "vqgan", *clip, *parts, "decoder", "ranker")

    def check_source(self) -> None:
        """Raise ValueError when `source` is not a model of this world."""
        if self.source and replace(self.source.config, ranker=self.config.ranker) != self.config:
            raise ValueError(
                f"{self.source.manifest.name or 'this model'} has other sizes than a model of the world "
                f"{self.world.name!r}; choose its own --world, or leave --from out to begin anew"
            )

    def run(self, stage: str, stop_after: int | None = None) -> bool:
        """Run one of `stages`; returns whether it came to its end.

        Args:
            stop_after: end this session of a U-ViT after so many steps.

        Raises:
            ValueError: there is no such stage.
            FileNotFoundError: a stage that comes before is missing.
        """
        if stage not in self.stages:
            raise ValueError(f"there is no stage {stage!r} here; choose one of {', '.join(self.stages)}")
        self.world.use(self.folder)
        draw, name, steps = partial(codebook_picture, self.world), stage.partition("-")[0], 0
        match name:
            case "fetch":
                self.world.fetch(self.folder)
            case "tokenizer":
                self.train_tokenizer()
            case "vqgan":
                train_vqgan(self.config.vqgan, self.vqgan, self.folder / "vqgan", draw)
                steps = self.vqgan.steps
            case "clip":
                assert self.clip is not None
                train_clip(self.config.text, self.clip, self.tokenizer(), self.folder / "clip")
                steps = self.clip.steps
            case "tokens":
                self.encode(stage.removeprefix(name))
            case "uvit":
                steps = self.parts[stage.removeprefix(name)].train_config.steps
                self.train_uvit(stage.removeprefix(name), stop_after)
            case "decoder":
                train_decoder(self._vqgan_as_trained(), self.decoder, self.vqgan, self.folder / "decoder", draw)
                steps = self.decoder.steps
            case "ranker":
                train_ranker(self.text_model(), self.ranker, self.tokenizer(), self.world, self.folder / "ranker")
                steps = self.ranker.steps
        return not steps or self._steps(stage) == steps

    def train_tokenizer(self) -> None:
        """Byte-pair merges from captions."""
        path = self.folder / "tokenizer.json"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            shown = (self.world.scene(self.world.seed, index) for index in range(self.captions))
            captions = [self.world.caption(scene, random.Random(index)) for index, scene in enumerate(shown)]
            Tokenizer.train(captions, self.config.text.vocab_size, self.config.text.context_length).save(path)

    def tokenizer_file(self) -> Path:
        """Where `tokenizer` reads from."""
        return self.source.path(TOKENIZER) if self.source else self._made("tokenizer", "tokenizer.json")

    def tokenizer(self) -> Tokenizer:
        """The trained tokenizer."""
        text = self.config.text
        return Tokenizer.from_file(self.tokenizer_file(), text.context_length, text.start_token_id, text.end_token_id)

    def scene(self, part: str, index: int) -> Any:
        """Training scene `index` of a part of `parts`."""
        return self.world.scene(self.world.seed, index, "train", self.parts[part].canvas)

    def encode(self, part: str) -> None:
        """Draw and encode the pictures of a part."""
        vqgan = self._vqgan_as_trained()
        self._check_scenes(part)
        folder = self.folder / f"tokens{part}"
        for shard in trange(-(-self.parts[part].pictures // SHARD), desc="shards", disable=None):
            if column_path(folder, "tokens", shard).exists():
                continue
            rows = []
            for first in range(shard * SHARD, (shard + 1) * SHARD, ENCODED_AT_ONCE):
                drawn = [self.world.draw(self.scene(part, first + n)) for n in range(ENCODED_AT_ONCE)]
                rows.append(encode_pixels(vqgan, np.stack(drawn)))
            write_shard(folder, shard, {"tokens": np.concatenate(rows)})

    def train_uvit(self, part: str, stop_after: int | None = None) -> None:
        """A part of the U-ViT's training; it begins with the averaged weights of the part before."""
        plan, stage = self.parts[part], f"uvit{part}"
        self._made(f"tokens{part}", f"tokens{part}")
        self._check_scenes(part)
        config, tokenizer = plan.train_config, self.tokenizer()
        shards = TokenShards(self.folder / f"tokens{part}", [SHARD] * -(-plan.pictures // SHARD))
        order = EpochOrder(config.seed, len(shards), plan.first_pictures, plan.pictures_per_step / config.batch)
        source = WorldSource(shards, order, self.world, partial(self.scene, part), tokenizer)
        batches = Batches(config, source, tokenizer)
        train_uvit(UViTLoss(*self._start(part), config), batches, self.folder / stage, stop_after)
        TrainingRun(self.folder / stage).plot("loss", "norm")

    def _start(self, part: str) -> tuple[UViT, CLIPText]:
        """What a part of the U-ViT's training starts from."""
        torch.manual_seed(self.parts[part].train_config.seed)
        uvit, text = UViT(self.config.uvit).train(), None
        if not self.clip:
            text = CLIPText(self.config.text)
        parts = list(self.parts)
        if self.source:
            sides = (self._source_part(f"uvit.{side}") for side in ("prompt_side", "token_side"))
            uvit.prompt_side, uvit.token_side = sides
            text = self._source_part("text")
        elif before := parts[: parts.index(part)]:
            trained = nn.ModuleDict({"uvit": uvit, "text": text}) if text else uvit
            self._fill(trained, f"uvit{before[-1]}", "ema")
        else:
            initialize(uvit)
            if text:
                initialize_text(text)
        return uvit.train(), text or self.text_model()

    def _check_scenes(self, part: str) -> None:
        """Tokens are kept by scene number, so the stream must be the one they were made from.

        Raises:
            ValueError: the code that composes scenes has changed since.
        """
        said = "\n".join(repr(astuple(self.scene(part, index))) for index in range(2000))
        digest, kept = hashlib.sha256(said.encode()).hexdigest(), self.folder / f"tokens{part}" / "scenes.sha256"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(digest)
        elif kept.read_text() != digest:
            raise ValueError(
                f"{kept.parent} was encoded from other scenes than this version composes; go on with the version that "
                "made it, or delete the folder to encode them again"
            )

    def vqgan_model(self) -> VQGAN:
        """With the finished decoder once there is one."""
        model = self._vqgan_as_trained()
        if self._steps("decoder"):
            finished = nn.ModuleList([model.post_quant, model.decoder])
            self._fill(finished, "decoder", "ema")
        return model

    def _vqgan_as_trained(self) -> VQGAN:
        if self.source:
            return convert_conv2d_weight_memory_format(self._source_part("vqgan"), torch.channels_last)
        model = convert_conv2d_weight_memory_format(VQGAN(self.config.vqgan), torch.channels_last)
        self._fill(model, "vqgan")
        return model.eval()

    def text_model(self) -> CLIPText:
        """The finished text tower: the U-ViT's where that has trained it, else the source's or CLIP's."""
        if not self.clip:
            return self._trained([*self.parts][-1])[1]
        if self.source:
            return self._source_part("text")
        return text_from_open_clip(self._weights("clip"), self.config.text, "clip run").eval()

    def _trained(self, part: str) -> tuple[UViT, CLIPText]:
        """The U-ViT as a part has left it, with averaged weights, and the text tower it goes with."""
        uvit = UViT(self.config.uvit)
        if self.clip:
            self._fill(uvit, f"uvit{part}", "ema")
            return uvit, self.text_model()
        text = CLIPText(self.config.text)
        self._fill(nn.ModuleDict({"uvit": uvit, "text": text}), f"uvit{part}", "ema")
        return uvit, text.eval()

    def ranker_model(self) -> CLIPImage | None:
        """None where neither this build nor the model it goes on from has one."""
        if self._steps("ranker"):
            model = CLIPImage(self.config.text.projection_width)
            self._fill(model, "ranker")
            return model.eval()
        return self._source_part("ranker") if self.source and self.source.config.ranker else None

    def networks(self, part: str | None = None) -> Networks:
        """What was trained so far in one model, with averaged weights.

        Args:
            part: of `parts`, for pictures of its size and as trained by it; None is the last one, the finished model.
        """
        part, ranker = [*self.parts][-1] if part is None else part, self.ranker_model()
        grid = self.parts[part].canvas // self.config.vqgan.downsample_factor
        networks = Networks(replace(self.config, ranker=ranker is not None, uvit=replace(self.config.uvit, grid=grid)))
        trained, networks.text = self._trained(part)
        positions = trained.token_side.positions_for(networks.config.uvit.inner_grid)
        networks.uvit.load_state_dict(trained.state_dict() | {"token_side.positions": positions})
        networks.ranker = ranker
        networks.vqgan = convert_conv2d_weight_memory_format(self.vqgan_model(), torch.contiguous_format)
        return networks.eval()

    def _source_part(self, name: str) -> Any:
        assert self.source is not None
        return SavedWeights(self.source.path(WEIGHTS), self.source.config).part(name)

    def _steps(self, stage: str) -> int:
        saved = TrainingRun(self.folder / stage).load()
        return saved[0] if saved else 0

    def _weights(self, stage: str, prefix: str = "model") -> dict[str, torch.Tensor]:
        self._made(stage, f"{stage}/checkpoint.safetensors")
        saved = TrainingRun(self.folder / stage).load()
        assert saved is not None  # _made has seen the file
        return subset(saved[1], prefix)

    def _fill(self, module: nn.Module, stage: str, prefix: str = "model") -> None:
        """Load what a stage has trained.

        Raises:
            ValueError: it has trained something else.
        """
        weights = self._weights(stage, prefix)
        with TrainingRun(self.folder / stage).restoring():
            module.load_state_dict(weights)

    def _made(self, stage: str, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there yet; run the stage {stage!r} first")
        return path
