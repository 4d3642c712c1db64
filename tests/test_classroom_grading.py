"""A class is graded: points, feedback without hidden cases, reports, and runs that are killed and go on."""

import csv
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from attacks import HONEST

from diffusion_course.classroom.__main__ import find_assignment, main
from diffusion_course.classroom.assignment.assignment import Assignment, save_assignment
from diffusion_course.classroom.assignment.build import build_assignment
from diffusion_course.classroom.grading.folder import grade_folder, grade_one
from diffusion_course.classroom.grading.hand_offs import course_names
from diffusion_course.classroom.grading.journal import InUse, hold_folder
from diffusion_course.classroom.grading.marking import ONE_AT_A_TIME, hidden_cases, mark
from diffusion_course.classroom.grading.selection import Task
from diffusion_course.classroom.reasons import ENDED, TEXTS, UNANSWERED, Reason
from diffusion_course.classroom.records import Attempt, Cell, Student, Submission
from diffusion_course.classroom.sandbox.bubblewrap import SandboxMissing, sandbox_available
from diffusion_course.classroom.sandbox.limits import Limits
from diffusion_course.exercises.compare import ORDER
from diffusion_course.exercises.registry import all_exercises
from diffusion_course.exercises.trial import Failure, Outcome, run_case

EXERCISES = ("02.1", "02.2", "02.3")
NO_ROOT = "def jump(x0, t, alphas_cumprod, noise):\n    a = alphas_cumprod[t].to(x0.dtype).reshape(-1, *[1] * (x0.dim() - 1))\n    return a.sqrt() * x0 + (1 - a) * noise\n"
needs_sandbox = pytest.mark.skipif(not sandbox_available(), reason="bubblewrap is not usable here")


def notebook(sources, metadata=None):
    """A notebook's text: sources by grade id."""
    cells = [{"cell_type": "code", "metadata": {}, "source": "import torch", "outputs": [], "execution_count": None}]
    for name, source in sources.items():
        marks = {"nbgrader": {"grade_id": name, "solution": True, "grade": False, "locked": False, "schema_version": 3}}
        cells.append({"cell_type": "code", "metadata": marks, "source": source, "outputs": [], "execution_count": None})
    return json.dumps({"cells": cells, "metadata": metadata or {}, "nbformat": 4, "nbformat_minor": 5})


def answers(**changed):
    """The honest answers, with some replaced: answers(a1=...) replaces that of 02.1."""
    made = {f"answer-{one.replace('.', '-')}": source for one, source in HONEST.items()}
    return made | {f"answer-02-{name[1:]}": source for name, source in changed.items()}


def assignment(*roster, exercises=EXERCISES, manual=()):
    return Assignment("hw", "Homework", exercises, manual, seed=99, roster=tuple(Student(one) for one in roster))


def pretend(submission, wanted, limits, **options):
    """Stands for the sandbox where only the run around it is tested: right where the source is the honest one."""
    text = "".join(cell.source for cell in submission.cells)
    attempts = {}
    for exercise, cases in wanted:
        if HONEST[exercise.id] in text:
            with ONE_AT_A_TIME:
                attempts[exercise.id] = Attempt(tuple(run_case(exercise, exercise.reference, case) for case in cases))
        else:
            attempts[exercise.id] = Attempt(tuple(Outcome() for _ in cases))
    return attempts, ()


def wrong_attempt(exercise, cases, function):
    return {exercise.id: Attempt(tuple(run_case(exercise, function, case) for case in cases))}


@pytest.mark.parametrize("exercise", all_exercises(), ids=lambda exercise: exercise.id)
def test_feedback_names_every_mistake_and_shows_nothing_of_a_hidden_case(exercise):
    one = assignment(exercises=(exercise.id,))
    wanted = hidden_cases(one, "ann")
    bound, cases = wanted[0]
    submission = Submission("ann", Path("ann.ipynb"), "0")
    for wrong in exercise.wrong_answers:
        graded = mark(one, submission, wanted, wrong_attempt(bound, cases, wrong.function))
        feedback = graded.marks[0].feedback
        assert graded.points == 0 and graded.marks[0].mistake == wrong.name and wrong.explanation in feedback
        said = feedback.replace(wrong.explanation, "").replace(wrong.name, "")
        assert not re.search(r"\d\.\d|\(\d+, |float32|float64|Inputs", said), said
        assert not any(case.note and f"{case.note!r}" in said for case in cases)


