"""Every way to 8 bits beside the float model: the table of methods in docs/quantization.md.

    python -m amused_lite.quantize.methods out/methods --prompts 100 --out table.md

The folder keeps the bundles and what was measured of each method, so that a run that was stopped goes on; delete
METHOD.json there to measure one again. Each method has a process of its own, in which the float ONNX bundle takes
turns with it, step by step. Some methods are no choice of `quantize` or of an engine's runtime: they are built here.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from amused_lite.bundle import MANIFEST, Bundle, open_bundle, record_files, write_manifest
from amused_lite.evaluation.prompts import prompts_for
from amused_lite.files.atomic import replace_text
from amused_lite.pipeline import AmusedPipeline
from amused_lite.runtimes.base import Runtime
from amused_lite.runtimes.graphs import Arrays, ModuleCall
from amused_lite.runtimes.open import BUNDLED, find_model, open_engine, open_model
from amused_lite.runtimes.openvino import OpenVINORuntime, import_openvino
from amused_lite.system.memory import peak_memory

from .options import QuantizeOptions
from .report import likeness
from .scheme import ACTIVATIONS

ALIKE = 2  # prompts of the teacher-forced comparison
ALL_RIGHT = "all things right and no other"  # the judge's figure that is shown


class DynamicOpenVINO(OpenVINORuntime):
    """Products in 8 bits, activations rounded as they come, so many with one scale; what is no product in float32."""

    def __init__(self, bundle: Bundle, threads: int | None, group: int) -> None:
        super().__init__(bundle, threads)
        # EXECUTION_MODE_HINT's ACCURACY, with which bundles are opened in float32, would leave products float.
        self._options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": group,
            **({"INFERENCE_NUM_THREADS": threads} if threads else {}),
        }

    def _load(self, module: str) -> ModuleCall:
        core = import_openvino().Core()
        compiled = core.compile_model(core.read_model(self._bundle.path(f"{module}.xml")), "CPU", self._options)

        def run(inputs: Arrays, outputs: Any) -> list[np.ndarray]:
            results = compiled(inputs)
            return [results[name] for name in outputs]

        return run


def _dynamic_openvino(group: int, folder: Path, threads: int) -> Runtime:
    return DynamicOpenVINO(_quantized(folder, "openvino", "weights"), threads, group)


def _opened(target: str, method: str, folder: Path, threads: int) -> Runtime:
    """What `quantize` makes, as `-m` opens it; without a method the float bundle."""
    bundle = _quantized(folder, target, method) if method else _float(folder, target)
    return open_engine(bundle, threads=threads)


def _accuracy_level_4(folder: Path, threads: int) -> Runtime:
    """MatMulNBits with products in 8 bits in the layers that the other methods round too."""
    import onnx

    bundle = _quantized(folder, "onnx", "weights")
    graph = onnx.load(str(bundle.path("unmask.onnx")), load_external_data=False)
    out = folder / "onnx-level-4"
    out.mkdir(exist_ok=True)
    for name in bundle.manifest.files:
        if not (out / name).exists():
            (out / name).hardlink_to(bundle.path(name))
    for node in graph.graph.node:
        if node.op_type == "MatMulNBits" and any(fnmatchcase(node.input[1], pattern) for pattern in ACTIVATIONS):
            for attribute in node.attribute:
                attribute.i = 4 if attribute.name == "accuracy_level" else attribute.i
    (out / "unmask.onnx").unlink()
    onnx.save(graph, str(out / "unmask.onnx"))
    manifest = write_manifest(out, replace(bundle.manifest, files=record_files(out)))
    return open_engine(Bundle(out, manifest), threads=threads)


def _torchao(folder: Path, threads: int) -> Runtime:
    import torch
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    from amused_lite.runtimes.torch import TorchRuntime

    def rounded(module: Any, name: str) -> bool:
        weight = f"uvit.token_side.{name}.weight"
        return isinstance(module, torch.nn.Linear) and any(fnmatchcase(weight, pattern) for pattern in ACTIVATIONS)

    runtime = TorchRuntime.from_bundle(open_bundle(find_model(BUNDLED)), threads)
    with torch.inference_mode(False):
        quantize_(runtime._part("uvit.token_side"), Int8DynamicActivationInt8WeightConfig(), filter_fn=rounded)
    return runtime


METHODS: dict[str, Callable[[Path, int], Runtime]] = {
    "ONNX, float": partial(_opened, "onnx", ""),
    "OpenVINO, float": partial(_opened, "openvino", ""),
    "onnx `weights` (MatMulNBits, float products)": partial(_opened, "onnx", "weights"),
    "onnx `weights`, accuracy level 4 (products in 8 bits)": _accuracy_level_4,
    "onnx `dynamic`": partial(_opened, "onnx", "dynamic"),
    "OpenVINO `weights` (float products)": partial(_opened, "openvino", "weights"),
    **{
        f"OpenVINO `weights`, dynamic quantization, group {group}": partial(_dynamic_openvino, group)
        for group in (32, 64, 128)
    },
    "OpenVINO `full` (NNCF, calibrated)": partial(_opened, "openvino", "full"),
    "torchao, `Int8DynamicActivationInt8WeightConfig`, not compiled": _torchao,
}


def _float(folder: Path, target: str) -> Bundle:
    if target == "onnx":
        return open_bundle(find_model(BUNDLED))
    folder = folder / f"{target}-float"
    if not (folder / "bundle" / MANIFEST).is_file():
        from .bundle import float_bundle

        folder.mkdir(parents=True, exist_ok=True)
        return float_bundle(find_model(BUNDLED), target, folder)
    return open_bundle(folder / "bundle")


def _quantized(folder: Path, target: str, method: str) -> Bundle:
    out = folder / f"{target}-{method}"
    if not (out / MANIFEST).is_file():
        from .bundle import Extent, quantize_model  # and torch with it, which is no part of an engine's memory

        options = QuantizeOptions(target, 8, method, force=True)
        quantize_model(_float(folder, target).folder, out, options, Extent(speed=False))
    return open_bundle(out)


class _Timed:
    """A runtime whose unmask steps are timed, in seconds of the processor."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.seconds: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def unmask(self, *arguments: Any) -> Any:
        """See `Runtime`."""
        began = time.process_time()
        result = self._runtime.unmask(*arguments)
        self.seconds.append(time.process_time() - began)
        return result


