"""Gradebooks: the points of a class in the CSV that Canvas, Moodle or Gradescope knows.

Best from what the LMS has exported itself: its ids, names and header rows stay as they are, and one
column is filled. Columns that the import does not need are left out, so that it changes nothing
else.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from ...files.paths import write_bytes
from ..files import printable
from ..records import Student
from ..tables import safe_cell
from .class_results import ClassResults
from .gradebook_templates import FORMS, Gradebook

_POINTS_ROW, _EXCUSED = "points possible", "EX"
_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?|-")  # no formula, whatever it begins with
_NO_STUDENT = re.compile(r"\s*(muted|manual posting.*)?\s*", re.IGNORECASE)
_LISTED = 8


def write_gradebooks(
    results: ClassResults,
    books: Sequence[Gradebook],
    out: Path,
    numbers: Mapping[str, tuple[str, str]],
    now: datetime,
) -> list[str]:
    """Write `gradebook-canvas.csv` and the like; returns notes on whom it has no points for.

    `numbers` are (LMS, its number) of students, from the names of their downloads. Who is not
    gradable gets no points, and neither does who handed in nothing and still has time at `now`.
    """
    notes = []
    for book in books:
        points, waiting = _points(results, book, now)
        known = {student: number for student, (lms, number) in numbers.items() if lms == book.lms}
        rows, own = _plain(results, book, points), []
        if book.rows:
            rows, own = _filled(results, book, points, known)
        name = f"gradebook-{book.lms}.csv"
        text = io.StringIO()
        writer = csv.writer(text, delimiter=book.separator, lineterminator=book.line)
        writer.writerows([[_safe(cell) for cell in row] for row in rows])
        start = b"\xef\xbb\xbf" if book.mark else b""
        write_bytes(out / name, start + text.getvalue().encode("utf-8"))
        notes += [f"{name}: {note}" for note in (*waiting, *own)]
    written = {f"gradebook-{book.lms}.csv" for book in books}
    for name in (f"gradebook-{lms}.csv" for lms in FORMS):
        if name not in written and (out / name).is_file():
            notes.append(f"{name} is of an earlier run: give --gradebook again to renew it")
    return notes


def shown(points: float) -> str:
    """Points as every LMS reads them: a full stop, at most two decimals, no exponent."""
    return f"{points:.2f}".rstrip("0").rstrip(".")


def _points(
    results: ClassResults, book: Gradebook, now: datetime
) -> tuple[dict[str, str], list[str]]:
    """What goes into the column, by student, and notes on who gets nothing there."""
    points = {one.student: shown(one.points) for one in results.graded}
    notes = []
    if waits := [one.student for one in results.graded if one.open_points]:
        notes.append(
            f"questions in words are not marked yet, so points are missing: {_list(waits)}"
        )
    if results.failed:
        failed = [student for student, _ in results.failed]
        notes.append(f"not gradable, left empty: {_list(failed)}")
    if results.absent:
        due = results.assignment.schedule.due_for
        early = [one for one in results.absent if due(one) is not None and due(one) > now]
        late = [one for one in results.absent if one not in early]
        if book.absent == "zero":
            points |= dict.fromkeys(late, "0")
        what = "0 points" if book.absent == "zero" else "left empty"
        if late:
            notes.append(f"nothing handed in, {what}: {_list(late)}")
        if early:
            notes.append(f"nothing handed in and still has time, left empty: {_list(early)}")
    return points, notes


def _plain(results: ClassResults, book: Gradebook, points: Mapping[str, str]) -> list[list[str]]:
    """The gradebook without a template: a row for each student, by the ids of the roster."""
    columns = FORMS[book.lms].plain
    address = next(one for one in columns if one in ("SIS Login ID", "Email address", "Email"))
    number = next(one for one in columns if one in ("SIS User ID", "ID number", "SID"))
    rows = [[*columns, results.assignment.title]]
    if book.lms == "canvas":
        most = shown(results.assignment.max_points)
        rows.append(["    Points Possible", *[""] * (len(columns) - 1), most])
    for one in _students(results):
        by_number = one.id.isdigit() or (book.lms != "canvas" and "@" not in one.id)
        cells = {columns[0] if book.lms == "canvas" else _named(columns): one.name}
        cells[number if by_number else address] = one.id
        rows.append([*(cells.get(column, "") for column in columns), points.get(one.id, "")])
    return rows


def _named(columns: Sequence[str]) -> str:
    return next(one for one in columns if one in ("Full name", "Name"))


def _filled(
    results: ClassResults, book: Gradebook, points: Mapping[str, str], numbers: Mapping[str, str]
) -> tuple[list[list[str]], list[str]]:
    """The template's rows with the column filled, and notes on what does not fit."""
    width = len(book.rows[0])
    rows = [[*row, *[""] * (width - len(row))] for row in book.rows]
    people = [index for index in range(1, len(rows)) if not _is_head(book, rows[index])]
    notes = _notes_on_most(results, book, rows)
    places, unclear = _placed(_students(results), book, rows, people, numbers)
    absent = {*results.absent}
    kept_as_is, stay, changed = [], [], []
    for student, index in places.items():
        cell, value = rows[index][book.column].strip(), points.get(student)
        if book.cell(rows[index], FORMS[book.lms].locked).casefold() == "no":
            notes.append(f"{student}: {book.lms} takes no points any more, left as it is")
        elif cell.upper() == _EXCUSED:
            notes.append(f"{student} is excused there ({cell}), left so")
        elif value is not None and cell and student in absent:
            stay.append(f"{student} ({cell})")
        elif value is not None:
            if cell and _as_number(cell) != float(value):
                changed.append(f"{student} ({cell} is now {value})")
            rows[index][book.column] = value
        elif cell:
            kept_as_is.append(student)
    if kept_as_is:
        notes.append(f"no points from here, those that stand there stay: {_list(kept_as_is)}")
    if stay:
        notes.append(f"nothing handed in, and the grade that stands there stays: {_list(stay)}")
    if changed:
        notes.append(f"another grade stood there, and is changed: {_list(changed)}")
    if unclear:
        notes.append(
            f"no row, or no clear one, so not filled: {_list(unclear)}. Ids must be equal, to the"
            " zeros at their beginning"
        )
    others = [rows[index] for index in people if index not in places.values()]
    if others:
        who = [next(filter(None, map(str.strip, row)), "") for row in others]
        notes.append(f"in the gradebook and not on the roster, left as they are: {_list(who)}")
    kept = book.kept()
    return [[row[index] for index in kept] for row in rows], notes


