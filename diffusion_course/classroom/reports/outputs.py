"""The files that a grading run leaves.

They are grades.csv, results.json, similarity.csv, a page for each student, also in feedback.zip
for the way back, an index and a page of texts that are alike.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...files.paths import write_bytes
from ..assignment.assignment import Assignment
from ..files import printable, safe_name
from ..records import Graded
from ..tables import csv_text
from .class_results import ClassResults
from .feedback import student_page
from .origins import origins_of
from .overview import index_page
from .returned import feedback_zip
from .side_by_side import FILE, copies_page
from .similarity import Pair, similar_pairs


def write_reports(results: ClassResults, out: Path) -> None:
    """Write all reports into `out`, each file whole; the same grades give the same bytes.

    Pages of students who have none any more are removed.
    """
    graded = results.graded
    read = {one.student: results.submissions[one.student] for one in graded}
    pairs, origins = similar_pairs(results.assignment, read), origins_of(results)
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
        "index.html": index_page(results, pairs, FILE if pairs or origins else ""),
        FILE: copies_page(results, pairs, origins),
    }
    for name, text in texts.items():
        write_bytes(out / name, text.encode("utf-8"))
    write_bytes(out / "feedback.zip", feedback_zip(results, names))
    for old in (out / "feedback").glob("*.html"):  # of a submission that is gone or not gradable
        if f"feedback/{old.name}" not in pages:
            old.unlink()


def results_json(results: ClassResults) -> str:
    """Return all marks with their feedback, and who could not be graded."""
    content = {
        "assignment": results.assignment.name,
        "submissions": [_as_json(one) for one in results.graded],
        "failed": list(results.failed),
    }
    return json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _as_json(one: Graded) -> dict[str, Any]:
    """What a program may want of a grade; the seconds are left out: no two runs take the same."""
    content = dataclasses.asdict(one)
    del content["seconds"]
    sums = {"points": one.points, "earned": one.earned, "open_points": one.open_points}
    return content | sums | {"max_points": one.max_points}


def grades_csv(
    assignment: Assignment, graded: Sequence[Graded], failed: Sequence[tuple[str, str]]
) -> str:
    """Return the table of points, a line for each student.

    A question in words that nobody has marked is empty; `open` are the points that wait for that.
    `earned` is the sum, `late` what is taken off it for being late, `total` what is left.
    """
    exercises = (*assignment.exercises, *assignment.manual)
    sums = ("earned", "late", "total", "open", "max")
    maximum = f"{assignment.max_points:g}"
    rows = {}
    for one in graded:
        points = {mark.exercise_id: f"{mark.points:g}" for mark in one.marks if not mark.waits}
        late = round(one.earned - one.points, 2)
        numbers = [f"{value:g}" for value in (one.earned, late, one.points, one.open_points)]
        cells = [points.get(name, "") for name in exercises]
        rows[one.student] = [one.student, "graded", *cells, *numbers, maximum]
    empty = [""] * (len(exercises) + len(sums) - 1)
    for student, why in failed:
        rows[student] = [student, f"not gradable: {printable(why, 500)}", *empty, maximum]
    for student in assignment.roster:
        rows.setdefault(student.id, [student.id, "nothing handed in", *empty, maximum])
    return csv_text([["student", "state", *exercises, *sums], *(rows[one] for one in sorted(rows))])


def similarity_csv(pairs: Sequence[Pair]) -> str:
    """Return the list of suspicious pairs."""
    rows = [
        [pair.first, pair.second, f"{pair.score:g}", "; ".join(pair.evidence)] for pair in pairs
    ]
    return csv_text([["first", "second", "score", "evidence"], *rows])
