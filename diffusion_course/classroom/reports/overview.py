"""The instructor's page in HTML, complete in one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from ..assignment.manual import get_question
from ..files import printable, safe_name
from ..records import Graded, Mark
from .class_results import ClassResults
from .pages import code_text, page, table
from .similarity import Pair


def index_page(results: ClassResults, pairs: Sequence[Pair]) -> str:
    """Return the instructor's page.

    It has totals, which mistakes how often, what was noticed, similar pairs, and texts to mark.
    """
    title = results.assignment.title
    notes = list(results.notes)
    if results.absent:
        notes.append(f"nothing handed in: {', '.join(results.absent)}")
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">For the instructor: {len(results.graded)} submissions graded, '
        f"{len(results.failed)} not gradable.</p>",
        *_failed(results.failed),
        *_students(results),
        *_exercises(results.graded),
        *_pairs(pairs),
        *_files(notes),
        *_written(results),
    ]
    return page(f"{title}, overview", "\n".join(body))


def _failed(failed: Sequence[tuple[str, str]]) -> list[str]:
    if not failed:
        return []
    rows = [[_line(student), _line(why, 500)] for student, why in failed]
    return ["<h2>Not gradable</h2>", table(["student", "why"], rows)]


def _students(results: ClassResults) -> list[str]:
    rows = []
    for one in results.graded:
        path = f"feedback/{quote(safe_name(one.student))}.html"
        remarks = "<br>".join(_line(note, 300) for note in one.notes)
        rows.append([f'<a href="{path}">{_line(one.student)}</a>', f"{one.points:g}", remarks])
    head = ["student", f"points of {results.assignment.exercise_points:g}", "noticed"]
    return ["<h2>Students</h2>", table(head, rows, numbers=(1,))]


def _exercises(graded: Sequence[Graded]) -> list[str]:
    marks: dict[str, list[Mark]] = {}
    for mark in (mark for one in graded for mark in one.marks if mark.status != "manual"):
        marks.setdefault(mark.exercise_id, []).append(mark)
    rows = [_exercise_row(exercise_id, several) for exercise_id, several in marks.items()]
    head = ["exercise", "right", "not right", "not answered", "mistakes, how often"]
    return ["<h2>Exercises</h2>", table(head, rows, numbers=(1, 2, 3))]


def _exercise_row(exercise_id: str, marks: Sequence[Mark]) -> list[str]:
    states = Counter(mark.status for mark in marks)
    wrong = [mark for mark in marks if mark.status == "wrong"]
    named = Counter(mark.mistake or f"({mark.check})" for mark in wrong)
    often = sorted(named.items(), key=lambda item: (-item[1], item[0]))
    return [
        f"{escape(exercise_id)} {code_text(marks[0].title)}",
        *(str(states[state]) for state in ("right", "wrong", "unanswered")),
        _lines([f"{count} {name}" for name, count in often]),
    ]


def _pairs(pairs: Sequence[Pair]) -> list[str]:
    heading = "<h2>Similar submissions</h2>"
    if not pairs:
        return [heading, "<p>No pair shares more than chance explains.</p>"]
    about = "Pairs that share what is rare in this class. A reason to look, not a proof."
    rows = [
        [_line(pair.first), _line(pair.second), f"{pair.score:g}", _lines(pair.evidence)]
        for pair in pairs
    ]
    head = ["first", "second", "score", "what they share"]
    return [heading, f"<p>{about}</p>", table(head, rows, numbers=(2,))]


def _files(notes: Sequence[str]) -> list[str]:
    if not notes:
        return []
    return ["<h2>Files</h2><ul>", *(f"<li>{_line(note, 400)}</li>" for note in notes), "</ul>"]


def _written(results: ClassResults) -> list[str]:
    parts = []
    for question_id in results.assignment.manual:
        question = get_question(question_id)
        rubric = "".join(
            f"<li>{points:g}: {code_text(text)}</li>" for points, text in question.rubric
        )
        parts.append(f"<h2>{escape(question_id)} {code_text(question.title)}</h2>")
        parts.append(f"<p>{question.points:g} points</p><ul>{rubric}</ul>")
        for one in results.graded:
            text = results.submissions[one.student].written.get(question_id, "").strip()
            shown = f"<pre>{escape(text)}</pre>" if text else '<p class="soft">nothing written</p>'
            parts.append(f"<h3>{_line(one.student)}</h3>{shown}")
    return parts


def _line(text: str, limit: int = 200) -> str:
    return escape(printable(text, limit))


def _lines(texts: Sequence[str]) -> str:
    return "<br>".join(map(code_text, texts))
