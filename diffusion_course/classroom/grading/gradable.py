"""Whether there is something to grade: of a submission, and under the limits at all.

What is not gradable is told with what to do, and has no points: a 0 would say that the answers were
looked at.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from ...exercises.registry import Exercise
from ..assignment.assignment import Assignment
from ..assignment.notebooks import SETUP, make_notebook, to_bytes
from ..assignment.sources import answer_cells, grade_id, parsed
from ..files import printable
from ..records import Cell, Submission
from ..sandbox.limits import Limits
from .cells import parse_notebook
from .marking import hidden_cases, mark

WHAT_TO_DO = (
    "Put the notebook in place as Jupyter saves it, with the answers in the cells that were handed"
    " out, and run the same command again."
)
_ANSWER = re.compile(r"answer-(\d\d)-(\d{1,3})")
_LISTED = 5


class NotGradable(Exception):
    """Why a submission cannot be graded, and what to do; a student may read `why`."""

    def __init__(self, why: str) -> None:
        self.why = f"{why.rstrip('.')}."
        super().__init__(f"{self.why} {WHAT_TO_DO}")


class ReferenceFails(RuntimeError):
    """The course's own solutions have no points under these limits, so nobody's would."""


def made_gradable(submission: Submission, exercises: Sequence[Exercise]) -> Submission:
    """Return the submission, with the cell of imports where the student's own is gone.

    Raises NotGradable for one that could not be read, that is another assignment's, or that has an
    answer where it is not read.
    """
    if submission.problem is not None:
        raise NotGradable(submission.problem)
    own = {grade_id(one.id) for one in exercises}
    answered = {grade_id(one.id) for one in exercises if answer_cells(submission, one)}
    for one in exercises:
        if grade_id(one.id) in submission.unread.keys() - answered:
            raise NotGradable(f"the answer to {one.id} is in {submission.unread[grade_id(one.id)]}")
    if answered or not exercises:
        return _with_imports(submission)
    others = sorted({cell.grade_id or "" for cell in submission.cells} - own)
    if names := [f"{one[1]}.{one[2]}" for one in map(_ANSWER.fullmatch, others) if one]:
        listed = ", ".join(names[:_LISTED])
        raise NotGradable(f"it answers {listed} and none of this assignment's exercises")
    if not any(submission.written.values()):
        raise NotGradable("it holds none of this assignment's answers")
    return submission


def named_by_their_notebooks(
    read: Mapping[str, Submission], roster: Collection[str]
) -> dict[str, Submission]:
    """Return the submissions by student, a stranger's for the student it was made for.

    That is where the student is on the roster and nothing else is theirs; it is noted, and so is a
    notebook that was made for another one than hands it in.
    """
    claims = Counter(one.made_for for name, one in read.items() if name not in roster)
    named: dict[str, Submission] = {}
    for name, one in read.items():
        whose, notes = one.made_for, one.notes
        if whose in roster and name not in roster and whose not in read and claims[whose] == 1:
            file = repr(printable(one.path.name, 80))
            notes = (*notes, f"{file} is taken for {whose}'s, for whom the notebook was made")
            name = whose
        elif whose and whose != name and roster:
            notes = (*notes, f"the notebook was made for {printable(whose, 80)}")
        named[name] = dataclasses.replace(one, student=name, notes=notes)
    return dict(sorted(named.items()))


def require_reference(
    assignment: Assignment,
    student: str,
    limits: Limits,
    *,
    unsafe: bool,
    course: Path | None,
    attempt: Callable[..., tuple[dict, tuple[str, ...]]],
) -> None:
    """Grade the course's own solutions under these limits.

    Raises ReferenceFails where they do not have all points.
    """
    solved = parse_notebook(to_bytes(make_notebook(assignment, "solved", student)))
    submission = Submission(student, Path("solved.ipynb"), "", solved.cells)
    wanted = hidden_cases(assignment, student)
    attempts, _ = attempt(submission, wanted, limits, unsafe=unsafe, course=course)
    marks = mark(assignment, submission, wanted, attempts).marks
    bad = [one for one in marks if one.status not in ("right", "manual")]
    if bad:
        why = [f"{one.exercise_id}: {one.feedback.partition(': ')[2]}" for one in bad[:_LISTED]]
        raise ReferenceFails(
            f"with {limits.seconds:g} seconds and {limits.memory_mib} MiB for one submission even"
            f" the course's own solutions do not have all points ({' '.join(why)}), so nothing was"
            " graded. Allow more with --timeout and --memory, or lessen --jobs, and run again."
        )


def _with_imports(submission: Submission) -> Submission:
    """The submission, with the handed-out cell of imports first where not all of it is there."""
    there = {name for cell in submission.cells for name in _imported(cell.source)}
    if _imported(SETUP) <= there:
        return submission
    cells = (Cell(SETUP, "setup"), *submission.cells)
    note = "the locked cell of imports is gone or changed: it was put back"
    return dataclasses.replace(submission, cells=cells, notes=(*submission.notes, note))


def _imported(source: str) -> set[str]:
    """The names that a cell imports at its top level."""
    nodes = [node for node in parsed(source).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    return {alias.asname or alias.name for node in nodes for alias in node.names}
