"""From a few pictures to an adapter file: everything around the training of `style`. Draws and judges nothing."""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from PIL import Image

from amused_lite.adapters.file import load_adapter, save_adapter
from amused_lite.adapters.lora import Adapter, AdapterRecord, shapes_of
from amused_lite.adapters.torch import AttachedAdapter
from amused_lite.files.atomic import replace_text
from amused_lite.pipeline import check_prompts
from amused_lite.reading import read_json
from amused_lite.style.augment import StyleAugmentation
from amused_lite.style.config import StyleTrainConfig, train_config_of
from amused_lite.style.cost import Estimate, estimate
from amused_lite.style.data import StylePicture, crop_number, encode_pictures, open_picture, readable, styled, trigger
from amused_lite.style.decoder import DecoderBatches, DecoderStep
from amused_lite.style.train import StyleBatches, StyleStep, prepare, train_style
from amused_lite.training.base_model import (
    PROMPTS,
    BaseModel,
    Progress,
    generated_examples,
    scene_captions,
    terminal_bar,
)
from amused_lite.training.data.quadrants import TokensAndPixels
from amused_lite.training.loop.fit import TrainingRun
from amused_lite.training.uvit import checkpointed

PLAN = "plan.json"
PRIOR = "prior.safetensors"  # tokens of the base's own pictures
_THUMBNAIL = 96  # px; some 15 kB of a file of megabytes


_Words = Annotated[list[str], Meta(max_length=100_000)]


@dataclass(frozen=True)
class StylePlan:
    """What a work folder was made for."""

    base: str  # the model's hash
    style: str
    pictures: _Words  # sha256 of each
    captions: _Words
    recipe: dict[str, Any]  # the StyleTrainConfig, without what may change
    prior: _Words  # prompts of the base's own pictures


class OtherTrainingError(ValueError):
    """A work folder is of another training, and nothing in it may be mixed with this one."""


@dataclass(frozen=True)
class StyleJob:
    """A training that is ready to start, or to go on."""

    base: BaseModel
    pictures: tuple[StylePicture, ...]
    style: str
    train_config: StyleTrainConfig
    record: AdapterRecord
    out: Path
    run: TrainingRun
    step: StyleStep | DecoderStep
    attached: AttachedAdapter
    batches: StyleBatches | DecoderBatches

    def said(self, prompt: str) -> str:
        """A prompt with the words of style, where the adapter listens to any."""
        return styled(prompt, self.style) if self.record.trigger else prompt

    def cost(self) -> Estimate:
        """Time and memory, measured on the first batch."""
        with checkpointed(self.base.networks.uvit, self.train_config.checkpointing):
            return estimate(lambda: self.step(self.batches.batch(0)), self.attached)

    @property
    def done(self) -> int:
        """Steps that the last checkpoint has behind it."""
        saved = self.run.load()
        return saved[0] if saved else 0

    def train(
        self, watch: Callable[[int], str] | None = None, progress: Callable[[int], object] | None = None
    ) -> str | None:
        """See `train_style`."""
        return train_style(self.step, self.attached, self.batches, self.run, watch, progress)

    def adapter(self, steps: int) -> Adapter:
        """What has been learned so far, with its recipe and a thumbnail of the first picture."""
        train_config = asdict(self.train_config) | {"steps": steps, "pictures": len(self.pictures), "style": self.style}
        values = json.loads(json.dumps(train_config))  # tuples as the file will have them
        image = open_picture(self.pictures[0].path, self.base.networks.config.image_size)
        return self.attached.adapter(replace(self.record, recipe=values, thumbnail=thumbnail(image)))

    def keep(self, steps: int) -> Path:
        """Put what has been learned so far beside its samples."""
        return save_adapter(self.adapter(steps), self._kept(steps))

    def kept(self, steps: int) -> Adapter:
        """What `keep` put away."""
        return load_adapter(self._kept(steps))

    def _kept(self, steps: int) -> Path:
        return self.run.folder / f"samples-{steps:05d}.safetensors"

    def save(self, adapter: Adapter) -> Path:
        """Write the adapter under its name."""
        return save_adapter(adapter, self.out)


