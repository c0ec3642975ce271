"""Flags that several subcommands share, and what they mean. Importing it costs nothing but argparse."""

import argparse
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amused_lite.console.arguments import check_folder, named, threads, whole
from amused_lite.console.terminal import ticking
from amused_lite.runtimes.devices import DEVICES
from amused_lite.system.paths import as_path

if TYPE_CHECKING:
    from amused_lite.files.png import Recipe
    from amused_lite.pipeline import AmusedPipeline, Watch
    from amused_lite.sampling.loop import Step
    from amused_lite.sampling.settings import GenerateOptions, Setting


def add_seed_flags(parser: argparse.ArgumentParser) -> None:
    """Seed and image index."""
    parser.add_argument("-s", "--seed", type=int, default=-1, metavar="N", help="repeats a picture; -1: random (-1)")
    parser.add_argument(
        "--picture",
        type=whole(0, 2**32 - 1),
        default=0,
        metavar="K",
        help="number of the first picture within its seed (0)",
    )


def add_sampling_flags(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """How the tokens are drawn; docs/sampling.md compares the choices. defaults: those that differ from `SETTINGS`."""
    from amused_lite.sampling.settings import SETTINGS

    sampling = parser.add_argument_group("how it is drawn (docs/sampling.md compares)")
    for name, setting in SETTINGS.items():
        setting = replace(setting, default=defaults.get(name, setting.default))
        sampling.add_argument(
            f"--{name.replace('_', '-')}",
            type=partial(_pair, setting) if setting.is_pair else setting.kind,
            default=setting.default,
            metavar=setting.metavar,
            help=setting.description,
        )


def add_engine_flags(parser: argparse.ArgumentParser) -> None:
    """Model, runtime, device, threads, memory and adapters."""
    engine = parser.add_argument_group("model and engine")
    engine.add_argument(
        "-m",
        "--model",
        type=named,
        default="tiny",
        metavar="MODEL",
        help="tiny (bundled), a bundle folder, a diffusers folder or a hub id (tiny)",
    )
    engine.add_argument(
        "--adapter",
        type=named,
        action="append",
        default=[],
        metavar="FILE[:WEIGHT]",
        help="a style, from -1 to 2 times as strong as learned; may be repeated",
    )
    engine.add_argument(
        "--style-scale", type=float, metavar="A", help="further from the base: two-scale guidance (docs/styles.md)"
    )
    engine.add_argument(
        "--runtime",
        type=named,
        default="auto",
        metavar="NAME",
        help="auto, onnx, openvino, coreml, executorch or torch; torch:bfloat16 or openvino:auto is faster (auto)",
    )
    add_machine_flags(engine)
    engine.add_argument(
        "--memory",
        choices=["low", "fast"],
        help="low: as little as possible, slower; fast: keep everything loaded (fast for several pictures)",
    )


def add_machine_flags(parser: "argparse._ActionsContainer") -> None:
    """What of the machine an engine uses."""
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default="auto",
        help="cuda and mps for torch, gpu and npu for OpenVINO and Core ML (auto: cuda where torch has it, or the cpu)",
    )
    parser.add_argument("--threads", type=threads, metavar="N", help="processor threads (all)")


def open_pipeline(
    args: argparse.Namespace, keep_loaded: bool, model: str | None = None, runtime: str | None = None
) -> "AmusedPipeline":
    """The model that the engine flags ask for; says on stderr where another device than the processor was chosen.

    model, runtime: in the place of the flags'.

    Raises:
        whatever `open_model` raises.
    """
    from amused_lite.pipeline import AmusedPipeline

    styles = getattr(args, "adapter", []), getattr(args, "style_scale", None)
    chosen = model or args.model, runtime or args.runtime
    amused = AmusedPipeline.open(*chosen, args.threads, keep_loaded, *styles, args.device)
    device = amused.runtime.device
    if args.device == "auto" and device not in ("cpu", "all") and not getattr(args, "quiet", False):
        print(f"amused-lite: computing on {device}; --device cpu for the processor", file=sys.stderr)
    return amused


def add_prepare_flag(parser: argparse.ArgumentParser) -> None:
    """Whether a published model may be prepared at its first use without a question."""
    parser.add_argument(
        "-y", "--yes", action="store_true", help="prepare a published model first, as amused-lite pull does"
    )


