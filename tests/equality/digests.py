"""What is kept of a result: hashes of what it says, whatever things inside the program are called."""

import hashlib
import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence
from safetensors import safe_open

Entry = dict[str, Any]
RECIPE = "amused_lite"  # the PNG text that holds the recipe


def sha(data: bytes | str) -> str:
    """Hex sha256, cut to 128 bits."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:32]


def array(values: Any) -> str:
    """Hash of an array's kind, shape and values."""
    values = np.ascontiguousarray(values)
    return sha(f"{values.dtype.str} {values.shape} ".encode() + values.tobytes())


def pixels(image: Image.Image) -> str:
    """Hash of what is seen, with the size."""
    mode = "RGBA" if image.mode in ("RGBA", "P", "LA") else "RGB"
    return array(image.convert(mode))


def picture(source: Path | bytes) -> Entry:
    """Pixels of a PNG file, and its recipe with the tokens hashed; versions are left out."""
    with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
        image.load()
        entry: Entry = {"pixels": pixels(image)}
        text = getattr(image, "text", {})
    entry["texts"] = sorted(text)
    if RECIPE in text:
        entry |= recipe(json.loads(text[RECIPE]))
    if "parameters" in text:
        entry["parameters"] = sha(re.sub(r"Version: amused-lite [\w.]+", "", text["parameters"]))
    return entry


def recipe(values: dict[str, Any]) -> Entry:
    """A recipe's fields, with tokens as hashes and without what every picture of one model and version shares."""
    for name in ("version", "model_hash"):
        del values[name]
    entry = {"tokens": sha(values.pop("tokens")), "recipe": values}
    if values["edit"] is not None:
        entry["earlier"] = sha(values["edit"].pop("tokens"))
    return entry


def frames(path: Path) -> Entry:
    """Pixels and times of each frame of a GIF."""
    with Image.open(path) as film:
        shown = [(pixels(frame), frame.info.get("duration")) for frame in ImageSequence.Iterator(film)]
    return {"frames": len(shown), "pixels": sha(repr(shown))}


def weights(path: Path, prefix: str = "") -> str:
    """Hash of the tensors of a safetensors file, in any order and by any name; of those whose name has a prefix."""
    with safe_open(path, "np") as file:
        names = [name for name in file.keys() if name.startswith(prefix)]
        return sha("".join(sorted(array(file.get_tensor(name)) for name in names)))


def losses(run: Path) -> Entry:
    """A training's log without its clock, and the weights it ended with."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    kept = [{name: value for name, value in line.items() if name != "time"} for line in lines]
    return {"losses": kept, "weights": weights(run / "checkpoint.safetensors")}


def onnx_graph(path: Path) -> Entry:
    """Operators and the hash of an ONNX graph: who computes what from which, by any name and without weights."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    lines = _graph_lines(graph, {})
    return {"operators": _counted(node.op_type for node in graph.node), "graph": sha("\n".join(lines))}


def _graph_lines(graph: Any, numbers: dict[str, int]) -> list[str]:
    """One line for each value that comes in, each operator and each value that goes out; values by number."""

    def number(name: str) -> int:
        return numbers.setdefault(name, len(numbers)) if name else -1

    shapes = {held.name: f"{held.data_type} {list(held.dims)}" for held in graph.initializer}
    lines = [f"in {value.name} {number(value.name)} {_type(value)}" for value in graph.input]
    for node in graph.node:
        held = [shapes.get(name, "") for name in node.input]
        inputs, outputs = [number(name) for name in node.input], [number(name) for name in node.output]
        said = [_attribute(value, numbers) for value in sorted(node.attribute, key=lambda one: one.name)]
        lines.append(f"{node.domain}.{node.op_type} {inputs} {held} -> {outputs} {said}")
    return lines + [f"out {value.name} {number(value.name)} {_type(value)}" for value in graph.output]


def _type(value: Any) -> str:
    kind = value.type.tensor_type
    return f"{kind.elem_type} {[size.dim_param or size.dim_value for size in kind.shape.dim]}"


def _attribute(value: Any, numbers: dict[str, int]) -> str:
    if value.HasField("g"):
        return f"{value.name} {_graph_lines(value.g, numbers)}"
    copied = type(value)()
    copied.CopyFrom(value)
    copied.t.name = copied.doc_string = ""
    return sha(copied.SerializeToString(deterministic=True))


def openvino_graph(path: Path) -> Entry:
    """Operators and the hash of an OpenVINO graph: layers, shapes and edges, without names and places of weights."""
    root = ET.parse(path).getroot()
    layers, edges = root.findall("./layers/layer"), root.findall("./edges/edge")
    order = {layer.get("id"): number for number, layer in enumerate(layers)}
    lines = []
    for layer in layers:
        data = layer.find("data")
        said = sorted((key, text) for key, text in (data.attrib if data is not None else {}).items() if key != "offset")
        ports = [
            (port.get("precision"), [size.text for size in port.findall("dim")])
            for side in ("input", "output")
            for port in layer.findall(f"./{side}/port")
        ]
        lines.append(f"{layer.get('type')} {layer.get('version')} {said} {ports}")
    ends = ("from-layer", "from-port", "to-layer", "to-port")
    lines += sorted(str([order.get(edge.get(end), edge.get(end)) for end in ends]) for edge in edges)
    return {"operators": _counted(layer.get("type", "") for layer in layers), "graph": sha("\n".join(lines))}


def _counted(kinds: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(kinds).items()))
