"""Build an assignment as a folder, whole or not at all.

It holds notebooks for students and instructor, nbgrader's source and the grader's secrets.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from ...files.paths import user_path
from ..records import Student
from .assignment import Assignment, save_assignment
from .choice import Choice, usual_name, usual_title
from .hidden import describe_cases
from .notebooks import Kind, make_notebook, to_bytes
from .partial import even_shares
from .roster import read_roster
from .schedule import Schedule

WEAKEST_SEED = 10**18
NOTEBOOKS: dict[Kind, str] = {"student": "student", "solved": "instructor/solved"}  # and where
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


ALL_OR_NOTHING = (
    "nbgrader gives all points of an exercise or none. Partial credit is given by `grade` alone."
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


def build_assignment(
    lessons: str | int | Iterable[str | int] | None,
    out: str | Path,
    *,
    exercises: str | Iterable[str] | None = None,
    points: Mapping[str, float] | None = None,
    partial: bool = False,
    name: str | None = None,
    title: str | None = None,
    roster: str | Path | None = None,
    seed: int | None = None,
    manual: bool = True,
) -> Built:
    """Write an assignment into the new folder `out` and return what was built.

    lessons: 2, "02", "02,04", several of these, or None; exercises: single ones, "01.1,02.m1",
    beside or instead of lessons; points: of each exercise, the course's where it is left out;
    partial: points are shared over what an answer can have right on its own; name: of the notebook,
    letters, digits, - and _; roster: a CSV file with the column id; seed: secret, of at least 19
    digits, drawn if it is None; manual: with the questions of the lessons that a person marks. The
    folder is written whole or not at all, and what is in `instructor/` is for its owner only.
    Raises FileExistsError if `out` is there and not empty, and what `read_roster` and
    `made_assignment` raise.
    """
    choice = Choice(lessons, exercises, points or {}, partial, manual)
    notes: list[str] = []
    students = () if roster is None else read_roster(roster, notes=notes)
    assignment = made_assignment(choice, name, title, roster=students, seed=seed)
    built = write_assignment(assignment, out)
    return dataclasses.replace(built, notes=(*notes, *built.notes))


def made_assignment(
    choice: Choice,
    name: str | None = None,
    title: str | None = None,
    *,
    roster: tuple[Student, ...] = (),
    seed: int | None = None,
    schedule: Schedule | None = None,
) -> Assignment:
    """Return the assignment of a choice; what is None is named or drawn.

    Raises ValueError for a seed that can be guessed, and what `Choice.ids` and `Assignment` raise.
    """
    asked, questions = choice.ids()
    assignment = Assignment(
        name=usual_name(choice.parts()) if name is None else name,
        title=usual_title(choice.parts()) if title is None else title,
        exercises=asked,
        manual=questions,
        seed=WEAKEST_SEED + secrets.randbelow(8 * WEAKEST_SEED) if seed is None else seed,
        roster=roster,
        points=choice.points,
        schedule=schedule or Schedule(),
    )
    if assignment.seed < WEAKEST_SEED:
        raise ValueError(
            f"the seed {seed} can be guessed: trying all dates until one's own numbers come out"
            " takes a moment, and gives everybody's. Please leave --seed out: one of 19 digits is"
            " drawn, and assignment.json keeps it. To build the same again give that one."
        )
    if not choice.partial:
        return assignment
    own = [assignment.exercise(one, roster[0].id if roster else "") for one in asked]
    shares = {one.id: even_shares(one) for one in own if not one.is_value}
    return dataclasses.replace(assignment, partial=shares)


def write_assignment(assignment: Assignment, out: str | Path) -> Built:
    """Write the files of an assignment into the new folder `out`, whole or not at all.

    Raises FileExistsError if it is there and not empty.
    """
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


def notebook_bytes(assignment: Assignment, kind: Kind, student: str = "") -> bytes:
    """Return the file of one notebook; the same assignment and student give the same bytes."""
    return to_bytes(make_notebook(assignment, kind, student))


def _write(assignment: Assignment, folder: Path) -> tuple[str, ...]:
    file = f"{assignment.name}.ipynb"
    for student in [one.id for one in assignment.roster] or [""]:
        for kind, place in NOTEBOOKS.items():
            _save(folder / place / student / file, notebook_bytes(assignment, kind, student))
    save_assignment(assignment, folder / "instructor" / "assignment.json")
    _save(folder / "instructor" / "hidden_cases.md", describe_cases(assignment).encode("utf-8"))
    (folder / "instructor").chmod(0o700)
    if assignment.has_own_numbers:
        return (NO_SOURCE,)
    _save(folder / "source" / assignment.name / file, notebook_bytes(assignment, "source"))
    _save(folder / "nbgrader_config.py", _NBGRADER_CONFIG.encode("utf-8"))
    return (ALL_OR_NOTHING,) if assignment.partial else ()


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
