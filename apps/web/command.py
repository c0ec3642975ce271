"""`amused-lite web`: write a page that draws in the browser itself."""

import argparse
import json

from amused_lite.console.arguments import check_folder, check_other_folder, named, path

_EXAMPLES = """\
examples:
  amused-lite web site
      then show it: python -m http.server -d site --bind 127.0.0.1
  amused-lite web site -m out/my-model
      with a bundle that amused-lite export --to onnx wrote, or amused-lite quantize: less to download

The folder goes to any host of static files as it is, or to your own machine. Whoever opens the page downloads the model
once; from then on it draws there, also offline, and sends nothing anywhere. docs/phone.md is the way onto a phone.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `web`."""
    parser.description = "Write a page, one folder of static files, that draws in any browser without a server."
    parser.epilog = _EXAMPLES
    parser.add_argument("out", type=path, metavar="OUT", help="the folder to make; replaces a page")
    parser.add_argument("-m", "--model", type=named, default="tiny", help="tiny, or a bundle folder (tiny)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a line")


def run(args: argparse.Namespace) -> int:
    """Write the folder, and say how much a visitor downloads."""
    check_folder(args.out)
    from amused_lite.bundle import open_bundle
    from amused_lite.runtimes.open import find_model

    from .folder import write_page

    folder = find_model(args.model)
    check_other_folder(args.out, folder)
    bundle = open_bundle(folder)
    sizes = write_page(bundle, args.out)
    total = sum(sizes.values())
    if args.json:
        print(json.dumps({"page": str(args.out), "model": bundle.manifest.name, "bytes": {**sizes, "total": total}}))
    else:
        parts = f"page {sizes['page'] / 1e6:.1f} MB, model {sizes['model'] / 1e6:.1f} MB"
        print(f"{args.out}  {bundle.manifest.name}  {total / 1e6:.1f} MB to download once ({parts})")
    return 0
