"""One engine behind page and server: a queue, one worker thread that owns the models, and jobs that anyone may watch.

    engine = Engine(history=History(folder))             # or Engine(["tiny", "bundles/mine"], ["look.safetensors"])
    job = engine.submit(Request(prompt="a red balloon", seed=7, options={"steps": 12}))
    for progress in job.watch():                         # from any thread; the last one says how it ended
        show(progress.step, progress.steps, progress.seconds_left, job.preview())
    (result,) = job.outcome()                            # or job.wait(): raises JobError or JobCancelledError
    result.picture.image, result.picture.recipe, result.png(), result.saved

    engine.cancel(job)                                   # within one step; of a queued job at once
    engine.stop(job)                                     # finish the picture from the tokens sampled so far
    engine.call(lambda amused: amused.decode(tokens))    # anything else that needs a model, in its turn: a Job, .value
    engine.close(grace=30)                               # SIGTERM: refuse, let the running job finish, report the rest

Pictures are made one at a time, in the order in which they were asked for, so each is the one that its request gives
alone. The queue is bounded (`QueueFullError`); finished jobs are kept for a while and then forgotten, the oldest first,
so memory stays flat. A job with a lease is cancelled when nobody has looked at it for so long.
"""

import math
import sys
import threading
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from amused_lite.pipeline import AmusedPipeline
from amused_lite.runtimes.open import BUNDLED

from .errors import ClosingError, QueueFullError, to_job_error
from .eta import Eta
from .history import History
from .jobs import CANCELLED, DONE, FAILED, RUNNING, STOPPING, Job, JobResult
from .model_cache import ModelCache, ModelKey
from .request import Request
from .running import CancelledError, draw, look_up
from .tasks import tasks

QUEUE_LIMIT = 32  # jobs that wait
KEEP_JOBS, KEEP_BYTES = 64, 64 * 2**20  # finished jobs that are remembered, and the px of their pictures
_TICK = 1.0  # s between looks at leases while nothing happens


