"""The `amused-lite` command: finds the subcommand and turns what a user can cause into one line and an exit code.

Knows no models. Starting must be quick, so only the chosen subcommand's module is imported.
"""

import argparse
import difflib
import errno
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NamedTuple, NoReturn

from amused_lite import __version__
from amused_lite.extras import MissingExtraError
from amused_lite.terminal import LONGEST, plain_streams, printable, shortened

BAD_INPUT = 2
EXIT_CODES = """\
exit codes: 0 done; 1 verify found a difference; 2 bad input, or something is missing, full or broken: one line on
stderr says what; 130 stopped by Ctrl-C, 143 by SIGTERM; what was being written is removed, training goes on later"""


class Command(NamedTuple):
    """Where a subcommand lives and what it is for."""

    module: str
    summary: str


COMMANDS = {
    "generate": Command("amused_lite.commands.generate", "make pictures from a prompt"),
    "vary": Command("amused_lite.commands.vary", "make variations of a picture, or restyle it"),
    "inpaint": Command("amused_lite.commands.inpaint", "draw a marked part of a picture anew"),
    "outpaint": Command("amused_lite.commands.outpaint", "draw what lies beyond a picture's edges"),
    "edit": Command("amused_lite.commands.edit", "change a picture by a new prompt, without a mask"),
    "reroll": Command("amused_lite.commands.reroll", "draw the least sure parts of a picture again"),
    "show": Command("amused_lite.commands.show", "print how a picture was made"),
    "verify": Command("amused_lite.commands.verify", "make a picture again and compare"),
    "video": Command("amused_lite.commands.video", "make a short video from prompts"),
    "tokens": Command("amused_lite.commands.tokens", "turn pictures into files below 2 KB, and back"),
    "demo": Command("amused_lite.apps.demo_command", "make pictures in your browser"),
    "serve": Command("amused_lite.apps.serve_command", "serve pictures to other programs over HTTP"),
    "export": Command("amused_lite.commands.export", "write a model for another kind of device"),
    "bench": Command("amused_lite.apps.benchmark", "measure models and runtimes side by side"),
    "quantize": Command("amused_lite.commands.quantize", "write a model in 8, 6 or 4 bits"),
    "distil": Command("amused_lite.commands.distil", "teach a small decoder for drafts"),
    "style": Command("amused_lite.commands.style", "learn a look from a few pictures"),
    "train": Command("amused_lite.commands.train", "rebuild the bundled model from nothing"),
    "evaluate": Command("amused_lite.commands.evaluate", "score a model on the held-out prompts"),
}


class Parser(argparse.ArgumentParser):
    """An argument parser that reports an error in one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, where to read more, and exit."""
        sys.exit(_fail(f"{message}; see {self.prog} --help"))

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if action.option_strings and action.nargs is None and arg_strings == ["--"]:  # argparse would make it []
            self.error(f"argument {'/'.join(action.option_strings)}: expected a value, got '--'")
        return super()._get_values(action, arg_strings)

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)  # argparse itself would not say that it cannot be written


def _fail(message: str) -> int:
    start = "amused-lite: error: "
    line = printable(" ".join(message.split()))  # always one line, whatever a library put into its message
    print(start + shortened(line, LONGEST - len(start)), file=sys.stderr)
    return BAD_INPUT


def _parser(chosen: str | None) -> Parser:
    """Every subcommand by name and summary; only the chosen one with its arguments."""
    parser = Parser(
        prog="amused-lite",
        description="Text to pictures by masked image modelling, on this machine.",
        epilog=f"amused-lite COMMAND --help explains a command, with examples.\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"amused-lite {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, command in COMMANDS.items():
        sub = commands.add_parser(
            name, help=command.summary, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == chosen:
            module = importlib.import_module(command.module)
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    return parser


def _explain_unknown(parser: Parser, command: str, unknown: Sequence[str]) -> NoReturn:
    program = f"{parser.prog} {command}"
    flags = [word for word in unknown if word.startswith("-")]
    if not flags:
        words = " ".join(unknown)
        sys.exit(_fail(f"too many words: {words!r}; put the prompt in quotes, see {program} --help"))
    (actions,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    near = difflib.get_close_matches(flags[0].partition("=")[0], actions.choices[command]._option_string_actions, 1)
    hint = f"did you mean {near[0]}?" if near else f"see {program} --help"
    sys.exit(_fail(f"unknown option {flags[0]}; {hint}"))


class _Signals:
    """Turns Ctrl-C and SIGTERM into an exception, so that half-written files are removed on the way out.

    Remembers them as well: in the middle of loading a library the exception can come out as an ImportError.
    """

    def __init__(self) -> None:
        self.caught = 0
        self._when = 0.0
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup and shells' background jobs stay deaf to them
                signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if not self.caught:
            self.caught, self._when = number, time.monotonic()
            raise KeyboardInterrupt
        if time.monotonic() - self._when > _PATIENCE:  # before, what was begun is being removed
            os._exit(128 + self.caught)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 2 for bad input, 130 after Ctrl-C, 143 after SIGTERM."""
    return guard(lambda: _run(list(sys.argv[1:] if arguments is None else arguments)))


def guard(work: Callable[[], int]) -> int:
    """Do something and return its exit code; what a user can cause becomes one line, and never a traceback."""
    signals = _Signals()
    with plain_streams():
        try:
            return _flushed(work)
        except BaseException as error:
            if not signals.caught:
                if isinstance(error, OSError):
                    _drop_output()
                if isinstance(error, BrokenPipeError):
                    return BAD_INPUT
                if isinstance(error, _USER_CAUSED) or _too_large(error):
                    return _fail(_describe(error))
                raise
        # Python remembers that Ctrl-C left an exec of text, as dataclasses are made by, and would end `python -m` by
        # the signal whatever the exit code; any other text that runs makes it forget.
        eval("None")
        if signals.caught == signal.SIGINT:
            print("amused-lite: interrupted", file=sys.stderr)
        return 128 + signals.caught  # as shells report it


def _flushed(work: Callable[[], int]) -> int:
    """Do something, and find out here and not at the interpreter's end that its output cannot be written."""
    try:
        code = work()
    except SystemExit as end:  # of argparse, behind a help text or an error
        code = end.code if isinstance(end.code, int) else BAD_INPUT if end.code else 0
    sys.stdout.flush()
    return code


_PATIENCE = 3.0  # s in which further signals are not heard
_USER_CAUSED = (ValueError, OSError, MissingExtraError, MemoryError)


def _too_large(error: BaseException) -> bool:
    """Whether torch, which may not even be installed, could not get the memory it asked for."""
    return type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _run(words: list[str]) -> int:
    parser = _parser(next((word for word in words if word in COMMANDS), None))
    if not words:
        parser.print_help()
        return BAD_INPUT
    args, unknown = parser.parse_known_args(words)
    if args.command is None:
        return _fail(f"no command given; choose one of {', '.join(COMMANDS)}")
    if unknown:
        _explain_unknown(parser, args.command, unknown)
    code: int = args.run(args)
    return code


def _drop_output() -> None:
    """Forget output that cannot be written, or Python complains once more when it flushes stdout at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _describe(error: BaseException) -> str:
    if isinstance(error, MemoryError) or _too_large(error):
        return "not enough memory; close other programs or use a smaller model"
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"the name is too long for this file system: {error.filename}"
    if isinstance(error, OSError) and error.strerror:
        advice = "; check the name" if isinstance(error, FileNotFoundError | NotADirectoryError) else ""
        return f"{error.strerror}: {error.filename}{advice}" if error.filename else error.strerror
    return str(error) or type(error).__name__
