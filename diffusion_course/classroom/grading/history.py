"""Every version of a submission that was graded, so that the last or the best may count."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from ...files.paths import write_bytes
from ..assignment.assignment import Assignment
from ..files import safe_name
from ..records import Graded, Mark
from ..tables import csv_text
from .times import date_in, lateness

Keep = Literal["last", "best"]
COLUMNS = ("id", "version", "handed in", "graded", "sha256", "exercises", "days late", "after")


@dataclasses.dataclass(frozen=True)
class Version:
    """A version as the grader marked it, when it was, and when it was handed in if that is known.

    Times are ISO 8601, `handed_in` is "" for an unknown one.
    """

    graded: Graded
    graded_at: str
    handed_in: str = ""

    @property
    def time(self) -> datetime | None:
        """When it was handed in."""
        return date_in(self.handed_in)

    def after(self, assignment: Assignment) -> float:
        """The points of its exercises, without what being late costs."""
        late = lateness(assignment, self.graded.student, self.time)
        return dataclasses.replace(_exercises(self.graded), late=late).points


class History:
    """The folder that keeps the versions, a file for each student."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, student: str) -> Path:
        """The file of a student."""
        return self.folder / f"{safe_name(student)}.json"

    def versions(self, student: str) -> list[Version]:
        """Return what was graded of a student, the first version first.

        Raises ValueError for a file that is damaged.
        """
        path = self.path(student)
        if not path.exists():
            return []
        try:
            return [_version(one, student) for one in json.loads(path.read_text(encoding="utf-8"))]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is damaged ({type(error).__name__}: {error}), and what {student} handed in"
                " before is in it. Restore it from a copy, or remove it to begin again."
            ) from error

    def everybody(self) -> dict[str, list[Version]]:
        """Return all versions by student, also of those who are not gradable now."""
        everything = {}
        for path in sorted(self.folder.glob("[!.]*.json")):
            try:
                student = json.loads(path.read_text(encoding="utf-8"))[0]["graded"]["student"]
            except (ValueError, LookupError, TypeError):
                student = path.stem
            if self.path(student) == path:
                everything[student] = self.versions(student)
        return everything

    def keep(self, graded: Graded, time: datetime | None, now: datetime) -> list[Version]:
        """Add a graded version, or renew it where it is there already; returns all, it is last.

        Its time is the one that is known now: times that the instructor took back are gone.
        """
        old = self.versions(graded.student)
        before = next((one for one in old if one.graded.sha256 == graded.sha256), None)
        new = Version(graded, now.isoformat(timespec="seconds"), time.isoformat() if time else "")
        if before is not None:
            same = _exercises(before.graded).marks == _exercises(graded).marks
            new = dataclasses.replace(new, graded_at=before.graded_at if same else new.graded_at)
        versions = [*(one for one in old if one is not before), new]
        if versions != old:
            content = [dataclasses.asdict(one) for one in versions]
            text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
            self.folder.mkdir(parents=True, exist_ok=True)
            write_bytes(self.path(graded.student), text.encode("utf-8"))
        return versions


def that_counts(
    versions: Sequence[Version], assignment: Assignment, keep: Keep
) -> tuple[Version, list[str]]:
    """Return the version that counts, and notes: the last one, or the best of its exercises.

    Of versions that are as good, the later. Those that were graded for other exercises or points
    do not compete.
    """
    last = versions[-1]
    if keep == "last":
        return last, []
    asked = _asked(last)
    rivals = [one for one in versions if _asked(one) == asked]
    best = max(reversed(rivals), key=lambda one: one.after(assignment))
    notes = []
    for number, one in enumerate(versions[:-1], start=1):
        if one in rivals and one.time is None and assignment.schedule.late is not None:
            notes.append(
                f"{last.graded.student}: version {number}'s time is not known, so it competes"
                " without anything taken off for being late"
            )
    if len(rivals) < len(versions):
        notes.append(
            f"{last.graded.student}: {len(versions) - len(rivals)} earlier versions were graded for"
            " other exercises or points, and do not compete"
        )
    if best is not last:
        points, others = best.after(assignment), last.after(assignment)
        notes.append(
            f"{last.graded.student}: version {versions.index(best) + 1} counts with {points:g}"
            f" points for its exercises, the last one has {others:g}; answers in words are those of"
            " the last"
        )
    return best, notes


def history_csv(all_versions: Mapping[str, Sequence[Version]], assignment: Assignment) -> str:
    """Return a table of all versions: when, which file, and its points before and after lateness.

    The points are those of the exercises, as the grader gave them.
    """
    rows = []
    for student in sorted(all_versions):
        for number, one in enumerate(all_versions[student], start=1):
            late = lateness(assignment, student, one.time)
            points = _exercises(one.graded).earned
            cells = [student, str(number), one.handed_in, one.graded_at, one.graded.sha256]
            days = str(late.days) if late else "0" if one.handed_in else ""
            rows.append([*cells, f"{points:g}", days, f"{one.after(assignment):g}"])
    return csv_text([COLUMNS, *rows])


def _version(content: Mapping, student: str) -> Version:
    one = content["graded"]
    marks = tuple(Mark(**mark) for mark in one["marks"])
    graded = Graded(student, one["sha256"], marks, tuple(one["notes"]), seconds=one["seconds"])
    return Version(graded, content["graded_at"], content["handed_in"])


def _exercises(graded: Graded) -> Graded:
    marks = tuple(mark for mark in graded.marks if mark.status != "manual")
    return dataclasses.replace(graded, marks=marks)


def _asked(version: Version) -> list[tuple[str, float]]:
    return [(one.exercise_id, one.max_points) for one in _exercises(version.graded).marks]
