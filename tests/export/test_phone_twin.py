"""The Swift of docs/phone, proven by a twin: the same lines with NumPy for arrays and the interpreter for Core ML.

Nothing of amused_lite runs in the twin but the reading of packages. Where a Swift compiler is at hand, the numbers of
Sampling.swift itself are compared as well.
"""

import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from amused_lite.bundle import Bundle
from amused_lite.export.coreml.interpreter import InterpretedPackage, InterpretedRuntime
from amused_lite.pipeline import AmusedPipeline
from amused_lite.runtimes.base import ModelInfo
from amused_lite.sampling import noise, schedule
from amused_lite.tokenizer import Tokenizer

PHONE = Path(__file__).parents[2] / "docs" / "phone"
LOW = np.uint64(0xFFFF_FFFF)
HALF_WORD = np.uint64(32)


# Sampling.swift


def multiplied_full_width(a: np.ndarray, by: int) -> tuple[np.ndarray, np.ndarray]:
    """Swift's own: high and low words of 128-bit products. Here from four products of half words."""
    a0, a1, b0, b1 = a & LOW, a >> HALF_WORD, np.uint64(by) & LOW, np.uint64(by) >> HALF_WORD
    middle = a1 * b0 + (a0 * b0 >> HALF_WORD)
    carry = a0 * b1 + (middle & LOW)
    return a1 * b1 + (middle >> HALF_WORD) + (carry >> HALF_WORD), a * np.uint64(by)


