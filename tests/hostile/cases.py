"""The list of bad inputs: mutations of every declared field, and those of `flag_cases`."""

import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import good
from case import Case
from flag_cases import by_hand, flags
from mutations import MISSING, mutations, put
from PIL import Image

from amused_lite.adapters import convert
from amused_lite.adapters.lora import AdapterRecord
from amused_lite.bundle import MANIFEST, Manifest
from amused_lite.config import PRESETS
from amused_lite.files import tokens as token_files
from amused_lite.files.png import Recipe
from amused_lite.files.safetensors import _Place
from amused_lite.models import checkpoint, checkpoint_config
from amused_lite.style.job import StylePlan
from amused_lite.tokenizer import END, START


def _named(kind: str, path: Sequence[Any], value: Any) -> str:
    shown = "missing" if value is MISSING else f"{type(value).__name__} {str(value)[:12]!r}"
    return re.sub(r"[^\w.\-' ]", "?", f"{kind} {'.'.join(map(str, path))} {shown}")


def _field(path: Sequence[Any], names: dict[str, str] | None = None) -> str:
    words = [str(part) for part in path if isinstance(part, str)]
    return (names or {}).get(words[-1], words[-1]) if words else ""


def _by_kind(
    kind: str, declared: Any, values: Any, words: Sequence[str], file: str, write: Callable[[Path, Any], None]
) -> Iterator[Case]:
    """A case for every mutation; `write` puts the whole of it into `file`."""
    for path, value in mutations(declared, values):
        wrong = put(values, path, value)

        def prepare(folder: Path, wrong: Any = wrong) -> None:
            write(folder / file, wrong)

        yield Case(_named(kind, path, value), words, prepare, (file, _field(path)))
    if isinstance(values, dict):
        for name, text in {"no JSON": "{", "deep": "[" * 100_000, "a list": "[]", "empty": "", "null": "null"}.items():
            yield Case(f"{kind} {name}", words, lambda folder, text=text: write(folder / file, text), (file,))


def _headers() -> Iterator[Case]:
    place = good.header()["x.down"]
    for path, value in mutations(_Place, place):
        header = {**good.header(a="b"), "x.down": put(place, path, value)}
        prepare = partial(_write_header, header=header)
        yield Case(
            _named("header", path, value), ("style", "show", "a.safetensors"), prepare, ("a.safetensors", _field(path))
        )


def _write_header(folder: Path, header: Any) -> None:
    good.write_tensors(folder / "a.safetensors", header, bytes(48))


def _recipes() -> Iterator[Case]:
    values = good.recipe()
    arrays = {"tokens": good.np.zeros(1), "edit": values["edit"] | {"tokens": good.np.zeros(1)}}
    for path, value in mutations(Recipe, {key: v for key, v in values.items() if key != "schema"} | arrays):
        if path and "tokens" not in path:
            wrong = put(values, path, value)
            prepare = partial(_write, write=good.write_png, file="a.png", values=wrong)
            yield Case(_named("recipe", path, value), ("show", "a.png"), prepare, ("a.png", _field(path)))
    for number, tokens in enumerate([5, None, "", "x", "16:", "1000000:AAAA", "-1:AAAA", "16:!!!!", "0:"]):
        prepare = partial(_write, write=good.write_png, file="a.png", values=values | {"tokens": tokens})
        yield Case(f"recipe tokens {number}", ("show", "a.png"), prepare, ("a.png", "tokens"))


def _write(folder: Path, write: Callable[[Path, Any], None], file: str, values: Any) -> None:
    write(folder / file, values)


def _token_files() -> Iterator[Case]:
    values = good.recipe()
    known = ("tokens", "codebook_size", "width", "height", "model_hash", "schema", "edit", "adapters")
    short = {key: value for key, value in values.items() if key not in known}
    for name in short:
        for value in (None, [[]], {"a": 1}, 10**30, "\x1b[2J" * 5000):
            wrong = put(short, (name,), value)
            if not _wrong_recipe(values | wrong):
                continue
            prepare = partial(_write_tokens, values=wrong)
            yield Case(_named("tokens file", (name,), value), ("show", "a.tokens"), prepare, ("a.tokens", name))
    for name, data in {"empty": b"", "zeros": bytes(100), "magic alone": b"AMTOKENS", "text": b"hello" * 30}.items():
        prepare = partial(_write_bytes, file="a.tokens", data=data)
        yield Case(f"tokens file {name}", ("tokens", "a.tokens"), prepare, ("a.tokens",))


def _wrong_recipe(values: dict[str, Any]) -> bool:
    try:
        Recipe.from_json(json.dumps(values))
    except ValueError:
        return True
    return False


def _write_bytes(folder: Path, file: str, data: bytes) -> None:
    (folder / file).write_bytes(data)


