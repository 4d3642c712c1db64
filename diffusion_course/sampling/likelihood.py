"""The exact log-likelihood of a diffusion model, by its probability-flow ODE (arXiv 2011.13456)."""

import math
from bisect import bisect_right
from typing import NamedTuple

import torch
from torch import Tensor

from ..door import batch, checked, finite, keywords_of, one_of, positive_int
from ..process.kernels import from_x0_and_noise, prediction, to_x0_and_noise
from ..process.losses import Model, call_model
from ..process.schedules import NoiseSchedule
from ..seeds import draw
from ..validation import describe, widest_float
from .timesteps import sigma_of

TRACES = ("exact", "hutchinson")


class OdeTerms(NamedTuple):
    """log p(x0) = prior + divergence, in nats, (B,) each; ``latent`` is x_T, the end of the ODE."""

    total: Tensor
    prior: Tensor
    divergence: Tensor
    latent: Tensor


def _divergence(
    v: Tensor, x: Tensor, num_probes: int | None, generator: torch.Generator | None
) -> Tensor:
    """Return sum_i dv_i / dx_i (B,): row by row, or the mean of z . (J^T z) over random signs z."""

    def pulled_back(z: Tensor) -> Tensor:
        return torch.autograd.grad(v, x, z, retain_graph=True)[0]

    total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    if num_probes is None:
        for i in range(x[0].numel()):
            unit = torch.zeros_like(x).flatten(1)
            unit[:, i] = 1
            total += pulled_back(unit.view_as(x)).flatten(1)[:, i]
        return total
    for _ in range(num_probes):
        coins = draw(torch.randint, 0, 2, x.shape, generator=generator, device=x.device)
        signs = 2 * coins.to(x.dtype) - 1
        total += (pulled_back(signs) * signs).flatten(1).sum(1)
    return total / num_probes


def _with_signal(name: str, schedule: NoiseSchedule, given: dict) -> None:
    if sum(a > 0 for a in schedule.alphas_cumprod.tolist()) < 1:
        raise ValueError(f"{name} must have an index with signal, abar > 0, got {schedule!r}.")


def _outside_inference_mode(name: str, x0: Tensor, given: dict) -> None:
    if torch.is_inference_mode_enabled():
        raise ValueError(
            f"the divergence at {name} needs derivatives, which torch.inference_mode() forbids: "
            f"call this outside of it (got {describe(x0)})."
        )


