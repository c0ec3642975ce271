"""Where captioned pictures come from, in pieces that any process can take: a folder, tar files, or a drawn world."""

import hashlib
import json
import random
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from amused_lite.conditioning import MicroConditioning
from amused_lite.files import images
from amused_lite.reading import parse_object
from amused_lite.system.extras import require_extra
from amused_lite.training.data.captions import PictureFacts, facts_of, read_table, text_beside
from amused_lite.training.data.shards import SHARD
from amused_lite.training.world import World

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
FAULTS = ("no caption", "no picture", "unreadable", "unreadable metadata", "broken tar")  # what its owner may mend
USUAL_SCORE = 6.0  # what the published trainer says of a picture whose aesthetic score nobody measured
_REMOTE = ("pipe:", "http:", "https:", "sftp:", "gs:", "s3:")  # webdataset opens them


class Item(NamedTuple):
    """A picture as its source has it; `problem` says why there is none."""

    name: str
    picture: Path | BytesIO | Image.Image | None
    facts: PictureFacts
    problem: str = ""


class PictureSource(Protocol):
    """Captioned pictures, always the same ones in the same pieces."""

    name: str
    pieces: int

    def said(self) -> str:
        """What decides the pictures, for the plan."""
        ...

    def items(self, piece: int) -> Iterator[Item]:
        """The pictures of a piece."""
        ...

    def __len__(self) -> int:
        """Pictures in all, good or not."""
        ...

    def picture(self, number: int) -> Path | BytesIO | Image.Image:
        """One of them, without what is said of it."""
        ...


