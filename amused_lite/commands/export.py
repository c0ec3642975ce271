"""`amused-lite export`: a model becomes a bundle for one kind of device."""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amused_lite.bundle import TARGETS
from amused_lite.console.arguments import check_folder, check_other_folder, named, path

if TYPE_CHECKING:
    from amused_lite.bundle import Manifest

EXAMPLES = """
examples:
  amused-lite export tiny --to openvino out/tiny-openvino
      for Intel laptops; amused-lite generate "a red star" -m out/tiny-openvino
  amused-lite export amused/amused-512 --to coreml out/phone --deployment-target iOS17
      packages for an iPhone (docs/phone.md)
  amused-lite export tiny --to executorch out/android --precision float32
  amused-lite export runs/tiny/bundle --to onnx out/styled --adapter style.safetensors
      with an adapter merged in

Every module is read back, run and compared with torch; an export that is too far off fails and leaves nothing.
docs/export.md has the targets, their options and what was measured.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `export`."""
    parser.description = "Write a model as a bundle for ONNX Runtime, OpenVINO, Core ML or ExecuTorch, and prove it."
    parser.epilog = EXAMPLES
    parser.add_argument(
        "model", type=named, metavar="MODEL", help="tiny, a bundle folder, a diffusers folder or a hub id"
    )
    parser.add_argument("out", type=path, metavar="OUT", help="the bundle folder to make; replaces a bundle")
    parser.add_argument("--to", dest="target", required=True, metavar="TARGET", help=", ".join(TARGETS))
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What an export may be asked for, as `optimum-cli export amused-lite` has it too."""
    parser.add_argument("--precision", default="float16", metavar="NAME", help="float16 or float32 (float16)")
    parser.add_argument("--opset", type=int, default=20, metavar="N", help="onnx: operator set, 18 to 23 (20)")
    parser.add_argument("--single-file", action="store_true", help="onnx: each module with its own weights inside")
    parser.add_argument(
        "--deployment-target", default="iOS18", metavar="OS", help="coreml: iOS16, iOS17 or iOS18 (iOS18)"
    )
    parser.add_argument(
        "--no-log-probs", action="store_true", help="without the output of log-probabilities, to save memory"
    )
    parser.add_argument(
        "--adapter", action="append", default=[], metavar="FILE[:WEIGHT]", help="merge a style in (may be repeated)"
    )
    parser.add_argument("--licence", default="", metavar="NAME", help="licence of the weights, for the manifest")
    parser.add_argument("--name", metavar="NAME", help="what the bundle calls itself (the model's name)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")


def run(args: argparse.Namespace) -> int:
    """Export, and print the figures."""
    from amused_lite.export.options import ExportOptions, require_target

    options = ExportOptions(
        target=args.target,
        precision=args.precision,
        opset=args.opset,
        single_file=args.single_file,
        deployment_target=args.deployment_target,
        log_probs=not args.no_log_probs,
    )
    require_target(options.target)
    out = path(args.out)  # from optimum a word
    check_folder(out)
    from amused_lite.runtimes.open import find_model

    folder = find_model(args.model)
    check_other_folder(out, folder)
    from amused_lite.export.bundle import check_out, export_bundle
    from amused_lite.export.weights import open_source, with_adapters

    check_out(out)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        source, remarks = with_adapters(open_source(folder, Path(scratch)), args.adapter)
        for remark in remarks:
            print(f"amused-lite: warning: {remark}", file=sys.stderr)
        if args.licence:
            source = source._replace(licence=args.licence)
        _state_costs(source.weights.config, options)
        manifest = export_bundle(source, out, options, args.name)
    seconds = time.perf_counter() - started
    if args.json:
        print(json.dumps(_report(out, manifest, seconds)))
    else:
        _print_figures(out, manifest, seconds)
    return 0


def _state_costs(config: Any, options: Any) -> None:
    from amused_lite.export.costs import available_memory, disk_needed, memory_needed

    memory, disk, available = memory_needed(config, options), disk_needed(config, options), available_memory()
    needs = f"about {memory / 1e9:.1f} GB of memory and {disk / 1e9:.2f} GB of disk"
    print(f"amused-lite: this export needs {needs}", file=sys.stderr)
    if available < memory:
        problem = f"only {available / 1e9:.1f} GB of memory are free; close other programs, or it may be stopped"
        print(f"amused-lite: warning: {problem}", file=sys.stderr)


def _report(out: Path, manifest: "Manifest", seconds: float) -> dict[str, Any]:
    return {
        "bundle": str(out),
        "target": manifest.target,
        "precision": manifest.precision,
        "options": manifest.options,
        "bytes": sum(record.size for record in manifest.files.values()),
        "seconds": round(seconds, 1),
        "parity": manifest.parity,
    }


def _print_figures(out: Path, manifest: "Manifest", seconds: float) -> None:
    size = sum(record.size for record in manifest.files.values())
    print(f"{out}  {manifest.target}  {size / 1e6:.1f} MB  {seconds:.0f} s")
    shares = []
    for name, figure in manifest.parity.items():
        if ".agreement." in name:
            shares.append(figure)
        else:
            print(f"  {name}: {figure:.1e} from torch")
    print(f"  tokens drawn as torch draws them, step by step: {' '.join(f'{100 * share:.1f}' for share in shares)} %")
