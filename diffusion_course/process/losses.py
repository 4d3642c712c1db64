"""What a network is trained on: targets, weights, the training loss, and the bound behind it.

The bound is L = L_T + sum_t L_{t-1} + L_0 (Ho et al. 2020, arXiv 2006.11239, eq. 5), in nats.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..door import (
    batch, beside, broadcasts, checked, falling, like, number, one_of, positive_int, table,
    table_beside, timesteps,
)
from ..seeds import draw
from ..validation import check_timesteps, describe, values_are_free
from .kernels import (
    from_x0_and_noise, noise_like, posterior_coefficients, prediction, q_posterior, q_sample,
    to_x0_and_noise,
)
from .levels import column
from .schedules import previous_alpha_bar, snr

WEIGHTINGS = ("simple", "min_snr", "elbo")
VARIANCE_TYPES = ("fixed_small", "fixed_large")
variances = one_of(*VARIANCE_TYPES)
Model = Callable[..., Tensor]


def call_model(model: Model, xt: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
    """Return ``model(xt, t)`` or ``model(xt, t, cond)``; raise unless the output looks like xt."""
    output = model(xt, t) if cond is None else model(xt, t, cond)
    if not isinstance(output, Tensor):
        raise TypeError(
            f"the network must return a tensor like xt ({describe(xt)}), got {describe(output)}."
        )
    if output.shape != xt.shape or output.device != xt.device:
        raise ValueError(
            f"the network must return the shape and device of xt: got {describe(output)} "
            f"for xt with {describe(xt)}."
        )
    return output if output.dtype == xt.dtype else output.to(xt.dtype)


@checked(
    x0=batch, noise=like("x0"), alphas_cumprod=table_beside("x0"),
    t=timesteps("x0", of="alphas_cumprod"), prediction_type=prediction,
)
def prediction_target(
    x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor, prediction_type: str = "epsilon"
) -> Tensor:
    """Return what the network should output for x_t = q_sample(x0, t, alphas_cumprod, noise).

    x0, noise: (B, ...); t: (B,) int64; alphas_cumprod: (T,). Raises as ``from_x0_and_noise`` and
    ``q_sample``.
    """
    return from_x0_and_noise(x0, noise, column(alphas_cumprod[t], x0), prediction_type)


def _indices(name: str, t: object, given: dict) -> None:
    if t.ndim != 1 or len(t) == 0:
        raise ValueError(f"t must have shape (B,) with B >= 1, got {describe(t)}.")
    check_timesteps(t, "t", t, len(given["alphas_cumprod"]))


def _finite_weight(name: str, t: Tensor, given: dict) -> None:
    bars, predicts = given["alphas_cumprod"], given["prediction_type"]
    unbound = given["weighting"] == "elbo" and predicts in ("epsilon", "score")
    if unbound and values_are_free(t) and values_are_free(bars) and (bars[t] == 0).any():
        raise ValueError(
            f"{name} must leave out alpha_bar = 0 (got alphas_cumprod[t] = 0), where the bound's "
            f"weight of {predicts!r} is infinite: predict 'v_prediction' or 'sample'."
        )


@checked(
    weighting=one_of(*WEIGHTINGS), prediction_type=prediction, variance_type=variances,
    alphas_cumprod=table, t=(_indices, beside("alphas_cumprod"), _finite_weight),
    gamma=number(lambda value: value > 0, "be positive"),
)
def loss_weight(
    t: Tensor, alphas_cumprod: Tensor, *, prediction_type: str = "epsilon",
    weighting: str = "simple", gamma: float = 5.0, variance_type: str = "fixed_small",
) -> Tensor:
    """Return the weight (B,) of each sample's squared error, in the prediction's own units.

    "simple": 1 (arXiv 2006.11239, eq. 14). "min_snr": min(SNR, gamma) on the error of x0 (Hang et
    al. 2023, arXiv 2303.09556). "elbo": the weight in the bound, which on the error of x0 is
    coef_x0^2 / (2 sigma^2), with coef_x0 of the posterior mean (eq. 7) and sigma^2 = beta-tilde
    ("fixed_small") or beta ("fixed_large"); at index 0, where the term is the decoder's, beta.
    x0's error is that of epsilon times 1 / SNR, of v times 1 - abar, of the score times
    (1 - abar) / SNR, of the velocity times (1 - abar) / (sqrt(abar) + sqrt(1 - abar))^2. Raises
    ValueError for unknown names, gamma <= 0, or t out of range.
    """
    abar, then = alphas_cumprod[t], previous_alpha_bar(alphas_cumprod)[t]
    straight = (abar.sqrt() + (1 - abar).sqrt()) ** 2
    if weighting == "simple":
        return torch.ones_like(abar)
    if weighting == "min_snr" and prediction_type == "sample":
        return snr(abar).clamp(max=gamma)
    if weighting == "min_snr":  # of the error of epsilon, times what makes it another's
        capped = {"v_prediction": abar, "score": 1 - abar, "velocity": abar / straight}
        return (gamma / snr(abar)).clamp(max=1.0) * capped.get(prediction_type, 1.0)
    coef_x0, _, beta_tilde = posterior_coefficients(abar, then)
    small = (t > 0) & (variance_type == "fixed_small")
    on_x0 = coef_x0**2 / (2 * torch.where(small, beta_tilde, 1 - abar / then))
    factor = {"epsilon": 1 / snr(abar), "v_prediction": 1 - abar, "score": (1 - abar) / snr(abar)}
    factor["velocity"] = (1 - abar) / straight
    return on_x0 * factor.get(prediction_type, 1.0)


@checked(x0=batch, alphas_cumprod=table_beside("x0"))
def diffusion_loss(
    model: Model, x0: Tensor, alphas_cumprod: Tensor, *, cond: Tensor | None = None,
    t: Tensor | None = None, noise: Tensor | None = None,
    prediction_type: str = "epsilon", weighting: str = "simple", gamma: float = 5.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the training loss () of a batch: E[weight(t) error^2] (arXiv 2006.11239, eq. 14).

    x0: (B, ...); t: (B,) int64 or drawn uniformly from 0..T-1; noise: like x0 or drawn;
    ``model(xt, t[, cond])`` returns the shape of xt. Raises if the network returns another shape or
    device, and as ``q_sample`` and ``loss_weight``.
    """
    if t is None:
        size = len(alphas_cumprod), x0.shape[:1]
        t = draw(torch.randint, *size, generator=generator, device=x0.device)
    noise = noise_like(x0, generator) if noise is None else noise
    xt = q_sample(x0, t, alphas_cumprod, noise)
    target = prediction_target(x0, noise, t, alphas_cumprod, prediction_type)
    error = (call_model(model, xt, t, cond) - target) ** 2
    if weighting == "simple":
        return error.mean()
    kind = {"prediction_type": prediction_type, "weighting": weighting, "gamma": gamma}
    weight = loss_weight(t, alphas_cumprod, **kind)
    return (weight.to(error.dtype) * error.reshape(len(error), -1).mean(1)).mean()


