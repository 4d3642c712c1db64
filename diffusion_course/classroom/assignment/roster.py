"""Read the list of students: a CSV file with a column `id` and, if you like, `name`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ...files.paths import user_path
from ..files import DEVICE_ON_WINDOWS
from ..records import Student
from ..tables import Row, read_table

_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._@+-]{0,62}[A-Za-z0-9_@+-])?")
_SPOILT = re.compile(r"\d([.,]\d+)?E\+\d+", re.IGNORECASE)  # what Excel makes of a long number
_OF_POINTS = ("exercise", "question", "points")  # columns of overrides.csv and manual.csv
_ENDINGS = (".ipynb", ".zip")  # a submission's own


def read_roster(path: str | Path, *, notes: list[str] | None = None) -> tuple[Student, ...]:
    """Return the students of a CSV file: UTF-8, with commas, semicolons or tabs.

    `notes` are told of columns that are not read. Raises FileNotFoundError, or ValueError with file
    and row for a missing column, an id that is empty, twice there (in any capitals), rewritten by a
    spreadsheet or no safe file name, for a file of points, and for one without students.
    """
    path, others = user_path(path, "roster"), list[str]()
    rows = read_table(path, "the roster", ("id",), others=others)
    names = [one.casefold() for one in others]
    if of_points := [one for one in others if one.casefold() in _OF_POINTS]:
        raise ValueError(
            f"{path} has a column {of_points[0]!r}: it is a table of points, not the list of"
            " students, which has the columns id and name."
        )
    if names.count("name") > 1:
        raise ValueError(f"{path} has {names.count('name')} columns called name. Keep one.")
    unread = [repr(one) for one in others if one.casefold() != "name"]
    if unread and notes is not None:
        hint = "" if "name" in names else " To have the students' names, call their column name."
        notes.append(
            f"{path}: the columns id and name are read, and nothing else ({', '.join(unread)})."
            + hint
        )
    students = _students(rows)
    if not students:
        raise ValueError(f"{path} holds no student, only the line that names the columns.")
    return tuple(students)


def _students(rows: Sequence[Row]) -> list[Student]:
    seen: dict[str, Row] = {}
    students = []
    for row in rows:
        student = row["id"]
        if _SPOILT.fullmatch(student):
            raise row.error(
                "id",
                "was rewritten by a spreadsheet, and its digits are lost. Make the column one of"
                " text there, and save the list again from where it comes.",
            )
        if problem := id_problem(student):
            raise row.error("id", f"{problem}.")
        if (earlier := seen.get(student.casefold())) is not None:
            other = earlier["id"]
            why = (
                "stands"
                if other == student
                else f"and {other!r}, which differ in capitals only, stand"
            )
            raise row.error("id", f"{why} in {earlier.where} already. Ids must differ.")
        seen[student.casefold()] = row
        students.append(Student(student, row["name"]))
    return students


def id_problem(student_id: str) -> str | None:
    """Return why `student_id` cannot name a file on every system, or None where it can.

    The text is the end of a sentence.
    """
    if not student_id:
        return "is empty"
    if len(student_id) > 64:
        return f"has {len(student_id)} characters, at most 64 are allowed"
    if not _ID.fullmatch(student_id):
        return (
            "is no safe file name: use letters A to Z, digits and . _ - + @, with a letter or digit"
            " first and no dot last"
        )
    if DEVICE_ON_WINDOWS.match(student_id):
        return "is the name of a device on Windows and cannot name a file there"
    if student_id.lower().endswith(_ENDINGS):
        return "ends like a submission's file"
    return None
