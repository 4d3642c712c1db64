"""nbgrader itself releases and marks what `build` writes for it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from diffusion_course.classroom.assignment.build import build_assignment
from diffusion_course.exercises.registry import get_exercise

pytest.importorskip("nbgrader")
pytestmark = pytest.mark.slow
NAME = "lesson-02"


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course folder with the source; `run` calls nbgrader there, in an environment of its own."""
    home = tmp_path_factory.mktemp("home")
    folder = home / "course"
    built = build_assignment(2, folder, seed=10**18 + 424242)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # nbgrader calls `alembic` by name
    own = {name: str(home / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    environment = os.environ | own | {"PATH": path, "DIFFUSION_COURSE_PROGRESS": "off", "OMP_NUM_THREADS": "1"}

    def run(*arguments):
        done = subprocess.run([sys.executable, "-m", "nbgrader", *arguments], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stderr

    run("generate_assignment", NAME)
    return folder, built, run


def read(path):
    return nbformat.read(path, as_version=4)


def answered(notebook, answer):
    """The released notebook with `answer(exercise)` below what stands in each answer cell."""
    for cell in notebook.cells:
        if cell.id.startswith("answer-"):
            cell.source += "\n" + answer(get_exercise(cell.id.removeprefix("answer-").replace("-", ".")))
    return notebook


def wrong(exercise):
    """An answer that is defined, runs, and is not right."""
    if exercise.is_value:
        return f"{exercise.answer_name} = 0.123"
    return f"def {exercise.answer_name}(first, *rest, **more):\n    return first"


def scores(folder):
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as gradebook:
        found = {}
        for submission in gradebook.assignment_submissions(NAME):
            (notebook,) = submission.notebooks
            found[submission.student.id] = {grade.name: (grade.auto_score, grade.max_score, grade.needs_manual_grade) for grade in notebook.grades}
        return found


def test_the_release_is_the_students_notebook(course):
    folder, _, _ = course
    released, student = (read(folder / place / f"{NAME}.ipynb") for place in (f"release/{NAME}", "student"))
    assert [cell.id for cell in released.cells] == [cell.id for cell in student.cells]
    for theirs, ours in zip(released.cells, student.cells, strict=True):
        text = theirs.source.strip().removesuffix("# Write your answer above, in place of the `...`.").strip()
        assert text == ours.source.strip()
        marks, own = theirs.metadata["nbgrader"], ours.metadata["nbgrader"]
        assert {name: marks[name] for name in own if name != "cell_type"} == {n: v for n, v in own.items() if n != "cell_type"}


def test_autograde_gives_the_points_of_right_wrong_and_blank_answers(course):
    folder, built, run = course
    release = folder / "release" / NAME / f"{NAME}.ipynb"
    solutions = {student: answer for student, answer in (("right", lambda one: one.solution_source()), ("wrong", wrong), ("blank", None))}
    for student, answer in solutions.items():
        target = folder / "submitted" / student / NAME / f"{NAME}.ipynb"
        target.parent.mkdir(parents=True)
        if answer is None:
            shutil.copy(release, target)
        else:
            nbformat.write(answered(read(release), answer), target)
    run("autograde", NAME)
    found = scores(folder)
    exercises = built.assignment.exercises
    points = {f"check-{one.replace('.', '-')}": get_exercise(one).points for one in exercises}
    manual = {f"manual-{one.replace('.', '-')}" for one in built.assignment.manual}
    assert set(found) == {"right", "wrong", "blank"}
    for student, grades in found.items():
        assert set(grades) == set(points) | manual
        assert {name: grades[name][1] for name in points} == points
        assert {name: grades[name][0] for name in points} == {name: points[name] if student == "right" else 0 for name in points}
    assert sum(points.values()) == built.assignment.exercise_points
    assert sum(maximum for _, maximum, _ in found["right"].values()) == built.assignment.max_points
