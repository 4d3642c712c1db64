"""What answers are called with besides tensors: stand-in networks, fields and decoders. Nothing
here is part of an answer.

The classroom's sandbox has this module and `calls`, and not the lessons' exercises.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import draw


class TwoLayers(nn.Module):
    """A small network for points (B, 2) with the time as a third input."""

    def __init__(self, generator: torch.Generator, dtype: torch.dtype) -> None:
        super().__init__()
        # nn.Linear would draw its first weights from the global random state.
        self.inner = nn.Parameter(draw.normal(generator, 3, 8, dtype=dtype) / 2)
        self.outer = nn.Parameter(draw.normal(generator, 8, 2, dtype=dtype) / 2)

    def forward(self, xt: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the noise (B, 2) that the network guesses."""
        return (torch.cat([xt, t[:, None].to(xt.dtype) / 5], 1) @ self.inner).tanh() @ self.outer


class IndexedNetwork:
    """A stand-in network whose noise depends on the index, so that a wrong one shows; t must be
    (B,) int64 in 0..T-1.

    `strict=False` leaves the range of t unchecked.
    """

    def __init__(
        self,
        num_steps: int,
        amplitude: float = 0.2,
        frequency: float = 3.0,
        *,
        strict: bool = False,
    ) -> None:
        self.num_steps, self.strict = num_steps, strict
        self.amplitude, self.frequency = amplitude, frequency

    def __call__(self, xt: Tensor, t: Tensor) -> Tensor:
        """Return the noise, of xt's shape."""
        if not isinstance(t, Tensor) or t.dtype != torch.int64 or t.shape != xt.shape[:1]:
            got = f"{t.dtype} {tuple(t.shape)}" if isinstance(t, Tensor) else type(t).__name__
            raise TypeError(
                f"the network takes t as an int64 tensor of shape ({len(xt)},), one index per"
                f" sample; it got {got}."
            )
        if self.strict and (t.min() < 0 or t.max() >= self.num_steps):
            raise ValueError(
                f"the network knows the indices 0..{self.num_steps - 1}; it got {t.tolist()}."
            )
        level = ((t + 1) / self.num_steps).to(xt.dtype).reshape(-1, *(1,) * (xt.ndim - 1))
        return 0.6 * level * xt + self.amplitude * torch.sin(self.frequency * level)


class Field:
    """A velocity field whose Jacobian is neither symmetric nor diagonal, and differs from point to
    point.
    """

    def __init__(self, generator: torch.Generator, num_dims: int, dtype: torch.dtype) -> None:
        self.mix = draw.normal(generator, num_dims, num_dims, dtype=dtype) / num_dims**0.5

    def __call__(self, x: Tensor) -> Tensor:
        """Return the velocity, of x's shape."""
        flat = x.flatten(1)
        return (torch.tanh(flat @ self.mix) + 0.8 * flat + 0.3 * flat.roll(1, dims=1) ** 2).reshape(
            x.shape
        )


class ClassNetwork:
    """A stand-in network with classes. It counts its calls in `sizes` and wants xt, t and cond of
    one length.
    """

    def __init__(self, null_class: int) -> None:
        self.null_class = null_class
        self.sizes: list[int] = []

    def __call__(self, xt: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Return the noise, of xt's shape."""
        for name, value in (("t", t), ("cond", cond)):
            if (
                not isinstance(value, Tensor)
                or value.dtype != torch.int64
                or value.shape != xt.shape[:1]
            ):
                got = (
                    f"{value.dtype} {tuple(value.shape)}"
                    if isinstance(value, Tensor)
                    else type(value).__name__
                )
                raise TypeError(
                    f"the network takes {name} as an int64 tensor of shape ({len(xt)},), got {got}."
                )
        self.sizes.append(len(xt))
        level = (0.9 * cond + 0.05 * t).to(xt.dtype).reshape(-1, *(1,) * (xt.ndim - 1))
        return torch.tanh(xt + level.sin()) + 0.1 * level


class DroppingNetwork:
    """A stand-in network with dropout that is the same in each call: in training mode every other
    number is left out.

    `training`, `train(mode)` and `eval()` are those of any module, and its weight wants gradients.
    """

    def __init__(self, weight: float, *, training: bool) -> None:
        self.weight, self.training = weight, training

    def __call__(self, xt: Tensor, t: Tensor) -> Tensor:
        """Return the noise, of xt's shape."""
        weight = torch.tensor(self.weight, dtype=xt.dtype, requires_grad=True)
        hidden = torch.tanh(weight * xt + (t / 10).to(xt.dtype).reshape(-1, *(1,) * (xt.ndim - 1)))
        if self.training:
            hidden = 2 * hidden * (torch.arange(xt[0].numel()) % 2 == 0).reshape(xt.shape[1:])
        return hidden

    def train(self, mode: bool = True) -> DroppingNetwork:
        """Switch training mode on or off, as ``nn.Module.train``."""
        self.training = mode
        return self

    def eval(self) -> DroppingNetwork:
        """Switch training mode off, as ``nn.Module.eval``."""
        return self.train(False)


class Decoder:
    """A decoder for cases: not linear, and never far outside [-1, 1] in one place only."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, z: Tensor) -> Tensor:
        """Return a picture of z, with its shape."""
        return self.scale * torch.tanh(z) + 0.2 * z


def slope(xhat: Tensor, sigma: float) -> Tensor:
    """A stand-in for the network in EDM form: the noise of data N(0.3, 0.5), bent a little; defined
    at sigma = 0 too.
    """
    return sigma * (xhat - 0.3) / (0.5 + sigma**2) + 0.3 * torch.sin(xhat) * math.exp(-sigma)


def encode(images: Tensor) -> Tensor:
    """A stand-in for an encoder: 2 x 2 pixels become one number of another size."""
    return 4 * F.avg_pool2d(images, 2).sinh()


def decode(latents: Tensor) -> Tensor:
    """A stand-in for its decoder, bent as a real one is."""
    return F.interpolate((latents / 4).asinh().tanh(), scale_factor=2.0)
