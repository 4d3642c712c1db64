"""The right answer to another question: with one argument changed, or with two exchanged."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..definition import Case, Exercise, WrongAnswer
from .formulas import solution_of

Change = Callable[[Any], Any]
Found = tuple[str, str, Change]
COMES = "Your numbers are what comes out"


def argument_changes(exercise: Exercise, case: Case) -> Iterator[WrongAnswer]:
    """Yield the mistakes, the simplest first; `case` shows what kind each argument is of."""
    given = dict(exercise.signature.bind(*case.args, **case.kwargs).arguments)
    for name, value in given.items():
        for words, why, change in _of_one(name, value):
            yield _changed(exercise, words, why, (name,), lambda x, c=change: (c(x),))
    for one, other in itertools.combinations(given, 2):
        if not _alike(given[one], given[other]):
            continue
        why = f"{COMES} with the two exchanged."
        words = f"`{one}` and `{other}` change places"
        yield _changed(exercise, words, why, (one, other), lambda x, y: (y, x))
        for kept, lost in ((one, other), (other, one)):
            why = f"{COMES} if `{lost}` has the values of `{kept}` too."
            words = f"`{kept}` in the place of `{lost}`"
            yield _changed(exercise, words, why, (kept, lost), lambda x, y: (x, x))


def other_parameters(exercise: Exercise) -> Iterator[WrongAnswer]:
    """Yield the right numbers for the other parameters that the exercise has."""
    from ..registry import get_exercise  # which imports the lessons, and they what is here

    choices = get_exercise(exercise.id).parameters
    for name, value in exercise.chosen.items():
        for other in choices[name]:
            if other != value:
                why = f"Your number is the right one for {name} = {other}. Here it is {value}."
                change = {name: other}
                yield WrongAnswer(
                    f"another `{name}`",
                    lambda c=change, **given: exercise.reference(**given | c),
                    why,
                )


def _changed(
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


def _of_one(name: str, value: Any) -> Iterator[Found]:
    if isinstance(value, Tensor) and value.dtype == torch.int64:
        yield from _of_index(name)
    if isinstance(value, Tensor) and value.ndim:
        yield from _of_places(name)
        if value.ndim > 1:
            why = f"{COMES} with the last two axes of `{name}` exchanged."
            yield f"`{name}` is transposed", why, lambda x: x.mT
    if (isinstance(value, Tensor) and value.is_floating_point()) or type(value) is float:
        yield from _of_number(name)
    if type(value) is int or (type(value) is float and value >= 1):
        yield f"`{name}` is one too large", f"{COMES} with `{name} + 1`.", lambda x: x + 1
        yield f"`{name}` is one too small", f"{COMES} with `{name} - 1`.", lambda x: x - 1
        yield f"twice `{name}`", f"{COMES} with `2 * {name}`.", lambda x: 2 * x
    if isinstance(value, list):
        why = f"{COMES} with `{name}` in the reverse order."
        yield f"`{name}` from back to front", why, lambda x: x[::-1]


def _of_index(name: str) -> Iterator[Found]:
    yield f"`{name}` is one too small", f"{COMES} with `{name} - 1`.", lambda x: x - 1
    why = f"{COMES} with `{name} - 1`, at least 0."
    yield f"`{name}` is one too small, and stays at 0", why, lambda x: (x - 1).clamp(min=0)
    yield f"`{name}` is one too large", f"{COMES} with `{name} + 1`.", lambda x: x + 1


def _of_places(name: str) -> Iterator[Found]:
    def mean(x: Tensor) -> Tensor:
        return x.mean(0, keepdim=True).expand_as(x).clone() if x.is_floating_point() else x

    every = f"{COMES} if every place has"
    yield (
        f"the first of `{name}` for all",
        f"{every} what is at the first place of `{name}`.",
        lambda x: x[:1].expand_as(x).clone(),
    )
    yield (
        f"the last of `{name}` for all",
        f"{every} what is at the last place of `{name}`.",
        lambda x: x[-1:].expand_as(x).clone(),
    )
    yield f"the mean of `{name}` for all", f"{every} the mean of `{name}`.", mean
    yield (
        f"`{name}` from back to front",
        f"{COMES} with `{name}` in the reverse order.",
        lambda x: x.flip(0),
    )
    yield (
        f"`{name}` one place late",
        f"{COMES} if each place has what stands before it in `{name}`.",
        lambda x: x.roll(1, 0),
    )
    for words, part in (("last", slice(None, -1)), ("first", slice(1, None))):
        why = f"{COMES} without the {words} entry of `{name}`."
        yield f"the {words} of `{name}` is left out", why, lambda x, part=part: x[part]


def _of_number(name: str) -> Iterator[Found]:
    def root(x: Any) -> Any:
        return x.sqrt() if isinstance(x, Tensor) else math.sqrt(x)

    def cut(x: Any) -> Any:
        return x.clamp(-1, 1) if isinstance(x, Tensor) else max(-1.0, min(1.0, x))

    yield f"`{name}` plays no part", f"{COMES} if `{name}` is 0.", lambda x: 0 * x
    yield f"`{name}` is taken as 1", f"{COMES} if `{name}` is 1.", lambda x: 0 * x + 1
    yield f"the sign of `{name}`", f"{COMES} with `-{name}`.", lambda x: -x
    why = f"{COMES} if `{name}` is squared: where its root belongs, yours has none."
    yield f"no root of `{name}`", why, lambda x: x**2
    why = f"{COMES} with the square root of `{name}`: it is there once too often, or a square is"
    yield f"a root too many of `{name}`", f"{why} missing.", root
    why = f"{COMES} with `1 - {name}` in the place of `{name}`."
    yield f"one minus `{name}`", why, lambda x: 1 - x
    why = f"{COMES} with `1 / {name}` in the place of `{name}`: is something divided that should be"
    yield f"one over `{name}`", f"{why} multiplied, or the other way round?", lambda x: 1 / x
    why = f"{COMES} with `2 * {name}`: is a factor of one half missing, or one of 2 too many?"
    yield f"twice `{name}`", why, lambda x: 2 * x
    why = f"{COMES} with `{name} / 2`: is a factor of 2 missing, or one of one half too many?"
    yield f"half of `{name}`", why, lambda x: x / 2
    yield f"the size of `{name}`", f"{COMES} if `{name}` has no sign.", abs
    why = f"{COMES} if `{name}` is cut off at -1 and 1; nothing asks for that."
    yield f"`{name}` is cut to [-1, 1]", why, cut
    why = f"{COMES} with `{name}` rounded to a whole number."
    yield (
        f"`{name}` is rounded",
        why,
        lambda x: x.round() if isinstance(x, Tensor) else float(round(x)),
    )
