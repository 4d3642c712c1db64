"""Partial credit: what an answer can have right on its own, and the points of each such property.

The rule is open. It stands in `assignment.json`, and on the page of each student. Half of the
points of an exercise are for its values, the others are shared evenly over the rest of what can be
right; and nothing counts before the values are right for half of the inputs, so that a constant of
the right shape earns nothing. A number that is to be found is right or is not.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping

import torch

from ...exercises.engine import make_cases
from ...exercises.registry import Exercise, get_exercise
from ...exercises.trial import bound_arguments, run_case

VALUES, RUNS, FORM, DTYPE, INPUTS, RANDOM = "values", "runs", "form", "dtype", "inputs", "random"
TEXTS = {
    VALUES: "the values are right for every input",
    RUNS: "it returns something for every input that it must take",
    FORM: "kind, parts, shape and device are as asked for",
    DTYPE: "the dtype is as asked for",
    INPUTS: "it changes none of its inputs",
    RANDOM: "it draws from the generator that it is given, and from nothing else",
}
RULE = (
    "Points are shared over what an answer can have right on its own; each property has to hold"
    " for all inputs that the answer returns something for. None of it counts unless the values are"
    " right for at least half of the inputs. An input for which the answer raises an exception"
    " counts as one with wrong values, and so does one where NaN or infinity stands for a number."
    " What breaks a rule that has no points of its own costs those of the values. A number that is"
    " to be found is right or is not."
)


def properties(exercise: Exercise) -> dict[str, str]:
    """Return what an answer can have right on its own, as name and sentence.

    The first is `values`; of a number that is to be found there is nothing else.
    """
    return {name: TEXTS.get(name, text) for name, text in _properties(exercise.id)}


@functools.cache
def _properties(exercise_id: str) -> tuple[tuple[str, str], ...]:
    exercise = get_exercise(exercise_id)
    names = [VALUES]
    if not exercise.is_value:
        given, returned = [], []
        for case in make_cases(exercise):
            given += bound_arguments(exercise, case).values()
            returned += _parts(run_case(exercise, exercise.reference, case).output)
        names += [RUNS, FORM]
        if any(isinstance(one, torch.Tensor) for one in returned):
            names.append(DTYPE)
        if given:
            names.append(INPUTS)
        if any(isinstance(one, torch.Generator) for one in given):
            names.append(RANDOM)
    demands = ((one.name, f"demand: {one.message}") for one in exercise.properties)
    return (*((name, "") for name in names), *demands)


def _parts(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple):
        for one in value:
            yield from _parts(one)
    else:
        yield value


def even_shares(exercise: Exercise) -> dict[str, float]:
    """Return the points of each property; they are in hundredths and add up to the exercise's."""
    first, *others = properties(exercise)
    total = round(100 * exercise.points)
    half = total if not others else (total + 1) // 2
    shares = {first: half}
    for number, name in enumerate(others):
        shares[name] = (total - half + len(others) - 1 - number) // len(others)
    return {name: share / 100 for name, share in shares.items()}


def checked_shares(
    partial: Mapping[str, Mapping[str, float]], points: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """Return the shares by exercise and property.

    Raises ValueError for an exercise that `points` does not have, for a property that it does not
    have, and for shares that are no points or do not add up to those of the exercise.
    """
    for one, shares in partial.items():
        if one not in points:
            raise ValueError(f"partial: {one!r} is no exercise of the assignment.")
        names = properties(get_exercise(one))
        if not isinstance(shares, Mapping) or not {*shares} <= {*names} or not shares:
            raise ValueError(f"partial: {one} has {', '.join(names)} to share, got {shares!r}.")
        values = list(shares.values())
        if not all(type(value) in (int, float) and value >= 0 for value in values):
            raise ValueError(
                f"partial: the points of {one} must be numbers from 0, got {shares!r}."
            )
        if round(sum(values), 2) != points[one]:
            raise ValueError(
                f"partial: the points of {one} add up to {sum(values):g}, it has {points[one]:g}."
            )
    return {one: dict(shares) for one, shares in partial.items()}
