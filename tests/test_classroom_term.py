"""A term's calendar builds all assignments, and who enrols late changes no byte of anybody else's."""

import json
import shutil
from pathlib import Path

import pytest

from diffusion_course.classroom.__main__ import main
from diffusion_course.classroom.assignment.assignment import load_assignment
from diffusion_course.classroom.assignment.enrolling import build_term
from diffusion_course.classroom.assignment.schedule import Late
from diffusion_course.classroom.assignment.term import read_term

TERM = """
roster = "roster.csv"
time_zone = "Europe/Berlin"
late = { per_day = 0.1, max_days = 3, grace_minutes = 15 }

[[assignment]]
name = "week1"
exercises = "01.1,02.5"
points = { "01.1" = 3 }
opens = 2026-10-05T08:00:00
due = 2026-10-12T23:59:00
[assignment.extensions]
ann = 2026-10-15T23:59:00

[[assignment]]
name = "week2"
title = "The second week"
lessons = ["08"]
partial = true
manual = false
late = false
due = 2026-10-26T23:59:00-04:00
"""


@pytest.fixture
def term(tmp_path):
    (tmp_path / "term.toml").write_text(TERM, encoding="utf-8")
    (tmp_path / "roster.csv").write_text("id,name\nbob,Bob\nann,Ann\n", encoding="utf-8")
    return tmp_path / "term.toml"


def built(term):
    return build_term(read_term(term), term.parent / "term")


