"""What can be said of an output that no known mistake explains: where it is right, and how far.

A diagnosis holds on every case on which the answer is wrong, or it is not given. It is a statement
about the answer's own numbers, such as "the factor of `noise` is wrong and all else is right".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .definition import Case, Exercise, WrongAnswer
from .trial import Outcome, bound_arguments

HALF = (torch.float16, torch.bfloat16)


@dataclasses.dataclass(frozen=True)
class _Pair:
    """The right output and the answer's on one case, in float64, and the case's arguments."""

    want: Tensor
    got: Tensor
    wrong: Tensor
    given: dict[str, Any]
    half: bool

    @property
    def is_right(self) -> bool:
        return not bool(self.wrong.any())


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
    faulty = [pairs for pairs in parts if not all(pair.is_right for pair in pairs)]
    if not faulty:
        return None
    right = len(parts) - len(faulty)
    for test in TESTS:
        if all(said := [test(pairs) for pairs in faulty]) and len({one[0] for one in said}) == 1:
            name, why = said[0]
            return WrongAnswer(name, exercise.reference, f"{why}{_rest(right)}")
    if right and len(faulty) == 1:
        index = parts.index(faulty[0])
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
) -> list[list[_Pair]]:
    """The pairs of each floating part of the output; empty where the outputs are of other kinds."""
    parts: list[list[_Pair]] = []
    for case, want, got in zip(cases, expected, outcomes, strict=True):
        wants, gots = _as_tuple(want.output), _as_tuple(got.output)
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
            parts[index].append(_Pair(a, b, wrong, bound_arguments(exercise, case), half))
    return [one for one in parts if one]


def _as_tuple(output: Any) -> tuple[Any, ...]:
    parts = output if isinstance(output, tuple) else (output,)
    return tuple(
        torch.tensor(one, dtype=torch.float64) if type(one) in (int, float) else one
        for one in parts
    )


Said = tuple[str, str] | None


def _faulty(pairs: Sequence[_Pair]) -> list[_Pair]:
    return [pair for pair in pairs if not pair.is_right]


def _near(one: Tensor, other: Tensor, half: bool) -> bool:
    room = 0.03 if half else 1e-4
    scale = float(other.abs().max()) if other.numel() else 0.0
    return bool(((one - other).abs() <= room * other.abs() + 0.1 * room * scale + 1e-9).all())


def _sum_for_mean(pairs: Sequence[_Pair]) -> Said:
    """Is it right but for a factor that is how many there are of something?"""
    words = set()
    for pair in _faulty(pairs):
        ratios = (pair.got / pair.want)[pair.want.abs() > 1e-9]
        if not len(ratios) or not ratios.isfinite().all() or not _near(ratios, ratios[:1], pair.half):
            return None
        ratio = float(ratios[0])
        counts = {n for x in pair.given.values() if isinstance(x, (Tensor, list)) for n in _counts(x)}
        if ratio > 0 and any(abs(ratio * n - 1) < 1e-4 for n in counts):
            words.add("a mean in the place of a sum")
        elif any(abs(ratio / n - 1) < 1e-4 for n in counts):
            words.add("a sum in the place of a mean")
        else:
            return None
    if len(words) != 1 or len(_faulty(pairs)) < 2:
        return None
    return words.pop(), "Your numbers are the right ones times or divided by how many there are."


def _counts(x: Tensor | list) -> Iterator[int]:
    shape = list(x.shape) if isinstance(x, Tensor) else [len(x)]
    for start in range(len(shape)):
        product = 1
        for size in shape[start:]:
            product *= size
            if product > 2:
                yield product


def _reordered(pairs: Sequence[_Pair]) -> Said:
    for pair in _faulty(pairs):
        want, got = pair.want.flatten().sort().values, pair.got.flatten().sort().values
        if len(want) < 4 or float(want.std()) < 1e-6 or not _near(got, want, pair.half):
            return None
    return (
        "the right numbers in another order",
        "Every right number is there, at another place: look at your axes, at reshape, transpose"
        " and flip, and at which entry belongs to which.",
    )


def _cut_off(pairs: Sequence[_Pair]) -> Said:
    ends = set()
    for pair in _faulty(pairs):
        for name, limit in (("above", pair.got.max()), ("below", pair.got.min())):
            at = torch.isclose(pair.got, limit, 1e-6, 1e-9)
            beyond = pair.want > limit if name == "above" else pair.want < limit
            if bool((~pair.wrong | (at & beyond)).all()) and not bool(at.all()):
                ends.add(name)
                break
        else:
            return None
    if len(ends) != 1:
        return None
    return (
        f"cut off {ends.pop()}",
        "Your numbers are right up to a limit and stay at it beyond. Is there a clamp, a minimum or"
        " a maximum where none belongs, or at another place?",
    )


def _only_an_end(pairs: Sequence[_Pair]) -> Said:
    """Is only the first index wrong, or only the last?"""
    for which, words in (("first", "the first index"), ("last", "the last index")):
        if all(_only_at(pair, which) for pair in _faulty(pairs)):
            if all(pair.want.ndim and len(pair.want) < 2 for pair in _faulty(pairs)):
                return None
            other = "before" if which == "first" else "after"
            return (
                f"only {words} is off",
                f"All else is right. There is nothing {other} this end: what belongs there?",
            )
    return None


def _only_at(pair: _Pair, which: str) -> bool:
    if not pair.want.ndim:
        return False
    rows = pair.wrong.reshape(len(pair.wrong), -1).any(1)
    t = pair.given.get("t")
    tables = [x for x in pair.given.values() if isinstance(x, Tensor) and x.ndim == 1 and x is not t]
    tables = [x for x in tables if x.is_floating_point()]
    if isinstance(t, Tensor) and t.ndim == 1 and len(t) == len(rows):
        end = 0 if which == "first" else max((len(x) for x in tables), default=0) - 1
        return bool((t[rows] == end).all()) and bool(rows.any())
    if pair.want.ndim != 1:
        return False
    end = torch.zeros_like(rows)
    end[0 if which == "first" else -1] = True
    return bool((rows == end).all())


def _some_ranks_only(pairs: Sequence[_Pair]) -> Said:
    right = [pair for pair in pairs if pair.is_right and not _has_one_level(pair)]
    wrong = _faulty(pairs)
    ranks = {pair.want.ndim for pair in right}, {pair.want.ndim for pair in wrong}
    if len(right) < 2 or len(wrong) < 2 or len(ranks[1]) < 2 or ranks[0] & ranks[1]:
        return None
    return (
        "right for some numbers of axes only",
        "It depends on how many axes the input has: count them with `x.ndim`, do not assume.",
    )


def _has_one_level(pair: _Pair) -> bool:
    """There an index, a product and a sum over the levels all come to the same."""
    tensors = [x for x in pair.given.values() if isinstance(x, Tensor)]
    return any(x.ndim == 1 and len(x) == 1 for x in tensors)


def _factor_of_an_argument(pairs: Sequence[_Pair]) -> Said:
    """Is what is too much or too little a multiple of one argument, sample by sample?"""
    names = [name for name in pairs[0].given if all(_fits(pair, name) for pair in pairs)]
    telling = [pair for pair in _faulty(pairs) if not pair.half and _per_sample(pair) >= 3]
    if len(telling) < 1 or not names:
        return None
    for name in names:
        if all(_is_multiple(pair, (name,)) for pair in telling):
            others = [one for one in names if one != name and _takes_part(telling, one, name)]
            rest = f" What {_listed(others)} contributes is right." if others else ""
            return (
                f"the factor of `{name}`",
                f"What is off is a multiple of `{name}`: its factor is wrong, for its size or its"
                f" sign.{rest}",
            )
    if len(names) == 2 and all(_is_multiple(pair, tuple(names)) for pair in telling):
        if all(_per_sample(pair) >= 5 for pair in telling[:1]):
            return (
                f"the factors of `{names[0]}` and `{names[1]}`",
                "Your numbers are made of the right two parts, and both have a wrong factor.",
            )
    return None


def _listed(names: Sequence[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def _takes_part(pairs: Sequence[_Pair], name: str, beside: str) -> bool:
    return all(_is_multiple(dataclasses.replace(pair, got=0 * pair.got), (beside, name)) for pair in pairs)


def _per_sample(pair: _Pair) -> int:
    return pair.want[0].numel() if pair.want.ndim and len(pair.want) else 0


def _fits(pair: _Pair, name: str) -> bool:
    x = pair.given.get(name)
    return isinstance(x, Tensor) and x.is_floating_point() and x.shape == pair.want.shape and x.ndim > 0


def _is_multiple(pair: _Pair, names: Sequence[str]) -> bool:
    """Is got - want, in each sample, a sum of multiples of these arguments?"""
    off = (pair.got - pair.want).reshape(len(pair.want), -1)
    if not off.isfinite().all():
        return False
    columns = torch.stack([pair.given[one].double().reshape(len(off), -1) for one in names], -1)
    found = torch.linalg.lstsq(columns, off[..., None]).solution
    left = (columns @ found)[..., 0] - off
    scale = off.abs().amax(1, keepdim=True)
    exact = pair.given[names[0]].dtype == torch.float64
    least = (1e-12 if exact else 1e-5) * float(pair.want.abs().max() + pair.got.abs().max())
    return bool((left.abs() <= (1e-6 if exact else 1e-3) * scale + least).all())


def _factor_of_a_sample(pairs: Sequence[_Pair]) -> Said:
    telling = [pair for pair in _faulty(pairs) if not pair.half and _per_sample(pair) >= 3]
    if not telling:
        return None
    for pair in telling:
        want, got = (x.reshape(len(x), -1) for x in (pair.want, pair.got))
        ratio = (want * got).sum(1, keepdim=True) / (want * want).sum(1, keepdim=True)
        if not ratio.isfinite().all() or not _near(ratio * want, got, pair.half) or not ratio.any():
            return None
    return (
        "a factor of each sample",
        "Within each sample all your numbers are the right ones times the same factor. Which factor"
        " depends on the level or on the sample?",
    )


def _shares(pairs: Sequence[_Pair]) -> Said:
    telling = [pair for pair in _faulty(pairs) if not pair.half]
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


def _goes_wrong_later(pairs: Sequence[_Pair]) -> Said:
    for pair in _faulty(pairs):
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
        "It begins right and is off from one place on: look at what a step hands to the next, or at"
        " what changes there.",
    )


def _nearly(pairs: Sequence[_Pair]) -> Said:
    for pair in _faulty(pairs):
        near = (pair.got - pair.want).abs() <= 0.02 * pair.want.abs() + 0.005 * pair.want.abs().max()
        if pair.half or not bool(near.all()):
            return None
    return (
        "nearly right",
        "Your numbers agree with the right ones to about two digits. Something is rounded, or"
        " approximated, or a small number is added where none belongs.",
    )


def _affine(pairs: Sequence[_Pair]) -> Said:
    """One offset or one straight line for all cases."""
    want = torch.cat([pair.want.flatten() for pair in _faulty(pairs) if not pair.half])
    got = torch.cat([pair.got.flatten() for pair in _faulty(pairs) if not pair.half])
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
        if float(x.std()) > 0.1 and float((line - y).abs().max()) <= 1e-5 * float(y.abs().max()):
            return "another power", "Your numbers are a power of the right ones: count roots and squares."
    return None


def _constant(pairs: Sequence[_Pair]) -> Said:
    for pair in _faulty(pairs):
        if pair.got.numel() < 2 or not torch.allclose(pair.got, pair.got.flatten()[0].expand_as(pair.got)):
            return None
    return "the same number everywhere", "All your numbers are the same, whatever the input is."


TESTS: tuple[Callable[[Sequence[_Pair]], Said], ...] = (
    _constant, _sum_for_mean, _reordered, _cut_off, _only_an_end, _some_ranks_only, _affine,
    _factor_of_an_argument, _shares, _factor_of_a_sample, _nearly, _goes_wrong_later,
)
