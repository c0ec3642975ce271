"""Pictures as PNG files that remember how they were made. Knows no runtime and no model files.

Two texts go into a file: `parameters`, the line that AUTOMATIC1111's web interface started and most tools read, and
`amused_lite`, versioned JSON with everything needed to make the picture again, its tokens included. A third says, as
IPTC has it, that the picture was made by a trained model.
"""

import base64
import json
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from msgspec import Meta
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from amused_lite import __version__
from amused_lite.conditioning import MicroConditioning
from amused_lite.files.atomic import write_new
from amused_lite.reading import check_version, convert, parse_object
from amused_lite.sampling.settings import MAX_CODEBOOK, SETTINGS, GenerateOptions, Settings

SCHEMA = 1
KEY = "amused_lite"
XMP_KEY = "XML:com.adobe.xmp"  # where the XMP specification, part 3, puts a packet into a PNG
# IPTC's digital source type, by which other programs know a picture for machine-made; edits hold parts of others.
_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool="amused-lite {version}"
 Iptc4xmpExt:DigitalSourceType="{kind}"/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""
_REMEDY = "get the file again"

Text = Annotated[str, Meta(max_length=10_000)]
Word = Annotated[str, Meta(max_length=100)]
Count = Annotated[int, Meta(ge=0, le=2**32)]
Side = Annotated[int, Meta(ge=1, le=2**20)]  # px
Number = Annotated[float, Meta(ge=-1e9, le=1e9)] | Annotated[int, Meta(ge=-(10**9), le=10**9)]  # whole ones stay so
Scalar = str | bool | None | Annotated[float, Meta(ge=-1e9, le=1e9)] | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
if TYPE_CHECKING:
    EditSettings = dict[str, Any]  # each operation knows the types of its own
else:
    EditSettings = Annotated[dict[Word, Scalar | list[Scalar]], Meta(max_length=100)]


@dataclass(frozen=True, eq=False)
class Edit:
    """What was done to an earlier picture, and to which tokens: enough to do it again."""

    operation: Word  # as the command is called: "vary", "inpaint", "outpaint", "edit", "reroll"
    settings: EditSettings  # such as strength
    tokens: np.ndarray  # (N,) the earlier picture's


