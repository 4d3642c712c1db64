"""What the learner has tried, hinted and solved: in memory, and in a small file that several
kernels may share.

Another store needs only `Record`'s methods. The file holds counts by exercise id and nothing about
the person.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files.paths import user_path, writable, write_bytes
from .engine import Result
from .locks import locked

VARIABLE = "DIFFUSION_COURSE_PROGRESS"
FORMAT = 1
_EMPTY = {"attempts": 0, "done": False, "hints": 0}


def default_path() -> Path | None:
    """Return the file that keeps progress, or None where it is switched off.

    DIFFUSION_COURSE_PROGRESS names the file, or is "off"; without it the file is in the platform's
    folder for user data. Where there is no home folder it warns and returns None.
    """
    chosen = os.environ.get(VARIABLE, "").strip()
    if chosen.lower() == "off":
        return None
    try:
        if chosen:
            return user_path(chosen, VARIABLE).absolute()
        if sys.platform == "win32":
            folder = os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming"
        elif sys.platform == "darwin":
            folder = Path.home() / "Library" / "Application Support"
        else:
            given = os.environ.get("XDG_DATA_HOME", "")
            folder = given if os.path.isabs(given) else Path.home() / ".local" / "share"
    except (RuntimeError, ValueError) as error:
        warnings.warn(
            f"progress is not kept: {error} Set {VARIABLE} to a file of yours.", stacklevel=2
        )
        return None
    return Path(folder) / "diffusion_course" / "progress.json"


class Record:
    """Attempts, hints and right answers by exercise id.

    `path` is the file; None, or a device such as /dev/null, keeps them in the process only. An
    event is added to what the file says at that moment, under a lock; threads may share a record.
    What cannot be written stays in memory and is written as soon as that works; a warning says so
    once.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        path = None if path is None else user_path(path)
        self._path = None if path is not None and path.is_char_device() else path
        self._threads = threading.RLock()  # held by whoever reads or changes what follows
        self._stored: dict[str, dict[str, Any]] = {}
        self._pending: dict[str, dict[str, Any]] = {}
        # Hints in this process: a restarted kernel begins with the first again.
        self._shown: dict[str, int] = {}
        self._warned = False
        self._version: tuple[int, int, int] | None = None  # of the file when it was read
        self._read()

    def add(self, result: Result) -> None:
        """Count a real attempt; an unanswered stub is none."""
        if result.status != "unanswered":
            self._happened(result.exercise_id, attempts=1, done=result.status == "right")

    def attempts(self, exercise_id: str) -> int:
        """Return how often the exercise was tried."""
        return self._entry(exercise_id)["attempts"]

    def state(self, exercise_id: str) -> str:
        """Return "done", "tried" or "open"."""
        if self._entry(exercise_id)["done"]:
            return "done"
        return "tried" if self.attempts(exercise_id) else "open"

    def hints(self, exercise_id: str) -> int:
        """Return how many hints were shown."""
        return self._entry(exercise_id)["hints"]

    def next_hint(self, exercise_id: str, available: int) -> int:
        """Return the index of the hint to show now and remember it; the last one repeats.

        `available` is at least 1.
        """
        with self._threads:
            index = min(self._shown.get(exercise_id, 0), available - 1)
            self._shown[exercise_id] = index + 1
            if index + 1 > self.hints(exercise_id):
                self._happened(exercise_id, hints=index + 1)
            return index

    def forget(self, exercise_id: str | None = None) -> None:
        """Forget one exercise, or all.

        Raises OSError where the file has them and cannot be changed.
        """

        def kept(entries: Mapping[str, Any]) -> dict[str, Any]:
            return {
                name: entry for name, entry in entries.items() if exercise_id not in (None, name)
            }

        with self._threads:
            if self._path is not None and self._path.exists():
                with locked(writable(self._path)) as file:
                    self._stored = kept(_load(file))
                    _save(file, self._stored)
            self._stored, self._pending, self._shown = (
                kept(self._stored),
                kept(self._pending),
                kept(self._shown),
            )

    def _entry(self, exercise_id: str) -> dict[str, Any]:
        with self._threads:
            self._read()
            return _merged(self._stored, self._pending).get(exercise_id, _EMPTY)

    def _happened(self, exercise_id: str, **event: Any) -> None:
        with self._threads:
            self._pending = _merged(self._pending, {exercise_id: _EMPTY | event})
            if self._path is None:
                return
            try:
                with locked(writable(self._path)) as file:
                    merged = _merged(_load(file), self._pending)
                    _save(file, merged)
                self._stored, self._pending = merged, {}
                self._warned = False
            except OSError as error:
                self._not_kept(error)

    def _read(self) -> None:
        """Read the file if it changed since; other kernels write it too."""
        if self._path is None:
            return
        try:
            now = self._path.stat()
            if not stat.S_ISREG(now.st_mode):
                raise OSError("it is no regular file")
            version = (now.st_ino, now.st_mtime_ns, now.st_size)
            if version != self._version:
                self._version = version
                self._stored = _parse(self._path)
        except (FileNotFoundError, NotADirectoryError):
            self._version, self._stored = None, {}
        except ValueError:
            # Where it cannot be set aside the next event says why.
            with contextlib.suppress(OSError), locked(writable(self._path)) as file:
                self._stored = _load(file)
        except OSError as error:
            self._not_kept(error)

    def _not_kept(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            text = (
                f"progress is not kept in {self._path} now ({error.strerror or error}). It lasts as"
                " long as this session"
            )
            warnings.warn(
                f"{text}, and is written when that works. Set {VARIABLE} to another file, or to"
                " off.",
                stacklevel=4,
            )


def _merged(entries: Mapping[str, Any], events: Mapping[str, Any]) -> dict[str, Any]:
    """Add events to entries: attempts add up, the furthest hint counts, done stays done."""
    merged = dict(entries)
    for name, event in events.items():
        old = merged.get(name, _EMPTY)
        attempts, done = old["attempts"] + event["attempts"], old["done"] or event["done"]
        merged[name] = {
            "attempts": attempts,
            "done": done,
            "hints": max(old["hints"], event["hints"]),
        }
    return merged


def _parse(path: Path) -> dict[str, Any]:
    """Return the entries of the file, none where there is no file.

    Raises ValueError where it is broken, and OSError.
    """
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if (
        not isinstance(data, dict)
        or type(data.get("format")) is not int
        or data["format"] != FORMAT
    ):
        raise ValueError(f"it has no format {FORMAT}")
    entries = data.get("exercises")
    if not isinstance(entries, dict) or not all(_is_entry(entry) for entry in entries.values()):
        raise ValueError("an entry has no counts")
    return {name: {key: entry[key] for key in _EMPTY} for name, entry in entries.items()}


def _load(path: Path) -> dict[str, Any]:
    """Return the entries; a broken file is renamed to NAME.broken-N, with a warning.

    Call it under the lock. Raises OSError.
    """
    try:
        return _parse(path)
    except ValueError as error:
        number = 1
        while os.path.lexists(kept := path.with_name(f"{path.name}.broken-{number}")):
            number += 1
        path.rename(kept)
        text = (
            f"the file with your progress could not be read ({str(error)[:80]}). It is kept as"
            f" {kept.name}"
        )
        warnings.warn(f"{text} in {path.parent}; a new one begins.", stacklevel=4)
        return {}


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, dict) or type(entry.get("done")) is not bool:
        return False
    return all(type(entry.get(key)) is int and entry[key] >= 0 for key in ("attempts", "hints"))


def _save(path: Path, entries: Mapping[str, Any]) -> None:
    text = json.dumps({"format": FORMAT, "exercises": entries}, indent=1, sort_keys=True)
    write_bytes(path, f"{text}\n".encode())
