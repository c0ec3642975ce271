"""The judge of Core ML packages: its operations against torch, its weights against coremltools' own decompression."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amused_lite.export.coreml.arithmetic_ops import ARITHMETIC
from amused_lite.export.coreml.data_ops import MOVES
from amused_lite.export.coreml.interpreter import InterpretedPackage
from amused_lite.export.coreml.program import read_program
from amused_lite.runtimes.coreml import SPECIFICATION, import_coremltools, read_specification, silenced

ct = import_coremltools()
from coremltools.converters.mil import Builder as mb  # noqa: E402  # quiet only after the import above


def convert(module: nn.Module, inputs: dict[str, Tensor], package: Path, target: Any, half: bool = False) -> Path:
    """A package by coremltools, with none of our own changes."""
    precision = ct.precision.FLOAT16 if half else ct.precision.FLOAT32
    with silenced(), torch.no_grad():
        program = torch.export.export(module.eval(), (), inputs).run_decompositions({})
        ct.convert(
            program,
            minimum_deployment_target=target,
            compute_precision=precision,
            package_dir=str(package),
            skip_model_load=True,
        )
    return package


class Everything(nn.Module):
    """Whatever may stand in our networks, and variants of it that converters write."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.linear = nn.Linear(6, 4)
        self.uneven = nn.Conv2d(6, 4, (3, 2), stride=(2, 1), padding=(2, 1), dilation=(1, 2), groups=2)
        self.sequence = nn.Conv1d(6, 3, 3)
        self.up = nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, groups=2)
        self.norm = nn.LayerNorm(8)
        self.scale, self.shift = torch.linspace(0.5, 2, 6), torch.linspace(-1, 1, 6)
        self.table = nn.Parameter(torch.randn(11, 5))

    def forward(self, x: Tensor, indices: Tensor) -> tuple[Tensor, ...]:
        """x (2, 6, 8, 8) above 0, indices (3, 4) below 8."""
        channels_last = x.permute(0, 2, 3, 1)
        flat = x.flatten(2)  # (2, 6, 64)
        first, second = x.split([2, 4], 1)
        third, fourth = x.chunk(2, 1)
        attended = F.scaled_dot_product_attention(x, x * 0.5, x.sin())
        floats = (
            self.linear(channels_last),
            self.uneven(x),
            self.sequence(flat),
            self.up(x),
            self.norm(x),
            flat @ flat.transpose(1, 2),
            attended,
            F.batch_norm(x, self.shift, self.scale, self.scale + 1, self.shift - 1),
            x * self.scale[:, None, None] + self.shift[:, None, None],
            F.gelu(x),
            F.silu(x) + torch.sigmoid(x) - torch.tanh(x) * torch.relu(-x) / x.exp(),
            torch.rsqrt(x) + x.log().cos() + x.sqrt() + x.abs() + torch.erf(x) + x.floor(),
            x.square().mean((2, 3)) + x.sum((2, 3)) + x.amax((2, 3)) + x.amin((2, 3)) + x.norm(dim=(2, 3)),
            x.softmax(1) ** 1.5,
            F.pad(x, (1, 0, 2, 3), value=7.0),
            F.pixel_shuffle(x.repeat(1, 2, 1, 1), 2),
            F.pixel_unshuffle(x, 4),
            F.interpolate(x, scale_factor=2.0, mode="nearest"),
            torch.cat([first, second, third.sin()], 1),
            torch.stack([third, fourth], 2),
            x[:, 1:5:2, ..., -3],
            x[:, None].squeeze(1),
            torch.where(x > 1, x, -x),
            torch.where(torch.logical_or(x < 0.3, torch.logical_not(x > 1)), torch.minimum(x, x.sin()), x),
            torch.where(torch.logical_and(x >= 0.3, x == x.clone()), torch.maximum(x, x.cos()), x),
            x.clamp(0.2, 0.9),
            self.table[indices],
            F.embedding(indices, self.table),
            x.gather(3, indices.flatten().expand(2, 6, 8, 12).long()),
            torch.full_like(x, 3.0),
        )
        integers = (x.argmax(1), x.argmin(-1, keepdim=True), (x * 10).int(), (x <= 1).int(), (x != 1).int())
        return (*floats, *(value.int() for value in integers))


