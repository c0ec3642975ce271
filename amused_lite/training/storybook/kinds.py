"""The things of the storybook world: their names, and what they are called in each hand's set of drawings."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

HANDS = ("flat", "shaded", "blob", "soft", "ink")
HELD_OUT_HANDS = ("twemoji", "openmoji")  # for style tests; never in the bundled model's training

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black")
PALETTES = {
    "paint": COLOURS,
    "petals": ("red", "orange", "yellow", "blue", "purple", "pink", "white"),
    "apples": ("red", "yellow", "green"),
}
_NO_INK = ("yellow", "white", "black")  # too pale for lines, and what all ink is

# By the last word; other words take s, es or ies.
_PLURALS = {
    "broccoli": "broccoli",
    "deer": "deer",
    "dice": "dice",
    "fish": "fish",
    "leaf": "leaves",
    "loaf": "loaves",
    "mouse": "mice",
    "potato": "potatoes",
    "scarf": "scarves",
    "sheep": "sheep",
    "snowman": "snowmen",
    "squid": "squid",
    "tomato": "tomatoes",
    "tornado": "tornadoes",
    "volcano": "volcanoes",
    "wolf": "wolves",
}


@dataclass(frozen=True)
class Kind:
    """One thing that can be drawn."""

    name: str  # singular
    group: str  # "animals", "food", ...
    place: Literal["stands", "flies", "floats", "lies"]  # where it is at home: ground, air, water, or on something
    size_class: Literal["small", "medium", "large"]  # beside other things
    synonyms: tuple[str, ...]  # singular
    colours: tuple[str, ...]  # that it may have instead of its own; mostly none
    own_colour: tuple[str, ...]  # the hands in which it keeps its own all the same
    icons: Mapping[str, str]  # hand: name in that hand's set

    @property
    def plural(self) -> str:
        """The name for more than one."""
        return plural(self.name)

    @property
    def article(self) -> str:
        """The article that goes with the name: a or an."""
        return article(self.name)


def plural(words: str) -> str:
    """`words`, the name or a synonym of a thing, for more than one: boxes of popcorn, fir trees."""
    head, of, rest = words.partition(" of ")
    before, space, last = head.rpartition(" ")
    if last.endswith("fish"):
        many = last
    elif last in _PLURALS:
        many = _PLURALS[last]
    elif re.search(r"(s|x|z|ch|sh)$", last):
        many = last + "es"
    else:
        many = re.sub(r"(?<=[^aeiou])y$", "ie", last) + "s"
    return f"{before}{space}{many}{of}{rest}"


def article(words: str) -> str:
    """The article that goes with `words`: a or an, by how they sound."""
    return "an" if re.match(r"[aeio]|u(?!ni|fo)|hour", words) else "a"


def available(kind: str, colour: str | None = None) -> tuple[str, ...]:
    """The hands that draw a thing, in the order of `HANDS`; with a colour, those that can give it that colour.

    Raises:
        ValueError: there is no such thing.
    """
    if kind not in KINDS:
        raise ValueError(f"the storybook has no {kind!r}; its things are listed in kinds.toml")
    hands = tuple(hand for hand in HANDS if hand in KINDS[kind].icons)
    if colour is None:
        return hands
    if colour not in KINDS[kind].colours:
        return ()
    keep = KINDS[kind].own_colour + (("ink",) if colour in _NO_INK else ())
    return tuple(hand for hand in hands if hand not in keep)


def _read() -> dict[str, Kind]:
    kinds = {}
    for group, things in tomllib.loads(Path(__file__).with_name("kinds.toml").read_text(encoding="utf-8")).items():
        for name, entry in things.items():
            icon: str = entry.get("icon", name.replace(" ", "-"))
            names = dict.fromkeys(HANDS + HELD_OUT_HANDS, icon)
            names["soft"] = entry.get("soft", icon.replace("-", ""))
            kinds[name] = Kind(
                name,
                group,
                entry["place"],
                entry["size"],
                tuple(entry.get("synonyms", ())),
                PALETTES[entry["colours"]] if "colours" in entry else (),
                tuple(entry.get("own_colour", ())),
                MappingProxyType({hand: i for hand, i in names.items() if hand not in entry.get("without", ())}),
            )
    return kinds


KINDS: Mapping[str, Kind] = MappingProxyType(_read())
