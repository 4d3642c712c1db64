"""What the learner has tried, hinted and solved: in memory, and in a small local file that outlives the kernel."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..checkpoints import write_bytes
from .engine import Result

FORMAT = 1
VARIABLE = "DIFFUSION_COURSE_PROGRESS"
LOCK_SECONDS, STALE_SECONDS = 2.0, 10.0


def default_path() -> Path | None:
    """Return the progress file: the one that DIFFUSION_COURSE_PROGRESS names (None for "off"), else the user's data folder."""
    named = os.environ.get(VARIABLE, "").strip()
    if named:
        return None if named.lower() == "off" else Path(named).expanduser()
    if sys.platform == "win32":
        folder = os.environ.get("APPDATA") or "~/AppData/Roaming"
    elif sys.platform == "darwin":
        folder = "~/Library/Application Support"
    else:
        folder = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(folder).expanduser() / "diffusion_course" / "progress.json"


class Record:
    """Attempts, hints and what is done, by exercise id; kept in `path`, or only in memory where it is None.

    Several processes may write to one file; no count is lost. A file that cannot be read is set aside, never overwritten.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._memory: dict[str, dict[str, Any]] = {}
        self._shown: dict[str, int] = {}

    def add(self, result: Result) -> None:
        """Count a real attempt; an unanswered stub is none."""
        if result.status != "unanswered":
            done = result.status == "right"
            self._change(result.exercise_id, lambda old: old.update(attempts=old["attempts"] + 1, done=old["done"] or done))

    def attempts(self, exercise_id: str) -> int:
        """Return how often the exercise was tried."""
        return self._entry(exercise_id)["attempts"]

    def state(self, exercise_id: str) -> str:
        """Return "done", "tried" or "open"."""
        entry = self._entry(exercise_id)
        return "done" if entry["done"] else "tried" if entry["attempts"] else "open"

    def hints(self, exercise_id: str) -> int:
        """Return how many different hints were shown."""
        return self._entry(exercise_id)["hints"]

    def next_hint(self, exercise_id: str, available: int) -> int:
        """Return the index of the hint to show now; the last one repeats. A new process begins with the first."""
        index = min(self._shown.get(exercise_id, 0), available - 1)
        self._shown[exercise_id] = index + 1
        self._change(exercise_id, lambda entry: entry.update(hints=max(entry["hints"], index + 1)))
        return index

    def forget(self, exercise_id: str | None = None) -> None:
        """Forget one exercise, or all of them."""
        with self._locked():
            entries = self._read()
            for one in list(entries) if exercise_id is None else [exercise_id]:
                entries.pop(one, None)
                self._shown.pop(one, None)
            self._write(entries)

    def _entry(self, exercise_id: str) -> dict[str, Any]:
        return {"attempts": 0, "done": False, "hints": 0} | self._read().get(exercise_id, {})

    def _change(self, exercise_id: str, change: Callable[[dict[str, Any]], None]) -> None:
        with self._locked():
            entries = self._read()
            entry = {"attempts": 0, "done": False, "hints": 0} | entries.get(exercise_id, {})
            change(entry)
            entries[exercise_id] = entry
            self._write(entries)

    def _read(self) -> dict[str, dict[str, Any]]:
        if self.path is None:
            return self._memory
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT or not all(map(_is_entry, content["exercises"].values())):
                raise ValueError(f"its format is not {FORMAT}")
            return content["exercises"]
        except FileNotFoundError:
            return {}
        except OSError as error:
            self._give_up(error)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._set_aside(error)
        return self._memory if self.path is None else {}

    def _write(self, entries: dict[str, dict[str, Any]]) -> None:
        self._memory = entries
        if self.path is not None:
            content = {"format": FORMAT, "exercises": dict(sorted(entries.items()))}
            try:
                write_bytes(self.path, (json.dumps(content, indent=1) + "\n").encode("utf-8"))
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Go on in memory; said once."""
        warnings.warn(f"progress is not kept: {self.path} cannot be used ({error.strerror}). Set {VARIABLE}.", stacklevel=5)
        self.path = None

    def _set_aside(self, error: Exception) -> None:
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.broken-{number}")).exists():
            number += 1
        os.replace(self.path, aside)
        told = f"{self.path} cannot be read ({error}). It is kept as {aside.name}, and progress begins anew."
        warnings.warn(told, stacklevel=5)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the file for this process; a lock that nobody has removed for long is taken over."""
        lock, end, held = self.path and self.path.with_name(f"{self.path.name}.lock"), time.monotonic() + LOCK_SECONDS, False
        while self.path is not None and not held and time.monotonic() < end:
            try:
                lock.parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
                held = True
            except FileExistsError:
                _remove_if_stale(lock)
                time.sleep(0.005)
            except OSError as error:
                self._give_up(error)
        try:
            yield
        finally:
            if held:
                lock.unlink(missing_ok=True)


def _remove_if_stale(lock: Path) -> None:
    try:
        if time.time() - lock.stat().st_mtime > STALE_SECONDS:
            lock.unlink()
    except OSError:
        return


def _is_entry(entry: Any) -> bool:
    kinds = {"attempts": int, "done": bool, "hints": int}
    return isinstance(entry, dict) and all(type(entry.get(name)) is kind for name, kind in kinds.items())
