"""Late work: what a begun day costs, where the time comes from, and which version counts."""

import csv
import dataclasses
import io
import json
import os
import zipfile
from datetime import datetime, timedelta

import pytest
from test_classroom_grading import NO_ROOT, answers, notebook, pretend, table

from diffusion_course.classroom.assignment.assignment import Assignment
from diffusion_course.classroom.assignment.schedule import Late, Schedule
from diffusion_course.classroom.grading.folder import grade_folder
from diffusion_course.classroom.grading.given import Given
from diffusion_course.classroom.grading.times import date_in, lateness, read_times
from diffusion_course.classroom.records import Student

DUE = datetime.fromisoformat("2026-10-12T23:59:00+02:00")
SCHEDULE = Schedule(due=DUE, late=Late(0.1, 3, 15), extensions={"ann": datetime.fromisoformat("2026-10-15T23:59:00+02:00")})
ROSTER = (Student("ann", "Ann Example"), Student("bob", "Bob Example"), Student("cy", "Cy Example"))
HOMEWORK = Assignment("hw", "Homework", ("02.1", "02.2", "02.3"), (), 99, ROSTER, schedule=SCHEDULE)


@pytest.mark.parametrize(("student", "time", "days", "share"), [
    ("bob", "2026-10-12T23:59:00+02:00", 0, 0), ("bob", "2026-10-13T00:14:00+02:00", 0, 0), ("bob", "2026-10-13T00:15:00+02:00", 1, 0.1),
    ("bob", "2026-10-12T22:20:00Z", 1, 0.1), ("bob", "2026-10-13T23:59:00+02:00", 1, 0.1), ("bob", "2026-10-13T23:59:01+02:00", 2, 0.2),
    ("bob", "2026-10-15T23:59:00+02:00", 3, 0.3), ("bob", "2026-10-16T00:00:00+02:00", 4, 1), ("ann", "2026-10-15T23:59:00+02:00", 0, 0),
    ("ann", "2026-10-16T01:00:00+02:00", 1, 0.1),
])
def test_each_begun_day_costs_its_share_and_then_nothing_is_left(student, time, days, share):
    late = lateness(HOMEWORK, student, date_in(time))
    assert (late.days, late.share) == (days, share) if days else late is None


def test_a_time_without_an_offset_is_no_time():
    assert date_in("2026-10-12T23:59:00") is None and date_in("2026-13-12T23:59:00Z") is None
    assert date_in("2026-10-12 23:59:00.342990000 +02:00") == DUE and date_in("2026-10-12 21:59:00.5 UTC") == DUE


