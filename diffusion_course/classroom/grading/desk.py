"""From the grader's marks to the grades: what the instructor set, which version counts, lateness.

All that an instructor gives is read before anything is graded, so that a slip in a sheet is told at
once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from ...files.paths import write_bytes
from ..assignment.assignment import Assignment
from ..files import printable
from ..records import Graded, Mark, Submission
from ..reports.sheets import (
    Decision,
    Sheet,
    Who,
    read_manual,
    read_overrides,
    sheets_in,
    taken_for_sheets,
    write_waiting,
)
from .given import NONE, Given, Memory, identity, recall, remember, with_remembered
from .history import History, Version, history_csv, that_counts
from .times import MTIME, found_times, lateness, notes_on_times, read_times, times_of_files


class Desk:
    """What an instructor gave, for the submissions that were read.

    `notes` say what is remembered, what was given and does not count, and which times are missing.
    Raises ValueError that names file, row and column for what cannot be, FileNotFoundError for a
    file that is not there.
    """

    def __init__(
        self,
        assignment: Assignment,
        folder: str | Path,
        out: Path,
        read: Mapping[str, Submission],
        given: Given,
    ) -> None:
        self.assignment, self.out, self.read = assignment, out, read
        memory = recall(out, assignment)
        self.given, self.notes = with_remembered(given, memory.given)
        students = {*read, *(one.id for one in assignment.roster)}
        own = sheets_in(out)
        if NONE not in given.manual:
            _require_sheets(out, memory.sheets, own)
        others = [Path(one) for one in self.given.manual]
        paths = [*own, *(one for one in others if one.resolve() not in [p.resolve() for p in own])]
        self.sheets = [read_manual(path, assignment, students) for path in paths]
        self.notes += [
            f"{one.path}: nothing is read of {', '.join(map(repr, one.unread))}; what a student is"
            " to read stands in the column comment"
            for one in self.sheets
            if one.unread
        ]
        self.decisions = dict(self._decided(self.sheets))
        for path in taken_for_sheets(out):
            if path not in others:
                name = printable(path.name, 80)
                self.notes.append(
                    f"{name!r} in {out} is not read. If it holds points, save it as CSV and name it"
                    " with --manual"
                )
        self.overrides: dict[Who, Decision] = {}
        if self.given.overrides:
            path = Path(self.given.overrides)
            self.overrides = read_overrides(path, assignment, students)
        by_file = self.given.times == MTIME
        self.times, marked = found_times(folder, read, mtime=by_file)
        times_for: dict[str, tuple[str, str]] = {}
        if self.given.times and not by_file:
            told = read_times(Path(self.given.times), students)
            fresh, times_for, notes = times_of_files(
                told, read, memory.times, again=not given.times
            )
            self.times |= fresh
            self.notes += notes
        marked = {student: who for student, who in marked.items() if student not in self.times}
        self.notes += notes_on_times(
            assignment, read, self.times, marked, datetime.now().astimezone()
        )
        self.history = History(out / "history")
        self.versions: dict[str, list[Version]] = {}
        filled = tuple(one.path.name for one in self.sheets if one.is_filled and one.path in own)
        names = (assignment.name, identity(assignment))
        remember(Memory(self.given, *names, filled, times_for), out)

    def settle(self, graded: Mapping[str, Graded], now: datetime) -> tuple[Graded, ...]:
        """Return the grades, by student: all that was set by hand and what lateness costs counts.

        What was graded is kept in the history; `now` is the time it is given there.
        """
        settled = []
        for student in sorted(graded):
            made = graded[student]
            versions = self.history.keep(made, self.times.get(student), now)
            self.versions[student] = versions
            counts, notes = that_counts(versions, self.assignment, self.given.keep)
            self.notes += notes
            exercises = [mark for mark in counts.graded.marks if mark.status != "manual"]
            questions = [mark for mark in made.marks if mark.status == "manual"]
            settled.append(
                dataclasses.replace(
                    counts.graded,
                    marks=tuple(self._set(student, mark) for mark in (*exercises, *questions)),
                    late=lateness(self.assignment, student, counts.time),
                )
            )
        for who, one in (*self.decisions.items(), *self.overrides.items()):
            if who[0] not in graded:
                self.notes.append(
                    f"{one.where}: {printable(who[0], 80)} has no submission that was graded, so"
                    " this does not count"
                )
        return tuple(settled)

    def write(self, settled: tuple[Graded, ...]) -> tuple[Path, ...]:
        """Write history.csv and the sheet of what is new; returns all sheets that wait for points.

        Of those that are filled already, these are the ones with a row that has no points yet.
        """
        content = history_csv(self.history.everybody() | self.versions, self.assignment)
        write_bytes(self.out / "history.csv", content.encode("utf-8"))
        own = [one for one in self.sheets if one.path.parent == self.out]
        self.notes += [
            f"{one.path} was filled while this ran: run the same command again, and it counts"
            for one in own
            if not one.is_filled and not one.is_free()
        ]
        new = write_waiting(self.out, own, list(self._waiting(settled)))
        open_ones = {
            (one.student, mark.exercise_id) for one in settled for mark in one.marks if mark.waits
        }
        filled = [one for one in self.sheets if one.is_filled and open_ones & one.decisions.keys()]
        return (*(one.path for one in filled), *([new] if new else []))

    def _decided(self, sheets: list[Sheet]) -> Iterator[tuple[Who, Decision]]:
        """What the filled sheets say; of two rows with points the one of the later sheet counts."""
        decided: dict[Who, Decision] = {}
        for sheet in (one for one in sheets if one.is_filled):
            for who, one in sheet.decisions.items():
                before = decided.get(who)
                if one.points is None and (before is not None or not one.comment):
                    continue
                if before is not None and before.points not in (None, one.points):
                    self.notes.append(
                        f"{who[0]}, {who[1]}: {one.points:g} points ({one.where}) count, not"
                        f" {before.points:g} ({before.where})"
                    )
                decided[who] = one
        yield from decided.items()

    def _set(self, student: str, mark: Mark) -> Mark:
        """A mark with what the instructor said of it."""
        who = (student, mark.exercise_id)
        one = self.decisions.get(who) or self.overrides.get(who)
        if one is None:
            return mark
        if who in self.overrides and one.points is not None and one.points < mark.points:
            self.notes.append(
                f"{printable(student, 80)}, {who[1]}: your {one.points:g} stand in place of"
                f" {mark.points:g}, which the grader gives ({one.where})"
            )
        if mark.status == "manual" and not one.is_about(self._text(who)):
            self.notes.append(
                f"{printable(student, 80)} handed in another text for {who[1]} after it was marked"
                f" ({one.where}): those points count until you give others"
            )
        if one.points is None:
            return dataclasses.replace(mark, comment=one.comment)
        return dataclasses.replace(mark, points=one.points, before=mark.points, comment=one.comment)

    def _text(self, who: Who) -> str:
        return self.read[who[0]].written.get(who[1], "").strip()

    def _waiting(self, settled: tuple[Graded, ...]) -> Iterator[tuple[str, str, str]]:
        """Who waits for the points of which text: whom no filled sheet has a row for."""
        filled = [one for one in self.sheets if one.is_filled]
        for graded in settled:
            for question in self.assignment.manual:
                who = (graded.student, question)
                rows = [one.decisions[who] for one in filled if who in one.decisions]
                if not any(row.is_about(self._text(who)) for row in rows):
                    yield *who, self._text(who)


def _require_sheets(out: Path, before: Sequence[str], there: Sequence[Path]) -> None:
    """Raise FileNotFoundError where a sheet that was filled at the last run is gone."""
    names = {one.name.casefold() for one in there}
    if gone := sorted(one for one in before if one.casefold() not in names):
        raise FileNotFoundError(
            f"{out / gone[0]} held points at the run before, and is gone. Put it back; or give"
            f" --manual {NONE} to go on without it, and with that --manual and its name for each"
            " sheet elsewhere that is to count."
        )
