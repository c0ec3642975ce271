"""What every test needs before it imports a library of models."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: figures should not depend on the machine's cores
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test reaches for the network

from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


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
