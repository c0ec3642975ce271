"""The question before a model is prepared, for the commands that may be the first to use it."""

import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from amused_lite.bundle import MANIFEST
from amused_lite.installed import find_installed, models_folder, place_of, source_name
from amused_lite.prepare.plan import Plan, ReadyError, make_plan
from amused_lite.runtimes.devices import PUBLISHED, choose_device
from amused_lite.runtimes.open import BUNDLED, is_hub_id
from amused_lite.system.extras import MissingExtraError
from amused_lite.system.paths import as_path


def prepare_first(
    models: Sequence[str | Path | None], runtime: str, yes: bool, threads: int | None = None, device: str = "auto"
) -> None:
    """Prepare the models among these that are not prepared yet, where `yes` is said or a person at a terminal says so.

    Otherwise they open as they are. Each is asked about once.

    Raises:
        whatever `make_plan` and `prepare` raise, where it is wanted.
    """
    for model in models:
        if model is None or runtime not in ("auto", "onnx") or not _can_be_prepared(model):
            continue
        asked = models_folder() / ".asked" / place_of(source_name(model), 8, "onnx").name
        if not yes and (asked.exists() or not (sys.stdin.isatty() and sys.stderr.isatty())):
            continue
        if runtime == "auto" and _is_fast_as_published(device):
            continue
        try:
            plan = make_plan(str(model))
        except ReadyError:
            continue
        except (MissingExtraError, ConnectionError, ValueError) as error:
            if yes:
                raise
            print(f"amused-lite: {model} is not prepared, and slow as it is: {error}", file=sys.stderr)
            continue
        show(plan)
        if yes or agreed():
            from amused_lite.prepare.stages import prepare

            prepare(plan, threads)
        else:
            asked.parent.mkdir(parents=True, exist_ok=True)
            asked.touch()
            print(f"amused-lite: as it is, then; later: amused-lite pull {model}", file=sys.stderr)


def show(plan: Plan) -> None:
    """Print a plan to stderr, where progress goes too."""
    print(f"{plan.model}, prepared for this machine:", file=sys.stderr)
    for line in plan.lines():
        print(f"  {line}", file=sys.stderr)


def agreed() -> bool:
    """Whether a person at the terminal says yes, which Enter does too."""
    print("Go on? [Y/n] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()  # without its newline where the terminal was closed
    return answer.endswith("\n") and answer.strip().lower() in ("", "y", "yes")


def _is_fast_as_published(device: str) -> bool:
    """Whether torch computes on a device of its own, for which nothing is prepared."""
    if device == "auto" and find_spec("torch") and shutil.which("nvidia-smi"):  # or torch is imported for nothing
        device = choose_device("torch")[0]
    return device in PUBLISHED


def _can_be_prepared(model: str | Path) -> bool:
    if model == BUNDLED or find_installed(model) is not None:
        return False
    folder = as_path(model)
    return is_hub_id(model) or ((folder / "model_index.json").is_file() and not (folder / MANIFEST).is_file())
