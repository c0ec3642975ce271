"""ONNX graphs with 8- and 4-bit weights. All graphs name slices of one `quantized.safetensors`, as float ones do.

Linear layers become MatMulNBits, whose weights stay rounded in memory, or MatMulInteger on activations that are rounded
row by row as they come. Kernels of convolutions are made float where they are used; tables are gathered as integers.
Names of weights stay, so that adapters find them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from amused_lite.bundle import QUANTIZED, WEIGHTS, Bundle
from amused_lite.files.safetensors import TensorFile, open_tensors, write_tensors
from amused_lite.quantization import SCALE, block_of, pack, quantize_blocks, quantize_rows

from .onnx_weights import KERNEL, OnnxWeightUse, use_of
from .scheme import CONVOLUTION, TRANSPOSED, QuantizationScheme, WeightFormat

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
_CONTRIB = "com.microsoft"
_INT4_OPSET = 21  # the first whose DequantizeLinear takes blocks
_BY_BLOCKS_OF_ACTIVATIONS = 4  # MatMulNBits rounds activations to 8 bits too, each block with its own scale
_FLOAT_ACTIVATIONS = 1  # and here it does not
_WIDEST_BLOCK = 256


def quantize_modules(bundle: Bundle, modules: list[str], folder: Path, scheme: QuantizationScheme) -> None:
    """Write `quantized.safetensors` and the graphs of these modules. All small weights are in memory at once."""
    stored: dict[str, np.ndarray] = {}
    graphs = {}
    weights = open_tensors(bundle.path(WEIGHTS)) if WEIGHTS in bundle.manifest.files else None
    for name in modules:
        model = onnx.load(str(bundle.path(f"{name}.onnx")), load_external_data=False)
        graphs[name] = _Rewriter(name, model, weights, scheme, stored).rewrite()
    write_tensors(folder / QUANTIZED, stored, {"format": "np"})
    stored.clear()
    slices = open_tensors(folder / QUANTIZED)
    for name, model in graphs.items():
        for initializer in model.graph.initializer:
            if initializer.name in slices.entries:
                _point_to(initializer, slices)
        onnx.save(model, str(folder / f"{name}.onnx"))


class _Rewriter:
    """Rewrites one ONNX graph with quantized weights."""

    def __init__(
        self, module: str, model: onnx.ModelProto, weights: TensorFile | None, scheme: QuantizationScheme, stored: dict
    ) -> None:
        self.module, self.model, self.graph = module, model, model.graph
        self.weights, self.scheme, self.stored = weights, scheme, stored
        self.first: list[onnx.NodeProto] = []  # go before everything else
        self.initializers: list[onnx.TensorProto] = []
        self.rounded: dict[str, tuple[str, str]] = {}  # activation -> its integers, and the step of each row
        self.instead: dict[int, list[onnx.NodeProto]] = {}  # id of a node -> what takes its place

    def rewrite(self) -> onnx.ModelProto:
        """Round what the scheme says; what it leaves is stored as it was."""
        del self.graph.value_info[:]  # stale shapes, which ONNX Runtime would believe
        self._gather_users()
        users: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for value in node.input:
                users.setdefault(value, []).append(node)
        for initializer in list(self.graph.initializer):
            if initializer.data_type not in _FLOATS or len(initializer.dims) < 2:
                self._store_as_it_is(initializer)
                continue
            use, shape = use_of(initializer.name, users), tuple(initializer.dims)
            kind = CONVOLUTION if use and use.kind == KERNEL else use.kind if use else ""
            form = self.scheme.format_of(self.module, initializer.name, kind, shape) if use else None
            if use and use.kind == KERNEL and form and form.block:
                form = WeightFormat(8)  # kernels that the graph works on are widened as a whole
            if use is None or form is None:
                self._store_as_it_is(initializer)
            else:
                self.instead[id(use.node)] = self._replace(initializer.name, use, form, self._read(initializer))
        nodes = [new for node in self.graph.node for new in self.instead.get(id(node), [node])]
        self._finish(self.first + nodes)
        return self.model

    def _gather_users(self) -> None:
        """Put a Cast behind weights that several nodes use, so that every weight has one user, as float16 ones have."""
        users: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for value in node.input:
                users.setdefault(value, []).append(node)
        for initializer in self.graph.initializer:
            name = initializer.name
            if len(users.get(name, [])) < 2 or initializer.data_type != TensorProto.FLOAT or len(initializer.dims) < 2:
                continue
            for node in users[name]:
                places = [f"{name}/read" if value == name else value for value in node.input]
                del node.input[:]
                node.input.extend(places)
            cast = helper.make_node("Cast", [name], [f"{name}/read"], f"cast/{name}", to=TensorProto.FLOAT)
            self.graph.node.insert(0, cast)

    def _finish(self, nodes: list[onnx.NodeProto]) -> None:
        needed = {item.name for item in self.graph.output}
        kept = []
        for node in reversed(nodes):  # without what nobody uses any more, such as casts of rounded weights
            if needed & set(node.output):
                kept.append(node)
                needed.update(node.input)
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(reversed(kept))
        self.graph.initializer.extend(item for item in self.initializers if item.name in needed)
        if any(node.domain == _CONTRIB for node in kept):
            self.model.opset_import.append(helper.make_opsetid(_CONTRIB, 1))
        if any(item.data_type == TensorProto.INT4 for item in self.initializers):
            opset = next(item for item in self.model.opset_import if item.domain == "")
            opset.version = max(opset.version, _INT4_OPSET)
            self.model.ir_version = max(self.model.ir_version, 10)

    def _read(self, initializer: onnx.TensorProto) -> np.ndarray:
        if initializer.data_location == TensorProto.EXTERNAL:
            assert self.weights is not None  # a graph names slices of it only where it is there
            return self.weights.read([initializer.name])[initializer.name]
        return numpy_helper.to_array(initializer)

    def _store_as_it_is(self, initializer: onnx.TensorProto) -> None:
        if initializer.data_location == TensorProto.EXTERNAL:
            self.stored.setdefault(initializer.name, self._read(initializer))
        self.initializers.append(initializer)

    def _store(self, name: str, array: np.ndarray, kind: int | None = None, shape: Any = None) -> str:
        """Put an array into the file and name it in the graph."""
        self.stored.setdefault(name, np.ascontiguousarray(array))
        item = TensorProto(name=name, data_type=kind or helper.np_dtype_to_tensor_dtype(array.dtype))
        item.dims.extend(shape or array.shape)
        self.initializers.append(item)
        return name

    def _store_scale(self, name: str, scale: np.ndarray) -> str:
        """Scales are float16 in the file; a Cast makes float32 of them once, at loading."""
        stored = self._store(name + SCALE, scale)
        self.first.append(helper.make_node("Cast", [stored], [f"{stored}/float32"], f"cast/{stored}", to=1))
        return f"{stored}/float32"

    def _replace(self, name: str, use: OnnxWeightUse, form: WeightFormat, weight: np.ndarray) -> list[onnx.NodeProto]:
        """The nodes that do with a rounded weight what `use.node` did with the float one."""
        match use.kind:
            case "linear" if form.block or (block_of(weight.shape[1], _WIDEST_BLOCK) and not self._rounds(name)):
                return self._blocks(name, use.node, form, weight)
            case "linear" if self._rounds(name):
                return self._dynamic(name, use.node, weight)
            case "linear":
                return self._widened(name, use.node, weight.T, 1)
            case "table":
                return self._table(name, use.node, form, weight)
            case "kernel":
                integers, scale = quantize_rows(weight, (1, 2, 3))
                inputs = [self._store(name, integers), self._store_scale(name, scale.reshape(-1))]
                return [helper.make_node("DequantizeLinear", inputs, use.node.output, use.node.name, axis=0)]
            case "convolution" if form.block:
                return self._widened_blocks(name, use.node, form, weight)
        return self._widened(name, use.node, weight, 1 if use.kind == TRANSPOSED else 0)

    def _rounds(self, name: str) -> bool:
        """Whether what a weight is multiplied with is rounded as it comes."""
        return self.scheme.options.method == "dynamic" and self.scheme.rounds_activations(name)

    def _dynamic(self, name: str, node: onnx.NodeProto, weight: np.ndarray) -> list[onnx.NodeProto]:
        integers, scale = quantize_rows(weight.T, (0,))
        stored, scale_name = self._store(name, integers), self._store_scale(name, scale[0])
        what, nodes = node.input[0], []
        if what not in self.rounded:
            self.rounded[what] = (f"{what}/rounded", f"{what}/rounded/step")
            nodes += self._rounded_rows(what)
        rounded, step = self.rounded[what]
        out = node.output[0]
        sums, wide, both = f"{out}/sums", f"{out}/wide", f"{out}/step"
        nodes += [
            helper.make_node("MatMulInteger", [rounded, stored, "rows/middle"], [sums], f"{node.name}/integers"),
            helper.make_node("Cast", [sums], [wide], f"{node.name}/cast", to=TensorProto.FLOAT),
            helper.make_node("Mul", [step, scale_name], [both], f"{node.name}/scale"),
        ]
        return nodes + self._with_bias(node, lambda result: helper.make_node("Mul", [wide, both], [result], node.name))

    def _rounded_rows(self, what: str) -> list[onnx.NodeProto]:
        """Nodes that round an activation (..., in), each row with a step of its own, to unsigned bytes about 128.

        Signed bytes would say the same, and have no fast kernels on x86: 60 ms for 3.
        """
        rounded, step = self.rounded[what]
        constants = {
            "rows/axis": np.array([-1], np.int64),
            "rows/share": np.float32(1 / 127),
            "rows/least": np.float32(1e-12),
            "rows/one": np.float32(1),
            "rows/middle": np.uint8(128),
        }
        known = {item.name for item in self.initializers}
        self.initializers += [
            numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name not in known
        ]
        size, peak, above, steps = (f"{rounded}/{part}" for part in ("size", "peak", "above", "steps"))
        return [
            helper.make_node("Abs", [what], [size], size),
            helper.make_node("ReduceMax", [size, "rows/axis"], [peak], peak, keepdims=1),
            helper.make_node("Max", [peak, "rows/least"], [above], above),
            helper.make_node("Mul", [above, "rows/share"], [step], step),
            helper.make_node("Div", [what, step], [steps], steps),
            helper.make_node("QuantizeLinear", [steps, "rows/one", "rows/middle"], [rounded], rounded),
        ]

    def _blocks(self, name: str, node: onnx.NodeProto, form: WeightFormat, weight: np.ndarray) -> list[onnx.NodeProto]:
        if form.block:
            integers, scale = quantize_blocks(weight, *form)
            scales, block, first = self._store_scale(name, scale), form.block, []
        else:  # one scale a row, spread over blocks that the kernel asks for
            block = block_of(weight.shape[1], _WIDEST_BLOCK)
            rows, scale = quantize_rows(weight, (1,))
            integers = rows.reshape(len(rows), -1, block)
            scales, first = self._spread(name, self._store_scale(name, scale), integers.shape[1])
        inputs = [node.input[0], self._store(name, pack(integers, form.bits)), scales]
        values: dict[str, Any] = {
            "K": weight.shape[1],
            "N": weight.shape[0],
            "bits": form.bits,
            "block_size": block,
            "accuracy_level": _BY_BLOCKS_OF_ACTIVATIONS if form.bits == 4 else _FLOAT_ACTIVATIONS,
        }
        return first + self._with_bias(
            node,
            lambda result: helper.make_node("MatMulNBits", inputs, [result], node.name, domain=_CONTRIB, **values),
        )

    def _spread(self, name: str, scale: str, blocks: int) -> tuple[str, list[onnx.NodeProto]]:
        """A scale a row (rows, 1) as one for each block (rows, blocks); folded at loading."""
        shape = numpy_helper.from_array(np.array([1, blocks], np.int64), f"{name}/blocks")
        self.initializers.append(shape)
        spread = f"{scale}/blocks"
        return spread, [helper.make_node("Expand", [scale, shape.name], [spread], f"spread/{scale}")]

    def _with_bias(self, node: onnx.NodeProto, make: Any) -> list[onnx.NodeProto]:
        """The product, and an Add where the node was a Gemm with a bias."""
        if node.op_type == "MatMul" or len(node.input) < 3:
            return [make(node.output[0])]
        product = f"{node.output[0]}/product"
        return [make(product), helper.make_node("Add", [product, node.input[2]], node.output, f"{node.name}/bias")]

    def _table(self, name: str, node: onnx.NodeProto, form: WeightFormat, weight: np.ndarray) -> list[onnx.NodeProto]:
        ids, out = node.input[1], node.output[0]
        if form.block:
            integers, scale = quantize_blocks(weight, *form)
            stored = self._store(name, pack(integers, form.bits).reshape(len(weight), -1))
            values: dict[str, Any] = {"bits": form.bits, "block_size": form.block, "gather_axis": 0, "quantize_axis": 1}
            inputs = [stored, ids, self._store_scale(name, scale)]
            return [
                helper.make_node("GatherBlockQuantized", inputs, [out], node.name, domain=_CONTRIB, **values),
            ]
        integers, scale = quantize_rows(weight, (1,))
        stored, scale_name = self._store(name, integers), self._store_scale(name, scale)
        return [
            helper.make_node("Gather", [stored, ids], [f"{out}/integers"], f"{node.name}/integers"),
            helper.make_node("Gather", [scale_name, ids], [f"{out}/scale"], f"{node.name}/scale"),
            helper.make_node("Cast", [f"{out}/integers"], [f"{out}/wide"], f"{node.name}/cast", to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{out}/wide", f"{out}/scale"], [out], node.name),
        ]

    def _widened(self, name: str, node: onnx.NodeProto, weight: np.ndarray, axis: int) -> list[onnx.NodeProto]:
        """A weight whose rows lie along `axis`, made float where it is used; ONNX Runtime does not fold this."""
        integers, scale = quantize_rows(weight, tuple(i for i in range(weight.ndim) if i != axis))
        inputs = [self._store(name, integers), self._store_scale(name, scale.reshape(-1))]
        wide = f"{name}/wide"
        nodes = [helper.make_node("DequantizeLinear", inputs, [wide], f"{node.name}/widen", axis=axis)]
        return nodes + self._with_weight(node, wide)

    def _widened_blocks(
        self, name: str, node: onnx.NodeProto, form: WeightFormat, weight: np.ndarray
    ) -> list[onnx.NodeProto]:
        rows = len(weight)
        integers, scale = quantize_blocks(weight.reshape(rows, -1), *form)
        packed = pack(integers, form.bits).reshape(rows, -1) ^ 0x88  # ONNX wants two's complement in each half
        inputs = [
            self._store(name, packed, TensorProto.INT4, (rows, weight[0].size)),
            self._store_scale(name, scale),
        ]
        shape = numpy_helper.from_array(np.array(weight.shape, np.int64), f"{name}/shape")
        self.initializers.append(shape)
        flat, wide = f"{name}/flat", f"{name}/wide"
        values: dict[str, Any] = {"axis": 1, "block_size": form.block}
        return [
            helper.make_node("DequantizeLinear", inputs, [flat], f"{node.name}/widen", **values),
            helper.make_node("Reshape", [flat, shape.name], [wide], f"{node.name}/shape"),
            *self._with_weight(node, wide),
        ]

    def _with_weight(self, node: onnx.NodeProto, weight: str) -> list[onnx.NodeProto]:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[1] = weight
        if node.op_type == "Gemm":
            for item in copy.attribute:
                if item.name == "transB":
                    item.i = 0  # stored with its rows along the second axis
        return [copy]


def _point_to(initializer: onnx.TensorProto, file: TensorFile) -> None:
    """Let an initializer be a slice of the weights file."""
    entry = file.entries[initializer.name]
    initializer.ClearField("raw_data")
    del initializer.external_data[:]
    initializer.data_location = TensorProto.EXTERNAL
    for key, value in (("location", file.path.name), ("offset", entry.offset), ("length", entry.size)):
        item = initializer.external_data.add()
        item.key, item.value = key, str(value)