def measure(name: str, folder: Path, threads: int, count: int, found: dict[str, Any]) -> dict[str, Any]:
    """What was found of a method, and what was missing: its peak memory, both models in turns, the judge's figures."""
    _, tokenizer, info = open_model(BUNDLED)
    runtime = METHODS[name](folder, threads)
    amused = AmusedPipeline(runtime, tokenizer, info, keep_loaded=True)
    if "step" not in found:
        amused.generate("a red star")
        found["peak"] = peak_memory()  # before anything else is loaded
        leader, follower = _Timed(_opened("onnx", "", folder, threads)), _Timed(runtime)
        prompts = prompts_for(runtime.config, ALIKE, measuring=True)
        alike = likeness(leader, follower, tokenizer, prompts)  # type: ignore[arg-type]  # runtimes with a clock
        found |= alike.record() | {"step": median(follower.seconds), "float_step": median(leader.seconds)}
    if count:
        found["judge"] = _judged(amused, count)
    return found


def _judged(amused: AmusedPipeline, count: int) -> dict[str, list[int]]:
    """The judge's figures on the first held-out prompts: name -> [right, of]."""
    from amused_lite.evaluation.evaluate import draw_prompts, judge_pictures
    from amused_lite.evaluation.judge import Judge
    from amused_lite.evaluation.judge_training import default_judge_path
    from amused_lite.training.scenes import heldout_prompts

    prompts = heldout_prompts()[:count]
    pictures = list(draw_prompts(amused, prompts))
    figures = judge_pictures(Judge.load(default_judge_path()), prompts, pictures)
    return {figure.name: [figure.right, figure.n] for figure in figures}


def row(name: str, found: dict[str, Any]) -> str:
    """One line of the table."""
    right, count = found.get("judge", {}).get(ALL_RIGHT, (0, 0))
    cells = [
        f"{1000 * found['step']:.0f} ms",
        f"{1000 * found['float_step']:.0f} ms",
        f"{found['peak'] / 2**20:.0f} MiB" if found["peak"] else "not told",
        f"{100 * found['agreement']:.1f} %",
        f"{100 * found['worst_step']:.1f} %",
        f"{100 * found['logits_error']:.1f} %",
        f"{right} of {count}" if count else "not asked",
    ]
    return f"| {name} | {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> int:
    """Measure what was not measured yet, and print the table as it grows."""
    parser = argparse.ArgumentParser(description="The table of 8-bit methods in docs/quantization.md.")
    parser.add_argument("folder", type=Path, help="keeps the bundles and the figures, 150 MB")
    parser.add_argument("--prompts", type=int, default=100, metavar="N", help="pictures for the judge, or 0 (100)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="processor threads (1)")
    parser.add_argument("--only", nargs="*", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--measure", choices=METHODS, metavar="METHOD", help=argparse.SUPPRESS)  # the process of one
    parser.add_argument("--out", type=Path, help="write the table here as well")
    args = parser.parse_args(arguments)
    if args.measure:
        place, found = _known(args.folder, args.measure)
        replace_text(place, json.dumps(measure(args.measure, args.folder, args.threads, args.prompts, found)))
        return 0
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.prompts:
        _teach_judge()
    heads = "method | a step | float ONNX, same run | peak memory | agreement | worst step | logits error | judge"
    lines = [f"| {heads} |", "|---|---|---|---|---|---|---|---|"]
    print("\n".join(lines), flush=True)
    for name in args.only:
        _, found = _known(args.folder, name)
        if "step" not in found or found.get("judge", {}).get(ALL_RIGHT, [0, 0])[1] < args.prompts:
            METHODS[name](args.folder, args.threads)  # made here, or the making would be part of its peak
            options = ["--measure", name, "--threads", str(args.threads), "--prompts", str(args.prompts)]
            command = [sys.executable, "-m", "amused_lite.quantize.methods", str(args.folder), *options]
            subprocess.run(command, check=True, stdout=sys.stderr)
        lines.append(row(name, _known(args.folder, name)[1]))
        print(lines[-1], flush=True)
    if args.out:
        args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


def _teach_judge() -> None:
    from amused_lite.evaluation.judge_training import default_judge_path, train_judge

    if not default_judge_path().is_file():
        train_judge()


def _known(folder: Path, name: str) -> tuple[Path, dict[str, Any]]:
    """Where the figures of a method are kept, and those that are."""
    place = folder / f"{''.join(letter if letter.isalnum() else '-' for letter in name)}.json"
    return place, json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}


if __name__ == "__main__":
    raise SystemExit(main())
