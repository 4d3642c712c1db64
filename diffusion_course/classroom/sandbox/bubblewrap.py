"""Start the worker where it can do no harm: in bubblewrap.

https://github.com/containers/bubblewrap. The worker sees Python, the system's libraries, the course
without the lessons' exercises, and one temporary folder in memory that it may write to. It has no
network, an empty environment, a user and process numbers of its own, may not make the system calls
of `confinement`, and ends with the grader.
"""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .confinement import refusing_filter

PACKAGE = Path(__file__).resolve().parents[2]
DATA = PACKAGE.parent / "data"
COURSE = "/course"
WORKER = ("call_spec", "decoding", "execution", "outcomes", "pipes", "protocol")
WORKER += ("record", "restrictions")
# What the worker sees of the folders that hold more than it may know; of the others it sees all.
KEPT = {
    "classroom": {"__init__.py", "sandbox"},
    "sandbox": {"__init__.py", "worker.py", *(f"{name}.py" for name in WORKER)},
}
SILENT_EXERCISES = '''"""Checks do nothing while a submission is graded."""


def _nothing(*args, **kwargs):
    return None


check = hint = solution = exercise = progress = reset_progress = _nothing
'''
WHAT_TO_DO = (
    "bubblewrap is what keeps a submission from your files and your network, and it is not usable"
    " here ({why}). If it is missing on Linux, install it (apt install bubblewrap); on macOS and"
    " Windows grade in a Linux container or virtual machine. --unsafe grades without it."
)


class SandboxMissing(RuntimeError):
    """Bubblewrap is not installed, or not allowed here."""


@contextmanager
def course_copy() -> Iterator[Path]:
    """Give a folder with the course's package as the worker may see it.

    The exercises' answers are not there, and checks are silent.
    """
    with tempfile.TemporaryDirectory(prefix="diffusion-course-") as folder:
        target = Path(folder) / PACKAGE.name

        def left_out(where: str, names: list[str]) -> list[str]:
            inside = Path(where).name
            return [
                name
                for name in names
                if name == "__pycache__"
                or (inside == "exercises" and name == "lessons")
                or (inside in KEPT and name not in KEPT[inside])
            ]

        shutil.copytree(PACKAGE, target, ignore=left_out)
        (target / "exercises" / "__init__.py").write_text(SILENT_EXERCISES, encoding="utf-8")
        (Path(folder) / "data").mkdir()  # where the weights are shown
        yield Path(folder)


def environment(course: str, home: str) -> dict[str, str]:
    """The worker's whole environment."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": home,
        "TMPDIR": home,
        "MPLCONFIGDIR": home,
        "LANG": "C.UTF-8",
        "PYTHONPATH": course,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
        "HF_HUB_OFFLINE": "1",
        "DIFFUSION_COURSE_PROGRESS": "off",
    }


def worker_command() -> list[str]:
    """Python and the worker's module."""
    return [sys.executable, "-m", "diffusion_course.classroom.sandbox.worker"]


def _prefixes() -> list[Path]:
    """The folders that Python needs, outermost first.

    What lies in another one is not named again.
    """
    found: list[Path] = []
    for name in (sys.base_prefix, sys.prefix, os.path.dirname(os.path.realpath(sys.executable))):
        path = Path(name)
        if not any(path.is_relative_to(one) for one in [*found, Path("/usr")]):
            found.append(path)
    return found


def shown_by(path: str | os.PathLike) -> Path | None:
    """Return the folder through which the sandbox would show `path`, or None."""
    real = os.path.realpath(path)
    tops = [Path("/usr"), *_prefixes(), DATA]
    return next((top for top in tops if Path(real).is_relative_to(os.path.realpath(top))), None)


def require_hidden(path: str | os.PathLike, what: str) -> None:
    """Raise ValueError for a path that every submission could read."""
    if (top := shown_by(path)) is not None:
        raise ValueError(
            f"{what} {path} lies below {top}, which the sandbox shows: a submission could read it."
            " Keep it elsewhere, say in your home folder."
        )


def _installed_copies(shown: list[Path]) -> list[Path]:
    """Folders of this package in what the sandbox shows: they would show the answers."""
    folders = {PACKAGE, *(Path(folder).resolve() / PACKAGE.name for folder in sys.path)}
    return sorted(
        one for one in folders if one.is_dir() and any(one.is_relative_to(top) for top in shown)
    )


