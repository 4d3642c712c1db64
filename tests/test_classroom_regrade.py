"""Grading again: one student, one exercise; and what is gone from the folder is gone from the reports."""

import dataclasses
import json
import threading

import pytest
from test_classroom_grading import NO_ROOT, answers, assignment, notebook, pretend, table

from diffusion_course.classroom.__main__ import main
from diffusion_course.classroom.assignment.assignment import save_assignment
from diffusion_course.classroom.grading import folder, journal
from diffusion_course.classroom.grading.folder import grade_folder
from diffusion_course.classroom.records import Attempt, Student


@pytest.fixture
def homework(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "ann.ipynb").write_text(notebook(answers()))
    (folder / "bob.ipynb").write_text(notebook(answers(a1=NO_ROOT)))
    return folder


class Recording:
    """Stands for the sandbox: keeps who was graded for what, and says `pretend`'s outcomes or nothing."""

    def __init__(self, notes=()):
        self.seen, self.notes = [], notes

    def __call__(self, submission, wanted, limits, **options):
        self.seen.append((submission.student, tuple(exercise.id for exercise, _ in wanted)))
        return pretend(submission, wanted, limits)[0], tuple(self.notes)


def grade(folder, out, recording, **options):
    return grade_folder(assignment(), folder, out, jobs=1, progress=False, attempt=recording, **options)


def test_one_student_is_graded_again(homework, tmp_path):
    grade(homework, tmp_path / "out", Recording())
    again = Recording()
    assert grade(homework, tmp_path / "out", again, regrade=["bob"]).new == 1
    assert again.seen == [("bob", ("02.1", "02.2", "02.3"))]


def test_one_exercise_is_graded_again_and_the_other_marks_stay(homework, tmp_path):
    slow = {one: Attempt(reason="time") for one in ("02.1", "02.2", "02.3")}
    grade(homework, tmp_path / "out", lambda *_, **__: (slow, ("02.2: it took too long", "02.3: it took too long")))
    assert [row["total"] for row in table(tmp_path / "out")] == ["0", "0"]
    again = Recording(["02.2: looked at again"])
    summary = grade(homework, tmp_path / "out", again, regrade=["02.2"])
    assert again.seen == [("ann", ("02.2",)), ("bob", ("02.2",))]
    assert [[row[one] for one in ("02.1", "02.2", "02.3", "total")] for row in table(tmp_path / "out")] == [["0", "1", "0", "1"]] * 2
    for one in summary.graded:
        assert [mark.exercise_id for mark in one.marks] == ["02.1", "02.2", "02.3"]
        assert {"02.3: it took too long", "02.2: looked at again"} <= set(one.notes) and "02.2: it took too long" not in one.notes
    none = Recording()
    assert grade(homework, tmp_path / "out", none).new == 0 and none.seen == []
    assert [row["total"] for row in table(tmp_path / "out")] == ["1", "1"]


def test_a_student_who_was_not_graded_yet_is_graded_whole(homework, tmp_path):
    grade(homework, tmp_path / "out", Recording())
    (homework / "cy.ipynb").write_text(notebook(answers()))
    again = Recording()
    grade(homework, tmp_path / "out", again, regrade=["02.3", "ann"])
    assert dict(again.seen) == {"ann": ("02.1", "02.2", "02.3"), "bob": ("02.3",), "cy": ("02.1", "02.2", "02.3")}


def test_a_regrading_that_fails_is_no_old_grade(homework, tmp_path):
    grade(homework, tmp_path / "out", Recording())

    def breaks(*_, **__):
        raise OSError("no space left")

    summary = grade(homework, tmp_path / "out", breaks, regrade=["ann"])
    assert summary.failed == (("ann", "OSError: no space left"),) and [one.student for one in summary.graded] == ["bob"]


def test_what_is_neither_a_student_nor_an_exercise_is_told(homework, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"regrade 'anne'.*Near it: ann"):
        grade(homework, tmp_path / "out", Recording(), regrade=["anne"])
    save_assignment(assignment(), tmp_path / "assignment.json")
    assert main(["grade", str(homework), "--out", str(tmp_path / "out"), "--unsafe", "--regrade", "02.9"]) == 2
    assert "regrade '02.9'" in capsys.readouterr().err


def test_a_submission_that_is_gone_is_gone_from_all_reports(homework, tmp_path):
    out = tmp_path / "out"
    grade(homework, out, Recording())
    (homework / "bob.ipynb").unlink()
    grade(homework, out, Recording())
    assert [row["student"] for row in table(out)] == ["ann"]
    assert [path.name for path in (out / "feedback").iterdir()] == ["ann.html"]
    assert "bob" not in (out / "index.html").read_text() and len(json.loads((out / "results.json").read_text())["submissions"]) == 1


def test_a_late_enrolment_or_a_corrected_name_grades_nobody_again(homework, tmp_path):
    def run(roster, title):
        one = dataclasses.replace(assignment(), roster=roster, title=title)
        return grade_folder(one, homework, tmp_path / "out", jobs=1, progress=False, attempt=pretend)

    ann, bob = Student("ann", "An"), Student("bob")
    assert run((ann, bob), "Homework").new == 2
    assert run((Student("ann", "Ann"), bob, Student("zoe")), "Week 2").new == 0
    summary = run((ann,), "Homework")
    assert [one.student for one in summary.graded] == ["ann"] and "'bob' is not on the roster" in summary.failed[0][1]


def test_who_stops_the_run_waits_for_those_in_work_alone(monkeypatch):
    stopped, seen = threading.Event(), []

    class Pool(folder.ThreadPoolExecutor):
        def shutdown(self, wait=True, *, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            stopped.set()
            super().shutdown(wait=wait)

    def work(student):
        seen.append(student)
        if student == "0":
            raise KeyboardInterrupt
        stopped.wait(10)

    monkeypatch.setattr(folder, "ThreadPoolExecutor", Pool)
    with pytest.raises(KeyboardInterrupt):
        folder._at_a_time(1, work, [str(one) for one in range(9)], progress=False)
    assert seen in (["0"], ["0", "1"])


def test_the_key_of_what_is_kept_covers_the_whole_package(tmp_path, monkeypatch):
    """A verdict depends on the doors, on what lessons import and on the networks as much as on the exercises."""
    package = tmp_path / "package"
    for name in ("door.py", "process/forward.py", "exercises/lessons/lesson02.py", "classroom/assignment/questions/lesson02.md"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("1")
    monkeypatch.setattr(journal, "PACKAGE", package)
    first = journal.grading_key(assignment(), "")
    for path in package.rglob("*.*"):
        path.write_text("2")
        assert journal.grading_key(assignment(), "") != first, path
        path.write_text("1")
    path.rename(path.with_name(f"other{path.suffix}"))
    assert journal.grading_key(assignment(), "") != first
