"""Edges of formulas and doors: limits, narrow numbers, modes that a reader is in, what wraps a network or a step."""

import functools

import numpy as np
import pytest
import torch
from helpers import normal
from right_calls import BAR, NETWORK, SCHEDULE, seeded
from torch import nn

from diffusion_course import (
    MLP,
    SAMPLERS,
    Estimate,
    GaussianMixture,
    Level,
    NoiseSchedule,
    SamplerStep,
    alpha_bar_at,
    convert_prediction,
    count_flops,
    ddim_step,
    frechet_distance,
    frechet_infinity,
    gaussian_kl,
    iterate_levels,
    load_pretrained,
    loss_weight,
    make_denoise,
    make_generator,
    make_schedule,
    mixture,
    ode_log_likelihood,
    ode_terms,
    p_sample_loop,
    posterior_coefficients,
    q_posterior,
    sample_loop,
    train,
    train_step,
)

F64 = {"dtype": torch.float64}
X = normal(4, 2).float()
PAIR = mixture("pair")


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmpp_2m", "euler", "heun", "euler_ancestral"])
def test_an_estimate_may_be_larger_than_half_precision_holds(sampler):
    """A new network predicts 0 at the noisiest index: x0 = x / sqrt(abar) = 20,000 x there, and half precision ends at 65,504."""
    cosine = make_schedule("cosine", 1000)
    exact = PAIR.model(cosine.alphas_cumprod)
    network = lambda x, t: torch.zeros_like(x) if t[0] == 999 else exact(x.double(), t).to(x.dtype)  # noqa: E731
    start = torch.randn(4000, 2, generator=make_generator(0)).half()
    found = sample_loop(network, (4000, 2), cosine, sampler=sampler, num_inference_steps=250, x_init=start, generator=seeded())
    assert found.dtype == torch.float16 and found.isfinite().all()


def test_an_estimate_is_float32_at_least_and_a_state_keeps_its_dtype():
    denoise = make_denoise(lambda x, t: x)
    assert denoise(X.half(), Level(5, 0.5)).x0.dtype == torch.float32
    assert denoise(X.double(), Level(5, 0.5)).x0.dtype == torch.float64
    for state in iterate_levels(denoise, X.half(), [Level(5, 0.5), Level(2, 0.8)]):
        assert state.x.dtype == state.x0_pred.dtype == torch.float16


def test_an_eigenvalue_of_zero_is_found_up_to_rounding():
    """eigh returns 1e-17 for what is 0: of random planes in space none may give a density of 1e15."""
    generator = make_generator(0)
    for _ in range(50):
        spread = torch.randn(3, 2, generator=generator, **F64)
        flat = GaussianMixture(torch.ones(1, **F64), torch.zeros(1, 3, **F64), (spread @ spread.T)[None])
        x = flat.sample(3, generator=generator)
        with pytest.raises(ValueError, match="no density"):
            flat.score(x, 1.0)
        assert torch.equal(flat.posterior_mean(x, 1.0), x)


def test_what_has_a_value_without_noise_is_given():
    flat = GaussianMixture(torch.ones(1, **F64), torch.zeros(1, 2, **F64), torch.diag(torch.tensor([1.0, 0.0], **F64))[None])
    table = torch.tensor([1.0, 0.5], **F64)
    x, t = flat.sample(3, generator=seeded()), torch.tensor([0, 1, 0])
    found = flat.model(table, "sample")(x, t)
    assert torch.equal(found[[0, 2]], x[[0, 2]]) and found.isfinite().all()
    jacobian = torch.func.jacrev(lambda one: flat.posterior_mean(one[None], 1.0)[0])(x[0])
    assert torch.equal(jacobian, torch.eye(2, **F64))
    with pytest.raises(ValueError, match=r"at t = 0 there is no noise to predict: got alphas_cumprod\[0\] = 1"):
        PAIR.best_loss(0, table)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_mixture_says_in_what_it_computes(dtype):
    with pytest.raises(TypeError, match=r"covariances must be float32 or float64.*got shape"):
        PAIR.to(dtype=dtype)
    with pytest.raises(TypeError, match="dtype must be a torch.dtype or None, got str 'float32'"):
        PAIR.to("cpu", "float32")


