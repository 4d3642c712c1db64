"""One step of every sampler, with *now* and *next* explicit and one signature.

States are x_t as the network sees them (variance preserving). Formulas of arXiv 2206.00364 live in
xhat = x_t / sqrt(abar) with sigma = sqrt((1 - abar) / abar): inside a step they are written so.
Coefficients are Python numbers, computed in float64.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..process.kernels import mix, noise_like
from ..validation import check_alike, check_batch
from .ancestral import ddpm_step
from .timesteps import Level, sigma_of


class Estimate(NamedTuple):
    """What the network says at one level: x0 and noise, both like x_t, with x_t = sqrt(abar) x0 +
    sqrt(1 - abar) noise.
    """

    x0: Tensor
    noise: Tensor


Denoise = Callable[[Tensor, Level], Estimate]
Before = tuple[Level, Estimate] | None  # the level and the estimate of the step before


class SamplerStep(NamedTuple):
    """One step: the state at the next level, and the estimate at the level it started from."""

    x_prev: Tensor
    estimate: Estimate


Step = Callable[..., SamplerStep]


def _check_step(xt: Tensor, now: Level, prev: Level) -> None:
    check_batch("xt", xt)
    if not 0 <= now.alpha_bar < prev.alpha_bar <= 1:
        raise ValueError(
            "a step goes to less noise, 0 <= now.alpha_bar < prev.alpha_bar <= 1, "
            f"got now.alpha_bar = {now.alpha_bar} and prev.alpha_bar = {prev.alpha_bar}."
        )


def _sigmas(name: str, xt: Tensor, now: Level, prev: Level) -> tuple[float, float]:
    _check_step(xt, now, prev)
    if now.alpha_bar == 0:
        raise ValueError(
            f'{name} works in sigma, which is infinite at alpha_bar = 0: use "ddim" or "dpmpp_2m",'
            " or start later."
        )
    return sigma_of(now.alpha_bar), sigma_of(prev.alpha_bar)


def _check_eta(eta: float) -> None:
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1] (0: deterministic, 1: as DDPM), got {eta}.")


def _add_noise(
    x: Tensor, std: float, noise: Tensor | None, generator: torch.Generator | None
) -> Tensor:
    if noise is not None:
        check_alike("noise", noise, "xt", x)
    if std == 0:
        return x
    return x.add_(
        noise_like(x, generator) if noise is None else noise, alpha=std
    )  # x is the step's own new tensor


def ddim_step(
    denoise: Denoise, xt: Tensor, now: Level, prev: Level, *, last: Before = None,
    noise: Tensor | None = None, generator: torch.Generator | None = None, eta: float = 0.0,
) -> SamplerStep:
    """Keep the estimated noise, lower its share (Song et al. 2020, arXiv 2010.02502, eq. 12 and
    16).

    x_prev = sqrt(abar_prev) x0 + sqrt(1 - abar_prev - s^2) noise_pred + s z, with
    s = eta sqrt((1 - abar_prev) / (1 - abar)) sqrt(1 - abar / abar_prev). eta = 0: deterministic;
    eta = 1: ancestral DDPM with variance beta-tilde. xt, noise (= z): (B, ...); ``last`` is not
    used. Raises ValueError unless now is noisier than prev and eta lies in [0, 1].
    """
    _check_step(xt, now, prev)
    _check_eta(eta)
    abar, abar_prev = now.alpha_bar, prev.alpha_bar
    estimate = denoise(xt, now)
    std = eta * math.sqrt((1 - abar_prev) / (1 - abar)) * math.sqrt(1 - abar / abar_prev)
    x_prev = mix(
        math.sqrt(abar_prev), estimate.x0, math.sqrt(max(0.0, 1 - abar_prev - std**2)),
        estimate.noise,
    )
    return SamplerStep(_add_noise(x_prev, std, noise, generator), estimate)


def euler_step(
    denoise: Denoise, xt: Tensor, now: Level, prev: Level, *, last: Before = None,
    noise: Tensor | None = None, generator: torch.Generator | None = None,
) -> SamplerStep:
    """Follow the probability-flow ODE dxhat / dsigma = noise_pred along its tangent (Karras et al.
    2022, arXiv 2206.00364).

    xhat_prev = xhat + (sigma_prev - sigma) noise_pred. Equal to ``ddim_step`` with eta = 0. xt: (B,
    ...); ``last``, ``noise`` and ``generator`` are not used. Raises ValueError unless now is
    noisier than prev, and at abar = 0, where sigma is infinite.
    """
    sigma, sigma_prev = _sigmas("euler", xt, now, prev)
    estimate = denoise(xt, now)
    scale = math.sqrt(prev.alpha_bar)
    return SamplerStep(
        mix(scale / math.sqrt(now.alpha_bar), xt, scale * (sigma_prev - sigma), estimate.noise),
        estimate,
    )


def euler_ancestral_step(
    denoise: Denoise, xt: Tensor, now: Level, prev: Level, *, last: Before = None,
    noise: Tensor | None = None, generator: torch.Generator | None = None, eta: float = 1.0,
) -> SamplerStep:
    """Take an Euler step too far, to sigma_down, and add noise back up to sigma_prev.

    sigma_up = eta sigma_prev sqrt(sigma^2 - sigma_prev^2) / sigma, sigma_down^2 = sigma_prev^2 -
    sigma_up^2, xhat_prev = xhat + (sigma_down - sigma) noise_pred + sigma_up z. Equal to
    ``ddim_step`` of the same eta, so at eta = 1 to DDPM with beta-tilde. xt, noise (= z): (B, ...).
    Raises as ``euler_step``, and for eta outside [0, 1].
    """
    sigma, sigma_prev = _sigmas("euler_ancestral", xt, now, prev)
    _check_eta(eta)
    estimate = denoise(xt, now)
    sigma_up = eta * sigma_prev * math.sqrt((1 - sigma_prev / sigma) * (1 + sigma_prev / sigma))
    sigma_down = math.sqrt(max(0.0, sigma_prev**2 - sigma_up**2))
    scale = math.sqrt(prev.alpha_bar)
    x_prev = mix(scale / math.sqrt(now.alpha_bar), xt, scale * (sigma_down - sigma), estimate.noise)
    return SamplerStep(_add_noise(x_prev, scale * sigma_up, noise, generator), estimate)


def heun_step(
    denoise: Denoise, xt: Tensor, now: Level, prev: Level, *, last: Before = None,
    noise: Tensor | None = None, generator: torch.Generator | None = None,
) -> SamplerStep:
    """Take an Euler step, look at the slope where it lands, and go by the mean of both (arXiv
    2206.00364, Algorithm 1).

    xhat_prev = xhat + (sigma_prev - sigma) (noise_pred + noise_pred') / 2: second order, two calls
    of the network; the step to clean data is Euler's, one call. Arguments and errors as
    ``euler_step``.
    """
    sigma, sigma_prev = _sigmas("heun", xt, now, prev)
    estimate = denoise(xt, now)
    scale = math.sqrt(prev.alpha_bar)
    xhat, change = xt * (scale / math.sqrt(now.alpha_bar)), scale * (sigma_prev - sigma)
    if sigma_prev == 0:
        return SamplerStep(torch.add(xhat, estimate.noise, alpha=change), estimate)
    slope = denoise(torch.add(xhat, estimate.noise, alpha=change), prev).noise
    return SamplerStep(
        xhat.add_(estimate.noise, alpha=change / 2).add_(slope, alpha=change / 2), estimate
    )


def dpmpp_2m_step(
    denoise: Denoise, xt: Tensor, now: Level, prev: Level, *, last: Before = None,
    noise: Tensor | None = None, generator: torch.Generator | None = None,
) -> SamplerStep:
    """Extrapolate x0 from this step and the one before (Lu et al. 2022, DPM-Solver++(2M), arXiv
    2211.01095, Algorithm 2).

    With lambda = log(sqrt(abar) / sqrt(1 - abar)), h = lambda_prev - lambda and r = h_before / h:
    D = x0 + (x0 - x0_before) / (2 r), x_prev = sqrt((1 - abar_prev) / (1 - abar)) x_t +
    sqrt(abar_prev) (1 - exp(-h)) D. ``last`` = (level, estimate) of the step before. Without it,
    and on the step to clean data, D = x0: a DDIM step. One call of the network; ``noise`` and
    ``generator`` are not used. Raises ValueError unless the levels go from more noise to less.
    """
    _check_step(xt, now, prev)
    estimate = denoise(xt, now)
    h = _log_snr(prev) - _log_snr(now)
    direction = estimate.x0
    if last is not None and prev.alpha_bar < 1:
        _check_step(xt, last[0], now)
        weight = h / (
            2 * (_log_snr(now) - _log_snr(last[0]))
        )  # 1 / (2 r); 0 if the step before came from abar = 0
        direction = mix(1 + weight, estimate.x0, -weight, last[1].x0)
    ratio = math.sqrt((1 - prev.alpha_bar) / (1 - now.alpha_bar))
    return SamplerStep(
        mix(ratio, xt, -math.sqrt(prev.alpha_bar) * math.expm1(-h), direction), estimate
    )


def _log_snr(level: Level) -> float:
    """Return lambda = log(sqrt(abar) / sqrt(1 - abar)), half the log of the SNR; minus infinity at
    0, infinity at 1.
    """
    if level.alpha_bar in (0.0, 1.0):
        return -math.inf if level.alpha_bar == 0 else math.inf
    return -math.log(sigma_of(level.alpha_bar))


def posterior_step(
    denoise: Denoise, xt: Tensor, now: Level, prev: Level, *, last: Before = None,
    noise: Tensor | None = None, generator: torch.Generator | None = None,
    variance_type: str = "fixed_small",
) -> SamplerStep:
    """Draw from the posterior at the estimate: ``sampling.ddpm_step`` between any two levels.
    ``last`` is not used.
    """
    _check_step(xt, now, prev)
    estimate = denoise(xt, now)
    step = ddpm_step(
        estimate.x0, xt, now.alpha_bar, prev.alpha_bar, noise, prediction_type="sample",
        variance_type=variance_type, generator=generator,
    )
    return SamplerStep(step.x_prev, estimate)
