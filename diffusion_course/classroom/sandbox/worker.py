"""The worker's first process: it passes messages between the grader and the process of each run.

It never runs a student's code. For each run it forks a child (`execution`) that has a socket to
this process and no pipe to the grader; so no student's code can answer for a later run, and when a
run is over, everything it started is killed. Where Python cannot fork, or forks are not safe, there
is one process for one run, without this protection.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable

import torch

from .execution import Channel, one_run
from .pipes import DirectLink, GraderPipes
from .protocol import CONTROL, RUN, encode
from .restrictions import forbid_tracing, set_limits

PAUSE, GONE_SECONDS = 0.05, 8.0
NICE = 5  # the grader's watch goes first
FIRST = 2  # this process's number in a sandbox; bubblewrap's own is 1


def relay(work: Callable[[Channel], None], pipes: GraderPipes, *, sandboxed: bool) -> None:
    """Fork a child that does `work`, pump messages for it, and end all that it has started."""
    ours, theirs = socket.socketpair()
    folder = tempfile.mkdtemp(prefix="run-")
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            os.nice(NICE)
            pipes.close()
            ours.close()
            work_in(folder)
            work(Channel(theirs))
        finally:
            os._exit(1)
    theirs.close()
    status = pump(child, ours, pipes)
    ours.close()
    end_run(child, status, sandboxed=sandboxed)
    shutil.rmtree(folder, ignore_errors=True)
    said = ("clean",) if status is None else ("ended", os.waitstatus_to_exitcode(status))
    pipes.send(CONTROL, encode(said))


def pump(child: int, link: socket.socket, pipes: GraderPipes) -> int | None:
    """Pass on what run and grader say to each other.

    Returns the run's exit status once it has ended and all that it said is passed on, or None as
    soon as the grader speaks to this process: it has enough.
    """
    link.setblocking(False)
    to_child, is_open, status = bytearray(), True, None
    while True:
        if status is None:
            ended, code = os.waitpid(child, os.WNOHANG)
            status = code if ended else None
        readable = [pipes.read_end, *[link] * is_open]
        writable = [link] if to_child and is_open else []
        ready, free, _ = select.select(readable, writable, [], PAUSE if status is None else 0)
        try:
            if link in free:
                del to_child[: link.send(to_child)]
            said = link.recv(2**16) if link in ready else None
        except OSError:
            said = b""
        if said:
            pipes.send(RUN, said)
        elif said == b"":
            is_open = False
        elif status is not None:
            return status
        if pipes.read_end in ready:
            kind, data = pipes.frame()
            if kind == CONTROL:
                return status
            to_child += data


def work_in(folder: str) -> None:
    """Make `folder` the one for this process's files; no earlier run knew it."""
    os.chdir(folder)
    os.environ.update(HOME=folder, TMPDIR=folder, MPLCONFIGDIR=folder)
    tempfile.tempdir = None


def end_run(child: int, status: int | None, *, sandboxed: bool) -> None:
    """Kill all that a run has started, and wait until it is gone.

    Without a sandbox that is its process group; the grader looks for what else there is.
    """
    if sandboxed and os.getpid() == FIRST:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)  # all but this process and bubblewrap's first
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
    if status is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if sandboxed:
        wait_until_alone()
        empty_temporary_folders()


def wait_until_alone() -> None:
    """Wait until this process and bubblewrap's are alone: the killed count until they are gone."""
    known, late = {"1", str(os.getpid())}, time.monotonic() + GONE_SECONDS
    while time.monotonic() < late:
        if not {name for name in os.listdir("/proc") if name.isdigit()} - known:
            return
        time.sleep(PAUSE / 10)


def empty_temporary_folders() -> None:
    """Remove what a run has left where it can write."""
    for top in (tempfile.gettempdir(), "/dev/shm"):
        for entry in os.scandir(top):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)


def main() -> None:
    """Read the limits, then do one run after another until the grader closes the pipe."""
    pipes = GraderPipes(*map(int, sys.argv[1:]))
    torch.set_num_threads(1)
    # use_deterministic_algorithms(True) would import a compiler, which takes seconds.
    torch.set_deterministic_debug_mode("error")
    forbid_tracing()
    _, limits, options = pipes.control()
    for module in options["modules"]:  # here, so that each run does not spend its time on it
        importlib.import_module(module)
    set_limits(**limits, sandboxed=options["sandboxed"])
    pipes.send(CONTROL, encode(("ready",)))
    while True:
        message = pipes.control()
        if message[0] == "clean":
            pipes.send(CONTROL, encode(("clean",)))
        elif message[0] == "run" and options["forks"]:
            _, cells, specs = message
            relay(
                lambda channel, cells=cells, specs=specs: one_run(
                    cells, specs, channel, forks=True
                ),
                pipes,
                sandboxed=options["sandboxed"],
            )
        elif message[0] == "run":
            _, cells, specs = message
            one_run(cells, specs, Channel(DirectLink(pipes)), forks=False)


if __name__ == "__main__":
    main()
