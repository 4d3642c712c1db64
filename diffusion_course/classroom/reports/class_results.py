"""What is known of a class when its submissions are graded: what all reports are made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ..assignment.assignment import Assignment
from ..records import Graded, Submission


@dataclasses.dataclass(frozen=True)
class ClassResults:
    """The graded submissions of a class, in order of the students.

    `failed` holds (student, why) of those that could not be graded, `notes` what was noticed in the
    folder, `submissions` all that was read, by student. `return_names` are those under which a
    student's page goes back to where the submissions came from.
    """

    assignment: Assignment
    graded: tuple[Graded, ...]
    submissions: Mapping[str, Submission]
    failed: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    return_names: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def absent(self) -> list[str]:
        """The students of the roster who handed in nothing."""
        there = {*self.submissions, *(student for student, _ in self.failed)}
        return [one.id for one in self.assignment.roster if one.id not in there]
