"""The command line as a user meets it: real processes, real bundled model."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amused_lite.files.png import read_recipe

COMMAND = [sys.executable, "-m", "amused_lite"]
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"}


def amused(*arguments: str | bytes, folder: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run `amused-lite ARGUMENTS` in a folder, behind a piece of shell if given."""
    command: list[str | bytes] = [*COMMAND, *arguments]
    if before:
        command = ["bash", "-c", f'{before}; exec "$@"', "bash", *command]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)


def assert_one_line_and_nothing_else(result: subprocess.CompletedProcess[str], folder: Path, message: str) -> None:
    assert result.returncode == 2, result
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("amused-lite: error: ")
    assert message in line
    assert [path for path in folder.rglob("*") if path.suffix in (".png", ".part")] == []


BAD_INPUT: list[tuple[list[str | bytes], str]] = [
    ([], "required: PROMPT"),
    ([""], "the prompt is empty"),
    (["  \t "], "the prompt is empty"),
    ([" ".join(["word"] * 10_000)], "10000 words"),
    (["x", "-n", "word " * 10_000], "the negative prompt has"),
    ([b"a \xff balloon"], "not valid UTF-8"),
    (["a", "red", "balloon"], "put the prompt in quotes"),
    (["x", "--stpes", "4"], "unknown option --stpes; did you mean --steps?"),
    (["x", "--frobnicate"], "unknown option --frobnicate"),
    (["x", "--steps", "0"], "steps must be 1 to 1048576, got 0"),
    (["x", "--steps", "-3"], "steps must be 1 to 1048576, got -3"),
    (["x", "--steps", "99999"], "steps must be at most 1024"),
    (["x", "--steps", "many"], "invalid int value: 'many'"),
    (["x", "--seed", "-2"], "seed must be 0 to"),
    (["x", "--seed", str(2**64)], "seed must be 0 to"),
    (["x", "--count", "0"], "must be 1 or more, got 0"),
    (["x", "--count", "two"], "must be a whole number, got 'two'"),
    (["x", "--picture", "-1"], "must be 0 or more, got -1"),
    (["x", "--picture", str(2**32)], "must be at most 4294967295, got 4294967296"),
    (["x", "--guidance-scale", "nan"], "guidance_scale must be 0 to 100, got nan"),
    (["x", "--mask-temperature", "hot"], "must be one number or two like 2,0"),
    (["x", "--mask-temperature", "2,-1"], "mask_temperature must be"),
    (["x", "--token-temperature", "0"], "token_temperature must be"),
    (["x", "-W", "256"], "this model makes 512x512 pictures, got -W 256"),
    (["x", "-W", "512", "-H", "768"], "this model makes 512x512 pictures, got -H 768"),
    (["x", "--threads", "0"], "must be 1 or more, got 0"),
    (["x", "--runtime", "cuda"], "runtime 'cuda' is unknown; choose one of auto, onnx, openvino, coreml,"),
    (["x", "-m", "nosuchmodel"], "model 'nosuchmodel' not found"),
    (["x", "-m", "empty"], "is no model"),
    (["x", "-m", "file.txt"], "is a file; give the folder"),
    (["x", "-m", "model.ckpt"], "pickle"),
    (["x", "-m", "nobody/nothing"], "cannot be reached"),
    (["x", "-m", "broken"], "manifest.json is not JSON"),
    (["x", "-o", "picture.jpg"], "must end in .png or be a folder, got .jpg"),
    (["x", "-o", "file.txt/a.png"], "file.txt is a file"),
    (["x", "-o", "/proc/a.png"], "/proc"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_INPUT, ids=range(len(BAD_INPUT)))
def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str | bytes], message: str) -> None:
    for name in ("empty", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("{")
    (tmp_path / "file.txt").write_text("x")
    assert_one_line_and_nothing_else(amused("generate", *arguments, folder=tmp_path), tmp_path, message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["generat", "x"], "invalid choice: 'generat'"), (["--nonsense"], "no command given"), (["-x", "generate"], "")],
)
def test_bad_commands(tmp_path: Path, arguments: list[str], message: str) -> None:
    assert_one_line_and_nothing_else(amused(*arguments, folder=tmp_path), tmp_path, message)


def test_help_teaches(tmp_path: Path) -> None:
    result = amused("generate", "--help", folder=tmp_path)
    assert result.returncode == 0
    assert "examples:" in result.stdout and "--mask-temperature A,B" in result.stdout
    assert "generate" in amused("--help", folder=tmp_path).stdout
    assert amused("--version", folder=tmp_path).stdout.startswith("amused-lite ")
    assert amused(folder=tmp_path).returncode == 2


