"""Read recipes out of PNG and .tokens files, and open the model that they name. Shared by several subcommands."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from amused_lite.console.flags import open_pipeline
from amused_lite.system.extras import MissingExtraError

if TYPE_CHECKING:
    from PIL import Image

    from amused_lite.files.png import Recipe
    from amused_lite.pipeline import AmusedPipeline


def is_tokens_file(path: str | Path) -> bool:
    """Whether a file is, by its name, one that `amused-lite tokens` wrote."""
    return Path(path).suffix.lower() == ".tokens"


def read_recorded(path: str | Path) -> "tuple[Recipe, Image.Image | None]":
    """The recipe in a picture or in a tokens file, and the picture.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or holds no recipe.
    """
    if is_tokens_file(path):
        from amused_lite.files.tokens import load_tokens

        recipe = load_tokens(path).recipe
        if recipe is None:
            raise ValueError(f"{path} holds tokens only, since its recipe did not fit; keep the PNG for this")
        return recipe, None
    from amused_lite.files.images import open_picture

    source = open_picture(path)
    if source.recipe is None:
        reason = "; ".join(note for note in source.notes if "recipe" in note)
        raise ValueError(f"{path}: {reason or 'it holds no amused-lite recipe; it was made or saved without one'}")
    return source.recipe, source.image


def open_recorded(model: str, runtime: str, args: argparse.Namespace, keep_loaded: bool = False) -> "AmusedPipeline":
    """Open the model that a file names, on the runtime that it names; -m and --runtime override both.

    The file may be anyone's: its word opens the bundled model, or one from the hub that is on this machine already. It
    downloads nothing and opens no path.

    Raises:
        ValueError: the model must be named with -m.
    """
    from amused_lite.runtimes.hub import is_here
    from amused_lite.runtimes.open import BUNDLED, find_prepared, is_hub_id

    here = model == BUNDLED or is_here(model) or (is_hub_id(model) and find_prepared(model) is not None)
    if args.model is None and not here:
        raise ValueError(
            f"it was made by the model {model[:80]!r}, which is not here; name its folder or hub id with -m"
        )
    chosen = args.model or model
    if args.runtime is not None:
        return open_pipeline(args, keep_loaded, chosen)
    try:
        return open_pipeline(args, keep_loaded, chosen, runtime)
    except (MissingExtraError, ValueError):  # that runtime is unknown, not installed here, or does not run this model
        return open_pipeline(args, keep_loaded, chosen, "auto")
