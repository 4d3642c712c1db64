"""When an assignment is open and due, what lateness costs, and who has more time.

It stands in `assignment.json` as `opens`, `due`, `late` and `extensions`. No number of a student
and no verdict depends on it.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

PARTS = ("opens", "due", "late", "extensions")
_LONGEST_GRACE = 7 * 24 * 60  # minutes
_LONGEST_LATE = 366  # days
_EXAMPLE = '"2026-10-12T23:59:00+02:00"'


@dataclasses.dataclass(frozen=True)
class Late:
    """What lateness costs.

    `per_day` is the share of the points that each begun day takes off, from 0 to 1. After
    `max_days` days nothing is left. Up to `grace_minutes` after the due date nobody is late. Raises
    ValueError that names the part that is not so.
    """

    per_day: float
    max_days: int
    grace_minutes: int = 0

    def __post_init__(self) -> None:
        share = self.per_day
        if type(share) not in (int, float) or not math.isfinite(share) or not 0 <= share <= 1:
            raise ValueError(f"late.per_day must be a share from 0 to 1, got {share!r}.")
        for name, most in (("max_days", _LONGEST_LATE), ("grace_minutes", _LONGEST_GRACE)):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= most:
                raise ValueError(
                    f"late.{name} must be a whole number from 0 to {most}, got {value!r}."
                )


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The dates of an assignment; all of them know their time zone.

    `extensions` are due dates of single students, by id. Raises ValueError where a part contradicts
    another: a date without a time zone, an end before the beginning, a late policy or an extension
    without a due date, an extension that gives less time.
    """

    opens: datetime | None = None
    due: datetime | None = None
    late: Late | None = None
    extensions: Mapping[str, datetime] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        dates = {"opens": self.opens, "due": self.due}
        dates |= {f"the extension of {one}": date for one, date in self.extensions.items()}
        for name, date in dates.items():
            if date is not None and date.utcoffset() is None:
                raise ValueError(
                    f"{name} is {date.isoformat()}, without a time zone: write its offset from UTC,"
                    f" such as {_EXAMPLE}."
                )
        if self.due is None:
            for what in ("late", "extensions"):
                if getattr(self, what):
                    raise ValueError(f"{what} is given, and no due date.")
            return
        if self.opens is not None and self.opens >= self.due:
            raise ValueError(
                f"opens ({self.opens.isoformat()}) is not before due ({self.due.isoformat()})."
            )
        for student, date in self.extensions.items():
            if date < self.due:
                raise ValueError(
                    f"the extension of {student} ({date.isoformat()}) ends before the assignment is"
                    f" due ({self.due.isoformat()})."
                )

    def due_for(self, student: str) -> datetime | None:
        """Return when `student` has to hand in, or None where there is no due date."""
        return self.extensions.get(student, self.due)

    def as_json(self) -> dict[str, Any]:
        """Return what `schedule_from_json` reads: texts, numbers and None."""
        return {
            "opens": self.opens and self.opens.isoformat(),
            "due": self.due and self.due.isoformat(),
            "late": self.late and dataclasses.asdict(self.late),
            "extensions": {one: date.isoformat() for one, date in self.extensions.items()},
        }


def schedule_from_json(content: Mapping[str, Any]) -> Schedule:
    """Return the schedule of an assignment's JSON; what is not there is None or empty.

    Dates are ISO 8601 with an offset from UTC, such as "2026-10-12T23:59:00+02:00". Raises
    ValueError that names the part that cannot be read.
    """
    extensions = content.get("extensions") or {}
    if not isinstance(extensions, Mapping):
        raise ValueError(f"extensions must be dates by student, got {extensions!r}.")
    return Schedule(
        opens=date_of(content.get("opens"), "opens"),
        due=date_of(content.get("due"), "due"),
        late=late_of(content.get("late")),
        extensions={
            one: date_of(date, f"the extension of {one}", required=True)
            for one, date in extensions.items()
        },
    )


def date_of(value: object, name: str, *, required: bool = False) -> datetime | None:
    """Return a date that is ISO 8601 text; raises ValueError that calls it `name`."""
    if value is None and not required:
        return None
    try:
        if isinstance(value, str):
            return datetime.fromisoformat(value)
    except ValueError:
        pass
    raise ValueError(f"{name} must be a date such as {_EXAMPLE}, got {value!r}.")


def late_of(value: object) -> Late | None:
    """Return a late policy that is a mapping; raises ValueError for one that is incomplete."""
    if value is None:
        return None
    names = [field.name for field in dataclasses.fields(Late)]
    if not isinstance(value, Mapping) or not {"per_day", "max_days"} <= {*value} <= {*names}:
        raise ValueError(
            f"late must have per_day and max_days, and may have grace_minutes, got {value!r}."
        )
    return Late(**value)


def require_students(extensions: Collection[str], roster: Collection[str]) -> None:
    """Raise ValueError for an extension of somebody who is not on the roster (if there is one)."""
    for one in extensions:
        if roster and one not in roster:
            near = difflib.get_close_matches(one, [*roster], n=3)
            hint = f" Near it: {', '.join(near)}." if near else ""
            raise ValueError(f"extensions: the student {one!r} is not on the roster.{hint}")
