"""The right answer with its result changed as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, tensor

from ..definition import Exercise, WrongAnswer
from .formulas import solution_of

Change = Callable[[Any], Any]
_WHOLE: tuple[tuple[str, str, Change], ...] = (
    ("the sign of the result", "right but for its sign", lambda r: -r),
    ("twice the result", "twice the right one: is a factor of one half missing?", lambda r: 2 * r),
    ("half of the result", "half of the right one: is a factor of 2 missing?", lambda r: r / 2),
    ("the square of the result", "the square of the right one: take the root", lambda r: r**2),
    ("the root of the result", "the square root of the right one", lambda r: r.sqrt()),
    ("one over the result", "one over the right one: what is below the line?", lambda r: 1 / r),
    ("one minus the result", "one minus the right one: the other share", lambda r: 1 - r),
    ("the logarithm of the result", "the natural logarithm of the right one", lambda r: r.log()),
    ("the exponential of the result", "the exponential of the right one", lambda r: r.exp()),
    ("one too many", "the right one plus 1", lambda r: r + 1),
    ("one too few", "the right one minus 1", lambda r: r - 1),
    ("the result has no sign", "right but for the sign of what is negative", lambda r: r.abs()),
)
# Other numbers agree too easily with what somebody found in another way.
OF_A_NUMBER = (
    *("the sign of the result", "the square of the result", "the root of the result"),
    "one over the result",
)
OF_A_COUNT = ("one too many", "one too few")
_TENSORS: tuple[tuple[str, str, Change], ...] = (
    ("negative values are cut off", "right but 0 for what is negative", lambda r: r.clamp(min=0)),
    ("the result is cut to [-1, 1]", "right but cut off at -1 and 1", lambda r: r.clamp(-1, 1)),
    ("the result is cut to [0, 1]", "right but cut off at 0 and 1", lambda r: r.clamp(0, 1)),
    ("the result is rounded", "right but rounded to whole numbers", lambda r: r.round()),
)
_ROWS: tuple[tuple[str, str, Change], ...] = (
    ("the order is reversed", "the right one from back to front", lambda r: r.flip(0)),
    ("one place late", "the right one, each entry one place late", lambda r: r.roll(1, 0)),
    ("one place early", "the right one, each entry one place early", lambda r: r.roll(-1, 0)),
    ("the first for all", "the first right entry at all places", lambda r: r[:1].expand_as(r)),
    (
        "the mean over the batch",
        "the mean of the right entries, at all places",
        lambda r: r.mean(0, keepdim=True).expand_as(r),
    ),
)
_LAST_AXES: tuple[tuple[str, str, Change], ...] = (
    (
        "rows and columns exchanged",
        "the right one with its last two axes exchanged",
        lambda r: r.mT,
    ),
    ("the last axis reversed", "the right one with its last axis reversed", lambda r: r.flip(-1)),
)


def result_changes(exercise: Exercise) -> Iterator[WrongAnswer]:
    """Yield the right answer with its result changed, the simplest change first."""
    for name, words, change in _WHOLE:
        whole = exercise.is_value and isinstance(exercise.reference(**exercise.chosen), int)
        if not exercise.is_value or name in OF_A_NUMBER or (whole and name in OF_A_COUNT):
            yield _changed(exercise, name, words, change)
    if exercise.is_value:
        return
    for axes, changes in ((0, _TENSORS), (1, _ROWS), (2, _LAST_AXES)):
        for name, words, change in changes:
            yield _changed(
                exercise, name, words, lambda r, c=change, n=axes: c(r) if r.ndim >= n else r
            )
    right = solution_of(exercise)

    def exchanged(*args: Any, **kwargs: Any) -> Any:
        found = right(*args, **kwargs)
        return found[::-1] if isinstance(found, tuple) else found

    why = "Your numbers are right, in another order: look up which comes first."
    yield WrongAnswer("the parts of the result change places", exchanged, why)


def _changed(exercise: Exercise, name: str, words: str, change: Change) -> WrongAnswer:
    right = solution_of(exercise)

    def function(*args: Any, **kwargs: Any) -> Any:
        return _of_numbers(right(*args, **kwargs), change)

    why = f"Look at your result as a whole: it is {words}"
    return WrongAnswer(name, function, why if why.endswith("?") else f"{why}.")


def _of_numbers(value: Any, change: Change) -> Any:
    """`change` of each number that is no index."""
    if isinstance(value, tuple):
        return tuple(_of_numbers(part, change) for part in value)
    if isinstance(value, Tensor) and value.is_floating_point():
        return change(value).to(value.dtype)
    if type(value) in (float, int):
        return change(tensor(float(value)).double()).item()
    return value
