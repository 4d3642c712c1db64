"""A worker process under watch: messages with deadlines, and a thread that ends it when it takes
too much.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from .bubblewrap import start_worker
from .decoding import decode, receive
from .limits import Limits
from .processes import family, is_alive, memory, tasks
from .protocol import CONTROL, FRAME, HEADER, MAX_FRAME, RUN, ProtocolError, encode, frames

CAN_FORK = (
    sys.platform == "linux"
)  # elsewhere an unsafe worker does one run; PyTorch and forks do not go together on macOS
START_SECONDS = 120.0
PAUSE, LONG_PAUSE = 0.02, 0.2
WAITING_FRAMES = 1024  # read and not yet asked for; more stay in the pipe
CLEAN_SECONDS = 10.0
TASKS = 8  # threads that each of a sandbox's processes may have, in the mean


class Died(Exception):
    """The run is over before its time: `reason` is time, memory, processes, crash or protocol."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class Worker:
    """One worker, which does one run after another; it imports `modules` before any.

    Raises Died when a run ends, takes too long or too much, and ProtocolError for what is no
    message. `clean` then says whether the worker can do another run.
    """

    def __init__(
        self,
        course: Path,
        folder: Path,
        limits: Limits,
        *,
        unsafe: bool = False,
        modules: tuple[str, ...] = (),
    ) -> None:
        self.limits, self.unsafe, self.cause = limits, unsafe, None
        self.forks = not unsafe or CAN_FORK
        self.process = start_worker(course, folder, limits.disk_mib, unsafe=unsafe)
        self._frames: queue.Queue[tuple[int, bytes] | None] = queue.Queue(WAITING_FRAMES)
        self._heard, self._over, self._ended, self._overdue = (
            bytearray(),
            False,
            threading.Event(),
            float("inf"),
        )
        self._first: list[psutil.Process] = []
        self._threads = [
            threading.Thread(target=one, daemon=True) for one in (self._listening, self._watching)
        ]
        for thread in self._threads:
            thread.start()
        try:
            most = (
                limits.memory_mib,
                limits.disk_mib,
                int(limits.seconds + START_SECONDS),
                TASKS * limits.processes,
            )
            self._write(CONTROL, encode(("limits", *most, not unsafe, self.forks, modules)))
            if self._control(time.monotonic() + START_SECONDS)[0] != "ready":
                raise Died("crash", "the worker did not start")
            self._first = family(self.process.pid)
        except BaseException:
            self.close()
            raise

    def start(self, cells: tuple[str, ...], specs: tuple[Any, ...]) -> None:
        """Begin a run."""
        self._heard.clear()
        self._write(CONTROL, encode(("run", cells, specs)))

    def send(self, *message: Any) -> None:
        """Send one message to the run."""
        self._write(RUN, encode(message))

    def message(self, deadline: float) -> tuple[Any, ...]:
        """Return the run's next message, a tuple with something in it."""
        value = receive(lambda size: self._read(size, deadline))
        if type(value) is not tuple or not value:
            raise ProtocolError("a message is a tuple")
        return value

    def clean(self) -> bool:
        """End the run and all that it started; returns whether the worker can do another."""
        if not self.forks or self.cause:
            return False
        try:
            if self.unsafe:
                self._end_strangers()
            self._write(CONTROL, encode(("clean",)))
            while (said := self._control(time.monotonic() + CLEAN_SECONDS)) != ("clean",):
                if said[0] != "ended":
                    return False
        except (Died, ProtocolError):
            return False
        self._heard.clear()
        return True

    def close(self) -> None:
        """End the worker and everything that it started."""
        self._ended.set()
        self._kill()
        self.process.wait()
        late = time.monotonic() + CLEAN_SECONDS
        while (
            any(map(is_alive, self._first)) and time.monotonic() < late
        ):  # a sandbox's first process goes after all others
            time.sleep(PAUSE)
        listening, watching = self._threads
        for _ in range(WAITING_FRAMES):
            if not listening.is_alive():
                self.process.stdout.close()
                break
            try:
                self._frames.get(timeout=PAUSE)  # it may wait for room
            except queue.Empty:
                continue
        watching.join()
        self.process.stdin.close()

    def _write(self, kind: int, data: bytes) -> None:
        rest = memoryview(frames(kind, data))
        self._overdue = (
            time.monotonic() + START_SECONDS
        )  # the first process always reads, unless it was stopped
        try:
            while rest:
                rest = rest[os.write(self.process.stdin.fileno(), rest) :]
        except OSError:
            raise self._death() from None
        finally:
            self._overdue = float("inf")

    def _frame(self, deadline: float) -> tuple[int, bytes]:
        if self._over:
            raise self._death()
        try:
            frame = self._frames.get(timeout=max(deadline - time.monotonic(), 0))
        except queue.Empty:
            raise Died(self.cause or "time") from None
        if frame is None:
            self._over = True
            raise self._death()
        return frame

    def _read(self, size: int, deadline: float) -> bytes:
        while len(self._heard) < size:
            kind, data = self._frame(deadline)
            if kind == CONTROL:
                said = _whole(data)
                raise self._death(said[-1] if said[0] == "ended" and type(said[-1]) is int else 0)
            self._heard += data
        wanted = bytes(self._heard[:size])
        del self._heard[:size]
        return wanted

    def _control(self, deadline: float) -> tuple[Any, ...]:
        while True:
            kind, data = self._frame(deadline)
            if kind == CONTROL:
                return _whole(data)

    def _death(self, code: int = 0) -> Died:
        self._ended.wait(LONG_PAUSE)  # the watch may have ended it
        if self.cause:
            return Died(self.cause)
        if code == -getattr(signal, "SIGXCPU", 0):
            return Died("time")
        return Died(
            "crash",
            (
                f"by {signal.Signals(-code).name}"
                if code < 0 and -code in signal.valid_signals()
                else ""
            ),
        )

    def _listening(self) -> None:
        """Read frames as they come; ends with the pipe."""
        pipe = self.process.stdout
        while len(head := pipe.read(FRAME.size)) == FRAME.size:
            kind, size = FRAME.unpack(head)
            if kind not in (RUN, CONTROL) or size > MAX_FRAME:
                break
            self._frames.put((kind, pipe.read(size)))
        self._frames.put(None)

    def _end_strangers(self) -> None:
        """Without a sandbox: end what the student's code has started, as far as it is still in the
        family.
        """
        strangers = [one for one in family(self.process.pid) if one not in self._first]
        for one in strangers:
            try:
                one.kill()
            except psutil.Error:
                continue
        psutil.wait_procs(strangers, timeout=1)

    def _watching(self) -> None:
        looked, base = 0.0, tasks()
        while not self._ended.wait(PAUSE):
            if time.monotonic() > self._overdue:
                self._end("time")
            many = (
                tasks() > base + self.limits.processes
            )  # one short read; a fork bomb leaves no time for a long one
            if not many and time.monotonic() - looked < LONG_PAUSE:
                continue
            looked, below = time.monotonic(), family(self.process.pid)
            if len(below) > self.limits.processes:
                self._end("processes")
            elif sum(map(memory, below)) > self.limits.memory_mib * 2**20:
                self._end("memory")
            base = max(base, tasks() - len(below)) if many else base

    def _end(self, cause: str) -> None:
        self.cause = self.cause or cause
        self._kill()

    def _kill(self) -> None:
        """End the sandbox: its first process takes all others with it. Without one, end the family
        we know of.
        """
        below = family(self.process.pid) if self.unsafe else []
        self.process.kill()
        for one in below:
            try:
                one.kill()
            except psutil.Error:
                continue
        if hasattr(os, "killpg"):
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                return


def _whole(data: bytes) -> tuple[Any, ...]:
    """A message of the first process, which is one frame."""
    length, _ = HEADER.unpack(data[: HEADER.size])
    return decode(data[HEADER.size : HEADER.size + length], b"")
