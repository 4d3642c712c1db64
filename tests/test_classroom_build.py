"""Assignments: what students get gives nothing away, what instructors get is right, and nobody's numbers are another's."""

import contextlib
import io
import itertools
import json
import re
import tomllib
from pathlib import Path

import nbformat
import pytest
import torch

from diffusion_course import check
from diffusion_course.classroom.assignment import build, hidden, notebooks
from diffusion_course.classroom.assignment.assignment import (
    Assignment,
    load_assignment,
    save_assignment,
)
from diffusion_course.classroom.assignment.build import build_assignment
from diffusion_course.classroom.assignment.choice import parse_lessons
from diffusion_course.classroom.assignment.manual import ManualQuestion, all_questions, get_question
from diffusion_course.classroom.assignment.roster import read_roster
from diffusion_course.classroom.assignment.rubric import parse_questions
from diffusion_course.classroom.grading import journal
from diffusion_course.classroom.records import Student
from diffusion_course.exercises.engine import evaluate, make_cases
from diffusion_course.exercises.registry import all_exercises, get_exercise
from diffusion_course.exercises.solutions import stand_alone
from diffusion_course.exercises.trial import run_case

EXERCISES = all_exercises()
VALUES = [exercise for exercise in EXERCISES if exercise.is_value]
every_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.id)
every_value = pytest.mark.parametrize("exercise", VALUES, ids=lambda exercise: exercise.id)
every_lesson = pytest.mark.parametrize("lesson", sorted({exercise.lesson for exercise in EXERCISES}))
ANN, BOB = "ann.k", "bob-7"


@pytest.fixture(autouse=True)
def no_progress_file(monkeypatch):
    monkeypatch.setenv("DIFFUSION_COURSE_PROGRESS", "off")


@pytest.fixture
def roster(tmp_path):
    path = tmp_path / "roster.csv"
    path.write_text(f"id,name\n{ANN},Ann\n{BOB},Bob\n", encoding="utf-8")
    return path


def choices(exercise):
    """The exercise with every combination of the numbers that it offers."""
    for combination in itertools.product(*exercise.parameters.values()):
        yield exercise.with_parameters(**dict(zip(exercise.parameters, combination, strict=True)))


def an_assignment(*exercises, roster=(), seed=512345, manual=()):
    return Assignment("week", "A week", exercises, manual, seed, tuple(map(Student, roster)))


def read(path):
    return nbformat.read(path, as_version=4)


def parsed(notebook):
    return nbformat.reads(notebooks.to_bytes(notebook).decode(), as_version=4)


def text_of(notebook):
    return "\n".join(cell.source for cell in notebook.cells)


def answers(notebook):
    """Run the setup and answer cells one after the other; return answer name -> object and the checks' output."""
    namespace, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        for cell in notebook.cells:
            if cell.cell_type == "code":
                exec(cell.source, namespace)
    return namespace, printed.getvalue()


def without(source, begin, end, instead=""):
    """What nbgrader makes of a cell: the lines from `begin` to `end` replaced."""
    return re.sub(rf"^### {begin}\n.*?^### {end}$", instead, source, flags=re.DOTALL | re.MULTILINE)


# Solutions


@every_exercise
def test_the_shown_solution_stands_alone_and_is_right_for_every_offered_number(exercise):
    for bound in choices(exercise):
        namespace = {"torch": torch}
        exec(bound.solution_source(), namespace)
        for seed in (0, 987654321):
            assert evaluate(bound, namespace[bound.answer_name], seed=seed).status == "right", bound.chosen


def test_annotations_are_taken_out_and_nothing_else():
    def f(x: torch.Tensor, *rest: "int", y: dict[str, int] | None = None, **more: object) -> tuple[float, ...]:
        # a comment: with -> an arrow and an é
        def inner(é: int) -> int:
            return é

        return inner(1), f"{x:>3}"

    assert stand_alone(f).splitlines() == [
        "def f(x, *rest, y = None, **more):",
        "    # a comment: with -> an arrow and an é",
        "    def inner(é):",
        "        return é",
        "",
        '    return inner(1), f"{x:>3}"',
    ]


