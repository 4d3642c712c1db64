import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import DTYPES, LENGTHS, SHAPES, TYPES, assert_near, normal, unchanged, wavy_network

from diffusion_course import (
    GaussianMixture,
    convert_prediction,
    ddpm_step,
    make_schedule,
    mixture,
    p_sample_iter,
    p_sample_loop,
    q_posterior,
    to_x0_and_noise,
)
from diffusion_course.sampling import reverse

SHORT = make_schedule("linear", 7, beta_start=0.05, beta_end=0.5)
BAR = SHORT.alphas_cumprod
TABLES = (SHORT.betas, SHORT.alphas, SHORT.alphas_cumprod)
VARIANCES = ("fixed_small", "fixed_large")


def tables(schedule):
    return schedule.betas, schedule.alphas, schedule.alphas_cumprod


# --- one step --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("index", [0, 1, 6])
def test_step_is_the_posterior_at_the_estimate(index, shape, dtype):
    output, xt, noise = (normal(*shape, seed=s).to(dtype) for s in (1, 2, 3))
    previous = SHORT.alphas_cumprod_prev[index]
    step = unchanged(ddpm_step, output, xt, BAR[index], previous, noise, prediction_type="v_prediction")
    wide = output.double(), xt.double(), noise.double()
    x0_pred = BAR[index].sqrt() * wide[1] - (1 - BAR[index]).sqrt() * wide[0]
    posterior = q_posterior(x0_pred, wide[1], torch.full((shape[0],), index), BAR)
    tolerance = 1e-12 if dtype == torch.float64 else 20 * torch.finfo(dtype).eps
    assert {step.x_prev.dtype, step.x0_pred.dtype, step.mean.dtype, step.variance.dtype} == {dtype}
    assert_near(step.x0_pred, x0_pred, tolerance)
    assert_near(step.mean, posterior.mean, tolerance)
    assert_near(step.variance.expand(posterior.variance.shape), posterior.variance, tolerance)
    assert_near(step.x_prev, posterior.mean + posterior.variance.sqrt() * wide[2], tolerance)


@pytest.mark.parametrize(("now", "following"), list(pairwise(reversed([1.0, *BAR.tolist()]))))
def test_both_variances_and_no_noise_on_the_last_step(now, following):
    output, xt, noise = (normal(3, 2, seed=s) for s in (1, 2, 3))
    beta = 1 - now / following
    for variance_type, variance in (("fixed_small", beta * (1 - following) / (1 - now)), ("fixed_large", beta)):
        step = ddpm_step(output, xt, now, following, noise, variance_type=variance_type)
        assert step.variance.item() == pytest.approx(variance, rel=1e-12, abs=1e-15)
        added = math.sqrt(variance) if following < 1 else 0.0
        assert_near(step.x_prev, step.mean + added * noise, 1e-14)
    assert_near(ddpm_step(output, xt, now, following, noise).mean, step.mean, 0)  # the mean does not depend on the variance
    if following == 1:
        assert_near(step.x_prev, step.x0_pred, 1e-12)


@pytest.mark.parametrize("prediction_type", TYPES)
def test_step_does_not_depend_on_how_the_prediction_is_named(prediction_type):
    output, xt, noise, t = normal(4, 2, seed=1), normal(4, 2, seed=2), normal(4, 2, seed=3), torch.full((4,), 3)
    renamed = convert_prediction(output, xt, t, BAR, source="epsilon", target=prediction_type)
    for clip in (None, 0.5):
        step = ddpm_step(renamed, xt, BAR[3], BAR[2], noise, prediction_type=prediction_type, clip_x0=clip)
        assert_near(step.x_prev, ddpm_step(output, xt, BAR[3], BAR[2], noise, clip_x0=clip).x_prev, 1e-12)


def test_clipping_happens_between_the_estimate_and_the_mean():
    output, xt, zero = normal(50, 2, seed=1), 3 * normal(50, 2, seed=2), torch.zeros(50, 2, dtype=torch.float64)
    free, clipped = (ddpm_step(output, xt, BAR[3], BAR[2], zero, clip_x0=c) for c in (None, 0.8))
    assert free.x0_pred.max() > 0.8 and free.x0_pred.min() < -0.8
    assert_near(clipped.x0_pred, free.x0_pred.clamp(-0.8, 0.8), 0)
    assert_near(clipped.mean, q_posterior(clipped.x0_pred, xt, torch.full((50,), 3), BAR).mean, 1e-14)


