"""Captions to pictures that a model makes, the best of several each: a folder that `tokenize` reads.

    synthesis.json     what makes the pictures, and of which captions: another one is another data set
    metadata.jsonl     a line for each picture: caption, seed, every candidate's score and the one that was kept
    0000000.png        named by the number of their captions

A line is written behind its picture, so work that is killed anywhere goes on with the first caption without one.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from tqdm import tqdm

from amused_lite.analysis.ranking import Ranker
from amused_lite.files.atomic import replace_text, unfinished
from amused_lite.pipeline import AmusedPipeline
from amused_lite.reading import parse_object, read_text
from amused_lite.sampling.settings import GenerateOptions
from amused_lite.task import Task
from amused_lite.training.data.captions import METADATA, PictureFacts, facts_of

RECORD = "synthesis.json"
_LARGEST_LIST = 2**30  # bytes of captions
_BASE_SHARE = 0.8  # of the steps, before SDXL's refiner takes over (Podell et al. 2023; open-muse's own settings)
_FORM = 'write a caption a line, or lines like {"text": "a boat"}'


class Teacher(Protocol):
    """What makes pictures."""

    name: str

    def pictures(self, caption: str, seed: int, count: int) -> list[Image.Image]:
        """`count` pictures of a caption, the same for the same numbers."""
        ...


class AmusedTeacher:
    """A model of this project's own."""

    def __init__(self, amused: AmusedPipeline, options: GenerateOptions) -> None:
        self.amused, self.options = amused, options
        self.name = f"{amused.info.name} {amused.info.model_hash}"

    def pictures(self, caption: str, seed: int, count: int) -> list[Image.Image]:
        """See `Teacher`."""
        options = replace(self.options, seed=seed)
        return [self.amused.run(Task(caption, options=options, image_index=n)).image for n in range(count)]


class DiffusersTeacher:
    """Any text-to-image pipeline of diffusers; SDXL's with its refiner, which makes the last fifth of the steps."""

    def __init__(self, model: str, refiner: str | None, device: str, settings: dict[str, Any]) -> None:
        """`settings`: what the pipeline is called with beside prompt and generator, such as num_inference_steps.

        Raises:
            ValueError: diffusers cannot open it.
        """
        self.name = " and ".join(filter(None, (model, refiner)))
        self.base = _pipeline(model, device)
        self.refiner = _pipeline(refiner, device) if refiner else None
        self.settings = settings

    def pictures(self, caption: str, seed: int, count: int) -> list[Image.Image]:
        """See `Teacher`."""
        import torch

        words: dict[str, Any] = {"generator": torch.Generator().manual_seed(seed), **self.settings}
        if self.refiner is None:
            return self.base(caption, num_images_per_prompt=count, **words).images
        cut = {"denoising_end": _BASE_SHARE, "output_type": "latent"}
        latents = self.base(caption, num_images_per_prompt=count, **cut, **words).images
        return self.refiner([caption] * count, image=latents, denoising_start=_BASE_SHARE, **words).images


def _pipeline(model: str, device: str) -> Any:
    """One of diffusers, without code or pickles of a download."""
    from amused_lite.models.torchvision_shim import ensure_torchvision

    ensure_torchvision()
    import torch
    from diffusers import DiffusionPipeline

    dtype = torch.float32 if device == "cpu" else torch.float16
    try:
        pipeline = DiffusionPipeline.from_pretrained(model, torch_dtype=dtype, use_safetensors=True).to(device)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:  # its own ways to say so
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"teacher {model!r} cannot be opened by diffusers ({reason}); check the name") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def read_captions(path: Path) -> list[dict[str, Any]]:
    """Objects with a `text`: a caption a line, or JSON lines, whose other fields stay.

    Raises:
        ValueError: there is none, or a line cannot be read; names file and line.
    """
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(read_text(path, _FORM, _LARGEST_LIST).splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        values = parse_object(line, where, _FORM) if path.suffix == ".jsonl" else {"text": " ".join(line.split())}
        rows.append({"metadata": values, "text": facts_of(values, where).text})
        if not rows[-1]["text"].strip():
            raise ValueError(f"{where}: there is no caption; {_FORM}")
    if not rows:
        raise ValueError(f"{path} holds no caption; {_FORM}")
    return rows


def synthesize(
    teacher: Teacher, ranker: Ranker | None, captions: Sequence[str], out: Path, count: int, said: dict[str, Any]
) -> int:
    """Make pictures, or go on making them; returns how many there are.

    Args:
        ranker: keeps the best of `count` pictures of a caption; None where that is 1.
        said: what else decides the pictures, for the record.

    Raises:
        ValueError: the folder is another synthesis'.
        OSError: the folder cannot be written, or the disk is full; what is there stays.
    """
    digest = hashlib.sha256("\n".join(captions).encode()).hexdigest()
    _begin(out, {"teacher": teacher.name, "count": count, "captions": digest, **said})
    done = _done(out / METADATA)
    names = [f"{number:07d}.png" for number in range(len(captions))]
    for seed, name in enumerate(_bar(names, lambda name: name in done)):
        if name in done:
            continue
        made = teacher.pictures(captions[seed], seed, count)
        scores = ranker.scores(captions[seed], made) if ranker else [0.0]
        best = max(range(count), key=scores.__getitem__)
        _save(made[best], out / name)
        row: dict[str, Any] = {"file_name": name, "text": captions[seed], "seed": seed, "picture": best}
        row |= {"clip_score": scores[best], "scores": scores} if ranker else {}
        with (out / METADATA).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return len(names)


def geneval(teacher: Teacher, rows: Sequence[dict[str, Any]], out: Path, count: int) -> int:
    """All `count` pictures of every prompt in the folders that GenEval's scorer reads (Ghosh et al. 2023)."""
    folders = [out / f"{number:05d}" for number in range(len(rows))]
    for seed, folder in enumerate(_bar(folders, lambda folder: (folder / METADATA).exists())):
        if (folder / METADATA).exists():
            continue
        for number, image in enumerate(teacher.pictures(rows[seed]["text"], seed, count)):
            _save(image, folder / "samples" / f"{number:04d}.png")
        replace_text(folder / METADATA, json.dumps(rows[seed]["metadata"]))  # one line, written last
    return len(rows) * count


def _bar(items: Sequence[Any], is_done: Callable[[Any], bool]) -> Iterable[Any]:
    begun = sum(map(is_done, items))
    with tqdm(total=len(items), initial=begun, unit="caption", disable=None) as bar:
        for item in items:
            fresh = not is_done(item)
            yield item
            bar.update(fresh)


def _begin(out: Path, said: dict[str, Any]) -> None:
    path, text = out / RECORD, json.dumps(said, indent=2) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        kept = " ".join(path.read_text(encoding="utf-8").split())[:300]
        raise ValueError(f"{out} was begun with {kept}; give another folder, or delete this one to begin anew")
    if not path.exists() and (out / METADATA).exists():
        raise ValueError(f"{out} holds pictures of something else; give another folder")
    replace_text(path, text)


def _done(table: Path) -> set[str]:
    """The pictures that have their lines; a line that a kill has cut is taken off."""
    if not table.exists():
        return set()
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    if whole != lines:
        replace_text(table, "".join(whole))
    return {_facts(line, f"{table}, line {number}").file_name for number, line in enumerate(whole, 1)}


def _facts(line: str, where: str) -> PictureFacts:
    return facts_of(parse_object(line, where, _FORM), where)


def _save(image: Image.Image, path: Path) -> None:
    with unfinished(path) as partial:
        image.save(partial, "PNG")
        os.replace(partial, path)
