"""A worker that is used again for the next run, as long as nothing of an earlier one is left."""

from __future__ import annotations

import math
import time
from pathlib import Path

from .handle import WorkerHandle
from .limits import Limits


class ReusedWorker:
    """Gives a clean worker, the one of the last run or a new one. `modules` it imports first."""

    def __init__(
        self,
        course: Path,
        folder: Path,
        limits: Limits,
        *,
        unsafe: bool = False,
        modules: tuple[str, ...] = (),
    ) -> None:
        self.limits = limits
        self._start = lambda by: WorkerHandle(
            course, folder, limits, unsafe=unsafe, modules=modules, start_by=by
        )
        self._worker: WorkerHandle | None = None

    def get(self, by: float = math.inf) -> tuple[WorkerHandle, float]:
        """Return a worker in which nothing of an earlier run is left, and the seconds it took.

        A new one must have started `by` then, a time of time.monotonic().
        """
        began = time.monotonic()
        if self._worker is not None and not self._worker.clean():
            self.close()
        if self._worker is None:
            self._worker = self._start(by)
        return self._worker, time.monotonic() - began

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None
