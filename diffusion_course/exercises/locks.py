"""A lock beside a file that several kernels write."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

LOCK_SECONDS = 2.0  # how long a check waits for another kernel
STALE_SECONDS = 10.0  # a lock this old was left behind: holding it takes milliseconds


@contextlib.contextmanager
def locked(path: Path) -> Iterator[Path]:
    """Hold NAME.lock beside the file, and give its path.

    The path is that of the file itself (`files.paths.writable`), so that all its names share a
    lock.

    Raises TimeoutError where another holds it too long, OSError where none can be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock, token = path.with_name(f"{path.name}.lock"), secrets.token_hex(8)
    end = time.monotonic() + LOCK_SECONDS
    while not _create(lock, token):
        if _is_stale(lock):
            _remove_stale(lock)
        elif time.monotonic() > end:
            raise TimeoutError(f"another process holds {lock.name}")
        else:
            time.sleep(0.005)
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            if lock.read_text(encoding="ascii") == token:
                lock.unlink()


def _create(lock: Path, token: str) -> bool:
    try:
        handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(token)
    return True


def _is_stale(lock: Path) -> bool:
    try:
        return abs(time.time() - lock.stat().st_mtime) > STALE_SECONDS
    except FileNotFoundError:
        return False


def _remove_stale(lock: Path) -> None:
    """Remove a lock that was left behind.

    A second lock keeps two processes from removing each other's new one.
    """
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
