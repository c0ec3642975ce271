"""The list of things: names that mean one thing each, and three hands or more for every one."""

import re
import tomllib
from collections import Counter
from importlib import resources
from pathlib import Path

import pytest

pytest.importorskip("resvg_py", reason="the storybook needs the extra 'train'")
pytest.importorskip("skia", reason="the storybook needs the extra 'train'")

from amused_lite.training.storybook.drawings.sets import HELD_OUT, SETS
from amused_lite.training.storybook.kinds import (
    COLOURS,
    HANDS,
    HELD_OUT_HANDS,
    KINDS,
    article,
    available,
    plural,
)


def test_there_are_enough_things_and_three_hands_draw_each() -> None:
    assert len(KINDS) >= 330
    assert not [name for name in KINDS if len(available(name)) < 3]
    assert set(HANDS).isdisjoint(HELD_OUT_HANDS)


def test_no_word_means_two_things() -> None:
    words = [word for kind in KINDS.values() for word in (kind.name, *kind.synonyms)]
    several = {plural(word) for word in words} - set(words)  # deer, fish, sheep are both
    assert not [word for word, count in Counter([*words, *several]).items() if count > 1]
    assert len({plural(word) for word in words}) == len(words)


def test_words_are_plain() -> None:
    words = [word for kind in KINDS.values() for word in (kind.name, *kind.synonyms)]
    assert not [word for word in words if not re.fullmatch(r"[a-z]+([ -][a-z]+)*", word)]
    assert not [word for word in words if word in COLOURS]  # an orange, a pink: said of colours only


def test_no_two_things_share_a_drawing() -> None:
    for hand in HANDS + HELD_OUT_HANDS:
        icons = [kind.icons[hand] for kind in KINDS.values() if hand in kind.icons]
        assert not [icon for icon, count in Counter(icons).items() if count > 1]


def test_every_entry_says_only_what_is_read() -> None:
    file = resources.files("amused_lite.training.storybook") / "kinds.toml"
    read = {"place", "size", "synonyms", "icon", "soft", "without", "colours", "own_colour"}
    for things in tomllib.loads(file.read_text(encoding="utf-8")).values():
        for name, entry in things.items():
            assert set(entry) <= read, name
            assert set(entry.get("without", ())) <= {*HANDS, *HELD_OUT_HANDS}, name
            assert set(entry.get("own_colour", ())) <= set(available(name)), name
    assert {kind.place for kind in KINDS.values()} == {"stands", "flies", "floats", "lies"}
    assert {kind.size_class for kind in KINDS.values()} == {"small", "medium", "large"}


def test_recolourable_things_are_so_in_several_hands() -> None:
    coloured = [kind for kind in KINDS.values() if kind.colours]
    assert len(coloured) >= 60
    assert not [(kind.name, c) for kind in coloured for c in kind.colours if len(available(kind.name, c)) < 2]
    assert available("car", "red") == HANDS
    assert "ink" not in available("car", "yellow")  # too pale for lines
    assert available("cat", "red") == ()


def test_the_page_about_it_has_these_figures() -> None:
    page = (Path(__file__).parents[3] / "docs" / "training" / "storybook.md").read_text(encoding="utf-8")
    kinds = list(KINDS.values())
    for drawings in SETS:
        count = sum(drawings.hand in kind.icons for kind in kinds)
        row = rf"\| {drawings.hand} \| \[{drawings.title}\]\({drawings.source}\) \| {count} \| {drawings.author} \| "
        assert re.search(row + rf"{drawings.licence} \| `{drawings.package}` {drawings.version} \|", page), row
    for drawings in HELD_OUT:
        count = sum(drawings.hand in kind.icons for kind in kinds)
        assert f"{drawings.licence}, {count} things" in " ".join(page.split())
    places = Counter(kind.place for kind in kinds)
    said = f"({places['stands']} stand, {places['flies']} fly, {places['floats']} float, {places['lies']} lie about)"
    assert said in " ".join(page.split())
    assert f"{len(kinds)} named things" in page and f"{sum(bool(k.colours) for k in kinds)} things can have" in page


@pytest.mark.parametrize(
    ("words", "many"),
    [
        ("mouse", "mice"),
        ("fir tree", "fir trees"),
        ("loaf of bread", "loaves of bread"),
        ("box of popcorn", "boxes of popcorn"),
        ("puppy", "puppies"),
        ("key", "keys"),
        ("blowfish", "blowfish"),
    ],
)
def test_plurals(words: str, many: str) -> None:
    assert plural(words) == many


@pytest.mark.parametrize(
    ("words", "wanted"),
    [("cat", "a"), ("owl", "an"), ("unicorn", "a"), ("umbrella", "an"), ("hourglass", "an"), ("ufo", "a")],
)
def test_articles(words: str, wanted: str) -> None:
    assert article(words) == wanted