# Numbers of one's own


@every_value
def test_enough_numbers_are_offered_and_no_answer_passes_for_another(exercise):
    offered = list(choices(exercise))
    assert len(offered) >= 12
    for one, other in itertools.permutations(offered, 2):
        assert evaluate(one, other.reference(**other.chosen)).status == "wrong", (one.chosen, other.chosen)


@every_value
def test_numbers_are_spread_over_the_roster_and_the_secret_seed_decides(exercise):
    students = [f"s{i}" for i in range(200)]
    drawn = {}
    for seed in (1, 2):
        assignment = an_assignment(exercise.id, roster=students, seed=seed)
        drawn[seed] = [tuple(assignment.exercise(exercise.id, one).chosen.values()) for one in students]
    counts = [drawn[1].count(one) for one in set(drawn[1])]
    assert len(counts) == len(list(choices(exercise))) and max(counts) < 3 * 200 / len(counts)
    assert sum(a == b for a, b in zip(*drawn.values(), strict=True)) < 60


def test_a_late_student_changes_nobody_elses_numbers():
    before, after = (an_assignment("02.5", "01.4", roster=ids) for ids in (["ann", "bob"], ["zoe", "ann", "bob"]))
    for one in ("ann", "bob"):
        assert before.exercise("02.5", one).chosen == after.exercise("02.5", one).chosen
        assert before.case_seed("01.4", one) == after.case_seed("01.4", one)


def test_everybody_gets_the_lessons_numbers_without_a_roster():
    assignment = an_assignment("02.5", "02.1")
    for one in ("", "ann", "whoever"):
        assert assignment.exercise("02.5", one).chosen == get_exercise("02.5").chosen
        assert assignment.case_seed("02.1", one) == assignment.case_seed("02.1")
    assert not assignment.has_own_numbers and an_assignment("02.5", roster=["ann"]).has_own_numbers
    assert not an_assignment("02.1", roster=["ann"]).has_own_numbers


def test_hidden_cases_differ_by_student_exercise_and_seed_and_are_none_that_check_uses():
    students = [f"s{i}" for i in range(50)]
    seeds = {
        assignment.case_seed(exercise.id, one)
        for assignment in (an_assignment(*(e.id for e in EXERCISES), roster=students, seed=seed) for seed in (1, 2))
        for exercise in EXERCISES
        for one in students
    }
    assert len(seeds) == 2 * len(EXERCISES) * len(students) and min(seeds) > 10


def test_who_and_what_is_not_in_the_assignment_is_refused():
    assignment = an_assignment("02.1", roster=["anna", "bob"])
    with pytest.raises(LookupError, match=r"student 'ana' is not on the roster of week \(2 students\)\. Near it: anna"):
        assignment.exercise("02.1", "ana")
    with pytest.raises(LookupError, match="student '' is not on the roster"):
        assignment.case_seed("02.1", "")
    with pytest.raises(LookupError, match="exercise '02.2' is not in week, which has 02.1"):
        assignment.exercise("02.2", "bob")


def test_check_takes_the_numbers_of_an_assignment(capsys):
    exercise = get_exercise("02.5").with_parameters(num_steps=150)
    value = exercise.reference(**exercise.chosen)
    assert check("02.5", value, num_steps=150).status == "right"
    assert check("02.5", value).status == "wrong"
    with pytest.raises(ValueError, match="num_steps=7 is not offered"):
        check("02.5", value, num_steps=7)


# Notebooks, lesson by lesson


