"""The bundle's contract: every lie and every damage is found and named."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amused_lite.bundle import MANIFEST, Manifest, check_inputs, open_bundle, write_manifest
from amused_lite.config import PRESETS

CONFIG = PRESETS["tiny"]


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "name": "test",
        "preset": "tiny",
        "config": CONFIG,
        "image_size": 512,
        "precision": {"unmask": "float16"},
        "inputs": {"unmask": {"tokens": ("int32", [1, 1024]), "noise": ("float32", ["B", 1024])}},
        "weights_licence": "Apache-2.0",
    }
    return Manifest(**{**values, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small bundle; its modules are not run here."""
    (tmp_path / "unmask.onnx").write_bytes(b"graph" * 100)
    (tmp_path / "weights.safetensors").write_bytes(bytes(range(256)) * 10)
    np.save(tmp_path / "colours.npy", np.arange(3 * 1024, dtype=np.uint8).reshape(1024, 3))
    write_manifest(tmp_path, manifest())
    return tmp_path


def edit(folder: Path, **changes: Any) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_round_trip(folder: Path) -> None:
    bundle = open_bundle(folder)
    assert bundle.config == CONFIG
    assert replace(bundle.manifest, files={}) == manifest()
    assert set(bundle.manifest.files) == {"unmask.onnx", "weights.safetensors", "colours.npy"}
    assert bundle.manifest.model_hash == bundle.manifest.files["weights.safetensors"].sha256
    assert bundle.colours()[1].tolist() == [3, 4, 5]
    with pytest.raises(FileNotFoundError, match=r"has no encode_image.onnx, only"):
        bundle.path("encode_image.onnx")


@pytest.mark.parametrize("name", ["unmask.onnx", "weights.safetensors", "colours.npy"])
def test_one_flipped_bit_is_found(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ValueError, match=rf"{name} is damaged .*sha256 .* the manifest says"):
        open_bundle(folder)


def test_a_cut_file_is_found(folder: Path) -> None:
    os.truncate(folder / "weights.safetensors", 100)
    with pytest.raises(ValueError, match="has 100 bytes, the manifest says 2560"):
        open_bundle(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "unmask.onnx").unlink()
    with pytest.raises(FileNotFoundError, match=r"unmask.onnx is missing although the manifest lists it"):
        open_bundle(folder)


def test_no_manifest(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match="is not a bundle"):
            open_bundle(place)


def with_uvit(**changes: int) -> dict[str, Any]:
    values = asdict(CONFIG)
    return {**values, "uvit": {**values["uvit"], **changes}}


LIES: list[tuple[dict[str, Any], str]] = [
    ({"image_size": 256}, "image_size is 256, its own config gives 512"),
    ({"format_version": 99}, "update amused-lite"),
    ({"format_version": "x"}, 'format_version is "x", this version reads 1'),
    ({"guidance": "single"}, 'guidance is "single", expected one of pair'),
    ({"surprise": 1}, "'surprise' is not known"),
    ({"files": {"../../secret": {"sha256": "0" * 64, "size": 1}}}, "expected a plain path"),
    ({"files": {"/etc/passwd": {"sha256": "0" * 64, "size": 1}}}, "expected a plain path"),
    ({"files": {"..": {"sha256": "0" * 64, "size": 1}}}, "expected a plain path"),
    ({"files": {"a/../../b": {"sha256": "0" * 64, "size": 1}}}, "expected a plain path"),
    ({"files": {"a//b": {"sha256": "0" * 64, "size": 1}}}, "expected a plain path"),
    ({"files": {"a\\b": {"sha256": "0" * 64, "size": 1}}}, "expected a plain path"),
    ({"files": {"C:b": {"sha256": "0" * 64, "size": 1}}}, "expected a plain path"),
    ({"target": "abacus"}, 'target is "abacus", expected one of onnx, openvino, coreml, executorch, torch'),
    ({"options": 3}, "options is 3, expected object"),
    ({"files": ["unmask.onnx"]}, "files is a list of 1, expected object"),
    ({"files": {"unmask.onnx": {"size": 1}}}, "files.unmask.onnx.sha256 is missing"),
    ({"config": {}}, "its own config gives 256"),
    ({"config": 3}, "config is 3, expected object"),
    ({"config": with_uvit(heads=0)}, "config.uvit.heads is 0, expected int >= 1"),
    ({"config": with_uvit(layers=10**9)}, "config.uvit.layers is 1000000000, expected int <= 256"),
    ({"config": with_uvit(grid=256, codebook_size=2**19, vocab_size=2**20)}, "more than 268435456 numbers"),
    ({"config": with_uvit(codebook_size=7)}, "must be equal"),
]


@pytest.mark.parametrize(("change", "message"), LIES)
def test_lies_are_found(folder: Path, change: dict[str, Any], message: str) -> None:
    edit(folder, **change)
    with pytest.raises(ValueError, match=message):
        open_bundle(folder)


def test_a_manifest_of_the_first_version_opens(folder: Path) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"defaults": {"steps": 12}}))
    assert open_bundle(folder).manifest.name


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "[" * 100_000, "{}"])
def test_manifests_that_are_none(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    with pytest.raises(ValueError, match=r"manifest.json.*(again|manifest)"):
        open_bundle(folder)


def test_a_manifest_that_is_no_text(folder: Path) -> None:
    (folder / MANIFEST).write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ValueError, match=r"is not text|not JSON"):
        open_bundle(folder)


def test_a_pickled_colour_table_is_refused(folder: Path) -> None:
    np.save(folder / "colours.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    write_manifest(folder, manifest())
    with pytest.raises(ValueError, match=r"colours.npy is no colour table \(.*; export the bundle again"):
        open_bundle(folder).colours()


def test_large_bundles_are_hashed_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with (folder / "large.onnx").open("wb") as file:
        file.truncate(257 * 2**20)  # a hole: costs no disk
    write_manifest(folder, manifest())
    open_bundle(folder)
    (stamp,) = (tmp_path / "cache" / "amused-lite" / "verified").iterdir()
    open_bundle(folder)
    with (folder / "large.onnx").open("r+b") as file:
        file.write(b"x")  # the time changes, so the stamp does not count
    with pytest.raises(ValueError, match="is damaged"):
        open_bundle(folder)
    assert stamp.exists()


def test_module_inputs_must_be_as_promised() -> None:
    right = {"tokens": ("int32", (1, 1024)), "noise": ("float32", ("batch", 1024))}
    check_inputs(manifest(), "unmask", right, "graph")
    wrong: list[dict[str, tuple[str, tuple[Any, ...]]]] = [
        {"tokens": right["tokens"]},
        {"noise": right["noise"], "tokens": right["tokens"]},
        {**right, "tokens": ("int64", (1, 1024))},
        {**right, "tokens": ("int32", (1, 256))},
        {**right, "noise": ("float32", (1, 1024))},
        {**right, "noise": ("float32", ("batch", 1024, 1))},
    ]
    for found in wrong:
        with pytest.raises(ValueError, match="the manifest says"):
            check_inputs(manifest(), "unmask", found, "graph")
