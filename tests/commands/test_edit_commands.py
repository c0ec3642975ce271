"""The editing subcommands as a user meets them: real processes, the bundled model, and files of every bad kind."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amused_lite.cli import _parser, main
from amused_lite.files.png import read_recipe
from amused_lite.pipeline import AmusedPipeline

COMMAND = [sys.executable, "-m", "amused_lite"]
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture that amused-lite made."""
    picture = AmusedPipeline.open("tiny", "onnx").generate("a red balloon in a meadow", "blue", seed=3, steps=3)
    return picture.save(tmp_path_factory.mktemp("drawn") / "balloon.png")


@pytest.fixture
def folder(tmp_path: Path, drawn: Path) -> Path:
    """Pictures and masks, good and bad."""
    (tmp_path / "a.png").write_bytes(drawn.read_bytes())
    photo = Image.effect_noise((640, 300), 60).convert("RGB")
    photo.save(tmp_path / "photo.jpg", quality=95)
    mask = Image.new("L", (64, 64))
    mask.paste(255, (20, 20, 40, 50))
    mask.save(tmp_path / "mask.png")
    hole = photo.copy()
    hole.putalpha(Image.eval(mask.resize(photo.size), lambda value: 255 - value))
    hole.save(tmp_path / "hole.png")
    for name, grey in {"black.png": 0, "white.png": 255}.items():
        Image.new("L", (50, 50), grey).save(tmp_path / name)
    (tmp_path / "text.png").write_text("hello")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    Image.new("1", (20_000, 30)).save(tmp_path / "wide.png")
    (tmp_path / "cut.png").write_bytes(drawn.read_bytes()[:4000])
    return tmp_path


def amused(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )


BAD: list[tuple[str, str]] = [
    ("vary", "required: FILE"),
    ("inpaint a.png mask.png", "required: PROMPT"),
    ("vary none.png x", "No such file or directory: none.png"),
    ("vary . x", "is a folder; give a picture"),
    ("vary text.png x", "text.png is no picture that can be read"),
    ("vary dot.png x", "dot.png has 1x1 px, at least 16 a side are needed"),
    ("edit wide.png x", "wide.png has 20000x30 px; at most 67 million px and 16384 a side are read"),
    ("outpaint cut.png x --left 9", "cut.png is damaged or cut short"),
    ("inpaint a.png cut.png x", "cut.png is damaged or cut short"),
    ("inpaint a.png none.png x", "No such file or directory: none.png"),
    ("inpaint a.png black.png x", "the mask marks nothing"),
    ("inpaint a.png white.png x", "the mask marks the whole picture"),
    ("inpaint a.png alpha x", "the picture has no see-through parts"),
    ("vary a.png x --lock white.png", "the mask marks the whole picture"),
    ("vary photo.jpg", "holds no prompt of its own"),
    ("vary a.png --strength 0", "strength must be above 0 and at most 1, got 0"),
    ("vary a.png --strength 0.3 --steps 2", "less than one step; give 0.5 or more, or more steps"),
    ("reroll a.png --share 2", "share must be above 0 and at most 1, got 2"),
    ("reroll a.png --refine 2", "refine is for new pictures"),
    ("outpaint a.png", "must be 0 px or more and not all 0"),
    ("outpaint a.png --left -5", "must be 0 or more, got -5"),
    ("outpaint a.png --right 16000", "16512x512 px (33024 tokens) are too many: at most 16384 px a side"),
    ("edit a.png x --feather 3", "unknown option --feather"),
    ("edit a.png x --top-k 0", "top_k must be 1 to 16777216, got 0"),
    ("edit a.png x -o a.jpg", "must end in .png or be a folder"),
]


