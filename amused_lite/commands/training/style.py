"""`amused-lite style`: learn a style from a few pictures, in one or two rounds; show and convert adapter files."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amused_lite.console.arguments import named, number, path, present, threads, whole
from amused_lite.console.terminal import printable, shortened
from amused_lite.files.atomic import slug
from amused_lite.style.config import sample_prompts, train_config_of
from amused_lite.system.extras import require_extra

if TYPE_CHECKING:
    from amused_lite.style.config import StyleTrainConfig
    from amused_lite.style.job import StyleJob
    from amused_lite.style.session import StyleEvent
    from amused_lite.training.base_model import BaseModel

EXAMPLES = """\
examples:
  amused-lite style train golden/ --style "melting golden 3d"
      golden/ holds one to ten pictures, each with what it shows in a text file (a.png, a.txt)
  amused-lite style train boat.png --caption "a boat" --style "blue lines" --out blue.safetensors
  amused-lite style train blue/ --propose "a boat" --propose "a house" --style "blue lines"
      CLIP chooses for each picture which of these it shows
  amused-lite style train boat.png --caption "a boat" --style "blue lines" -m amused/amused-512 --optimizer adamw8bit
  amused-lite style feedback blue.safetensors boat.png --out blue2.safetensors
      draws candidates; then again with --pick 1,4,7 or --best 8 to learn from those
  amused-lite generate "a red star in blue lines style" --adapter blue.safetensors:0.8
  amused-lite style show blue.safetensors
  amused-lite style convert pytorch_lora_weights.safetensors mine.safetensors --base amused-512
"""


_RECIPE_FLAGS: dict[str, tuple[Callable[[str], Any], str]] = {
    "steps": (whole(1, 10**7), "steps of training"),
    "batch": (whole(1, 4096), "pictures in a step"),
    "learning-rate": (number(1e-9, 1), "rate of AdamW"),
    "rank": (whole(1, 4096), "rank of the matrices: more holds more, in a larger file"),
    "alpha": (number(1e-6, 1e6), "their scale is alpha / rank"),
    "kind": (str, "low_rank, or bottleneck (StyleDrop's; torch runtime only)"),
    "optimizer": (str, "adamw, or adamw8bit (needs bitsandbytes)"),
    "crops": (whole(2, 10_000), "crops of all pictures together"),
    "label-smoothing": (number(0, 1), "of the loss"),
    "prompt-dropout": (number(0, 1), "share of captions that are left empty"),
    "prior-share": (number(0, 1), "share of the base's own pictures, see --prior-prompt"),
    "guessed-share": (number(0, 1), "for the decoder: share of those pictures with the style guessed onto them"),
    "smallest-mask": (number(0, 1), "share of tokens that is hidden at least"),
    "precision": (str, "float32 or bfloat16 arithmetic"),
    "sample-every": (whole(1), "steps between samples"),
    "seed": (whole(0, 2**63 - 1), "of everything random"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The four subcommands."""
    parser.description = "Learn a style from one to ten pictures, in a file that generate takes with --adapter."
    parser.epilog = EXAMPLES
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=type(parser))
    raw = argparse.RawDescriptionHelpFormatter
    train = commands.add_parser("train", help="learn a style", formatter_class=raw, epilog=EXAMPLES)
    _add_pictures(train)
    train.add_argument("--style", required=True, metavar="TEXT", help='its name: "melting golden 3d"')
    train.add_argument("--out", type=path, metavar="FILE", help="the file to make (the style's name)")
    propose = "what a picture may show (to be repeated): the model's CLIP chooses for each"
    train.add_argument("--propose", action="append", metavar="TEXT", help=propose)
    train.add_argument("--ranker", metavar="ARCH:FILE", help="an open_clip model that chooses instead")
    _add_training(train)
    feedback = commands.add_parser("feedback", help="draw candidates and learn from the best", epilog=EXAMPLES)
    feedback.add_argument("adapter", type=present, metavar="ADAPTER", help="from style train")
    _add_pictures(feedback)
    feedback.add_argument("--out", type=path, required=True, metavar="FILE", help="the adapter to make")
    feedback.add_argument("--candidates", type=whole(2), default=24, metavar="N", help="how many to draw (24)")
    feedback.add_argument("--prompt", action="append", metavar="TEXT", help="what they show (may be repeated)")
    feedback.add_argument("--pick", type=_numbers, metavar="1,4,7", help="learn from these")
    feedback.add_argument("--best", type=whole(1), metavar="N", help="learn from the N with the best scores")
    _add_training(feedback)
    show = commands.add_parser("show", help="print what an adapter file says about itself")
    show.add_argument("adapter", type=present, metavar="ADAPTER")
    convert = commands.add_parser("convert", help="adapters of diffusers and peft to ours, and back")
    convert.add_argument("source", type=present, metavar="SOURCE", help="a .safetensors file or a peft folder")
    convert.add_argument("out", type=path, metavar="OUT", help="the file, or for peft the folder, to make")
    convert.add_argument("--to", choices=("ours", "diffusers", "peft"), default="ours", help="its form (%(default)s)")
    convert.add_argument("--base", choices=("amused-256", "amused-512"), default="amused-512", help="(%(default)s)")


