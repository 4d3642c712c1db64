"""Precision, recall, nearest neighbours and the memorisation test: against scikit-learn, scipy and planted copies."""

import numpy as np
import pytest
import torch
from helpers import assert_near, normal, unchanged
from scipy.stats import mannwhitneyu
from sklearn.neighbors import NearestNeighbors

from diffusion_course import load_dataset, memorisation, nearest_distances, precision_recall


def covered(points, centres, k):
    """The share of points inside a ball around some centre that reaches to the centre's k-th neighbour, by scikit-learn."""
    radii = NearestNeighbors(n_neighbors=k + 1).fit(centres).kneighbors(centres)[0][:, -1]  # the point itself comes first
    distances = np.linalg.norm(points[:, None] - centres[None], axis=-1)
    return (distances <= radii).any(1).mean()


@pytest.mark.parametrize(("n", "m", "dim", "k"), [(30, 30, 2, 3), (80, 50, 5, 1), (40, 90, 3, 10)])
def test_precision_and_recall_against_scikit_learn(n, m, dim, k):
    real, fake = normal(n, dim, seed=1), 0.6 + 1.3 * normal(m, dim, seed=2)
    result = unchanged(precision_recall, real, fake, k)
    assert result.precision == pytest.approx(covered(fake.numpy(), real.numpy(), k), abs=1e-12)
    assert result.recall == pytest.approx(covered(real.numpy(), fake.numpy(), k), abs=1e-12)
    assert 0 < result.precision < 1  # or the comparison says little
    assert 0 < result.recall < 1
    assert precision_recall(fake, real, k) == (result.recall, result.precision)


def test_by_hand():
    real, fake = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[-1.0], [4.5], [10.0], [11.0]])
    # k = 1: real balls [-1, 1], [0, 2], [1, 5]; fake balls [-6.5, 4.5], [-1, 10], [9, 11], [10, 12]
    assert precision_recall(real, fake, k=1) == (0.5, 1.0)
    assert precision_recall(real, real + 100, k=1) == (0.0, 0.0)
    assert precision_recall(real, real, k=2) == (1.0, 1.0)


def test_narrow_fakes_are_precise_wide_fakes_recall():
    real = normal(400, 4, seed=1)
    narrow, wide = (precision_recall(real, s * normal(400, 4, seed=2)) for s in (0.3, 3.0))
    assert narrow.precision > 0.95
    assert narrow.recall < 0.3
    assert wide.precision < 0.3
    assert wide.recall > 0.9
    half = torch.cat([normal(200, 4, seed=3), normal(200, 4, seed=4) + 50])  # one mode of two is missed
    missed = precision_recall(half, normal(400, 4, seed=5))
    assert missed.precision > 0.7
    assert missed.recall < 0.55


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_nearest_against_scikit_learn_for_any_float_and_rank(dtype):
    x, y = normal(20, 1, 4, 3, seed=1, dtype=dtype), normal(70, 1, 4, 3, seed=2, dtype=dtype)
    distances, indices = unchanged(nearest_distances, x, y)
    model = NearestNeighbors(n_neighbors=1).fit(y.flatten(1).double().numpy())
    expected, where = model.kneighbors(x.flatten(1).double().numpy())
    assert distances.dtype == torch.float64
    assert_near(distances, torch.from_numpy(expected[:, 0]), 1e-9)
    assert indices.tolist() == where[:, 0].tolist()


def test_pieces_change_nothing():
    x, y, z = normal(50, 6, seed=1), normal(41, 6, seed=2), normal(33, 6, seed=3)
    for chunk in (1, 7, 50, 10_000):
        for one, other in zip(nearest_distances(x, y, chunk=chunk), nearest_distances(x, y), strict=True):
            assert torch.equal(one, other)
        assert precision_recall(x, y, chunk=chunk) == precision_recall(x, y)
        a, b = memorisation(x, y, z, chunk=chunk), memorisation(x, y, z)
        assert a[:2] == b[:2]
        assert all(torch.equal(p, q) for p, q in zip(a[2:], b[2:], strict=True))


def test_copies_are_at_distance_zero_however_far_from_the_origin():
    """|x|^2 + |y|^2 - 2 x.y, the fast formula, gives a copy a distance of about 1e-3 here."""
    data = normal(30, 64, seed=1, dtype=torch.float32) + 1000
    distances, indices = nearest_distances(data[[4, 17]], data)
    assert distances.tolist() == [0.0, 0.0]
    assert indices.tolist() == [4, 17]


# --- memorisation -----------------------------------------------------------------------------------------------------------
def split(n=400, dim=8):
    return normal(n, dim, seed=1), normal(n, dim, seed=2), normal(n, dim, seed=3)


