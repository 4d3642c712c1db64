"""Grading again what was graded: some students, or some exercises of everybody."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Sequence

from ..records import Graded


def regraded(
    names: Sequence[str], exercises: Sequence[str], students: Collection[str]
) -> tuple[set[str], set[str]]:
    """Return which of the names are exercises, and which students.

    Raises ValueError, with names near it, for one that is neither.
    """
    if unknown := [one for one in names if one not in exercises and one not in students]:
        near = difflib.get_close_matches(unknown[0], [*exercises, *students], n=3)
        hint = f" Near it: {', '.join(near)}." if near else ""
        raise ValueError(
            f"regrade {unknown[0]!r}: there is no such exercise in the assignment, and no such"
            f" submission.{hint}"
        )
    chosen = {one for one in names if one in exercises}
    return chosen, set(names) - chosen


def merged(old: Graded, new: Graded) -> Graded:
    """Return `old` with the marks of `new` in place of its own, and with the notes on them."""
    marks = {mark.exercise_id: mark for mark in new.marks if mark.status != "manual"}
    starts = tuple(f"{name}{end}" for name in marks for end in (":", " "))
    kept = [note for note in old.notes if not note.startswith(starts)]
    return dataclasses.replace(
        old,
        marks=tuple(marks.get(mark.exercise_id, mark) for mark in old.marks),
        notes=tuple(dict.fromkeys((*kept, *new.notes))),
    )