class Folder:
    """Pictures below a folder, with captions in text files of the same name or in a `metadata.jsonl` beside them."""

    def __init__(self, folder: Path) -> None:
        """Raises FileNotFoundError when there is no picture."""
        self.folder, self.name = folder, str(folder)
        found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        self.files = sorted(path.relative_to(folder).as_posix() for path in found)
        if not self.files:
            kinds = ", ".join(SUFFIXES[:4])
            raise FileNotFoundError(f"no picture below {folder}; give a folder with {kinds} or .tar files")
        self.in_piece, self.pieces = SHARD, -(-len(self.files) // SHARD)

    def said(self) -> str:
        """Names and sizes of all files."""
        return "\n".join(f"{name} {(self.folder / name).stat().st_size}" for name in self.files)

    def items(self, piece: int) -> Iterator[Item]:
        """See `PictureSource`."""
        tables: dict[Path, dict[str, PictureFacts]] = {}
        for name in self.files[piece * self.in_piece :][: self.in_piece]:
            path = self.folder / name
            if path.parent not in tables:
                tables[path.parent] = read_table(path.parent)
            facts = tables[path.parent].get(path.name) or PictureFacts()
            facts.text = facts.text or text_beside(path)
            yield Item(name, path, facts)

    def __len__(self) -> int:
        return len(self.files)

    def picture(self, number: int) -> Path:
        """See `PictureSource`."""
        return self.folder / self.files[number]


class Tars:
    """webdataset's shards: in each tar `KEY.jpg`, with `KEY.txt`, `KEY.json` or both beside it."""

    def __init__(self, urls: Sequence[str], name: str) -> None:
        require_extra("train", "reading tar files", "webdataset")
        self.urls, self.name, self.pieces = list(urls), name, len(urls)

    def said(self) -> str:
        """Where they lie, and how large those are that lie here."""
        return "\n".join(f"{url} {Path(url).stat().st_size if Path(url).is_file() else ''}" for url in self.urls)

    def items(self, piece: int) -> Iterator[Item]:
        """See `PictureSource`; a tar that breaks off gives what came before, and says so."""
        from webdataset.tariterators import tarfile_samples

        broken: list[Exception] = []
        for sample in tarfile_samples([{"url": self.urls[piece]}], handler=lambda error: broken.append(error) or True):
            name = f"{self.urls[piece]}: {sample['__key__']}"
            data = next((sample[end[1:]] for end in SUFFIXES if end[1:] in sample), None)
            if data is None:
                yield Item(name, None, PictureFacts(), "no picture")
                continue
            try:
                values = parse_object(sample["json"], name, "write an object") if "json" in sample else {}
                if "txt" in sample:
                    values["text"] = sample["txt"].decode()
                yield Item(name, BytesIO(data), facts_of(values, name))
            except ValueError:  # UnicodeDecodeError among them
                yield Item(name, None, PictureFacts(), "unreadable metadata")
        if broken:
            yield Item(self.urls[piece], None, PictureFacts(), "broken tar")

    @cached_property
    def _places(self) -> list[tuple[str, int, int]]:
        """Where each picture lies: its tar, its first byte, its length; of a tar that breaks off, what came before.

        Raises:
            ValueError: the tars are not on this machine, or hold no picture.
        """
        found = []
        for url in self.urls:
            if url.startswith(_REMOTE):
                raise ValueError(f"{url} can be read from its start only; training on pixels needs tar files on a disk")
            try:
                with tarfile.open(url, "r:") as tar:
                    pictures = (file for file in tar if file.isfile() and file.name.lower().endswith(SUFFIXES))
                    found += [(url, file.offset_data, file.size) for file in pictures]
            except tarfile.TarError:
                continue
        if not found:
            raise ValueError(f"no picture in {self.name}; give tar files that are whole and not compressed")
        return found

    def __len__(self) -> int:
        return len(self._places)

    def picture(self, number: int) -> BytesIO:
        """See `PictureSource`."""
        url, start, size = self._places[number]
        with open(url, "rb") as file:
            file.seek(start)
            return BytesIO(file.read(size))


class DrawnWorld:
    """The first pictures of a drawn world, each with one of its captions."""

    def __init__(self, world: World, folder: Path, pictures: int) -> None:
        """`folder`: where what the world is drawn from lies, or comes to lie."""
        self.world, self.folder, self.pictures, self.name = world, folder, pictures, world.name
        self.pieces = -(-pictures // SHARD)
        world.fetch(folder)

    def said(self) -> str:
        """The first scenes, since a world's code may change."""
        self.world.use(self.folder)
        shown = range(min(self.pictures, 200))
        return f"{self.pictures}\n" + "\n".join(repr(self.world.scene(self.world.seed, n)) for n in shown)

    def items(self, piece: int) -> Iterator[Item]:
        """See `PictureSource`."""
        self.world.use(self.folder)
        for number in range(piece * SHARD, min(self.pictures, (piece + 1) * SHARD)):
            scene = self.world.scene(self.world.seed, number)
            micro = self.world.micro(scene)
            said = self.world.caption(scene, random.Random(number))
            facts = PictureFacts(said, aesthetic_score=micro.aesthetic_score)
            problem = "same as a scored prompt" if self.world.is_scored(scene) else ""
            yield Item(f"{self.name} {number}", Image.fromarray(self.world.draw(scene)), facts, problem)

    def __len__(self) -> int:
        return self.pictures

    def picture(self, number: int) -> Image.Image:
        """See `PictureSource`."""
        self.world.use(self.folder)
        return Image.fromarray(self.world.draw(self.world.scene(self.world.seed, number)))


def find_source(source: str, worlds: dict[str, Callable[[], World]], out: Path, pictures: int | None) -> PictureSource:
    """What a user calls a source.

    Args:
        source: a folder of pictures or of tar files, a tar file, a pattern of them ({00000..00099}), an address that
            webdataset opens, or the name of a world.
        worlds: by name.
        out: a world's drawings are brought here.
        pictures: of a world.

    Raises:
        FileNotFoundError: there is no such thing.
        ValueError: a world needs a number of pictures, and nothing else has one.
    """
    path = Path(source)
    if source in worlds and not path.exists():
        if not pictures:
            raise ValueError(f"{source} is an endless world; say how many with --pictures 10000")
        return DrawnWorld(worlds[source](), out, pictures)
    if pictures:
        raise ValueError(f"--pictures is for the worlds {', '.join(worlds)}; leave it out, all of {source} are used")
    if path.is_dir():
        tars = sorted(str(tar) for tar in path.glob("*.tar"))
        return Tars(tars, source) if tars else Folder(path)
    if not (source.startswith(_REMOTE) or ".tar" in source):
        known = f"a folder, .tar files or one of {', '.join(worlds)}"
        raise FileNotFoundError(f"{source} is no source of pictures; give {known}")
    urls = [source]
    if "{" in source and not source.startswith("pipe:"):
        require_extra("train", "a pattern of tar files", "braceexpand")
        from braceexpand import braceexpand

        urls = sorted(braceexpand(source))
    missing = [url for url in urls if not url.startswith(_REMOTE) and not Path(url).is_file()]
    if missing:
        raise FileNotFoundError(f"{missing[0]} is missing ({len(missing)} of {len(urls)}); check the name")
    return Tars(urls, source)


@dataclass(frozen=True)
class SampleFilter:
    """Which pictures are kept, and which crops of them. The thresholds are those published for aMUSEd's data."""

    aesthetic: float = 4.5  # at least
    watermark: float = 0.5  # at most
    unsafe: float = 0.45  # at most
    clip_score: float | None = None  # at least; None: any
    side: int | None = None  # px of the short side, at least; None means half of what the model draws
    random_crops: int = 0  # of each picture; 0 means the middle
    seed: int = 0

    def reason_against(self, facts: PictureFacts, size: tuple[int, int], image_size: int) -> str:
        """Why a picture is dropped, or "". A score that nobody measured speaks against nothing."""
        if not facts.text.strip():
            return "no caption"
        if min(size) < (image_size // 2 if self.side is None else self.side):
            return "too small"
        if facts.aesthetic_score is not None and facts.aesthetic_score < self.aesthetic:
            return "aesthetic score"
        if self.clip_score is not None and facts.clip_score is not None and facts.clip_score < self.clip_score:
            return "clip score"
        if facts.watermark is not None and facts.watermark > self.watermark:
            return "watermark"
        if facts.unsafe is not None and facts.unsafe > self.unsafe:
            return "unsafe"
        return ""


class Chosen(NamedTuple):
    """A crop to encode."""

    pixels: np.ndarray  # (S, S, 3) uint8
    text: str
    micro: np.ndarray  # (5,) float32, see `MicroConditioning`


def crops_of(item: Item, choice: SampleFilter, image_size: int) -> list[Chosen] | str:
    """The crops of a picture, or why it is dropped."""
    if item.problem or item.picture is None:
        return item.problem or "no picture"
    image = item.picture
    if not isinstance(image, Image.Image):
        try:
            image = images.open_picture(image).image
        except ValueError:
            return "unreadable"
    facts = item.facts
    size = (facts.original_width or image.width, facts.original_height or image.height)
    if reason := choice.reason_against(facts, size, image_size):
        return reason
    key = int.from_bytes(hashlib.sha256(item.name.encode()).digest()[:8])
    made, score = [], USUAL_SCORE if facts.aesthetic_score is None else facts.aesthetic_score
    for number in range(max(1, choice.random_crops)):
        rng = np.random.default_rng([choice.seed, key, number]) if choice.random_crops else None
        piece, (top, left) = crop(image, image_size, rng, smallest=1.0)
        micro = MicroConditioning(*size, top, left, score).array()[0]
        made.append(Chosen(np.array(piece), " ".join(facts.text.split()), micro))
    return made


def crop(
    image: Image.Image, image_size: int, rng: np.random.Generator | None, smallest: float = 0.7
) -> tuple[Image.Image, tuple[int, int]]:
    """A square piece at `image_size`, and where it begins (top, left), in px of the picture scaled to it.

    The published trainer scales the short side to the model's size and crops. Without `rng` it is the middle; else its
    place varies, and its side from `smallest` to all of the short side.
    """
    short = min(image.size)
    share = 1.0 if rng is None else rng.uniform(smallest, 1.0)
    side = max(1, round(short * share))
    room = [length - side for length in image.size]
    left, top = (length // 2 if rng is None else int(rng.integers(0, length + 1)) for length in room)
    scale = image_size / short
    piece = image.resize((image_size, image_size), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
    return piece, (round(top * scale), round(left * scale))


def plan_of(source: PictureSource, choice: SampleFilter, model: dict[str, Any]) -> str:
    """Hex sha256 of all that decides what the shards hold."""
    said = [source.said(), repr(choice), json.dumps(model, sort_keys=True)]
    return hashlib.sha256("\0".join(said).encode()).hexdigest()
