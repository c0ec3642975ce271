"""Write what amused_lite itself computes, for the Swift package's tests to compare with: `vectors.py OUT [PICTURES]`.

Text ids of 2,000 prompts, random words of 100 keys, schedules, and the recipes of a few pictures and edits, which hold
their tokens: as OUT/vectors.json, which also says where the bundled model is.
"""

import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import amused_lite
from amused_lite.bundle import open_bundle
from amused_lite.editing.geometry import to_pixels
from amused_lite.editing.operations import inpaint, vary
from amused_lite.files.png import Recipe
from amused_lite.pipeline import AmusedPipeline
from amused_lite.sampling import noise
from amused_lite.sampling.distribution import halton_noise
from amused_lite.sampling.schedule import SCHEDULES, mask_schedule
from amused_lite.sampling.settings import GenerateOptions

PROMPTS = 2000
_TRUNCATIONS: list[dict[str, Any]] = [
    {"top_k": 40, "top_p": 0.9, "min_p": 0.02},
    {"top_k": 3},
    {"top_p": 0.8},
    {"min_p": 0.1, "order": "halton"},
]
_WORDS = (
    "a red balloon above the blue house two green trees on beach at night don't we'll they're it's I'd o'clock "
    "CAT Äpfel über straße ÉCLAIR naïve İstanbul ΣΊΣΥΦΟΣ ὈΔΥΣΣΕΎΣ привет Москва 東京 の猫 한국어 العربية हिन्दी ไทย "
    "🎈 👩‍👩‍👧 🏳️‍🌈 ☕️ … — “quoted” #tag @name 50% 3.14 1,000 ½ ² Ⅷ ٣ $9 a+b=c x_y <|endoftext|> <|STARTOFTEXT|> "
    "e\u0301 n\u0303 \u1e9b\u0323 ﬁre \u00a0 \u3000 \u200b \u2028 \u00ad ''s 's \u2019s !! ?! ... :-) ;;'ll 'Re "
    "(deep) [x] \\ / ~ ` ^"
).split(" ")


def prompts(count: int) -> list[str]:
    """Words, signs and letters of many scripts, mixed; the first ones alone."""
    rng = random.Random(0)
    alphabet = [chr(code) for code in (*range(32, 0x250), *range(0x370, 0x530), *range(0x2000, 0x2070), 0x1F600)]
    texts = ["", " ", "a", *_WORDS]
    while len(texts) < count:
        if len(texts) % 4:
            texts.append(rng.choice((" ", " ", "  ", "")).join(rng.choices(_WORDS, k=rng.randint(1, 12))))
        else:
            texts.append("".join(rng.choices(alphabet, k=rng.randint(1, 30))))
    return texts[:count]


def random_words() -> list[dict[str, Any]]:
    """Keys of noise with the raw words of two blocks, as text since JSON's numbers do not hold 64 bits everywhere."""
    rng = random.Random(1)
    keys = [(0, 0, 0, 0), (2**64 - 1, 2**32 - 1, 2**31 - 1, 1), (7, 0, 0, 2)]
    keys += [
        (rng.getrandbits(64), rng.getrandbits(32), rng.getrandbits(rng.choice((5, 31))), rng.randrange(3))
        for _ in range(97)
    ]
    found = []
    for seed, picture, step, stream in keys:
        key = np.array([seed, picture << 32 | step << 1 | stream & 1], np.uint64)
        words = np.random.Philox(key=key, counter=(stream >> 1) << 192).random_raw(8)
        numbers = noise.gumbel(seed, picture, step, stream, (16,))
        found.append({
            "key": [str(part) for part in (seed, picture, step, stream)],
            "words": [str(word) for word in words.tolist()],
            "gumbel": numbers.tolist(),
        })  # fmt: skip
    return found


def encoded(amused: AmusedPipeline, recipe: str) -> list[int]:
    """The tokens that a picture's pixels are read as, which are not all those it was drawn from."""
    image = amused.decode(Recipe.from_json(recipe).tokens)
    return amused.runtime.encode_image(to_pixels(image))[0].tolist()


def pictures(amused: AmusedPipeline, count: int) -> list[dict[str, Any]]:
    """New pictures of several settings, then a variation and an inpainting of the first."""
    subjects = ["red balloon", "yellow star", "blue house", "green tree", "white boat", "small cat", "orange moon"]
    made = []
    for number in range(count):
        prompt = f"a {subjects[number % len(subjects)]} above a {subjects[(number + 2) % len(subjects)]}"
        extra: dict[str, Any] = {}
        if number % 4 == 1:
            extra = {"order": "halton", "guidance_interval": (0.0, 0.5)}
        elif number % 4 == 2:
            extra = {"steps": 5, "guidance_scale": 3.0, "token_temperature": 0.8, "guidance_schedule": "linear"}
        elif number % 4 == 3:
            extra = _TRUNCATIONS[number // 4 % len(_TRUNCATIONS)]
        made.append(amused.generate(prompt, "red" if number % 4 == 3 else "", seed=number, **extra))
    size = amused.runtime.config.image_size
    mask = Image.new("L", (size, size))
    mask.paste(255, (size // 4, size // 3, size // 2, size))
    made.append(amused.run(vary(amused, made[0], "a green tree", strength=0.6, seed=3)))
    made.append(amused.run(inpaint(amused, made[0], mask, "a yellow star", seed=4)))
    return [{"recipe": one.recipe.to_json(), "parameters": one.recipe.parameters()} for one in made]


def refused(recipe: str) -> dict[str, str]:
    """Recipes that ask for what the package does not draw, by the name it has to say."""
    asked: dict[str, dict[str, Any]] = {
        "refine": {"refine": 2},
        "adapters": {"adapters": ["ink:1 0123456789"]},
        "stopped_after": {"stopped_after": 3},
        "micro_conditioning": {"micro_conditioning": [512, 512, 0.0, 0.0, 7.0]},
        "outpaint": {"edit": {"operation": "outpaint", "settings": {"grid": [20, 16]}, "tokens": "1:AAA="}},
    }
    return {name: json.dumps(json.loads(recipe) | values) for name, values in asked.items()}


def main() -> None:
    """Write everything."""
    out, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3
    out.mkdir(parents=True, exist_ok=True)
    folder = Path(amused_lite.__file__).parent / "bundled"
    bundle = open_bundle(folder)
    amused = AmusedPipeline.open("tiny", "onnx", keep_loaded=True)
    texts = prompts(PROMPTS)
    grid = bundle.config.uvit.grid
    vectors = {
        "bundle": str(folder),
        "prompts": texts,
        "ids": [row.tolist() for row in amused.tokenizer.encode(texts)],
        "noise": random_words(),
        "schedules": [
            {"name": name, "masked": masked, "steps": steps, "first": first,
             "counts": mask_schedule(masked, steps, first, name)}
            for name in SCHEDULES for masked in (1, 64, 256, 777, grid * grid) for steps in (1, 2, 5, 12, 31)
            for first in {0, steps // 2}
        ],
        "halton": halton_noise((grid, grid)).tolist(),
        "mask_temperatures": [
            GenerateOptions(steps=n).complete(bundle.config).mask_temperatures()
            for n in (1, 2, 7, 12, 24)
        ],
        "pictures": (made := pictures(amused, count)),
        "refused": refused(made[0]["recipe"]),
        "encoded": encoded(amused, made[0]["recipe"]),
    }  # fmt: skip
    (out / "vectors.json").write_text(json.dumps(vectors), encoding="utf-8")


if __name__ == "__main__":
    main()