def bubblewrap_arguments(course: Path, disk_mib: int) -> list[str]:
    """The arguments of `bwrap`, without the command to run."""
    size = ["--size", str(disk_mib * 2**20), "--tmpfs"]
    arguments = ["--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent"]
    arguments += ["--new-session", "--clearenv", "--hostname", "sandbox"]
    arguments += ["--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"]
    for path in ("/usr", "/etc/ld.so.cache", "/etc/fonts", "/etc/alternatives"):
        arguments += ["--ro-bind-try", path, path]
    for path in ("/bin", "/sbin", "/lib", "/lib64", "/lib32"):
        if os.path.islink(path):
            arguments += ["--symlink", os.readlink(path), path]
        else:
            arguments += ["--ro-bind-try", path, path]
    prefixes = _prefixes()
    for prefix in prefixes:
        arguments += ["--ro-bind", str(prefix), str(prefix)]
    for copy in _installed_copies([Path("/usr"), *prefixes]):
        arguments += ["--tmpfs", str(copy), "--remount-ro", str(copy)]
    arguments += ["--ro-bind", str(course), COURSE]
    if DATA.is_dir():
        arguments += ["--ro-bind", str(DATA), f"{COURSE}/data"]
    arguments += ["--proc", "/proc", "--remount-ro", "/proc"]
    arguments += ["--dev", "/dev", *size, "/dev/shm", "--remount-ro", "/dev"]
    arguments += [*size, "/tmp", "--chdir", "/tmp"]
    for name, value in environment(COURSE, "/tmp").items():
        arguments += ["--setenv", name, value]
    return [*arguments, "--remount-ro", "/"]


def _in_bubblewrap(
    command: list[str], course: Path, disk_mib: int, given: tuple[int, ...] = (), **options: Any
) -> subprocess.Popen[bytes]:
    """Start a command in the sandbox; it has the descriptors that are `given`.

    The arguments travel by a pipe, so that the sandbox's process list does not show the grader's
    folders.
    """
    program, ends = shutil.which("bwrap") or "bwrap", []
    arguments = b"".join(part.encode() + b"\0" for part in bubblewrap_arguments(course, disk_mib))
    try:
        for content in filter(None, (arguments, refusing_filter())):
            read, write = os.pipe()
            ends.append(read)
            os.write(write, content)  # less than a pipe holds
            os.close(write)
        pairs = zip(("--args", "--seccomp"), map(str, ends), strict=False)
        options |= {"env": {"PATH": "/usr/bin:/bin"}, "pass_fds": (*ends, *given)}
        return subprocess.Popen([program, *itertools.chain(*pairs), *command], **options)
    finally:
        for end in ends:
            os.close(end)


@functools.cache
def _problem() -> str | None:
    if shutil.which("bwrap") is None:
        return "bwrap is not on the PATH"
    if hidden := [path for path in _prefixes() if path.is_relative_to("/tmp")]:
        return (
            f"Python is in {hidden[0]}, and /tmp is the sandbox's own: use an environment"
            " elsewhere, say make env VENV=FOLDER"
        )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").mkdir()
        pipes = dict.fromkeys(("stdin", "stdout"), subprocess.DEVNULL)
        command = [sys.executable, "-c", ""]
        tried = _in_bubblewrap(command, Path(folder), 1, stderr=subprocess.PIPE, **pipes)
        _, said = tried.communicate()
    if tried.returncode == 0:
        return None
    return (said.decode("utf-8", "replace").strip().splitlines() or ["it failed"])[-1]


def sandbox_available() -> bool:
    """Whether bubblewrap is here and works."""
    return _problem() is None


def require_sandbox() -> None:
    """Raise SandboxMissing, with what to do, where bubblewrap does not work."""
    if (why := _problem()) is not None:
        raise SandboxMissing(WHAT_TO_DO.format(why=why))


def start_worker(
    course: Path, disk_mib: int
) -> tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]]:
    """Start a worker; returns it, the pipe to it and the pipe from it.

    The worker has its ends of the pipes as descriptors above 2, which bubblewrap's own processes
    close: everybody in the sandbox can look into those.
    """
    require_sandbox()
    (read, to_worker), (from_worker, write) = os.pipe(), os.pipe()
    try:
        command = [*worker_command(), str(read), str(write)]
        nothing = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        options = {"start_new_session": True, **nothing}
        process = _in_bubblewrap(command, course, disk_mib, given=(read, write), **options)
    except BaseException:
        os.close(to_worker)
        os.close(from_worker)
        raise
    finally:
        os.close(read)
        os.close(write)
    return process, os.fdopen(to_worker, "wb", buffering=0), os.fdopen(from_worker, "rb")
