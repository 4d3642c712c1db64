"""What the parts of the classroom kit hand to each other: plain data.

Nothing here runs a student's code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ..exercises.trial import Outcome
from .reasons import Reason


@dataclasses.dataclass(frozen=True)
class Student:
    """One line of the roster: the id that names the submission, and what to print."""

    id: str
    name: str = ""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A code cell of a submission; `grade_id` is nbgrader's, None for a cell that is no answer."""

    source: str
    grade_id: str | None = None


@dataclasses.dataclass(frozen=True)
class Submission:
    """A submission as read.

    `written` holds the student's text by the id of a manual question, `unread` says of an answer
    cell that is not among `cells` what it is in, by its `grade_id`. `problem` says why nothing
    could be read; then there are no cells. `made_for` is the student for whom the notebook was
    made, as it says itself. `notes` are for the instructor: what was left out, which
    of several notebooks was read.
    """

    student: str
    path: Path
    sha256: str
    cells: tuple[Cell, ...] = ()
    written: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unread: Mapping[str, str] = dataclasses.field(default_factory=dict)
    problem: str | None = None
    made_for: str = ""
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Attempt:
    """What the worker did for one exercise: an outcome for each hidden case, or why there is none.

    `detail` goes with the reason: for `reasons.told`, or for the instructor's notes. `used` names
    the course's functions that the answer called.
    """

    outcomes: tuple[Outcome, ...] = ()
    reason: Reason | None = None
    detail: str = ""
    used: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Mark:
    """The points of one exercise, and feedback that names mistakes and shows no hidden case."""

    exercise_id: str
    title: str
    status: Literal["right", "wrong", "unanswered", "manual"]
    points: float
    max_points: float
    feedback: str
    mistake: str | None = None
    check: str | None = None  # a Reason's value, or the name of a demand of the exercise's own


@dataclasses.dataclass(frozen=True)
class Graded:
    """A graded submission.

    `notes` are for the instructor: what the sandbox stopped, which course functions are called.
    """

    student: str
    sha256: str
    marks: tuple[Mark, ...]
    notes: tuple[str, ...] = ()

    @property
    def points(self) -> float:
        """The points earned."""
        return sum(mark.points for mark in self.marks)

    @property
    def max_points(self) -> float:
        """The points that could be earned."""
        return sum(mark.max_points for mark in self.marks)
