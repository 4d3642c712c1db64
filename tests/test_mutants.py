"""Every small change of a right answer is refused, unless it is listed here as changing nothing that an exercise asks for.

Mutants are made of the reference and of the written solution; where these are too short for ten, of the variants too. Those
of a find-the-number exercise must be refused for one of the offered parameters at least. `pytest tests/test_mutants.py -k 04.2`
checks one exercise, `-s` prints how many were made.
"""

import importlib
import itertools
import warnings
from pathlib import Path

import pytest
import torch
from mutator import mutants, mutants_of

from diffusion_course.exercises.engine import evaluate
from diffusion_course.exercises.registry import all_exercises

VARIANTS = {}
for path in sorted(Path(__file__).parent.glob("exercise_variants*.py")):
    VARIANTS |= importlib.import_module(path.stem).VARIANTS
FEWEST = 10
# exercise -> {mutant: why it is as right as the original}
EQUIVALENT = {}


def made_of(exercise):
    """The mutants of an exercise, by name."""
    found = mutants_of(exercise.reference)
    if exercise.solution:
        scope = {"torch": torch}
        exec(exercise.render(exercise.solution), scope)
        found += mutants(exercise.render(exercise.solution), scope)
    for variant in VARIANTS[exercise.id]:
        if len(found) < FEWEST and variant.__name__ != "<lambda>":
            found += mutants_of(variant)
    return found


def survives(exercise, function):
    """Whether `check` would take the mutant for right."""
    if not exercise.is_value:
        return all(evaluate(exercise, function, seed=seed).status == "right" for seed in (0, 1))
    for choice in itertools.product(*exercise.parameters.values()):
        bound = exercise.with_parameters(**dict(zip(exercise.parameters, choice, strict=True)))
        try:
            value = function(**bound.chosen)
        except Exception:
            return False
        if evaluate(bound, value).status != "right":
            return False
    return True


class Endless(Exception):
    """A mutant that does not come to an end."""


@pytest.fixture
def bounded():
    """Stop a mutant whose loop has no end, by counting the lines that it runs."""
    import sys

    def watch(function, lines=200_000):
        def limited(*args, **kwargs):
            count = 0

            def trace(frame, event, argument):
                nonlocal count
                if frame.f_code.co_filename != "<mutant>":
                    return None
                count += 1
                if count > lines:
                    raise Endless
                return trace

            before = sys.gettrace()
            sys.settrace(trace)
            try:
                return function(*args, **kwargs)
            finally:
                sys.settrace(before)

        limited.__signature__ = None
        return limited

    return watch


@pytest.mark.parametrize("exercise", all_exercises(), ids=lambda exercise: exercise.id)
def test_every_mutant_is_refused_or_listed(exercise, bounded):
    found = made_of(exercise)
    assert len(found) >= FEWEST, f"only {len(found)} mutants of {exercise.id}: write out its solution"
    listed = EQUIVALENT.get(exercise.id, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a mutant does to torch is not the suite's concern
        survivors = {one.name for one in found if survives(exercise, bounded(one.function))}
    print(f"{exercise.id}: {len(found)} mutants, {len(found) - len(survivors)} refused, {len(survivors)} of them listed as equal")
    assert survivors - set(listed) == set(), "these changes pass: strengthen the cases, or list them with the reason"
    assert set(listed) - survivors == set(), "these are listed and do not survive, or are not made: remove them"
    assert torch.is_grad_enabled()
