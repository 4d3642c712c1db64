"""Say where in a tensor two outputs differ, and by how much."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch


def place(wrong: torch.Tensor, inputs: Mapping[str, Any]) -> str:
    """Say where `wrong` is True: which t, which index of a table, or how many of the elements.

    A space comes first; a tensor of one number has no places.
    """
    if wrong.dim() == 0:
        return ""
    t = inputs.get("t")
    rows = wrong.reshape(len(wrong), -1).any(dim=1)
    if isinstance(t, torch.Tensor) and t.dim() == 1 and len(t) == len(wrong):
        if rows.all():
            return " at every t"
        return f" at t = {_some(sorted(set(t[rows].tolist())))}"
    if bool(wrong.all()):
        return " everywhere"
    if wrong.dim() == 1 or bool((wrong.reshape(len(wrong), -1).all(dim=1) == rows).all()):
        indices = rows.nonzero().flatten().tolist()
        if len(indices) > 2 and indices == list(range(indices[0], len(wrong))):
            return f" from index {indices[0]} on"
        return f" at index {_some(indices)}"
    return f" in {int(wrong.sum())} of {wrong.numel()} elements"


def _some(values: list[int]) -> str:
    return ", ".join(map(str, values[:4])) + (" and others" if len(values) > 4 else "")


def amount(want: torch.Tensor, have: torch.Tensor, wrong: torch.Tensor) -> str:
    """Say by how much: a flipped sign, a constant factor, or the largest difference (3 digits)."""
    if have.is_complex():
        return "" if not have.imag.any() else ": it has an imaginary part"
    if not have.any():
        return ": it is all zero"
    want, have = want[wrong].double(), have[wrong].double()
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
        if f"{mean:.3g}" != "1":
            return f"{largest}: it is the right value times {mean:.3g}"
    return largest


def first_place(want: torch.Tensor, have: torch.Tensor, wrong: torch.Tensor, name: str) -> str:
    """Show the first number that is off, and how many times the right one it is."""
    index = tuple(wrong.nonzero()[0].tolist())
    right, own = want[index].item(), have[index].item() + 0  # -0.0 becomes 0.0
    whose = "yours" if name == "your output" else name
    place = f"At index {index if len(index) > 1 else index[0]} {whose}" if index else whose
    shown = f"{place[0].upper()}{place[1:]} is {own:.4g}"
    if isinstance(own, complex) or not (own and right and math.isfinite(own / right)):
        return f"{shown}."
    factor = f"{own / right:.3g}"
    return f"{shown}." if factor == "1" else f"{shown}, {factor} times what is asked for."
