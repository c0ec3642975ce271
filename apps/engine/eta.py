"""Estimates the seconds left of a picture from the measured seconds of a model's steps."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_MEMORY = 0.7  # of an older measurement in the running average


class Eta:
    """Running averages, in seconds: of the first step with the prompt's encoding, of a step, and of decoding."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._step: float | None = None
        self._finish: float | None = None

    @contextmanager
    def measured(self) -> Iterator[Callable[[], None]]:
        """Gives a function to call after every step of one picture."""
        laps = [time.monotonic()]

        def step_done() -> None:
            laps.append(time.monotonic())
            took = laps[-1] - laps[-2]
            if len(laps) == 2:
                self._first = _blend(self._first, took)
            else:
                self._step = _blend(self._step, took)

        yield step_done

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Around the decoding of one picture."""
        start = time.monotonic()
        yield
        self._finish = _blend(self._finish, time.monotonic() - start)

    def left(self, steps: int, each: int, more: int) -> float | None:
        """Seconds for the last `steps` of a picture and `more` pictures of `each` steps; None if not known yet."""
        step, rest = self._step or self._first, self.pictures(each, more)
        return None if step is None or rest is None else steps * step + (self._finish or 0.0) + rest

    def pictures(self, each: int, count: int) -> float | None:
        """Seconds for whole pictures of `each` steps; None if not known yet."""
        step = self._step or self._first
        if step is None:
            return None
        return count * ((self._first or step) + (each - 1) * step + (self._finish or 0.0))


def _blend(old: float | None, new: float) -> float:
    return new if old is None else _MEMORY * old + (1 - _MEMORY) * new
