"""A model becomes a quantized bundle, beside the float one it is compared with.

Like an export it grows under another name and appears when it has been proven. Where the model is no bundle of the
wanted kind, it is exported first, to a folder that goes again.
"""

import json
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from amused_lite.bundle import COLOURS, MANIFEST, TOKENIZER, Bundle, Manifest, open_bundle, record_files, write_manifest
from amused_lite.evaluation.prompts import prompts_for
from amused_lite.export.bundle import check_disk, check_out, engine_of, staging
from amused_lite.runtimes.base import Runtime
from amused_lite.tokenizer import Tokenizer

from .options import QuantizeOptions, require_method
from .report import StepAgreement, judge_score, likeness, sizes, stage_figures
from .scheme import QuantizationScheme

_FLOAT = ".float"  # of the folder beside the bundle where an export that is needed first lives


class Extent(NamedTuple):
    """What a report measures beyond agreement and sizes."""

    speed: bool = True  # seconds and memory, in processes of their own
    judge: Path | None = None  # weights of the judge, to score both models with
    judge_prompts: int = 0
    threads: int | None = None


def quantize_model(
    model: Path, out: str | Path, options: QuantizeOptions, extent: Extent | None = None, name: str | None = None
) -> Manifest:
    """Write a quantized bundle with its report.

    Args:
        model: a bundle, or a folder in diffusers' layout.
        out: the folder to make; a bundle that is there is replaced once the new one is complete.
        options: target, bits and method.
        extent: what to measure.
        name: what the bundle calls itself; the model's own name when None.

    Raises:
        FileNotFoundError, ValueError: the model cannot be read, `out` holds something else, the disk is too small, or
            the result agrees with the float model less than `options.bound` and `options.force` is not set.
        MissingExtraError: a library is not installed.
    """
    out, extent = Path(out), extent or Extent()
    require_method(options)
    check_out(out)
    parent = out.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}{_FLOAT}-", dir=parent) as scratch:
        bundle = float_bundle(model, options.target, Path(scratch))
        check_disk(out, sum(record.size for record in bundle.manifest.files.values()))
        with staging(out) as folder:
            manifest = write_quantized(bundle, folder, options, Path(scratch), name)
            manifest = _measure(bundle, folder, manifest, options, extent)
    return manifest


def float_bundle(model: Path, target: str, scratch: Path) -> Bundle:
    """The model as a float bundle for this target: itself, or an export below `scratch`.

    Raises:
        ValueError: it is quantized already.
    """
    if (model / MANIFEST).is_file():
        bundle = open_bundle(model)
        if "quantization" in bundle.manifest.options:
            raise ValueError(f"{model} is quantized already; give the model it was made from")
        if bundle.manifest.target == ("onnx" if target == "torch" else target):
            return bundle
    from amused_lite.export.bundle import export_bundle
    from amused_lite.export.options import ExportOptions, require_target
    from amused_lite.export.weights import open_source

    wanted = "onnx" if target == "torch" else target  # torch reads the weights of an ONNX bundle
    require_target(wanted)
    source = open_source(model, scratch)
    print(f"amused-lite: {model} is no bundle for {wanted}; it is exported first, then made smaller", file=sys.stderr)
    export_bundle(source, scratch / "bundle", ExportOptions(wanted))
    return open_bundle(scratch / "bundle")


