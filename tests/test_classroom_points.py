"""Points and dates of an assignment: what an instructor gives is kept, and what cannot be meant is refused."""

import dataclasses
import json
from datetime import datetime

import pytest

from diffusion_course.classroom.assignment import notebooks
from diffusion_course.classroom.assignment.assignment import (
    Assignment,
    load_assignment,
    save_assignment,
)
from diffusion_course.classroom.assignment.points import read_points
from diffusion_course.classroom.assignment.schedule import Late, Schedule, schedule_from_json
from diffusion_course.classroom.grading.journal import grading_key
from diffusion_course.classroom.records import Student

DUE = "2026-10-12T23:59:00+02:00"
DATES = {
    "opens": "2026-10-05T08:00:00+02:00", "due": DUE, "late": {"per_day": 0.1, "max_days": 3, "grace_minutes": 15},
    "extensions": {"ann": "2026-10-15T23:59:00+02:00"},
}


def an_assignment(**changed):
    given = {"name": "hw", "title": "Homework", "exercises": ("02.1", "02.4"), "manual": (), "seed": 9, "roster": (Student("ann"), Student("bob"))}
    return Assignment(**(given | changed))


def test_points_and_dates_survive_the_file_as_they_were_written(tmp_path):
    made = an_assignment(points={"02.4": 2.5}, schedule=schedule_from_json(DATES))
    save_assignment(made, tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["points"] == {"02.1": 1, "02.4": 2.5} and {name: content[name] for name in DATES} == DATES
    read = load_assignment(tmp_path / "a.json")
    assert read == made and read.schedule.late == Late(0.1, 3, 15)
    assert read.schedule.due_for("ann") == datetime.fromisoformat("2026-10-15T21:59:00+00:00")
    assert read.schedule.due_for("bob") == datetime.fromisoformat(DUE)


def test_a_file_of_format_1_has_the_points_of_the_course_and_no_dates(tmp_path):
    save_assignment(an_assignment(), tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text()) | {"format": 1}
    for name in ("points", *DATES):
        del content[name]
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert load_assignment(tmp_path / "a.json") == an_assignment()


def test_the_given_points_are_in_notebook_total_and_marks():
    made = an_assignment(points={"02.4": 2.5})
    cells = {cell["id"]: cell for cell in notebooks.make_notebook(made, "student", "ann")["cells"]}
    assert "(2.5 points)" in "".join(cells["statement-02-4"]["source"])
    assert cells["check-02-4"]["metadata"]["nbgrader"]["points"] == 2.5
    assert made.max_points == made.exercise_points == 3.5 and made.exercise("02.4", "ann").points == 2.5


def test_what_is_graded_depends_on_the_points_and_not_on_the_dates():
    made = an_assignment()
    assert grading_key(made, "") == grading_key(dataclasses.replace(made, schedule=schedule_from_json(DATES)), "")
    assert grading_key(made, "") != grading_key(an_assignment(points={"02.4": 7}), "")


@pytest.mark.parametrize(("text", "points"), [
    ("01.1=3, 02.5=2", {"01.1": 3, "02.5": 2}), ("01.1=2.50", {"01.1": 2.5}),
    ("p.csv:exercise;points\n01.1;3\n02.5;2.5\n", {"01.1": 3, "02.5": 2.5}), ("p.csv:sep=;\nexercise;points\n01.1;2,5\n", {"01.1": 2.5}), ("p.csv:\ufeffPoints,Exercise\n3,01.1\n", {"01.1": 3}),
    ('p.toml:"01.1" = 3\n02.5 = 2\n02.6 = 0.5', {"01.1": 3, "02.5": 2, "02.6": 0.5}),
])
def test_points_are_read(tmp_path, text, points):
    name, _, content = text.partition(":")
    if content:
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_points(tmp_path / name if content else text) == points


@pytest.mark.parametrize(("text", "message"), [
    ("01.1=3,01.1=2", "'01.1=2': the points of 01.1 are given twice"), ("01.1=three", "'01.1=three': 'three' is no number of points"),
    ("p.csv:id,points\n", "a column named exercise is needed once; the first line has 'id', 'points'"), ("p.toml:01.1 =", "is not TOML"),
    ("01.1=2,5", "'5' stands alone after '01.1=2'. A comma is between two exercises here; half a point is written with a dot: 01.1=2.5."),
    ("p.csv:exercise,points\n01.1,2,5\n", "row 2 has 3 cells, and there are 2 columns"), ("p.csv:exercise,points\n01.1,3\n02.5,\n", "p.csv, row 3, column points: '' is no number of points"), ("p.csv:exercise,points\n", "there are no points"),
])
def test_points_that_cannot_be_read_are_refused_with_their_place(tmp_path, text, message):
    name, _, content = text.partition(":")
    if content:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_points(tmp_path / name if content else text)


def test_a_file_of_points_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file .*none.csv of points. Give a text such as 01.1=3"):
        read_points(tmp_path / "none.csv")


@pytest.mark.parametrize(("points", "message"), [
    ({"02.5": 3}, "points: '02.5' is no exercise of the assignment, which has 02.1, 02.4"), ({"02.1": 0}, "points: 02.1 must have points above 0"),
    ({"02.1": float("nan")}, "02.1 must have a number of points, got nan"), ({"02.1": 0.333}, "at most two decimals, got 0.333"),
    ({"02.1": "3"}, "a number of points, got '3'"), ({"02.1": True}, "a number of points, got True"), ({"02.1": 1e9}, "at most 1000"),
])
def test_points_that_cannot_be_meant_are_refused(points, message):
    with pytest.raises(ValueError, match=message):
        an_assignment(points=points)


@pytest.mark.parametrize(("changed", "message"), [
    ({"due": "2026-10-12T23:59:00"}, "due is 2026-10-12T23:59:00, without a time zone: write its offset from UTC"),
    ({"due": "next week"}, "due must be a date such as .*, got 'next week'"), ({"due": 17}, "due must be a date such as .*, got 17"),
    ({"due": None}, "late is given, and no due date"), ({"due": None, "late": None}, "extensions is given, and no due date"),
    ({"opens": "2026-10-13T08:00:00+02:00"}, "opens .* is not before due"),
    ({"extensions": {"ann": "2026-10-11T23:59:00+02:00"}}, "the extension of ann .* ends before the assignment is due"),
    ({"extensions": {"ann": None}}, "the extension of ann must be a date"), ({"extensions": {"an": DUE}}, "the student 'an' is not on the roster. Near it: ann"),
    ({"extensions": ["ann"]}, "extensions must be dates by student"), ({"late": {"per_day": 0.1}}, "late must have per_day and max_days"),
    ({"late": {"per_day": 0.1, "max_days": 3, "max": 1}}, "late must have per_day and max_days"),
    ({"late": {"per_day": 10, "max_days": 3}}, "late.per_day must be a share from 0 to 1, got 10"),
    ({"late": {"per_day": float("nan"), "max_days": 3}}, "late.per_day must be a share"),
    ({"late": {"per_day": 0.1, "max_days": 2.5}}, "late.max_days must be a whole number from 0 to 366, got 2.5"),
    ({"late": {"per_day": 0.1, "max_days": 2, "grace_minutes": -1}}, "late.grace_minutes must be a whole number from 0"),
])
def test_dates_that_cannot_be_meant_are_refused(tmp_path, changed, message):
    save_assignment(an_assignment(), tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text()) | DATES | changed
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        load_assignment(tmp_path / "a.json")
    assert str(tmp_path / "a.json") in str(caught.value)


def test_an_assignment_without_dates_is_never_due():
    assert Schedule().due_for("ann") is None
