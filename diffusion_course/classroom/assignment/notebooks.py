"""An assignment as notebooks: the student's, the solved one, and nbgrader's source.

The source has solutions and hidden tests marked. Notebooks are of format 4.5 with stable cell ids
and nbgrader's metadata (schema 3). The answer cell of exercise 02.1 has the grade_id `answer-02-1`,
its test cell `check-02-1`, the answer to question 02.m1 `manual-02-m1`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

from ... import __version__
from ...exercises.registry import Exercise, get_exercise
from .assignment import Assignment
from .manual import get_question
from .rubric import ManualQuestion

Kind = Literal["student", "solved", "source"]
BLANK_TEXT = "YOUR ANSWER HERE"  # what nbgrader puts into an empty text cell
SETUP = "import math\n\nimport torch\n\nfrom diffusion_course import check, hint\n"

_INTRO = """# {title}

{count}. Write each answer into the cell below its question, in place of the `...`, and run it:
`check` judges code at once and names the mistake if it knows it; `hint("{first}")` helps in steps.
Keep the names that the cells define.

- Hand in this notebook, saved. Outputs are not needed: grading runs your cells again, from top to
  bottom.
- Write your own functions. The course's own ones are not accepted as answers, and answers that hand
  their work to them are noted.
- An answer is safest when it needs nothing but the cell of imports below. One that uses another
  cell fails with it.
- Grading calls your functions with other inputs than `check` does.{partial}{own}
"""

_PARTIAL = """
- An answer that is not right as a whole can earn a part of its points. Your page says for what."""
_OWN_NUMBERS = """
- The numbers in some of the questions are yours alone. The answers of others do not fit them."""
_HIDDEN = """### BEGIN HIDDEN TESTS
from diffusion_course.exercises.engine import evaluate
from diffusion_course.exercises.registry import get_exercise

