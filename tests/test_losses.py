import math

import pytest
import torch
from helpers import (
    DTYPES,
    SHAPES,
    TYPES,
    assert_near,
    column,
    every_prediction,
    normal,
    unchanged,
    wavy_network,
)
from numpy.polynomial.hermite_e import hermegauss
from scipy.special import log_ndtr
from torch.distributions import Normal, kl_divergence

from diffusion_course import (
    GaussianMixture,
    bits_per_dim,
    convert_prediction,
    diffusion_loss,
    elbo_terms,
    gaussian_kl,
    loss_weight,
    make_schedule,
    prediction_target,
    q_posterior,
    q_sample,
    to_x0_and_noise,
)
from diffusion_course.process import kernels as process

SHORT = make_schedule("linear", 7, beta_start=0.05, beta_end=0.5)
BAR, T = SHORT.alphas_cumprod, torch.arange(7)
VARIANCES = ("fixed_small", "fixed_large")


def network(prediction_type, source="v_prediction", table=BAR):
    """One network, its output rewritten as another prediction type."""

    def model(xt, t, cond=None):
        return convert_prediction(wavy_network(xt, t), xt, t, table, source=source, target=prediction_type)

    return model


# --- targets and weights ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("prediction_type", TYPES)
@pytest.mark.parametrize("shape", [(7,), (7, 3), (7, 1, 2), (7, 2, 3, 3)])
def test_targets_from_their_definitions(shape, prediction_type, dtype):
    x0, noise = normal(*shape, seed=1).to(dtype), normal(*shape, seed=2).to(dtype)
    target = unchanged(prediction_target, x0, noise, T, BAR, prediction_type)
    assert target.dtype == dtype
    expected = every_prediction(x0.double(), noise.double(), column(BAR, len(shape)))[prediction_type]
    assert_near(target, expected, 1e-12 if dtype == torch.float64 else 20 * torch.finfo(dtype).eps)


def test_simple_weight_is_one_and_the_default():
    for prediction_type in TYPES:
        assert torch.equal(loss_weight(T, BAR, prediction_type=prediction_type), torch.ones(7, dtype=torch.float64))


@pytest.mark.parametrize("gamma", [0.5, 5.0])
def test_min_snr_weights_by_hand(gamma):
    for prediction_type, found in ((p, loss_weight(T, BAR, prediction_type=p, weighting="min_snr", gamma=gamma)) for p in TYPES):
        for bar, weight in zip(BAR.tolist(), found.tolist(), strict=True):
            snr = bar / (1 - bar)
            kept = min(snr, gamma)
            by_hand = {"sample": kept, "epsilon": kept / snr, "v_prediction": kept / (snr + 1), "score": kept * (1 - bar) / snr}
            by_hand["velocity"] = kept / (1 + math.sqrt(snr)) ** 2  # x0's error is t times that of the velocity, 1 / t - 1 = sqrt(snr)
            assert weight == pytest.approx(by_hand[prediction_type], rel=1e-12)


def test_min_snr_weights_stay_finite_at_zero_terminal_snr():
    table = make_schedule("linear", 5, zero_terminal_snr=True).alphas_cumprod
    last = {p: loss_weight(torch.tensor([4]), table, prediction_type=p, weighting="min_snr").item() for p in TYPES}
    assert last == {"epsilon": 1.0, "sample": 0.0, "v_prediction": 0.0, "score": 1.0, "velocity": 0.0}


@pytest.mark.parametrize("variance_type", VARIANCES)
@pytest.mark.parametrize("prediction_type", TYPES)
@pytest.mark.parametrize("zero", [False, True])
def test_elbo_weight_turns_squared_error_into_the_bound(prediction_type, variance_type, zero):
    """weight * |error|^2 is the part of KL(q(x_{t-1}|x_t,x_0) || p(x_{t-1}|x_t)) that depends on the network, for any wrong output;
    at index 0 it is that part of -log N(x_0; x0_pred, beta_1)."""
    table = make_schedule("linear", 7, beta_start=0.05, beta_end=0.5, zero_terminal_snr=zero).alphas_cumprod
    t = T[:-1] if zero and prediction_type in ("epsilon", "score") else T  # those two say nothing about x0 at abar = 0
    x0, noise, wrong = (normal(len(t), 3, seed=s) for s in (1, 2, 3))
    xt = q_sample(x0, t, table, noise)
    target = prediction_target(x0, noise, t, table, prediction_type)
    weight = loss_weight(t, table, prediction_type=prediction_type, weighting="elbo", variance_type=variance_type)
    weighted = weight * ((wrong - target) ** 2).sum(1)
    x0_pred = to_x0_and_noise(wrong, xt, table[t], prediction_type)[0]
    true, guess = q_posterior(x0, xt, t, table), q_posterior(x0_pred, xt, t, table)
    beta = (1 - table / torch.cat([torch.ones(1, dtype=torch.float64), table[:-1]]))[t, None]
    variance = true.variance if variance_type == "fixed_small" else beta
    bound = ((true.mean - guess.mean) ** 2 / (2 * variance)).sum(1)
    bound[0] = ((x0[0] - x0_pred[0]) ** 2 / (2 * beta[0])).sum()
    assert_near(weighted / bound, torch.ones_like(bound), 1e-9)


