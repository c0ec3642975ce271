"""The stages from a plan to a prepared model. A run that was stopped goes on behind the last stage that is complete.

models/.preparing/NAME/    hub.json         what the hub has (`plan`)
                           commit           which source the rest of this folder was made from
                           reference.npz    what torch makes of the published weights (`proof.record`)
                           float/           the float16 bundle (`graphs`), gone once the smaller one is there
                           bundle/          the smaller one
models/NAME/               the bundle, once it passed the self-test
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

from tqdm import tqdm

from amused_lite import __version__
from amused_lite.bundle import MANIFEST, Bundle, open_bundle, write_manifest
from amused_lite.console.terminal import size_text, ticking
from amused_lite.files.atomic import DISK_FULL, replace_text
from amused_lite.installed import models_folder, work_folder
from amused_lite.prepare.plan import Plan, remember
from amused_lite.runtimes.hub import fetch

_VERSIONS = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy")
Report = Callable[[str, float], object]  # what is being done, and the share of this stage that is done
# Above these it is another model (see `proof`). Measured: see docs/models.md.
BOUNDS = {
    16: {"encode_prompt": 5e-3, "unmask.logits": 1e-2, "decode_image": 2e-2, "encode_image": 0.02},
    8: {"encode_prompt": 0.05, "unmask.logits": 0.15, "decode_image": 0.1, "encode_image": 0.02},
    4: {"encode_prompt": 0.5, "unmask.logits": 1.2, "decode_image": 0.5, "encode_image": 0.02},
}


def prepare(plan: Plan, threads: int | None = None, report: Report | None = None) -> Path:
    """Carry out a plan, and return the folder of the prepared model.

    report: is told again and again how it goes, in place of bars on a terminal.

    Raises:
        ConnectionError, OSError, ValueError: see `hub.fetch` and `proof.check`, or the disk is full; what is finished
            stays for later.
    """
    work = work_folder(plan.place)
    work.mkdir(parents=True, exist_ok=True)
    with _alone(work, plan.model), _full_disk_said(plan):
        remember(plan)
        folder = Path(plan.base or plan.model) if plan.hub is None else _download(plan, report)
        _forget_other_source(work, plan.commit)
        bundle = _write(plan, folder, work, report)
        bundle = _test(plan, bundle, work, threads, report)
        _install(bundle.folder, plan.place)
        shutil.rmtree(work)
    return plan.place


@contextmanager
def _full_disk_said(plan: Plan) -> Iterator[None]:
    """Say of a disk that became full which one it is, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        free = size_text(shutil.disk_usage(models_folder()).free)
        problem = f"the disk of {models_folder()} is full: preparing takes {size_text(plan.disk)}, {free} are free"
        raise OSError(f"{problem}; make room and run this again, what is finished is kept") from error


def _download(plan: Plan, report: Report | None) -> Path:
    assert plan.hub is not None
    total = sum(file.size for file in plan.hub.files)
    with _bar(total, "download", report, bytes_=True) as bar:
        return fetch(plan.hub, bar.update) / plan.subfolder


def _write(plan: Plan, folder: Path, work: Path, report: Report | None) -> Bundle:
    """Reference, float bundle and the smaller one, as far as they are not there."""
    small, plain, reference = work / "bundle", work / "float", work / "reference.npz"
    if (small / MANIFEST).is_file():
        return open_bundle(small)
    with tempfile.TemporaryDirectory(dir=work) as scratch, _bar(9 + (plan.bits < 16), "prepare", report) as bar:
        from amused_lite.export.weights import open_source  # the first that needs torch, whose import takes seconds
        from amused_lite.models.checkpoint import PublishedWeights
        from amused_lite.prepare import proof
        from amused_lite.prepare.graphs import write_float_bundle

        def done(what: str) -> None:
            bar.update()
            bar.set_description_str(f"prepare: {what}")

        source = open_source(folder, Path(scratch), plan.variant, plan.transformer)
        published = source.weights
        assert isinstance(published, PublishedWeights)  # a plan is made of nothing else
        if not reference.is_file():
            proof.save(proof.record(proof.StreamedWeights(published.config, published.tensors), done), reference)
        if not (plain / MANIFEST).is_file():
            colours = proof.load(reference)["colours"]
            name = plan.hub.name if plan.hub and not plan.base else Path(plan.model).name
            write_float_bundle(source, published.tensors, colours, plain, name, done)
        bundle = open_bundle(plain)
        if plan.bits == 16:
            return bundle
        done(f"{plan.bits} bits")
        return _shrink(plan, bundle, small)


