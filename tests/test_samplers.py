"""Samplers: times, steps, the loop. diffusers' schedulers are compared in test_samplers_against_diffusers.py."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import DTYPES, assert_near, normal, wavy_network
from scipy.integrate import solve_ivp

from diffusion_course import (
    CLEAN,
    SAMPLERS,
    Estimate,
    GaussianMixture,
    Level,
    Transition,
    ddim_step,
    ddpm_step,
    euler_ancestral_step,
    euler_step,
    heun_step,
    inference_timesteps,
    iterate_levels,
    make_denoise,
    make_schedule,
    mixture,
    noise_levels,
    p_sample_iter,
    p_sample_loop,
    sample_iter,
    sample_loop,
)
from diffusion_course.sampling import solvers
from diffusion_course.sampling.timesteps import SPACINGS, sigma_of

SCHEDULE = make_schedule("linear", 50, beta_end=0.2)
BAR = SCHEDULE.alphas_cumprod
STOCHASTIC = ("ddpm", "euler_ancestral")  # and "ddim" with eta
DETERMINISTIC = tuple(sampler for sampler in SAMPLERS if sampler not in STOCHASTIC)
IN_SIGMA = ("euler", "euler_ancestral", "heun")
STEPS = [1, 2, 3, 7, 10, 30, 49, 50]


def abar_of(sigma):
    return 1 / (1 + sigma**2)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- which times -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("total", [1, 2, 7, 50, 1000])
def test_times_are_n_strictly_decreasing_indices(total, spacing):
    for n in range(1, total + 1):
        t = inference_timesteps(total, n, spacing)
        assert t.dtype == torch.int64 and t.shape == (n,) and t.min() >= 0 and t.max() < total
        assert (t.diff() < 0).all()
        assert n < total or t.tolist() == list(reversed(range(total)))


@pytest.mark.parametrize(
    ("spacing", "n", "times"),
    [("linspace", 4, [999, 666, 333, 0]), ("leading", 4, [750, 500, 250, 0]), ("trailing", 4, [999, 749, 499, 249]),
     ("linspace", 3, [999, 500, 0]), ("leading", 3, [666, 333, 0]), ("trailing", 3, [999, 666, 332]),  # 3 does not divide 1000
     ("linspace", 7, [999, 832, 666, 500, 333, 166, 0]), ("leading", 7, [852, 710, 568, 426, 284, 142, 0]),
     ("trailing", 7, [999, 856, 713, 570, 428, 285, 142]),
     ("linspace", 1, [0]), ("leading", 1, [0]), ("trailing", 1, [999])],
)
def test_times_by_hand(spacing, n, times):
    assert inference_timesteps(1000, n, spacing).tolist() == times
    assert spacing != "trailing" or inference_timesteps(1000, n).tolist() == times


def test_levels_are_the_tables_and_then_clean_data():
    levels = noise_levels(SCHEDULE, torch.tensor([49, 30, 0]))
    assert levels == [Level(49, BAR[49].item()), Level(30, BAR[30].item()), Level(0, BAR[0].item()), CLEAN] and CLEAN == (
        None,
        1.0,
    )
    for same in ([49.0, 30, 0], (49, 30, 0), np.array([49, 30, 0]), list(np.array([49.0, 30, 0])), range(49, -1, -1)):
        assert noise_levels(SCHEDULE, same)[0] == levels[0] and noise_levels(SCHEDULE, same)[-2:] == levels[-2:]
    assert isinstance(levels[1].t, int)
    assert noise_levels(SCHEDULE.to(dtype=torch.float32), [49, 30, 0])[1].alpha_bar == pytest.approx(BAR[30].item(), rel=1e-6)


def test_between_two_indices_sigma_is_linear():
    times = [48.75, 30.0, 12.5, 0.1]
    levels = noise_levels(SCHEDULE, times)
    sigmas = np.sqrt(1 / BAR.numpy() - 1)
    expected = 1 / (1 + np.interp(times, np.arange(50), sigmas) ** 2)
    assert [t for t, _ in levels[:-1]] == times
    assert np.abs(np.array([a for _, a in levels[:-1]]) - expected).max() < 1e-15
    assert sigma_of(0.0) == math.inf and sigma_of(1.0) == 0 and sigma_of(0.2) == pytest.approx(2)


# --- one step --------------------------------------------------------------------------------------------------------------


def level_pairs():
    """(now, prev): neighbours, far apart, and the last step to clean data."""
    all_levels = noise_levels(SCHEDULE, list(reversed(range(50))))
    return [(all_levels[i], all_levels[j]) for i, j in ((0, 1), (0, 20), (10, 45), (0, 50), (49, 50))]


def steps_from(now, prev, **kwargs):
    """The x_prev of every sampler of order one, from one state, network and noise."""
    denoise, xt = make_denoise(wavy_network), normal(4, 3, seed=1)
    move = Transition(now, prev, noise=normal(4, 3, seed=2))
    x_prev = {name: step(denoise, xt, move, **kwargs).x_prev for name, step in SAMPLERS.items()}
    return x_prev | {"ddim(1)": ddim_step(denoise, xt, move, eta=1.0, **kwargs).x_prev}


@pytest.mark.parametrize(("now", "prev"), level_pairs())
def test_euler_is_ddim_and_the_ancestral_ones_are_one(now, prev):
    x_prev = steps_from(now, prev)
    assert_near(x_prev["euler"], x_prev["ddim"])
    assert_near(x_prev["dpmpp_2m"], x_prev["ddim"])  # without a step before it
    assert_near(x_prev["euler_ancestral"], x_prev["ddim(1)"])
    assert_near(x_prev["ddpm"], x_prev["ddim(1)"])
    if prev.alpha_bar < 1:
        different = [x_prev[name] for name in ("ddim", "ddpm", "heun")]
        assert min((a - b).abs().max() for i, a in enumerate(different) for b in different[:i]) > 1e-4


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("now", "prev"), level_pairs())
def test_ancestral_euler_with_eta_is_ddim_with_eta(now, prev, eta):
    arguments = make_denoise(wavy_network), normal(4, 3, seed=1), Transition(now, prev, noise=normal(4, 3, seed=2))
    assert_near(euler_ancestral_step(*arguments, eta=eta).x_prev, ddim_step(*arguments, eta=eta).x_prev)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("step", [ddim_step, euler_ancestral_step])
@pytest.mark.parametrize(("now", "prev"), level_pairs()[:3])
def test_a_step_with_the_true_estimate_lands_on_the_forward_kernel(now, prev, step, eta):
    """If x0 and noise are true, x_prev has mean sqrt(abar_prev) x0 and variance 1 - abar_prev, whatever eta is."""
    x0, noise, z = (torch.full((1, 1), v, dtype=torch.float64) for v in (0.7, 1.0, 1.0))
    zero = torch.zeros_like(z)

    def x_prev(noise, z):
        xt = math.sqrt(now.alpha_bar) * x0 + math.sqrt(1 - now.alpha_bar) * noise
        return step(lambda *_: Estimate(x0, noise), xt, Transition(now, prev, noise=z), eta=eta).x_prev.item()

    mean = x_prev(zero, zero)
    assert mean == pytest.approx(math.sqrt(prev.alpha_bar) * 0.7, abs=1e-12)
    from_noise, from_z = x_prev(noise, zero) - mean, x_prev(zero, z) - mean
    assert from_noise**2 + from_z**2 == pytest.approx(1 - prev.alpha_bar, abs=1e-12)
    assert (from_z > 0) == (eta > 0)


def test_ddpm_passes_on_to_the_step_of_lesson_04():
    (now, prev), xt, noise = level_pairs()[1], normal(4, 3, seed=1), normal(4, 3, seed=2)
    output = wavy_network(xt, torch.full((4,), now.t))
    for variance_type in ("fixed_small", "fixed_large"):
        expected = ddpm_step(output, xt, now.alpha_bar, prev.alpha_bar, noise, variance_type=variance_type)
        found = SAMPLERS["ddpm"](make_denoise(wavy_network), xt, Transition(now, prev, noise=noise), variance_type=variance_type)
        assert_near(found.x_prev, expected.x_prev)
        assert_near(found.estimate.x0, expected.x0_pred)


def test_heun_is_the_trapezium_rule_in_sigma():
    (now, prev), xt = level_pairs()[1], normal(4, 3, seed=1)

    def slope(xhat, level):  # dxhat / dsigma
        return wavy_network(xhat * math.sqrt(level.alpha_bar), torch.full((4,), level.t))

    sigma, sigma_prev, xhat = sigma_of(now.alpha_bar), sigma_of(prev.alpha_bar), xt / math.sqrt(now.alpha_bar)
    first = slope(xhat, now)
    second = slope(xhat + (sigma_prev - sigma) * first, prev)
    expected = (xhat + (sigma_prev - sigma) * (first + second) / 2) * math.sqrt(prev.alpha_bar)
    assert_near(heun_step(make_denoise(wavy_network), xt, Transition(now, prev)).x_prev, expected)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_calls_of_the_network(sampler):
    told = []

    def network(xt, t):
        told.append(t.tolist())
        return wavy_network(xt, t)

    sample_loop(network, (2, 3), SCHEDULE, sampler=sampler, timesteps=[40, 20, 10])
    expected = [40, 20, 20, 10, 10] if sampler == "heun" else [40, 20, 10]
    assert told == [[t] * 2 for t in expected]


@pytest.mark.parametrize("where", ["t as a number", "t as a tensor"])
def test_denoise_tells_the_network_the_time(where):
    seen = []

    def network(xt, t):
        seen.append(t)
        return xt

    for xt, t, dtype in (
        (normal(3, 2), 7, torch.int64),
        (normal(3, 2), 7.5, torch.float64),
        (normal(3, 2, dtype=torch.bfloat16), 7.5, torch.float32),
    ):
        make_denoise(network)(xt, Level(t if where == "t as a number" else torch.full((3,), t), 0.5))
        assert seen[-1].tolist() == [t] * 3 and (where == "t as a tensor" or seen[-1].dtype == dtype)


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction", "score"])
@pytest.mark.parametrize("clip_x0", [None, 0.8])
def test_estimate_solves_the_forward_equation_also_when_clipped(prediction_type, clip_x0):
    xt, level = 2 * normal(30, 3, seed=1), Level(20, BAR[20].item())
    x0, noise = make_denoise(wavy_network, prediction_type=prediction_type, clip_x0=clip_x0)(xt, level)
    assert_near(BAR[20].sqrt() * x0 + (1 - BAR[20]).sqrt() * noise, xt)
    free = make_denoise(wavy_network, prediction_type=prediction_type)(xt, level).x0
    assert_near(x0, free if clip_x0 is None else free.clamp(-0.8, 0.8))
    assert clip_x0 is None or prediction_type == "sample" or not torch.equal(x0, free)


# --- order of convergence --------------------------------------------------------------------------------------------------

PAIR = mixture("pair")
FROM, TO = 10.0, 0.05  # sigma: the exact ODE between the two, so that no step to clean data adds an error of its own
POINTS = normal(64, 2, seed=3)
COUNTS = (20, 40, 80, 160)


def exact(xt, level):
    return Estimate(PAIR.posterior_mean(xt, level.alpha_bar), PAIR.noise_prediction(xt, level.alpha_bar))


@pytest.fixture(scope="module")
def reference():
    """x at sigma = TO by scipy's eighth-order DOP853 on dxhat / dsigma = E[noise | x_t]."""

    def slope(sigma, xhat):
        alpha_bar = abar_of(sigma)
        return PAIR.noise_prediction(torch.from_numpy(xhat).reshape(-1, 2) * math.sqrt(alpha_bar), alpha_bar).flatten().numpy()

    start = (POINTS / math.sqrt(abar_of(FROM))).flatten().numpy()
    end = solve_ivp(slope, (FROM, TO), start, method="DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
    return torch.from_numpy(end).reshape(-1, 2) * math.sqrt(abar_of(TO))


def uneven(n):
    """Steps in log sigma that are short and long in turn, 1 : 3: their ratio does not approach 1 as n grows."""
    steps = np.where(np.arange(n) % 2, 3.0, 1.0)
    share = np.concatenate([[0.0], np.cumsum(steps) / steps.sum()])
    return FROM * (TO / FROM) ** share


GRIDS = {
    "log": lambda n: np.geomspace(FROM, TO, n + 1),
    "karras": lambda n: np.linspace(FROM ** (1 / 7), TO ** (1 / 7), n + 1) ** 7,  # arXiv 2206.00364, eq. 5
    "uneven": uneven,
}


def measured_order(sampler, grid, reference):
    """Minus the slope of log error against log n. The error is the median over the points: near the ridge between the two
    modes a point may end in the other mode, and one such point would decide the mean."""
    errors = []
    for n in COUNTS:
        levels = [Level(None, abar_of(sigma)) for sigma in GRIDS[grid](n)]
        *_, state = iterate_levels(exact, POINTS, levels, sampler=sampler)
        errors.append((state.x - reference).norm(dim=1).median().item())
    return -np.polyfit(np.log(COUNTS), np.log(errors), 1)[0]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(
    ("sampler", "order", "tolerance"), [("euler", 1, 0.15), ("ddim", 1, 0.15), ("heun", 2, 0.2), ("dpmpp_2m", 2, 0.2)]
)
def test_order_of_convergence(sampler, order, tolerance, grid, reference):
    assert abs(measured_order(sampler, grid, reference) - order) < tolerance


def heun_of_one_slope(denoise, xt, move):
    guess = euler_step(denoise, xt, move).x_prev
    slope = denoise(guess, move.then).noise  # the second slope alone: first order
    return euler_step(lambda *_: Estimate(xt, slope), xt, move)


def dpmpp_of_even_steps(denoise, xt, move):
    """2M with r = 1 always, which is right only if all h are equal."""
    if move.before is not None:
        h = math.log(sigma_of(move.now.alpha_bar) / sigma_of(move.then.alpha_bar))
        earlier = Level(None, abar_of(sigma_of(move.now.alpha_bar) * math.exp(h)))
        move = move._replace(before=(earlier, move.before[1]))
    return SAMPLERS["dpmpp_2m"](denoise, xt, move)


def dpmpp_without_memory(denoise, xt, move):
    return SAMPLERS["dpmpp_2m"](denoise, xt, move._replace(before=None))


@pytest.mark.parametrize(
    ("planted", "grid"), [(heun_of_one_slope, "log"), (dpmpp_without_memory, "log"), (dpmpp_of_even_steps, "uneven")]
)
def test_an_error_that_costs_an_order_is_seen(planted, grid, reference):
    assert measured_order(planted, grid, reference) < 1.5


@pytest.mark.parametrize("sampler", ["ddim", "euler", "heun", "dpmpp_2m"])
def test_fine_chain_on_one_gaussian_follows_the_known_curve(sampler):
    """For N(m, s^2) the ODE has the solution xhat - m = c sqrt(s^2 + sigma^2)."""
    mean, variance = 0.7, 0.09
    one = torch.ones(1, dtype=torch.float64)
    data = GaussianMixture(one, mean * one[None], variance * one[None, None])
    schedule, start = make_schedule("linear", 1000), normal(5, 1)
    found = sample_loop(
        data.model(schedule.alphas_cumprod), (5, 1), schedule, sampler=sampler, num_inference_steps=1000, x_init=start
    )
    bar = schedule.alphas_cumprod[-1]
    xhat = mean + (start / bar.sqrt() - mean) * (variance / (variance + 1 / bar - 1)).sqrt()
    assert_near(found, xhat, 5e-3 if sampler in ("ddim", "euler") else 5e-4)
    coarse = sample_loop(
        data.model(schedule.alphas_cumprod), (5, 1), schedule, sampler=sampler, num_inference_steps=5, x_init=start
    )
    assert (coarse - xhat).abs().max() > 10 * (found - xhat).abs().max()


# --- the loop --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize("clip_x0", [None, 0.9])
def test_all_steps_of_ddpm_are_p_sample_loop(clip_x0, variance_type):
    options = {"clip_x0": clip_x0, "variance_type": variance_type}
    tables = SCHEDULE.betas, SCHEDULE.alphas, SCHEDULE.alphas_cumprod
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        options["dtype"] = dtype
        theirs = list(p_sample_iter(wavy_network, (3, 2), *tables, generator=generator(), **options))
        states = list(
            sample_iter(wavy_network, (3, 2), SCHEDULE, sampler="ddpm", num_inference_steps=50, generator=generator(), **options)
        )
        assert [state.t for state in states] == [t for t, *_ in theirs] == list(reversed(range(50)))
        for state, (_, x, x0_pred) in zip(states, theirs, strict=True):
            assert_near(state.x, x, tolerance * max(1.0, x.abs().max().item()))
            assert_near(state.x0_pred, x0_pred, tolerance * max(1.0, x0_pred.abs().max().item()))
    exact_network = PAIR.model(SCHEDULE.alphas_cumprod)
    found = sample_loop(
        exact_network, (500, 2), SCHEDULE, sampler="ddpm", num_inference_steps=50, generator=generator(), dtype=torch.float64
    )
    assert_near(found, p_sample_loop(exact_network, (500, 2), *tables, generator=generator(), dtype=torch.float64), 1e-12)


@pytest.mark.parametrize("n", STEPS)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_whole_chains_that_are_the_same_chain(spacing, n):
    """Euler = DDIM; ancestral Euler = DDIM(eta = 1) = ancestral DDPM: over whole chains with one generator's seed."""
    arguments = {"num_inference_steps": n, "spacing": spacing, "dtype": torch.float64}

    def run(sampler, **options):
        return sample_loop(wavy_network, (4, 3), SCHEDULE, sampler=sampler, generator=generator(), **arguments, **options)

    assert_near(run("euler"), run("ddim"), 1e-11)
    ancestral = run("euler_ancestral")
    assert_near(ancestral, run("ddim", eta=1.0), 1e-11)
    assert_near(ancestral, run("ddpm"), 1e-11)
    assert n == 1 or (ancestral - run("ddim")).abs().max() > 1e-3


def test_chain_by_hand():
    """Two steps of DPM-Solver++(2M), then one to clean data, and of DDIM: written out."""
    schedule, x = make_schedule("linear", 10, beta_end=0.5), normal(3, 2)
    a, s = schedule.alphas_cumprod.sqrt(), (1 - schedule.alphas_cumprod).sqrt()
    lam = (a / s).log()

    def x0_of(x, i):
        return (x - s[i] * wavy_network(x, torch.full((3,), i))) / a[i]

    d9 = x0_of(x, 9)
    x5 = s[5] / s[9] * x - a[5] * ((lam[9] - lam[5]).exp() - 1) * d9
    d5 = x0_of(x5, 5)
    r = (lam[5] - lam[9]) / (lam[2] - lam[5])
    x2 = s[2] / s[5] * x5 - a[2] * ((lam[5] - lam[2]).exp() - 1) * ((1 + 1 / (2 * r)) * d5 - d9 / (2 * r))
    states = list(sample_iter(wavy_network, (3, 2), schedule, sampler="dpmpp_2m", timesteps=[9, 5, 2], x_init=x))
    for state, expected in zip(states, (x5, x2, x0_of(x2, 2)), strict=True):
        assert_near(state.x, expected, 1e-12)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_iterator_shows_every_step_and_the_loop_its_last(sampler):
    arguments = (wavy_network, (4, 3), SCHEDULE)
    options = {"sampler": sampler, "num_inference_steps": 7}
    states, seen = list(sample_iter(*arguments, generator=generator(), **options)), []
    x = sample_loop(*arguments, generator=generator(), callback=seen.append, **options)
    assert [s.step for s in states] == list(range(1, 8)) and {s.num_steps for s in states} == {7}
    assert [s.t for s in states] == inference_timesteps(50, 7).tolist() and all(isinstance(s.t, int) for s in states)
    assert torch.equal(x, states[-1].x) and len(seen) == 7
    assert all(torch.equal(a.x, b.x) and torch.equal(a.x0_pred, b.x0_pred) for a, b in zip(states, seen, strict=True))
    assert all(s.x.shape == s.x0_pred.shape == (4, 3) and torch.isfinite(s.x).all() for s in states)
    assert_near(states[-1].x, states[-1].x0_pred, 1e-5)  # the step to clean data lands on the estimate
    assert len({s.x.data_ptr() for s in states}) == 7  # no state is overwritten by a later one


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_generator_decides(sampler):
    def run(seed, x_init=None, **options):
        return sample_loop(
            wavy_network,
            (4, 3),
            SCHEDULE,
            sampler=sampler,
            num_inference_steps=5,
            generator=generator(seed),
            x_init=x_init,
            **options,
        )

    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))
    start = normal(4, 3, dtype=torch.float32)
    before = start.clone()
    assert torch.equal(run(1, start), run(2, start)) == (sampler not in STOCHASTIC) and torch.equal(start, before)
    if sampler == "ddim":
        assert not torch.equal(run(1, start, eta=0.5), run(2, start, eta=0.5))
    torch.manual_seed(3)
    first = sample_loop(wavy_network, (4, 3), SCHEDULE, sampler=sampler, num_inference_steps=5)
    torch.manual_seed(3)
    assert torch.equal(first, sample_loop(wavy_network, (4, 3), SCHEDULE, sampler=sampler, num_inference_steps=5))


