"""Core ML packages, run by the interpreter: parity with torch, float16 that cannot overflow, functions, the runtime."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import published
import pytest
import torch
from small import small_config, small_source
from torch import Tensor, nn

from amused_lite.bundle import MANIFEST, Bundle, open_bundle, write_manifest
from amused_lite.conditioning import Conditioning
from amused_lite.export.coreml import convert
from amused_lite.export.coreml.half import QUIET, halfable
from amused_lite.export.coreml.interpreter import InterpretedPackage, InterpretedRuntime
from amused_lite.export.modules import DecodeImage, exportable
from amused_lite.export.options import ExportOptions
from amused_lite.models.layers import GlobalResponseNorm, RMSNorm
from amused_lite.models.networks import Networks
from amused_lite.pipeline import AmusedPipeline
from amused_lite.runtimes.base import ModelInfo, StepControls, StepNoise, conditioning_shapes
from amused_lite.runtimes.coreml import SPECIFICATION, CoreMLRuntime, load_package
from amused_lite.runtimes.torch import TorchRuntime
from amused_lite.sampling.distribution import halton_noise, halton_order
from amused_lite.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def exact(small_bundle: Callable[..., Path]) -> Bundle:
    """Float32 for iOS17: one function, two rows, log_probs given out."""
    return open_bundle(small_bundle(target="coreml", precision="float32", deployment_target="iOS17"))


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    """What `exact` and `half` were exported from."""
    return small_source(tmp_path_factory.mktemp("networks")).weights  # type: ignore[return-value]


def size(package: Path) -> int:
    return sum(path.stat().st_size for path in package.rglob("*") if path.is_file())


def test_float32_packages_draw_what_torch_draws(networks: Networks, exact: Bundle) -> None:
    runtimes = (InterpretedRuntime(exact), TorchRuntime.from_networks(networks))
    text = exact.config.text
    ids = (text.context_length, text.start_token_id, text.end_token_id)
    tokenizer = Tokenizer.from_file(exact.path("tokenizer.json"), *ids)
    models = [AmusedPipeline(runtime, tokenizer, ModelInfo("small", "")) for runtime in runtimes]
    for scale in (4.0, 1.0):  # at 1 there is no negative row, and the package gets the prompt's twice
        ours, reference = (model.generate("a red star", steps=4, seed=3, guidance_scale=scale) for model in models)
        assert (ours.recipe.tokens == reference.recipe.tokens).all()
        assert np.abs(np.asarray(ours.image, int) - np.asarray(reference.image, int)).max() <= 1
    assert ours.recipe.runtime == "coreml-interpreter"
    print(json.dumps(exact.manifest.parity))


def test_float16_packages_stay_near(networks: Networks, half: Bundle) -> None:
    """The gate of the export has passed; here a whole picture, free-running, and its decoding beside torch."""
    runtime, reference = InterpretedRuntime(half), TorchRuntime.from_networks(networks)
    parity = half.manifest.parity
    shares = [share for name, share in parity.items() if ".agreement." in name]
    assert len(shares) == 12 and min(shares) > 0.9
    assert 0 < parity["encode_prompt.layer_text"] < 5e-3  # float16 has 3 digits, of which a row of operations costs one
    tokens = np.arange(256, dtype=np.int32)[None] % 128
    pixels, wanted = runtime.decode_image(tokens), reference.decode_image(tokens)
    error = float(np.square(pixels - wanted).mean())
    print(f"agreement per step {shares}; a picture within {-10 * np.log10(error):.0f} dB")
    assert 0 < error < 1e-5  # 50 dB: below half a grey level
    assert (runtime.encode_image(wanted) == reference.encode_image(wanted)).mean() > 0.95


def test_guided_and_unguided_share_their_weights(half: Bundle, networks: Networks, tmp_path: Path) -> None:
    package = half.folder / "unmask.mlpackage"
    guided, unguided = (InterpretedPackage(package, name) for name in ("guided", "unguided"))
    rows = [program._function.inputs["layer_text"].shape[0] for program in (guided, unguided)]
    assert rows == [2, 1]
    stored = (package / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size
    weights = 2 * sum(weight.numel() for weight in networks.uvit.token_side.parameters())
    print(f"two functions over {weights:,} bytes of float16 weights: weight.bin {stored:,}, package {size(package):,}")
    assert stored < 1.1 * weights
    assert not list(half.folder.glob(".*")) and not list(half.folder.rglob("*.json.part"))


def test_adapters_fit_into_one_package(networks: Networks, tmp_path: Path) -> None:
    """Two variants of a module, of which some weights differ: each computes as it does alone, for little more room."""
    module = DecodeImage(networks)
    tokens = torch.arange(256, dtype=torch.int32)[None] % 128
    options = ExportOptions("coreml", precision="float16", deployment_target="iOS18")
    alone, wanted = {}, {}
    for number, name in enumerate(("plain", "ink")):
        (tmp_path / name).mkdir()
        variant = convert.halfable(module)
        with torch.no_grad():  # what a merged adapter does: a few matrices are others
            variant.vqgan.decoder.out = nn.Conv2d(48, 48, 3, padding=1, bias=True)
            variant.vqgan.decoder.out.load_state_dict(module.vqgan.decoder.out.state_dict())
            variant.vqgan.decoder.out.weight.mul_(1 + 0.1 * number)
        convert.write_module("decode_image", variant, {"tokens": tokens}, tmp_path / name, options)
        alone[name] = tmp_path / name / "decode_image.mlpackage"
        wanted[name] = convert.run_module("decode_image", {"tokens": tokens.numpy()}, tmp_path / name)["image"]
    convert.merge_functions(alone, tmp_path / "styles.mlpackage")
    for name in alone:
        got = InterpretedPackage(tmp_path / "styles.mlpackage", name)({"tokens": tokens.numpy()})["image"]
        assert np.array_equal(got, wanted[name])
    assert not np.array_equal(wanted["plain"], wanted["ink"])
    single, merged = size(alone["plain"]), size(tmp_path / "styles.mlpackage")
    print(f"one variant {single:,} bytes, two as functions of one package {merged:,}")
    assert merged < 1.2 * single


class Norms(nn.Module):
    """Every norm of the networks on the same numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.rms = published.shake(RMSNorm(32), 1)
        self.response = published.shake(GlobalResponseNorm(32), 2)
        self.group = published.shake(nn.GroupNorm(4, 32, eps=1e-6), 3)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """x (1, 8, 8, 32)."""
        return self.rms(x), self.response(x), self.group(x.permute(0, 3, 1, 2))


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_norms_hold_what_float16_cannot_square(tmp_path: Path, scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """From tiny values to 30,000, whose squares leave float16 fifteen thousandfold."""
    module = Norms().eval()
    x = scale * torch.randn(1, 8, 8, 32, generator=torch.Generator().manual_seed(1)).clamp(-3, 3)
    x[..., 5] *= 0.01  # a quiet channel beside loud ones
    with torch.no_grad():
        wanted = [value.numpy() for value in module.double()(x.half().double())]
    module.float()
    monkeypatch.setattr(convert, "outputs_of", lambda *_: ("rms", "response", "group"))
    options = ExportOptions("coreml", precision="float16", deployment_target="iOS17")
    errors = {}
    for name, form in (("ours", halfable), ("plain", exportable)):
        monkeypatch.setattr(convert, "halfable", form)
        (tmp_path / name).mkdir()
        convert.write_module("norms", module, {"x": x}, tmp_path / name, options)
        got = convert.run_module("norms", {"x": x.numpy()}, tmp_path / name)
        errors[name] = [float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(got.values(), wanted, strict=True)]
    print(f"values up to {x.abs().max():.0e}: error of RMS, response and group norm {errors}")
    assert max(errors["ours"]) < 4e-3  # float16 rounds by 5e-4, and each norm is some ten operations
    if scale > 1:
        assert not min(errors["plain"]) < 0.1  # infinities, or zeros divided by them


def test_loud_decoders_stay_in_float16(tmp_path: Path) -> None:
    """A decoder whose inner grids pass 65504, as the published one is known to, with group norms and a long way up."""
    config = replace(small_config().vqgan, channels=(8, 16), norm="group", norm_groups=4, patch_size=1, spherical=False)
    module = DecodeImage(Networks(replace(small_config(), vqgan=config)).eval())
    published.shake(module.vqgan.decoder, 4)
    with torch.no_grad():
        module.vqgan.codebook.normal_(generator=torch.Generator().manual_seed(3))
        module.vqgan.decoder.stem.weight.mul_(1e5)
    inputs, grids = {"tokens": torch.arange(256, dtype=torch.int32)[None] % 128}, []
    handle = module.vqgan.decoder.stem.register_forward_hook(lambda *call: grids.append(call[-1].abs().max()))
    with torch.no_grad():
        wanted, same = module(**inputs), halfable(module)(**inputs)
    handle.remove()
    assert 65504 < grids[0] < 65504 / QUIET
    assert (same - wanted).abs().max() < 1e-5  # the rewriting itself is exact
    convert.write_module("decode_image", module, inputs, tmp_path, ExportOptions("coreml", deployment_target="iOS16"))
    got = convert.run_module("decode_image", {"tokens": inputs["tokens"].numpy()}, tmp_path)["image"]
    error = np.abs(got - wanted.numpy()).max()
    print(f"inner grids up to {grids[0]:.0f}: pixels within {error:.1e}")
    assert error < 1e-2


class Distribution(nn.Module):
    """What the sampler's tail begins with."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits.log_softmax(-1)


def test_unlikely_codes_have_logarithms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """coremltools' own log(softmax(x)) is -inf from -104 on; guidance makes such logits."""
    logits = torch.linspace(-300, 200, 64).repeat(2, 1)
    monkeypatch.setattr(convert, "outputs_of", lambda *_: ("distribution",))
    options = ExportOptions("coreml", precision="float32")
    convert.write_module("distribution", Distribution(), {"logits": logits}, tmp_path, options)
    got = convert.run_module("distribution", {"logits": logits.numpy()}, tmp_path)["distribution"]
    np.testing.assert_allclose(got, logits.log_softmax(-1).numpy(), rtol=1e-6, atol=1e-6)
    assert got.min() < -490


def step_of(bundle: Bundle, rows: int = 2) -> dict[str, Any]:
    """Arrays for `Runtime.unmask`: nothing known, half of it to be masked again."""
    uvit, rng = bundle.config.uvit, np.random.default_rng(1)
    shapes = conditioning_shapes(bundle.config, rows)
    codes = (1, uvit.num_tokens, uvit.codebook_size)
    return {
        "tokens": np.full((1, uvit.num_tokens), uvit.mask_token_id, np.int32),
        "conditioning": Conditioning(*(rng.normal(size=shape).astype(np.float32) for shape in shapes)),
        "controls": StepControls(3.0, 1.0, 1.0, np.array([uvit.num_tokens // 2], np.int32)),
        "noise": StepNoise(rng.gumbel(size=codes).astype(np.float32), rng.gumbel(size=codes[:2]).astype(np.float32)),
    }


def test_the_tail_stays_in_float32(half: Bundle) -> None:
    """Halton's order comes as noise down to -256,000, far outside float16, and has to be followed to the token."""
    side, step = half.config.uvit.grid, step_of(half)
    order = halton_order((side, side))
    step["noise"] = step["noise"]._replace(order_noise=halton_noise((side, side))[None])
    tokens, _ = InterpretedRuntime(half).unmask(**step)
    masked = set(np.flatnonzero(tokens[0] == half.config.uvit.mask_token_id).tolist())
    assert masked == set(order[side * side // 2 :].tolist())
    function = InterpretedPackage(half.folder / "unmask.mlpackage", "guided")._function
    for operation in function.operations:
        if operation.kind == "cast" and operation.outputs[0].type.dtype == "FLOAT16":
            (argument,) = operation.inputs["x"]
            assert argument.name in ("guidance_scale", *Conditioning._fields) or argument.name not in function.inputs


def test_functions_are_loaded_when_they_are_called(half: Bundle) -> None:
    loaded = []

    def load(package: Path, function: str, units: str) -> Any:
        loaded.append((package.name, function, units))
        return InterpretedPackage(package, function)

    runtime = CoreMLRuntime(half, load=load)
    guided, unguided = step_of(half), step_of(half, rows=1)
    for step in (guided, guided, unguided):
        runtime.unmask(**step)
    advice = half.manifest.options["compute_units"]
    assert loaded == [("unmask.mlpackage", name, advice["unmask"]) for name in ("guided", "unguided")]
    runtime.release("unmask")
    runtime.unmask(**guided)
    assert len(loaded) == 3
    other = CoreMLRuntime(half, compute_units="cpu_only", load=load)
    other.decode_image(np.zeros((1, 256), np.int32))
    assert loaded[-1] == ("decode_image.mlpackage", "main", "cpu_only")
    with pytest.raises(ValueError, match="compute_units 'gpu' is unknown; choose one of all, cpu_and_ne"):
        CoreMLRuntime(half, compute_units="gpu", load=load)


def test_a_single_function_takes_one_row_too(exact: Bundle, half: Bundle, networks: Networks) -> None:
    """Guided away from itself a prompt stays as it is, so two equal rows are the unguided step."""
    step = step_of(exact, rows=1)
    tokens, sampled_tokens = InterpretedRuntime(exact).unmask(**step)
    wanted = TorchRuntime.from_networks(networks).unmask(**step)
    assert np.array_equal(tokens, wanted[0]) and np.array_equal(sampled_tokens, wanted[1])
    assert (InterpretedRuntime(half).unmask(**step)[1] == sampled_tokens).mean() > 0.95


def test_log_probs_are_there_when_exported(exact: Bundle, half: Bundle, networks: Networks) -> None:
    step = step_of(exact)
    arguments = (step["tokens"], step["conditioning"], 3.0)
    got = InterpretedRuntime(exact).predict(*arguments)
    wanted = TorchRuntime.from_networks(networks).predict(*arguments)
    np.testing.assert_allclose(got, wanted, atol=1e-4 * np.abs(wanted).max())
    with pytest.raises(ValueError, match="gives no log_probs"):
        InterpretedRuntime(half).predict(*arguments)


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML is there")
def test_other_systems_are_told(half: Bundle) -> None:
    with pytest.raises(ValueError, match=r"Core ML runs on macOS 13 and later, this is \w+; export the model to onnx"):
        CoreMLRuntime(half)
    call = load_package(half.folder / "unmask.mlpackage", "unguided", "cpu_and_ne")  # as far as coremltools goes here
    with pytest.raises(Exception, match="only supported on macOS"):
        call({})


def test_packages_that_are_not_as_promised(half: Bundle, tmp_path: Path) -> None:
    shutil.copytree(half.folder, tmp_path / "bundle")
    path = tmp_path / "bundle" / MANIFEST
    values = json.loads(path.read_text())
    values["inputs"]["decode_image"]["tokens"][1] = [1, 9]
    path.write_text(json.dumps(values))
    tokens = np.zeros((1, 256), np.int32)
    with pytest.raises(ValueError, match=r"input tokens is int32 \[1, 256\], the manifest says int32 \[1, 9\]"):
        InterpretedRuntime(open_bundle(tmp_path / "bundle")).decode_image(tokens)
    values["inputs"]["decode_image"]["tokens"][1] = [1, 256]
    path.write_text(json.dumps(values))
    (tmp_path / "bundle" / "decode_image.mlpackage" / SPECIFICATION).write_bytes(b"\xff" * 50)
    bundle = open_bundle(half.folder)
    broken = Bundle(tmp_path / "bundle", write_manifest(tmp_path / "bundle", bundle.manifest))
    with pytest.raises(ValueError, match=r"model\.mlmodel is damaged"):
        InterpretedRuntime(broken).decode_image(tokens)


def test_packages_say_nothing_of_this_machine(half: Bundle) -> None:
    for path in half.folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for trace in (str(Path.cwd()), str(Path.home()), "site-packages", str(half.folder), ".py"):
                assert trace.encode() not in content, f"{path} holds {trace}"
            assert path.stat().st_mode & 0o044 == 0o044  # others may read it
