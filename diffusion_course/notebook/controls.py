"""Controls of an `Explorer`: what stands for one, where each can go, and its states in order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..validation import describe


def control_of(name: str, spec: Any) -> Any:
    """Return the ipywidgets control that `spec` asks for (see `Explorer`)."""
    import ipywidgets as widgets

    options = {"description": name.replace("_", " "), "style": {"description_width": "initial"}}
    if isinstance(spec, widgets.ValueWidget):
        try:
            key_of(spec.value)
        except TypeError:
            kind = type(spec).__name__
            raise ValueError(
                f"Explorer: control {name!r} is a {kind}, whose values cannot be told apart."
            ) from None
        return spec
    if isinstance(spec, range) and len(spec):
        low, high = sorted((spec[0], spec[-1]))
        return widgets.IntSlider(value=spec[0], min=low, max=high, step=abs(spec.step), **options)
    if isinstance(spec, list) and spec:
        for one in spec:
            _check_choice(name, one)
        for one, other in itertools.combinations(spec[:1000], 2):
            if type(one) is not type(other) and one == other:
                raise ValueError(
                    f"Explorer: control {name!r} must have choices that differ, got {one!r} and"
                    f" {other!r}, which are equal."
                )
        numbers = all(isinstance(value, Real) for value in spec)
        choice = widgets.SelectionSlider if numbers else widgets.Dropdown
        first = spec[0][1] if all(map(_is_pair, spec)) else spec[0]
        return choice(options=spec, value=first, **options)
    if _is_range(spec):
        whole = all(isinstance(value, Integral) for value in spec)
        slider, spec = (
            (widgets.IntSlider, [int(value) for value in spec])
            if whole
            else (widgets.FloatSlider, [float(value) for value in spec])
        )
        step = {"step": spec[2]} if len(spec) == 3 else {}
        return slider(value=spec[0], min=spec[0], max=spec[1], **step, **options)
    raise ValueError(
        f"Explorer: control {name!r} must be (low, high), (low, high, step), a range, a list of"
        f" choices, or an ipywidgets control, got {describe(spec)}."
    )


def _is_range(spec: Any) -> bool:
    """Whether `spec` is (low, high) or (low, high, step) with numbers that a slider can go."""
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        return False
    if not all(isinstance(one, Real) and not isinstance(one, bool) for one in spec):
        return False
    rises = spec[0] < spec[1] and (len(spec) == 2 or spec[2] > 0)
    return rises and all(math.isfinite(one) for one in spec)


def _check_choice(name: str, one: Any) -> None:
    """Raise unless a choice is a value that is found again: no array, list or NaN."""
    value = one[1] if _is_pair(one) else one
    try:
        key_of(value)
        found = not hasattr(value, "ndim") or isinstance(value, np.generic)
    except TypeError:
        found = False
    if not found or value != value:
        raise ValueError(
            f"Explorer: control {name!r} must have choices that are numbers, texts or (label,"
            f" value) pairs, got {describe(one)}. Choose by name, and look the value up in draw."
        )


def _is_pair(one: Any) -> bool:
    return isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], str)


def plain(value: Any) -> Any:
    """Return numpy's numbers as Python's, others as they are."""
    return value.item() if isinstance(value, np.generic) else value


def _choices(control) -> list[Any]:
    """The values behind the options of a control: of (label, value) pairs the values."""
    return list(getattr(control, "_options_values", ()))


def allowed(control: Any, value: Any) -> bool:
    """Whether `control` can take `value` without moving it elsewhere: it is tried on a copy."""
    if hasattr(control, "options"):
        several = isinstance(control.value, tuple) and hasattr(control, "index")
        if several and isinstance(control.index, tuple):
            if not isinstance(value, (tuple, list)):
                return False
            return all(_is_there(one, _choices(control)) for one in value)
        return _is_there(value, _choices(control))
    if isinstance(value, (bool, np.bool_)) != isinstance(control.value, bool):
        return False
    keys = ("min", "max", "step", "base", "allowed_tags")
    state = {key: getattr(control, key) for key in keys if hasattr(control, key)}
    try:
        copy = type(control)(**state)
        copy.value = plain(value)
        return key_of(copy.value) == key_of(plain(value)) or _same_number(copy.value, value)
    except Exception:  # a control says no in many ways: TraitError, TypeError, OverflowError, ...
        return False


def _same_number(a: Any, b: Any) -> bool:
    numbers = all(isinstance(one, Real) and not isinstance(one, bool) for one in (a, b))
    return numbers and bool(a == b)


def _is_there(value: Any, choices: list[Any]) -> bool:
    try:
        return any(key_of(one) == key_of(plain(value)) for one in choices)
    except TypeError:  # what cannot be a key is no choice
        return False


def key_of(value: Any) -> Any:
    """A value as a key: 0, 0.0 and False are three; raises TypeError for what cannot be one."""
    if isinstance(value, (list, tuple)):
        return type(value), tuple(map(key_of, value))
    hash(value)
    return type(value), value


def every_value(control: Any) -> Sequence[Any]:
    """The values that `control` can take, in order; raises ValueError for one with no steps."""
    single = hasattr(control, "options") and not isinstance(getattr(control, "index", 0), tuple)
    if single:
        return _choices(control)
    whole = isinstance(control.value, int) and not isinstance(control.value, bool)
    if whole and isinstance(getattr(control, "step", None), int) and hasattr(control, "min"):
        return range(control.min, control.max + 1, control.step)
    if type(control.value) is bool:
        return [False, True]
    kind = type(control).__name__
    raise ValueError(
        f"Explorer: the states of a {kind} cannot be drawn ahead; use a range or a list of choices."
    )