@pytest.mark.parametrize(("sampler", "draws"), [("ddim", 0), ("euler", 0), ("heun", 0), ("dpmpp_2m", 0), ("euler_ancestral", 4)])
def test_only_noise_that_is_used_is_drawn(sampler, draws):
    used, counted = generator(), generator()
    start = normal(4, 3)
    sample_loop(wavy_network, (4, 3), SCHEDULE, sampler=sampler, num_inference_steps=5, x_init=start, generator=used)
    for _ in range(draws):  # none on the step to clean data
        torch.randn(4, 3, generator=counted, dtype=torch.float64)
    assert torch.equal(used.get_state(), counted.get_state())


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype_is_the_networks_unless_asked_otherwise(dtype, sampler):
    layer = torch.nn.Linear(3, 3, dtype=dtype)

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, xt, t):
            return self.layer(xt.to(dtype))

    options = {"sampler": sampler, "num_inference_steps": 4, "generator": generator()}
    assert sample_loop(Network(), (2, 3), SCHEDULE, **options).dtype == dtype
    assert sample_loop(Network(), (2, 3), SCHEDULE, dtype=torch.float64, **options).dtype == torch.float64
    assert sample_loop(wavy_network, (2, 3), SCHEDULE, x_init=torch.zeros(2, 3, dtype=dtype), **options).dtype == dtype
    assert sample_loop(wavy_network, (2, 3), SCHEDULE, **options).dtype == torch.float32


