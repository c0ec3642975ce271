"""The words of a model that knows few: what it can draw, and which words of a sentence mean nothing to it.

A bundle may bring them as `words.json`, written when it was trained: {group: {phrase: [other ways to say it]}}. The
groups of `OFFERED` are what a sentence is made of; all others hold what else its captions said. A published checkpoint
brings none: it was taught more words than can be listed.
"""

import difflib
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self

from msgspec import Meta

from amused_lite.files.atomic import replace_text
from amused_lite.reading import convert, parse_object, read_text

WORDS = "words.json"
THINGS, COLOURS, PLACES, STYLES = "things", "colours", "places", "styles"
OFFERED = (THINGS, COLOURS, PLACES, STYLES)
_MOST_NAMED = 6  # unknown words in one remark
_REMEDY = "get the model again"

_Phrase = Annotated[str, Meta(min_length=1, max_length=80)]
Groups = dict[_Phrase, dict[_Phrase, Annotated[list[_Phrase], Meta(max_length=50)]]]


@dataclass(frozen=True)
class Vocabulary:
    """What a model knows, in groups of phrases."""

    groups: Groups = field(hash=False)

    @classmethod
    def of(cls, folder: Path) -> Self | None:
        """That of a model's folder; None where it brings none.

        Raises:
            ValueError: the file is not what its name says.
        """
        path = folder / WORDS
        if not path.is_file():
            return None
        said = convert(parse_object(read_text(path, _REMEDY), str(path), _REMEDY), Groups, str(path), _REMEDY)
        return cls(said)

    def save(self, folder: Path) -> None:
        """Write `words.json` into a bundle."""
        replace_text(folder / WORDS, json.dumps(self.groups, indent=1) + "\n")

    def offered(self, group: str) -> list[str]:
        """The phrases of a group, in the order of the file."""
        return list(self.groups.get(group, {}))

    def ways(self, group: str) -> dict[str, str]:
        """Every way to say a phrase of a group, and that phrase; longer ways first."""
        pairs = [(way, phrase) for phrase, others in self.groups.get(group, {}).items() for way in (phrase, *others)]
        return dict(sorted(pairs, key=lambda pair: -len(pair[0])))

    @cached_property
    def known(self) -> frozenset[str]:
        """Every single word."""
        said = [way for group in self.groups for way in self.ways(group)]
        return frozenset(word for way in said for word in words(way))

    def unknown(self, text: str, also: str = "") -> list[str]:
        """The words of a text that mean nothing here, each once; those of `also` are known, single letters no words."""
        taught = self.known | set(words(also))
        return list(dict.fromkeys(word for word in words(text) if len(word) > 1 and word not in taught))

    def nearest(self, word: str) -> list[str]:
        """What can be drawn and is spelled nearly the same, the nearest first."""
        named = {one for group in OFFERED for way in self.ways(group) for one in words(way) if len(one) > 2}
        return difflib.get_close_matches(word, sorted(named), 2, 0.72)

    def remark(self, text: str, also: str = "") -> str:
        """One line about the words of a text that mean nothing here, or ""."""
        unknown = self.unknown(text, also)
        if not unknown:
            return ""
        named = [_with_nearest(word, self.nearest(word)) for word in unknown[:_MOST_NAMED]]
        more = f" and {len(unknown) - _MOST_NAMED} more" if len(unknown) > _MOST_NAMED else ""
        said = f"this model was never shown {', '.join(named)}{more}"
        if any(self.nearest(word) for word in unknown):
            return said
        return f"{said}; it knows {', '.join(self.offered(THINGS)[:4])} and others (amused-lite words)"


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return re.findall(r"\w+(?:[-']\w+)*", text.lower())


def _with_nearest(word: str, near: list[str]) -> str:
    shown = repr(word if len(word) <= 30 else f"{word[:27]}...")
    return f"{shown} (did you mean {' or '.join(near)}?)" if near else shown
