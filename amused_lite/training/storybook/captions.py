"""A scene in words: lower case, many ways to say it, and whatever is not the default said."""

from dataclasses import replace
from random import Random

from amused_lite import vocabulary
from amused_lite.training.scenes.chance import pick, pick_other
from amused_lite.training.storybook.kinds import COLOURS, KINDS, article, available, plural
from amused_lite.training.storybook.layout import positions
from amused_lite.training.storybook.places import PLACES
from amused_lite.training.storybook.sampling import NAMES, Arrangement, fits, hands_for
from amused_lite.training.storybook.scene import RELATIONS, SIZES, StoryScene, Subject

NUMBERS = {1: ("one", "1"), 2: ("two", "2"), 3: ("three", "3"), 4: ("four", "4")}
SIZE_WORDS = {"small": ("small", "little", "tiny"), "medium": ("",), "big": ("big", "large", "huge")}
POSITION_PHRASES = {
    "centre": ("", "", "", "in the middle", "in the centre"),
    "left": ("on the left", "on the left side"),
    "right": ("on the right", "on the right side"),
    "top": ("at the top", "near the top"),
    "bottom": ("at the bottom", "near the bottom"),
}
# For each relation: phrases with the first subject first, and phrases with the second first. The other is said at
# {}, or else at the end. No phrase serves two relations.
RELATION_PHRASES = {
    "left of": (("to the left of", "left of", "next to", "beside", "and"), ("to the right of", "right of")),
    "above": (("above", "over", "high above"), ("below", "under", "beneath")),
    "on": (("on", "on top of"), ("with {} on top", "with {} on it")),
    "behind": (("behind",), ("in front of",)),
}
# For each hand: the name of a style, and of a single picture in it.
HAND_WORDS = {
    "flat": (("flat style", "flat colours"), ("flat drawing", "flat picture")),
    "shaded": (("shaded style", "shaded colours"), ("shaded drawing", "shaded picture")),
    "blob": (("blob style", "rounded blob style"), ("blob drawing", "rounded drawing")),
    "soft": (("soft cartoon style", "cartoon style"), ("soft cartoon", "cartoon")),
    "ink": (("ink style", "black ink lines"), ("ink drawing", "drawing in ink")),
}
TIME_PHRASES = {
    "day": ("by day", "in the daytime"),
    "dusk": ("at dusk", "at sunset", "in the evening"),
    "night": ("at night", "by night"),
}
WEATHER_PHRASES = {
    "clear": ("in clear weather", "under a clear sky"),
    "rain": ("in the rain", "in rainy weather", "while it rains"),
    "snow": ("in falling snow", "while it snows"),
    "fog": ("in the fog", "in fog", "in the mist"),
}
OPENINGS = ("a picture of", "an image of", "a scene with")
UNSAID_HAND = 0.75  # chance that the flat hand, the default, goes unsaid; other hands are always said
SYNONYM = 0.2


def caption(scene: StoryScene, rng: Random, always: bool = False) -> str:
    """One of the many ways to say `scene`.

    Unsaid are at times the defaults: a meadow, day, clear weather, the flat hand; place and hand never when `always`.
    The position of a thing in a crop is not said.
    """
    text = _subject_phrase(scene, rng)
    settings = _settings(scene, rng, always)
    if settings and rng.random() < 0.15:
        text = f"{' '.join(settings)}, {text}"
    elif settings:
        text = f"{text} {' '.join(settings)}"
    return _in_hand(text, scene.hand, rng, always)


def hard_negatives(scene: StoryScene, rng: Random) -> list[str]:
    """Captions that are wrong for `scene` in exactly one respect, in random order.

    The respects: a kind, a colour, things exchanged, relation, position, size, count, place, time, weather, hand. Give
    an `rng` in the state that `caption` began with and each has the phrasing of that caption as far as it goes.
    """
    state = rng.getstate()
    chooser = Random(f"negatives/{rng.random()}")
    said = []
    for other in sorted(_wrong_scenes(scene, chooser), key=lambda _: chooser.random()):
        rng.setstate(state)
        said.append(caption(other, rng, always=True))
    return said


def words() -> vocabulary.Groups:
    """Everything that a caption may say, see `amused_lite.vocabulary`."""
    said = {kind.name: (kind.name, *kind.synonyms) for kind in KINDS.values()}
    hands = {styles[0]: [*styles[1:], *pictures] for styles, pictures in HAND_WORDS.values()}
    times = {ways[0]: list(ways[1:]) for table in (TIME_PHRASES, WEATHER_PHRASES) for ways in table.values()}
    relations = [ways for both in RELATION_PHRASES.values() for ways in both]
    return {
        vocabulary.THINGS: {name: [*names[1:], *map(plural, names)] for name, names in said.items()},
        vocabulary.COLOURS: {colour: [] for colour in COLOURS},
        vocabulary.PLACES: {place.phrases[0]: list(place.phrases[1:]) for place in PLACES.values()},
        vocabulary.STYLES: hands,
        "times and weather": times,
        "relations": {way.replace("{}", "").replace("  ", " "): [] for ways in relations for way in ways},
        "numbers": {ways[0]: list(ways[1:]) for ways in NUMBERS.values()},
        "sizes": {ways[0]: list(ways[1:]) for ways in SIZE_WORDS.values() if ways[0]},
        "positions": {way: [] for ways in POSITION_PHRASES.values() for way in ways if way},
        "other": {way: [] for way in ("a", "an", "and", "in", "as", "of", *OPENINGS)},
    }


