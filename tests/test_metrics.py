"""Frechet and kernel distances, features and bootstrap intervals: against scipy, scikit-learn, closed forms and counting."""

import math

import numpy as np
import pytest
import torch
from helpers import assert_near, normal, unchanged
from scipy.linalg import sqrtm
from scipy.stats import bootstrap
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

from diffusion_course import (
    bootstrap_interval,
    extract_features,
    frechet_distance,
    frechet_infinity,
    kernel_distance,
    load_dataset,
    load_pretrained,
    mmd,
)
from diffusion_course.measures.metrics import _kernel_sum


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def by_hand(a, b):
    ca, cb = np.cov(a.T), np.cov(b.T)
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb - 2 * sqrtm(ca @ cb).real)


# --- the Frechet distance ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("n", "m", "dim"), [(50, 50, 2), (300, 40, 5), (400, 300, 64)])
def test_against_scipy(n, m, dim):
    a, b = normal(n, dim, seed=1) @ normal(dim, dim, seed=2), 0.5 + normal(m, dim, seed=3) @ normal(dim, dim, seed=4)
    assert unchanged(frechet_distance, a, b) == pytest.approx(by_hand(a.numpy(), b.numpy()), rel=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


def test_one_dimension_in_closed_form():
    a = torch.tensor([[-1.0], [1.0]])
    b = torch.tensor([[1.0], [7.0]])
    assert frechet_distance(a, b) == pytest.approx(16 + (np.sqrt(2) - np.sqrt(18)) ** 2)


def test_zero_for_the_same_set_a_shift_and_fewer_samples_than_dimensions():
    x = normal(6, 20)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(x, x + 0.5) == pytest.approx(20 * 0.25, rel=1e-6)
    assert_near(torch.tensor(frechet_distance(x.float(), x.float() * 2)), torch.tensor(frechet_distance(x, 2 * x)), 1e-4)
    assert isinstance(frechet_distance(x.requires_grad_(), x), float)


def test_what_changes_the_distances_and_what_does_not():
    a, b = normal(60, 7, seed=1), 0.4 + 1.3 * normal(80, 7, seed=2)
    rotation = torch.linalg.qr(normal(7, 7, seed=3)).Q
    for distance in (frechet_distance, mmd, lambda x, y: mmd(x, y, kernel="rbf", bandwidth=2.0)):
        value = distance(a, b)
        assert distance(a @ rotation, b @ rotation) == pytest.approx(value, rel=1e-9)  # a turn of the feature space
        assert distance(a[torch.randperm(60, generator=seeded())], b) == pytest.approx(value, rel=1e-9)  # the order of the rows
        assert distance(b, a) == pytest.approx(value, rel=1e-9)
    assert frechet_distance(a + 5, b + 5) == pytest.approx(frechet_distance(a, b), rel=1e-9)
    assert frechet_distance(3 * a, 3 * b) == pytest.approx(9 * frechet_distance(a, b), rel=1e-9)
    assert mmd(a + 5, b + 5, kernel="rbf", bandwidth=2.0) == pytest.approx(mmd(a, b, kernel="rbf", bandwidth=2.0), rel=1e-9)
    assert abs(mmd(a + 5, b + 5) / mmd(a, b) - 1) > 0.1  # the cubic kernel has an origin


def test_narrow_floats_are_computed_in_float64():
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        a, b = normal(50, 4, seed=1, dtype=dtype) + 3, normal(40, 4, seed=2, dtype=dtype) + 3
        wide = a.double(), b.double()
        assert frechet_distance(a, b) == frechet_distance(*wide)
        assert mmd(a, b) == mmd(*wide)
        assert mmd(a, b, kernel="rbf", bandwidth=1.0) == mmd(*wide, kernel="rbf", bandwidth=1.0)
        assert kernel_distance(a, b, generator=seeded()) == kernel_distance(*wide, generator=seeded())
        assert frechet_infinity(a, b, generator=seeded()).value == frechet_infinity(*wide, generator=seeded()).value
    assert mmd(a.requires_grad_(), b) == mmd(*wide)


# --- its bias ---------------------------------------------------------------------------------------------------------------
DIM = 16
SCALES = torch.linspace(0.5, 2.0, DIM, dtype=torch.float64)
TRUE = DIM * 0.2**2 + ((SCALES - 1) ** 2).sum().item()  # |m|^2 + sum (s - 1)^2: diagonal Gaussians


def gaussian_features(n, seed):
    return normal(n, DIM, seed=seed), 0.2 + SCALES * normal(n, DIM, seed=seed + 1)


@pytest.fixture(scope="module")
def draws():
    """Distances of 100 independent pairs of sets at sizes 50, 100, 200 and 400, and their extrapolations from 400."""
    pairs = [gaussian_features(400, 2 * i) for i in range(100)]
    plain = {n: torch.tensor([frechet_distance(a[:n], b[:n]) for a, b in pairs]) for n in (50, 100, 200, 400)}
    fits = [frechet_infinity(a, b, generator=seeded(i)) for i, (a, b) in enumerate(pairs)]
    return plain, fits


def test_the_bias_falls_like_one_over_n(draws):
    plain, _ = draws
    bias = [(x.mean() - TRUE).item() for x in plain.values()]
    for larger, smaller in zip(bias, bias[1:], strict=False):
        assert 1.5 < larger / smaller < 2.7
    assert bias[-1] > 5 * plain[400].std() / 10, "no bias to remove: the next test would say nothing"


def test_extrapolation_removes_the_bias(draws):
    plain, fits = draws
    values = torch.tensor([fit.value for fit in fits])
    error = values.std() / math.sqrt(len(values))
    assert abs(values.mean() - TRUE) < 3 * error
    assert abs(values.mean() - TRUE) < 0.3 * (plain[400].mean() - TRUE)
    assert values.std() < 2 * plain[400].std()  # not bought with noise
    slopes = torch.tensor([fit.slope for fit in fits])
    assert slopes.mean() / 400 == pytest.approx((plain[400].mean() - TRUE).item(), rel=0.25)


def test_unequal_sets_are_cut_in_proportion():
    fits = []
    for i in range(40):
        a, b = gaussian_features(800, 3000 + 2 * i)
        fits.append(fit := frechet_infinity(a, b[:200], min_size=160, num_sizes=5, generator=seeded(i)))
        assert fit.distances[-1].item() == pytest.approx(frechet_distance(a, b[:200]), rel=1e-9)
    assert fit.sizes.tolist() == [160, 200, 267, 400, 800]
    values, last = torch.tensor([f.value for f in fits]), torch.tensor([f.distances[-1].item() for f in fits])
    error = values.std() / math.sqrt(40)
    assert abs(values.mean() - TRUE) < 3 * error
    assert last.mean() - TRUE > 6 * error
    assert fit.value == pytest.approx(np.polyfit(1 / fit.sizes.numpy(), fit.distances.numpy(), 1)[1], rel=1e-9)
    assert fit.slope == pytest.approx(np.polyfit(1 / fit.sizes.numpy(), fit.distances.numpy(), 1)[0], rel=1e-9)
    gaps = np.diff(1 / fit.sizes.numpy())
    assert np.allclose(gaps, gaps[0], rtol=0.02)


def test_the_generator_decides():
    a, b = gaussian_features(200, 7)
    for f in (lambda g: frechet_infinity(a, b, generator=g).value, lambda g: kernel_distance(a, b, generator=g),
              lambda g: bootstrap_interval(torch.mean, a, generator=g)):
        assert f(seeded(1)) == f(seeded(1)) != f(seeded(2))


# --- kernels ----------------------------------------------------------------------------------------------------------------
def mmd_by_hand(a, b, kernel):
    """Sums of scikit-learn's kernel matrices with their diagonals set to zero."""
    kaa, kbb, kab = kernel(a, a), kernel(b, b), kernel(a, b)
    np.fill_diagonal(kaa, 0)
    np.fill_diagonal(kbb, 0)
    n, m = len(a), len(b)
    return kaa.sum() / (n * (n - 1)) + kbb.sum() / (m * (m - 1)) - 2 * kab.mean()


@pytest.mark.parametrize(("n", "m", "dim"), [(2, 2, 1), (50, 50, 2), (90, 40, 12)])
def test_mmd_against_scikit_learn(n, m, dim):
    a, b = normal(n, dim, seed=1), 0.3 + 1.2 * normal(m, dim, seed=2)
    cubic = mmd_by_hand(a.numpy(), b.numpy(), lambda x, y: polynomial_kernel(x, y, degree=3, gamma=1 / dim, coef0=1))
    assert unchanged(mmd, a, b) == pytest.approx(cubic, rel=1e-9)
    for bandwidth in (0.5, 3.0):
        rbf = mmd_by_hand(a.numpy(), b.numpy(), lambda x, y, w=bandwidth: rbf_kernel(x, y, gamma=1 / (2 * w**2)))
        assert mmd(a, b, kernel="rbf", bandwidth=bandwidth) == pytest.approx(rbf, rel=1e-9, abs=1e-14)


def test_mmd_is_unbiased_and_the_biased_estimate_is_not():
    values, biased = [], []
    for i in range(400):
        a, b = normal(10, 3, seed=2 * i), normal(10, 3, seed=2 * i + 1)
        values.append(mmd(a, b))
        k = lambda x, y: ((x @ y.T / 3 + 1) ** 3).mean().item()  # noqa: E731
        biased.append(k(a, a) + k(b, b) - 2 * k(a, b))
    error = np.std(values) / math.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * error
    assert min(values) < 0 < max(values)
    assert np.mean(biased) > 10 * error


def test_mmd_with_the_rbf_kernel_in_closed_form():
    """Gaussians N(0, 1) and N(m, 1), bandwidth w: MMD^2 = 2 w / sqrt(w^2 + 2) (1 - exp(-m^2 / (2 (w^2 + 2))))."""
    a, b = normal(4000, 1, seed=1), 1 + normal(4000, 1, seed=2)
    expected = 2 / math.sqrt(3) * (1 - math.exp(-1 / 6))
    assert mmd(a, b, kernel="rbf", bandwidth=1.0) == pytest.approx(expected, rel=0.1)


def test_mmd_with_the_cubic_kernel_in_closed_form():
    """One dimension: (xy + 1)^3 has the features 1, sqrt(3) x, sqrt(3) x^2, x^3: MMD^2 compares three moments."""
    a, b = normal(3000, 1, seed=1), 1 + normal(3000, 1, seed=2)
    moments_a, moments_b = np.array([0, 1, 0]), np.array([1, 2, 4])  # E x, E x^2, E x^3
    assert mmd(a, b) == pytest.approx((np.array([3, 3, 1]) * (moments_a - moments_b) ** 2).sum(), rel=0.15)


def test_kernels_in_pieces_are_the_same():
    x, y = normal(23, 4, seed=1), normal(31, 4, seed=2)
    for kernel, bandwidth in (("cubic", None), ("rbf", 1.5)):
        whole = _kernel_sum(x, y, kernel, bandwidth), _kernel_sum(x, x, kernel, bandwidth)
        for chunk in (1, 5, 23):
            pieces = _kernel_sum(x, y, kernel, bandwidth, chunk), _kernel_sum(x, x, kernel, bandwidth, chunk)
            for (a, _), (b, _) in zip(whole, pieces, strict=True):
                assert_near(a / b, torch.ones_like(a), 1e-12)
            assert_near(whole[1][1] / pieces[1][1], torch.ones_like(whole[1][1]), 1e-12)


def test_kernel_distance_is_the_mean_over_subsets():
    a, b = normal(80, 5, seed=1), 0.5 + normal(60, 5, seed=2)
    every = kernel_distance(a[:60], b, subset_size=60, num_subsets=3, generator=seeded())
    assert every.value == pytest.approx(mmd(a[:60], b), rel=1e-9)
    assert every.std == pytest.approx(0, abs=1e-9)
    some = kernel_distance(a, b, subset_size=20, num_subsets=400, generator=seeded())
    assert abs(some.value - mmd(a, b)) < 4 * some.std / 20
    single = [
        mmd(a[torch.randperm(80, generator=seeded(i))[:20]], b[torch.randperm(60, generator=seeded(900 + i))[:20]])
        for i in range(200)
    ]
    assert some.std == pytest.approx(np.std(single), rel=0.25)
    assert kernel_distance(a, b, num_subsets=1, generator=seeded()).std == 0


# --- what is refused --------------------------------------------------------------------------------------------------------
BAD = [
    (torch.ones(1, 3), torch.ones(5, 3), ValueError, r"shapes \(N, D\) and \(M, D\) with N, M >= 2, got shape \(1, 3\)"),
    (torch.ones(5, 3), torch.ones(5, 2), ValueError, r"got shape \(5, 3\).*and shape \(5, 2\)"),
    (torch.ones(5), torch.ones(5, 2), ValueError, r"got shape \(5,\)"),
    (torch.ones(5, 2), torch.tensor(1.0), ValueError, r"and shape \(\)"),
    (torch.ones(5, 2).long(), torch.ones(5, 2), TypeError, r"features_a must have a floating dtype"),
    (torch.ones(5, 2), np.ones((5, 2)), TypeError, r"features_b must be a torch\.Tensor, got ndarray"),
    (torch.ones(5, 2), torch.full((5, 2), np.inf), ValueError, r"features_b holds 10 values that are not finite"),
    (torch.ones(5, 2), torch.ones(5, 2, device="meta"), ValueError, r"features_b is on meta and features_a on cpu"),
]


@pytest.mark.parametrize("function", [frechet_distance, frechet_infinity, mmd, kernel_distance])
@pytest.mark.parametrize(("a", "b", "error", "message"), BAD)
def test_refused_features(function, a, b, error, message):
    with pytest.raises(error, match=message):
        function(a, b)


X = torch.ones(40, 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: frechet_infinity(X, X, num_sizes=1), ValueError, r"num_sizes >= 2 sizes from min_size to N.*got num_sizes=1"),
        (lambda: frechet_infinity(X, X, min_size=40), ValueError, r"min_size=40, features_a with shape \(40, 2\).*Take more samples"),
        (lambda: frechet_infinity(X[:9, :1].expand(9, 9), X[:9, :1].expand(9, 9)), ValueError, r"min_size=18"),
        (lambda: frechet_infinity(normal(160, 64), normal(160, 64)), ValueError, r"min_size must be at most N / 2.*min_size=128, features_a with shape \(160, 64\)"),
        (lambda: frechet_infinity(X, X[:3], min_size=4), ValueError, r"min_size=4.*shape \(3, 2\)"),
        (lambda: mmd(X, X, kernel="linear"), ValueError, r"kernel must be one of 'cubic', 'rbf', got 'linear'"),
        (lambda: mmd(X, X, kernel="rbf"), ValueError, r"bandwidth must be positive with kernel='rbf'.*bandwidth=None.*median"),
        (lambda: mmd(X, X, kernel="rbf", bandwidth=0.0), ValueError, r"bandwidth=0.0"),
        (lambda: mmd(X, X, bandwidth=1.0), ValueError, r"None with 'cubic', got kernel='cubic', bandwidth=1.0"),
        (lambda: kernel_distance(X, X[:9], subset_size=10), ValueError, r"subset_size must lie in 2\.\.9.*got 10"),
        (lambda: kernel_distance(X, X, subset_size=1), ValueError, r"subset_size must lie in 2\.\.40.*got 1"),
        (lambda: kernel_distance(X, X, num_subsets=0), ValueError, r"num_subsets must be at least 1, got 0"),
        (lambda: bootstrap_interval(torch.mean, X, level=1.0), ValueError, r"level must lie in \(0, 1\), got 1\.0"),
        (lambda: bootstrap_interval(torch.mean), ValueError, r"at least one set.*got none"),
        (lambda: bootstrap_interval(torch.mean, X, method="normal"), ValueError, r"method must be one of 'basic', 'percentile'"),
        (lambda: bootstrap_interval(torch.mean, X, num_resamples=2.5), TypeError, r"num_resamples must be an int"),
        (lambda: bootstrap_interval(torch.mean, [1.0, 2.0]), TypeError, r"set 0 must be a torch\.Tensor, got list"),
        (lambda: bootstrap_interval(lambda x: x, X), ValueError, r"statistic must return one number, got shape \(40, 2\)"),
        (lambda: bootstrap_interval(lambda x: frechet_infinity(x, x), X + normal(40, 2)), ValueError, r"got FrechetFit.*\.value"),
        (lambda: extract_features(torch.sin, X, batch_size=0), ValueError, r"batch_size must be at least 1"),
        (lambda: extract_features(torch.sin, X.long()), TypeError, r"images must have a floating dtype"),
        (lambda: extract_features(torch.sum, X), ValueError, r"one row for each image, \(40, D\), got shape \(\)"),
        (lambda: extract_features(lambda x: x[:3], X), ValueError, r"one row for each image, \(40, D\), got shape \(3, 2\)"),
        (lambda: extract_features(lambda x: "no", X), ValueError, r"got str 'no'"),
    ],
)
def test_refused_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- features ---------------------------------------------------------------------------------------------------------------
def test_features_of_the_shipped_classifier():
    classifier, images = load_pretrained("digit_classifier"), load_dataset("digits", size=16).images[:70]
    expected = classifier.features(images).detach()
    for model in (classifier, classifier.features, lambda x: classifier.features(x)):
        for batch_size in (7, 70, 256):
            found = extract_features(model, images, batch_size=batch_size)
            assert found.shape == (70, 64)
            assert not found.requires_grad
            assert_near(found, expected, 1e-5)
    assert not classifier.training
    assert extract_features(classifier.head, expected).shape == (70, 10)  # a module without `features` is called
    assert extract_features(classifier, images.double()).dtype == torch.float32  # the module's own dtype
    every = load_dataset("digits", size=16).images
    real, mirrored = extract_features(classifier, every), extract_features(classifier, every.flip(3))
    assert frechet_distance(real, mirrored) > 3 * frechet_distance(real[::2], real[1::2])  # mirrored digits are no digits


