"""Paths as users write them, and the one place that writes files: whole, in the mode they had."""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from ..door import checked
from ..validation import describe


def user_path(path: str | os.PathLike, name: str = "path") -> Path:
    """Return a path that was passed as ``name``, with the home folder for a leading ``~``.

    Raises TypeError unless it is a str or pathlib.Path; ValueError for "" or a home that is not.
    """
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a path, a str or pathlib.Path, got {describe(path)}.")
    if not text or "\0" in text:
        raise ValueError(f"{name} must name a file or folder, got {text!r}.")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{name}={text!r}: {error} Write the whole path.") from error


def writable(path: str | os.PathLike, name: str = "path") -> Path:
    """Return the file that writing to ``path`` changes: a link is followed, its folder is made.

    Raises IsADirectoryError for a folder, NotADirectoryError if its folder is a file; without leave
    to write PermissionError, for root too; OSError for a pipe, a socket or a disk.
    """
    text, path = str(path), user_path(path, name)
    if text.endswith(("/", os.sep)):
        raise IsADirectoryError(f"{name} must be a file, got the folder {text}. Add a file name.")
    target = Path(os.path.realpath(path))
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = stat.S_IFREG | stat.S_IWUSR
    except NotADirectoryError as error:
        raise NotADirectoryError(f"{name}={path}: its folder is a file. Name another.") from error
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{name} must be a file, got the folder {path}. Add a file name.")
    if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode)):
        raise OSError(f"{name} must be a regular file, got {path}: a pipe, a socket or a disk.")
    if not mode & 0o222 or (target.exists() and not os.access(target, os.W_OK)):
        raise PermissionError(f"{name}={path} is read-only. Name another file, or chmod u+w it.")
    if stat.S_ISREG(mode) and not os.access(target.parent, os.W_OK):
        raise PermissionError(f"{name}={path}: no file can be written in {target.parent}.")
    return target


@checked()
def write_bytes(
    path: str | os.PathLike, content: bytes, *, name: str = "path", trial: bool = False
) -> None:
    """Write ``content`` whole or not at all: to a file beside it, then renamed.

    A link stays one, an old file keeps its mode, a new one has the umask's. A character device
    such as /dev/null is written to. ``trial``: then remove it again. Raises as ``writable`` does.
    """
    target = writable(path, name)
    old = target.stat() if target.exists() else None
    if old and stat.S_ISCHR(old.st_mode):
        if not trial:
            target.write_bytes(content)
        return
    mode = 0o666 if old is None else stat.S_IMODE(old.st_mode)
    temporary = target.with_name(f".{secrets.token_hex(6)}.part")
    if trial and old:  # what is there takes its own place: some places let no file be replaced
        content = target.read_bytes()
    try:
        with open(temporary, "xb", opener=lambda new, flags: os.open(new, flags, mode)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if old:
            with suppress(OSError, AttributeError):  # of another owner; Windows has none
                os.chown(temporary, old.st_uid, old.st_gid)
            os.chmod(temporary, mode)
        if old or not trial:
            os.replace(temporary, target)
    except OSError as error:
        said = f"{name}={path} cannot be written: {error.strerror or error}"
        raise type(error)(error.errno, f"{said}. Name a file in a folder of yours.") from error
    finally:
        temporary.unlink(missing_ok=True)