@pytest.mark.parametrize("sampler", DETERMINISTIC)  # generators draw other numbers in other dtypes
def test_low_precision_is_the_same_chain(sampler):
    def run(dtype):
        return sample_loop(wavy_network, (4, 3), SCHEDULE, sampler=sampler, num_inference_steps=10, x_init=start.to(dtype))

    start = normal(4, 3).bfloat16()
    wanted = run(torch.float64)
    assert_near(run(torch.float32), wanted, 1e-5 * wanted.abs().max().item())
    assert_near(run(torch.bfloat16), wanted, 0.2 * wanted.abs().max().item())


def test_no_gradient_in_the_chain_and_the_condition_is_passed():
    layer, got = torch.nn.Linear(3, 3), []
    x = sample_loop(
        lambda xt, t, cond: got.append(cond) or layer(xt), (2, 3), SCHEDULE, num_inference_steps=3, cond=torch.arange(2)
    )
    assert not x.requires_grad and len(got) == 3 and all(torch.equal(c, torch.arange(2)) for c in got)
    next(sample_iter(wavy_network, (2, 3), SCHEDULE))
    assert torch.is_grad_enabled()


def test_a_step_passes_gradients_outside_the_loop():
    xt = normal(2, 3).requires_grad_()
    for step in SAMPLERS.values():
        x_prev = step(make_denoise(wavy_network), xt, Transition(*level_pairs()[1], noise=normal(2, 3))).x_prev
        (gradient,) = torch.autograd.grad(x_prev.sum(), xt)
        assert torch.isfinite(gradient).all() and gradient.abs().max() > 0