def files(folder):
    return {path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_a_late_enrolment_adds_its_own_notebooks_and_changes_nobody_elses(term):
    built(term)
    before = files(term.parent / "term")
    old = load_assignment(term.parent / "term/week1/instructor/assignment.json")
    (term.parent / "roster.csv").write_text("id,name\nadam,Adam\nann,Ann\nzoe,Zoe\nbob,Bob\n")
    said = str(built(term))
    assert "kept: week1, 2 new: adam, zoe; due 2026-10-12T23:59:00+02:00, 1 with more time" in said
    after = files(term.parent / "term")
    own = {f"{week}/{place}/{one}/{week}.ipynb" for week in ("week1", "week2") for place in ("student", "instructor/solved") for one in ("adam", "zoe")}
    assert set(after) - set(before) == own and set(before) <= set(after)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {f"{week}/instructor/{name}" for week in ("week1", "week2") for name in ("assignment.json", "hidden_cases.md")}
    new = load_assignment(term.parent / "term/week1/instructor/assignment.json")
    assert new.seed == old.seed and [one.id for one in new.roster] == ["adam", "ann", "zoe", "bob"]
    for one in ("ann", "bob"):
        assert new.exercise("02.5", one).chosen == old.exercise("02.5", one).chosen and new.case_seed("01.1", one) == old.case_seed("01.1", one)
    whole = {name: content for name, (content, _) in after.items()}
    built(term)
    assert files(term.parent / "term") == after, "a third run writes nothing"
    shutil.rmtree(term.parent / "term/week1/student/zoe")  # what a run that was cut short has not written
    assert "written again, they were gone: zoe" in str(built(term))
    assert {name: content for name, (content, _) in files(term.parent / "term").items()} == whole


def test_a_calendar_says_what_is_asked_and_when(term, capsys):
    assert main(["term", str(term), "--out", str(term.parent / "term")]) == 0
    printed = capsys.readouterr().out
    assert "built: week1: 2 exercises with 4 points" in printed and "; due 2026-10-26T23:59:00-04:00" in printed
    first, second = (load_assignment(term.parent / f"term/week{n}/instructor/assignment.json") for n in (1, 2))
    assert first.points == {"01.1": 3, "02.5": 1} and first.partial == {} and first.schedule.late == Late(0.1, 3, 15)
    assert first.schedule.extensions["ann"].isoformat() == "2026-10-15T23:59:00+02:00"
    assert second.title == "The second week" and second.partial and second.manual == () and second.schedule.late is None
    assert first.seed != second.seed


def test_dates_and_extensions_may_change_and_a_new_assignment_come(term):
    built(term)
    before = files(term.parent / "term")
    term.write_text(TERM.replace("ann = 2026-10-15", "bob = 2026-10-16").replace("week2", "week3"))
    said = str(built(term))
    assert "kept: week1, the dates are new" in said and "week1: the extension of bob is new: 2026-10-16T23:59:00+02:00." in said and "built: week3" in said and "week2 is not in term.toml. It is left as it is." in said
    after = files(term.parent / "term")
    assert {name for name in before if before[name][0] != after[name][0]} == {"week1/instructor/assignment.json"}
    assert list(load_assignment(term.parent / "term/week1/instructor/assignment.json").schedule.extensions) == ["bob"]


def test_who_has_left_keeps_the_notebooks_and_is_named(term):
    term.write_text(TERM.replace("ann = 2026-10-15T23:59:00", ""))
    built(term)
    (term.parent / "roster.csv").write_text("id,name\nann,Ann\n")
    said = str(built(term))
    assert "week1: no longer on the roster: bob. Their notebooks stay where they are" in said
    assert (term.parent / "term/week1/student/bob/week1.ipynb").is_file()


def test_what_was_written_into_an_assignment_by_hand_is_kept_or_named(term):
    """Shares of partial points stay. Dates are those of the calendar, and each that is taken back is named."""
    built(term)
    path = term.parent / "term/week2/instructor/assignment.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    exercise, shares = next((one, shares) for one, shares in content["partial"].items() if len(shares) > 1)
    content["partial"][exercise] = {"values": sum(shares.values())}
    content["extensions"], content["late"] = {"bob": "2026-11-02T23:59:00-04:00"}, {"per_day": 0.5, "max_days": 2}
    path.write_text(json.dumps(content), encoding="utf-8")
    said = str(built(term))
    assert "week2: the extension of bob, 2026-11-02T23:59:00-04:00, is taken back: the calendar does not have it" in said
    assert "week2: late, per_day 0.5, max_days 2, grace_minutes 0, is taken back" in said and "week2: partial points are shared as its" in said
    assert load_assignment(path).partial[exercise] == {"values": sum(shares.values())} and not load_assignment(path).schedule.extensions
    assert "taken back" not in str(built(term))


def test_an_extension_that_no_longer_says_anything_stops_no_week(term):
    """Of somebody who has left, or overtaken by the due date of all; a name that nobody has is refused as before."""
    built(term)
    (term.parent / "roster.csv").write_text("id,name\nbob,Bob\n")
    term.write_text(TERM.replace("ann = 2026", "bob = 2026-10-10T12:00:00\nann = 2026"))
    said = str(built(term))
    assert "week1: ann has an extension and is no longer on the roster. It does not count; please take it out of term.toml" in said
    assert "week1: the extension of bob (2026-10-10T12:00:00+02:00) ends before the assignment is due (2026-10-12T23:59:00+02:00)" in said
    assert not load_assignment(term.parent / "term/week1/instructor/assignment.json").schedule.extensions


@pytest.mark.parametrize(("old", "new", "message"), [
    ('"01.1,02.5"', '"01.1,02.4,02.5"', "week1: exercises was 01.1, 02.5 when .* was built, and is 01.1, 02.4, 02.5 now"),
    ('"01.1" = 3', '"01.1" = 4', "week1: points was"), ("partial = true", "partial = false", "week2: partial was"),
    ("The second week", "Week 2", "week2: title was The second week"), ("manual = false", "manual = true", "week2: manual was  when"),
    ('roster = "roster.csv"\n', "", "week1: extensions|was built with a roster. Remove the folder"),
])
def test_what_is_handed_out_is_not_changed(term, old, new, message):
    built(term)
    before = files(term.parent / "term")
    assert old in TERM
    term.write_text(TERM.replace(old, new))
    with pytest.raises(ValueError, match=message):
        built(term)
    assert files(term.parent / "term") == before, "nothing is written before all assignments are looked at"


def test_points_lie_beside_the_calendar_and_names_with_dots_need_no_quotes(term, monkeypatch):
    (term.parent / "elsewhere").mkdir()
    monkeypatch.chdir(term.parent / "elsewhere")
    (term.parent / "pts.csv").write_text("exercise,points\n02.5,4\n", encoding="utf-8")
    (term.parent / "roster.csv").write_text("id\njane.p.doe\nann\n", encoding="utf-8")
    term.write_text(TERM.replace("ann =", "jane.p.doe =").replace('{ "01.1" = 3 }', '"pts.csv"'))
    [week, _] = read_term(term).planned
    assert week.choice.points == {"02.5": 4} and [*week.schedule.extensions] == ["jane.p.doe"]
    term.write_text(TERM.replace('"01.1" = 3', "01.1 = 3, 02.5 = 2"))
    assert read_term(term).planned[0].choice.points == {"01.1": 3, "02.5": 2}


@pytest.mark.parametrize(("old", "new", "message"), [
    ("ann =", "ann@uni.edu =", 'is not TOML .* Put quotes around a name with an @: "ann@uni.edu" = ...'),
    ('"01.1" = 3', '"01.1" = 3, 01.1 = 4', "'week1': 01.1 is there twice, with quotes and without"),
    ("roster =", "rooster =", "term.toml: 'rooster' is no key here. Is it roster?"), ("title =", "titel =", "assignment 'week2': 'titel' is no key here. Is it title?"),
    ('name = "week2"', 'name = "Week1"', "two assignments are called 'week1'"), ('name = "week2"', "", "assignment 2 needs a name"),
    ("Europe/Berlin", "Europe/Bern", "there is no time zone 'Europe/Bern'"), ("Europe/Berlin", "../Berlin", "there is no time zone"),
    ('time_zone = "Europe/Berlin"', "", "'week1': due is 2026-10-12T23:59:00, without a time zone. Write time_zone"),
    ("2026-10-12T23:59:00", "2026-10-12", "due is the whole day 2026-10-12. Write the hour too"), ("due = 2026-10-12T23:59:00", 'due = "soon"', "due must be a date"),
    ("2026-10-12T23:59:00", "2026-10-25T02:30:00", "due: in Europe/Berlin the clock shows 2026-10-25T02:30:00 twice"),
    ("2026-10-12T23:59:00", "2027-03-28T02:30:00", "due: in Europe/Berlin the clock shows 2027-03-28T02:30:00 at no time"),
    ("ann =", "anna =", "'week1': extensions: the student 'anna' is not on the roster. Near it: ann"), ("per_day = 0.1", "per_day = 10", "late.per_day must be a share"),
    ('exercises = "01.1,02.5"', 'exercises = "01.9"', "'week1': no such exercise or question: '01.9'"), ("partial = true", "partial = 1", "partial must be true or false, got 1"),
    ("late = false", "late = true", "late must have per_day and max_days"), ("[[assignment]]", "[[assignment]", "is not TOML"),
    ("2026-10-05T08:00:00", "2026-11-05T08:00:00", "opens .* is not before due"), ('"01.1" = 3', '"01.3" = 3', "points: '01.3' is no exercise"),
])
def test_a_calendar_that_cannot_be_meant_is_refused_and_nothing_is_written(term, old, new, message):
    assert old in TERM
    term.write_text(TERM.replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as caught:
        built(term)
    assert str(term) in str(caught.value)
    assert not (term.parent / "term").exists()


def test_a_calendar_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file .*none.toml"):
        read_term(tmp_path / "none.toml")


def test_the_plan_of_four_weeks_is_a_calendar(tmp_path):
    """The guide's own one."""
    guide = (Path(__file__).resolve().parents[1] / "docs/instructors.md").read_text(encoding="utf-8")
    text = guide.partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "term.toml").write_text(text, encoding="utf-8")
    (tmp_path / "roster.csv").write_text("id\nann\nbob\n")
    asked = [one.choice.ids()[0] for one in read_term(tmp_path / "term.toml").planned]
    for week, ids in enumerate(asked, 1):
        line = next(line for line in guide.splitlines() if line.startswith(f"| {week} |") and line.count("|") == 5)
        assert ", ".join(ids) == line.split("|")[4].strip()
    assert len(asked) == 4
