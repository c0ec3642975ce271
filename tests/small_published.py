"""A small published model, saved by diffusers and transformers, with a tokenizer as transformers 5 saves it."""

import json
from pathlib import Path
from typing import Any

import published

from amused_lite.tokenizer import Tokenizer


def save_small(folder: Path, **options: Any) -> Path:
    """A whole folder in diffusers' layout; `options` go to `save_pretrained`, such as variant="fp16"."""
    text = published.make_text(vocab_size=600, bos_token_id=598, eos_token_id=599, pad_token_id=599)
    published.save(folder, text=text, **options)
    (folder / "tokenizer").mkdir()
    Tokenizer.train(["a red star"], 600, 11).save(folder / "tokenizer" / "tokenizer.json")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "AmusedPipeline"}))
    return folder
