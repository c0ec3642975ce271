"""The page's modules against Python's, in one node process; the noise kernel also against its own text."""

import base64
import hashlib
import json
import platform
import random
import shutil
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amused_lite.apps.web.folder import STATIC, page_contents
from PIL import Image

from amused_lite.analysis.verify import compare_pixels
from amused_lite.bundle import open_bundle
from amused_lite.editing.token_operations import FIRST_STEP
from amused_lite.files.images import open_picture
from amused_lite.runtimes.open import find_model
from amused_lite.sampling.noise import _fill, token_noise
from amused_lite.sampling.schedule import first_step_for, mask_schedule, start_masked
from amused_lite.sampling.settings import GenerateOptions
from amused_lite.tokenizer import Tokenizer

BUNDLE = open_bundle(find_model("tiny"))
ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "0123456789½²٣",
    " \t\n\u00a0\u0085\u2003\u3000\ufeff",
    "'!?.,;:-_()[]{}<>|/\\@#$%^&*+=~`\"…—“”",
    "äöüßéèñçåøœæıİŐžşĄΣσςΑάЖяאبगあ漢字한",
    "🦊🎈🏠👩‍🚀👍🏽🇩🇪❤️",
    "a\u0301e\u0308n\u0303\u200d\ufe0f",
)
WORDS = ("a red balloon", "it's", "we'll", "<|endoftext|>", "<|StartOfText|>", "ΟΔΟΣ", "blue house", "42", "don't!")
SCHEDULES = [(1024, steps, "cosine", 0, 1024) for steps in range(1, 65)]
SCHEDULES += [(256, steps, "linear", 0, 256) for steps in range(1, 33)]
SCHEDULES += [(count, 12, "linear", 0, count) for count in (1, 2, 7, 80, 1000)]
STARTS = [(strength, 1024, steps, "cosine") for strength in (0.1, 0.5, 0.7, 1.0) for steps in (10, 12, 24)]
NEEDED = [place % 5 < 3 for place in range(64)]
pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="no node on the PATH")


def prompts() -> list[str]:
    """2,000 of them, from words people write to none that anyone would."""
    rng = random.Random("prompts of the page")

    def one() -> str:
        parts = [
            rng.choice(WORDS)
            if rng.random() < 0.3
            else "".join(rng.choices(rng.choice(ALPHABETS), k=rng.randint(1, 9)))
            for _ in range(rng.randint(1, 14))
        ]
        return rng.choice((" ", "", " ", ", ")).join(parts)

    return [one() for _ in range(2000)]


def keys() -> list[list[Any]]:
    """100 of seed, picture, step and stream, and how many numbers from which on."""
    rng = random.Random("noise of the page")
    places = [(rng.randrange(2**32), rng.randrange(FIRST_STEP * 2), rng.randrange(3)) for _ in range(100)]
    return [[str(rng.randrange(2**64)), *place, 80, 8 * rng.randrange(2**20)] for place in places]


@pytest.fixture(scope="module")
def cases() -> dict[str, Any]:
    side = BUNDLE.manifest.image_size
    contents = page_contents(BUNDLE)
    rng = random.Random("tokens of the page")
    job = {
        "prompt": "a “red” star 🦊\nbelow",
        "picture": 3,
        "settings": contents["settings"] | {"seed": 2**53 - 1, "steps": 7},
        "tokens": rng.choices(range(1024), k=1024),
        "edit": {
            "operation": "vary",
            "settings": {"strength": 0.5, "locked": None, "box": [0, 0, side]},
            "tokens": rng.choices(range(1024), k=1024),
        },
    }
    return {
        "prompts": prompts(),
        "tokenizer": str(BUNDLE.path("tokenizer.json")),
        "text": contents["config"]["text"],
        "noise": keys(),
        "rows": {"key": [5, 1, 2], "needed": NEEDED, "codes": 1024},
        "schedules": SCHEDULES,
        "starts": STARTS,
        "temperatures": list(range(1, 40)),
        "texts": ["", *("x" * length for length in (55, 56, 63, 64, 65, 1000))],
        "side": side,
        "contents": contents,
        "job": job,
    }


