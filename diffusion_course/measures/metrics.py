"""How far samples are from data: distances between two sets of features, and how sure one can be of
them.

Features are (N, D), one row for each image. Everything is computed in float64 and returned as
Python numbers.
"""

from collections.abc import Callable
from statistics import linear_regression
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..validation import (
    check_batch, check_choice, check_device, check_finite, check_floating, check_positive_int,
    describe, widest_float,
)

KERNELS = ("cubic", "rbf")


class FrechetFit(NamedTuple):
    """``value``: the distance at infinitely many samples; ``slope``: the bias at n samples is slope
    / n; the points fitted.
    """

    value: float
    slope: float
    sizes: Tensor
    distances: Tensor


class KernelDistance(NamedTuple):
    """``value``: the mean over subsets; ``std``: the spread of one subset's distance, not the error
    of the mean.
    """

    value: float
    std: float


class Interval(NamedTuple):
    """``value``: the statistic of the data itself; ``low`` and ``high``: the ends of the interval.
    """

    low: float
    value: float
    high: float


@torch.no_grad()
def extract_features(
    model: Callable[[Tensor], Tensor], images: Tensor, *, batch_size: int = 256
) -> Tensor:
    """Return features (N, D) of images (N, ...), ``batch_size`` at a time: the model's ``features``
    method, else its call.

    model: any callable on a batch. A module works in evaluation mode (its mode is put back) and in
    its own dtype and device; the features come back on the images' device, flattened. Raises
    TypeError or ValueError for images that are no batch, or a result that has not one row for each
    image.
    """
    check_batch("images", images)
    check_positive_int("batch_size", batch_size)
    call = (
        model.features
        if isinstance(model, nn.Module) and callable(getattr(model, "features", None))
        else model
    )
    owner = (
        model if isinstance(model, nn.Module) else getattr(model, "__self__", None)
    )  # of a bound method such as net.features
    module = owner if isinstance(owner, nn.Module) else nn.Identity()
    like = next((p for p in module.parameters() if p.is_floating_point()), images)
    modes = {m: m.training for m in module.modules()}
    try:
        module.eval()
        rows = [call(batch.to(like.device, like.dtype)) for batch in images.split(batch_size)]
    finally:
        for m, mode in modes.items():
            m.training = mode
    for row, batch in zip(rows, images.split(batch_size), strict=True):
        if not isinstance(row, Tensor) or row.ndim < 2 or len(row) != len(batch):
            raise ValueError(
                f"features must have one row for each image, ({len(batch)}, D), got"
                f" {describe(row)}."
            )
    return torch.cat(rows).flatten(1).to(images.device)


