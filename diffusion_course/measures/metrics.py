"""How far samples are from data: distances between two sets of features (N, D), one row for each
image, and how sure one can be of them. Computed in float64, returned as Python numbers.
"""

from collections.abc import Callable
from numbers import Real
from statistics import linear_regression, mean
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..door import batch, beside, checked, finite, floating, one_of, positive_int
from ..seeds import draw
from ..validation import check_batch, describe
from .inputs import evaluating, inside, wide

KERNELS = ("cubic", "rbf")


class FrechetFit(NamedTuple):
    """The distance at infinitely many samples; the bias at n is slope / n; the points fitted."""

    value: float
    slope: float
    sizes: Tensor
    distances: Tensor


class KernelDistance(NamedTuple):
    """The mean over subsets, and the spread of one subset's distance: not the mean's error."""

    value: float
    std: float


class Interval(NamedTuple):
    """The ends of an interval, and the statistic of the data itself."""

    low: float
    value: float
    high: float


def _one_row_each(rows: object, images: Tensor) -> Tensor:
    if not isinstance(rows, Tensor) or rows.ndim < 2 or len(rows) != len(images):
        wanted = f"one row for each image, ({len(images)}, D)"
        raise ValueError(f"the model's features must have {wanted}, got {describe(rows)}.")
    return rows


@torch.no_grad()
@checked(images=batch, batch_size=positive_int)
def extract_features(
    model: Callable[[Tensor], Tensor], images: Tensor, *, batch_size: int = 256
) -> Tensor:
    """Return features (N, D) of images (N, ...), on their device, flattened.

    model: any callable on a batch; of a module, its ``features`` method if it has one. A module
    works in evaluation mode (its mode is put back) and in its own dtype and device. Raises
    TypeError or ValueError for images that are no batch, or features without a row for each.
    """
    owner = getattr(model, "__self__", model)  # of a bound method such as net.features
    module = owner if isinstance(owner, nn.Module) else nn.Identity()
    has_features = model is module and callable(getattr(model, "features", None))
    call = model.features if has_features else model
    like = next((p for p in module.parameters() if p.is_floating_point()), images)
    with evaluating(module):
        parts = [(call(part.to(like)), part) for part in images.split(batch_size)]
    return torch.cat([_one_row_each(*part) for part in parts]).flatten(1).to(images.device)


def _rows(name: str, features: Tensor, given: dict) -> None:
    a, b = given["features_a"], given["features_b"]
    fits = features.ndim == 2 and len(features) >= 2 and features.shape[1:] == a.shape[1:]
    if not fits or features.shape[1] == 0:
        wanted = f"{name} must hold features: shapes (N, D) and (M, D) with N, M >= 2"
        raise ValueError(f"{wanted}, got {describe(a)} and {describe(b)}.")


rows = (floating, _rows, beside("features_a"), finite)


@checked(features_a=rows, features_b=rows)
def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """Return |m_a - m_b|^2 + trace(S_a + S_b - 2 (S_a S_b)^(1/2)) of two sets' Gaussian fits (arXiv
    1706.08500, eq. 6).

    features: (N, D) and (M, D), N, M >= 2. It sees only means and covariances, and is biased
    upwards for small sets: compare only equal N and M, and quote the distance between two sets of
    real data beside it; ``frechet_infinity`` removes most of the bias. Raises TypeError or
    ValueError for other dtypes or shapes, two devices or values not finite.
    """
    a, b = (x.detach().cpu().double() for x in (features_a, features_b))
    cov_a, cov_b = (torch.cov(x.T).reshape(x.shape[1], -1) for x in (a, b))
    values, axes = torch.linalg.eigh(cov_a)
    root = axes * values.clamp(min=0).sqrt() @ axes.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    gap = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return (gap + values.sum() + cov_b.trace() - 2 * cross).item()


