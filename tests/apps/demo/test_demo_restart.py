"""The server is killed in the middle of a drawing and of a training, and started again: a page finds both going on."""

import json
import re
import time

import pytest
from PIL import Image
from serving import Server, Start, png
from visiting import PATIENCE, Visitor

pytest.importorskip("gradio")
pytest.importorskip("torch", reason="styles need the extra 'torch'")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # opens the model four times


def learning(server: Server, key: str) -> int:
    """Steps of the training that its visitor sees."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        visitor = Visitor(server.url)
        visitor.arrive(key)
        loads = [one for one in visitor.config["dependencies"] if one["targets"][0][1] == "load"]
        visitor.join(loads[1]["id"], [visitor.values.get(one) for one in loads[1]["inputs"]])
        for message in visitor.messages():
            if found := re.search(r"Step (\d+) of 400", json.dumps(message)):
                return int(found[1])
    raise AssertionError("no training is shown")


def test_a_killed_server_goes_on_with_all_of_it(start: Start) -> None:
    first = start("--no-browser", command="demo")
    flags = ("--no-browser", "--history", str(first.folder / "data" / "amused-lite" / "history"))
    visitor = Visitor(first.url)
    visitor.arrive()
    for name, value in (("How many", 4), ("Steps", 48), ("prompt", "a red cup")):
        visitor.set(name, value)
    visitor.set("style-files", [visitor.upload(png(Image.effect_noise((512, 512), 90).convert("RGB")))])
    visitor.at_once("style-files", "change")
    for name, value in (("style-name", "noise"), ("style-captions", "a boat"), ("style-steps", 400)):
        visitor.set(name, value)
    visitor.begin("train")
    assert learning(first, visitor.key) > 0
    visitor.at_once("go", "click")
    visitor.set("prompt", "a blue fish")
    visitor.at_once("prompt", "submit")
    assert visitor.look().count("data-cancel") == 2
    first.process.kill()
    first.process.wait()

    second = start(*flags, command="demo", XDG_DATA_HOME=str(first.folder / "data"))
    again = Visitor(second.url)
    again.arrive(visitor.key)
    shown = again.look()
    assert shown.count("data-cancel") == 2 and "a red cup" in shown and "a blue fish" in shown
    assert learning(second, visitor.key) > 0
    again.do("train-cancel") if again.event("train-cancel", "click")["queue"] else again.at_once(
        "train-cancel", "click"
    )
    assert again.wait().count("small/") == 2
