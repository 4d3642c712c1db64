"""What answers are called with besides tensors: stand-in networks, fields and decoders. Nothing
here is part of an answer.

Each is an `nn.Module` in every respect. The classroom's sandbox has this module and `calls`, and
not the lessons' exercises; there a module is made again of its `parts`.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import draw

Number = float | Tensor


class StandIn(nn.Module):
    """A module that takes the place of a network: frozen, in evaluation mode, and without chance.

    Each argument of a constructor is an attribute of the same name. Numbers that a network would
    have learnt are parameters, so that `next(model.parameters()).dtype` is what it is elsewhere.
    """

    def __init__(self) -> None:
        super().__init__()
        self.eval()

    def keep(self, dtype: torch.dtype | None, **numbers: Number) -> None:
        """Store numbers or tensors as frozen parameters."""
        for name, value in numbers.items():
            weight = torch.as_tensor(value, dtype=dtype).detach().clone()
            setattr(self, name, nn.Parameter(weight, requires_grad=False))

    @property
    def parts(self) -> dict[str, Any]:
        """The arguments that make this module again."""
        names = [name for name in inspect.signature(type(self)).parameters if name != "dtype"]
        parts = {name: getattr(self, name) for name in names}
        return {k: v.detach() if isinstance(v, Tensor) else v for k, v in parts.items()}


class TwoLayers(StandIn):
    """A small network for points (B, 2) with the time as a third input; its weights are trained."""

    def __init__(self, inner: Tensor, outer: Tensor) -> None:
        super().__init__()
        self.keep(None, inner=inner, outer=outer)
        self.requires_grad_().train()

    @classmethod
    def drawn(cls, generator: torch.Generator, dtype: torch.dtype) -> TwoLayers:
        """Return a network with random weights."""
        inner, outer = (draw.normal(generator, *size, dtype=dtype) for size in ((3, 8), (8, 2)))
        return cls(inner / 2, outer / 2)

    def forward(self, xt: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the noise (B, 2) that the network guesses."""
        return (torch.cat([xt, t[:, None].to(xt.dtype) / 5], 1) @ self.inner).tanh() @ self.outer