def _shuffled(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return the rows of ``x`` in random order, drawn where the generator lives."""
    return x[draw(torch.randperm, len(x), generator=generator, device=x.device)]


def _smallest_size(features_a: Tensor, min_size: int | None) -> int:
    n, d = features_a.shape
    return max(2 * d, n // 8) if min_size is None else min_size


def _make_a_line(name: str, num_sizes: int, given: dict) -> None:
    a, b = given["features_a"], given["features_b"]
    min_size = _smallest_size(a, given["min_size"])
    if not 2 <= min_size <= len(a) / 2 or min_size * (len(b) / len(a)) < 2 or num_sizes < 2:
        raise ValueError(
            "frechet_infinity fits a line through num_sizes >= 2 sizes from min_size to N, and "
            f"min_size must be at most N / 2, got {num_sizes=}, {min_size=}, features_a with "
            f"{describe(a)} and features_b with {describe(b)}. Take more samples or fewer features."
        )


@checked(features_a=rows, features_b=rows, num_sizes=(positive_int, _make_a_line))
def frechet_infinity(
    features_a: Tensor, features_b: Tensor, *, num_sizes: int = 10, min_size: int | None = None,
    generator: torch.Generator | None = None,
) -> FrechetFit:
    """Extrapolate ``frechet_distance`` to n = infinity, on a line in 1 / n (arXiv 1911.07023).

    For each of ``num_sizes`` sizes n from ``min_size`` to N, evenly spaced in 1 / n, both shuffled
    sets are cut into pieces (n of features_a, the same share of features_b) whose distances are
    averaged. Cutting both removes both sets' bias; the paper keeps the data fixed, and its bias.
    The line needs n well above D: ``min_size`` defaults to the larger of 2 D and N / 8, and is at
    most N / 2, since a line through neighbouring sizes extrapolates their noise. Raises ValueError
    if there are too few samples for that, and as ``frechet_distance``.
    """
    n = len(features_a)
    smallest = _smallest_size(features_a, min_size)
    a, b = (_shuffled(x, generator).cpu() for x in (features_a, features_b))
    steps = [i / (num_sizes - 1) for i in range(num_sizes)]
    sizes = [round(1 / ((1 - i) / smallest + i / n)) for i in steps]
    distances = []
    for size in sizes:
        pieces = list(zip(a.split(size), b.split(size * len(b) // n), strict=False))[: n // size]
        distances.append(mean(frechet_distance(*pair) for pair in pieces))
    slope, value = linear_regression([1 / size for size in sizes], distances)
    distances = torch.tensor(distances, dtype=torch.float64, device="cpu")
    return FrechetFit(value, slope, torch.tensor(sizes, device="cpu"), distances)


def _kernel_sum(
    x: Tensor, y: Tensor, kernel: str, bandwidth: float | None, chunk: int = 2048
) -> tuple[Tensor, Tensor]:
    """Return the sum of k(x_i, y_j) over all pairs, and over the pairs i = j."""
    total, diagonal = x.new_zeros(()), x.new_zeros(())
    for start in range(0, len(x), chunk):
        part = x[start : start + chunk]
        if kernel == "cubic":
            k = (part @ y.T / x.shape[1] + 1) ** 3
        else:
            distance = torch.cdist(part, y, compute_mode="donot_use_mm_for_euclid_dist")
            k = (-0.5 * (distance / bandwidth) ** 2).exp()
        total, diagonal = total + k.sum(), diagonal + k.diagonal(start).sum()
    return total, diagonal


def _mmd(a: Tensor, b: Tensor, kernel: str, bandwidth: float | None) -> Tensor:
    """Return MMD^2 (): the means leave out the pairs of a point with itself."""
    n, m, pairs = len(a), len(b), ((a, a), (b, b), (a, b))
    (aa, aa_same), (bb, bb_same), (ab, _) = (_kernel_sum(*xy, kernel, bandwidth) for xy in pairs)
    return (aa - aa_same) / (n * (n - 1)) + (bb - bb_same) / (m * (m - 1)) - 2 * ab / (n * m)


def _with_its_bandwidth(name: str, kernel: str, given: dict) -> None:
    bandwidth = given["bandwidth"]
    if not (bandwidth is None if kernel == "cubic" else bandwidth is not None and bandwidth > 0):
        raise ValueError(
            f"bandwidth must be positive with kernel='rbf' and is None with 'cubic', got {kernel=},"
            f" {bandwidth=}. A common choice is the median distance between real features:"
            " torch.pdist(features).median().item()."
        )


@checked(features_a=rows, features_b=rows, kernel=(one_of(*KERNELS), _with_its_bandwidth))
def mmd(
    features_a: Tensor, features_b: Tensor, *, kernel: str = "cubic", bandwidth: float | None = None
) -> float:
    """Return the unbiased estimate of MMD^2, the squared distance of the kernel's mean embeddings
    (arXiv 1801.01401).

    mean k(a_i, a_j) over i != j + the same for b - 2 mean k(a_i, b_j): as often below 0 as above
    for equal distributions. "cubic", (a . b / D + 1)^3, compares the first three moments; "rbf",
    exp(-|a - b|^2 / (2 bandwidth^2)), compares everything but needs a ``bandwidth``. Raises
    ValueError for other kernels and as ``frechet_distance``.
    """
    return _mmd(wide(features_a), wide(features_b), kernel, bandwidth).item()


def _fit_both_sets(name: str, subset_size: int, given: dict) -> None:
    smaller = min(len(given["features_a"]), len(given["features_b"]))
    if not 2 <= subset_size <= smaller:
        wanted = f"subset_size must lie in 2..{smaller}, the size of the smaller set"
        raise ValueError(f"{wanted}, got {subset_size}.")


in_both = (positive_int, _fit_both_sets)


@checked(features_a=rows, features_b=rows, num_subsets=positive_int, subset_size=in_both)
def kernel_distance(
    features_a: Tensor, features_b: Tensor, *, subset_size: int | None = None,
    num_subsets: int = 100, generator: torch.Generator | None = None,
) -> KernelDistance:
    """Return KID: the mean of ``mmd`` with the cubic kernel over random subsets of both sets (arXiv
    1801.01401), unbiased at any size.

    ``subset_size``: drawn without replacement, by default half of the smaller set, at most 1,000.
    Raises ValueError if a set is smaller than that, and as ``frechet_distance``.
    """
    half = min(len(features_a), len(features_b)) // 2
    size = max(2, min(1000, half)) if subset_size is None else subset_size
    a, b = wide(features_a), wide(features_b)
    draws = ([_shuffled(x, generator)[:size] for x in (a, b)] for _ in range(num_subsets))
    values = torch.stack([_mmd(*subsets, "cubic", None) for subsets in draws])
    spread = values.std(correction=min(1, num_subsets - 1))
    return KernelDistance(values.mean().item(), spread.item())


def _sets(name: str, sets: tuple, given: dict) -> None:
    if not sets:
        raise ValueError("bootstrap_interval needs at least one set of samples, got none.")
    for i, x in enumerate(sets):
        check_batch(f"set {i}", x)


def _number(value: object) -> float:
    value = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    if not isinstance(value, Real):
        got = f"got {describe(value)}. Wrap it: lambda x: f(x).value"
        raise ValueError(f"statistic must return one number, {got}.")
    return float(value)


@checked(method=one_of("basic", "percentile"), num_resamples=positive_int, level=inside, sets=_sets)
def bootstrap_interval(
    statistic: Callable[..., float | Tensor], *sets: Tensor, num_resamples: int = 200,
    level: float = 0.95, method: str = "basic", generator: torch.Generator | None = None,
) -> Interval:
    """Return a confidence interval of ``statistic(*sets)``, each set (N, ...) resampled with
    replacement (Efron 1979).

    With q the quantiles of the resampled values, "percentile" is [q_low, q_high] and "basic" is
    [2 value - q_high, 2 value - q_low]. A statistic that is biased at finite N, such as
    ``frechet_distance``, is biased once more in each resample: "percentile" then adds that bias,
    "basic" takes it off, and either may leave ``value`` outside. Repeated points mislead statistics
    of nearest neighbours. Raises ValueError unless 0 < level < 1 and the statistic is one number.
    """

    def resample(x: Tensor) -> Tensor:
        return x[draw(torch.randint, len(x), (len(x),), generator=generator, device=x.device)]

    value = _number(statistic(*sets))
    values = [_number(statistic(*map(resample, sets))) for _ in range(num_resamples)]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()
    if method == "basic":
        low, high = 2 * value - high, 2 * value - low
    return Interval(low, value, high)
