"""The versions of a picture that is edited, for undo and redo. Knows no gradio."""

from dataclasses import dataclass
from io import BytesIO

from amused_lite.files.images import SourceImage, open_picture
from amused_lite.files.png import encode_png

from .uploads import Uploads

MOST = 24  # versions that undo goes back through, as long as they are in memory
_LARGEST_SHOWN = 1024  # px; a photograph of a camera would take half a minute to be sent and opened
VERBS = {
    "inpaint": "replaced",
    "outpaint": "extended",
    "edit": "changed by words",
    "vary": "varied",
    "reroll": "redone",
}


@dataclass(frozen=True)
class Version:
    """One state of the picture: a PNG with its recipe among the page's uploads, which forget the oldest when full."""

    key: str
    words: str  # for the story
    shown: str  # key of what the editor shows of it
    picture: str = ""  # its key on the page, where it came from there

    @classmethod
    def of(
        cls, uploads: Uploads, source: SourceImage, before: SourceImage | None = None, picture: str = ""
    ) -> "Version":
        """Keep a picture, which an edit made of the one before."""
        recipe, last = source.recipe, None if before is None else before.recipe
        parts = [VERBS.get(recipe.edit.operation, "edited") if recipe and recipe.edit else "as it was opened"]
        if recipe is not None and last is not None and last.tokens.shape == recipe.tokens.shape:
            changed = int((last.tokens != recipe.tokens).sum())
            parts.append(f"{changed} of {recipe.tokens.size} tokens differ from the one before")
        parts.append(f"{source.image.width} x {source.image.height} px")
        key = shown = uploads.keep(bytes(encode_png(source.image, recipe)), "image/png")
        if max(source.image.size) > _LARGEST_SHOWN:
            small = source.image.copy()
            small.thumbnail((_LARGEST_SHOWN, _LARGEST_SHOWN))
            shown = uploads.keep(bytes(encode_png(small, None)), "image/png")
        return cls(key, ", ".join(parts), shown, picture)

    def open(self, uploads: Uploads) -> SourceImage:
        """
        Raises:
            ValueError: it was forgotten.
        """
        try:
            return open_picture(BytesIO(uploads.open(self.key).data))
        except ValueError:
            raise ValueError("this version is no longer in memory; open the picture again") from None


@dataclass(frozen=True)
class Versions:
    """The list of versions for undo and redo, and the current one."""

    items: tuple[Version, ...] = ()
    at: int = -1

    @property
    def now(self) -> Version | None:
        return self.items[self.at] if self.items else None

    def add(self, version: Version) -> "Versions":
        """A new state after this one; what was undone is gone."""
        items = (*self.items[: self.at + 1], version)[-MOST:]
        return Versions(items, len(items) - 1)

    def moved(self, by: int) -> "Versions":
        return Versions(self.items, min(max(self.at + by, 0), len(self.items) - 1))

    def story(self) -> str:
        """The current position in the list, as text."""
        return f"Version {self.at + 1} of {len(self.items)}, {self.now.words}." if self.now is not None else ""
