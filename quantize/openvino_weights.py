"""The float weights of an OpenVINO graph: which there are, and what each is used for."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from amused_lite.runtimes.openvino import weight_name

from .scheme import CONVOLUTION, LINEAR, TABLE, TRANSPOSED

_KINDS = {
    ("MatMul", 1): LINEAR,
    ("Gather", 0): TABLE,
    ("Convolution", 1): CONVOLUTION,
    ("ConvolutionBackpropData", 1): TRANSPOSED,
}


class OpenVINOWeightUse(NamedTuple):
    """A float weight of a graph: its Constant, the output that brings it as float32, and what it is used for."""

    constant: Any
    output: Any
    kind: str


def weights_of(model: Any) -> Iterator[OpenVINOWeightUse]:
    """The weights of a graph that are still float, each with its one use."""
    for item in model.get_ops():
        if item.get_type_name() != "Constant" or len(item.shape) < 2:
            continue
        if item.get_element_type().get_type_name() not in ("f16", "f32"):
            continue
        output = item.output(0)
        users = list(output.get_target_inputs())
        if len(users) == 1 and users[0].get_node().get_type_name() == "Convert":
            output = users[0].get_node().output(0)
            users = list(output.get_target_inputs())
        kinds = {_KINDS.get((user.get_node().get_type_name(), user.get_index())) for user in users}
        kind = kinds.pop() if len(kinds) == 1 else None
        if kind is None or any(kind == LINEAR and not _transposes(user.get_node()) for user in users):
            continue
        yield OpenVINOWeightUse(item, output, kind)


def _transposes(node: Any) -> bool:
    """Whether a MatMul takes its second matrix as (out, in), as linear layers do."""
    return bool(node.get_attributes().get("transpose_b"))


def name_of(constant: Any) -> str:
    """A weight's name as the other formats have it."""
    return weight_name(constant.get_friendly_name())
