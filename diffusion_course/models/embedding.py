"""How a network is told the time and the class."""

import math

import torch
from torch import Tensor, nn

from ..validation import check_classes, describe


def timestep_embedding(t: Tensor, dim: int, *, max_period: float = 10_000.0) -> Tensor:
    """Return cos and sin of t at ``dim / 2`` frequencies from 1 to 1 / max_period: (B, dim)
    float32.

    The positional encoding of arXiv 1706.03762, section 3.5, applied to time. t: (B,) indices, not
    fractions of T: with t in [0, 1] all rows would be nearly equal. Raises ValueError for an odd
    dim.
    """
    if dim < 2 or dim % 2:
        raise ValueError(f"dim must be a positive even number, got {dim}.")
    exponent = torch.arange(dim // 2, dtype=torch.float32, device=t.device) / (dim // 2)
    angles = t.float()[:, None] * torch.exp(-math.log(max_period) * exponent)  # (B, dim/2)
    return torch.cat([angles.cos(), angles.sin()], 1)


class Conditioning(nn.Module):
    """Time t (B,), and optionally a class cond (B,) int64, as one vector (B, hidden) for each
    sample of xt (B, ...).

    ``num_classes=K`` makes K + 1 embeddings. Index K is "no class", for training without labels and
    for guidance; ``null_class`` is K, or None without classes. Raises ValueError or TypeError for
    other shapes or dtypes, and for labels outside 0..K.
    """

    def __init__(self, dim: int, hidden: int, num_classes: int | None = None) -> None:
        super().__init__()
        self.dim, self.null_class = dim, num_classes
        self.project = nn.Sequential(nn.Linear(dim, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.classes = None if num_classes is None else nn.Embedding(num_classes + 1, hidden)

    def forward(self, xt: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        if not isinstance(t, Tensor) or t.shape != xt.shape[:1]:
            raise ValueError(
                f"t must have one entry for each sample of xt, ({len(xt)},), got {describe(t)}."
            )
        if (cond is None) != (self.classes is None):
            built = (
                "without classes" if self.classes is None else f"with num_classes={self.null_class}"
            )
            raise ValueError(
                f"this network was built {built}, but cond is"
                f" {'missing' if cond is None else 'given'}."
            )
        out = self.project(timestep_embedding(t, self.dim).to(self.project[0].weight.dtype))
        if cond is None:
            return out
        check_classes(cond, "xt", xt, self.null_class)
        return out + self.classes(cond)
