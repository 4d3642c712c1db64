"""What the hidden cases are, for the instructor to read.

The page has notes, shapes, each student's numbers and a digest of each draw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ...exercises.engine import make_cases
from ...exercises.registry import Case, Exercise
from ...exercises.trial import bound_arguments
from .assignment import Assignment

_HEAD = """# Hidden cases of {name}

Keep this page to yourself. The grader calls each answer with the cases below. Values are drawn from
the secret seed in `assignment.json`{per_student}. The digest is the start of a sha256 over all
values of a draw: equal digests, equal cases.
"""


def describe_cases(assignment: Assignment) -> str:
    """Return the Markdown page that says what the grader calls the answers with."""
    students = [student.id for student in assignment.roster] or [""]
    per_student = ", for each student anew" if assignment.roster else ""
    parts = [_HEAD.format(name=assignment.name, per_student=per_student)]
    for exercise_id in assignment.exercises:
        exercise = assignment.exercise(exercise_id, students[0])
        parts.append(f"\n## {exercise.id} {exercise.title} ({exercise.points:g})\n")
        parts += (
            _numbers(assignment, exercise_id, students)
            if exercise.is_value
            else _draws(assignment, exercise_id, students)
        )
    return "\n".join(parts) + "\n"


def digest(cases: list[Case]) -> str:
    """Return 12 hexadecimal digits that stand for all values of the cases."""
    total = hashlib.sha256()
    for case in cases:
        for piece in _pieces((case.note, case.args, dict(case.kwargs))):
            total.update(len(piece).to_bytes(8, "big") + piece)
    return total.hexdigest()[:12]


def _numbers(assignment: Assignment, exercise_id: str, students: list[str]) -> Iterator[str]:
    names = list(assignment.exercise(exercise_id, students[0]).chosen)
    yield _row("student", *names, "answer") + "\n" + _row(*["---"] * (len(names) + 2))
    for student in students:
        exercise = assignment.exercise(exercise_id, student)
        yield _row(
            student or "everybody",
            *exercise.chosen.values(),
            f"{exercise.reference(**exercise.chosen):.6g}",
        )


def _draws(assignment: Assignment, exercise_id: str, students: list[str]) -> Iterator[str]:
    exercise = assignment.exercise(exercise_id, students[0])
    draws = {
        student: make_cases(exercise, assignment.case_seed(exercise_id, student))
        for student in students
    }
    yield _row("case", "note", "called with") + "\n" + _row("---", "---", "---")
    for number, case in enumerate(draws[students[0]], start=1):
        yield _row(number, case.note, describe_case(exercise, case))
    yield "\n" + _row("student", "cases", "digest") + "\n" + _row("---", "---", "---")
    for student, cases in draws.items():
        yield _row(student or "everybody", len(cases), digest(cases))


def describe_case(exercise: Exercise, case: Case) -> str:
    """Return the case's arguments by name.

    Of a tensor it tells dtype and shape, of a plain value the value, else the type.
    """
    return ", ".join(
        f"{name} {_describe(value)}" for name, value in bound_arguments(exercise, case).items()
    )


def _describe(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, (bool, int, str)) or value is None:
        return repr(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__


def _row(*cells: object) -> str:
    return (
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
    )


def _pieces(value: Any, depth: int = 0) -> Iterator[bytes]:
    """Yield bytes that stand for a value.

    Of tensors and generators that is the content, of other objects what they hold.
    """
    if isinstance(value, torch.Tensor):
        yield f"{value.dtype} {tuple(value.shape)}".encode()
        yield value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    elif isinstance(value, torch.Generator):
        yield value.get_state().numpy().tobytes()
    elif isinstance(value, torch.nn.Module):
        yield type(value).__qualname__.encode()
        yield from _pieces(dict(value.state_dict()), depth + 1)
    elif isinstance(value, Mapping):
        yield b"{"
        for key, item in value.items():
            yield repr(key).encode()
            yield from _pieces(item, depth + 1)
        yield b"}"
    elif isinstance(value, (list, tuple)):
        yield b"["
        for item in value:
            yield from _pieces(item, depth + 1)
        yield b"]"
    elif value is None or isinstance(value, (bool, int, float, str, bytes)):
        yield repr(value).encode()
    else:
        yield getattr(value, "__qualname__", type(value).__qualname__).encode()
        if depth < 8:
            yield from _pieces(getattr(value, "__dict__", {}), depth + 1)
