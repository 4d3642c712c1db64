"""Flow matching against what is known exactly: mixtures, the quantile map, diffusion, diffusers' scheduler."""

import math

import numpy as np
import pytest
import torch
from helpers import DTYPES, assert_near, normal, unchanged, wavy_network

from diffusion_course import (
    MLP,
    GaussianMixture,
    as_velocity,
    diffusion_loss,
    flow_interpolate,
    flow_iter,
    flow_level,
    flow_loop,
    flow_loss,
    flow_schedule,
    flow_time,
    flow_times,
    from_x0_and_noise,
    logit_normal_times,
    make_generator,
    make_schedule,
    mixture,
    noise_levels,
    sample_loop,
    shift_time,
    to_x0_and_noise,
)
from diffusion_course.flow.paths import told

F64 = {"dtype": torch.float64}
EYE = torch.eye(2, **F64)
PLANE = GaussianMixture(
    torch.tensor([0.3, 0.7], **F64), torch.tensor([[-2.0, 0.0], [1.5, 1.0]], **F64),
    torch.stack([0.15 * EYE, torch.tensor([[0.3, 0.2], [0.2, 0.3]], **F64)]),
)
LINE = GaussianMixture(torch.tensor([0.3, 0.7], **F64), torch.tensor([[-2.0], [1.5]], **F64), torch.tensor([[[0.15]], [[0.3]]], **F64))
TIMES = torch.linspace(0, 1, 11, **F64)


def test_a_path_in_numbers():
    """One pixel: x0 = 2, noise = -1, a quarter of the way."""
    x0, noise = torch.tensor([2.0]), torch.tensor([-1.0])
    assert flow_interpolate(x0, 0.25, noise).item() == 1.25
    assert flow_interpolate(x0, 0.0, noise).item() == 2 and flow_interpolate(x0, 1.0, noise).item() == -1


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_path_keeps_shape_and_dtype_and_each_sample_has_its_time(dtype):
    x0, noise = normal(3, 1, 2, 2, dtype=dtype), normal(3, 1, 2, 2, seed=1, dtype=dtype)
    t = torch.tensor([0.0, 0.3, 1.0], **F64)
    xt = unchanged(flow_interpolate, x0, t, noise)
    assert xt.dtype == dtype and xt.shape == x0.shape
    assert torch.equal(xt[0], x0[0]) and torch.equal(xt[2], noise[2])
    assert_near(xt[1], (0.7 * x0[1].double() + 0.3 * noise[1].double()).to(dtype), 2 * torch.finfo(dtype).eps)
    one = flow_interpolate(x0[1:2], 0.3, noise[1:2])
    assert_near(one, xt[1:2], 2 * torch.finfo(dtype).eps)


def test_noise_is_drawn_from_the_generator():
    x0 = normal(4, 2)
    a, b = (flow_interpolate(x0, 0.5, generator=make_generator(3)) for _ in range(2))
    drawn = torch.randn(4, 2, generator=make_generator(3), **F64)
    assert torch.equal(a, b) and torch.equal(a, flow_interpolate(x0, 0.5, drawn))


def test_a_time_is_a_level_and_back():
    alpha_bar, scale = flow_level(TIMES)
    x0, noise = normal(11, 2), normal(11, 2, seed=1)
    vp = alpha_bar.sqrt()[:, None] * x0 + (1 - alpha_bar).sqrt()[:, None] * noise
    assert_near(flow_interpolate(x0, TIMES, noise) / scale[:, None], vp)
    assert_near(flow_time(alpha_bar), TIMES)
    assert flow_level(0.5) == (0.5, math.sqrt(0.5)) and flow_time(0.5) == 0.5 and flow_time(1.0) == 0 and flow_time(0.0) == 1


def test_the_schedule_of_a_flow_has_its_levels():
    schedule = flow_schedule(20)
    assert_near(schedule.alphas_cumprod, flow_level(torch.arange(1, 21, **F64) / 20)[0], 1e-12)
    assert schedule.alphas_cumprod[-1] == 0 and schedule.num_train_timesteps == 20


