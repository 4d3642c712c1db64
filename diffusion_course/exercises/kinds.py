"""Mistakes of every exercise, made of its right answer: other arguments, another result, one change
in the formula.

The catalogue of an exercise comes first (`mistakes`). These are asked only where it has no name,
and have to agree with the answer on every case. What they say is true of the numbers that came out:
"as if `x0` and `noise` had changed places".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .definition import Case, Exercise, WrongAnswer
from .formulas import formula_changes, solution_of

Change = Callable[[Any], Any]


def kinds(exercise: Exercise, case: Case) -> Iterator[WrongAnswer]:
    """Yield the mistakes, the simplest first; `case` shows what kind each argument is of."""
    names = list(exercise.signature.parameters)
    values = dict(exercise.signature.bind(*case.args, **case.kwargs).arguments)
    given = {name: values[name] for name in names if name in values}
    yield from _results(exercise)
    if not exercise.is_value:
        yield from _arguments(exercise, given)
    yield from formula_changes(exercise)


def _of_floats(change: Change) -> Change:
    """`change` for floating tensors and floats, each part of a tuple by itself."""

    def changed(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(changed(part) for part in value)
        if isinstance(value, Tensor) and value.is_floating_point():
            return change(value).to(value.dtype)
        if type(value) is float or (type(value) is int):
            return change(torch.tensor(float(value), dtype=torch.float64)).item()
        return value

    return changed


_RESULTS: tuple[tuple[str, str, Change], ...] = (
    ("the sign of the result", "it is right but for its sign.", lambda r: -r),
    ("twice the result", "it is twice the right one: is a factor of one half missing?", lambda r: 2 * r),
    ("half of the result", "it is half of the right one: is there a factor of 2 too few?", lambda r: r / 2),
    ("the square of the result", "it is the square of the right one: take the root at the end.", lambda r: r**2),
    ("the square root of the result", "it is the square root of the right one.", lambda r: r.sqrt()),
    ("one over the result", "it is one over the right one: what is above and below the line?", lambda r: 1 / r),
    ("one minus the result", "it is one minus the right one: it is the other share.", lambda r: 1 - r),
    ("the logarithm of the result", "it is the natural logarithm of the right one.", lambda r: r.log()),
    ("the exponential of the result", "it is the exponential of the right one.", lambda r: r.exp()),
    ("one too many", "it is the right one plus 1.", lambda r: r + 1),
    ("one too few", "it is the right one minus 1.", lambda r: r - 1),
    ("negative values are cut off", "it is right where it is positive, and 0 elsewhere.", lambda r: r.clamp(min=0)),
    ("the result is cut to [-1, 1]", "it is right within [-1, 1] and cut off outside; nothing asks for that.", lambda r: r.clamp(-1, 1)),
    ("the result is cut to [0, 1]", "it is right within [0, 1] and cut off outside; nothing asks for that.", lambda r: r.clamp(0, 1)),
    ("the absolute value of the result", "it is right but for the sign of what is negative.", lambda r: r.abs()),
    ("the result is rounded", "it is the right one, rounded.", lambda r: r.round()),
)
_ROWS: tuple[tuple[str, str, Change], ...] = (
    ("the order is reversed", "it is the right one from back to front.", lambda r: r.flip(0)),
    ("shifted by one place", "each entry is the right one of the place before it.", lambda r: r.roll(1, 0)),
    ("shifted by one place to the front", "each entry is the right one of the place after it.", lambda r: r.roll(-1, 0)),
    ("the first entry for all", "all entries are the right one of the first place.", lambda r: r[:1].expand_as(r)),
    ("the mean over the batch", "all entries are the mean of the right ones: each sample has its own.", lambda r: r.mean(0, keepdim=True).expand_as(r)),
)
_LAST_AXES: tuple[tuple[str, str, Change], ...] = (
    ("rows and columns are exchanged", "its last two axes are exchanged.", lambda r: r.mT),
    ("the last axis is reversed", "its last axis runs the other way.", lambda r: r.flip(-1)),
)


def _results(exercise: Exercise) -> Iterator[WrongAnswer]:
    for name, words, change in _RESULTS:
        if not (exercise.is_value and ("cut" in name or "rounded" in name)):
            yield _on_result(exercise, name, words, change)
    if exercise.is_value:
        return
    for name, words, change in _ROWS:
        yield _on_result(exercise, name, words, lambda r, c=change: c(r) if r.ndim else r)
    for name, words, change in _LAST_AXES:
        yield _on_result(exercise, name, words, lambda r, c=change: c(r) if r.ndim > 1 else r)

    right = solution_of(exercise)

    def exchanged(*args: Any, **kwargs: Any) -> Any:
        found = right(*args, **kwargs)
        return found[::-1] if isinstance(found, tuple) else found

    yield WrongAnswer(
        "the parts of the result change places", exchanged,
        "Your numbers are right, in another order: look up which comes first.",
    )


def _on_result(exercise: Exercise, name: str, words: str, change: Change) -> WrongAnswer:
    right = solution_of(exercise)

    def function(*args: Any, **kwargs: Any) -> Any:
        return _of_floats(change)(right(*args, **kwargs))

    return WrongAnswer(name, function, f"Look at your result as a whole: {words}")


def _arguments(exercise: Exercise, given: dict[str, Any]) -> Iterator[WrongAnswer]:
    """Yield the right answer to another question: with one argument changed, or two exchanged."""
    for name, value in given.items():
        for words, why, change in _changes_of(name, value):
            yield _on_arguments(exercise, words, why, (name,), lambda x, c=change: (c(x),))
    for one, other in itertools.combinations(given, 2):
        if _alike(given[one], given[other]):
            yield _on_arguments(
                exercise, f"`{one}` and `{other}` change places",
                "Your numbers are what comes out with the two exchanged.",
                (one, other), lambda x, y: (y, x),
            )
            for kept, lost in ((one, other), (other, one)):
                yield _on_arguments(
                    exercise, f"`{kept}` in the place of `{lost}`",
                    f"Your numbers are what comes out if `{lost}` has the values of `{kept}` too.",
                    (kept, lost), lambda x, y: (x, x),
                )


def _on_arguments(
    exercise: Exercise, name: str, why: str, changed: Sequence[str], change: Callable[..., tuple]
) -> WrongAnswer:
    right = solution_of(exercise)

    def function(*args: Any, **kwargs: Any) -> Any:
        bound = exercise.signature.bind(*args, **kwargs)
        new = change(*(bound.arguments[one] for one in changed))
        bound.arguments.update(zip(changed, new, strict=True))
        return right(*bound.args, **bound.kwargs)

    return WrongAnswer(name, function, why)


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and one.dtype == other.dtype
    return type(one) is type(other) and type(one) in (int, float)


def _changes_of(name: str, value: Any) -> Iterator[tuple[str, str, Change]]:
    comes = "Your numbers are what comes out"
    if isinstance(value, Tensor) and value.dtype == torch.int64:
        yield from (
            (f"`{name}` is one too small", f"{comes} with `{name} - 1`.", lambda x: x - 1),
            (f"`{name}` is one too small, and stays at 0", f"{comes} with `{name} - 1`, at least 0.", lambda x: (x - 1).clamp(min=0)),
            (f"`{name}` is one too large", f"{comes} with `{name} + 1`.", lambda x: x + 1),
        )
    if isinstance(value, Tensor) and value.ndim:
        yield from (
            (f"the first of `{name}` for all", f"{comes} if every place has what is at the first place of `{name}`.", lambda x: x[:1].expand_as(x).clone()),
            (f"the last of `{name}` for all", f"{comes} if every place has what is at the last place of `{name}`.", lambda x: x[-1:].expand_as(x).clone()),
            (f"`{name}` from back to front", f"{comes} with `{name}` in the reverse order.", lambda x: x.flip(0)),
            (f"`{name}` one place late", f"{comes} if each place has what stands before it in `{name}`.", lambda x: x.roll(1, 0)),
            (f"the mean of `{name}` for all", f"{comes} if every place has the mean of `{name}`.", lambda x: _floating(x, lambda y: y.mean(0, keepdim=True).expand_as(y).clone())),
            (f"the last of `{name}` is left out", f"{comes} without the last entry of `{name}`.", lambda x: x[:-1]),
            (f"the first of `{name}` is left out", f"{comes} without the first entry of `{name}`.", lambda x: x[1:]),
        )
        if value.ndim > 1:
            yield f"`{name}` is transposed", f"{comes} with the last two axes of `{name}` exchanged.", lambda x: x.mT
    if (isinstance(value, Tensor) and value.is_floating_point()) or type(value) is float:
        yield from _numeric(name, comes)
    if type(value) is int or (type(value) is float and value >= 1):
        yield from (
            (f"`{name}` is one too large", f"{comes} with `{name} + 1`.", lambda x: x + 1),
            (f"`{name}` is one too small", f"{comes} with `{name} - 1`.", lambda x: x - 1),
            (f"twice `{name}`", f"{comes} with `2 * {name}`.", lambda x: 2 * x),
        )
    if isinstance(value, list):
        yield f"`{name}` from back to front", f"{comes} with `{name}` in the reverse order.", lambda x: x[::-1]


def _floating(x: Any, change: Change) -> Any:
    return change(x) if isinstance(x, Tensor) and x.is_floating_point() else x


def _root(x: Any) -> Any:
    return x.sqrt() if isinstance(x, Tensor) else math.sqrt(x)


def _numeric(name: str, comes: str) -> Iterator[tuple[str, str, Change]]:
    yield from (
        (f"`{name}` plays no part", f"{comes} if `{name}` is 0.", lambda x: 0 * x),
        (f"`{name}` plays no part as a factor", f"{comes} if `{name}` is 1.", lambda x: 0 * x + 1),
        (f"the sign of `{name}`", f"{comes} with `-{name}`.", lambda x: -x),
        (f"no root of `{name}`", f"{comes} if `{name}` is squared: where its root belongs, there is none in yours.", lambda x: x**2),
        (f"a root too many of `{name}`", f"{comes} with the square root of `{name}`: it is there once too often, or a square is missing.", _root),
        (f"one minus `{name}`", f"{comes} with `1 - {name}` in the place of `{name}`.", lambda x: 1 - x),
        (f"one over `{name}`", f"{comes} with `1 / {name}` in the place of `{name}`: you divide where you should multiply, or the other way round.", lambda x: 1 / x),
        (f"twice `{name}`", f"{comes} with `2 * {name}`: a factor of one half is missing, or one of 2 is too many.", lambda x: 2 * x),
        (f"half of `{name}`", f"{comes} with `{name} / 2`: a factor of 2 is missing, or one of one half is too many.", lambda x: x / 2),
        (f"the absolute value of `{name}`", f"{comes} if `{name}` has no sign.", abs),
        (f"`{name}` is cut to [-1, 1]", f"{comes} if `{name}` is cut off at -1 and 1; nothing asks for that.", lambda x: x.clamp(-1, 1) if isinstance(x, Tensor) else max(-1.0, min(1.0, x))),
        (f"`{name}` is rounded", f"{comes} with `{name}` rounded to a whole number.", lambda x: x.round() if isinstance(x, Tensor) else float(round(x))),
    )
