"""The files that a grading run leaves.

They are grades.csv, results.json, similarity.csv, a page for each student and an index.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

from ...files.paths import write_bytes
from ..assignment.assignment import Assignment
from ..files import printable, safe_name
from ..records import Graded
from .class_results import ClassResults
from .feedback import student_page
from .overview import index_page
from .similarity import Pair, similar_pairs

# Where a cell may begin, what is not seen there, and what makes it a formula: ASCII's signs, their
# full-width, small and raised forms, the minus sign, and those of old programs for commands.
_FORMULA = re.compile(
    r"(^|[;\t\n])"
    r"(?=[\s\u200b-\u200f\u2060\ufeff]*[=+\-@|%"
    r"\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u207a-\u207c\u2212])"
)


def write_reports(results: ClassResults, out: Path) -> None:
    """Write all reports into `out`, each file whole; the same grades give the same bytes.

    Pages of students who have none any more are removed.
    """
    graded = results.graded
    read = {one.student: results.submissions[one.student] for one in graded}
    pairs = similar_pairs(results.assignment, read)
    names = {student.id: student.name for student in results.assignment.roster}
    pages = {
        f"feedback/{safe_name(one.student)}.html": student_page(
            results.assignment, one, names.get(one.student, "")
        )
        for one in graded
    }
    texts = {
        "grades.csv": grades_csv(results.assignment, graded, results.failed),
        "similarity.csv": similarity_csv(pairs),
        "results.json": results_json(results),
        **pages,
        "index.html": index_page(results, pairs),
    }
    for name, text in texts.items():
        write_bytes(out / name, text.encode("utf-8"))
    for old in (out / "feedback").glob("*.html"):  # of a submission that is gone or not gradable
        if f"feedback/{old.name}" not in pages:
            old.unlink()


def results_json(results: ClassResults) -> str:
    """Return all marks with their feedback, and who could not be graded."""
    content = {
        "assignment": results.assignment.name,
        "submissions": [dataclasses.asdict(one) for one in results.graded],
        "failed": list(results.failed),
    }
    return json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def grades_csv(
    assignment: Assignment, graded: Sequence[Graded], failed: Sequence[tuple[str, str]]
) -> str:
    """Return the table of points, a line for each student.

    Manual questions are left empty to be filled in.
    """
    columns = ["student", "state", *assignment.exercises, *assignment.manual, "total", "max"]
    maximum = f"{assignment.exercise_points:g}"
    rows = {}
    for one in graded:
        points = {
            mark.exercise_id: f"{mark.points:g}" for mark in one.marks if mark.status != "manual"
        }
        cells = [points.get(name, "") for name in (*assignment.exercises, *assignment.manual)]
        rows[one.student] = [one.student, "graded", *cells, f"{one.points:g}", maximum]
    empty = [""] * (len(columns) - 3)
    for student, why in failed:
        rows[student] = [student, f"not gradable: {printable(why, 500)}", *empty, maximum]
    for student in assignment.roster:
        rows.setdefault(student.id, [student.id, "nothing handed in", *empty, maximum])
    return _csv([columns, *(rows[student] for student in sorted(rows))])


def similarity_csv(pairs: Sequence[Pair]) -> str:
    """Return the list of suspicious pairs."""
    rows = [
        [pair.first, pair.second, f"{pair.score:g}", "; ".join(pair.evidence)] for pair in pairs
    ]
    return _csv([["first", "second", "score", "evidence"], *rows])


def _csv(rows: Sequence[Sequence[str]]) -> str:
    """CSV whose cells no spreadsheet takes for formulas.

    https://owasp.org/www-community/attacks/CSV_Injection. Where a spreadsheet takes semicolons or
    tabs for the ends of columns, a formula could begin inside a cell: there too it gets a "'".
    """
    text = io.StringIO()
    safe = [[_FORMULA.sub(r"\1'", cell.replace("\r", "\n")) for cell in row] for row in rows]
    csv.writer(text, lineterminator="\n").writerows(safe)
    return text.getvalue()
