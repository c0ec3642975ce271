"""Fine-tuning the bundled model, in a few steps: what learns, what is kept, what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from amused_lite import cli
from amused_lite.adapters.file import load_adapter
from amused_lite.config import PRESETS
from amused_lite.training.base_model import BaseModel
from amused_lite.training.data.shards import MANIFEST, ShardManifest, write_manifest, write_shard
from amused_lite.training.finetune import AdapterShape, finetune, prepare, recipe_of
from amused_lite.training.loop.fit import TrainingRun, fit


@pytest.fixture
def base() -> BaseModel:
    return BaseModel.open("tiny", 1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four samples of the bundled model's own kind."""
    base, folder = BaseModel.open("tiny", 1), tmp_path_factory.mktemp("data")
    text = base.tokenizer.encode(["a red star", "a blue house", "two trees", "a car"]).astype(np.uint16)
    tokens = np.random.default_rng(0).integers(0, 1024, (4, 1024)).astype(np.uint16)
    micro = np.array([[512, 512, 0, 0, 6]] * 4, np.float32)
    record = write_shard(folder, 0, {"tokens": tokens, "text": text, "micro": micro})
    what = {"codebook": base.codebook_hash, "tokenizer": base.tokenizer.hash, "image_size": 512, "tokens": 1024}
    write_manifest(folder, ShardManifest(1, "test", "0" * 64, 1, "tiny", "tiny", settings={}, shards=(record,), **what))
    return folder


SHORT = {"steps": 2, "batch": 2, "warmup": 0, "cooldown": 0}


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("adamw8bit", marks=pytest.mark.slow)])
def test_all_weights_learn_and_a_stopped_training_is_the_same(
    base: BaseModel, data: Path, tmp_path: Path, optimizer: str
) -> None:
    if optimizer == "adamw8bit":
        pytest.importorskip("bitsandbytes")
    config = replace(recipe_of("tiny", False, optimizer), train_text=True, **SHORT)
    before = {name: value.clone() for name, value in base.networks.state_dict().items()}
    made = finetune(prepare(base, {data: 1}, config), "x", tmp_path / "straight")
    assert isinstance(made, BaseModel)
    changed = {name for name, value in made.networks.state_dict().items() if not value.equal(before[name])}
    assert changed and all(name.startswith(("uvit.", "text.")) for name in changed)
    assert "text.embedding.weight" in changed and "uvit.token_side.head.weight" in changed
    for stop in (1, None):
        again = BaseModel.open("tiny", 1)
        finetune(prepare(again, {data: 1}, config), "x", tmp_path / "stopped", stop_after=stop)
    straight, stopped = made.networks.state_dict(), again.networks.state_dict()
    assert all(straight[name].equal(stopped[name]) for name in straight)


def test_an_adapter_learns_alone_and_draws(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mine.safetensors"
    shutil.copytree(data, tmp_path / "again:2")  # its own name, and no weight
    folders = [f"{data}:3", str(tmp_path / "again:2")]
    words = ["finetune", "tiny", *folders, str(out), "--steps", "1", "--batch", "2", "--rank", "2", "--threads", "1"]
    assert cli.main([*words, "--targets", "attention,text"]) == 0, capsys.readouterr().err
    adapter = load_adapter(out)
    assert adapter.record.targets == ("attention", "text") and adapter.record.recipe["samples"] == 8
    assert any(np.abs(pair.up).max() > 0 for name, pair in adapter.pairs.items() if name.startswith("text."))
    assert cli.main(words) == 2 and "is there already" in capsys.readouterr().err
    wrong = {"nowhere:2": "nowhere is missing", f"{data}:0": "must be 1e-06 to 1e+06, got 0", str(data): "named twice"}
    for folder, message in wrong.items():
        assert cli.main(["finetune", "tiny", str(data), folder, str(tmp_path / "other")]) == 2
        assert message in capsys.readouterr().err


def test_each_micro_condition_changes_what_is_predicted(base: BaseModel) -> None:
    networks = base.networks
    text = networks.text(torch.from_numpy(base.tokenizer.encode(["a red star"])).long())
    tokens = torch.full((1, 1024), networks.config.uvit.mask_token_id)
    usual = torch.tensor([[512.0, 512, 0, 0, 6]])
    plain = networks.uvit(tokens, *text, usual)
    for place, value in enumerate((256.0, 256.0, 64.0, 64.0, 3.0)):
        other = usual.clone()
        other[0, place] = value
        assert (networks.uvit(tokens, *text, other) - plain).abs().max() > 1e-3


def test_what_does_not_fit_is_refused(base: BaseModel, data: Path, tmp_path: Path) -> None:
    for name, value in {"codebook": "1" * 64, "tokenizer": "1" * 64, "tokens": 256}.items():
        other = tmp_path / name
        other.mkdir()
        for file in data.iterdir():
            (other / file.name).symlink_to(file)
        said = json.loads((data / MANIFEST).read_text()) | {name: value}
        (other / MANIFEST).unlink()
        (other / MANIFEST).write_text(json.dumps(said))
        with pytest.raises(ValueError, match=r"tokens a picture of tiny, which has not the .* encode it with"):
            prepare(base, {other: 1}, recipe_of("tiny", False))
    with pytest.raises(ValueError, match="the target decoder learns from pixels"):
        prepare(base, {data: 1}, recipe_of("tiny", True), AdapterShape(targets=("decoder",)))
    assert recipe_of("custom", True) == recipe_of("amused-512", True)
    assert {preset for preset in PRESETS if recipe_of(preset, False)} == {*PRESETS}


class Spoiled:
    """A trainer whose loss is no number at its fourth step."""

    def __init__(self) -> None:
        self.weight = torch.zeros(1)

    def step(self, number: int) -> dict[str, float]:
        self.weight += 1 if number < 3 else float("nan")
        return {"loss": self.weight.item()}

    def state(self) -> dict[str, torch.Tensor]:
        return {"weight": self.weight}

    def restore(self, tensors: dict[str, torch.Tensor], numbers: dict[str, object]) -> None:
        self.weight = tensors["weight"]


def test_a_loss_that_is_no_number_ends_the_training_and_keeps_what_was_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingRun, "due", lambda self: True)
    with pytest.raises(ValueError, match=r"step 3: the loss is nan; .*checkpoint.safetensors is from before; go on"):
        fit(TrainingRun(tmp_path), Spoiled(), 10)
    saved = TrainingRun(tmp_path).load()
    assert saved and saved[0] == 3 and saved[1]["weight"].item() == 3
