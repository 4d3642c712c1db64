"""Files and names that come from students: read without following, blocking or trusting them."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path

from ..files.paths import writable, write_bytes

DEVICE_ON_WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_KEPT = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")
_LONGEST_NAME = 100
_FROM_FOLDERS = {os.open, os.stat} <= os.supports_dir_fd


class Unreadable(Exception):
    """Why a submission cannot be read, in one sentence for the instructor."""


def write_secret(path: str | os.PathLike, content: bytes) -> None:
    """Write a file that its owner alone can read, whole or not at all.

    Raises as `files.paths.writable` does.
    """
    target = writable(path)
    is_new = not target.exists()
    if is_new:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    elif target.is_file():
        target.chmod(0o600)
    try:
        write_bytes(target, content)  # keeps the mode
    except BaseException:
        if is_new:
            target.unlink(missing_ok=True)
        raise


def read_file(
    path: str | os.PathLike,
    limit: int,
    *,
    below: str | os.PathLike | None = None,
    notes: list[str] | None = None,
) -> bytes:
    """Return the content of a regular file of at most `limit` bytes.

    Below the folder `below` (left out: the one that holds the file) no symbolic link is followed,
    of a folder neither, also where one is put there meanwhile; and a pipe or device is neither
    opened for long nor read. `notes` are told of a file with several names. Raises Unreadable that
    says what is wrong.
    """
    path = Path(path)
    try:
        with open(_opened(path, Path(below or path.parent)), "rb") as file:
            status = os.fstat(file.fileno())  # the path may be another file by now
            _must_be_regular(status)
            content = b"" if status.st_size > limit else file.read(limit + 1)
            after = os.fstat(file.fileno())
    except OSError as error:
        raise Unreadable(f"it cannot be read ({error.strerror or type(error).__name__})") from error
    except ValueError as error:
        raise Unreadable(f"its name cannot be opened ({error})") from error
    if len(content) > limit or status.st_size > limit:
        size = max(status.st_size, len(content))
        raise Unreadable(f"it is larger than {limit / 2**20:g} MiB ({size / 2**20:.1f} MiB)")
    if (after.st_size, after.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
        raise Unreadable("it was changed while it was read")
    if notes is not None and status.st_nlink > 1:
        shown = repr(printable(path.name, 80))
        notes.append(f"{shown} is a hard link: the same file has {status.st_nlink} names")
    return content


def _opened(path: Path, below: Path) -> int:
    """Open a file folder by folder, each from the one before, and none that is a link."""
    flags = os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):
        flags |= getattr(os, name, 0)
    if not _FROM_FOLDERS:
        _must_be_regular(os.lstat(path))
        return os.open(path, flags)
    if not path.is_relative_to(below) or ".." in path.relative_to(below).parts:
        raise Unreadable("it lies outside the folder of submissions")
    *folders, last = path.relative_to(below).parts
    look = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY
    here = os.open(below, look)
    try:
        for name in folders:
            inner = os.open(name, look | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = inner
        _must_be_regular(os.lstat(last, dir_fd=here))
        return os.open(last, flags, dir_fd=here)
    finally:
        os.close(here)


def _must_be_regular(status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise Unreadable("it is a symbolic link, which is not followed")
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable("it is a pipe, socket, device or folder, not a file")


def is_link(path: str | os.PathLike) -> bool:
    """True for a symbolic link, or on Windows a junction; False where nothing can be found out."""
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return False
    return stat.S_ISLNK(status.st_mode) or bool(getattr(status, "st_reparse_tag", 0))


def is_folder(path: str | os.PathLike) -> bool:
    """True for a folder itself, not for a link to one."""
    return os.path.isdir(path) and not is_link(path)


def printable(text: str, limit: int = 200) -> str:
    """Return `text` in one line that any file or terminal takes.

    What cannot be printed is spelled as an escape; bytes of a file name that are not UTF-8 become
    `\\xNN`. Longer than `limit` characters, it is cut.
    """
    decoded = text.encode("utf-8", "surrogateescape" if _is_file_name(text) else "backslashreplace")
    shown = decoded.decode("utf-8", "backslashreplace")
    spelled = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in shown[: limit + 1]
    )
    return spelled if len(spelled) <= limit else spelled[: limit - 3] + "..."


def _is_file_name(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def safe_name(student_id: str) -> str:
    """Return a spelling of `student_id` that is a plain file name everywhere.

    Different ids give different names. ASCII letters, digits, `_`, `-` and inner dots stay, every
    other byte becomes `=xx`. Above 100 characters the end is replaced by a hash. Raises ValueError
    for an empty id.
    """
    if not student_id:
        raise ValueError("a student id must not be empty")
    spelled = "".join(letter if letter in _KEPT else _as_bytes(letter) for letter in student_id)
    if spelled[0] in ".-":
        spelled = f"={ord(spelled[0]):02x}{spelled[1:]}"
    if spelled[-1] == ".":
        spelled = spelled[:-1] + "=2e"
    if DEVICE_ON_WINDOWS.match(spelled):
        spelled = f"={ord(spelled[0]):02x}{spelled[1:]}"
    if len(spelled) > _LONGEST_NAME:
        digest = hashlib.sha256(student_id.encode("utf-8", "surrogatepass")).hexdigest()
        spelled = f"{spelled[:60]}=-{digest[:32]}"
    return spelled


def _as_bytes(letter: str) -> str:
    return "".join(f"={byte:02x}" for byte in letter.encode("utf-8", "surrogatepass"))
