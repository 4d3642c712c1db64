"""What an annotation asks of a value: the door holds every argument to its own.

``held_to(annotation)`` returns a ``Kind``: the types that need no second look, and ``of(name,
value)``, which returns the value, numpy's numbers as Python's, or raises TypeError or ValueError
that names the argument, says what was passed and what to do.
"""

import collections.abc as abc
import os
import types
import typing
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .validation import describe, values_are_free

ADVICE = {
    "Tensor": "Wrap it: torch.as_tensor({name}).",
    "Generator": "Make one: make_generator(0).",
    "NoiseSchedule": "Make one: make_schedule('linear', 1000).",
    "LatentParts": "Load them: load_parts().",
}
WORDS = {
    "Generator": "a torch.Generator",
    "Module": "a torch.nn.Module",
    "Optimizer": "a torch.optim.Optimizer",
}
Convert = Callable[[str, Any], Any]  # the value, or NotImplemented where it is of another kind


class Kind(NamedTuple):
    """What one annotation asks: ``plain`` types pass at once, ``of`` looks at all others."""

    plain: frozenset[type]
    of: Callable[[str, Any], Any]
    number: bool  # a float will do, unless it is nan

    def plainly(self, name: str, value: object) -> object:
        """Return numpy's numbers as Python's, and what is of another kind as it came."""
        try:
            return self.of(name, value)
        except (TypeError, ValueError):
            return value


class _Member(NamedTuple):
    """One member of a union: how it is called, the types that pass at once, the rest."""

    words: str
    plain: tuple[type, ...]
    convert: Convert


def held_to(annotation: object, optional: bool = False) -> Kind | None:
    """Return the kind of an annotation; None where it says nothing (Any, object, a TypeVar)."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    asked = typing.get_args(annotation) if union else (annotation,)
    asked = sorted(asked, key=lambda one: one is not Tensor)  # a tensor is looked at as one first
    optional = optional or type(None) in asked
    asked = [one for one in asked if one is not str or torch.device not in asked]  # its name
    members = [_member(one) for one in asked if one is not type(None)]
    if None in members:
        return None
    words = " or ".join(dict.fromkeys(member.words for member in members))
    words += " or None" if optional else ""
    advice = ADVICE.get(getattr(asked[0], "__name__", ""), "")

    def of(name: str, value: object) -> object:
        if value is None and optional:
            return value
        for member in members:
            if (found := member.convert(name, value)) is not NotImplemented:
                return found
        numbers = isinstance(value, (Real, list, tuple, np.ndarray))
        remedy = advice.format(name=name) if numbers or asked[0] is not Tensor else ""
        if isinstance(value, Tensor) and value.ndim == 0 and "number" in words:
            remedy = f"Read it: {name}.item()."
        raise TypeError(f"{name} must be {words}, got {describe(value)}. {remedy}".rstrip())

    plain = {one for member in members for one in member.plain}
    return Kind(frozenset(plain | ({type(None)} if optional else set())), of, float in asked)


def _member(annotation: object) -> _Member | None:
    """Return what one annotation asks for, None if that is nothing."""
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, type) and origin is None and annotation in _SIMPLE:
        return _SIMPLE[annotation]
    if origin is tuple and len(inside) == 2 and inside[1] is Ellipsis:
        return _sequence("a tuple or list", inside[0])
    if origin is tuple:
        return _sequence("a tuple", *inside, length=len(inside))
    if origin in (abc.Callable, Callable):
        return _SIMPLE[abc.Callable]
    if origin in (dict, abc.Mapping):
        return _Member("a dictionary", (dict,), _if(Mapping))
    if origin in (list, abc.Sequence, abc.Collection):
        return _sequence("a list", inside[0])
    if origin is abc.Iterable:
        return _Member("something to go through", (list, tuple), _if(abc.Iterable))
    if getattr(annotation, "_is_protocol", False):
        return _SIMPLE[abc.Callable]
    if isinstance(annotation, type) and annotation not in (object, Any):
        article = "an" if annotation.__name__[0] in "AEIOU" else "a"
        words = WORDS.get(annotation.__name__, f"{article} {annotation.__name__}")
        return _Member(words, (annotation,), DUCKS.get(annotation.__name__) or _if(annotation))
    return None


def _if(kind: type | tuple[type, ...]) -> Convert:
    return lambda name, value: value if isinstance(value, kind) else NotImplemented


def _number(name: str, value: object) -> object:
    if not isinstance(value, Real) or isinstance(value, (bool, np.bool_)):
        return NotImplemented
    if value != value:
        raise ValueError(f"{name} must be a number, got {describe(value)}.")
    if type(value) in (int, float):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def _whole(name: str, value: object) -> object:
    if not isinstance(value, Integral) or isinstance(value, (bool, np.bool_)):
        return NotImplemented
    return int(value)


def _dtype(name: str, value: object) -> object:
    if not isinstance(value, torch.dtype):
        return NotImplemented
    if not value.is_floating_point:
        raise ValueError(f"{name} must be a floating dtype, got {value}.")
    return value


def _device(name: str, value: object) -> object:
    if isinstance(value, torch.device):
        return value
    if not isinstance(value, str):
        return NotImplemented
    try:
        torch.device(value)
    except RuntimeError as error:
        raise ValueError(
            f"{name} must be a device such as 'cpu' or 'cuda', got {value!r}."
        ) from error
    return value


def _sequence(words: str, *each: object, length: int | None = None) -> _Member:
    """Return the check of a list whose members are ``each``, in turn."""
    kinds = [held_to(one) for one in each]

    def convert(name: str, value: object) -> object:
        if isinstance(value, Tensor) and value.ndim and values_are_free(value.detach()):
            value = value.tolist()
        if isinstance(value, abc.Set):
            value = tuple(value)
        listed = hasattr(value, "__getitem__") and hasattr(value, "__len__")
        if not listed or isinstance(value, (str, bytes, Mapping, Tensor)):
            return NotImplemented
        if length is not None and len(value) != length:
            raise ValueError(f"{name} must have {length} entries, got {describe(value)}.")
        if None in kinds:
            return value
        entries = [
            kind.of(f"{name}[{i}]", one)
            for i, one in enumerate(value)
            for kind in [kinds[i % len(kinds)]]
        ]
        same = all(a is b for a, b in zip(entries, value, strict=True))
        return value if same else type(value)(entries) if type(value) in (list, tuple) else entries

    return _Member(words, (), convert)


def _call(name: str, value: object) -> object:
    if isinstance(value, type):
        got = f"got the class {value.__name__}: make one, {value.__name__}()"
        raise TypeError(f"{name} must be something to call, {got}.")
    return value if callable(value) else NotImplemented


def _optimizer(name: str, value: object) -> object:
    steps = all(callable(getattr(value, part, None)) for part in ("step", "zero_grad"))
    return value if steps else NotImplemented


DUCKS = {"Optimizer": _optimizer}  # what wraps one is one
_SIMPLE: dict[Any, _Member] = {
    Tensor: _Member("a torch.Tensor", (Tensor,), _if(Tensor)),
    float: _Member("a number", (), _number),
    int: _Member("an int", (int,), _whole),
    bool: _Member("True or False", (bool,), _if((bool, np.bool_))),
    str: _Member("a string", (str,), _if(str)),
    torch.dtype: _Member("a torch.dtype", (), _dtype),
    torch.device: _Member("a device such as 'cpu'", (torch.device,), _device),
    abc.Callable: _Member("something to call", (types.FunctionType,), _call),
}
_SIMPLE[Path] = _SIMPLE[os.PathLike] = _Member("a path", (), _if(os.PathLike))
