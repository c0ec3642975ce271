"""`amused-lite bench`: models and runtimes side by side in one run: seconds, memory, and what the seconds go to.

Every contender runs in a process of its own, and they take turns, so that a machine that slows down slows them all.
"""

import argparse
import importlib.util
import json
import os
import platform
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from amused_lite import __version__
from amused_lite.analysis.measure import PROMPT, BenchmarkCase, Measurement, measure_in_child
from amused_lite.console.arguments import check_folder, path, whole
from amused_lite.console.flags import add_machine_flags
from amused_lite.runtimes.open import check_runtime, find_model, find_prepared
from amused_lite.system.extras import require_extra

_DIFFUSERS = "amused_lite.apps.benchmark_worker"
EXAMPLES = """
examples:
  amused-lite bench                                    the bundled model on every runtime that can run it
  amused-lite bench out/openvino out/int8 tiny@torch   bundles, and a model on a runtime of your choice
  amused-lite bench --random amused-512 --against diffusers
      the published size with random weights: speed and memory are those of the real ones
  amused-lite bench out/int8 --memory low --repeat 5 --out table.md

A model is anything that generate takes with -m; after an @ may stand what it takes with --runtime.
Close other programs first; what else ran is part of the figures.
"""
FOOTNOTES = """
Each run is a process of its own that draws one picture and then {pictures} more, another prompt each; the contenders
took turns, {repeat} times. Times are medians, with the least and the most in brackets. The first picture counts from
before the model is opened: reading, compiling, drawing, but not the start of Python; loading is what it took longer
than the others. Steps include the drawing of tokens and noise; tokens/s are a picture's by the time of its steps. Peak
memory is the whole process's, mapped files included, by the operating system's own count.
""".strip()
FLOOR = """
The floor is what a picture would take if its steps and its decoding were nothing but their products, as fast as torch
multiplies two matrices of bytes here, 512 x 1024 by 1024 x 5632, measured once a turn with as many threads.
""".strip()


@dataclass(frozen=True)
class Contender:
    """One line of the table."""

    name: str
    case: BenchmarkCase


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `bench`."""
    parser.epilog = EXAMPLES
    add = parser.add_argument
    add("models", nargs="*", metavar="MODEL[@RUNTIME]", help="what to measure (tiny on all runtimes)")
    add("--random", metavar="PRESET", help="amused-256 or amused-512 with random weights, made once")
    add("--against", choices=["diffusers"], help="also measure the published pipeline, on the same weights")
    add("--prompt", default=PROMPT, help="what to draw, with a number after it")
    add("--steps", type=whole(1), default=12, metavar="N", help="unmask steps (12)")
    add("--guidance-scale", type=float, metavar="G", help="the same for all (each model's own)")
    add_machine_flags(parser)
    add("--memory", choices=["fast", "low"], default="fast", help="keep modules loaded, or release them (fast)")
    add("--repeat", type=whole(1), default=3, metavar="N", help="turns (3)")
    add("--pictures", type=whole(1), default=1, metavar="N", help="per turn, after the first (1)")
    add("--out", type=path, metavar="FILE", help="write the table (.md) or all figures (.json) there too")


def run(args: argparse.Namespace) -> int:
    """Measure, and print the table."""
    if args.out:
        check_folder(args.out.parent)
        if args.out.suffix not in (".md", ".json"):
            raise ValueError(f"--out {args.out} must end in .md or .json")
    rivals = contenders(args)
    results: dict[str, list[Measurement]] = {rival.name: [] for rival in rivals}
    rates: list[float] = []  # of 8-bit products, one a turn
    for turn, rival, result in measure(rivals, args.repeat):
        results[rival.name].append(result)
        if len(rates) < turn and importlib.util.find_spec("torch") is not None:
            from .benchmark_floor import product_rate

            rates.append(product_rate(args.threads))
        seconds = ", ".join(f"{picture['total']:.2f}" for picture in result.pictures)
        print(f"{turn} of {args.repeat}: {rival.name}: {seconds} s a picture", file=sys.stderr)
    text = report(results, rivals[0].case, args.repeat, args.random is not None, _floors(rivals, rates))
    print(text)
    if args.out:
        if args.out.suffix == ".json":
            full = {name: [asdict(result) for result in some] for name, some in results.items()}
            whole_run = {"machine": describe_machine(), "settings": asdict(rivals[0].case), "results": full}
            text = json.dumps(whole_run, indent=1)
        args.out.write_text(text + "\n", encoding="utf-8")
    return 0


def contenders(args: argparse.Namespace) -> list[Contender]:
    """What shall be measured, the slowest expected first: it is what the others are compared with.

    Raises:
        ValueError, FileNotFoundError: a model or a runtime is unknown.
        MissingExtraError: what was asked for needs an optional part of the installation.
    """
    if args.random or args.against:
        require_extra("torch", "measuring published models", "torch", "safetensors")
    random = None
    if args.random:
        from .random_model import random_model

        random = str(random_model(args.random))
    named = [word.partition("@")[::2] for word in args.models]
    if random:
        named += [(random, "torch"), (random, "torch:auto")]
    elif not named:
        torch = importlib.util.find_spec("torch") is not None
        named = [("tiny", "onnx"), *((("tiny", "torch"), ("tiny", "torch:auto")) if torch else ())]
    common: dict[str, Any] = {
        "prompt": args.prompt,
        "steps": args.steps,
        "guidance_scale": args.guidance_scale,
        "threads": args.threads,
        "device": args.device,
        "memory": args.memory,
        "pictures": args.pictures,
    }
    if twice := [f"{model}@{runtime}".rstrip("@") for model, runtime in named if named.count((model, runtime)) > 1]:
        raise ValueError(f"{twice[0]} is there twice; name it once and choose --repeat for more turns")
    shared = Counter((Path(model).name, runtime) for model, runtime in named)
    found = []
    for model, runtime in named:
        check_runtime(runtime or "auto")
        _ = find_prepared(model, runtime or "auto") or find_model(model)  # so that a download is part of no figure
        called = args.random if model == random else Path(model).name
        if shared[Path(model).name, runtime] > 1:
            called = model
        case = BenchmarkCase(model, runtime or "auto", **common)
        found.append(Contender(f"{called} on {runtime}" if runtime else called, case))
    return [*_diffusers(random or named[0][0], common), *found] if args.against else found


def _diffusers(folder: str, common: dict[str, Any]) -> list[Contender]:
    if importlib.util.find_spec("diffusers") is None:
        raise ValueError("diffusers is not installed; pip install diffusers transformers, or leave --against out")
    if not (Path(folder) / "model_index.json").is_file():
        raise ValueError(f"diffusers cannot open {folder}; add --random amused-512, or name a folder of its own first")
    guided: dict[str, Any] = common | {"guidance_scale": common["guidance_scale"] or 10.0}  # its own default
    return [
        Contender(f"diffusers, {dtype}", BenchmarkCase(folder, dtype, library="diffusers", **guided))
        for dtype in ("float32", "bfloat16")
    ]


def measure(rivals: Sequence[Contender], repeat: int) -> Iterator[tuple[int, Contender, Measurement]]:
    """Run every contender in turn, `repeat` times over: (turn, who, result).

    Raises:
        ValueError: one failed; the message has its last line.
    """
    for turn in range(1, repeat + 1):
        for rival in rivals:
            worker = {"worker": _DIFFUSERS} if rival.case.library == "diffusers" else {}
            try:
                yield turn, rival, measure_in_child(rival.case, **worker)
            except ValueError as error:
                raise ValueError(f"{rival.name} failed: {error}") from error


def _floors(rivals: Sequence[Contender], rates: list[float]) -> dict[str, float]:
    """The least seconds of each contender's pictures; none where torch, which counts and measures, is missing."""
    if not rates:
        return {}
    from .benchmark_floor import floor

    return {rival.name: floor(rival.case, median(rates)) for rival in rivals}


