"""Recognise a catalogued mistake by what an answer did on the cases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch

from .compare import Terms, difference
from .definition import Case, Exercise, WrongAnswer
from .trial import Outcome, run_case


def alike(
    exercise: Exercise,
    first: Outcome,
    second: Outcome,
    *,
    any_dtype: bool = False,
    precision: torch.dtype | None = None,
) -> bool:
    """True where two outcomes are the same up to the tolerance, for `precision` if it is given.

    That holds for values or exceptions, and for side effects. A number that was to be found counts
    as the same to the digits that `second` is written with.
    """
    if first.failure is not None or second.failure is not None:
        # The numbers are the sizes that do not fit; their order depends on which operand comes
        # first.
        failures = (first.failure, second.failure)
        marks = [
            one and (one.type_name, sorted(re.findall(r"\d+", one.message))) for one in failures
        ]
        return marks[0] == marks[1]
    effects = [
        (one.changed, one.used_global_random, one.ignored_generator, one.reproducible)
        for one in (first, second)
    ]
    if effects[0] != effects[1]:
        return False
    digits = exercise.digits if exercise.is_value else None
    terms = Terms(exercise.tolerance, digits=digits, precision=precision)
    return difference(first.output, second.output, terms, any_dtype=any_dtype) is None


def _finest(output: Any) -> torch.dtype | None:
    """The dtype of an output; of several parts the one with the most digits."""
    parts = output if isinstance(output, tuple) else (output,)
    found = [
        one.dtype for one in parts if isinstance(one, torch.Tensor) and one.is_floating_point()
    ]
    return min(found, key=lambda dtype: torch.finfo(dtype).eps, default=None)


def name_mistake(
    exercise: Exercise,
    cases: Sequence[Case],
    expected: Sequence[Outcome],
    outcomes: Sequence[Outcome],
) -> WrongAnswer | None:
    """Return the wrong answer that explains what the answer did, where exactly one does.

    It has to do the same on every case, also where it is right, and differ from the reference on
    one. A dtype of the answer's own does not hide the mistake; of several the one that has this
    dtype too is named, and none where two explain the answer equally well.
    """
    found: list[tuple[float, WrongAnswer]] = []
    for wrong in exercise.wrong_answers:
        telling = agreeing = 0
        for case, want, got in zip(cases, expected, outcomes, strict=True):
            one = run_case(exercise, wrong.function, case)
            # A mistake that lies in the dtype must not make the comparison coarse.
            agrees = alike(exercise, one, got, any_dtype=True, precision=_finest(want.output))
            tells = not alike(exercise, want, one)
            if not agrees:
                telling = 0
                break
            telling += tells
            agreeing += agrees + 0.5 * alike(exercise, one, got)
        if telling:
            found.append((agreeing, wrong))
    most = max((agreeing for agreeing, _ in found), default=0)
    best = [wrong for agreeing, wrong in found if agreeing == most]
    return best[0] if len(best) == 1 else None
