"""When each student handed in, and what being late costs: never guessed, never silent."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ..assignment.assignment import Assignment
from ..files import Unreadable, printable, read_file
from ..records import Lateness, Submission
from ..tables import read_table
from .downloads import handed_in, label
from .finding import gradescope_entries, submissions_folder

MTIME = "mtime"  # `--times mtime`: take the files' own times
_DAY = timedelta(days=1)
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d)?)(?:\.\d+)? ?(Z|UTC|[+-]\d\d:?\d\d)")
_STAMP_BYTES = 200
_LISTED = 8


def date_in(text: str) -> datetime | None:
    """Return a date and time with its offset from UTC, or None for any other text."""
    found = _STAMP.fullmatch(text.strip())
    if found is None:
        return None
    offset = "+00:00" if found[3] in ("Z", "UTC") else found[3]
    try:
        return datetime.fromisoformat(f"{found[1]}T{found[2]}{offset}")
    except ValueError:
        return None


def read_times(path: Path, students: Collection[str]) -> dict[str, datetime]:
    """Return when students handed in, from a CSV file with the columns id and time.

    Raises ValueError with the row and the column for a student who is not known or is there twice,
    and for a time that is not ISO 8601 with its offset from UTC.
    """
    times: dict[str, datetime] = {}
    for row in read_table(path, "the times of handing in", ("id", "time")):
        student, time = row["id"], date_in(row["time"])
        if student not in students:
            raise row.error("id", "is nobody on the roster and nobody who handed in.")
        if student in times:
            raise row.error("id", "is there twice. Keep the row that counts.")
        if time is None:
            example = "such as 2026-10-12T23:59:00+02:00 (the offset from UTC is needed)"
            raise row.error("time", f"is no date and time {example}.")
        times[student] = time
    return times


def times_of_files(
    told: Mapping[str, datetime],
    read: Mapping[str, Submission],
    before: Mapping[str, tuple[str, str]],
    *,
    again: bool,
) -> tuple[dict[str, datetime], dict[str, tuple[str, str]], list[str]]:
    """Return which of the given times are those of the files that are there now.

    `before` holds by student the time that was given, and the sha256 of the file that it was for.
    Where the file is another one and the time is the same, the time is not that file's if it is
    only remembered (`again`); if it was given anew it counts. Returns also what to remember, and
    notes on those students.
    """
    times, notes = dict(told), []
    kept = {one: before[one] for one in told if one in before}
    for student in sorted(told.keys() & read.keys()):
        now = (told[student].isoformat(), read[student].sha256)
        kept[student] = now
        old = before.get(student, now)
        if old[0] != now[0] or old[1] == now[1]:
            continue
        said = f"{printable(student, 80)} handed in another file since"
        if again:
            kept[student] = old
            del times[student]
            notes.append(
                f"{said} the time {now[0]} was given, so it does not count for the new one: write"
                " the new time into the file of --times, or give --times again if it is the same"
            )
        else:
            notes.append(f"{said}, and its time is still {now[0]}: it counts for the new one too")
    return times, kept, notes


def found_times(
    folder: str | os.PathLike, read: Mapping[str, Submission], *, mtime: bool
) -> tuple[dict[str, datetime], dict[str, str]]:
    """Return when students handed in as the download says, and of whom it says only "late".

    Gradescope's list has the time, nbgrader keeps it beside the notebook; Canvas marks late files.
    With `mtime`, the time of the file stands for what is missing. The second holds who says so.
    """
    folder = submissions_folder(folder)
    stamps = {
        name: date_in(str(entry.get(":created_at") or ""))
        for name, entry in gradescope_entries(folder, []).items()
        if isinstance(entry, Mapping)
    }
    times: dict[str, datetime] = {}
    marked: dict[str, str] = {}
    for student, one in read.items():
        parts = one.path.relative_to(folder).parts
        time = stamps.get(parts[0])
        if time is None and folder.name == "submitted":
            time = _nbgraders(one.path.parent, folder)
        if time is None and mtime:
            time = datetime.fromtimestamp(int(os.lstat(one.path).st_mtime), UTC)
        if time is not None:
            times[student] = time
        elif (download := handed_in(label(parts), ())) is not None and download.is_late:
            marked[student] = "Canvas"
    return times, marked


def _nbgraders(folder: Path, below: Path) -> datetime | None:
    try:
        content = read_file(folder / "timestamp.txt", _STAMP_BYTES, below=below)
    except Unreadable:
        return None
    return date_in(content.decode("utf-8", "replace"))


def lateness(assignment: Assignment, student: str, time: datetime | None) -> Lateness | None:
    """Return how late that is and what it costs; None in time, or where a date is not known.

    Each begun day after the due date, which is the student's own where there is an extension, costs
    the same share; after the most days nothing is left. Within the minutes of grace nobody is late.
    """
    due, late = assignment.schedule.due_for(student), assignment.schedule.late
    grace = timedelta(minutes=late.grace_minutes if late else 0)
    if due is None or time is None or time <= due + grace:
        return None
    days = -((due - time) // _DAY)  # begun ones
    share = 0.0
    if late is not None:
        share = 1.0 if days > late.max_days else min(1.0, round(days * late.per_day, 6))
    return Lateness(time.isoformat(), due.isoformat(), days, share)


def notes_on_times(
    assignment: Assignment,
    read: Collection[str],
    times: Mapping[str, datetime],
    marked: Mapping[str, str],
    now: datetime,
) -> list[str]:
    """What the instructor must know: times that cannot be, or that are missing and are needed."""
    opens = assignment.schedule.opens
    early = [one for one in read if opens and one in times and times[one] < opens]
    later = [one for one in read if one in times and times[one] > now]
    notes = []
    if early:
        notes.append(f"times before the assignment opens ({opens.isoformat()}): {_list(early)}")
    if later:
        notes.append(f"times that lie in the future (is the offset right?): {_list(later)}")
    if assignment.schedule.due is None:
        return notes
    notes += [
        f"{printable(student, 80)} handed in late, says {who}, and it does not say when: nothing"
        " is taken off. Give the time with --times"
        for student, who in marked.items()
    ]
    if unknown := [one for one in read if one not in times and one not in marked]:
        notes.append(
            f"when {_list(unknown)} handed in is not known, so nothing is taken off for being late."
            " Give the times with --times times.csv (columns id and time), or take those of the"
            " files with --times mtime"
        )
    return notes


def _list(students: Sequence[str]) -> str:
    more = f" and {len(students) - _LISTED} more" if len(students) > _LISTED else ""
    return ", ".join(printable(one, 80) for one in students[:_LISTED]) + more
