"""One adapter file on every runtime: equal tokens, and clear words where it does not fit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from amused_lite.adapters.file import save_adapter
from amused_lite.adapters.loading import hash_of_bundle, open_adapters
from amused_lite.adapters.lora import TARGETS, Adapter, AdapterRecord, Pair, shapes_of
from amused_lite.bundle import open_bundle
from amused_lite.cli import main
from amused_lite.config import PRESETS
from amused_lite.files.png import read_recipe
from amused_lite.pipeline import AmusedPipeline
from amused_lite.runtimes.onnx import OnnxRuntime
from amused_lite.runtimes.open import find_model

TINY = PRESETS["tiny"]


def adapter(kind: str = "low_rank", **changes: object) -> Adapter:
    targets = TARGETS if kind == "low_rank" else ("attention",)
    rng = np.random.default_rng(0)
    pairs = {
        module: Pair(
            rng.normal(0, inside**-0.5, (4, inside)).astype(np.float32),
            rng.normal(0, 0.06, (outside, 4)).astype(np.float32),
        )
        for module, (outside, inside) in shapes_of(TINY, targets, kind).items()
    }
    base = hash_of_bundle(open_bundle(find_model("tiny")))
    record = AdapterRecord("gold", 4, 4.0, targets, "tiny", "tiny", base, kind, trigger="in gold style")
    return Adapter(replace(record, **changes), pairs)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(adapter(), tmp_path_factory.mktemp("adapter") / "gold.safetensors")


def tokens(runtime: str, *adapters: str) -> np.ndarray:
    amused = AmusedPipeline.open("tiny", runtime, threads=1, keep_loaded=True, adapters=adapters)
    return amused.generate("a red star", seed=3, steps=4).recipe.tokens


def test_torch_and_onnx_draw_the_same_tokens(file: Path) -> None:
    base = tokens("onnx")
    adapted = tokens("onnx", f"{file}:0.8")
    np.testing.assert_array_equal(adapted, tokens("torch", f"{file}:0.8"))
    assert (adapted != base).sum() > 10  # random matrices, yet small ones
    np.testing.assert_array_equal(tokens("onnx", f"{file}:0"), base)
    np.testing.assert_array_equal(tokens("torch", f"{file}:0"), tokens("torch"))
    np.testing.assert_array_equal(tokens("onnx", f"{file}:0.5", f"{file}:0.3"), adapted)  # two mix as one does


def test_a_bottleneck_runs_on_torch_only(tmp_path: Path) -> None:
    path = save_adapter(adapter("bottleneck"), tmp_path / "x.safetensors")
    assert (tokens("torch", str(path)) != tokens("torch")).any()
    with pytest.raises(ValueError, match=r"'gold' is a bottleneck, which cannot be merged .* --runtime torch"):
        tokens("onnx", str(path))
    OnnxRuntime(
        open_bundle(find_model("tiny")), adapters=open_adapters([(path, 0.0)], TINY).weighted_adapters
    )  # weight 0 is none


def test_a_wrong_base_is_refused_and_another_mentioned(tmp_path: Path, file: Path) -> None:
    other = save_adapter(adapter(preset="amused-512", base_model="amused/amused-512"), tmp_path / "512.safetensors")
    with pytest.raises(ValueError, match="made for amused-512, this model is tiny"):
        AmusedPipeline.open("tiny", adapters=[str(other)])
    trained_before = save_adapter(adapter(base_hash="0" * 64), tmp_path / "old.safetensors")
    (remark,) = AmusedPipeline.open("tiny", adapters=[str(trained_before)]).info.remarks
    assert "trained on other weights of tiny" in remark
    assert AmusedPipeline.open("tiny", adapters=[str(file)]).info.remarks == ()
    assert AmusedPipeline.open("tiny", "torch", adapters=[str(file)]).info.remarks == ()
    with pytest.raises(FileNotFoundError, match=r"nowhere.safetensors is missing"):
        AmusedPipeline.open("tiny", adapters=[str(tmp_path / "nowhere.safetensors")])
    with pytest.raises(ValueError, match="out of range; choose -1 to 2"):
        AmusedPipeline.open("tiny", adapters=[f"{file}:3"])


def test_the_command_takes_adapters_and_the_picture_remembers(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", "a red star", "-s", "3", "--steps", "4", "--adapter", f"{file}:0.8", "-q", "-o"]
    assert main([*words, str(tmp_path / "a.png")]) == 0
    assert "learned its look as 'in gold style'; say so in the prompt" in capsys.readouterr().err
    recipe = read_recipe(tmp_path / "a.png")
    (line,) = recipe.adapters
    assert line.startswith("gold:0.8 ") and len(line.split()[1]) == 10
    assert f'Lora hashes: "{line}"' in recipe.parameters()
    np.testing.assert_array_equal(recipe.tokens, tokens("onnx", f"{file}:0.8"))
    words[1] = "a red star in gold style"
    assert main([*words, str(tmp_path / "b.png")]) == 0
    assert "warning" not in capsys.readouterr().err
    assert main([*words[:-3], str(tmp_path / "none.safetensors"), "-o", str(tmp_path / "c.png")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
