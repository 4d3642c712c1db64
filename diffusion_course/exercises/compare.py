"""Compare an answer's output with the reference's, and say how they differ in terms of the answer's
own output.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from .registry import Tolerance
from .trial import Foreign

ORDER = ("type", "structure", "shape", "dtype", "device", "finite", "value")


@dataclasses.dataclass(frozen=True)
class Difference:
    """The first thing that differs: which check (one of ORDER) and a sentence about the answer's
    output.
    """

    check: str
    message: str


def difference(
    expected: Any,
    got: Any,
    tolerance: Tolerance,
    inputs: Mapping[str, Any] | None = None,
    *,
    any_dtype: bool = False,
) -> Difference | None:
    """Return the first difference in the order of ORDER over all parts of the output, or None where
    they agree.

    `inputs` are the case's arguments by name; a `t` (B,) among them says at which t a batch is
    wrong. `any_dtype` compares values only.
    """
    found = [
        item
        for item in _walk(expected, got, tolerance, inputs or {}, "your output")
        if not (any_dtype and item.check == "dtype")
    ]
    return min(found, key=lambda item: ORDER.index(item.check), default=None)


def _walk(
    expected: Any, got: Any, tolerance: Tolerance, inputs: Mapping[str, Any], name: str
) -> Iterator[Difference]:
    wanted, given = _kind(expected), _kind(got)
    if (
        wanted == "a number"
        and isinstance(got, torch.Tensor)
        and got.numel() == 1
        and not got.is_complex()
    ):
        got, given = got.item(), "a number"
    if wanted != given:
        yield Difference("type", f"{name} is {given}, {wanted} is asked for.")
    elif isinstance(expected, torch.Tensor):
        yield from _compare_tensors(expected, got, tolerance, inputs, name)
    elif isinstance(expected, tuple):
        if len(expected) != len(got):
            yield Difference(
                "structure", f"{name} has {len(got)} parts, {len(expected)} are asked for."
            )
        else:
            for index, (want, part) in enumerate(zip(expected, got, strict=True), start=1):
                yield from _walk(want, part, tolerance, inputs, f"part {index} of {name}")
    elif isinstance(expected, dict):
        if set(expected) != set(got):
            yield Difference(
                "structure", f"{name} has the keys {sorted(got)}, {sorted(expected)} are asked for."
            )
        else:
            for key, want in expected.items():
                yield from _walk(want, got[key], tolerance, inputs, f"{name}[{key!r}]")
    elif wanted == "a number":
        yield from _compare_numbers(expected, got, tolerance, name)
    elif expected != got:
        yield Difference("value", f"{name} is {got!r}.")


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


def _compare_numbers(
    expected: float, got: float, tolerance: Tolerance, name: str
) -> Iterator[Difference]:
    if isinstance(got, int) and got.bit_length() > 1000:  # no float holds it
        yield Difference("value", f"{name} is too {'large' if got > expected else 'small'}.")
    elif not math.isfinite(got) and math.isfinite(expected):
        yield Difference("finite", f"{name} is {got}.")
    elif not (
        got == expected or abs(got - expected) <= tolerance.atol + tolerance.rtol * abs(expected)
    ):
        yield Difference(
            "value", f"{name}, {got:.6g}, is too {'large' if got > expected else 'small'}."
        )


def _compare_tensors(
    expected: torch.Tensor,
    got: torch.Tensor,
    tolerance: Tolerance,
    inputs: Mapping[str, Any],
    name: str,
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
    if got.is_complex() or expected.is_complex() or expected.numel() == 0:
        return
    want, have = expected.double(), got.double()
    broken = torch.isfinite(want) & ~torch.isfinite(have)
    if broken.any():
        kind = "NaN" if have[broken].isnan().any() else "an infinite value"
        yield Difference("finite", f"{name} holds {kind} {_place(broken, inputs)}.")
        return
    rtol, atol = tolerance.limits(expected.dtype)
    exact = not expected.is_floating_point()
    close = (want == have) | (want.isnan() & have.isnan())
    if not exact:
        close |= (
            ((want - have).abs() <= atol + rtol * want.abs()) & want.isfinite() & have.isfinite()
        )
    if not close.all():
        yield Difference(
            "value", f"{name} is off {_place(~close, inputs)}{_amount(want, have, ~close)}."
        )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _place(wrong: torch.Tensor, inputs: Mapping[str, Any]) -> str:
    """Say where `wrong` is True: which t, which index of a table, or how many of the elements."""
    if wrong.dim() == 0:
        return ""
    t = inputs.get("t")
    rows = wrong.reshape(len(wrong), -1).any(dim=1)
    if isinstance(t, torch.Tensor) and t.dim() == 1 and len(t) == len(wrong):
        if rows.all():
            return "at every t"
        return f"at t = {_some(sorted(set(t[rows].tolist())))}"
    if bool(wrong.all()):
        return "everywhere"
    if wrong.dim() == 1 or bool((wrong.reshape(len(wrong), -1).all(dim=1) == rows).all()):
        indices = rows.nonzero().flatten().tolist()
        if len(indices) > 2 and indices == list(range(indices[0], len(wrong))):
            return f"from index {indices[0]} on"
        return f"at index {_some(indices)}"
    return f"in {int(wrong.sum())} of {wrong.numel()} elements"


def _some(values: list[int]) -> str:
    return ", ".join(map(str, values[:4])) + (" and others" if len(values) > 4 else "")


def _amount(want: torch.Tensor, have: torch.Tensor, wrong: torch.Tensor) -> str:
    """Say by how much: a flipped sign, a constant factor, or the largest difference (3 digits)."""
    if not have.any():
        return ": it is all zero"
    want, have = want[wrong], have[wrong]
    largest = f" by up to {float((want - have).abs().max()):.3g}"
    ratio = have / want
    mean = float(ratio.mean())
    if (
        ratio.numel() > 1
        and math.isfinite(mean)
        and float((ratio - mean).abs().max()) <= 1e-3 * abs(mean)
    ):
        if abs(mean + 1) < 1e-3:
            return f"{largest}: its sign is flipped"
        return f"{largest}: it is the right value times {mean:.3g}"
    return largest
