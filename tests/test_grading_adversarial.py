"""Every attack ends with the points that it must, the run ends, and the host is as it was.

One worker serves attack after attack, as it serves the runs of one submission: starting PyTorch anew for each takes longer than
the attacks do. So each attack is also tried on those that follow it; the control at the end says so if one got through.
"""

import psutil
import pytest
from attacks import ATTACKS, EXERCISES, HONEST, SECRET, Attack, cells

from diffusion_course.classroom.assignment.assignment import Assignment
from diffusion_course.classroom.grading.attempts import run_attempts
from diffusion_course.classroom.grading.folder import grade_one
from diffusion_course.classroom.records import Cell, Submission
from diffusion_course.classroom.sandbox import reuse
from diffusion_course.classroom.sandbox.bubblewrap import course_copy, sandbox_available
from diffusion_course.classroom.sandbox.handle import WorkerHandle
from diffusion_course.classroom.sandbox.limits import Limits

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not sandbox_available(), reason="bubblewrap is not usable here")]
ASSIGNMENT = Assignment("attacks", "Attacks", EXERCISES, (), seed=77)
LIMITS = Limits(seconds=40, seconds_per_cell=3, seconds_per_call=2.5, memory_mib=1500, disk_mib=32)  # of processor time


class Lent(WorkerHandle):
    """A worker that outlives the submission for which it was started."""

    is_ready = False

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.is_ready = True

    def close(self):
        if not self.is_ready:
            self.end()

    def end(self):
        super().close()


class Lender:
    """Stands for the class WorkerHandle: gives the worker that there is, or a new one where that one cannot do another run."""

    def __init__(self):
        self.worker, self.started = None, 0

    def __call__(self, *args, **options):
        if not self.is_clean():
            self.end()
            self.worker, self.started = Lent(*args, **options), self.started + 1
        return self.worker

    def is_clean(self):
        return self.worker is not None and self.worker.clean()

    def own(self):
        """The processes of a worker that is clean: those that it started with, and who waits for the next run."""
        worker = self.worker
        return set() if worker is None else {worker.process.pid, *(one.pid for one in [*worker._own, *worker._watch.messengers()])}

    def end(self):
        if self.worker is not None:
            self.worker.end()
            self.worker = None


@pytest.fixture(scope="module")
def course():
    with course_copy() as folder:
        yield folder


@pytest.fixture(scope="module")
def lender():
    """Starts workers with a variable in the grader's environment that nothing may reach."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CANARY", SECRET)
        made = Lender()
        patch.setattr(reuse, "WorkerHandle", made)
        yield made
        made.end()


@pytest.fixture
def canary(tmp_path):
    """A file beside the submission that nothing may reach."""
    (tmp_path / "assignment.json").write_text(SECRET)
    return tmp_path


def graded(attack, course, folder):
    made = tuple(Cell(source, name) for name, source in cells(attack))
    submission = Submission("mallory", folder / "mallory.ipynb", "0", made)
    return grade_one(ASSIGNMENT, submission, LIMITS, unsafe=False, course=course, attempt=run_attempts)


def children():
    return {child.pid for child in psutil.Process().children(recursive=True)}


@pytest.mark.in_parts
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name.replace(" ", "-"))
def test_an_attack_ends_with_its_points(attack, course, lender, canary):
    before = children() - lender.own()
    found = graded(attack, course, canary)
    assert tuple(mark.points for mark in found.marks) == attack.points, [mark.feedback for mark in found.marks]
    said = repr(found)
    for secret in (SECRET, "found", "connected", "wrote to"):
        assert secret not in said
    if not lender.is_clean():
        lender.end()
    assert children() - lender.own() <= before
    assert [path.name for path in canary.iterdir()] == ["assignment.json"]


def test_after_all_attacks_the_worker_that_is_left_marks_honestly(course, lender, canary):
    for attack in (Attack("honest", (1, 1, 1)), Attack("wrong", (0, 1, 1), "def jump(*args):\n    return args[0]\n")):
        assert tuple(mark.points for mark in graded(attack, course, canary).marks) == attack.points


def test_one_worker_serves_submissions_until_one_breaks_it(course, lender, canary):
    honest, breaking = Attack("honest", (1, 1, 1)), Attack("breaks it", (0, 1, 1), "import os\nos.kill(os.getppid(), 9)\n" + HONEST["02.1"])
    graded(honest, course, canary)
    first, started = lender.worker, lender.started
    graded(honest, course, canary)
    assert lender.worker is first and lender.started == started
    graded(breaking, course, canary)
    graded(honest, course, canary)
    assert psutil.pid_exists(lender.worker.process.pid) and len(lender.own()) >= 2
