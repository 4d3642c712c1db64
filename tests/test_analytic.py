import math

import pytest
import torch
from helpers import TYPES, assert_near, every_prediction, normal, unchanged
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from diffusion_course import (
    GaussianMixture,
    convert_prediction,
    make_generator,
    make_schedule,
    mixture,
    q_sample,
)

F64 = torch.float64
LEVELS = (1.0, 0.9999, 0.7, 0.2, 0.0)


def f64(values):
    return torch.tensor(values, dtype=F64)


LINE = GaussianMixture(f64([0.2, 0.5, 0.3]), f64([[-1.5], [0.2], [1.0]]), f64([[[0.04]], [[0.3]], [[0.01]]]))
PLANE = GaussianMixture(
    f64([0.6, 0.4]), f64([[-0.8, 0.3], [0.9, -0.5]]), f64([[[0.3, 0.2], [0.2, 0.25]], [[0.1, -0.05], [-0.05, 0.4]]])
)
_turn = torch.linalg.qr(normal(3, 3, seed=9))[0]  # axes that are no symmetric matrix, as a 2-D rotation's may be
SPACE = GaussianMixture(
    f64([0.3, 0.7]),
    f64([[0.5, 0.0, -1.0], [-0.4, 0.8, 0.3]]),
    torch.stack([_turn * f64([0.05, 0.4, 1.5]) @ _turn.T, 0.2 * torch.eye(3, dtype=F64)]),
)
any_dimension = pytest.mark.parametrize("data", [LINE, PLANE, SPACE], ids=["1-D", "2-D", "3-D"])
both = pytest.mark.parametrize("data", [LINE, PLANE], ids=["1-D", "2-D"])
every_level = pytest.mark.parametrize("alpha_bar", LEVELS)


def reference(data, alpha_bar):
    """torch.distributions' density of x_t: component k is N(sqrt(abar) m_k, abar S_k + (1 - abar) I)."""
    covariances = alpha_bar * data.covariances + (1 - alpha_bar) * torch.eye(data.dim, dtype=F64)
    return MixtureSameFamily(Categorical(data.weights), MultivariateNormal(math.sqrt(alpha_bar) * data.means, covariances))


def grid_of(data, half=5.0, n=401):
    """Points (n^D, D) of a square grid, and the volume of one cell."""
    axis = torch.linspace(-half, half, n, dtype=F64)
    return torch.cartesian_prod(*[axis] * data.dim).reshape(-1, data.dim), (axis[1] - axis[0]).item() ** data.dim


@every_level
@any_dimension
def test_density_score_and_responsibilities_at_every_level(data, alpha_bar):
    x = 1.5 * normal(40, data.dim, seed=1)
    known = reference(data, alpha_bar)
    joint = known.component_distribution.log_prob(x[:, None]) + data.weights.log()
    point = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(data.log_prob(point, alpha_bar).sum(), point)
    for mix, level in (
        (data, alpha_bar),
        (data, f64(alpha_bar)),
        (data, torch.full((40,), alpha_bar, dtype=F64)),
        (data.at(alpha_bar), 1.0),
    ):
        assert_near(unchanged(mix.log_prob, x, level), known.log_prob(x), 1e-9)
        assert_near(mix.responsibilities(x, level), joint.softmax(1), 1e-9)
        assert_near(unchanged(mix.score, x, level), gradient, 1e-8)
    h = 1e-5
    for axis in torch.eye(data.dim, dtype=F64):
        finite = (known.log_prob(x + h * axis) - known.log_prob(x - h * axis)) / (2 * h)
        assert_near(data.score(x, alpha_bar) @ axis, finite, 1e-5)


@pytest.mark.parametrize("alpha_bar", [1.0, 0.7, 0.0])
@both
def test_density_integrates_to_one_with_the_right_moments(data, alpha_bar):
    points, cell = grid_of(data, half=8.0, n=601)
    density = data.log_prob(points, alpha_bar).exp() * cell
    mean = (data.weights[:, None] * data.means).sum(0)
    second = torch.einsum("k,kde->de", data.weights, data.covariances + data.means[:, :, None] * data.means[:, None, :])
    assert_near(density.sum(), f64(1.0), 1e-6)
    assert_near(density @ points, math.sqrt(alpha_bar) * mean, 1e-6)
    assert_near(
        points.T @ (density[:, None] * points), alpha_bar * second + (1 - alpha_bar) * torch.eye(data.dim, dtype=F64), 1e-5
    )


