"""Every lesson in JupyterLab, in a browser: run it, move its explorers by keyboard, answer an
exercise wrongly and rightly.
"""

import json
import os
from pathlib import Path

import pytest
from lab_page import WATCH_PICTURE, Lab, answer, explorers, picture_of, press, run_all

from diffusion_course.exercises.registry import all_exercises
from tools import parts

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
# tools/test_ui.py chooses a part, by the commit; pytest by itself tries all.
NAMES = [path.stem for path in NOTEBOOKS.glob("*.ipynb")]
LESSONS = parts.lessons_of(os.environ.get("COURSE_PART", parts.ALL), NAMES, parts.costs())
PRESSES = 6


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """One server for all lessons."""
    made = Lab(tmp_path_factory.mktemp("lab"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def latencies(artefacts):
    """Milliseconds from key to picture by lesson; written when the lessons are done."""
    found = {}
    yield found
    (artefacts / "latency.json").write_text(json.dumps(found, indent=1) + "\n")


def typed(exercise, function):
    """What a learner would type, for an answer that is taken from the registry."""
    lines = [
        f"from diffusion_course.exercises.registry import get_exercise\n{exercise.answer_name} ="
        f" {function}"
    ]
    return "\n".join([*lines, f'check("{exercise.id}", {exercise.answer_name})'])


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_in_the_browser(lab, open_page, artefacts, latencies, name):
    page, watch = open_page(height=1000)
    page.goto(lab.lesson(name))
    try:
        run_all(page)
        outputs = page.locator(
            ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']"
        )
        assert outputs.all_inner_texts() == []
        assert (
            page.locator(
                ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']"
            ).count()
            == 0
        )
        assert page.locator(".jupyter-widgets-error-widget").count() == 0
        boxes = explorers(page)
        assert boxes, "the lesson has no live explorer"
        latencies[name] = [move(page, box) for box in boxes]
        boxes[0].locator("img").scroll_into_view_if_needed()
        page.screenshot(path=artefacts / f"lab-{name}.png")
        if exercises := [one for one in all_exercises(int(name[:2])) if not one.is_value]:
            exercise = exercises[0]
            wrong = typed(exercise, f'get_exercise("{exercise.id}").wrong_answers[0].function')
            assert f"known mistake: {exercise.wrong_answers[0].name}." in answer(
                page, exercise.id, wrong
            )
            right = (
                "import"
                f' torch\n{exercise.render(exercise.solution_source())}\ncheck("{exercise.id}",'
                f" {exercise.answer_name})"
            )
            assert f"{exercise.id} is right" in answer(page, exercise.id, right)
        assert watch.errors == [] and watch.outside == [] and watch.refused == []
    finally:
        page.close()
        lab.end_kernels()


def move(page, box):
    """Move every control of an explorer by keyboard, then the first to and fro; returns the
    milliseconds of each press.
    """
    box.scroll_into_view_if_needed()
    box.evaluate(WATCH_PICTURE)
    first = picture_of(box)
    assert first[1].strip(), "the picture has no alt text"
    controls = box.locator(".noUi-handle, select")
    assert controls.count()
    taken = [press(page, box, controls.nth(index)) for index in range(controls.count())]
    return [
        round(value)
        for value in taken + [press(page, box, controls.nth(0)) for _ in range(PRESSES)]
    ]
