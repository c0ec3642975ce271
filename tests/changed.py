"""Print the test files of what changed since a revision: python tests/changed.py [REVISION]

amused_lite/X/name.py belongs to tests/X, apps/X and quantize to tests/apps/X and tests/quantize, and a folder without
one of its own to that of the folder above. Of these tests count the files that import the module or have its name, and
all of them where there are none. REVISION is where this branch left main unless another is named.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


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
    found = (file for path in changed_files(*sys.argv[1:2]) for file in chosen_for(path))
    print("\n".join(str(file) for file in dict.fromkeys(found)))
