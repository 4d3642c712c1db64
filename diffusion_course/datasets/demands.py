"""What a Gaussian mixture asks of its arguments: checks for its doors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..door import beside, floating
from ..validation import describe, values_are_free


def mixture_parts(name: str, covariances: Tensor, given: dict) -> None:
    """Raise unless weights, means and covariances are a mixture's."""
    parts = weights, means, _ = given["weights"], given["means"], covariances
    k, d = means.shape if means.ndim == 2 else (0, 0)
    fits = k >= 1 and weights.shape == (k,) and covariances.shape == (k, d, d)
    if not fits or len({x.dtype for x in parts}) > 1:
        wanted = "weights (K,), means (K, D) and covariances (K, D, D)"
        got = "; ".join(map(describe, parts))
        raise ValueError(f"a mixture needs {wanted}, got {got}. They share a dtype.")
    if weights.dtype.itemsize < 4:
        got = describe(covariances)
        raise TypeError(f"{name} must be float32 or float64, whose axes can be found, got {got}.")
    if not values_are_free(covariances):
        return
    if not (weights > 0).all() or abs(weights.sum().item() - 1) > 1e-4:
        raise ValueError(f"weights must be positive and sum to 1, got {weights.tolist()}.")
    if (covariances - covariances.mT).abs().max() > 1e-5 * covariances.abs().max():
        raise ValueError(f"covariances must be symmetric, got {covariances.tolist()}.")


def no_negative(variances: Tensor) -> Tensor:
    """Return variances, those that are 0 up to rounding set to 0; raise ValueError below that."""
    if values_are_free(variances) and variances.min() < -1e-6 * variances.abs().max():
        low = variances.min().item()
        raise ValueError(f"covariances must not have a negative eigenvalue, got {low}.")
    rounding = variances.shape[-1] * torch.finfo(variances.dtype).eps
    return torch.where(variances > rounding * variances.abs().amax(), variances, 0.0)


def points_of(name: str, x: Tensor, given: dict) -> None:
    """Raise ValueError unless x holds points like the mixture's."""
    means = given["self"].means
    if x.ndim != 2 or x.shape[1] != means.shape[1]:
        wanted = f"{name} must hold points of shape (N, {means.shape[1]})"
        raise ValueError(f"{wanted}, got {describe(x)}.")
    if (x.dtype, x.device) != (means.dtype, means.device):
        both = f"{describe(x)} and {describe(means)}"
        use = f"Use mixture.to({name}.device, {name}.dtype)"
        raise ValueError(f"{name} and the mixture differ: got {both}. {use}.")


def class_of_each(name: str, classes: Sequence[int], given: dict) -> None:
    """Raise ValueError unless each component has a class, 0..C-1."""
    labels, k = [int(c) for c in classes], len(given["self"].weights)
    if len(labels) != k or set(labels) != set(range(len(set(labels)))):
        wanted = f"a class 0..C-1 for each of the {k} components, every class at least once"
        raise ValueError(f"classes must name {wanted}, got {labels}.")


def readable(name: str, alphas_cumprod: Tensor, given: dict) -> None:
    """Raise ValueError for a table without values."""
    if alphas_cumprod.is_meta:
        raise ValueError(f"{name} must hold values, got {describe(alphas_cumprod)}.")


def index_of(name: str, t: object, given: dict) -> None:
    """Raise ValueError unless t is an index of the table where there is noise."""
    last = len(given["alphas_cumprod"]) - 1
    if not 0 <= t <= last:
        raise ValueError(f"t must lie in 0..{last}, got {t}.")
    if values_are_free(given["alphas_cumprod"]) and given["alphas_cumprod"][t] == 1:
        raise ValueError(f"at t = {t} there is no noise to predict: got alphas_cumprod[{t}] = 1.")


part, points = (floating, beside("weights")), (floating, points_of)