def write_quantized(
    bundle: Bundle, folder: Path, options: QuantizeOptions, scratch: Path, name: str | None = None
) -> Manifest:
    """Every file of the new bundle, and a manifest without its report."""
    modules = [module for module in bundle.manifest.precision if options.encoder or module != "encode_image"]
    shutil.copyfile(bundle.path(COLOURS), folder / COLOURS)
    words = json.loads(bundle.path(TOKENIZER).read_text(encoding="utf-8"))  # 2 MB less without the blanks
    (folder / TOKENIZER).write_text(json.dumps(words, separators=(",", ":"), ensure_ascii=False), encoding="utf-8")
    scheme = QuantizationScheme(options)
    extra: dict[str, Any] = {}
    match options.target:
        case "onnx":
            from .onnx_graphs import quantize_modules

            quantize_modules(bundle, modules, folder, scheme)
        case "openvino":
            from .openvino_graphs import quantize_modules

            extra = quantize_modules(bundle, modules, folder, scheme, scratch)
        case "coreml":
            from .coreml_packages import quantize_modules

            quantize_modules(bundle, modules, folder, scheme)
        case "torch":
            from .bitsandbytes_file import quantize_modules

            quantize_modules(bundle, modules, folder, scheme)
    manifest = bundle.manifest
    parents = {"name": manifest.name, "model_hash": manifest.model_hash}
    record = {**options.record(), "recipe": scheme.record(), "made_from": parents, **extra}
    kept = {key: value for key, value in manifest.options.items() if key != "single_file"}
    stored = "int8 weights and activations" if options.method == "full" else f"int{options.bits}"
    return replace(
        manifest,
        name=name or manifest.name,
        target=options.target,
        precision=dict.fromkeys(modules, stored),
        inputs={module: manifest.inputs[module] for module in modules},
        options={**kept, "quantization": record},
        files=record_files(folder),
        parity={},
    )


def _measure(bundle: Bundle, folder: Path, manifest: Manifest, options: QuantizeOptions, extent: Extent) -> Manifest:
    """The manifest with its report, written; raises ValueError where the gate closes."""
    manifest = write_manifest(folder, manifest)
    small = Bundle(folder, manifest)
    prompts = prompts_for(bundle.config, options.prompts, measuring=True)
    leader, follower = _leader(bundle, options), engine_of(small)
    figures = likeness(leader, follower, tokenizer_of(bundle), tqdm(prompts, "comparing", disable=None, leave=False))
    check_likeness(figures, options)
    modules = list(bundle.manifest.precision)
    report: dict[str, Any] = {
        **figures.record(),
        "prompts": len(prompts),
        "bytes": sizes(small, list(manifest.precision)),
        "bytes_of_float": sizes(bundle, modules),
    }
    del leader, follower
    if extent.speed and options.target != "coreml":  # the interpreter's seconds say nothing of an iPhone
        runtime = "torch" if options.target == "torch" else "auto"
        report["measured_of_float"] = stage_figures(bundle.folder, runtime, extent.threads)
        report["measured"] = stage_figures(folder, runtime, extent.threads)
    if extent.judge is not None:
        scores = judge_score([bundle.folder, folder], extent.judge, extent.judge_prompts)
        report["judge_of_float"], report["judge"] = scores
    parity = {f"unmask.agreement.step_{step + 1:02}": share for step, share in enumerate(figures.steps)}
    record = {**manifest.options["quantization"], "report": report}
    manifest = replace(manifest, parity=parity, options={**manifest.options, "quantization": record})
    manifest = write_manifest(folder, manifest)
    open_bundle(folder)
    return manifest


def check_likeness(figures: StepAgreement, options: QuantizeOptions) -> None:
    """Raise ValueError when too few tokens agree, unless that is wanted."""
    if not (figures.overall >= options.bound or options.force):  # written so that NaN fails
        got = f"only {figures.overall:.1%} of the tokens are drawn as the float model draws them"
        remedy = "choose more bits or another --method, --keep a layer in float16, or --force it"
        raise ValueError(f"{got}, {options.bits} bits must reach {options.bound:.0%}; {remedy}")


def _leader(bundle: Bundle, options: QuantizeOptions) -> Runtime:
    if options.target != "torch":
        return engine_of(bundle)
    from amused_lite.runtimes.open import open_engine

    return open_engine(bundle, "torch")


def tokenizer_of(bundle: Bundle) -> Tokenizer:
    """The bundle's tokenizer."""
    text = bundle.config.text
    ids = (text.context_length, text.start_token_id, text.end_token_id)
    return Tokenizer.from_file(bundle.path(TOKENIZER), *ids)