def test_the_message_of_an_exception_is_not_shown():
    one = assignment(exercises=("02.1",))
    wanted = hidden_cases(one, "")
    outcome = Outcome(None, Failure("ValueError", "t holds tensor([3, 17])", 4))
    cells = (Cell("def jump():\n    1\n    2\n    raise ValueError"),)
    graded = mark(one, Submission("ann", Path("x"), "0", cells), wanted, {"02.1": Attempt((outcome,) * len(wanted[0][1]))})
    assert graded.marks[0].feedback == "`jump`: it raises ValueError in its line 4 on an input that it must take."


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (Failure("ValueError", "", 2), "ValueError in its line 2"),
        (Failure("OutOfMemoryError", "", 2, "helper"), "OutOfMemoryError in line 2 of `helper`"),
        (Failure("x3_17_0_25", "", 2), "an exception of its own in its line 2"),  # a class that is named after an input
        (Failure("ValueError", "", 2, "x3_17_0_25"), "ValueError"),  # a function whose code says so
        (Failure("ValueError", "", 317025), "ValueError"),  # and a line
        (Failure("ValueError", "", 317, "helper"), "ValueError"),
    ],
)
def test_no_name_or_line_that_a_running_answer_can_choose_is_shown(failure, told):
    one = assignment(exercises=("02.1",))
    wanted = hidden_cases(one, "")
    cells = (Cell("def helper():\n    return 1 / 0\ndef jump(*args):\n    return helper()"),)
    graded = mark(one, Submission("ann", Path("x"), "0", cells), wanted, {"02.1": Attempt((Outcome(None, failure),) * len(wanted[0][1]))})
    assert graded.marks[0].feedback == f"`jump`: it raises {told} on an input that it must take."


def test_a_cell_that_raises_shows_no_name_of_its_own():
    submission = Submission("ann", Path("x"), "0", (Cell("class X317(Exception): ...\nraise X317\ndef jump(): 1", "answer-02-1"),))
    task = Task(submission, hidden_cases(assignment(exercises=("02.1",)), ""))
    assert [task.not_found(0, {0: name}).detail for name in ("X317", "KeyError")] == ["an exception of its own", "KeyError"]


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_words_and_no_points(reason):
    assert set(TEXTS) == set(Reason) and ENDED | UNANSWERED < set(Reason)
    one = assignment(exercises=("02.1",))
    graded = mark(one, Submission("ann", Path("x"), "0"), hidden_cases(one, ""), {"02.1": Attempt(reason=reason, detail="more of it")})
    (made,) = graded.marks
    assert (made.points, made.status, made.check) == (0, "unanswered" if reason in UNANSWERED else "wrong", reason.value)
    assert made.feedback == f"`jump`: {TEXTS[reason].replace('{detail}', 'more of it')}"


def test_every_check_of_an_exercise_is_a_reason():
    assert {*ORDER, "raises", "inputs", "random"} <= set(Reason)
    assert not {demand.name for one in all_exercises() for demand in one.properties} & set(Reason)


def test_an_answer_that_nobody_came_to_took_too_long_and_an_unread_one_says_why():
    one = assignment(exercises=("02.1",))
    wanted = hidden_cases(one, "")
    assert mark(one, Submission("ann", Path("x"), "0"), wanted, {}).marks[0].check == Reason.TIME
    unread = mark(one, Submission("ann", Path("x"), "0", problem="it is not JSON."), wanted, {})
    assert unread.points == 0 and "it is not JSON." in unread.marks[0].feedback


def test_the_number_of_another_student_is_noticed():
    one = assignment("ann", "bob", exercises=("02.5",))
    mine, theirs = one.exercise("02.5", "ann"), one.exercise("02.5", "bob")
    if mine.chosen == theirs.chosen:
        one = Assignment("hw", "Homework", ("02.5",), (), seed=100, roster=one.roster)
        mine, theirs = one.exercise("02.5", "ann"), one.exercise("02.5", "bob")
    assert mine.chosen != theirs.chosen
    wanted = hidden_cases(one, "ann")
    attempt = {"02.5": Attempt((Outcome(float(theirs.reference(**theirs.chosen))),))}
    graded = mark(one, Submission("ann", Path("x"), "0"), wanted, attempt)
    assert graded.points == 0 and graded.notes == ("02.5: the number is wrong here and right for bob",)


def test_the_courses_functions_in_an_answer_are_noticed():
    exercise = all_exercises(2)[0]
    cells = (Cell("from diffusion_course import q_sample as q, check\nimport diffusion_course as dc"), Cell("def jump(*a):\n    return q(*a)", "answer-02-1"))
    assert course_names(Submission("ann", Path("x"), "0", cells), exercise) == "q_sample"