@checked(
    x0=(batch, finite, _outside_inference_mode), schedule=_with_signal, num_steps=positive_int,
    num_probes=positive_int, trace=one_of(*TRACES), prediction_type=prediction,
)
def ode_terms(
    model: Model, x0: Tensor, schedule: NoiseSchedule, *, num_steps: int = 64,
    trace: str = "exact", num_probes: int = 1, cond: Tensor | None = None,
    prediction_type: str = "epsilon", generator: torch.Generator | None = None,
) -> OdeTerms:
    """Follow the probability-flow ODE from x0 to x_T: the parts of log p(x0) (arXiv 2011.13456, eq.
    39).

    With the angle phi = arctan(sigma), x_t = cos(phi) x0 + sin(phi) noise, and the ODE is
    dx / dphi = v, the network's velocity (arXiv 2202.00512). Then
    log p(x0) = log N(x_T; 0, I) + integral of div v dphi. ``num_steps`` Runge-Kutta steps of order
    4, evenly spaced in w = sqrt(sigma / (1 + sigma)), each call the network 4 times, at fractional
    times (``alpha_bar_at``). Two things are not exact, also with a perfect network:

    - Below index 0 no network was trained. There v grows like phi (the score stays as it is at
      index 0), an error of order (sigma_0 / s)^4 for each direction in which the data varies by s.
    - x_T is taken for N(0, I), an error of about sqrt(abar_T) mean(x0) . x_T. A last index with
      abar = 0 is left out.

    trace: "exact" costs D backward passes for each call of the network (D numbers in a sample);
    "hutchinson" costs ``num_probes``, with fresh random signs each time, and is unbiased. The state
    is float64; the network gets the dtype of x0. Raises ValueError for unknown names, values that
    are not finite, or a network without gradients.
    """
    table = [sigma_of(a) for a in schedule.alphas_cumprod.tolist() if a > 0]
    probes = num_probes if trace == "hutchinson" else None
    wide = torch.promote_types(x0.dtype, torch.float32)

    def velocity(xt: Tensor, sigma: float, *, check: bool = False) -> tuple[Tensor, Tensor]:
        """Return v (B, ...) and its divergence (B,) at a noise level."""
        t = torch.full(xt.shape[:1], _time_of(sigma, table), dtype=wide, device=xt.device)
        alpha_bar = 1 / (1 + sigma**2)
        with torch.enable_grad():
            xt = xt.detach().requires_grad_()
            output = call_model(model, xt.to(x0.dtype), t, cond).to(xt.dtype)
            if check:
                _check_differentiable(output, xt)
            x0_and_noise = to_x0_and_noise(output, xt, alpha_bar, prediction_type)
            v = from_x0_and_noise(*x0_and_noise, alpha_bar, "v_prediction")
            return v.detach(), _divergence(v, xt, probes, generator)

    def slope(xt: Tensor, w: float) -> tuple[Tensor, Tensor]:
        """Return the derivatives of x and of the divergence's integral with respect to w."""
        v, divergence = velocity(xt, min(max(w**2 / (1 - w**2), table[0]), table[-1]))
        speed = 2 * w / ((1 - w**2) ** 2 + w**4)  # dphi / dw
        return speed * v, speed * divergence

    x, phi = x0.detach().to(widest_float(x0.device)), math.atan(table[0])
    v, divergence = velocity(x, table[0], check=True)
    x, total = x + phi / 2 * v, phi / 2 * divergence  # from 0 to phi: v grows like phi, so half
    first, last = (math.sqrt(sigma / (1 + sigma)) for sigma in (table[0], table[-1]))
    h = (last - first) / num_steps
    for i in range(num_steps if h > 0 else 0):
        w = first + i * h
        v1, d1 = slope(x, w)
        v2, d2 = slope(x + h / 2 * v1, w + h / 2)
        v3, d3 = slope(x + h / 2 * v2, w + h / 2)
        v4, d4 = slope(x + h * v3, w + h)
        x = x + h / 6 * (v1 + 2 * v2 + 2 * v3 + v4)
        total = total + h / 6 * (d1 + 2 * d2 + 2 * d3 + d4)
    prior = -0.5 * (x**2 + math.log(2 * math.pi)).flatten(1).sum(1)
    return OdeTerms(*(y.to(wide) for y in (prior + total, prior, total, x)))


def _check_differentiable(output: Tensor, xt: Tensor) -> None:
    """Raise ValueError unless ``output`` depends on ``xt`` for autograd; the divergence needs that.
    """
    reached = output.requires_grad and torch.autograd.grad(
        output.sum(), xt, retain_graph=True, allow_unused=True
    )[0]
    if reached is None or reached is False:
        raise ValueError(
            "the likelihood needs the network's derivative, but autograd finds no way from its "
            "output back to xt: remove no_grad or detach from its call."
        )


def _time_of(sigma: float, table: list[float]) -> float:
    """Return the time at which the noise level is ``sigma``; the table rises."""
    i = min(bisect_right(table, sigma) - 1, len(table) - 2)
    return 0.0 if i < 0 else i + (sigma - table[i]) / (table[i + 1] - table[i])


@checked(kwargs=keywords_of(ode_terms))
def ode_log_likelihood(
    model: Model, x0: Tensor, schedule: NoiseSchedule, **kwargs: object
) -> Tensor:
    """Return log p(x0) (B,) in nats under the probability-flow ODE: the ``total`` of ``ode_terms``.

    Keywords: num_steps, trace ("exact" or "hutchinson"), num_probes, cond, prediction_type,
    generator. Data that has few levels, or that does not vary in some direction, has a density
    without bound: add noise to it first. ``bits_per_dim(-log_likelihood, D)`` converts. Raises as
    ``ode_terms``.
    """
    return ode_terms(model, x0, schedule, **kwargs).total