def _write_tokens(folder: Path, values: Any) -> None:
    """A tokens file with any recipe; everything else in it is right."""
    compressor = zlib.compressobj(9, zdict=token_files._DICTIONARY)
    text = compressor.compress(json.dumps(values).encode()) + compressor.flush()
    packed = token_files.pack_tokens(good.np.arange(16), 1024)
    head = token_files._HEAD.pack(token_files._MAGIC, 1, 1024, 16, 64, 64, bytes(32), len(text))
    check = token_files._CHECK.pack(zlib.crc32(head + packed + text))
    (folder / "a.tokens").write_bytes(head + check + packed + text)


def _peft() -> Iterator[Case]:
    words = ("style", "convert", "peft", "out.safetensors")

    def write(path: Path, values: Any) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(good.as_text(values))
        good.write_tensors(path.parent / "adapter_model.safetensors", good.header(), bytes(48))

    yield from _by_kind("peft", convert._Settings, good.PEFT, words, "peft/adapter_config.json", write)
    slow = ["(a*)*b", "(a|a)*", "(.+)+$", ".*.*.*x", "[", "(?P<x>a)", "a{1000000}", "\\1", "x" * 201, ""]
    for number, pattern in enumerate(slow):
        prepare = partial(
            _write, write=write, file="peft/adapter_config.json", values=good.PEFT | {"alpha_pattern": {pattern: 1}}
        )
        yield Case(f"peft pattern {number}", words, prepare, ("adapter_config.json", "alpha_pattern"))


def _diffusers_headers() -> Iterator[Case]:
    words = ("style", "convert", "d.safetensors", "out.safetensors")
    for path, value in mutations(convert._Settings, good.PEFT):
        if path and value is not MISSING:
            said = {f"transformer.{path[0]}": put(good.PEFT, path, value)[path[0]]}
            head = good.header(lora_adapter_metadata=json.dumps(said))
            prepare = partial(_write_foreign, header=head)
            yield Case(_named("diffusers header", path, value), words, prepare, ("d.safetensors", _field(path)))


def _write_foreign(folder: Path, header: Any) -> None:
    good.write_tensors(folder / "d.safetensors", header, bytes(48))


def _published() -> Iterator[Case]:
    files = checkpoint_config.published_configs(PRESETS["amused-256"])
    tables = {
        "transformer": (checkpoint_config._UVIT, "uvit"),
        "vqvae": (checkpoint_config._VQGAN, "vqgan"),
        "text_encoder": (checkpoint_config._TEXT, "text"),
    }
    for source, (table, part) in tables.items():
        file = f"{source}/config.json"
        config = getattr(PRESETS["amused-256"], part)
        ours = json.loads(json.dumps({name: getattr(config, name) for name in table}))
        for path, value in mutations(type(config), ours):
            if path and path[0] in table and value is not MISSING:
                key = table[str(path[0])][0]
                wrong = files | {file: {**json.loads(json.dumps(files[file])), key: put(ours, path, value)[path[0]]}}
                prepare = partial(_write_published, files=wrong)
                yield Case(_named(source, (key,), value), ("generate", "x", "-m", "model"), prepare, (file, key))
    for file in files:
        if "config" in file:
            for name, text in {"no JSON": "{", "a list": "[]", "deep": "[" * 100_000, "empty": ""}.items():
                prepare = partial(_write_published, files=files | {file: text})
                yield Case(f"{file} {name}", ("generate", "x", "-m", "model"), prepare, (file,))
    index = "text_encoder/model.safetensors.index.json"
    right = {"weight_map": {"a": "b.safetensors"}}
    for path, value in mutations(checkpoint._Index, right):
        prepare = partial(_write_published, files=files | _tokenizer() | {index: put(right, path, value)})
        says = ("index.json", _field(path[:1]))
        yield Case(_named("shards", path, value), ("generate", "x", "-m", "model", "--steps", "1"), prepare, says)


@cache
def _tokenizer() -> dict[str, str]:
    """As large as amused-256's, and of no use."""
    words = {f"w{i}": i for i in range(49406)} | {START: 49406, END: 49407}
    return {"tokenizer/vocab.json": json.dumps(words), "tokenizer/merges.txt": ""}


def _write_published(folder: Path, files: dict[str, Any]) -> None:
    for name, values in files.items():
        path = folder / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(good.as_text(values))


def _trainings() -> Iterator[Case]:
    """Work folders of a training, with a plan or a checkpoint that is wrong."""
    words = ("style", "train", "a.png", "--style", "x", "--caption", "a", "--out", "s.safetensors")

    def write(path: Path, values: Any) -> None:
        path.parent.mkdir()
        path.write_text(good.as_text(values))
        Image.new("RGB", (256, 256)).save(path.parent.parent / "a.png")

    yield from _by_kind("plan", StylePlan, good.PLAN, words, "s.work/plan.json", write)
    numbers = [
        "",
        "[]",
        "{",
        "{}",
        '{"step": "x"}',
        '{"step": -1}',
        '{"step": 1e9}',
        '{"step": 3, "a": []}',
        '{"step": 0}',
    ]
    headers = {f"numbers {text}": good.header(numbers=text) for text in numbers} | {"no numbers": good.header()}
    for name, header in headers.items():
        says = ("checkpoint.safetensors",)
        words = ("train", "runs", "--stage", "vqgan", "--small")
        yield Case(f"checkpoint {name}", words, partial(_write_checkpoint, header=header), says, "stage vqgan\n")
    for name, header in {"empty": "", "text": "hello"}.items():
        yield Case(f"checkpoint {name}", words, partial(_write_checkpoint, header=header), says, "stage vqgan\n")


