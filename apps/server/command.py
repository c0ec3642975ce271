"""`amused-lite serve`: pictures for other programs, over HTTP."""

import argparse
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from amused_lite.console.arguments import named, whole
from amused_lite.console.flags import add_machine_flags

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..engine.history import History
    from ..engine.jobs import Job
    from .access import Access

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
  amused-lite serve --forwarded-allow-ips 127.0.0.1 --token-file tokens.txt --access-log
      behind nginx or another proxy on this machine; docs/deployment.md has its configuration
  amused-lite serve --history pictures/
      keep every picture, with its recipe, in a folder

Programs written for A1111's web interface find it at /sdapi/v1. docs/server.md has every endpoint with an example,
/openapi.json describes them all. Ctrl-C, SIGTERM or SIGHUP finishes the running picture, refuses the others, and ends
with 130, 143 or 129; Ctrl-C again ends at once. AMUSED_LITE_TOKEN is a token where no flag gives one.
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
    engine.add_argument(
        "--runtime", type=named, default="auto", metavar="NAME", help="as of generate, where none is asked for (auto)"
    )
    add_machine_flags(engine)
    engine.add_argument("--models-open", type=whole(1), default=2, metavar="N", help="models kept in memory (2)")
    engine.add_argument(
        "-y", "--yes", action="store_true", help="prepare published models first, as amused-lite pull does"
    )
    safety = parser.add_argument_group("who may use it")
    safety.add_argument("--token", metavar="TEXT", help="every request must bring it (made for you with another host)")
    safety.add_argument(
        "--token-file", type=Path, metavar="FILE", help='a token, or lines of "name: token", which share the queue'
    )
    safety.add_argument(
        "--forwarded-allow-ips",
        type=lambda text: text.split(","),
        default=[],
        metavar="ADDRESSES",
        help="reverse proxies before it, whose X-Forwarded-For, -Host, -Prefix and -Proto count; makes a token needed",
    )
    safety.add_argument("--cors", action="append", default=[], metavar="ORIGIN", help="a page that may use it; repeats")
    safety.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="a name it is called by")
    parser.add_argument("--access-log", action="store_true", help="a line for every request, to stderr; no prompts")


def check_server_flags(args: argparse.Namespace) -> None:
    """Raise ValueError where flags contradict each other or are out of range."""
    if args.history is not None and args.no_history:
        raise ValueError("--history and --no-history exclude each other; leave one out")


def access_of(args: argparse.Namespace) -> "Access":
    """The rules that the flags ask for.

    Raises:
        ValueError, OSError: see `make_access` and `read_tokens`.
    """
    from .access import make_access
    from .tokens import read_tokens

    tokens = read_tokens(args.token, args.token_file)
    return make_access(args.host, tokens, args.cors, args.allow_host, args.forwarded_allow_ips)


def make_engine(args: argparse.Namespace, access: "Access", history: "History | None") -> "Engine":
    """The engine that the flags ask for; each name of a token has its share of the queue."""
    from amused_lite.prepare.ask import prepare_first

    from ..engine.engine import Engine

    prepare_first(args.model or (), args.runtime, args.yes, args.threads, args.device)
    models, owners = args.model or ["tiny"], max(1, len(access.tokens))
    kept = args.models_open
    engine = Engine(models, args.adapter, args.runtime, args.threads, args.queue, history, kept, owners, args.device)
    return engine


def await_model(warm: "Job") -> None:
    """Wait for `Engine.warm_up`: it finds out what is wrong with the model, and spares the first request the wait.

    Raises:
        ValueError: the model cannot be used.
    """
    from ..engine.errors import JobError

    try:
        warm.wait()
    except JobError as error:
        raise ValueError(str(error)) from error


def announce(bound: socket.socket, access: "Access") -> None:
    """Print the address, and the token where it was made and not given."""
    from .app import address

    print(f"listening at {address(bound)}", flush=True)
    if access.made:
        print(f"token: {access.token}", flush=True)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    from amused_lite.system.extras import require_extra

    check_server_flags(args)
    require_extra("demo", "the server", "fastapi", "uvicorn", "multipart", "prometheus_client")

    from ..engine.history import History, default_folder
    from .app import build_app, listen, serve

    access = access_of(args)
    history = None if args.history is None else History(args.history or default_folder())
    bound = listen(args.host, args.port)
    with bound:
        engine = make_engine(args, access, history)
        await_model(engine.warm_up())
        announce(bound, access)
        if history is not None:
            print(f"pictures are kept in {history.folder}", file=sys.stderr)
        serve(build_app(engine, access, args.access_log), engine, bound)
    return 0
