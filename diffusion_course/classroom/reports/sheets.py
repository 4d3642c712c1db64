"""Sheets that an instructor fills: points of questions in words, and points set by hand.

`manual.csv` has a row for each student and question. A sheet in which anything was filled is never
written again: rows that came later go to `manual-2.csv`, and so on; all of them count.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from ...files.paths import write_bytes
from ..assignment.assignment import Assignment
from ..assignment.manual import get_question
from ..tables import Row, csv_text, points_in, read_table, safe_cell

COLUMNS = ("id", "question", "text", "points", "possible", "comment")
_SHEET = re.compile(r"manual(?:-([1-9]\d*))?\.csv", re.IGNORECASE)
Who = tuple[str, str]  # a student, and a question or an exercise


@dataclasses.dataclass(frozen=True)
class Decision:
    """What an instructor wrote for a student and a question or an exercise.

    `points` is None where there is a comment alone, `text` what the student had written then (None
    where the sheet has no such column), `where` the row of the sheet.
    """

    points: float | None
    comment: str
    where: str
    text: str | None = None

    def is_about(self, text: str) -> bool:
        """Whether it was made for this text, apart from spaces."""
        return self.text is None or _plain(self.text) == _plain(text)


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A sheet of questions as it was read; `is_filled` where a person wrote anything into it.

    `unread` are columns of somebody's own, which nobody but the instructor reads.
    """

    path: Path
    content: bytes
    decisions: Mapping[Who, Decision]
    is_filled: bool
    unread: tuple[str, ...] = ()

    def is_free(self) -> bool:
        """Whether it may be written again: nothing was filled, and nothing since it was read."""
        return not self.is_filled and self.path.read_bytes() == self.content


def read_manual(path: Path, assignment: Assignment, students: Collection[str]) -> Sheet:
    """Return a sheet of points for questions; a row without points waits.

    Raises ValueError with the row and the column for a student or a question that is not known, a
    row that is there twice, points that are no number from 0 to those of the question, and a column
    that stands in place of one of the sheet's own under another name.
    """
    content = path.read_bytes() if path.is_file() else b""
    rows = read_table(path, "the sheet of manual questions", ("id", "question", "points"))
    decisions: dict[Who, Decision] = {}
    known, is_filled = _spelled(students), False
    unread = _others(path, rows)
    for row in rows:
        is_filled |= any(text for name, text in row.cells.items() if name not in COLUMNS)
        question = row["question"]
        if question not in assignment.manual:
            listed = ", ".join(assignment.manual) or "none"
            raise row.error("question", f"is no question of the assignment, which has {listed}.")
        who = (_student(row, known), question)
        most = get_question(question).points
        points = points_in(row, "points", most, question) if row["points"] else None
        if row["possible"] and points_in(row, "possible", most, question) != most:
            raise row.error("possible", f"is not what {question} has: {most:g} points.")
        is_filled |= points is not None or bool(row["comment"])
        text = row["text"] if "text" in row.cells else None
        _add(decisions, who, Decision(points, row["comment"], row.where, text))
    return Sheet(path, content, decisions, is_filled, unread)


def read_overrides(
    path: Path, assignment: Assignment, students: Collection[str]
) -> dict[Who, Decision]:
    """Return the points that an instructor sets for single exercises, each with its reason.

    Raises ValueError with the row and the column as `read_manual` does, and for a missing reason.
    """
    rows = read_table(path, "the points set by hand", ("id", "exercise", "points", "reason"))
    decisions: dict[Who, Decision] = {}
    known = _spelled(students)
    for row in rows:
        name = row["exercise"]
        if name in assignment.manual:
            raise row.error("exercise", "is a question in words: its points stand in manual.csv.")
        if name not in assignment.exercises:
            listed = ", ".join(assignment.exercises) or "none"
            raise row.error("exercise", f"is no exercise of the assignment, which has {listed}.")
        student = _student(row, known)
        most = assignment.exercise(name, student).points
        if not row["reason"]:
            raise row.error("reason", "is no reason: say in a few words why; the student reads it.")
        points = points_in(row, "points", most, name)
        _add(decisions, (student, name), Decision(points, row["reason"], row.where))
    return decisions


def sheets_in(folder: Path) -> list[Path]:
    """The files manual.csv, manual-2.csv and so on in a folder, in this order."""
    found = [(_SHEET.fullmatch(one.name), one) for one in _called_manual(folder)]
    return [path for _, path in sorted((int(name[1] or 1), path) for name, path in found if name)]


def taken_for_sheets(folder: Path) -> list[Path]:
    """Files that one may take for such sheets, and that are none: `manual (1).csv`, `.xlsx`."""
    return [one for one in _called_manual(folder) if not _SHEET.fullmatch(one.name)]


def _called_manual(folder: Path) -> list[Path]:
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted(one for one in paths if one.name.casefold().startswith("manual"))


def write_waiting(
    folder: Path, sheets: Sequence[Sheet], waiting: Sequence[tuple[str, str, str]]
) -> Path | None:
    """Write what waits for points, (student, question, text), and return the file; None for none.

    That is the first file that is free: those of `sheets` in which nothing is filled, not since
    they were read either, may be written again, and are removed where they are not needed.
    """
    there = sheets_in(folder)
    free = [one.path for one in sheets if one.path in there and one.is_free()]
    target = None
    if waiting:
        number = 1 + max((int(_SHEET.fullmatch(one.name)[1] or 1) for one in there), default=0)
        target = free[0] if free else folder / f"manual{f'-{number}' if there else ''}.csv"
        rows = [
            [student, question, text, "", f"{get_question(question).points:g}", ""]
            for student, question, text in waiting
        ]
        write_bytes(target, csv_text([COLUMNS, *rows]).encode("utf-8"))
    for path in free:
        if path != target:
            path.unlink()
    return target


def _others(path: Path, rows: Sequence[Row]) -> tuple[str, ...]:
    """Columns with anything in them that are none of the sheet's; ValueError for renamed ones."""
    names = [one for one in rows[0].cells if one not in COLUMNS] if rows else []
    names = [one for one in names if any(row[one] for row in rows)]
    missing = [one for one in COLUMNS if rows and one not in rows[0].cells]
    for name in names:
        if near := difflib.get_close_matches(name, missing, n=1):
            raise ValueError(
                f"{path}: there is a column {name!r} and none named {near[0]!r}. Name it so, and it"
                " is read."
            )
    return tuple(names)


def _spelled(students: Collection[str]) -> dict[str, str]:
    """Students by what may stand in a cell: the id, or the id spelled so that it is no formula."""
    return {safe_cell(one): one for one in students} | {one: one for one in students}


def _student(row: Row, students: Mapping[str, str]) -> str:
    if row["id"] in students:
        return students[row["id"]]
    raise row.error("id", "is nobody on the roster and nobody who handed in.")


def _add(decisions: dict[Who, Decision], who: Who, decision: Decision) -> None:
    if who in decisions:
        raise ValueError(
            f"{decision.where}: {who[0]} and {who[1]} stand in {decisions[who].where} already."
            " Keep one of the two rows."
        )
    decisions[who] = decision


def _plain(text: str) -> str:
    return " ".join(safe_cell(text).replace("'", " ").split())
