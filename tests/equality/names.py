"""The few Python names that the recording needs, by whichever name this version has them."""

from importlib import import_module
from typing import Any


def _first(*places: str) -> Any:
    """The first of these "module:name" that exists."""
    for place in places:
        module, _, name = place.partition(":")
        try:
            return getattr(import_module(module), name)
        except (ImportError, AttributeError):
            continue
    raise ImportError(f"none of {', '.join(places)} is there; add the new name to {__file__}")


main = _first("amused_lite.cli:main")
Pipeline = _first("amused_lite.pipeline:AmusedPipeline", "amused_lite.generate:Amused")
find_model = _first("amused_lite.runtimes.open:find_model", "amused_lite.bundle:find_model")
Recipe = _first("amused_lite.files.recipe:Recipe", "amused_lite.files.png:Recipe", "amused_lite.png:Recipe")
