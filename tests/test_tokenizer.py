"""The prompt tokenizer against transformers' CLIPTokenizer, and the small trained one on its own."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from amused_lite.tokenizer import END, START, Tokenizer

PROMPTS = [
    "",
    "a red balloon above a blue house in a meadow",
    "A  Photo\tof\n an Astronaut RIDING a horse, 4k!!",
    "it's the dog's bone; they've gone, I'd say we'll see, you're 'quoted'",
    "naïve café — déjà vu, e\u0301 composed, ﬁ ligature",
    "漢字 と かな 12345 ½ ²",
    "🎈🏠👩‍🚀🏳️‍🌈 emoji",
    "<|endoftext|> inside <|startoftext|>",
    "&amp; <b>html</b> C:\\path\\n {json: [1, 2]}",
    "x" * 400,
    "word " * 100,
    "عربي עברית हिन्दी ไทย \u200b zero width",
]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`vocab.json` and `merges.txt` as OpenAI's checkpoints have them, from the vocabulary inside open_clip."""
    import libraries  # noqa: F401
    from open_clip.tokenizer import SimpleTokenizer

    source = SimpleTokenizer()
    names = {"<start_of_text>": START, "<end_of_text>": END}
    folder = tmp_path_factory.mktemp("clip")
    vocab = {names.get(word, word): index for word, index in source.encoder.items()}
    (folder / "vocab.json").write_text(json.dumps(vocab))
    merges = [" ".join(pair) for pair in source.bpe_ranks]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    return folder


def test_ids_equal_transformers(published: Path) -> None:
    from transformers import CLIPTokenizer

    theirs = CLIPTokenizer(str(published / "vocab.json"), str(published / "merges.txt"), model_max_length=77)
    ours = Tokenizer.from_folder(published)
    source = random.Random(0)
    letters = "abcXYZ 019.,'!-éßЖ漢🎈\t\n\u00a0"
    prompts = [*PROMPTS, *("".join(source.choices(letters, k=source.randrange(120))) for _ in range(300))]
    expected = theirs(prompts, padding="max_length", truncation=True, max_length=77)["input_ids"]
    ids = ours.encode(prompts)
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids, np.array(expected))


def test_a_saved_tokenizer_is_the_same(published: Path, tmp_path: Path) -> None:
    ours = Tokenizer.from_folder(published)
    ours.save(tmp_path / "tokenizer.json")
    again = Tokenizer.from_file(tmp_path / "tokenizer.json", 77, 49406, 49407)
    np.testing.assert_array_equal(again.encode(PROMPTS), ours.encode(PROMPTS))


def test_a_folder_that_transformers_5_saved_is_the_same(published: Path, tmp_path: Path) -> None:
    """It has `tokenizer.json` alone, with the truncation that was last asked for inside."""
    from transformers import CLIPTokenizer

    theirs = CLIPTokenizer(str(published / "vocab.json"), str(published / "merges.txt"), model_max_length=77)
    theirs(PROMPTS, padding="max_length", truncation=True, max_length=9)
    theirs.save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.json").exists() and (tmp_path / "tokenizer.json").exists()
    ours = Tokenizer.from_folder(tmp_path)
    np.testing.assert_array_equal(ours.encode(PROMPTS), Tokenizer.from_folder(published).encode(PROMPTS))
    assert ours.dropped(" ".join(["word"] * 76)) == "word"


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"vocab.json is missing; get the model's tokenizer"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {"vocab": {}}}')
    with pytest.raises(ValueError, match=r"tokenizer.json: model.type is missing"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"merges.txt is missing"):
        Tokenizer.from_folder(tmp_path)


def test_what_does_not_fit_is_named(published: Path) -> None:
    ours = Tokenizer.from_folder(published)
    fits = " ".join(["word"] * 75)
    assert ours.dropped(fits) == ""
    assert ours.dropped(fits + " And The Rest") == "And The Rest"
    ids = ours.encode([fits + " and the rest"])[0]
    assert ids[0] == 49406 and ids[-1] == 49407 and (ids[1:-1] == ids[1]).all()


@pytest.fixture(scope="module")
def small() -> Tokenizer:
    return Tokenizer.train(_captions(), vocab_size=1024, context_length=32)


def _captions() -> list[str]:
    colours, things = ["red", "blue", "green"], ["balloon", "house", "tree", "star"]
    return [f"a {c} {t} above a {d} {u}" for c in colours for t in things for d in colours for u in things]


def test_trained_ids_lie_where_the_preset_says(small: Tokenizer) -> None:
    ids = small.encode(["a red balloon"])[0]
    assert (small.start, small.end) == (1022, 1023)
    assert ids[0] == 1022 and ids[4] == 1023 and (ids[4:] == 1023).all()  # three known words, three tokens
    assert ids.shape == (32,)


@pytest.mark.parametrize("text", ["a red balloon", "zebra 🎈 漢字", "ünïcode — ß", "x1y2 !?"])
def test_nothing_is_unknown_to_the_trained_one(small: Tokenizer, text: str) -> None:
    ids = small.encode([text])[0]
    plain = small.decode(ids).replace(" ", "")
    assert plain == text.lower().replace(" ", "")
    assert 0 <= ids.min() and ids.max() < 1024


def test_different_unknown_words_differ(small: Tokenizer) -> None:
    assert (small.encode(["🎈"]) != small.encode(["🏠"])).any()


def test_training_is_deterministic(small: Tokenizer, tmp_path: Path) -> None:
    small.save(tmp_path / "a.json")
    Tokenizer.train(_captions(), vocab_size=1024, context_length=32).save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_bytes_that_are_no_text_are_refused(small: Tokenizer) -> None:
    with pytest.raises(ValueError, match="UTF-8"):
        small.encode(["a \udcff balloon"])


def test_damaged_files_are_named(small: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with pytest.raises(FileNotFoundError, match=r"tokenizer.json is missing"):
        Tokenizer.from_file(path, 32, 1022, 1023)
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json: model is missing"):
        Tokenizer.from_file(path, 32, 1022, 1023)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not text"):
        Tokenizer.from_file(path, 32, 1022, 1023)
    small.save(path)
    with pytest.raises(ValueError, match="does not fit"):
        Tokenizer.from_file(path, 77, 49406, 49407)
    with pytest.raises(ValueError, match="vocab_size must be 514 or more"):
        Tokenizer.train(["a"], vocab_size=100)