@pytest.mark.parametrize("alpha_bar", [0.95, 0.5, 0.05])
def test_marginal_is_the_convolution_with_the_forward_kernel(alpha_bar):
    """p(x_t) = integral of p(x_0) N(x_t; sqrt(abar) x_0, 1 - abar), summed on a grid."""
    x0, cell = grid_of(LINE, n=4001)
    xt = torch.linspace(-3, 3, 31, dtype=F64)
    kernel = (-((xt[:, None] - math.sqrt(alpha_bar) * x0[:, 0]) ** 2) / (2 * (1 - alpha_bar))).exp() / math.sqrt(
        2 * math.pi * (1 - alpha_bar)
    )
    assert_near(LINE.at(alpha_bar).log_prob(xt[:, None]).exp(), kernel @ LINE.log_prob(x0).exp() * cell, 1e-9)


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("alpha_bar", [0.9, 0.5, 0.05])
@both
def test_posterior_is_bayes_rule_on_a_grid(data, alpha_bar, n):
    x0, _ = grid_of(data, n=4001 if data.dim == 1 else 501)
    xt = normal(n, data.dim, seed=2)
    distance = ((xt[:, None] - math.sqrt(alpha_bar) * x0) ** 2).sum(-1)
    weights = (reference(data, 1.0).log_prob(x0) - distance / (2 * (1 - alpha_bar))).softmax(1)
    mean = weights @ x0
    second = torch.einsum("ng,gd,ge->nde", weights, x0, x0)
    assert_near(unchanged(data.posterior_mean, xt, alpha_bar), mean, 1e-6)
    assert_near(unchanged(data.posterior_covariance, xt, alpha_bar), second - mean[:, :, None] * mean[:, None, :], 1e-6)
    noise = (xt - math.sqrt(alpha_bar) * mean) / math.sqrt(1 - alpha_bar)
    assert_near(unchanged(data.noise_prediction, xt, alpha_bar), noise, 1e-5)


@pytest.mark.parametrize("alpha_bar", LEVELS[1:])
@any_dimension
def test_tweedie(data, alpha_bar):
    """sqrt(abar) E[x_0|x_t] = x_t + (1 - abar) score, and its second-order form for the covariance."""
    x = normal(9, data.dim, seed=3)
    assert_near(math.sqrt(alpha_bar) * data.posterior_mean(x, alpha_bar), x + (1 - alpha_bar) * data.score(x, alpha_bar), 1e-9)
    jacobian = torch.autograd.functional.jacobian(lambda y: data.score(y, alpha_bar).sum(0), x).permute(1, 0, 2)
    eye = torch.eye(data.dim, dtype=F64)
    assert_near(alpha_bar * data.posterior_covariance(x, alpha_bar), (1 - alpha_bar) * (eye + (1 - alpha_bar) * jacobian), 1e-9)


@any_dimension
def test_both_ends(data):
    x = normal(6, data.dim, seed=4)
    mean = (data.weights[:, None] * data.means).sum(0)
    centred = data.means - mean
    covariance = torch.einsum("k,kde->de", data.weights, data.covariances + centred[:, :, None] * centred[:, None, :])
    assert_near(data.posterior_mean(x, 0.0), mean.expand(6, -1))
    assert_near(data.posterior_covariance(x, 0.0), covariance.expand(6, -1, -1))
    assert_near(data.noise_prediction(x, 0.0), x)
    assert_near(data.posterior_mean(x, 1.0), x)
    assert data.posterior_covariance(x, 1.0).abs().max() < 1e-15 and (data.noise_prediction(x, 1.0) == 0).all()


