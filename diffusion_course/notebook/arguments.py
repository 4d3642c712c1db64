"""What figures ask of their arguments: numbers of any kind, sizes that fit a screen, words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch

from ..door import Check, number
from ..validation import describe

MOST_INCHES = 100.0
inches = number(lambda value: 0 < value <= MOST_INCHES, f"lie in (0, {MOST_INCHES:g}], in inches")
positive = number(lambda value: 0 < value < math.inf, "be positive and finite")
finite_number = number(math.isfinite, "be a finite number")
room = number(lambda value: 0 <= value <= MOST_INCHES, f"lie in [0, {MOST_INCHES:g}], in inches")


def words(name: str, value: object, given: Any = None) -> None:
    """Raise TypeError unless `value` is a text."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {describe(value)}.")


def heading(name: str, value: object, given: Any = None) -> None:
    """Raise TypeError unless `value` is a text, or None for no text."""
    if value is not None:
        words(name, value)


def in_words(name: str, found: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a dictionary whose labels, texts or numbers, are texts; raises for others, or two."""
    for label in found:
        if not isinstance(label, (str, Real, np.bool_)):
            raise TypeError(f"{name} must be a string or a number, got {describe(label)}.")
    if len(said := {str(label): value for label, value in found.items()}) < len(found):
        raise ValueError(f"{name} must be there once, as it is written, got {[*found]}.")
    return said


def labels(name: str, value: object, given: Any = None) -> None:
    """Raise TypeError unless `value` is a list of labels, or None."""
    if value is None:
        return
    listed = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    single = isinstance(value, (str, bytes, Mapping)) or getattr(value, "ndim", 1) != 1
    if not listed or single:
        raise TypeError(f"{name} must be a list of labels, got {describe(value)}.")


def array(name: str, value: Any) -> np.ndarray:
    """Return numbers or any tensor as a float64 array on the CPU; raises TypeError for others."""
    got = f"{name} must hold real numbers, got {describe(value)}."
    complex_ = getattr(value, "dtype", None) in (torch.complex64, torch.complex128, torch.complex32)
    if complex_ or isinstance(value, (str, bytes)) or getattr(value, "is_meta", False):
        raise TypeError(got)
    try:
        return torch.as_tensor(value, dtype=torch.float64, device="cpu").detach().numpy()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise TypeError(got) from None


def vector(name: str, value: Any, length: int | None = None) -> np.ndarray:
    """Return numbers (N,) as an array; raises ValueError for another shape or number of them."""
    found = array(name, value)
    if found.ndim != 1 or len(found) == 0 or (length is not None and len(found) != length):
        expected = "(N,) with N >= 1" if length is None else f"({length},)"
        raise ValueError(f"{name} must have shape {expected}, got {found.shape}.")
    return found


def as_long_as(name: str, value: Any, other: str, length: int) -> np.ndarray:
    """Return numbers (N,) as an array, one for each of another argument; raises ValueError."""
    found = array(name, value)
    if found.shape != (length,):
        shape = f"({length},)"
        raise ValueError(f"{name} must have one for each of {other}, {shape}, got {found.shape}.")
    return found


def points(name: str, value: Any) -> np.ndarray:
    """Return points (N, 2) as an array; raises ValueError for another shape, NaN or infinity."""
    found = array(name, value)
    if found.ndim != 2 or found.shape[1] != 2 or len(found) == 0:
        raise ValueError(f"{name} must be points in the plane, shape (N, 2), got {found.shape}.")
    return all_finite(name, found)


def all_finite(name: str, found: np.ndarray) -> np.ndarray:
    """Return the array; raises ValueError if it holds NaN or infinity."""
    if bad := int((~np.isfinite(found)).sum()):
        raise ValueError(f"{name} holds {bad} values that are not finite, of {found.size}.")
    return found


def by_panel(name: str, value: Any) -> dict[str, Any]:
    """Return {panel title: data}; a single value is one panel. Raises ValueError for none."""
    found = dict(value) if isinstance(value, Mapping) else {"": value}
    if not found:
        raise ValueError(f"{name} must hold at least one panel, got an empty dictionary.")
    return in_words(f"a panel's title in {name}", found)


def only(options: Mapping[str, Any], known: Sequence[str], who: str) -> None:
    """Raise TypeError for an option that is not known, by the name of whom the reader called."""
    if unknown := [name for name in options if name not in known]:
        raise TypeError(f"{who} has no option {unknown[0]!r}; it has {', '.join(known)}.")


def each_word(name: str) -> Check:
    """Return the check for texts in a list."""

    def each(argument: str, value: Any, given: Any) -> None:
        labels(argument, [] if value is None else value)
        if value is None:
            raise TypeError(f"{argument} must be a list of labels, got None.")
        for i, one in enumerate(value):
            words(f"{name}[{i}]", one)

    each.typed = True
    return each


words.typed = labels.typed = heading.typed = True
