"""Prompts to text ids and back: CLIP's lower-cased byte-level BPE (Radford et al. 2021). Knows no model."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from msgspec import Meta, Struct
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from amused_lite.reading import convert, parse_object, read_json, read_text

START, END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"
# The published pattern: contractions, runs of letters, single digits, runs of anything else that is visible.
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


_REMEDY = "get the model's tokenizer again"


class _Model(Struct):
    type: Literal["BPE"]
    vocab: dict[str, int]
    merges: Annotated[list[str | tuple[str, str]], Meta(max_length=2**20)]


class _File(Struct):
    """What is read of a `tokenizer.json`."""

    model: _Model


def _clip_rules(backend: Backend) -> Backend:
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    return backend


def _checked_bpe(vocab: dict[str, int], merges: Sequence[tuple[str, ...]], where: str) -> Backend:
    """`_bpe` of what a file says.

    Raises:
        ValueError: ids are not 0, 1, 2 and so on, or a merge is not of two entries that make a third.
    """
    if sorted(vocab.values()) != list(range(len(vocab))):
        last = len(vocab) - 1
        raise ValueError(f"{where}: vocab has {last + 1} entries, expected their ids to be 0 to {last}; {_REMEDY}")
    if missing := [word for word in (START, END) if word not in vocab]:
        raise ValueError(f"{where}: vocab has no {missing[0]}, expected a CLIP tokenizer; {_REMEDY}")
    for number, pair in enumerate(merges):
        if len(pair) != 2 or not {*pair, "".join(pair)} <= vocab.keys():
            said = f"merges.{number} is {' '.join(pair)[:40]!r}, expected two entries of vocab that make a third"
            raise ValueError(f"{where}: {said}; {_REMEDY}")
    return _bpe(vocab, [(left, right) for left, right in merges])


def _bpe(vocab: dict[str, int], merges: list[tuple[str, str]]) -> Backend:
    model = models.BPE(
        vocab=vocab,
        merges=merges,
        continuing_subword_prefix="",
        end_of_word_suffix=_WORD_END,
        fuse_unk=False,
        unk_token=END,
    )
    backend = _clip_rules(Backend(model))
    backend.add_special_tokens([START, END])
    return backend


class Tokenizer:
    """Fixed-length text ids: start, the prompt, end, and the end id again as padding.

    aMUSEd attends to every position without a mask, so the padding id is part of the model.
    """

    def __init__(self, backend: Backend, context_length: int, start: int, end: int) -> None:
        vocab_size = backend.get_vocab_size()
        if max(start, end) >= vocab_size or context_length < 3:
            ids = f"start {start} and end {end}, context length {context_length}"
            raise ValueError(f"a tokenizer of {vocab_size} entries does not fit {ids}; use the model's own tokenizer")
        self._backend = backend
        self.context_length, self.start, self.end = context_length, start, end

    @classmethod
    def from_file(cls, path: str | Path, context_length: int, start: int, end: int) -> Self:
        """Read the vocabulary and the merges of a `tokenizer.json`; the rules around them are always CLIP's.

        Raises:
            FileNotFoundError, ValueError: the file is missing or not a tokenizer for these ids.
        """
        file = read_json(path, _File, _REMEDY, closed=False)
        pairs = [tuple(pair.split(" ", 1)) if isinstance(pair, str) else pair for pair in file.model.merges]
        return cls(_checked_bpe(file.model.vocab, pairs, str(path)), context_length, start, end)

    @classmethod
    def from_folder(cls, folder: str | Path, context_length: int = 77, start: int = 49406, end: int = 49407) -> Self:
        """Read a tokenizer's folder in a published model; the defaults are CLIP-L/14's.

        transformers writes `vocab.json` and `merges.txt` up to version 4, and `tokenizer.json` alone since 5. Words are
        split by our own rules either way, so that truncation and special tokens saved along count for nothing.

        Raises:
            FileNotFoundError, ValueError: a file is missing or is not what its name says.
        """
        folder = Path(folder)
        vocab, merges, whole = (folder / name for name in ("vocab.json", "merges.txt", "tokenizer.json"))
        if whole.exists() and not vocab.exists():
            return cls.from_file(whole, context_length, start, end)
        words = convert(
            parse_object(read_text(vocab, _REMEDY), str(vocab), _REMEDY), dict[str, int], str(vocab), _REMEDY
        )
        lines = [line for line in read_text(merges, _REMEDY).splitlines() if line and not line.startswith("#version")]
        pairs = [tuple(line.split(" ", 1)) for line in lines]
        return cls(_checked_bpe(words, pairs, str(merges)), context_length, start, end)

    @property
    def hash(self) -> str:
        """Hex sha256 of the vocabulary and of what stands around a prompt: with the same, ids are the same."""
        said = [sorted(self._backend.get_vocab().items()), self.context_length, self.start, self.end]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int = 1024, context_length: int = 32) -> Self:
        """Learn merges from `texts`: 256 bytes, the same 256 at the end of a word, merges, start, end.

        All bytes are there, so no prompt holds anything the tokenizer does not know. Where the texts give too few
        merges, reserved entries that nothing spells fill the places up to the start token.

        Raises:
            ValueError: `vocab_size` does not hold the bytes.
        """
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        base = [*alphabet, *(letter + _WORD_END for letter in alphabet)]
        room = vocab_size - len(base) - 2
        if room < 0:
            raise ValueError(f"vocab_size must be {len(base) + 2} or more (all bytes, start, end), got {vocab_size}")
        learner = _clip_rules(Backend(models.BPE(end_of_word_suffix=_WORD_END, continuing_subword_prefix="")))
        # The trainer counts only the letters it has seen as alphabet, so it always learns enough with this size.
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, end_of_word_suffix=_WORD_END, initial_alphabet=alphabet, show_progress=False
        )
        learner.train_from_iterator(texts, trainer)
        merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]][:room]
        entries = list(dict.fromkeys([*base, *("".join(pair) for pair in merges)]))
        entries += [f"<|reserved{index}|>" for index in range(vocab_size - 2 - len(entries))]
        backend = _bpe({entry: index for index, entry in enumerate([*entries, START, END])}, merges)
        return cls(backend, context_length, vocab_size - 2, vocab_size - 1)

    def save(self, path: str | Path) -> None:
        """Write `tokenizer.json`."""
        Path(path).write_bytes(self._backend.to_str(pretty=True).encode())  # its own `save` raises a bare Exception

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Texts to (B, T) int32. What does not fit is cut and the end token kept, as published; see `dropped`.

        Raises:
            ValueError: a text holds bytes that are no characters.
        """
        room = self.context_length - 2
        rows = np.full((len(texts), self.context_length), self.end, np.int32)
        rows[:, 0] = self.start
        for row, text in zip(rows, texts, strict=True):
            ids = self._encode(text).ids[:room]
            row[1 : 1 + len(ids)] = ids
        return rows

    def count(self, *texts: str) -> int:
        """How many tokens `encode` keeps of these texts, without the start, the end and what fills the rest."""
        return sum(min(len(self._encode(text).ids), self.context_length - 2) for text in texts)

    def dropped(self, text: str) -> str:
        """The end of the text that `encode` cuts off, empty when all of it fits."""
        offsets = self._encode(text).offsets
        room = self.context_length - 2
        return text[offsets[room][0] :].strip() if len(offsets) > room else ""

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Ids to text, up to the first end token; lower case, one space after each word."""
        parts = []
        for index in ids:
            if index == self.end:
                break
            if index != self.start:
                parts.append(self._backend.id_to_token(int(index)))
        return decoders.ByteLevel().decode(parts).replace(_WORD_END, " ").strip()

    def _encode(self, text: str) -> Any:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"the prompt is not valid UTF-8: {text!r}; type it again") from error
        return self._backend.encode(text, add_special_tokens=False)