def test_start_is_standard_normal_of_the_shape():
    state = next(sample_iter(lambda xt, t: xt * 0, (20_000, 1), SCHEDULE, timesteps=[49], generator=generator()))
    x = state.x * BAR[49].sqrt()  # a network of zeros: x0_pred = x_T / sqrt(abar)
    assert abs(x.mean().item()) < 5 / math.sqrt(20_000) and abs(x.var().item() - 1) < 5 * math.sqrt(2 / 20_000)


def test_a_step_function_of_your_own():
    def to_the_estimate(denoise, xt, move, *, pull=1.0):
        estimate = denoise(xt, move.now)
        return solvers.SamplerStep(xt + pull * (estimate.x0 - xt), estimate)

    x = normal(2, 3)
    found = sample_loop(wavy_network, (2, 3), SCHEDULE, sampler=to_the_estimate, timesteps=[20], x_init=x, pull=0.5)
    assert_near(found, (x + make_denoise(wavy_network)(x, noise_levels(SCHEDULE, [20])[0]).x0) / 2, 1e-12)


@pytest.mark.parametrize("sampler", DETERMINISTIC)
def test_rows_of_a_batch_do_not_meet(sampler):
    start, options = normal(5, 2, 2), {"sampler": sampler, "num_inference_steps": 6}
    whole = sample_loop(wavy_network, (5, 2, 2), SCHEDULE, x_init=start, **options)
    for i in range(5):
        assert_near(whole[i : i + 1], sample_loop(wavy_network, (1, 2, 2), SCHEDULE, x_init=start[i : i + 1], **options), 1e-13)


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpmpp_2m"])
def test_from_zero_terminal_snr(sampler, prediction_type):
    """From abar = 0 the exact network's chain finds the mixture: x_T says nothing about x_0, so it starts at the data's mean."""
    schedule = make_schedule("cosine", 100, zero_terminal_snr=True)
    network = PAIR.model(schedule.alphas_cumprod, prediction_type)
    options = {"sampler": sampler, "prediction_type": prediction_type, "dtype": torch.float64, "generator": generator()}
    states = list(sample_iter(network, (2000, 2), schedule, num_inference_steps=100, **options))
    assert_near(states[0].x0_pred, (PAIR.weights[:, None] * PAIR.means).sum(0).expand(2000, 2), 1e-9)
    right = (states[-1].x[:, 0] > 0).double().mean().item()
    assert abs(right - 0.7) < 5 * math.sqrt(0.21 / 2000) + 0.01