def test_features_leave_the_module_and_the_images_alone():
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5), torch.nn.Sequential(torch.nn.Linear(4, 6)))
    module[2].eval()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    x = normal(9, 4, dtype=torch.float32)
    a, b = unchanged(extract_features, module, x), extract_features(module, x, batch_size=2)
    assert_near(a, b, 1e-6)  # in training mode batch statistics and dropout would make them differ
    assert module.training
    assert module[0].training
    assert not module[2].training
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())

    def fails(x):
        raise RuntimeError("inside")

    module.register_forward_pre_hook(lambda *_: fails(x))
    with pytest.raises(RuntimeError, match="inside"):
        extract_features(module, x)
    assert module.training


def test_features_are_flattened_in_order():
    x = normal(5, 2, 3, 4)
    assert torch.equal(extract_features(lambda y: y, x, batch_size=2), x.flatten(1))


# --- bootstrap --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["basic", "percentile"])
def test_coverage_of_a_known_mean(method):
    """At 95 % and n = 40 the theory of the mean's bootstrap expects 93-94 %; 400 trials measure it to about 1.2 %."""
    hits, trials, g = 0, 400, seeded(0)
    for i in range(trials):
        x = normal(40, seed=i) * 2 + 3
        interval = bootstrap_interval(torch.mean, x, num_resamples=100, method=method, generator=g)
        hits += interval.low <= 3 <= interval.high
        assert interval.low <= interval.value <= interval.high
    assert 0.89 <= hits / trials <= 0.97


