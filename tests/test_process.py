import math

import numpy as np
import pytest
import torch
from helpers import (
    DTYPES,
    LENGTHS,
    SHAPES,
    TYPES,
    assert_near,
    column,
    every_prediction,
    normal,
    unchanged,
)

from diffusion_course import (
    convert_prediction,
    from_x0_and_noise,
    make_schedule,
    posterior_coefficients,
    q_posterior,
    q_sample,
    q_step,
    to_x0_and_noise,
)

SHORT = make_schedule("linear", 7, beta_start=0.05, beta_end=0.5)  # large steps, so that every term matters
LONG = make_schedule()
BAR = SHORT.alphas_cumprod


def indices(b, n, seed=0):
    """b indices of 0..n-1 with both ends among them if b > 1."""
    t = torch.randint(n, (b,), generator=torch.Generator().manual_seed(seed))
    t[-1] = n - 1
    t[0] = 0
    return t


# --- forward -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_formulas_and_dtypes(shape, dtype):
    x, noise, t = normal(*shape, seed=1).to(dtype), normal(*shape, seed=2).to(dtype), indices(shape[0], 7)
    for function, table, signal in ((q_step, SHORT.betas, 1 - SHORT.betas), (q_sample, BAR, BAR)):
        found = unchanged(function, x, t, table, noise)
        expected = torch.stack(
            [signal[i] ** 0.5 * a + (1 - signal[i]) ** 0.5 * b for i, a, b in zip(t, x.double(), noise.double(), strict=True)]
        )
        assert found.dtype == dtype
        assert_near(found, expected, 8 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("n", LENGTHS)
def test_one_jump_is_the_composition_of_all_steps(n):
    """Mean and variance of q(x_t | x_0), propagated kernel by kernel with q_step, against q_sample, exactly."""
    schedule = make_schedule("linear", n)
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    mean, variance = one, zero
    for i in range(n):
        t = torch.tensor([i])
        scale, added = q_step(one, t, schedule.betas, zero), q_step(zero, t, schedule.betas, one)
        mean, variance = scale * mean, scale**2 * variance + added**2
        assert_near(q_sample(one, t, schedule.alphas_cumprod, zero), mean, 1e-13)
        assert_near(q_sample(zero, t, schedule.alphas_cumprod, one) ** 2, variance, 1e-13)


@pytest.mark.parametrize("n", LENGTHS)
def test_variance_is_preserved(n):
    """Data of variance 1 keeps it: squared scales of signal and noise add to 1 for both kernels at every t."""
    schedule, t = make_schedule("cosine", n), torch.arange(n)
    one, zero = torch.ones(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
    for function, table in ((q_step, schedule.betas), (q_sample, schedule.alphas_cumprod)):
        assert_near(function(one, t, table, zero) ** 2 + function(zero, t, table, one) ** 2, one)


def test_zero_terminal_step_is_pure_noise():
    schedule = make_schedule("linear", 5, zero_terminal_snr=True)
    x, noise, t = normal(2, 3, seed=1), normal(2, 3, seed=2), torch.tensor([4, 4])
    assert torch.equal(q_sample(x, t, schedule.alphas_cumprod, noise), noise)
    assert torch.equal(q_step(x, t, schedule.betas, noise), noise)


@pytest.mark.parametrize(("function", "table"), [(q_step, SHORT.betas), (q_sample, BAR)])
def test_noise_is_drawn_standard_normal_and_from_the_generator(function, table):
    x, t = torch.zeros(20_000, 2), torch.full((20_000,), 6)
    draw = [function(x, t, table, generator=torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    assert torch.equal(draw[0], draw[1]) and not torch.equal(draw[0], draw[2])
    expected = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(3))
    assert torch.equal(draw[0], function(x, t, table, expected))
    torch.manual_seed(3)
    assert torch.equal(function(x, t, table), draw[0])  # without a generator: the global one


def test_gradients_flow_through_the_forward_process():
    x = normal(7, 3).requires_grad_()
    noise = normal(7, 3, seed=1).requires_grad_()
    q_sample(x, torch.arange(7), BAR, noise).sum().backward()
    assert_near(x.grad, BAR.sqrt()[:, None].expand(7, 3))
    assert_near(noise.grad, (1 - BAR).sqrt()[:, None].expand(7, 3))


# --- posterior -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", range(1, 7))
def test_posterior_is_bayes_rule_on_a_grid(index):
    """q(x_{t-1} | x_t, x_0) is proportional to q(x_t | x_{t-1}) q(x_{t-1} | x_0): both written out and integrated numerically."""
    x0, xt = normal(4, 1, seed=1), normal(4, 1, seed=2)
    grid = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    beta, bar_prev = SHORT.betas[index], torch.prod(1 - SHORT.betas[:index])
    log = -((xt - (1 - beta).sqrt() * grid) ** 2) / (2 * beta) - (grid - bar_prev.sqrt() * x0) ** 2 / (2 * (1 - bar_prev))
    weights = log.softmax(1)
    mean = (weights * grid).sum(1, keepdim=True)
    variance = (weights * (grid - mean) ** 2).sum(1, keepdim=True)
    posterior = unchanged(q_posterior, x0, xt, torch.full((4,), index), BAR)
    assert_near(posterior.mean, mean, 1e-10)
    assert_near(posterior.variance, variance, 1e-10)
    assert_near(posterior.log_variance_clipped, variance.log(), 1e-9)


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("zero", [False, True])
def test_posterior_averages_to_the_forward_marginal(n, zero):
    """With x_t ~ q(x_t | x_0) the posterior gives back q(x_{t-1} | x_0), mean and variance, at every t, both ends included."""
    if zero and n == 1:
        pytest.skip("a zero-terminal schedule has at least two steps")
    schedule, t = make_schedule("linear", n, zero_terminal_snr=zero), torch.arange(n)
    bar, previous = schedule.alphas_cumprod, schedule.alphas_cumprod_prev
    ones, zeros = torch.ones(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
    from_x0, from_xt = q_posterior(ones, zeros, t, bar).mean, q_posterior(zeros, ones, t, bar)
    assert_near(from_x0 + from_xt.mean * bar.sqrt(), previous.sqrt(), 1e-12)
    assert_near(from_xt.mean**2 * (1 - bar) + from_xt.variance, 1 - previous, 1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_posterior_shapes_dtypes_and_first_step(shape, dtype):
    x0, xt = normal(*shape, seed=1).to(dtype), normal(*shape, seed=2).to(dtype)
    t = indices(shape[0], 7)
    posterior = q_posterior(x0, xt, t, BAR)
    assert posterior.mean.shape == shape and posterior.mean.dtype == dtype
    assert posterior.variance.shape == posterior.log_variance_clipped.shape == (shape[0], *[1] * (len(shape) - 1))
    assert {posterior.variance.dtype, posterior.log_variance_clipped.dtype} == {dtype}
    assert torch.equal(posterior.mean[0], x0[0]) and (posterior.variance[0] == 0).all()  # index 0: x0 itself
    assert posterior.log_variance_clipped[0].double().item() == pytest.approx(math.log(1e-20), rel=4e-3)
    exact = q_posterior(x0.double(), xt.double(), t, BAR)
    assert_near(posterior.mean, exact.mean, 10 * torch.finfo(dtype).eps)
    assert_near(posterior.variance, exact.variance, torch.finfo(dtype).eps)


def test_posterior_of_a_step_over_several_indices():
    """Now and next are explicit, so one long step obeys the same identities as a short one."""
    now, nxt = BAR[5], BAR[1]
    coef_x0, coef_xt, variance = posterior_coefficients(now, nxt)
    assert_near(coef_x0 + coef_xt * now.sqrt(), nxt.sqrt())
    assert_near(coef_xt**2 * (1 - now) + variance, 1 - nxt)
    inverse = 1 / (1 - nxt) + (now / nxt) / (1 - now / nxt)  # precisions of the two Gaussian factors add
    assert_near(variance, 1 / inverse)


# --- one prediction, four names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TYPES)
@pytest.mark.parametrize("source", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_ordered_pair_of_prediction_types(shape, source, target):
    x0, noise, t = normal(*shape, seed=1), normal(*shape, seed=2), indices(shape[0], 7)
    bar = column(BAR[t], len(shape))
    truth, xt = every_prediction(x0, noise, bar), bar.sqrt() * x0 + (1 - bar).sqrt() * noise
    found = unchanged(convert_prediction, truth[source], xt, t, BAR, source=source, target=target)
    assert_near(found, truth[target], 1e-12)
    back = convert_prediction(found, xt, t, BAR, source=target, target=source)
    assert_near(back, truth[source], 1e-12)


@pytest.mark.parametrize("prediction_type", TYPES)
@pytest.mark.parametrize("n", LENGTHS)
def test_reading_a_prediction_at_every_t(n, prediction_type):
    schedule = make_schedule("linear", n)
    x0, noise, bar = normal(n, 2, seed=1), normal(n, 2, seed=2), schedule.alphas_cumprod[:, None]
    xt, truth = bar.sqrt() * x0 + (1 - bar).sqrt() * noise, every_prediction(x0, noise, bar)[prediction_type]
    x0_pred, noise_pred = unchanged(to_x0_and_noise, truth, xt, schedule.alphas_cumprod, prediction_type)
    assert_near(x0_pred, x0, 1e-11)
    assert_near(noise_pred, noise, 1e-11)
    assert_near(from_x0_and_noise(x0, noise, bar, prediction_type), truth, 1e-9 if prediction_type == "score" else 1e-12)


@pytest.mark.parametrize("prediction_type", TYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_wrong_prediction_still_solves_the_forward_equation(prediction_type, dtype):
    """x_t = sqrt(abar) x0_pred + sqrt(1 - abar) noise_pred for any output of the network, in its dtype."""
    output, xt = normal(4, 3, seed=1).to(dtype), normal(4, 3, seed=2).to(dtype)
    x0_pred, noise_pred = to_x0_and_noise(output, xt, 0.36, prediction_type)
    assert x0_pred.dtype == noise_pred.dtype == dtype
    assert_near(0.6 * x0_pred.double() + 0.8 * noise_pred.double(), xt.double(), 20 * torch.finfo(dtype).eps)


def test_number_and_tensors_of_alpha_bar_mean_the_same():
    output, xt = normal(4, 3, seed=1), normal(4, 3, seed=2)
    wanted = to_x0_and_noise(output, xt, 0.3, "epsilon")[0]
    for same in (
        torch.tensor(0.3, dtype=torch.float64),
        torch.full((4,), 0.3, dtype=torch.float64),
        torch.full((4, 1), 0.3, dtype=torch.float64),
    ):
        assert_near(to_x0_and_noise(output, xt, same, "epsilon")[0], wanted, 4e-15)  # a number takes fewer roundings


def test_zero_terminal_step_is_read_from_x0_and_v_only():
    x0, noise = normal(2, 3, seed=1), normal(2, 3, seed=2)
    for prediction_type, output in (("sample", x0), ("v_prediction", -x0)):
        found = to_x0_and_noise(output, noise, 0.0, prediction_type)
        assert torch.equal(found[0], x0) and torch.equal(found[1], noise)
    for prediction_type in ("epsilon", "score"):
        with pytest.raises(
            ValueError, match=f"alpha_bar = 0 prediction_type='{prediction_type}' does not determine x0: use 'v_pred"
        ):
            to_x0_and_noise(noise, noise, 0.0, prediction_type)


# --- bad input ----------------------------------------------------------------------------------------------------------

X, T = normal(4, 3), torch.tensor([0, 1, 5, 6])
META = X.to("meta")
BAD_X0 = X.clone()
BAD_X0[2, 1] = float("nan")


def with_t(t):
    return [
        lambda: q_step(X, t, SHORT.betas), lambda: q_sample(X, t, BAR), lambda: q_posterior(X, X, t, BAR),
        lambda: convert_prediction(X, X, t, BAR, source="epsilon", target="sample"),
    ]


@pytest.mark.parametrize(
    ("t", "error", "message"),
    [
        (torch.tensor([0, 1, 2, 7]), ValueError, r"t must lie in 0\.\.6 for tables of length 7, got values from 0 to 7"),
        (torch.tensor([-1, 1, 2, 3]), ValueError, r"got values from -1 to 3"),
        (torch.tensor([0.0, 1, 2, 3]), TypeError, r"t must be an int64 tensor of shape \(4,\), got shape \(4,\), float32, on cpu"),
        (torch.tensor([True, False, True, True]), TypeError, r"got shape \(4,\), bool"),
        (3, TypeError, r"got int 3.*torch\.full\(\(4,\), 3\)"),
        (torch.tensor(3), ValueError, r"expected shape \(4,\), got shape \(\), int64"),
        (torch.tensor([3]), ValueError, r"expected shape \(4,\), got shape \(1,\)"),
        (torch.zeros(4, 1, dtype=torch.long), ValueError, r"one index for each sample of \w+: expected shape \(4,\), got shape \(4, 1\)"),
        (T.to("meta"), ValueError, r"t is on meta and \w+ on cpu"),
    ],
)
def test_refused_t_everywhere(t, error, message):
    for call in with_t(t):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: q_sample(X[:0], T[:0], BAR), ValueError, r"x0 needs a batch axis with at least one sample.*shape \(0, 3\)"),
        (lambda: q_step(torch.tensor(1.0), T, SHORT.betas), ValueError, r"x_prev needs a batch axis.*got shape \(\)"),
        (lambda: q_posterior(X[:0], X[:0], T[:0], BAR), ValueError, "x0 needs a batch axis"),
        (lambda: q_sample(X.tolist(), T, BAR), TypeError, r"x0 must be a torch\.Tensor, got list .*\.\.\..*as_tensor\(x0\)"),
        (lambda: q_sample(X.long(), T, BAR), TypeError, r"x0 must have a floating dtype, got shape \(4, 3\), int64.*x0\.float\(\)"),
        (lambda: q_sample(BAD_X0, T, BAR), ValueError, r"x0 holds 1 values that are not finite, the first at index \(2, 1\): nan"),
        (lambda: q_step(BAD_X0 / 0, T, SHORT.betas), ValueError, r"x_prev holds 12 values that are not finite, the first at index \(0, 0\)"),
        (lambda: q_sample(X, T, BAR, X[:, :2]), ValueError, r"noise must have the shape of x0: got shape \(4, 2\).*shape \(4, 3\)"),
        (lambda: q_sample(X, T, BAR, X.float()), TypeError, r"noise must have the dtype of x0: got shape \(4, 3\), float32.*noise\.to\(x0\.dtype\)"),
        (lambda: q_step(X, T, SHORT.betas, META), ValueError, r"noise is on meta and x_prev on cpu.*noise\.to\(x_prev\.device\)"),
        (lambda: q_sample(X, T, BAR.to("meta")), ValueError, r"alphas_cumprod is on meta and x0 on cpu"),
        (lambda: q_sample(X, T, BAR[:, None]), ValueError, r"alphas_cumprod must be a table of shape \(T,\).*got shape \(7, 1\)"),
        (lambda: q_sample(X, T, BAR[:0]), ValueError, r"T >= 1, got shape \(0,\)"),
        (lambda: q_sample(X, T, BAR.tolist()), TypeError, r"alphas_cumprod must be a torch\.Tensor, got list"),
        (lambda: q_posterior(X, X[:2], T, BAR), ValueError, r"xt must have the shape of x0"),
        (lambda: q_posterior(X, X.float(), T, BAR), TypeError, r"xt must have the dtype of x0"),
        (lambda: to_x0_and_noise(X, X, 0.5, "eps"), ValueError, r"prediction_type must be one of 'epsilon', 'sample', 'v_prediction', 'score', 'velocity', got 'eps'"),
        (lambda: from_x0_and_noise(X, X, 0.5, "x0"), ValueError, r"prediction_type must be one of.*got 'x0'"),
        (lambda: convert_prediction(X, X, T, BAR, source="v", target="epsilon"), ValueError, r"source must be one of.*got 'v'"),
        (lambda: convert_prediction(X, X, T, BAR, source="epsilon", target="v"), ValueError, r"target must be one of.*got 'v'"),
        (lambda: to_x0_and_noise(X[:2], X, 0.5, "epsilon"), ValueError, r"model_output must have the shape of xt"),
        (lambda: from_x0_and_noise(X, META, 0.5, "epsilon"), ValueError, r"noise is on meta and x0 on cpu"),
        (lambda: to_x0_and_noise(X, X, 1.2, "epsilon"), ValueError, r"alpha_bar must lie in \[0, 1\], got values from 1\.2 to 1\.2"),
        (lambda: to_x0_and_noise(X, X, float("nan"), "epsilon"), ValueError, r"alpha_bar must be a number, got float nan"),
        (lambda: to_x0_and_noise(X, X, BAR, "epsilon"), ValueError, r"alpha_bar must be one number or one for each sample of xt, got shape \(7,\)"),
        (lambda: to_x0_and_noise(X, X, "0.5", "epsilon"), TypeError, r"alpha_bar must be a torch\.Tensor or a number, got str '0\.5'"),
        (lambda: to_x0_and_noise(X, X, BAR[:4].to("meta"), "epsilon"), ValueError, r"alpha_bar is on meta and xt on cpu"),
        (lambda: to_x0_and_noise(X, X, 1.0, "sample"), ValueError, r"alpha_bar = 1 prediction_type='sample' does not determine the noise"),
        (lambda: from_x0_and_noise(X, X, 1.0, "score"), ValueError, r"at alpha_bar = 1 there is no noise and the score"),
        (lambda: posterior_coefficients(BAR[0], BAR[3]), ValueError, r"0 <= alpha_bar < alpha_bar_prev <= 1 \(it goes to less noise\), got alpha_bar from 0\.95"),
        (lambda: posterior_coefficients(BAR[3], BAR[3]), ValueError, r"alpha_bar < alpha_bar_prev"),
        (lambda: posterior_coefficients(-BAR[3], BAR[0]), ValueError, r"0 <= alpha_bar"),
        (lambda: posterior_coefficients(BAR[3], 2 + BAR[0]), ValueError, r"alpha_bar_prev <= 1"),
    ],
)
def test_refused_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("call", [
    lambda abar: to_x0_and_noise(torch.ones(2, 3).half(), torch.ones(2, 3).half(), abar, "epsilon"),
    lambda abar: to_x0_and_noise(torch.ones(2, 3).half(), torch.ones(2, 3).half(), abar, "score"),
])
def test_a_signal_that_half_precision_cannot_hold_is_lost(call):
    call(torch.tensor([0.5, 1e-9], dtype=torch.float64))
    with pytest.raises(ValueError, match="does not determine x0"):
        call(torch.tensor([0.5, 1e-16], dtype=torch.float64))


@pytest.mark.parametrize("alpha_bar", [[0.5], np.array([0.0, 0.5]), torch.tensor(1), "0.5"], ids=repr)
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction", "score"])
def test_a_level_that_is_none_is_named(alpha_bar, prediction_type):
    x = torch.ones(2, 3)
    for call in (to_x0_and_noise, from_x0_and_noise):
        with pytest.raises(TypeError, match="alpha_bar must"):
            call(x, x, alpha_bar, prediction_type)