def test_the_oracle_is_exact_inside_autocast():
    oracle, x = PAIR.to(dtype=torch.float32), normal(64, 2).float()
    calls = (oracle.noise_prediction, oracle.posterior_mean, oracle.score, oracle.log_prob, oracle.posterior_covariance)
    expected = [call(x, 0.5) for call in calls]
    with torch.autocast("cpu", torch.bfloat16):
        found = [call(x, 0.5) for call in calls]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_weights_of_the_loss_have_their_limits():
    table, t = torch.tensor([1.0, 0.9, 0.5], **F64), torch.tensor([0])
    assert loss_weight(t, table, weighting="min_snr", prediction_type="sample").item() == 5.0
    assert loss_weight(t, table, weighting="min_snr").item() == 0.0
    assert loss_weight(t, table, weighting="min_snr", prediction_type="v_prediction").item() == 0.0
    pure = make_schedule("linear", 10, zero_terminal_snr=True).alphas_cumprod
    last = torch.tensor([9])
    with pytest.raises(ValueError, match=r"t must leave out alpha_bar = 0 .*weight of 'epsilon' is infinite"):
        loss_weight(last, pure, weighting="elbo")
    assert loss_weight(last, pure, weighting="elbo", prediction_type="v_prediction").isfinite()


def test_the_clipped_log_variance_is_finite_in_half_precision():
    found = q_posterior(X.half(), X.half(), torch.tensor([0, 1, 2, 3]), torch.tensor([0.9, 0.7, 0.4, 0.1]).half())
    assert found.log_variance_clipped.isfinite().all()
    with pytest.raises(ValueError, match=r"alphas_cumprod must fall to each index of t, from below 1, got 1\.0 at 0"):
        q_posterior(X, X, torch.tensor([0, 1, 2, 3]), torch.tensor([1.0, 0.7, 0.4, 0.1]))
    q_posterior(X, X, torch.tensor([1, 1, 2, 3]), torch.tensor([1.0, 0.7, 0.4, 0.1]))  # what is not used may be anything


def test_tables_need_an_order_only_where_the_formula_has_one():
    table = SCHEDULE.alphas_cumprod.flip(0)
    t = torch.tensor([0, 3, 5, 9])
    there = convert_prediction(X, X + 1, t, table, source="epsilon", target="v_prediction")
    assert torch.allclose(convert_prediction(there, X + 1, t, table, source="v_prediction", target="epsilon"), X, atol=1e-5)


@pytest.mark.parametrize(("n", "m"), [(100, 58), (60, 29), (100, 57)])
def test_the_line_of_distances_ends_at_all_samples(n, m):
    a, b = normal(n, 2), normal(m, 2, seed=1)
    fit = frechet_infinity(a, b, num_sizes=3, min_size=10, generator=seeded())
    assert fit.sizes[-1] == n
    assert fit.distances[-1].item() == pytest.approx(frechet_distance(a, b), rel=1e-9)


def test_a_compiled_network_costs_what_it_costs():
    network, t = MLP(hidden=8, depth=1), torch.zeros(4, dtype=torch.int64)
    assert count_flops(torch.compile(network, backend="eager"), X, t) == count_flops(network, X, t)


def test_times_between_the_last_two_of_a_table_that_ends_in_pure_noise_are_refused():
    pure = make_schedule("linear", 100, zero_terminal_snr=True).alphas_cumprod
    with pytest.raises(ValueError, match=r"t must not lie between 98 and 99.*Got 98\.3"):
        alpha_bar_at(pure, torch.tensor([98.3], **F64))
    assert torch.equal(alpha_bar_at(pure, torch.tensor([98.0, 99.0], **F64)), pure[98:])


def test_modes_that_forbid_gradients_are_named():
    with torch.inference_mode():
        with pytest.raises(ValueError, match=r"x0 needs derivatives, which torch.inference_mode\(\) forbids"):
            ode_terms(NETWORK, X, SCHEDULE, num_steps=1)
        with pytest.raises(ValueError, match=r"model cannot be trained inside torch.inference_mode\(\)"):
            train(MLP(hidden=8, depth=1), X, SCHEDULE, num_steps=1)
    with pytest.raises(ValueError, match="schedule must have an index with signal"):
        ode_terms(NETWORK, X, NoiseSchedule(torch.tensor([1.0])), num_steps=1)


