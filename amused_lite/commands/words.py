"""`amused-lite words`: what a model that knows few words can draw."""

import argparse
import textwrap

from amused_lite.console.arguments import named
from amused_lite.console.terminal import printable

_EXAMPLES = """\
examples:
  amused-lite words                                 everything that the bundled model was taught
  amused-lite words "a cat on a skateboard"         which of these words mean nothing to it
  amused-lite words --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `words`."""
    parser.description = "List what a model can draw, or say which words of a sentence it never learned."
    parser.epilog = _EXAMPLES
    parser.add_argument("sentence", nargs="?", metavar="SENTENCE", help="a prompt to look over; in quotes")
    parser.add_argument("-m", "--model", type=named, default="tiny", metavar="MODEL", help="which model (tiny)")
    parser.add_argument("--json", action="store_true", help="every way to say each, as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the words, or what is wrong with a sentence."""
    import json

    from amused_lite.runtimes.open import find_model
    from amused_lite.vocabulary import OFFERED, Vocabulary

    vocabulary = Vocabulary.of(find_model(args.model))
    if vocabulary is None:
        raise ValueError(f"{args.model} brings no list of its words: it was taught more than can be listed; just try")
    if args.sentence is not None:
        unknown = {word: vocabulary.nearest(word) for word in vocabulary.unknown(args.sentence)}
        said = vocabulary.remark(args.sentence) or "every word of it is known"
        print(json.dumps({"unknown": unknown}) if args.json else printable(said))
        return 0
    if args.json:
        print(json.dumps(vocabulary.groups))
        return 0
    for group in [*OFFERED, *(group for group in vocabulary.groups if group not in (*OFFERED, "other"))]:
        said = ", ".join(vocabulary.offered(group))
        print(f"{group}:\n{textwrap.fill(printable(said), 100, initial_indent='  ', subsequent_indent='  ')}")
    return 0
