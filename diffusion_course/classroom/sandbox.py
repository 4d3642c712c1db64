"""Start the worker where it can do no harm: in bubblewrap, or, when told so, in a plain process.

https://github.com/containers/bubblewrap. The worker sees Python, the system's libraries, the course without the lessons'
exercises, and one temporary folder in memory that it may write to. It has no network, an empty environment, a user and
process numbers of its own, and ends with the grader.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
DATA = PACKAGE.parent / "data"
COURSE = "/course"
KEPT_IN_CLASSROOM = {"__init__.py", "protocol.py", "decoding.py", "worker.py"}
SILENT_EXERCISES = '''"""Checks do nothing while a submission is graded."""


def _nothing(*args, **kwargs):
    return None


check = hint = solution = exercise = progress = reset_progress = _nothing
'''
WHAT_TO_DO = (
    "bubblewrap is what keeps a submission from your files and your network, and it is not usable here ({why}). On Linux "
    "install it (apt install bubblewrap); on macOS and Windows grade in a Linux container or virtual machine. "
    "--unsafe grades without it."
)
NOT_PROTECTED = (
    "graded without a sandbox: submissions could read your files, use your network and write where you can; only time and, "
    "where the system has such limits, memory were limited"
)


class SandboxMissing(RuntimeError):
    """Bubblewrap is not installed, or not allowed here."""


@contextmanager
def course_copy() -> Iterator[Path]:
    """Give a folder with the course's package as the worker may see it: without exercises' answers, silent checks."""
    with tempfile.TemporaryDirectory(prefix="diffusion-course-") as folder:
        target = Path(folder) / PACKAGE.name

        def left_out(where: str, names: list[str]) -> list[str]:
            inside = Path(where).name
            return [
                name for name in names
                if name == "__pycache__"
                or (inside == "exercises" and name.startswith("lesson"))
                or (inside == "classroom" and name not in KEPT_IN_CLASSROOM)
            ]  # fmt: skip

        shutil.copytree(PACKAGE, target, ignore=left_out)
        (target / "exercises" / "__init__.py").write_text(SILENT_EXERCISES, encoding="utf-8")
        (Path(folder) / "data").mkdir()  # where the weights are shown
        yield Path(folder)


def environment(course: str, home: str) -> dict[str, str]:
    """The worker's whole environment."""
    return {
        "PATH": "/usr/bin:/bin", "HOME": home, "TMPDIR": home, "MPLCONFIGDIR": home, "LANG": "C.UTF-8", "PYTHONPATH": course,
        "PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
        "MPLBACKEND": "Agg", "HF_HUB_OFFLINE": "1", "DIFFUSION_COURSE_PROGRESS": "off",
    }  # fmt: skip


def worker_command() -> list[str]:
    """Python and the worker's module."""
    return [sys.executable, "-m", "diffusion_course.classroom.worker"]


def _prefixes() -> list[Path]:
    """The folders that Python needs, outermost first; what lies in another one is not named again."""
    found: list[Path] = []
    for name in (sys.base_prefix, sys.prefix, os.path.dirname(os.path.realpath(sys.executable))):
        path = Path(name)
        if not any(path.is_relative_to(one) for one in [*found, Path("/usr")]):
            found.append(path)
    return found


def bubblewrap_arguments(course: Path, disk_mib: int) -> list[str]:
    """The arguments of `bwrap`, without the command to run."""
    size = ["--size", str(disk_mib * 2**20), "--tmpfs"]
    arguments = ["--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session", "--clearenv"]
    arguments += ["--uid", "65534", "--gid", "65534", "--hostname", "sandbox", "--cap-drop", "ALL"]
    for path in ("/usr", "/etc/ld.so.cache", "/etc/fonts", "/etc/alternatives"):
        arguments += ["--ro-bind-try", path, path]
    for path in ("/bin", "/sbin", "/lib", "/lib64", "/lib32"):
        if os.path.islink(path):
            arguments += ["--symlink", os.readlink(path), path]
        else:
            arguments += ["--ro-bind-try", path, path]
    for prefix in _prefixes():
        arguments += ["--ro-bind", str(prefix), str(prefix)]
        if PACKAGE.is_relative_to(prefix):  # an installed course would show the answers
            arguments += ["--tmpfs", str(PACKAGE)]
    arguments += ["--ro-bind", str(course), COURSE]
    if DATA.is_dir():
        arguments += ["--ro-bind", str(DATA), f"{COURSE}/data"]
    arguments += ["--proc", "/proc", "--dev", "/dev", *size, "/dev/shm", "--remount-ro", "/dev", *size, "/tmp", "--chdir", "/tmp"]
    for name, value in environment(COURSE, "/tmp").items():
        arguments += ["--setenv", name, value]
    return [*arguments, "--remount-ro", "/"]


@functools.cache
def _problem() -> str | None:
    program = shutil.which("bwrap")
    if program is None:
        return "bwrap is not on the PATH"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").mkdir()
        command = [program, *bubblewrap_arguments(Path(folder), 1), "/usr/bin/env", "true"]
        tried = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return None if tried.returncode == 0 else (tried.stderr.strip().splitlines() or ["it failed"])[-1]


def sandbox_available() -> bool:
    """Whether bubblewrap is here and works."""
    return _problem() is None


def require_sandbox() -> None:
    """Raise SandboxMissing, with what to do, where bubblewrap does not work."""
    if (why := _problem()) is not None:
        raise SandboxMissing(WHAT_TO_DO.format(why=why))


def start_worker(course: Path, folder: Path, disk_mib: int, *, unsafe: bool) -> subprocess.Popen[bytes]:
    """Start a worker with pipes as its stdin and stdout. `folder` is where an unsafe one may write."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    if unsafe:
        return subprocess.Popen(
            worker_command(), env=environment(str(course), str(folder)), cwd=folder, start_new_session=True, **pipes,
        )  # fmt: skip
    require_sandbox()
    # The arguments travel by a pipe, so that the sandbox's own process list does not show the grader's folders.
    read, write = os.pipe()
    try:
        os.write(write, b"".join(part.encode() + b"\0" for part in bubblewrap_arguments(course, disk_mib)))
        os.close(write)
        program = shutil.which("bwrap") or "bwrap"
        command = [program, "--args", str(read), *worker_command()]
        return subprocess.Popen(command, env={"PATH": "/usr/bin:/bin"}, pass_fds=(read,), start_new_session=True, **pipes)
    finally:
        os.close(read)