def test_elbo_weights_that_are_published():
    """beta^2 / (2 sigma^2 alpha (1 - abar)) of linear-1000 with sigma^2 = beta: 0.50 at the first step, 0.010 at the last."""
    weight = loss_weight(torch.tensor([0, 999]), make_schedule().alphas_cumprod, weighting="elbo", variance_type="fixed_large")
    assert weight.tolist() == pytest.approx([1 / (2 * (1 - 1e-4)), 0.02 / (2 * 0.98)], rel=1e-3)


@pytest.mark.parametrize("weighting", ["min_snr", "elbo"])
def test_weighted_loss_does_not_depend_on_how_the_prediction_is_named(weighting):
    x0, noise = normal(7, 3, seed=1), normal(7, 3, seed=2)
    losses = [diffusion_loss(network(p), x0, BAR, t=T, noise=noise, prediction_type=p, weighting=weighting) for p in TYPES]
    assert losses[0].item() > 0.01
    assert_near(torch.stack(losses), losses[0].expand(len(TYPES)), 1e-12)


# --- the training loss -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_loss_by_hand_for_any_rank_and_dtype(shape, dtype):
    x0, noise = normal(*shape, seed=1).to(dtype), normal(*shape, seed=2).to(dtype)
    t = torch.arange(shape[0]) + 2
    loss = unchanged(diffusion_loss, wavy_network, x0, BAR, t=t, noise=noise)
    xt = q_sample(x0, t, BAR, noise)
    expected = torch.nn.functional.mse_loss(wavy_network(xt, t).double(), noise.double())
    assert loss.shape == () and loss.dtype == dtype
    assert loss.item() == pytest.approx(expected.item(), rel=20 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("weighting", ["min_snr", "elbo"])
@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 2, 3, 3)])
def test_weighted_loss_by_hand(shape, weighting):
    x0, noise, t = normal(*shape, seed=1), normal(*shape, seed=2), torch.tensor([0, 2, 3, 5, 6])
    loss = diffusion_loss(wavy_network, x0, BAR, t=t, noise=noise, weighting=weighting, gamma=1.0)
    error = (wavy_network(q_sample(x0, t, BAR, noise), t) - noise).reshape(5, -1) ** 2
    weight = loss_weight(t, BAR, weighting=weighting, gamma=1.0)
    expected = sum(w * e.mean().item() for w, e in zip(weight.tolist(), error, strict=True)) / 5
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_t_is_uniform_over_the_whole_table_and_noise_is_fresh():
    seen = []

    def spy(xt, t):
        seen.append((xt, t))
        return xt

    diffusion_loss(spy, torch.zeros(7000, 2, dtype=torch.float64), BAR, generator=torch.Generator().manual_seed(0))
    xt, t = seen[0]
    counts = torch.bincount(t, minlength=7)
    assert t.dtype == torch.int64 and len(counts) == 7
    assert (counts - 1000).abs().max() < 5 * math.sqrt(1000 * 6 / 7)  # five standard deviations
    noise = xt / (1 - BAR[t]).sqrt()[:, None]
    assert abs(noise.mean().item()) < 5 / math.sqrt(14_000) and abs(noise.var().item() - 1) < 5 * math.sqrt(2 / 14_000)