@every_lesson
def test_an_assignment_of_the_lesson(lesson, tmp_path, roster):
    built = build_assignment(lesson, tmp_path / "out", roster=roster, seed=10**18 + 77)
    assignment, out = built.assignment, built.folder
    file = f"lesson-{lesson:02d}.ipynb"
    assert [one.lesson for one in map(get_exercise, assignment.exercises)] == [lesson] * len(all_exercises(lesson))
    assert load_assignment(out / "instructor" / "assignment.json") == assignment
    for student in (ANN, BOB):
        given, solved = (read(out / place / student / file) for place in ("student", "instructor/solved"))
        for notebook in (given, solved):
            nbformat.validate(notebook)
            assert notebook.nbformat_minor == 5 and len({cell.id for cell in notebook.cells}) == len(notebook.cells)
            assert notebook.metadata["diffusion_course"]["student"] == student
        assert [cell.id for cell in given.cells] == [cell.id for cell in solved.cells]
        gives_nothing_away(assignment, student, given)
        namespace, printed = answers(solved)
        blank, complaint = answers(given)
        assert printed.count(" is right") == complaint.count("not answered yet") == len(assignment.exercises)
        for one in assignment.exercises:
            exercise, seed = assignment.exercise(one, student), assignment.case_seed(one, student)
            assert evaluate(exercise, namespace[exercise.answer_name], seed=seed).status == "right"
            assert evaluate(exercise, blank[exercise.answer_name], seed=seed).status == "unanswered"
    for exercise in (assignment.exercise(one, ANN) for one in assignment.exercises):
        theirs = assignment.exercise(exercise.id, BOB)
        if exercise.chosen != theirs.chosen:
            leaked = exercise.reference(**exercise.chosen)
            assert evaluate(theirs, leaked).status == "wrong"


def gives_nothing_away(assignment, student, notebook):
    """No line of a solution or rubric, nothing of a hidden case, no secret seed."""
    text = text_of(notebook)
    exercises = [assignment.exercise(one, student) for one in assignment.exercises]
    shown = "\n".join(one.render(f"{one.stub}\n{one.statement}") for one in exercises)
    own = {line.strip() for one in exercises for line in one.solution_source().splitlines()}
    secret = [line for line in own if len(line.replace(" ", "")) >= 12 and line not in shown]
    assert len(secret) >= 3
    secret += [words for one in assignment.manual for _, words in get_question(one).rubric]
    secret += ["BEGIN SOLUTION", "HIDDEN TESTS", "evaluate", str(assignment.seed)]
    for one in exercises:
        seed = assignment.case_seed(one.id, student)
        secret.append(str(seed))
        if one.is_value:
            value = repr(one.reference(**one.chosen))
            secret.append(value[:6] if len(value) >= 6 else f"= {value}")
        else:
            cases = make_cases(one, seed)
            outputs = [run_case(one, one.reference, case).output for case in cases]
            secret += [case.note for case in cases if len(case.note) >= 12 and case.note not in shown]
            for tensor in tensors((outputs, [(case.args, dict(case.kwargs)) for case in cases])):
                for number in tensor.double().flatten()[:20].tolist():
                    secret += [f"{number:.4f}"] if abs(number) > 0.01 and number != round(number, 3) else []
    for piece in secret:
        assert piece not in text, piece


