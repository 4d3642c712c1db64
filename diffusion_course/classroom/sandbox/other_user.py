"""Another user of the machine, for a worker without a sandbox: it owns nothing and has no groups.

Only root can start processes as somebody else. What is root's alone is then closed to the worker,
and all its processes can be ended, wherever they have hidden.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

FIRST, COUNT = 50_000, 10_000  # numbers that systems give to nobody, and containers have
ROUNDS, PAUSE, SECONDS = 100, 0.05, 30
# The killer's real number is nobody's, so that those whom it kills cannot kill it.
KILL = """import os, sys
killer, user = map(int, sys.argv[1:])
os.setgroups([])
os.setresgid(killer, killer, killer)
os.setresuid(killer, user, killer)
if os.getresuid() == (killer, user, killer):
    os.kill(-1, 9)
"""
TRY = """import os, sys
for path in sys.argv[1:]:
    try:
        os.listdir(path) if os.path.isdir(path) else open(path, "rb").close()
        print(path)
    except OSError:
        if os.access(path, os.W_OK):
            print(path)
"""


class OtherUserMissing(RuntimeError):
    """There is no other user that a worker could run as, or something is not closed to it."""


@dataclasses.dataclass(frozen=True)
class OtherUser:
    """A user that no process and no file belongs to yet, by number."""

    number: int

    @classmethod
    def fresh(cls) -> OtherUser:
        """Return one; raises OtherUserMissing where this process cannot start processes of it."""
        if not hasattr(os, "setresuid") or os.geteuid() != 0:
            raise OtherUserMissing(
                "--unsafe on Gradescope runs what students wrote as another user, and only root"
                " can do that; this process is not root's. Choose one of Gradescope's own base"
                " images, which run the autograder as root."
            )
        made = cls(FIRST + secrets.randbelow(COUNT) // 2 * 2)  # the next number is its killer's
        return cls.fresh() if made.processes() else made

    @property
    def start_options(self) -> dict[str, Any]:
        """What `subprocess.Popen` wants, to start a process of this user."""
        return {"user": self.number, "group": self.number, "extra_groups": []}

    def give(self, folder: str | os.PathLike) -> None:
        """Make the user the owner of a folder."""
        os.chown(folder, self.number, self.number)

    def processes(self) -> list[int]:
        """The numbers of its processes, other than those that have ended."""
        found = []
        for one in psutil.process_iter():
            try:
                if self.number in one.uids() and one.status() != psutil.STATUS_ZOMBIE:
                    found.append(one.pid)
            except psutil.Error:
                continue
        return found

    def end_all(self) -> None:
        """Kill all its processes at one stroke, until there is none; raises RuntimeError if not."""
        for _ in range(ROUNDS):
            arguments = ["-I", "-S", "-c", KILL, str(self.number + 1), str(self.number)]
            subprocess.run([sys.executable, *arguments], timeout=SECONDS, check=False, **_SILENT)
            if not self.processes():
                return
            time.sleep(PAUSE)
        raise RuntimeError("processes that the submission has started could not be ended")

    def require_closed(self, paths: Sequence[Path]) -> None:
        """Raise OtherUserMissing where the user can read or change one of these, or not be tried.

        A process of the user tries it.
        """
        command = [sys.executable, "-I", "-S", "-c", TRY, *map(str, paths)]
        pipes = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
        try:
            tried = subprocess.run(
                command, check=True, timeout=SECONDS, cwd="/", **pipes, **self.start_options
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise OtherUserMissing(
                f"{sys.executable} cannot be started as another user ({error}), so --unsafe cannot"
                " keep a submission from the grader's files. Python and its environment must be"
                " where every user can read them."
            ) from None
        if still := tried.stdout.split("\n")[:-1]:
            raise OtherUserMissing(
                f"{', '.join(still)} could be read by a submission, so nothing was graded."
            )


_SILENT: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
