"""ONNX Runtime on the bundled model, and what it says to wrong input and to bundles that lie."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amused_lite.bundle import MANIFEST, Bundle, open_bundle, write_manifest
from amused_lite.conditioning import Conditioning, MicroConditioning, stack_pair
from amused_lite.runtimes.base import StepControls, StepNoise
from amused_lite.runtimes.onnx import OnnxRuntime
from amused_lite.runtimes.open import find_model, open_model


@pytest.fixture(scope="module")
def runtime() -> OnnxRuntime:
    return OnnxRuntime(open_bundle(find_model("tiny")), threads=1)


@pytest.fixture(scope="module")
def pair(runtime: OnnxRuntime) -> Conditioning:
    _, tokenizer, _ = open_model("tiny")
    size = runtime.config.image_size
    encoded = [
        runtime.encode_prompt(tokenizer.encode([text]), MicroConditioning(size, size).array())
        for text in ("", "a red balloon")
    ]
    return stack_pair(*encoded)


@pytest.fixture
def step(runtime: OnnxRuntime, pair: Conditioning) -> dict[str, Any]:
    uvit = runtime.config.uvit
    return {
        "tokens": np.full((1, uvit.num_tokens), uvit.mask_token_id, np.int32),
        "conditioning": pair,
        "controls": StepControls(3.0, 1.0, 2.0, np.array([500], np.int32)),
        "noise": StepNoise(
            np.zeros((1, uvit.num_tokens, uvit.codebook_size), np.float32), np.zeros((1, uvit.num_tokens), np.float32)
        ),
    }


def test_shapes_and_ranges(runtime: OnnxRuntime, step: dict[str, Any]) -> None:
    uvit = runtime.config.uvit
    tokens, sampled_tokens = runtime.unmask(**step)
    assert tokens.dtype == sampled_tokens.dtype == np.int32
    assert tokens.shape == sampled_tokens.shape == (1, uvit.num_tokens)
    assert 0 <= sampled_tokens.min() and sampled_tokens.max() < uvit.codebook_size
    pixels = runtime.decode_image(sampled_tokens)
    assert pixels.dtype == np.float32 and pixels.shape == (1, 3, 512, 512)
    assert pixels.min() >= 0 and pixels.max() <= 1
    again = runtime.encode_image(pixels)
    assert again.dtype == np.int32 and again.shape == sampled_tokens.shape


def test_released_modules_load_again(runtime: OnnxRuntime, step: dict[str, Any]) -> None:
    first = runtime.unmask(**step)
    runtime.release("unmask")
    runtime.release("unmask")
    np.testing.assert_array_equal(runtime.unmask(**step)[0], first[0])
    with pytest.raises(ValueError, match="no module 'unmsk' to release"):
        runtime.release("unmsk")


WRONG: list[tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = [
    (lambda s: {"tokens": s["tokens"].astype(np.int64)}, "tokens: got int64, expected int32; convert with"),
    (lambda s: {"tokens": s["tokens"][:, :256]}, r"tokens: got shape \(1, 256\), expected \(any, 1024\)"),
    (lambda s: {"tokens": s["tokens"][0]}, r"tokens: got shape \(1024,\)"),
    (lambda s: {"tokens": s["tokens"][:0]}, r"tokens: got shape \(0, 1024\)"),
    (lambda s: {"tokens": s["tokens"] - 1}, "tokens that are not masked: got 1086 to 1086, expected 0 to 1023"),
    (lambda s: {"conditioning": Conditioning(*(a[:0] for a in s["conditioning"]))}, "conditioning.block_text: got"),
    (lambda s: {"controls": s["controls"]._replace(token_temperature=0.0)}, "token_temperature: got 0.0"),
    (lambda s: {"controls": s["controls"]._replace(guidance_scale=float("nan"))}, "guidance_scale: got nan"),
    (lambda s: {"controls": s["controls"]._replace(num_masked=np.array([2000], np.int32))}, "num_masked: got 2000"),
    (lambda s: {"controls": s["controls"]._replace(num_masked=np.array([3]))}, "num_masked: got int64"),
    (lambda s: {"noise": s["noise"]._replace(order_noise=s["noise"].order_noise.astype(float))}, "order_noise: got"),
    (lambda s: {"noise": s["noise"]._replace(token_noise=s["noise"].token_noise[:, :, :5])}, "token_noise: got shape"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_steps_are_explained(
    runtime: OnnxRuntime, step: dict[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        runtime.unmask(**{**step, **change(step)})


def test_wrong_inputs_of_the_other_modules_are_explained(runtime: OnnxRuntime) -> None:
    ids = np.zeros((1, runtime.config.text.context_length), np.int32)
    micro = np.zeros((1, 5), np.float32)
    with pytest.raises(ValueError, match="text_ids: got 2000 to 2000"):
        runtime.encode_prompt(ids + 2000, micro)
    with pytest.raises(ValueError, match=r"micro_conditioning: got shape \(1, 4\)"):
        runtime.encode_prompt(ids, micro[:, :4])
    with pytest.raises(ValueError, match="micro_conditioning: got nan"):
        runtime.encode_prompt(ids, micro * np.nan)
    masked = np.full((1, runtime.config.uvit.num_tokens), runtime.config.uvit.mask_token_id, np.int32)
    with pytest.raises(ValueError, match="some are still masked"):
        runtime.decode_image(masked)
    with pytest.raises(ValueError, match=r"pixels: got 2.0 to 2.0, expected 0 to 1"):
        runtime.encode_image(np.full((1, 3, 512, 512), 2, np.float32))


@pytest.fixture
def copied(tmp_path: Path) -> Bundle:
    shutil.copytree(find_model("tiny"), tmp_path / "copy")
    return open_bundle(tmp_path / "copy")


def test_a_graph_that_is_none(copied: Bundle, step: dict[str, Any]) -> None:
    (copied.folder / "decode_image.onnx").write_bytes(b"not a graph")
    write_manifest(copied.folder, copied.manifest)  # the hash is right, so only the engine can tell
    with pytest.raises(ValueError, match=r"decode_image.onnx: ONNX Runtime cannot load it"):
        OnnxRuntime(open_bundle(copied.folder), 1).decode_image(np.zeros_like(step["tokens"]))


def test_a_manifest_that_promises_other_inputs(copied: Bundle, step: dict[str, Any]) -> None:
    path = copied.folder / MANIFEST
    values = json.loads(path.read_text())
    values["inputs"]["decode_image"]["tokens"][0] = "int64"
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"input tokens is int32 .* the manifest says int64"):
        OnnxRuntime(open_bundle(copied.folder), 1).decode_image(np.zeros_like(step["tokens"]))


def test_rows_of_a_batch_equal_themselves_alone(runtime: OnnxRuntime, step: dict[str, Any]) -> None:
    rng = np.random.default_rng(5)
    single = [{**step, "tokens": step["tokens"]} for _ in range(2)]
    for row in single:  # two pictures that differ in conditioning and noise
        row["conditioning"] = Conditioning(*(rng.normal(size=a.shape).astype(np.float32) for a in step["conditioning"]))
        row["noise"] = StepNoise(*(rng.gumbel(size=a.shape).astype(np.float32) for a in step["noise"]))
    both = {
        "tokens": np.concatenate([row["tokens"] for row in single]),
        "conditioning": Conditioning(
            *(np.stack(pair, axis=1).reshape(4, *pair[0].shape[1:])
              for pair in zip(*(row["conditioning"] for row in single), strict=True))
        ),
        "controls": step["controls"]._replace(num_masked=np.repeat(step["controls"].num_masked, 2)),
        "noise": StepNoise(*(np.concatenate(pair) for pair in zip(*(row["noise"] for row in single), strict=True))),
    }  # fmt: skip
    together = runtime.unmask(**both)
    for i, row in enumerate(single):
        for ours, alone in zip(together, runtime.unmask(**row), strict=True):
            assert np.array_equal(ours[i], alone[0])
    tokens = together[1]
    assert np.array_equal(runtime.decode_image(tokens)[1], runtime.decode_image(tokens[1:])[0])
