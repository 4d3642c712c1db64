"""An assignment: exercises and questions, for whom, and the secret seed.

The seed draws each student's numbers and hidden cases.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...exercises.registry import Exercise, get_exercise
from ...files.paths import user_path
from ..files import write_secret
from ..records import Student
from .manual import get_question
from .partial import RULE, checked_shares
from .points import checked_points
from .roster import id_problem
from .schedule import Schedule, require_students, schedule_from_json

FORMAT = 2
_READ = (1, FORMAT)  # format 1 had the points of the course, and no dates
_PUBLIC_SEEDS = 11  # `check` and the tests use seeds 0 to 10
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclasses.dataclass(frozen=True)
class Assignment:
    """What the grader has to know; `seed` is secret.

    With an empty roster everybody gets the same numbers and hidden cases. `points` are those of
    each exercise; left out, they are the course's. `partial` has the points of each property of an
    exercise (`partial.properties`); one that is not there has all of its points or none. Raises
    LookupError for an unknown exercise or question, ValueError for a bad name, seed or roster, for
    points that cannot be meant, for an extension of nobody on the roster, or for nothing to do.
    """

    name: str
    title: str
    exercises: tuple[str, ...]
    manual: tuple[str, ...]
    seed: int
    roster: tuple[Student, ...] = ()
    points: Mapping[str, float] = dataclasses.field(default_factory=dict)
    partial: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    schedule: Schedule = Schedule()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"the name {self.name!r} must be letters A to Z, digits, _ and -, at most 64, no _"
                " or - first."
            )
        if not self.title.strip():
            raise ValueError("the title is empty.")
        if type(self.seed) is not int or self.seed < 0:
            raise ValueError(f"the seed must be a whole number from 0 on, got {self.seed!r}.")
        if not self.exercises and not self.manual:
            raise ValueError("an assignment needs at least one exercise or manual question.")
        for what, ids in (
            ("exercise", self.exercises),
            ("question", self.manual),
            ("student", [one.id for one in self.roster]),
        ):
            if len({one.casefold() for one in ids}) < len(ids):
                raise ValueError(f"a {what} is listed twice: {', '.join(ids)}.")
        for student in self.roster:
            if problem := id_problem(student.id):
                raise ValueError(f"the student id {student.id!r} {problem}.")
        usual = {one: get_exercise(one).points for one in self.exercises}
        for one in self.manual:
            get_question(one)
        object.__setattr__(self, "points", usual | checked_points(self.points, self.exercises))
        object.__setattr__(self, "partial", checked_shares(self.partial, self.points))
        require_students(self.schedule.extensions, [one.id for one in self.roster])

    def exercise(self, exercise_id: str, student_id: str = "") -> Exercise:
        """Return the exercise with the student's own parameters.

        With an empty roster these are the first choices. Raises LookupError for an exercise that is
        not in the assignment and a student who is not on the roster.
        """
        exercise = self._member(exercise_id)
        who = self._who(student_id)
        choices = list(itertools.product(*exercise.parameters.values()))
        drawn = (
            choices[self._draw("parameters", who, exercise_id) % len(choices)]
            if who
            else choices[0]
        )
        return exercise.with_parameters(**dict(zip(exercise.parameters, drawn, strict=True)))

    def case_seed(self, exercise_id: str, student_id: str = "") -> int:
        """Return the seed of the student's hidden cases, never one that `check` uses.

        `engine.make_cases` takes it. Raises LookupError as `exercise` does.
        """
        self._member(exercise_id)
        return _PUBLIC_SEEDS + self._draw("cases", self._who(student_id), exercise_id)

    @property
    def max_points(self) -> float:
        """The points of all exercises and manual questions."""
        return self.exercise_points + sum(get_question(one).points for one in self.manual)

    @property
    def exercise_points(self) -> float:
        """The points that are graded automatically."""
        return round(sum(self.points.values()), 2)

    @property
    def has_own_numbers(self) -> bool:
        """True where students of the roster get numbers of their own."""
        return bool(self.roster) and any(_offered(one) for one in self.exercises)

    def _member(self, exercise_id: str) -> Exercise:
        if exercise_id not in self.exercises:
            raise LookupError(
                f"exercise {exercise_id!r} is not in {self.name}, which has"
                f" {', '.join(self.exercises) or 'none'}."
            )
        return dataclasses.replace(get_exercise(exercise_id), points=self.points[exercise_id])

    def _who(self, student_id: str) -> str:
        if not self.roster:
            return ""
        ids = [student.id for student in self.roster]
        if student_id not in ids:
            near = difflib.get_close_matches(student_id, ids, n=3)
            hint = f" Near it: {', '.join(near)}." if near else ""
            raise LookupError(
                f"the student {student_id!r} is not on the roster of {self.name} ({len(ids)}"
                f" students).{hint}"
            )
        return student_id

    def _draw(self, what: str, who: str, exercise_id: str) -> int:
        """Return a number of 48 bits that nobody can tell who does not have the seed."""
        key = json.dumps([self.seed, what, who, exercise_id])
        return int.from_bytes(hashlib.sha256(key.encode("utf-8")).digest()[:6], "big")


def _offered(exercise_id: str) -> dict[str, list[Any]]:
    """Return what a find-the-number exercise offers where that is more than one choice."""
    parameters = get_exercise(exercise_id).parameters
    if all(len(choices) == 1 for choices in parameters.values()):
        return {}
    return {name: list(choices) for name, choices in parameters.items()}


def to_json(assignment: Assignment) -> bytes:
    """Return `assignment` as the JSON that `load_assignment` reads."""
    keys = ("name", "title", "exercises", "manual", "seed")
    content = {
        "format": FORMAT,
        **{key: getattr(assignment, key) for key in keys},
        "points": assignment.points,
        "partial": assignment.partial,
        "rule of partial": RULE if assignment.partial else None,
        **assignment.schedule.as_json(),
        "choices": {one: _offered(one) for one in assignment.exercises if _offered(one)},
        "roster": [dataclasses.asdict(student) for student in assignment.roster],
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def save_assignment(assignment: Assignment, path: str | Path) -> None:
    """Write `assignment` as JSON that its owner alone can read, whole or not at all.

    Raises as `files.paths.writable` does.
    """
    write_secret(path, to_json(assignment))


def load_assignment(path: str | Path) -> Assignment:
    """Return the assignment that `save_assignment` wrote.

    Raises FileNotFoundError, or ValueError that says what is wrong: no JSON, another format, an
    exercise that this version of the course does not have or whose choices are others, so that
    students' numbers would not be those of their notebooks.
    """
    path = user_path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no assignment file {path}; `build` writes it to instructor/assignment.json."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is not JSON ({error}). Restore it from where you keep it."
        ) from error
    if not isinstance(content, Mapping) or content.get("format") not in _READ:
        found = content.get("format") if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(f"{path} is not an assignment of format {FORMAT} (found {found!r}).")
    try:
        roster = tuple(Student(one["id"], one["name"]) for one in content["roster"])
        lists = (tuple(content["exercises"]), tuple(content["manual"]))
        assignment = Assignment(
            *(content["name"], content["title"], *lists, content["seed"], roster),
            *((content["points"], content["partial"]) if content["format"] == FORMAT else ({}, {})),
            schedule_from_json(content),
        )
        choices = dict(content["choices"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {type(error).__name__}, {error}.") from error
    except (LookupError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    for one in assignment.exercises:
        if _offered(one) != choices.get(one, {}):
            raise ValueError(
                f"{path} was built when {one} offered other numbers. Grade with the course that"
                " built it."
            )
    return assignment