# --- refusals --------------------------------------------------------------------------------------------------------------

X = normal(4, 2)
ZERO = make_schedule("linear", 5, zero_terminal_snr=True)
NOISY, LESS = Level(30, 0.3), Level(10, 0.6)


def run(**kwargs):
    arguments = {"model": lambda xt, t: xt, "shape": (4, 2), "schedule": SCHEDULE, "num_inference_steps": 3} | kwargs
    return sample_loop(**arguments)


def step(name, now=NOISY, then=LESS, *, noise=None, before=None, **options):
    return SAMPLERS[name](make_denoise(lambda xt, t: xt), X, Transition(now, then, before, noise), **options)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: inference_timesteps(10, 11), ValueError, r"num_inference_steps must be at most T = num_train_timesteps = 10.*got 11"),
        (lambda: inference_timesteps(10, 0), ValueError, r"num_inference_steps must be at least 1, got 0"),
        (lambda: inference_timesteps(10, 2.0), TypeError, r"num_inference_steps must be an int, got float 2\.0"),
        (lambda: inference_timesteps(10, 2, "karras"), ValueError, r"spacing must be one of 'linspace', 'leading', 'trailing', got 'karras'"),
        (lambda: noise_levels(SCHEDULE, []), ValueError, r"timesteps must be numbers of shape \(n,\), n >= 1, got list \[\]"),
        (lambda: noise_levels(SCHEDULE, torch.zeros(2, 2)), ValueError, r"timesteps must be numbers of shape \(n,\).*shape \(2, 2\)"),
        (lambda: noise_levels(SCHEDULE, torch.tensor(3)), ValueError, r"timesteps must be numbers of shape \(n,\).*shape \(\)"),
        (lambda: noise_levels(SCHEDULE, ["3"]), TypeError, r"timesteps\[0\] must be a number, got str '3'"),
        (lambda: noise_levels(SCHEDULE, 3), TypeError, r"timesteps must be a torch\.Tensor or a list, got int 3"),
        (lambda: noise_levels(SCHEDULE, [50, 3]), ValueError, r"timesteps must lie in \[0, 49\], the schedule's indices, got list \[50, 3\]"),
        (lambda: noise_levels(SCHEDULE, [3, -1]), ValueError, r"timesteps must lie in \[0, 49\]"),
        (lambda: noise_levels(SCHEDULE, [float("nan")]), ValueError, r"timesteps\[0\] must be a number, got float nan"),
        (lambda: noise_levels(SCHEDULE, [3, 10]), ValueError, r"must decrease strictly.*timesteps\[0\] = 3 and timesteps\[1\] = 10"),
        (lambda: noise_levels(SCHEDULE, [10, 3, 3]), ValueError, r"must decrease strictly.*timesteps\[1\] = 3 and timesteps\[2\] = 3"),
        (lambda: noise_levels(BAR, [3]), TypeError, r"schedule must be a NoiseSchedule, got shape \(50,\)"),
        (lambda: run(sampler="plms"), ValueError, r"sampler must be one of 'ddpm', 'ddim', 'euler', .*got 'plms'"),
        (lambda: run(prediction_type="noise"), ValueError, r"prediction_type must be one of.*'noise'"),
        (lambda: run(clip_x0=0.0), ValueError, r"clip_x0 must be positive or None, got 0\.0"),
        (lambda: run(num_inference_steps=51), ValueError, r"num_inference_steps must be at most T = num_train_timesteps = 50"),
        (lambda: run(shape=4), TypeError, r"shape must be a tuple or list, got int 4"),
        (lambda: run(shape=(0, 2)), ValueError, r"shape must hold sizes of at least 1.*got tuple \(0, 2\)"),
        (lambda: run(x_init=X[:3]), ValueError, r"x_init must have the shape \(4, 2\) that was asked for, got shape \(3, 2\)"),
        (lambda: run(x_init=X.long()), TypeError, r"x_init must have a floating dtype"),
        (lambda: run(x_init=X, device="meta"), ValueError, r"x_init is on cpu and device='meta'"),
        (lambda: run(model=torch.nn.Linear(2, 2), x_init=X.to("meta")), ValueError, r"the network's weights is on cpu and x_init on meta"),
        (lambda: run(cond=torch.zeros(4, device="meta")), ValueError, r"cond is on meta and x_init on cpu"),
        (lambda: run(model=lambda x, t: x[:2]), ValueError, r"the network must return the shape and device of xt: got shape \(2, 2\)"),
        (lambda: run(model=lambda x, t: [1]), TypeError, r"the network must return a tensor like xt .*got list \[1\]"),
        (lambda: run(eta=1.5), ValueError, r"eta must lie in \[0, 1\].*got 1\.5"),
        (lambda: run(eta=float("nan")), ValueError, r"eta must be a number, got float nan"),
        (lambda: run(sampler="heun", eta=0.5), TypeError, "eta"),
        (lambda: run(steps=5), TypeError, "steps"),
        (lambda: run(sampler="ddpm", variance_type="learned"), ValueError, r"variance_type must be one of"),
        (lambda: run(schedule=ZERO), ValueError, r"alpha_bar = 0 prediction_type='epsilon' does not determine x0: use 'v_prediction'"),
        *((lambda name=name: run(schedule=ZERO, sampler=name, prediction_type="v_prediction"), ValueError,
           name + r' works in sigma, which is infinite at alpha_bar = 0: use "ddim"') for name in IN_SIGMA),
        *((lambda name=name: step(name, LESS, NOISY), ValueError,
           r"a step goes to less noise.*now\.alpha_bar = 0\.6 and then\.alpha_bar = 0\.3") for name in SAMPLERS),
        *((lambda name=name: step(name, NOISY, NOISY), ValueError, r"a step goes to less noise") for name in SAMPLERS),
        *((lambda name=name: step(name, NOISY, Level(None, 1.1)), ValueError, r"a step goes to less noise") for name in SAMPLERS),
        (lambda: ddim_step(make_denoise(wavy_network), X, NOISY), TypeError, r"move must be a Transition, got Level"),
        (lambda: step("ddim", noise=X[:1], eta=1.0), ValueError, r"noise must have the shape of xt"),
        (lambda: step("euler_ancestral", noise=X.float()), TypeError, r"noise must have the dtype of xt"),
        (lambda: step("euler_ancestral", noise=X.to("meta")), ValueError, r"noise is on meta and xt on cpu"),
        (lambda: step("dpmpp_2m", before=(LESS, Estimate(X, X))), ValueError, r"a step goes to less noise"),
        (lambda: list(iterate_levels(make_denoise(wavy_network), X, [NOISY])), ValueError, r"a chain needs at least two levels"),
    ],
)
def test_refused_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_arguments_are_checked_before_the_first_step():
    with pytest.raises(ValueError, match="timesteps must decrease strictly"):
        sample_iter(wavy_network, (4, 2), SCHEDULE, timesteps=[1, 2])
    with pytest.raises(ValueError, match="x_init must have the shape"):
        sample_iter(wavy_network, (4, 2), SCHEDULE, x_init=X[:2])


