"""`amused-lite models`: what `pull` prepared, where it is, and whether it is whole."""

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING

from amused_lite.console.arguments import named

if TYPE_CHECKING:
    from amused_lite.installed import InstalledModel

_EXAMPLES = """\
examples:
  amused-lite models
      what is prepared, with size and last use
  amused-lite models where amused/amused-512
  amused-lite models verify
      hash every file of every model
  amused-lite models rm amused/amused-512

The downloads are in the hub's own cache, which other programs share: `hf cache ls` lists them.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `models`."""
    parser.description = "List, find, check and remove the models that pull prepared."
    parser.epilog = _EXAMPLES
    parser.add_argument("action", nargs="?", choices=("list", "where", "verify", "rm"), default="list", help="(list)")
    parser.add_argument(
        "models", nargs="*", type=named, metavar="MODEL", help="as it was pulled, or the name of its folder (all)"
    )
    parser.add_argument("--json", action="store_true", help="list: print one JSON object instead of lines")


def run(args: argparse.Namespace) -> int:
    """Do what is asked, and print a line for each model."""
    from amused_lite import installed

    if args.action == "rm" and not args.models:
        raise ValueError("say which model to remove: amused-lite models rm MODEL")
    chosen = [item for word in args.models for item in installed.named(word)] or installed.installed_models()
    if args.action == "list":
        _print_list(chosen, args.json)
        return 0
    if args.action == "where" and not args.models:
        print(installed.models_folder())
        return 0
    damaged = 0
    for item in chosen:
        if args.action == "rm":
            installed.remove(item)
            print(f"removed {item.folder}  {item.size / 1e6:.0f} MB", flush=True)
        elif args.action == "verify":
            damaged += not _is_whole(item)
        else:
            print(item.folder, flush=True)
    return 1 if damaged else 0


def _is_whole(item: "InstalledModel") -> bool:
    from amused_lite.installed import verify

    try:
        verify(item)
    except (ValueError, OSError) as error:
        print(f"amused-lite: {error}", file=sys.stderr)
        print(f"{item.source.model}  {item.scheme}  damaged; run: amused-lite pull {item.source.model}", flush=True)
        return False
    print(f"{item.source.model}  {item.scheme}  whole", flush=True)
    return True


def _print_list(chosen: "list[InstalledModel]", as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "model": item.source.model,
                "scheme": item.scheme,
                "bytes": item.size,
                "last_use": int(item.last_use),
                "commit": item.source.commit,
                "folder": str(item.folder),
            }
            for item in chosen
        ]
        print(json.dumps({"models": rows}))
        return
    if not chosen:
        print("no models are prepared; amused-lite pull amused/amused-512 prepares one", file=sys.stderr)
    for item in chosen:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(item.last_use))
        print(f"{item.source.model:<32}  {item.scheme:<16}  {item.size / 1e6:>6.0f} MB  used {used}  {item.folder}")
