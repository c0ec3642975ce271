"""Pictures by the command line: 20 prompts, the best of several, looks inside, every edit, video, tokens, adapters."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import names
import numpy as np
from command_line import run, run_json, write_cut_out, write_mask, write_photo
from digests import Entry, array, frames, picture, sha
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

ONE_THREAD = ("--threads", "1")
ON_TORCH = ("--runtime", "torch", *ONE_THREAD)
OLD = Path(__file__).parent / "old"  # files of the version that was recorded first

PROMPTS: list[tuple[str, ...]] = [
    ("a red balloon above a blue house in a meadow", "-s", "1"),
    ("a yellow star", "-s", "7", "--steps", "4"),
    ("two green trees", "-s", "3", "--steps", "6", "--count", "2"),
    ("a boat at night", "-n", "red", "-s", "4", "--steps", "16", "--guidance-scale", "4"),
    ("a blue cup", "-s", "5", "--steps", "8", "--guidance-scale", "1"),
    ("a white moon over the sea", "-s", "6", "--guidance-schedule", "linear", "--guidance-scale", "3"),
    ("a red car in the snow", "-s", "7", "--guidance-interval", "0.2,0.8"),
    ("a green house beside a tree", "-s", "8", "--mask-temperature", "4.5,0.5"),
    ("a purple fish in the sea", "-s", "9", "--steps", "8", "--mask-temperature", "3"),
    ("an orange sun above a hill", "-s", "10", "--steps", "8", "--mask-schedule", "linear"),
    ("two red stars at night", "-s", "11", "--steps", "8", "--mask-schedule", "arccos"),
    ("a black cat in a meadow", "-s", "12", "--steps", "8", "--order", "halton"),
    ("three yellow flowers", "-s", "13", "--steps", "8", "--token-temperature", "1"),
    ("a white boat at sea", "-s", "14", "--steps", "8", "--top-k", "5"),
    ("a small blue bird in a tree", "-s", "15", "--steps", "8", "--top-p", "0.8"),
    ("a red mushroom", "-s", "16", "--steps", "8", "--refine", "4"),
    ("a yellow house", "-s", "17", "--steps", "8", "--picture", "3", "--mask-schedule", "sqrt"),
    ("a green cup on a beach", "-n", "blue, night", "-s", "18", "--steps", "8", "--top-k", "20", "--top-p", "0.9",
     "--order", "halton", "--mask-schedule", "square"),
    ("ein roter Ballon über dem Meer ☀", "-s", "4294967295", "--steps", "8", "--mask-schedule", "cubic"),
    ("a red star, " * 40, "-s", "20", "--steps", "24", "--guidance-scale", "0"),
]  # fmt: skip
TORCH_TOO = (0, 1, 3, 5, 11, 13, 15)  # of these prompts; torch takes twice as long

SOURCES = "balloon.png", "photo.png", "mask.png", "small-mask.png", "cut-out.png"
BALLOON, PHOTO, MASK, SMALL_MASK, CUT_OUT = SOURCES
ATTENTION, PAINTER = "attention.safetensors", "painter.safetensors"
HOUSE = "a yellow star above a house in a meadow"
EDITS: dict[str, tuple[str, ...]] = {
    "vary": ("vary", BALLOON, "-s", "1", "--steps", "6"),
    "vary strength": ("vary", PHOTO, "a boat at sea", "-s", "2", "--strength", "0.7", "--steps", "6"),
    "vary lock": ("vary", BALLOON, "a blue balloon", "-s", "3", "--lock", MASK, "--steps", "6"),
    "vary pad": ("vary", PHOTO, "a red house", "-s", "4", "--pad", "--steps", "6", "--count", "2"),
    "vary from pixels": ("vary", BALLOON, "-s", "5", "--from-pixels", "--steps", "6", "--top-k", "10"),
    "inpaint": ("inpaint", BALLOON, MASK, HOUSE, "-s", "1", "--steps", "6"),
    "inpaint photo": ("inpaint", PHOTO, SMALL_MASK, "a tree", "-s", "2", "--steps", "6"),
    "inpaint alpha": ("inpaint", CUT_OUT, "alpha", "a boat at sea", "-s", "3", "--steps", "6"),
    "inpaint no paste": ("inpaint", BALLOON, MASK, HOUSE, "-s", "4", "--steps", "6", "--no-paste"),
    "inpaint feather": ("inpaint", BALLOON, MASK, HOUSE, "-s", "5", "--steps", "6", "--feather", "4", "-n", "red"),
    "outpaint": ("outpaint", BALLOON, "--right", "128", "-s", "1", "--steps", "6"),
    "outpaint around": ("outpaint", PHOTO, "a meadow", "--left", "64", "--top", "100", "-s", "2", "--steps", "4"),
    "outpaint far": ("outpaint", BALLOON, "hills", "--left", "256", "--bottom", "600", "-s", "3", "--steps", "3"),
    "edit": ("edit", BALLOON, "a blue balloon above a house in a meadow", "-s", "1", "--steps", "6"),
    "edit share": ("edit", BALLOON, "a house at night", "-s", "2", "--share", "0.3", "--lock", MASK, "--steps", "6"),
    "edit pad": ("edit", PHOTO, "a green cup", "-s", "3", "--pad", "--guidance-scale", "4", "--steps", "6"),
    "reroll": ("reroll", BALLOON, "-s", "1", "--steps", "6"),
    "reroll share": ("reroll", BALLOON, "-s", "2", "--share", "0.3", "--count", "2", "--steps", "6"),
    "reroll lock": ("reroll", PHOTO, "a tree in a meadow", "-s", "3", "--lock", SMALL_MASK, "--steps", "6"),
}
EDITS_ON_TORCH = ("vary lock", "inpaint photo", "outpaint", "edit share", "reroll lock")


def write_sources(work: Path) -> None:
    """The pictures and masks that edits start from, and two adapters."""
    ends = ".self_attention.query", ".self_attention.key", ".self_attention.value", ".text_attention.query"
    write_adapter(work / ATTENTION, {"attention": ends})
    write_adapter(work / PAINTER, {"decoder": ("vqgan.decoder.levels.2.0.conv1",)})
    photo = write_photo(work / PHOTO)
    write_mask(work / MASK, (0, 0, 256, 320), (512, 512))
    write_mask(work / SMALL_MASK, (380, 60, 620, 340), (640, 400))
    write_cut_out(work / CUT_OUT, photo)
    run("generate", *PROMPTS[0], *ONE_THREAD, "-o", work / BALLOON)


def _made(work: Path, *words: str) -> Iterator[tuple[str, Entry]]:
    """What a command that makes pictures made: a suffix for each picture, and what is kept of it."""
    said = run_json(*[work / word if word in SOURCES else word for word in words], "-o", work / "made.png")
    for number, one in enumerate(said["pictures"]):
        entry = picture(Path(one["path"]))
        if "scores" in one:
            entry["scores"] = one["scores"]
        yield ("" if number == 0 else f" {number}"), entry
    for path in work.glob("made*.png"):
        path.unlink()


def generated(work: Path) -> Iterator[tuple[str, Entry]]:
    """The 20 prompts, and everything else that `generate` does."""
    for number, words in enumerate(PROMPTS):
        for runtime in ("onnx", "torch") if number in TORCH_TOO else ("onnx",):
            for suffix, entry in _made(work, "generate", *words, "--runtime", runtime, *ONE_THREAD):
                yield f"generate/{number + 1:02d} {runtime}{suffix}", entry
    more = {
        "best of": ("a blue cup", "-s", "1", "--steps", "4", "--best-of", "3"),
        "drafts": ("a yellow star", "-s", "2", "--steps", "8", "--best-of", "4", "--draft-steps", "3"),
        "grid": ("a red tree", "-s", "3", "--steps", "3", "--best-of", "3", "--grid"),
        "from": ("--from", BALLOON, "-s", "9", "--steps", "6"),
        "no metadata": ("a red star", "-s", "4", "--steps", "3", "--no-metadata"),
        "low memory": ("a red star", "-s", "4", "--steps", "3", "--memory", "low"),
    }
    for name, words in more.items():
        for suffix, entry in _made(work, "generate", *words, *ONE_THREAD):
            yield f"generate/{name}{suffix}", entry


def looked_inside(work: Path) -> Iterator[tuple[str, Entry]]:
    """Maps, the arrays behind them, and films."""
    words = ("generate", "a red boat", "-s", "5", "--steps", "5", "--refine", "2", *ONE_THREAD, "-o", work / "made.png")
    run(*words, "--maps", work / "maps", "--film", work / "film.gif")
    for path in sorted((work / "maps").iterdir()):
        if path.suffix == ".png":
            yield f"inside/{path.name}", picture(path)
    with np.load(work / "maps" / "trace.npz") as arrays:
        whole = {name: array(value) for name, value in arrays.items() if value.dtype.kind == "i"}
        yield "inside/trace.npz", {"tokens": whole, "pixels": {name: array(value) for name, value in arrays.items()}}
    yield "inside/film", frames(work / "film.gif")
    run(*words, "--film", work / "quick.gif", "--quick-film")
    yield "inside/quick film", frames(work / "quick.gif")
    run(*words, "--film", work / "strip.png")
    yield "inside/strip", picture(work / "strip.png")


def edited(work: Path) -> Iterator[tuple[str, Entry]]:
    """Every edit, of pictures with and without a recipe, with masks of every kind."""
    for name, words in EDITS.items():
        for suffix, entry in _made(work, *words, *ONE_THREAD):
            yield f"edit/{name} onnx{suffix}", entry
    for name in EDITS_ON_TORCH:
        for suffix, entry in _made(work, *EDITS[name], *ON_TORCH):
            yield f"edit/{name} torch{suffix}", entry


def filmed(work: Path) -> Iterator[tuple[str, Entry]]:
    """Videos that glide, change their prompt, and are drawn anew."""
    cases = {
        "glide": ("a red balloon", "-s", "1", "--frames", "3", "--steps", "4"),
        "two prompts": ("a house", "a house in the snow", "-s", "2", "--frames", "2", "--right", "0", "--zoom", "0.9",
                        "--steps", "4"),
        "redraw": ("a star at night", "-s", "3", "--frames", "3", "--down", "-12", "--redraw-steps", "2", "--steps",
                   "4"),
    }  # fmt: skip
    for name, words in cases.items():
        path = Path(run_json("video", *words, *ONE_THREAD, "-o", work / f"{name}.gif")["path"])
        with Image.open(path) as film:
            comment = film.info.get("comment", b"")
        comment = comment.replace(b'"guidance_every": 1, ', b"")  # a setting that went, at the value that did nothing
        yield f"video/{name}", {**frames(path), "comment": sha(re.sub(rb"amused-lite [\w.]+", b"", comment))}


def remembered(work: Path) -> Iterator[tuple[str, Entry]]:
    """Files that say how they were made: `.tokens`, `show` and `verify`, of this version and of the old one."""
    tokens = Path(run("tokens", work / BALLOON, "-o", work / "balloon.tokens").strip())
    yield "tokens/written", {"file": sha(tokens.read_bytes())}
    back = run("tokens", tokens, *ONE_THREAD, "-o", work / "back.png").strip()
    yield "tokens/decoded", picture(Path(back))
    for path in (work / BALLOON, tokens, OLD / "star.png", OLD / "star.tokens"):
        place = f"{path.parent.name if path.parent == OLD else 'new'} {path.name}"
        yield f"show/{place}", {"text": re.sub(r"amused-lite [\w.]+ on", "amused-lite on", run("show", path))}
        said = json.loads(run("show", path, "--json"))
        yield f"show/{place} json", {"keys": sorted(said), "tokens": sha(said["tokens"])}
        verdict = run_json("verify", path, *ONE_THREAD)
        verdict.pop("other_version", None)
        yield f"verify/{place}", {"verdict": verdict}
    for suffix, entry in _made(work, "generate", "--from", str(OLD / "star.png"), "-s", "3", *ONE_THREAD):
        yield f"generate/from old{suffix}", entry


def write_adapter(path: Path, targets: dict[str, tuple[str, ...]], rank: int = 2) -> Path:
    """An adapter file as docs/styles.md describes it, with random matrices for some of the bundled model's weights.

    targets: what is adapted -> ends of the names of its weights.
    """
    rng, arrays = np.random.default_rng(7), {}
    with safe_open(Path(names.find_model("tiny")) / "weights.safetensors", "np") as file:
        for name in sorted(file.keys()):
            if name.endswith(tuple(f"{end}.weight" for ends in targets.values() for end in ends)):
                outside, *inside = file.get_slice(name).get_shape()
                module = name.removesuffix(".weight")
                arrays[f"{module}.down"] = rng.normal(0, 0.1, (rank, int(np.prod(inside)))).astype(np.float16)
                arrays[f"{module}.up"] = rng.normal(0, 0.1, (outside, rank)).astype(np.float16)
    record = {"format_version": 1, "name": path.stem, "rank": rank, "alpha": 2.0, "targets": list(targets),
              "preset": "tiny", "base_model": "tiny", "base_hash": ""}  # fmt: skip
    save_file(arrays, path, {"amused_lite": json.dumps(record)})  # one text: two would come in any order
    return path


def styled(work: Path) -> Iterator[tuple[str, Entry]]:
    """Adapters of the U-ViT and of the decoder, weights, two at once, and two-scale guidance, on both runtimes."""
    attention, painter = work / ATTENTION, work / PAINTER
    cases = {
        "attention": ("--adapter", f"{attention}:0.7"),
        "decoder": ("--adapter", str(painter)),
        "both": ("--adapter", f"{attention}:0.5", "--adapter", f"{painter}:-0.5"),
        "two scales": ("--adapter", str(attention), "--style-scale", "2"),
    }
    for name, words in cases.items():
        for runtime in ("onnx", "torch"):
            asked = ("generate", "a red star", "-s", "3", "--steps", "4", *words, "--runtime", runtime, *ONE_THREAD)
            for _, entry in _made(work, *asked):
                yield f"adapter/{name} {runtime}", entry
    shown = run("style", "show", attention)
    yield "adapter/show", {"text": shown}


def by_python(work: Path) -> Iterator[tuple[str, Entry]]:
    """The class that the README shows."""
    for runtime in ("onnx", "torch"):
        pipeline = names.Pipeline.open("tiny", runtime, threads=1, keep_loaded=True)
        for seed in (1, 2):
            made = pipeline.generate("two blue cups", "red", image_index=seed, seed=seed, steps=4, top_k=50)
            path = made.save(work / f"python-{runtime}-{seed}.png")
            yield f"python/{runtime} {seed}", picture(path)
