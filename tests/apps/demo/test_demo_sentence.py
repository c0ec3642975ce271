"""A sentence that is written by tapping."""

import pytest
from amused_lite.apps.demo import sentence

from amused_lite.runtimes.open import BUNDLED, find_model
from amused_lite.vocabulary import COLOURS, PLACES, STYLES, THINGS, Vocabulary

KNOWN = Vocabulary.of(find_model(BUNDLED))
assert KNOWN is not None


@pytest.mark.parametrize(
    ("before", "group", "phrase", "after"),
    [
        ("", THINGS, "boat", "a boat"),
        ("", COLOURS, "orange", "an orange"),
        ("an orange", THINGS, "boat", "an orange boat"),
        ("an orange boat", COLOURS, "red", "a red boat"),
        ("a boat", COLOURS, "orange", "an orange boat"),
        ("an orange", COLOURS, "red", "a red"),
        ("a red boat", THINGS, "cup", "a red boat and a cup"),
        ("a red boat and a cup", THINGS, "car", "a red boat and a car"),
        ("a red boat above", THINGS, "car", "a red boat above a car"),
        ("a red boat at sea, cartoon style", COLOURS, "blue", "a blue boat at sea, cartoon style"),
        ("a red boat", PLACES, "at sea", "a red boat at sea"),
        ("a red boat by the sea, cartoon style", PLACES, "at night", "a red boat at night, cartoon style"),
        ("a red boat at sea", STYLES, "paper cut-out", "a red boat at sea, paper cut-out"),
        ("a red boat in cartoon style at sea", STYLES, "flat style", "a red boat at sea, flat style"),
        ("", PLACES, "at sea", "at sea"),
        ("a cat", THINGS, "boat", "a cat and a boat"),
        ("two  red", THINGS, "boat", "two red boat"),
    ],
)
def test_a_tap_writes_the_sentence(before: str, group: str, phrase: str, after: str) -> None:
    assert sentence.add(before, group, phrase, KNOWN) == after


def test_a_surprise_is_known_to_the_model() -> None:
    for _ in range(200):
        assert not KNOWN.unknown(sentence.surprise(KNOWN))
    assert not KNOWN.unknown(sentence.EXAMPLE)


def test_styles_are_offered_where_words_cannot_be_listed() -> None:
    wide = sentence.suggested(None)
    assert wide.offered(THINGS) == [] and len(wide.offered(STYLES)) == 5
    once = sentence.add("a fox", STYLES, "oil painting", wide)
    assert once == "a fox, oil painting"
    assert sentence.add(once, STYLES, "photograph, natural light", wide) == "a fox, photograph, natural light"