@pytest.mark.parametrize(("helper", "answer", "names"), [
    ("from diffusion_course import *", "def jump(*a):\n    return q_sample(*a)", "q_sample"), ("from diffusion_course import *", "def jump(*a):\n    return q(*a)", ""),
    ("", "def jump(*a):\n    return __import__('diffusion_course.process').q_sample(*a)", "diffusion_course"),
    ("from diffusion_course.process import *", "def jump(*a):\n    return q_sample(*a)", "q_sample"),
    ("from diffusion_course import *\ndef snr(x):\n    return x", "def jump(*a):\n    return snr(*a)", ""),
])
def test_a_hand_off_is_seen_in_the_text(helper, answer, names):
    cells = (Cell(helper), Cell(answer, "answer-02-1"))
    assert course_names(Submission("ann", Path("x"), "0", cells), all_exercises(2)[0]) == names


def test_what_an_answer_called_is_noted_for_the_instructor():
    one = assignment(exercises=("02.1",))
    cells = (Cell("def jump(*a):\n    return q_sample(*a)", "answer-02-1"),)

    def attempt(submission, wanted, limits, **options):
        return {"02.1": Attempt(reason=Reason.TIME, used=("q_sample", "snr"))}, ()

    made = grade_one(one, Submission("ann", Path("x"), "0", cells), Limits(), unsafe=False, course=None, attempt=attempt)
    assert "02.1 uses the course's q_sample, snr" in made.notes


@pytest.fixture
def homework(tmp_path):
    folder = tmp_path / "handed"
    folder.mkdir()
    (folder / "ann.ipynb").write_text(notebook(answers()))
    (folder / "bob.ipynb").write_text(notebook(answers(a1=NO_ROOT)))
    (folder / "=cmd.ipynb").write_text(notebook(answers(a1="...", a2="...", a3="...")))
    (folder / "dora.ipynb").write_text("no notebook")
    return folder


def table(out):
    return list(csv.DictReader(io.StringIO((out / "grades.csv").read_text())))


def test_who_ran_out_of_time_beside_others_runs_once_more_alone(homework, tmp_path):
    """What the machine had to do for others is not held against a student."""
    running, seen = set(), []

    def attempt(submission, wanted, limits, **options):
        running.add(submission.student)
        seen.append((submission.student, frozenset(running)))
        tries = [student for student, _ in seen].count(submission.student)
        running.remove(submission.student)
        if submission.student == "ann" and tries == 1:
            return {one.id: Attempt(reason=Reason.TIME) for one, _ in wanted}, ()
        return {one.id: Attempt(tuple(run_case(one, one.reference, case) for case in cases)) for one, cases in wanted}, ()

    made = grade_folder(assignment(), homework, tmp_path / "out", jobs=2, progress=False, attempt=attempt)
    assert {one.student: one.points for one in made.graded}["ann"] == assignment().max_points
    assert [student for student, _ in seen].count("ann") == 2 and seen[-1] == ("ann", {"ann"}) and [student for student, _ in seen].count("bob") == 1
    assert made.new == len(made.graded)


def test_with_one_job_nobody_runs_twice(homework, tmp_path):
    seen = []

    def attempt(submission, wanted, limits, **options):
        seen.append(submission.student)
        return {one.id: Attempt(reason=Reason.TIME) for one, _ in wanted}, ()

    grade_folder(assignment(), homework, tmp_path / "out", jobs=1, progress=False, attempt=attempt)
    assert len(seen) == len(set(seen))


