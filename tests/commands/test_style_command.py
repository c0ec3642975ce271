"""`amused-lite style` from pictures to a file that generate takes, on the bundled model; and what can go wrong."""

from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amused_lite.adapters.file import load_adapter
from amused_lite.adapters.lora import Adapter
from amused_lite.cli import main
from amused_lite.files.safetensors import open_tensors
from amused_lite.pipeline import AmusedPipeline
from amused_lite.style import job
from amused_lite.style.monitor import StyleMonitor

QUICK = ["--steps", "2", "--batch", "1", "--guessed-share", "0", "--threads", "1"]


@pytest.fixture(autouse=True)
def rough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples and candidates are drawn in two steps: nobody looks at them here."""
    monkeypatch.setattr(AmusedPipeline, "generate", partialmethod(AmusedPipeline.generate, steps=2))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "golden"
    folder.mkdir()
    for k in range(2):
        pixels = np.random.default_rng(k).integers(0, 256, (9, 9, 3), np.uint8)
        Image.fromarray(pixels).resize((160, 160)).save(folder / f"{k}.png")
        (folder / f"{k}.txt").write_text(["a red star", "a blue cup"][k])
    return folder


def train(pictures: Path, out: Path, *more: str) -> int:
    return main(["style", "train", str(pictures), "--style", "gold", "--out", str(out), *QUICK, *more])


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    errors = [line for line in error.splitlines() if line.startswith("amused-lite: error: ")]
    assert len(errors) == 1 and "Traceback" not in error
    return errors[0]


TOKENS = (
    ["--targets", "attention", "--crops", "2"],
    "2 pictures, 2 crops of each; 110,592 numbers",
    "in gold style",
    "rank 8",
)


@pytest.mark.parametrize(
    ("targets", "cost", "trigger", "rank"), [([], "2 pictures; 285,440 numbers", "", "rank 16"), TOKENS]
)
def test_pictures_to_adapter_to_picture(
    targets: list[str],
    cost: str,
    trigger: str,
    rank: str,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "gold.safetensors"
    sampled = ["--sample-every", "1", "--sample-prompt", "a star", "--sample-prompt", "a boat"]
    assert train(pictures, out, *sampled, *targets, "--licence", "CC0-1.0") == 0
    said = capsys.readouterr().out
    assert cost in said
    assert "2 steps of 1, " in said and "GB of memory" in said and "step 2: style " in said
    assert sorted(path.name for path in job.work_folder(out).glob("samples*")) == [
        "samples-00001.png",
        "samples-00001.safetensors",
        "samples-00002.png",
        "samples-00002.safetensors",
    ]
    adapter = load_adapter(out)
    record = adapter.record
    assert (record.trigger, record.preset, record.base_model, record.licence) == (
        trigger,
        "tiny",
        "tiny",
        "CC0-1.0",
    )
    assert record.recipe["pictures"] == 2 and record.recipe["style"] == "gold" and len(record.thumbnail) > 100
    assert any(np.abs(pair.up).max() > 0 for pair in adapter.pairs.values())
    picture = tmp_path / "star.png"
    words = [
        "generate",
        "a red star in gold style",
        "-s",
        "1",
        "--steps",
        "2",
        "-o",
        str(picture),
        "--adapter",
        str(out),
    ]
    assert main(words) == 0 and picture.exists()
    assert "warning" not in capsys.readouterr().err
    assert main(["style", "show", str(out)]) == 0
    shown = capsys.readouterr().out
    assert (trigger or "it needs no words") in shown and rank in shown and "learning_rate" in shown

    assert train(pictures, out, *targets) == 2
    assert "gold.safetensors is there already; choose another --out" in one_line(capsys)
    assert main(["style", "convert", str(out), str(tmp_path / "x.safetensors"), "--to", "diffusers"]) == 2
    assert "is for tiny, which diffusers' networks cannot be" in one_line(capsys)
    out.unlink()
    assert train(pictures, out, *targets, "--learning-rate", "1e-5") == 2  # must not go on from it
    assert "holds a training with other recipe; remove it to start anew" in one_line(capsys)
    (job.work_folder(out) / job.PLAN).write_text("")
    assert train(pictures, out, *targets) == 2
    assert "plan.json is not JSON " in one_line(capsys)


def test_a_full_disk_loses_nothing(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "gold.safetensors"

    def full(adapter: Adapter, path: Path) -> Path:
        raise OSError(28, "No space left on device", str(path))

    sampled = ["--sample-every", "1", "--sample-prompt", "a star"]
    save, best = job.save_adapter, iter((0.9, 0.1))

    def scored(watch: StyleMonitor, steps: int) -> str:
        watch.history.append((steps, next(best), 1.0))
        watch._remember()
        assert watch.keep is not None and watch.keep(steps)
        return ""

    def full_at_the_end(adapter: Adapter, path: Path) -> Path:
        return full(adapter, path) if path == out else save(adapter, path)

    with monkeypatch.context() as patch:
        patch.setattr(job, "save_adapter", full_at_the_end)
        patch.setattr(StyleMonitor, "__call__", scored)  # the first strip is the best one
        assert train(pictures, out, *sampled) == 2
    assert "No space left on device: " in one_line(capsys) and not out.exists()
    assert train(pictures, out, *sampled) == 0  # the steps are done; only the file was missing
    said = capsys.readouterr()
    assert "learning" not in said.err and "step 1 was the best" in said.out
    assert load_adapter(out).record.recipe["steps"] == 1


def test_feedback_draws_lets_choose_and_learns_again(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "gold.safetensors", tmp_path / "gold2.safetensors"
    assert train(pictures, first, "--no-samples") == 0
    words = ["style", "feedback", str(first), str(pictures), "--out", str(second), "--candidates", "3", *QUICK]
    words += ["--prompt", "a red star", "--prompt", "a boat"]
    assert main(words) == 0 and not second.exists()
    said = capsys.readouterr().out
    assert "  3  distance from the style " in said and "--pick " in said
    assert (tmp_path / "gold2.work" / "candidates" / "candidates.png").exists()
    (pictures / "bad.png").write_text("hello")
    assert main(words) == 2
    assert "bad.png cannot be used" in one_line(capsys)
    words.append("--skip-unreadable")
    assert main([*words, "--pick", "1,9"]) == 2
    assert "there is no candidate 9; pick from 1 to 3" in one_line(capsys)
    assert main([*words, "--pick", "3,1", "--no-samples"]) == 0
    assert load_adapter(second).record.recipe["pictures"] == 2
    assert load_adapter(second).record.recipe["style"] == "gold"


MISTAKES: list[tuple[list[str], str]] = [
    (["{folder}/nowhere"], "nowhere is missing; give a file or folder that is there"),
    (["{folder}/empty"], "no picture in"),
    (["{folder}/bad.png", "--caption", "a"], "bad.png cannot be used: it is no picture that can be read"),
    (
        ["{folder}/small.png", "--caption", "a"],
        "small.png cannot be used: it has 10x10 px, at least 16 a side are needed",
    ),
    (["{folder}/small.png"], "no caption for small.png"),
    (["{folder}/small.png", "--caption", "a", "--out", "x.png"], "--out x.png must end in .safetensors"),
    (["{folder}/small.png", "--caption", "a", "--targets", "hair"], "target 'hair' is unknown"),
    (
        ["{folder}/small.png", "--caption", "a", "--learning-rate", "nan"],
        "--learning-rate: must be 1e-09 to 1, got nan",
    ),
    (["{folder}/small.png", "--caption", "a", "--optimizer", "sgd"], "optimizer 'sgd' is unknown"),
    (["{folder}/small.png", "--caption", "a", "--checkpointing"], "--checkpointing is for learning tokens"),
    (["{folder}/small.png", "--caption", "a", "--device", "abacus"], "device 'abacus' cannot be used here"),
    (["{folder}/small.png", "--caption", "a", "--steps", "0"], "argument --steps: must be 1 or more"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_mistakes_cost_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.png").write_text("hello")
    Image.new("RGB", (10, 10)).save(tmp_path / "small.png")
    words = ["style", "train", *(word.format(folder=tmp_path) for word in words), "--style", "gold"]
    code = main(words)
    assert code == 2
    assert message in one_line(capsys)
    assert not (tmp_path / "gold.safetensors").exists()


def test_proposals_and_guesses(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "gold.safetensors"
    proposals = ["--propose", "a red star", "--propose", "a blue cup"]
    sampled_tokens = ["--guessed-share", "0.5", "--prior-prompt", "a boat at sea", "--prior-prompt", "two stars"]
    assert train(pictures, out, *proposals, *sampled_tokens, "--no-samples", "--steps", "1") == 0
    said = capsys.readouterr().out
    kept = open_tensors(job.work_folder(out) / job.PRIOR).read()["tokens"]
    assert kept.shape == (2, 1024)  # the model's pictures of both prompts
    assert load_adapter(out).record.recipe["guessed_share"] == 0.5
    assert "0.png: a " in said and "1.png: a " in said
    assert train(pictures, tmp_path / "x.safetensors", *proposals, "--caption", "a boat") == 2
    assert "leave one of them out" in one_line(capsys)


def test_help_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["style", "train", "--help"]) == 0
    assert "--prompt-dropout" in capsys.readouterr().out
    assert main(["style"]) == 2
