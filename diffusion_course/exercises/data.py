"""The data that goes into an answer and comes out: copied, made plain, compared bit by bit."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import torch

_NUMPY_SCALARS = {
    kind for kind in np.sctypeDict.values() if issubclass(kind, (np.floating, np.integer, np.bool_))
}
_BITS = 900  # a larger int does not become a float, with which it would be compared
_DEPTH = 6  # containers deeper than this are no answer; also stops a list that holds itself


@dataclasses.dataclass(frozen=True)
class Foreign:
    """Stands for a returned object that is no tensor, number, string or container of them."""

    type_name: str


def clone(value: Any) -> Any:
    """Deep copy that also copies random generators (copy.deepcopy cannot)."""
    memo: dict[int, Any] = {}

    def find_generators(part: Any) -> None:
        if isinstance(part, torch.Generator):
            memo[id(part)] = torch.Generator(part.device).set_state(part.get_state())
        elif isinstance(part, Mapping):
            for item in part.values():
                find_generators(item)
        elif isinstance(part, (tuple, list)):
            for item in part:
                find_generators(item)

    find_generators(value)
    return copy.deepcopy(value, memo)


def plain(value: Any, depth: int = 0) -> Any:
    """Copy an output into plain data; anything unexpected becomes `Foreign`.

    Types are compared exactly: an object that pretends to be a number or a tensor, or a tensor
    subclass whose operators are its own, must not take part in a comparison.
    """
    kind = type(value)
    if kind in (torch.Tensor, torch.nn.Parameter):
        return (
            value.detach().clone()
            if value.layout == torch.strided
            else Foreign(f"{value.layout} tensor")
        )
    if kind is int and value.bit_length() > _BITS:
        return Foreign("a very large int")
    if value is None or value is ... or kind in (bool, int, float, str):
        return value
    if kind in _NUMPY_SCALARS:
        return as_written(value)
    if kind in (Fraction, Decimal):
        return _as_float(value)
    if kind is np.ndarray:
        return _as_tensor(value)
    if depth < _DEPTH:
        if issubclass(kind, (tuple, list)):
            return tuple(plain(item, depth + 1) for item in list(value))
        if kind is dict and all(type(key) is str for key in value):
            return {key: plain(item, depth + 1) for key, item in value.items()}
        if dataclasses.is_dataclass(kind):
            return tuple(
                plain(getattr(value, field.name), depth + 1) for field in dataclasses.fields(kind)
            )
    return Foreign(
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def as_written(value: Any) -> bool | int | float:
    """Return a numpy scalar as Python's number.

    A float of half or single precision becomes the shortest one that means it: np.float32(0.1) is
    0.1 and not 0.10000000149.
    """
    if isinstance(value, (np.float16, np.float32)):
        return float(str(value))
    return float(value) if isinstance(value, np.longdouble) else value.item()


def _as_float(value: Fraction | Decimal) -> Any:
    try:
        return float(value)
    except (OverflowError, ValueError):
        return Foreign(f"a {type(value).__name__} that no float holds")


def _as_tensor(value: np.ndarray) -> Any:
    try:
        return torch.from_numpy(np.array(value, copy=True, order="C"))
    except (TypeError, ValueError):
        return Foreign(f"numpy.ndarray of {value.dtype}")


def unchanged(before: Any, after: Any) -> bool:
    """True where two pieces of data hold the same values.

    Objects that are no data count as unchanged.
    """
    if isinstance(before, torch.Tensor):
        if (
            not isinstance(after, torch.Tensor)
            or before.shape != after.shape
            or before.dtype != after.dtype
        ):
            return False
        if before.device != after.device or before.device.type == "meta":
            return before.device == after.device
        return torch.equal(_bits(before), _bits(after))
    if isinstance(before, torch.nn.Module):
        return before.training == after.training and unchanged(
            dict(before.state_dict()), dict(after.state_dict())
        )
    if isinstance(before, Mapping):
        return list(before) == list(after) and all(
            unchanged(before[key], after[key]) for key in before
        )
    if isinstance(before, (tuple, list)):
        return len(before) == len(after) and all(map(unchanged, before, after))
    if isinstance(before, (bool, int, float, str)):
        return type(before) is type(after) and (before == after or before != before)
    return True


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return torch.nan_to_num(tensor.detach()) if tensor.is_floating_point() else tensor.detach()
