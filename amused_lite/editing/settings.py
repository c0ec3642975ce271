"""What each edit lets a user choose, declared once. Knows no model, no engine and no NumPy.

Python's keyword arguments, command-line flags, request schemas and the checks of requests take names, types and
defaults from here.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple


class EditSetting(NamedTuple):
    """A number or a switch of one operation."""

    kind: type  # float, int (px) or bool
    default: Any
    help: str
    metavar: str = ""

    @property
    def description(self) -> str:
        """Help with the default behind it."""
        shown = "" if self.default is None or self.kind is bool else f" ({self.default:g})"
        return f"{self.help}{shown}"


class EditOperation(NamedTuple):
    """What may be said of an operation."""

    settings: Mapping[str, EditSetting]
    mask: Literal["drawn", "kept"] | None  # what is white in its mask; None: it takes none
    needs_prompt: bool = False  # else the earlier picture's own will do
    defaults: Mapping[str, Any] = {}  # sampling settings that differ from those of a new picture


_PAD = EditSetting(bool, False, "use all of a picture that is not square, not its middle")
_PASTE = {
    "paste": EditSetting(bool, True, "lay the drawn part into the earlier picture, whose other pixels stay"),
    "feather": EditSetting(int, None, "match colours over so many px at the border (one token)", "PX"),
}
_SIDE = EditSetting(int, 0, "px of the picture to add there", "PX")

OPERATIONS = {
    "vary": EditOperation(
        {"strength": EditSetting(float, 0.5, "how much may change, up to 1", "S"), "pad": _PAD}, mask="kept"
    ),
    # The published pipeline's schedule; docs/editing.md measures
    "inpaint": EditOperation(_PASTE, mask="drawn", needs_prompt=True, defaults={"mask_schedule": "linear"}),
    "outpaint": EditOperation({**dict.fromkeys(("left", "right", "top", "bottom"), _SIDE), **_PASTE}, mask=None),
    # Twice Muse's share, in half as many rounds; docs/editing.md measures
    "edit": EditOperation(
        {"share": EditSetting(float, 0.16, "how much each step draws again, up to 1", "S"), "pad": _PAD},
        mask="kept",
        needs_prompt=True,
        defaults={"top_k": 3},
    ),
    "reroll": EditOperation(
        {"share": EditSetting(float, 0.1, "how much of it, up to 1", "S"), "pad": _PAD}, mask="kept"
    ),
}
