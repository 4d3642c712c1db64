"""Noise levels as arguments: how one is read beside x_t, and what is asked of it at the door."""

import math
from numbers import Real

import torch
from torch import Tensor

from ..validation import check_device, check_floating, describe, values_are_free, widest_float
from .schedules import previous_alpha_bar


def column(values: Tensor, like: Tensor) -> Tensor:
    """Return values (B,) shaped (B, 1, ..., 1), so that they broadcast over ``like`` (B, ...)."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def _check_level(name: str, alpha_bar: float) -> None:
    """Raise ValueError unless the number ``alpha_bar`` lies in [0, 1]."""
    if not 0 <= alpha_bar <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got values from {alpha_bar} to {alpha_bar}.")


def as_alpha_bar(alpha_bar: Tensor | float, xt: Tensor, name: str = "alpha_bar") -> Tensor:
    """Return ``alpha_bar`` (a number, () or (B,)) as a tensor that broadcasts over ``xt``.

    Raises TypeError or ValueError for another shape, dtype or device, or values outside [0, 1].
    """
    if isinstance(alpha_bar, Real):
        _check_level(name, alpha_bar)
        return torch.full((), float(alpha_bar), dtype=widest_float(xt.device), device=xt.device)
    check_floating(name, alpha_bar)
    check_device(name, alpha_bar, "xt", xt)
    given = alpha_bar
    if alpha_bar.ndim == 1 and xt.ndim > 1:
        alpha_bar = column(alpha_bar, xt)
    sides = zip(alpha_bar.shape, xt.shape, strict=False)
    if alpha_bar.ndim not in (0, xt.ndim) or any(a not in (1, b) for a, b in sides):
        raise ValueError(
            f"{name} must be one number or one for each sample of xt, got {describe(given)} "
            f"for xt with {describe(xt)}."
        )
    if values_are_free(alpha_bar) and not ((alpha_bar >= 0) & (alpha_bar <= 1)).all():
        low, high = alpha_bar.min().item(), alpha_bar.max().item()
        raise ValueError(f"{name} must lie in [0, 1], got values from {low} to {high}.")
    return alpha_bar


def scales(alpha_bar: Tensor | float, x: Tensor) -> tuple[Tensor, Tensor] | tuple[float, float]:
    """Return (sqrt(abar), sqrt(1 - abar)): tensors with the dtype of x, or two numbers."""
    if isinstance(alpha_bar, float):
        return math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    return alpha_bar.sqrt().to(x.dtype), (1 - alpha_bar).sqrt().to(x.dtype)


def level_beside(alpha_bar: Tensor | float, x: Tensor) -> Tensor | float:
    """Return a float as it is, anything else as a tensor that broadcasts over x, both checked."""
    if isinstance(alpha_bar, float):
        _check_level("alpha_bar", alpha_bar)
        return alpha_bar
    return as_alpha_bar(alpha_bar, x)


def to_less_noise_at(name: str, t: Tensor, given: dict) -> None:
    """Raise ValueError unless abar falls on the way to each of these indices, from below 1."""
    bars = given["alphas_cumprod"]
    if values_are_free(bars) and values_are_free(t):
        falls = (bars < previous_alpha_bar(bars))[t]
        if not falls.all():
            i = int(t[~falls][0])
            raise ValueError(
                f"alphas_cumprod must fall to each index of t, from below 1, got {bars[i].item()} "
                f"at {i} ({describe(bars)}). In float64 neighbours stay apart."
            )


def to_less_noise(name: str, alpha_bar_prev: Tensor, given: dict) -> None:
    """Raise ValueError unless 0 <= abar < abar_prev <= 1 everywhere."""
    alpha_bar = given["alpha_bar"]
    if not (values_are_free(alpha_bar) and values_are_free(alpha_bar_prev)):
        return
    if not ((alpha_bar >= 0) & (alpha_bar < alpha_bar_prev) & (alpha_bar_prev <= 1)).all():
        raise ValueError(
            "a reverse step needs 0 <= alpha_bar < alpha_bar_prev <= 1 (it goes to less noise), "
            f"got alpha_bar from {alpha_bar.min().item()} to {alpha_bar.max().item()} and "
            f"alpha_bar_prev from {alpha_bar_prev.min().item()} to {alpha_bar_prev.max().item()}."
        )


def _is_lost(alpha_bar: object, x: Tensor, at: int) -> bool:
    """Whether abar is ``at`` (0: no signal, 1: no noise) in the dtype of x, if free to read."""
    if isinstance(alpha_bar, Tensor):
        readable = alpha_bar.is_floating_point() and values_are_free(alpha_bar)
        return readable and bool((scales(alpha_bar, x)[at] == 0).any())
    return isinstance(alpha_bar, (int, float)) and alpha_bar == at


def determines(name: str, alpha_bar: object, given: dict) -> None:
    """At abar = 0 x_t says nothing of x_0, at abar = 1 nothing of the noise: v has both."""
    prediction_type = given["prediction_type"]
    if prediction_type in ("v_prediction", "velocity"):
        return
    empty = 1 if prediction_type == "sample" else 0
    if _is_lost(alpha_bar, given["xt"], empty):
        what = "the noise" if empty else "x0"
        raise ValueError(
            f"at alpha_bar = {empty} prediction_type={prediction_type!r} does not determine {what}:"
            " use 'v_prediction' there (got alpha_bar or alphas_cumprod[t]: "
            f"{describe(alpha_bar)})."
        )


def has_score(name: str, alpha_bar: object, given: dict) -> None:
    """Raise ValueError for the score at abar = 1."""
    if given["prediction_type"] == "score" and _is_lost(alpha_bar, given["x0"], 1):
        raise ValueError(
            "at alpha_bar = 1 there is no noise and the score of a single sample is not defined"
            f" (got alpha_bar or alphas_cumprod[t]: {describe(alpha_bar)})."
        )
