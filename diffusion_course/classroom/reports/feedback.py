"""A student's page in HTML, complete in one file."""

from __future__ import annotations

from html import escape

from ...exercises.registry import get_exercise
from ..assignment.assignment import Assignment
from ..assignment.partial import RULE, properties
from ..files import printable
from ..records import Graded, Lateness, Mark
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
    title = f"{assignment.title}: {graded.student}"
    return page(title, student_body(assignment, graded, name))


def student_body(assignment: Assignment, graded: Graded, name: str = "") -> str:
    """Return what stands on the page of one student, as HTML that needs no style."""
    automatic = [mark for mark in graded.marks if mark.status != "manual"]
    manual = [mark for mark in graded.marks if mark.status == "manual"]
    who = f"{name} ({graded.student})" if name else graded.student
    body = [f"<h1>{escape(assignment.title)}</h1>", f'<p class="soft">{escape(printable(who))}</p>']
    body += _total(graded)
    if automatic:
        body += ["<h2>Exercises</h2>", *map(_article, automatic)]
    if manual:
        body += ["<h2>Questions in words</h2>", *map(_question, manual)]
    return "\n".join([*body, *_rules(assignment)])


def _total(graded: Graded) -> list[str]:
    """What all comes to, and what is still to come or was taken off."""
    is_over = graded.late is not None and graded.late.share >= 1
    waits = 0 if is_over else graded.open_points
    so_far = " so far" if waits else ""
    lines = [f'<p class="total">{points_of(graded.points, graded.max_points)}{so_far}</p>']
    if graded.late is not None:
        lines.append(f"<p>{_late(graded, graded.late)}</p>")
    if waits:
        lines.append(
            f"<p>{waits:g} of the {graded.max_points:g} points are for questions in words that your"
            " instructor has not marked yet.</p>"
        )
    return lines


def _late(graded: Graded, late: Lateness) -> str:
    times = f"Handed in {_moment(late.handed_in)}, due {_moment(late.due)}: "
    days = f"{late.days} day{'s' if late.days != 1 else ''} late, counting each that has begun. "
    if late.share >= 1:
        cost = f"That is too late for points; without it there would be {graded.earned:g}."
    elif late.share:
        cost = (
            f"That takes off {100 * late.share:g} % of {graded.earned:g} points, which leaves"
            f" {graded.points:g}."
        )
    else:
        cost = "No points are taken off for that."
    return escape(times + days + cost)


def _moment(time: str) -> str:
    """An ISO time for a reader: 2026-10-12 23:59 (UTC+02:00)."""
    return f"{time[:10]} {time[11:16]} (UTC{time[19:]})"


def _rules(assignment: Assignment) -> list[str]:
    """How the points of an answer are shared, where they are."""
    if not assignment.partial:
        return []
    texts: dict[str, str] = {}
    for exercise_id in assignment.partial:
        texts |= properties(get_exercise(exercise_id))
    items = [
        f"<li><strong>{escape(name)}</strong>: {code_text(text)}</li>"
        for name, text in texts.items()
    ]
    return ["<h2>Partial credit</h2>", f"<p>{escape(RULE)}</p><ul>", *items, "</ul>"]


def _article(mark: Mark) -> str:
    css = mark.status if mark.status in ("right", "wrong") else "open"
    parts = [f"<h3>{escape(mark.exercise_id)} {code_text(mark.title)}</h3>"]
    parts += [
        f'<p><span class="state">{_STATES[mark.status]}</span>,'
        f" {points_of(mark.points, mark.max_points)}</p>"
    ]
    if mark.before is not None:
        parts.append(
            f"<p>Set by your instructor, in place of {mark.before:g}: {_said(mark.comment)}</p>"
        )
    if mark.status != "right":
        parts.append(f"<p>{code_text(mark.feedback)}</p>")
        parts.append(
            f'<p class="soft">Read: {code_text(get_exercise(mark.exercise_id).derivation)}</p>'
        )
    return f'<article class="{css}">{"".join(parts)}</article>'


def _question(mark: Mark) -> str:
    if mark.waits:
        state = f"\u25cb not marked yet</span>, {mark.max_points:g} points"
    else:
        state = f"\u270e set by your instructor</span>, {points_of(mark.points, mark.max_points)}"
    css = "open" if mark.waits else "marked"
    parts = [f"<h3>{escape(mark.exercise_id)} {code_text(mark.title)}</h3>"]
    parts.append(f'<p><span class="state">{state}</p>')
    if mark.comment:
        parts.append(f"<p>{_said(mark.comment)}</p>")
    return f'<article class="{css}">{"".join(parts)}</article>'


def _said(comment: str) -> str:
    """The instructor's words, with their lines."""
    return "<br>".join(escape(line) for line in comment.splitlines())
