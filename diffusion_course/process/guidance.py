"""Classifier-free guidance: a model that wraps a model, the formula, and the conversions between
its conventions.

The scale of this course is diffusers' s: eps_u + s (eps_c - eps_u), so s = 0 is unconditional, s =
1 conditional.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..validation import (
    check_alike, check_batch, check_choice, check_device, describe, values_are_free
)
from .losses import call_model


def scale_from_w(w: float, base: str = "cond") -> float:
    """Return the s of a ``w`` that is used as eps_base + w (eps_c - eps_u).

    base "cond": s = 1 + w (Ho & Salimans 2022, arXiv 2207.12598, eq. 6); "uncond": s = w. Raises
    ValueError for another base.
    """
    check_choice("base", base, ("cond", "uncond"))
    return w + (base == "cond")


def w_from_scale(guidance_scale: float, base: str = "cond") -> float:
    """Return the w whose eps_base + w (eps_c - eps_u) is the s = ``guidance_scale`` of this course:
    ``scale_from_w`` undone.
    """
    check_choice("base", base, ("cond", "uncond"))
    return guidance_scale - (base == "cond")


def guided_prediction(
    cond_output: Tensor, uncond_output: Tensor, guidance_scale: float, rescale: float = 0.0
) -> Tensor:
    """Return eps_u + s (eps_c - eps_u), the shape of both outputs (B, ...); exactly eps_u at s = 0
    and eps_c at s = 1.

    The outputs may be of any prediction type (all are linear in x_0 and noise). ``rescale`` = phi
    blends towards the result
    with the standard deviation of eps_c in each sample: phi g std(eps_c) / std(g) + (1 - phi) g
    (arXiv 2305.08891, section 3.4).
    That does depend on the type: it acts on v and x_0, hardly on noise, whose deviation guidance
    leaves near 1 at high noise. Raises for outputs that differ in shape, dtype or device;
    ValueError for a scale that is not finite, phi outside [0, 1], or phi > 0 with a single number
    per sample.
    """
    check_batch("cond_output", cond_output)
    check_alike("uncond_output", uncond_output, "cond_output", cond_output)
    _check_settings(guidance_scale, rescale)
    guided = torch.lerp(
        uncond_output, cond_output, guidance_scale
    )  # a straight line through both: s may leave [0, 1]
    if rescale == 0:
        return guided
    if cond_output[0].numel() < 2:
        raise ValueError(
            f"rescale needs at least two numbers per sample, got {describe(cond_output)}. Use"
            " rescale=0."
        )
    wide = torch.promote_types(guided.dtype, torch.float32)
    target, found = (x.to(wide).flatten(1).std(1) for x in (cond_output, guided))
    factor = rescale * target / found.clamp(min=torch.finfo(wide).tiny) + (1 - rescale)
    return _column(factor, guided).to(guided.dtype) * guided


def drop_condition(
    cond: Tensor, probability: float, null: Tensor | int, *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return a copy of ``cond`` in which each sample is "no condition" with this probability
    (p_uncond in arXiv 2207.12598).

    cond: classes (B,) with ``null`` a class, or (B, L, D) with ``null`` (L, D). Trained so, one
    network is the conditional and the unconditional model. Raises ValueError for a probability
    outside [0, 1], or a null that does not fit cond.
    """
    _check_cond(cond)
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must lie in [0, 1], got {probability}.")
    dropped = torch.rand(len(cond), generator=generator, device=cond.device) < probability
    return torch.where(_column(dropped, cond), _for_batch("null", null, cond), cond)


