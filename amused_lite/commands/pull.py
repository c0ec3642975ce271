"""`amused-lite pull`: a published model, downloaded once and prepared for this machine."""

import argparse
import json
import shutil
import sys
from typing import TYPE_CHECKING

from amused_lite.console.arguments import named, threads

if TYPE_CHECKING:
    from amused_lite.prepare.plan import Plan

_EXAMPLES = """\
examples:
  amused-lite pull amused/amused-512
      downloads the published model (1.8 GB) and makes it small and fast, in minutes, once
  amused-lite generate "a photo of a fox in the snow" -m amused/amused-512
      from then on, without asking and without the network
  amused-lite pull amused/amused-256 --bits 4 --yes
      smaller and less exact; without a question
  amused-lite pull runs/fine-tuned
      a folder in diffusers' layout
  amused-lite pull runs/out/checkpoint-500/ema_model --base amused/amused-512
      a transformer alone, as diffusers' train_amused.py leaves it; or a single .safetensors file

It says first what it will take. Stopped anywhere, the same command goes on from there. amused-lite models lists what is
prepared; HF_HOME moves the downloads, HF_ENDPOINT and HF_TOKEN are heeded, AMUSED_LITE_HOME moves the prepared models.
docs/models.md has more. It needs: pip install "amused-lite[export]"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `pull`."""
    parser.description = "Download a published model, and prepare it for this machine."
    parser.epilog = _EXAMPLES
    parser.add_argument("model", type=named, metavar="MODEL", help="a hub id, or a folder in diffusers' layout")
    parser.add_argument("--bits", type=int, default=8, metavar="N", help="8, 4 or 16 (8)")
    parser.add_argument("--runtime", default="auto", metavar="NAME", help="the engine to prepare it for: onnx (auto)")
    parser.add_argument("--revision", type=named, metavar="NAME", help="branch, tag or commit on the hub (main)")
    parser.add_argument("--variant", metavar="NAME", help="of the weights' files (fp16, where every part has it)")
    parser.add_argument("--subfolder", type=named, metavar="NAME", help="of the hub's repository, with the model in it")
    parser.add_argument("--base", type=named, metavar="MODEL", help="what a transformer alone belongs to")
    parser.add_argument("--threads", type=threads, metavar="N", help="processor threads of the self-test (all)")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask before it begins")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a line")


def run(args: argparse.Namespace) -> int:
    """Say the plan, ask, and carry it out."""
    from amused_lite.installed import work_folder
    from amused_lite.prepare.plan import make_plan

    plan = make_plan(args.model, args.bits, args.runtime, args.revision, args.variant, args.base, args.subfolder)
    if plan.is_done:
        shutil.rmtree(work_folder(plan.place), ignore_errors=True)  # of a run that was stopped at its very end
        print(f"amused-lite: {args.model} is prepared already, from {plan.commit[:12]}", file=sys.stderr)
    elif not _prepare(args, plan):
        print("amused-lite: nothing was changed", file=sys.stderr)
        return 0
    _print_result(args, plan)
    return 0


def _prepare(args: argparse.Namespace, plan: "Plan") -> bool:
    """Show the plan and carry it out, unless the person at the terminal says no."""
    from amused_lite.prepare.ask import agreed, show
    from amused_lite.prepare.stages import prepare

    show(plan)
    if not args.yes and sys.stdin.isatty() and sys.stderr.isatty() and not agreed():
        return False
    prepare(plan, args.threads)
    return True


def _print_result(args: argparse.Namespace, plan: "Plan") -> None:
    from amused_lite.bundle import read_manifest

    manifest, place = read_manifest(plan.place), plan.place
    size = sum(record.size for record in manifest.files.values())
    if args.json:
        print(json.dumps({"model": plan.model, "folder": str(place), "bytes": size, "parity": manifest.parity}))
    else:
        print(f"{place}  {size / 1e6:.0f} MB")
        print(f'ready: amused-lite generate "a photo of a fox in the snow" -m {args.model}')