def test_against_the_mann_whitney_test_of_scipy():
    train, held_out, samples = split(200, 5)
    samples = torch.cat([samples[:120], train[:30] + 0.1])
    result = memorisation(samples, train, held_out)
    distances = lambda x: NearestNeighbors(n_neighbors=1).fit(train.numpy()).kneighbors(x.numpy())[0][:, 0]  # noqa: E731
    test = mannwhitneyu(distances(samples), distances(held_out), method="asymptotic", use_continuity=False)
    n, m = len(samples), len(held_out)
    assert result.probability == pytest.approx(test.statistic / (n * m), abs=1e-12)
    assert result.z_score == pytest.approx((test.statistic - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12), abs=1e-9)
    assert_near(result.held_out_distances, torch.from_numpy(distances(held_out)), 1e-9)


def test_planted_copies_are_found_and_fresh_data_is_not_blamed():
    train, held_out, fresh = split()
    innocent = memorisation(fresh, train, held_out)
    assert abs(innocent.z_score) < 2.6
    assert abs(innocent.probability - 0.5) < 0.06
    assert innocent.copies.double().mean() < 0.03
    planted = fresh.clone()
    planted[[3, 50, 399]] = train[[7, 8, 9]] + 1e-3
    result = unchanged(memorisation, planted, train, held_out)
    assert result.copies[[3, 50, 399]].all()
    assert result.indices[[3, 50, 399]].tolist() == [7, 8, 9]
    assert result.copies.sum() <= innocent.copies.sum() + 3
    everything = memorisation(train + 0.01 * fresh, train, held_out)
    assert everything.probability < 0.01
    assert everything.z_score < -20
    assert everything.copies.all()
    far = memorisation(fresh + 3, train, held_out)
    assert far.probability > 0.95
    assert far.z_score > 20
    assert not far.copies.any()


def test_the_z_score_is_standard_normal_without_copying():
    scores = [
        memorisation(normal(60, 3, seed=3 * i), normal(500, 3, seed=3 * i + 1), normal(60, 3, seed=3 * i + 2)).z_score
        for i in range(200)
    ]
    assert abs(np.mean(scores)) < 0.25
    assert 0.85 < np.std(scores) < 1.2


def test_the_share_of_false_alarms_is_the_level():
    train, held_out, fresh = normal(500, 2, seed=1), normal(4000, 2, seed=2), normal(4000, 2, seed=3)
    for level in (0.01, 0.1, 0.5):
        share = memorisation(fresh, train, held_out, level=level).copies.double().mean().item()
        assert share == pytest.approx(level, rel=0.35, abs=0.004)


def test_ties_count_half():
    train = torch.zeros(3, 2)
    assert memorisation(torch.ones(4, 2), train, torch.ones(5, 2)).probability == 0.5
    assert memorisation(train, train, train).probability == 0.5  # held-out data that is in the training data hides copying


def test_on_real_digits():
    images = load_dataset("digits").images
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    train, held_out, fresh = images[order[:1200]], images[order[1200:1500]], images[order[1500:]]
    assert abs(memorisation(fresh, train, held_out).z_score) < 3
    noisy = train[:300] + 0.02 * normal(300, *images.shape[1:], seed=1, dtype=torch.float32)
    assert memorisation(noisy, train, held_out).z_score < -20


# --- what is refused --------------------------------------------------------------------------------------------------------
A, B = torch.ones(6, 3), torch.ones(7, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nearest_distances(A, torch.ones(7, 4)), ValueError, r"samples and reference must hold points of one shape.*\(6, 3\).*\(7, 4\)"),
        (lambda: nearest_distances(torch.ones(6), torch.ones(6)), ValueError, r"samples and samples.*\(6,\)"),
        (lambda: nearest_distances(A[:0], B), ValueError, r"samples needs a batch axis with at least one sample"),
        (lambda: nearest_distances(A, B.int()), TypeError, r"reference must have a floating dtype"),
        (lambda: nearest_distances(A, B * np.nan), ValueError, r"reference holds 21 values that are not finite"),
        (lambda: nearest_distances(A, B.to("meta")), ValueError, r"reference is on meta and samples on cpu"),
        (lambda: nearest_distances(A, B, chunk=0), ValueError, r"chunk must be at least 1"),
        (lambda: precision_recall(A, B, 6), ValueError, r"k = 6 neighbours need more than 6 points in each set.*\(6, 3\)"),
        (lambda: precision_recall(A, B, 0), ValueError, r"k must be at least 1"),
        (lambda: precision_recall(A, B, 1.5), TypeError, r"k must be an int"),
        (lambda: precision_recall(A, B, chunk=-1), ValueError, r"chunk must be at least 1"),
        (lambda: precision_recall(A, [1.0]), TypeError, r"fake must be a torch\.Tensor, got list"),
        (lambda: memorisation(A, B, A, level=0.0), ValueError, r"level must lie in \(0, 1\), got 0.0"),
        (lambda: memorisation(A, B, torch.ones(7, 4)), ValueError, r"samples and held_out must hold points of one shape"),
        (lambda: memorisation(A, B, A / 0), ValueError, r"held_out holds 18 values that are not finite"),
    ],
)
def test_refused_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
