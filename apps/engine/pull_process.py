"""A model is prepared in a process of its own, so that nobody waits for it: `python -m ... MODEL [THREADS]`.

It says how it goes in lines of JSON on stdout. Stopped anywhere, the next one goes on from there; see `stages`.
"""

import json
import os
import sys
from typing import Any


def main(model: str, threads: str = "") -> int:
    """Prepare a model as `amused-lite pull` does; returns the exit code."""
    from amused_lite.prepare.plan import make_plan
    from amused_lite.prepare.stages import prepare

    if hasattr(os, "nice"):
        os.nice(5)  # pictures come first
    try:
        plan = make_plan(model)
        if not plan.is_done:
            prepare(
                plan, int(threads) if threads else None, lambda what, share: _say("working", what=what, share=share)
            )
        _say("done", model=plan.model)
    except KeyboardInterrupt:
        _say("cancelled")
        return 130
    except (ValueError, OSError, ImportError, MemoryError) as error:
        _say("failed", error=str(error) or type(error).__name__)
        return 2
    return 0


def _say(state: str, **values: Any) -> None:
    print(json.dumps({"state": state, **values}), flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
