"""A term's calendar in one TOML file: its assignments, when they are due, and for whom."""

from __future__ import annotations

import dataclasses
import difflib
import zoneinfo
from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from ...files.paths import user_path
from ..records import Student
from .choice import Choice
from .points import read_points
from .roster import read_roster
from .schedule import Schedule, date_of, late_of
from .toml import read_toml, with_dots

_TERM = ("roster", "time_zone", "late", "partial", "manual", "assignment")
_ASSIGNMENT = (
    *("name", "title", "lessons", "exercises", "points", "partial", "manual"),
    *("opens", "due", "late", "extensions"),
)


@dataclasses.dataclass(frozen=True)
class Planned:
    """One assignment of a term: its name, what is asked, and when; `notes` say what is left out."""

    name: str
    title: str | None
    choice: Choice
    schedule: Schedule
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Term:
    """The assignments of a term, and who takes part; `notes` say what is not as it was written."""

    path: Path
    planned: tuple[Planned, ...]
    roster: tuple[Student, ...] = ()
    notes: tuple[str, ...] = ()


def read_term(path: str | Path) -> Term:
    """Return the calendar that a TOML file holds.

    `late`, `partial` and `manual` at the top are for all assignments that do not say otherwise;
    `roster` is a path beside the file, and `points` may be one; `time_zone`, such as
    "Europe/Berlin", is that of the dates that have no offset of their own. An extension that ends
    before the due date gives no time: it is left out, with a note. Raises FileNotFoundError, and
    ValueError that names the file, the assignment and the key: for one that is unknown or missing,
    two assignments of one name, and a date that no clock of that zone shows or shows twice.
    """
    path = user_path(path, "term")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}, which would hold the term's calendar.")
    content = read_toml(path)
    try:
        _require_known(content, _TERM)
        zone = _zone(content.get("time_zone"))
        tables = content.get("assignment")
        if not isinstance(tables, list) or not tables:
            raise ValueError("it needs at least one table [[assignment]].")
        planned = [
            _planned(table, content, zone, number, path.parent)
            for number, table in enumerate(tables, 1)
        ]
        names = [one.name.casefold() for one in planned]
        for one in planned:
            if names.count(one.name.casefold()) > 1:
                raise ValueError(f"two assignments are called {one.name!r}. Names must differ.")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    roster = content.get("roster")
    if roster is not None and (not isinstance(roster, str) or not roster):
        raise ValueError(f"{path}: roster must be the path of a CSV file, got {roster!r}.")
    notes: list[str] = []
    if roster is not None:
        roster = read_roster(path.parent / user_path(roster, "roster"), notes=notes)
    notes += [f"{one.name}: {note}" for one in planned for note in one.notes]
    return Term(path, tuple(planned), roster or (), tuple(notes))


def _planned(
    table: Any, top: Mapping[str, Any], zone: zoneinfo.ZoneInfo | None, number: int, folder: Path
) -> Planned:
    if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
        raise ValueError(f'assignment {number} needs a name, such as name = "week1".')
    name = table["name"]
    try:
        _require_known(table, _ASSIGNMENT)
        values = {key: table.get(key, top.get(key)) for key in ("late", "partial", "manual")}
        for key in ("partial", "manual"):
            if type(values[key]) not in (bool, type(None)):
                raise ValueError(f"{key} must be true or false, got {values[key]!r}.")
        due = _moment(table.get("due"), "due", zone)
        late = None if values["late"] is False or due is None else late_of(values["late"])
        if due is None and table.get("late"):
            raise ValueError("late is given, and no due date.")
        given, notes = _extensions(table, zone), []
        for student, date in [*given.items()]:
            if due is not None and date is not None and date < due:
                del given[student]
                notes.append(
                    f"the extension of {student} ({date.isoformat()}) ends before the assignment is"
                    f" due ({due.isoformat()}), so it gives no time and is left out."
                )
        schedule = Schedule(_moment(table.get("opens"), "opens", zone), due, late, given)
        choice = Choice(
            *(table.get("lessons"), table.get("exercises"), _points(table.get("points"), folder)),
            partial=bool(values["partial"]),
            manual=values["manual"] is not False,
        )
        return Planned(name, _title(table.get("title")), choice, schedule, tuple(notes))
    except ValueError as error:
        raise ValueError(f"assignment {name!r}: {error}") from error


def _extensions(table: Mapping[str, Any], zone: zoneinfo.ZoneInfo | None) -> dict[str, datetime]:
    given = table.get("extensions", {})
    if not isinstance(given, Mapping):
        raise ValueError(f"extensions must be dates by student, got {given!r}.")
    return {
        student: _moment(value, f"the extension of {student}", zone)
        for student, value in with_dots(given).items()
    }


def _points(given: Any, folder: Path) -> Mapping[str, float]:
    """The points of a table, a text, or a file that lies beside the calendar."""
    if given is None:
        return {}
    if isinstance(given, str):
        return read_points(given if "=" in given else folder / user_path(given, "points"))
    if isinstance(given, Mapping):
        return with_dots(given)
    raise ValueError(f'points must be such as {{"01.1" = 3}} or "01.1=3", got {given!r}.')


def _title(given: Any) -> str | None:
    if given is None or isinstance(given, str):
        return given
    raise ValueError(f"title must be a text, got {given!r}.")


def _zone(name: Any) -> zoneinfo.ZoneInfo | None:
    if name is None:
        return None
    try:
        return zoneinfo.ZoneInfo(name)
    except (TypeError, ValueError, OSError) as error:
        hint = 'Write a name such as "Europe/Berlin" or "America/New_York"'
        raise ValueError(f"there is no time zone {name!r} ({error}). {hint}.") from error
    except zoneinfo.ZoneInfoNotFoundError as error:
        hint = 'Write a name such as "Europe/Berlin"; on Windows, pip install tzdata'
        raise ValueError(f"there is no time zone {name!r}. {hint}.") from error


def _moment(value: Any, name: str, zone: zoneinfo.ZoneInfo | None) -> datetime | None:
    """Return a date of the file, in `zone` where it has no offset of its own."""
    if type(value) is date:
        raise ValueError(f"{name} is the whole day {value}. Write the hour too: {value}T23:59:00.")
    moment = value if isinstance(value, datetime) else date_of(value, name)
    if moment is None or moment.tzinfo is not None:
        return moment
    if zone is None:
        raise ValueError(
            f"{name} is {moment.isoformat()}, without a time zone. Write time_zone ="
            ' "Europe/Berlin" at the top of the file, or an offset: '
            f"{moment.isoformat()}+02:00."
        )
    readings = {moment.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1)}
    local = moment.replace(tzinfo=zone)
    if len(readings) > 1:
        shown = local.astimezone(UTC).astimezone(zone).replace(tzinfo=None)
        when = "twice" if shown == moment else "at no time"
        raise ValueError(
            f"{name}: in {zone.key} the clock shows {moment.isoformat()} {when} (it is changed"
            " then). Write an offset from UTC, or another hour."
        )
    return datetime.fromisoformat(local.isoformat())  # the offset, not the zone


def _require_known(table: Mapping[str, Any], known: Collection[str]) -> None:
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" Is it {near[0]}?" if near else ""
            raise ValueError(f"{key!r} is no key here.{hint} There are: {', '.join(known)}.")
