"""What belongs to torch, numpy and Python, and is put back where code gives it another value."""

from __future__ import annotations

import builtins
import contextlib
import io
import math
import operator
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from .traces import is_own

_OWNERS = {
    "torch": torch,
    "torch.nn.functional": torch.nn.functional,
    "torch.Tensor": torch.Tensor,
    "numpy": np,
    "math": math,
    "builtins": builtins,
}
Snapshot = dict[str, dict[str, Any]]


def snapshot() -> Snapshot:
    """Return what each of the libraries holds now."""
    return {name: dict(vars(owner)) for name, owner in _OWNERS.items()}


_AT_THE_START = snapshot()


def put_back(before: Snapshot) -> tuple[str, ...]:
    """Put back the public names that are not what they were, and return them: "torch.exp"."""
    found = []
    for owner, name in _changes(before):
        found.append(f"{owner}.{name}")
        with contextlib.suppress(AttributeError, TypeError):
            if name in before[owner]:
                setattr(_OWNERS[owner], name, before[owner][name])
            else:
                delattr(_OWNERS[owner], name)
    return tuple(found)


def patched() -> str:
    """Name what has another value than when the course was imported, in words; "" for nothing."""
    names = [f"`{owner}.{name}`" for owner, name in _changes(_AT_THE_START)]
    if not names:
        return ""
    verb = "is no longer what it was" if len(names) == 1 else "are no longer what they were"
    return f"{', '.join(names[:4])} {verb}: restart the kernel, and use a name of your own"


def _changes(before: Snapshot) -> Iterator[tuple[str, str]]:
    for owner, values in before.items():
        now = vars(_OWNERS[owner])
        if len(now) == len(values) and all(map(operator.is_, now.values(), values.values())):
            continue
        now = dict(now)
        for name in {*now, *values}:
            if name.startswith("_") or now.get(name) is values.get(name):
                continue
            if isinstance(now.get(name), types.FunctionType) and not is_own(now[name].__code__):
                continue  # torch wraps functions of its own when a part of it is loaded
            # A library may load a part of itself when it is first asked for.
            if name in values or (owner == "torch.Tensor" and hasattr(torch.Tensor.__base__, name)):
                if not isinstance(now.get(name), types.ModuleType) or name in values:
                    yield owner, name


class _Open:
    """A stream that the code in a call may write to, and cannot close."""

    def __init__(self, stream: io.TextIOBase) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None:
        """Leave it open: the verdict is printed to it."""


@contextlib.contextmanager
def open_streams() -> Iterator[None]:
    """Keep stdout and stderr from being closed in the body."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (one and _Open(one) for one in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
