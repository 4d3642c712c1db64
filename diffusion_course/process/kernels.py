"""The diffusion process in closed form: forward kernels, the posterior, and the four names of one
prediction.

Every function is pure, takes a batch (B, ...) of any rank and indices t (B,) in 0..T-1, and returns
the input's dtype. Coefficients are computed in the table's dtype (float64 if you keep it) and cast
last.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..validation import (
    check_alike,
    check_batch,
    check_choice,
    check_device,
    check_finite,
    check_floating,
    check_table,
    check_timesteps,
    describe,
    values_are_free,
    widest_float,
)
from .schedules import previous_alpha_bar

PREDICTION_TYPES = ("epsilon", "sample", "v_prediction", "score")


class Posterior(NamedTuple):
    """q(x_{t-1} | x_t, x_0): mean (B, ...), variance and clipped log-variance, both (B, 1, ...)."""

    mean: Tensor
    variance: Tensor
    log_variance_clipped: Tensor


def gather(table: Tensor, t: Tensor, ndim: int) -> Tensor:
    """Return ``table[t]`` (B,) shaped (B, 1, ..., 1) with ``ndim`` axes, so that it broadcasts over
    a batch.
    """
    return table[t].reshape(-1, *(1,) * (ndim - 1))


def noise_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return standard normal noise of the shape, dtype and device of ``x``, drawn from
    ``generator``.
    """
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def as_alpha_bar(alpha_bar: Tensor | float, xt: Tensor, name: str = "alpha_bar") -> Tensor:
    """Return ``alpha_bar`` (a number, () or (B,) or broadcastable) as a tensor that broadcasts over
    ``xt`` (B, ...).

    Raises TypeError or ValueError for another shape, dtype or device, or values outside [0, 1].
    """
    if isinstance(alpha_bar, (int, float)):
        _check_number(name, alpha_bar)
        return torch.full((), float(alpha_bar), dtype=widest_float(xt.device), device=xt.device)
    check_floating(name, alpha_bar)
    check_device(name, alpha_bar, "xt", xt)
    given = alpha_bar
    if alpha_bar.ndim == 1 and xt.ndim > 1:
        alpha_bar = alpha_bar.reshape(-1, *(1,) * (xt.ndim - 1))
    if alpha_bar.ndim not in (0, xt.ndim) or any(
        a not in (1, b) for a, b in zip(alpha_bar.shape, xt.shape, strict=False)
    ):
        raise ValueError(
            f"{name} must be one number or one for each sample of xt, got {describe(given)} for xt"
            f" with {describe(xt)}."
        )
    if values_are_free(alpha_bar) and not ((alpha_bar >= 0) & (alpha_bar <= 1)).all():
        raise ValueError(
            f"{name} must lie in [0, 1], got values from {alpha_bar.min().item()} to"
            f" {alpha_bar.max().item()}."
        )
    return alpha_bar


def _check_number(name: str, alpha_bar: float) -> None:
    if not 0 <= alpha_bar <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got values from {alpha_bar} to {alpha_bar}.")


def _scales(alpha_bar: Tensor | float, like: Tensor) -> tuple[Tensor, Tensor] | tuple[float, float]:
    """Return (sqrt(abar), sqrt(1 - abar)) in the dtype of ``like``, or as floats, without any work
    on tensors, of a float.
    """
    if isinstance(alpha_bar, float):
        _check_number("alpha_bar", alpha_bar)
        return math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    return alpha_bar.sqrt().to(like.dtype), (1 - alpha_bar).sqrt().to(like.dtype)


def mix(a: Tensor | float, x: Tensor, b: Tensor | float, y: Tensor) -> Tensor:
    """Return a x + b y; with floats for a and b in two passes over memory and one new tensor."""
    return (a * x).add_(y, alpha=b) if isinstance(b, float) else a * x + b * y


def _solve(xt: Tensor, a: Tensor | float, b: Tensor | float, y: Tensor) -> Tensor:
    """Return x of x_t = a x + b y."""
    return mix(1 / a, xt, -b / a, y) if isinstance(a, float) else (xt - b * y) / a


def _noise_for(
    x: Tensor, noise: Tensor | None, generator: torch.Generator | None, x_name: str
) -> Tensor:
    if noise is None:
        return noise_like(x, generator)
    check_alike("noise", noise, x_name, x)
    return noise


