"""Recognise a catalogued mistake by what an answer did on the cases."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .compare import Terms, difference
from .definition import Case, Exercise, WrongAnswer
from .trial import Outcome, run_case


def alike(exercise: Exercise, first: Outcome, second: Outcome, *, any_dtype: bool = False) -> bool:
    """True where two outcomes are the same up to the exercise's tolerance.

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
    terms = Terms(exercise.tolerance, digits=exercise.digits if exercise.is_value else None)
    return difference(first.output, second.output, terms, any_dtype=any_dtype) is None


def name_mistake(
    exercise: Exercise,
    cases: Sequence[Case],
    expected: Sequence[Outcome],
    outcomes: Sequence[Outcome],
) -> WrongAnswer | None:
    """Return the wrong answer that explains what the answer did, where exactly one does.

    It has to do the same on every case on which it differs from the reference, and there has to be
    one; a case on which it is right says nothing about it. A dtype of the answer's own does not
    hide the mistake. Of several that explain it the one that does so on the most cases, its dtype
    too, is named, and none where two do so equally well.
    """
    found: list[tuple[float, WrongAnswer]] = []
    for wrong in exercise.wrong_answers:
        telling = agreeing = 0
        for case, want, got in zip(cases, expected, outcomes, strict=True):
            one = run_case(exercise, wrong.function, case)
            agrees, tells = (
                alike(exercise, one, got, any_dtype=True),
                not alike(exercise, want, one),
            )
            if tells and not agrees:
                telling = 0
                break
            telling += tells
            agreeing += agrees + 0.5 * alike(exercise, one, got)
        if telling:
            found.append((agreeing, wrong))
    most = max((agreeing for agreeing, _ in found), default=0)
    best = [wrong for agreeing, wrong in found if agreeing == most]
    return best[0] if len(best) == 1 else None