class IndexedNetwork(StandIn):
    """A stand-in network whose noise depends on the index, so that a wrong one shows.

    t must be (B,) int64 in 0..T-1; `strict=False` leaves its range unchecked.
    """

    def __init__(
        self,
        num_steps: int,
        amplitude: Number = 0.2,
        frequency: Number = 3.0,
        strict: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_steps, self.strict = num_steps, strict
        self.keep(dtype, amplitude=amplitude, frequency=frequency)

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        """Return the noise, of xt's shape."""
        _check_indices("t", t, len(xt))
        if self.strict and (t.min() < 0 or t.max() >= self.num_steps):
            raise ValueError(
                f"the network knows the indices 0..{self.num_steps - 1}; it got {t.tolist()}."
            )
        level = _for_each(xt, (t + 1) / self.num_steps)
        return 0.6 * level * xt + self.amplitude * torch.sin(self.frequency * level)


class Field(StandIn):
    """A velocity field whose Jacobian is neither symmetric nor diagonal nor constant."""

    def __init__(self, mix: Tensor) -> None:
        super().__init__()
        self.keep(None, mix=mix)

    def forward(self, x: Tensor) -> Tensor:
        """Return the velocity, of x's shape."""
        flat = x.flatten(1)
        return (torch.tanh(flat @ self.mix) + 0.8 * flat + 0.3 * flat.roll(1, dims=1) ** 2).reshape(
            x.shape
        )


class ClassNetwork(StandIn):
    """A stand-in network with classes.

    It counts its calls in `sizes` and wants xt, t and cond of one length.
    """

    def __init__(
        self, null_class: int, weight: Number = 0.9, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.null_class, self.sizes = null_class, []
        self.keep(dtype, weight=weight)

    def forward(self, xt: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Return the noise, of xt's shape."""
        for name, value in (("t", t), ("cond", cond)):
            _check_indices(name, value, len(xt))
        self.sizes.append(len(xt))
        level = self.weight * _for_each(xt, cond) + 0.05 * _for_each(xt, t)
        return torch.tanh(xt + level.sin()) + 0.1 * level


class EveryOther(nn.Dropout):
    """Dropout that is the same in each call: in training mode every other number is left out."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, ...), or what is left of it."""
        if not self.training:
            return x
        return 2 * x * (torch.arange(x[0].numel()) % 2 == 0).reshape(x.shape[1:])


class DroppingNetwork(StandIn):
    """A stand-in network with dropout, whose weight wants gradients."""

    def __init__(
        self, weight: Number, training: bool = False, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.keep(dtype, weight=weight)
        self.dropout = EveryOther()
        self.requires_grad_().train(training)

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        """Return the noise, of xt's shape."""
        return self.dropout(torch.tanh(self.weight * xt + _for_each(xt, t / 10)))


class Decoder(StandIn):
    """A decoder for cases: not linear, and never far outside [-1, 1] in one place only."""

    def __init__(self, scale: Number, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.keep(dtype, scale=scale)

    def forward(self, z: Tensor) -> Tensor:
        """Return a picture of z, with its shape."""
        return self.scale * torch.tanh(z) + 0.2 * z


class Slope(StandIn):
    """A stand-in for the network in EDM form, defined at sigma = 0 too.

    It is the noise of data N(mean, variance), bent a little.
    """

    def __init__(
        self, mean: Number = 0.3, variance: Number = 0.5, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.keep(dtype, mean=mean, variance=variance)

    def forward(self, xhat: Tensor, sigma: float) -> Tensor:
        """Return the slope at xhat, of its shape."""
        straight = sigma * (xhat - self.mean) / (self.variance + sigma**2)
        return straight + 0.3 * torch.sin(xhat) * math.exp(-sigma)


class PictureEncoder(StandIn):
    """A stand-in for an encoder: 2 x 2 pixels become one number of another size."""

    def __init__(self, size: Number = 4.0, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.keep(dtype, size=size)

    def forward(self, images: Tensor) -> Tensor:
        """Return latents (B, C, H / 2, W / 2)."""
        return self.size * F.avg_pool2d(images, 2).sinh()


class PictureDecoder(StandIn):
    """A stand-in for the decoder beside `PictureEncoder`, bent as a real one is."""

    def __init__(self, size: Number = 4.0, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.keep(dtype, size=size)

    def forward(self, latents: Tensor) -> Tensor:
        """Return pictures of twice the height and width."""
        return F.interpolate(1.4 * (latents / self.size).asinh().tanh(), scale_factor=2.0)


def _for_each(x: Tensor, values: Tensor) -> Tensor:
    """Return values (B,) in x's dtype as (B, 1, ...)."""
    return values.to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))


def _check_indices(name: str, value: object, length: int) -> None:
    if isinstance(value, Tensor) and value.dtype == torch.int64 and value.shape == (length,):
        return
    got = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else None
    raise TypeError(
        f"the network takes {name} as an int64 tensor of shape ({length},), one index per sample;"
        f" it got {got or type(value).__name__}."
    )


class FlowVelocity(StandIn):
    """A stand-in for the velocity of a flow: it depends on the place and on the time in [0, 1]."""

    def __init__(
        self, pull: Number = 0.7, turn: Number = 2.0, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.keep(dtype, pull=pull, turn=turn)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the velocity at x (B, ...) and the times t (B,), of the shape of x."""
        t = t.to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
        return self.pull * x * (1 + t) + torch.sin(x + self.turn * t)


class TokenLayer(StandIn):
    """A stand-in for attention: every token reads a mean of all, and is bent."""

    def __init__(self, size: Number = 0.8, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.keep(dtype, size=size)

    def forward(self, h: Tensor) -> Tensor:
        """Return tokens of the shape of h (B, N, C)."""
        return torch.tanh(self.size * h) + 0.5 * h.mean(1, keepdim=True)
