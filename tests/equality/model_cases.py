"""What makes models: trainings of a few steps, exports, eight bits. All by the command line."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from command_line import run, run_json
from digests import Entry, array, losses, onnx_graph, openvino_graph, picture, sha, weights
from picture_cases import BALLOON, ONE_THREAD, PHOTO
from safetensors import safe_open

RUNS = ("vqgan", "clip", "ranker", "uvit", "decoder")


def trained(work: Path) -> Iterator[tuple[str, Entry]]:
    """`train --small` on the scenes: every stage from nothing, and the ONNX bundle at its end."""
    build = work / "build"
    run("train", build, "--world", "scenes", "--small", *ONE_THREAD)
    yield "train/tokenizer", {"text": sha((build / "tokenizer.json").read_bytes())}
    for name in RUNS:
        yield f"train/{name}", losses(build / name)
    shards = sorted((build / "tokens").glob("*.npy"))
    yield "train/tokens", {"tokens": sha("".join(_contents(shard) for shard in shards))}
    yield from _bundle("export/onnx", build / "bundle")


def _contents(path: Path) -> str:
    return weights(path) if path.suffix == ".safetensors" else sha(path.read_bytes())


def styles(work: Path) -> Iterator[tuple[str, Entry]]:
    """`style train` of the decoder and of tokens."""
    pictures = [work / BALLOON, work / PHOTO]
    common = ("--caption", "a red balloon", "--caption", "a red box", "--style", "gold", "--steps", "4", "--batch", "1",
              "--sample-every", "1", "--guessed-share", "0", "--no-samples", *ONE_THREAD)  # fmt: skip
    for name, words in {"decoder": (), "tokens": ("--targets", "attention", "--crops", "2")}.items():
        out = work / f"learned-{name}.safetensors"
        run("style", "train", *pictures, "--out", out, *common, *words)
        (log,) = work.rglob(f"learned-{name}*/**/log.jsonl")
        with safe_open(out, "np") as file:
            record = json.loads(file.metadata()["amused_lite"])
            ups = {key: array(file.get_tensor(key)) for key in sorted(file.keys())}
        told = {key: record[key] for key in ("rank", "alpha", "targets", "preset", "kind", "trigger")}
        yield f"train/style {name}", {**losses(log.parent), "record": told, "weights of the file": sha(repr(ups))}


def drafted(work: Path) -> Iterator[tuple[str, Entry]]:
    """`distil`: the draft decoder's weights, how near it comes, and what it paints."""
    out = work / "draft"
    said = run("distil", "tiny", out, "--pictures", "16", "--steps", "3", "--widths", "8,12", *ONE_THREAD)
    (decibel,) = re.findall(r"([\d.]+) dB", said)
    (checkpoint,) = (work / "draft.work").rglob("checkpoint.safetensors")
    yield "train/draft", {"losses": [{"psnr": float(decibel)}], "weights": weights(checkpoint)}
    yield from _bundle("export/draft", out)


def _bundle(name: str, folder: Path) -> Iterator[tuple[str, Entry]]:
    """Graphs and weights of a bundle, and what its manifest says but for sizes and hashes of files."""
    for path in sorted(folder.iterdir()):
        if path.suffix == ".onnx":
            yield f"{name} {path.name}", onnx_graph(path)
        elif path.suffix == ".xml":
            yield f"{name} {path.name}", openvino_graph(path)
        elif path.suffix == ".bin":
            yield f"{name} {path.name}", {"weights": sha(path.read_bytes())}
        elif path.suffix == ".safetensors":
            yield f"{name} {path.name}", {"weights": weights(path)}
    manifest = json.loads((folder / "manifest.json").read_text())
    yield f"{name} files", {"names": sorted(path.name for path in folder.iterdir()), "keys": sorted(manifest)}
    yield f"{name} parity", {"losses": [manifest["parity"]]}


def exported(work: Path) -> Iterator[tuple[str, Entry]]:
    """`export` to OpenVINO, and a picture by it."""
    run("export", "tiny", work / "openvino", "--to", "openvino")
    yield from _bundle("export/openvino", work / "openvino")
    yield "generate/openvino", _drawn(work, work / "openvino")


def quantized(work: Path) -> Iterator[tuple[str, Entry]]:
    """`quantize` to 8 bits dynamic, and a picture by it."""
    words = ("--method", "dynamic", "--no-speed", "--prompts", "1", *ONE_THREAD)
    report = run_json("quantize", "tiny", work / "eight", *words)
    figures = {key: report["report"][key] for key in ("agreement_of_steps", "logits_error", "picture_psnr_db")}
    yield "quantize/report", {"keys": sorted(report), "losses": [figures]}
    yield from _bundle("quantize/eight bits", work / "eight")
    yield "generate/eight bits", _drawn(work, work / "eight")


def _drawn(work: Path, model: Path) -> Entry:
    path = work / f"by-{model.name}.png"
    run("generate", "a red star", "-s", "3", "--steps", "6", "-m", model, *ONE_THREAD, "-o", path)
    entry = picture(path)
    entry["recipe"].pop("model")
    return entry
