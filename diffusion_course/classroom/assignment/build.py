"""Build an assignment as a folder, whole or not at all.

It holds notebooks for students and instructor, nbgrader's source and the grader's secrets.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from ...exercises.registry import all_exercises
from ...files.paths import user_path
from .assignment import Assignment, save_assignment
from .hidden import describe_cases
from .manual import all_questions
from .notebooks import make_notebook, to_bytes
from .roster import read_roster

WEAKEST_SEED = 10**18
# nbgrader's own stub raises an error below the student's answer; this one does not.
_NBGRADER_CONFIG = """# nbgrader reads this when it is run in this folder.
# In a course of your own, copy these lines.
c = get_config()  # noqa: F821
c.ClearSolutions.code_stub = {"python": "# Write your answer above, in place of the `...`."}
"""
NO_SOURCE = (
    "No source/ for nbgrader: nbgrader hands the same notebook to everybody, and here every student"
    " has numbers of his own. For nbgrader build without a roster, and grade with that"
    " assignment.json."
)


@dataclasses.dataclass(frozen=True)
class Built:
    """What was built and where; `print` shows it. `notes` say what is missing and why."""

    folder: Path
    assignment: Assignment
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        one = self.assignment
        manual = one.max_points - one.exercise_points
        lines = [f"{one.name}: {len(one.exercises)} exercises with {one.exercise_points:g} points"]
        lines[0] += (
            f", {len(one.manual)} manual questions with {manual:g} points,"
            f" {len(one.roster) or 'any number of'} students"
        )
        lines += [f"  {self.folder / name}" for name in self.files]
        return "\n".join([*lines, *self.notes])


def parse_lessons(lessons: str | int | Iterable[str | int]) -> tuple[int, ...]:
    """Return lesson numbers in order, from 2, "02", "02,04" or several of these.

    Raises ValueError for what is no number of a lesson that has exercises or questions.
    """
    given = [lessons] if isinstance(lessons, (str, int)) else list(lessons)
    words = [word.strip() for one in given for word in str(one).split(",") if word.strip()]
    there = sorted({part.lesson for part in (*all_exercises(), *all_questions())})
    listed = f"There are {', '.join(f'{one:02d}' for one in there)}."
    numbers = [int(word) if word.isascii() and word.isdigit() else -1 for word in words]
    if bad := [word for word, one in zip(words, numbers, strict=True) if one not in there]:
        raise ValueError(f"no such lesson: {', '.join(bad)}. {listed}")
    if not words:
        raise ValueError(f"no lesson is given. {listed}")
    return tuple(sorted(set(numbers)))


def build_assignment(
    lessons: str | int | Iterable[str | int],
    out: str | Path,
    *,
    name: str | None = None,
    title: str | None = None,
    roster: str | Path | None = None,
    seed: int | None = None,
    manual: bool = True,
) -> Built:
    """Write an assignment of these lessons into the new folder `out` and return what was built.

    lessons: 2, "02", "02,04" or several of these; name: of the notebook, letters, digits, - and _;
    roster: a CSV file with the column id; seed: secret, of at least 19 digits, drawn if it is None;
    manual: with the questions that a person marks. The folder is written whole or not at all, and
    what is in `instructor/` is for its owner only. Raises FileExistsError if `out` is there and not
    empty, ValueError for a seed that can be guessed, and what `read_roster`, `parse_lessons` and
    `Assignment` raise.
    """
    numbers = parse_lessons(lessons)
    exercises = tuple(exercise.id for number in numbers for exercise in all_exercises(number))
    questions = tuple(one.id for number in numbers for one in all_questions(number))
    padded = [f"{number:02d}" for number in numbers]
    assignment = Assignment(
        name=name or f"lesson{'s' if len(padded) > 1 else ''}-{'-'.join(padded)}",
        title=title or f"Lesson{'s' if len(padded) > 1 else ''} {', '.join(padded)}",
        exercises=exercises,
        manual=questions if manual else (),
        seed=WEAKEST_SEED + secrets.randbelow(8 * WEAKEST_SEED) if seed is None else seed,
        roster=() if roster is None else read_roster(roster),
    )
    if assignment.seed < WEAKEST_SEED:
        raise ValueError(
            f"the seed {seed} can be guessed: trying all dates until one's own numbers come out"
            " takes a moment, and gives everybody's. Please leave --seed out: one of 19 digits is"
            " drawn, and assignment.json keeps it. To build the same again give that one."
        )
    out = user_path(out, "out")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(
            f"{out} is there already. Remove it or name another folder: an assignment is never"
            " overwritten."
        )
    folder = Path(os.path.realpath(out))  # a link stays one
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    temporary.mkdir(parents=True)
    try:
        notes = _write(assignment, temporary)
        if folder.exists():
            temporary.chmod(stat.S_IMODE(folder.stat().st_mode))
            folder.rmdir()  # empty; Windows cannot rename onto it
        os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    return Built(out, assignment, tuple(_shortened(files, assignment)), notes)


def _write(assignment: Assignment, folder: Path) -> tuple[str, ...]:
    file = f"{assignment.name}.ipynb"
    for student in [one.id for one in assignment.roster] or [""]:
        for kind, target in (("student", "student"), ("solved", "instructor/solved")):
            content = to_bytes(make_notebook(assignment, kind, student))
            _save(folder / target / student / file, content)
    save_assignment(assignment, folder / "instructor" / "assignment.json")
    _save(folder / "instructor" / "hidden_cases.md", describe_cases(assignment).encode("utf-8"))
    (folder / "instructor").chmod(0o700)
    if assignment.has_own_numbers:
        return (NO_SOURCE,)
    _save(folder / "source" / assignment.name / file, to_bytes(make_notebook(assignment, "source")))
    _save(folder / "nbgrader_config.py", _NBGRADER_CONFIG.encode("utf-8"))
    return ()


def _save(path: Path, content: bytes) -> None:
    """The whole folder is temporary until it is renamed, so a plain write is enough."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _shortened(files: list[str], assignment: Assignment) -> list[str]:
    """Of the students' files name those of the first student and say how many more there are."""
    more = len(assignment.roster) - 1
    if more < 1:
        return files
    own = [f"/{one.id}/{assignment.name}.ipynb" for one in assignment.roster]
    kept = [name for name in files if not name.endswith(tuple(own[1:]))]
    return [f"{name} (and {more} more)" if name.endswith(own[0]) else name for name in kept]
