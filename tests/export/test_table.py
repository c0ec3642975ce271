"""The table of exports, and whole pictures beside torch's."""

import math
from collections.abc import Sequence

import pytest

from amused_lite.bundle import MODULES
from amused_lite.export.pictures import PROMPTS, PictureComparison, summary
from amused_lite.export.table import HEAD, ExportRun, main, row


def cells(printed: str) -> list[list[str]]:
    """The rows of a printed table below its head."""
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_prompts_are_twenty() -> None:
    assert len(set(PROMPTS)) == 20


@pytest.mark.parametrize(
    ("found", "tokens", "psnr"),
    [
        ([PictureComparison(1, math.inf)] * 3, "3 of 3 (100 %)", "equal"),
        (
            [PictureComparison(1, math.inf), PictureComparison(0.5, 20), PictureComparison(0.9, 30)],
            "1 of 3 (80 %)",
            "20.0, 25.0",
        ),
    ],
)
def test_likenesses_are_summed_up(found: list[PictureComparison], tokens: str, psnr: str) -> None:
    assert summary(found) == (tokens, psnr)


@pytest.mark.parametrize(("shares", "shown"), [((1.0, 1.0), "100 at all 2"), ((1.0, 0.9871), "100 98.7")])
def test_a_row_holds_the_worst_of_each_module(shares: Sequence[float], shown: str) -> None:
    parity = {"unmask.guess": 0.0, "unmask.log_probs": 2e-6, "encode_prompt.layer_text": 1e-6, "embed_text.x": 3e-7}
    steps = {f"unmask.agreement.step_{step:02}": share for step, share in enumerate(shares, 1)}
    report = {"target": "onnx", "precision": {"unmask": "float16"}, "bytes": 26_000_000, "parity": parity | steps}
    found = dict(zip(HEAD, row(ExportRun(report, 12.3, 10.6, 1_500_000_000)), strict=True))
    assert [found[name] for name in ("MB", "seconds", "of them CPU", "peak GB")] == ["26.0", "12", "11", "1.5"]
    assert [found[module] for module in MODULES] == ["1e-06", "2e-06", "", ""]
    assert found["ranker"] == "3e-07" and row(ExportRun(report, 1, 1, 1))[-1] == shown


@pytest.mark.slow
def test_twenty_pictures_have_the_same_tokens_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    """On ONNX Runtime, OpenVINO, the interpreter of Core ML packages and ExecuTorch, in float32."""
    assert main(["tiny", "--precision", "float32", "--pictures", "20"]) == 0
    table = cells(capsys.readouterr().out)
    assert [line[0] for line in table] == ["onnx", "openvino", "coreml", "executorch"]
    assert {line[-2] for line in table} == {"20 of 20 (100 %)"}
