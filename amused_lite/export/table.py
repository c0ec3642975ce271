"""Every target from one model, proven and measured: `python -m amused_lite.export.table MODEL`.

Each export is a process of its own, so that its peak memory is its own. With --pictures, whole pictures are drawn as
well, by the exported bundle and by torch from the same seeds; Core ML's through the interpreter. docs/export.md holds
what it printed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from amused_lite.bundle import MODULES, RANKER_MODULES, TARGETS, WEIGHTS
from amused_lite.console.errors import guard
from amused_lite.export.options import PRECISIONS
from amused_lite.runtimes.open import find_model

HEAD = (
    "target",
    "precision",
    "MB",
    "seconds",
    "of them CPU",
    "peak GB",
    *MODULES,
    "ranker",
    "tokens drawn alike, step by step, %",
)
PICTURES = ("whole pictures with torch's tokens", "PSNR of the others, worst and mean, dB")


class ExportRun(NamedTuple):
    """One export, seen from outside."""

    report: dict[str, Any]  # what it printed
    seconds: float
    cpu_seconds: float
    peak: int  # bytes of resident memory at most, files it had mapped among them


def measure(model: str, target: str, precision: str, out: Path) -> ExportRun:
    """Export in a process of its own.

    Raises:
        ValueError: it failed, and said why.
    """
    command = [sys.executable, "-W", "ignore", "-m", "amused_lite", "export", model, str(out), "--to", target]
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen([*command, "--precision", precision, "--json"], stdout=printed)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except KeyboardInterrupt:
            process.terminate()  # it cleans up behind itself
            process.wait()
            raise
        seconds = time.perf_counter() - started
        if status:
            raise ValueError(f"the export of {model} to {target}, {precision}, failed; see above")
        printed.seek(0)
        report = json.load(printed)
    per_unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return ExportRun(report, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * per_unit)


def row(run: ExportRun) -> list[str]:
    """A run as cells under `HEAD`."""
    report, parity = run.report, run.report["parity"]
    errors = []
    for modules in (*((name,) for name in MODULES), RANKER_MODULES):
        names = tuple(f"{module}." for module in modules)
        figures = [error for name, error in parity.items() if name.startswith(names) and ".agreement." not in name]
        errors.append(f"{max(figures):.0e}" if figures else "")
    shares = [f"{100 * share:.3g}" for name, share in parity.items() if ".agreement." in name]
    alike = " ".join(shares) if len(set(shares)) > 1 else f"{shares[0]} at all {len(shares)}"
    cost = (f"{report['bytes'] / 1e6:.1f}", f"{run.seconds:.0f}", f"{run.cpu_seconds:.0f}", f"{run.peak / 1e9:.1f}")
    return [report["target"], report["precision"]["unmask"], *cost, *errors, alike]


def line(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def _print_table(model: str, chosen: argparse.Namespace) -> None:
    head, wanted = HEAD, None
    if chosen.pictures:
        from amused_lite.export import pictures

        head, wanted = (*HEAD, *PICTURES), pictures.torch_pictures(model, chosen.pictures)
    print(f"\n{model}\n\n{line(head)}\n{line(['---'] * len(head))}", flush=True)
    targets, precisions = chosen.to or TARGETS, chosen.precision or PRECISIONS
    with tempfile.TemporaryDirectory(dir=chosen.scratch) as scratch:
        source = str(find_model(model))
        for target, precision in ((t, p) for t in targets for p in precisions):
            out = Path(scratch) / f"{target}-{precision}"
            cells = row(measure(source, target, precision, out))
            if wanted is not None:
                cells += pictures.summary(pictures.compare_pictures(out, wanted))
            print(line(cells), flush=True)
            if not (Path(source) / WEIGHTS).exists() and (out / WEIGHTS).exists():
                source = str(out)  # the same weights; its colours need not be computed again
            elif str(out) != source:
                shutil.rmtree(out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one table for each model; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", metavar="MODEL", nargs="+", help="tiny, a bundle, a diffusers folder or a hub id")
    parser.add_argument("--to", action="append", choices=TARGETS, help="only these targets (may be repeated)")
    parser.add_argument("--precision", action="append", choices=PRECISIONS, help="only these precisions")
    parser.add_argument("--scratch", type=Path, help="where bundles grow and go again (the system's temporary folder)")
    parser.add_argument("--pictures", type=int, default=0, metavar="N", help="draw N of 20 prompts beside torch (0)")
    chosen = parser.parse_args(arguments)
    for model in chosen.models:
        _print_table(model, chosen)
    return 0


if __name__ == "__main__":
    sys.exit(guard(main))
