"""Pictures to shards: what is kept, what is dropped and counted, and what a kill leaves."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amused_lite import cli
from amused_lite.runtimes.open import open_model
from amused_lite.training.data.shards import MANIFEST, column_path, open_shards, read_manifest


def png(seed: int, size: tuple[int, int] = (640, 512), kind: str = "PNG") -> bytes:
    """A smooth random picture."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures to keep, and one for every reason to drop it."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "below").mkdir()
    for name in ("a.png", "b.png", "below/c.png", "low.png", "marked.png", "unsafe.png", "mute.png"):
        (folder / name).write_bytes(png(len(name)))
    (folder / "small.png").write_bytes(png(1, (100, 200)))
    cut = png(2, kind="JPEG")
    (folder / "cut.jpg").write_bytes(cut[: len(cut) // 2])
    for name in ("a", "small", "cut"):
        (folder / f"{name}.txt").write_text(f" a  {name}\n")
    (folder / "below" / "c.png.txt").write_text("a c")
    rows = [
        {"file_name": "b.png", "text": "a b", "aesthetic": 7.5, "original_width": 1280, "original_height": 1024},
        {"file_name": "low.png", "text": "a low", "AESTHETIC_SCORE": 4.4},
        {"file_name": "marked.png", "text": "a marked", "pwatermark": 0.6},
        {"file_name": "unsafe.png", "text": "a body", "punsafe": 0.5, "pwatermark": None},
    ]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def tokenize(*words: object) -> int:
    return cli.main(["tokenize", *map(str, words), "--threads", "1"])


def columns(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.npy"))}


def test_a_folder_becomes_shards_with_counts(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tokenize(pictures, tmp_path / "out") == 0
    said, named = capsys.readouterr()
    assert "warning: cut.jpg: unreadable" in named and "warning: mute.png: no caption" in named
    reasons = ("aesthetic score", "no caption", "too small", "unreadable", "unsafe", "watermark")
    assert [f"dropped 1: {reason}" in said for reason in reasons] == [True] * 6
    assert "3 samples of 1024 tokens in 1 shards" in said and "low.png" not in named
    manifest, shards = open_shards(tmp_path / "out")
    assert manifest.count == len(shards) == 3 and manifest.dropped == dict.fromkeys(reasons, 1)
    every = np.arange(3)
    # Width, height, top and left of the middle square of the scaled picture, score.
    assert shards.read("micro", every).tolist() == [
        [640, 512, 0, 64, 6],
        [1280, 1024, 0, 64, 7.5],
        [640, 512, 0, 64, 6],
    ]
    runtime, tokenizer, _ = open_model("tiny", "torch", 1)
    assert np.array_equal(shards.read("text", every), tokenizer.encode(["a a", "a b", "a c"]))
    square = Image.open(pictures / "a.png").convert("RGB").crop((64, 0, 576, 512))
    pixels = np.array(square).transpose(2, 0, 1)[None].astype(np.float32) / 255
    assert np.array_equal(shards.read("tokens", every[:1]), runtime.encode_image(pixels))


def test_killed_work_goes_on_and_other_work_is_refused(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("amused_lite.training.data.pictures.SHARD", 4)
    out = tmp_path / "out"
    assert tokenize(pictures, out) == 0
    whole, record = columns(out), (out / MANIFEST).read_text()
    # As a kill leaves it: no manifest of the end, a shard without its mark, a file cut short under another name.
    (out / "00001.done").unlink()
    column_path(out, "text", 0).unlink()
    (out / ".amused-1-ab.part.npy").write_bytes(b"half")
    (out / MANIFEST).write_text(json.dumps(json.loads(record) | {"shards": None}))
    with pytest.raises(ValueError, match="is not finished; run the same amused-lite tokenize again"):
        open_shards(out)
    assert tokenize(pictures, out) == 0
    assert columns(out) == whole and (out / MANIFEST).read_text() == record
    assert not list(out.glob(".amused*"))
    capsys.readouterr()
    assert tokenize(pictures, out, "--random-crops", "2") == 2
    assert f"{out} was begun from" in capsys.readouterr().err
    path = column_path(out, "tokens", 0)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"tokens-00000.npy is damaged: its sha256 differs; delete 00000.done"):
        open_shards(out)


def test_a_full_disk_costs_one_line_and_the_same_command_goes_on(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit on the size of files fails like a full disk: in the middle of writing."""
    resource = pytest.importorskip("resource")
    monkeypatch.setattr("amused_lite.training.data.pictures.SHARD", 4)
    monkeypatch.setattr("sys.dont_write_bytecode", True)  # or modules first imported here are kept cut off
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))  # the manifest fits, and the shard with one sample
    try:
        assert tokenize(pictures, tmp_path) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (error,) = (line for line in capsys.readouterr().err.splitlines() if "error:" in line)
    assert "tokens-00000.npy cannot be written" in error and "make room" in error
    assert not list(tmp_path.glob(".amused*")) and not list(tmp_path.glob("*.done"))
    assert tokenize(pictures, tmp_path) == 0 and open_shards(tmp_path)[0].count == 3


def test_random_crops_say_where_they_begin(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").symlink_to(pictures / "a.png")
    (tmp_path / "in" / "a.txt").write_text("a")
    assert tokenize(tmp_path / "in", tmp_path / "out", "--random-crops", "4") == 0
    _, shards = open_shards(tmp_path / "out")
    micro = shards.read("micro", np.arange(4))
    assert (micro[:, 2] == 0).all() and len({*micro[:, 3]}) > 2  # 640x512: room to the left and right only
    assert (micro[:, 3] <= 128).all()


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def test_tars_are_read_as_webdataset_has_them_and_a_broken_one_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("webdataset", reason="needs the extra 'train'")
    for number in range(2):
        with tarfile.open(tmp_path / f"{number:05d}.tar", "w") as tar:
            for key in range(2):
                add(tar, f"{key:03d}.png", png(key))
                add(tar, f"{key:03d}.json", json.dumps({"caption": f"a {key}", "aesthetic": 5 + key}).encode())
            add(tar, "002.png", png(2))
            add(tar, "002.json", b'{"caption": 3}')
            add(tar, "003.txt", b"no picture")
    second = tmp_path / "00001.tar"
    second.write_bytes(second.read_bytes()[: 2 * len(png(0))])  # within the second picture
    out = tmp_path / "out"
    assert tokenize(tmp_path / "{00000..00001}.tar", out) == 0
    said = capsys.readouterr().out
    for line in ("dropped 1: broken tar", "dropped 1: no picture", "dropped 1: unreadable metadata", "3 samples"):
        assert line in said
    _, shards = open_shards(out)
    assert shards.read("micro", np.arange(3))[:, 4].tolist() == [5, 6, 5]


def test_a_drawn_world_is_a_source_like_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tokenize("scenes", tmp_path) == 2
    assert "endless world; say how many with --pictures" in capsys.readouterr().err
    assert tokenize("scenes", tmp_path, "--pictures", 3) == 0
    assert read_manifest(tmp_path).count == 3


def test_bad_sources_cost_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "mute").mkdir()
    (tmp_path / "mute" / "a.png").write_bytes(png(0))
    cases = {
        (tmp_path / "empty",): "no picture below",
        (tmp_path / "nowhere",): "is no source of pictures; give a folder",
        (tmp_path / "3.tar",): "3.tar is missing (1 of 1); check the name",
        (tmp_path / "mute",): "no picture of",
        (tmp_path / "mute", "--pictures", 3): "--pictures is for the worlds",
    }
    for number, (words, expected) in enumerate(cases.items()):
        source, *rest = words
        assert tokenize(source, tmp_path / str(number), *rest) == 2
        assert expected in capsys.readouterr().err
    with pytest.raises(ValueError, match="holds no sample; all pictures were dropped"):
        open_shards(tmp_path / "3")


@pytest.mark.slow
@pytest.mark.parametrize("how", [("--workers", "2"), ("--workers", "2", "--ray", "local")], ids=["processes", "ray"])
def test_several_workers_write_the_same_shards(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: tuple[str, ...]
) -> None:
    if "--ray" in how:
        pytest.importorskip("ray", reason="needs the extra 'cluster'")
    monkeypatch.setattr("amused_lite.training.data.pictures.SHARD", 2)
    assert tokenize(pictures, tmp_path / "one") == 0
    assert tokenize(pictures, tmp_path / "two", *how) == 0
    assert columns(tmp_path / "one") == columns(tmp_path / "two")
    assert read_manifest(tmp_path / "one") == read_manifest(tmp_path / "two")
