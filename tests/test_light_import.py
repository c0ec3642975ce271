"""The core stays light: drawing a picture loads neither torch nor anything from an extra."""

import json
import subprocess
import sys
from pathlib import Path

HEAVY = (
    *("torch", "safetensors", "transformers", "diffusers", "open_clip", "accelerate"),
    *("onnx", "skia", "matplotlib", "av"),
)

DRAW = """
import json, sys
from amused_lite.pipeline import AmusedPipeline
picture = AmusedPipeline.open("tiny").generate("a red balloon", seed=1, steps=1)
picture.save(sys.argv[1])
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""

START = """
import json, sys
from amused_lite.cli import main
main(["generate", "--help"]) if "help" in sys.argv else None
print(json.dumps(sorted(sys.modules)))
"""


def test_drawing_loads_no_extra(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", DRAW, str(tmp_path / "a.png")], capture_output=True, text=True, check=True
    )
    assert (tmp_path / "a.png").stat().st_size > 1000
    loaded = json.loads(result.stdout)
    assert "onnxruntime" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_the_command_starts_with_nothing_at_all() -> None:
    result = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=True)
    loaded = json.loads(result.stdout)
    assert [name for name in ("numpy", "PIL", "onnxruntime", "tokenizers", "huggingface_hub") if name in loaded] == []
