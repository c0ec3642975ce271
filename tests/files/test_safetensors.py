"""Our reader and writer of safetensors against the format's own library, and against files that lie."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import save_file

from amused_lite.files.safetensors import open_tensors, write_tensors

ARRAYS = {
    "a.half": np.arange(6, dtype=np.float16).reshape(2, 3),
    "b": np.array([[1.5]], np.float32),
    "numbers": np.array([1, -2, 3], np.int32),
    "empty": np.zeros((0, 4), np.float32),
    "bytes": np.arange(3, dtype=np.uint8),
}


def test_the_format_s_own_library_reads_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "x.safetensors"
    write_tensors(path, ARRAYS, {"title": "blå"})
    found = load_numpy(path)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert open_tensors(path).metadata == {"title": "blå"}
    assert [file.name for file in path.parent.iterdir()] == ["x.safetensors"]


def test_we_read_what_it_writes(tmp_path: Path) -> None:
    tensors = {
        "half": torch.randn(3, 4).half(),
        "brain": torch.randn(5, 2).bfloat16(),
        "long": torch.arange(4),
        "scalar": torch.tensor(2.5),
    }
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    file = open_tensors(tmp_path / "x.safetensors")
    assert file.metadata == {"format": "pt"}
    for name, array in file.read().items():
        torch.testing.assert_close(
            torch.from_numpy(array.copy()).to(tensors[name].dtype), tensors[name], rtol=0, atol=0
        )
    assert list(file.read(["long"])) == ["long"]
    with pytest.raises(ValueError, match="has no array 'short'"):
        file.read(["short"])


def header(**entries: Any) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text


GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
BROKEN = {
    "nothing": b"",
    "short": b"\x01\x02",
    "a huge header": struct.pack("<Q", 2**60) + b"{}",
    "a header beyond the end": struct.pack("<Q", 500) + b"{}",
    "no JSON": struct.pack("<Q", 4) + b"{{{{",
    "a list": struct.pack("<Q", 2) + b"[]",
    "deep": struct.pack("<Q", 100_000) + b"[" * 100_000,
    "cut data": header(a=GOOD) + b"\0" * 7,
    "a strange dtype": header(a={**GOOD, "dtype": "F99"}) + b"\0" * 8,
    "a wrong size": header(a={**GOOD, "shape": [3]}) + b"\0" * 12,
    "a negative shape": header(a={**GOOD, "shape": [-1, -2]}) + b"\0" * 8,
    "a place before the data": header(a={**GOOD, "data_offsets": [-8, 0]}) + b"\0" * 8,
    "no offsets": header(a={"dtype": "F32", "shape": [2]}) + b"\0" * 8,
    "metadata of numbers": header(__metadata__={"a": 1}, a=GOOD) + b"\0" * 8,
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_files_are_refused_in_one_line(what: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(BROKEN[what])
    with pytest.raises(ValueError, match=r"x\.safetensors(:| is) .*get the file again") as caught:
        open_tensors(path)
    assert "\n" not in str(caught.value)


def test_every_cut_of_a_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": np.ones((2, 2), np.float32)}, {})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError):
            open_tensors(path)
    with pytest.raises(FileNotFoundError, match="is missing"):
        open_tensors(tmp_path / "nowhere.safetensors")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": np.ones(3, np.float32)}, {})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_tensors(path, {"a": np.zeros(3, np.float32)}, {})
    np.testing.assert_array_equal(open_tensors(path).read()["a"], np.ones(3))
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]
