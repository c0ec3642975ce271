"""What every test needs before it imports a library of models."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: figures should not depend on the machine's cores
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test reaches for the network

from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

# The files that take longest, longest first: begun last, one of them would leave a worker waiting for the other.
LONGEST = (
    "export/test_onnx.py",
    "export/test_adapters_everywhere.py",
    "export/test_coreml.py",
    "commands/test_style_command.py",
    "training/storybook/test_storybook_build.py",
    "apps/server/test_serve_command.py",
    "apps/demo/test_demo_doors.py",
    "training/test_distill.py",
    "apps/demo/test_demo_disk.py",
    "apps/engine/test_engine.py",
    "style/test_style_monitor.py",
    "quantize/test_onnx_bundles.py",
    "training/test_resume.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; all others stay in their order."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(LONGEST)))


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """(ranker, what `ExportOptions` takes) -> a bundle of `small_source`, made once a run; copy it to write."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def made(ranker: bool = False, **options: object) -> Path:
        from dataclasses import astuple

        from small import small_source

        from amused_lite.export.bundle import export_bundle
        from amused_lite.export.options import ExportOptions

        chosen = ExportOptions(**options)  # type: ignore[arg-type]
        place = folder / "-".join(map(str, (*astuple(chosen), ranker)))
        with FileLock(f"{place}.lock"):
            if not place.exists():
                export_bundle(small_source(tmp_path_factory.mktemp("small"), ranker), place, chosen)
        return place

    return made
