"""Read messages (`protocol`) and believe nothing in them.

Every size, type and number is checked before it is used. `objects=True` is for the worker alone. It
also makes what only a case holds: generators, optimisers and the objects of `exercises.given`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...exercises.trial import Foreign
from .protocol import (
    CLASSES,
    DTYPES,
    HEADER,
    MAX_BYTES,
    MAX_DEPTH,
    MAX_DIGITS,
    MAX_DIMS,
    MAX_JSON,
    MAX_PARTS,
    MAX_SOURCE,
    MAX_TEXT,
    ProtocolError,
)


class _Reader:
    """Builds values from a tree and takes its tensors out of the bytes."""

    def __init__(self, described: Any, raw: bytes, *, objects: bool) -> None:
        self.raw, self.objects, self.parts = raw, objects, 0
        self.modules: list[torch.nn.Module] = []
        self.taken: set[int] = set()
        self.tensors, start = [], 0
        if type(described) is not list or len(described) > MAX_PARTS:
            raise ProtocolError("the list of tensors is missing or too long")
        for one in described:
            dtype, shape, order, size = _description(one)
            if start + size > len(raw):
                raise ProtocolError("the tensors are longer than the message")
            self.tensors.append((dtype, shape, order, start, size))
            start += size

    def tensor(self, index: Any) -> Tensor:
        if type(index) is not int or not 0 <= index < len(self.tensors):
            raise ProtocolError(f"there is no tensor {str(index)[:40]}")
        if index in self.taken:  # a short message must not unfold into a long one
            raise ProtocolError(f"tensor {index} is there twice")
        self.taken.add(index)
        dtype, shape, order, start, size = self.tensors[index]
        # A byte of a bool may be anything until it is compared with 0.
        stored = torch.uint8 if dtype == torch.bool else dtype
        flat = torch.empty(0, dtype=stored)
        if size:
            flat = torch.frombuffer(bytearray(self.raw[start : start + size]), dtype=stored)
        flat = flat != 0 if dtype == torch.bool else flat
        inverse = sorted(range(len(order)), key=order.__getitem__)
        return flat.reshape(shape).permute(inverse)

    def value(self, tree: Any, depth: int = 0) -> Any:
        self.parts += 1
        if depth > MAX_DEPTH or self.parts > MAX_PARTS:
            raise ProtocolError("the message is too deep or has too many parts")
        if tree is None or type(tree) in (bool, int, float):
            return tree
        if type(tree) is str:
            if len(tree) > (MAX_SOURCE if self.objects else MAX_TEXT):
                raise ProtocolError(f"a text of {len(tree)} characters is too long")
            return _sound(tree)
        if type(tree) is not dict or not tree:
            raise ProtocolError(f"{type(tree).__name__} is no part of a message")
        kind, content = next(iter(tree.items()))
        if kind in ("tuple", "list") and type(content) is list:
            items = [self.value(item, depth + 1) for item in content]
            return items if kind == "list" and self.objects else tuple(items)
        if kind == "dict" and _are_pairs(content):
            pairs = [[self.value(part, depth + 1) for part in pair] for pair in content]
            if not all(type(key) is str for key, _ in pairs):
                raise ProtocolError("the keys of a dictionary are texts")
            return dict(pairs)
        if (make := self.simple(kind)) is not None:
            return make(content)
        if self.objects:
            return self.object(kind, content, tree, depth)
        raise ProtocolError(f"{kind[:40]!r} is no part of an answer")

    def simple(self, kind: str) -> Callable[[Any], Any] | None:
        known = {
            "tensor": self.tensor,
            "int": _integer,
            "float": _not_finite,
            "ellipsis": lambda _: ...,
            "foreign": _foreign,
        }
        return known.get(kind)

    def object(self, kind: str, content: Any, tree: dict[str, Any], depth: int) -> Any:
        if kind == "generator":
            return torch.Generator().set_state(self.tensor(content))
        if kind == "sgd":
            return torch.optim.SGD(
                self.modules[content].parameters(), **self.value(tree["options"], depth + 1)
            )
        if kind != "object":
            raise ProtocolError(f"{kind[:40]!r} is no part of a case")
        made = CLASSES[content](**self.value(tree["parts"], depth + 1)).train(tree["training"])
        self.modules.append(made)
        return made


def _are_pairs(content: Any) -> bool:
    return type(content) is list and all(type(pair) is list and len(pair) == 2 for pair in content)


def _is_whole(number: Any) -> bool:
    return type(number) is int  # True and False are none


def _description(one: Any) -> tuple[torch.dtype, list[int], list[int], int]:
    """A tensor's dtype, shape, order of its axes and size in bytes."""
    if type(one) is not dict or set(one) != {"dtype", "shape", "order", "bytes"}:
        raise ProtocolError("a tensor is described by dtype, shape, order and bytes")
    name, shape, order, size = one["dtype"], one["shape"], one["order"], one["bytes"]
    dtype = DTYPES.get(name) if type(name) is str else None
    if dtype is None or not _is_whole(size):
        raise ProtocolError(f"{str(name)[:40]!r} is no dtype of an answer")
    if type(shape) is not list or len(shape) > MAX_DIMS:
        raise ProtocolError("a shape is a short list")
    if not all(_is_whole(length) and 0 <= length <= MAX_BYTES for length in shape):
        raise ProtocolError("a shape is a list of numbers that are not negative")
    if type(order) is not list or not all(map(_is_whole, order)):
        raise ProtocolError("the order of the axes is a list of numbers")
    if sorted(order) != list(range(len(shape))):
        raise ProtocolError("the order is no order of the axes")
    # An empty tensor too has strides, which are 64-bit numbers.
    if math.prod(max(length, 1) for length in shape) > 2**40:
        raise ProtocolError("a tensor has a shape that no answer has")
    if math.prod(shape) * dtype.itemsize != size:
        raise ProtocolError(f"a tensor of shape {shape} does not have {size} bytes")
    return dtype, shape, order, size


