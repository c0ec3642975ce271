"""The models and adapters that the engine offers: opened when first asked for, the latest few kept open."""

import gc
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from amused_lite.adapters.file import load_adapter
from amused_lite.adapters.lora import parse_weighted_adapter
from amused_lite.bundle import MANIFEST, open_bundle
from amused_lite.pipeline import AmusedPipeline
from amused_lite.runtimes.open import BUNDLED, check_runtime, find_model, find_prepared
from amused_lite.system.paths import as_path


class ModelKey(NamedTuple):
    """A model as a request names it."""

    model: str
    runtime: str = "auto"
    adapters: tuple[tuple[str, float], ...] = ()


@dataclass(eq=False)
class LoadedModel:
    """A model that is ready, and its colours for previews: (K, 3) uint8, None where there are none (yet)."""

    amused: AmusedPipeline
    colours: np.ndarray | None
    finder: "ColourTableBuilder | None" = None  # finds colours in idle moments where the model brought none


class ModelCache:
    """Offered models by name, and those that are open. What is offered may change from any thread."""

    def __init__(
        self,
        models: Iterable[str | Path] = (BUNDLED,),
        adapters: Iterable[str | Path] = (),
        threads: int | None = None,
        most: int = 2,
        device: str = "auto",
    ) -> None:
        """most: how many stay open at a time, the last used; each holds its weights in memory."""
        self.models: dict[str, str | Path] = {}
        self.adapters: dict[str, Path] = {}
        self._threads, self._most, self._device = threads, most, device
        self._opened: OrderedDict[ModelKey, LoadedModel] = OrderedDict()
        for model in models:
            self.offer_model(model)
        for adapter in adapters:
            self.offer_adapter(adapter)

    def offer_model(self, model: str | Path, name: str | None = None) -> str:
        """Offer "tiny", a folder or a hub id, and return its name: a folder goes by its last part.

        Raises:
            ValueError: another model has this name.
        """
        is_folder = isinstance(model, Path) or as_path(model).is_dir()
        name = name or (as_path(model).resolve().name if is_folder and model != BUNDLED else str(model))
        _claim(self.models, name, model, "model")
        return name

    def offer_adapter(self, path: str | Path, name: str | None = None) -> str:
        """Offer an adapter file, and return its name: the file's, without the suffix.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no adapter, or another one has this name.
        """
        place = as_path(path).resolve()
        if not place.exists():
            raise FileNotFoundError(f"adapter {place} is not there; give a file that amused-lite style wrote")
        load_adapter(place)  # says what is wrong with it, before anyone asks for it
        name = name or place.stem
        _claim(self.adapters, name, place, "adapter")
        return name

    def check(self, model: str | None, runtime: str, adapters: Iterable[tuple[str, float]]) -> ModelKey:
        """What a request means, by name.

        Raises:
            ValueError: something of it is not offered, or a weight is out of range.
        """
        model = model or next(iter(self.models))
        if model not in self.models:
            raise ValueError(f"model {model[:80]!r} is not offered here; choose one of {', '.join(self.models)}")
        check_runtime(runtime)
        chosen = tuple(sorted((name, float(weight)) for name, weight in adapters))
        for name, weight in chosen:
            if name not in self.adapters:
                known = ", ".join(self.adapters) or "none are"
                raise ValueError(f"adapter {name[:80]!r} is not offered here; choose one of: {known}")
            parse_weighted_adapter(f"{name}:{weight}")
        if len({name for name, _ in chosen}) < len(chosen):
            raise ValueError("an adapter is named twice; give each once")
        return ModelKey(model, runtime, chosen)

    def open(self, choice: ModelKey) -> LoadedModel:
        """The model, opened if it is not. Only the worker calls this.

        Raises:
            whatever `AmusedPipeline.open` raises.
        """
        if choice in self._opened:
            self._opened.move_to_end(choice)
            return self._opened[choice]
        while len(self._opened) >= self._most:  # first, so that there is room
            self._opened.popitem(last=False)
            gc.collect()
        model = self.models[choice.model]
        adapters = [f"{self.adapters[name]}:{weight:g}" for name, weight in choice.adapters]
        amused = AmusedPipeline.open(
            model, choice.runtime, self._threads, keep_loaded=True, adapters=adapters, device=self._device
        )
        colours = _colours(model, choice.runtime)
        opened = LoadedModel(amused, colours, None if colours is not None else ColourTableBuilder(amused))
        self._opened[choice] = opened
        return opened

    def forget(self, choice: ModelKey) -> None:
        """Open it anew next time."""
        self._opened.pop(choice, None)

    def close(self) -> None:
        """Close all models."""
        self._opened.clear()

    def improve(self) -> bool:
        """Decode one part of a missing colour table, for idle moments; returns whether there is more to do."""
        for opened in self._opened.values():
            if opened.finder is not None:
                opened.colours = opened.finder.advance()
                if opened.colours is not None:
                    opened.finder = None
                return True
        return False


def _claim(offered: dict[str, Path] | dict[str, str | Path], name: str, place: str | Path, what: str) -> None:
    if name in offered and offered[name] != place:
        raise ValueError(f"two {what}s are called {name!r}: {offered[name]} and {place}; rename one")
    offered[name] = place  # type: ignore[assignment]  # each caller gives what its table holds


def _colours(model: str | Path, runtime: str) -> np.ndarray | None:
    folder = find_prepared(model, runtime) or find_model(model)
    return open_bundle(folder).colours() if (folder / MANIFEST).is_file() else None


class ColourTableBuilder:
    """The mean colour of every code, for a model that brings no table: decoded in pictures of 2x2 patches of each."""

    _PATCH = 2  # tokens a side; a code alone among others takes on their colours

    def __init__(self, amused: AmusedPipeline) -> None:
        self._amused = amused
        config = amused.runtime.config
        self._across = config.uvit.grid // self._PATCH
        self._colours = np.zeros((config.uvit.codebook_size, 3), np.uint8)
        self._done = 0

    def advance(self) -> np.ndarray | None:
        """Decode one more picture; the table (K, 3) uint8 when it is complete."""
        count, across, codebook = self._across**2, self._across, len(self._colours)
        codes = np.arange(self._done, self._done + count).clip(max=codebook - 1)
        patches = codes.reshape(across, across).repeat(self._PATCH, 0).repeat(self._PATCH, 1)
        grid = self._amused.runtime.config.uvit.grid
        tokens = np.pad(patches, (0, grid - len(patches)), mode="edge")
        image = np.asarray(self._amused.decode(tokens.ravel()), np.float32)
        cell = len(image) // grid * self._PATCH
        shown = image[: across * cell, : across * cell].reshape(across, cell, across, cell, 3).mean((1, 3))
        taken = codes[: codebook - self._done]
        self._colours[taken] = np.rint(shown.reshape(-1, 3)[: len(taken)])
        self._done += count
        return self._colours if self._done >= codebook else None
