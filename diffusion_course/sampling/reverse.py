"""One reverse step of the chain: a draw from p(x_{t-1} | x_t) (Ho et al. 2020, arXiv 2006.11239).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..door import batch, checked, like, positive_or_none
from ..process.kernels import noise_like, posterior_coefficients, prediction, to_x0_and_noise
from ..process.levels import as_alpha_bar
from ..process.losses import variances


class DDPMStep(NamedTuple):
    """One reverse step: x_prev, the estimate x0_pred, the mean, all (B, ...); the variance."""

    x_prev: Tensor
    x0_pred: Tensor
    mean: Tensor
    variance: Tensor


@checked(
    xt=batch, variance_type=variances, prediction_type=prediction, clip_x0=positive_or_none,
    noise=like("xt"),
)
def ddpm_step(
    model_output: Tensor, xt: Tensor, alpha_bar: Tensor | float,
    alpha_bar_prev: Tensor | float, noise: Tensor | None = None,
    *, prediction_type: str = "epsilon",
    variance_type: str = "fixed_small", clip_x0: float | None = None,
    generator: torch.Generator | None = None,
) -> DDPMStep:
    """Draw x_{t-1} from p(x_{t-1} | x_t) (Ho et al. 2020, arXiv 2006.11239, Algorithm 2).

    That is the posterior of eq. 6 with x_0 replaced by the network's estimate. model_output, xt,
    noise: (B, ...). *Now* ``alpha_bar`` and *next* ``alpha_bar_prev``: a number, () or (B,). At
    abar_prev = 1 (the last step) no noise is added. "fixed_small": variance beta-tilde;
    "fixed_large": beta = 1 - abar / abar_prev. ``clip_x0``: clamp the estimate to [-clip_x0,
    clip_x0]. Raises as ``to_x0_and_noise`` and ``posterior_coefficients``.
    """
    abar = as_alpha_bar(alpha_bar, xt)
    then = as_alpha_bar(alpha_bar_prev, xt, "alpha_bar_prev")
    x0_pred, _ = to_x0_and_noise(model_output, xt, abar, prediction_type)
    x0_pred = x0_pred if clip_x0 is None else x0_pred.clamp(-clip_x0, clip_x0)
    return draw_posterior(x0_pred, xt, abar, then, noise, variance_type, generator)


@checked(x0_pred=like("xt"))
def draw_posterior(
    x0_pred: Tensor, xt: Tensor, alpha_bar: Tensor, alpha_bar_prev: Tensor, noise: Tensor | None,
    variance_type: str, generator: torch.Generator | None,
) -> DDPMStep:
    """Draw from q(x_{t-1} | x_t, x_0 = x0_pred): ``ddpm_step`` once the estimate is there."""
    coef_x0, coef_xt, variance = posterior_coefficients(alpha_bar, alpha_bar_prev)
    if variance_type == "fixed_large":
        variance = 1 - alpha_bar / alpha_bar_prev
    mean = coef_x0.to(xt.dtype) * x0_pred + coef_xt.to(xt.dtype) * xt
    noise = noise_like(xt, generator) if noise is None else noise
    std = variance.sqrt() * (alpha_bar_prev < 1)
    return DDPMStep(mean + std.to(xt.dtype) * noise, x0_pred, mean, variance.to(xt.dtype))