def test_options_are_refused_by_the_function_that_was_called():
    calls = {
        r"schedule 'cosine' has no setting 'beta_start': it has offset, max_beta": lambda: make_schedule("cosine", 10, beta_start=0.1),
        r"there is no option 'eta': there are cond, x_init": lambda: p_sample_loop(NETWORK, (2, 2), SCHEDULE.betas, SCHEDULE.alphas, BAR, eta=1),
        r"there is no option 'bogus': there are num_steps": lambda: ode_log_likelihood(NETWORK, X, SCHEDULE, bogus=1),
        r"model must be something to call, got the class MLP: make one, MLP\(\)": lambda: sample_loop(MLP, (4, 2), SCHEDULE),
        r"model must be a torch\.nn\.Module, got int 3": lambda: train(3, X, SCHEDULE, num_steps=1),
        r"seed must be at least 0 and at most 4294967295, got 4294967296": lambda: train(MLP(), X, SCHEDULE, num_steps=1, seed=2**32),
    }
    for message, call in calls.items():
        with pytest.raises((TypeError, ValueError), match=message):
            call()


def wrapped(step):
    @functools.wraps(step)
    def inner(*args, **kwargs):
        return step(*args, **kwargs)

    del inner.__wrapped__
    return inner


class Stepping:
    hold = True  # an attribute of its own

    def __call__(self, denoise, xt, move):
        return ddim_step(denoise, xt, move)


def test_steps_of_a_reader_may_be_wrapped_or_objects():
    expected = sample_loop(NETWORK, (4, 2), SCHEDULE, num_inference_steps=3, x_init=X, eta=0.0)
    for step, options in (
        (wrapped(ddim_step), {"eta": 0.0}), (functools.partial(ddim_step, eta=0.0), {}), (Stepping(), {}),
        (lambda denoise, xt, move: list(ddim_step(denoise, xt, move)), {}),
    ):
        assert torch.equal(sample_loop(NETWORK, (4, 2), SCHEDULE, sampler=step, num_inference_steps=3, x_init=X, **options), expected)
    for step in (lambda: 0, max, len):
        with pytest.raises(TypeError, match=r"sampler must take \(denoise, xt, move\), got"):
            sample_loop(NETWORK, (4, 2), SCHEDULE, sampler=step, num_inference_steps=3, x_init=X)
    wrong = {
        r"sampler must return a SamplerStep.*got tuple": lambda denoise, xt, move: (xt, xt),
        r"sampler must return an x_prev of the shape of shape \(4, 2\)": lambda denoise, xt, move: SamplerStep(xt[:1], Estimate(xt, xt)),
    }
    for message, step in wrong.items():
        with pytest.raises((TypeError, ValueError), match=message):
            sample_loop(NETWORK, (4, 2), SCHEDULE, sampler=step, num_inference_steps=3, x_init=X)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_levels_may_come_from_numpy(sampler):
    seen = []

    def network(x, t):
        seen.append(t.dtype)
        return x

    levels = [Level(np.int64(9), np.float32(0.3)), Level(np.int64(4), np.float64(0.6))]
    (state,) = iterate_levels(make_denoise(network), X, levels, sampler=sampler, generator=seeded())
    assert state.x.isfinite().all() and set(seen) == {torch.int64}


def test_a_number_beside_tensors_may_stay_on_the_cpu():
    one = torch.tensor(0.5, device="cpu")
    assert gaussian_kl(X.to("meta"), X.to("meta"), one, one).shape == (4, 2)
    assert posterior_coefficients(BAR.to("meta") * 0.5, one)[0].shape == (10,)


def test_what_wraps_an_optimizer_is_one():
    class Wrapper:
        def __init__(self, optimizer):
            self.optimizer = optimizer

        def __getattr__(self, name):
            return getattr(self.optimizer, name)

    network = MLP(hidden=8, depth=1)
    assert train_step(network, X, Wrapper(torch.optim.SGD(network.parameters(), lr=0.1)), BAR) > 0


def test_shipped_weights_do_not_ask_for_defaults():
    expected = load_pretrained("digit_classifier").head.weight
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        found = load_pretrained("digit_classifier").head.weight
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert found.dtype == torch.float32 and torch.equal(found, expected)


def test_a_look_in_evaluation_mode_does_not_change_the_run():
    def run(look):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 2))
        model = type("Timed", (nn.Module,), {"forward": lambda self, x, t: self.inner(x)})()
        model.inner = network
        for _ in train(model, X, SCHEDULE, num_steps=6, report_every=2, batch_size=4):
            if look:
                model.eval()
        return network[0].weight

    assert torch.equal(run(False), run(True))