def report(
    results: dict[str, list[Measurement]], case: BenchmarkCase, repeat: int, random: bool, floors: dict[str, float]
) -> str:
    """The table in Markdown, with what has to be known to read it; `floors` has the least seconds of each."""
    heads = "whole picture | compared | to the floor | text | a step | tokens/s | decoding | loading | first picture"
    lines = [f"| | {heads} | peak memory |", "|---|---|---|---|---|---|---|---|---|---|---|"]
    base = None
    for name, some in results.items():
        pictures = [picture for result in some for picture in result.pictures]
        totals = [picture["total"] for picture in pictures]
        base = base or median(totals)
        steps = median(step for picture in pictures for step in picture["steps"])
        drawing = median(sum(picture["steps"]) for picture in pictures)
        first = median(result.first for result in some)
        peaks = [result.peak for result in some if result.peak]
        cells = [
            f"**{median(totals):.2f} s** ({min(totals):.2f} to {max(totals):.2f})",
            f"1 / {base / median(totals):.2f}",
            f"{median(totals) / floors[name]:.2f} x {floors[name]:.2f} s" if floors else "not measured",
            f"{median(picture['encode'] for picture in pictures):.2f} s",
            f"{steps * 1000:.0f} ms",
            f"{some[0].tokens / drawing:.1f}",
            f"{median(picture['decode'] for picture in pictures):.2f} s",
            f"{max(0, first - median(totals)):.1f} s",
            f"{first:.1f} s",
            f"{max(peaks) / 2**30:.2f} GiB" if peaks else "not told",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    versions: dict[str, str] = {}
    for some in results.values():
        versions |= some[0].versions
    notes = FOOTNOTES.format(pictures=case.pictures, repeat=repeat)
    if floors:
        notes += f"\n{FLOOR}"
    if random:
        notes += "\nWeights are random: times and memory are those of the real ones, pictures are not."
    said = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    settings = f"{case.steps} steps, {case.threads or 'all'} threads, memory {case.memory}"
    return "\n".join([*lines, "", f"{describe_machine()}; {settings}; amused-lite {__version__}, {said}.", "", notes])


def describe_machine() -> str:
    """Processor, cores, memory and system, as far as they can be found out."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    busy = f", load {os.getloadavg()[0]:.1f} at the end" if hasattr(os, "getloadavg") else ""
    return f"{name}, {cores} cores, {platform.system()}, Python {platform.python_version()}{busy}"
