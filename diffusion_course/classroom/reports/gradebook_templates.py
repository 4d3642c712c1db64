"""The CSV of an LMS's gradebook as a template: which columns name a student, which one is filled.

How Canvas reads it back:
https://github.com/instructure/canvas-lms/blob/master/lib/gradebook_importer.rb. Moodle's grading
worksheet:
https://github.com/moodle/moodle/blob/main/mod/assign/feedback/offline/importgradeslib.php.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Sequence
from pathlib import Path

from ...files.paths import user_path


@dataclasses.dataclass(frozen=True)
class Form:
    """What a gradebook of an LMS looks like.

    `ids` are columns that hold an id, `names` those that together are a name, `number` the column
    with the number that stands in the names of downloads. `others` are columns that the import
    needs besides. `grade` is what the column of points is called where it is not called as the
    assignment, `most` the column of the most points, `locked` one that says No where no points are
    taken. `plain` are the columns without a template.
    """

    ids: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    plain: tuple[str, ...]
    number: str = ""
    others: tuple[str, ...] = ()
    grade: str = ""
    most: str = ""
    locked: str = ""

    @property
    def known(self) -> tuple[str, ...]:
        """The columns that tell who somebody is."""
        return (
            *self.ids,
            *filter(None, [self.number]),
            *(one for name in self.names for one in name),
        )


FORMS = {
    "canvas": Form(
        ids=("SIS User ID", "SIS Login ID", "ID", "Integration ID"),
        names=(("Student",), ("FirstName", "LastName")),
        plain=("Student", "ID", "SIS User ID", "SIS Login ID", "Section"),
        number="ID",
        others=("Root Account", "Section"),
    ),
    "moodle": Form(
        ids=("ID number", "Email address", "Username"),
        names=(("Full name",), ("First name", "Last name"), ("First name", "Surname")),
        plain=("Full name", "ID number", "Email address"),
        number="Identifier",
        others=("Last modified (grade)",),
        grade="Grade",
        most="Maximum grade",
        locked="Grade can be changed",
    ),
    "gradescope": Form(
        ids=("SID", "Student ID", "Email"),
        names=(("Name",), ("First Name", "Last Name"), ("Full Name",)),
        plain=("Name", "SID", "Email"),
    ),
}
# Canvas works these out by itself; with more assignments groups they are "Labs Final Score" too.
_WORKED_OUT = re.compile(
    r".*\b(current|final) (score|points|grade)|override (score|grade|status)", re.IGNORECASE
)
_SPOILT = re.compile(r"\d([.,]\d+)?E\+?\d+", re.IGNORECASE)  # what a spreadsheet makes of a long id


@dataclasses.dataclass(frozen=True)
class Gradebook:
    """A gradebook to fill: of which LMS, its rows (none without a template), and the column.

    `line` and `separator` are how the template ends its lines and columns, `mark` whether it
    begins with a byte order mark.
    """

    lms: str
    path: Path | None = None
    rows: tuple[tuple[str, ...], ...] = ()
    column: int = 0
    separator: str = ","
    line: str = "\n"
    mark: bool = False
    absent: str = "empty"

    def has(self, name: str) -> bool:
        """Whether there is a column of this name."""
        return self._index(name) is not None

    def cell(self, row: Sequence[str], name: str) -> str:
        """The text of a row in the column of this name, "" where there is none."""
        index = self._index(name)
        return row[index].strip() if index is not None and index < len(row) else ""

    def kept(self) -> list[int]:
        """The columns that the import needs: who somebody is, and the points."""
        form = FORMS[self.lms]
        names = {
            one.casefold() for one in (*form.known, *form.others, form.most, form.locked) if one
        }
        head = [cell.strip().casefold() for cell in self.rows[0]]
        return [index for index, one in enumerate(head) if one in names or index == self.column]

    def _index(self, name: str) -> int | None:
        head = [cell.strip().casefold() for cell in self.rows[0]] if self.rows else []
        return head.index(name.casefold()) if name and name.casefold() in head else None


def read_gradebooks(texts: Sequence[str], titles: Sequence[str], **how: str) -> list[Gradebook]:
    """Return several gradebooks, of each LMS one; raises ValueError for two, and as for one."""
    books = [read_gradebook(one, titles, **how) for one in texts]
    if len({book.lms for book in books}) < len(books):
        raise ValueError(f"gradebook: two of one kind were given: {', '.join(texts)}. Keep one.")
    return books


def read_gradebook(
    text: str, titles: Sequence[str], column: str = "", absent: str = "empty"
) -> Gradebook:
    """Return the gradebook of "canvas", "moodle" or "gradescope", with ":export.csv" a template.

    The column of points is called `column`, or else as one of `titles` (in Canvas with the
    assignment's number behind), or it is Moodle's own. `absent` is "empty" or "zero": what those
    get who handed in nothing. Raises FileNotFoundError, and ValueError that repeats the columns of
    a template that lacks one, has it twice, would have another filled than one of points, or has
    ids that a spreadsheet has rewritten.
    """
    lms, _, path = text.partition(":")
    if lms not in FORMS:
        raise ValueError(
            f"gradebook {text!r}: it must begin with {', '.join(FORMS)}, and may go on with a"
            " colon and the file that was exported there: canvas:export.csv."
        )
    if absent not in ("empty", "zero"):
        raise ValueError(f"absent must be empty or zero, got {absent!r}.")
    if not path:
        return Gradebook(lms, absent=absent)
    file = user_path(path, "gradebook")
    if not file.is_file():
        raise FileNotFoundError(f"there is no gradebook {file}. Export it from {lms} first.")
    content = file.read_bytes()
    try:
        written = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} is not in UTF-8 (byte {error.start}). Export it from {lms} again."
        ) from error
    first = written.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(written, newline=""), delimiter=separator, strict=True)
    try:
        rows = tuple(tuple(row) for row in reader if any(cell.strip() for cell in row))
    except csv.Error as error:
        raise ValueError(f"{file}, line {reader.line_num}: {error}.") from error
    if not rows:
        raise ValueError(f"{file} is empty. Export it from {lms} again.")
    book = Gradebook(
        *(lms, file, rows, _column(lms, file, rows[0], titles, column), separator),
        line="\r\n" if first.endswith("\r") else "\n",
        mark=content.startswith(b"\xef\xbb\xbf"),
        absent=absent,
    )
    _require_ids(book)
    _require_column_of_points(book)
    return book


def _column(lms: str, path: Path, head: Sequence[str], titles: Sequence[str], asked: str) -> int:
    """The number of the column of points."""
    wanted = [asked] if asked else [FORMS[lms].grade, *titles]
    for name in filter(None, wanted):
        exact = [index for index, cell in enumerate(head) if cell.strip() == name.strip()]
        alike = exact or [index for index, cell in enumerate(head) if _same(cell, name)]
        if len(alike) == 1:
            return alike[0]
        if alike:
            raise ValueError(f"{path}: {len(alike)} columns are called {name!r}. Name it whole.")
    raise ValueError(
        f"{path}: no column is called {' or '.join(map(repr, filter(None, wanted)))}. Name the one"
        f" to fill with --column; there are {', '.join(map(repr, head))}."
    )


def _same(cell: str, name: str) -> bool:
    """Whether a column is called so, apart from what an LMS writes before and behind."""
    own = re.sub(r"\s*\((\d+|real|points?)\)$", "", cell.strip(), flags=re.IGNORECASE)
    own = re.sub(r"^(assignment|quiz)\s*:\s*", "", own, flags=re.IGNORECASE)
    return own.casefold() == name.strip().casefold()


def _require_column_of_points(book: Gradebook) -> None:
    """Raise ValueError where the column says who somebody is, or is the LMS's own to fill."""
    form, name = FORMS[book.lms], book.rows[0][book.column].strip()
    own = [one.casefold() for one in (*form.known, *form.others, form.most, form.locked)]
    why = ""
    if name.casefold() in own:
        why = "does not hold points: the import needs it as it is"
    elif book.lms == "canvas" and (
        _WORKED_OUT.fullmatch(name)
        or any("read only" in "".join(row[book.column : book.column + 1]) for row in book.rows[1:4])
    ):
        why = "is one that Canvas works out by itself (read only)"
    if why:
        raise ValueError(
            f"{book.path}: the column {name!r} {why}. Name the one of this assignment with"
            f" --column; there are {', '.join(map(repr, book.rows[0]))}."
        )


def _require_ids(book: Gradebook) -> None:
    form = FORMS[book.lms]
    if not any(book.has(name) for name in form.known):
        raise ValueError(
            f"{book.path} has none of the columns {', '.join(form.known)}; it has"
            f" {', '.join(map(repr, book.rows[0]))}. Export it with {book.lms} set to English."
        )
    for number, row in enumerate(book.rows[1:], start=2):
        for name in form.ids:
            if _SPOILT.fullmatch(cell := book.cell(row, name)):
                raise ValueError(
                    f"{book.path}, row {number}: the {name} {cell!r} was rewritten by a"
                    f" spreadsheet, and its digits are lost. Export it from {book.lms} again."
                )
