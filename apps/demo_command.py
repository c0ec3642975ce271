"""`amused-lite demo`: the page in a browser, and the server's endpoints beside it."""

import argparse
import os
import sys
import tempfile
import threading
import webbrowser
from pathlib import Path

from amused_lite.commands.flags import whole

_EXAMPLES = """\
examples:
  amused-lite demo
      opens http://127.0.0.1:7860 in your browser; pictures are kept in your data folder
  amused-lite demo --no-history
      keeps nothing on the disk
  amused-lite demo -m amused/amused-512 -m tiny --adapter blueprint.safetensors
      two models to choose from, and a style
  amused-lite demo --filter ViT-B-32:clip.safetensors
      blurs what open_clip takes for unfit, and says why; without this flag nothing is filtered

Everything that amused-lite serve offers to programs is there too. Ctrl-C ends it.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags: those of serve, and the page's own."""
    parser.description = "Make pictures in your browser. Nothing leaves this machine."
    parser.epilog = _EXAMPLES
    parser.add_argument("--host", default="127.0.0.1", metavar="HOST", help="address to listen at (127.0.0.1)")
    parser.add_argument("--port", type=whole(0), default=7860, metavar="N", help="0 takes any that is free (7860)")
    parser.add_argument("--no-browser", action="store_true", help="do not open one")
    parser.add_argument("--queue", type=whole(1), default=32, metavar="N", help="requests that may wait (32)")
    parser.add_argument("--history", default="", metavar="FOLDER", help="where pictures are kept (in your data folder)")
    parser.add_argument("--no-history", action="store_true", help="write no pictures to the disk")
    parser.add_argument("--styles", type=Path, metavar="FOLDER", help="where trained styles go (in your data folder)")
    engine = parser.add_argument_group("models and engine")
    engine.add_argument(
        "-m", "--model", action="append", metavar="MODEL", help="to choose from; may be repeated (tiny)"
    )
    engine.add_argument("--adapter", action="append", default=[], metavar="FILE", help="a style; may be repeated")
    engine.add_argument("--runtime", default="auto", metavar="NAME", help="engine unless chosen on the page (auto)")
    engine.add_argument("--threads", type=whole(1), metavar="N", help="processor threads (all)")
    engine.add_argument("--models-open", type=whole(1), default=2, metavar="N", help="models kept in memory (2)")
    safety = parser.add_argument_group("responsible use and access")
    safety.add_argument("--filter", metavar="ARCH:FILE", help="an open_clip model that blurs unfit pictures (off)")
    safety.add_argument(
        "--filter-threshold", type=float, default=0.5, metavar="T", help="blur from this score on (0.5)"
    )
    safety.add_argument("--token", metavar="TEXT", help="every visitor must bring it (made for you with another host)")
    safety.add_argument("--cors", action="append", default=[], metavar="ORIGIN", help="a page that may use the server")
    safety.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="a name it is called by")


def run(args: argparse.Namespace) -> int:
    """Serve the page until told to stop."""
    from amused_lite.extras import require_extra

    if args.history and args.no_history:
        raise ValueError("--history and --no-history exclude each other; leave one out")
    if args.port > 65535:
        raise ValueError(f"port must be 0 to 65535, got {args.port}")
    require_extra("demo", "the page", "gradio", "fastapi", "uvicorn", "multipart")

    from . import access as access_rules
    from . import engine as engines
    from . import history as histories
    from . import jobs, server

    access = access_rules.make_access(args.host, args.token, args.cors, args.allow_host)
    history = None if args.no_history else histories.History(args.history or histories.default_folder())
    bound = server.listen(args.host, args.port)
    with bound, tempfile.TemporaryDirectory(prefix="amused-lite-") as scratch:
        os.environ["GRADIO_TEMP_DIR"] = scratch  # what is uploaded goes with the server
        picture_filter = None
        if args.filter:
            from .demo_filter import PictureFilter

            picture_filter = PictureFilter.open(args.filter, args.filter_threshold)
        engine = engines.Engine(
            args.model or ["tiny"], args.adapter, args.runtime, args.threads, args.queue, history, args.models_open
        )
        warm = engine.warm_up()  # meanwhile gradio is imported
        from .demo import mount
        from .demo_desk import Desk

        styles = args.styles or (
            Path(scratch) / "styles" if args.no_history else histories.default_folder().parent / "styles"
        )
        desk = Desk(engine, styles, picture_filter, args.threads, scratch=Path(scratch))
        desk.offer_styles()
        app = mount(server.build_app(engine, access), desk)
        try:
            warm.wait()
        except jobs.JobError as error:
            raise ValueError(str(error)) from error
        address = server.address(bound)
        print(f"listening at {address}", flush=True)
        if access.token and args.token is None:
            print(f"token: {access.token}", flush=True)
        kept = "no pictures are kept" if history is None else f"pictures are kept in {history.folder}"
        print(kept, file=sys.stderr)
        if not args.no_browser:
            page = f"{address}/?token={access.token}" if access.token else address
            threading.Timer(0.5, webbrowser.open, [page]).start()
        try:
            server.serve(app, engine, bound)
        finally:
            desk.close()
    return 0