@pytest.fixture(scope="module")
def got(cases: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the modules make of the cases."""
    file = tmp_path_factory.mktemp("vectors") / "cases.json"
    file.write_text(json.dumps(cases))
    script = Path(__file__).parent / "vectors.mjs"
    result = subprocess.run(["node", script, STATIC, file], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout)


def test_prompts_have_the_ids_that_python_gives(cases: dict[str, Any], got: dict[str, Any]) -> None:
    text = BUNDLE.config.text
    ids = (text.context_length, text.start_token_id, text.end_token_id)
    tokenizer = Tokenizer.from_file(cases["tokenizer"], *ids)
    expected = tokenizer.encode(cases["prompts"])
    wrong = [
        prompt for prompt, row, ours in zip(cases["prompts"], got["ids"], expected, strict=True) if row != ours.tolist()
    ]
    assert wrong == []
    assert got["dropped"] == [tokenizer.dropped(prompt) != "" for prompt in cases["prompts"]]


def test_noise_is_numpys_bit_for_bit(cases: dict[str, Any], got: dict[str, Any]) -> None:
    for (seed, picture, step, stream, count, first), words in zip(cases["noise"], got["noise"], strict=True):
        noise = np.array(words, np.uint32).view(np.float32)
        expected = np.empty(count, np.float32)
        _fill(expected, int(seed), picture, step, stream, first)
        if platform.machine() in ("x86_64", "AMD64"):
            np.testing.assert_array_equal(noise, expected)
        np.testing.assert_allclose(noise, expected, rtol=2e-6, atol=2e-7)  # logarithms of other processors


def test_only_rows_that_are_needed_are_drawn(got: dict[str, Any]) -> None:
    rows = np.array(got["rows"], np.uint32).view(np.float32).reshape(len(NEEDED), 1024)
    expected = token_noise(5, 1, 2, len(NEEDED), 1024)
    np.testing.assert_allclose(rows[NEEDED], expected[NEEDED], rtol=2e-6, atol=2e-7)


def test_schedules_are_pythons(got: dict[str, Any]) -> None:
    assert got["schedules"] == [mask_schedule(count, steps, 0, name) for count, steps, name, *_ in SCHEDULES]
    for (strength, tokens, steps, name), start in zip(STARTS, got["starts"], strict=True):
        first = first_step_for(strength, steps)
        assert start == {"firstStep": first, "masked": start_masked(tokens, steps, first, name)}
    config = BUNDLE.config
    for steps, temperatures in enumerate(got["temperatures"], 1):
        assert temperatures == GenerateOptions(steps=steps).complete(config).mask_temperatures()


def test_digests_are_sha256(cases: dict[str, Any], got: dict[str, Any]) -> None:
    assert got["digests"] == [[hashlib.sha256(text.encode()).hexdigest()] * 2 for text in cases["texts"]]


def test_a_picture_holds_its_recipe_as_python_writes_it(cases: dict[str, Any], got: dict[str, Any]) -> None:
    data = base64.b64decode(got["png"])
    job, side = cases["job"], cases["side"]
    source = open_picture(BytesIO(data))
    recipe = source.recipe
    assert recipe is not None and recipe.edit is not None
    assert recipe.tokens.tolist() == job["tokens"] and recipe.edit.tokens.tolist() == job["edit"]["tokens"]
    assert (recipe.prompt, recipe.picture, recipe.seed) == (job["prompt"], 3, 2**53 - 1)
    assert recipe.options.complete(BUNDLE.config).steps == 7
    assert recipe.model_hash == BUNDLE.manifest.model_hash
    with Image.open(BytesIO(data)) as image:
        assert image.text["parameters"] == recipe.parameters()  # type: ignore[attr-defined]
        assert "trainedAlgorithmicMedia" in image.text["XML:com.adobe.xmp"]  # type: ignore[attr-defined]
    pixels = (np.arange(3 * side * side) * 7919 % 251).astype(np.uint8).reshape(side, side, 3)
    assert compare_pixels(source.image, Image.fromarray(pixels))[1]


def test_the_kernel_is_what_its_text_says() -> None:
    wasmtime = pytest.importorskip("wasmtime")
    kernel = STATIC / "drawing" / "noise.wat"
    assert kernel.with_suffix(".wasm").read_bytes() == bytes(wasmtime.wat2wasm(kernel.read_text()))
