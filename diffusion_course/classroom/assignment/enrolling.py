"""Build all assignments of a term, and add who enrols late without touching anybody else.

What is handed out stays: an assignment whose exercises or points have changed since it was built
is refused. Dates and extensions may change at any time, and the roster may grow. The calendar is
the only place for dates; how partial points are shared stands in `assignment.json`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from ...files.paths import user_path, write_bytes
from .assignment import Assignment, load_assignment, save_assignment
from .build import NOTEBOOKS, made_assignment, notebook_bytes, write_assignment
from .hidden import describe_cases
from .schedule import Late, Schedule
from .term import Planned, Term

_FIXED = ("name", "exercises", "manual", "points", "partial", "title")
_LISTED = 8


@dataclasses.dataclass(frozen=True)
class BuiltTerm:
    """What was done for each assignment of a term; `print` shows it."""

    folder: Path
    lines: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([*self.lines, *self.notes, f"assignments: {self.folder}"])


def build_term(term: Term, out: str | Path) -> BuiltTerm:
    """Write the assignments of a term into folders of `out` that are called as they are.

    One that is there already keeps its secret seed and every notebook; students who are new on the
    roster get theirs, and `assignment.json` the new roster and dates. Nothing is written before all
    assignments are looked at. Each date that changes is named. An extension of somebody who has
    left the roster is left out, with a note. Raises ValueError for an assignment that was built of
    other exercises or points or with another kind of roster, and as `made_assignment` and
    `load_assignment` do.
    """
    out = user_path(out, "out")
    lines: list[str] = []
    notes = [*term.notes]
    left = _with_notebooks(out) - {one.id for one in term.roster} if term.roster else set()
    plans = [(out / one.name, *_looked_at(term, one, out, left, notes)) for one in term.planned]
    for folder, old, new in plans:
        if old is None:
            built = write_assignment(new, folder)
            lines.append(f"built: {str(built).splitlines()[0]}{_until(new)}")
            notes += [f"{new.name}: {note}" for note in built.notes]
            continue
        there = {one.id for one in old.roster}
        added = [one.id for one in new.roster if one.id not in there]
        gone = sorted(there - {one.id for one in new.roster})
        restored = [one for one in _update(folder, new) if one not in added]
        what = [f"{len(added)} new: {_list(added)}"] if added else []
        what += [f"written again, they were gone: {_list(restored)}"] if restored else []
        what += ["the dates are new"] if old.schedule != new.schedule else []
        notes += [f"{new.name}: {one}" for one in _changes(old.schedule, new.schedule)]
        lines.append(f"kept: {new.name}, {'; '.join(what) or 'nothing is new'}{_until(new)}")
        if gone:
            notes.append(
                f"{new.name}: no longer on the roster: {_list(gone)}. Their notebooks stay where"
                " they are, and what they hand in is not gradable."
            )
    names = {one.name for one in term.planned}
    for folder in sorted(out.iterdir()):
        if folder.name not in names and (folder / "instructor" / "assignment.json").is_file():
            notes.append(f"{folder.name} is not in {term.path.name}. It is left as it is.")
    return BuiltTerm(out, tuple(lines), tuple(notes))


def _looked_at(
    term: Term, planned: Planned, out: Path, left: Collection[str], notes: list[str]
) -> tuple[Assignment | None, Assignment]:
    """The assignment as it was built, if it was, and as it is to be; `left` are no longer there."""
    folder, name = out / planned.name, planned.name
    old = None
    if folder.is_dir() and any(folder.iterdir()):
        old = load_assignment(folder / "instructor" / "assignment.json")
    extensions = {}
    for student, date in planned.schedule.extensions.items():
        if student in left:
            notes.append(
                f"{name}: {student} has an extension and is no longer on the roster. It does not"
                f" count; please take it out of {term.path.name}."
            )
        else:
            extensions[student] = date
    seed = None if old is None else old.seed
    schedule = dataclasses.replace(planned.schedule, extensions=extensions)
    given = {"roster": term.roster, "seed": seed, "schedule": schedule}
    try:
        new = made_assignment(planned.choice, name, planned.title, **given)
    except (ValueError, LookupError) as error:
        raise ValueError(f"{term.path}: assignment {name!r}: {error.args[0]}") from error
    if old is None:
        return None, new
    if old.partial and new.partial and old.partial != new.partial and old.points == new.points:
        notes.append(f"{name}: partial points are shared as its assignment.json says.")
        new = dataclasses.replace(new, partial=old.partial)
    _require_same(old, new, folder)
    return old, new


def _with_notebooks(out: Path) -> set[str]:
    """Who got a notebook of any assignment in `out`."""
    return {one.name for place in NOTEBOOKS.values() for one in out.glob(f"*/{place}/*")}


def _changes(old: Schedule, new: Schedule) -> Iterator[str]:
    """Sentences that name each date that is another one now, or is gone."""
    pairs = [(part, getattr(old, part), getattr(new, part)) for part in ("opens", "due", "late")]
    for one in {**old.extensions, **new.extensions}:
        dates = (schedule.extensions.get(one) for schedule in (old, new))
        pairs.append((f"the extension of {one}", *dates))
    for what, before, after in pairs:
        if before and after and before != after:
            yield f"{what} was {_shown(before)}, and is {_shown(after)} now."
        elif before and not after:
            yield (
                f"{what}, {_shown(before)}, is taken back: the calendar does not have it. Dates are"
                " changed there, not in assignment.json."
            )
        elif after and not before:
            yield f"{what} is new: {_shown(after)}."


def _require_same(old: Assignment, new: Assignment, folder: Path) -> None:
    """Raise ValueError where what was handed out would be another thing now."""
    for part in _FIXED:
        was, now = getattr(old, part), getattr(new, part)
        if was != now:
            raise ValueError(
                f"{new.name}: {part} was {_shown(was)} when {folder} was built, and is"
                f" {_shown(now)} now. Its notebooks may be handed out: put it back in the calendar,"
                " give the assignment a new name, or remove the folder to build it anew."
            )
    if bool(old.roster) != bool(new.roster):
        had = "with a roster" if old.roster else "without a roster, the same for everybody"
        raise ValueError(
            f"{new.name}: {folder} was built {had}. Remove the folder to build it anew."
        )


def _update(folder: Path, assignment: Assignment) -> list[str]:
    """Write what is missing of a built assignment; returns who got a notebook.

    The assignment's own file is the last, so that a run that is cut short is made good by the next.
    """
    got = []
    for student in [one.id for one in assignment.roster] or [""]:
        for kind, place in NOTEBOOKS.items():
            target = folder / place / student / f"{assignment.name}.ipynb"
            if not target.exists():
                write_bytes(target, notebook_bytes(assignment, kind, student))
                got.append(student)
    path = folder / "instructor" / "assignment.json"
    if load_assignment(path) != assignment:
        page = describe_cases(assignment).encode("utf-8")
        write_bytes(folder / "instructor" / "hidden_cases.md", page)
        save_assignment(assignment, path)
    return list(dict.fromkeys(got))


def _until(assignment: Assignment) -> str:
    schedule = assignment.schedule
    more = f", {len(schedule.extensions)} with more time" if schedule.extensions else ""
    return f"; due {schedule.due.isoformat()}{more}" if schedule.due else ""


def _list(students: Sequence[str]) -> str:
    more = len(students) - _LISTED
    listed = ", ".join(one or "everybody's" for one in students[:_LISTED])
    return f"{listed} and {more} more" if more > 0 else listed


def _shown(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Late):
        value = tuple(f"{key} {number:g}" for key, number in dataclasses.asdict(value).items())
    text = ", ".join(value) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