@dataclass(frozen=True, eq=False, kw_only=True)
class Recipe(Settings):
    """Everything that made a picture: its sampling settings, declared where `Settings` are, and the rest."""

    prompt: Text
    negative_prompt: Text
    picture: Count  # number of the picture within its seed
    # As JSON has it: width, height, crop_top, crop_left, aesthetic_score
    micro_conditioning: Annotated[tuple[Number, ...], Meta(max_length=100)]  # pyright: ignore[reportGeneralTypeIssues]
    width: Side
    height: Side
    model: Text
    model_hash: Text
    runtime: Word
    codebook_size: Annotated[int, Meta(ge=1, le=MAX_CODEBOOK)]
    tokens: np.ndarray  # (N,) integers below codebook_size
    edit: Edit | None = None
    # Such as "blueprint:0.8 3fa9c1d2b4", with the start of the file's sha256.
    adapters: Annotated[tuple[Text, ...], Meta(max_length=1000)] = ()
    stopped_after: Count | None = (
        None  # steps, where someone stopped early and that step's sampled tokens became the picture
    )
    version: Word = __version__

    def __eq__(self, other: object) -> bool:
        return self is other  # and not where the settings alone are equal

    def __hash__(self) -> int:
        return id(self)

    @property
    def options(self) -> GenerateOptions:
        """The sampling settings alone.

        Raises:
            ValueError: the recipe, which may be anyone's, has not five numbers of micro-conditioning.
        """
        if len(self.micro_conditioning) != 5:
            raise ValueError(f"micro_conditioning must be 5 numbers, got {len(self.micro_conditioning)}")
        values = {name: getattr(self, name) for name in (*SETTINGS, "seed")}
        return GenerateOptions(**values, micro_conditioning=MicroConditioning(*self.micro_conditioning))

    def parameters(self) -> str:
        """The A1111 text: prompt, negative prompt, and one line of settings."""
        named = [(setting.a1111[0], getattr(self, name)) for name, setting in SETTINGS.items() if setting.a1111]
        named.insert(1, ("Sampler", "amused"))  # where A1111 has it
        settings = {
            **{name: f"{value:g}" if isinstance(value, float) else value for name, value in named},
            "Seed": self.seed,
            "Size": f"{self.width}x{self.height}",
            "Model hash": self.model_hash[:10],
            "Model": self.model if "," not in self.model else json.dumps(self.model),
            "Lora hashes": json.dumps(", ".join(self.adapters), ensure_ascii=False) if self.adapters else "",
            "Version": f"amused-lite {self.version}",
        }
        settings = {name: value for name, value in settings.items() if value != ""}
        negative = [f"Negative prompt: {self.negative_prompt}"] if self.negative_prompt else []
        return "\n".join([self.prompt, *negative, ", ".join(f"{key}: {value}" for key, value in settings.items())])

    def to_json(self) -> str:
        """As JSON text; tokens as base64 of their bits, most significant first."""
        values = asdict(self)
        values = {name: values.pop(name) for name in ("prompt", "negative_prompt", "picture")} | values
        values["tokens"] = _to_text(self.tokens, self.codebook_size)
        if self.edit is not None:
            values["edit"]["tokens"] = _to_text(self.edit.tokens, self.codebook_size)
        for name in _LATER:
            if values[name] == getattr(Recipe, name):
                del values[name]
        return json.dumps({"schema": SCHEMA, **values}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, tokens: np.ndarray | None = None) -> "Recipe":
        """The inverse of `to_json`; of a text without tokens where they are given.

        Raises:
            ValueError: the text is of another schema or not whole, or a value has not the type it should have.
        """
        values = parse_object(text, "the recipe", _REMEDY)
        check_version(values, "schema", SCHEMA, "the recipe", _REMEDY)
        del values["schema"]
        codebook_size = values.get("codebook_size")
        values["tokens"] = _from_text(values.get("tokens"), codebook_size) if tokens is None else tokens
        if isinstance(edit := values.get("edit"), dict):
            values["edit"] = edit | {"tokens": _from_text(edit.get("tokens"), codebook_size)}
        if (every := values.pop("guidance_every", 1)) != 1:
            gone = "a way of guidance that this version no longer has"
            raise ValueError(f"the recipe: guidance_every is {str(every)[:40]}, {gone}; it cannot be repeated")
        for name in (*SETTINGS, "seed"):
            if name not in values and name not in _LATER:
                raise ValueError(f"the recipe: {name} is missing; {_REMEDY}")
        return convert(values, cls, "the recipe", _REMEDY)


# Fields that earlier versions do not know, and that are written only where they differ from their default.
_LATER = (*(name for name, setting in SETTINGS.items() if setting.since > 1), "stopped_after")


def save_png(image: Image.Image, path: str | Path, recipe: Recipe | None, metadata: bool = True) -> Path:
    """Write a PNG and return where: never over another file, numbered instead (`cat.png`, `cat-2.png`, ...).

    The file appears under its name when it is complete: a full disk or an interruption leaves nothing behind.

    Args:
        image: the picture.
        path: ends in .png; missing folders are made.
        recipe: what goes into the file's texts, if anything.
        metadata: False leaves both texts out.

    Raises:
        OSError: the folder cannot be made or written, or the disk is full.
    """
    return write_new(Path(path), encode_png(image, recipe if metadata else None))