def _write_checkpoint(folder: Path, header: Any) -> None:
    (folder / "runs" / "vqgan").mkdir(parents=True)
    good.write_tensors(folder / "runs" / "vqgan" / "checkpoint.safetensors", header, bytes(48))


def _judges() -> Iterator[Case]:
    """Weights of a judge."""
    words, says = ("evaluate", "--judge", "j.safetensors", "--count", "1", "--steps", "1"), ("j.safetensors",)
    for path, value in mutations(_Place, good.header()["x.down"]):
        header = good.header() | {"x.down": put(good.header()["x.down"], path, value)}
        prepare = partial(_write_judge, header=header)
        yield Case(_named("judge", path, value), words, prepare, (*says, _field(path)))
    for name, header in {"another's": good.header(), "empty": "", "text": "hello"}.items():
        yield Case(f"judge {name}", words, partial(_write_judge, header=header), says)
    for bad in (float("nan"), float("inf")):
        yield Case(f"judge {bad}", words, partial(_write_weights, bad=bad), (*says, "heads.bias"))


def _write_judge(folder: Path, header: Any) -> None:
    good.write_tensors(folder / "j.safetensors", header, bytes(48))


def _write_weights(folder: Path, bad: float) -> None:
    """A judge that was taught nothing, with one number that is none."""
    from amused_lite.evaluation.judge import Detector, Judge

    detector = Detector()
    detector.heads.bias.data[3] = bad
    Judge(detector).save(folder / "j.safetensors")


def _pipes() -> Iterator[Case]:
    """A named pipe in the place of every small file."""

    def pipe(folder: Path, file: str) -> None:
        (folder / file).parent.mkdir(exist_ok=True)
        os.mkfifo(folder / file)
        Image.new("RGB", (64, 64)).save(folder / "a.png")

    places = {
        "p.tokens": ("show", "p.tokens"),
        "p.png": ("vary", "p.png", "x"),
        f"b/{MANIFEST}": ("generate", "x", "-m", "b"),
        "peft/adapter_config.json": ("style", "convert", "peft", "o.safetensors"),
        "p.safetensors": ("style", "show", "p.safetensors"),
        "p.txt": ("distil", "tiny", "out", "--prompts", "p.txt"),
        "pic.png": ("generate", "x", "--from", "pic.png"),
        "mask.png": ("inpaint", "a.png", "mask.png", "x"),
        "lock.png": ("vary", "a.png", "x", "--lock", "lock.png"),
        "j.safetensors": ("evaluate", "--judge", "j.safetensors"),
        "metadata.jsonl": ("style", "train", "a.png", "--style", "x"),
    }
    for file, words in places.items():
        says = "caption" if file == "metadata.jsonl" else Path(file).name
        yield Case(f"pipe {file}", words, partial(pipe, file=file), (says,))


def _graphs() -> Iterator[Case]:
    """A manifest that is right in itself, but says other sizes than the graphs have."""

    def write(folder: Path, length: int) -> None:
        values = good.manifest()
        values["config"]["text"]["context_length"] = length
        good.write_bundle(folder / "b", values)

    for length in (16, 64):
        words = ("generate", "x", "-m", "b", "--steps", "1")
        yield Case(
            f"graph context_length {length}", words, partial(write, length=length), ("encode_prompt", "text_ids")
        )


def all_cases() -> list[Case]:
    """Every case, each name once."""

    def write_manifest(path: Path, values: Any) -> None:
        good.write_bundle(path.parent, values)

    bundle, adapter = ("generate", "x", "-m", "b", "--steps", "1"), ("style", "show", "a.safetensors")
    cases = [
        *_by_kind("manifest", Manifest, good.manifest(), bundle, f"b/{MANIFEST}", write_manifest),
        *_by_kind("adapter", AdapterRecord, good.record(), adapter, "a.safetensors", good.write_adapter),
        *_headers(),
        *_recipes(),
        *_token_files(),
        *_peft(),
        *_diffusers_headers(),
        *_published(),
        *_trainings(),
        *_judges(),
        *_pipes(),
        *_graphs(),
        *flags(),
        *by_hand(),
    ]
    named: dict[str, Case] = {}
    for case in cases:
        named.setdefault(case.name, case)
    return list(named.values())