class ClassifierFreeGuidance(nn.Module):
    """A guided model: ``guided(xt, t, cond)`` is eps_u + s (eps_c - eps_u) from one call of
    ``model`` on a batch of 2B.

    The first half of that batch is unconditional, the second conditional. Where guidance does
    nothing (s = 1, or t outside the interval) the model is called with the condition alone, on B.

    model: ``model(xt, t, cond)``, a network or any function. cond: classes (B,) or tokens (B, L,
    D). null_cond: what "no condition" is, a class or a tensor (L, D); by default the model's
    ``null_class``. negative_cond: guide away from this instead of the null, for all samples or,
    with a batch axis, for each. interval: (low, high), the indices t, both included, at which
    guidance acts (arXiv 2404.07724). Where reading t would cost a synchronisation (on a GPU) all of
    them cost 2B; the result is the same. rescale: see ``guided_prediction``. Raises ValueError or
    TypeError for settings or conditions that do not fit.
    """

    def __init__(
        self, model: Callable[..., Tensor], guidance_scale: float, *,
        null_cond: Tensor | int | None = None, negative_cond: Tensor | int | None = None,
        interval: tuple[float, float] | None = None, rescale: float = 0.0,
    ) -> None:
        super().__init__()
        _check_settings(guidance_scale, rescale)
        if interval is not None and not (len(interval) == 2 and interval[0] <= interval[1]):
            raise ValueError(
                f"interval must be (low, high), indices of t with low <= high, got {interval!r}."
            )
        self.model, self.guidance_scale, self.interval, self.rescale = (
            model, guidance_scale, interval, rescale
        )
        null_cond = getattr(model, "null_class", None) if null_cond is None else null_cond
        away_from = null_cond if negative_cond is None else negative_cond
        self._name = "null_cond" if negative_cond is None else "negative_cond"
        if away_from is None and guidance_scale != 1:
            raise ValueError(
                "guidance needs an unconditional prediction, and this model has no null_class. Pass"
                " null_cond: the class or the tokens that it was trained to read as no condition."
            )
        if isinstance(away_from, Tensor):  # a buffer, so that it moves with the model
            self.register_buffer("away_from", away_from, persistent=False)
        else:
            self.away_from = away_from

    def extra_repr(self) -> str:
        """Return the settings for ``print``."""
        return (
            f"guidance_scale={self.guidance_scale}, interval={self.interval},"
            f" rescale={self.rescale}"
        )

    def forward(self, xt: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        check_batch("xt", xt)
        _check_cond(cond)
        if len(cond) != len(xt):
            raise ValueError(
                f"cond must have one entry for each sample of xt, {len(xt)}, got {describe(cond)}."
            )
        check_device("cond", cond, "xt", xt)
        if not isinstance(t, Tensor) or t.shape != xt.shape[:1]:
            raise ValueError(
                f"t must have one entry for each sample of xt, ({len(xt)},), got {describe(t)}."
            )
        acts = torch.ones_like(t, dtype=torch.bool)
        if self.interval is not None:
            acts = (t >= self.interval[0]) & (t <= self.interval[1])
        if self.guidance_scale == 1 or (
            self.interval is not None and values_are_free(acts) and not acts.any()
        ):
            return call_model(self.model, xt, t, cond)
        away_from = _for_batch(self._name, self.away_from, cond)
        both = call_model(
            self.model, torch.cat([xt, xt]), torch.cat([t, t]), torch.cat([away_from, cond])
        )
        uncond_output, cond_output = both.chunk(2)
        guided = guided_prediction(cond_output, uncond_output, self.guidance_scale, self.rescale)
        return (
            guided
            if self.interval is None
            else torch.where(_column(acts, guided), guided, cond_output)
        )


def _check_settings(guidance_scale: float, rescale: float) -> None:
    if (
        isinstance(guidance_scale, bool)
        or not isinstance(guidance_scale, (int, float))
        or not math.isfinite(guidance_scale)
    ):
        raise ValueError(f"guidance_scale must be a finite number, got {describe(guidance_scale)}.")
    if not 0 <= rescale <= 1:
        raise ValueError(f"rescale must lie in [0, 1], got {rescale}.")


def _check_cond(cond: object) -> None:
    if not isinstance(cond, Tensor) or cond.ndim == 0:
        raise TypeError(
            "cond must be a tensor with a batch axis, classes (B,) or tokens (B, L, D), got"
            f" {describe(cond)}."
        )


def _column(values: Tensor, like: Tensor) -> Tensor:
    """Return values (B,) shaped (B, 1, ..., 1), so that they broadcast over ``like`` (B, ...)."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def _for_batch(name: str, value: Tensor | int, cond: Tensor) -> Tensor:
    """Return a condition for one sample, or for each, as a tensor like ``cond``. Raises where it
    does not fit.
    """
    if isinstance(value, int) and cond.ndim == 1 and not cond.is_floating_point():
        return torch.full_like(cond, value)
    if not isinstance(value, Tensor) or value.shape not in (cond.shape, cond.shape[1:]):
        raise ValueError(
            f"{name} must be shaped like one entry of cond, {tuple(cond.shape[1:])}, or like cond:"
            f" got {describe(value)} for cond with {describe(cond)}."
        )
    if value.dtype != cond.dtype:
        raise TypeError(
            f"{name} must have the dtype of cond: got {describe(value)} and {describe(cond)}. Cast"
            " one."
        )
    check_device(name, value, "cond", cond)
    return value.expand_as(cond)
