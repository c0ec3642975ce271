"""Errors of jobs and of the queue."""

from amused_lite.system.extras import MissingExtraError


class JobError(Exception):
    """A job that gave no picture: `kind` is one of "input", "model", "memory", "stopping", "internal"."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class JobCancelledError(Exception):
    """Someone cancelled the job that was waited for."""


class QueueFullError(Exception):
    """As many jobs wait as may wait; `retry_after` says in how many seconds it is worth asking again."""

    def __init__(self, limit: int, retry_after: int, own: bool = False) -> None:
        waiting = (
            f"{limit} of your pictures are waiting, your share of the queue" if own else f"{limit} pictures are waiting"
        )
        super().__init__(f"{waiting} already; ask again in {retry_after} s")
        self.retry_after = retry_after


class ClosingError(Exception):
    """The engine takes no more jobs."""


def to_job_error(error: BaseException) -> JobError:
    """Any exception of a job as a `JobError` with its kind."""
    if isinstance(error, MemoryError):
        return JobError("memory", "not enough memory for this; close other programs or choose a smaller model")
    if isinstance(error, MissingExtraError | OSError):
        return JobError("model", str(error))
    if isinstance(error, ValueError):
        return JobError("input", str(error))
    return JobError("internal", f"something unexpected went wrong ({type(error).__name__}); see the program's output")
