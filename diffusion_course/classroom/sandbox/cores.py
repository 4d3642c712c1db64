"""Which of the machine's cores a job has, so that one student's processes slow down no other."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import psutil

_thread = threading.local()


def shares(jobs: int) -> list[set[int]]:
    """Cores for each of `jobs`; none where there are too few, or the system has no such thing."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    return [set(cores[one::jobs]) for one in range(jobs)] if 1 < jobs <= len(cores) else []


def keep_to(waiting: Iterator[set[int]]) -> None:
    """Have this thread's workers keep to the next of the shares that are `waiting`, if any is."""
    _thread.share = next(waiting, None)


@contextmanager
def own_cores() -> Iterator[None]:
    """Let what is started inside have this thread's share of the cores.

    The thread itself is back on all of them after: who watches a worker is not held up by it.
    """
    share = getattr(_thread, "share", None)
    if share is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, share)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def move_to_own_cores(processes: Iterable[psutil.Process]) -> None:
    """Have processes that run already keep to this thread's share, or to all cores without one."""
    if not hasattr(os, "sched_setaffinity"):
        return
    share = getattr(_thread, "share", None) or os.sched_getaffinity(0)
    for one in processes:
        with suppress(OSError):
            os.sched_setaffinity(one.pid, share)
