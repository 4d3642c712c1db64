"""The worker's first process: starts, and passes messages between the grader and the process of
each run.

It never runs a student's code. For each run it forks a child (`execution`) that has a socket to
this process and no pipe to the grader; so no student's code can answer for a later run, and when a
run is over, everything it started is killed. Where Python cannot fork, or forks are not safe, there
is one process for one run, without this protection.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
import re
import select
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

from .decoding import receive
from .execution import Channel, exactly, one_run
from .protocol import CONTROL, FRAME, RUN, encode, frames

PAUSE, GONE_SECONDS = 0.05, 8.0
NICE = 5  # the grader's watch goes first
FIRST = 2  # this process's number in a sandbox; bubblewrap's own is 1
DUMPABLE = 4  # prctl's PR_SET_DUMPABLE
COUNTED_BY_NAMESPACE = (5, 14)  # since this Linux a sandbox's processes are counted by themselves


class Pipes:
    """The two pipes to the grader; everything else that writes to stdout or stderr ends in
    /dev/null.
    """

    def __init__(self) -> None:
        self.read_end, self._write_end = os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)

    def close(self) -> None:
        """Close both, in a child that has no business with the grader."""
        os.close(self.read_end)
        os.close(self._write_end)

    def frame(self) -> tuple[int, bytes]:
        """Wait for a frame: who is spoken to, and what is said."""
        read = functools.partial(os.read, self.read_end)
        kind, size = FRAME.unpack(exactly(read, FRAME.size))
        return kind, exactly(read, size)

    def send(self, kind: int, data: bytes) -> None:
        """Send `data` in frames."""
        rest = memoryview(frames(kind, data))
        while rest:
            rest = rest[os.write(self._write_end, rest) :]

    def control(self) -> tuple[Any, ...]:
        """Wait for what is said to this process; frames for a run that is over are dropped."""
        waiting = b""

        def read(size: int) -> bytes:
            nonlocal waiting
            while len(waiting) < size:
                kind, data = self.frame()
                waiting += data if kind == CONTROL else b""
            wanted, waiting = waiting[:size], waiting[size:]
            return wanted

        return receive(read, objects=True)


class Alone:
    """For a process that is its own run: messages of the run straight through the grader's pipes.
    """

    def __init__(self, pipes: Pipes) -> None:
        self._pipes, self._rest = pipes, b""

    def recv(self, size: int) -> bytes:
        """Return at most `size` bytes of what the grader sends to the run; b"" when it says
        something else.
        """
        while not self._rest:
            kind, self._rest = self._pipes.frame()
            if kind != RUN:
                return b""
        part, self._rest = self._rest[:size], self._rest[size:]
        return part

    def sendall(self, data: bytes) -> None:
        """Send as the run."""
        self._pipes.send(RUN, data)


def relay(work: Callable[[Channel], None], pipes: Pipes, sandboxed: bool) -> None:
    """Fork a child that does `work`, and pass on what it and the grader say until it ends or the
    grader has enough.
    """
    ours, theirs = socket.socketpair()
    folder = tempfile.mkdtemp(prefix="run-")
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            os.nice(NICE)
            pipes.close()
            ours.close()
            settle(folder)
            work(Channel(theirs))
        finally:
            os._exit(1)
    theirs.close()
    ours.setblocking(False)
    to_child, is_open, status = bytearray(), True, None
    while True:
        ended, code = os.waitpid(child, os.WNOHANG) if status is None else (0, 0)
        status = code if ended else status
        watched, waiting = (
            [pipes.read_end, *[ours] * is_open],
            [ours] if to_child and is_open else [],
        )
        ready, free, _ = select.select(watched, waiting, [], PAUSE if status is None else 0)
        try:
            if ours in free:
                del to_child[: ours.send(to_child)]
            said = ours.recv(2**16) if ours in ready else None
        except OSError:
            said = b""
        if said:
            pipes.send(RUN, said)
        elif said == b"":
            is_open = False
        elif status is not None:  # it has ended, and all that it said is passed on
            break
        if pipes.read_end in ready:
            kind, data = pipes.frame()
            if kind == CONTROL:  # "clean": the grader has enough
                break
            to_child += data
    has_ended = status is not None
    ours.close()
    end_run(child, has_ended, sandboxed)
    shutil.rmtree(folder, ignore_errors=True)
    pipes.send(
        CONTROL, encode(("ended", os.waitstatus_to_exitcode(status)) if has_ended else ("clean",))
    )


def settle(folder: str) -> None:
    """Make `folder` the place for files: one that no earlier run knew."""
    os.chdir(folder)
    os.environ.update(HOME=folder, TMPDIR=folder, MPLCONFIGDIR=folder)
    tempfile.tempdir = None


def end_run(child: int, has_ended: bool, sandboxed: bool) -> None:
    """Kill all that a run has started. Without a sandbox that is its process group; the grader
    looks for what else there is.
    """
    if sandboxed and os.getpid() == FIRST:
        try:
            os.kill(
                -1, signal.SIGKILL
            )  # everything in the sandbox but this process and bubblewrap's first
        except ProcessLookupError:
            pass
    else:
        try:
            os.killpg(child, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
    if not has_ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if sandboxed:
        late = time.monotonic() + GONE_SECONDS
        while {name for name in os.listdir("/proc") if name.isdigit()} - {
            "1",
            str(os.getpid()),
        } and time.monotonic() < late:
            time.sleep(PAUSE / 10)  # what is killed is still counted until it is gone
        for top in (tempfile.gettempdir(), "/dev/shm"):
            for entry in os.scandir(top):
                (
                    shutil.rmtree(entry.path, ignore_errors=True)
                    if entry.is_dir(follow_symlinks=False)
                    else os.unlink(entry.path)
                )


def set_limits(memory_mib: int, disk_mib: int, seconds: int, tasks: int, sandboxed: bool) -> None:
    """Set the limits that a process cannot raise again, where the system has them."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limits = {
        "RLIMIT_DATA": memory_mib * 2**20,
        "RLIMIT_FSIZE": disk_mib * 2**20,
        "RLIMIT_CPU": seconds,
        "RLIMIT_CORE": 0,
        "RLIMIT_NOFILE": 256,
    }
    if (
        sandboxed
        and tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
        >= COUNTED_BY_NAMESPACE
    ):
        limits["RLIMIT_NPROC"] = tasks
    for name, most in limits.items():
        try:
            resource.setrlimit(getattr(resource, name), (most, most))
        except (
            AttributeError,
            ValueError,
            OSError,
        ):  # a system that lacks it, or has the name alone (macOS)
            continue


def keep_apart() -> None:
    """Let no other process of the sandbox read or trace this one."""
    try:
        ctypes.CDLL(None).prctl(DUMPABLE, 0, 0, 0, 0)
    except (AttributeError, OSError, TypeError):  # not Linux
        return


def main() -> None:
    """Read the limits, then do one run after another until the grader closes the pipe."""
    pipes = Pipes()
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode(
        "error"
    )  # use_deterministic_algorithms(True) would import a compiler, for seconds
    keep_apart()
    _, *limits, sandboxed, forks, modules = pipes.control()
    for module in modules:  # here, so that each run does not spend its time on it
        importlib.import_module(module)
    set_limits(*limits, sandboxed)
    pipes.send(CONTROL, encode(("ready",)))
    while True:
        message = pipes.control()
        if message[0] == "clean":
            pipes.send(CONTROL, encode(("clean",)))
        elif message[0] == "run" and forks:
            relay(
                lambda channel, message=message: one_run(*message[1:], channel, forks=True),
                pipes,
                sandboxed,
            )
        elif message[0] == "run":
            one_run(*message[1:], Channel(Alone(pipes)), forks=False)


if __name__ == "__main__":
    main()