def test_each_sample_may_be_at_its_own_level():
    output, xt, noise = (normal(7, 2, 2, seed=s) for s in (1, 2, 3))
    whole = ddpm_step(output, xt, BAR, SHORT.alphas_cumprod_prev, noise)
    for i in range(7):
        single = ddpm_step(output[i : i + 1], xt[i : i + 1], BAR[i].item(), SHORT.alphas_cumprod_prev[i].item(), noise[i : i + 1])
        assert_near(whole.x_prev[i : i + 1], single.x_prev, 1e-14)
    assert_near(whole.variance.flatten(), q_posterior(xt, xt, torch.arange(7), BAR).variance.flatten(), 1e-15)


def test_step_draws_from_its_generator_and_passes_gradients():
    output, xt = normal(4, 2, seed=1).requires_grad_(), normal(4, 2, seed=2)
    draw = [ddpm_step(output, xt, BAR[3], BAR[2], generator=torch.Generator().manual_seed(s)).x_prev for s in (5, 5, 6)]
    assert torch.equal(draw[0], draw[1]) and not torch.equal(draw[0], draw[2])
    noise = torch.randn(4, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    assert torch.equal(draw[0], ddpm_step(output, xt, BAR[3], BAR[2], noise).x_prev)
    (gradient,) = torch.autograd.grad(draw[0].sum(), output)
    beta = SHORT.betas[3]
    expected = -beta / ((1 - BAR[3]).sqrt() * SHORT.alphas[3].sqrt())  # Algorithm 2's factor of the predicted noise
    assert_near(gradient, expected.expand(4, 2), 1e-14)


@pytest.mark.parametrize("index", range(7))
def test_mean_is_algorithm_2(index):
    output, xt = normal(4, 2, seed=1), normal(4, 2, seed=2)
    beta, alpha, bar = (table[index] for table in TABLES)
    expected = (xt - beta / (1 - bar).sqrt() * output) / alpha.sqrt()
    assert_near(ddpm_step(output, xt, bar, SHORT.alphas_cumprod_prev[index]).mean, expected, 1e-13)


# --- the whole chain -------------------------------------------------------------------------------------------------------


def exact_chain(schedule, mean, covariance, variance_type, monkeypatch, prediction_type="epsilon"):
    """Mean and covariance of p_sample_loop's result with the exact network of N(mean, covariance), without sampling.

    That network is affine, so the result is affine in every number drawn: row 0 gets zeros everywhere, each other row one 1.
    """
    dim, n = len(mean), schedule.num_train_timesteps
    draws = dim * n  # the start, and a draw on every step but the last
    unit = torch.zeros(1 + draws, n, dim, dtype=torch.float64)
    unit[1:].view(draws, draws)[:] = torch.eye(draws)
    later = iter(
        [*unit[:, 1:].unbind(1), torch.full((1 + draws, dim), 1e6, dtype=torch.float64)]
    )  # the last step must ignore its own
    monkeypatch.setattr(reverse, "noise_like", lambda x, generator=None: next(later))
    weights = torch.ones(1, dtype=torch.float64)
    model = GaussianMixture(weights, torch.tensor(mean)[None], torch.tensor(covariance)[None]).model(
        schedule.alphas_cumprod, prediction_type
    )
    x = p_sample_loop(
        model,
        unit[:, 0].shape,
        *tables(schedule),
        x_init=unit[:, 0],
        variance_type=variance_type,
        prediction_type=prediction_type,
    )
    offsets = x[1:] - x[0]
    return x[0].numpy(), (offsets.T @ offsets).numpy()


def recursion(schedule, mean, covariance, variance_type):
    """The same from N(0, I) by the recursion of a linear Gaussian chain: m <- A m + b, S <- A S A' + variance I."""
    m, s, eye = np.zeros(len(mean)), np.eye(len(mean)), np.eye(len(mean))
    bars = [1.0, *np.cumprod(1 - schedule.betas.numpy())]
    for before, now in reversed(list(pairwise(bars))):
        beta = 1 - now / before
        gain = (
            math.sqrt(now) * covariance @ np.linalg.inv(now * covariance + (1 - now) * eye)
        )  # E[x0|xt] = mean + gain (xt - sqrt(now) mean)
        on_x0, on_xt = math.sqrt(before) * beta / (1 - now), math.sqrt(now / before) * (1 - before) / (1 - now)
        a, b = on_xt * eye + on_x0 * gain, on_x0 * (mean - gain @ mean * math.sqrt(now))
        variance = 0 if before == 1 else (beta * (1 - before) / (1 - now) if variance_type == "fixed_small" else beta)
        m, s = a @ m + b, a @ s @ a.T + variance * eye
    return m, s


GAUSSIANS = [(np.array([0.5]), np.array([[0.3]])), (np.array([0.7, -0.4]), np.array([[0.8, 0.3], [0.3, 0.2]]))]


@pytest.mark.parametrize("n", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("variance_type", VARIANCES)
@pytest.mark.parametrize(("mean", "covariance"), GAUSSIANS, ids=["1-D", "2-D"])
def test_chain_on_gaussian_data_is_the_exactly_propagated_gaussian(mean, covariance, variance_type, n, monkeypatch):
    schedule = make_schedule("cosine", n)
    found = exact_chain(schedule, mean, covariance, variance_type, monkeypatch)
    expected = recursion(schedule, mean, covariance, variance_type)
    assert np.abs(found[0] - expected[0]).max() <= 1e-10 and np.abs(found[1] - expected[1]).max() <= 1e-10


@pytest.mark.parametrize("prediction_type", ["sample", "v_prediction"])
def test_chain_on_gaussian_data_with_zero_terminal_snr(prediction_type, monkeypatch):
    schedule = make_schedule("linear", 20, zero_terminal_snr=True)
    found = exact_chain(schedule, *GAUSSIANS[1], "fixed_small", monkeypatch, prediction_type)
    expected = recursion(schedule, *GAUSSIANS[1], "fixed_small")
    assert np.abs(found[0] - expected[0]).max() <= 1e-10 and np.abs(found[1] - expected[1]).max() <= 1e-10


@pytest.mark.parametrize("variance_type", VARIANCES)
def test_long_chain_gives_back_the_data(variance_type, monkeypatch):
    mean, covariance = GAUSSIANS[0]
    found = exact_chain(make_schedule("cosine", 300), mean, covariance, variance_type, monkeypatch)
    assert abs(found[0] - mean) < 5e-3 and abs(found[1] - covariance) < 1e-2
    short = recursion(make_schedule("linear", 50), mean, covariance, variance_type)  # that schedule is tuned for T = 1000
    assert abs(short[0] - mean) > 5e-2


def test_chain_on_a_mixture_finds_its_weights_and_moments():
    data, schedule = mixture("pair"), make_schedule("cosine", 60)
    x = p_sample_loop(
        data.model(schedule.alphas_cumprod),
        (2000, 2),
        *tables(schedule),
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(0),
    )
    right = (x[:, 0] > 0).double()
    assert abs(right.mean().item() - 0.7) < 5 * math.sqrt(0.21 / 2000)
    for side, centre in ((0, [-1.0, -0.5]), (1, [1.0, 0.5])):
        points = x[right == side]
        assert_near(points.mean(0), torch.tensor(centre, dtype=torch.float64), 0.04)
        assert_near(points.std(0), torch.full((2,), 0.25, dtype=torch.float64), 0.03)


@pytest.mark.parametrize("n", LENGTHS[:-1])
@pytest.mark.parametrize("shape", SHAPES)
def test_iterator_by_hand(shape, n):
    schedule, calls = make_schedule("cosine", n), []

    def spy(xt, t):
        calls.append((xt, t))
        return wavy_network(xt, t)

    start, x = normal(*shape, seed=1), normal(*shape, seed=1)
    steps = list(p_sample_iter(spy, shape, *tables(schedule), x_init=start, generator=torch.Generator().manual_seed(2)))
    noise = torch.Generator().manual_seed(2)
    assert [t for t, *_ in steps] == list(reversed(range(n)))
    for (xt, t), (i, found, x0_pred) in zip(calls, steps, strict=True):
        assert t.dtype == torch.int64 and t.tolist() == [i] * shape[0] and torch.equal(xt, x)
        expected, _ = to_x0_and_noise(wavy_network(x, t), x, schedule.alphas_cumprod[i], "epsilon")
        beta, alpha, bar = (table[i] for table in tables(schedule))
        previous = bar / alpha
        z = torch.randn(shape, generator=noise, dtype=torch.float64)
        deviation = (beta * (1 - previous) / (1 - bar)).clamp(min=0).sqrt() if i else 0.0
        x = (x - beta / (1 - bar).sqrt() * wavy_network(x, t)) / alpha.sqrt() + deviation * z
        assert_near(x0_pred, expected, 1e-9)
        assert_near(found, x, 1e-9 * max(1.0, x.abs().max().item()))
        x = found
    assert torch.equal(start, normal(*shape, seed=1))


def test_loop_returns_the_iterators_last_and_calls_back_each_step():
    seen = []
    arguments = (wavy_network, (3, 2), *TABLES)
    x = p_sample_loop(*arguments, callback=lambda *step: seen.append(step), generator=torch.Generator().manual_seed(0))
    steps = list(p_sample_iter(*arguments, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(x, steps[-1][1]) and len(seen) == 7
    for mine, theirs in zip(seen, steps, strict=True):
        assert mine[0] == theirs[0] and torch.equal(mine[1], theirs[1]) and torch.equal(mine[2], theirs[2])
    assert not torch.equal(x, p_sample_loop(*arguments, generator=torch.Generator().manual_seed(1)))
    torch.manual_seed(0)
    assert torch.equal(p_sample_loop(*arguments), x)


def test_start_is_standard_normal():
    starts = []
    p_sample_loop(
        lambda xt, t: starts.append(xt) or xt, (20_000, 1), *(t[:1] for t in TABLES), generator=torch.Generator().manual_seed(0)
    )
    assert abs(starts[0].mean().item()) < 5 / math.sqrt(20_000) and abs(starts[0].var().item() - 1) < 5 * math.sqrt(2 / 20_000)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype_is_the_networks_unless_asked_otherwise(dtype):
    seen, layer = [], torch.nn.Linear(2, 2, dtype=dtype)

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, xt, t):
            seen.append(xt.dtype)
            return self.layer(xt.to(dtype))

    assert p_sample_loop(Network(), (3, 2), *TABLES).dtype == dtype and set(seen) == {dtype}
    assert p_sample_loop(Network(), (3, 2), *TABLES, dtype=torch.float64).dtype == torch.float64
    assert p_sample_loop(wavy_network, (3, 2), *TABLES).dtype == torch.float32
    assert p_sample_loop(wavy_network, (3, 2), *TABLES, x_init=torch.zeros(3, 2, dtype=dtype)).dtype == dtype


def test_chain_tracks_no_gradient_and_passes_the_condition():
    layer, got = torch.nn.Linear(2, 2), []
    x = p_sample_loop(lambda xt, t, cond: got.append(cond) or layer(xt), (3, 2), *TABLES, cond=torch.arange(3))
    assert not x.requires_grad and len(got) == 7 and all(torch.equal(c, torch.arange(3)) for c in got)
    assert torch.is_grad_enabled()


def test_iterator_leaves_gradients_on_for_the_caller():
    steps = p_sample_iter(wavy_network, (3, 2), *TABLES)
    next(steps)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_tables_of_a_moved_schedule_are_accepted(name, dtype):
    schedule = make_schedule(name, 1000).to(dtype=dtype)
    _, x, _ = next(p_sample_iter(wavy_network, (2, 2), *tables(schedule)))
    assert torch.isfinite(x).all()


# --- bad input ----------------------------------------------------------------------------------------------------------

X, B, A, C = normal(4, 2), *TABLES


def run(*given, model=wavy_network, shape=(4, 2), **kwargs):
    return p_sample_loop(model, shape, *(given or TABLES), **kwargs)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: run(B, A, C.flip(0)), ValueError, r"alphas_cumprod must fall at each step, from below 1, got alphas_cumprod\[1\] = 0\.18.* after 0\.09"),
        (lambda: run(B, B, C), ValueError, r"tables are not of one schedule: got alphas\[0\] = 0\.05, but betas give 0\.95.*NoiseSchedule"),
        (lambda: run(B, A, A), ValueError, r"got alphas_cumprod\[\d\] = .*, but betas give"),
        (lambda: run(B, A, SHORT.alphas_cumprod_prev), ValueError, r"must fall at each step.*alphas_cumprod\[0\] = 1\.0 after 1\.0"),
        (lambda: run(B, A, C * float("nan")), ValueError, r"alphas_cumprod must fall at each step, from below 1, got alphas_cumprod\[0\] = nan"),
        (lambda: run(B, A[:3], C), ValueError, r"alphas must have the shape of betas: got shape \(3,\)"),
        (lambda: run(B, A, C[:3]), ValueError, r"alphas_cumprod must have the shape of betas"),
        (lambda: run(B, A, C.float()), TypeError, r"alphas_cumprod must have the dtype of betas"),
        (lambda: run(B, A.to("meta"), C), ValueError, r"alphas is on meta and betas on cpu"),
        (lambda: run(B[:0], A[:0], C[:0]), ValueError, r"betas must be a table"),
        (lambda: run(B.tolist(), A, C), TypeError, r"betas must be a torch\.Tensor, got list"),
        (lambda: run(shape=(0, 2)), ValueError, r"shape must hold sizes of at least 1.*got tuple \(0, 2\)"),
        (lambda: run(x_init=X[:3]), ValueError, r"x_init must have the shape \(4, 2\) that was asked for, got shape \(3, 2\)"),
        (lambda: run(x_init=X.to("meta")), ValueError, r"x_init is on meta and betas on cpu"),
        (lambda: run(x_init=X.long()), TypeError, r"x_init must have a floating dtype"),
        (lambda: run(prediction_type="noise"), ValueError, r"prediction_type must be one of.*'noise'"),
        (lambda: run(variance_type="learned"), ValueError, r"variance_type must be one of 'fixed_small', 'fixed_large', got 'learned'"),
        (lambda: run(clip_x0=0), ValueError, r"clip_x0 must be positive or None, got 0"),
        (lambda: run(clip_x0=-1.0), ValueError, r"clip_x0 must be positive or None, got -1\.0"),
        (lambda: run(model=lambda x, t: x[:2]), ValueError, r"the network must return the shape and device of xt: got shape \(2, 2\)"),
        (lambda: run(model=lambda x, t: [1]), TypeError, r"the network must return a tensor like xt .*got list \[1\]"),
        (lambda: run(steps=50), TypeError, "steps"),
        (lambda: run(*tables(make_schedule("linear", 5, zero_terminal_snr=True))), ValueError, "alpha_bar = 0 prediction_type='epsilon' does not determine x0"),
        (lambda: ddpm_step(X, X, 0.5, 0.4), ValueError, r"a reverse step needs 0 <= alpha_bar < alpha_bar_prev <= 1.*from 0\.5"),
        (lambda: ddpm_step(X, X, 0.5, 1.4), ValueError, r"alpha_bar_prev must lie in \[0, 1\], got values from 1\.4"),
        (lambda: ddpm_step(X, X, -0.5, 0.4), ValueError, r"alpha_bar must lie in \[0, 1\]"),
        (lambda: ddpm_step(X, X, C[:3], C[:3]), ValueError, r"alpha_bar must be one number or one for each sample of xt"),
        (lambda: ddpm_step(X[:2], X, 0.4, 0.5), ValueError, r"model_output must have the shape of xt"),
        (lambda: ddpm_step(X.float(), X, 0.4, 0.5), TypeError, r"model_output must have the dtype of xt"),
        (lambda: ddpm_step(X, X[:0], 0.4, 0.5), ValueError, r"xt needs a batch axis"),
        (lambda: ddpm_step(X, X, 0.4, 0.5, X[:1]), ValueError, r"noise must have the shape of xt"),
        (lambda: ddpm_step(X, X, 0.4, 0.5, X.to("meta")), ValueError, r"noise is on meta and xt on cpu"),
        (lambda: ddpm_step(X, X, C[:4].to("meta"), 0.5), ValueError, r"alpha_bar is on meta and xt on cpu"),
        (lambda: ddpm_step(X, X, 0.4, 0.5, prediction_type="eps"), ValueError, r"prediction_type must be one of"),
        (lambda: ddpm_step(X, X, 0.4, 0.5, variance_type="beta"), ValueError, r"variance_type must be one of"),
        (lambda: ddpm_step(X, X, 0.4, 0.5, clip_x0=float("nan")), ValueError, r"clip_x0 must be a number, got float nan"),
    ],
)
def test_refused_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
