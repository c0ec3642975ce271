"""What the Swift package says of amused_lite, read from its sources; `make test-swift` runs the package itself."""

import re
import subprocess
from pathlib import Path

from amused_lite import __version__
from amused_lite.bundle import open_bundle
from amused_lite.conditioning import Conditioning
from amused_lite.pipeline import MAX_PROMPT
from amused_lite.sampling.settings import SETTINGS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "apps" / "phone" / "swift"


def source(name: str) -> str:
    return (PACKAGE / "Sources" / "AmusedLiteCore" / name).read_text(encoding="utf-8")


def test_recipes_carry_this_version() -> None:
    assert re.findall(r'^public let version = "(.+)"', source("Recipe.swift"), re.MULTILINE) == [__version__]


def test_modules_get_the_inputs_that_bundles_have() -> None:
    inputs = open_bundle(ROOT / "amused_lite" / "bundled").manifest.inputs
    given = set(re.findall(r'"(\w+)": Tensor\(', source("Loop.swift") + source("Pipeline.swift")))
    wanted = {name for module in ("encode_prompt", "unmask", "decode_image", "encode_image") for name in inputs[module]}
    assert given | set(Conditioning._fields) == wanted
    names = re.findall(r"static let names = \[(.+)\]", source("Engine.swift"))[0]
    assert tuple(re.findall(r'"(\w+)"', names)) == Conditioning._fields
    assert re.findall(r"longestPrompt = (\d+)", source("Pipeline.swift")) == [str(MAX_PROMPT)]


def test_every_setting_of_a_recipe_is_drawn_or_refused() -> None:
    fields = source("RecipeSource.swift").partition("struct Order: Decodable")[2].partition("func ")[0]
    declared = set(re.findall(r"\w+", fields))
    for name in (*SETTINGS, "micro_conditioning", "adapters", "stopped_after", "edit"):
        first, *rest = name.split("_")
        assert first + "".join(map(str.capitalize, rest)) in declared, name


def test_without_a_swift_the_tests_say_that_they_were_skipped(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "SWIFT_ROOT": str(tmp_path)}
    found = subprocess.run([PACKAGE / "test.sh"], env=environment, capture_output=True, text=True, timeout=20)
    assert found.returncode == 0 and "skipped" in found.stdout, found
