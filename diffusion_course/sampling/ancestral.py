"""Ancestral sampling: from noise to data, one reverse step at a time (Ho et al. 2020, arXiv
2006.11239, Algorithm 2).
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..process.kernels import as_alpha_bar, noise_like, posterior_coefficients, to_x0_and_noise
from ..process.losses import VARIANCE_TYPES, call_model
from ..validation import (
    check_alike, check_batch, check_choice, check_device, check_floating, check_table, describe,
    values_are_free,
)


class DDPMStep(NamedTuple):
    """One reverse step: x_prev, the estimate x0_pred and the mean, all (B, ...); the variance
    broadcasts over them.
    """

    x_prev: Tensor
    x0_pred: Tensor
    mean: Tensor
    variance: Tensor


def ddpm_step(
    model_output: Tensor, xt: Tensor, alpha_bar: Tensor | float, alpha_bar_prev: Tensor | float,
    noise: Tensor | None = None, *, prediction_type: str = "epsilon",
    variance_type: str = "fixed_small", clip_x0: float | None = None,
    generator: torch.Generator | None = None,
) -> DDPMStep:
    """Draw x_{t-1} from p(x_{t-1} | x_t): the posterior of eq. 6 with x_0 replaced by the network's
    estimate.

    model_output, xt, noise: (B, ...). *Now* ``alpha_bar`` and *next* ``alpha_bar_prev``: a number,
    () or (B,). At abar_prev = 1 (the last step) no noise is added. "fixed_small": variance
    beta-tilde; "fixed_large": beta = 1 - abar / abar_prev. ``clip_x0``: clamp the estimate to
    [-clip_x0, clip_x0]. Raises as ``to_x0_and_noise`` and ``posterior_coefficients``.
    """
    check_batch("xt", xt)
    check_choice("variance_type", variance_type, VARIANCE_TYPES)
    alpha_bar, alpha_bar_prev = (
        as_alpha_bar(alpha_bar, xt), as_alpha_bar(alpha_bar_prev, xt, "alpha_bar_prev")
    )
    x0_pred, _ = to_x0_and_noise(model_output, xt, alpha_bar, prediction_type)
    if clip_x0 is not None:
        if not clip_x0 > 0:
            raise ValueError(f"clip_x0 must be positive or None, got {clip_x0}.")
        x0_pred = x0_pred.clamp(-clip_x0, clip_x0)
    coef_x0, coef_xt, variance = posterior_coefficients(alpha_bar, alpha_bar_prev)
    if variance_type == "fixed_large":
        variance = 1 - alpha_bar / alpha_bar_prev
    mean = coef_x0.to(xt.dtype) * x0_pred + coef_xt.to(xt.dtype) * xt
    if noise is None:
        noise = noise_like(xt, generator)
    check_alike("noise", noise, "xt", xt)
    std = variance.sqrt() * (alpha_bar_prev < 1)
    return DDPMStep(mean + std.to(xt.dtype) * noise, x0_pred, mean, variance.to(xt.dtype))


def _check_tables(betas: Tensor, alphas: Tensor, alphas_cumprod: Tensor) -> None:
    """Raise ValueError unless the three tables are of one schedule: alphas = 1 - betas,
    alphas_cumprod its running product.
    """
    check_table("betas", betas)
    check_alike("alphas", alphas, "betas", betas)
    check_alike("alphas_cumprod", alphas_cumprod, "betas", betas)
    if not values_are_free(betas):
        return
    tolerance = 1e-2 if betas.dtype in (torch.bfloat16, torch.float16) else 1e-5
    for name, table, expected in (
        ("alphas", alphas, 1 - betas), ("alphas_cumprod", alphas_cumprod, alphas.cumprod(0))
    ):
        gap = (table - expected).abs()
        if not (gap <= tolerance).all():
            i = int(gap.nan_to_num(nan=float("inf")).argmax())
            raise ValueError(
                f"the tables are not of one schedule: {name}[{i}] is {table[i].item():.6g} but"
                f" betas give {expected[i].item():.6g}. Take all three from one NoiseSchedule."
            )


def _dtype_of(unet: object) -> torch.dtype:
    parameters = unet.parameters() if isinstance(unet, torch.nn.Module) else ()
    return next((p.dtype for p in parameters if p.is_floating_point()), torch.get_default_dtype())


@torch.no_grad()
def p_sample_iter(
    unet: Callable[..., Tensor], shape: tuple[int, ...], betas: Tensor, alphas: Tensor,
    alphas_cumprod: Tensor, *, cond: Tensor | None = None, x_init: Tensor | None = None,
    prediction_type: str = "epsilon", variance_type: str = "fixed_small",
    clip_x0: float | None = None, generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield (t, x, x0_pred) after each reverse step, t from T-1 down to 0; the arguments are
    ``p_sample_loop``'s.
    """
    _check_tables(betas, alphas, alphas_cumprod)
    if not isinstance(shape, (tuple, list)):
        raise TypeError(
            f"shape must be a tuple, batch first, such as (16, 1, 8, 8), got {describe(shape)}."
        )
    if x_init is None:
        x = torch.randn(
            tuple(shape), generator=generator, device=betas.device, dtype=dtype or _dtype_of(unet)
        )
    else:
        check_floating("x_init", x_init)
        x = x_init if dtype is None else x_init.to(dtype)
        check_device("x_init", x, "betas", betas)
        if x.shape != tuple(shape):
            raise ValueError(
                f"x_init must have the shape {tuple(shape)} that was asked for, got {describe(x)}."
            )
    check_batch("x_init", x)
    last = torch.ones_like(alphas_cumprod[0])
    for t in reversed(range(len(betas))):
        ts = torch.full(x.shape[:1], t, device=x.device, dtype=torch.long)
        output = call_model(unet, x, ts, cond)
        step = ddpm_step(
            output, x, alphas_cumprod[t], alphas_cumprod[t - 1] if t > 0 else last,
            generator=generator, prediction_type=prediction_type, variance_type=variance_type,
            clip_x0=clip_x0,
        )
        x = step.x_prev
        yield t, x, step.x0_pred


def p_sample_loop(
    unet: Callable[..., Tensor], shape: tuple[int, ...], betas: Tensor, alphas: Tensor,
    alphas_cumprod: Tensor, *, callback: Callable[[int, Tensor, Tensor], None] | None = None,
    **kwargs: object,
) -> Tensor:
    """Draw samples (B, ...) by running the whole reverse chain from N(0, I) (arXiv 2006.11239,
    Algorithm 2).

    unet: ``model(xt, t[, cond])``, t (B,) int64; shape: that of the samples, batch first; betas,
    alphas, alphas_cumprod: (T,) of one schedule, on the device to work on. Keywords: cond, x_init
    (the starting noise), prediction_type, variance_type ("fixed_small" or "fixed_large"), clip_x0,
    generator, dtype (default: the network's), and ``callback(t, x, x0_pred)`` after each step.
    Raises ValueError if the tables disagree, or the network returns another shape or device.
    """
    for t, x, x0_pred in p_sample_iter(unet, shape, betas, alphas, alphas_cumprod, **kwargs):
        if callback is not None:
            callback(t, x, x0_pred)
    return x
