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
    """The points of one exercise, and feedback that names mistakes and shows no hidden case.

    Where the instructor set the points, `before` holds those that the grader gave; `comment` is
    what the instructor wrote.
    """

    exercise_id: str
    title: str
    status: Literal["right", "wrong", "unanswered", "manual"]
    points: float
    max_points: float
    feedback: str
    mistake: str | None = None
    check: str | None = None  # a Reason's value, or the name of a demand of the exercise's own
    comment: str = ""
    before: float | None = None

    @property
    def waits(self) -> bool:
        """Whether it is a question in words that nobody has marked yet."""
        return self.status == "manual" and self.before is None


@dataclasses.dataclass(frozen=True)
class Lateness:
    """A submission after its due date: both times in ISO 8601, the days begun since, and the cost.

    `share` is the part of the points that is taken off, 0 where being late costs nothing.
    """

    handed_in: str
    due: str
    days: int
    share: float


@dataclasses.dataclass(frozen=True)
class Graded:
    """A graded submission.

    `notes` are for the instructor: what the sandbox stopped, which course functions are called.
    `late` is None where it was in time or that is not known, `seconds` is how long it ran.
    """

    student: str
    sha256: str
    marks: tuple[Mark, ...]
    notes: tuple[str, ...] = ()
    late: Lateness | None = None
    seconds: float = 0.0

    @property
    def earned(self) -> float:
        """The points of all marks, before anything is taken off for being late."""
        return round(sum(mark.points for mark in self.marks), 2)

    @property
    def points(self) -> float:
        """The points that count: those earned, without what being late costs."""
        return round(self.earned * (1 - (self.late.share if self.late else 0)), 2)

    @property
    def open_points(self) -> float:
        """The points of questions that nobody has marked yet."""
        return sum(mark.max_points for mark in self.marks if mark.waits)

    @property
    def max_points(self) -> float:
        """The points that could be earned."""
        return sum(mark.max_points for mark in self.marks)