def test_times_of_neighbouring_levels_need_not_be_neighbours():
    """Any strictly decreasing list is a chain; a longer one through the same levels goes through more states."""
    times = [47.3, 31, 30.5, 2]
    states = list(sample_iter(wavy_network, (4, 2), SCHEDULE, timesteps=times, x_init=X))
    levels = noise_levels(SCHEDULE, times)
    x = X
    for (now, prev), state in zip(pairwise(levels), states, strict=True):
        noise = wavy_network(x, torch.full((4,), float(now.t), dtype=torch.float64))
        x0 = (x - math.sqrt(1 - now.alpha_bar) * noise) / math.sqrt(now.alpha_bar)
        x = math.sqrt(prev.alpha_bar) * x0 + math.sqrt(1 - prev.alpha_bar) * noise
        assert_near(state.x, x, 1e-12)
    assert [s.t for s in states] == times


def test_a_posterior_step_refuses_an_estimate_of_another_shape():
    x, move = torch.ones(3, 2), Transition(NOISY, LESS)
    with pytest.raises(ValueError, match="x0_pred must have the"):
        SAMPLERS["ddpm"](lambda xt, level: Estimate(torch.ones(1, 2), xt), x, move)


def test_eta_may_come_from_numpy():
    for eta in np.linspace(0, 1, 3):
        run(eta=eta, generator=generator())