class Engine:
    """A queue of jobs and the worker thread that runs them. Every public method may be called from any thread."""

    def __init__(
        self,
        models: Iterable[str | Path] = (BUNDLED,),
        adapters: Iterable[str | Path] = (),
        runtime: str = "auto",
        threads: int | None = None,
        queue_limit: int = QUEUE_LIMIT,
        history: History | None = None,
        models_open: int = 2,
        owners: int = 1,
        device: str = "auto",
    ) -> None:
        """Nothing is opened before it is needed; `warm_up` does it ahead.

        Args:
            models: "tiny", bundle folders, diffusers folders or hub ids; the first is the default.
            adapters: files.
            runtime: for requests that say "auto".
            threads: processor threads of the models; None leaves the choice to the engine of each.
            queue_limit: how many jobs may wait.
            history: where pictures are kept, if anywhere.
            models_open: how many models (with their adapters) stay in memory.
            owners: how many share the queue; of two or more, each may fill its part of it and no more.
            device: one of `runtimes.devices.DEVICES`.

        Raises:
            FileNotFoundError: an adapter is missing.
            ValueError: two models or two adapters have one name.
        """
        self.model_cache = ModelCache(models, adapters, threads, models_open, device)
        self.history = history
        self.queue_limit = queue_limit
        self.observe: Callable[[str, float], None] = lambda model, seconds: None  # told of every picture
        self._share = math.ceil(queue_limit / owners)
        self._runtime = runtime
        self._queue: deque[Job] = deque()
        self._running: Job | None = None
        self._jobs: OrderedDict[str, Job] = OrderedDict()  # in the order in which they ended, those under way first
        self._eta: dict[ModelKey, Eta] = {}
        self._lock = threading.Condition()
        self.closing = False  # whether it takes no more jobs
        self._worker = threading.Thread(target=self._work, name="amused-engine", daemon=True)
        self._worker.start()

    # Asking

    def submit(self, request: Request, origin: str = "", lease: float | None = None, owner: Hashable = None) -> Job:
        """Queue a request.

        Args:
            request: what to draw.
            origin: who asks, for `running`.
            lease: cancel the job when nobody looked at it for so many seconds; None never does.
            owner: whose job it is, for `jobs` and for shares of the queue; None has no share.

        Raises:
            ValueError: its model or an adapter is not offered.
            QueueFullError: too many wait.
            ClosingError: the engine is closing.
        """
        self._choice(request)
        return self._enqueue(Job(request.settled(), origin, lease, owner=owner))

    def take_up(self, job: Job) -> None:
        """Remember a job of an earlier run, and queue it unless it is over; ValueError without its model."""
        if not job.over:
            self._choice(job.request)
        with self._lock:
            self._jobs[job.id] = job
            self._queue.extend(() if job.over else (job,))
            self._tell_positions()
            self._lock.notify_all()

    def call(
        self,
        function: Callable[[AmusedPipeline], Any],
        model: str | None = None,
        runtime: str = "auto",
        adapters: tuple[tuple[str, float], ...] = (),
    ) -> Job:
        """Queue a call with an open model, on the worker; afterwards `job.value` holds what it returned.

        Raises:
            ValueError, QueueFullError, ClosingError: see `submit`.
        """
        request = Request(prompt="-", model=model, runtime=runtime, adapters=adapters, keep=False)
        self._choice(request)
        return self._enqueue(Job(request.settled(), "call", call=function))

    def warm_up(self, model: str | None = None) -> Job:
        """Open a model and draw one step, so that the first real picture does not wait for it."""
        return self.call(lambda amused: amused.generate("-", steps=1), model)

    def job(self, id: str) -> Job:
        """A job by its id.

        Raises:
            KeyError: there is none, or it was forgotten since.
        """
        with self._lock:
            return self._jobs[id]

    def jobs(self, owner: Hashable) -> list[Job]:
        """The jobs of an owner that are remembered, those that ended longest ago first."""
        with self._lock:
            return [job for job in self._jobs.values() if job.owner == owner]

    def forget(self, job: Job) -> None:
        """Drop a job that is over; whoever holds it keeps its pictures."""
        with self._lock:
            if job.over:
                self._jobs.pop(job.id, None)

    def running(self) -> Job | None:
        """The job that is being drawn."""
        with self._lock:
            return self._running

    def waiting(self) -> list[Job]:
        """The queue, the next first."""
        with self._lock:
            return list(self._queue)

    def cancel(self, job: Job, reason: str = "") -> None:
        """End a job: at once where it waits, within one step where it runs. Nothing happens when it is over."""
        with self._lock:
            if job in self._queue:
                self._queue.remove(job)
                self._end(job, CANCELLED, error=reason)
                self._tell_positions()
            elif not job.over:
                job.reason, job.requested = reason, "cancel"

    def stop(self, job: Job) -> None:
        """Finish the running picture from its latest sampled tokens, and begin no more of this job.

        A job that waits stops after its first step. An outpainting stops once every token was sampled.
        """
        if not job.over and not job.requested:
            job.requested = "stop"
            job.update(stopped=True)

    def close(self, grace: float = 10.0) -> None:
        """Take no more jobs, fail those that wait, give the running one `grace` seconds and cancel it then."""
        self.refuse()
        self._worker.join(grace)
        if (job := self.running()) is not None:
            self.cancel(job, STOPPING)
            self._worker.join(grace)
        self.model_cache.close()

    def refuse(self) -> None:
        """The first half of `close`, which waits for nothing."""
        with self._lock:
            self.closing = True
            while self._queue:
                self._end(self._queue.popleft(), FAILED, error=STOPPING, kind="stopping")
            self._lock.notify_all()

    def abandon(self) -> None:
        """`refuse`, and fail the running job at once; the worker leaves it after its step."""
        self.refuse()
        with self._lock:
            if (job := self._running) is not None and not job.over:
                job.requested = "cancel"
                self._end(job, FAILED, error=STOPPING, kind="stopping")

    # Working

    def _choice(self, request: Request) -> ModelKey:
        runtime = self._runtime if request.runtime == "auto" else request.runtime
        return self.model_cache.check(request.model, runtime, request.adapters)

    def _enqueue(self, job: Job) -> Job:
        with self._lock:
            if self.closing:
                raise ClosingError(f"{STOPPING} and takes no more pictures")
            self._sweep()
            if len(self._queue) >= self.queue_limit:
                raise QueueFullError(self.queue_limit, self._retry_after())
            if job.owner is not None and sum(other.owner == job.owner for other in self._queue) >= self._share:
                raise QueueFullError(self._share, self._retry_after(), own=True)
            self._queue.append(job)
            self._jobs[job.id] = job
            self._tell_positions()
            self._lock.notify_all()
        return job

    def _work(self) -> None:
        """Run queued jobs one after the other until the engine closes; runs on the worker thread."""
        while (job := self._next()) is not None:
            choice = self._choice(job.request)
            try:
                self._run(job, choice)
            except CancelledError:
                self._end(job, CANCELLED, error=job.reason)
            except BaseException as error:  # the worker outlives whatever a job does
                failure = to_job_error(error)
                if failure.kind in ("internal", "memory"):
                    traceback.print_exc(file=sys.stderr)
                    self.model_cache.forget(choice)
                self._end(job, FAILED, error=str(failure), kind=failure.kind)
            with self._lock:
                self._running = None

    def _next(self) -> Job | None:
        """Wait for a job; None when the engine closes. While idle, build missing colour tables."""
        while True:
            with self._lock:
                self._sweep()
                if self._queue:
                    self._running = job = self._queue.popleft()
                    job.update(state=RUNNING, position=0, seconds_left=self._seconds(job))
                    self._tell_positions()
                    return job
                if self.closing:
                    return None
            if not self._improve():
                with self._lock:
                    if not self._queue and not self.closing:
                        self._lock.wait(_TICK)

    def _improve(self) -> bool:
        try:
            return self.model_cache.improve()
        except Exception:  # previews are no reason to stop
            traceback.print_exc(file=sys.stderr)
            return False

    def _run(self, job: Job, choice: ModelKey) -> None:
        loaded = self.model_cache.open(choice)
        look_up(job)
        if job.call is not None:
            job.value = job.call(loaded.amused)
            self._end(job, DONE)
            return
        request = job.request
        job.remark(*loaded.amused.remarks(request.prompt or "", request.negative_prompt))
        eta = self._eta.setdefault(choice, Eta())
        for task in islice(tasks(loaded.amused, request), len(job.results), None):  # some were drawn before a restart
            began = time.monotonic()
            result = draw(job, task, loaded, eta, self._sweep)
            self.observe(choice.model, time.monotonic() - began)
            look_up(job)
            job.results = (*job.results, self._keep(job, result))
            job.update(finished=len(job.results))
            if job.requested == "stop":
                break
        self._end(job, DONE)

    def _keep(self, job: Job, result: JobResult) -> JobResult:
        """Put a picture into the history, where there is one; a full disk must not cost the picture."""
        if self.history is None or not job.keep:
            return result
        try:
            return JobResult(result.picture, self.history.add(result.picture), result.trace)
        except OSError as error:
            job.remark(f"the picture could not be kept in the history: {error.strerror or error}")
            return result

    def _end(self, job: Job, state: str, error: str = "", kind: str = "") -> None:
        """Set a job's final state; then forget the oldest finished jobs."""
        job.request, job.call = job.request.without_pictures(), None
        with self._lock:
            self._jobs.pop(job.id, None)
            self._jobs[job.id] = job
            over = [other for other in self._jobs.values() if other.over or other is job]
            while len(over) > 1 and (len(over) > KEEP_JOBS or sum(one.bytes for one in over) > KEEP_BYTES):
                del self._jobs[over.pop(0).id]
        share = {"share": 1.0} if state == DONE else {}
        job.update(state=state, error=error, kind=kind, position=0, seconds_left=None, **share)

    def _sweep(self) -> None:
        """Cancel jobs whose lease has run out."""
        with self._lock:
            for job in [job for job in (*self._queue, self._running) if job is not None and job.abandoned()]:
                self.cancel(job, "nobody asked for it any more")

    def _tell_positions(self) -> None:
        """Update position and remaining seconds of queued jobs. The caller holds the lock."""
        ahead = self._seconds(self._running) if self._running is not None else 0.0
        for position, job in enumerate(self._queue, 1):
            own = self._seconds(job)
            ahead = None if ahead is None or own is None else ahead + own
            job.update(position=position, seconds_left=ahead)

    def _seconds(self, job: Job) -> float | None:
        """How long a job still takes once it runs, as far as its model's speed has been measured."""
        now = job.peek()
        if now.steps:
            return now.seconds_left
        eta, options = self._eta.get(self._choice(job.request), Eta()), job.request.options
        return eta.pictures(int(options.get("steps", 12)) + int(options.get("refine", 0)), job.request.count)

    def _retry_after(self) -> int:
        return min(60, max(1, math.ceil((self._running and self._seconds(self._running)) or 1.0)))