def _check_features(features_a: Tensor, features_b: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in the widest float, detached, after checking that they are (N, D) and (M, D) on
    one device, and finite.
    """
    for name, x in (("features_a", features_a), ("features_b", features_b)):
        check_floating(name, x)
        if x.ndim != 2 or len(x) < 2 or x.shape[1] != features_a.shape[-1]:
            raise ValueError(
                "features must have shapes (N, D) and (M, D) with N, M >= 2, "
                f"got {describe(features_a)} and {describe(features_b)}."
            )
        check_finite(name, x)
    check_device("features_b", features_b, "features_a", features_a)
    dtype = widest_float(features_a.device)
    return features_a.detach().to(dtype), features_b.detach().to(dtype)


def _shuffled(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return the rows of ``x`` in random order, drawn where the generator lives."""
    return x[
        torch.randperm(
            len(x), generator=generator, device=generator.device if generator else "cpu"
        ).to(x.device)
    ]


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """Return |m_a - m_b|^2 + trace(S_a + S_b - 2 (S_a S_b)^(1/2)) of two sets' Gaussian fits (arXiv
    1706.08500, eq. 6).

    features: (N, D) and (M, D), N and M at least 2. Biased upwards for small sets: compare only
    equal N and M, and quote the distance between two sets of real data beside it;
    ``frechet_infinity`` removes most of the bias. Sees only means and covariances. Raises
    ValueError for other shapes, two devices or values that are not finite.
    """
    a, b = (x.cpu().double() for x in _check_features(features_a, features_b))
    values, axes = torch.linalg.eigh(torch.cov(a.T).reshape(a.shape[1], -1))
    root = axes * values.clamp(min=0).sqrt() @ axes.T
    cov_b = torch.cov(b.T).reshape(b.shape[1], -1)
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    gap = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return (gap + values.sum() + cov_b.trace() - 2 * cross).item()


def frechet_infinity(
    features_a: Tensor, features_b: Tensor, *, num_sizes: int = 10, min_size: int | None = None,
    generator: torch.Generator | None = None,
) -> FrechetFit:
    """Extrapolate ``frechet_distance`` to infinitely many samples: a straight line in 1 / n (arXiv
    1911.07023).

    For each of ``num_sizes`` sizes n from ``min_size`` to N, evenly spaced in 1 / n, both shuffled
    sets are cut into disjoint pieces (n of features_a, the same share of features_b) and the
    pieces' distances are averaged. Cutting both removes both sets' bias; the paper keeps the data
    fixed, and its bias. The line needs n well above D: ``min_size`` defaults to the larger of 2 D
    and N / 8. ``sizes`` (num_sizes,) are those of features_a. Raises ValueError if there are too
    few samples.
    """
    a, b = _check_features(features_a, features_b)
    check_positive_int("num_sizes", num_sizes)
    n, share = len(a), len(b) / len(a)
    min_size = max(2 * a.shape[1], n // 8) if min_size is None else min_size
    if not 2 <= min_size < n or min_size * share < 2 or num_sizes < 2:
        raise ValueError(
            "frechet_infinity fits a line through num_sizes >= 2 sizes from min_size to N, got"
            f" {num_sizes=}, {min_size=}, {describe(features_a)} and {describe(features_b)}. Take"
            " more samples or fewer features."
        )
    a, b = _shuffled(a, generator).cpu(), _shuffled(b, generator).cpu()
    steps = [i / (num_sizes - 1) for i in range(num_sizes)]
    sizes = [round(1 / ((1 - i) / min_size + i / n)) for i in steps]
    distances = []
    for size in sizes:
        size_b, pieces = int(size * share), n // size
        parts = zip(a.split(size)[:pieces], b.split(size_b)[:pieces], strict=True)
        distances.append(sum(frechet_distance(*part) for part in parts) / pieces)
    slope, value = linear_regression([1 / size for size in sizes], distances)
    return FrechetFit(
        value, slope, torch.tensor(sizes), torch.tensor(distances, dtype=torch.float64)
    )


def _kernel_sum(
    x: Tensor, y: Tensor, kernel: str, bandwidth: float | None, chunk: int = 2048
) -> tuple[Tensor, Tensor]:
    """Return the sum of k(x_i, y_j) over all pairs, and over the pairs i = j."""
    total, diagonal = x.new_zeros(()), x.new_zeros(())
    for start in range(0, len(x), chunk):
        rows = x[start : start + chunk]
        if kernel == "cubic":
            values = (rows @ y.T / x.shape[1] + 1) ** 3
        else:
            values = (
                -0.5
                * (torch.cdist(rows, y, compute_mode="donot_use_mm_for_euclid_dist") / bandwidth)
                ** 2
            ).exp()
        total, diagonal = total + values.sum(), diagonal + values.diagonal(start).sum()
    return total, diagonal


def _mmd(a: Tensor, b: Tensor, kernel: str, bandwidth: float | None) -> Tensor:
    (aa, aa_same), (bb, bb_same), (ab, _) = (
        _kernel_sum(x, y, kernel, bandwidth) for x, y in ((a, a), (b, b), (a, b))
    )
    n, m = len(a), len(b)
    return (aa - aa_same) / (n * (n - 1)) + (bb - bb_same) / (m * (m - 1)) - 2 * ab / (n * m)


def mmd(
    features_a: Tensor, features_b: Tensor, *, kernel: str = "cubic", bandwidth: float | None = None
) -> float:
    """Return the unbiased estimate of MMD^2, the squared distance of the kernel's mean embeddings
    (arXiv 1801.01401).

    mean k(a_i, a_j) over i != j + the same for b - 2 mean k(a_i, b_j). It is as often below 0 as
    above for equal distributions. "cubic": k = (a . b / D + 1)^3, which compares the first three
    moments; "rbf": exp(-|a - b|^2 / (2 bandwidth^2)), which compares everything but needs a
    ``bandwidth``. Raises ValueError for other kernels and as ``frechet_distance``.
    """
    check_choice("kernel", kernel, KERNELS)
    if (kernel == "rbf") != (bandwidth is not None) or (
        bandwidth is not None and not bandwidth > 0
    ):
        raise ValueError(
            f"bandwidth must be positive with kernel='rbf' and is None with 'cubic', got {kernel=},"
            f" {bandwidth=}. A common choice is the median distance between real features:"
            " torch.pdist(features).median().item()."
        )
    return _mmd(*_check_features(features_a, features_b), kernel, bandwidth).item()


def kernel_distance(
    features_a: Tensor, features_b: Tensor, *, subset_size: int | None = None,
    num_subsets: int = 100, generator: torch.Generator | None = None,
) -> KernelDistance:
    """Return KID: the mean of ``mmd`` with the cubic kernel over random subsets of both sets (arXiv
    1801.01401).

    Unbiased at any size. ``subset_size``: drawn without replacement, by default half of the smaller
    set, at most 1,000. Raises ValueError if a set is smaller than that, and as
    ``frechet_distance``.
    """
    a, b = _check_features(features_a, features_b)
    check_positive_int("num_subsets", num_subsets)
    smaller = min(len(a), len(b))
    subset_size = max(2, min(1000, smaller // 2)) if subset_size is None else subset_size
    check_positive_int("subset_size", subset_size)
    if not 2 <= subset_size <= smaller:
        raise ValueError(
            f"subset_size must lie in 2..{smaller}, the size of the smaller set, got {subset_size}."
        )
    subsets = (
        (_shuffled(a, generator)[:subset_size], _shuffled(b, generator)[:subset_size])
        for _ in range(num_subsets)
    )
    values = torch.stack([_mmd(x, y, "cubic", None) for x, y in subsets])
    return KernelDistance(
        values.mean().item(), values.std(correction=min(1, num_subsets - 1)).item()
    )


def bootstrap_interval(
    statistic: Callable[..., float | Tensor], *sets: Tensor, num_resamples: int = 200,
    level: float = 0.95, method: str = "basic", generator: torch.Generator | None = None,
) -> Interval:
    """Return a confidence interval of ``statistic(*sets)``, each set (N, ...) resampled with
    replacement (Efron 1979).

    With q the quantiles of the resampled values: "percentile" is [q_low, q_high], "basic" [2 value
    - q_high, 2 value - q_low]. A statistic that is biased at finite N (``frechet_distance``) is
      biased once more in each resample: "percentile" then adds that bias, "basic" takes it off, and
      either may leave ``value`` outside. Repeated points mislead statistics of
    nearest neighbours. Raises ValueError for a level outside (0, 1), an unknown method, or a
    statistic that is no number.
    """
    check_choice("method", method, ("basic", "percentile"))
    check_positive_int("num_resamples", num_resamples)
    if not 0 < level < 1 or not sets:
        raise ValueError(
            f"bootstrap_interval needs at least one set and a level in (0, 1), got {len(sets)}"
            f" sets, {level=}."
        )
    for i, x in enumerate(sets):
        check_batch(f"set {i}", x)

    def evaluate(*parts: Tensor) -> float:
        number = statistic(*parts)
        number = number.item() if isinstance(number, Tensor) and number.numel() == 1 else number
        if not isinstance(number, (int, float)):
            raise ValueError(
                f"statistic must return one number, got {describe(number)}. Wrap it: lambda x:"
                " f(x).value."
            )
        return float(number)

    def resample(x: Tensor) -> Tensor:
        where = generator.device if generator else "cpu"
        return x[torch.randint(len(x), (len(x),), generator=generator, device=where).to(x.device)]

    value = evaluate(*sets)
    ordered = sorted(evaluate(*map(resample, sets)) for _ in range(num_resamples))
    low, high = (_quantile(ordered, p) for p in ((1 - level) / 2, (1 + level) / 2))
    return (
        Interval(2 * value - high, value, 2 * value - low)
        if method == "basic"
        else Interval(low, value, high)
    )


def _quantile(ordered: list[float], p: float) -> float:
    """Return the p-quantile of sorted numbers, linear between them."""
    position = p * (len(ordered) - 1)
    i = min(int(position), len(ordered) - 2)
    return ordered[0] if i < 0 else ordered[i] + (position - i) * (ordered[i + 1] - ordered[i])