def thumbnail(image: Image.Image) -> str:
    """A small PNG, base64."""
    small, data = image.copy(), BytesIO()
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    small.save(data, "PNG", optimize=True)
    return base64.b64encode(data.getvalue()).decode()


def work_folder(out: Path) -> Path:
    """Where a training keeps its checkpoint, tokens and samples."""
    return out.with_name(f"{out.stem}.work")


def check_out(out: Path) -> None:
    """Raise ValueError when an adapter cannot be written there, or one is there already."""
    if out.suffix != ".safetensors":
        raise ValueError(f"--out {out} must end in .safetensors")
    if out.exists():
        raise ValueError(f"{out} is there already; choose another --out, or remove it to train again")


def make_job(
    base: BaseModel,
    pictures: Sequence[StylePicture],
    style: str,
    out: Path,
    train_config: StyleTrainConfig | None = None,
    prior_prompts: Sequence[str] = (),
    licence: str = "",
    skip_unreadable: bool = False,
    bar: Progress = terminal_bar,
) -> StyleJob:
    """Look at the pictures, turn them into tokens and attach a fresh adapter.

    Args:
        base: the model that learns.
        pictures: from `find_pictures`.
        style: what to call it in captions: "melting golden 3d".
        out: the file to make; `work_folder(out)` keeps what a killed training needs to go on.
        recipe: None takes the preset's.
        prior_prompts: the base draws one picture of each, for `recipe.prior_share` and `recipe.guessed_share`.
        licence: of the adapter, for its record.
        skip_unreadable: go on without pictures that cannot be used.
        bar: is told how the preparation goes, minutes where pictures are guessed.

    Raises:
        ValueError: a picture cannot be used, `out` exists, or its work folder is of another training.
    """
    train_config, config = train_config or train_config_of(base.preset), base.networks.config
    if not style.strip():
        raise ValueError('the style has no name; say --style "melting golden 3d"')
    check_out(out)
    shapes_of(config, train_config.targets, train_config.kind)  # says what is wrong with them before any work
    own = prior_prompts or default_prompts(base.preset, train_config)
    if not own and (train_config.prior_share or train_config.guessed_share):
        raise ValueError("pictures of the base itself need prompts; give --prior-prompt, or set both shares to 0")
    good = readable(pictures, config.image_size, skip_unreadable)
    for words in (*(picture.caption for picture in good), *own):  # before anything is written
        check_prompts(words)
        base.tokenizer.encode([words])
    folder = work_folder(out)
    _check_plan(folder, base, good, style, train_config, prior_prompts)
    record = AdapterRecord(
        name=out.stem,
        rank=train_config.rank,
        alpha=train_config.alpha,
        targets=train_config.targets,
        preset=base.preset,
        base_model=Path(base.info.name).name if Path(base.info.name).exists() else base.info.name,
        base_hash=base.hash,
        kind=train_config.kind,
        trigger="" if train_config.decoder else trigger(style),  # a decoder hears no words
        licence=licence,
    )
    questions = _of_decoder if train_config.decoder else _of_tokens
    step, batches = questions(base, good, style, train_config, own, folder, bar)
    attached = prepare(base.networks, record, train_config)
    return StyleJob(base, tuple(good), style, train_config, record, out, TrainingRun(folder), step, attached, batches)