def test_loss_repeats_with_its_generator_and_only_then():
    x0 = normal(8, 2)
    losses = [diffusion_loss(wavy_network, x0, BAR, generator=torch.Generator().manual_seed(s)).item() for s in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_condition_reaches_the_network_only_if_given():
    x0, cond, got = normal(4, 2), torch.arange(4), []
    diffusion_loss(lambda xt, t, *rest: got.append(rest) or xt, x0, BAR)
    diffusion_loss(lambda xt, t, *rest: got.append(rest) or xt, x0, BAR, cond=cond)
    assert got[0] == () and torch.equal(got[1][0], cond)


@pytest.mark.parametrize("weighting", ["simple", "min_snr", "elbo"])
def test_gradients_reach_the_network(weighting):
    layer = torch.nn.Linear(2, 2, dtype=torch.float64)
    x0, noise = normal(7, 2, seed=1), normal(7, 2, seed=2)
    diffusion_loss(lambda xt, t: layer(xt), x0, BAR, t=T, noise=noise, weighting=weighting).backward()
    weight = loss_weight(T, BAR, weighting=weighting)
    error = layer(q_sample(x0, T, BAR, noise)).detach() - noise
    assert_near(layer.bias.grad, (weight[:, None] * error).sum(0) / 7, 1e-12)  # d/db of mean over 7 x 2 of w (out - noise)^2


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_network_that_computes_in_another_dtype_does_not_change_the_loss(dtype):
    x0 = normal(7, 2, dtype=torch.float32)
    loss = diffusion_loss(lambda xt, t: wavy_network(xt, t).to(dtype), x0, BAR, t=T, noise=x0)
    bound = elbo_terms(lambda xt, t: wavy_network(xt, t).to(dtype), x0, BAR)
    assert loss.dtype == bound.total.dtype == torch.float32


def test_perfect_network_has_no_loss():
    x0, noise = normal(7, 3, seed=1), normal(7, 3, seed=2)
    for prediction_type, output in every_prediction(x0, noise, BAR[:, None]).items():
        loss = diffusion_loss(lambda xt, t, y=output: y, x0, BAR, t=T, noise=noise, prediction_type=prediction_type)
        assert loss.item() < 1e-25


# --- pieces of the bound ---------------------------------------------------------------------------------------------------


def test_gaussian_kl_against_torch_and_broadcasting():
    m1, v1, m2, v2 = normal(5, 3, seed=1), normal(5, 1, seed=2), normal(3, seed=3), normal(1, 3, seed=4)
    expected = kl_divergence(Normal(m1, (v1 / 2).exp().expand(5, 3)), Normal(m2.expand(5, 3), (v2 / 2).exp().expand(5, 3)))
    assert_near(unchanged(gaussian_kl, m1, v1, m2, v2), expected, 1e-12)
    assert (gaussian_kl(m1, v1, m1, v1) == 0).all()


def test_bits_per_dim():
    assert bits_per_dim(torch.tensor([math.log(2) * 12, 0.0]), 4).tolist() == pytest.approx([3.0, 0.0])
    with pytest.raises(ValueError, match="num_dims must be at least 1, got 0"):
        bits_per_dim(torch.ones(1), 0)


def constant(value):
    return lambda xt, t, cond=None: torch.full_like(xt, value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("beta", [1e-4, 0.02, 0.7])
@pytest.mark.parametrize("num_levels", [2, 17, 256])
@pytest.mark.parametrize("centre", [-1.3, -1.0, -0.31, 0.0, 0.4, 1.0])
def test_discrete_decoder_is_a_probability_of_all_levels(centre, num_levels, beta, dtype):
    levels = torch.linspace(-1, 1, num_levels, dtype=torch.float64).to(dtype)[:, None]
    table = torch.tensor([1 - beta], dtype=torch.float64)
    nats = elbo_terms(constant(centre), levels, table, prediction_type="sample", num_levels=num_levels).reconstruction
    assert torch.isfinite(nats).all()
    assert (-nats.double()).exp().sum().item() == pytest.approx(1, abs=1e-10 if dtype == torch.float64 else 2e-4)


def test_discrete_decoder_is_the_gaussian_integrated_over_each_bin():
    levels, std = torch.linspace(-1, 1, 5, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64).sqrt()
    edges = torch.tensor([-math.inf, -0.75, -0.25, 0.25, 0.75, math.inf], dtype=torch.float64)
    expected = Normal(torch.tensor(0.2, dtype=torch.float64), std).cdf(edges).diff()
    found = elbo_terms(
        constant(0.2), levels[:, None], torch.tensor([0.7], dtype=torch.float64), prediction_type="sample", num_levels=5
    )
    assert_near((-found.reconstruction).exp(), expected, 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("distance", [0.0, 0.3, 0.8])
def test_discrete_decoder_far_from_the_truth_is_the_same_on_both_sides(distance, dtype):
    """In the tails the two cumulative probabilities round to one number; their difference must not."""
    x0 = torch.tensor([[distance / 2], [-distance / 2]], dtype=dtype)
    found = elbo_terms(
        lambda xt, t: -x0, x0, torch.tensor([1 - 1e-4], dtype=torch.float64), prediction_type="sample", num_levels=17
    )
    half, std = 1 / 16, math.sqrt(1e-4)
    above, below = log_ndtr((half - distance) / std), log_ndtr((-half - distance) / std)
    expected = -(above + math.log(-math.expm1(below - above)))
    assert found.reconstruction.tolist() == pytest.approx(
        [expected, expected], rel=1e-3 if dtype == torch.float32 else 1e-7, abs=1e-7
    )


# --- the whole bound -------------------------------------------------------------------------------------------------------

NODES = 60


@pytest.fixture
def exact_bound(monkeypatch):
    """Return E[elbo_terms] over the noise of x_t, exactly, for one 1-D point: Gauss-Hermite nodes in place of random numbers."""
    nodes, weights = (torch.tensor(x) for x in hermegauss(NODES))
    weights = weights / weights.sum()
    monkeypatch.setattr(process, "noise_like", lambda x, generator=None: nodes[:, None].to(x.dtype))

    def bound(model, point, table, **kwargs):
        terms = elbo_terms(model, torch.full((NODES, 1), point, dtype=torch.float64), table, **kwargs)
        return {
            "prior": weights @ terms.prior,
            "transitions": weights @ terms.transitions,
            "reconstruction": weights @ terms.reconstruction,
            "total": weights @ terms.total,
        }

    return bound


def gaussian(mean, std):
    return GaussianMixture(*(torch.tensor(x, dtype=torch.float64) for x in ([1.0], [[mean]], [[[std**2]]])))


@pytest.mark.parametrize("n", [1, 2, 7, 50])
@pytest.mark.parametrize("point", [-2.0, 0.3])
def test_bound_is_tight_where_the_reverse_chain_is_exact(exact_bound, point, n):
    """For data N(0, 1) every x_t is N(0, 1) and p(x_{t-1}|x_t) is exactly N(sqrt(alpha) x_t, beta): "fixed_large" loses nothing."""
    table = make_schedule("linear", n, beta_start=0.05, beta_end=0.5).alphas_cumprod
    model = gaussian(0.0, 1.0).model(table)
    bound = exact_bound(model, point, table, variance_type="fixed_large")
    exact = -Normal(0.0, 1.0).log_prob(torch.tensor(point, dtype=torch.float64))
    assert_near(bound["total"], exact, 1e-10)
    if n > 2:
        assert exact_bound(model, point, table, variance_type="fixed_small")["total"] > exact + 0.01


@pytest.mark.parametrize("variance_type", VARIANCES)
@pytest.mark.parametrize("prediction_type", TYPES)
def test_every_term_in_closed_form_for_gaussian_data(exact_bound, prediction_type, variance_type):
    mean, std, point = 0.4, 0.6, -0.7
    found = exact_bound(
        gaussian(mean, std).model(BAR, prediction_type), point, BAR, prediction_type=prediction_type, variance_type=variance_type
    )
    bars = BAR.tolist()
    assert found["prior"].item() == pytest.approx(
        0.5 * (bars[-1] * point**2 + (1 - bars[-1]) - 1 - math.log(1 - bars[-1])), rel=1e-12
    )
    for i, bar in enumerate(bars):
        previous = bars[i - 1] if i else 1.0
        beta = 1 - bar / previous
        gain = std**2 * math.sqrt(bar) / (bar * std**2 + 1 - bar)  # x0_pred = mean + gain (xt - sqrt(bar) mean)
        missed = (1 - gain * math.sqrt(bar)) * (point - mean)
        error = missed**2 + gain**2 * (1 - bar)  # E (x0 - x0_pred)^2 given x0
        if i == 0:
            expected, term = 0.5 * (math.log(2 * math.pi * beta) + error / beta), found["reconstruction"]
        else:
            small = beta * (1 - previous) / (1 - bar)
            variance = small if variance_type == "fixed_small" else beta
            shift = (math.sqrt(previous) * beta / (1 - bar)) ** 2 * error
            expected = 0.5 * (math.log(variance / small) + small / variance - 1 + shift / variance)
            term = found["transitions"][i - 1]
        assert term.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("variance_type", VARIANCES)
@pytest.mark.parametrize("exact_network", [True, False])
def test_bound_is_never_below_the_truth(exact_bound, exact_network, variance_type):
    """-log p(x0) is not the model's density, so this is checked where it must hold: on average over the data (Gibbs)."""
    one = torch.tensor
    data = GaussianMixture(
        one([0.3, 0.7], dtype=torch.float64),
        one([[-1.0], [0.8]], dtype=torch.float64),
        one([[[0.1]], [[0.3]]], dtype=torch.float64),
    )
    grid = torch.linspace(-4, 4, 41, dtype=torch.float64)
    density = data.log_prob(grid[:, None]).exp()
    model = data.model(BAR) if exact_network else network("epsilon")
    bound = torch.stack([exact_bound(model, x, BAR, variance_type=variance_type)["total"] for x in grid.tolist()])
    step = grid[1] - grid[0]
    average, entropy = (density * bound).sum() * step, -(density * density.log()).sum() * step
    assert average > entropy
    if exact_network and variance_type == "fixed_large":
        assert average - entropy < 0.5


@pytest.mark.parametrize("prediction_type", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_bound_for_any_rank_and_type(shape, prediction_type):
    x0 = normal(*shape, seed=1)
    draw = [
        elbo_terms(network(p), x0, BAR, prediction_type=p, generator=torch.Generator().manual_seed(0))
        for p in ("epsilon", prediction_type)
    ]
    assert draw[0].prior.shape == draw[0].reconstruction.shape == (shape[0],) and draw[0].transitions.shape == (shape[0], 6)
    assert_near(draw[0].total, draw[0].prior + draw[0].transitions.sum(1) + draw[0].reconstruction)
    assert_near(draw[1].total, draw[0].total, 1e-9)
    dims = x0[0].numel()
    kl = kl_divergence(Normal(BAR[-1].sqrt() * x0, (1 - BAR[-1]).sqrt()), Normal(0.0, 1.0)).reshape(shape[0], dims).sum(1)
    assert_near(draw[0].prior, kl, 1e-12)


def test_bound_sums_over_dimensions():
    """Independent coordinates: the bound of a point is the sum of its coordinates' bounds."""
    x0, t_seen = normal(1, 4, seed=1), []

    def still(xt, t):
        t_seen.append(t)
        return 0.2 * torch.ones_like(xt)

    whole = elbo_terms(still, x0, BAR, prediction_type="sample", generator=torch.Generator().manual_seed(0))
    parts = elbo_terms(still, x0.reshape(4, 1), BAR, prediction_type="sample", generator=torch.Generator().manual_seed(0))
    for name in ("prior", "transitions", "reconstruction", "total"):
        assert_near(getattr(whole, name)[0], getattr(parts, name).sum(0), 1e-12)
    assert [t.tolist() for t in t_seen[:7]] == [[i] for i in range(7)]


def test_bound_with_zero_terminal_snr_and_in_float32():
    schedule = make_schedule("linear", 7, zero_terminal_snr=True)
    table, x0 = schedule.alphas_cumprod, normal(3, 2)
    terms = elbo_terms(wavy_network, x0, table, prediction_type="v_prediction", generator=torch.Generator().manual_seed(0))
    assert (terms.prior == 0).all() and torch.isfinite(terms.total).all()
    perfect = elbo_terms(lambda xt, t: x0.float(), x0.float(), table, prediction_type="sample")
    assert perfect.total.dtype == torch.float32 and perfect.transitions.abs().max() < 1e-6
    assert_near(perfect.reconstruction, torch.full((3,), math.log(2 * math.pi * schedule.betas[0].item())), 1e-5)


def test_bound_of_one_step_has_no_transitions_and_tracks_no_gradient():
    layer = torch.nn.Linear(2, 2)
    terms = elbo_terms(lambda xt, t, cond: layer(xt) + cond, torch.ones(3, 2), BAR[:1], cond=torch.ones(3, 2))
    assert terms.transitions.shape == (3, 0) and not terms.total.requires_grad
    assert_near(terms.total, terms.prior + terms.reconstruction, 0)


# --- bad input ----------------------------------------------------------------------------------------------------------

X = normal(7, 2)
NAN = X.clone().index_fill_(0, torch.tensor([3]), math.inf)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: loss_weight(T, BAR, weighting="snr"), ValueError, r"weighting must be one of 'simple', 'min_snr', 'elbo', got 'snr'"),
        (lambda: loss_weight(T, BAR, prediction_type="eps"), ValueError, r"prediction_type must be one of .*got 'eps'"),
        (lambda: loss_weight(T, BAR, variance_type="learned"), ValueError, r"variance_type must be one of 'fixed_small', 'fixed_large'"),
        (lambda: loss_weight(T, BAR, weighting="min_snr", gamma=0), ValueError, r"gamma must be positive, got 0"),
        (lambda: loss_weight(T + 1, BAR), ValueError, r"t must lie in 0\.\.6 .*from 1 to 7"),
        (lambda: loss_weight(T.double(), BAR), TypeError, r"t must be an int64 tensor"),
        (lambda: loss_weight(3, BAR), TypeError, r"t must be a torch\.Tensor, got int 3"),
        (lambda: loss_weight(torch.tensor(3), BAR), ValueError, r"shape \(\)"),
        (lambda: loss_weight(T[:0], BAR), ValueError, r"shape \(0,\)"),
        (lambda: loss_weight(T, BAR.to("meta")), ValueError, r"(t is on cpu|alphas_cumprod is on meta)"),
        (lambda: loss_weight(T, BAR.tolist()), TypeError, r"alphas_cumprod must be a torch\.Tensor, got list"),
        (lambda: prediction_target(X, X[:2], T, BAR), ValueError, r"noise must have the shape of x0"),
        (lambda: prediction_target(X, X, T, BAR, "x0"), ValueError, r"prediction_type must be one of.*'x0'"),
        (lambda: prediction_target(X, X, T - 1, BAR), ValueError, r"from -1 to 5"),
        (lambda: diffusion_loss(wavy_network, X[:0], BAR), ValueError, r"x0 needs a batch axis with at least one sample"),
        (lambda: diffusion_loss(wavy_network, NAN, BAR), ValueError, r"x0 holds 2 values that are not finite.*\(3, 0\): inf"),
        (lambda: diffusion_loss(wavy_network, X.long(), BAR), TypeError, r"x0 must have a floating dtype"),
        (lambda: diffusion_loss(wavy_network, X, BAR[:, None]), ValueError, r"alphas_cumprod must be a table"),
        (lambda: diffusion_loss(wavy_network, X, BAR.to("meta")), ValueError, r"alphas_cumprod is on meta and x0 on cpu"),
        (lambda: diffusion_loss(wavy_network, X, BAR, t=T[:3]), ValueError, r"expected shape \(7,\), got shape \(3,\)"),
        (lambda: diffusion_loss(wavy_network, X, BAR, t=T + 3), ValueError, r"from 3 to 9"),
        (lambda: diffusion_loss(wavy_network, X, BAR, noise=X.float()), TypeError, r"noise must have the dtype of x0"),
        (lambda: diffusion_loss(wavy_network, X, BAR, prediction_type="v"), ValueError, r"got 'v'"),
        (lambda: diffusion_loss(wavy_network, X, BAR, weighting="p2"), ValueError, r"weighting must be one of.*'p2'"),
        (lambda: diffusion_loss(lambda x, t: x[:, :1], X, BAR), ValueError,
         r"the network must return the shape and device of xt: got shape \(7, 1\).*for xt with shape \(7, 2\)"),
        (lambda: diffusion_loss(lambda x, t: x.to("meta"), X, BAR), ValueError, r"shape and device of xt: got.*on meta"),
        (lambda: diffusion_loss(lambda x, t: (x, None), X, BAR), TypeError, r"the network must return a tensor like xt .*got tuple"),
        (lambda: diffusion_loss(lambda x, t: None, X, BAR), TypeError, r"got NoneType None"),
        (lambda: elbo_terms(lambda x, t: x[:1], X, BAR), ValueError, r"got shape \(1, 2\)"),
        (lambda: elbo_terms(wavy_network, X, BAR, num_levels=1), ValueError, r"num_levels must be an int of at least 2, or None, got 1"),
        (lambda: elbo_terms(wavy_network, X, BAR, variance_type="small"), ValueError, r"variance_type must be one of"),
        (lambda: elbo_terms(wavy_network, X, BAR, prediction_type="v"), ValueError, r"prediction_type must be one of"),
        (lambda: elbo_terms(wavy_network, NAN, BAR), ValueError, r"x0 holds 2 values"),
        (lambda: elbo_terms(wavy_network, X[:0], BAR), ValueError, r"x0 needs a batch axis"),
    ],
)
def test_refused_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
