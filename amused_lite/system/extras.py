"""One clear message where an optional part of the installation is missing."""

from importlib.util import find_spec


class MissingExtraError(ImportError):
    """An optional dependency (extra) that is needed is not installed."""


def require_extra(extra: str, purpose: str, *modules: str) -> None:
    """Raise MissingExtraError unless every module can be found. None is imported, so this costs nothing."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        names = ", ".join(missing)
        raise MissingExtraError(f'{purpose} needs {names}, not installed here; run: pip install "amused-lite[{extra}]"')
