"""Pages in HTML, complete in one file each: feedback for a student, and the instructor's overview.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from urllib.parse import quote

from ...exercises.registry import get_exercise
from ..assignment.assignment import Assignment
from ..assignment.manual import get_question
from ..files import printable, safe_name
from ..records import Graded, Mark, Submission
from .pages import code_text, page, points_of, table
from .similarity import Pair

_STATES = {
    "right": "\u2713 right",
    "wrong": "\u2717 not right",
    "unanswered": "\u25cb not answered",
}


def student_page(assignment: Assignment, graded: Graded, name: str = "") -> str:
    """Return the page of one student: points, the mistakes by name, where to read. It shows no
    hidden case.
    """
    automatic = [mark for mark in graded.marks if mark.status != "manual"]
    manual = [mark for mark in graded.marks if mark.status == "manual"]
    total = points_of(
        sum(mark.points for mark in automatic), sum(mark.max_points for mark in automatic)
    )
    who = f"{name} ({graded.student})" if name else graded.student
    body = [f"<h1>{escape(assignment.title)}</h1>", f'<p class="soft">{escape(printable(who))}</p>']
    body += [f'<p class="total">{total}</p>', "<h2>Exercises</h2>", *map(_article, automatic)]
    if manual:
        body += [
            "<h2>Questions in words</h2>",
            "<p>Your instructor marks these.</p>",
            *map(_question, manual),
        ]
    return page(f"{assignment.title}: {graded.student}", "\n".join(body))


def _article(mark: Mark) -> str:
    css = mark.status if mark.status in ("right", "wrong") else "open"
    parts = [f"<h3>{escape(mark.exercise_id)} {code_text(mark.title)}</h3>"]
    parts += [
        f'<p><span class="state">{_STATES[mark.status]}</span>,'
        f" {points_of(mark.points, mark.max_points)}</p>"
    ]
    if mark.status == "wrong":
        parts.append(f"<p>{code_text(mark.feedback)}</p>")
    if mark.status != "right":
        parts.append(
            f'<p class="soft">Read: {code_text(get_exercise(mark.exercise_id).derivation)}</p>'
        )
    return f'<article class="{css}">{"".join(parts)}</article>'


def _question(mark: Mark) -> str:
    head = (
        f"<h3>{escape(mark.exercise_id)} {code_text(mark.title)}</h3><p>{mark.max_points:g}"
        " points</p>"
    )
    return f'<article class="open">{head}</article>'


def index_page(
    assignment: Assignment,
    graded: Sequence[Graded],
    submissions: Mapping[str, Submission],
    failed: Sequence[tuple[str, str]],
    notes: Sequence[str],
    pairs: Sequence[Pair],
) -> str:
    """Return the instructor's page: totals, which mistakes how often, what was noticed, similar
    pairs, texts to mark.
    """
    body = [
        f"<h1>{escape(assignment.title)}</h1>",
        f'<p class="soft">For the instructor: {len(graded)} submissions graded.</p>',
    ]
    if failed:
        rows = [
            [escape(printable(student)), escape(printable(why, 400))] for student, why in failed
        ]
        body += ["<h2>Could not be graded</h2>", table(["student", "why"], rows)]
    rows = []
    for one in graded:
        link = f'<a href="feedback/{quote(safe_name(one.student))}.html">{escape(printable(one.student))}</a>'
        remarks = "<br>".join(escape(printable(note, 300)) for note in one.notes)
        rows.append([link, f"{one.points:g}", remarks])
    body += [
        "<h2>Students</h2>",
        table(
            ["student", f"points of {assignment.exercise_points:g}", "noticed"], rows, numbers=(1,)
        ),
    ]
    head = ["exercise", "right", "not right", "not answered", "mistakes, how often"]
    body += ["<h2>Exercises</h2>", table(head, _by_exercise(graded), numbers=(1, 2, 3))]
    body += ["<h2>Similar submissions</h2>"]
    if pairs:
        rows = [
            [
                escape(printable(p.first)),
                escape(printable(p.second)),
                f"{p.score:g}",
                _lines(p.evidence),
            ]
            for p in pairs
        ]
        body += [
            "<p>Pairs that share what is rare in this class. A reason to look, not a proof.</p>"
        ]
        body += [table(["first", "second", "score", "what they share"], rows, numbers=(2,))]
    else:
        body += ["<p>No pair shares more than chance explains.</p>"]
    if notes:
        body += [
            "<h2>Files</h2><ul>",
            *(f"<li>{escape(printable(note, 400))}</li>" for note in notes),
            "</ul>",
        ]
    return page(
        f"{assignment.title}, overview",
        "\n".join([*body, *_written(assignment, graded, submissions)]),
    )


def _lines(texts: Sequence[str]) -> str:
    return "<br>".join(map(code_text, texts))


def _by_exercise(graded: Sequence[Graded]) -> list[list[str]]:
    rows = []
    ids = list(
        dict.fromkeys(
            mark.exercise_id for one in graded for mark in one.marks if mark.status != "manual"
        )
    )
    for exercise_id in ids:
        marks = [mark for one in graded for mark in one.marks if mark.exercise_id == exercise_id]
        states = Counter(mark.status for mark in marks)
        named = Counter(
            mark.mistake or f"({mark.check})" for mark in marks if mark.status == "wrong"
        )
        often = sorted(named.items(), key=lambda item: (-item[1], item[0]))
        told = _lines([f"{count} {name}" for name, count in often])
        title = f"{escape(exercise_id)} {code_text(marks[0].title)}"
        rows.append(
            [title, *(str(states[state]) for state in ("right", "wrong", "unanswered")), told]
        )
    return rows


def _written(
    assignment: Assignment, graded: Sequence[Graded], submissions: Mapping[str, Submission]
) -> list[str]:
    parts = []
    for question_id in assignment.manual:
        question = get_question(question_id)
        rubric = "".join(
            f"<li>{points:g}: {code_text(text)}</li>" for points, text in question.rubric
        )
        parts.append(f"<h2>{escape(question_id)} {code_text(question.title)}</h2>")
        parts.append(f"<p>{question.points:g} points</p><ul>{rubric}</ul>")
        for one in graded:
            text = submissions[one.student].written.get(question_id, "").strip()
            shown = f"<pre>{escape(text)}</pre>" if text else '<p class="soft">nothing written</p>'
            parts.append(f"<h3>{escape(printable(one.student))}</h3>{shown}")
    return parts
