"""`amused-lite tokens`: pictures to files below 2 KB, and back."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from amused_lite.commands.provenance import is_tokens_file, open_recorded, read_recorded
from amused_lite.console.arguments import named
from amused_lite.console.flags import add_machine_flags, check_output

if TYPE_CHECKING:
    from amused_lite.files.tokens import TokenFile
    from amused_lite.pipeline import AmusedPipeline

_EXAMPLES = """\
examples:
  amused-lite tokens star.png                    writes star.tokens, below 2 KB
  amused-lite tokens star.tokens                 writes star.png again, with any copy of the model
  amused-lite tokens star.tokens -o copy.png -m models/mine

Existing files are never overwritten: a name that is taken gets a number.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `tokens`."""
    parser.description = "Turn a picture that amused-lite made into a .tokens file, or such a file into the picture."
    parser.epilog = _EXAMPLES
    parser.add_argument("file", metavar="FILE", help="a PNG with a recipe, or a .tokens file")
    parser.add_argument(
        "-o", "--output", type=named, metavar="PATH", help="what to write (beside FILE, with the other suffix)"
    )
    parser.add_argument(
        "-m", "--model", type=named, metavar="MODEL", help="decode by this model instead of the one that is named"
    )
    parser.add_argument("--runtime", type=named, metavar="NAME", help="decode on this runtime")
    add_machine_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Convert, and print where the result is."""
    source = Path(args.file)
    path = _decode(args, source) if is_tokens_file(source) else _encode(args, source)
    print(path)
    return 0


def _encode(args: argparse.Namespace, source: Path) -> Path:
    output = args.output or str(source.with_suffix(".tokens"))
    folder, name = check_output(output, ".tokens")
    recipe, _ = read_recorded(source)

    from amused_lite.files.tokens import save_tokens

    return save_tokens(recipe, folder / (name or f"{source.stem}.tokens"))


def _decode(args: argparse.Namespace, source: Path) -> Path:
    from amused_lite.files.tokens import load_tokens
    from amused_lite.runtimes.open import BUNDLED

    folder, name = check_output(args.output or str(source.with_suffix(".png")))
    found = load_tokens(source)
    recipe = found.recipe
    amused = open_recorded(recipe.model if recipe else BUNDLED, recipe.runtime if recipe else "auto", args)
    _check_model(amused, found, source)

    from amused_lite.files.png import save_png

    return save_png(amused.decode(found.tokens), folder / (name or f"{source.stem}.png"), recipe)


def _check_model(amused: "AmusedPipeline", found: "TokenFile", source: Path) -> None:
    uvit = amused.runtime.config.uvit
    if (found.codebook_size, len(found.tokens)) != (uvit.codebook_size, uvit.num_tokens):
        theirs = f"{len(found.tokens)} tokens out of {found.codebook_size}"
        ours = f"{amused.info.name} draws {uvit.num_tokens} out of {uvit.codebook_size}"
        raise ValueError(f"{source} holds {theirs}, {ours}; name the model that made it with -m")
    if found.model_hash != amused.info.model_hash:
        hashes = f"made with weights {found.model_hash[:10]}, decoded with {amused.info.model_hash[:10]}"
        print(f"amused-lite: warning: {hashes}; the picture may be another", file=sys.stderr)
