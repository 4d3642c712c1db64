"""How far samples are from data."""

import torch
from torch import Tensor

from .validation import check_finite, check_floating, describe


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """Return |m_a - m_b|^2 + trace(S_a + S_b - 2 (S_a S_b)^(1/2)) of two sets' Gaussian fits (arXiv 1706.08500, eq. 6).

    features: (N, D) and (M, D), N and M at least 2. Biased upwards for small sets: compare only equal N and M, and quote the
    distance between two sets of real data beside it. Raises ValueError for other shapes or values that are not finite.
    """
    for name, x in (("features_a", features_a), ("features_b", features_b)):
        check_floating(name, x)
        if x.ndim != 2 or len(x) < 2 or x.shape[1] != features_a.shape[-1]:
            raise ValueError(
                f"features must have shapes (N, D) and (M, D) with N, M >= 2, "
                f"got {describe(features_a)} and {describe(features_b)}."
            )
        check_finite(name, x)
    a, b = features_a.detach().cpu().double(), features_b.detach().cpu().double()
    values, axes = torch.linalg.eigh(torch.cov(a.T).reshape(a.shape[1], -1))
    root = axes * values.clamp(min=0).sqrt() @ axes.T
    cov_b = torch.cov(b.T).reshape(b.shape[1], -1)
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    gap = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return (gap + values.sum() + cov_b.trace() - 2 * cross).item()
