"""A picture in less than 2 KB: what goes in comes out, and nothing else is taken for one."""

import json
import random
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_png import recipe

from amused_lite.cli import main
from amused_lite.files.png import Edit, Recipe, read_recipe
from amused_lite.files.tokens import _CHECK, _DICTIONARY, _HEAD, LIMIT, load_tokens, save_tokens
from amused_lite.pipeline import AmusedPipeline


def of_512(prompt: str = "a red balloon above a blue house in a meadow") -> Recipe:
    """As amused-512 makes them: 1024 tokens out of 8192, 1664 bytes of bits."""
    tokens = np.random.default_rng(0).integers(0, 8192, 1024, np.int32)
    return replace(recipe(8192, prompt), tokens=tokens, model="amused/amused-512", width=512, height=512)


@pytest.mark.parametrize("codebook_size", [2, 3, 1000, 1024, 8192])
@pytest.mark.parametrize("prompt", ["a red balloon", "🎈 漢字\nsecond line", "\ud800 alone"])
def test_everything_comes_back(tmp_path: Path, codebook_size: int, prompt: str) -> None:
    wanted = recipe(codebook_size, prompt)
    found = load_tokens(save_tokens(wanted, tmp_path / "a.tokens"))
    np.testing.assert_array_equal(found.tokens, wanted.tokens)
    assert (found.codebook_size, found.width, found.height) == (codebook_size, 64, 64)
    assert found.recipe is not None and found.model_hash == wanted.model_hash
    for name in vars(wanted):
        np.testing.assert_array_equal(getattr(found.recipe, name), getattr(wanted, name), name)


@pytest.mark.parametrize("words", [1, 20, 70, 2000])
def test_a_picture_of_the_published_size_is_below_2_kilobytes(tmp_path: Path, words: int) -> None:
    chooser = random.Random(words)
    prompt = " ".join("".join(chooser.choices("abcdefghijklmnop", k=6)) for _ in range(words))
    path = save_tokens(of_512(prompt), tmp_path / "a.tokens")
    assert path.stat().st_size <= LIMIT
    assert (load_tokens(path).recipe is not None) == (words <= 20)  # 70 words that no one uses do not fit


def test_an_edit_and_a_long_prompt_keep_the_tokens(tmp_path: Path) -> None:
    edited = replace(of_512(), edit=Edit("vary", {"strength": 0.5}, of_512().tokens))
    found = load_tokens(save_tokens(edited, tmp_path / "a.tokens"))
    assert found.recipe is None
    np.testing.assert_array_equal(found.tokens, edited.tokens)


def test_every_cut_and_every_changed_byte_is_seen(tmp_path: Path) -> None:
    short = replace(recipe(), tokens=recipe().tokens[:16])
    whole = save_tokens(short, tmp_path / "a.tokens").read_bytes()
    path = tmp_path / "b.tokens"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"b\.tokens"):
            load_tokens(path)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"b\.tokens"):
            load_tokens(path)


def forged(count: int, codebook_size: int, rest: bytes, length: int) -> bytes:
    head = _HEAD.pack(b"AMTOKENS", 1, codebook_size, count, 64, 64, bytes(32), length)
    return head + _CHECK.pack(zlib.crc32(head + rest)) + rest


def packed(text: bytes) -> bytes:
    compressor = zlib.compressobj(9, zdict=_DICTIONARY)
    return compressor.compress(text) + compressor.flush()


@pytest.mark.parametrize(
    "data",
    [
        forged(2**32 - 1, 1024, bytes(100), 0),
        forged(0, 1024, b"", 0),
        forged(4, 2**32 - 1, bytes(100), 0),
        forged(4, 0, bytes(100), 0),
        forged(4, 1000, b"\xff" * 5, 0),  # tokens of 1023
        forged(4, 1024, bytes(5), 2**32 - 1),
        forged(4, 1024, bytes(5) + b"no zlib", 7),
        forged(4, 1024, bytes(5) + (bomb := packed(bytes(2**24))), len(bomb)),
        forged(4, 1024, bytes(5) + (deep := packed(b"[" * 100_000)), len(deep)),
        forged(4, 1024, bytes(5) + (other := packed(b"[1, 2]")), len(other)),
        forged(4, 1024, bytes(5) + (lean := packed(b'{"prompt": "x"}')), len(lean)),
        forged(4, 1024, bytes(5) + (odd := packed(b'{"prompt": "\xff"}')), len(odd)),
        struct.pack("<8sB", b"AMTOKENS", 9) + bytes(100),
        b"AMTOKENS",
        b"",
        bytes(2**21),
        b"\x89PNG\r\n\x1a\n" + bytes(100),
    ],
    ids=range(17),
)
def test_forged_files_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.tokens").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.tokens"):
        load_tokens(tmp_path / "a.tokens")


def test_unknown_hashes_and_giants_are_refused(tmp_path: Path) -> None:
    for change in ({"model_hash": "none"}, {"model_hash": ""}, {"width": 70_000}):
        with pytest.raises(ValueError, match="a tokens file needs"):
            save_tokens(replace(recipe(), **change), tmp_path / "a.tokens")
    assert list(tmp_path.iterdir()) == []


def test_there_and_back_by_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    AmusedPipeline.open("tiny").generate("a yellow star", seed=7, steps=1).save("star.png")
    assert main(["tokens", "star.png"]) == 0
    assert main(["tokens", "star.tokens"]) == 0
    assert capsys.readouterr().out == "star.tokens\nstar-2.png\n"
    assert Path("star-2.png").read_bytes() == Path("star.png").read_bytes()
    assert Path("star.tokens").stat().st_size < LIMIT
    assert main(["show", "star.tokens", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(read_recipe("star.png").to_json())


@pytest.mark.parametrize("name", ["none.tokens", "none.png", "empty.tokens", "text.png"])
def test_bad_files_are_one_line(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.tokens").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    for command in ("tokens", "show"):
        assert main([command, str(tmp_path / name)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("amused-lite: error: ") and name in line


def test_another_models_tokens_are_not_decoded_silently(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_tokens(replace(of_512(), model="tiny"), "far.tokens")
    assert main(["tokens", "far.tokens"]) == 2
    assert "1024 tokens out of 8192, tiny draws 1024 out of 1024" in capsys.readouterr().err
    near = replace(of_512(), model="tiny", codebook_size=1024, tokens=of_512().tokens % 1024)
    save_tokens(near, "near.tokens")
    assert main(["tokens", "near.tokens"]) == 0
    assert "the picture may be another" in capsys.readouterr().err
