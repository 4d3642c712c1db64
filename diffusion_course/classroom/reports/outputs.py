"""The files that a grading run leaves: grades.csv, results.json, similarity.csv, a page for each
student, an index.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...files.checkpoints import write_bytes
from ..assignment.assignment import Assignment
from ..files import safe_name
from ..records import Graded, Submission
from .feedback import index_page, student_page
from .similarity import Pair, similar_pairs


def write_reports(
    assignment: Assignment,
    graded: Sequence[Graded],
    submissions: Mapping[str, Submission],
    failed: Sequence[tuple[str, str]],
    notes: Sequence[str],
    out: Path,
) -> None:
    """Write all reports into `out`, each file whole; the same grades give the same bytes."""
    pairs = similar_pairs(assignment, {one.student: submissions[one.student] for one in graded})
    names = {student.id: student.name for student in assignment.roster}
    write_bytes(out / "grades.csv", grades_csv(assignment, graded, failed).encode("utf-8"))
    write_bytes(out / "similarity.csv", similarity_csv(pairs).encode("utf-8"))
    content = {
        "assignment": assignment.name,
        "submissions": [dataclasses.asdict(one) for one in graded],
        "failed": list(failed),
    }
    write_bytes(out / "results.json", _json(content))
    for one in graded:
        name = safe_name(one.student)
        page = student_page(assignment, one, names.get(one.student, ""))
        write_bytes(out / "feedback" / f"{name}.html", page.encode("utf-8"))
    missing = [student.id for student in assignment.roster if student.id not in submissions]
    index = index_page(assignment, graded, submissions, failed, [*notes, *_absent(missing)], pairs)
    write_bytes(out / "index.html", index.encode("utf-8"))


def _absent(missing: Sequence[str]) -> list[str]:
    return [f"nothing handed in: {', '.join(missing)}"] if missing else []


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode(
        "utf-8"
    )


def grades_csv(
    assignment: Assignment, graded: Sequence[Graded], failed: Sequence[tuple[str, str]]
) -> str:
    """Return the table of points: a line for each student, manual questions left empty to be filled
    in.
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
    for student, _ in failed:
        rows[student] = [student, "not graded", *empty, maximum]
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
    """CSV whose cells no spreadsheet takes for formulas."""
    text = io.StringIO()
    safe = [
        [f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell for cell in row]
        for row in rows
    ]
    csv.writer(text, lineterminator="\n").writerows(safe)
    return text.getvalue()
