"""Compare an answer's output with the reference's, and say how they differ in terms of the answer's
own output.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from .data import Foreign, as_written
from .definition import Tolerance
from .digits import agreement, is_right
from .places import amount, first_place, place

ORDER = ("type", "structure", "shape", "dtype", "device", "finite", "value")


@dataclasses.dataclass(frozen=True)
class Difference:
    """The first thing that differs: which check, one of ORDER, and a sentence about the output.

    `detail` shows a number of the output and how far it is off. It says more about the right value
    than a grader may tell.
    """

    check: str
    message: str
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class Terms:
    """How two outputs are compared, and what their parts are called.

    inputs: the case's arguments by name; a `t` (B,) among them says at which t a batch is wrong.
    digits: how many significant digits a number that was to be found has to have; None compares it
    by the tolerance.
    precision: the dtype whose tolerance holds, where that is not the expected output's own.
    parts: what the parts of a tuple are called where `Exercise.call` made it and not the answer; a
    text with a full stop is the whole sentence about a part that is off. The last one is the last
    part's, and the last but one that of all others.
    """

    tolerance: Tolerance
    inputs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    digits: int | None = None
    precision: torch.dtype | None = None
    parts: Sequence[str] = ()

    def part(self, index: int, count: int) -> str:
        """What part `index` of `count` parts is called."""
        if index == count - 1:
            return self.parts[-1]
        return self.parts[min(index, len(self.parts) - 2)]


def difference(
    expected: Any, got: Any, terms: Terms, *, any_dtype: bool = False
) -> Difference | None:
    """Return the first difference in the order of ORDER, over all parts, or None.

    `any_dtype` compares values only.
    """
    found = [
        item
        for item in _walk(expected, got, terms, "your output")
        if not (any_dtype and item.check == "dtype")
    ]
    return min(found, key=lambda item: ORDER.index(item.check), default=None)


def _walk(expected: Any, got: Any, terms: Terms, name: str) -> Iterator[Difference]:
    if terms.parts and isinstance(expected, tuple) and name == "your output":
        yield from _walk_parts(expected, got, terms)
        return
    wanted, given = _kind(expected), _kind(got)
    if (
        wanted == "a number"
        and isinstance(got, torch.Tensor)
        and got.numel() == 1
        and not got.is_complex()
        and got.device.type != "meta"
    ):
        got, given = _number(got), "a number"
    if wanted != given:
        yield Difference("type", f"{name} is {given}, {wanted} is asked for.")
    elif isinstance(expected, torch.Tensor):
        yield from _compare_tensors(expected, got, terms, name)
    elif isinstance(expected, tuple):
        if len(expected) != len(got):
            yield Difference(
                "structure", f"{name} has {len(got)} parts, {len(expected)} are asked for."
            )
        else:
            for index, (want, part) in enumerate(zip(expected, got, strict=True), start=1):
                yield from _walk(want, part, terms, f"part {index} of {name}")
    elif isinstance(expected, dict):
        if set(expected) != set(got):
            yield Difference(
                "structure", f"{name} has the keys {sorted(got)}, {sorted(expected)} are asked for."
            )
        else:
            for key, want in expected.items():
                yield from _walk(want, got[key], terms, f"{name}[{key!r}]")
    elif wanted == "a number":
        yield from _compare_numbers(expected, got, terms, name)
    elif expected != got:
        yield Difference("value", f"{name} is {got!r}.")


def _walk_parts(expected: tuple, got: Any, terms: Terms) -> Iterator[Difference]:
    """Compare what `Exercise.call` measured: the answer itself has returned one thing."""
    if not isinstance(got, tuple) or len(got) != len(expected):
        yield Difference("type", f"your output is {_kind(got)}, {_kind(expected[0])} is asked for.")
        return
    for index, (want, part) in enumerate(zip(expected, got, strict=True)):
        name = terms.part(index, len(expected))
        for item in _walk(want, part, dataclasses.replace(terms, parts=()), name):
            yield Difference(item.check, name) if name.endswith(".") else item


def _number(tensor: torch.Tensor) -> float | int | bool:
    if tensor.dtype in (torch.float16, torch.float32):
        return as_written(tensor.numpy().reshape(-1)[0])
    return tensor.item()


def _kind(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return "a torch.Tensor"
    if isinstance(value, Foreign):
        return f"an object of type {value.type_name}"
    kinds = {
        tuple: "a tuple or list",
        dict: "a dictionary",
        bool: "True or False",
        str: "a string",
        float: "a number",
        int: "a number",
    }
    return kinds.get(type(value), str(value))


def _compare_numbers(expected: float, got: float, terms: Terms, name: str) -> Iterator[Difference]:
    side = "too large" if got > expected else "too small"
    if isinstance(got, int) and got.bit_length() > 1000:  # no float holds it
        yield Difference("value", f"{name} is {side}.")
    elif not math.isfinite(got) and math.isfinite(expected):
        yield Difference("finite", f"{name} is {got}.")
    elif terms.digits is not None and math.isfinite(expected):
        if not is_right(expected, got, terms.digits, terms.tolerance):
            shown = _apart(got, expected)
            yield Difference("value", f"{name}, {shown}, {_agreed(expected, got, terms, side)}.")
    elif not (got == expected or abs(got - expected) <= _room(expected, terms.tolerance)):
        yield Difference("value", f"{name}, {_apart(got, expected)}, is {side}.")


def _apart(got: float, expected: float) -> str:
    """Show a number with as many digits as tell it from the right one; it has no sign at 0."""
    got += 0  # -0.0 becomes 0.0
    shown = (f"{got:.{digits}g}" for digits in range(6, 18))
    return next((text for text in shown if float(text) != float(f"{expected:.6g}")), repr(got))


def _room(expected: float, tolerance: Tolerance) -> float:
    return tolerance.atol + tolerance.rtol * abs(expected)


def _agreed(expected: float, got: float, terms: Terms, side: str) -> str:
    """Say to how many digits a number is right, where it is right to some."""
    if terms.tolerance.rtol > Tolerance().rtol:
        return f"is {side} by more than {100 * terms.tolerance.rtol:g} %"
    agreed = 0 if isinstance(expected, int) else agreement(expected, got)
    if agreed < 2:
        return f"is {side}"
    if agreed < terms.digits:
        return f"agrees to {agreed} digits, {terms.digits} are asked for"
    return f"agrees to {agreed} digits: those after them that you write have to be right too"


def _compare_tensors(
    expected: torch.Tensor, got: torch.Tensor, terms: Terms, name: str
) -> Iterator[Difference]:
    if got.shape != expected.shape:
        yield Difference(
            "shape", f"{name} has shape {tuple(got.shape)}, {tuple(expected.shape)} is asked for."
        )
        return
    if got.dtype != expected.dtype:
        yield Difference(
            "dtype", f"{name} has dtype {_short(got.dtype)}, {_short(expected.dtype)} is asked for."
        )
    if got.device != expected.device:
        yield Difference(
            "device", f"{name} is on device {got.device}, {expected.device} is asked for."
        )
        return
    if expected.numel() == 0 or expected.device.type == "meta":
        return
    want, have = _widest(expected, got)
    broken = torch.isfinite(want) & ~torch.isfinite(have)
    if broken.any():
        kind = "NaN" if have[broken].isnan().any() else "an infinite value"
        yield Difference("finite", f"{name} holds {kind}{place(broken, terms.inputs)}.")
        return
    close = (want == have) | (want.isnan() & have.isnan())
    if expected.is_floating_point() or expected.is_complex():
        rtol, atol = terms.tolerance.limits(terms.precision or expected.dtype)
        close |= (
            ((want - have).abs() <= atol + rtol * want.abs()) & want.isfinite() & have.isfinite()
        )
    if not close.all():
        where = place(~close, terms.inputs)
        yield Difference(
            "value",
            f"{name} is off{where}{amount(want, have, ~close)}.",
            first_place(want, have, ~close, name),
        )


def _widest(expected: torch.Tensor, got: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both in one dtype that holds what they hold."""
    if expected.is_complex() or got.is_complex():
        return expected.to(torch.complex128), got.to(torch.complex128)
    if not (expected.is_floating_point() or got.is_floating_point()):
        return expected.long(), got.long()
    return expected.double(), got.double()


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
