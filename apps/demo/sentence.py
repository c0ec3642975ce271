"""A sentence that is written by tapping: where a thing, a colour, a place or a style goes in it. Knows no gradio."""

import random
import re

from amused_lite.vocabulary import COLOURS, PLACES, STYLES, THINGS, Vocabulary, words

EXAMPLE = "a blue cup by the sea"
EXAMPLE_SEED = 7
_STYLES = ("photograph, natural light", "watercolour painting", "oil painting", "pencil drawing", "flat poster art")
_WIDE = Vocabulary({STYLES: {style: [] for style in _STYLES}})  # of a model that knows more words than can be listed
_WISHES = (
    "a lighthouse on a cliff at dusk",
    "a bowl of lemons on a blue table",
    "a fox in a snowy forest",
    "a small wooden boat on a lake at sunrise",
)


def suggested(known: Vocabulary | None) -> Vocabulary:
    """What to offer for a model: all that it knows, or styles where that cannot be listed."""
    return known or _WIDE


def add(sentence: str, group: str, phrase: str, known: Vocabulary) -> str:
    """The sentence with one more phrase, in the place of one of its kind where there is room for one only."""
    rest, style = _taken_out(" ".join(sentence.split()), known.ways(STYLES), r",? ?(?:\b(?:in|as an?) )?")
    rest, place = _taken_out(rest, known.ways(PLACES), r",? ?")
    if group == STYLES:
        style = phrase
    elif group == PLACES:
        place = phrase
    elif group == COLOURS:
        rest = _with_colour(rest, phrase, known)
    else:
        rest = _with_thing(rest, phrase, known)
    said = f"{rest} {place}".strip()
    return _with_articles(f"{said}, {style}" if said and style else said or style)


def surprise(known: Vocabulary | None) -> str:
    """A sentence that the model can draw."""
    if known is None:
        return random.choice(_WISHES)
    (one, two), (thing, other) = random.sample(known.offered(COLOURS), 2), random.sample(known.offered(THINGS), 2)
    pair = f"a {one} {thing} {random.choice(('above', 'left of'))} a {two} {other}"
    return _with_articles(f"{random.choice((f'a {one} {thing}', pair))} {random.choice(known.offered(PLACES))}")


def _taken_out(text: str, ways: dict[str, str], before: str) -> tuple[str, str]:
    """The text without the first of these phrases, and that phrase as it was said."""
    for way in ways:
        found = re.search(rf"{before}\b{re.escape(way)}\b", text, re.IGNORECASE)
        if found:
            return " ".join(f"{text[: found.start()]} {text[found.end() :]}".split()).strip(" ,"), way
    return text, ""


def _any(ways: dict[str, str]) -> str:
    return rf"\b(?:{'|'.join(map(re.escape, ways))})\b"


def _with_colour(text: str, colour: str, known: Vocabulary) -> str:
    things = [*re.finditer(_any(known.ways(THINGS)), text, re.IGNORECASE)]
    before, after = (text[: things[-1].start()], text[things[-1].start() :]) if things else (f"{text} ", "")
    bare = re.sub(rf"{_any(known.ways(COLOURS))} $", "", before, flags=re.IGNORECASE)
    if not things and bare == before:
        bare += "a "
    return f"{bare}{colour} {after}".strip()


def _with_thing(text: str, thing: str, known: Vocabulary) -> str:
    if not text:
        return f"a {thing}"
    things = [*re.finditer(_any(known.ways(THINGS)), text, re.IGNORECASE)]
    last = words(text)[-1:]
    if last and last[0] in {"a", "an", *known.ways(COLOURS), *known.ways("sizes"), *known.ways("numbers")}:
        return f"{text} {thing}"
    if any(text.endswith(f" {way}") for way in known.ways("relations")):
        return f"{text} a {thing}"
    if len(things) > 1:
        return f"{text[: things[-1].start()]}{thing}{text[things[-1].end() :]}"
    return f"{text} and a {thing}"


def _with_articles(text: str) -> str:
    return re.sub(r"\ban? (?=(\w))", lambda found: "an " if found[1].lower() in "aeio" else "a ", text)