def q_step(
    x_prev: Tensor,
    t: Tensor,
    betas: Tensor,
    noise: Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Take one step of the forward process: x_t = sqrt(1 - beta_t) x_{t-1} + sqrt(beta_t) noise
    (arXiv 2006.11239, eq. 2).

    x_prev, noise: (B, ...); t: (B,) int64 in 0..T-1; betas: (T,). Raises on other shapes, dtypes or
    devices, t out of range, or x_prev that is not finite.
    """
    check_batch("x_prev", x_prev)
    check_table("betas", betas, "x_prev", x_prev)
    check_timesteps(t, "x_prev", x_prev, len(betas))
    check_finite("x_prev", x_prev)
    noise = _noise_for(x_prev, noise, generator, "x_prev")
    signal_scale, noise_scale = _scales(1 - gather(betas, t, x_prev.ndim), x_prev)
    return signal_scale * x_prev + noise_scale * noise


def q_sample(
    x0: Tensor,
    t: Tensor,
    alphas_cumprod: Tensor,
    noise: Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Jump to step t at once: x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise (arXiv 2006.11239,
    eq. 4).

    x0, noise: (B, ...); t: (B,) int64 in 0..T-1; alphas_cumprod: (T,). Raises on other shapes,
    dtypes or devices, t out of range, or x0 that is not finite.
    """
    check_batch("x0", x0)
    check_table("alphas_cumprod", alphas_cumprod, "x0", x0)
    check_timesteps(t, "x0", x0, len(alphas_cumprod))
    check_finite("x0", x0)
    noise = _noise_for(x0, noise, generator, "x0")
    signal_scale, noise_scale = _scales(gather(alphas_cumprod, t, x0.ndim), x0)
    return signal_scale * x0 + noise_scale * noise


def posterior_coefficients(
    alpha_bar: Tensor, alpha_bar_prev: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (coef_x0, coef_xt, variance) of q(x_{t-1} | x_t, x_0) (arXiv 2006.11239, eq. 6 and 7).

    With alpha = abar / abar_prev and beta = 1 - alpha:
    mean = sqrt(abar_prev) beta / (1 - abar) x_0 + sqrt(alpha) (1 - abar_prev) / (1 - abar) x_t,
    variance (beta-tilde) = beta (1 - abar_prev) / (1 - abar).
    *Now* (``alpha_bar``) and *next* (``alpha_bar_prev``) are explicit, so any pair of noise levels
    is a step; abar_prev = 1 is the step to clean data. Raises ValueError unless 0 <= abar <
    abar_prev <= 1.
    """
    check_floating("alpha_bar", alpha_bar)
    check_floating("alpha_bar_prev", alpha_bar_prev)
    if values_are_free(alpha_bar) and values_are_free(alpha_bar_prev):
        if not ((alpha_bar >= 0) & (alpha_bar < alpha_bar_prev) & (alpha_bar_prev <= 1)).all():
            raise ValueError(
                "a reverse step needs 0 <= alpha_bar < alpha_bar_prev <= 1 (it goes to less"
                f" noise), got alpha_bar from {alpha_bar.min().item()} to {alpha_bar.max().item()}"
                f" and alpha_bar_prev from {alpha_bar_prev.min().item()} to"
                f" {alpha_bar_prev.max().item()}."
            )
    alpha = alpha_bar / alpha_bar_prev
    beta = 1 - alpha
    coef_x0 = alpha_bar_prev.sqrt() * beta / (1 - alpha_bar)
    coef_xt = alpha.sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar)
    return coef_x0, coef_xt, beta * (1 - alpha_bar_prev) / (1 - alpha_bar)


def q_posterior(x0: Tensor, xt: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Posterior:
    """Return q(x_{t-1} | x_t, x_0), the reverse step that knows the answer (arXiv 2006.11239, eq. 6
    and 7).

    x0, xt: (B, ...); t: (B,) int64; alphas_cumprod: (T,). At index 0 the variance is 0 and the mean
    is x0; the log-variance is clipped at log(1e-20) so that it stays finite there. Raises as
    ``q_sample``.
    """
    check_batch("x0", x0)
    check_alike("xt", xt, "x0", x0)
    check_table("alphas_cumprod", alphas_cumprod, "x0", x0)
    check_timesteps(t, "x0", x0, len(alphas_cumprod))
    alpha_bar = gather(alphas_cumprod, t, x0.ndim)
    alpha_bar_prev = gather(previous_alpha_bar(alphas_cumprod), t, x0.ndim)
    coef_x0, coef_xt, variance = posterior_coefficients(alpha_bar, alpha_bar_prev)
    mean = coef_x0.to(x0.dtype) * x0 + coef_xt.to(x0.dtype) * xt
    return Posterior(mean, variance.to(x0.dtype), variance.clamp(min=1e-20).log().to(x0.dtype))


def to_x0_and_noise(
    model_output: Tensor, xt: Tensor, alpha_bar: Tensor | float, prediction_type: str
) -> tuple[Tensor, Tensor]:
    """Return (x0_pred, noise_pred) from a network's output of any kind: the one place that reads a
    prediction type.

    Solves x_t = sqrt(abar) x_0 + sqrt(1 - abar) noise together with the meaning of the output:
    "epsilon" is noise, "sample" is x_0, "v_prediction" is sqrt(abar) noise - sqrt(1 - abar) x_0
    (Salimans & Ho 2022, arXiv 2202.00512, section 4), "score" is -noise / sqrt(1 - abar). Raises
    ValueError for an unknown type, a shape or device that differs from xt, abar = 0 with "epsilon"
    or "score" (pure noise says nothing about x_0), or abar = 1 with "sample".
    """
    check_choice("prediction_type", prediction_type, PREDICTION_TYPES)
    check_alike("model_output", model_output, "xt", xt)
    signal_scale, noise_scale = _scales(
        alpha_bar if isinstance(alpha_bar, float) else as_alpha_bar(alpha_bar, xt), xt
    )
    if prediction_type == "v_prediction":
        return mix(signal_scale, xt, -noise_scale, model_output), mix(
            noise_scale, xt, signal_scale, model_output
        )
    lost = noise_scale if prediction_type == "sample" else signal_scale
    if lost == 0 if isinstance(lost, float) else values_are_free(lost) and (lost == 0).any():
        level, what = ("1", "the noise") if prediction_type == "sample" else ("0", "x0")
        raise ValueError(
            f"at alpha_bar = {level} prediction_type={prediction_type!r} does not determine {what}:"
            " use 'v_prediction' there."
        )
    if prediction_type == "sample":
        return model_output, _solve(xt, noise_scale, signal_scale, model_output)
    noise = -noise_scale * model_output if prediction_type == "score" else model_output
    return _solve(xt, signal_scale, noise_scale, noise), noise


def from_x0_and_noise(
    x0: Tensor, noise: Tensor, alpha_bar: Tensor | float, prediction_type: str
) -> Tensor:
    """Return what a perfect network of this prediction type would output: the inverse of
    ``to_x0_and_noise``.

    x0, noise: (B, ...). Raises ValueError for an unknown type, differing shapes, or "score" at abar
    = 1.
    """
    check_choice("prediction_type", prediction_type, PREDICTION_TYPES)
    check_alike("noise", noise, "x0", x0)
    alpha_bar = as_alpha_bar(alpha_bar, x0)
    signal_scale, noise_scale = _scales(alpha_bar, x0)
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "sample":
        return x0
    if prediction_type == "v_prediction":
        return signal_scale * noise - noise_scale * x0
    if values_are_free(noise_scale) and (noise_scale == 0).any():
        raise ValueError(
            "at alpha_bar = 1 there is no noise and the score of a single sample is not defined."
        )
    return -noise / noise_scale


def convert_prediction(
    value: Tensor, xt: Tensor, t: Tensor, alphas_cumprod: Tensor, *, source: str, target: str
) -> Tensor:
    """Rewrite a prediction of kind ``source`` as one of kind ``target``: "epsilon", "sample",
    "v_prediction" or "score".

    value, xt: (B, ...); t: (B,) int64; alphas_cumprod: (T,). Raises as ``to_x0_and_noise``.
    """
    check_choice("source", source, PREDICTION_TYPES)
    check_choice("target", target, PREDICTION_TYPES)
    check_batch("xt", xt)
    check_table("alphas_cumprod", alphas_cumprod, "xt", xt)
    check_timesteps(t, "xt", xt, len(alphas_cumprod))
    alpha_bar = gather(alphas_cumprod, t, xt.ndim)
    return from_x0_and_noise(*to_x0_and_noise(value, xt, alpha_bar, source), alpha_bar, target)