def test_intervals_against_scipy():
    x = normal(60, seed=3).exp()  # skewed, so that the two methods differ
    for method in ("basic", "percentile"):
        ours = bootstrap_interval(torch.mean, x, num_resamples=4000, level=0.9, method=method, generator=seeded())
        theirs = bootstrap(
            (x.numpy(),), np.mean, n_resamples=4000, confidence_level=0.9, method=method, rng=np.random.default_rng(0)
        ).confidence_interval
        width = theirs.high - theirs.low
        assert ours.value == pytest.approx(x.mean().item())
        assert abs(ours.low - theirs.low) < 0.06 * width
        assert abs(ours.high - theirs.high) < 0.06 * width
    assert theirs.high - ours.value > 1.1 * (ours.value - theirs.low)


def test_two_sets_are_resampled_apart_and_the_level_sets_the_width():
    a, b = normal(200, 3, seed=1), 1 + normal(100, 3, seed=2)
    seen = []

    def gap(x, y):
        seen.append((len(x), len(y), len(x.unique(dim=0)), torch.equal(x[:100], y)))
        return (y.mean() - x.mean()).item()

    wide = unchanged(bootstrap_interval, gap, a, b, num_resamples=300, level=0.99, generator=seeded())
    narrow = bootstrap_interval(gap, a, b, num_resamples=300, level=0.5, generator=seeded())
    expected = math.sqrt(1 / 600 + 1 / 300)
    assert wide.high - wide.low == pytest.approx(2 * 2.576 * expected, rel=0.3)
    assert narrow.high - narrow.low == pytest.approx(2 * 0.674 * expected, rel=0.3)
    assert {s[:2] for s in seen} == {(200, 100)}
    assert seen[0][2] == 200
    assert 100 < seen[1][2] < 150


def test_what_the_bootstrap_does_to_a_biased_statistic():
    """The Frechet distance is biased once more in a resample: "percentile" leaves the true value out, "basic" takes it in."""
    basic = percentile = 0
    for i in range(20):
        a, b = gaussian_features(300, 1000 + 2 * i)
        for method in ("basic", "percentile"):
            interval = bootstrap_interval(frechet_distance, a, b, num_resamples=60, method=method, generator=seeded(i))
            inside = interval.low <= TRUE <= interval.high
            basic, percentile = basic + (inside and method == "basic"), percentile + (inside and method == "percentile")
    assert basic >= 16
    assert percentile <= basic - 6


def test_one_resample_and_one_sample():
    assert bootstrap_interval(torch.mean, torch.tensor([2.0]), num_resamples=1) == (2.0, 2.0, 2.0)


def test_a_share_that_leaves_one_sample_is_refused_with_its_reason():
    a, b = torch.randn(98, 2, generator=torch.Generator().manual_seed(0)), torch.randn(4, 2, generator=torch.Generator().manual_seed(1))
    with pytest.raises(ValueError, match="Take more samples"):
        frechet_infinity(a, b, num_sizes=3, min_size=49)