@pytest.mark.parametrize("target", ["iOS16", "iOS18"])
def test_operations_equal_torch(tmp_path: Path, target: str) -> None:
    module = Everything()
    inputs = {
        "x": torch.rand(2, 6, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 + 0.05,
        "indices": torch.randint(0, 8, (3, 4), generator=torch.Generator().manual_seed(2), dtype=torch.int32),
    }
    package = InterpretedPackage(convert(module, inputs, tmp_path / "all.mlpackage", ct.target[target]))
    got = list(package({name: array.numpy() for name, array in inputs.items()}).values())
    with torch.no_grad():
        expected = [value.numpy() for value in module(**inputs)]
    assert len(got) == len(expected)
    for number, (found, wanted) in enumerate(zip(got, expected, strict=True)):
        assert found.shape == wanted.shape, number
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-5, err_msg=str(number))
    kinds = {operation.kind for operation in package._function.operations}
    print(f"{target}: {len(kinds)} kinds of operations of {len(ARITHMETIC) + len(MOVES)} known")
    assert kinds <= set(ARITHMETIC) | set(MOVES)


BUILT = {  # operations and forms that torch's converter does not write; coremltools itself computes those of constants
    "gelu tanh": lambda x: mb.gelu(x=x, mode="TANH_APPROXIMATION"),
    "gelu sigmoid": lambda x: mb.gelu(x=x, mode="SIGMOID_APPROXIMATION"),
    "inverse": lambda x: mb.inverse(x=x),
    "rsqrt": lambda x: mb.rsqrt(x=x, epsilon=0.5),
    "slice_by_size": lambda x: mb.slice_by_size(x=x, begin=[0, 1, 2], size=[-1, 2, 3]),
    "slice_by_index": lambda x: mb.slice_by_index(
        x=x,
        begin=[1, 0, 0],
        end=[0, -1, 3],
        stride=[1, 2, 1],
        end_mask=[True, False, False],
        squeeze_mask=[False, False, True],
    ),
    "squeeze": lambda x: mb.squeeze(x=mb.expand_dims(x=x, axes=[0, 2])),
    "reshape": lambda x: mb.reshape(x=x, shape=[0, 5, -1]),
    "transposed product": lambda x: mb.matmul(
        x=x, y=np.ones((2, 5, 4), np.float32) / 3, transpose_x=True, transpose_y=True
    ),
    "fill_like": lambda x: mb.fill_like(ref_tensor=x, value=2.5),
    "tile": lambda x: mb.tile(x=x, reps=[2, 1, 3]),
    "reduce_l2_norm": lambda x: mb.reduce_l2_norm(x=x, axes=[1], keep_dims=True),
}


@pytest.mark.parametrize("name", BUILT)
def test_forms_equal_coremltools(tmp_path: Path, name: str) -> None:
    array = np.random.default_rng(4).uniform(0.1, 2, (2, 4, 5)).astype(np.float32)
    expected = []

    @mb.program(input_specs=[mb.TensorSpec(shape=array.shape)], opset_version=ct.target.iOS17)
    def program(x: Any) -> Any:
        expected.append(BUILT[name](mb.const(val=array)).val)
        return BUILT[name](x)

    assert expected[0] is not None
    (got,) = InterpretedPackage(save(program, tmp_path / "one.mlpackage"))({"x": array}).values()
    np.testing.assert_allclose(got, expected[0], rtol=1e-5, atol=1e-6)


def save(program: Any, package: Path, half: bool = False) -> Path:
    """A program made with coremltools' builder as a package."""
    precision = ct.precision.FLOAT16 if half else ct.precision.FLOAT32
    with silenced():
        ct.convert(
            program,
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=precision,
            package_dir=str(package),
            skip_model_load=True,
        )
    return package


