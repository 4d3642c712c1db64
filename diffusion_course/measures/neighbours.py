"""What nearest neighbours say about samples: precision, recall, and whether training data returns.

Points are (N, ...), images or features, flattened. Distances are Euclidean, computed in float64.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..door import Check, batch, beside, checked, finite, positive_int
from ..validation import describe
from .inputs import inside, wide


class Nearest(NamedTuple):
    """For each sample: the distance (N,) to its nearest reference point, and that point's index."""

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


def _points_like(first: str) -> tuple[Check, ...]:
    """Return the checks for finite points (N, ...) of the shape and device of others."""

    def alike(name: str, x: Tensor, given: dict) -> None:
        if x.ndim < 2 or x.shape[1:] != given[first].shape[1:]:
            got = f"got {describe(given[first])} and {describe(x)}"
            raise ValueError(f"{first} and {name} must hold points of one shape, (N, ...), {got}.")

    return batch, alike, beside(first), finite


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Return |x_i - y_j| (N, M) from the differences: exactly 0 for a copy, also in pieces."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


points = _points_like("samples")


@checked(samples=points, reference=points, chunk=positive_int)
def nearest_distances(samples: Tensor, reference: Tensor, *, chunk: int = 1024) -> Nearest:
    """Return each sample's distance (N,) to its nearest reference point, and that point's index.

    samples: (N, ...), reference: (M, ...); ``chunk`` samples are compared at a time, which only
    memory depends on. A set against itself finds every point at distance 0. Raises TypeError or
    ValueError for other dtypes or shapes, two devices or values not finite.
    """
    reference = wide(reference)
    parts = [_distances(x, reference).min(1) for x in wide(samples).split(chunk)]
    return Nearest(*map(torch.cat, zip(*parts, strict=True)))


def _share_covered(points: Tensor, centres: Tensor, k: int, chunk: int) -> float:
    """Return the share of points within some centre's distance to its k-th neighbouring centre."""
    points, centres = wide(points), wide(centres)
    radii = torch.cat([_distances(x, centres).kthvalue(k + 1).values for x in centres.split(chunk)])
    inside = [(_distances(x, centres) <= radii).any(1) for x in points.split(chunk)]
    return torch.cat(inside).to(points.dtype).mean().item()


def _fewer_than_points(name: str, k: int, given: dict) -> None:
    real, fake = given["real"], given["fake"]
    if k >= min(len(real), len(fake)):
        got = f"got {describe(real)} and {describe(fake)}"
        raise ValueError(f"k = {k} neighbours need more than {k} points in each set, {got}.")


both, neighbour = _points_like("real"), (positive_int, _fewer_than_points)


@checked(real=both, fake=both, k=neighbour, chunk=positive_int)
def precision_recall(
    real: Tensor, fake: Tensor, k: int = 3, *, chunk: int = 1024
) -> PrecisionRecall:
    """Return the share of fakes inside the real data's balls, and of real data inside the fakes'
    (arXiv 1904.06991).

    A point's ball reaches to its ``k``-th nearest neighbour in its own set. real: (N, ...), fake:
    (M, ...), usually features. Both numbers depend on N, M and k: compare only equal ones. Raises
    ValueError unless 1 <= k < N, M, and as ``nearest_distances``.
    """
    precision = _share_covered(fake, real, k, chunk)
    return PrecisionRecall(precision, _share_covered(real, fake, k, chunk))


@checked(samples=points, train=points, held_out=points, level=inside, chunk=positive_int)
def memorisation(
    samples: Tensor, train: Tensor, held_out: Tensor, *, level: float = 0.01, chunk: int = 1024
) -> Memorisation:
    """Test whether samples are nearer to the training data than unseen data is (arXiv 2004.05675,
    without its cells).

    samples: (N, ...), train: (K, ...), held_out: (M, ...) from the data's distribution and not in
    train. ``distances``, ``indices`` (N,), ``held_out_distances`` (M,): to and of the nearest
    training point. ``probability``: that a sample's distance is the larger one, ties counting half:
    0.5 without copying, 0 if everything is copied, above 0.5 if samples are far from the data.
    ``z_score``: the same as the Mann-Whitney statistic's standard score; far below 0 speaks of
    copying. ``copies`` (N,): samples nearer than the nearest ``level`` share of held-out data: that
    share of them, about, without copying. Raises unless 0 < level < 1, as ``nearest_distances``.
    """
    found = nearest_distances(samples, train, chunk=chunk)
    unseen = nearest_distances(held_out, train, chunk=chunk).distances
    ordered, n, m = unseen.sort().values, len(samples), len(held_out)
    below, up_to = (torch.searchsorted(ordered, found.distances, right=r) for r in (False, True))
    probability = ((below + up_to).to(ordered.dtype).mean() / (2 * m)).item()
    z_score = (probability - 0.5) * n * m / math.sqrt(n * m * (n + m + 1) / 12)
    copies = found.distances < ordered[min(m - 1, math.floor(level * m))]
    return Memorisation(probability, z_score, copies, *found, unseen)
