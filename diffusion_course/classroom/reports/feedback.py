"""A student's page in HTML, complete in one file."""

from __future__ import annotations

from html import escape

from ...exercises.registry import get_exercise
from ..assignment.assignment import Assignment
from ..assignment.partial import RULE, properties
from ..files import printable
from ..records import Graded, Mark
from .pages import code_text, page, points_of

_STATES = {
    "right": "\u2713 right",
    "wrong": "\u2717 not right",
    "unanswered": "\u25cb not answered",
}


def student_page(assignment: Assignment, graded: Graded, name: str = "") -> str:
    """Return the page of one student: points, the mistakes by name, where to read.

    It shows no hidden case.
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
    body += _rules(assignment)
    return page(f"{assignment.title}: {graded.student}", "\n".join(body))


def _rules(assignment: Assignment) -> list[str]:
    """How the points of an answer are shared, where they are."""
    if not assignment.partial:
        return []
    texts: dict[str, str] = {}
    for exercise_id in assignment.partial:
        texts |= properties(get_exercise(exercise_id))
    items = [f"<li>{escape(name)}: {code_text(text)}</li>" for name, text in texts.items()]
    return ["<h2>Partial credit</h2>", f"<p>{escape(RULE)}</p><ul>", *items, "</ul>"]


def _article(mark: Mark) -> str:
    css = mark.status if mark.status in ("right", "wrong") else "open"
    parts = [f"<h3>{escape(mark.exercise_id)} {code_text(mark.title)}</h3>"]
    parts += [
        f'<p><span class="state">{_STATES[mark.status]}</span>,'
        f" {points_of(mark.points, mark.max_points)}</p>"
    ]
    if mark.status != "right":
        parts.append(f"<p>{code_text(mark.feedback)}</p>")
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