def test_float16_is_rounded_after_each_operation(tmp_path: Path) -> None:
    """(x + 1) - 1 loses what float16 cannot hold beside 1, and what is above 65504 becomes infinite."""

    @mb.program(input_specs=[mb.TensorSpec(shape=(4,))], opset_version=ct.target.iOS17)
    def program(x: Any) -> Any:
        return mb.sub(x=mb.add(x=x, y=1.0), y=1.0), mb.mul(x=x, y=x)

    package = InterpretedPackage(save(program, tmp_path / "half.mlpackage", half=True))
    x = np.array([0.0004, 0.0006, 255.0, 256.0], np.float32)
    one, two = package({"x": x}).values()
    half = x.astype(np.float16)
    assert one.tolist() == ((half + np.float16(1)) - np.float16(1)).tolist()
    assert two[:3].tolist() == (half * half)[:3].tolist() and np.isinf(two[3])


COMPRESSIONS = {
    "int8 per channel": ("iOS16", "constexpr_affine_dequantize"),
    "int8 unsigned": ("iOS17", "constexpr_affine_dequantize"),
    "int8 blockwise": ("iOS18", "constexpr_blockwise_shift_scale"),
    "int4 blockwise": ("iOS18", "constexpr_blockwise_shift_scale"),
    "palette of 6 bits": ("iOS16", "constexpr_lut_to_dense"),
    "palettes of 4 bits by group": ("iOS18", "constexpr_lut_to_dense"),
    "palette by k-means": ("iOS17", "constexpr_lut_to_dense"),
}


def compressed(model: Any, name: str) -> Any:
    """coremltools' own compression of the weights."""
    cto = ct.optimize.coreml
    quantized = {
        "int8 per channel": {"mode": "linear_symmetric", "dtype": "int8"},
        "int8 unsigned": {"mode": "linear", "dtype": "uint8"},
        "int8 blockwise": {"mode": "linear_symmetric", "dtype": "int8", "granularity": "per_block", "block_size": 16},
        "int4 blockwise": {"mode": "linear", "dtype": "int4", "granularity": "per_block", "block_size": 16},
    }
    palettized = {
        "palette of 6 bits": {"mode": "uniform", "nbits": 6},
        "palettes of 4 bits by group": {
            "mode": "uniform", "nbits": 4, "granularity": "per_grouped_channel", "group_size": 8,
        },
        "palette by k-means": {"mode": "kmeans", "nbits": 2},
    }  # fmt: skip
    if name in quantized:
        config = cto.OptimizationConfig(cto.OpLinearQuantizerConfig(**quantized[name], weight_threshold=0))
        return cto.linear_quantize_weights(model, config)
    config = cto.OptimizationConfig(cto.OpPalettizerConfig(**palettized[name], weight_threshold=0))
    return cto.palettize_weights(model, config)


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_compressed_weights_equal_coremltools_decompression(tmp_path: Path, name: str) -> None:
    target, kind = COMPRESSIONS[name]
    torch.manual_seed(5)
    module = nn.Sequential(nn.Linear(32, 48), nn.SiLU(), nn.Linear(48, 16))
    x = torch.randn(3, 32)
    convert(module, {"input": x}, tmp_path / "plain.mlpackage", ct.target[target])
    with silenced():
        small = compressed(ct.models.MLModel(str(tmp_path / "plain.mlpackage"), skip_model_load=True), name)
        small.save(str(tmp_path / "small.mlpackage"))
        ct.optimize.coreml.decompress_weights(small).save(str(tmp_path / "large.mlpackage"))
    packages = [InterpretedPackage(tmp_path / f"{size}.mlpackage") for size in ("plain", "small", "large")]
    plain, ours, theirs = (next(iter(package({"input": x.numpy()}).values())) for package in packages)
    kinds = [operation.kind for operation in packages[1]._function.operations]
    assert kinds.count(kind) == 2, kinds
    assert not any("constexpr" in operation.kind for operation in packages[2]._function.operations)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    print(f"{name}: {np.abs(ours - plain).max() / np.abs(plain).max():.1e} from the plain weights")
    assert 0 < np.abs(ours - plain).max() < 0.5 * np.abs(plain).max()


