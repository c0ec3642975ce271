"""What an ONNX graph uses its weights for, found by following the edges from each."""

from typing import Any, NamedTuple

import onnx
from onnx import helper

from .scheme import CONVOLUTION, LINEAR, TABLE, TRANSPOSED

KERNEL = "kernel"  # of strips' convolutions, or on its way to being another one (see `models.vqgan.Upsample`)
_USERS_OF_KERNELS = {"Conv", "Gather", "Slice", "Split", "Squeeze"}


class OnnxWeightUse(NamedTuple):
    """The one node that uses a weight, and as what: linear, table or convolution."""

    kind: str
    node: onnx.NodeProto


def use_of(name: str, users: dict[str, list[onnx.NodeProto]]) -> OnnxWeightUse | None:
    """What one weight is used for, through its Cast and Transpose; None where that is no single, known use."""
    value, transposed = name, False
    while True:
        found = users.get(value, [])
        if len(found) != 1:
            if value == name or users[name][0].op_type != "Cast" or value != users[name][0].output[0]:
                return None
            known = bool(found) and {node.op_type for node in found} <= _USERS_OF_KERNELS
            return OnnxWeightUse(KERNEL, users[name][0]) if known and name.endswith(".weight") else None
        (node,) = found
        if node.op_type == "Cast":
            value = node.output[0]
        elif node.op_type == "Transpose" and not transposed and _values(node).get("perm") == [1, 0]:
            value, transposed = node.output[0], True
        else:
            break
    place = list(node.input).index(value)
    match node.op_type, place:
        case "MatMul", 1 if transposed:
            return OnnxWeightUse(LINEAR, node)
        case "Gemm", 1 if not transposed and _values(node).get("transB") == 1:
            return OnnxWeightUse(LINEAR, node)
        case "Gather", 0 if not transposed and not _values(node).get("axis"):
            return OnnxWeightUse(TABLE, node)
        case "Conv", 1:
            return OnnxWeightUse(CONVOLUTION, node)
        case "ConvTranspose", 1:
            return OnnxWeightUse(TRANSPOSED, node)
    return None


def _values(node: onnx.NodeProto) -> dict[str, Any]:
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}
