"""What an installed wheel contains."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_every_package_is_listed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = [path.parent for top in ("amused_lite", "apps", "quantize") for path in (ROOT / top).rglob("__init__.py")]
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    mapped = {name if name.startswith("amused_lite") else f"amused_lite.{name}" for name in names}
    assert set(project["tool"]["setuptools"]["packages"]) == mapped


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True, timeout=300)
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built).namelist()


def test_the_wheel_drops_no_stranger_into_site_packages(wheel: list[str]) -> None:
    tops = {name.partition("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"amused_lite"}
    assert {"amused_lite/quantize/__init__.py", "amused_lite/apps/__init__.py"} <= set(wheel)


def test_the_wheel_carries_the_bundled_model(wheel: list[str]) -> None:
    files = {path.name for path in (ROOT / "amused_lite" / "bundled").iterdir() if path.is_file()}
    assert "manifest.json" in files
    assert {f"amused_lite/bundled/{name}" for name in files} <= set(wheel)


def test_the_installed_mapping_works() -> None:
    import amused_lite.apps
    import amused_lite.quantize

    assert "browser demo" in (amused_lite.apps.__doc__ or "")
    assert "bundle" in (amused_lite.quantize.__doc__ or "")
