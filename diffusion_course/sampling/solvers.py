"""One step of every sampler, ``step(denoise, xt, move)``: ``move`` says from where to where.

States are x_t as the network sees them (variance preserving). Formulas of arXiv 2206.00364 live in
xhat = x_t / sqrt(abar) with sigma = sqrt((1 - abar) / abar): inside a step they are written so.
Coefficients are Python numbers, computed in float64.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..door import Check, batch, checked, number
from ..process.kernels import mix, noise_like
from ..process.levels import as_alpha_bar
from ..process.losses import variances
from ..validation import check_alike, values_are_free
from .reverse import draw_posterior
from .timesteps import Level, log_snr_of, sigma_of


class Estimate(NamedTuple):
    """What the network says at one level, like x_t: x_t = sqrt(abar) x0 + sqrt(1 - abar) noise."""

    x0: Tensor
    noise: Tensor


Denoise = Callable[[Tensor, Level], Estimate]


class Transition(NamedTuple):
    """Where a step goes, from ``now`` to less noise ``then``, and what it may use on the way.

    before: the level and the estimate of the step before, for samplers that remember. noise: like
    xt, what a random step adds; else it is drawn from ``generator``.
    """

    now: Level
    then: Level
    before: tuple[Level, Estimate] | None = None
    noise: Tensor | None = None
    generator: torch.Generator | None = None

    def add_noise(self, x: Tensor, std: float) -> Tensor:
        """Return x + std z."""
        if std == 0:
            return x
        z = noise_like(x, self.generator) if self.noise is None else self.noise
        return torch.add(x, z, alpha=std)


class SamplerStep(NamedTuple):
    """One step: the state at the next level, and the estimate at the level it started from."""

    x_prev: Tensor
    estimate: Estimate


class Step(Protocol):
    """What ``iterate_levels`` calls: any function that goes from one level to the next."""

    def __call__(
        self, denoise: Denoise, xt: Tensor, move: Transition, **options: object
    ) -> SamplerStep:
        """Return the state at ``move.then`` and the estimate at ``move.now``."""


def _downhill(name: str, move: Transition, given: dict) -> None:
    """Raise ValueError unless ``move`` goes to less noise, or its noise is not like xt."""
    now, then = move.now.alpha_bar, move.then.alpha_bar
    readable = not isinstance(now, Tensor) or values_are_free(now)
    if readable and not 0 <= now < then <= 1:
        raise ValueError(
            "a step goes to less noise, 0 <= now.alpha_bar < then.alpha_bar <= 1, "
            f"got now.alpha_bar = {float(now)} and then.alpha_bar = {float(then)}. (In a narrow "
            "dtype two levels may be the same number: keep the schedule in float64.)"
        )
    if move.noise is not None:
        check_alike("noise", move.noise, "xt", given["xt"])


def _finite_sigma(sampler: str) -> Check:
    def finite_sigma(name: str, move: Transition, given: dict) -> None:
        if move.now.alpha_bar == 0:
            raise ValueError(
                f"{sampler} works in sigma, which is infinite at alpha_bar = 0: "
                'use "ddim" or "dpmpp_2m", or start later.'
            )

    return finite_sigma


def _remembered(name: str, move: Transition, given: dict) -> None:
    if move.before is not None:
        _downhill(name, Transition(move.before[0], move.now), given)


eta_range = number(lambda eta: 0 <= eta <= 1, "lie in [0, 1] (0: deterministic, 1: as DDPM)")


@checked(xt=batch, move=_downhill, eta=eta_range)
def ddim_step(
    denoise: Denoise, xt: Tensor, move: Transition, *, eta: float = 0.0
) -> SamplerStep:
    """Keep the estimated noise, lower its share (Song et al. 2020, arXiv 2010.02502, eq. 12).

    x_prev = sqrt(abar') x0 + sqrt(1 - abar' - zeta^2) noise_pred + zeta z, with abar' of
    ``move.then`` and zeta = eta sqrt((1 - abar') / (1 - abar)) sqrt(1 - abar / abar'). eta = 0:
    deterministic; eta = 1: ancestral DDPM with variance beta-tilde. xt: (B, ...). Raises ValueError
    unless now is noisier than then and eta lies in [0, 1].
    """
    estimate = denoise(xt, move.now)
    abar, then = move.now.alpha_bar, move.then.alpha_bar
    zeta = eta * math.sqrt((1 - then) / (1 - abar)) * math.sqrt(1 - abar / then)
    kept = math.sqrt(max(0.0, 1 - then - zeta**2))
    x_prev = mix(math.sqrt(then), estimate.x0, kept, estimate.noise)
    return SamplerStep(move.add_noise(x_prev, zeta), estimate)


@checked(xt=batch, move=(_downhill, _finite_sigma("euler")))
def euler_step(denoise: Denoise, xt: Tensor, move: Transition) -> SamplerStep:
    """Follow the probability-flow ODE along its tangent (Karras et al. 2022, arXiv 2206.00364, eq.
    1).

    dxhat / dsigma = noise_pred: xhat' = xhat + (sigma' - sigma) noise_pred. Equal to ``ddim_step``
    with eta = 0. xt: (B, ...). Raises ValueError unless now is noisier than then, and at abar = 0,
    where sigma is infinite.
    """
    estimate, (sigma, sigma_then) = denoise(xt, move.now), _sigmas(move)
    root, root_then = math.sqrt(move.now.alpha_bar), math.sqrt(move.then.alpha_bar)
    change = sigma_then - sigma  # of xhat = x_t / root, along the slope: the noise
    x_prev = mix(root_then / root, xt, root_then * change, estimate.noise)
    return SamplerStep(x_prev, estimate)


@checked(xt=batch, move=(_downhill, _finite_sigma("euler_ancestral")), eta=eta_range)
def euler_ancestral_step(
    denoise: Denoise, xt: Tensor, move: Transition, *, eta: float = 1.0
) -> SamplerStep:
    """Take an Euler step too far, to sigma_down, and add noise back up to sigma'.

    sigma_up = eta sigma' sqrt(sigma^2 - sigma'^2) / sigma, sigma_down^2 = sigma'^2 - sigma_up^2,
    xhat' = xhat + (sigma_down - sigma) noise_pred + sigma_up z. Equal to ``ddim_step`` of the same
    eta, so at eta = 1 to DDPM with beta-tilde (as in k-diffusion). xt: (B, ...). Raises as
    ``euler_step``, and for eta outside [0, 1].
    """
    estimate, sigma, sigma_then = denoise(xt, move.now), *_sigmas(move)
    ratio = sigma_then / sigma
    sigma_up = eta * sigma_then * math.sqrt((1 - ratio) * (1 + ratio))
    sigma_down = math.sqrt(max(0.0, sigma_then**2 - sigma_up**2))
    root, root_then = math.sqrt(move.now.alpha_bar), math.sqrt(move.then.alpha_bar)
    x_prev = mix(root_then / root, xt, root_then * (sigma_down - sigma), estimate.noise)
    return SamplerStep(move.add_noise(x_prev, root_then * sigma_up), estimate)


@checked(xt=batch, move=(_downhill, _finite_sigma("heun")))
def heun_step(denoise: Denoise, xt: Tensor, move: Transition) -> SamplerStep:
    """Go by the mean of the slopes at both ends of an Euler step (arXiv 2206.00364, Algorithm 1).

    xhat' = xhat + (sigma' - sigma) (noise_pred + noise_pred') / 2: second order, two calls of the
    network; the step to clean data is Euler's, one call. The second slope's rounding is multiplied
    by sigma: in half precision an "epsilon" network needs a start below the noisiest levels, or
    another sampler. Arguments and errors as ``euler_step``.
    """
    estimate, sigma, sigma_then = denoise(xt, move.now), *_sigmas(move)
    root, root_then = math.sqrt(move.now.alpha_bar), math.sqrt(move.then.alpha_bar)
    ratio, change = root_then / root, root_then * (sigma_then - sigma)
    ahead = mix(ratio, xt, change, estimate.noise)
    if sigma_then == 0:
        return SamplerStep(ahead, estimate)
    slope = torch.lerp(estimate.noise, denoise(ahead, move.then).noise, 0.5)
    return SamplerStep(mix(ratio, xt, change, slope), estimate)


@checked(xt=batch, move=(_downhill, _remembered))
def dpmpp_2m_step(denoise: Denoise, xt: Tensor, move: Transition) -> SamplerStep:
    """Extrapolate x0 from two steps (DPM-Solver++(2M), arXiv 2211.01095, Algorithm 2).

    With lambda = log(sqrt(abar) / sqrt(1 - abar)), h = lambda' - lambda and r = h_before / h:
    D = x0 + (x0 - x0_before) / (2 r),
    x_prev = sqrt((1 - abar') / (1 - abar)) x_t + sqrt(abar') (1 - exp(-h)) D. Without ``before``,
    and on the step to clean data, D = x0: a DDIM step. One call of the network. xt: (B, ...).
    Raises ValueError unless the levels go from more noise to less.
    """
    (now, then), estimate = move[:2], denoise(xt, move.now)
    h, direction = log_snr_of(then.alpha_bar) - log_snr_of(now.alpha_bar), estimate.x0
    if move.before is not None and then.alpha_bar < 1:
        (earlier, estimate_before), lambda_now = move.before, log_snr_of(now.alpha_bar)
        h_before = lambda_now - log_snr_of(earlier.alpha_bar)  # infinite from abar = 0
        half = h / (2 * h_before)  # 1 / (2 r)
        direction = mix(1 + half, estimate.x0, -half, estimate_before.x0)
    ratio = math.sqrt((1 - then.alpha_bar) / (1 - now.alpha_bar))
    x_prev = mix(ratio, xt, -math.sqrt(then.alpha_bar) * math.expm1(-h), direction)
    return SamplerStep(x_prev, estimate)


@checked(xt=batch, move=_downhill, variance_type=variances)
def posterior_step(
    denoise: Denoise, xt: Tensor, move: Transition, *, variance_type: str = "fixed_small"
) -> SamplerStep:
    """Draw from the posterior at the estimate: ``ddpm_step`` between any two levels."""
    estimate = denoise(xt, move.now)
    xt = xt.to(estimate.x0.dtype)
    levels = (as_alpha_bar(level.alpha_bar, xt) for level in move[:2])
    step = draw_posterior(estimate.x0, xt, *levels, move.noise, variance_type, move.generator)
    return SamplerStep(step.x_prev, estimate)


def _sigmas(move: Transition) -> tuple[float, float]:
    """Return sigma now and then."""
    return sigma_of(move.now.alpha_bar), sigma_of(move.then.alpha_bar)