def test_a_picture_and_its_record(tmp_path: Path) -> None:
    result = amused("generate", "a red balloon", "-s", "7", "--steps", "2", "-o", "out/a.png", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    path, seed = result.stdout.split("  ")[:2]
    assert path == str(Path("out/a.png")) and seed == "seed 7"
    assert result.stdout.rstrip().endswith(" s")
    image = Image.open(tmp_path / path)
    assert image.size == (512, 512) and image.mode == "RGB"
    recipe = read_recipe(tmp_path / path)
    assert (recipe.prompt, recipe.seed, recipe.steps, recipe.model, recipe.runtime) == (
        "a red balloon",
        7,
        2,
        "tiny",
        "onnx",
    )


def test_a_random_seed_is_printed_and_repeats_the_picture(tmp_path: Path) -> None:
    first = json.loads(amused("generate", "a tree", "--steps", "1", "--json", folder=tmp_path).stdout)
    made = first["pictures"][0]
    assert Path(made["path"]).parent.name == "outputs"
    again = amused("generate", "a tree", "--steps", "1", "-s", str(made["seed"]), "-q", "-o", "b.png", folder=tmp_path)
    assert again.stdout == "b.png\n"
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / made["path"]).read_bytes()


def test_pictures_of_a_batch_equal_themselves_alone_and_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("precious")
    common = ["generate", "a star", "-s", "3", "--steps", "2", "-q", "-o", "a.png"]
    names = amused(*common, "--count", "2", folder=tmp_path).stdout.split()
    assert names == ["a-2.png", "a-3.png"]
    assert (tmp_path / "a.png").read_text() == "precious"
    assert amused(*common, "--picture", "1", folder=tmp_path).stdout.split() == ["a-4.png"]
    batch, alone = (read_recipe(tmp_path / name) for name in ("a-3.png", "a-4.png"))
    np.testing.assert_array_equal(batch.tokens, alone.tokens)
    assert batch.picture == alone.picture == 1


def test_metadata_can_be_switched_off(tmp_path: Path) -> None:
    result = amused("generate", "a secret", "--steps", "1", "--no-metadata", "-o", "a.png", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert b"secret" not in (tmp_path / "a.png").read_bytes()


def test_a_long_prompt_warns_and_says_what_was_not_read(tmp_path: Path) -> None:
    prompt = "a red balloon " * 20 + "and a zebra"
    result = amused("generate", prompt, "--steps", "1", folder=tmp_path)
    assert result.returncode == 0
    (line,) = result.stderr.splitlines()
    assert line.startswith("amused-lite: warning: the prompt is too long for this model; not read: '")


def test_strange_prompts_make_pictures_with_plain_names(tmp_path: Path) -> None:
    result = amused("generate", "--steps", "1", "-s", "1", "-q", "--", '--../../🎈 "x" $HOME;|\n%s', folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["x-home-s-1.png"]


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    # A file size limit fails like a full disk: in the middle of writing.
    result = amused("generate", "a star", "--steps", "1", "-o", "a.png", folder=tmp_path, before="ulimit -f 1")
    assert_one_line_and_nothing_else(result, tmp_path, "File too large")


def test_output_that_cannot_be_printed(tmp_path: Path) -> None:
    result = amused("generate", "a star", "--steps", "1", "-o", "a.png", folder=tmp_path, before="exec >/dev/full")
    assert result.returncode == 2
    assert result.stderr == "amused-lite: error: No space left on device\n"
    read_recipe(tmp_path / "a.png")  # the picture itself is whole


def test_a_reader_that_leaves_is_no_crash(tmp_path: Path) -> None:
    result = amused("generate", "a star", "--steps", "1", folder=tmp_path, before="exec > >(exec true); sleep 0.2")
    assert result.returncode in (0, 2)
    assert "Traceback" not in result.stderr and "Exception" not in result.stderr


def wait_for(process: subprocess.Popen[str], library: str) -> None:
    """Until a library is loaded in the process, so that it is known what is interrupted."""
    maps = Path(f"/proc/{process.pid}/maps")
    deadline = time.monotonic() + 60
    while process.poll() is None and maps.exists() and library not in maps.read_text() and time.monotonic() < deadline:
        time.sleep(0.002)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(("library", "delay"), [("numpy", 0), ("onnxruntime", 0), ("onnxruntime", 1.5)])
def test_interruptions_leave_nothing(
    tmp_path: Path, number: signal.Signals, code: int, library: str, delay: float
) -> None:
    process = subprocess.Popen(
        [*COMMAND, "generate", "a star", "--steps", "1000", "-o", "a.png"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, children would be born deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    wait_for(process, library)
    time.sleep(delay)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert out == ""
    assert err == ("amused-lite: interrupted\n" if number == signal.SIGINT else "")
    assert list(tmp_path.iterdir()) == []
