"""`amused-lite quantize`: a model in 8, 6 or 4 bits, beside the float one it is compared with."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from amused_lite.console.arguments import check_folder, check_other_folder, named, path, present, threads, whole

EXAMPLES = """
examples:
  amused-lite quantize tiny out/small                             8-bit weights for ONNX Runtime
  amused-lite quantize tiny out/smaller --bits 4
  amused-lite quantize out/openvino out/fast --method full         8-bit weights and activations
  amused-lite quantize tiny out/bnb --to torch                     bitsandbytes (LLM.int8; --bits 4 is NF4)
  amused-lite quantize amused/amused-512 out/phone --to coreml --bits 6 --no-encoder
  amused-lite quantize out/small --report                          print a quantized bundle's report again

A model that is no bundle of the wanted target is exported first. The result is compared with it, and refused where it
draws too many tokens otherwise. docs/quantization.md has the methods, their bounds and what was measured.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `quantize`."""
    parser.description = "Write a bundle with 8-, 6- or 4-bit weights, and report what it costs and saves."
    parser.epilog = EXAMPLES
    parser.add_argument(
        "model", type=named, metavar="MODEL", help="tiny, a bundle folder, a diffusers folder or a hub id"
    )
    parser.add_argument("out", type=path, metavar="OUT", nargs="?", help="the bundle folder to make; replaces a bundle")
    parser.add_argument("--bits", type=int, default=8, metavar="N", help="8, 6 (coreml) or 4 (8)")
    parser.add_argument(
        "--to", dest="target", metavar="TARGET", help="onnx, openvino, coreml or torch (what MODEL was exported for)"
    )
    parser.add_argument("--method", default="", metavar="NAME", help="see docs/quantization.md (the target's default)")
    parser.add_argument("--no-encoder", action="store_true", help="leave out what only editing needs: text to image")
    parser.add_argument("--prompts", type=int, default=4, metavar="N", help="to find ranges and to compare with (4)")
    parser.add_argument(
        "--keep", action="append", default=[], metavar="NAME", help="weights to leave in float16, like '*.layers.0.*'"
    )
    parser.add_argument("--force", action="store_true", help="keep a result that agrees too little")
    parser.add_argument("--report", action="store_true", help="only print the report of a quantized bundle MODEL")
    parser.add_argument("--no-speed", action="store_true", help="leave seconds and memory unmeasured")
    parser.add_argument(
        "--judge", type=whole(0, 100_000), default=0, metavar="N", help="score both on N held-out prompts; slow"
    )
    parser.add_argument(
        "--judge-weights", type=present, metavar="FILE", help="the judge (that of amused-lite evaluate)"
    )
    parser.add_argument("--threads", type=threads, metavar="N", help="processor threads for the timing (all)")
    parser.add_argument("--name", metavar="NAME", help="what the bundle calls itself (the model's name)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")


def run(args: argparse.Namespace) -> int:
    """Quantize, and print the report; or only print it."""
    from amused_lite.bundle import MANIFEST, open_bundle
    from amused_lite.runtimes.open import find_model

    folder = find_model(args.model)
    if args.report:
        _print(args, folder, open_bundle(folder).manifest)
        return 0
    if args.out is None:
        raise ValueError("give the folder to make: amused-lite quantize MODEL OUT")
    out = args.out
    check_folder(out)
    check_other_folder(out, folder)
    target = args.target or (open_bundle(folder).manifest.target if (folder / MANIFEST).is_file() else "onnx")
    from .options import QuantizeOptions, require_method

    options = QuantizeOptions(
        target=target,
        bits=args.bits,
        method=args.method,
        encoder=not args.no_encoder,
        prompts=args.prompts,
        keep=tuple(args.keep),
        force=args.force,
    )
    require_method(options)
    from .bundle import Extent, quantize_model

    extent = Extent(speed=not args.no_speed, judge=_judge(args), judge_prompts=args.judge, threads=args.threads)
    started = time.perf_counter()
    manifest = quantize_model(folder, out, options, extent, args.name)
    print(f"amused-lite: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    _print(args, out, manifest)
    return 0


def _judge(args: argparse.Namespace) -> Path | None:
    if not args.judge:
        return None
    from amused_lite.system.extras import require_extra

    require_extra("train", "--judge", "torch", "skia")
    from amused_lite.evaluation.judge_training import default_judge_path

    path = args.judge_weights or default_judge_path()
    if not path.is_file():
        raise FileNotFoundError(f"no judge at {path}; run amused-lite evaluate once, which trains it in 8 minutes")
    return path


def _print(args: argparse.Namespace, out: Path, manifest: Any) -> None:
    from amused_lite.bundle import MANIFEST
    from amused_lite.reading import convert

    record = manifest.options.get("quantization")
    if record is None:
        raise ValueError(f"{out} is not quantized and has no report; quantize it: amused-lite quantize {out} OUT")

    from .report import Quantization, table

    where = f"{out / MANIFEST}: options.quantization"
    said = convert(record, Quantization, where, "quantize the model again", closed=False)
    if args.json:
        print(json.dumps({"bundle": str(out), "target": manifest.target, **record}))
        return
    print(f"{out}  {manifest.target}  {said.bits} bits, {said.method}")
    print(table(said.report))
