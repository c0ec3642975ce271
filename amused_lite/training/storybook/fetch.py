"""Fetch the openly licensed drawings that the storybook world is made of, from the npm registry.

    python -m amused_lite.training.storybook.fetch runs/storybook

Each set of drawings is one JSON file of SVG bodies, as Iconify packs them. A set that is there is not fetched again,
and a fetch that was interrupted goes on with the sets that are missing. Where npm is installed it does the fetching,
with the registry and the proxy it is set up for; elsewhere the registry named by npm_config_registry is asked.

Nothing is used whose hash is not the one in sets.py, and of a package nothing is read but its `icons.json`.
"""

import argparse
import base64
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from amused_lite.console.errors import guard
from amused_lite.files.atomic import unfinished
from amused_lite.training.storybook.drawings.sets import FOLDER, HELD_OUT, SETS, DrawingSet

_MEMBER = "package/icons.json"
_PACKED_LIMIT, _LIMIT = 32 * 2**20, 64 * 2**20  # bytes of a package and of its icons.json
_SECONDS = 300  # for one set


def fetch(folder: Path, sets: Iterable[DrawingSet] = SETS, say: Callable[[str], None] = print) -> None:
    """Bring the sets that are not in the folder yet, one after the other.

    Raises:
        ValueError: what the registry sent is not the package of the hash above.
        OSError: there is no network or no such package, or the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for drawings in sets:
        there = drawings.is_in(folder)
        if not there:
            data = _icons(drawings, _package(drawings))
            with unfinished(drawings.file(folder)) as partial:
                partial.write_bytes(data)
                partial.replace(drawings.file(folder))
        say(f"{drawings.hand}: {drawings.title}, {drawings.licence}, {'is here' if there else 'fetched'}")


def _package(drawings: DrawingSet) -> bytes:
    """The package as the registry sends it, of the right hash."""
    fetcher = _with_npm if shutil.which("npm") else _directly
    packed = fetcher(drawings)
    found = base64.b64encode(hashlib.sha512(packed).digest()).decode()
    if found != drawings.sha512:
        raise ValueError(
            f"{drawings.package}@{drawings.version} has sha512 {found[:12]}..., expected {drawings.sha512[:12]}...; "
            "look at the registry that npm is set up for, then run this again"
        )
    return packed


def _with_npm(drawings: DrawingSet) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        npm = shutil.which("npm") or "npm"
        command = [
            npm,
            "pack",
            f"{drawings.package}@{drawings.version}",
            "--ignore-scripts",
            "--pack-destination",
            scratch,
        ]
        command += ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
        try:
            run = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            raise _unreachable(drawings, f"npm took more than {_SECONDS} s") from None
        if run.returncode:
            raise _unreachable(drawings, _npm_reason(run.stderr))
        (file,) = Path(scratch).glob("*.tgz")
        if file.stat().st_size > _PACKED_LIMIT:
            raise _too_large(drawings, _PACKED_LIMIT)
        return file.read_bytes()


def _npm_reason(printed: str) -> str:
    """The line of npm's many that says what is wrong."""
    lines = [line.removeprefix("npm error ") for line in printed.splitlines() if line.startswith("npm error ")]
    return next((line for line in lines if not line.startswith(("code ", "errno ", "syscall "))), "npm failed")


def _directly(drawings: DrawingSet) -> bytes:
    registry = os.environ.get("npm_config_registry") or os.environ.get("NPM_CONFIG_REGISTRY")
    if not registry:
        raise ValueError(
            f"cannot fetch {drawings.package}: npm is not installed and npm_config_registry names no registry; "
            "install npm, or set npm_config_registry to a registry's address, then run this again"
        )
    if not registry.startswith(("https://", "http://")):
        raise ValueError(f"the npm registry is {registry!r}, expected an address that begins with https://")
    name = drawings.package.rpartition("/")[2]
    address = f"{registry.rstrip('/')}/{drawings.package}/-/{name}-{drawings.version}.tgz"
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            packed = answer.read(_PACKED_LIMIT + 1)
    except OSError as error:
        raise _unreachable(drawings, str(getattr(error, "reason", error))) from error
    if len(packed) > _PACKED_LIMIT:
        raise _too_large(drawings, _PACKED_LIMIT)
    return packed


def _unreachable(drawings: DrawingSet, reason: str) -> OSError:
    return OSError(
        f"cannot fetch {drawings.package}@{drawings.version} ({reason}); look at the network, then run this again: "
        "sets that are complete are not fetched twice"
    )


def _too_large(drawings: DrawingSet, limit: int) -> ValueError:
    return ValueError(f"{drawings.package}@{drawings.version} is larger than {limit // 2**20} MiB; nothing was kept")


def _icons(drawings: DrawingSet, packed: bytes) -> bytes:
    """The one file that is wanted of a package; nothing is unpacked to disk."""
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        for member in archive:
            if member.name == _MEMBER and member.isfile():
                if member.size > _LIMIT:
                    raise _too_large(drawings, _LIMIT)
                file = archive.extractfile(member)
                data = file.read() if file else b""
                break
        else:
            raise ValueError(f"{drawings.package}@{drawings.version} has no {_MEMBER}; nothing was kept")
    if hashlib.sha256(data).hexdigest() != drawings.sha256:
        raise ValueError(f"{drawings.package}@{drawings.version} has another {_MEMBER} than expected; nothing was kept")
    return data


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch what is missing; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER, help=f"where they are kept ({FOLDER})")
    parser.add_argument("--held-out", action="store_true", help="the hands of the style tests as well")
    chosen = parser.parse_args(arguments)
    fetch(chosen.folder, SETS + HELD_OUT if chosen.held_out else SETS)
    return 0


if __name__ == "__main__":
    sys.exit(guard(main))
