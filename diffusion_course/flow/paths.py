"""Straight paths x_t = (1 - t) x_0 + t noise, what a network learns on them, and their diffusion.

Time is a number, () or (B,), in [0, 1]: 0 is data, 1 is noise, as in Stable Diffusion 3, FLUX and
diffusers. Lipman et al. 2022 (arXiv 2210.02747) and Liu et al. 2022 (arXiv 2209.03003) count the
other way round.
"""

import torch
from torch import Tensor

from ..door import batch, checked, finite, like, positive_int
from ..process.kernels import noise_like
from ..process.levels import as_alpha_bar
from ..process.losses import Model, call_model
from ..process.schedules import NoiseSchedule
from ..seeds import draw
from .times import unit

TIME_SCALE = 1000  # a network is told 1000 t, so that its waves tell times apart


@checked(x0=(batch, finite), noise=like("x0"))
def flow_interpolate(
    x0: Tensor,
    t: Tensor | float,
    noise: Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the point x_t = (1 - t) x_0 + t noise of a straight path (arXiv 2209.03003, eq. 1).

    x0, noise: (B, ...); t: a number, () or (B,), in [0, 1], 1 is noise. The path's velocity,
    dx_t / dt = noise - x_0, does not depend on t. Raises on other shapes, dtypes or devices, t out
    of range, or x0 that is not finite.
    """
    t = as_alpha_bar(t, x0, "t")
    noise = noise_like(x0, generator) if noise is None else noise
    return (1 - t).to(x0.dtype) * x0 + t.to(x0.dtype) * noise


@checked(t=unit)
def flow_level(t: Tensor | float) -> tuple[Tensor | float, Tensor | float]:
    """Return (alpha_bar, scale) of a time: x_t / scale is a state of a diffusion process.

    scale = sqrt((1 - t)^2 + t^2) and alpha_bar = (1 - t)^2 / scale^2, so that x_t / scale =
    sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise. t: a number or a tensor in [0, 1]; the results
    are the same. Raises ValueError for t out of range.
    """
    square = (1 - t) ** 2 + t**2
    return (1 - t) ** 2 / square, square**0.5


@checked(alpha_bar=unit)
def flow_time(alpha_bar: Tensor | float) -> Tensor | float:
    """Return the time t whose path is as noisy as alpha_bar says: ``flow_level`` undone.

    t = sqrt(1 - alpha_bar) / (sqrt(alpha_bar) + sqrt(1 - alpha_bar)). alpha_bar: a number or a
    tensor in [0, 1]. Raises ValueError for others.
    """
    signal, noise = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    return noise / (signal + noise)


@checked(num_train_timesteps=positive_int)
def flow_schedule(num_train_timesteps: int = 1000) -> NoiseSchedule:
    """Return the schedule (T,) whose index i stands for the time (i + 1) / T: it ends in noise.

    With it and ``prediction_type="velocity"`` all that the course has for diffusion trains and
    samples a flow; its states are x_t / scale (``flow_level``). Raises ValueError for T < 1.
    """
    times = torch.arange(num_train_timesteps + 1, dtype=torch.float64) / num_train_timesteps
    alpha_bar, _ = flow_level(times)
    return NoiseSchedule(1 - alpha_bar[1:] / alpha_bar[:-1], "flow")


@checked(x0=batch, noise=like("x0"))
def flow_loss(
    model: Model,
    x0: Tensor,
    *,
    cond: Tensor | None = None,
    t: Tensor | None = None,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the loss () of conditional flow matching: E (model - (noise - x_0))^2, its mean.

    Source: Lipman et al. 2022 (arXiv 2210.02747, eq. 23). x0: (B, ...); t: (B,) in [0, 1], or drawn
    uniformly; ``model(xt, 1000 t[, cond])`` returns the shape of xt. Raises if the network returns
    another shape or device, and as ``flow_interpolate``.
    """
    if t is None:
        t = draw(torch.rand, x0.shape[:1], generator=generator, device=x0.device)
    noise = noise_like(x0, generator) if noise is None else noise
    xt = flow_interpolate(x0, t, noise)
    output = call_model(model, xt, told(t, xt), cond)
    return ((output - (noise - x0)) ** 2).mean()


def told(t: Tensor, xt: Tensor) -> Tensor:
    """Return what a network is told at times t, () or (B,): 1000 t (B,), float32 at least."""
    wide = torch.promote_types(xt.dtype, torch.float32)
    return (TIME_SCALE * t).to(wide).expand(len(xt))
