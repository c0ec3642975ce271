"""`amused-lite finetune`: a whole model goes on learning, from shards that `tokenize` made."""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amused_lite.bundle import MANIFEST
from amused_lite.console.arguments import check_folder, check_other_folder, named, number, path, present, threads, whole
from amused_lite.system.extras import require_extra

if TYPE_CHECKING:
    from amused_lite.training.base_model import BaseModel
    from amused_lite.training.finetune import AdapterShape
    from amused_lite.training.uvit_config import UViTTrainConfig

_EXAMPLES = """\
examples:
  amused-lite tokenize pictures/ out/data
  amused-lite finetune tiny out/data out/mine --sample-prompt "a red house"
  amused-lite generate "a red house" -m out/mine
  amused-lite finetune tiny out/data out/mine.safetensors        a low-rank adapter instead, of 1 % of the weights
  amused-lite generate "a red house" --adapter out/mine.safetensors
  amused-lite finetune tiny out/data:3 out/synthetic:1 out/mine      three of four samples from the first
  accelerate launch --num_processes 8 -m amused_lite finetune amused/amused-512 out/data out/mine-512 \\
      --batch 64 --accumulation 8 --checkpointing

OUT says what learns. A folder: all weights of the U-ViT, and a model of MODEL's own form is written (a bundle, or a
folder that diffusers loads). A file ending in .safetensors: a low-rank adapter. Settings are the published ones of the
model's preset unless said. Ctrl-C finishes the step and saves to OUT.work; the same command goes on.
"""
_NUMBERS: dict[str, tuple[Any, str]] = {
    "steps": (whole(1, 10**8), "of the whole training"),
    "batch": (whole(1, 10**6), "samples in a step, of all processes together"),
    "accumulation": (whole(1, 10**6), "parts that a batch is computed in, which processes share"),
    "learning-rate": (number(1e-9, 1), "of AdamW"),
    "warmup": (whole(0, 10**8), "first steps, over which the rate rises"),
    "cooldown": (whole(0, 10**8), "last steps, over which the rate falls to zero"),
    "prompt-dropout": (number(0, 1), "share of captions that are left empty"),
    "label-smoothing": (number(0, 1), "of the loss"),
    "ema-decay": (number(0, 1), "of the averaged weights, which are the ones kept"),
    "seed": (whole(0, 2**63 - 1), "of everything random"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `finetune`."""
    parser.description = "Go on training a model on pictures of your own."
    parser.epilog = _EXAMPLES
    parser.add_argument("model", type=named, metavar="MODEL", help="tiny, a bundle, a diffusers folder or a hub id")
    parser.add_argument(
        "data",
        type=_weighted,
        nargs="+",
        metavar="DATA",
        help="folders that amused-lite tokenize made, or FOLDER:WEIGHT",
    )
    parser.add_argument(
        "out", type=path, metavar="OUT", help="a folder for a model, or FILE.safetensors for an adapter"
    )
    adapter = parser.add_argument_group("for an adapter")
    adapter.add_argument("--rank", type=whole(1, 4096), metavar="R", help="of the matrices (16; tiny: 8)")
    adapter.add_argument(
        "--alpha", type=number(1e-6, 1e6), metavar="A", help="their scale is alpha / rank (32; tiny: 8)"
    )
    adapter.add_argument(
        "--targets",
        type=lambda text: tuple(text.split(",")),
        metavar="A,B",
        help="what is adapted (attention,block_attention; tiny: almost all)",
    )
    settings = parser.add_argument_group("settings (the model's own unless said)")
    for name, (kind, purpose) in _NUMBERS.items():
        settings.add_argument(f"--{name}", type=kind, metavar=name[0].upper(), help=purpose)
    settings.add_argument("--text", action="store_true", help="the text tower learns too (all weights only)")
    settings.add_argument(
        "--optimizer", choices=("adamw", "adamw8bit"), default="adamw", help="adamw8bit: a quarter of its memory"
    )
    settings.add_argument("--shard", action="store_true", help="split weights and optimizer over processes (FSDP2)")
    settings.add_argument("--checkpointing", action="store_true", help="less memory, a third more time")
    report = parser.add_argument_group("while it runs")
    report.add_argument("--sample-prompt", action="append", metavar="TEXT", help="what sheets show (may be repeated)")
    report.add_argument("--sample-every", type=whole(1), default=100, metavar="N", help="steps between sheets (100)")
    report.add_argument("--tracker", type=named, metavar="NAME", help="tensorboard, wandb or trackio, too")
    report.add_argument("--stop-after", type=whole(1), metavar="STEPS", help="end this session early")
    report.add_argument("--threads", type=threads, metavar="N", help="processor threads of a process (all)")


def _weighted(text: str) -> tuple[Path, float]:
    """An argparse type: FOLDER or FOLDER:WEIGHT."""
    folder, colon, weight = text.rpartition(":")
    if not colon or os.path.exists(text):
        return present(text), 1.0
    return present(folder), number(1e-6, 1e6)(weight)


def run(args: argparse.Namespace) -> int:
    """Open, fit together, learn, write."""
    require_extra("train", "finetune", "torch", "accelerate")
    as_adapter = args.out.suffix == ".safetensors"
    _check_flags(args, as_adapter)
    if len({folder.resolve() for folder, _ in args.data}) < len(args.data):
        raise ValueError("a folder of data is named twice; give it once, with the sum of its weights")
    check_folder(args.out.parent if as_adapter else args.out)
    if args.out.exists() and as_adapter:
        raise ValueError(f"{args.out} is there already; choose another name, or remove it")
    from amused_lite.runtimes.open import find_model

    folder = find_model(args.model)
    if not as_adapter:
        check_other_folder(args.out, folder)
    from amused_lite.adapters.file import save_adapter
    from amused_lite.adapters.lora import Adapter
    from amused_lite.training.base_model import BaseModel
    from amused_lite.training.finetune import finetune, prepare, recipe_of
    from amused_lite.training.loop.distributed import is_first
    from amused_lite.training.loop.fit import use_threads

    use_threads(args.threads)
    base = BaseModel.open(args.model, args.threads)
    config = _settings(args, recipe_of(base.preset, as_adapter, args.optimizer))
    plan = prepare(base, dict(args.data), config, _shape(args, base.preset) if as_adapter else None)
    work = args.out.with_name(f"{args.out.stem if as_adapter else args.out.name}.work")
    prompts = args.sample_prompt or ()
    made = finetune(plan, args.out.stem, work, prompts, args.sample_every, args.stop_after, args.tracker or "")
    if made is None:
        print(f"stopped early; the same command goes on from here ({work})", file=sys.stderr)
        return 130
    if not is_first():
        return 0
    if isinstance(made, Adapter):
        save_adapter(made, args.out)
    else:
        write_model(made, folder, args.out, "fine-tuned")
    use = f"--adapter {args.out}" if as_adapter else f"-m {args.out}"
    print(f'{args.out}\nuse it: amused-lite generate "..." {use}')
    return 0


def _check_flags(args: argparse.Namespace, as_adapter: bool) -> None:
    given = [name for name in ("rank", "alpha", "targets") if getattr(args, name) is not None]
    if given and not as_adapter:
        raise ValueError(f"--{given[0]} is for an adapter; let OUT end in .safetensors, or leave it out")
    if args.shard and (as_adapter or args.sample_prompt):
        raise ValueError("--shard is for all weights, and draws no samples; leave it out, or --sample-prompt")
    if args.text and as_adapter:
        raise ValueError("--text is for all weights; for an adapter name text among --targets")


def _settings(args: argparse.Namespace, config: "UViTTrainConfig") -> "UViTTrainConfig":
    from dataclasses import replace

    names = [name.replace("-", "_") for name in _NUMBERS]
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    return replace(config, **given, train_text=args.text, checkpointing=args.checkpointing, shard=args.shard)


def _shape(args: argparse.Namespace, preset: str) -> "AdapterShape":
    from dataclasses import replace

    from amused_lite.training.finetune import ADAPTERS, AdapterShape

    given = {name: getattr(args, name) for name in ("rank", "alpha", "targets") if getattr(args, name) is not None}
    return replace(ADAPTERS.get(preset, AdapterShape()), **given)


def write_model(base: "BaseModel", model: Path, out: Path, what: str, repainted: bool = False) -> None:
    """In the form of the model that it began as; `what` became of it stands in its name.

    Args:
        repainted: its codes have other colours than that model's.
    """
    if not (model / MANIFEST).is_file():
        from amused_lite.models.checkpoint import save_diffusers

        save_diffusers(base.networks, out, model / "tokenizer")
        return
    from amused_lite.export.bundle import export_bundle
    from amused_lite.export.options import ExportOptions
    from amused_lite.export.weights import open_source

    with tempfile.TemporaryDirectory() as scratch:
        source = open_source(model, Path(scratch))
        source = source._replace(weights=base.networks, colours=None if repainted else source.colours)
        export_bundle(source, out, ExportOptions(), f"{source.name} ({what})")
