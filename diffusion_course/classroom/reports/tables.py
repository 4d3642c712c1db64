"""CSV tables: written so that no cell is a formula, and read back as a spreadsheet saves them."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...files.paths import user_path

# Where a cell may begin, what is not seen there, and what makes it a formula: ASCII's signs, their
# full-width, small and raised forms, the minus sign, and those of old programs for commands.
_FORMULA = re.compile(
    r"(^|[;\t\n])"
    r"(?=[\s\u200b-\u200f\u2060\ufeff]*[=+\-@|%"
    r"\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u207a-\u207c\u2212])"
)


def csv_text(rows: Sequence[Sequence[str]]) -> str:
    """Return CSV whose cells no spreadsheet takes for formulas.

    https://owasp.org/www-community/attacks/CSV_Injection. Where a spreadsheet takes semicolons or
    tabs for the ends of columns, a formula could begin inside a cell: there too it gets a "'".
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [[safe_cell(one) for one in row] for row in rows]
    )
    return text.getvalue()


def safe_cell(text: str) -> str:
    """Return what `csv_text` writes for a cell."""
    return _FORMULA.sub(r"\1'", text.replace("\r", "\n"))


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table: where it stands ("manual.csv, row 3"), and its cells by column."""

    where: str
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        """The text of a cell, "" where there is no such column."""
        return self.cells.get(column, "")

    def error(self, column: str, why: str) -> ValueError:
        """What to raise for a cell: its place, what it holds, and `why`, the end of a sentence."""
        return ValueError(f"{self.where}, column {column}: {self[column]!r} {why}")


def read_table(path: str | Path, what: str, needed: Sequence[str]) -> list[Row]:
    """Return the rows of a CSV file in UTF-8 with commas, semicolons or tabs.

    Rows are counted as a spreadsheet does; the first one that is not empty holds the columns, and
    empty ones are left out, as is a line `sep=;` at the beginning, which Excel takes for a hint.
    Capitals and spaces around the names of columns do not count. `what` names the file in errors.
    Raises FileNotFoundError, or ValueError for a file that cannot be read, a column of `needed`
    that is missing or there twice, and a row with more cells than columns.
    """
    path = user_path(path, what)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} ({what}).")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not in UTF-8 (byte {error.start}). Save it as CSV in UTF-8."
        ) from error
    hint = re.match(r'\s*"?sep=([,;\t])"?[ ,;\t]*(\r\n|\r|\n|$)', text, re.IGNORECASE)
    text = text[hint.end() :] if hint else text  # a line for Excel, which shows it to nobody
    first = next((line for line in text.splitlines() if line.strip(" ,;\t")), "")
    separator = hint[1] if hint else max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        rows = [[cell.strip() for cell in row] for row in reader]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}.") from error
    head = next((number for number, row in enumerate(rows) if any(row)), 0)
    columns = [cell.casefold() for cell in rows[head]] if rows else []
    for name in needed:
        if columns.count(name) != 1:
            raise ValueError(
                f"{path}: a column named {name} is needed once; the first line has"
                f" {', '.join(map(repr, columns)) or 'no columns'}."
            )
    found = []
    for number, row in enumerate(rows[head + 1 :], start=head + 2):
        if any(row[len(columns) :]):
            raise ValueError(
                f"{path}, row {number} has {len(row)} cells, and there are {len(columns)} columns."
                f' A cell that holds {separator!r} needs quotes around it: "like{separator} this".'
            )
        if any(row):
            found.append(Row(f"{path}, row {number}", dict(zip(columns, row, strict=False))))
    return found


def points_in(row: Row, column: str, most: float, whose: str) -> float:
    """Return the points of a cell; a decimal comma is one too.

    Raises ValueError for what is no number from 0 to `most`, which `whose` has.
    """
    try:
        points = float(row[column].replace(",", "."))
    except ValueError:
        points = math.nan
    if not 0 <= points <= most:
        raise row.error(column, f"is no number from 0 to {most:g}, the points of {whose}.")
    return points