def test_what_is_unknown_is_named(tmp_path: Path) -> None:
    @mb.program(input_specs=[mb.TensorSpec(shape=(4,))], opset_version=ct.target.iOS17)
    def program(x: Any) -> Any:
        return mb.cumsum(x=x, axis=0, name="running")

    package = InterpretedPackage(save(program, tmp_path / "unmask.mlpackage"))
    with pytest.raises(ValueError, match=r"unmask: operation 'cumsum' \(running\) is not known"):
        package({"x": np.ones(4, np.float32)})
    with pytest.raises(ValueError, match=r"got inputs \['y'\], the package takes \['x'\]"):
        package({"y": np.ones(4, np.float32)})
    with pytest.raises(ValueError, match=r"x has shape \(5,\), the package declares \(4,\)"):
        package({"x": np.ones(5, np.float32)})
    with pytest.raises(ValueError, match="has no function 'guided', only main"):
        InterpretedPackage(tmp_path / "unmask.mlpackage", "guided")


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    module = nn.Linear(8, 5)
    return convert(module, {"input": torch.ones(2, 8)}, tmp_path / "linear.mlpackage", ct.target.iOS17)


def operations_of(specification: Any) -> Any:
    function = specification.mlProgram.functions["main"]
    return function.block_specializations[function.opset].operations


def test_declared_shapes_are_those_of_the_file(linear: Path) -> None:
    """The file's own word counts, and not what anyone would infer from the operation."""
    path = linear / SPECIFICATION
    specification = read_specification(linear)
    (operation,) = [item for item in operations_of(specification) if item.type == "linear"]
    operation.outputs[0].type.tensorType.dimensions[1].constant.size = 7
    path.write_bytes(specification.SerializeToString())
    with pytest.raises(ValueError, match=r"linear: linear \S+ has shape \(2, 5\), the package declares \(2, 7\)"):
        InterpretedPackage(linear)({"input": np.ones((2, 8), np.float32)})


def test_damage_is_found(linear: Path) -> None:
    weights = (linear / SPECIFICATION).parent / "weights" / "weight.bin"
    data = bytearray(weights.read_bytes())
    marks = [at for at in range(0, len(data), 64) if data[at : at + 4] == struct.pack("<I", 0xDEADBEEF)]
    assert len(marks) == 1  # the bias is small enough to stand in the program
    for damage in (bytes([0]), None):
        broken = data.copy()
        if damage is None:
            del broken[-64:]
        else:
            broken[marks[0] : marks[0] + 1] = damage
        weights.write_bytes(broken)
        with pytest.raises(ValueError, match=f"weight.bin is damaged at byte {marks[0]}"):
            InterpretedPackage(linear)({"input": np.ones((2, 8), np.float32)})
    weights.unlink()
    with pytest.raises(ValueError, match="which is not there"):
        InterpretedPackage(linear)({"input": np.ones((2, 8), np.float32)})


def test_weights_outside_the_package_are_not_read(linear: Path) -> None:
    weights = (linear / SPECIFICATION).parent / "weights" / "weight.bin"
    (linear.parent / "secret.bin").write_bytes(weights.read_bytes())
    specification = read_specification(linear)
    for item in operations_of(specification):
        for value in item.attributes.values():
            if value.WhichOneof("value") == "blobFileValue":
                value.blobFileValue.fileName = "@model_path/../../../secret.bin"
    (linear / SPECIFICATION).write_bytes(specification.SerializeToString())
    with pytest.raises(ValueError, match=r"secret.bin', which is not there"):
        InterpretedPackage(linear)({"input": np.ones((2, 8), np.float32)})


def test_what_is_no_package(linear: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is no Core ML package"):
        read_program(tmp_path / "nothing.mlpackage")
    path = linear / SPECIFICATION
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(ValueError, match="is damaged"):
        read_program(linear)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="holds no ML Program"):
        read_program(linear)
