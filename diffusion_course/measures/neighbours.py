"""What nearest neighbours say about samples: precision, recall, and whether training data comes
back.

Points are (N, ...), images or features, and are flattened. Distances are Euclidean, computed in
float64.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..validation import (
    check_batch, check_device, check_finite, check_positive_int, describe, widest_float
)


class Nearest(NamedTuple):
    """For each sample: the distance (N,) to its nearest reference point, and that point's index
    (N,).
    """

    distances: Tensor
    indices: Tensor


class PrecisionRecall(NamedTuple):
    """The share of samples that look real, and the share of the data that samples reach."""

    precision: float
    recall: float


class Memorisation(NamedTuple):
    """What ``memorisation`` returns; see there."""

    probability: float
    z_score: float
    copies: Tensor
    distances: Tensor
    indices: Tensor
    held_out_distances: Tensor


def _check_points(**sets: Tensor) -> list[Tensor]:
    """Return the sets (N, ...) as (N, D) in the widest float, detached, after checking that they
    fit and are finite.
    """
    (first_name, first), *_ = sets.items()
    for name, x in sets.items():
        check_batch(name, x)
        if x.ndim < 2 or x.shape[1:] != first.shape[1:]:
            raise ValueError(
                f"{first_name} and {name} must hold points of one shape, (N, ...), got"
                f" {describe(first)} and {describe(x)}."
            )
        check_device(name, x, first_name, first)
        check_finite(name, x)
    return [x.detach().flatten(1).to(widest_float(first.device)) for x in sets.values()]


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Return |x_i - y_j| (N, M), from the differences: exactly 0 for a copy, and the same in pieces
    as at once.
    """
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _nearest(samples: Tensor, reference: Tensor, chunk: int) -> Nearest:
    check_positive_int("chunk", chunk)
    return Nearest(
        *map(
            torch.cat,
            zip(
                *(_distances(part, reference).min(1) for part in samples.split(chunk)), strict=True
            ),
        )
    )


def nearest_distances(samples: Tensor, reference: Tensor, *, chunk: int = 1024) -> Nearest:
    """Return each sample's distance (N,) to its nearest reference point and that point's index
    (N,).

    samples: (N, ...), reference: (M, ...). ``chunk`` samples are compared at a time: memory, not
    the result, depends on it. A set against itself finds every point at distance 0. Raises
    ValueError for other shapes, two devices or values not finite.
    """
    return _nearest(*_check_points(samples=samples, reference=reference), chunk)


def _share_covered(points: Tensor, centres: Tensor, k: int, chunk: int) -> float:
    """Return the share of points within some centre's distance to its k-th neighbour among the
    centres, itself not counted.
    """
    radii = torch.cat(
        [_distances(part, centres).kthvalue(k + 1, dim=1).values for part in centres.split(chunk)]
    )
    return (
        torch.cat([(_distances(part, centres) <= radii).any(1) for part in points.split(chunk)])
        .double()
        .mean()
        .item()
    )


def precision_recall(
    real: Tensor, fake: Tensor, k: int = 3, *, chunk: int = 1024
) -> PrecisionRecall:
    """Return the share of fakes inside the real data's balls, and of real data inside the fakes'
    (arXiv 1904.06991).

    A point's ball reaches to its ``k``-th nearest neighbour in its own set. real: (N, ...), fake:
    (M, ...), usually features;
    both depend on N, M and k: compare only equal ones. Raises ValueError unless 1 <= k < N, M, and
    as ``nearest_distances``.
    """
    real_points, fake_points = _check_points(real=real, fake=fake)
    check_positive_int("k", k)
    check_positive_int("chunk", chunk)
    if k >= min(len(real), len(fake)):
        raise ValueError(
            f"k = {k} neighbours need more than {k} points in each set, got {describe(real)} and"
            f" {describe(fake)}."
        )
    return PrecisionRecall(
        _share_covered(fake_points, real_points, k, chunk),
        _share_covered(real_points, fake_points, k, chunk),
    )


def memorisation(
    samples: Tensor, train: Tensor, held_out: Tensor, *, level: float = 0.01, chunk: int = 1024
) -> Memorisation:
    """Test whether samples are nearer to the training data than unseen data is (arXiv 2004.05675,
    without its cells).

    Each sample and each held-out point has a distance to its nearest training point.
    ``probability``: that a sample's is the
    larger, ties counting half: 0.5 without copying, 0 if everything is copied, above 0.5 if samples
    are far from the data. ``z_score``: the same as the Mann-Whitney statistic's standard score; far
    below 0 speaks of copying. ``copies`` (N,): samples nearer than the nearest ``level`` share of
    held-out data: without copying about that share of them is flagged. ``distances``, ``indices``
    (N,): to and of the nearest training point; ``held_out_distances`` (M,).
    samples: (N, ...), train: (K, ...), held_out: (M, ...) from the data's distribution and not in
    train. Raises ValueError for a level outside (0, 1) and as ``nearest_distances``.
    """
    points, train_points, held_out_points = _check_points(
        samples=samples, train=train, held_out=held_out
    )
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}.")
    found, unseen = (
        _nearest(points, train_points, chunk),
        _nearest(held_out_points, train_points, chunk).distances,
    )
    ordered, n, m = unseen.sort().values, len(points), len(held_out_points)
    below = torch.searchsorted(ordered, found.distances) + torch.searchsorted(
        ordered, found.distances, right=True
    )
    probability = (below.double().mean() / (2 * m)).item()
    z_score = (probability - 0.5) * n * m / math.sqrt(n * m * (n + m + 1) / 12)
    copies = found.distances < ordered[min(m - 1, math.floor(level * m))]
    return Memorisation(probability, z_score, copies, *found, unseen)
