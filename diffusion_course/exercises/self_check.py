"""Check the exercises themselves: the reference passes, and every wrong answer is named."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from .definition import Exercise
from .engine import evaluate


def self_check(exercise: Exercise, seeds: Sequence[int] = (0, 1)) -> list[str]:
    """Return what is wrong with the exercise itself, a sentence each.

    Its reference may be refused, or a wrong answer may pass or be taken for another.
    """
    problems = []
    for choice in itertools.product(*exercise.parameters.values()):
        bound = exercise.with_parameters(**dict(zip(exercise.parameters, choice, strict=True)))
        for seed in seeds:
            if (
                result := evaluate(bound, _answer(bound, bound.reference), seed=seed)
            ).status != "right":
                problems.append(
                    f"{bound.id}, {choice}, seed {seed}: the reference is refused: {result.message}"
                )
            for wrong in bound.wrong_answers:
                result = evaluate(bound, _answer(bound, wrong.function), seed=seed)
                if result.mistake != wrong.name:
                    said = f"{result.status}, named {result.mistake!r}"
                    problems.append(
                        f"{bound.id}, {choice}, seed {seed}: wrong answer {wrong.name!r} is {said}"
                    )
    return problems


def _answer(exercise: Exercise, function: Callable[..., Any]) -> Any:
    return function(**exercise.chosen) if exercise.is_value else function
