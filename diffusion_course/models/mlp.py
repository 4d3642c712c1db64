"""A network for points in the plane."""

from torch import Tensor, nn
from torch.nn import functional as F

from ..door import checked, positive_int
from ..validation import describe
from .embedding import Conditioning, as_the_weights


def _points(name: str, xt: Tensor, given: dict) -> None:
    dim = given["self"].dim
    if xt.ndim != 2 or xt.shape[1] != dim:
        raise ValueError(f"{name}: this MLP takes points of shape (B, {dim}), got {describe(xt)}.")


class MLP(nn.Module):
    """Residual multilayer perceptron for points (B, dim): ``model(xt, t, cond=None)`` -> (B, dim).

    cond: (B,) int64 classes if ``num_classes`` is given; ``null_class``, the index of "no class",
    is num_classes. Raises ValueError for points of another shape.
    """

    @checked(dim=positive_int, hidden=positive_int, depth=positive_int, num_classes=positive_int)
    def __init__(
        self, dim: int = 2, hidden: int = 128, depth: int = 3, num_classes: int | None = None
    ) -> None:
        super().__init__()
        self.dim, self.null_class = dim, num_classes
        self.conditioning = Conditioning(64, hidden, num_classes)
        self.first = nn.Linear(dim, hidden)

        def half() -> list[nn.Module]:
            return [nn.SiLU(), nn.Linear(hidden, hidden)]

        self.blocks = nn.ModuleList(nn.Sequential(*half(), *half()) for _ in range(depth))
        self.last = nn.Linear(hidden, dim)

    @checked(xt=(_points, as_the_weights))
    def forward(self, xt: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        emb = self.conditioning(xt, t, cond)
        h = self.first(xt)
        for block in self.blocks:
            h = h + block(h + emb)
        return self.last(F.silu(h))
