"""The process in closed form: forward kernels, the posterior, five names of one prediction.

Every function is pure, takes a batch (B, ...) of any rank and indices t (B,) in 0..T-1, returns the
input's dtype. Coefficients are computed in the table's dtype (float64 if you keep it), cast last.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..door import (
    batch, broadcasts, checked, finite, floating, like, one_of, table_beside, timesteps,
)
from ..seeds import draw
from .levels import (
    column, determines, has_score, level_beside, scales, to_less_noise, to_less_noise_at,
)
from .schedules import previous_alpha_bar

PREDICTION_TYPES = ("epsilon", "sample", "v_prediction", "score", "velocity")
prediction = one_of(*PREDICTION_TYPES)


class Posterior(NamedTuple):
    """q(x_{t-1} | x_t, x_0): mean (B, ...), variance and clipped log-variance, both (B, 1, ...)."""

    mean: Tensor
    variance: Tensor
    log_variance_clipped: Tensor


@checked()
def noise_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return noise from N(0, I) with the shape, dtype and device of ``x``."""
    return draw(torch.randn, x.shape, generator=generator, device=x.device, dtype=x.dtype)


def mix(a: Tensor | float, x: Tensor, b: Tensor | float, y: Tensor) -> Tensor:
    """Return a x + b y, added in float32 at least: in half precision large parts may cancel."""
    if x.dtype.itemsize < 4:
        return mix(a, x.float(), b, y.float()).to(x.dtype)
    return torch.add(a * x, y, alpha=b) if isinstance(b, float) else a * x + b * y


def unmix(z: Tensor, a: Tensor | float, b: Tensor | float, y: Tensor) -> Tensor:
    """Return x of z = a x + b y."""
    return torch.sub(z, y, alpha=b).div_(a) if isinstance(b, float) else (z - b * y) / a


@checked(
    x_prev=(batch, finite), betas=table_beside("x_prev"), t=timesteps("x_prev", of="betas"),
    noise=like("x_prev"),
)
def q_step(
    x_prev: Tensor, t: Tensor, betas: Tensor, noise: Tensor | None = None,
    *, generator: torch.Generator | None = None,
) -> Tensor:
    """Take one step of the forward process (Ho et al. 2020, arXiv 2006.11239, eq. 2).

    x_t = sqrt(1 - beta_t) x_{t-1} + sqrt(beta_t) noise. x_prev, noise: (B, ...); t: (B,) int64 in
    0..T-1; betas: (T,). Raises on other shapes, dtypes or devices, t out of range, or x_prev that
    is not finite.
    """
    noise = noise_like(x_prev, generator) if noise is None else noise
    signal_scale, noise_scale = scales(column(1 - betas[t], x_prev), x_prev)
    return signal_scale * x_prev + noise_scale * noise


@checked(
    x0=(batch, finite), alphas_cumprod=table_beside("x0"), t=timesteps("x0", of="alphas_cumprod"),
    noise=like("x0"),
)
def q_sample(
    x0: Tensor, t: Tensor, alphas_cumprod: Tensor, noise: Tensor | None = None,
    *, generator: torch.Generator | None = None,
) -> Tensor:
    """Jump to step t at once (Ho et al. 2020, arXiv 2006.11239, eq. 4).

    x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise. x0, noise: (B, ...); t: (B,) int64 in 0..T-1;
    alphas_cumprod: (T,). Raises on other shapes, dtypes or devices, t out of range, or x0 that is
    not finite.
    """
    noise = noise_like(x0, generator) if noise is None else noise
    signal_scale, noise_scale = scales(column(alphas_cumprod[t], x0), x0)
    return signal_scale * x0 + noise_scale * noise