def keeps_loaded(args: argparse.Namespace, many: bool) -> bool:
    """Whether modules stay in memory, by `--memory`, or where `many` pictures are to be drawn."""
    if args.memory == "low":
        from amused_lite.system.memory import use_low_memory

        use_low_memory()
    return many if args.memory is None else args.memory == "fast"


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    """Output path, metadata, JSON and verbosity."""
    report = parser.add_argument_group("output")
    report.add_argument(
        "-o", "--output", type=named, default="outputs", metavar="PATH", help="a .png file, or a folder (outputs)"
    )
    report.add_argument("--no-metadata", action="store_true", help="leave the recipe out of the PNG")
    report.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    report.add_argument("-q", "--quiet", action="store_true", help="no progress, and only paths are printed")


def options_from(args: argparse.Namespace, **defaults: Any) -> "GenerateOptions":
    """The sampling and seed flags as options; seed -1 becomes a random one.

    defaults: what an operation uses where the flag was left at None.

    Raises:
        ValueError: a number is out of range or a name is unknown.
    """
    from amused_lite.sampling.settings import SETTINGS, GenerateOptions

    given = {name: getattr(args, name) for name in (*SETTINGS, "seed")}
    values = defaults | {name: value for name, value in given.items() if value is not None}
    if values.get("seed", -1) == -1:
        values["seed"] = secrets.randbelow(2**32)
    return GenerateOptions(**values)


def check_output(output: str, *suffixes: str) -> tuple[Path, str]:
    """Folder and file name (empty: to be made up) of -o. Finds out before the work that it cannot be written.

    suffixes: those that a file may have; .png when none is given.

    Raises:
        ValueError: it can be neither such a file nor a folder, or may not be written.
    """
    target = as_path(output)
    suffixes = suffixes or (".png",)
    if target.is_dir() or output.endswith(("/", os.sep)) or not target.suffix:
        folder, name = target, ""
    elif target.suffix.lower() in suffixes:
        folder, name = target.parent, target.name
    else:
        raise ValueError(f"output {output} must end in {' or '.join(suffixes)} or be a folder, got {target.suffix}")
    check_folder(folder)
    return folder, name


def warn(amused: "AmusedPipeline", prompt: str, negative_prompt: str) -> None:
    """Say on stderr what a user should know: what the model cannot read, and how the adapters fit."""
    for remark in amused.remarks(prompt, negative_prompt):
        print(f"amused-lite: warning: {remark}", file=sys.stderr)


def recipe_report(recipe: "Recipe") -> dict[str, Any]:
    """What `--json` says of how pictures were made."""
    from amused_lite.sampling.settings import GenerateOptions

    words = ("prompt", "negative_prompt", "width", "height", "model", "model_hash", "runtime", "version")
    return {name: getattr(recipe, name) for name in (*GenerateOptions.__dataclass_fields__, *words)}


@contextmanager
def progress(quiet: bool) -> "Iterator[Watch]":
    """A bar on stderr, where someone can see it, from before the prompt is read until the picture is there."""
    from tqdm import tqdm

    form: dict[str, Any] = {"unit": "step", "leave": False, "file": sys.stderr}
    form["disable"] = True if quiet else None  # None: hidden where stderr is no terminal
    form["ncols"], form["nrows"] = shutil.get_terminal_size()  # some terminals tell 0, and tqdm would show nothing
    with tqdm(desc="reading the prompt", **form) as bar, ticking(bar):

        def watch(steps: "Iterator[Step]", total: int) -> "Iterator[Step]":
            bar.set_description("unmasking", refresh=False)
            bar.reset(total)
            for step in steps:
                yield step
                bar.update()
            bar.set_description("decoding")

        yield watch


def _pair(setting: "Setting", text: str) -> tuple[float, float]:
    first, comma, last = text.partition(",")
    assert setting.alone is not None
    try:
        return (float(first), float(last)) if comma else (float(first), setting.alone)
    except ValueError as error:
        example = ",".join(f"{number:g}" for number in setting.default)
        raise argparse.ArgumentTypeError(f"must be one number or two like {example}, got {text!r}") from error