@pytest.fixture
def homework(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("ann", "bob"):
        (folder / f"{name}.ipynb").write_text(notebook(answers()))
        os.utime(folder / f"{name}.ipynb", (DUE.timestamp() + 90_000,) * 2)  # more than a day later
    return folder


def grade(folder, out, **given):
    return grade_folder(HOMEWORK, folder, out, jobs=1, progress=False, given=Given(**given), attempt=pretend)


def times(path, *lines):
    path.write_text("\n".join(["id,time", *lines]) + "\n")
    return str(path)


def test_the_deduction_stands_on_every_page_with_the_points_before(homework, tmp_path):
    out = tmp_path / "out"
    summary = grade(homework, out, times=times(tmp_path / "times.csv", "bob,2026-10-13T08:00:00+02:00"))
    ann, bob, _ = table(out)
    assert (ann["total"], ann["late"]) == ("3", "0") and (bob["earned"], bob["late"], bob["total"]) == ("3", "0.3", "2.7")
    page = (out / "feedback" / "bob.html").read_text()
    assert "2.7 of 3 points" in page and "1 day late" in page and "10 % of 3 points, which leaves 2.7" in page
    assert any(note.startswith("when ann handed in is not known") for note in summary.notes)
    assert json.loads((out / "results.json").read_text())["submissions"][1]["late"]["days"] == 1


def test_the_times_of_files_count_only_when_that_is_said(homework, tmp_path):
    grade(homework, tmp_path / "out")
    assert table(tmp_path / "out")[1]["total"] == "3"
    assert grade(homework, tmp_path / "out", times="mtime").new == 0
    assert [row["total"] for row in table(tmp_path / "out")] == ["3", "2.4", ""]  # ann has more time
    grade(homework, tmp_path / "out", times="none")
    assert table(tmp_path / "out")[1]["total"] == "3"  # taken back


@pytest.mark.parametrize(("lines", "told"), [
    (["bo,2026-10-13T08:00:00+02:00"], "row 2, column id: 'bo' is nobody"), (["bob,yesterday"], "row 2, column time: 'yesterday' is no date"),
    (["bob,2026-10-13T08:00:00"], "the offset from UTC is needed"), (["bob,2026-10-13T08:00:00Z"] * 2, "row 3, column id: 'bob' is there twice"),
])
def test_a_slip_in_the_times_is_told(tmp_path, lines, told):
    with pytest.raises(ValueError, match=told):
        read_times(times(tmp_path / "times.csv", *lines), ("ann", "bob"))


def test_downloads_tell_the_time_or_that_it_was_late(tmp_path):
    gradescope, canvas = tmp_path / "gradescope", tmp_path / "canvas"
    (gradescope / "submission_1").mkdir(parents=True)
    (gradescope / "submission_1" / "hw.ipynb").write_text(notebook(answers()))
    (gradescope / "submission_metadata.yml").write_text(
        "submission_1:\n  :submitters:\n  - :sid: bob\n  :created_at: 2026-10-13 09:00:00.342990000 +02:00\n")
    grade(gradescope, tmp_path / "one")
    assert table(tmp_path / "one")[1]["total"] == "2.7"
    canvas.mkdir()
    (canvas / "examplebob_LATE_12345_678910_hw.ipynb").write_text(notebook(answers()))
    summary = grade(canvas, tmp_path / "two")
    assert table(tmp_path / "two")[1]["total"] == "3"
    assert any("bob handed in late, says Canvas, and it does not say when: nothing is taken off" in note for note in summary.notes)


def versions(out):
    return list(csv.DictReader(io.StringIO((out / "history.csv").read_text())))


def test_every_version_is_kept_and_the_best_may_count(homework, tmp_path):
    out = tmp_path / "out"
    grade(homework, out, times=times(tmp_path / "times.csv", "bob,2026-10-12T08:00:00+02:00"))
    (homework / "bob.ipynb").write_text(notebook(answers(a1=NO_ROOT)))
    times(tmp_path / "times.csv", "bob,2026-10-13T08:00:00+02:00")
    assert grade(homework, out).new == 1
    assert table(out)[1]["total"] == "1.8"
    first, second = [row for row in versions(out) if row["id"] == "bob"]
    assert (first["exercises"], first["days late"], first["after"]) == ("3", "0", "3") and first["sha256"] != second["sha256"]
    assert (second["exercises"], second["days late"], second["after"]) == ("2", "1", "1.8") and second["graded"]
    summary = grade(homework, out, keep="best")
    assert table(out)[1]["total"] == "3" and any("bob: version 1 counts with 3 points" in note for note in summary.notes)
    assert len(versions(out)) == 3
    grade(homework, out)
    assert table(out)[1]["total"] == "3"  # that the best counts is remembered
    other = Assignment("hw", "Homework", ("02.1", "02.2"), (), 99, ROSTER, schedule=SCHEDULE)
    summary = grade_folder(other, homework, out, jobs=1, progress=False, attempt=pretend)
    assert any("1 earlier versions were graded for other exercises" in note for note in summary.notes) and table(out)[1]["total"] == "0.9"


def test_a_later_due_date_grades_nothing_again(homework, tmp_path):
    grade(homework, tmp_path / "out", times=times(tmp_path / "times.csv", "bob,2026-10-13T08:00:00+02:00"))
    later = Assignment("hw", "Homework", HOMEWORK.exercises, (), 99, ROSTER, schedule=Schedule(due=datetime.fromisoformat("2026-10-14T23:59:00+02:00")))
    assert grade_folder(later, homework, tmp_path / "out", jobs=1, progress=False, attempt=pretend).new == 0
    assert table(tmp_path / "out")[1]["total"] == "3"


def test_feedback_goes_back_under_the_names_of_the_download(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "examplebob_12345_678910_hw-1.ipynb").write_text(notebook(answers()))
    (folder / "Ann Example_777_assignsubmission_file_").mkdir()
    (folder / "Ann Example_777_assignsubmission_file_" / "my work.ipynb").write_text(notebook(answers()))
    (folder / "cy.ipynb").write_text(notebook(answers()))
    grade(folder, tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "out" / "feedback.zip") as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    assert sorted(files) == ["Ann Example_777_assignsubmission_file_/feedback.html", "cy.html", "examplebob_12345_678910_hw-1.ipynb"]
    assert "Ann Example" in files["Ann Example_777_assignsubmission_file_/feedback.html"] and "(cy)" in files["cy.html"]
    (cell,) = json.loads(files["examplebob_12345_678910_hw-1.ipynb"])["cells"]
    assert cell["cell_type"] == "markdown" and "3 of 3 points" in "".join(cell["source"])


def test_a_remembered_time_is_not_that_of_another_file(homework, tmp_path):
    out, line = tmp_path / "out", "bob,2026-10-12T08:00:00+02:00"
    grade(homework, out, times=times(tmp_path / "times.csv", line))
    (homework / "bob.ipynb").write_text(notebook(answers(a1=NO_ROOT)))
    for _ in range(2):  # and it stays so
        summary = grade(homework, out)
        assert any("bob handed in another file since the time 2026-10-12T08:00:00+02:00" in note for note in summary.notes)
        assert any("when ann, bob handed in is not known" in note for note in summary.notes)
    assert [row["handed in"] for row in versions(out) if row["id"] == "bob"] == ["2026-10-12T08:00:00+02:00", ""]
    summary = grade(homework, out, times=str(tmp_path / "times.csv"))
    assert any("it counts for the new one too" in note for note in summary.notes)
    assert [row["handed in"] for row in versions(out) if row["id"] == "bob"] == ["2026-10-12T08:00:00+02:00"] * 2


def test_the_history_keeps_whose_last_file_is_not_gradable_and_names_unknown_times(homework, tmp_path):
    out = tmp_path / "out"
    grade(homework, out)
    kept = versions(out)
    (homework / "bob.ipynb").write_text("{")
    assert grade(homework, out).failed and versions(out) == kept
    (homework / "bob.ipynb").write_text(notebook(answers(a1=NO_ROOT)))
    summary = grade(homework, out, keep="best", times=times(tmp_path / "times.csv", "bob,2026-10-12T08:00:00+02:00"))
    assert any(note.startswith("bob: version 1's time is not known") for note in summary.notes)
    assert not any(note.startswith("ann: version") for note in summary.notes)


def test_times_that_cannot_be_are_told(homework, tmp_path):
    one = dataclasses.replace(HOMEWORK, schedule=dataclasses.replace(SCHEDULE, opens=DUE - timedelta(days=7)))
    given = Given(times=times(tmp_path / "times.csv", "ann,2025-10-12T08:00:00+02:00", "bob,2226-10-12T08:00:00+02:00"))
    summary = grade_folder(one, homework, tmp_path / "out", jobs=1, progress=False, given=given, attempt=pretend)
    assert any(note.startswith("times before the assignment opens") and note.endswith(": ann") for note in summary.notes)
    assert any("in the future" in note and note.endswith(": bob") for note in summary.notes)
