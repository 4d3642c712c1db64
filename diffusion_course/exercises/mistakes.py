"""Recognise a catalogued mistake by what an answer did on the cases."""

from __future__ import annotations

import dataclasses
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from .compare import Terms, difference
from .data import clone, plain
from .definition import Case, Exercise, Tolerance, WrongAnswer
from .naming.arguments import argument_changes, other_parameters
from .naming.diagnoses import diagnose
from .naming.formulas import formula_changes
from .naming.results import result_changes
from .surroundings import kept
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
    # A number to be found may be asked for to 1 %: too coarse to tell mistakes apart.
    tolerance = Tolerance(atol=0.0) if exercise.is_value else exercise.tolerance
    terms = Terms(tolerance, digits=digits, precision=precision)
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
    if best:
        return best[0] if len(best) == 1 else None
    trials = list(zip(expected, outcomes, strict=True))
    plainly = all(_same_form(want.output, got.output) for want, got in trials)
    if not plainly or any(_has_effects(want, got) for want, got in trials):
        return None
    kind = _kind(exercise, cases, expected, outcomes)
    return kind or diagnose(exercise, cases, expected, outcomes)


def _has_effects(want: Outcome, got: Outcome) -> bool:
    """True where something else than the numbers is wrong with a call."""
    effects = got.failure or got.changed or (got.used_global_random > want.used_global_random)
    return bool(effects or got.ignored_generator > want.ignored_generator or not got.reproducible)


def _same_form(want: object, got: object) -> bool:
    """True where two outputs differ in nothing but their numbers."""
    if isinstance(want, tuple):
        same = isinstance(got, tuple) and len(want) == len(got)
        return same and all(map(_same_form, want, got))
    if isinstance(want, torch.Tensor):
        same = isinstance(got, torch.Tensor) and want.shape == got.shape
        return same and want.device == got.device and not got.is_complex()
    return isinstance(got, (int, float, torch.Tensor)) == isinstance(want, (int, float))


def _kind(
    exercise: Exercise,
    cases: Sequence[Case],
    expected: Sequence[Outcome],
    outcomes: Sequence[Outcome],
) -> WrongAnswer | None:
    """Return the simplest mistake of every exercise's that does the same on every case."""
    if exercise.is_value and not _tells(outcomes[0].output):
        return None
    trials = list(zip(cases, expected, outcomes, strict=True))
    wrong_on = [one for one in trials if not alike(exercise, one[1], one[2], any_dtype=True)]
    if not wrong_on:
        return None
    if not _has_numbers(exercise, outcomes):
        return None
    case, _, got = min(wrong_on, key=lambda one: _size(one[0]))
    with kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for wrong in _kinds(exercise, cases[0]):
            # The smallest case on which the answer is wrong tells most of them apart, and quickly.
            if not _agrees(exercise, wrong, case, got):
                continue
            runs = (run_case(exercise, wrong.function, one) for one in cases)
            if all(
                alike(exercise, one, got, any_dtype=True, precision=_finest(want.output))
                for one, (_, want, got) in zip(runs, trials, strict=True)
            ):
                return wrong
    return None


def _has_numbers(exercise: Exercise, outcomes: Sequence[Outcome]) -> bool:
    """True where an answer's numbers are finite and not all 0: those would agree by chance."""
    outputs = [one.output for one in outcomes]
    if exercise.call is not None:
        outputs = [one[0] if isinstance(one, tuple) else one for one in outputs]
    parts = [part for one in outputs for part in (one if isinstance(one, tuple) else (one,))]
    tensors = [torch.as_tensor(part) for part in parts if not isinstance(part, (str, dict))]
    return all(bool(x.isfinite().all()) for x in tensors) and any(bool(x.any()) for x in tensors)


def _kinds(exercise: Exercise, case: Case) -> Iterator[WrongAnswer]:
    """Yield the mistakes of every exercise, the simplest first."""
    yield from result_changes(exercise)
    if exercise.is_value:
        yield from other_parameters(exercise)
    else:
        yield from argument_changes(exercise, case)
        yield from formula_changes(exercise)


def _agrees(exercise: Exercise, wrong: WrongAnswer, case: Case, got: Outcome) -> bool:
    args, kwargs = clone((case.args, dict(case.kwargs)))
    try:
        output = (
            wrong.function(*args, **kwargs)
            if exercise.call is None
            else exercise.call(wrong.function, *args, **kwargs)
        )
        if exercise.is_value and not math.isfinite(output):
            return False
        return alike(
            exercise,
            Outcome(plain(output)),
            dataclasses.replace(got, **_NO_EFFECTS),
            any_dtype=True,
        )
    except Exception:  # most changes of a formula give no formula
        return False


_NO_EFFECTS = {"changed": (), "used_global_random": False, "ignored_generator": False}
_NO_EFFECTS["reproducible"] = True


def _tells(number: object) -> bool:
    """True where a number has so many digits that it does not agree with another by chance."""
    digits = re.sub(r"e.*|\D", "", repr(number)).strip("0")
    return type(number) in (int, float) and len(digits) >= (3 if type(number) is int else 4)


def _size(case: Case) -> int:
    """How many numbers the arguments hold: what differs shows soonest on few."""
    return sum(one.numel() for one in case.args if isinstance(one, torch.Tensor))
