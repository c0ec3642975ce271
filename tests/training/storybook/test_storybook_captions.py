"""Captions of the storybook: what they say is shown, and the prompts it is scored on."""

import re
from collections import Counter
from random import Random

import pytest

pytest.importorskip("skia", reason="drawing scenes needs the extra 'train'")

from amused_lite.training.storybook import captions
from amused_lite.training.storybook.captions import caption, hard_negatives
from amused_lite.training.storybook.kinds import COLOURS, KINDS, plural
from amused_lite.training.storybook.places import PLACES
from amused_lite.training.storybook.prompts import CATEGORIES, heldout_prompts
from amused_lite.training.storybook.sampling import (
    is_heldout,
    random_scene,
    shows_unseen_colour,
    shows_unseen_hand,
    shows_unseen_pair,
)
from amused_lite.training.storybook.scene import CANVASES, StoryScene, meaning
from amused_lite.vocabulary import Vocabulary

NUMBERS = {1: "one|1", 2: "two|2", 3: "three|3", 4: "four|4"}
NAMES = {kind: (kind, *KINDS[kind].synonyms) for kind in KINDS}


@pytest.fixture(scope="module")
def said() -> list[tuple[StoryScene, str]]:
    scenes = [random_scene(4, index, "all", canvas) for canvas in CANVASES for index in range(2500)]
    return [(scene, caption(scene, Random(index))) for index, scene in enumerate(scenes)]


def has(text: str, phrase: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(phrase)}(?![\w-])", text) is not None


def without_names(scene: StoryScene, text: str) -> str:
    """The caption with each subject in capitals: names may hold words that mean something elsewhere ("snow cloud")."""
    for number, kind in enumerate(scene.kinds):
        names = [plural(name) for name in NAMES[kind]] if scene.layout == "count" and scene.count > 1 else NAMES[kind]
        found = [name for name in sorted(names, key=len, reverse=True) if has(text, name)]
        assert found, (kind, text)
        text = re.sub(rf"(?<![\w-]){re.escape(found[0])}(?![\w-])", f"THING{number}", text, count=1)
    return text


def other_phrases(table: dict[str, tuple[str, ...]], right: str) -> list[str]:
    own = " ".join(table[right])
    return [phrase for name, phrases in table.items() if name != right for phrase in phrases if phrase not in own]


def test_every_subject_is_named_with_its_colour(said: list[tuple[StoryScene, str]]) -> None:
    for scene, text in said:
        bare = without_names(scene, text)
        for number, (_, colour) in enumerate(scene.subjects):
            before = re.search(rf"(\w+) THING{number}", bare)
            word = before[1] if before else ""
            assert (word == colour) if colour else (word not in COLOURS), text


def test_no_other_place_time_weather_or_hand_is_said(said: list[tuple[StoryScene, str]]) -> None:
    places = {name: place.phrases for name, place in PLACES.items()}
    hands = {hand: tuple(phrase for both in pair for phrase in both) for hand, pair in captions.HAND_WORDS.items()}
    tables = {"place": places, "time": captions.TIME_PHRASES, "weather": captions.WEATHER_PHRASES, "hand": hands}
    for scene, text in said:
        bare = without_names(scene, text)
        for respect, table in tables.items():
            right = getattr(scene, respect)
            assert not [phrase for phrase in other_phrases(table, right) if has(bare, phrase)], (respect, text)
            default = right in ("meadow", "day", "clear", "flat")
            said_so = any(has(bare, phrase) for phrase in table[right])
            assert said_so or default or (respect == "time" and len(PLACES[scene.place].times) == 1), (respect, text)


def test_counts_sizes_and_positions_are_true(said: list[tuple[StoryScene, str]]) -> None:
    for scene, text in said:
        bare = without_names(scene, text)
        if scene.layout == "count":
            assert re.search(rf"\b({NUMBERS[scene.count]})\b( \w+)? THING0", bare), text
        else:
            assert not re.search(r"\b(one|two|three|four|\d)\b", bare), text
        sizes = other_phrases(captions.SIZE_WORDS, scene.size)
        assert not [word for word in sizes if word and has(bare, word)], text
        wrong = other_phrases(captions.POSITION_PHRASES, scene.position)
        wrong = [phrase for phrase in wrong if phrase and has(bare, phrase)]
        assert not wrong, text
        if scene.layout == "single" and scene.position != "centre" and scene.crop is None:
            assert any(has(bare, phrase) for phrase in captions.POSITION_PHRASES[scene.position]), text
        if scene.layout == "single" and scene.size != "medium":
            assert any(has(bare, word) for word in captions.SIZE_WORDS[scene.size]), text


