"""What a network is trained on: targets, weights, the training loss, and the bound that it comes
from.

The bound is L = L_T + sum_t L_{t-1} + L_0 (Ho et al. 2020, arXiv 2006.11239, eq. 5), in nats.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..validation import (
    check_batch, check_choice, check_device, check_positive_int, check_table, check_timesteps,
    describe,
)
from .kernels import (
    PREDICTION_TYPES, from_x0_and_noise, gather, noise_like, posterior_coefficients, q_posterior,
    q_sample, to_x0_and_noise,
)
from .schedules import previous_alpha_bar, snr

WEIGHTINGS = ("simple", "min_snr", "elbo")
VARIANCE_TYPES = ("fixed_small", "fixed_large")


def call_model(model: Callable[..., Tensor], xt: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
    """Return ``model(xt, t)`` or ``model(xt, t, cond)``; raise unless the output looks like xt."""
    output = model(xt, t) if cond is None else model(xt, t, cond)
    if not isinstance(output, Tensor):
        raise TypeError(
            f"the network must return a tensor like xt ({describe(xt)}), got {describe(output)}."
        )
    if output.shape != xt.shape or output.device != xt.device:
        raise ValueError(
            f"the network must return the shape and device of xt: got {describe(output)} for xt"
            f" with {describe(xt)}."
        )
    return output.to(xt.dtype)


def prediction_target(
    x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor, prediction_type: str = "epsilon"
) -> Tensor:
    """Return what the network should output for x_t = q_sample(x0, t, alphas_cumprod, noise), the
    shape of x0.

    x0, noise: (B, ...); t: (B,) int64; alphas_cumprod: (T,). Raises as ``from_x0_and_noise`` and
    ``q_sample``.
    """
    check_batch("x0", x0)
    check_table("alphas_cumprod", alphas_cumprod, "x0", x0)
    check_timesteps(t, "x0", x0, len(alphas_cumprod))
    return from_x0_and_noise(x0, noise, gather(alphas_cumprod, t, x0.ndim), prediction_type)


def loss_weight(
    t: Tensor, alphas_cumprod: Tensor, *, prediction_type: str = "epsilon",
    weighting: str = "simple", gamma: float = 5.0, variance_type: str = "fixed_small",
) -> Tensor:
    """Return the weight (B,) of each sample's squared error, for an error measured in the
    prediction's own units.

    "simple": 1 (arXiv 2006.11239, eq. 14). "min_snr": min(SNR, gamma) on x0's error (Hang et al.
    2023, arXiv 2303.09556), so min(SNR, gamma) / SNR on epsilon's and min(SNR, gamma) / (SNR + 1)
    on v's. "elbo": the weight in the bound, beta^2 / (2 sigma^2 alpha (1 - abar)) on epsilon's (eq.
    12) with sigma^2 = beta-tilde ("fixed_small") or beta ("fixed_large"); at index 0, where the
    term is the decoder's, sigma^2 = beta for both. One prediction's error is another's times a
    factor: SNR for x0, abar for v, 1 - abar for the score. Raises ValueError for unknown names,
    gamma <= 0, or t out of range.
    """
    check_choice("weighting", weighting, WEIGHTINGS)
    check_choice("prediction_type", prediction_type, PREDICTION_TYPES)
    check_choice("variance_type", variance_type, VARIANCE_TYPES)
    check_table("alphas_cumprod", alphas_cumprod)
    if not isinstance(t, Tensor):
        raise TypeError(f"t must be an int64 tensor of shape (B,), got {describe(t)}.")
    if t.ndim != 1 or len(t) == 0:
        raise ValueError(f"t must have shape (B,) with B >= 1, got {describe(t)}.")
    check_timesteps(t, "t", t, len(alphas_cumprod))
    check_device("t", t, "alphas_cumprod", alphas_cumprod)
    alpha_bar = alphas_cumprod[t]
    if weighting == "simple":
        return torch.ones_like(alpha_bar)
    if weighting == "min_snr":
        if not gamma > 0:
            raise ValueError(f"gamma must be positive, got {gamma}.")
        on_epsilon = (gamma / snr(alpha_bar)).clamp(max=1.0)
    else:
        alpha_bar_prev = previous_alpha_bar(alphas_cumprod)[t]
        coef_x0, _, small = posterior_coefficients(alpha_bar, alpha_bar_prev)
        variance = torch.where(
            (t > 0) & (variance_type == "fixed_small"), small, 1 - alpha_bar / alpha_bar_prev
        )
        on_x0 = coef_x0**2 / (
            2 * variance
        )  # the means differ by coef_x0 times x0's error; finite also where abar = 0
        inverse_snr = 1 / snr(alpha_bar)
        factor = {
            "epsilon": inverse_snr,
            "sample": torch.ones_like(alpha_bar),
            "v_prediction": 1 - alpha_bar,
            "score": (1 - alpha_bar) * inverse_snr,
        }
        return on_x0 * factor[prediction_type]
    factor = {
        "epsilon": torch.ones_like(alpha_bar),
        "sample": snr(alpha_bar),
        "v_prediction": alpha_bar,
        "score": 1 - alpha_bar,
    }
    return on_epsilon * factor[prediction_type]


def diffusion_loss(
    model: Callable[..., Tensor], x0: Tensor, alphas_cumprod: Tensor, *, cond: Tensor | None = None,
    t: Tensor | None = None, noise: Tensor | None = None, prediction_type: str = "epsilon",
    weighting: str = "simple", gamma: float = 5.0, generator: torch.Generator | None = None,
) -> Tensor:
    """Return the training loss () of one batch: E_{t, noise} of weight(t) * mean squared error
    (arXiv 2006.11239, eq. 14).

    x0: (B, ...); t: (B,) int64 or drawn uniformly from 0..T-1; noise: like x0 or drawn; ``model(xt,
    t[, cond])`` returns the shape of xt. Raises if the network returns another shape or device, and
    as ``q_sample`` and ``loss_weight``.
    """
    check_batch("x0", x0)
    check_table("alphas_cumprod", alphas_cumprod, "x0", x0)
    if t is None:
        t = torch.randint(len(alphas_cumprod), x0.shape[:1], generator=generator, device=x0.device)
    if noise is None:
        noise = noise_like(x0, generator)
    xt = q_sample(x0, t, alphas_cumprod, noise)
    target = prediction_target(x0, noise, t, alphas_cumprod, prediction_type)
    error = (call_model(model, xt, t, cond) - target) ** 2
    if weighting == "simple":
        return error.mean()
    weight = loss_weight(
        t, alphas_cumprod, prediction_type=prediction_type, weighting=weighting, gamma=gamma
    )
    return (weight.to(error.dtype) * error.reshape(len(error), -1).mean(1)).mean()


def gaussian_kl(
    mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor
) -> Tensor:
    """Return KL(N(mean1, variance1) || N(mean2, variance2)) per element, in nats; arguments
    broadcast.

    0.5 (log v2 - log v1 + v1 / v2 + (m1 - m2)^2 / v2 - 1).
    """
    ratio = (log_variance1 - log_variance2).exp()
    return 0.5 * (
        log_variance2 - log_variance1 + ratio + (mean1 - mean2) ** 2 * (-log_variance2).exp() - 1
    )


def bits_per_dim(nats: Tensor, num_dims: int) -> Tensor:
    """Return nats per sample as bits per dimension: nats / (num_dims ln 2). Raises ValueError for
    num_dims < 1.
    """
    check_positive_int("num_dims", num_dims)
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
    """Return -log p(x0 | x1) per element: a density, or with ``num_levels`` the probability of x0's
    bin (eq. 13).
    """
    if num_levels is None:
        return 0.5 * (
            math.log(2 * math.pi) + log_variance + (x0 - mean) ** 2 * (-log_variance).exp()
        )
    half, std, log_cdf = 1 / (num_levels - 1), (0.5 * log_variance).exp(), torch.special.log_ndtr
    distance = (
        x0 - mean
        # By symmetry both edges lie on the left tail, where a difference of cdfs keeps its digits
    ).abs()
    upper, lower = log_cdf((half - distance) / std), log_cdf((-half - distance) / std)
    inside = upper + (-torch.expm1(lower - upper)).log()
    inside = torch.where(x0 > 1 - half, log_cdf((mean - x0 + half) / std), inside)
    return -torch.where(x0 < -1 + half, log_cdf((x0 + half - mean) / std), inside)


@torch.no_grad()
def elbo_terms(
    model: Callable[..., Tensor], x0: Tensor, alphas_cumprod: Tensor, *,
    prediction_type: str = "epsilon", variance_type: str = "fixed_small",
    num_levels: int | None = None, cond: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> ElboTerms:
    """Return one Monte Carlo draw of every term of the bound on -log p(x0), in nats (arXiv
    2006.11239, eq. 5).

    x0: (B, ...). Calls the network T times, once for each t with fresh noise. ``num_levels``: x0
    takes that many evenly spaced values in [-1, 1] and the last term is a probability (eq. 13);
    None: x0 is continuous and it is a density. The decoder's variance is beta_1. Raises as
    ``diffusion_loss``; ValueError for num_levels < 2.
    """
    check_batch("x0", x0)
    check_table("alphas_cumprod", alphas_cumprod, "x0", x0)
    check_choice("variance_type", variance_type, VARIANCE_TYPES)
    if num_levels is not None and (not isinstance(num_levels, int) or num_levels < 2):
        raise ValueError(f"num_levels must be an int of at least 2, or None, got {num_levels!r}.")
    zero = torch.zeros((), dtype=x0.dtype, device=x0.device)
    last = alphas_cumprod[-1]
    prior = (
        gaussian_kl(last.sqrt().to(x0.dtype) * x0, (1 - last).log().to(x0.dtype), zero, zero)
        .reshape(len(x0), -1)
        .sum(1)
    )
    transitions = []
    for i in range(len(alphas_cumprod)):
        t = torch.full(x0.shape[:1], i, device=x0.device)
        alpha_bar = alphas_cumprod[i]
        alpha_bar_prev = alphas_cumprod[i - 1] if i > 0 else torch.ones_like(alpha_bar)
        xt = q_sample(x0, t, alphas_cumprod, generator=generator)
        x0_pred, _ = to_x0_and_noise(call_model(model, xt, t, cond), xt, alpha_bar, prediction_type)
        log_beta = (1 - alpha_bar / alpha_bar_prev).log().to(x0.dtype)
        if i == 0:
            reconstruction = (
                _reconstruction(x0, x0_pred, log_beta, num_levels).reshape(len(x0), -1).sum(1)
            )
            continue
        true = q_posterior(x0, xt, t, alphas_cumprod)
        mean_pred = q_posterior(x0_pred, xt, t, alphas_cumprod).mean
        log_variance = true.log_variance_clipped if variance_type == "fixed_small" else log_beta
        transitions.append(
            gaussian_kl(true.mean, true.log_variance_clipped, mean_pred, log_variance)
            .reshape(len(x0), -1)
            .sum(1)
        )
    stacked = torch.stack(transitions, 1) if transitions else x0.new_zeros(x0.shape[0], 0)
    return ElboTerms(prior, stacked, reconstruction)
