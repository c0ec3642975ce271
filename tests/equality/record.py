"""Record what this version draws, edits, trains, exports and answers: python tests/equality/record.py OUT.json

Everything goes through the command line, HTTP, files and the few names in names.py, so that the same program records a
version before and after the code was moved about; compare.py then says what differs. Takes 6 minutes on one core.

    python tests/equality/record.py before.json          at one commit
    python tests/equality/record.py after.json           at another
    python tests/equality/compare.py before.json after.json
    python tests/equality/record.py part.json --only edit --only video
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before any library is loaded: sums are then added in one order

import model_cases
import names
import picture_cases
import server_cases
from command_line import run
from digests import Entry, sha

ROOT = Path(__file__).parents[2]
SOURCES = ("amused_lite", "apps", "quantize")
LIBRARIES = ("numpy", "onnxruntime", "torch", "openvino", "onnx", "onnxscript", "pillow", "tokenizers", "safetensors",
             "skia-python", "open_clip_torch")  # fmt: skip
COMMANDS = ("generate", "vary", "inpaint", "outpaint", "edit", "reroll", "show", "verify", "video", "tokens", "demo",
            "serve", "export", "bench", "quantize", "distil", "style train", "style feedback", "train",
            "evaluate")  # fmt: skip


def flags(work: Path) -> Iterator[tuple[str, Entry]]:
    """The options that every command's help lists."""
    for command in COMMANDS:
        lines = re.findall(r"^  (-.*)$", run(*command.split(), "--help"), re.MULTILINE)
        found = {flag for line in lines for flag in re.findall(r"(?:^|, )(--?[a-zA-Z][\w-]*)", line.split("  ")[0])}
        yield f"flags/{command}", {"names": sorted(found)}


SECTIONS: dict[str, Callable[[Path], Iterator[tuple[str, Entry]]]] = {
    "flags": flags,
    "generate": picture_cases.generated,
    "inside": picture_cases.looked_inside,
    "edit": picture_cases.edited,
    "video": picture_cases.filmed,
    "tokens": picture_cases.remembered,
    "adapter": picture_cases.styled,
    "python": picture_cases.by_python,
    "server": server_cases.served,
    "styles": model_cases.styles,
    "draft": model_cases.drafted,
    "quantize": model_cases.quantized,
    "openvino": model_cases.exported,
    "train": model_cases.trained,
}


def machine() -> dict[str, Any]:
    """What decides the order in which sums are added."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    name = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    found = re.search(r"^flags\s*: (.*)$", text, re.MULTILINE)
    vector = {flag for flag in (found[1].split() if found else []) if re.match(r"s?sse|avx|fma|amx|f16c", flag)}
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cpu": name[1] if name else platform.processor(),
        "flags": sorted(vector),
    }


def libraries() -> dict[str, str]:
    """Versions of what computes."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def commit() -> str:
    """The last one that touched the sources, with a plus where they were changed since."""
    git = ("git", "-C", str(ROOT))
    try:
        last = subprocess.run([*git, "log", "-1", "--format=%h", "--", *SOURCES], capture_output=True, text=True)
        changed = subprocess.run([*git, "status", "--porcelain", "--", *SOURCES], capture_output=True, text=True)
    except OSError:
        return "unknown"
    return last.stdout.strip() + ("+" if changed.stdout.strip() else "")


def record(only: list[str] | None = None) -> dict[str, Any]:
    """Run the sections, all unless some are named; returns what compare.py reads.

    What a section had before it failed is kept, the error is printed and the section is named under "failed". Ctrl-C
    skips the section that runs, and so does a second one the next.
    """
    manifest = Path(names.find_model("tiny")) / "manifest.json"
    about = {"commit": commit(), "model": sha(manifest.read_bytes()), "machine": machine(), "libraries": libraries()}
    entries: dict[str, Entry] = {}
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        picture_cases.write_sources(work)
        for name, section in SECTIONS.items():
            if only and name not in only:
                continue
            started = time.perf_counter()
            try:
                for key, entry in section(work):
                    entries[key] = plain(entry, work)
            except (Exception, KeyboardInterrupt):
                traceback.print_exc()
                failed.append(name)
            print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return {**about, "failed": failed, "entries": entries}


def plain(entry: Entry, work: Path) -> Entry:
    """The entry as JSON brings it back, without the name of the folder that was worked in."""
    return json.loads(json.dumps(entry).replace(str(work), "WORK"))


def write(recorded: dict[str, Any], path: Path) -> None:
    """One line for each entry."""
    head = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in recorded.items() if key != "entries"]
    lines = [f" {json.dumps(key)}: {json.dumps(entry)}" for key, entry in recorded["entries"].items()]
    path.write_text("{" + ",\n".join(head) + ',\n"entries": {\n' + ",\n".join(lines) + "\n}}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT.json", help="the file to write")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="a section (may be repeated)")
    args = parser.parse_args()
    if not args.out.parent.is_dir():
        parser.error(f"{args.out.parent} is no folder; give a file in one that is there")
    recorded = record(args.only)
    write(recorded, args.out)
    print(f"{args.out}  {len(recorded['entries'])} results of {recorded['commit']}")
    return 1 if recorded["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