@checked(alpha_bar_prev=(broadcasts("alpha_bar"), to_less_noise))
def posterior_coefficients(
    alpha_bar: Tensor, alpha_bar_prev: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (coef_x0, coef_xt, variance) of q(x_{t-1} | x_t, x_0) (arXiv 2006.11239, eq. 6 and 7).

    With alpha = abar / abar_prev and beta = 1 - alpha:
    mean = sqrt(abar_prev) beta / (1 - abar) x_0 + sqrt(alpha) (1 - abar_prev) / (1 - abar) x_t,
    variance (beta-tilde) = beta (1 - abar_prev) / (1 - abar).
    *Now* (``alpha_bar``) and *next* (``alpha_bar_prev``) are explicit, so any pair of noise levels
    is a step; abar_prev = 1 is the step to clean data. Raises ValueError unless
    0 <= abar < abar_prev <= 1.
    """
    alpha = alpha_bar / alpha_bar_prev
    beta = 1 - alpha
    coef_x0 = alpha_bar_prev.sqrt() * beta / (1 - alpha_bar)
    coef_xt = alpha.sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar)
    return coef_x0, coef_xt, beta * (1 - alpha_bar_prev) / (1 - alpha_bar)


@checked(
    x0=batch, xt=like("x0"), alphas_cumprod=table_beside("x0"),
    t=(timesteps("x0", of="alphas_cumprod"), to_less_noise_at),
)
def q_posterior(x0: Tensor, xt: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Posterior:
    """Return q(x_{t-1} | x_t, x_0), the reverse step that knows x_0.

    Source: Ho et al. 2020 (arXiv 2006.11239, eq. 6 and 7).

    x0, xt: (B, ...); t: (B,) int64; alphas_cumprod: (T,). At index 0 the variance is 0 and the mean
    is x0; the log-variance is clipped at log(1e-20) so that it stays finite. Raises as
    ``q_sample``.
    """
    now = column(alphas_cumprod[t], x0)
    then = column(previous_alpha_bar(alphas_cumprod)[t], x0)
    coef_x0, coef_xt, variance = posterior_coefficients(now, then)
    mean = coef_x0.to(x0.dtype) * x0 + coef_xt.to(x0.dtype) * xt
    # In half precision 1e-20 is 0.
    wide = torch.promote_types(variance.dtype, torch.float32)
    log_variance = variance.to(wide).clamp(min=1e-20).log()
    return Posterior(mean, variance.to(x0.dtype), log_variance.to(x0.dtype))


@checked(prediction_type=prediction, xt=floating, model_output=like("xt"), alpha_bar=determines)
def to_x0_and_noise(
    model_output: Tensor, xt: Tensor, alpha_bar: Tensor | float, prediction_type: str
) -> tuple[Tensor, Tensor]:
    """Return (x0_pred, noise_pred) from a network's output of any prediction type.

    Solves x_t = sqrt(abar) x_0 + sqrt(1 - abar) noise together with the meaning of the output:
    "epsilon" is noise, "sample" is x_0, "v_prediction" is sqrt(abar) noise - sqrt(1 - abar) x_0
    (Salimans & Ho 2022, arXiv 2202.00512, section 4), "score" is -noise / sqrt(1 - abar),
    "velocity" is noise - x_0. Raises ValueError for an unknown type, another shape or device than
    xt's, abar = 0 with "epsilon" or "score" (noise says nothing of x_0), abar = 1 with "sample".
    """
    a, b = scales(level_beside(alpha_bar, xt), xt)
    if prediction_type == "velocity":
        x0 = unmix(xt, a + b, b, model_output)
        return x0, x0 + model_output
    if prediction_type == "v_prediction":
        return mix(a, xt, -b, model_output), mix(b, xt, a, model_output)
    if prediction_type == "sample":
        return model_output, unmix(xt, b, a, model_output)
    noise = -b * model_output if prediction_type == "score" else model_output
    return unmix(xt, a, b, noise), noise


@checked(prediction_type=prediction, x0=floating, noise=like("x0"), alpha_bar=has_score)
def from_x0_and_noise(
    x0: Tensor, noise: Tensor, alpha_bar: Tensor | float, prediction_type: str
) -> Tensor:
    """Return what a perfect network of this prediction type outputs: ``to_x0_and_noise`` undone.

    x0, noise: (B, ...). Raises ValueError for an unknown type, differing shapes, or "score" at
    abar = 1, where a single sample has none.
    """
    a, b = scales(level_beside(alpha_bar, x0), x0)
    if prediction_type in ("v_prediction", "velocity"):
        return a * noise - b * x0 if prediction_type == "v_prediction" else noise - x0
    if prediction_type == "score":
        return -noise / b
    return noise if prediction_type == "epsilon" else x0


@checked(
    source=prediction, target=prediction, xt=batch, value=like("xt"),
    alphas_cumprod=table_beside("xt"), t=timesteps("xt", of="alphas_cumprod"),
)
def convert_prediction(
    value: Tensor, xt: Tensor, t: Tensor, alphas_cumprod: Tensor, *, source: str, target: str
) -> Tensor:
    """Rewrite a prediction of kind ``source`` as one of kind ``target`` (``PREDICTION_TYPES``).

    value, xt: (B, ...); t: (B,) int64; alphas_cumprod: (T,). Raises as ``to_x0_and_noise``.
    """
    alpha_bar = column(alphas_cumprod[t], xt)
    return from_x0_and_noise(*to_x0_and_noise(value, xt, alpha_bar, source), alpha_bar, target)
