"""The instructor's page in HTML, complete in one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from statistics import median
from urllib.parse import quote

from ...exercises.registry import get_exercise
from ..assignment.manual import get_question
from ..files import printable, safe_name
from ..reasons import Reason, told
from ..records import Graded, Mark
from .charts import bars, histogram, shares
from .class_results import ClassResults
from .pages import code_text, page, points_of, table
from .similarity import Pair

_TAUGHT = 8  # mistakes that are listed to be taught again


def index_page(results: ClassResults, pairs: Sequence[Pair], copies: str = "") -> str:
    """Return the instructor's page.

    It has what to teach again, totals, which mistakes how often, what was noticed, how many hints
    there are of copies (`copies` is the file that shows them), and texts to mark.
    """
    title = results.assignment.title
    notes = list(results.notes)
    if results.absent:
        notes.append(f"nothing handed in: {', '.join(results.absent)}")
    marks: dict[str, list[Mark]] = {}
    for mark in (mark for one in results.graded for mark in one.marks if mark.status != "manual"):
        marks.setdefault(mark.exercise_id, []).append(mark)
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">For the instructor: {len(results.graded)} submissions graded, '
        f"{len(results.failed)} not gradable.</p>",
        *_failed(results.failed),
        *_to_teach(marks),
        *_points(results),
        *_students(results),
        *_exercises(marks),
        *_pairs(pairs, copies),
        *_files(notes),
        *_written(results),
    ]
    return page(f"{title}, overview", "\n".join(body))


def _failed(failed: Sequence[tuple[str, str]]) -> list[str]:
    if not failed:
        return []
    rows = [[_line(student), _line(why, 500)] for student, why in failed]
    return ["<h2>Not gradable</h2>", table(["student", "why"], rows)]


def _to_teach(marks: dict[str, list[Mark]]) -> list[str]:
    """The most frequent mistakes of the class, each with the place in the course."""
    counts: Counter[tuple[str, str]] = Counter()
    for exercise_id, several in marks.items():
        for name, count in _mistakes(several):
            counts[exercise_id, name] += count
        if left := sum(mark.status == "unanswered" for mark in several):
            counts[exercise_id, "not answered"] += left
    often = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_TAUGHT]
    if not often:
        return []
    rows = []
    for (exercise_id, name), count in often:
        exercise = get_exercise(exercise_id)
        label = (
            f"<strong>{escape(exercise_id)} {code_text(exercise.title)}</strong>: {code_text(name)}"
            f'<br><span class="soft">{code_text(exercise.derivation)}</span>'
        )
        rows.append((label, count, f"{count} of {len(marks[exercise_id])}"))
    most = max(map(len, marks.values()))
    return ["<h2>What to teach again on Monday</h2>", bars(rows, most)]


def _points(results: ClassResults) -> list[str]:
    points = [one.points for one in results.graded]
    if not points:
        return []
    most, waits = results.assignment.max_points, sum(one.open_points > 0 for one in results.graded)
    mean = sum(points) / len(points)
    about = f"Mean {mean:.1f}, median {median(points):g}, of {most:g} points."
    if waits:
        about += f" In {waits} of them answers in words are not marked yet."
    about += " Each column counts from its number of points up to the next."
    chart = histogram(points, most, "Submissions by their points")
    return ["<h2>Points</h2>", f"<p>{about}</p>", chart]


def _students(results: ClassResults) -> list[str]:
    rows = []
    for one in results.graded:
        path = f"feedback/{quote(safe_name(one.student))}.html"
        remarks = "<br>".join(_line(note, 300) for note in [*_by_hand(one), *one.notes])
        late = f"{one.late.days} d, \u2212{one.earned - one.points:g}" if one.late else ""
        waits = f"{one.open_points:g}" if one.open_points else ""
        link = f'<a href="{path}">{_line(one.student)}</a>'
        rows.append([link, f"{one.points:g}", waits, late, f"{one.seconds:.1f}", remarks])
    most = f"points of {results.assignment.max_points:g}"
    head = ["student", most, "not marked", "late", "seconds", "noticed"]
    kept = [one for one in range(len(head)) if one not in (2, 3) or any(row[one] for row in rows)]
    head, *rows = ([line[one] for one in kept] for line in (head, *rows))
    return ["<h2>Students</h2>", table(head, rows, numbers=range(1, len(kept) - 1))]


def _by_hand(one: Graded) -> list[str]:
    """The points of exercises that the instructor set, with the reason."""
    return [
        f"{mark.exercise_id}: {mark.points:g} in place of {mark.before:g}, set by you:"
        f" {mark.comment}"
        for mark in one.marks
        if mark.status != "manual" and mark.before is not None
    ]


def _mistakes(marks: Sequence[Mark]) -> list[tuple[str, int]]:
    """The mistakes of an exercise and how often each is, known ones by their names."""
    wrong = [mark for mark in marks if mark.status == "wrong"]
    named = Counter(mark.mistake or _in_words(mark) for mark in wrong)
    return sorted(named.items(), key=lambda item: (-item[1], item[0]))


def _in_words(mark: Mark) -> str:
    """What went wrong where no known mistake is named: the sentence that the student reads."""
    demands = get_exercise(mark.exercise_id).properties
    said = next((one.message for one in demands if one.name == mark.check), None)
    if said is None:
        said = told(Reason(mark.check), "an exception")
    return said.strip().rstrip(".")


def _exercises(marks: dict[str, list[Mark]]) -> list[str]:
    parts = ["<h2>Exercises</h2>"] if marks else []
    for exercise_id, several in marks.items():
        rows = [(code_text(name), count, str(count)) for name, count in _mistakes(several)]
        mean = sum(mark.points for mark in several) / len(several)
        about = f"in the mean {mean:.2g} of {several[0].max_points:g}"
        head = f"<h3>{escape(exercise_id)} {code_text(several[0].title)}</h3>"
        parts.append(f"{head}{shares(several, about)}")
        parts += [bars(rows, len(several))] if rows else []
    return parts


def _pairs(pairs: Sequence[Pair], copies: str) -> list[str]:
    heading = "<h2>Similar submissions</h2>"
    what = "Look at them side by side" if pairs else "Other hints of texts that are alike"
    link = f'<p><a href="{copies}">{what}</a></p>' if copies else ""
    if not pairs:
        return [heading, f"<p>No pair shares more than chance explains.</p>{link}"]
    about = "Pairs that share what is rare in this class. A reason to talk to them, not a proof."
    rows = [
        [_line(pair.first), _line(pair.second), f"{pair.score:g}", _lines(pair.evidence)]
        for pair in pairs
    ]
    head = ["first", "second", "score", "what they share"]
    return [heading, f"<p>{about}</p>{link}", table(head, rows, numbers=(2,))]


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
            mark = next(mark for mark in one.marks if mark.exercise_id == question_id)
            given = "not marked yet" if mark.waits else points_of(mark.points, mark.max_points)
            said = f": {_line(mark.comment, 500)}" if mark.comment else ""
            text = results.submissions[one.student].written.get(question_id, "").strip()
            shown = f"<pre>{escape(text)}</pre>" if text else '<p class="soft">nothing written</p>'
            about = f'<p class="soft">{given}{said}</p>'
            parts.append(f"<h3>{_line(one.student)}</h3>{about}{shown}")
    return parts


def _line(text: str, limit: int = 200) -> str:
    return escape(printable(text, limit))


def _lines(texts: Sequence[str]) -> str:
    return "<br>".join(map(code_text, texts))
