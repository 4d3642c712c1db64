"""Workers that are used again, as long as nothing of an earlier run is left in them."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from .clock import Clock
from .handle import WorkerHandle
from .limits import Limits

MOST_SUBMISSIONS = 200  # then a worker is replaced, whatever it says


class Workers:
    """The sandboxes of a run of the grader; one that is clean serves the next submission too.

    Safe to use from several threads. `close` ends them all; it is a context manager.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[tuple[Hashable, int, WorkerHandle]] = []
        self._served: dict[WorkerHandle, int] = {}

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, kind: Hashable, start: Callable[[], WorkerHandle]) -> WorkerHandle:
        """Return a clean worker of this kind, or start one."""
        with self._lock:
            fitting = [one for one in self._free if one[0] == kind]
            for one in fitting[:1]:
                self._free.remove(one)
        if not fitting:
            return start()
        _, served, worker = fitting[0]
        self._served[worker] = served
        return worker

    def give_back(self, kind: Hashable, worker: WorkerHandle) -> None:
        """Keep a worker for the next submission where it is clean, else end it."""
        served = self._served.pop(worker, 0) + 1
        if served < MOST_SUBMISSIONS and worker.clean():
            with self._lock:
                self._free.append((kind, served, worker))
        else:
            worker.close()

    def close(self) -> None:
        """End the workers that are not in use."""
        with self._lock:
            free, self._free = self._free, []
        with contextlib.ExitStack() as stack:
            for _, _, worker in free:
                stack.callback(worker.close)


class ReusedWorker:
    """Gives a submission a clean worker, the one of its last run or another one of `workers`.

    `modules` it imports before the submission's time begins.
    """

    def __init__(
        self,
        course: Path,
        folder: Path,
        limits: Limits,
        *,
        workers: Workers,
        unsafe: bool = False,
        modules: tuple[str, ...] = (),
        **options: Any,
    ) -> None:
        self.limits, self.clock = limits, Clock()
        self._workers, self._unsafe = workers, unsafe
        self._kind = (course, limits, modules)
        self._start = lambda by: WorkerHandle(
            course, folder, limits, unsafe=unsafe, modules=modules, start_by=by, **options
        )
        self._worker: WorkerHandle | None = None

    def get(self, by: float = math.inf) -> WorkerHandle:
        """Return a worker in which nothing of an earlier run is left.

        A new one must have started `by` then, a time of time.monotonic().
        """
        if self._worker is not None and not self._worker.clean():
            self.close()
        if self._worker is None:
            start = lambda: self._start(by)  # noqa: E731
            self._worker = start() if self._unsafe else self._workers.take(self._kind, start)
            self._worker.serve(self.clock)
        return self._worker

    def close(self, *, keep: bool = False) -> None:
        """End the worker, or `keep` it for another submission if nothing is left in it.

        Without a sandbox none is kept: there is more than a worker can clean.
        """
        worker, self._worker = self._worker, None
        if worker is None:
            return
        if keep and not self._unsafe:
            self._workers.give_back(self._kind, worker)
        else:
            worker.close()