def test_each_point_may_be_at_its_own_level():
    x, levels = normal(5, 2, seed=5), f64([0.9, 0.5, 0.3, 0.01, 0.0])
    for method in (
        PLANE.log_prob,
        PLANE.score,
        PLANE.posterior_mean,
        PLANE.posterior_covariance,
        PLANE.noise_prediction,
        PLANE.responsibilities,
    ):
        whole = method(x, levels)
        for i, level in enumerate(levels.tolist()):
            assert_near(whole[i], method(x[i : i + 1], level)[0], 1e-12)


@pytest.mark.parametrize("alpha_bar", [1.0, 0.3])
@any_dimension
def test_sampled_moments(data, alpha_bar):
    """Means and covariances of 40,000 draws, each within five of its own standard errors; also through q_sample."""
    n, table = 40_000, f64([alpha_bar])
    draws = data.at(alpha_bar).sample(n, generator=torch.Generator().manual_seed(1))
    noised = q_sample(
        data.sample(n, generator=torch.Generator().manual_seed(2)),
        torch.zeros(n, dtype=torch.long),
        table,
        generator=torch.Generator().manual_seed(3),
    )
    mean = math.sqrt(alpha_bar) * (data.weights[:, None] * data.means).sum(0)
    centred = math.sqrt(alpha_bar) * data.means - mean
    within = alpha_bar * data.covariances + (1 - alpha_bar) * torch.eye(data.dim, dtype=F64)
    covariance = torch.einsum("k,kde->de", data.weights, within + centred[:, :, None] * centred[:, None, :])
    for x in (draws, noised):
        assert x.shape == (n, data.dim) and x.dtype == F64
        assert ((x.mean(0) - mean).abs() < 5 * x.std(0) / math.sqrt(n)).all()
        product = (x - mean)[:, :, None] * (x - mean)[:, None, :]
        assert ((product.mean(0) - covariance).abs() < 5 * product.std(0) / math.sqrt(n)).all()
    again = data.at(alpha_bar).sample(n, generator=torch.Generator().manual_seed(1))
    assert torch.equal(draws, again) and not torch.equal(
        draws, data.at(alpha_bar).sample(n, generator=torch.Generator().manual_seed(4))
    )