@checked(
    mean1=broadcasts("mean2"), log_variance1=broadcasts("mean1"), mean2=broadcasts("log_variance2"),
    log_variance2=broadcasts("log_variance1"),
)
def gaussian_kl(
    mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor
) -> Tensor:
    """Return KL(N(mean1, variance1) || N(mean2, variance2)) per element, in nats.

    0.5 (log v2 - log v1 + v1 / v2 + (m1 - m2)^2 / v2 - 1).
    """
    gap = (mean1 - mean2) ** 2 * (-log_variance2).exp()
    log_ratio = log_variance1 - log_variance2
    return 0.5 * (log_ratio.exp() - log_ratio + gap - 1)


@checked(num_dims=positive_int)
def bits_per_dim(nats: Tensor | float, num_dims: int) -> Tensor | float:
    """Return nats per sample as bits per dimension: nats / (num_dims ln 2), for num_dims >= 1."""
    return nats / (num_dims * math.log(2))


class ElboTerms(NamedTuple):
    """The bound's terms in nats per sample: prior (B,), transitions (B, T-1), reconstruction (B,).
    """

    prior: Tensor
    transitions: Tensor
    reconstruction: Tensor

    @property
    def total(self) -> Tensor:
        """The bound on -log p(x0), (B,)."""
        return self.prior + self.transitions.sum(1) + self.reconstruction


