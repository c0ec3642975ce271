"""The `amused-lite` command: finds the subcommand and turns what a user can cause into one line and an exit code.

Knows no models. Starting must be quick, so only the chosen subcommand's module is imported.
"""

import argparse
import difflib
import pkgutil
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from amused_lite import __version__
from amused_lite.console.errors import BAD_INPUT, fail, guard

EXIT_CODES = """\
exit codes: 0 done; 1 verify found a difference; 2 bad input, or something is missing, full or broken: one line on
stderr says what; 130 stopped by Ctrl-C, 143 by SIGTERM; what was being written is removed, training goes on later"""


class Command(NamedTuple):
    """Where a subcommand lives and what it is for."""

    place: str  # a module, or MODULE:OBJECT, with `add_arguments` and `run`
    summary: str


COMMANDS = {
    "generate": Command("amused_lite.commands.generate", "make pictures from a prompt"),
    "pull": Command("amused_lite.commands.pull", "download a published model, prepared for this machine"),
    "models": Command("amused_lite.commands.models", "list, check and remove what was pulled"),
    "vary": Command("amused_lite.commands.edit:vary", "make variations of a picture, or restyle it"),
    "inpaint": Command("amused_lite.commands.edit:inpaint", "draw a marked part of a picture anew"),
    "outpaint": Command("amused_lite.commands.edit:outpaint", "draw what lies beyond a picture's edges"),
    "edit": Command("amused_lite.commands.edit:edit", "change a picture by a new prompt, without a mask"),
    "reroll": Command("amused_lite.commands.edit:reroll", "draw the least likely tokens of a picture again"),
    "words": Command("amused_lite.commands.words", "list what a model can draw, or look a sentence over"),
    "show": Command("amused_lite.commands.show", "print how a picture was made"),
    "verify": Command("amused_lite.commands.verify", "make a picture again and compare"),
    "video": Command("amused_lite.commands.video", "make a short video from prompts"),
    "tokens": Command("amused_lite.commands.tokens", "turn pictures into files below 2 KB, and back"),
    "demo": Command("amused_lite.apps.demo.command", "make pictures in your browser"),
    "web": Command("amused_lite.apps.web.command", "write a page that draws in any browser, offline"),
    "serve": Command("amused_lite.apps.server.command", "serve pictures to other programs over HTTP"),
    "export": Command("amused_lite.commands.export", "write a model for another kind of device"),
    "bench": Command("amused_lite.apps.benchmark", "measure models and runtimes side by side"),
    "quantize": Command("amused_lite.quantize.command", "write a model in 8, 6 or 4 bits"),
    "distil": Command("amused_lite.commands.training.distil", "teach a small decoder for drafts"),
    "style": Command("amused_lite.commands.training.style", "learn a style from a few pictures"),
    "tokenize": Command("amused_lite.commands.training.tokenize", "turn pictures with captions into training data"),
    "synthesize": Command("amused_lite.commands.training.synthesize", "make pictures of captions, to learn from"),
    "finetune": Command("amused_lite.commands.training.finetune", "go on training a model on pictures of your own"),
    "grow": Command("amused_lite.commands.training.grow", "make of a model one for pictures twice as large"),
    "vqgan": Command("amused_lite.commands.training.vqgan", "train a model's VQ-GAN, or its decoder, on pictures"),
    "train": Command("amused_lite.commands.training.train", "rebuild the bundled model from nothing"),
    "score": Command("amused_lite.commands.training.score", "measure pictures against captions and other pictures"),
    "evaluate": Command("amused_lite.commands.training.evaluate", "score a model on the held-out prompts"),
}


class Parser(argparse.ArgumentParser):
    """An argument parser that reports an error in one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, where to read more, and exit."""
        sys.exit(fail(f"{message}; see {self.prog} --help"))

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if action.option_strings and action.nargs is None and arg_strings == ["--"]:  # argparse would make it []
            self.error(f"argument {'/'.join(action.option_strings)}: expected a value, got '--'")
        return super()._get_values(action, arg_strings)

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)  # argparse itself would not say that it cannot be written


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
            found = pkgutil.resolve_name(command.place)
            found.add_arguments(sub)
            sub.set_defaults(run=found.run)
    return parser


def _explain_unknown(parser: Parser, command: str, unknown: Sequence[str]) -> NoReturn:
    program = f"{parser.prog} {command}"
    flags = [word for word in unknown if word.startswith("-")]
    if not flags:
        words = " ".join(unknown)
        sys.exit(fail(f"too many words: {words!r}; put the prompt in quotes, see {program} --help"))
    (actions,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    near = difflib.get_close_matches(flags[0].partition("=")[0], actions.choices[command]._option_string_actions, 1)
    hint = f"did you mean {near[0]}?" if near else f"see {program} --help"
    sys.exit(fail(f"unknown option {flags[0]}; {hint}"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 2 for bad input, 128 + N after signal N."""
    return guard(lambda: _run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(words: list[str]) -> int:
    parser = _parser(next((word for word in words if word in COMMANDS), None))
    if not words:
        parser.print_help()
        return BAD_INPUT
    args, unknown = parser.parse_known_args(words)
    if args.command is None:
        return fail(f"no command given; choose one of {', '.join(COMMANDS)}")
    if unknown:
        _explain_unknown(parser, args.command, unknown)
    code: int = args.run(args)
    return code