def _shrink(plan: Plan, bundle: Bundle, out: Path) -> Bundle:
    from amused_lite.export.bundle import staging
    from amused_lite.quantize.bundle import write_quantized  # type: ignore[import]  # so named once installed
    from amused_lite.quantize.options import QuantizeOptions  # type: ignore[import]

    options = QuantizeOptions("onnx", plan.bits, plan.method)
    with staging(out) as folder:
        write_manifest(folder, write_quantized(bundle, folder, options, out.parent))
    shutil.rmtree(bundle.folder)
    return open_bundle(out)


def _test(plan: Plan, bundle: Bundle, work: Path, threads: int | None, report: Report | None) -> Bundle:
    """The bundle with what the self-test found in its manifest, and what it was made from.

    Raises:
        ValueError: it is another model.
    """
    from amused_lite.prepare import proof

    with _bar(4, "self-test", report) as bar:

        def done(what: str) -> None:
            bar.update()
            bar.set_description_str(f"self-test: {what}")

        figures = proof.compare(bundle, proof.load(work / "reference.npz"), threads, done)
    proof.check(figures, BOUNDS[plan.bits])
    versions = {name: version(name) for name in _VERSIONS} | {"amused-lite": __version__}
    hashes = {file.name: file.sha256 for file in plan.hub.files if file.sha256} if plan.hub else {}
    source = {"model": plan.model, "commit": plan.commit, "files": hashes, "versions": versions}
    options = {**bundle.manifest.options, "source": source}
    manifest = replace(bundle.manifest, options=options, parity={name: round(v, 6) for name, v in figures.items()})
    return Bundle(bundle.folder, write_manifest(bundle.folder, manifest))


def _install(folder: Path, place: Path) -> None:
    """Give the finished bundle its place; one that is there goes."""
    retired = place.with_name(f".{place.name}.old")
    shutil.rmtree(retired, ignore_errors=True)
    if place.exists():
        place.rename(retired)
    folder.rename(place)
    shutil.rmtree(retired, ignore_errors=True)


def _forget_other_source(work: Path, commit: str) -> None:
    """Delete what an earlier run made of other weights."""
    mark = work / "commit"
    if mark.is_file() and mark.read_text() != commit:
        for name in ("float", "bundle"):
            shutil.rmtree(work / name, ignore_errors=True)
        (work / "reference.npz").unlink(missing_ok=True)
    replace_text(mark, commit)


@contextmanager
def _alone(work: Path, model: str) -> Iterator[None]:
    """Let one process at a time prepare a model.

    Raises:
        ValueError: another one does.
    """
    from filelock import FileLock, Timeout

    models_folder().mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(work.with_name(f".{work.name}.lock"), timeout=0):
            yield
    except Timeout as error:
        raise ValueError(f"{model} is being prepared by another process; wait for it, or stop it") from error


class _Reported(tqdm):
    """A bar that is told to a program."""

    def __init__(self, *args: Any, report: Report, **options: Any) -> None:
        self._report = report
        super().__init__(*args, **options)

    def display(self, *args: Any, **options: Any) -> None:
        """Where a bar would be drawn."""
        self._report((self.desc or "").removesuffix(": "), self.n / self.total if self.total else 0.0)


@contextmanager
def _bar(total: int, what: str, report: Report | None, bytes_: bool = False) -> Iterator[tqdm]:
    """A progress bar whose clock goes on while a long step says nothing."""
    form: dict[str, Any] = (
        {"unit": "B", "unit_scale": True} if bytes_ else {"bar_format": "{desc} |{bar}| {n_fmt}/{total_fmt} {elapsed}"}
    )
    form["ncols"], form["nrows"] = shutil.get_terminal_size()  # some terminals tell 0, and tqdm would show nothing
    if report is not None:
        form |= {"disable": False, "file": StringIO(), "report": report}
    kind = tqdm if report is None else _Reported
    with kind(total=total, desc=what, **{"disable": None, **form}) as bar, ticking(bar):  # silent where no one watches
        yield bar
