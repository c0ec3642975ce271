"""What an installed wheel contains."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REGISTRATION = "optimum/commands/register/register_amused_lite.py"


def test_every_package_is_listed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = [path.parent for top in ("amused_lite", "apps", "quantize") for path in (ROOT / top).rglob("__init__.py")]
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    mapped = {name if name.startswith("amused_lite") else f"amused_lite.{name}" for name in names}
    assert set(project["tool"]["setuptools"]["packages"]) == {*mapped, "optimum.commands.register"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True, timeout=300)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def wheel(built: Path) -> list[str]:
    """The names of its files."""
    return zipfile.ZipFile(built).namelist()


def test_the_wheel_drops_no_stranger_into_site_packages(wheel: list[str]) -> None:
    tops = {name.partition("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"amused_lite", "optimum"}
    assert [name for name in wheel if name.startswith("optimum/")] == [REGISTRATION]  # a namespace: no __init__.py
    assert {"amused_lite/quantize/__init__.py", "amused_lite/apps/__init__.py"} <= set(wheel)


def test_the_wheel_carries_the_bundled_model(wheel: list[str]) -> None:
    files = {path.name for path in (ROOT / "amused_lite" / "bundled").iterdir() if path.is_file()}
    assert "manifest.json" in files
    assert {f"amused_lite/bundled/{name}" for name in files} <= set(wheel)


def test_the_wheel_carries_the_list_of_things_and_the_notice(wheel: list[str]) -> None:
    assert "amused_lite/training/storybook/kinds.toml" in wheel
    assert [name for name in wheel if name.endswith("/licenses/NOTICE")]


@pytest.mark.parametrize("app", ["demo", "web"])
def test_the_wheel_carries_the_page(wheel: list[str], app: str) -> None:
    static = ROOT / "apps" / app / "static"
    files = {path.relative_to(static).as_posix() for path in static.rglob("*") if path.is_file()}
    assert files and {f"amused_lite/apps/{app}/static/{name}" for name in files} <= set(wheel)


def test_the_installed_mapping_works() -> None:
    import amused_lite.apps
    import amused_lite.quantize

    assert "browser demo" in (amused_lite.apps.__doc__ or "")
    assert "bundle" in (amused_lite.quantize.__doc__ or "")


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import amused_lite
from optimum.commands.register import register_amused_lite
for module in (amused_lite, register_amused_lite):
    assert module.__file__.startswith(sys.argv[1]), module.__file__
from optimum.commands.optimum_cli import main
sys.argv = ["optimum-cli", *sys.argv[2:]]
main()
"""


def optimum_cli(installed: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`optimum-cli WORDS` in a folder outside the source tree, with the wheel's files and not this checkout's.

    Where this checkout is installed, optimum finds the command there as well: it must take it once all the same.
    """
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(installed), *words]
    return subprocess.run(command, cwd=installed, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files in a folder, as pip puts them into site-packages."""
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(built).extractall(folder)
    return folder


def test_optimum_finds_the_command(installed: Path) -> None:
    result = optimum_cli(installed, "export", "amused-lite", "--help")
    assert result.returncode == 0, result.stderr
    for word in ("{onnx,openvino,coreml,executorch}", "--precision", "--deployment-target", "--adapter"):
        assert word in result.stdout
    assert "amused-lite" in optimum_cli(installed, "export", "--help").stdout


def test_what_a_user_can_cause_is_one_line_there_too(installed: Path) -> None:
    result = optimum_cli(installed, "export", "amused-lite", "-m", "nowhere", "--target", "onnx", "out")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("amused-lite: error: model 'nowhere' not found")
    assert "Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "openvino", "coreml"])
def test_optimum_exports(installed: Path, target: str) -> None:
    """A real export, whose gate compares it with torch; for executorch it would take minutes."""
    result = optimum_cli(installed, "export", "amused-lite", "--target", target, f"out-{target}")
    assert result.returncode == 0, result.stderr
    assert (installed / f"out-{target}" / "manifest.json").is_file()
    assert "unmask.guess" in result.stdout