def test_data_on_a_line_and_on_points_is_allowed():
    flat = GaussianMixture(
        f64([0.5, 0.5]), f64([[0.0, 1.0], [2.0, 1.0]]), f64([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    )
    x = flat.sample(500, generator=torch.Generator().manual_seed(0))
    assert_near(x[:, 1], torch.ones(500, dtype=F64))
    assert torch.isfinite(flat.score(normal(5, 2), 0.5)).all()


@pytest.mark.parametrize("prediction_type", TYPES)
def test_exact_network_is_the_conditional_mean_of_each_type(prediction_type):
    schedule, t, xt = make_schedule("linear", 50), torch.tensor([0, 10, 30, 49]), normal(4, 2, seed=6)
    table, model = schedule.alphas_cumprod, PLANE.model(schedule.alphas_cumprod, prediction_type)
    x0, noise = PLANE.posterior_mean(xt, table[t]), PLANE.noise_prediction(xt, table[t])
    assert_near(model(xt, t), every_prediction(x0, noise, table[t][:, None])[prediction_type], 1e-10)
    assert_near(model(xt, t, None), convert_prediction(noise, xt, t, table, source="epsilon", target=prediction_type), 1e-10)
    assert_near(PLANE.model(table)(xt, t), noise, 1e-12)


@pytest.mark.parametrize("prediction_type", TYPES)
def test_exact_network_of_labelled_data_is_that_of_each_class_alone(prediction_type):
    """Row by row against the mixture that keeps one class's components, and against all of them for "no class"."""
    table, labels = make_schedule("linear", 50).alphas_cumprod, [1, 0, 1]
    weights, means = f64([0.2, 0.5, 0.3]), f64([[0.5, -1.0], [0.2, 1.0], [-1.0, 0.1]])
    covariances = torch.cat([PLANE.covariances, PLANE.covariances[:1]])
    data = GaussianMixture(weights, means, covariances)
    alone = {c: [k for k, label in enumerate(labels) if label == c] for c in (0, 1)} | {2: [0, 1, 2]}
    parts = {c: GaussianMixture(weights[k] / weights[k].sum(), means[k], covariances[k]) for c, k in alone.items()}
    model, xt = data.conditional_model(table, labels, prediction_type), normal(6, 2, seed=7)
    t, cond = torch.tensor([0, 10, 30, 49, 20, 5]), torch.tensor([0, 1, 2, 1, 0, 2])
    found = model(xt, t, cond)
    for i, c in enumerate(cond.tolist()):
        assert_near(found[i], parts[c].model(table, prediction_type)(xt[i : i + 1], t[i : i + 1])[0], 1e-12)
    assert model.null_class == 2 and torch.equal(data.weights, weights)
    assert torch.equal(unchanged(model, xt, t, torch.full((6,), 2)), data.model(table, prediction_type)(xt, t))
    moved = (found[:2] - model(xt[:2], t[:2], torch.tensor([1, 0]))).abs().amax(1)
    assert (moved > 1e-6).all()


def test_average_over_classes_is_the_network_without_labels():
    """E[noise | x_t] = sum_c p(c | x_t) E[noise | x_t, c], at several noise levels, also where a class is far away."""
    table, labels = make_schedule("cosine", 20).alphas_cumprod, [0, 1, 1]
    data = GaussianMixture(f64([0.2, 0.5, 0.3]), f64([[-30.0], [0.2], [1.0]]), LINE.covariances)
    model, xt = data.conditional_model(table, labels), normal(8, 1, seed=3)
    for index in (0, 10, 19):
        t = torch.full((8,), index)
        shares = data.responsibilities(xt, table[index].item()) @ torch.eye(2, dtype=F64)[labels]
        per_class = torch.stack([model(xt, t, torch.full((8,), c)) for c in (0, 1)], 1)
        assert_near((shares[:, :, None] * per_class).sum(1), data.model(table)(xt, t), 1e-9)


def test_best_loss_of_one_gaussian_in_closed_form():
    """Var[noise | x_t] = abar s^2 / (abar s^2 + 1 - abar) along an axis of variance s^2, whatever x_t is."""
    data, table = GaussianMixture(f64([1.0]), f64([[3.0, 1.0]]), f64([[[0.5, 0.0], [0.0, 2.0]]])), make_schedule().alphas_cumprod
    for t in (0, 300, 999):
        bar = table[t].item()
        expected = sum(bar * s / (bar * s + 1 - bar) for s in (0.5, 2.0)) / 2
        assert data.best_loss(t, table, num_samples=10) == pytest.approx(expected, rel=1e-9)


def test_best_loss_is_the_loss_of_the_exact_network_and_no_more():
    table, n = make_schedule("cosine", 100).alphas_cumprod, 20_000
    for index in (3, 40, 90):
        t = torch.full((n,), index)
        noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(1), dtype=F64)
        xt = q_sample(PLANE.sample(n, generator=torch.Generator().manual_seed(2)), t, table, noise)
        error = ((PLANE.model(table)(xt, t) - noise) ** 2).mean(1)
        best = PLANE.best_loss(index, table, num_samples=n, generator=torch.Generator().manual_seed(3))
        assert abs(error.mean().item() - best) < 5 * error.std().item() / math.sqrt(n)
        worse = ((1.05 * PLANE.model(table)(xt, t) + 0.05 - noise) ** 2).mean().item()
        assert worse > error.mean().item()
        assert best == PLANE.best_loss(index, table, num_samples=n, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_to_another_dtype(dtype):
    moved, x = PLANE.to("cpu", dtype), normal(5, 2, dtype=dtype)
    assert {t.dtype for t in (moved.weights, moved.means, moved.covariances, moved.score(x, 0.3), moved.sample(2))} == {dtype}
    assert_near(moved.score(x, 0.3), PLANE.score(x.double(), 0.3), 200 * torch.finfo(dtype).eps)
    assert PLANE.means.dtype == F64 and (PLANE.dim, LINE.dim) == (2, 1)


W, M, S, X = f64([0.5, 0.5]), f64([[0.0, 0.0], [1.0, 1.0]]), torch.eye(2, dtype=F64).expand(2, 2, 2), normal(4, 2)
PAIR = GaussianMixture(W, M, S)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: GaussianMixture([0.5, 0.5], M, S), TypeError, r"weights must be a torch\.Tensor, got list"),
        (lambda: GaussianMixture(W, M.long(), S), TypeError, r"means must have a floating dtype"),
        (lambda: GaussianMixture(W, M, S[0]), ValueError, r"weights \(K,\), means \(K, D\) and covariances \(K, D, D\), got shape \(2,\)"),
        (lambda: GaussianMixture(W[:1], M, S), ValueError, r"a mixture needs weights"),
        (lambda: GaussianMixture(W, M[0], S), ValueError, r"a mixture needs weights"),
        (lambda: GaussianMixture(W[:0], M[:0], S[:0]), ValueError, r"a mixture needs weights"),
        (lambda: GaussianMixture(f64([0.5, 0.6]), M, S), ValueError, r"weights must be positive and sum to 1, got \[0\.5, 0\.6\]"),
        (lambda: GaussianMixture(f64([1.5, -0.5]), M, S), ValueError, r"weights must be positive and sum to 1"),
        (lambda: GaussianMixture(W, M, S + f64([[0.0, 0.5], [0.0, 0.0]])), ValueError, r"covariances must be symmetric"),
        (lambda: GaussianMixture(W, M, -S), ValueError, r"must not have a negative eigenvalue, got -1\.0"),
        (lambda: GaussianMixture(W, M.float(), S), (ValueError, TypeError), r"means.*float32"),
        (lambda: GaussianMixture(W, M.to("meta"), S), ValueError, r"means.*meta"),
        (lambda: PAIR.score(X[:, :1], 0.5), ValueError, r"xt must hold points of shape \(N, 2\), got shape \(4, 1\)"),
        (lambda: PAIR.log_prob(X[0]), ValueError, r"x must hold points of shape \(N, 2\), got shape \(2,\)"),
        (lambda: PAIR.log_prob(X.tolist()), TypeError, r"x must be a torch\.Tensor, got list"),
        (lambda: PAIR.score(X.float(), 0.5), ValueError, r"xt and the mixture differ: got shape \(4, 2\), float32.*mixture\.to"),
        (lambda: PAIR.posterior_mean(X.to("meta"), 0.5), ValueError, r"xt and the mixture differ: got .* on meta"),
        (lambda: PAIR.score(X, 1.5), ValueError, r"alpha_bar must lie in \[0, 1\], got values from 1\.5"),
        (lambda: PAIR.score(X, float("nan")), ValueError, r"alpha_bar must be a number, got float nan"),
        (lambda: PAIR.score(X, f64([0.1, 0.2])), ValueError, r"alpha_bar must be one number or one for each sample of xt, got shape \(2,\)"),
        (lambda: PAIR.at(-0.1), ValueError, r"alpha_bar must lie in \[0, 1\], got -0\.1"),
        (lambda: PAIR.best_loss(7, f64([0.5])), ValueError, r"t must lie in 0\.\.0, got 7"),
        (lambda: PAIR.best_loss(-1, f64([0.5])), ValueError, r"t must lie in 0\.\.0, got -1"),
        (lambda: PAIR.model(f64([0.5]), "eps")(X, torch.zeros(4, dtype=torch.long)), ValueError, r"prediction_type must be one of"),
    ],
)
def test_refused_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("name", ["pair", "ring", "grid", "moons"])
def test_named_mixtures(name):
    data = mixture(name)
    x = data.sample(4000, generator=torch.Generator().manual_seed(0))
    assert data.dim == 2 and data.means.dtype == F64 and x.abs().max() < 3 and (x.abs() < 2.1).double().mean() > 0.98
    points, cell = grid_of(data, half=3.5, n=301)
    assert_near((data.log_prob(points).exp() * cell).sum(), f64(1.0), 1e-4)
    assert len(data.weights) == {"pair": 2, "ring": 8, "grid": 9, "moons": 12}[name]
    assert f"{len(data.weights)} components, 2-D" in repr(data)