def encode_png(image: Image.Image, recipe: Recipe | None) -> memoryview:
    """The bytes of a PNG file, with a recipe's two texts and what IPTC calls its source where one is given."""
    texts = PngImagePlugin.PngInfo()
    if recipe is not None:
        texts.add_text("parameters", recipe.parameters())  # tEXt where Latin-1 can hold it, else iTXt
        texts.add_itxt(KEY, recipe.to_json())
        composite = recipe.edit is not None and recipe.edit.operation in ("inpaint", "outpaint")
        texts.add_itxt(XMP_KEY, provenance(composite))
    data = BytesIO()
    image.copy().save(data, "PNG", pnginfo=texts)  # Pillow keeps the texts on the object while it saves
    return data.getbuffer()


def provenance(composite: bool) -> str:
    """An XMP packet with IPTC's digital source type; `composite` where parts of a picture may be a photograph."""
    kind = "compositeWithTrainedAlgorithmicMedia" if composite else "trainedAlgorithmicMedia"
    return _XMP.format(version=__version__, kind=_SOURCE_TYPE + kind)


def read_recipe(path: str | Path) -> Recipe:
    """The recipe inside a PNG that this program wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no PNG, or holds no recipe.
    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()  # texts may stand behind the pixels
            text = getattr(image, "text", {}).get(KEY)
    except (UnidentifiedImageError, SyntaxError) as error:
        raise ValueError(f"{path} is not a PNG file; give a picture that amused-lite made") from error
    if text is None:
        raise ValueError(f"{path} holds no amused-lite recipe; it was made or saved without one")
    try:
        return Recipe.from_json(str(text))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def pack_tokens(tokens: np.ndarray, codebook_size: int) -> bytes:
    """Tokens (N,) as the bits they need, most significant first: 10 each for a codebook of 1024, 13 for 8192."""
    bits = _bits(codebook_size)
    planes = (tokens.astype(np.uint32)[:, None] >> np.arange(bits - 1, -1, -1, dtype=np.uint32)) & 1
    return np.packbits(planes.astype(np.uint8)).tobytes()


def unpack_tokens(data: bytes, count: int, codebook_size: int) -> np.ndarray:
    """The inverse of `pack_tokens`: (N,) int32.

    Raises:
        ValueError: there are too few bytes, or a token is not in the codebook.
    """
    bits = _bits(codebook_size)
    raw = np.frombuffer(data, np.uint8)
    if count < 1 or raw.size * 8 < count * bits:
        raise ValueError(f"the tokens are cut short: {raw.size} bytes for {count} of {bits} bits")
    planes = np.unpackbits(raw, count=count * bits).reshape(count, bits)
    tokens = (planes.astype(np.int32) << np.arange(bits - 1, -1, -1, dtype=np.int32)).sum(1, dtype=np.int32)
    if tokens.max() >= codebook_size:
        raise ValueError(f"token {tokens.max()} is not in a codebook of {codebook_size}")
    return tokens


def _bits(codebook_size: int) -> int:
    if not 1 <= codebook_size <= MAX_CODEBOOK:
        raise ValueError(f"codebook_size must be 1 to {MAX_CODEBOOK}, got {codebook_size}")
    return max(1, (codebook_size - 1).bit_length())


def _to_text(tokens: np.ndarray, codebook_size: int) -> str:
    return f"{len(tokens)}:{base64.b64encode(pack_tokens(tokens, codebook_size)).decode()}"


def _from_text(text: Any, codebook_size: Any) -> np.ndarray:
    """The inverse of `_to_text`, of values out of a file."""
    if not isinstance(text, str) or type(codebook_size) is not int:
        got = f"{type(text).__name__} and {type(codebook_size).__name__}"
        raise ValueError(f"the recipe: tokens and codebook_size are {got}, expected str and int; {_REMEDY}")
    count, _, data = text.partition(":")
    try:
        return unpack_tokens(base64.b64decode(data, validate=True), int(count), codebook_size)
    except ValueError as error:
        raise ValueError(f"the recipe: tokens are damaged ({str(error)[:100]}); {_REMEDY}") from error