def _subject_phrase(scene: StoryScene, rng: Random) -> str:
    if scene.layout == "count":
        kind, colour = scene.subjects[0]
        name = _name(kind, rng)
        many = name if scene.count == 1 else plural(name)
        return " ".join(filter(None, (pick(rng, NUMBERS[scene.count]), colour, many)))
    if scene.layout == "single":
        size, place = pick(rng, SIZE_WORDS[scene.size]), pick(rng, POSITION_PHRASES[scene.position])
        noun = _noun(scene.subjects[0], rng, size, bare=rng.random() < 0.1)
        return f"{noun} {place}".strip() if scene.crop is None else noun
    nouns = [_noun(subject, rng) for subject in scene.subjects]
    if scene.layout == "group":
        return f"{', '.join(nouns[:-1])} and {nouns[-1]}"
    assert scene.relation is not None
    forward, inverse = RELATION_PHRASES[scene.relation]
    inverted, along, against = rng.random() < 0.4, pick(rng, forward), pick(rng, inverse)
    (said, other), phrase = (nouns[::-1], against) if inverted else (nouns, along)
    return f"{said} {phrase if '{}' in phrase else phrase + ' {}'}".format(other)


def _name(kind: str, rng: Random) -> str:
    synonyms, chance, which = KINDS[kind].synonyms, rng.random(), rng.random()
    return synonyms[int(which * len(synonyms))] if synonyms and chance < SYNONYM else kind


def _noun(subject: Subject, rng: Random, size: str = "", bare: bool = False) -> str:
    kind, colour = subject
    said = " ".join(filter(None, (size, colour, _name(kind, rng))))
    return said if bare else f"{article(said)} {said}"


def _settings(scene: StoryScene, rng: Random, always: bool) -> list[str]:
    """Phrases for place, time and weather, in this order or with the time first."""
    there = PLACES[scene.place]
    place, time = pick(rng, there.phrases), pick(rng, TIME_PHRASES[scene.time])
    weather, chances = pick(rng, WEATHER_PHRASES[scene.weather]), [rng.random() for _ in range(4)]
    default = (scene.place, scene.time, scene.weather) == ("meadow", "day", "clear")
    said = [place] if always or not default or chances[0] < 0.6 else []
    if len(there.times) > 1 and (scene.time != "day" or chances[1] < (0.6 if always else 0.25)):
        said = [time, *said] if chances[3] < 0.15 else [*said, time]
    if scene.weather != "clear" or (len(there.weathers) > 1 and scene.time == "day" and chances[2] < 0.1):
        said.append(weather)
    return said


def _in_hand(text: str, hand: str, rng: Random, always: bool) -> str:
    styles, pictures = HAND_WORDS[hand]
    style, picture, form, unsaid = pick(rng, styles), pick(rng, pictures), rng.random(), rng.random() < UNSAID_HAND
    opening = pick(rng, OPENINGS)
    starts_with_article = text.startswith(("a ", "an "))
    if hand == "flat" and unsaid and not always:
        return f"{opening} {text}" if form < 0.15 and starts_with_article else text
    if form < 0.3 and starts_with_article:
        return f"{article(picture)} {picture} of {text}"
    if form < 0.6:
        return f"{text}, {style}"
    return f"{text} in {style}" if form < 0.8 else f"{text}, as {article(picture)} {picture}"


def _wrong_scenes(scene: StoryScene, rng: Random) -> list[StoryScene]:
    """Scenes that differ from `scene` in one respect each, and could be drawn."""
    wrong = [*_wrong_settings(scene, rng), *_wrong_subjects(scene, rng)]
    if scene.layout == "single" and scene.crop is None:
        known = positions(scene.place, SIZES[scene.size], scene.canvas)
        if len(known) > 1:
            wrong.append(replace(scene, position=pick_other(rng, known, scene.position)))
    if scene.layout == "single":
        wrong.append(replace(scene, size=pick_other(rng, tuple(SIZES), scene.size)))
    elif scene.layout == "count":
        wrong.append(replace(scene, count=pick_other(rng, tuple(NUMBERS), scene.count)))
    elif scene.layout == "pair":
        wrong.append(replace(scene, relation=pick_other(rng, RELATIONS, scene.relation)))
        wrong.append(replace(scene, subjects=scene.subjects[::-1]))
    return wrong


def _wrong_settings(scene: StoryScene, rng: Random) -> list[StoryScene]:
    there = PLACES[scene.place]
    arrangement = Arrangement(scene.layout, scene.kinds, scene.relation, scene.count)
    places = [
        place
        for place, other in PLACES.items()
        if place != scene.place
        and scene.time in other.times
        and scene.weather in other.weathers
        and fits(arrangement, place, scene.canvas)
    ]
    wrong = [replace(scene, place=pick(rng, places))] if places else []
    if len(there.times) > 1:
        wrong.append(replace(scene, time=pick_other(rng, there.times, scene.time)))
    if len(there.weathers) > 1:
        wrong.append(replace(scene, weather=pick_other(rng, there.weathers, scene.weather)))
    hands = [hand for hand in hands_for(scene.kinds, seen=False) if hand != scene.hand]
    return wrong + ([replace(scene, hand=pick(rng, hands))] if hands else [])


def _wrong_subjects(scene: StoryScene, rng: Random) -> list[StoryScene]:
    wrong = []
    for place, (kind, colour) in enumerate(scene.subjects):
        before, after = scene.subjects[:place], scene.subjects[place + 1 :]
        while (other := pick(rng, NAMES)) in scene.kinds or scene.hand not in available(other):
            pass
        if colour is None:
            wrong.append(replace(scene, subjects=(*before, (other, None), *after)))
            continue
        colours = [name for name in KINDS[kind].colours if name != colour and scene.hand in available(kind, name)]
        if colours:
            wrong.append(replace(scene, subjects=(*before, (kind, pick(rng, colours)), *after)))
    return wrong
