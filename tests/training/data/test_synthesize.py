"""Pictures that a model makes to learn from: the best of several, gone on with after a kill, and GenEval's form."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_tokenizer import published  # noqa: F401 - a fixture

from amused_lite import cli
from amused_lite.training.data.captions import METADATA, PictureFacts
from amused_lite.training.data.pictures import Folder, SampleFilter
from amused_lite.training.data.synthesize import geneval, read_captions, synthesize

CAPTIONS = ["a red star", "a blue boat", "two cups"]


class Colours:
    """A teacher whose pictures are of one random colour each; `asked` remembers captions."""

    name = "colours"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def pictures(self, caption: str, seed: int, count: int) -> list[Image.Image]:
        self.asked.append(caption)
        colours = np.random.default_rng(seed).integers(0, 256, (count, 3))
        return [Image.new("RGB", (8, 8), tuple(map(int, colour))) for colour in colours]


class Redness:
    """A ranker that likes red."""

    def scores(self, prompt: str, images: Sequence[Image.Image]) -> list[float]:
        return [float(np.asarray(image)[..., 0].mean()) for image in images]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_best_is_kept_with_its_provenance(tmp_path: Path) -> None:
    assert synthesize(Colours(), Redness(), CAPTIONS, tmp_path, 4, {}) == 3
    source = Folder(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / METADATA).read_text().splitlines()]
    for seed, (item, row) in enumerate(zip(source.items(0), rows, strict=True)):
        made = Colours().pictures(CAPTIONS[seed], seed, 4)
        scores = Redness().scores("", made)
        assert row["scores"] == scores and row["picture"] == int(np.argmax(scores)) and row["seed"] == seed
        assert (item.facts.text, item.facts.clip_score) == (CAPTIONS[seed], max(scores))
        assert isinstance(item.picture, Path) and Image.open(item.picture).tobytes() == made[row["picture"]].tobytes()
    worse = PictureFacts("a", clip_score=0.19)
    assert SampleFilter(clip_score=0.2).reason_against(worse, (512, 512), 512) == "clip score"
    assert SampleFilter(clip_score=0.19).reason_against(worse, (512, 512), 512) == ""
    assert SampleFilter(clip_score=0.2).reason_against(PictureFacts("a"), (512, 512), 512) == ""


def test_a_kill_costs_one_caption(tmp_path: Path) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    for out in (straight, killed):
        synthesize(Colours(), Redness(), CAPTIONS, out, 2, {})
    whole = (killed / METADATA).read_text()
    (killed / METADATA).write_text(whole[:-20])  # within the last line
    teacher = Colours()
    synthesize(teacher, Redness(), CAPTIONS, killed, 2, {})
    assert teacher.asked == CAPTIONS[-1:] and files(killed) == files(straight)
    with pytest.raises(ValueError, match=r"killed was begun with .*\"count\": 2.*; give another folder"):
        synthesize(Colours(), Redness(), CAPTIONS, killed, 3, {})
    (killed / "synthesis.json").unlink()
    with pytest.raises(ValueError, match="holds pictures of something else"):
        synthesize(Colours(), Redness(), CAPTIONS, killed, 2, {})


def test_geneval_finds_every_picture_in_its_folder(tmp_path: Path) -> None:
    lines = [{"tag": "two_object", "include": [{"class": "cup", "count": 2}], "prompt": "two cups"}] * 2
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rows = read_captions(tmp_path / "prompts.jsonl")
    assert geneval(Colours(), rows, tmp_path / "out", 3) == 6
    for number, line in enumerate(lines):
        folder = tmp_path / "out" / f"{number:05d}"
        assert json.loads((folder / "metadata.jsonl").read_text()) == line
        assert [path.name for path in sorted((folder / "samples").iterdir())] == [f"000{n}.png" for n in range(3)]
    teacher = Colours()
    geneval(teacher, rows, tmp_path / "out", 3)
    assert not teacher.asked


def test_by_its_own_ranker_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captions, out = tmp_path / "captions.txt", tmp_path / "out"
    captions.write_text("a red star\n\n a blue  boat \n")
    words = ["synthesize", str(captions), str(out), "--threads", "1"]
    assert cli.main([*words, "--count", "2", "--steps", "1"]) == 0, capsys.readouterr().err
    assert "2 pictures of 2 captions" in capsys.readouterr().out
    rows = [json.loads(line) for line in (out / METADATA).read_text().splitlines()]
    assert [row["text"] for row in rows] == ["a red star", "a blue boat"]
    assert all(row["clip_score"] == max(row["scores"]) and len(row["scores"]) == 2 for row in rows)
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "bad.jsonl").write_text('{"text": 3}')
    wrong = {
        (str(tmp_path / "empty.txt"),): "empty.txt holds no caption; write a caption a line",
        (str(tmp_path / "bad.jsonl"),): "bad.jsonl, line 1",
        (str(captions), "--teacher", "somebody/sdxl"): "somebody/sdxl has no ranker; name one with --ranker",
        (str(captions), "--count", "1", "--ranker", "ViT-B-32:x.safetensors"): "--ranker chooses among several",
    }
    for (source, *rest), message in wrong.items():
        assert cli.main(["synthesize", source, str(tmp_path / "other"), *rest]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def random_sdxl(folder: Path, words: Path) -> tuple[Path, Path]:
    """A base and a refiner as diffusers saves them, in the smallest sizes."""
    import libraries  # noqa: F401
    import torch
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionXLImg2ImgPipeline,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    torch.manual_seed(0)
    blocks = {"block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1}
    down, up = ("DownBlock2D", "CrossAttnDownBlock2D"), ("CrossAttnUpBlock2D", "UpBlock2D")
    sizes = {"cross_attention_dim": 16, "attention_head_dim": 4, "addition_embed_type": "text_time"}
    text = CLIPTextConfig(
        hidden_size=8, intermediate_size=8, projection_dim=8, num_hidden_layers=2, num_attention_heads=2
    )
    tokenizer = CLIPTokenizer.from_pretrained(words, model_max_length=77)
    shared = {
        "vae": AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **blocks
        ),
        "text_encoder_2": CLIPTextModelWithProjection(text),
        "tokenizer_2": tokenizer,
        "scheduler": EulerDiscreteScheduler(),
    }

    def unet(width: int, ids: int) -> UNet2DConditionModel:
        more = {"addition_time_embed_dim": 4, "projection_class_embeddings_input_dim": 8 + 4 * ids}
        return UNet2DConditionModel(
            16, down_block_types=down, up_block_types=up, **blocks, **(sizes | {"cross_attention_dim": width}), **more
        )

    base = StableDiffusionXLPipeline(unet=unet(16, 6), text_encoder=CLIPTextModel(text), tokenizer=tokenizer, **shared)
    refiner = StableDiffusionXLImg2ImgPipeline(
        unet=unet(8, 5), text_encoder=None, tokenizer=None, requires_aesthetics_score=True, **shared
    )
    for pipeline, name in ((base, "base"), (refiner, "refiner")):
        pipeline.save_pretrained(folder / name)
    return folder / "base", folder / "refiner"


@pytest.mark.slow
def test_sdxl_and_its_refiner_are_a_teacher(published: Path, tmp_path: Path) -> None:  # noqa: F811
    from amused_lite.training.data.synthesize import DiffusersTeacher

    base, refiner = random_sdxl(tmp_path, published)
    settings = {"num_inference_steps": 20, "height": 16, "width": 16}
    with pytest.raises(ValueError, match=r"cannot be opened by diffusers .* check the name"):
        DiffusersTeacher(str(tmp_path / "tokenizer"), None, "cpu", {})
    made = [DiffusersTeacher(str(base), second, "cpu", settings) for second in (None, str(refiner))]
    alone, refined = ([np.array(image) for image in teacher.pictures("a red star", 3, 2)] for teacher in made)
    assert [image.shape for image in (*alone, *refined)] == [(16, 16, 3)] * 4
    assert not np.array_equal(alone[0], alone[1]) and not np.array_equal(alone[0], refined[0])
    assert np.array_equal(refined[0], np.array(made[1].pictures("a red star", 3, 2)[0]))