ZEROS = torch.zeros(2, dtype=torch.long)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, c: m.at(torch.tensor(0.5)), TypeError, r"alpha_bar must be a number, got shape \(\).*Read it: alpha_bar\.item\(\)"),
        (lambda m, c: m.sample(0), ValueError, "n must be at least 1, got 0"),
        (lambda m, c: m.best_loss(1.5, c), TypeError, r"t must be an int, got float 1\.5"),
        (lambda m, c: m.model(c, "eps"), ValueError, "prediction_type must be one of .*got 'eps'"),
        (lambda m, c: m.model(c)(m.sample(2), torch.tensor([0, 9])), ValueError, r"t must lie in 0\.\.4 .*from 0 to 9"),
        (lambda m, c: m.model(c)(m.sample(2), torch.tensor([-1, 0])), ValueError, r"t must lie in 0\.\.4 .*from -1 to 0"),
        (lambda m, c: m.conditional_model(c, [0]), ValueError, r"a class 0\.\.C-1 for each of the 2 components.*got \[0\]"),
        (lambda m, c: m.conditional_model(c, [0, 2]), ValueError, r"every class at least once, got \[0, 2\]"),
        (lambda m, c: m.conditional_model(c, torch.tensor([1, 2])), ValueError, r"every class at least once, got \[1, 2\]"),
        (lambda m, c: m.conditional_model(c, [0, 1], "eps"), ValueError, "prediction_type must be one of .*got 'eps'"),
        (lambda m, c: m.conditional_model(c, [0, 1])(m.sample(2), ZEROS, torch.tensor([0, 3])), ValueError, r"cond must hold classes 0\.\.1, or 2 for no class, got values from 0 to 3"),
        (lambda m, c: m.conditional_model(c, [0, 1])(m.sample(2), ZEROS, ZEROS.float()), TypeError, r"cond must hold classes as int64"),
        (lambda m, c: m.conditional_model(c, [0, 1])(m.sample(2), ZEROS, None), ValueError, r"cond must have one entry for each sample of xt, \(2,\), got NoneType"),
    ],
)
def test_arguments_that_are_refused_by_the_exact_network(call, error, message):
    with pytest.raises(error, match=message):
        call(mixture("pair"), make_schedule("linear", 5).alphas_cumprod)


