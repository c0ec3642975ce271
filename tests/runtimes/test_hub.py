"""Downloads by the hub's own client from a hub on loopback: stopped, broken, damaged, refused, and gone on with."""

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import constants, file_download, hf_api
from loopback_hub import TOKEN, LoopbackHub, running
from safetensors.numpy import save_file

from amused_lite.prepare import plan
from amused_lite.runtimes.hub import HubModel, arrived, blobs, count_weights, fetch, look_up, wanted_files

PARTS = ("transformer", "vqvae", "text_encoder")
SIZE = 300_000  # bytes of a part's weights
LARGE = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in diffusers' layout whose weights are noise, with what else repositories hold."""
    folder = tmp_path_factory.mktemp("repository")
    noise = np.random.default_rng(0)
    for part in PARTS:
        (folder / part).mkdir()
        (folder / part / "config.json").write_text("{}")
        stem = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        for middle, size in (("", SIZE), (".fp16", SIZE // 2)):
            (folder / part / f"{stem}{middle}.safetensors").write_bytes(noise.bytes(size))
    for name in (
        "model_index.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "scheduler/scheduler_config.json",
        "README.md",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    (folder / "transformer" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "amused.safetensors").write_bytes(noise.bytes(10))
    return folder


@pytest.fixture
def hub(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A hub with the repository "org/model", and the client with an empty cache pointed at it."""
    with running() as hub:
        hub.add("org/model", files)
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
        monkeypatch.setattr(hf_api.api, "endpoint", hub.address)
        monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
        huggingface_hub.close_session()
        yield hub
        huggingface_hub.close_session()


def wanted(revision: str | None = None, variant: str | None = None) -> HubModel:
    return wanted_files(look_up("org/model", revision), PARTS, variant)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def nothing(count: int) -> None:
    return


def test_half_precision_is_preferred_and_nothing_else_is_fetched(hub: LoopbackHub, files: Path) -> None:
    counted: list[int] = []
    model = wanted()
    assert arrived(model) == 0
    folder = fetch(model, counted.append)
    assert names(folder) == {file.name for file in model.files}
    weights = {name for name in names(folder) if name.endswith(".safetensors")}
    assert len(weights) == 3
    assert all(".fp16." in name for name in weights)
    assert all((folder / name).read_bytes() == (files / name).read_bytes() for name in names(folder))
    assert sum(counted) == sum(file.size for file in model.files) == arrived(model)
    hub.asked.clear()
    fetch(model, nothing)
    assert hub.asked == []


def test_a_broken_connection_goes_on_within_one_run_and_in_the_next(hub: LoopbackHub, files: Path) -> None:
    model = wanted(variant="")
    hub.break_after, hub.breaks_left = 40_000, 3
    folder = fetch(model, nothing)
    assert (folder / LARGE).read_bytes() == (files / LARGE).read_bytes()
    starts = sorted(int(line.split()[1]) for line in hub.asked if LARGE in line)
    assert starts[0] == 0
    assert len(starts) == 1 or starts[1] > 0
    assert hub.sent < 1.1 * sum(file.size for file in model.files)


def test_what_arrived_before_the_hub_was_gone_is_kept(hub: LoopbackHub) -> None:
    model = wanted(variant="")
    hub.break_after, hub.gone_after_breaking = 50_000, True
    with pytest.raises(ConnectionError, match=r"what has arrived is kept"):
        fetch(model, nothing)
    (partial,) = blobs("org/model").glob("*.part")
    assert 40_000 < partial.stat().st_size <= 50_000
    assert arrived(model) > 40_000
    hub.gone, hub.break_after, hub.sent = False, None, 0
    fetch(model, nothing)
    assert hub.sent < sum(file.size for file in model.files) - 40_000


def test_a_file_that_is_not_what_the_hub_says_is_refused_and_comes_anew(hub: LoopbackHub, files: Path) -> None:
    model = wanted(variant="")
    hub.instead[LARGE] = bytes(SIZE)
    with pytest.raises(
        ValueError, match=r"arrived damaged \(sha256 .*, the hub says .*; it was deleted; run this again"
    ):
        fetch(model, nothing)
    hub.instead.clear()
    assert (fetch(model, nothing) / LARGE).read_bytes() == (files / LARGE).read_bytes()


def test_a_full_disk_is_said_and_what_has_arrived_is_kept(hub: LoopbackHub) -> None:
    model = wanted(variant="")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE // 2, before[1]))
    try:
        with pytest.raises(OSError, match=r"is full: .* lacks 0.1 MB, .* GB are free; make room and run this again"):
            fetch(model, nothing)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (partial,) = blobs("org/model").glob("*.part")
    assert partial.stat().st_size == SIZE // 2
    hub.sent = 0
    fetch(model, nothing)
    assert hub.sent < sum(file.size for file in model.files) - SIZE // 2 + 10


def test_revisions_are_told_apart(hub: LoopbackHub, files: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(files, other)
    (other / LARGE).write_bytes(bytes(SIZE))
    commit = hub.add("org/model", other, "v2")
    assert wanted("v2").commit == commit != wanted().commit
    assert (fetch(wanted("v2", ""), nothing) / LARGE).read_bytes() == bytes(SIZE)
    assert wanted(commit).commit == commit
    with pytest.raises(FileNotFoundError, match=r"'org/model' on the hub has no revision 'v3'; give a branch, a tag"):
        wanted("v3")


def test_a_private_model_needs_its_token(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.private = True
    with pytest.raises(FileNotFoundError, match=r"`hf auth login` if it is private"):
        wanted()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert names(fetch(wanted(), nothing))


def test_a_messy_repository_is_named_file_by_file(hub: LoopbackHub, files: Path, tmp_path: Path) -> None:
    messy = tmp_path / "messy"
    shutil.copytree(files, messy)
    shutil.rmtree(messy / "vqvae")
    hub.add("org/messy", messy)
    (messy / "text_encoder" / "model.safetensors").rename(messy / "text_encoder" / "pytorch_model.bin")
    (messy / "text_encoder" / "model.fp16.safetensors").unlink()
    (messy / "tokenizer" / "merges.txt").unlink()
    hub.add("org/messy", messy)
    said = (
        r"org/messy on the hub is not whole: vqvae/ has no safetensors weights; text_encoder/ has no safetensors "
        r"weights, only pytorch_model.bin, which can run code when read; vqvae/config.json, tokenizer/tokenizer.json "
        r"are missing; it has README.md, amused.safetensors, model_index.json, text_encoder/pytorch_model.bin, "
    )
    with pytest.raises(ValueError, match=said):
        wanted_files(look_up("org/messy"), PARTS)
    with pytest.raises(ValueError, match=r"transformer/ has no safetensors weights of variant 'bf16'; vqvae/ has no"):
        wanted(variant="bf16")
    with pytest.raises(ValueError, match=r"messy is not whole: vqvae/ has no .*; vqvae/config.json, tokenizer/tok"):
        plan.make_plan(str(messy))


def test_a_model_may_lie_in_a_subfolder_and_mix_its_precisions(hub: LoopbackHub, files: Path, tmp_path: Path) -> None:
    inner = tmp_path / "repository" / "fine" / "step-500"
    shutil.copytree(files, inner)
    (inner / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    for part in ("vqvae/diffusion_pytorch_model", "text_encoder/model"):
        (inner / f"{part}.fp16.safetensors").unlink()
    hub.add("org/inner", tmp_path / "repository")
    model = wanted_files(look_up("org/inner"), PARTS, subfolder="fine/step-500/")
    folder = fetch(model, nothing) / "fine/step-500"
    weights = {name for name in names(folder) if name.endswith(".safetensors")}
    plain = {"vqvae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"}
    assert weights == {"transformer/diffusion_pytorch_model.fp16.safetensors", *plain}
    with pytest.raises(ValueError, match=r"org/inner on the hub is not whole: transformer/ has no safetensors"):
        wanted_files(look_up("org/inner"), PARTS)
    with pytest.raises(ValueError, match=r"org/inner on the hub, in other/, is not whole"):
        wanted_files(look_up("org/inner"), PARTS, subfolder="other")
    with pytest.raises(ValueError, match=r"is a folder; leave --revision and --subfolder out"):
        plan.make_plan(str(inner), subfolder="fine")


def test_what_the_hub_had_is_remembered_for_when_it_is_gone(hub: LoopbackHub, tmp_path: Path) -> None:
    remembered = tmp_path / "work" / "hub.json"
    found = plan._look_up("org/model", None, None, None, remembered)
    remembered.parent.mkdir()
    remembered.write_text(json.dumps(asdict(found)))
    hub.gone = True
    assert plan._look_up("org/model", None, None, None, remembered) == found
    with pytest.raises(ConnectionError, match=r"connect to the network"):
        plan._look_up("org/model", None, None, None, tmp_path / "nothing.json")
    remembered.write_text("{}")
    with pytest.raises(ValueError, match=r"hub.json: name is missing; delete it and pull again"):
        plan._look_up("org/model", None, None, None, remembered)


def test_a_hash_that_is_none_is_refused(hub: LoopbackHub) -> None:
    commit = hub.branches["org/model", "main"]
    file = hub.repositories["org/model"][commit][LARGE]
    hub.repositories["org/model"][commit][LARGE] = file._replace(etag="../../../evil")
    with pytest.raises(ValueError, match=r"states no sha256 of transformer/diffusion_pytorch_model.safetensors but"):
        look_up("org/model")


def test_a_bundle_on_the_hub_needs_no_preparing(hub: LoopbackHub, files: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}")
    hub.add("org/bundle", bundle)
    with pytest.raises(plan.ReadyError, match=r"org/bundle is a bundle, ready as it is: amused-lite generate"):
        plan.make_plan("org/bundle")


def test_weights_are_counted_from_the_first_bytes_of_their_files(hub: LoopbackHub, files: Path, tmp_path: Path) -> None:
    real = tmp_path / "real"
    shutil.copytree(files, real, ignore=shutil.ignore_patterns("*.safetensors"))
    for part, kind in zip(PARTS, (np.float16, np.float32, np.float16), strict=True):
        save_file({"w": np.zeros((500, 1000), kind), "b": np.zeros(7, kind)}, real / part / "model.safetensors")
    hub.add("org/real", real)
    model = wanted_files(look_up("org/real"), PARTS)
    hub.sent = 0
    assert count_weights(model) == 3 * 500_007
    assert hub.sent < 400_000


FETCH = """
from amused_lite.runtimes.hub import fetch, look_up, wanted_files
print("ready", flush=True)
fetch(wanted_files(look_up("org/model"), {parts}, ""), lambda count: None)
"""


@pytest.mark.slow
def test_a_download_killed_at_ten_random_moments_goes_on(hub: LoopbackHub, files: Path, tmp_path: Path) -> None:
    home, chance = tmp_path / "hf", random.Random(0)
    more = {"HF_ENDPOINT": hub.address, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", "import huggingface_hub.constants as c; c.DOWNLOAD_CHUNK_SIZE = 1000"]
    command[-1] += FETCH.format(parts=PARTS)
    hub.bytes_a_second, hub.chunk = SIZE / 5, 2000
    for _ in range(10):
        process = subprocess.Popen(command, env={**os.environ, **more}, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        threading.Event().wait(chance.uniform(0.3, 3))  # the client's own sleep is switched off here
        process.kill()
        process.wait()
    hub.bytes_a_second = None
    subprocess.run(command, env={**os.environ, **more}, check=True, timeout=60)
    (folder,) = (home / "hub" / "models--org--model" / "snapshots").iterdir()
    assert all((folder / name).read_bytes() == (files / name).read_bytes() for name in names(folder))
    assert len([name for name in names(folder) if name.endswith(".safetensors")]) == 3
    assert list((home / "hub").rglob("*.part")) == []
    print(f"asked for {hub.asked}; {hub.sent} bytes sent for {3 * SIZE} of weights")
    assert 3 * SIZE <= hub.sent < 1.5 * 3 * SIZE
    assert len({line for line in hub.asked if line.split()[1] != "0"}) > 2  # gone on with, in the middle of a file
