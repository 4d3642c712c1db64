"""How a network is told the time and the class."""

import math

import torch
from torch import Tensor, nn

from ..door import checked, number, positive_int
from ..validation import check_classes, check_device, describe


def _one_axis(name: str, t: Tensor, given: dict) -> None:
    if t.ndim != 1 or t.is_complex():
        raise ValueError(f"{name} must hold real numbers (B,), got {describe(t)}.")


even = number(lambda dim: dim >= 2 and dim % 2 == 0, "be a positive even number")


@checked(t=_one_axis, dim=even)
def timestep_embedding(t: Tensor, dim: int) -> Tensor:
    """Return cos and sin of t at ``dim / 2`` frequencies from 1 to 1 / 10,000: (B, dim) float32.

    The positional encoding of arXiv 1706.03762, section 3.5, of time. t: (B,) indices, no fractions
    of T, whose rows would be nearly equal. Raises ValueError for an odd dim.
    """
    exponent = torch.arange(dim // 2, dtype=torch.float32, device=t.device) / (dim // 2)
    angles = t.float()[:, None] * torch.exp(-math.log(10_000) * exponent)  # (B, dim/2)
    return torch.cat([angles.cos(), angles.sin()], 1)


def _one_each(name: str, t: object, given: dict) -> None:
    xt = given["xt"]
    if t.shape != xt.shape[:1]:
        wanted = f"t must have one entry for each sample of xt, ({len(xt)},)"
        raise ValueError(f"{wanted}, got {describe(t)}.")
    check_device(name, t, "xt", xt)


def _cond_if_built_so(name: str, t: Tensor, given: dict) -> None:
    classes, cond = given["self"].null_class, given["cond"]
    if (cond is None) != (classes is None):
        built = "without classes" if classes is None else f"with num_classes={classes}"
        found = "missing" if cond is None else f"given: {describe(cond)}"
        raise ValueError(f"this network was built {built}, but cond is {found}.")


def _classes(name: str, cond: object, given: dict) -> None:
    check_classes(cond, "xt", given["xt"], given["self"].null_class)


def as_the_weights(name: str, xt: Tensor, given: dict) -> None:
    """Raise unless xt has the dtype and device of the network's first layer, or is cast to it."""
    weight = given["self"].first.weight  # also of a network that is cast or moved
    if xt.dtype != weight.dtype and not torch.is_autocast_enabled(xt.device.type):
        both = f"got {describe(xt)} and weights of {describe(weight)}"
        raise TypeError(f"{name} must have the dtype of the network, {both}. Cast one.")
    check_device(name, xt, "the network's weights", weight)


class Conditioning(nn.Module):
    """Time t (B,), and optionally a class cond (B,) int64, as one vector (B, hidden) for each xt.

    ``num_classes=K`` makes K + 1 embeddings. Index K is "no class", for training without labels and
    for guidance; ``null_class`` is K, or None without classes. Raises ValueError or TypeError for
    other shapes or dtypes, and for labels outside 0..K.
    """

    @checked(dim=positive_int, hidden=positive_int, num_classes=positive_int)
    def __init__(self, dim: int, hidden: int, num_classes: int | None = None) -> None:
        super().__init__()
        self.dim, self.null_class = dim, num_classes
        layers = nn.Linear(dim, hidden), nn.SiLU(), nn.Linear(hidden, hidden)
        self.project = nn.Sequential(*layers)
        self.classes = None
        if num_classes is not None:
            self.classes = nn.Embedding(num_classes + 1, hidden)

    @checked(t=(_one_each, _cond_if_built_so), cond=_classes)
    def forward(self, xt: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        waves = timestep_embedding(t, self.dim)
        out = self.project(waves.to(self.project[0].weight.dtype))
        return out if cond is None else out + self.classes(cond)
