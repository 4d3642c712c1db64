"""Which properties an answer has that is not right as a whole, and the points that they are worth.

What is told is which property holds, never for which input or by how much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...exercises.compare import Terms, difference
from ...exercises.definition import Case, Exercise
from ...exercises.engine import numpy_cannot
from ...exercises.findings import terms_of
from ...exercises.trial import Outcome, run_case
from ..assignment.partial import DTYPE, FORM, INPUTS, RANDOM, RUNS, VALUES, properties

ENOUGH = 0.5  # of the inputs must have right values before anything counts
_FORMS = ("type", "structure", "shape", "device")


def satisfied(
    exercise: Exercise, cases: Sequence[Case], outcomes: Sequence[Outcome]
) -> dict[str, bool]:
    """Return each property of `assignment.partial.properties`, and whether the answer has it.

    Nothing is returned where its values are right for fewer than half of the inputs. Running the
    reference sets and restores the global random state, which all threads share.
    """
    names = properties(exercise)
    trials = [
        (case, run_case(exercise, exercise.reference, case), got)
        for case, got in zip(cases, outcomes, strict=True)
        if not numpy_cannot(case, got)
    ]
    returned = [one for one in trials if one[2].failure is None]
    right = [one for one in returned if _has_right_values(exercise, *one)]
    if not trials or len(right) < ENOUGH * len(trials):
        return {}
    holds = {
        RUNS: len(returned) == len(trials),
        FORM: not any(_first(exercise, *one) in _FORMS for one in returned),
        DTYPE: not any(_first(exercise, *one) == "dtype" for one in returned),
        INPUTS: not any(got.changed for _, _, got in returned),
        RANDOM: not any(_draws_elsewhere(want, got) for _, want, got in returned),
    }
    for demand in exercise.properties:
        holds[demand.name] = holds[FORM] and all(
            demand.holds(case, got, want) for case, want, got in returned
        )
    unnamed = all(held for name, held in holds.items() if name not in names)
    holds[VALUES] = len(right) == len(trials) and unnamed
    return {name: holds[name] for name in names}


def shared_points(shares: Mapping[str, float], has: Mapping[str, bool]) -> float:
    """Return the points of an answer: those of the properties that it has."""
    return round(sum(points for name, points in shares.items() if has.get(name)), 2)


def told_shares(shares: Mapping[str, float], has: Mapping[str, bool]) -> str:
    """Return the sentence that the student reads: the points of each property."""
    if not has:
        return "Partial credit: none, the values are right for fewer than half of the inputs."
    parts = [f"{name} {most if has[name] else 0:g} of {most:g}" for name, most in shares.items()]
    return f"Partial credit: {', '.join(parts)}."


def _first(exercise: Exercise, case: Case, want: Outcome, got: Outcome) -> str | None:
    found = difference(*_returned(exercise, want, got), terms_of(exercise, case))
    return found and found.check


def _has_right_values(exercise: Exercise, case: Case, want: Outcome, got: Outcome) -> bool:
    terms = terms_of(exercise, case)
    return difference(*_returned(exercise, want, got), terms, any_dtype=True) is None


def _returned(exercise: Exercise, want: Outcome, got: Outcome) -> tuple[Any, Any]:
    """Both outputs, without what `Exercise.call` measured beside where demands are about that."""
    both, names = (want.output, got.output), getattr(exercise.call, "parts", ())
    alike = all(isinstance(one, tuple) for one in both) and len({len(one) for one in both}) == 1
    if not (exercise.properties and names and alike):
        return both
    terms, count = Terms(exercise.tolerance, parts=names), len(want.output)
    kept = [index for index in range(count) if not terms.part(index, count).endswith(".")]
    return tuple(tuple(one[index] for index in kept) for one in both)


def _draws_elsewhere(want: Outcome, got: Outcome) -> bool:
    return (
        (got.used_global_random and not want.used_global_random)
        or (got.ignored_generator and not want.ignored_generator)
        or not got.reproducible
    )
