"""A network for points in the plane."""

import torch
from torch import Tensor, nn

from ..validation import describe
from .embedding import Conditioning


class MLP(nn.Module):
    """Residual multilayer perceptron for points (B, dim): ``model(xt, t, cond=None)`` -> (B, dim).

    cond: (B,) int64 classes if ``num_classes`` is given; ``null_class`` is the index of "no class",
    num_classes. Raises ValueError for points of another shape.
    """

    def __init__(
        self, dim: int = 2, hidden: int = 128, depth: int = 3, num_classes: int | None = None
    ) -> None:
        super().__init__()
        self.dim, self.null_class = dim, num_classes
        self.conditioning = Conditioning(64, hidden, num_classes)
        self.first = nn.Linear(dim, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden)
            )
            for _ in range(depth)
        )
        self.last = nn.Linear(hidden, dim)

    def forward(self, xt: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        if xt.ndim != 2 or xt.shape[1] != self.dim:
            raise ValueError(f"this MLP takes points of shape (B, {self.dim}), got {describe(xt)}.")
        emb = self.conditioning(xt, t, cond)
        h = self.first(xt)
        for block in self.blocks:
            h = h + block(h + emb)
        return self.last(torch.nn.functional.silu(h))
