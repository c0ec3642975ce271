"""Print the test files of what changed since a revision: python tests/changed.py [--types] [REVISION]

amused_lite/X/name.py belongs to tests/X, apps/X and quantize to tests/apps/X and tests/quantize, and a folder without
one of its own to that of the folder above. Of these tests count the files that import the module or have its name, and
all of them where there are none. REVISION is where this branch left main unless another is named. With --types it
prints the sources whose types a change can touch: what changed, and what imports it.
"""

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("amused_lite", "apps", "quantize")


def chosen_for(path: Path) -> list[Path]:
    """The test files, relative to the repository, of one of its files; none for what is no Python."""
    if path.suffix != ".py" or path.parts[0] not in ("amused_lite", "apps", "quantize", "tests"):
        return []
    if path.parts[0] == "tests":
        folder = path.parent
        named = [path] if path.name.startswith("test_") else []
    else:
        folder = Path("tests", *path.parts[path.parts[0] == "amused_lite" : -1])
        while not (ROOT / folder).is_dir():
            folder = folder.parent
        imports = re.compile(rf"^\s*(from|import) .*\b{path.parent.name}(\.| import .*\b){path.stem}\b", re.MULTILINE)
        named = [
            file
            for file in _tests_in(folder)
            if file.stem == f"test_{path.stem}" or imports.search((ROOT / file).read_text(encoding="utf-8"))
        ]
    return named or _tests_in(folder)


def typed_for(paths: Iterable[Path]) -> list[str]:
    """The sources among these files and those that import one of them; all sources where pyproject.toml changed."""
    paths = list(paths)
    if Path("pyproject.toml") in paths:
        return [*SOURCES]
    sys.path.insert(0, str(ROOT))  # where grimp looks for packages
    graph = grimp.build_graph(*SOURCES, cache_dir=str(ROOT / ".import_linter_cache"))
    files = {module.replace(".", "/"): module for module in graph.modules}
    found = set()
    for path in paths:
        place = str(path.parent if path.name == "__init__.py" else path.with_suffix(""))
        if path.suffix == ".py" and place in files:
            found |= {files[place], *graph.find_modules_that_directly_import(files[place])}
    places = [ROOT / module.replace(".", "/") for module in sorted(found)]
    whole = [place / "__init__.py" if place.is_dir() else place.with_suffix(".py") for place in places]
    return [str(place.relative_to(ROOT)) for place in whole if place.is_file()]


def changed_files(revision: str | None = None) -> list[Path]:
    """What differs from a revision, in commits or in the folder, and is not ignored; deleted files are left out."""
    if revision is None:
        mains = ("origin/main", "main")
        known = [name for name in mains if _git("rev-parse", "--verify", "--quiet", name, check=False)]
        revision = _git("merge-base", "HEAD", known[0])[0] if known else "HEAD"
    names = [*_git("diff", "--name-only", "--diff-filter=d", revision), *_git("ls-files", "-o", "--exclude-standard")]
    return [Path(name) for name in dict.fromkeys(names)]


def _tests_in(folder: Path) -> list[Path]:
    return sorted(file.relative_to(ROOT) for file in (ROOT / folder).glob("test_*.py"))


def _git(*words: str, check: bool = True) -> list[str]:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=check).stdout.splitlines()


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--types"]
    changed = changed_files(*words[:1])
    if "--types" in sys.argv:
        print("\n".join(typed_for(changed)))
    else:
        print("\n".join(dict.fromkeys(str(file) for path in changed for file in chosen_for(path))))