FLAT = GaussianMixture(  # one component on a line, one on the whole plane
    torch.tensor([0.5, 0.5], dtype=torch.float64), torch.tensor([[0.0, 0.0], [3.0, 1.0]], dtype=torch.float64),
    torch.stack([torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64)), torch.eye(2, dtype=torch.float64)]),
)


@pytest.mark.parametrize("name", ["log_prob", "score", "responsibilities", "noise_prediction"])
def test_a_component_on_a_line_has_no_density_without_noise(name):
    x = FLAT.sample(5, generator=make_generator(0))
    with pytest.raises(ValueError, match=r"no density, and no score, at alpha_bar = 1: .*eigenvalue 0 \(got alpha_bar 1\.0\)"):
        getattr(FLAT, name)(x, 1.0)
    assert getattr(FLAT, name)(x, 1 - 1e-6).isfinite().all()


def test_without_noise_x0_is_what_is_seen_also_on_a_line():
    x = torch.cat([FLAT.sample(5, generator=make_generator(0)), torch.tensor([[0.3, 0.7]], dtype=torch.float64)])
    assert torch.equal(FLAT.posterior_mean(x, 1.0), x)
    assert torch.equal(FLAT.posterior_covariance(x, 1.0), torch.zeros(6, 2, 2, dtype=torch.float64))
    near = FLAT.sample(50, generator=make_generator(1))
    torch.testing.assert_close(FLAT.posterior_mean(near, 1 - 1e-10), near, rtol=0, atol=1e-4)  # the limit on the mixture's own points
    levels = torch.tensor([1.0, 0.5, 1.0, 0.9, 0.1, 1.0], dtype=torch.float64)
    mixed = FLAT.posterior_mean(x, levels)
    assert torch.equal(mixed[levels == 1], x[levels == 1]) and mixed.isfinite().all()
    torch.testing.assert_close(mixed[1:2], FLAT.posterior_mean(x[1:2], 0.5))
