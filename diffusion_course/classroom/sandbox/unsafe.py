"""Start the worker without a sandbox, when told so: as oneself, or as another user."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import IO, Any

from .bubblewrap import DATA, environment, worker_command
from .other_user import OtherUser

NOT_PROTECTED = (
    "graded without a sandbox: submissions could read your files, use your network and write where"
    " you can; only time and, where the system has such limits, memory were limited"
)
AS_OTHER_USER = (
    "graded without a sandbox, as another user: the submission could use the network and read and"
    " write what every user of this machine can"
)


def start_unsafe_worker(
    course: Path, folder: Path, user: OtherUser | None = None
) -> tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]]:
    """Start a worker; returns it, the pipe to it and the pipe from it.

    It may write to `folder`. As another `user` it has the weights from the `course`, where they
    then must be, and begins when no process of an earlier one is left.
    """
    env = environment(str(course), str(folder))
    if "SYSTEMROOT" in os.environ:  # Windows starts nothing without it
        env["SYSTEMROOT"] = os.environ["SYSTEMROOT"]
    data = DATA if user is None else course / DATA.name
    if data.is_dir():
        env["DIFFUSION_COURSE_DATA"] = str(data)
    options: dict[str, Any] = {"env": env, "cwd": folder, "start_new_session": True}
    if user is not None:
        user.end_all()
        user.give(folder)
        options |= user.start_options
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(worker_command(), **options, **pipes)
    return process, process.stdin, process.stdout