def tensors(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors(item)


def test_a_leak_would_be_found():
    assignment = an_assignment("02.5", "02.6", "02.1")
    notebook = parsed(notebooks.make_notebook(assignment))
    gives_nothing_away(assignment, "", notebook)
    number = make_cases(get_exercise("02.1"), assignment.case_seed("02.1"))[1].args[0][0, 0].item()
    leaks = "roots = (1 - betas).cumprod(0).sqrt()", str(assignment.case_seed("02.1")), str(get_exercise("02.5").reference(80)), str(number)
    for leak in leaks:
        spoiled = parsed(notebooks.make_notebook(assignment))
        spoiled.cells[3].source += f"  # {leak}"
        with pytest.raises(AssertionError):
            gives_nothing_away(assignment, "", spoiled)


@every_lesson
def test_nbgraders_source_of_the_lesson(lesson):
    """What its ClearSolutions and ClearHiddenTests cut, cut here; the hidden tests pass for solutions and for nothing else."""
    manual = tuple(question.id for question in all_questions(lesson))
    assignment = an_assignment(*(exercise.id for exercise in all_exercises(lesson)), manual=manual)
    source, student = (parsed(notebooks.make_notebook(assignment, kind)) for kind in ("source", "student"))
    nbformat.validate(source)
    released = [without(cell.source, "BEGIN SOLUTION", "END SOLUTION", notebooks.BLANK_TEXT if cell.cell_type == "markdown" else "")
                for cell in source.cells]
    released = [without(text, "BEGIN HIDDEN TESTS", "END HIDDEN TESTS") for text in released]
    assert [text.strip() for text in released] == [cell.source.strip() for cell in student.cells]
    cells = {cell.id: cell.source for cell in source.cells}
    setup = {}
    exec(cells["setup"], setup)
    for exercise in all_exercises(lesson):
        part = exercise.id.replace(".", "-")
        wrong = exercise.wrong_answers[0].function
        spoiled = {exercise.answer_name: wrong(**exercise.chosen) if exercise.is_value else wrong}
        for answer in (cells[f"answer-{part}"], exercise.render(exercise.stub), spoiled, {exercise.answer_name: exercise.reference}, ""):
            namespace = dict(setup)
            if isinstance(answer, str):
                exec(answer, namespace)
            else:
                namespace |= answer
            with contextlib.redirect_stdout(io.StringIO()):
                if "BEGIN SOLUTION" in answer:
                    exec(cells[f"check-{part}"], namespace)
                else:
                    with pytest.raises((AssertionError, NameError)):
                        exec(cells[f"check-{part}"], namespace)


def test_the_marks_that_nbgrader_and_the_grader_read():
    notebook = notebooks.make_notebook(an_assignment("02.1", "02.5", manual=("02.m1",), roster=["ann"]), "student", "ann")
    marks = {cell["id"]: cell["metadata"]["nbgrader"] for cell in notebook["cells"]}
    assert list(marks) == ["intro", "setup", "statement-02-1", "answer-02-1", "check-02-1", "statement-02-5", "answer-02-5",
                           "check-02-5", "question-02-m1", "manual-02-m1"]
    fixed = {"schema_version": 3, "task": False, "locked": False, "solution": False, "grade": False}
    assert marks["statement-02-1"] == fixed | {"grade_id": "statement-02-1", "cell_type": "markdown", "locked": True}
    assert marks["answer-02-1"] == fixed | {"grade_id": "answer-02-1", "cell_type": "code", "solution": True}
    assert marks["check-02-1"] == fixed | {"grade_id": "check-02-1", "cell_type": "code", "locked": True, "grade": True, "points": 1}
    assert marks["manual-02-m1"] == fixed | {"grade_id": "manual-02-m1", "cell_type": "markdown", "solution": True, "grade": True,
                                             "points": get_question("02.m1").points}
    assert notebook["metadata"]["diffusion_course"]["assignment"] == "week"


def test_a_students_own_numbers_are_in_statement_and_check():
    assignment = an_assignment("02.5", "12.1", roster=[f"s{i}" for i in range(9)])
    for student in ("s1", "s2", "s3", "s4", "s5"):
        chosen = assignment.exercise("02.5", student).chosen["num_steps"]
        cells = {cell["id"]: "".join(cell["source"]) for cell in notebooks.make_notebook(assignment, "student", student)["cells"]}
        assert f"T = {chosen} instead of 1000" in " ".join(cells["statement-02-5"].split())
        given = "" if chosen == 80 else f", num_steps={chosen}"
        assert cells["check-02-5"] == f'result = check("02.5", factor{given})'
        pixels = assignment.exercise("12.1", student).chosen["pixels"]
        assert f"{pixels} x {pixels} pixels" in cells["answer-12-1"] and "<<" not in "".join(cells.values())
    with pytest.raises(ValueError, match="other numbers for each student: nbgrader cannot hand it out"):
        notebooks.make_notebook(assignment, "source")
    with pytest.raises(LookupError, match="not on the roster"):
        notebooks.make_notebook(assignment, "student", "s99")


# Files


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_for_a_roster(tmp_path, roster):
    built = build_assignment("02,04", tmp_path / "out", roster=roster, seed=10**18 + 3, name="week3", title="The third week")
    names = {f"{place}/{student}/week3.ipynb" for place in ("student", "instructor/solved") for student in (ANN, BOB)}
    assert set(files(built.folder)) == names | {"instructor/assignment.json", "instructor/hidden_cases.md"}
    assert "nbgrader hands the same notebook to everybody" in built.notes[0]
    assert "# The third week" in text_of(read(built.folder / "student" / ANN / "week3.ipynb"))
    printed = str(built)
    assert printed.startswith("week3: 12 exercises with 22 points, 5 manual questions with 17 points, 2 students\n")
    assert f"student/{ANN}/week3.ipynb (and 1 more)" in printed and BOB not in printed
    assert built.assignment.max_points == 39 and built.assignment.exercise_points == 22
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_folder_for_everybody(tmp_path):
    built = build_assignment(["06"], tmp_path / "deep" / "out", manual=False)
    assert set(files(built.folder)) == {
        "student/lesson-06.ipynb", "instructor/solved/lesson-06.ipynb", "source/lesson-06/lesson-06.ipynb", "nbgrader_config.py",
        "instructor/assignment.json", "instructor/hidden_cases.md"}
    assert built.notes == () and "manual" not in text_of(read(built.folder / "student" / "lesson-06.ipynb"))
    again = build_assignment(6, tmp_path / "other", manual=False)
    assert again.assignment.seed != built.assignment.seed, "a secret seed is drawn"


def test_a_roster_and_nbgrader_go_together_where_no_number_differs(tmp_path, roster):
    built = build_assignment("06", tmp_path / "out", roster=roster, seed=10**18 + 1)
    assert built.notes == () and (built.folder / "source" / "lesson-06" / "lesson-06.ipynb").is_file()


def test_the_same_seed_and_roster_give_the_same_bytes(tmp_path, roster):
    first, again, other = (
        files(build_assignment("01,02,09", tmp_path / name, roster=roster, seed=seed).folder)
        for name, seed in (("a", 10**18), ("b", 10**18), ("c", 10**18 + 1))
    )
    assert first == again
    assert first["instructor/hidden_cases.md"] != other["instructor/hidden_cases.md"]


def test_only_questions_in_words(tmp_path):
    built = build_assignment(0, tmp_path / "out")
    assert built.assignment.exercises == () and built.assignment.manual == ("00.m1",)
    nbformat.validate(read(built.folder / "source" / "lesson-00" / "lesson-00.ipynb"))
    with pytest.raises(ValueError, match="at least one exercise or manual question"):
        build_assignment(0, tmp_path / "none", manual=False)


def test_nothing_is_overwritten_and_nothing_is_left_half_done(tmp_path, monkeypatch):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="kept is there already. Remove it or name another folder"):
        build_assignment("02", kept)
    assert files(kept) == {"mine.txt": b"mine"}
    empty = tmp_path / "empty"
    empty.mkdir()
    build_assignment("02", empty)

    def fails(assignment):
        raise OSError("the disk is full")

    monkeypatch.setattr(build, "describe_cases", fails)
    with pytest.raises(OSError, match="disk is full"):
        build_assignment("02", tmp_path / "new")
    assert {path.name for path in tmp_path.iterdir()} == {"kept", "empty"}


