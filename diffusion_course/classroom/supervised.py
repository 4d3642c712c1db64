"""A worker process under watch: messages with deadlines, and a thread that ends it when it takes too much."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from .decoding import receive
from .limits import Limits
from .protocol import ProtocolError, encode
from .sandbox import start_worker

START_SECONDS = 120.0
PAUSE, LONG_PAUSE = 0.02, 0.2
RESETS, MAX_LEFT = 20, 4096


class Died(Exception):
    """The worker is gone or was ended: `reason` is time, memory, processes, crash or protocol."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class Worker:
    """One worker. Raises Died when it ends, takes too long or too much, and ProtocolError for what is no message."""

    def __init__(self, course: Path, folder: Path, limits: Limits, *, unsafe: bool = False) -> None:
        self.limits, self.unsafe, self.cause = limits, unsafe, None
        self.process = start_worker(course, folder, limits.disk_mib, unsafe=unsafe)
        self._in, self._out = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._watching, daemon=True)
        self._watch.start()
        try:
            soon = time.monotonic() + START_SECONDS
            cpu_seconds = int(limits.seconds + START_SECONDS)
            self.send(encode(("limits", limits.memory_mib, limits.disk_mib, cpu_seconds)), soon)
            if self.message(soon) != ("ready",):
                raise ProtocolError("the worker did not start")
            self._first = self._find_first()
        except BaseException:
            self.close()
            raise

    def send(self, data: bytes, deadline: float) -> None:
        """Send one encoded message."""
        rest = memoryview(data)
        while rest:
            self._wait(deadline, writing=True)
            try:
                rest = rest[os.write(self._in, rest[:65536]) :]
            except BlockingIOError:
                continue
            except OSError:
                raise self._death() from None

    def message(self, deadline: float) -> tuple[Any, ...]:
        """Return the next message, a tuple; a child that ended when it should not counts as dead."""
        value = self._next(deadline)
        if value[0] == "ended":
            raise self._death(value[-1] if type(value[-1]) is int else 0)
        return value

    def finish(self, word: str) -> None:
        """Tell the child that it is done, and wait for its end."""
        soon = time.monotonic() + self.limits.seconds_per_call
        self.send(encode((word,)), soon)
        self.ended(soon)

    def ended(self, deadline: float) -> None:
        """Wait for the end of the child."""
        if self._next(deadline)[0] != "ended":
            raise ProtocolError("the worker went on when it should have ended")

    def _next(self, deadline: float) -> tuple[Any, ...]:
        value = receive(lambda size: self._read(size, deadline))
        if type(value) is not tuple or not value:
            raise ProtocolError("a message is a tuple")
        return value

    def _read(self, size: int, deadline: float) -> bytes:
        parts, left = [], size
        while left:
            self._wait(deadline, writing=False)
            try:
                part = os.read(self._out, min(left, 2**20))
            except BlockingIOError:
                continue
            if not part:
                raise self._death()
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _wait(self, deadline: float, *, writing: bool) -> None:
        left = deadline - time.monotonic()
        watched = ([], [self._in], []) if writing else ([self._out], [], [])
        if left <= 0 or not any(select.select(*watched, left)):
            raise Died(self.cause or "time")

    def _death(self, code: int = 0) -> Died:
        time.sleep(LONG_PAUSE)  # the watch may have ended it
        if self.cause:
            return Died(self.cause)
        if code == -signal.SIGXCPU:
            return Died("time")
        return Died("crash", f"by {signal.Signals(-code).name}" if code < 0 and -code in signal.valid_signals() else "")

    def _find_first(self) -> set[int]:
        """The processes that are there before any student's code: bubblewrap's and the worker's first one."""
        return {self.process.pid, *(one.pid for one in psutil.Process(self.process.pid).children(recursive=True))}

    def reset(self) -> bool:
        """End all that the student's code started, and no more; returns whether the worker can do another run."""
        if self.cause or self.process.poll() is not None:
            return False
        try:
            for _ in range(RESETS):
                family = psutil.Process(self.process.pid).children(recursive=True)
                strangers = [one for one in family if one.pid not in self._first]
                if not strangers:
                    break
                for one in strangers:
                    one.kill()
                psutil.wait_procs(strangers, timeout=1)
            nonce = os.urandom(32)
            soon = time.monotonic() + self.limits.seconds_per_call
            self.send(encode(("sync", nonce.hex())), soon)
            return self._skip_to(nonce, soon)
        except (Died, psutil.Error):
            return False

    def _skip_to(self, nonce: bytes, deadline: float) -> bool:
        """Throw away what was said before `nonce`."""
        seen = b""
        for _ in range(MAX_LEFT):
            self._wait(deadline, writing=False)
            part = os.read(self._out, 2**16)
            if not part:
                return False
            seen = seen[-len(nonce) :] + part
            if nonce in seen:
                return seen.endswith(nonce)
        return False

    def _watching(self) -> None:
        looked, base = 0.0, _tasks()
        while not self._ended.wait(PAUSE):
            many = _tasks() > base + self.limits.processes  # one short read; a fork bomb leaves no time for a long one
            if not many and time.monotonic() - looked < LONG_PAUSE:
                continue
            looked = time.monotonic()
            try:
                family = psutil.Process(self.process.pid).children(recursive=True)
            except psutil.Error:
                return
            if len(family) > self.limits.processes:
                self._end("processes")
            elif sum(map(_memory, family)) > self.limits.memory_mib * 2**20:
                self._end("memory")
            base = max(base, _tasks() - len(family)) if many else base

    def _end(self, cause: str) -> None:
        self.cause = self.cause or cause
        self._kill()

    def _kill(self) -> None:
        """End the sandbox: its first process takes all others with it. Without one, end the family we know of."""
        family = []
        if self.unsafe:
            try:
                family = psutil.Process(self.process.pid).children(recursive=True)
            except psutil.Error:
                pass
        self.process.kill()
        for one in family:
            try:
                one.kill()
            except psutil.Error:
                continue
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return

    def close(self) -> None:
        """End the worker and everything that it started."""
        self._ended.set()
        self._kill()
        self.process.wait()
        self._watch.join()
        self.process.stdin.close()
        self.process.stdout.close()


def _tasks() -> int:
    """How many tasks the machine has, threads too; 0 where /proc does not tell."""
    try:
        with open("/proc/loadavg", encoding="ascii") as line:
            return int(line.read().split()[3].partition("/")[2])
    except (OSError, ValueError, IndexError):
        return 0


def _memory(process: psutil.Process) -> int:
    """The process's share of memory in bytes: pages that it shares with its forks count once in the sum."""
    try:
        with open(f"/proc/{process.pid}/smaps_rollup", encoding="ascii") as lines:
            return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration, ValueError):
        try:
            return process.memory_info().rss
        except psutil.Error:
            return 0
