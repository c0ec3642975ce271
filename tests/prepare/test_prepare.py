"""A small model that diffusers saved, from a hub on loopback to a bundle: plan, stages, proof, interruptions."""

import io
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import published
import pytest
from filelock import FileLock
from loopback_hub import LoopbackHub, running
from small_published import save_small

from amused_lite.bundle import open_bundle
from amused_lite.console import terminal
from amused_lite.console.flags import progress
from amused_lite.installed import fingerprint, work_folder
from amused_lite.models.checkpoint import PublishedWeights
from amused_lite.models.networks import SavedWeights
from amused_lite.prepare import machine, proof, stages
from amused_lite.prepare.ask import prepare_first
from amused_lite.prepare.plan import check_disk, make_plan
from amused_lite.prepare.stages import BOUNDS, prepare
from amused_lite.runtimes.open import find_model

HUB_ID = "org/small"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small(tmp_path_factory.mktemp("small") / "model")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AMUSED_LITE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def nothing(what: str) -> None:
    return


@pytest.mark.parametrize(
    ("flags", "method"),
    [("avx2 avx512_vnni amx_int8", "dynamic"), ("avx2 avx_vnni", "dynamic"), ("avx2 fma", "weights")],
)
def test_the_method_follows_the_processor(
    flags: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text(f"model name\t: some\nflags\t\t: fpu {flags}\n")
    monkeypatch.setattr(machine, "_CPUINFO", told)
    assert machine.choose(8).method == method
    assert machine.choose(16).method == ""
    assert machine.choose(4).method == "weights"


def test_the_plan_says_what_it_takes_and_refuses_what_does_not_fit(
    small: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(str(small))
    files = small.glob("*/*.safetensors")
    assert 0.9 < 4 * plan.weights / sum(path.stat().st_size for path in files) <= 1
    assert plan.place.parent == home / "models"
    lines = "\n".join(plan.lines())
    for word in ("prepare", "8 bits for ONNX Runtime", "disk", "memory", "time"):
        assert word in lines
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000})())
    with pytest.raises(ValueError, match=r"needs .* on the disk of .*, 0.0 MB are free; make room, or set AMUSED_LITE"):
        check_disk(plan)
    for model, message in (("tiny", "is a bundle, ready as it is"), ("nowhere", "not found; give a folder in")):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            make_plan(model)
    with pytest.raises(ValueError, match="bits must be 8, 4, 16, got 5"):
        make_plan(str(small), bits=5)


def test_a_transformer_alone_takes_the_rest_from_its_base(small: Path, home: Path, tmp_path: Path) -> None:
    """As diffusers' training leaves its averaged weights, and as a single file."""
    averaged = tmp_path / "out" / "ema_model"
    published.make_uvit(seed=9).save_pretrained(averaged)
    file = averaged / "diffusion_pytorch_model.safetensors"
    expected = PublishedWeights(small)
    for transformer in (averaged, file):
        found = PublishedWeights(small, transformer=transformer)
        changed = [
            (part, not np.array_equal(ours, theirs))
            for part in ("text", "vqgan", "uvit.token_side")
            for (_, ours), (_, theirs) in zip(found.tensors(part), expected.tensors(part), strict=True)
        ]
        assert {part for part, other in changed if other} == {"uvit.token_side"}
        plan = make_plan(str(transformer), base=str(small))
        assert plan.commit.endswith(fingerprint(transformer))
    with pytest.raises(ValueError, match=r"is a transformer alone; say which model it belongs to, such as --base"):
        make_plan(str(averaged))
    with pytest.raises(ValueError, match=r"has no transformer's config.json, only ema_model; give .*ema_model"):
        make_plan(str(averaged.parent), base=str(small))


def test_weights_stream_as_the_parts_hold_them(small: Path) -> None:
    weights = PublishedWeights(small)
    for part in ("text", "uvit.prompt_side", "uvit.token_side", "vqgan"):
        state = weights.part(part).state_dict()
        streamed = list(weights.tensors(part))
        assert [name for name, _ in streamed] == sorted(state)
        assert all(np.array_equal(array, state[name].numpy()) for name, array in streamed)


