"""Every attack ends with the points that it must, the run ends, and the host is as it was."""

import psutil
import pytest
from attacks import ATTACKS, EXERCISES, SECRET, cells

from diffusion_course.classroom.assignment.assignment import Assignment
from diffusion_course.classroom.grading.attempts import run_attempts
from diffusion_course.classroom.grading.run import grade_one
from diffusion_course.classroom.records import Cell, Submission
from diffusion_course.classroom.sandbox.bubblewrap import course_copy, sandbox_available
from diffusion_course.classroom.sandbox.limits import Limits

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not sandbox_available(), reason="bubblewrap is not usable here")]
ASSIGNMENT = Assignment("attacks", "Attacks", EXERCISES, (), seed=77)
LIMITS = Limits(seconds=60, seconds_per_cell=6, seconds_per_call=5, memory_mib=1500, disk_mib=32)


@pytest.fixture(scope="module")
def course():
    with course_copy() as folder:
        yield folder


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A file beside the submission and a variable in the grader's environment that nothing may reach."""
    monkeypatch.setenv("CANARY", SECRET)
    (tmp_path / "assignment.json").write_text(SECRET)
    return tmp_path


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name.replace(" ", "-"))
def test_an_attack_ends_with_its_points(attack, course, canary):
    made = tuple(Cell(source, name) for name, source in cells(attack))
    submission = Submission("mallory", canary / "mallory.ipynb", "0", made)
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    graded = grade_one(ASSIGNMENT, submission, LIMITS, unsafe=False, course=course, attempt=run_attempts)
    assert tuple(mark.points for mark in graded.marks) == attack.points, [mark.feedback for mark in graded.marks]
    said = repr(graded)
    assert SECRET not in said and "found" not in said and "connected" not in said and "wrote to" not in said
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before
    assert [path.name for path in canary.iterdir()] == ["assignment.json"]
