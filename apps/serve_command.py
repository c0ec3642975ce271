"""`amused-lite serve`: pictures for other programs, over HTTP."""

import argparse
import socket
import sys
from typing import TYPE_CHECKING

from amused_lite.commands.flags import named, threads, whole

if TYPE_CHECKING:
    from .access import Access
    from .engine import Engine
    from .history import History
    from .jobs import Job

_EXAMPLES = """\
examples:
  amused-lite serve
      http://127.0.0.1:7860, for this machine only
  curl http://127.0.0.1:7860/v1/images/generations -H 'content-type: application/json' \\
       -d '{"prompt": "a red balloon above a blue house", "seed": 7, "steps": 12}'
      a picture by OpenAI's endpoint; their client works with base_url="http://127.0.0.1:7860/v1"
  amused-lite serve -m tiny -m amused/amused-512 --adapter blueprint.safetensors
      two models and a style that requests may name; the first model is the default
  amused-lite serve --host 0.0.0.0
      for other machines too: a token is made and printed, and every request must bring it
  amused-lite serve --history pictures/
      keep every picture, with its recipe, in a folder

Programs written for A1111's web interface find it at /sdapi/v1. docs/server.md has every endpoint with an example,
/openapi.json describes them all. Ctrl-C or SIGTERM finishes the running picture, refuses the others, and ends.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.description = "Serve pictures to other programs, in the dialects of OpenAI and of A1111, and as jobs."
    parser.epilog = _EXAMPLES
    add_server_flags(parser)
    parser.add_argument("--history", nargs="?", const="", metavar="FOLDER", help="keep pictures (in your data folder)")
    parser.add_argument("--no-history", action="store_true", help="write nothing to the disk; the default")


def add_server_flags(parser: argparse.ArgumentParser) -> None:
    """What `serve` and `demo` have in common: where, which models, and who may."""
    parser.add_argument("--host", default="127.0.0.1", metavar="HOST", help="address to listen at (127.0.0.1)")
    parser.add_argument(
        "--port", type=whole(0, 65_535), default=7860, metavar="N", help="0 takes any that is free (7860)"
    )
    parser.add_argument("--queue", type=whole(1), default=32, metavar="N", help="requests that may wait (32)")
    engine = parser.add_argument_group("models and engine")
    engine.add_argument(
        "-m",
        "--model",
        type=named,
        action="append",
        metavar="MODEL",
        help="what may be asked for; may be repeated (tiny)",
    )
    engine.add_argument(
        "--adapter", type=named, action="append", default=[], metavar="FILE", help="a style; may be repeated"
    )
    engine.add_argument("--runtime", type=named, default="auto", metavar="NAME", help="where none is asked for (auto)")
    engine.add_argument("--threads", type=threads, metavar="N", help="processor threads (all)")
    engine.add_argument("--models-open", type=whole(1), default=2, metavar="N", help="models kept in memory (2)")
    safety = parser.add_argument_group("who may use it")
    safety.add_argument("--token", metavar="TEXT", help="every request must bring it (made for you with another host)")
    safety.add_argument("--cors", action="append", default=[], metavar="ORIGIN", help="a page that may use it; repeats")
    safety.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="a name it is called by")


def check_server_flags(args: argparse.Namespace) -> None:
    """Raise ValueError where flags contradict each other or are out of range."""
    if args.history is not None and args.no_history:
        raise ValueError("--history and --no-history exclude each other; leave one out")


def make_engine(args: argparse.Namespace, history: "History | None") -> "Engine":
    """The engine that the flags ask for."""
    from .engine import Engine

    models = args.model or ["tiny"]
    return Engine(models, args.adapter, args.runtime, args.threads, args.queue, history, args.models_open)


def await_model(warm: "Job") -> None:
    """Wait for `Engine.warm_up`: it finds out what is wrong with the model, and spares the first request the wait.

    Raises:
        ValueError: the model cannot be used.
    """
    from .faults import JobError

    try:
        warm.wait()
    except JobError as error:
        raise ValueError(str(error)) from error


def announce(bound: socket.socket, access: "Access", given: str | None) -> None:
    """Print the address, and the token where it was made and not given."""
    from .server import address

    print(f"listening at {address(bound)}", flush=True)
    if access.token and given is None:
        print(f"token: {access.token}", flush=True)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    from amused_lite.extras import require_extra

    check_server_flags(args)
    require_extra("demo", "the server", "fastapi", "uvicorn", "multipart")

    from .access import make_access
    from .history import History, default_folder
    from .server import build_app, listen, serve

    access = make_access(args.host, args.token, args.cors, args.allow_host)
    history = None if args.history is None else History(args.history or default_folder())
    bound = listen(args.host, args.port)
    with bound:
        engine = make_engine(args, history)
        await_model(engine.warm_up())
        announce(bound, access, args.token)
        if history is not None:
            print(f"pictures are kept in {history.folder}", file=sys.stderr)
        serve(build_app(engine, access), engine, bound)
    return 0
