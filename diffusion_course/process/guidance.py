"""Classifier-free guidance: a model that wraps a model, the formula, and its conventions.

The scale is diffusers' s: eps_u + s (eps_c - eps_u), so s = 0 is unconditional and 1 conditional.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..door import batch, beside, checked, like, number, one_of, share
from ..seeds import draw
from ..validation import check_device, describe, values_are_free
from .levels import column
from .losses import call_model

convention = one_of("cond", "uncond")
finite_number = number(math.isfinite, "be a finite number")


@checked(w=finite_number, base=convention)
def scale_from_w(w: float, base: str = "cond") -> float:
    """Return the s of a ``w`` that is used as eps_base + w (eps_c - eps_u).

    base "cond": s = 1 + w (Ho & Salimans 2022, arXiv 2207.12598, eq. 6); "uncond": s = w. Raises
    ValueError for another base.
    """
    return w + (base == "cond")


@checked(guidance_scale=finite_number, base=convention)
def w_from_scale(guidance_scale: float, base: str = "cond") -> float:
    """Return the w of eps_base + w (eps_c - eps_u) for an s: ``scale_from_w`` undone."""
    return guidance_scale - (base == "cond")


def _two_numbers(name: str, rescale: float, given: dict) -> None:
    if rescale and given["cond_output"][0].numel() < 2:
        got = describe(given["cond_output"])
        raise ValueError(
            f"rescale needs at least two numbers per sample, got {got}. Use rescale=0."
        )


@checked(
    cond_output=batch, uncond_output=like("cond_output"), guidance_scale=finite_number,
    rescale=(share, _two_numbers),
)
def guided_prediction(
    cond_output: Tensor, uncond_output: Tensor, guidance_scale: float,
    rescale: float = 0.0,
) -> Tensor:
    """Return eps_u + s (eps_c - eps_u), like both outputs (B, ...); exactly eps_u at 0, eps_c at 1.

    The outputs may be of any prediction type (all are linear in x_0 and noise). ``rescale`` = phi
    blends towards the result g with the standard deviation of eps_c in each sample:
    phi g std(eps_c) / std(g) + (1 - phi) g (arXiv 2305.08891, section 3.4). That depends on the
    type: it acts on v and x_0, hardly on noise, whose deviation guidance leaves near 1 at high
    noise. Raises for outputs that differ in shape, dtype or device; ValueError for a scale that is
    not finite, phi outside [0, 1], or phi > 0 with a single number per sample.
    """
    # On the line through both outputs; s may leave [0, 1].
    guided = torch.lerp(uncond_output, cond_output, guidance_scale)
    if rescale == 0:
        return guided
    wide = torch.promote_types(guided.dtype, torch.float32)
    target, found = (x.to(wide).flatten(1).std(1) for x in (cond_output, guided))
    factor = rescale * target / found.clamp(min=torch.finfo(wide).tiny) + (1 - rescale)
    return column(factor, guided).to(guided.dtype) * guided


def _condition(name: str, cond: object, given: dict) -> None:
    if cond.ndim == 0:
        raise ValueError(
            f"{name} must be a tensor with a batch axis, classes (B,) or tokens (B, L, D), "
            f"got {describe(cond)}."
        )


@checked(cond=_condition, probability=share)
def drop_condition(
    cond: Tensor, probability: float, null: Tensor | int,
    *, generator: torch.Generator | None = None,
) -> Tensor:
    """Return ``cond``, each sample "no condition" with a probability (arXiv 2207.12598, p_uncond).

    cond: classes (B,) with ``null`` a class, or (B, L, D) with ``null`` (L, D). Trained so, one
    network is the conditional and the unconditional model. Raises ValueError for a probability
    outside [0, 1], or a null that does not fit cond.
    """
    kind = {"device": cond.device, "dtype": torch.float32}
    chance = draw(torch.rand, len(cond), generator=generator, **kind)
    dropped = chance < probability
    return torch.where(column(dropped, cond), _for_batch("null", null, cond), cond)


def _one_each(name: str, cond: Tensor, given: dict) -> None:
    n = len(given["xt"])
    if len(cond) != n:
        raise ValueError(
            f"{name} must have one entry for each sample of xt, {n}, got {describe(cond)}."
        )


def _times(name: str, t: object, given: dict) -> None:
    n = len(given["xt"])
    if t.shape != (n,):
        raise ValueError(f"t must have one entry for each sample of xt, ({n},), got {describe(t)}.")


class ClassifierFreeGuidance(nn.Module):
    """A guided model: eps_u + s (eps_c - eps_u) from one call of ``model`` on a batch of 2B.

    The first half of that batch is unconditional, the second conditional (arXiv 2207.12598,
    eq. 6). Where guidance does nothing (s = 1, or t outside the interval) the model is called with
    the condition alone, on B.

    model: ``model(xt, t, cond)``, a network or any function. cond: classes (B,) or tokens (B, L,
    D). null_cond: what "no condition" is, a class or a tensor (L, D); by default the model's
    ``null_class``. negative_cond: guide away from this instead of the null, for all samples or,
    with a batch axis, for each. interval: (low, high), the indices t, both included, at which
    guidance acts (arXiv 2404.07724); on a GPU, where reading t would wait, all of them cost 2B.
    rescale: as in ``guided_prediction``. Raises ValueError or TypeError for settings or conditions
    that do not fit, or where guidance needs a null and there is none.
    """

    @checked(guidance_scale=finite_number, rescale=share)
    def __init__(
        self, model: Callable[..., Tensor], guidance_scale: float,
        *, null_cond: Tensor | int | None = None, negative_cond: Tensor | int | None = None,
        interval: tuple[float, float] | None = None, rescale: float = 0.0,
    ) -> None:
        super().__init__()
        if interval is not None and not interval[0] <= interval[1]:
            raise ValueError(
                f"interval must be (low, high), indices of t with low <= high, got {interval!r}."
            )
        self.model, self.guidance_scale = model, guidance_scale
        self.interval, self.rescale = interval, rescale
        null_cond = getattr(model, "null_class", None) if null_cond is None else null_cond
        away_from = null_cond if negative_cond is None else negative_cond
        self._name = "null_cond" if negative_cond is None else "negative_cond"
        if away_from is None and guidance_scale != 1:
            raise ValueError(
                "guidance needs an unconditional prediction, and this model has no null_class. "
                "Pass null_cond: the class or the tokens that mean no condition to it."
            )
        if isinstance(away_from, Tensor):  # a buffer, so that it moves with the model
            self.register_buffer("away_from", away_from, persistent=False)
        else:
            self.away_from = away_from

    def extra_repr(self) -> str:
        """Return the settings for ``print``."""
        settings = (f"{s}={getattr(self, s)}" for s in ("guidance_scale", "interval", "rescale"))
        return ", ".join(settings)

    def _acts(self, t: Tensor) -> Tensor | None:
        """Return where guidance acts, (B,), or None where it does for every t."""
        return None if self.interval is None else (t >= self.interval[0]) & (t <= self.interval[1])

    @checked(xt=batch, cond=(_condition, _one_each, beside("xt")), t=_times)
    def forward(self, xt: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        acts = self._acts(t)
        if self.guidance_scale == 1 or not (acts is None or _may_hold(acts)):
            return call_model(self.model, xt, t, cond)
        uncond = _for_batch(self._name, self.away_from, cond)
        twice = torch.cat([xt, xt]), torch.cat([t, t]), torch.cat([uncond, cond])
        eps_u, eps_c = call_model(self.model, *twice).chunk(2)
        guided = guided_prediction(eps_c, eps_u, self.guidance_scale, self.rescale)
        return guided if acts is None else torch.where(column(acts, guided), guided, eps_c)


def _may_hold(condition: Tensor) -> bool:
    """Whether a condition holds anywhere, or may do so where reading it would wait for a GPU."""
    return not values_are_free(condition) or bool(condition.any())


def _for_batch(name: str, value: Tensor | int, cond: Tensor) -> Tensor:
    """Return a condition for one sample, or for each, as a tensor like ``cond``."""
    if isinstance(value, int) and cond.ndim == 1 and not cond.is_floating_point():
        return torch.full_like(cond, value)
    if not isinstance(value, Tensor) or value.shape not in (cond.shape, cond.shape[1:]):
        raise ValueError(
            f"{name} must be shaped like one entry of cond, {tuple(cond.shape[1:])}, or like cond: "
            f"got {describe(value)} for cond with {describe(cond)}."
        )
    if value.dtype != cond.dtype:
        raise TypeError(
            f"{name} must have the dtype of cond: got {describe(value)} and {describe(cond)}. "
            "Cast one."
        )
    check_device(name, value, "cond", cond)
    return value.expand_as(cond)
