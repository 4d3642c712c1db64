"""The grader's handle of a worker: messages with deadlines, and the end of what takes too long."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from ..reasons import Reason
from .bubblewrap import start_worker
from .call_spec import CallSpec
from .clock import Clock
from .cores import move_to_own_cores, own_cores
from .decoding import decode, receive
from .limits import WALL, Limits
from .other_user import OtherUser
from .processes import descendants, is_alive, kill_all
from .protocol import CONTROL, HEADER, RUN, ProtocolError, encode, frames
from .restrictions import are_counted_by_sandbox
from .unsafe import start_unsafe_worker
from .watch import LONG_PAUSE, PAUSE, FrameReader, Watch

# Elsewhere an unsafe worker does one run; PyTorch and forks do not go together on macOS.
CAN_FORK = sys.platform == "linux"
CAN_WAIT = sys.platform != "win32"  # for room in a pipe
# Nothing is waited for longer than this, whatever the worker does.
START_SECONDS, WRITE_SECONDS, CLEAN_SECONDS = 60.0, 10.0, 10.0
TASKS = 8  # threads that each of a sandbox's processes may have, in the mean


class RunEnded(Exception):
    """The run is over before its time, for one of `reasons.ENDED`."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class WorkerHandle:
    """One worker, which does one run after another; it imports `modules` before any.

    Raises RunEnded when a run ends, takes too long or too much, and ProtocolError for what is no
    message. `clean` then says whether the worker can do another run. Deadlines are times of
    `clock`, the own time of the submission that it serves. An unsafe one writes to `folder`, as
    `user` where there is one.
    """

    def __init__(
        self,
        course: Path,
        folder: Path,
        limits: Limits,
        *,
        unsafe: bool = False,
        modules: tuple[str, ...] = (),
        start_by: float = math.inf,
        user: OtherUser | None = None,
    ) -> None:
        self.limits, self.unsafe = limits, unsafe
        self._are_counted = user is not None or (not unsafe and are_counted_by_sandbox())
        self.forks = not unsafe or CAN_FORK
        with own_cores():
            if unsafe:
                started = start_unsafe_worker(course, folder, user)
            else:
                started = start_worker(course, limits.disk_mib)
        self.process, self._to_worker, self._from_worker = started
        self._heard, self._is_over = bytearray(), False
        self._latest = math.inf  # on the wall; after it nothing of a run is heard
        self._own: list[psutil.Process] = []  # its processes before any run
        self._frames = FrameReader(self._from_worker)
        self._watch = Watch(self.process, limits, sandboxed=not unsafe)
        try:
            self._begin(modules, start_by)
        except BaseException:
            self.close()
            raise

    @property
    def can_serve(self) -> bool:
        """Whether it still runs, with nothing to be said against it."""
        return self.process.poll() is None and self._watch.cause is None

    @property
    def clock(self) -> Clock:
        """The clock of the submission that it serves."""
        return self._watch.clock

    def serve(self, clock: Clock) -> None:
        """Serve another submission from now on, on this thread's cores."""
        self._watch.clock = clock
        move_to_own_cores(descendants(self.process.pid))

    def start(self, cells: tuple[str, ...], specs: tuple[CallSpec, ...]) -> None:
        """Begin a run."""
        self._heard.clear()
        self._latest = time.monotonic() + WALL * self.limits.seconds
        told = tuple(spec.as_message() for spec in specs)
        self._write(CONTROL, encode(("run", cells, told)))

    def send(self, *message: Any) -> None:
        """Send one message to the run."""
        self._write(RUN, encode(message))

    def message(self, deadline: float) -> tuple[Any, ...]:
        """Return the run's next message, a tuple with something in it."""
        left = WALL * max(deadline - self.clock.now(), 0.0)
        late = min(time.monotonic() + left, self._latest)
        self._watch.awaited = True
        try:
            value = receive(lambda size: self._read(size, late, deadline))
        finally:
            self._watch.awaited = False
        if type(value) is not tuple or not value:
            raise ProtocolError("a message is a tuple")
        return value

    def clean(self) -> bool:
        """End the run and all that it started; returns whether the worker can do another."""
        if not self.forks or self._watch.cause:
            return False
        try:
            if self.unsafe:
                self._end_strangers()
            late = time.monotonic() + CLEAN_SECONDS
            self._write(CONTROL, encode(("clean",)))
            while (said := self._control(late)) != ("clean",):
                if said[0] != "ended":
                    return False
        except (RunEnded, ProtocolError):
            return False
        self._heard.clear()
        return True

    def close(self) -> None:
        """End the worker and everything that it started."""
        self._watch.stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(CLEAN_SECONDS)
        late = time.monotonic() + CLEAN_SECONDS
        # A sandbox's first process goes after all others.
        while any(map(is_alive, self._own)) and time.monotonic() < late:
            time.sleep(PAUSE)
        self._frames.close()
        self._watch.join()
        self._to_worker.close()

    def _begin(self, modules: tuple[str, ...], start_by: float) -> None:
        limits = {
            "memory_mib": self.limits.memory_mib,
            "disk_mib": self.limits.disk_mib,
            "seconds": math.ceil(self.limits.seconds) + 1,
            "tasks": TASKS * self.limits.processes * self._are_counted,
        }
        options = {"sandboxed": not self.unsafe, "forks": self.forks, "modules": modules}
        self._write(CONTROL, encode(("limits", limits, options)))
        if self._control(min(start_by, time.monotonic() + START_SECONDS))[0] != "ready":
            raise RunEnded(Reason.CRASH, "the worker did not start")
        self._own = self._watch.own = descendants(self.process.pid)
        self._write(CONTROL, encode(("begin",)))

    def _write(self, kind: int, data: bytes) -> None:
        rest = memoryview(frames(kind, data))
        end = self._to_worker.fileno()
        # The first process always reads, unless it was stopped.
        late = self._watch.overdue = time.monotonic() + WRITE_SECONDS
        try:
            while rest:
                if CAN_WAIT and not select.select([], [end], [], late - time.monotonic())[1]:
                    self._watch.end(Reason.TIME)
                    break
                # As much as there surely is room for: a write of more would wait.
                rest = rest[os.write(end, rest[: select.PIPE_BUF] if CAN_WAIT else rest) :]
        except (OSError, ValueError):
            raise self._end() from None
        finally:
            self._watch.overdue = float("inf")
        if rest:
            raise self._end()

    def _frame(self, late: float, deadline: float = math.inf) -> tuple[int, bytes]:
        """The next frame; `late` is a time on the wall, `deadline` one of the submission's."""
        while not self._is_over:
            left = late - time.monotonic()
            # Frames that never end are no reason to go on.
            if left < 0 or self.clock.now() > deadline:
                raise RunEnded(self._watch.cause or Reason.TIME)
            try:
                frame = self._frames.next(min(left, LONG_PAUSE))
            except queue.Empty:
                continue
            if frame is not None:
                return frame
            self._is_over = True
        raise self._end()

    def _read(self, size: int, late: float, deadline: float) -> bytes:
        while len(self._heard) < size:
            kind, data = self._frame(late, deadline)
            if kind == CONTROL:
                said = _control_message(data)
                raise self._end(said[-1] if said[0] == "ended" and type(said[-1]) is int else 0)
            self._heard += data
        wanted = bytes(self._heard[:size])
        del self._heard[:size]
        return wanted

    def _control(self, late: float) -> tuple[Any, ...]:
        while True:
            kind, data = self._frame(late)
            if kind == CONTROL:
                return _control_message(data)

    def _end(self, code: int = 0) -> RunEnded:
        """What ended the run, from the watch or from the run's exit code."""
        self._watch.wait()
        if self._watch.cause:
            return RunEnded(self._watch.cause)
        if code == -getattr(signal, "SIGXCPU", 0):
            return RunEnded(Reason.TIME)
        by_signal = code < 0 and -code in signal.valid_signals()
        return RunEnded(Reason.CRASH, f"by {signal.Signals(-code).name}" if by_signal else "")

    def _end_strangers(self) -> None:
        """Without a sandbox: end what the student's code started, as far as it still descends."""
        known = {*self._own, *self._watch.messengers()}
        kill_all([one for one in descendants(self.process.pid) if one not in known], wait=1)


def _control_message(data: bytes) -> tuple[Any, ...]:
    """A message of the first process, which is one frame: a tuple that begins with a word."""
    if len(data) < HEADER.size:
        raise ProtocolError("the first process said less than a message")
    length, _ = HEADER.unpack(data[: HEADER.size])
    said = decode(data[HEADER.size : HEADER.size + length], b"")
    if type(said) is not tuple or not said or type(said[0]) is not str:
        raise ProtocolError("the first process says a tuple that begins with a word")
    return said