verdict = evaluate(get_exercise("{id}"), {name}, seed={seed})
assert result.status == verdict.status == "right", verdict.message
### END HIDDEN TESTS
"""


def make_notebook(
    assignment: Assignment, kind: Kind = "student", student_id: str = ""
) -> dict[str, Any]:
    """Return one notebook as the content of its JSON file.

    `student_id` chooses the numbers: one of the roster, or "" where the roster is empty. nbgrader
    hands out the same notebook to everybody, so its source is made only where nobody has numbers of
    his own. Raises LookupError for a student who is not on the roster, ValueError for a source that
    cannot be.
    """
    if kind == "source" and assignment.has_own_numbers:
        raise ValueError(
            f"{assignment.name} has other numbers for each student: nbgrader cannot hand it out."
        )
    if kind == "source" and assignment.roster:
        student_id = assignment.roster[0].id
    cells = [_markdown(_intro(assignment), "intro"), _code(SETUP, "setup", locked=True)]
    for lesson_part in _in_order(assignment):
        if isinstance(lesson_part, ManualQuestion):
            cells += _question_cells(lesson_part, kind)
        else:
            exercise = assignment.exercise(lesson_part.id, student_id)
            cells += _exercise_cells(exercise, kind, assignment.case_seed(exercise.id, student_id))
    own = {
        "assignment": assignment.name,
        "student": "" if kind == "source" else student_id,
        "version": __version__,
    }
    metadata = {
        "diffusion_course": own,
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def to_bytes(notebook: dict[str, Any]) -> bytes:
    """Return a notebook as the bytes of its file; the same notebook gives the same bytes."""
    text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    return text.encode("utf-8")


def _in_order(assignment: Assignment) -> Iterator[Exercise | ManualQuestion]:
    """Lesson by lesson: its exercises, then its questions."""
    parts = [*map(get_exercise, assignment.exercises), *map(get_question, assignment.manual)]
    # Sorting is stable: the order within a lesson is the assignment's.
    yield from sorted(parts, key=lambda part: part.lesson)


def _intro(assignment: Assignment) -> str:
    names = ((len(assignment.exercises), "exercise"), (len(assignment.manual), "question in words"))
    count = " and ".join(_plural(number, name) for number, name in names if number)
    first = assignment.exercises[0] if assignment.exercises else "01.1"
    own = _OWN_NUMBERS if assignment.has_own_numbers else ""
    return _INTRO.format(
        title=assignment.title,
        count=f"{count}, {_points(assignment.max_points)}",
        first=first,
        partial=_PARTIAL if assignment.partial else "",
        own=own,
    )


def _plural(number: int, name: str) -> str:
    head, _, tail = name.partition(" ")
    return f"{number} {head}{'' if number == 1 else 's'}{' ' + tail if tail else ''}"


def _points(points: float) -> str:
    return "1 point" if points == 1 else f"{points:g} points"


def _exercise_cells(exercise: Exercise, kind: Kind, seed: int) -> Iterator[dict[str, Any]]:
    part = exercise.id.replace(".", "-")
    text = (
        f"## {exercise.id} {exercise.title}"
        f" ({_points(exercise.points)})\n\n{exercise.render(exercise.statement).strip()}\n"
    )
    yield _markdown(f"{text}\nWhere to read: {exercise.derivation}.\n", f"statement-{part}")
    stub, solution = (
        f"{text.rstrip()}\n"
        for text in (exercise.render(exercise.stub), exercise.solution_source())
    )
    answer = {
        "student": stub,
        "solved": solution,
        "source": f"{stub}### BEGIN SOLUTION\n{solution}### END SOLUTION\n",
    }
    yield _code(answer[kind], f"answer-{part}", solution=True)
    hidden = (
        _HIDDEN.format(id=exercise.id, name=exercise.answer_name, seed=seed)
        if kind == "source"
        else ""
    )
    yield _code(
        _check_line(exercise) + hidden,
        f"check-{part}",
        locked=True,
        grade=True,
        points=exercise.points,
    )


def _check_line(exercise: Exercise) -> str:
    """Return the call of `check`; parameters other than the lesson's are given to it."""
    usual = get_exercise(exercise.id).chosen
    own = [f"{name}={value!r}" for name, value in exercise.chosen.items() if value != usual[name]]
    return f"result = check({', '.join([json.dumps(exercise.id), exercise.answer_name, *own])})\n"


def _question_cells(question: ManualQuestion, kind: Kind) -> Iterator[dict[str, Any]]:
    part = question.id.replace(".", "-")
    heading = f"## {question.id} {question.title} ({_points(question.points)})"
    yield _markdown(f"{heading}\n\n{question.prompt.strip()}\n", f"question-{part}")
    rubric = "What earns the points:\n\n" + "".join(
        f"- {_points(points)}: {text}\n" for points, text in question.rubric
    )
    answer = {
        "student": BLANK_TEXT,
        "solved": rubric,
        "source": f"### BEGIN SOLUTION\n{rubric}### END SOLUTION\n",
    }
    yield _cell(
        "markdown",
        answer[kind],
        f"manual-{part}",
        solution=True,
        grade=True,
        points=question.points,
    )


def _markdown(source: str, grade_id: str) -> dict[str, Any]:
    return _cell("markdown", source, grade_id, locked=True)


def _code(source: str, grade_id: str, **marks: Any) -> dict[str, Any]:
    return {**_cell("code", source, grade_id, **marks), "execution_count": None, "outputs": []}


def _cell(cell_type: str, source: str, grade_id: str, **marks: Any) -> dict[str, Any]:
    nbgrader = {"cell_type": cell_type, "grade_id": grade_id, "schema_version": 3}
    nbgrader |= {"grade": False, "locked": False, "solution": False, "task": False, **marks}
    lines = source.rstrip("\n").splitlines(keepends=True)
    return {
        "cell_type": cell_type,
        "id": grade_id,
        "metadata": {"nbgrader": nbgrader},
        "source": lines,
    }