def gumbel(seed: int, image_index: int, step: int, stream: int, count: int) -> np.ndarray:
    """All blocks at once where Swift makes one after the other."""
    counter = np.arange(1, count // 8 + 2, dtype=np.uint64)
    a, b, c, d = counter, np.zeros_like(counter), np.zeros_like(counter), np.zeros_like(counter)
    left, right = seed, image_index << 32 | step << 1 | stream
    for _ in range(10):
        first = multiplied_full_width(a, 0xD2E7_470E_E14C_6C93)
        second = multiplied_full_width(c, 0xCA5A_8263_9512_1157)
        a, b, c, d = second[0] ^ b ^ np.uint64(left), second[1], first[0] ^ d ^ np.uint64(right), first[1]
        left = (left + 0x9E37_79B9_7F4A_7C15) % 2**64
        right = (right + 0xBB67_AE85_84CA_A73B) % 2**64
    words = np.stack([a, b, c, d], 1)
    bits = np.stack([words & LOW, words >> HALF_WORD], 2).flatten()
    uniform = ((bits >> np.uint64(9)).astype(np.float32) + np.float32(0.5)) * np.float32(2**-23)
    return -np.log(-np.log(uniform))[:count]


def mask_schedule(tokens: int, steps: int) -> list[int]:
    half_turn = np.float32(np.pi)
    left = tokens
    counts = []
    for step in range(1, steps):
        time = np.float32(step / steps)
        left = max(1, min(left - 1, int(np.float32(tokens) * np.cos(time * half_turn / np.float32(2)))))
        counts.append(left)
    return [*counts, 0]


# HostLoop.swift


def draw(
    folder: Path, model: SimpleNamespace, prompt_ids: list[int], empty_ids: list[int], seed: int, steps: int = 12
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (1, N), which Swift keeps to itself, and pixels (1, 3, side, side)."""
    # 1. What the steps need of both prompts, the empty one first. Its module leaves memory at the end of the block.
    inputs = {}
    encode_prompt = load(folder, "encode_prompt")
    micro = floats([model.side, model.side, 0, 0, 6], [1, 5])
    pair = [encode_prompt({"text_ids": ints(ids), "micro_conditioning": micro}) for ids in (empty_ids, prompt_ids)]
    for name in ["block_text", "layer_text", "block_modulation", "layer_modulation"]:
        rows = [output[name] for output in pair]
        inputs[name] = np.concatenate(rows, axis=0)
    inputs["guidance_scale"] = floats([model.guidance], [1])
    inputs["token_temperature"] = floats([model.temperature], [1])
    # 2. The steps: every token is masked at first, none at the end.
    tokens = [model.mask] * model.tokens
    unmask = load(folder, "unmask", "guided")
    for step, masked in enumerate(mask_schedule(model.tokens, steps)):
        inputs["tokens"] = ints(tokens)
        inputs["num_masked"] = np.array([masked], np.int32)
        inputs["mask_temperature"] = floats([2 - 2 * step / max(1, steps - 1)], [1])
        token_noise = gumbel(seed, 0, step, 0, model.tokens * model.codes)
        inputs["token_noise"] = floats(token_noise, [1, model.tokens, model.codes])
        inputs["order_noise"] = floats(gumbel(seed, 0, step, 1, model.tokens), [1, model.tokens])
        output = unmask(inputs)
        tokens = output["next_tokens"][0]
    # 3. The picture.
    output = load(folder, "decode_image")({"tokens": ints(tokens)})
    return ints(tokens), output["image"]


def load(folder: Path, name: str, function: str = "main") -> InterpretedPackage:
    return InterpretedPackage(folder / f"{name}.mlpackage", function)


def floats(values: list[float] | np.ndarray, shape: list[int]) -> np.ndarray:
    return np.array(values, np.float32).reshape(shape)


def ints(values: list[int] | np.ndarray) -> np.ndarray:
    return np.array(values, np.int32).reshape(1, -1)


# The tests


@pytest.mark.parametrize("seed", [0, 7])
def test_the_twin_draws_what_amused_lite_draws(half: Bundle, seed: int) -> None:
    config = half.config
    text, uvit = config.text, config.uvit
    tokenizer = Tokenizer.from_file(
        half.path("tokenizer.json"), text.context_length, text.start_token_id, text.end_token_id
    )
    model = SimpleNamespace(
        tokens=uvit.num_tokens,
        codes=uvit.codebook_size,
        side=config.image_size,
        mask=uvit.mask_token_id,
        guidance=config.guidance_scale,
        temperature=config.token_temperature,
    )
    ids = [tokenizer.encode([prompt])[0].tolist() for prompt in ("a red star", "")]
    tokens, pixels = draw(half.folder, model, *ids, seed, steps=5)
    picture = AmusedPipeline(InterpretedRuntime(half), tokenizer, ModelInfo("small", "")).generate(
        "a red star", seed=seed, steps=5
    )
    assert (tokens[0] == picture.recipe.tokens).all()
    ours = np.rint(pixels[0].transpose(1, 2, 0) * 255)
    assert (ours == np.asarray(picture.image)).all()


@pytest.mark.parametrize("key", [(0, 0, 0, 0), (7, 0, 11, 1), (2**64 - 1, 2**32 - 1, 2**31 - 1, 1)])
def test_the_twins_noise_is_ours(key: tuple[int, int, int, int]) -> None:
    for count in (1, 8, 1001):
        assert gumbel(*key, count).tolist() == noise.gumbel(*key, (count,)).tolist()


def test_the_twins_schedule_is_ours() -> None:
    for tokens in (16, 64, 256, 1024):
        for steps in (1, 2, 4, 8, 12, 16, 24, tokens, tokens + 3):
            assert mask_schedule(tokens, steps) == schedule.mask_schedule(tokens, steps)


def test_swift_says_the_same() -> None:
    """Constants, names and the three parts, read from both sources."""
    twin, sampling, loop = (
        path.read_text(encoding="utf-8")
        for path in (Path(__file__), PHONE / "Sampling.swift", PHONE / "HostLoop.swift")
    )
    numbers = re.findall(r"0x[0-9A-F]{4}(?:_[0-9A-F]{4}){3}", sampling)
    assert len(numbers) == 4 and re.findall(r"0x[0-9A-F]{4}(?:_[0-9A-F]{4}){3}", twin) == numbers
    keys = re.findall(r'inputs\["(\w+)"\] =', loop)
    assert re.findall(r'inputs\["(\w+)"\] =', twin) == keys and len(keys) == 7
    parts = re.findall(r"^ +(?://|#) (\d\. .+)$", loop, re.MULTILINE)
    assert re.findall(r"^ +(?://|#) (\d\. .+)$", twin, re.MULTILINE) == parts and len(parts) == 3
    for name in ("block_text", "layer_text", "block_modulation", "layer_modulation", "next_tokens", "image"):
        assert f'"{name}"' in loop and f'"{name}"' in twin
    assert re.findall(r'load\("(\w+)"', loop) == re.findall(r'load\(folder, "(\w+)"', twin)


def test_swift_asks_for_what_the_packages_take(half: Bundle) -> None:
    loop = (PHONE / "HostLoop.swift").read_text(encoding="utf-8")
    for module in ("encode_prompt", "unmask", "decode_image"):
        for name in half.manifest.inputs[module]:
            assert f'"{name}"' in loop, f"{module} takes {name}"


@pytest.mark.skipif(shutil.which("swiftc") is None, reason="needs a Swift compiler")
def test_swift_itself(tmp_path: Path) -> None:
    (tmp_path / "main.swift").write_text(
        "for number in gumbel(seed: 7, picture: 3, step: 11, stream: 0, count: 1001) { print(number.bitPattern) }\n"
        "for steps in 1..<65 { print(maskSchedule(tokens: 1024, steps: steps)) }\n"
    )
    sources = [str(PHONE / "Sampling.swift"), str(tmp_path / "main.swift")]
    subprocess.run(["swiftc", "-O", *sources, "-o", str(tmp_path / "sampling")], check=True, timeout=300)
    lines = subprocess.run([str(tmp_path / "sampling")], check=True, capture_output=True, text=True).stdout.splitlines()
    got = np.array([int(line) for line in lines[:1001]], np.uint32).view(np.float32)
    np.testing.assert_allclose(got, noise.gumbel(7, 3, 11, 0, (1001,)), rtol=0, atol=2e-6)  # each platform's logarithms
    schedules = [[int(number) for number in re.findall(r"\d+", line)] for line in lines[1001:]]
    assert schedules == [schedule.mask_schedule(1024, steps) for steps in range(1, 65)]