class Swapped(SavedWeights):
    """The bundled model with two matrices of one shape in each other's place."""

    def part(self, name: str) -> Any:
        part = super().part(name)
        if name == "uvit.token_side":
            layer = part.layers[2].self_attention
            layer.query.weight, layer.key.weight = layer.value.weight, layer.query.weight
        return part


def test_the_self_test_passes_the_same_model_and_refuses_another() -> None:
    bundle = open_bundle(find_model("tiny"))
    place = bundle.path("weights.safetensors"), bundle.config
    same = proof.compare(bundle, proof.record(SavedWeights(*place), nothing), 1, nothing)
    proof.check(same, BOUNDS[16])
    assert same["unmask.agreement"] == 1
    other = proof.compare(bundle, proof.record(Swapped(*place), nothing), 1, nothing)
    print(f"the same model {same}, another {other}")
    with pytest.raises(ValueError, match=r"unmask.logits is 0.06\d from torch, 0.01 allowed"):
        proof.check(other, BOUNDS[16])


class Terminal(io.StringIO):
    """A person who types this."""

    def isatty(self) -> bool:
        return True


def test_a_model_is_asked_about_once(
    small: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    for typed, said in (("n\n", "Go on? [Y/n]"), ("y\n", "")):
        monkeypatch.setattr(sys, "stdin", Terminal(typed))
        monkeypatch.setattr(sys, "stderr", Terminal())
        prepare_first([str(small), "tiny", None], "auto", yes=False)
        shown = sys.stderr.getvalue()  # type: ignore[attr-defined]
        assert said in shown if said else shown == ""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    prepare_first(["org/never-seen"], "auto", yes=False)  # nobody to ask, so nothing is looked up
    prepare_first(["org/never-seen"], "torch", yes=True)
    assert [path.name for path in (home / "models").iterdir()] == [".asked"]


def test_two_processes_do_not_prepare_the_same_model(small: Path, home: Path) -> None:
    plan = make_plan(str(small))
    work = work_folder(plan.place)
    work.mkdir(parents=True)
    with (
        FileLock(work.with_name(f".{work.name}.lock")),
        pytest.raises(ValueError, match=r"is being prepared by another process; wait for it, or stop it"),
    ):
        prepare(plan)


def environment(hub: LoopbackHub, folder: Path, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_OFFLINE": "0",
        "AMUSED_LITE_HOME": str(folder / "home"),
        **more,
    }


def amused(*words: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "amused_lite", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)


@pytest.fixture
def hub(small: Path) -> Iterator[LoopbackHub]:
    with running() as hub:
        hub.add(HUB_ID, small)
        yield hub


@pytest.mark.slow
def test_from_nothing_to_a_picture_and_offline_afterwards(hub: LoopbackHub, tmp_path: Path) -> None:
    env = environment(hub, tmp_path)
    made = amused("generate", "a red star", "-m", HUB_ID, "--yes", "-o", str(tmp_path / "a.png"), env=env)
    assert made.returncode == 0, made.stderr
    assert "8 bits for ONNX Runtime" in made.stderr
    (bundle,) = (path for path in (tmp_path / "home" / "models").iterdir() if not path.name.startswith("."))
    manifest = json.loads((bundle / "manifest.json").read_text())
    source = manifest["options"]["source"]
    assert source["model"] == HUB_ID
    assert set(source["versions"]) >= {"torch", "onnx", "amused-lite"}
    assert manifest["parity"]["unmask.logits"] < 0.1
    hub.asked.clear()
    hub.gone = True
    again = amused("generate", "a red star", "-m", HUB_ID, "-o", str(tmp_path / "b.png"), env=env)
    assert again.returncode == 0, again.stderr
    assert hub.asked == []
    assert amused("show", str(tmp_path / "b.png"), env=env).stdout.count(HUB_ID) == 1
    assert amused("models", "verify", env=env).stdout == f"{HUB_ID}  8 bits, onnx  whole\n"


@pytest.mark.slow
@pytest.mark.parametrize("bits", ["16", "4"])
def test_other_bits_pass_the_self_test(bits: str, small: Path, hub: LoopbackHub, tmp_path: Path) -> None:
    """Of float32 weights, of which 16 bits round away more than of published ones in half precision."""
    made = amused("pull", str(small), "--bits", bits, "--yes", "--json", env=environment(hub, tmp_path))
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["parity"]["unmask.agreement"] > (0.99 if bits == "16" else 0.5)


@pytest.mark.slow
def test_killed_at_ten_random_moments_and_gone_on_with(hub: LoopbackHub, small: Path, tmp_path: Path) -> None:
    whole = amused("pull", HUB_ID, "--yes", "--json", env=environment(hub, tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    size = sum(path.stat().st_size for path in small.glob("*/*.safetensors"))
    hub.sent, hub.bytes_a_second = 0, size / 4
    env = environment(hub, tmp_path / "killed")
    chance = random.Random(0)
    for _ in range(10):
        command = [sys.executable, "-m", "amused_lite", "pull", HUB_ID, "--yes"]
        process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(chance.uniform(1, 25))
        process.kill()
        process.wait()
    hub.bytes_a_second = None
    last = amused("pull", HUB_ID, "--yes", "--json", env=env)
    assert last.returncode == 0, last.stderr
    found = [json.loads(run.stdout) for run in (whole, last)]
    records = [open_bundle(Path(item["folder"])).manifest.files for item in found]
    assert records[0] == records[1]
    assert found[0]["parity"] == pytest.approx(found[1]["parity"])
    left = [path.name for path in (tmp_path / "killed" / "home" / "models").iterdir()]
    assert sorted(left) == [".preparing", Path(found[1]["folder"]).name]
    assert [path for path in (tmp_path / "killed" / "home" / "models" / ".preparing").iterdir() if path.is_dir()] == []


def test_colours_fit_the_bundled_models_table() -> None:
    from amused_lite.export.colours import colour_table
    from amused_lite.files.safetensors import open_tensors
    from amused_lite.runtimes.open import open_model

    bundle = open_bundle(find_model("tiny"))
    name = "vqgan.codebook"
    codebook = open_tensors(bundle.path("weights.safetensors")).read([name])[name].astype(np.float32)
    runtime, _, _ = open_model("tiny", threads=1)
    table = colour_table(runtime.decode_image, codebook, bundle.config.uvit.grid)
    error = np.abs(table.astype(float) - bundle.colours()).mean()
    print(f"colours fitted on two grids: {error:.1f} grey levels from those of every code decoded")
    assert error < 6


def test_a_disk_that_fills_while_a_model_is_prepared_is_named(
    small: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # or modules first imported here are kept cut off
    monkeypatch.setattr(stages, "_forget_other_source", full)  # behind the last thing that is small
    try:
        with pytest.raises(
            OSError, match=r"the disk of .*home/models is full: preparing takes 1.\d MB, .* are free; make room"
        ):
            prepare(make_plan(str(small)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in (home / "models" / ".preparing").rglob("*.npz")] in ([], [".reference.npz"])


def moved(shown: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> str:
    """What a terminal that does not know its size is sent."""
    monkeypatch.setattr(terminal, "_TICK", 0.01)
    screen, window = os.openpty()  # a new one has 0 rows and columns
    with os.fdopen(window, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        shown()
        said = os.read(screen, 100_000).decode()
    os.close(screen)
    return said


def test_bars_move_while_a_stage_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare_slowly() -> None:
        with stages._bar(9, "prepare", None) as bar:
            bar.update(3)
            time.sleep(0.2)

    said = moved(prepare_slowly, monkeypatch)
    assert said.count("prepare |") > 3 and "3/9" in said


def test_a_picture_has_a_bar_from_its_prompt_to_its_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw_slowly() -> None:
        with progress(quiet=False) as watch:
            time.sleep(0.2)
            assert list(watch(iter("abc"), 3)) == ["a", "b", "c"]  # type: ignore[arg-type]
            time.sleep(0.2)

    said = moved(draw_slowly, monkeypatch)
    assert said.count("reading the prompt: ") > 3 and said.count("decoding: 100%") > 3
    assert said.index("reading the prompt") < said.index("unmasking:   0%") < said.index("decoding: 100%")
