"""What the learner has tried, hinted and solved, in memory and, where there is one, in a file that several kernels share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .engine import Result
from .record_file import VARIABLE, Entry, FromNewerCourse, locked, read, set_aside, write

_NOTHING = Entry()


class Record:
    """Attempts, hints and right answers by exercise id.

    `locate` returns the file, or None for a record that lives in the process only; it is asked at every use. An event
    is added to what the file says then, so that kernels that write in turn lose nothing. What cannot be written stays
    in memory and is written as soon as that works; `say` is told once.
    """

    def __init__(self, locate: Callable[[], Path | None] = lambda: None, *, say: Callable[[str], object] = print) -> None:
        self._locate, self._say = locate, say
        self._path: Path | None = None
        self._stored: dict[str, Entry] = {}
        self._pending: dict[str, Entry] = {}
        self._told = False

    def add(self, result: Result) -> None:
        """Count a real attempt; an unanswered stub is none."""
        if result.status != "unanswered":
            self._happened(result.exercise_id, Entry(attempts=1, done=result.status == "right"))

    def next_hint(self, exercise_id: str, available: int) -> int:
        """Return the index of the hint to show now and remember it; the last one repeats. `available` >= 1."""
        index = min(self.entry(exercise_id).hints, available - 1)
        self._happened(exercise_id, Entry(hints=index + 1))
        return index

    def entry(self, exercise_id: str) -> Entry:
        """Return what is known about one exercise now."""
        return self.entries().get(exercise_id, _NOTHING)

    def entries(self) -> dict[str, Entry]:
        """Return what is known now, by exercise id; also ids that the course no longer has."""
        self._synchronise()
        return _merged(self._stored, self._pending)

    def forget(self, exercise_id: str | None = None) -> int:
        """Forget one exercise, or all; return how many were known. Raises OSError where the file cannot be changed."""
        known = self.entries()
        gone = known.keys() if exercise_id is None else known.keys() & {exercise_id}
        if self._path is not None and self._stored.keys() & gone:
            with locked(self._path):
                stored, _ = read(self._path)
                self._stored = {name: entry for name, entry in stored.items() if name not in gone}
                write(self._path, self._stored)
        self._pending = {name: entry for name, entry in self._pending.items() if name not in gone}
        return len(gone)

    @property
    def place(self) -> str:
        """Where the record is kept, in a sentence."""
        self._synchronise()
        if self._path is None:
            return f"Kept in this session only ({VARIABLE} is off, or there is no folder for a file)."
        if self._told:
            return f"Kept in this session only: {_short(self._path)} cannot be used."
        return f"Kept in {_short(self._path)}."

    def _happened(self, exercise_id: str, event: Entry) -> None:
        self._follow()
        self._pending = _merged(self._pending, {exercise_id: event})
        self._synchronise()

    def _follow(self) -> None:
        """Go to the file that `locate` names now; what was not written belonged to the one before."""
        try:
            path = self._locate()
        except (OSError, RuntimeError) as error:
            path = None
            self._tell(f"Progress is not kept in a file: {error}. Set {VARIABLE} to a file of yours.")
        if path != self._path:
            self._path, self._stored, self._pending, self._told = path, {}, {}, False

    def _synchronise(self) -> None:
        """Read the file, and write the events that are not in it yet; without a file everything stays pending."""
        self._follow()
        if self._path is None:
            return
        try:
            self._stored, problem = read(self._path)
            if problem or self._pending:
                self._write_pending()
            self._told = False
        except OSError as error:
            reason = str(error) if isinstance(error, (FromNewerCourse, TimeoutError)) else error.strerror or str(error)
            self._tell(
                f"Progress is not kept in {_short(self._path)} now: {reason}. It stays in this session, and is written as soon "
                f"as that works. Set {VARIABLE} to another file, or to off."
            )

    def _write_pending(self) -> None:
        with locked(self._path):
            self._stored, problem = read(self._path)
            if problem:
                kept = set_aside(self._path)
                self._say(f"The file with your progress was damaged: {problem}. It is now {_short(kept)}; a new one is begun.")
            merged = _merged(self._stored, self._pending)
            write(self._path, merged)
        self._stored, self._pending = merged, {}

    def _tell(self, message: str) -> None:
        if not self._told:
            self._told = True
            self._say(message)


def _merged(entries: dict[str, Entry], events: dict[str, Entry]) -> dict[str, Entry]:
    return entries | {name: entries.get(name, _NOTHING).with_event(event) for name, event in events.items()}


def _short(path: Path) -> str:
    """The path as the learner writes it: ~ for the home folder."""
    try:
        return f"~/{path.relative_to(Path.home()).as_posix()}"
    except (ValueError, RuntimeError):
        return str(path)