def _reconstruction(
    x0: Tensor, mean: Tensor, log_variance: Tensor, num_levels: int | None
) -> Tensor:
    """Return -log p(x0 | x1) per element: a density, or the probability of x0's bin (eq. 13)."""
    if num_levels is None:
        gap = (x0 - mean) ** 2 * (-log_variance).exp()
        return 0.5 * (math.log(2 * math.pi) + log_variance + gap)
    half, std, log_cdf = 1 / (num_levels - 1), (0.5 * log_variance).exp(), torch.special.log_ndtr
    # By symmetry both edges lie on the left tail, where a difference of cdfs keeps its digits.
    distance = (x0 - mean).abs()
    upper, lower = log_cdf((half - distance) / std), log_cdf((-half - distance) / std)
    inside = upper + (-torch.expm1(lower - upper)).log()
    inside = torch.where(x0 > 1 - half, log_cdf((mean - x0 + half) / std), inside)
    return -torch.where(x0 < -1 + half, log_cdf((x0 + half - mean) / std), inside)


def _per_sample(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1).sum(1)


def _levels(name: str, num_levels: object, given: dict) -> None:
    if num_levels < 2:
        raise ValueError(f"num_levels must be an int of at least 2, or None, got {num_levels!r}.")


@torch.no_grad()
@checked(
    x0=batch, alphas_cumprod=(table_beside("x0"), falling), prediction_type=prediction,
    variance_type=variances, num_levels=_levels,
)
def elbo_terms(
    model: Model, x0: Tensor, alphas_cumprod: Tensor, *, prediction_type: str = "epsilon",
    variance_type: str = "fixed_small", num_levels: int | None = None, cond: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> ElboTerms:
    """Return one Monte Carlo draw of every term of the bound on -log p(x0) (arXiv 2006.11239, eq.
    5).

    In nats; x0: (B, ...). Calls the network T times, once for each t with fresh noise.
    ``num_levels``: x0 takes that many evenly spaced values in [-1, 1] and the last term is a
    probability (eq. 13); None: x0 is continuous and it is a density. The decoder's variance is
    beta_1. Raises as ``diffusion_loss``; ValueError for num_levels < 2.
    """
    zero, last = x0.new_zeros(()), alphas_cumprod[-1]
    prior = gaussian_kl(last.sqrt().to(x0.dtype) * x0, (1 - last).log().to(x0.dtype), zero, zero)
    transitions = []
    levels = zip(alphas_cumprod, previous_alpha_bar(alphas_cumprod), strict=True)
    for i, (alpha_bar, then) in enumerate(levels):
        t = torch.full(x0.shape[:1], i, device=x0.device)
        xt = q_sample(x0, t, alphas_cumprod, generator=generator)
        output = call_model(model, xt, t, cond)
        x0_pred, _ = to_x0_and_noise(output, xt, alpha_bar, prediction_type)
        log_beta = (1 - alpha_bar / then).log().to(x0.dtype)
        if i == 0:
            reconstruction = _reconstruction(x0, x0_pred, log_beta, num_levels)
            continue
        true = q_posterior(x0, xt, t, alphas_cumprod)
        mean = q_posterior(x0_pred, xt, t, alphas_cumprod).mean
        log_variance = true.log_variance_clipped if variance_type == "fixed_small" else log_beta
        kl = gaussian_kl(true.mean, true.log_variance_clipped, mean, log_variance)
        transitions.append(_per_sample(kl))
    stacked = torch.stack(transitions, 1) if transitions else x0.new_zeros(len(x0), 0)
    return ElboTerms(_per_sample(prior), stacked, _per_sample(reconstruction))
