"""Workers that are used again, as long as nothing of an earlier run is left in them."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .clock import Clock
from .handle import WorkerHandle
from .limits import Limits

MOST_SUBMISSIONS = 200  # then a worker is replaced, whatever it says


@dataclasses.dataclass(frozen=True)
class Kind:
    """What workers differ in before any run."""

    course: Path
    limits: Limits
    modules: frozenset[str] = frozenset()

    def serves(self, wanted: Kind) -> bool:
        """Whether a worker of this kind can stand for one of the wanted kind."""
        alike = (self.course, self.limits) == (wanted.course, wanted.limits)
        return alike and wanted.modules <= self.modules


class Workers:
    """The sandboxes of a run of the grader; one that is clean serves the next submission too.

    Safe to use from several threads. `close` ends them all; it is a context manager.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[tuple[Kind, int, WorkerHandle]] = []
        self._lent: dict[WorkerHandle, tuple[Kind, int]] = {}

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, kind: Kind, start: Callable[[], WorkerHandle]) -> WorkerHandle:
        """Return a clean worker of this kind, or with more modules, or start one."""
        with self._lock:
            fitting = [one for one in self._free if one[0].serves(kind)]
            for one in fitting[:1]:
                self._free.remove(one)
        if not fitting:
            return start()
        kind, served, worker = fitting[0]
        if not worker.can_serve:  # it has waited, and was ended from outside
            worker.close()
            return start()
        self._lent[worker] = (kind, served)
        return worker

    def give_back(self, kind: Kind, worker: WorkerHandle) -> None:
        """Keep a worker for the next submission where it is clean, else end it."""
        kind, served = self._lent.pop(worker, (kind, 0))
        if served + 1 < MOST_SUBMISSIONS and worker.clean():
            with self._lock:
                self._free.append((kind, served + 1, worker))
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
        self._kind = Kind(course, limits, frozenset(modules))
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
