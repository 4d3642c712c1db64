"""The right output and the answer's, side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import Tensor

Said = tuple[str, str] | None  # a name and an explanation


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """The right output and the answer's on one case, in float64, and the case's arguments."""

    want: Tensor
    got: Tensor
    wrong: Tensor
    given: dict[str, Any]
    half: bool

    @property
    def is_right(self) -> bool:
        """True where every number is right."""
        return not bool(self.wrong.any())


def faulty(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs that differ."""
    return [pair for pair in pairs if not pair.is_right]


def near(one: Tensor, other: Tensor, half: bool) -> bool:
    """True where two tensors agree to four digits, in half precision to one or two."""
    room = 0.03 if half else 1e-4
    scale = float(other.abs().max()) if other.numel() else 0.0
    return bool(((one - other).abs() <= room * other.abs() + 0.1 * room * scale + 1e-9).all())