def _is_head(book: Gradebook, row: Sequence[str]) -> bool:
    """Whether a row of Canvas is about the assignments and no student's."""
    return book.lms == "canvas" and (
        _POINTS_ROW in row[0].casefold() or all(_NO_STUDENT.fullmatch(cell) for cell in row)
    )


def _notes_on_most(
    results: ClassResults, book: Gradebook, rows: Sequence[Sequence[str]]
) -> list[str]:
    """Say where the LMS has another number of points."""
    ours, there = results.assignment.max_points, set()
    for row in rows[1:]:
        if book.lms == "canvas" and _POINTS_ROW in row[0].casefold():
            there.add(row[book.column].strip())
        elif FORMS[book.lms].most:
            there.add(book.cell(row, FORMS[book.lms].most))
    notes = []
    for text in sorted(there - {""}):
        if _as_number(text) != ours:
            notes.append(f"the most points are {text} there and {shown(ours)} here")
    return notes


def _as_number(text: str) -> float | None:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None


def _students(results: ClassResults) -> list[Student]:
    """The roster; without one, who handed in."""
    if results.assignment.roster:
        return list(results.assignment.roster)
    ids = {one.student for one in results.graded} | {student for student, _ in results.failed}
    return [Student(one) for one in sorted(ids)]


def _placed(
    students: Sequence[Student],
    book: Gradebook,
    rows: Sequence[Sequence[str]],
    people: Sequence[int],
    numbers: Mapping[str, str],
) -> tuple[dict[str, int], list[str]]:
    """The row of each student, and for whom there is none or several.

    An id counts before the LMS's own number, that before a name. Where id and number name different
    rows there is none.
    """
    form = FORMS[book.lms]
    by_id, by_number, by_name = {}, {}, {}
    for index in people:
        row = rows[index]
        for name in form.ids:
            by_id.setdefault(book.cell(row, name).casefold(), set()).add(index)
        if found := re.search(r"(\d+)$", book.cell(row, form.number)):
            by_number.setdefault(found[1], set()).add(index)
        for parts in form.names:
            by_name.setdefault(_words(book.cell(row, one) for one in parts), set()).add(index)
    names = Counter(_words([one.name]) for one in students)
    places, unclear = {}, []
    for one in students:
        own, alike = by_id.get(one.id.casefold(), set()), _words([one.name])
        number = by_number.get(numbers.get(one.id, ""), set())
        named = by_name.get(alike, set()) if alike and names[alike] == 1 else set()
        found = own & number if own and number else own or number or named
        if len(found) == 1:
            places[one.id] = next(iter(found))
        else:
            unclear.append(one.id)
    count = Counter(places.values())
    twice = [student for student, index in places.items() if count[index] > 1]
    return {one: at for one, at in places.items() if one not in twice}, sorted([*unclear, *twice])


def _words(texts: Iterable[str]) -> tuple[str, ...]:
    """A name in any order of its words: "Doe, Ann" and "Ann Doe" are one."""
    text = unicodedata.normalize("NFC", " ".join(texts)).casefold()
    return tuple(sorted(re.findall(r"\w+", text)))


def _safe(cell: str) -> str:
    return cell if _NUMBER.fullmatch(cell.strip()) else safe_cell(cell)


def _list(students: Sequence[str]) -> str:
    more = len(students) - _LISTED
    listed = ", ".join(printable(one, 80) for one in students[:_LISTED])
    return f"{listed} and {more} more" if more > 0 else listed
