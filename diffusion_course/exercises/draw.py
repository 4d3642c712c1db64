"""Random inputs for cases: batches of several ranks and dtypes, and tables of coefficients."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# Four images of width four: there a (B,) coefficient broadcasts along the wrong axis and raises
# nothing.
_BATCHES = (
    ("images", (4, 3, 4, 4), torch.float32),
    ("points", (5, 2), torch.float64),
    ("one image", (1, 1, 3, 3), torch.float32),
    ("numbers", (6,), torch.float64),
    ("transposed images", (3, 5, 4, 2), torch.float64),
    ("float16 images", (2, 1, 4, 3), torch.float16),
    ("sequences", (3, 4, 2), torch.float32),
    ("clips", (2, 1, 3, 2, 2), torch.float64),
)


def normal(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return standard normal numbers of the given shape."""
    return torch.randn(shape, generator=generator, dtype=dtype)


def betas(
    generator: torch.Generator, num_steps: int, low: float = 0.02, high: float = 0.5
) -> Tensor:
    """Return increasing random betas (T,), float64, in (low, high)."""
    return (
        low
        + (high - low)
        * torch.rand(num_steps, generator=generator, dtype=torch.float64).sort().values
    )


def batches(
    generator: torch.Generator, num_steps: int
) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
    """Yield (note, x, t, noise) for several ranks and dtypes.

    t (B,) holds 0, T-1 and then 1 wherever the batch has room.
    """
    for note, shape, dtype in _BATCHES:
        x, noise = normal(generator, *shape, dtype=dtype), normal(generator, *shape, dtype=dtype)
        if note.startswith("transposed"):
            x = x.transpose(1, 3)
            noise = noise.transpose(1, 3)
        t = torch.randint(num_steps, shape[:1], generator=generator)
        t[-1] = num_steps - 1
        if shape[0] > 1:
            t[0] = 0
        if shape[0] > 3:
            t[1] = 1  # the first index that is no end
        yield note, x, t, noise
