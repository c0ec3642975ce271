"""`amused-lite demo`: the page in a browser, and the server's endpoints beside it."""

import argparse
import os
import sys
import tempfile
import threading
import webbrowser
from pathlib import Path

from amused_lite.console.arguments import check_folder, number, path

from ..server.command import access_of, add_server_flags, announce, await_model, check_server_flags, make_engine

_EXAMPLES = """\
examples:
  amused-lite demo
      opens http://127.0.0.1:7860 in your browser; pictures are kept in your data folder
  amused-lite demo --host 0.0.0.0
      for the phones in your network: "on a phone" shows a code for their camera, and they draw by themselves
  amused-lite demo --no-history
      writes nothing to the disk, and learns no styles
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
    add_server_flags(parser)
    parser.add_argument("--no-browser", action="store_true", help="do not open one")
    parser.add_argument("--history", metavar="FOLDER", help="where pictures are kept (in your data folder)")
    parser.add_argument(
        "--no-history", action="store_true", help="write nothing to the disk: no pictures, and no styles are learned"
    )
    parser.add_argument("--styles", type=path, metavar="FOLDER", help="where trained styles go (in your data folder)")
    unfit = parser.add_argument_group("responsible use")
    unfit.add_argument("--filter", metavar="ARCH:FILE", help="an open_clip model that blurs unfit pictures (off)")
    unfit.add_argument(
        "--filter-threshold", type=number(0, 1), default=0.5, metavar="T", help="blur from this score on (0.5)"
    )


def run(args: argparse.Namespace) -> int:
    """Serve the page until told to stop."""
    from amused_lite.system.extras import require_extra

    check_server_flags(args)
    require_extra("demo", "the page", "gradio", "fastapi", "segno", "uvicorn", "multipart", "prometheus_client")

    from ..engine import history as histories
    from ..server import app as server
    from ..server.access import is_loopback

    access = access_of(args)
    styles = args.styles or histories.default_folder().parent / "styles"
    check_folder(styles)
    history = None if args.no_history else histories.History(args.history or histories.default_folder())
    bound = server.listen(args.host, args.port)
    with bound, tempfile.TemporaryDirectory(prefix="amused-lite-") as scratch:
        os.environ["GRADIO_TEMP_DIR"] = scratch  # in which gradio makes an empty folder when it is imported
        os.environ.setdefault("MPLCONFIGDIR", scratch)  # gradio imports matplotlib, which would write a cache of fonts
        os.environ.setdefault("MPLBACKEND", "agg")
        picture_filter = None
        if args.filter:
            from .picture_filter import PictureFilter

            picture_filter = PictureFilter.open(args.filter, args.filter_threshold)
        engine = make_engine(args, access, history)
        warm = engine.warm_up()  # meanwhile gradio is imported
        from .app_state import AppState
        from .page import mount
        from .phone import add_phone_page

        app_state = AppState(engine, styles, picture_filter, args.threads, scratch=Path(scratch))
        app_state.offer_styles()
        app_state.take_up()
        app = server.build_app(engine, access, args.access_log)
        has_phone = False
        if not is_loopback(args.host) and history is not None:  # a phone can come here, and a folder may be written
            model = next(iter(engine.model_cache.models.values()))
            has_phone = add_phone_page(app, model, Path(scratch) / "phone", access)
        app = mount(app, app_state, has_phone)
        await_model(warm)
        app_state.draw_example()
        announce(bound, access)
        kept = "no pictures are kept" if history is None else f"pictures are kept in {history.folder}"
        print(kept, file=sys.stderr)
        if not args.no_browser:
            address = server.address(bound)
            page = f"{address}/?token={access.token}" if access.token else address
            threading.Timer(0.5, webbrowser.open, [page]).start()
        try:
            server.serve(app, engine, bound)
        finally:
            app_state.close()
    return 0