class Page(HTMLParser):
    """Collects the tags of a page and where its links and sources point."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.targets = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.targets += [value for name, value in attrs if name in ("href", "src")]


@needs_sandbox
def test_a_class_is_graded_in_the_sandbox(homework, tmp_path):
    summary = grade_folder(assignment(manual=("02.m1",)), homework, tmp_path / "out", limits=Limits(seconds=40), progress=False)
    rows = {row["student"]: row for row in table(tmp_path / "out")}
    assert [rows["ann"][one] for one in EXERCISES] == ["1", "1", "1"] and rows["ann"]["total"] == "3" and rows["ann"]["02.m1"] == ""
    assert rows["bob"]["02.1"] == "0" and rows["bob"]["total"] == "2" and rows["'=cmd"]["total"] == "0" and rows["dora"]["total"] == ""
    assert summary.new == 3 and [student for student, _ in summary.failed] == ["dora"] and "submissions a minute" in str(summary)
    page = (tmp_path / "out" / "feedback" / "bob.html").read_text()
    assert "Known mistake: no square root on the noise" in page and "2 of 7 points so far" in page
    index = (tmp_path / "out" / "index.html").read_text()
    assert 'no square root on the noise</span> <span class="count">1<' in index
    for text in (page, index):
        assert "script" not in Page(text).tags and not any(":" in target for target in Page(text).targets)


def test_pages_escape_what_students_wrote(tmp_path):
    (tmp_path / "in").mkdir()
    evil = notebook(answers(a1="def jump():\n    pass\n")).replace('"cells": [', '"cells": [{"cell_type": "markdown", "metadata": {"nbgrader": {"grade_id": "manual-02-m1", "grade": true, "solution": true}}, "source": "<script>alert(1)</script>"}, ', 1)
    (tmp_path / "in" / "<b>&.ipynb").write_text(evil)
    grade_folder(assignment(manual=("02.m1",)), tmp_path / "in", tmp_path / "out", progress=False, attempt=pretend)
    for path in [tmp_path / "out" / "index.html", tmp_path / "out" / "copies.html", *(tmp_path / "out" / "feedback").iterdir()]:
        text = path.read_text()
        assert "<script" not in text and "<b>" not in text
    assert "&lt;script&gt;alert(1)" in (tmp_path / "out" / "index.html").read_text()


def test_a_second_run_grades_only_what_is_new(homework, tmp_path):
    out = tmp_path / "out"
    assert grade_folder(assignment(), homework, out, progress=False, attempt=pretend).new == 3
    first = (out / "grades.csv").read_bytes()
    assert grade_folder(assignment(), homework, out, progress=False, attempt=pretend).new == 0
    assert (out / "grades.csv").read_bytes() == first
    (homework / "bob.ipynb").write_text(notebook(answers()))
    assert grade_folder(assignment(), homework, out, progress=False, attempt=pretend).new == 1
    other = Assignment("hw", "Homework", EXERCISES, (), seed=99, points={"02.1": 2})
    assert grade_folder(other, homework, out, progress=False, attempt=pretend).new == 3


def test_a_submission_that_cannot_be_graded_is_told_and_the_others_are_graded(homework, tmp_path):
    def breaks(submission, *rest, **options):
        if submission.student == "bob":
            raise OSError("no space left")
        return pretend(submission, *rest, **options)

    summary = grade_folder(assignment(), homework, tmp_path / "out", progress=False, attempt=breaks)
    assert dict(summary.failed)["bob"] == "OSError: no space left" and len(summary.graded) == 2
    row = next(row for row in table(tmp_path / "out") if row["student"] == "bob")
    assert row["state"] == "not gradable: OSError: no space left" and row["total"] == ""
    assert grade_folder(assignment(), homework, tmp_path / "out", progress=False, attempt=pretend).new == 1


def test_who_is_not_on_the_roster_and_who_handed_in_nothing(homework, tmp_path):
    summary = grade_folder(assignment("ann", "zoe"), homework, tmp_path / "out", progress=False, attempt=pretend)
    assert {student for student, _ in summary.failed} == {"bob", "=cmd", "dora"}
    assert {row["student"]: row["state"] for row in table(tmp_path / "out")}["zoe"] == "nothing handed in"


def test_two_runs_into_one_folder_and_a_lock_that_was_left(tmp_path):
    with hold_folder(tmp_path):
        with pytest.raises(InUse, match=str(os.getpid())):
            with hold_folder(tmp_path):
                pass
    (tmp_path / ".running").write_text("999999999 1.0")
    with hold_folder(tmp_path):
        pass
    assert not (tmp_path / ".running").exists()


def test_bad_settings_are_told(homework, tmp_path):
    with pytest.raises(ValueError, match="jobs must be at least 1, got 0"):
        grade_folder(assignment(), homework, tmp_path / "out", jobs=0)
    with pytest.raises(ValueError, match="seconds must be positive, got 0"):
        Limits(seconds=0)


def test_without_bubblewrap_it_refuses_and_says_what_to_do(homework, tmp_path, monkeypatch, capsys):
    from diffusion_course.classroom.sandbox import bubblewrap as sandbox

    monkeypatch.setattr(sandbox, "_problem", lambda: "bwrap is not on the PATH")
    save_assignment(assignment(), tmp_path / "assignment.json")
    with pytest.raises(SandboxMissing, match="apt install bubblewrap"):
        grade_folder(assignment(), homework, tmp_path / "out")
    assert main(["grade", str(homework), "--out", str(tmp_path / "out")]) == 2
    assert "--unsafe" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_unsafe_grades_and_says_what_is_not_protected(homework, tmp_path):
    summary = grade_folder(assignment(), homework, tmp_path / "out", progress=False, unsafe=True)
    assert {one.student: one.points for one in summary.graded}["ann"] == 3
    assert any("without a sandbox" in note for one in summary.graded for note in one.notes)


def test_the_command_line_builds_grades_and_explains(tmp_path, capsys):
    assert main(["build", "--lessons", "02", "--out", str(tmp_path / "hw"), "--seed", "1000000000000000003"]) == 0
    assert "6 exercises" in capsys.readouterr().out
    assert main(["build", "--lessons", "77", "--out", str(tmp_path / "no")]) == 2
    assert "no such lesson" in capsys.readouterr().err
    (tmp_path / "hw" / "handed").mkdir()
    assert find_assignment(tmp_path / "hw" / "handed") == tmp_path / "hw" / "instructor" / "assignment.json"
    assert main(["grade", str(tmp_path / "elsewhere"), "--out", str(tmp_path / "out")]) == 2
    assert "name it with --assignment" in capsys.readouterr().err


@needs_sandbox
@pytest.mark.slow
def test_the_solved_notebook_has_full_marks_and_the_blank_one_none(tmp_path):
    built = build_assignment("02,05", tmp_path / "hw", seed=10**18 + 4).assignment
    (tmp_path / "in").mkdir()
    for name, place in (("solved", "instructor/solved"), ("blank", "student")):
        (tmp_path / "in" / f"{name}.ipynb").write_bytes((tmp_path / "hw" / place / f"{built.name}.ipynb").read_bytes())
    summary = grade_folder(built, tmp_path / "in", tmp_path / "out", progress=False)
    points = {one.student: one.points for one in summary.graded}
    assert points == {"solved": built.exercise_points, "blank": 0}


SCRIPT = """
import sys, time
sys.path[:0] = {path!r}
from test_classroom_grading import assignment, pretend
from diffusion_course.classroom.grading.folder import grade_folder
from diffusion_course.classroom.grading.attempts import run_attempts
def slow(*args, **options):
    time.sleep(0.05)
    return pretend(*args, **options)
