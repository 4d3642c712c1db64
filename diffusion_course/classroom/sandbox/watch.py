"""Two threads beside a worker: one reads what it sends, one ends it when it takes too much."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterable
from typing import IO

import psutil

from ..reasons import Reason
from .clock import Clock
from .limits import Limits
from .processes import (
    are_stopped,
    count_inside,
    count_tasks,
    descendants,
    files_of,
    kill_all,
    take_more_than,
    used_by,
)
from .protocol import CONTROL, FRAME, MAX_FRAME, RUN

PAUSE, LONG_PAUSE = 0.02, 0.2
CLOSE_SECONDS = 2.0
PLACES, MOST_FILES = ("/tmp", "/dev/shm"), 20_000  # each takes memory that is not its size
WAITING_FRAMES = 1024  # read and not yet asked for; more stay in the pipe


class FrameReader:
    """Reads the frames of a worker as they come, in a thread that ends with the pipe."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._frames: queue.Queue[tuple[int, bytes] | None] = queue.Queue(WAITING_FRAMES)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def next(self, seconds: float) -> tuple[int, bytes] | None:
        """Return the next frame, or None after the last one; raises queue.Empty after a time."""
        return self._frames.get(timeout=max(seconds, 0))

    def is_alive(self) -> bool:
        """Whether there may be more to read."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Take what is left, so that the thread ends, and close the pipe.

        Where somebody who was not ended holds its other side, both stay.
        """
        late = time.monotonic() + CLOSE_SECONDS
        while self.is_alive() and time.monotonic() < late:
            try:
                self._frames.get(timeout=PAUSE)  # the thread may wait for room
            except queue.Empty:
                continue
        if not self.is_alive():
            self._pipe.close()

    def _read(self) -> None:
        while len(head := self._pipe.read(FRAME.size)) == FRAME.size:
            kind, size = FRAME.unpack(head)
            if kind not in (RUN, CONTROL) or size > MAX_FRAME:
                break
            self._frames.put((kind, self._pipe.read(size)))
        self._frames.put(None)


def _itself(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        return [psutil.Process(process.pid)]
    except psutil.Error:
        return []


def _children(of: int, among: Iterable[psutil.Process]) -> list[psutil.Process]:
    found = []
    for one in among:
        with contextlib.suppress(psutil.Error):
            found += [one] * (one.ppid() == of)
    return found


class Watch:
    """Ends a worker that takes too much, or longer than `overdue`; `cause` then says why."""

    def __init__(
        self, process: subprocess.Popen[bytes], limits: Limits, *, sandboxed: bool
    ) -> None:
        self.cause: Reason | None = None
        self.overdue = float("inf")  # a time of time.monotonic()
        self.own: list[psutil.Process] = []  # the worker's, before any run: none may stand still
        self.clock = Clock()  # of the submission that it serves
        self.awaited = False  # whether the grader waits for the run now
        self._last, self._used = time.monotonic(), math.inf
        self._process, self._limits, self._sandboxed = process, limits, sandboxed
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Give the watch a moment: what has just ended may have been ended by it."""
        self._is_over.wait(LONG_PAUSE)

    def stop(self) -> None:
        """Kill the worker and watch no more."""
        self._is_over.set()
        self._kill()

    def join(self) -> None:
        """Wait for the thread."""
        self._thread.join()

    def messengers(self) -> list[psutil.Process]:
        """The children of the worker's first process: who carries the messages of the run."""
        return _children(self._first(), descendants(self._process.pid))

    def look(self) -> None:
        """End the worker where it takes too much, and move the submission's clock on."""
        if not self._are_few():
            self.end(Reason.PROCESSES)
            return
        below = descendants(self._process.pid)
        if len(below) > self._limits.processes:
            self.end(Reason.PROCESSES)
        elif are_stopped([*self.own, *_children(self._first(), below)]):
            self.end(Reason.INTERFERED)
        elif self._sandboxed and files_of(self.own[:1], PLACES) > MOST_FILES:
            self.end(Reason.MEMORY)
        elif take_more_than(below, self._limits.memory_mib * 2**20, self._are_few):
            self.end(Reason.MEMORY)
        now, (used, is_running) = time.monotonic(), used_by([*_itself(self._process), *below])
        if self.own or not self._sandboxed:  # before, the worker starts
            passed, computed = now - self._last, used - self._used
            self.clock.passed(passed, computed, awaited=self.awaited, is_running=is_running)
        # What has just ended may be missing for once; it must not count when it is back.
        self._last, self._used = now, max(used, 0.0 if self._used == math.inf else self._used)

    def _are_few(self) -> bool:
        """Whether a sandbox has no more processes than it may, as far as one read tells."""
        return not self._sandboxed or count_inside(self.own[:1]) <= self._limits.processes

    def _first(self) -> int:
        return self.own[-1].pid if self.own else self._process.pid

    def _watch(self) -> None:
        looked, usual = 0.0, count_tasks()
        while not self._is_over.wait(PAUSE):
            if time.monotonic() > self.overdue:
                self.end(Reason.TIME)
            are_many = count_tasks() > usual + self._limits.processes
            if not are_many and time.monotonic() - looked < LONG_PAUSE:
                continue
            looked = time.monotonic()
            try:
                self.look()
            except Exception:  # whom nobody watches must not run on
                self.end(Reason.CRASH)
                raise
            if are_many and self.cause is None:
                usual = max(usual, count_tasks() - len(descendants(self._process.pid)))

    def end(self, cause: Reason) -> None:
        """End the worker for this cause, unless there is one already."""
        self.cause = self.cause or cause
        self._kill()

    def _kill(self) -> None:
        """Kill the worker: a sandbox's first process takes all others with it.

        Without a sandbox, those are killed that are still known to descend from it.
        """
        below = [] if self._sandboxed else descendants(self._process.pid)
        self._process.kill()
        kill_all([*below, *self.own])
        if hasattr(os, "killpg"):
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                return
