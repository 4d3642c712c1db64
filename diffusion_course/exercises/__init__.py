"""Exercises: `check` an answer, ask for a `hint` or the `solution`, see your `progress`."""

from __future__ import annotations

import functools
from typing import Any

from .definition import Exercise
from .engine import evaluate
from .patience import chosen_limit
from .record import Record, default_path
from .registry import all_exercises, canonical, get_exercise
from .result import Result
from .saying import say

__all__ = ["check", "exercise", "hint", "progress", "reset_progress", "solution"]

_record = Record(default_path())


def check(
    exercise_id: str,
    answer: Any,
    *,
    show: bool = False,
    time_limit: float | None = None,
    **parameters: Any,
) -> Result:
    """Judge `answer` (a function, or the number you found), print the verdict and return it.

    `show=True` prints the inputs of the case that failed, too; the verdict's `inputs` are the same,
    and its `rerun()` calls the answer with them. `time_limit` is in seconds, for all cases
    together: without it the environment's DIFFUSION_COURSE_TIME_LIMIT (or "off"), else 60.
    `parameters` are the numbers of a find-the-number exercise where an assignment gives others than
    the lesson. A number that you found is right when it is right in each digit that you write, 3
    significant digits at least; a whole number has to be exact. Functions may compute with numpy,
    too: an array counts as a tensor of its dtype.

    Raises LookupError for an unknown id, ValueError for a parameter that is not offered or a time
    limit that is no positive number.
    """
    swapped = isinstance(answer, str) or (isinstance(answer, float) and callable(exercise_id))
    if swapped and _is_id(answer) and not _is_id(exercise_id):
        exercise_id, answer = answer, exercise_id
    wanted, seconds = get_exercise(exercise_id), chosen_limit(time_limit)
    if parameters:
        wanted = wanted.with_parameters(**parameters)
    if _is_reference(wanted, answer):
        message = f"{wanted.id} not answered yet. This is the course's own function: write yours."
        result = Result(wanted.id, "unanswered", message)
    else:
        result = evaluate(wanted, answer, time_limit=seconds)
    _record.add(result)
    say(result, show=show)
    return result


def hint(exercise_id: str) -> None:
    """Print the next of the three hints; the last one repeats.

    Raises LookupError for an unknown id.
    """
    wanted = get_exercise(exercise_id)
    exercise_id, hints = wanted.id, wanted.hints
    index = _record.next_hint(exercise_id, len(hints))
    print(f"Hint {index + 1} of {len(hints)}: {hints[index]}")
    if index + 1 == len(hints):
        print(
            f"That is the last hint. solution({exercise_id!r}) shows a solution once you have"
            " tried."
        )


def solution(exercise_id: str, *, insist: bool = False) -> None:
    """Print a solution, after at least one real attempt or when you insist.

    Raises LookupError for an unknown id.
    """
    wanted = get_exercise(exercise_id)
    exercise_id = wanted.id
    if not insist and _record.attempts(exercise_id) == 0:
        print(
            f"Try {exercise_id} first: an attempt is what makes it stay. solution({exercise_id!r},"
            " insist=True) shows it now."
        )
        return
    print(f"One solution of {exercise_id}, {wanted.title} ({wanted.derivation}):\n")
    print(wanted.solution_source().rstrip())
    if wanted.is_value:
        given = ", ".join(f"{name}={value!r}" for name, value in wanted.chosen.items())
        print(f"\nWith {given} it gives {wanted.reference(**wanted.chosen):.6g}.")


def exercise(exercise_id: str) -> None:
    """Show the statement and the stub of an exercise. Raises LookupError for an unknown id."""
    from ..notebook.display import publish

    wanted = get_exercise(exercise_id)
    points = "1 point" if wanted.points == 1 else f"{wanted.points} points"
    statement, stub = (wanted.render(text).strip() for text in (wanted.statement, wanted.stub))
    plain = f"Exercise {wanted.id}: {wanted.title} ({points})\n\n{statement}\n\n{stub}"
    markdown = (
        f"**Exercise {wanted.id}: {wanted.title}**"
        f" ({points})\n\n{statement}\n\n```python\n{stub}\n```"
    )
    publish({"text/plain": plain, "text/markdown": markdown})


def progress() -> None:
    """Print which exercises are done, tried or open, and draw it in a notebook.

    Each has its attempts, hints and points. It is kept in a file on this machine;
    DIFFUSION_COURSE_PROGRESS names another one, or is "off".
    """
    from ..notebook.display import in_notebook, show
    from .overview import as_text, picture, rows

    table = rows(_record)
    print(as_text(table))
    if in_notebook():
        figure, alt = picture(table)
        show(figure, alt=alt)


def reset_progress(exercise_id: str | None = None) -> None:
    """Forget the progress on one exercise, or on all. Raises LookupError for an unknown id."""
    if exercise_id is not None:
        exercise_id = get_exercise(exercise_id).id
    _record.forget(exercise_id)
    print(f"Progress on {exercise_id or 'all exercises'} is forgotten.")


def _is_id(value: Any) -> bool:
    """True for a text or a number that names an exercise."""
    known = isinstance(value, (str, float)) and canonical(value)
    return known in {one.id for one in all_exercises()}


def _is_reference(wanted: Exercise, answer: Any) -> bool:
    while isinstance(answer, functools.partial):
        answer = answer.func
    code = getattr(answer, "__code__", None)
    return code is not None and code is getattr(wanted.reference, "__code__", None)
