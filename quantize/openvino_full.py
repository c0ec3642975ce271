"""Weights and activations in 8 bits, by NNCF: ranges come from recorded samples, outliers move into the weights first
(SmoothQuant, Xiao et al. 2022). The sampler's tail is left out by name."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np

from .calibration import CalibrationSamples
from .openvino_weights import name_of, weights_of
from .scheme import QuantizationScheme

HEAD = "uvit.token_side.head.weight"


def tail_of(model: Any) -> list[str]:
    """Names of everything that follows the head's product: the sampler's tail, which owns no weights.

    Raises:
        ValueError: the graph does not name its head.
    """
    head = [item for item in model.get_ops() if item.get_friendly_name() == HEAD]
    if not head:
        raise ValueError(f"the graph has no {HEAD}; export the model again with this version")
    (product,) = [node for node in _behind(head[0]) if node.get_type_name() == "MatMul"][:1]
    return [node.get_friendly_name() for node in _behind(product)]


def _behind(start: Any) -> list[Any]:
    """Every operation that a node's outputs reach, nearest first."""
    found, waiting, seen = [], [start], {start.get_name()}
    while waiting:
        node = waiting.pop(0)
        for output in node.outputs():
            for item in output.get_target_inputs():
                user = item.get_node()
                if user.get_name() not in seen:
                    seen.add(user.get_name())
                    found.append(user)
                    waiting.append(user)
    return found


def quantize_fully(name: str, model: Any, samples: CalibrationSamples, scheme: QuantizationScheme) -> Any:
    """The graph of one module with 8-bit products and convolutions."""
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    ignored = kept_products(model, name, scheme)
    if name == "unmask":
        ignored += [node for node in tail_of(model) if "Result" not in node]
    count = sum(1 for _ in samples.of(name))
    return nncf.quantize(
        model,
        nncf.Dataset(_Streamed(samples, name)),  # type: ignore[arg-type]  # it asks for no more than iteration
        subset_size=count,
        model_type=nncf.ModelType.TRANSFORMER if name == "unmask" else None,
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(names=ignored),
        fast_bias_correction=True,
    )


class _Streamed:
    """CalibrationSamples that are read from disk again at every pass; NNCF makes several."""

    def __init__(self, samples: CalibrationSamples, module: str) -> None:
        self._samples, self._module = samples, module

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self._samples.of(self._module)


def kept_products(model: Any, module: str, scheme: QuantizationScheme) -> list[str]:
    """Names of the products whose activations stay float.

    Depthwise convolutions are among them: NNCF gives each of their channels a range of its own and puts that before
    the transposition that precedes them, where another axis lies in the channels' place.
    """
    kept = [item.get_friendly_name() for item in model.get_ops() if item.get_type_name() == "GroupConvolution"]
    for use in weights_of(model):
        name = name_of(use.constant)
        form = scheme.format_of(module, name, use.kind, tuple(use.constant.shape), remember=False)
        if form is None or not scheme.rounds_activations(name):
            kept += [user.get_node().get_friendly_name() for user in use.output.get_target_inputs()]
    return kept
