"""Devices by one word on every engine: what is here, what is refused, and what "auto" takes."""

import pytest
import torch

from amused_lite import cli
from amused_lite.pipeline import AmusedPipeline
from amused_lite.runtimes import devices
from amused_lite.runtimes.devices import DEVICES, choose_device


@pytest.mark.parametrize("engine", ["torch", "bitsandbytes", "openvino", "onnx", "executorch"])
def test_the_processor_is_always_there_and_what_is_not_is_named(engine: str) -> None:
    assert choose_device(engine, "cpu")[0] == "cpu"
    refused = 0
    for device in DEVICES:
        try:
            chosen = choose_device(engine, device)[0]
        except ValueError as error:
            refused += 1
            assert f"{engine} cannot compute on {device!r}" in str(error) and "it has" in str(error)
        else:
            assert chosen == (device if device != "auto" else chosen)
    assert refused >= 3  # no engine knows all of them


def test_auto_takes_cuda_for_torch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("torch") == choose_device("torch", "cuda") == ("cuda", "cuda")
    assert choose_device("torch", "mps") == ("mps", "mps")
    assert choose_device("onnx")[0] == choose_device("openvino")[0] == "cpu"
    assert choose_device("coreml") == ("auto", "")
    assert choose_device("coreml", "npu") == ("npu", "cpu_and_ne")


def test_the_first_of_an_engines_names_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(devices._THERE, "openvino", lambda: ("CPU", "GPU.0", "GPU.1"))
    assert choose_device("openvino", "gpu") == ("gpu", "GPU")
    with pytest.raises(ValueError, match="openvino cannot compute on 'npu' here; it has cpu, gpu here"):
        choose_device("openvino", "npu")
    monkeypatch.setitem(devices._THERE, "onnx", lambda: ("CoreMLExecutionProvider", "CPUExecutionProvider"))
    assert choose_device("onnx", "gpu") == ("gpu", "CoreMLExecutionProvider")


def test_the_chosen_device_is_the_runtimes() -> None:
    for runtime in ("onnx", "torch"):
        assert AmusedPipeline.open("tiny", runtime, device="cpu").runtime.device == "cpu"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["generate", "a", "--runtime", "onnx", "--device", "npu"],
            "onnx cannot compute on 'npu' anywhere; it has cpu",
        ),
        (["generate", "a", "--device", "mps"], "torch cannot compute on 'mps' here; it has cpu"),
        (["generate", "a", "--device", "tpu"], "invalid choice: 'tpu'"),
        (["bench", "tiny", "--device", "npu", "--repeat", "1"], "onnx cannot compute on 'npu' anywhere"),
        (["serve", "--port", "0", "--device", "gpu"], "onnx cannot compute on 'gpu' here; it has cpu"),
    ],
)
@pytest.mark.skipif(torch.backends.mps.is_available(), reason="a Mac has what is refused here")
def test_commands_refuse_a_device_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    said = capsys.readouterr().err.strip()
    assert message in said and len(said.splitlines()) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_draws_what_the_processor_draws() -> None:
    options = {"seed": 5, "steps": 4}
    pictures = [
        AmusedPipeline.open("tiny", "torch", device=device).generate("a star", **options) for device in ("cpu", "cuda")
    ]
    assert (pictures[0].recipe.tokens == pictures[1].recipe.tokens).mean() > 0.99