def _integer(text: Any) -> Any:
    if text is None:
        return Foreign("a very large int")
    if (
        type(text) is not str
        or len(text) > MAX_DIGITS + 1
        or not text.removeprefix("-").isdecimal()
        or not text.isascii()
    ):
        raise ProtocolError("an int is a text of at most 300 digits")
    return int(text)


def _not_finite(text: Any) -> float:
    if text not in ("nan", "inf", "-inf"):
        raise ProtocolError("a float that is not finite is nan, inf or -inf")
    return float(text)


def _foreign(name: Any) -> Foreign:
    if type(name) is not str or len(name) > MAX_TEXT:
        raise ProtocolError("the name of a type is a text")
    return Foreign(_sound(name))


def _sound(text: str) -> str:
    """Replace halves of surrogate pairs, which JSON may hold and no file can."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _small_int(text: str) -> int:
    if len(text) > 20:
        raise ProtocolError("a number in the message has too many digits")
    return int(text)


def _no_constant(text: str) -> float:
    raise ProtocolError(f"{text} is not written as a number")


def decode(text: bytes, raw: bytes, *, objects: bool = False) -> Any:
    """Return the value of a message's two halves; raises ProtocolError for whatever is not one."""
    try:
        whole = json.loads(text.decode("utf-8"), parse_int=_small_int, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"no message: {type(error).__name__}") from None
    if type(whole) is not dict or set(whole) != {"tensors", "tree"}:
        raise ProtocolError("a message has tensors and a tree")
    return _Reader(whole["tensors"], raw, objects=objects).value(whole["tree"])


def receive(read: Callable[[int], bytes], *, objects: bool = False) -> Any:
    """Read one message with `read(n)`, which returns exactly n bytes or raises.

    Raises ProtocolError before it reads too much.
    """
    length, size = HEADER.unpack(read(HEADER.size))
    if length > (MAX_BYTES if objects else MAX_JSON) or size > MAX_BYTES:
        raise ProtocolError(f"a message of {length} + {size} bytes is too large")
    return decode(read(length), read(size), objects=objects)