def _add_pictures(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", type=present, nargs="+", metavar="PICTURE", help="files, or a folder")
    parser.add_argument("--caption", action="append", metavar="TEXT", help='what they show: "a boat"; one, or one each')
    parser.add_argument("--skip-unreadable", action="store_true", help="go on without pictures that cannot be used")


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-m", "--model", type=named, metavar="MODEL", help="the model that learns, as for generate (tiny)"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.add_argument("--threads", type=threads, metavar="N", help="processor threads (all)")
    parser.add_argument("--licence", default="", metavar="TEXT", help="of the adapter")
    parser.add_argument("--sample-prompt", action="append", metavar="TEXT", help="what samples show (may be repeated)")
    parser.add_argument("--prior-prompt", action="append", metavar="TEXT", help="what the base's own pictures show")
    parser.add_argument("--no-early-stop", action="store_true", help="run all steps, and keep the last")
    parser.add_argument("--no-samples", action="store_true", help="draw nothing meanwhile")
    train_config = parser.add_argument_group("recipe (the model's own unless said)")
    for name, (kind, purpose) in _RECIPE_FLAGS.items():
        train_config.add_argument(f"--{name}", type=kind, metavar=name[0].upper(), help=purpose)
    train_config.add_argument(
        "--targets", type=lambda text: tuple(text.split(",")), metavar="A,B", help="what is adapted"
    )
    train_config.add_argument("--int8-base", action="store_true", help="frozen matrices in 8 bits (needs bitsandbytes)")
    train_config.add_argument("--checkpointing", action="store_true", help="less memory, a third more time")


def run(args: argparse.Namespace) -> int:
    """Dispatch to the subcommand."""
    actions = {"train": _train, "feedback": _feedback, "show": _show, "convert": _convert}
    return actions[args.action](args)


def _train(args: argparse.Namespace) -> int:
    require_extra("torch", "style train", "torch", "safetensors")
    from amused_lite.style.data import find_pictures
    from amused_lite.style.job import check_out

    out = args.out or Path(f"{slug(args.style)}.safetensors")
    check_out(out)
    if args.propose and args.caption:
        raise ValueError("--propose and --caption both say what the pictures show; leave one of them out")
    captions = args.caption or (args.propose or ())[:1]  # of the proposals any, until one is chosen
    return _learn(args, find_pictures(args.pictures, captions), args.style, out, args.model or "tiny")


def _learn(args: argparse.Namespace, pictures: Sequence[Any], style: str, out: Path, model: str) -> int:
    from amused_lite.style.job import work_folder
    from amused_lite.style.session import learn
    from amused_lite.training.base_model import BaseModel

    base = BaseModel.open(model, args.threads, args.device)
    targets = args.targets or (("attention",) if args.kind == "bottleneck" else ())
    train_config = _recipe(args, train_config_of(base.preset, targets))
    if getattr(args, "propose", None):
        pictures = _chosen_captions(args, base, pictures)
    learned = learn(
        base,
        pictures,
        style,
        out,
        train_config,
        _print_event,
        prompts=() if args.no_samples else args.sample_prompt or sample_prompts(base.preset),
        early_stop=not args.no_early_stop,
        prior_prompts=args.prior_prompt or (),
        licence=args.licence,
        skip_unreadable=args.skip_unreadable,
    )
    if learned is None:
        print(f"stopped early; the same command goes on from here ({work_folder(out)})")
        return 130
    best = f"; step {learned.best} was the best" if learned.best else ""
    print(f"{learned.path}  {learned.path.stat().st_size / 1e6:.1f} MB  {learned.reason}{best}")
    prompt = f"... {learned.record.trigger}".strip()
    print(f'use it: amused-lite generate "{prompt}" -m {model} --adapter {learned.path}')
    return 0


def _print_event(event: "StyleEvent") -> None:
    from amused_lite.style.job import cut_captions
    from amused_lite.style.session import Prepared, Sampled

    if isinstance(event, Prepared):
        for caption in cut_captions(event.job):
            print(f"amused-lite: warning: this model cannot read all of {caption!r}; shorten it", file=sys.stderr)
        _print_cost(event.job)
    elif isinstance(event, Sampled):
        scores = f"style {event.style:.2f}, text {event.text:.2f} of the base's"
        print(f"step {event.done}: {scores}, {event.path}", flush=True)


def _chosen_captions(args: argparse.Namespace, base: "BaseModel", pictures: Sequence[Any]) -> Sequence[Any]:
    from amused_lite.analysis.ranking import OwnRanker
    from amused_lite.style.data import proposed, readable

    if args.ranker is None:
        ranker: Any = OwnRanker(base.amused())
    else:
        require_extra("train", "ranking by open_clip", "torch", "open_clip")
        from amused_lite.models.open_clip_ranker import OpenClipRanker

        ranker = OpenClipRanker(args.ranker)
    size = base.networks.config.image_size
    chosen = proposed(readable(pictures, size, args.skip_unreadable), args.propose, ranker, size)
    for picture in chosen:
        print(f"{picture.path.name}: {picture.caption}")
    return chosen


def _recipe(args: argparse.Namespace, train_config: "StyleTrainConfig") -> "StyleTrainConfig":
    from dataclasses import replace

    names = [name.replace("-", "_") for name in (*_RECIPE_FLAGS, "targets")]
    values = {name: value for name in names if (value := getattr(args, name)) is not None}
    if values.get("optimizer") == "adamw8bit" or args.int8_base:
        require_extra("style", "8-bit training", "bitsandbytes")
    return replace(train_config, **values, int8_base=args.int8_base, checkpointing=args.checkpointing)


def _print_cost(job: "StyleJob") -> None:
    cost, train_config = job.cost(), job.train_config
    numbers = sum(parameter.numel() for parameter in job.attached.parameters())
    memory = f", {cost.bytes / 2**30:.1f} GB of memory" if cost.bytes else ""
    learned = f"{numbers:,} numbers to learn, {numbers * 2 / 1e6:.1f} MB"
    crops = "" if train_config.decoder else f", {train_config.crops_of(len(job.pictures))} crops of each"
    print(f"{len(job.pictures)} pictures{crops}; {learned}")
    time = f"{cost.seconds:.2f} s each: {cost.seconds * train_config.steps / 60:.0f} minutes"
    print(f"{train_config.steps} steps of {train_config.batch}, {time}{memory}", flush=True)


def _feedback(args: argparse.Namespace) -> int:
    require_extra("torch", "style feedback", "torch", "safetensors")
    from amused_lite.adapters.file import load_adapter
    from amused_lite.pipeline import AmusedPipeline
    from amused_lite.style import feedback as style_feedback
    from amused_lite.style.data import StylePicture, find_pictures, open_picture, readable
    from amused_lite.style.job import check_out, work_folder

    check_out(args.out)
    record = load_adapter(args.adapter).record
    originals = find_pictures(args.pictures, args.caption or ("a picture",))
    model = args.model or record.base_model
    amused = AmusedPipeline.open(model, threads=args.threads, keep_loaded=True, adapters=[str(args.adapter)])
    size = amused.runtime.config.image_size
    folder = work_folder(args.out) / "candidates"
    candidates = style_feedback.draw_candidates(
        amused,
        args.prompt or sample_prompts(record.preset),
        record.trigger,
        [open_picture(picture.path, size) for picture in readable(originals, size, args.skip_unreadable)],
        args.candidates,
        folder,
    )
    chosen = style_feedback.best(candidates, args.best or max(2, len(candidates) // 3))
    if args.pick:
        chosen = style_feedback.picked(candidates, args.pick)
    for candidate in candidates:
        mark = "*" if candidate in chosen else " "
        scores = f"distance from the style {candidate.distance:.2f}, text {candidate.text:+.2f}"
        print(f"{mark} {candidate.number:3d}  {scores}  {candidate.caption}")
    if not (args.pick or args.best):
        numbers = ",".join(str(candidate.number) for candidate in sorted(chosen, key=lambda c: c.number))
        sheet = folder / style_feedback.SHEET
        print(f"look at {sheet}, then run this again with --pick {numbers} (the scores' choice)")
        return 0
    pictures = [StylePicture(candidate.path, candidate.caption) for candidate in chosen]
    style = str(record.recipe.get("style") or re.sub(r"^in (.*?)( style)?$", r"\1", record.trigger))
    return _learn(args, pictures, style, args.out, model)


def _show(args: argparse.Namespace) -> int:
    from amused_lite.adapters.file import load_adapter

    adapter = load_adapter(args.adapter)
    record = adapter.record
    facts = {
        "name": record.name,
        "say": record.trigger or "anything: it needs no words",
        "base": f"{record.base_model} ({record.preset}, {record.base_hash[:10]})",
        "kind": f"{record.kind}, rank {record.rank}, alpha {record.alpha:g}, on {', '.join(record.targets)}",
        "size": f"{len(adapter.pairs)} modules, {args.adapter.stat().st_size / 1e6:.2f} MB",
        "licence": record.licence or "not said",
        "recipe": ", ".join(f"{name} {value}" for name, value in record.recipe.items()) or "not said",
        "sha256": adapter.sha256,
    }
    for name, value in facts.items():
        print(f"{name:<8} {shortened(printable(value), 1000)}")
    return 0


def _convert(args: argparse.Namespace) -> int:
    require_extra("torch", "style convert", "torch", "safetensors")
    from amused_lite.adapters.convert import write_diffusers, write_peft
    from amused_lite.adapters.file import save_adapter
    from amused_lite.adapters.loading import read_adapter
    from amused_lite.config import PRESETS

    if args.out.exists():
        raise ValueError(f"{args.out} is there already; choose another name")
    config = PRESETS[args.base]
    adapter, remarks = read_adapter(args.source, config)
    for remark in remarks:
        print(f"amused-lite: warning: {remark}", file=sys.stderr)
    if args.to == "ours":
        save_adapter(adapter, args.out)
    else:
        (write_diffusers if args.to == "diffusers" else write_peft)(adapter, config, args.out)
    print(f"{args.out}  {len(adapter.pairs)} modules, rank {adapter.record.rank}, alpha {adapter.record.alpha:g}")
    return 0


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be numbers like 1,4,7, got {text!r}") from error
