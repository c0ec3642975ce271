"""Jobs: the state, progress and results of a request, safe to read from any thread. Knows no model and no server.

A job's lock is held for moments only, so that watching costs the worker nothing.
"""

import secrets
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from amused_lite.analysis.trace import Trace
from amused_lite.files.png import encode_png
from amused_lite.pipeline import Picture

from .errors import JobCancelledError, JobError
from .request import Request

QUEUED, RUNNING, DONE, CANCELLED, FAILED = "queued", "running", "done", "cancelled", "failed"
OVER = (DONE, CANCELLED, FAILED)
STOPPING = "the program is stopping"  # the error of a job that it ended


@dataclass(frozen=True, eq=False)
class JobResult:
    """A finished picture of a job."""

    picture: Picture
    saved: Path | None = None  # where the history put it
    trace: Trace | None = None
    text_tokens: int = 0  # that were read of the prompts

    def png(self, metadata: bool = True) -> bytes:
        """The PNG file, with the recipe in it unless that is unwanted."""
        return bytes(encode_png(self.picture.image, self.picture.recipe if metadata else None))

    def encoded(self, form: str = "png", quality: int = 90) -> bytes:
        """The file as "png", or as "jpeg" or "webp", which carry no recipe."""
        return self.png() if form == "png" else picture_bytes(self.picture.image, form, quality)


def picture_bytes(image: Image.Image, form: str, quality: int = 90) -> bytes:
    """A picture as a "png", "jpeg" or "webp" file without any text in it."""
    data = BytesIO()
    image.save(data, form.upper(), quality=quality)
    return data.getvalue()


@dataclass(frozen=True)
class Progress:
    """A snapshot of a job."""

    id: str
    operation: str
    seed: int
    count: int  # pictures asked for
    state: str = QUEUED  # "queued", "running", "done", "cancelled" or "failed"
    position: int = 0  # in the queue: 1 is next; 0 once it runs
    finished: int = 0  # pictures done
    step: int = 0  # steps done of the picture that is being drawn, and of the last one at the end
    steps: int = 0  # of that picture; 0 before its first step is over
    share: float = 0.0  # of the whole job, 0...1
    seconds: float = 0.0  # since it was asked for
    seconds_left: float | None = None  # with the wait; None where nothing is known yet
    stopped: bool = False  # someone asked to finish early
    error: str = ""  # why it failed or was cancelled
    kind: str = ""  # of a failure, see `JobError`
    remarks: tuple[str, ...] = ()  # what its owner should know, such as words that the model cannot read


class Job:
    """A request with its state, progress and results. Every method may be called from any thread."""

    def __init__(
        self,
        request: Request,
        origin: str = "",
        lease: float | None = None,
        call: Callable[..., Any] | None = None,
        owner: Hashable = None,
        id: str = "",
    ) -> None:
        """Made by the engine, see `Engine.submit`; with the id that it had in an earlier run, by the journal."""
        self.id = id or secrets.token_urlsafe(12)
        self.request = request
        self.origin = origin
        self.keep = request.keep  # may be taken back while it is drawn
        self.owner = owner
        self.lease = lease
        self.results: tuple[JobResult, ...] = ()
        self.value: Any = None  # what a call returned, see `Engine.call`
        self.call = call
        self.paint: Callable[[np.ndarray], Image.Image] | None = None  # set by the worker once it knows colours
        self.requested = ""  # "cancel" or "stop", looked at after every step
        self.reason = ""  # of a cancel
        self._sampled: np.ndarray | None = None
        self._changed = threading.Condition()
        self._version = 0
        self._callbacks: list[Callable[[], None]] = []
        self.asked = self._touched = time.monotonic()
        self._watchers = 0
        self._progress = Progress(
            id=self.id,
            operation="call" if call else request.operation,
            seed=request.seed or 0,
            count=request.count,
        )

    @property
    def state(self) -> str:
        """ "queued", "running", "done", "cancelled" or "failed"."""
        return self._progress.state

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in OVER

    def progress(self) -> Progress:
        """A snapshot; asking for it renews the lease."""
        with self._changed:
            self._touched = time.monotonic()
        return self.peek()

    def peek(self) -> Progress:
        """The same, without renewing the lease."""
        now = self._progress
        return now if now.state in OVER else replace(now, seconds=time.monotonic() - self.asked)

    def preview(self) -> Image.Image | None:
        """The picture as it forms, from the colour table; None before the first step or where there are no colours."""
        with self._changed:
            sampled_tokens, paint = self._sampled, self.paint
        return None if sampled_tokens is None or paint is None else paint(sampled_tokens)

    def wait(self, timeout: float | None = None) -> tuple[JobResult, ...]:
        """Wait for the end and return the pictures; those that were finished, if it was stopped early.

        Raises:
            JobError: it failed.
            JobCancelledError: it was cancelled.
            TimeoutError: it is still not over after so many seconds.
        """
        with self._changed, self._held():
            if not self._changed.wait_for(lambda: self.over, timeout):
                raise TimeoutError(f"the picture was not ready after {timeout:g} s")
        return self.outcome()

    def outcome(self) -> tuple[JobResult, ...]:
        """The pictures of a job that is over; see `wait`."""
        if not self.over:
            raise ValueError("the job is not over; wait for it")
        if self.state == FAILED:
            raise JobError(self._progress.kind, self._progress.error)
        if self.state == CANCELLED:
            raise JobCancelledError(self._progress.error or "the job was cancelled")
        return self.results

    def watch(self, timeout: float | None = None) -> Iterator[Progress]:
        """Progress now and after every change, until it is over; the last one says how it ended.

        A slow watcher misses steps in between and never holds anything up. timeout: also yield after so many seconds
        without a change.
        """
        seen = -1
        with self._held():
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._version != seen, timeout)  # noqa: B023  # used at once
                    seen = self._version
                now = self.progress()
                yield now
                if now.state in OVER:
                    return

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called after every change, from other threads, quickly; returns what ends that.

        As long as someone subscribes, the lease does not run out.
        """
        with self._changed:
            self._callbacks.append(callback)
            self._watchers += 1

        def unsubscribe() -> None:
            with self._changed:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)
                    self._watchers -= 1
                    self._touched = time.monotonic()

        return unsubscribe

    def abandoned(self) -> bool:
        """Whether nobody has looked at it for longer than its lease."""
        return self.lease is not None and not self._watchers and time.monotonic() - self._touched > self.lease

    # What follows is for the engine.

    def update(self, **changes: Any) -> None:
        """Set fields of the progress and tell everyone; a job that is over stays as it is."""
        sampled_tokens = changes.pop("sampled_tokens", None)
        with self._changed:
            if self.over:
                return
            if sampled_tokens is not None:
                self._sampled = sampled_tokens
            self._progress = replace(self._progress, **{"seconds": time.monotonic() - self.asked} | changes)
            self._version += 1
            self._changed.notify_all()
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def remark(self, *remarks: str) -> None:
        """Add to what its owner should know."""
        if remarks:
            self.update(remarks=tuple(dict.fromkeys((*self._progress.remarks, *remarks))))

    @contextmanager
    def _held(self) -> Iterator[None]:
        """While inside, the lease does not run out."""
        with self._changed:
            self._watchers += 1
        try:
            yield
        finally:
            with self._changed:
                self._watchers -= 1
                self._touched = time.monotonic()
