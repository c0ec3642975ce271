"""Which tests `make check` runs for a change."""

from pathlib import Path

import pytest
from changed import chosen_for, typed_for


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("amused_lite/sampling/noise.py", "tests/sampling/test_noise.py"),  # of its name
        ("amused_lite/bundle.py", "tests/test_bundle.py"),
        ("amused_lite/export/coreml/program.py", "tests/export/test_mil_interpreter.py"),  # the folder above
        ("apps/engine/history.py", "tests/apps/engine/test_history.py"),
        ("apps/benchmark.py", "tests/apps/test_benchmark.py"),  # imports it from its package
        ("quantize/coreml_packages.py", "tests/quantize/test_onnx_bundles.py"),  # no one names it: the whole folder
        ("tests/quantize/test_low_bits.py", "tests/quantize/test_low_bits.py"),
        ("tests/export/small.py", "tests/export/test_onnx.py"),  # a helper: all beside it
    ],
)
def test_a_changed_file_has_its_tests(path: str, expected: str) -> None:
    assert Path(expected) in chosen_for(Path(path))


def test_only_the_tests_of_a_module_are_chosen() -> None:
    assert chosen_for(Path("amused_lite/sampling/schedule.py")) == [Path("tests/sampling/test_schedule.py")]
    assert chosen_for(Path("tests/files/test_png.py")) == [Path("tests/files/test_png.py")]
    assert chosen_for(Path("docs/export.md")) == chosen_for(Path("pyproject.toml")) == []


def test_types_are_checked_where_a_change_can_reach() -> None:
    found = typed_for([Path("amused_lite/sampling/schedule.py"), Path("tests/files/test_png.py"), Path("README.md")])
    assert {"amused_lite/sampling/schedule.py", "amused_lite/sampling/settings.py"} <= set(found)
    assert len(found) < 10 and "amused_lite/cli.py" not in found
    assert typed_for([Path("docs/export.md"), Path("amused_lite/gone.py")]) == []
    assert typed_for([Path("pyproject.toml")]) == ["amused_lite", "apps", "quantize"]
