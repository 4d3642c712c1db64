"""The worker: a first process that has PyTorch ready and holds nothing of any submission.

It never runs a student's code and reads nothing that belongs to one. For each run it forks a
messenger, which passes messages between the grader and the run; that one forks the run itself
(`execution`), which has a socket to the messenger and no pipe to the grader. When the grader has
enough, the messenger ends, and the first process kills everything else in the sandbox, empties the
folders and looks whether that is so. Only then does it say "clean" and fork the next messenger;
where anything is odd it ends instead, and the grader starts another worker. So a run finds in its
memory, in its folders and among the processes what the first process had before any student's code.
Where Python cannot fork, or forks are not safe, there is one process for one run, without this
protection.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import shutil
import signal
import socket
import stat
import sys
import tempfile
import time

import torch

from .execution import Channel, one_run
from .pipes import DirectLink, GraderPipes
from .protocol import CONTROL, RUN, encode
from .restrictions import forbid_tracing, set_limits

PAUSE, GONE_SECONDS = 0.05, 8.0
NICE = 5  # the grader's watch goes first
FIRST = 2  # this process's number in a sandbox; bubblewrap's own is 1
HAS_ENOUGH = 3  # a messenger's exit code after the grader's word, and only then


def serve(pipes: GraderPipes, limits: dict[str, int], *, sandboxed: bool) -> None:
    """Fork one messenger after another; returns as soon as anything is not as it should be."""
    folders = TemporaryFolders() if sandboxed else None
    if folders is not None:
        folders.emptied()  # what imports have left
    while True:
        messenger = os.fork()
        if messenger == 0:
            try:
                set_limits(**limits)
                carry_messages(pipes)
                os._exit(HAS_ENOUGH)
            finally:
                os._exit(1)
        _, status = os.waitpid(messenger, 0)
        if os.waitstatus_to_exitcode(status) != HAS_ENOUGH:
            return  # a run has ended it
        if folders is not None and not (end_all_others() and folders.emptied()):
            return
        pipes.send(CONTROL, encode(("clean",)))


def carry_messages(pipes: GraderPipes) -> None:
    """Do the run that the grader asks for, if any, until the grader has enough."""
    message = pipes.control()
    if message[0] != "run":
        return
    _, cells, specs = message
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
            one_run(cells, specs, Channel(theirs), forks=True)
        finally:
            os._exit(1)
    theirs.close()
    status = pump(child, ours, pipes)
    if status is not None:
        pipes.send(CONTROL, encode(("ended", os.waitstatus_to_exitcode(status))))
        while pipes.control()[0] != "clean":
            continue
    ours.close()
    # Without a sandbox that is all that ends here; the grader looks for what else there is.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    if status is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    shutil.rmtree(folder, ignore_errors=True)


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


def end_all_others() -> bool:
    """Kill all but this process and bubblewrap's; returns whether both are alone then.

    The killed count until they are gone.
    """
    if os.getpid() != FIRST:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    known, late = {"1", str(FIRST)}, time.monotonic() + GONE_SECONDS
    while {name for name in os.listdir("/proc") if name.isdigit()} - known:
        if time.monotonic() > late:
            return False
        time.sleep(PAUSE / 10)
    return True


class TemporaryFolders:
    """Where a run can write: kept empty, and as they were before any run."""

    def __init__(self) -> None:
        self._modes = {top: os.stat(top).st_mode for top in (tempfile.gettempdir(), "/dev/shm")}

    def emptied(self) -> bool:
        """Remove what a run has left; returns whether nothing of it is there any more."""
        for top, mode in self._modes.items():
            os.chmod(top, stat.S_IMODE(mode))
            for entry in os.scandir(top):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)
        return all(
            os.stat(top).st_mode == mode and not os.listdir(top)
            for top, mode in self._modes.items()
        )


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
    sandboxed = options["sandboxed"]
    pipes.send(CONTROL, encode(("ready",)))
    _ = pipes.control()  # the grader has looked which processes there are
    if options["forks"]:
        serve(pipes, limits, sandboxed=sandboxed)
        return
    set_limits(**limits)
    while (message := pipes.control())[0] != "run":
        pipes.send(CONTROL, encode(("clean",)))
    one_run(*message[1:], Channel(DirectLink(pipes)), forks=False)


if __name__ == "__main__":
    main()