RELATIONS = {
    "left of": ("left of|next to|beside|and", "right of"),
    "above": ("above|over", "below|under|beneath"),
    "on": ("on|on top of", "with"),
    "behind": ("behind", "in front of"),
}


def test_relations_are_true_in_both_directions(said: list[tuple[StoryScene, str]]) -> None:
    ways = Counter()
    for scene, text in said:
        if scene.relation:
            bare = without_names(scene, text)
            forward, inverse = RELATIONS[scene.relation]
            straight = re.search(rf"THING0 (?:to the |high )?({forward}) (?:an? )?(\w+ )?THING1", bare)
            turned = re.search(rf"THING1 (?:to the )?({inverse}) (?:an? )?(\w+ )?THING0", bare)
            assert bool(straight) != bool(turned), text
            assert not (turned and scene.relation == "on") or re.search(r"THING0 on (top|it)\b", bare), text
            ways[scene.relation, bool(turned)] += 1
    assert len(ways) == 8 and min(ways.values()) > 20


def test_captions_are_plain_text_of_known_words(said: list[tuple[StoryScene, str]]) -> None:
    known = Vocabulary(captions.words())
    for _, text in said:
        assert not known.unknown(text), text
        assert text == text.lower() and text == " ".join(text.split()) and " ," not in text
        assert not re.search(r"\ba [aeio]|\ban [^aeiouh]|\ba an?\b", text), text
        assert len(text.split()) < 45
    assert len({text for _, text in said}) > 0.95 * len(said)


def test_the_hand_is_mostly_said(said: list[tuple[StoryScene, str]]) -> None:
    phrases = [phrase for pair in captions.HAND_WORDS.values() for both in pair for phrase in both]
    share = sum(any(has(text, phrase) for phrase in phrases) for _, text in said) / len(said)
    assert 0.80 < share < 0.90


def test_hard_negatives_are_wrong_in_one_respect(said: list[tuple[StoryScene, str]]) -> None:
    for index, (scene, _) in enumerate(said[::10]):
        wrong = captions._wrong_scenes(scene, Random(index))
        assert len(wrong) >= 3
        for other in wrong:
            assert sum(a != b for a, b in zip(meaning(scene), meaning(other), strict=True)) == 1, (scene, other)
        right = caption(scene, Random(index), always=True)
        negatives = hard_negatives(scene, Random(index))
        assert len(negatives) == len(wrong) and right not in negatives


@pytest.mark.parametrize("canvas", CANVASES)
def test_the_prompts_are_fixed_distinct_and_of_their_category(canvas: int) -> None:
    prompts = heldout_prompts(canvas)
    assert prompts == heldout_prompts(canvas)
    assert len(prompts) == len({prompt.prompt for prompt in prompts}) == 500
    assert Counter(prompt.category for prompt in prompts) == CATEGORIES
    assert {prompt.category for prompt in prompts[:64]} == set(CATEGORIES)
    assert len({prompt.scene.kinds for prompt in prompts if prompt.category == "single"}) == 300
    for prompt in prompts:
        scene = prompt.scene
        assert scene.canvas == canvas and scene.crop is None and not scene.clutter
        unseen = [shows_unseen_hand(scene), shows_unseen_colour(scene), shows_unseen_pair(scene)]
        by_category = {"unseen hand": [True, False, False], "unseen colour": [False, True, False]}
        by_category["unseen pair"] = [False, False, True]
        assert unseen == by_category.get(prompt.category, [False, False, False])
        assert is_heldout(scene) == prompt.category.startswith("unseen")
    if canvas == 512:
        assert Counter(p.scene.count for p in prompts if p.category == "count") == {1: 10, 2: 10, 3: 10, 4: 10}
    assert set(Counter(p.scene.relation for p in prompts if p.category == "pair").values()) == {15}
