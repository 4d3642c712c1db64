"""A student's notebook file as code cells and written answers.

Whatever is odd is left out and noted; outputs are ignored.
"""

from __future__ import annotations

import codecs
import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ..assignment.sources import CELL_CHARACTERS
from ..files import Unreadable, printable
from ..records import Cell

CELLS = 2_000
ALL_CHARACTERS = 2**18
WRITTEN_CHARACTERS = 20_000
_MANUAL = re.compile(r"manual-(\d\d)-(m\d{1,3})")
OPEN = re.compile(r"\.\.\.[ \t]*$|NotImplementedError", re.MULTILINE)  # not written yet
_NOTES = 20


@dataclasses.dataclass(frozen=True)
class Notebook:
    """What is used of a notebook.

    `unread` says of an answer cell that is not among `cells` what it is in, `assignment`
    and `student` are what its metadata names, `notes` say what was left out.
    """

    cells: tuple[Cell, ...]
    written: Mapping[str, str]
    unread: Mapping[str, str]
    assignment: str | None = None
    student: str | None = None
    notes: tuple[str, ...] = ()


def parse_notebook(content: bytes) -> Notebook:
    """Return the cells of a notebook file, format 3 or later.

    Raises Unreadable where it is no notebook at all.
    """
    notes: list[str] = []
    document = _load(content, notes)
    code: list[Cell] = []
    written: dict[str, str] = {}
    unread: dict[str, str] = {}
    seen: Counter[str] = Counter()
    room = ALL_CHARACTERS
    for number, cell in enumerate(_raw_cells(document), start=1):
        kind, source = _kind_and_source(cell)
        if source is None:
            notes.append(f"cell {number} is not a cell and is left out")
            continue
        grade_id = _grade_id(cell)
        manual = _MANUAL.fullmatch(grade_id or "")
        if grade_id is not None:
            seen[grade_id] += 1
        if manual:
            _add_written(written, f"{manual[1]}.{manual[2]}", source, notes)
        if not source.strip():
            continue
        room = min(room, 0) if len(code) >= CELLS else room
        if (why := _why_unread(kind, source, room)) is None:
            code.append(Cell(source, grade_id))
            room -= len(source)
            continue
        if (grade_id or "").startswith("answer-") and (kind == "code" or not OPEN.search(source)):
            unread.setdefault(grade_id, why)
        if kind == "code" and len(source) > CELL_CHARACTERS:
            notes.append(f"cell {number} has {len(source)} characters and is left out")
        elif kind == "code" and room >= 0:
            room = -1  # no later cell fits, and this is told once
            notes.append(
                f"the code cells from cell {number} on are left out: there is too much code"
            )
    notes += [
        f"{count} cells have the grade_id {printable(name, 60)!r}"
        for name, count in seen.items()
        if count > 1
    ]
    if len(notes) > _NOTES:
        notes[_NOTES:] = [f"and {len(notes) - _NOTES} more remarks"]
    names = (_own_name(document, "assignment"), _own_name(document, "student"))
    return Notebook(tuple(code), written, unread, *names, tuple(notes))


def _why_unread(kind: str, source: str, room: int) -> str | None:
    """What a cell is that is not read as code, or None for one that is."""
    if len(source) > CELL_CHARACTERS:
        return f"a cell with {len(source)} characters, at most {CELL_CHARACTERS} are read"
    if kind != "code":
        return "a cell of text: make it a code cell (in Jupyter select it and press Y)"
    return "a cell that comes after too much code" if len(source) > room else None


def _load(content: bytes, notes: list[str]) -> Mapping[str, Any]:
    if not content.strip():
        raise Unreadable("the file is empty")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = content.decode("utf-16", "replace")
    else:
        text = content.decode("utf-8-sig", "replace")
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise Unreadable("it is nested too deeply for a notebook") from error
    except ValueError as error:
        raise Unreadable(f"it is not JSON ({printable(str(error), 100)})") from error
    if not isinstance(document, dict) or not isinstance(document.get("nbformat"), int):
        raise Unreadable("it is JSON, but not a notebook")
    if document["nbformat"] < 3 or document["nbformat"] > 4:
        raise Unreadable(
            f"it is a notebook of format {printable(str(document['nbformat']), 20)}; save it in"
            " format 4"
        )
    if "\ufffd" in text and b"\xef\xbf\xbd" not in content:
        notes.append("the file is not in UTF-8: the letters that cannot be read are replaced")
    return document


def _raw_cells(document: Mapping[str, Any]) -> Iterator[Any]:
    sheets = document.get("worksheets") if document["nbformat"] == 3 else [document]
    if not isinstance(sheets, list):
        raise Unreadable("it is JSON, but has no worksheets as a notebook of format 3 has")
    for sheet in sheets:
        cells = sheet.get("cells") if isinstance(sheet, dict) else None
        if not isinstance(cells, list):
            raise Unreadable("it is JSON, but has no list of cells")
        yield from cells


def _kind_and_source(cell: Any) -> tuple[str, str | None]:
    if not isinstance(cell, dict):
        return "", None
    source = cell.get("source", cell.get("input"))
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    return str(cell.get("cell_type")), _sound(source) if isinstance(source, str) else None


def _sound(text: str) -> str:
    """Replace what JSON may hold and no file can, and give lines their usual end.

    That is halves of surrogate pairs.
    """
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _grade_id(cell: Mapping[str, Any]) -> str | None:
    found = _at(cell, "metadata", "nbgrader", "grade_id")
    return _sound(found) if isinstance(found, str) and 0 < len(found) <= 200 else None


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _own_name(document: Mapping[str, Any], key: str) -> str | None:
    found = _at(document, "metadata", "diffusion_course", key)
    return _sound(found) if isinstance(found, str) and len(found) <= 200 else None


def _add_written(written: dict[str, str], question: str, text: str, notes: list[str]) -> None:
    if question in written:
        text = f"{written[question]}\n\n{text}"
    if len(text) > WRITTEN_CHARACTERS:
        notes.append(f"the written answer {question} is cut after {WRITTEN_CHARACTERS} characters")
        text = text[:WRITTEN_CHARACTERS]
    written[question] = text