grade_folder(assignment(), {folder!r}, {out!r}, jobs=2, progress=False, attempt={attempt})
"""


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_and_the_table_is_the_same(tmp_path):
    count = int(os.environ.get("CLASSROOM_SUBMISSIONS", "12"))  # 200 in the release check, in the sandbox
    attempt = "run_attempts" if count >= 100 else "slow"
    folder, rng = tmp_path / "in", random.Random(1)
    folder.mkdir()
    for number in range(count):
        changed = {} if number % 3 else {"a1": NO_ROOT + f"# {number}\n"}
        (folder / f"student{number:03d}.ipynb").write_text(notebook(answers(**changed)))

    def start(out):
        path = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
        code = SCRIPT.format(path=path, folder=str(folder), out=str(out), attempt=attempt)
        return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, start_new_session=True)

    whole = start(tmp_path / "whole")
    assert whole.wait() == 0, whole.stderr.read()
    done = tmp_path / "killed" / "graded"
    for share in (0.2, 0.6):
        killed = start(tmp_path / "killed")
        while killed.poll() is None and len(list(done.glob("[!.]*"))) < share * count:
            time.sleep(0.02)
        time.sleep(rng.random() * 0.2)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        killed.stderr.close()
    before = {path.name: path.stat().st_mtime_ns for path in done.glob("[!.]*")}
    last = start(tmp_path / "killed")
    assert last.wait() == 0, last.stderr.read()
    whole.stderr.close()
    last.stderr.close()
    assert len(before) >= 0.6 * count and {name: (done / name).stat().st_mtime_ns for name in before} == before
    for name in ("grades.csv", "results.json", "similarity.csv", "copies.html", "feedback.zip", "index.html"):
        files = [(tmp_path / out / name).read_bytes() for out in ("killed", "whole")]
        same = [re.sub(rb">[0-9.]+</td>", b"", one) for one in files] if name == "index.html" else files  # seconds differ
        assert same[0] == same[1], name
    assert len((tmp_path / "whole" / "grades.csv").read_text().splitlines()) == count + 1
