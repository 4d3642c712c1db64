"""Where an output is right: at which places, up to which limit, for which inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .pairs import Pair, Said, faulty, near


def sum_for_mean(pairs: Sequence[Pair]) -> Said:
    """Is it right but for a factor that is how many there are of something?"""
    words = set()
    for pair in faulty(pairs):
        ratios = (pair.got / pair.want)[pair.want.abs() > 1e-9]
        if (
            not len(ratios)
            or not ratios.isfinite().all()
            or not near(ratios, ratios[:1], pair.half)
        ):
            return None
        ratio = float(ratios[0])
        counts = {
            n for x in pair.given.values() if isinstance(x, (Tensor, list)) for n in _counts(x)
        }
        if ratio > 0 and any(abs(ratio * n - 1) < 1e-4 for n in counts):
            words.add("a mean in the place of a sum")
        elif any(abs(ratio / n - 1) < 1e-4 for n in counts):
            words.add("a sum in the place of a mean")
        else:
            return None
    if len(words) != 1 or len(faulty(pairs)) < 2:
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


def reordered(pairs: Sequence[Pair]) -> Said:
    """Are the right numbers there, at other places?"""
    for pair in faulty(pairs):
        want, got = pair.want.flatten().sort().values, pair.got.flatten().sort().values
        if len(want) < 4 or float(want.std()) < 1e-6 or not near(got, want, pair.half):
            return None
    return (
        "the right numbers in another order",
        "Every right number is there, at another place: look at your axes, at reshape, transpose"
        " and flip, and at which entry belongs to which.",
    )


def cut_off(pairs: Sequence[Pair]) -> Said:
    """Is it right up to a limit, and at the limit beyond?"""
    if all(pair.got.numel() < 8 for pair in faulty(pairs)):
        return None
    ends = set()
    for pair in faulty(pairs):
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


def only_an_end(pairs: Sequence[Pair]) -> Said:
    """Is only the first index wrong, or only the last?"""
    for which, words in (("first", "the first index"), ("last", "the last index")):
        if all(_only_at(pair, which) for pair in faulty(pairs)):
            if not any(pair.want.ndim and len(pair.want) > 3 for pair in faulty(pairs)):
                return None
            other = "before" if which == "first" else "after"
            return (
                f"only {words} is off",
                f"All else is right. What is special there: is there anything {other} it, is a"
                " level 0 or 1?",
            )
    return None


def _only_at(pair: Pair, which: str) -> bool:
    if not pair.want.ndim:
        return False
    rows = pair.wrong.reshape(len(pair.wrong), -1).any(1)
    t = pair.given.get("t")
    tables = [
        x for x in pair.given.values() if isinstance(x, Tensor) and x.ndim == 1 and x is not t
    ]
    tables = [x for x in tables if x.is_floating_point()]
    if isinstance(t, Tensor) and t.ndim == 1 and len(t) == len(rows):
        end = 0 if which == "first" else max((len(x) for x in tables), default=0) - 1
        return bool((t[rows] == end).all()) and bool(rows.any())
    if pair.want.ndim != 1:
        return False
    end = torch.zeros_like(rows)
    end[0 if which == "first" else -1] = True
    return bool((rows == end).all())


def some_ranks_only(pairs: Sequence[Pair]) -> Said:
    """Is it right for inputs of some numbers of axes, and wrong for all others?"""
    right = [pair for pair in pairs if pair.is_right and not _has_one_level(pair)]
    wrong = faulty(pairs)
    ranks = {pair.want.ndim for pair in right}, {pair.want.ndim for pair in wrong}
    if len(right) < 3 or len(wrong) < 2 or len(ranks[1]) < 2 or ranks[0] & ranks[1]:
        return None
    return (
        "right for some numbers of axes only",
        "It depends on how many axes the input has: count them with `x.ndim`, do not assume.",
    )


def _has_one_level(pair: Pair) -> bool:
    """There an index, a product and a sum over the levels all come to the same."""
    tensors = [x for x in pair.given.values() if isinstance(x, Tensor)]
    return any(x.ndim == 1 and len(x) == 1 for x in tensors)
