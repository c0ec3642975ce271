"""Rounding and packing, against bounds that follow from the definition and against ONNX Runtime's own reading."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from amused_lite.quantization import (
    LARGEST,
    block_of,
    dequantize_blocks,
    dequantize_rows,
    pack,
    quantize_blocks,
    quantize_rows,
    requantize,
    requantize_rows,
    unpack,
)

NORMAL = np.random.default_rng(0).standard_normal((24, 192)).astype(np.float32)


def test_dense_rounding_is_within_half_a_step() -> None:
    for weight, axes in ((NORMAL, (1,)), (NORMAL.T, (0,)), (NORMAL.reshape(24, 12, 4, 4), (1, 2, 3))):
        integers, scale = quantize_rows(weight, axes)
        assert integers.dtype == np.int8 and scale.dtype == np.float16 and np.abs(integers).max() <= 127
        # Half a step; the largest value of a row may lose half a float16 digit of its scale more.
        allowed = scale.astype(np.float32) * (0.5 + 127 * 2**-11)
        assert (np.abs(dequantize_rows(integers, scale) - weight) <= allowed).all()
    again, same = requantize_rows(dequantize_rows(integers, scale), scale)
    assert same.shape == scale.shape and np.abs(again.astype(int) - integers).max() <= 1


def test_zeros_and_tiny_values_stay_what_they_are() -> None:
    weight = np.zeros((3, 64), np.float32)
    weight[1] = 1e-5
    for restored in (dequantize_rows(*quantize_rows(weight, (1,))), dequantize_blocks(*quantize_blocks(weight, 8, 32))):
        assert (restored[[0, 2]] == 0).all()
        assert np.allclose(restored[1], 1e-5, rtol=0.5)  # float16 has few digits left for such a scale


def test_blocks_in_4_bits_are_no_worse_than_the_plain_scale() -> None:
    integers, scale = quantize_blocks(NORMAL, 4, 64)
    assert integers.shape == (24, 3, 64) and scale.shape == (24, 3) and np.abs(integers).max() <= LARGEST[4]
    blocks = NORMAL.reshape(24, 3, 64)
    step = np.abs(blocks).max(-1, keepdims=True) / 7
    plain = np.rint(blocks / step) * step
    error, plain_error = (
        float(np.square(restored.reshape(blocks.shape) - blocks).mean())
        for restored in (dequantize_blocks(integers, scale), plain)
    )
    assert error < plain_error


def test_a_requantized_weight_is_the_changed_one_in_the_same_form() -> None:
    """Doubling a weight doubles its scales and leaves its integers, in every form; no change, no new arrays."""
    dense, blocks = quantize_rows(NORMAL, (1,)), {bits: quantize_blocks(NORMAL, bits, 64) for bits in (8, 4)}
    of_rows = dequantize_rows(*dense)
    forms = [(*dense, 8, of_rows), (pack(dense[0].reshape(24, 3, 64), 8), dense[1], 8, of_rows)]
    forms += [(pack(block[0], bits), block[1], bits, dequantize_blocks(*block)) for bits, block in blocks.items()]
    for stored, scale, bits, expected in forms:
        seen: list[np.ndarray] = []

        def same(weight: np.ndarray, seen: list[np.ndarray] = seen) -> np.ndarray:
            seen.append(weight)
            return weight

        kept = requantize(stored, scale, same, bits)
        assert kept[0] is stored and kept[1] is scale
        assert np.array_equal(seen[0], expected)
        integers, doubled = requantize(stored, scale, lambda weight: 2 * weight, bits)
        assert (integers.dtype, integers.shape, doubled.shape) == (stored.dtype, stored.shape, scale.shape)
        if bits == 8:  # in 4 bits a weight that was rounded before may get a finer scale
            assert np.array_equal(integers, stored) and np.allclose(doubled, 2 * scale, rtol=1e-3)


@pytest.mark.parametrize("bits", [8, 4])
def test_onnxruntime_reads_the_packed_form(bits: int) -> None:
    integers, scale = quantize_blocks(NORMAL, bits, 64)
    packed = pack(integers, bits)
    assert packed.shape == (24, 3, 64 * bits // 8) and np.array_equal(unpack(packed, bits), integers)
    values = {"K": 192, "N": 24, "bits": bits, "block_size": 64, "accuracy_level": 1}  # activations stay float
    node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", **values)
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, 192])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [5, 24])],
        [numpy_helper.from_array(packed, "w"), numpy_helper.from_array(scale.astype(np.float32), "s")],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).standard_normal((5, 192)).astype(np.float32)
    (got,) = session.run(None, {"x": x})
    expected = x @ dequantize_blocks(integers, scale).T
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()  # another order of sums


def test_block_lengths() -> None:
    lengths = {(192, 128): 64, (768, 128): 128, (352, 64): 32, (1024, 64): 64, (48, 64): 16, (100, 64): 0}
    assert {case: block_of(*case) for case in lengths} == lengths