def test_options_are_checked_before_the_first_step():
    """The iterator is not even started: what cannot work is said by the call that asks for it."""
    calls = {
        r"eta must lie in \[0, 1\].*got 5": {"eta": 5},
        r"sampler 'ddim' has no option 'etta': it has eta": {"etta": 1},
        r"sampler 'euler' has no option 'eta': it has none": {"sampler": "euler", "eta": 1},
    }
    for message, options in calls.items():
        with pytest.raises((TypeError, ValueError), match=message):
            sample_iter(wavy_network, (2, 2), SCHEDULE, num_inference_steps=3, **options)
    zero = make_schedule("linear", 50, zero_terminal_snr=True)
    with pytest.raises(ValueError, match="does not determine x0"):
        sample_iter(wavy_network, (2, 2), zero, num_inference_steps=3)
    with pytest.raises(ValueError, match="euler works in sigma"):
        sample_iter(wavy_network, (2, 2), zero, num_inference_steps=3, sampler="euler", prediction_type="v_prediction")
    with pytest.raises(TypeError, match=r"schedule must be a NoiseSchedule, got shape \(50,\).*make_schedule"):
        sample_iter(wavy_network, (2, 2), SCHEDULE.betas)


def test_numpys_numbers_are_numbers():
    expected = sample_loop(wavy_network, (2, 2), SCHEDULE, timesteps=[45, 30, 15], x_init=X[:2, :2], clip_x0=0.5)
    for times in (np.arange(45, 0, -15), list(np.arange(45, 0, -15)), torch.arange(45, 0, -15), np.arange(45.0, 0, -15)):
        found = sample_loop(wavy_network, (np.int64(2), 2), SCHEDULE, timesteps=times, x_init=X[:2, :2], clip_x0=np.float32(0.5))
        assert torch.equal(found, expected)


def test_a_table_too_coarse_for_its_steps_is_named_with_its_dtype():
    coarse = make_schedule("linear", 1000).to(dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"now.alpha_bar = 0\.\d+ and then.alpha_bar = 0\.\d+.*narrow dtype"):
        sample_loop(wavy_network, (2, 2), coarse, num_inference_steps=1000)
    with pytest.raises(ValueError, match=r"alphas_cumprod must fall at each step.*bfloat16.*Neighbours in float64 stay apart"):
        p_sample_loop(wavy_network, (2, 2), coarse.betas, coarse.alphas, coarse.alphas_cumprod)
    assert sample_loop(wavy_network, (2, 2), coarse, num_inference_steps=10).isfinite().all()
