"""Read the list of students: a CSV file with a column `id` and, if you like, `name`."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from ...files.paths import user_path
from ..files import DEVICE_ON_WINDOWS
from ..records import Student

_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._@+-]{0,62}[A-Za-z0-9_@+-])?")
_ENDINGS = (".ipynb", ".zip")  # a submission's own


def read_roster(path: str | Path) -> tuple[Student, ...]:
    """Return the students of a CSV file: UTF-8, with commas, semicolons or tabs.

    Raises FileNotFoundError, or ValueError with file and line for a missing column, an id that is
    empty, twice there (in any capitals) or no safe file name, and for a file without students.
    """
    path = user_path(path, "roster")
    if not path.is_file():
        raise FileNotFoundError(f"there is no roster {path}.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not in UTF-8 (byte {error.start}). Save it as CSV in UTF-8."
        ) from error
    first = next((line for line in text.splitlines() if line.strip()), "")
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True
    )
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}.") from error
    rows = [(line, row) for line, row in rows if any(row)]
    if not rows:
        raise ValueError(f"{path} is empty. Its first line names the columns: id,name.")
    columns = [cell.casefold() for cell in rows[0][1]]
    if columns.count("id") != 1:
        raise ValueError(
            f"{path}, line {rows[0][0]}: a column named id is needed once, the columns are"
            f" {rows[0][1]}."
        )
    return tuple(_students(path, columns, rows[1:]))


def _students(path: Path, columns: list[str], rows: list[tuple[int, list[str]]]) -> list[Student]:
    seen: dict[str, tuple[str, int]] = {}
    students = []
    for line, row in rows:
        values = dict(zip(columns, row, strict=False))
        student = values.get("id", "")
        if problem := id_problem(student):
            raise ValueError(f"{path}, line {line}: the id {student!r} {problem}.")
        if student.casefold() in seen:
            other, earlier = seen[student.casefold()]
            why = (
                "stands"
                if other == student
                else f"and {other!r}, which differ in capitals only, stand"
            )
            raise ValueError(
                f"{path}, line {line}: the id {student!r} {why} in line {earlier} already. Ids must"
                " differ."
            )
        seen[student.casefold()] = student, line
        students.append(Student(student, values.get("name", "")))
    if not students:
        raise ValueError(f"{path} holds no student, only the line that names the columns.")
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
