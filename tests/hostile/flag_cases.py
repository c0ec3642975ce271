"""Bad words on the command line, out of the commands' own parsers, and some made by hand."""

import argparse
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import good
from case import Case, nothing, picture
from PIL import Image

from amused_lite import cli


def _values_for(action: argparse.Action) -> list[str]:
    """Words that a flag must refuse, by its declared type."""
    kind = getattr(action.type, "__qualname__", "")
    if action.choices:
        return ["nonsense", "", "\x1b[31mred"]
    if action.type in (int, float) or kind.startswith(("whole", "number")):
        wrong = ["", "x", "1e", "--", "\x1b[2J", "9" * 5000 + "x"]
        return wrong + (["-1" if "least" in kind else "nine", "9" * 4000] if kind.startswith("whole") else [])
    if kind == "named":
        return ["", "   "]
    if kind == "path":
        return ["", "~nosuchuser/x"]
    if kind == "present":
        return ["", "~nosuchuser/x", "not-there", "a" * 300, "x\x1b[31m"]
    return []


def flags() -> Iterator[Case]:
    """Wrong words for every flag and argument of every command, and flags that are none."""
    for command in cli.COMMANDS:
        parser = cli._parser(command)
        (subs,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        chosen = subs.choices[command]
        inner = [action for action in chosen._actions if isinstance(action, argparse._SubParsersAction)]
        parsers = inner[0].choices.items() if inner else [("", chosen)]
        for sub, parser in parsers:
            first = [action.default for action in parser._actions if action.choices and action.nargs == "?"]
            start = [command, *([sub] if sub else first)]
            places = [action for action in parser._actions if not action.option_strings and action.nargs != "?"]
            for action in parser._actions:
                for number, value in enumerate(_values_for(action)):
                    if action.option_strings:
                        flag = action.option_strings[-1]
                        words = [*start, *("a.png" for _ in places), f"{flag}={value}"]
                        yield Case(f"{' '.join(start)} {flag} {number}", words, picture, (flag,))
                    elif action in places:
                        words = [*start, *(value if place is action else "a.png" for place in places)]
                        says = str(action.metavar or action.dest)
                        if value != "--":
                            yield Case(f"{' '.join(start)} {says} {number}", words, picture, (says,))
            for word in ("--nonsense", "-Z", "--\x1b[31m"):
                words = [*start, *("a.png" for _ in places), word]
                name = "nonsense" if word == "--nonsense" else re.sub(r"\W", "", word)
                yield Case(f"{' '.join(start)} unknown {name}", words, picture, ("",))


def by_hand() -> Iterator[Case]:
    """What no declaration says."""

    def text(folder: Path, file: str, said: str = "hello") -> None:
        picture(folder)
        (folder / file).write_text(said)

    eps = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\nshowpage\n"
    for command in (("show",), ("verify",), ("tokens",), ("vary",), ("outpaint",), ("reroll",), ("generate", "--from")):
        for name, said in {"eps": eps, "text": "hello", "empty": "", "zeros": "\0" * 500}.items():
            prepare = partial(text, file="e.png", said=said)
            yield Case(f"{' '.join(command)} a picture that is {name}", (*command, "e.png"), prepare, ("e.png",))
        yield Case(f"{' '.join(command)} nothing", (*command, "not-there.png"), nothing, ("not-there.png",))
        yield Case(f"{' '.join(command)} a folder", (*command, "."), nothing, (".",))
        yield Case(f"{' '.join(command)} a long name", (*command, "n" * 300), nothing, ("nnn",))
        yield Case(f"{' '.join(command)} an escape", (*command, "x\x1b[31m\x07.png"), nothing, (r"\x1b[31m",))
    words = ("style", "train", "e.png", "--style", "x", "--caption", "a")
    yield Case("style train an eps", words, partial(text, file="e.png", said=eps), ("e.png",))
    for option in ("--steps", "--guidance-scale", "--token-temperature", "--top-k", "--top-p", "--refine"):
        for value in ("-1", "nan", "1e400", "9" * 30):
            for command in (("generate", "x"), ("vary", "a.png", "x"), ("video", "x"), ("evaluate",)):
                says = option.strip("-").replace("-", "_") if value not in ("nan", "1e400") else ""
                yield Case(f"{command[0]} {option} {value}", (*command, f"{option}={value}"), picture, (says[:4],))
    for value in ("0", "a", "", "1,2,x", "-1,5", "99999999", ",", "1,,2"):
        yield Case(f"distil widths {value}", ("distil", "tiny", "out", f"--widths={value}"), nothing, ("widths",))
    yield from _found_by_fresh_eyes()
    for model in (
        "~nosuchuser/x",
        "a.png",
        "no/such/thing/here",
        "x.ckpt",
        ".",
        "\x1b[31m",
        "y" * 400,
        "nobody/nothing",
    ):
        for command in (("generate", "x", "-m"), ("quantize",), ("verify", "r.png", "-m"), ("train", "runs", "--from")):
            words = [*command, model, *(["out"] if command == ("quantize",) else [])]
            yield Case(f"{command[0]} model {model[:14]!r}", words, _with_recipe, ("",))


def _found_by_fresh_eyes() -> Iterator[Case]:
    """What earlier versions said late, with another file's name or with a traceback."""

    def masked(folder: Path, grey: int) -> None:
        picture(folder)
        Image.new("L", (32, 32), grey).save(folder / "m.png")

    for command in (("inpaint", "a.png", "m.png", "x"), ("vary", "a.png", "x", "--lock", "m.png")):
        for grey in (0, 255):
            yield Case(f"{command[0]} mask of {grey}", command, partial(masked, grey=grey), ("m.png", "mask"))
    for server in (("serve",), ("demo", "--no-browser")):
        words = (*server, "--port", "0", "--adapter", "a.png")
        yield Case(f"{server[0]} adapter that is a picture", words, picture, ("a.png",))
    yield Case("demo styles in a file", ("demo", "--no-browser", "--styles", "a.png"), picture, ("a.png",))
    for out in ("x.txt", "a.png/x.md"):
        yield Case(f"bench out {out}", ("bench", "tiny", "--out", out), picture, (out.partition("/")[0],))
    for runtime in ("torch:", "auto:"):
        yield Case(f"runtime {runtime}", ("generate", "x", "--runtime", runtime), nothing, (runtime,))
    learn = ("style", "train", "a.png", "--style", "x", "--out", "s.safetensors")
    for name, words in {
        "caption": ("--caption", "y" * 6000),
        "caption half a letter": ("--caption", "y\udcff"),
        "prior": ("--caption", "a", "--prior-prompt", ""),
        "sample": ("--caption", "a", "--sample-prompt", "y" * 6000),
    }.items():
        yield Case(f"style train {name}", (*learn, *words), _large, ("prompt",))
    yield Case("verify half a record", ("verify", "r.png"), _with_recipe, ("r.png", "locked"))
    yield Case("a file that cannot be read", ("show", "/proc/self/mem"), nothing, ("/proc/self/mem",))
    missing = ("train", "runs", "--stage", "tokens-256", "--small")
    yield Case("train tokens before a VQ-GAN", missing, nothing, ("vqgan",), "stage tokens-256\n")


def _large(folder: Path) -> None:
    """A picture that a style can be learned from."""
    Image.new("RGB", (256, 256)).save(folder / "a.png")


def _with_recipe(folder: Path) -> None:
    picture(folder)
    good.write_png(folder / "r.png", good.recipe())
