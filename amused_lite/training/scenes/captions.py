"""A scene in words: lower case, colour always right before its noun, whatever is not the default said."""

from dataclasses import replace
from random import Random

from amused_lite import vocabulary
from amused_lite.training.scenes.chance import pick, pick_other
from amused_lite.training.scenes.scene import (
    BACKDROPS,
    COLOURS,
    CROWDS,
    KINDS,
    POSITIONS,
    SIZES,
    STYLES,
    Scene,
    is_heldout,
)

PLURALS = {kind: kind + "s" for kind in KINDS} | {"fish": "fish"}
NUMBERS = {2: ("two", "2"), 3: ("three", "3"), 4: ("four", "4")}
SIZE_WORDS = {"small": ("small", "little"), "medium": ("",), "big": ("big", "large")}
PLACES = {
    "centre": ("", "", "", "in the middle", "in the centre"),
    "left": ("on the left", "on the left side"),
    "right": ("on the right", "on the right side"),
    "top": ("at the top", "near the top"),
    "bottom": ("at the bottom", "near the bottom"),
}
# For each layout of a pair: phrases with the first subject first, and phrases with the second first.
RELATIONS = {
    "beside": (("left of", "to the left of", "and", "next to", "beside"), ("right of", "to the right of")),
    "stacked": (("above", "over"), ("below", "under", "beneath")),
}
SETTINGS = {
    "meadow": ("in a meadow", "in the meadow"),
    "sea": ("at sea", "by the sea"),
    "desert": ("in the desert", "in a desert"),
    "snow": ("in the snow", "in a snowy landscape"),
    "night": ("at night", "at night time"),
    "sunset": ("at sunset", "during sunset"),
}
STYLE_SUFFIXES = {
    "flat": (", flat style",),
    "cartoon": (", cartoon style", ", cartoon", " in cartoon style"),
    "paper": (", paper cut-out", ", paper cut-out style", " as a paper cut-out"),
}
OPENINGS = ("a picture of ", "a drawing of ", "an image of ")


def caption(scene: Scene, rng: Random, always_backdrop: bool = False) -> str:
    """One of the many ways to say `scene`.

    The flat style is mostly unsaid, and a meadow sometimes (so that a prompt without a backdrop has a known meaning)
    unless `always_backdrop`.
    """
    text = _subject_phrase(scene, rng)
    text = _with_setting(text, scene.backdrop, rng, always_backdrop)
    text = pick(rng, OPENINGS) + text if rng.random() < 0.15 and text[:2] in ("a ", "an") else text
    unsaid = rng.random() < 0.9
    suffix = pick(rng, STYLE_SUFFIXES[scene.style])
    return text if scene.style == "flat" and unsaid else text + suffix


def words() -> vocabulary.Groups:
    """Everything that a caption may say, see `amused_lite.vocabulary`."""
    singular = {kind: [PLURALS[kind]] for kind in KINDS}
    styles = {ways[0].strip(", "): [way.strip(", ") for way in ways[1:]] for ways in STYLE_SUFFIXES.values()}
    return {
        vocabulary.THINGS: singular,
        vocabulary.COLOURS: {colour: [] for colour in COLOURS},
        vocabulary.PLACES: {ways[0]: [*ways[1:], f"{place} background"] for place, ways in SETTINGS.items()},
        vocabulary.STYLES: styles,
        "relations": {way: [] for both in RELATIONS.values() for ways in both for way in ways},
        "numbers": {ways[0]: list(ways[1:]) for ways in NUMBERS.values()},
        "sizes": {ways[0]: list(ways[1:]) for ways in SIZE_WORDS.values() if ways[0]},
        "positions": {way: [] for ways in PLACES.values() for way in ways if way},
        "other": {way.strip(): [] for way in ("a", "an", *OPENINGS)},
    }


def hard_negatives(scene: Scene, rng: Random) -> list[str]:
    """Captions that are wrong for `scene` in exactly one respect, in random order; never of a held-out combination.

    The respects: a kind, a colour, colours exchanged, places exchanged, position, size, count, backdrop, style. Give an
    `rng` in the state that `caption` began with and each has the phrasing of that caption as far as it goes.
    """
    state = rng.getstate()
    chooser = Random(f"negatives/{rng.random()}")
    wrong = [other for other in _wrong_scenes(scene, chooser) if other != scene and not is_heldout(other)]
    said = []
    for other in sorted(wrong, key=lambda _: chooser.random()):
        rng.setstate(state)
        said.append(caption(other, rng, always_backdrop=True))
    return said


def _subject_phrase(scene: Scene, rng: Random) -> str:
    if scene.layout == "count":
        kind, colour = scene.subjects[0]
        return f"{pick(rng, NUMBERS[scene.count])} {colour} {PLURALS[kind]}"
    if scene.layout == "single":
        size, place = pick(rng, SIZE_WORDS[scene.size]), pick(rng, PLACES[scene.position])
        noun = _noun(scene.subjects[0], size)
        bare = noun.split(" ", 1)[1] if rng.random() < 0.1 else noun
        return f"{bare} {place}".strip()
    forward, inverse = RELATIONS[scene.layout]
    first, second = (_noun(subject) for subject in scene.subjects)
    inverted, along, against = rng.random() < 0.4, pick(rng, forward), pick(rng, inverse)
    return f"{second} {against} {first}" if inverted else f"{first} {along} {second}"


def _noun(subject: tuple[str, str], size: str = "") -> str:
    kind, colour = subject
    words = f"{size} {colour} {kind}".strip()
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _with_setting(text: str, backdrop: str, rng: Random, always: bool) -> str:
    form, setting = rng.random(), pick(rng, SETTINGS[backdrop])
    if form < 0.2 and backdrop == "meadow" and not always:
        return text
    if form > 0.9:
        return f"{text}, {backdrop} background"
    return f"{setting}, {text}" if form > 0.8 else f"{text} {setting}"


def _wrong_scenes(scene: Scene, rng: Random) -> list[Scene]:
    """One scene per respect and subject; some may equal `scene` (two things of one colour exchange nothing)."""
    wrong = [
        replace(scene, backdrop=pick_other(rng, BACKDROPS, scene.backdrop)),
        replace(scene, style=pick_other(rng, STYLES, scene.style)),
    ]
    for place, (kind, colour) in enumerate(scene.subjects):
        before, after = scene.subjects[:place], scene.subjects[place + 1 :]
        free = tuple(name for name in KINDS if name not in (kind, *(neighbour for neighbour, _ in before + after)))
        wrong.append(replace(scene, subjects=(*before, (pick(rng, free), colour), *after)))
        wrong.append(replace(scene, subjects=(*before, (kind, pick_other(rng, tuple(COLOURS), colour)), *after)))
    if scene.layout == "single":
        wrong.append(replace(scene, position=pick_other(rng, tuple(POSITIONS), scene.position)))
        wrong.append(replace(scene, size=pick_other(rng, tuple(SIZES), scene.size)))
    elif scene.layout == "count":
        wrong.append(replace(scene, count=pick_other(rng, tuple(CROWDS), scene.count)))
    else:
        (kind, colour), (second_kind, second_colour) = scene.subjects
        wrong.append(replace(scene, subjects=((kind, second_colour), (second_kind, colour))))
        wrong.append(replace(scene, subjects=scene.subjects[::-1]))
    return wrong
