"""What a student reads where an answer has no points: notebooks of a built assignment, graded in the sandbox, page by page."""

import html
import json
import re

import pytest

from diffusion_course.classroom.assignment.build import build_assignment
from diffusion_course.classroom.grading.folder import grade_folder
from diffusion_course.classroom.reasons import UNANSWERED, Reason
from diffusion_course.classroom.sandbox.bubblewrap import sandbox_available
from diffusion_course.classroom.sandbox.limits import Limits
from diffusion_course.exercises.registry import get_exercise

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not sandbox_available(), reason="bubblewrap is not usable here")]
LIMITS = Limits(seconds=900, seconds_per_cell=200, seconds_per_call=200, memory_mib=1200)  # nothing takes so long, on a busy machine either
SHORT = Limits(seconds=30, seconds_per_cell=15, seconds_per_call=3)


def after(exercise_id, line):
    """The exercise's solution with its last expression changed by `line`, a format of {value}."""
    source = get_exercise(exercise_id).solution_source().rstrip()
    head, _, value = source.rpartition("return ")
    return f"{head}return {line.format(value=value)}\n"


GARBAGE = """import os
for number in range(3, 64):
    try:
        os.write(number, b"\\xff" * 64)
    except OSError:
        pass
"""
HOG = "import os, time\nfor _ in range(6):\n    if os.fork() == 0:\n        hog = bytearray(2**28)\n        time.sleep(300)\ntime.sleep(300)\n"
FORKS = "import os, time\nfor _ in range(200):\n    if os.fork() == 0:\n        time.sleep(300)\ntime.sleep(300)\n"
# Reason -> notebook, exercise, what stands in its answer cell (None: the cell is gone), what the page says after the answer's name.
TOLD = {
    "BLANK": ("plain", "08.3", get_exercise("08.3").stub, "it is not written yet, or returns nothing."),
    "MISSING": ("plain", "08.5", None, "the notebook does not define it."),
    "RENAMED": ("plain", "02.4", "def cosine(n):\n    return n\n", "the notebook does not define it: its cell defines cosine."),
    "COURSE": ("plain", "08.1", "from diffusion_course import q_sample as guide\n", "it is the course's own function: write yours."),
    "NOT_A_FUNCTION": ("plain", "02.3", "signal_to_noise = 3\n", "it is a value that cannot be called: write a function or a class."),
    "CELL_RAISED": ("plain", "08.2", "1 / 0\ndef scale_used(*args):\n    return args\n", "the cell that should define it raised ZeroDivisionError."),
    "CALL_RAISED": ("plain", "01.1", "def forward_step(*args, **kwargs):\n    raise ValueError(f'{args}')\n", "it raises ValueError in its line 2 on an input that it must take."),
    "KIND": ("plain", "01.4", "steps = 'many'\n", "it returns another kind of thing than was asked for."),
    "PARTS": ("plain", "01.5", after("01.5", "({value})[:2]"), "it returns another number of parts, or other keys, than were asked for."),
    "SHAPE": ("plain", "02.2", after("02.2", "({value})[None]"), "the shape of what it returns is not the one that was asked for."),
    "DTYPE": ("plain", "02.6", after("02.6", "({value}).half()"), "the dtype of what it returns is not the one that was asked for."),
    "NOT_FINITE": ("plain", "01.3", after("01.3", "({value}) * float('nan')"), "it returns NaN or infinity where a number is asked for."),
    "VALUE": ("plain", "02.5", "factor = 0.123\n", "the values it returns are not right."),
    "INPUT_CHANGED": ("plain", "02.1", after("02.1", "({value}) + 0 * x0.zero_()"), "it changes its input in place."),
    "RANDOM": ("plain", "01.2", get_exercise("01.2").solution_source().replace("generator=generator, ", ""), "its randomness is not right: use the generator that is given, and only that."),
    "DEMAND": ("plain", "05.7", get_exercise("05.7").solution_source().replace("    model.train(was_training)\n", ""),
               "after your function the network is in another mode than before. Remember `model.training` and restore it."),
    "TIME": ("slow", "01.1", "def forward_step(*args, **kwargs):\n    while True: pass\n", "it took too long and was ended."),
    "CRASH": ("ended", "01.2", "import os\ndef forward_walk(*args):\n    os._exit(0)\n", "it ended the process it ran in."),
    "EXITED": ("ended", "01.3", "import sys\ndef variance_after(*args):\n    sys.exit()\n", "it raises SystemExit, KeyboardInterrupt or another exception that ends a program."),
    "NOT_DATA": ("ended", "02.2", "def cumulative_alphas(betas):\n    return [0] * 150_000\n", "what it returns is no tensor, number, string or collection of them, or is too large."),
    "INTERFERED": ("garbage", "02.2", f"{GARBAGE}def cumulative_alphas(betas):\n    return betas\n", "it sent the grader something that is no answer."),
    "MEMORY": ("hog", "02.2", f"{HOG}def cumulative_alphas(betas):\n    return betas\n", "it took more memory than it may have and was ended."),
    "PROCESSES": ("forks", "02.2", f"{FORKS}def cumulative_alphas(betas):\n    return betas\n", "it started too many processes and was ended."),
}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """The students' pages, by student; every answer in their notebooks fails for a reason of its own."""
    top = tmp_path_factory.mktemp("reasons")
    assignment = build_assignment("01,02,05,08", top / "hw", seed=10**18 + 5, manual=False).assignment
    blank = (top / "hw" / "student" / f"{assignment.name}.ipynb").read_text()
    for student in {row[0] for row in TOLD.values()}:
        notebook = json.loads(blank)
        for _, exercise_id, source, _ in (row for row in TOLD.values() if row[0] == student):
            index = next(i for i, cell in enumerate(notebook["cells"]) if cell["id"] == f"answer-{exercise_id.replace('.', '-')}")
            if source is None:
                del notebook["cells"][index]
            else:
                notebook["cells"][index]["source"] = source
        folder = top / ("slow" if student == "slow" else "in")
        folder.mkdir(exist_ok=True)
        (folder / f"{student}.ipynb").write_text(json.dumps(notebook))
    for name, limits in (("in", LIMITS), ("slow", SHORT)):
        summary = grade_folder(assignment, top / name, top / "out" / name, limits=limits, progress=False)
        assert not summary.failed and all(one.points == 0 for one in summary.graded)
    return {path.stem: path.read_text() for path in (top / "out").glob("*/feedback/*.html")}


def said(page, exercise_id):
    """The text of an exercise's part of a page."""
    article = next(part for part in re.findall(r"<article.*?</article>", page) if f"<h3>{exercise_id} " in part)
    return html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"</?code>", "", article)))


@pytest.mark.parametrize("reason", TOLD)
def test_the_student_reads_why_an_answer_has_no_points(graded, reason):
    student, exercise_id, _, text = TOLD[reason]
    words = said(graded[student], exercise_id)
    assert f" {get_exercise(exercise_id).answer_name}: {text.replace('`', '')} " in words
    assert ("not answered" in words) == (Reason[reason] in UNANSWERED)


def test_every_reason_is_tried():
    # A tensor that comes back is on the CPU, or it is no data; what cannot be read has no page.
    unseen = {Reason.DEVICE, Reason.UNREADABLE}
    assert {Reason[name] for name in TOLD} == set(Reason) - unseen