@pytest.mark.parametrize(("given", "numbers"), [("02,04", (2, 4)), (2, (2,)), ("2", (2,)), (["04", 2, "2"], (2, 4)), ("0", (0,))])
def test_lessons_are_read(given, numbers):
    assert parse_lessons(given) == numbers


@pytest.mark.parametrize(
    ("given", "message"),
    [("13", "no such lesson: 13. There are 00, 01"), ("2,x", "no such lesson: x"), ("", "no lesson is given"), ("-1", "lesson: -1")],
)
def test_lessons_that_do_not_exist_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        parse_lessons(given)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"name": "../up"}, ValueError, "the name '../up' must be letters"),
        ({"seed": -1}, ValueError, "the seed must be a whole number"),
        ({"seed": "7"}, ValueError, "the seed must be a whole number"),
        ({"roster": "nowhere.csv"}, FileNotFoundError, r"there is no file nowhere.csv \(the roster\)"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        build_assignment("02", tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


# Single exercises


def test_single_exercises_are_asked_beside_or_instead_of_lessons(tmp_path):
    week = build_assignment(None, tmp_path / "week", exercises="02.5, 01.3,02.m1,01.1", points={"01.1": 3}).assignment
    assert (week.exercises, week.manual) == (("01.1", "01.3", "02.5"), ("02.m1",)), "in the order of the course"
    assert week.points == {"01.1": 3, "01.3": 2, "02.5": 1}
    assert (week.name, week.title) == ("exercises-01-1-01-3-02-5-02-m1", "Exercises 01.1, 01.3, 02.5, 02.m1")
    both = build_assignment("08", tmp_path / "both", exercises=["06.1"], manual=False).assignment
    assert both.exercises == ("06.1", *(one.id for one in all_exercises(8))) and both.manual == ()
    assert both.name == "lesson-08-exercise-06-1"


@pytest.mark.parametrize(("lessons", "options", "message"), [
    (None, {}, "nothing to ask is given: name lessons, exercises, or both"), (None, {"exercises": "02.9"}, "no such exercise or question: '02.9'. Near it: 02"),
    (None, {"exercises": "02.1,02.1"}, "given twice among the exercises: 02.1"), (None, {"exercises": ","}, "no exercise is given"),
    (None, {"exercises": "02.m1", "manual": False}, "02.m1 is asked for, and questions in words are not"),
    (None, {"exercises": [one.id for one in EXERCISES]}, "the assignment needs a name: give it with --name"),
    ("02", {"points": {"03.1": 2}}, "points: '03.1' is no exercise of the assignment"),
])
def test_a_choice_that_cannot_be_meant_is_refused(tmp_path, lessons, options, message):
    with pytest.raises(ValueError, match=message):
        build_assignment(lessons, tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


# The instructor's page


def test_the_page_of_hidden_cases_lists_every_case_and_number():
    assignment = an_assignment("02.1", "02.5", "02.6", roster=["ann", "bob"])
    page = hidden.describe_cases(assignment)
    for case in make_cases(get_exercise("02.1"), assignment.case_seed("02.1", "ann")):
        assert f"| {case.note} | {hidden.describe_case(get_exercise('02.1'), case)} |" in page
    assert "x0 float16 (2, 1, 4, 3), t int64 (2,)" in page
    for student in ("ann", "bob"):
        exercise = assignment.exercise("02.5", student)
        assert f"| {student} | {exercise.chosen['num_steps']} | {exercise.reference(**exercise.chosen):.6g} |" in page
        assert hidden.digest(make_cases(get_exercise("02.6"), assignment.case_seed("02.6", student))) in page


@every_exercise
def test_the_digest_stands_for_the_values(exercise):
    first, again, other = (hidden.digest(make_cases(exercise, seed)) for seed in (100, 100, 101))
    assert first == again and re.fullmatch("[0-9a-f]{12}", first)
    assert exercise.is_value or first != other


# The assignment's file


def test_an_assignment_survives_its_file(tmp_path):
    assignment = Assignment("w-1", "Größen", ("02.1", "02.5"), ("02.m1",), 2**62 - 1, (Student("ann", "Ann Ö"), Student("b.c")))
    save_assignment(assignment, tmp_path / "a.json")
    assert load_assignment(tmp_path / "a.json") == assignment


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("seed"), "is damaged: KeyError, 'seed'"),
        (lambda c: c.update(seed="7"), "the seed must be a whole number"),
        (lambda c: c.update(format=9), r"not an assignment of format 2 \(found 9\)"),
        (lambda c: c.update(exercises=["02.99"]), "there is no exercise '02.99'"),
        (lambda c: c.update(manual=["02.m9"]), "there is no manual question '02.m9'"),
        (lambda c: c.update(exercises=[7]), "is damaged"),
        (lambda c: c.update(exercises=["02.1", "02.1"]), "a exercise is listed twice"),
        (lambda c: c.update(roster=["ann"]), "is damaged"),
        (lambda c: c.update(roster=[{"id": "../x", "name": ""}]), "is no safe file name"),
        (lambda c: c["choices"]["02.5"].update(num_steps=[1, 2]), "was built when 02.5 offered other numbers"),
    ],
)
def test_a_damaged_assignment_file_is_explained(tmp_path, change, message):
    path = tmp_path / "a.json"
    save_assignment(an_assignment("02.1", "02.5", roster=["ann"]), path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        load_assignment(path)
    assert str(path) in str(caught.value)


def test_no_assignment_file_and_no_json(tmp_path):
    with pytest.raises(FileNotFoundError, match="`build` writes it"):
        load_assignment(tmp_path / "a.json")
    for text in ("{", "[]"):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(ValueError, match="is not"):
            load_assignment(tmp_path / "a.json")


# The roster


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_rosters_are_read(tmp_path, encoding, separator):
    lines = ["Name,ID,group", "Ann Müller,ann@uni.edu,1", "", '"Lee", b_2 ,2', ",c.3"]
    (tmp_path / "r.csv").write_bytes("\r\n".join(lines).replace(",", separator).encode(encoding))
    assert read_roster(tmp_path / "r.csv") == (Student("ann@uni.edu", "Ann Müller"), Student("b_2", "Lee"), Student("c.3"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("name\nann\n", "a column named id is needed once; the first line has 'name'"),
        ("id,id\na,b\n", "a column named id is needed once; the first line has 'id', 'id'"),
        ("id,name\n", "holds no student"),
        ("id,name\nann,A\n,B\n", "row 3, column id: '' is empty"),
        ("name,id\nA\n", "row 2, column id: '' is empty"),
        ("id\nann\nbob\nann\n", "row 4, column id: 'ann' stands in .*row 2 already"),
        ("id\nann\n\nAnn\n", "row 4, column id: 'Ann' and 'ann', which differ in capitals only, stand in .*row 2 already"),
        ("id\n../ann\n", r"row 2, column id: '\.\./ann' is no safe file name"),
        ("id\nan n\n", "row 2, column id: 'an n' is no safe file name"),
        ("id\n.ann\n", "is no safe file name"),
        ("id\nann.\n", "is no safe file name"),
        ("id\nmüller\n", "is no safe file name"),
        ("id\nCON\n", "is the name of a device on Windows"),
        ("id\nann.ZIP\n", "ends like a submission's file"),
        (f"id\n{'a' * 65}\n", "has 65 characters, at most 64"),
        ("id,name\nann,Lee, Ann\n", "row 2 has 3 cells, and there are 2 columns. A cell that holds ',' needs quotes"),
        ("id;name\n1,2E+15;Ann\n", r"row 2, column id: '1,2E\+15' was rewritten by a spreadsheet, and its digits are lost"),
        ("id,exercise,points,reason\nann,02.1,1,why\n", "has a column 'exercise': it is a table of points, not the list of students"),
        ("id,name,Name\nann,A,B\n", "has 2 columns called name"),
        ('id,name\nann,"A\n', "line 2: unexpected end of data"),
    ],
)
def test_bad_rosters_are_refused_with_the_line(tmp_path, text, message):
    path = tmp_path / "r.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        read_roster(path)
    assert str(path) in str(caught.value)


def test_columns_of_a_roster_that_are_not_read_are_named_and_lines_for_excel_are_none(tmp_path):
    (tmp_path / "r.csv").write_text("\nsep=;\n;;\nId;Full Name;;;\nann;Ann, L.;3;;\n1e5;;;;\n")
    notes = build_assignment("01", tmp_path / "out", roster=tmp_path / "r.csv").notes
    assert "id and name are read, and nothing else ('Full Name', ''). To have the students' names, call their column name" in notes[0]
    assert [one.id for one in read_roster(tmp_path / "r.csv")] == ["ann", "1e5"]


def test_a_roster_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "r.csv").write_bytes("id,name\nann,Müller\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"is not in UTF-8 \(byte 13\)"):
        read_roster(tmp_path / "r.csv")


# Manual questions


GONE = ("01.m2",)  # it became 02.m3; an id is never given twice


def test_every_lesson_has_a_question_with_a_rubric():
    assert {question.lesson for question in all_questions()} == set(range(13))
    assert len(all_questions()) >= 14
    assert len({question.id for question in all_questions()}) == len({question.title for question in all_questions()}) == len(all_questions())
    for lesson in range(13):
        own = all_questions(lesson)
        there = (f"{lesson:02d}.m{k}" for k in range(1, len(own) + 2))
        assert [question.id for question in own] == [one for one in there if one not in GONE][: len(own)]
    for question in all_questions():
        assert 2 <= question.points <= 4 and len(question.rubric) >= 3
        assert "!" not in question.prompt + "".join(words for _, words in question.rubric)
        assert question.prompt.count("$") % 2 == 0 and question.prompt.rstrip()[-1] in "?."


def test_questions_that_contradict_themselves_are_refused():
    with pytest.raises(LookupError, match="there is no manual question '13.m1'. There are: 00.m1"):
        get_question("13.m1")
    for change in ({"id": "03.m1"}, {"id": "02.1"}, {"title": " "}, {"rubric": ()}, {"rubric": ((0, "nothing"),)}):
        with pytest.raises(ValueError, match="question '"):
            ManualQuestion(**({"id": "02.m1", "lesson": 2, "title": "t", "prompt": "p", "rubric": ((1, "x"),)} | change))


def test_a_question_is_read_from_markdown():
    text = "# 02.m1 A title: of two\n\nWhat is $x$?\n\n- not an entry\n\n- 1 point: first,\n  on two lines\n- 1.5 points: second\n\n# 02.m2 More\n\nWhy?\n\n- 2 points: so\n"
    first, second = parse_questions(text)
    assert (first.id, first.lesson, first.title, first.prompt) == ("02.m1", 2, "A title: of two", "What is $x$?\n\n- not an entry")
    assert first.rubric == ((1, "first, on two lines"), (1.5, "second")) and second.rubric == ((2, "so"),)
    assert [repr(one.points) for one in (first, second)] == ["2.5", "2"]  # whole points are written as whole numbers
    assert parse_questions(" \n") == ()


@pytest.mark.parametrize(("text", "message"), [
    ("text\n# 02.m1 T\n\np\n\n- 1 point: x\n", "begin with a heading"), ("## 02.m1 T\n", "begin with a heading"),
    ("# 02.m1 T\n\np\n\n- 1 point: x\nnot indented\n", "question '02.m1': 'not indented' is no entry"), ("# 02.m1 T\n\n- 1 point: x\n", "prompt is empty"),
    ("# 02.m1 T\n\np\n", "every entry of the rubric"), ("# 02.m0 T\n\np\n\n- 1 point: x\n", "the id must be 02.mK"), ("# 02.m1 T\n\np\n\n- 0 points: x\n", "points above 0"),
])
def test_markdown_that_is_no_question_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_questions(text)


def test_the_questions_are_part_of_the_package_and_of_what_marks_depend_on(monkeypatch, tmp_path):
    root = Path(__file__).resolve().parents[1]
    shipped = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    folder = root / "diffusion_course" / "classroom" / "assignment"
    files = {path for pattern in shipped["diffusion_course.classroom.assignment"] for path in folder.glob(pattern)}
    assert files == {path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")} and len(files) == 13
    (tmp_path / "classroom").mkdir()
    (tmp_path / "classroom" / "lesson.md").write_text("1 point")
    monkeypatch.setattr(journal, "PACKAGE", tmp_path)
    before = journal.grading_key(an_assignment("02.1"), "")
    (tmp_path / "classroom" / "lesson.md").write_text("2 points")
    assert journal.grading_key(an_assignment("02.1"), "") != before
