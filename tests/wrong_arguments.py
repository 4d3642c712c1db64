"""What an argument may not be: two dozen values for each argument of each public function, and what must happen.

A value either works or raises TypeError or ValueError that names the argument and says what was passed. It never
raises from inside torch, and never passes in silence where the annotation excludes it or the result is not finite.
"""

import inspect
import re
import types
import typing
from collections.abc import Mapping
from numbers import Real

import numpy as np
import torch
from torch import Tensor, nn

SUBMITTED = (TypeError, ValueError)


def wrong_values(right):
    """Yield (name, value) of what could be passed in place of `right`."""
    yield from {
        "None": None, "a string": "wrong", "a number as a string": "3", "an empty list": [], "a mixed list": [1, "a"],
        "a list of numbers": [0.5, 0.25], "a dict": {}, "an object": object(), "a lambda": lambda *a, **k: None,
        "numpy's float": np.float32(0.5), "numpy's int": np.int64(2), "an array": np.array([0.5, 0.25]), "True": True,
        "-1": -1, "0": 0, "0.5": 0.5, "2": 2, "10**9 as a float": 1e9, "nan": float("nan"), "inf": float("inf"), "1j": 1j,
        "a generator": torch.Generator(), "a dtype": torch.int64, "an empty tensor": torch.zeros(0), "a tensor ()": torch.tensor(0.5),
        "a tensor of six axes": torch.zeros(1, 1, 1, 1, 1, 1), "whole numbers": torch.arange(3), "a complex tensor": torch.ones(2, dtype=torch.complex64),
    }.items()
    if isinstance(right, Tensor):
        other = torch.float64 if right.dtype != torch.float64 else torch.float32
        yield "another dtype", right.to(other) if right.is_floating_point() else right.float()
        yield "half precision", right.half()
        yield "on meta", right.to("meta")
        yield "a graph behind it", right.float().requires_grad_().to(right.dtype) if right.is_floating_point() else right.bool()
        yield "one axis more", right[None]
        if right.ndim:
            yield "no samples", right[:0]
            yield "one sample more", torch.cat([right, right[:1]])
            yield "not contiguous", torch.stack([right, right], -1)[..., 0]
        if right.is_floating_point() and right.ndim:
            bad = right.clone()
            bad.view(-1)[0] = float("nan")
            yield "a tensor with nan", bad


def _members(annotation):
    """Yield the classes that an annotation names, a union's one by one."""
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        for one in typing.get_args(annotation):
            yield from _members(one)
    else:
        yield typing.get_origin(annotation) or annotation


def excluded(annotation, value, default):
    """Whether the annotation says that `value` cannot be right, whatever its contents."""
    members = list(_members(annotation))
    if inspect.Parameter.empty in members or object in members or typing.Any in members or any(isinstance(m, typing.TypeVar) for m in members):
        return False
    if value is None:
        return default is not None and type(None) not in members
    if isinstance(value, bool):
        return not {bool} & set(members)
    if isinstance(value, (Real, np.number)):
        return not {int, float} & set(members) or (float not in members and not isinstance(value, (int, np.integer)))
    if isinstance(value, str):
        return str not in members
    if isinstance(value, Tensor):
        if value.numel() == 1 and {int, float} & set(members):
            return False  # a setting may come as a tensor of one number
        return Tensor not in members and not any(m not in (int, float, bool, str, torch.Generator, nn.Module) for m in members)
    return isinstance(value, (dict, complex)) and not any(isinstance(m, type) and issubclass(m, Mapping) for m in members)


def _floats(found):
    """Yield the floating tensors and numbers in a result."""
    if isinstance(found, Tensor):
        if found.is_floating_point() and not found.is_meta:
            yield found
    elif isinstance(found, float):
        yield torch.tensor(found)
    elif isinstance(found, (tuple, list)):
        for one in found:
            yield from _floats(one)


def consumed(found):
    """Return a result that can be looked at: an iterator is walked for three steps."""
    if inspect.isgenerator(found) or hasattr(found, "__next__"):
        return [one for _, one in zip(range(3), found, strict=False)]
    return found


def faults(function, right, name, allowed=()):
    """Return what goes wrong when one argument of a right call is replaced, a line for each value.

    allowed: errors that are right besides TypeError and ValueError, such as LookupError for an id.
    """
    parameter = inspect.signature(function).parameters.get(name)
    annotation = parameter.annotation if parameter else inspect.Parameter.empty
    if isinstance(annotation, str):  # written as text; a name for type checkers alone says nothing here
        names = getattr(inspect.unwrap(function), "__globals__", vars(inspect.getmodule(function)))
        try:
            annotation = eval(annotation, names)  # noqa: S307
        except NameError:
            annotation = inspect.Parameter.empty
    lines = []
    for what, value in wrong_values(right().get(name)):
        if name == "denoise" and what == "a lambda":
            continue  # what a reader's own function returns is its own affair
        arguments = right()
        arguments[name] = value
        before = torch.get_rng_state()
        try:
            found = list(_floats(consumed(function(**arguments))))
        except (*SUBMITTED, *allowed) as error:
            text = str(error)
            if not re.search(rf"\b{name}\b|\bthe network\b|this (MLP|UNet|network)\b", text):  # its own words
                lines.append(f"{what}: the message does not name it: {type(error).__name__}: {text[:150]}")
            elif not re.search(r"\bgot\b|\bholds\b|\bis on\b|\bis (given|missing|float|nan)|=True", text) and not isinstance(error, allowed):
                lines.append(f"{what}: the message does not say what was passed: {text[:150]}")
        except Exception as error:  # noqa: BLE001
            lines.append(f"{what}: {type(error).__name__}: {str(error).strip().splitlines()[0][:150]}")
        else:
            if excluded(annotation, value, parameter.default if parameter else None):
                lines.append(f"{what}: passes in silence, though the annotation is {annotation}")
            elif what not in ("a tensor with nan", "inf", "half precision") and any(not x.isfinite().all() for x in found):
                lines.append(f"{what}: the result is not finite, and no word is said")
        finally:
            torch.set_rng_state(before)
    return lines
