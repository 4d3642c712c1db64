"""What can be said of an output that no known mistake explains: where it is right, and how far.

A diagnosis holds on every case on which the answer is wrong, or it is not given. It is a statement
about the answer's own numbers, such as "the factor of `noise` is wrong and all else is right".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..definition import Case, Exercise, WrongAnswer
from ..trial import Outcome, bound_arguments
from .factors import factor_of_a_sample, factor_of_an_argument
from .pairs import Pair, Said, faulty
from .patterns import cut_off, only_an_end, reordered, some_ranks_only, sum_for_mean

HALF = (torch.float16, torch.bfloat16)


def diagnose(
    exercise: Exercise,
    cases: Sequence[Case],
    expected: Sequence[Outcome],
    outcomes: Sequence[Outcome],
) -> WrongAnswer | None:
    """Return what can be said of the outputs, under a name of its own, or None."""
    if exercise.is_value or any(one.failure is not None for one in (*expected, *outcomes)):
        return None
    parts = _parts(exercise, cases, expected, outcomes)
    off = [pairs for pairs in parts if not all(pair.is_right for pair in pairs)]
    if not off:
        return None
    right = len(parts) - len(off)
    for test in TESTS:
        if all(said := [test(pairs) for pairs in off]) and len({one[0] for one in said}) == 1:
            name, why = said[0]
            return WrongAnswer(name, exercise.reference, f"{why}{_rest(right)}")
    if right and len(off) == 1 and exercise.call is None:
        index = next(i for i, one in enumerate(parts) if one is off[0])
        word = ("first", "second", "third", "fourth")[min(index, 3)]
        why = f"Of what you return only the {word} part is off."
        return WrongAnswer(f"the {word} part", exercise.reference, why)
    return None


def _rest(right: int) -> str:
    return " The other parts of what you return are right." if right else ""


def _parts(
    exercise: Exercise,
    cases: Sequence[Case],
    expected: Sequence[Outcome],
    outcomes: Sequence[Outcome],
) -> list[list[Pair]]:
    """The pairs of each floating part of the output; empty where the outputs are of other kinds."""
    parts: list[list[Pair]] = []
    for case, want, got in zip(cases, expected, outcomes, strict=True):
        wants, gots = _as_tuple(want.output), _as_tuple(got.output)
        if exercise.call is not None and len(wants) == len(gots):  # the rest is what it measured
            wants, gots = wants[:1], gots[:1]
        if len(wants) != len(gots):
            return []
        for index, (one, other) in enumerate(zip(wants, gots, strict=True)):
            if not isinstance(one, Tensor) or not isinstance(other, Tensor):
                continue
            if one.shape != other.shape or one.is_complex() or other.is_complex():
                return []
            rtol, atol = exercise.tolerance.limits(one.dtype)
            half, a, b = one.dtype in HALF, one.double(), other.double()
            wrong = ~torch.isclose(b, a, rtol, atol, equal_nan=True)
            while len(parts) <= index:
                parts.append([])
            parts[index].append(Pair(a, b, wrong, bound_arguments(exercise, case), half))
    return [one for one in parts if one]


def _as_tuple(output: Any) -> tuple[Any, ...]:
    parts = output if isinstance(output, tuple) else (output,)
    return tuple(
        torch.tensor(one, dtype=torch.float64) if type(one) in (int, float) else one
        for one in parts
    )


def _shares(pairs: Sequence[Pair]) -> Said:
    telling = [pair for pair in faulty(pairs) if not pair.half]
    for pair in telling:
        if pair.want.ndim < 2 or pair.want.shape[-1] < 2:
            return None
        sums, own = pair.want.sum(-1), pair.got.sum(-1)
        if not torch.allclose(sums, torch.ones_like(sums), 1e-5) or pair.want.min() < 0:
            return None
        if torch.allclose(own, sums, 1e-4):
            return None
    if not telling:
        return None
    return (
        "the shares do not add up to 1",
        "The shares of each row should add up to 1, and yours do not.",
    )


def _goes_wrong_later(pairs: Sequence[Pair]) -> Said:
    for pair in faulty(pairs):
        if not pair.want.ndim or len(pair.want) < 2 or "t" in pair.given:
            return None
        rows = pair.wrong.reshape(len(pair.wrong), -1).any(1)
        if rows[0] or not rows[-1] or len(rows) < 2:
            return None
        first = int(rows.nonzero()[0, 0])
        if not rows[first:].all():
            return None
    return (
        "right at first, then off",
        "The first of your numbers or rows are right, and from one place on they are off. What"
        " changes there, and what does one step or sample take from another?",
    )


def _nearly(pairs: Sequence[Pair]) -> Said:
    for pair in faulty(pairs):
        near = (
            pair.got - pair.want
        ).abs() <= 0.02 * pair.want.abs() + 0.005 * pair.want.abs().max()
        if pair.half or not bool(near.all()):
            return None
    return (
        "nearly right",
        "Your numbers agree with the right ones to about two digits. Something is rounded, or"
        " approximated, or a small number is added where none belongs.",
    )


def _affine(pairs: Sequence[Pair]) -> Said:
    """One offset or one straight line for all cases."""
    want = torch.cat([pair.want.flatten() for pair in faulty(pairs) if not pair.half])
    got = torch.cat([pair.got.flatten() for pair in faulty(pairs) if not pair.half])
    if len(want) < 6 or not (want.isfinite().all() and got.isfinite().all()):
        return None
    off = got - want
    if float((off - off.mean()).abs().max()) <= 1e-5 * float(off.abs().max()):
        return "a constant is added", "What is off is the same number everywhere."
    columns = torch.stack([want, torch.ones_like(want)], 1)
    line = columns @ torch.linalg.lstsq(columns, got[:, None]).solution[:, 0]
    if float((line - got).abs().max()) <= 1e-5 * float(got.abs().max()) and float(got.std()) > 1e-6:
        return (
            "stretched or shifted",
            "Your numbers are the right ones times one factor, plus one number, the same in all"
            " cases: is a range mapped to another?",
        )
    if bool((want > 0).all()) and bool((got > 0).all()):
        x, y = want.log(), got.log()
        columns = torch.stack([x, torch.ones_like(x)], 1)
        line = columns @ torch.linalg.lstsq(columns, y[:, None]).solution[:, 0]
        if (
            float(x.std()) > 0.1
            and float(y.std()) > 0.01
            and float((line - y).abs().max()) <= 1e-5 * float(y.abs().max())
        ):
            return (
                "another power",
                "Your numbers are a power of the right ones: count roots and squares.",
            )
    return None


def _constant(pairs: Sequence[Pair]) -> Said:
    if len(faulty(pairs)) < 2 or not any(bool(pair.got.any()) for pair in pairs):
        return None
    for pair in faulty(pairs):
        if pair.got.numel() < 4 or not torch.allclose(
            pair.got, pair.got.flatten()[0].expand_as(pair.got)
        ):
            return None
    return "the same number everywhere", "All your numbers are the same, whatever the input is."


TESTS: tuple[Callable[[Sequence[Pair]], Said], ...] = (
    _constant,
    sum_for_mean,
    _nearly,
    reordered,
    cut_off,
    only_an_end,
    some_ranks_only,
    _affine,
    factor_of_an_argument,
    _shares,
    factor_of_a_sample,
    _goes_wrong_later,
)