@pytest.fixture
def own_signals() -> Iterator[None]:
    """`main` sets handlers of its own, which a process of its own would take along."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("line", "message"), BAD, ids=[line for line, _ in BAD])
@pytest.mark.usefixtures("own_signals")
def test_bad_input_is_one_line_and_exit_code_2(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    before = sorted(folder.rglob("*"))
    monkeypatch.chdir(folder)
    code = main(line.split())
    out, err = capsys.readouterr()
    assert code == 2 and out == ""
    said = [text for text in err.splitlines() if not text.startswith("amused-lite: note: ")]
    assert len(said) == 1 and said[0].startswith("amused-lite: error: ") and message in said[0]
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("command", ["vary", "inpaint", "outpaint", "edit", "reroll"])
def test_help_teaches(tmp_path: Path, command: str) -> None:
    result = amused(command, "--help", folder=tmp_path)
    assert result.returncode == 0
    assert f"  amused-lite {command} " in result.stdout and "examples:" in result.stdout
    assert command in amused("--help", folder=tmp_path).stdout


@pytest.mark.parametrize(
    ("line", "operation"),
    [
        ("vary a.png --strength 0.5", "vary"),
        ("vary photo.jpg x --strength 1 --pad --lock mask.png", "vary"),
        ("inpaint a.png mask.png x", "inpaint"),
        ("outpaint a.png --right 40 --feather 3", "outpaint"),
        ("edit a.png x --share 0.2 --guidance-scale 1", "edit"),
        ("reroll a.png x --share 0.2 --from-pixels", "reroll"),
    ],
)
def test_every_command_makes_a_picture_with_its_recipe(folder: Path, line: str, operation: str) -> None:
    result = amused(*line.split(), "--steps", "2", "-s", "5", folder=folder)
    assert result.returncode == 0, result.stderr
    path = folder / result.stdout.split("  ")[0]
    assert path.name == f"{line.split()[1].partition('.')[0]}-{operation}-5.png"
    recipe = read_recipe(path)
    assert recipe.edit is not None and recipe.edit.operation == operation and recipe.seed == 5
    assert recipe.prompt == ("x" if " x" in line else "a red balloon in a meadow")
    assert recipe.negative_prompt == ("" if " x" in line else "blue")


def test_notes_say_what_was_done_to_the_files(folder: Path) -> None:
    result = amused("inpaint", "hole.png", "mask.png", "x", "--steps", "1", folder=folder)
    assert result.stderr.splitlines() == [
        "amused-lite: note: hole.png: its see-through parts were laid on white",
        "amused-lite: note: mask.png: its 64x64 px were stretched to the picture's 640x300",
    ]
    by_alpha = amused("inpaint", "hole.png", "alpha", "x", "--steps", "1", "-o", "b.png", folder=folder)
    assert by_alpha.returncode == 0, by_alpha.stderr
    before, after = (np.asarray(Image.open(folder / name).convert("RGBA")) for name in ("hole.png", "b.png"))
    kept = before[..., 3] == 255
    np.testing.assert_array_equal(after[kept], before[kept])


def test_a_batch_and_its_report(folder: Path) -> None:
    result = amused("vary", "a.png", "--count", "2", "--steps", "2", "-s", "1", "--json", folder=folder)
    report = json.loads(result.stdout)
    assert [made["picture"] for made in report["pictures"]] == [0, 1]
    assert report["edit"]["operation"] == "vary" and report["edit"]["strength"] == 0.5
    alone = amused("vary", "a.png", "--picture", "1", "--steps", "2", "-s", "1", "-q", folder=folder).stdout.strip()
    pictures = [read_recipe(folder / path).tokens for path in (report["pictures"][1]["path"], alone)]
    np.testing.assert_array_equal(*pictures)


def test_an_interruption_leaves_nothing(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    process = subprocess.Popen(
        [*COMMAND, "edit", "a.png", "x", "--steps", "1000", "-o", "new.png"],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    maps, deadline = Path(f"/proc/{process.pid}/maps"), time.monotonic() + 60
    while process.poll() is None and maps.exists() and "onnxruntime" not in maps.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "amused-lite: interrupted\n")
    assert sorted(folder.rglob("*")) == before


GUIDE = (Path(__file__).parents[2] / "docs" / "editing.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", [line for line in GUIDE.splitlines() if line.startswith("amused-lite ")])
def test_the_guides_commands_exist(line: str) -> None:
    words = shlex.split(line)[1:]
    assert _parser(words[0]).parse_args(words).command == words[0]


def test_the_guides_python_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=ENVIRONMENT, check=True, timeout=300)
    assert {path.name for path in tmp_path.iterdir()} == {"balloon.png", "blue.png", "wide.png", "night.png"}


def test_everything_the_guide_names_is_there() -> None:
    for path in re.findall(r"\]\(([^):#]+)\)", GUIDE):
        assert (Path(__file__).parents[2] / "docs" / path).is_file(), path