@pytest.mark.parametrize("t", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_exact_velocity_is_what_regression_finds(t):
    """Its residual is orthogonal to it, and its mean square is the least possible loss."""
    generator = make_generator(0)
    x0 = PLANE.sample(40_000, generator=generator)
    noise = torch.randn(x0.shape, generator=generator, **F64)
    xt = flow_interpolate(x0, t, noise)
    v = unchanged(PLANE.velocity, xt, t)
    residual = noise - x0 - v
    error = 4 * (residual * v).std() / math.sqrt(residual.numel() / 2)
    assert abs((residual * v).mean()) < error and (residual * xt).mean().abs() < 4 * (residual * xt).std() / 200
    if t:
        square = residual**2
        floor = PLANE.velocity_loss_floor(t, num_samples=20_000, generator=generator)
        assert abs(square.mean() - floor) < 6 * square.std() / math.sqrt(40_000)


def test_the_exact_velocity_by_two_other_roads():
    x = normal(50, 2)
    for t in (0.05, 0.5, 0.95):
        alpha_bar, scale = flow_level(t)
        x0 = PLANE.posterior_mean(x / scale, alpha_bar)
        noise = (x - (1 - t) * x0) / t
        assert_near(PLANE.velocity(x, t), (x - x0) / t, 1e-10)
        assert_near(PLANE.velocity(x, t), (noise - x) / (1 - t), 1e-10)
        table = torch.tensor([alpha_bar], **F64)
        read = PLANE.model(table, "velocity")(x / scale, torch.zeros(50, dtype=torch.int64))
        assert_near(PLANE.velocity(x, t), read, 1e-10)
    assert_near(PLANE.velocity(x, 0.0), -x, 1e-12)  # at the data nothing is known of the noise
    assert_near(PLANE.velocity(x, 1.0), x - (PLANE.weights[:, None] * PLANE.means).sum(0), 1e-12)
    each = torch.linspace(0, 1, 50, **F64)
    assert_near(PLANE.velocity(x, each)[7], PLANE.velocity(x[7:8], each[7].item())[0], 1e-12)


def test_the_least_loss_at_a_tenth():
    assert PLANE.velocity_loss_floor(0.1, num_samples=20_000, generator=make_generator(0)) == pytest.approx(1.149, abs=0.02)


def test_the_velocity_carries_the_density():
    """The continuity equation, dp/dt = -div(p v), at points of the plane, by autograd and differences."""
    x, t, h = normal(6, 2).requires_grad_(), 0.4, 1e-5

    def density(x, t):
        alpha_bar, scale = flow_level(t)
        return PLANE.log_prob(x / scale, alpha_bar).exp() / scale**2

    flux = density(x, t)[:, None] * PLANE.velocity(x, t)
    divergence = sum(torch.autograd.grad(flux[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(2))
    change = (density(x, t + h) - density(x, t - h)) / (2 * h)
    assert_near(change.detach(), -divergence, 1e-7)


def test_in_one_dimension_the_flow_is_the_quantile_map():
    z = torch.linspace(-2.5, 2.5, 21, **F64)[:, None]
    y = flow_loop(LINE.velocity, z, 500, method="heun")

    def below(x):
        means, stds = LINE.means[:, 0], LINE.covariances[:, 0, 0].sqrt()
        return (LINE.weights * torch.special.ndtr((x - means) / stds)).sum(1)

    assert_near(below(y), torch.special.ndtr(z[:, 0]), 1e-5)


def test_flow_and_diffusion_end_in_one_place():
    """The flow's ODE and the probability-flow ODE of the cosine schedule, dx/dphi = v, from one noise."""
    z = normal(50, 2)
    x = z
    angles = torch.linspace(math.pi / 2, 0, 301, **F64).tolist()

    def slope(x, phi):
        alpha_bar = math.cos(phi) ** 2
        return from_x0_and_noise(PLANE.posterior_mean(x, alpha_bar), PLANE.noise_prediction(x, alpha_bar), alpha_bar, "v_prediction")

    for a, b in zip(angles, angles[1:], strict=False):
        first = slope(x, a)
        x = x + (b - a) * (first + slope(x + (b - a) * first, b)) / 2
    assert_near(flow_loop(PLANE.velocity, z, 300, method="heun"), x, 1e-3)


def test_the_loop_there_and_back():
    z = normal(20, 2)
    x0 = flow_loop(PLANE.velocity, z, 150, method="heun")
    *_, back = flow_iter(PLANE.velocity, x0, flow_times(150)[::-1], method="heun")
    assert_near(back.x, z, 1e-2)


def test_euler_is_exact_on_a_path_of_its_own_and_its_error_halves():
    x0, noise = normal(3, 2), normal(3, 2, seed=1)
    assert_near(flow_loop(lambda x, t: noise - x0, noise, 1), x0, 1e-14)
    exact = flow_loop(PLANE.velocity, noise, 800, method="heun")
    first, second = ((flow_loop(PLANE.velocity, noise, n) - exact).norm() for n in (50, 100))
    assert 1.7 < first / second < 2.3
    first, second = ((flow_loop(PLANE.velocity, noise, n, method="heun") - exact).norm() for n in (50, 100))
    assert 3 < first / second < 5


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_state_keeps_its_dtype_and_the_network_is_told_a_thousand_t(dtype):
    seen = []

    def network(x, t):
        seen.append(t)
        return torch.zeros_like(x)

    states = list(flow_iter(as_velocity(network), torch.ones(3, 2, dtype=dtype), [1.0, 0.25]))
    assert states[0].x.dtype == dtype and states[0].step == states[0].num_steps == 1 and states[0].t == 1
    assert torch.equal(seen[0], torch.full((3,), 1000.0, dtype=torch.promote_types(dtype, torch.float32)))
    assert_near(told(torch.tensor(0.25), torch.ones(2, 2)), torch.tensor([250.0, 250.0]))


def test_a_batch_is_as_good_as_its_samples():
    x = normal(3, 2).float()
    together = flow_loop(as_velocity(wavy_network), x, 4, shift=2.0)
    alone = torch.cat([flow_loop(as_velocity(wavy_network), one[None], 4, shift=2.0) for one in x])
    assert_near(together, alone, 1e-6)


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction", "score", "velocity"])
def test_a_network_of_diffusion_is_a_velocity(prediction_type):
    schedule = make_schedule("cosine", 50)
    velocity = as_velocity(PLANE.model(schedule.alphas_cumprod, prediction_type), schedule, prediction_type=prediction_type)
    x = normal(50, 2)
    at_indices = flow_time(schedule.alphas_cumprod)
    assert_near(velocity(x, at_indices), PLANE.velocity(x, at_indices), 1e-8)
    between = (at_indices[1:] + at_indices[:-1]) / 2
    assert_near(velocity(x[:49], between), PLANE.velocity(x[:49], between), 1e-8)
    start, end = torch.ones(50, **F64), torch.zeros(50, **F64)
    assert_near(velocity(x, start), PLANE.velocity(x, start), 0.1)  # the schedule ends a little before
    assert velocity(x, end).isfinite().all()


def test_the_schedule_of_a_flow_gives_back_its_velocity_up_to_pure_noise():
    schedule = flow_schedule(50)
    velocity = as_velocity(PLANE.model(schedule.alphas_cumprod, "velocity"), schedule, prediction_type="velocity")
    x, t = normal(50, 2), torch.arange(1, 51, **F64) / 50
    assert_near(velocity(x, t), PLANE.velocity(x, t), 1e-8)
    tables = []
    as_velocity(lambda x, t: tables.append(t) or x, schedule, prediction_type="velocity")(x, torch.full((50,), 0.99, **F64))
    assert_near(tables[0], torch.full((50,), 48.5, **F64), 1e-9)  # halfway between the last two, where noise / signal ends


def test_ddim_on_the_schedule_of_a_flow_goes_where_the_flow_goes():
    schedule, z = flow_schedule(300), normal(20, 2)
    exact = flow_loop(PLANE.velocity, z, 300, method="heun")
    drawn = sample_loop(
        PLANE.model(schedule.alphas_cumprod, "velocity"), (20, 2), schedule, x_init=z, prediction_type="velocity",
        num_inference_steps=300,
    )
    assert_near(drawn, exact, 0.06)


def test_the_loss_is_that_of_regression_and_of_diffusion():
    x0, noise, t = normal(4, 2).float(), normal(4, 2, seed=1).float(), torch.tensor([0.1, 0.5, 0.7, 1.0])
    xt = flow_interpolate(x0, t, noise)
    expected = ((wavy_network(xt, 1000 * t) - (noise - x0)) ** 2).mean()
    assert_near(flow_loss(wavy_network, x0, t=t, noise=noise), expected, 1e-6)
    schedule = flow_schedule(10)
    index = torch.tensor([0, 4, 6, 9])
    scaled = lambda x, i: wavy_network(x * flow_level((i + 1) / 10)[1].float()[:, None], 100 * (i + 1.0))  # noqa: E731
    found = diffusion_loss(scaled, x0, schedule.alphas_cumprod, t=index, noise=noise, prediction_type="velocity")
    assert_near(found, expected, 1e-5)
    drawn = [flow_loss(wavy_network, x0, generator=make_generator(0)) for _ in range(2)]
    assert torch.equal(*drawn)


def test_a_network_learns_it_down_to_the_floor():
    """A few steps on one Gaussian, where the loss of the best network is known: it falls, and stays above."""
    torch.manual_seed(0)
    network, generator = MLP(hidden=32, depth=1), make_generator(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    gaussian = GaussianMixture(torch.ones(1), torch.zeros(1, 2), 0.25 * torch.eye(2)[None])
    losses = []
    for _ in range(120):
        loss = flow_loss(network, gaussian.sample(256, generator=generator), generator=generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    floors = [gaussian.velocity_loss_floor(t, num_samples=64, generator=generator) for t in (torch.arange(50) + 0.5).div(50).tolist()]
    assert sum(floors) / 50 * 0.97 < sum(losses[-30:]) / 30 < sum(floors) / 50 * 1.15


def test_a_shift_moves_the_log_of_noise_over_signal():
    t = TIMES[1:-1]
    moved = unchanged(shift_time, t, 3.0)
    assert_near((moved / (1 - moved)).log() - (t / (1 - t)).log(), torch.full_like(t, math.log(3)), 1e-12)
    assert shift_time(0.0, 3.0) == 0 and shift_time(1.0, 3.0) == 1 and shift_time(0.5, 3.0) == 0.75
    assert_near(shift_time(shift_time(t, 3.0), 1 / 3), t)
    mu = 1.15  # FLUX's way of writing it
    assert_near(math.exp(mu) / (math.exp(mu) + 1 / t - 1), shift_time(t, math.exp(mu)), 1e-12)
    assert flow_times(4, 3.0) == pytest.approx([1, 0.9, 0.75, 0.5, 0.0], abs=1e-12)


def test_logit_normal_times():
    found = logit_normal_times(20_000, 0.5, 2.0, generator=make_generator(0), dtype=torch.float64)
    logits = (found / (1 - found)).log()
    assert abs(logits.mean() - 0.5) < 0.06 and abs(logits.std() - 2) < 0.05
    assert torch.equal(found, logit_normal_times(20_000, 0.5, 2.0, generator=make_generator(0), dtype=torch.float64))
    assert logit_normal_times(3).dtype == torch.float32


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_same_steps_as_diffusers(shift):
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 5, 5))  # as FLUX's pipeline gives them
    ours = flow_times(5, shift)
    assert scheduler.sigmas.tolist() == pytest.approx(ours, abs=1e-6)
    x = start = normal(4, 2).float()
    for t in scheduler.timesteps:
        x = scheduler.step(wavy_network(x, t.expand(4)), t, x).prev_sample
    assert_near(flow_loop(as_velocity(wavy_network), start, 5, shift=shift), x, 1e-5)


def test_the_traps_of_diffusers_scheduler_are_still_there():
    """Facts that the lesson names: an int raises, the default grid wastes its last step, and a shift is applied twice to its end."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    plain, shifted = FlowMatchEulerDiscreteScheduler(), FlowMatchEulerDiscreteScheduler(shift=3.0)
    plain.set_timesteps(2)
    assert_near(plain.sigmas.double(), torch.tensor([1, 0.001, 0], **F64), 1e-6)
    with pytest.raises(ValueError, match="integer"):
        plain.step(normal(4, 2), 0, normal(4, 2))
    shifted.set_timesteps(28)
    assert shifted.sigmas[-2].item() == pytest.approx(0.0089, abs=1e-4)
    assert shift_time(0.001, 3.0) == pytest.approx(0.0030, abs=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: flow_interpolate(normal(2, 2), 1.5), r"t must lie in \[0, 1\], got values from 1.5"),
        (lambda: flow_interpolate(normal(2, 2), torch.tensor([0.5, 0.5, 0.5])), "t must be one number or one for each sample"),
        (lambda: flow_interpolate(normal(2, 2), 0.5, normal(3, 2)), "noise must have the shape of x0"),
        (lambda: flow_interpolate(normal(2, 2) / 0, 0.5), "x0 holds 4 values that are not finite"),
        (lambda: flow_level(-0.1), r"t must lie in \[0, 1\] \(0: data, 1: noise\), got -0.1"),
        (lambda: flow_time(torch.tensor([0.5, 2.0])), r"alpha_bar must lie in \[0, 1\].*got \[0.5, 2.0\]"),
        (lambda: shift_time(0.5, 0.0), "shift must be positive and finite, got 0.0"),
        (lambda: flow_times(0), "num_steps must be at least 1, got 0"),
        (lambda: logit_normal_times(3, std=-1.0), "std must be positive and finite, got -1.0"),
        (lambda: list(flow_iter(PLANE.velocity, normal(2, 2), [1.0])), "times must hold at least two numbers"),
        (lambda: list(flow_iter(PLANE.velocity, normal(2, 2), [1.0, 0.2, 0.5])), r"times must fall from noise \(1\) to data \(0\), or rise"),
        (lambda: list(flow_iter(PLANE.velocity, normal(2, 2), [1000, 500, 0])), r"times must hold at least two numbers in \[0, 1\], got"),
        (lambda: flow_loop(PLANE.velocity, normal(2, 2), method="rk4"), "method must be one of 'euler', 'heun', got 'rk4'"),
        (lambda: flow_loop(lambda x, t: x[:1], normal(2, 2)), "the network must return the shape and device of xt"),
        (lambda: PLANE.velocity(normal(2, 3), 0.5), r"xt must hold points of shape \(N, 2\)"),
        (lambda: PLANE.velocity_loss_floor(0.0), r"t must lie in \(0, 1\], got 0.0"),
        (lambda: as_velocity(wavy_network, flow_schedule(5), prediction_type="flow"), "prediction_type must be one of .*'velocity', got 'flow'"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_a_velocity_is_determined_at_both_ends():
    x0, noise = normal(3, 2), normal(3, 2, seed=1)
    for alpha_bar, xt in ((0.0, noise), (1.0, x0)):
        found = to_x0_and_noise(noise - x0, xt, alpha_bar, "velocity")
        assert_near(torch.stack(found), torch.stack([x0, noise]))


def test_flows_of_the_course_s_own_mixtures_end_in_their_data():
    moons = mixture("moons")
    drawn = flow_loop(moons.velocity, normal(500, 2), 60, method="heun")
    data = moons.sample(500, generator=make_generator(0))
    assert abs(moons.log_prob(drawn, 0.999).mean() - moons.log_prob(data, 0.999).mean()) < 0.2
    assert len(noise_levels(flow_schedule(10), [9, 4])) == 3