def _of_tokens(
    base: BaseModel,
    pictures: Sequence[StylePicture],
    style: str,
    train_config: StyleTrainConfig,
    prior_prompts: Sequence[str],
    folder: Path,
    bar: Progress,
) -> tuple[StyleStep, StyleBatches]:
    """Loss and batches for an adapter of the U-ViT: predict the tokens of the style's pictures."""
    size, prior = base.networks.config.image_size, None
    cache = folder / "tokens.safetensors"
    crops = train_config.crops_of(len(pictures))
    data = encode_pictures(
        base.networks.vqgan, pictures, crops, size, train_config.seed, cache, base.info.model_hash, bar
    )
    if train_config.prior_share:
        prior = generated_examples(base, prior_prompts, folder / PRIOR, bar)
    batches = StyleBatches(train_config, data, style, size, prior)
    return StyleStep(base.networks, base.tokenizer, batches.captions, train_config), batches


def _of_decoder(
    base: BaseModel,
    pictures: Sequence[StylePicture],
    _style: str,
    train_config: StyleTrainConfig,
    prior_prompts: Sequence[str],
    folder: Path,
    bar: Progress,
) -> tuple[DecoderStep, DecoderBatches]:
    """Loss and batches for an adapter of the decoder: decode tokens of plain pictures to the style's pixels."""
    amused, size = base.amused(), base.networks.config.image_size
    drawn = generated_examples(
        base, [picture.caption for picture in pictures], folder / "captions.safetensors", bar
    ).tokens
    own = [np.array(crop_number(open_picture(picture.path, size), 0, size, 0)[0]) for picture in pictures]
    real, augmented = TokensAndPixels(drawn[:, 0], own), None
    if train_config.guessed_share:
        augment = StyleAugmentation.fit([np.array(amused.decode(row.int().numpy())) for row in real.tokens], own)
        tokens = generated_examples(base, prior_prompts, folder / PRIOR, bar).tokens[:, 0]
        rows = bar(tokens, "guessing pictures of the style", len(tokens))
        augmented = TokensAndPixels(tokens, [augment(np.array(amused.decode(row.int().numpy()))) for row in rows])
    return DecoderStep(base.networks, train_config), DecoderBatches(train_config, real, augmented)


def cut_captions(job: StyleJob) -> list[str]:
    """Captions whose end, with the words of style, the model cannot read."""
    captions = (job.said(picture.caption) for picture in job.pictures)
    return [caption for caption in dict.fromkeys(captions) if job.base.tokenizer.dropped(caption)]


def _check_plan(
    folder: Path,
    base: BaseModel,
    pictures: Sequence[StylePicture],
    style: str,
    train_config: StyleTrainConfig,
    prior: Sequence[str],
) -> None:
    """A work folder goes on with the training it was made for; raises `OtherTrainingError` for another."""
    seen = [hashlib.sha256(picture.path.read_bytes()).hexdigest() for picture in pictures]
    captions = [picture.caption for picture in pictures]
    plan: dict[str, Any] = {"base": base.info.model_hash, "style": style, "pictures": seen, "captions": captions}
    # The number of steps may grow, and neither samples nor the form of the arithmetic change what is learned.
    fixed = {
        key: value
        for key, value in asdict(train_config).items()
        if key not in ("steps", "sample_every", "checkpointing")
    }
    plan = json.loads(json.dumps(plan | {"recipe": fixed, "prior": list(prior)}))
    path = folder / PLAN
    if path.is_file():
        remedy = f"remove {folder} to start anew, or change --out"
        try:
            before = asdict(read_json(path, StylePlan, remedy))
        except ValueError as error:
            raise OtherTrainingError(str(error)) from error
        if changed := [key for key in plan if plan[key] != before[key]]:
            what = " and ".join(changed)
            raise OtherTrainingError(
                f"{folder} holds a training with other {what}; remove it to start anew, or change --out"
            )
        return
    replace_text(path, json.dumps(plan, indent=1) + "\n")


def default_prompts(preset: str, train_config: StyleTrainConfig) -> list[str]:
    """Captions of training scenes for the bundled model, no more than are looked at; the others have no such list."""
    if preset != "tiny":
        return []
    looked_at = ceil(train_config.steps * train_config.batch * (train_config.guessed_share or train_config.prior_share))
    return scene_captions(min(PROMPTS, looked_at))
