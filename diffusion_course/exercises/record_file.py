"""The small file that keeps the learner's progress: where it is, what stands in it, and one writer at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..checkpoints import write_bytes

VARIABLE = "DIFFUSION_COURSE_PROGRESS"
VERSION = 1
LOCK_TIMEOUT = 2.0  # seconds that a check waits for another kernel's lock
LOCK_STALE = 10.0  # seconds after which a lock's owner must be gone: holding it takes milliseconds
MANY = 10**9  # more attempts than anybody makes


class FromNewerCourse(OSError):
    """The file has a version that this course does not know."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """What is known about one exercise: attempts >= 0, hints shown >= 0, whether a right answer was given."""

    attempts: int = 0
    hints: int = 0
    done: bool = False

    @property
    def state(self) -> str:
        """Return "done", "tried" or "open"."""
        return "done" if self.done else "tried" if self.attempts else "open"

    def with_event(self, event: Entry) -> Entry:
        """Return this entry after `event`: attempts add up, the furthest hint counts, done stays done."""
        return Entry(self.attempts + event.attempts, max(self.hints, event.hints), self.done or event.done)


def progress_file() -> Path | None:
    """Return the file that keeps progress, None where it is switched off.

    DIFFUSION_COURSE_PROGRESS names it, or is "off"; without it the file is in the user's data folder of the platform.
    Raises RuntimeError where there is no home folder.
    """
    chosen = os.environ.get(VARIABLE, "").strip()
    if chosen.lower() == "off":
        return None
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        folder = os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming"
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Application Support"
    else:
        given = os.environ.get("XDG_DATA_HOME", "")
        folder = given if os.path.isabs(given) else Path.home() / ".local" / "share"
    return Path(folder) / "diffusion_course" / "progress.json"


def read(path: Path) -> tuple[dict[str, Entry], str | None]:
    """Return the entries by exercise id, and what is wrong with the file (None: nothing); entries that are whole count.

    A file that does not exist is empty. Raises OSError where it cannot be read, FromNewerCourse for a later version.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}, None
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        return {}, f"it is not JSON ({str(error)[:80]})"
    version = data.get("version") if isinstance(data, dict) else None
    if type(version) is not int or version < 1 or not isinstance(data.get("exercises"), dict):
        return {}, "it is not a progress file"
    if version > VERSION:
        raise FromNewerCourse(f"a newer version of the course wrote it (format {version}, this one knows {VERSION})")
    found = {name: _entry(fields) for name, fields in data["exercises"].items()}
    bad = sorted(name for name, entry in found.items() if entry is None)
    problem = f"what it says of {', '.join(bad[:3])} cannot be" if bad else None
    return {name: entry for name, entry in found.items() if entry is not None}, problem


def _entry(fields: object) -> Entry | None:
    if not isinstance(fields, dict) or type(fields.get("done")) is not bool:
        return None
    counts = [fields.get(name) for name in ("attempts", "hints")]
    if not all(type(count) is int and 0 <= count <= MANY for count in counts):
        return None
    return Entry(*counts, fields["done"])


def write(path: Path, entries: Mapping[str, Entry]) -> None:
    """Write the entries whole or not at all. Raises OSError."""
    exercises = {name: dataclasses.asdict(entry) for name, entry in sorted(entries.items())}
    write_bytes(path, f"{json.dumps({'version': VERSION, 'exercises': exercises}, indent=1)}\n".encode())


def set_aside(path: Path) -> Path:
    """Rename a broken file to `NAME.broken-N` with the first free N, and return its new path. Raises OSError."""
    number = 1
    while os.path.lexists(kept := path.with_name(f"{path.name}.broken-{number}")):
        number += 1
    path.rename(kept)
    return kept


@contextlib.contextmanager
def locked(path: Path, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold `NAME.lock` beside `path`, so that one process at a time reads, changes and writes the file.

    A lock that its owner left behind is removed after ten seconds. Raises TimeoutError where the lock stays taken for
    `timeout` seconds, OSError where no lock can be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f"{path.name}.lock")
    token = secrets.token_hex(8)
    end = time.monotonic() + timeout
    while not _create(lock, token):
        if _is_stale(lock):
            _remove_stale(lock)
        elif time.monotonic() > end:
            raise TimeoutError(f"another process holds {lock.name}")
        else:
            time.sleep(0.005)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if lock.read_text(encoding="ascii") == token:
                lock.unlink()


def _create(lock: Path, token: str) -> bool:
    try:
        handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    except PermissionError:
        if os.name == "nt" and lock.exists():  # Windows: the other process is just removing it
            return False
        raise
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(token)
    return True


def _is_stale(lock: Path) -> bool:
    try:
        return abs(time.time() - lock.stat().st_mtime) > LOCK_STALE
    except FileNotFoundError:
        return False


def _remove_stale(lock: Path) -> None:
    """Remove a stale lock. Only the holder of a second lock may, so that nobody removes the one that comes after it."""
    guard = lock.with_name(f"{lock.name}.removing")
    if not _create(guard, ""):
        if _is_stale(guard):
            guard.unlink(missing_ok=True)
        time.sleep(0.005)
        return
    try:
        if _is_stale(lock):
            lock.unlink(missing_ok=True)
    finally:
        guard.unlink(missing_ok=True)
