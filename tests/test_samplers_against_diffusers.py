"""Samplers against diffusers' schedulers of the same name, over whole chains, state by state.

Both sides get one network, one start, one generator's seed, and ours gets diffusers' own times. The network estimates x_0 as a
tanh of the state and of the (possibly fractional) time, and is asked for noise, v or x_0: not linear, different at every time,
and the states stay below 6, except those of Heun in fewer than 10 steps, which go up to 30: differences are relative to the
largest state of a chain, or to 1. The schedule is "scaled_linear".

float32: the schedulers as users have them, but both sides on one table, ours rounded: their running product in float32 is off by
1e-7 or so, and 1 - abar at index 0 by 1e-4 of itself, which a network that is wrong there turns into 2e-5. float64: diffusers computes its tables, sigmas and times in float32, and ``step`` of
Euler, Euler ancestral and DPM-Solver casts the state to float32. There ``Wide`` puts float64 in the place of float32 in the
scheduler's module while it is built and run. DDIM alone needs less: its float64 ``alphas_cumprod``, which one test sets by hand.
"""

import math
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from unittest import mock

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
)
from diffusers.schedulers import (
    scheduling_ddim,
    scheduling_ddpm,
    scheduling_dpmsolver_multistep,
    scheduling_euler_ancestral_discrete,
    scheduling_euler_discrete,
    scheduling_heun_discrete,
)
from helpers import assert_near, column, gap, normal

from diffusion_course import (
    from_x0_and_noise,
    inference_timesteps,
    make_schedule,
    sample_iter,
    to_x0_and_noise,
)
from diffusion_course.process.schedules import alpha_bar_at

# diffusers calls np.array on tensors
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")

T, BETAS = 1000, {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULE = make_schedule("scaled_linear", T)
SPACINGS = ("linspace", "leading", "trailing")
COUNTS = (1, 2, 3, 7, 10, 30, 50, 999, 1000)
SHAPE = (2, 3)
SCHEDULERS = {  # our name: (their class, its module, keywords)
    "ddim": (DDIMScheduler, scheduling_ddim, {"clip_sample": False}),
    "ddpm": (DDPMScheduler, scheduling_ddpm, {"clip_sample": False}),
    "euler": (EulerDiscreteScheduler, scheduling_euler_discrete, {}),
    "euler_ancestral": (EulerAncestralDiscreteScheduler, scheduling_euler_ancestral_discrete, {}),
    "heun": (HeunDiscreteScheduler, scheduling_heun_discrete, {}),
    "dpmpp_2m": (
        DPMSolverMultistepScheduler,
        scheduling_dpmsolver_multistep,
        {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint", "final_sigmas_type": "zero"},
    ),
}
IN_SIGMA = ("euler", "euler_ancestral", "heun")  # their state is x_t / sqrt(abar)
# What a scheduler cannot run itself: (name, spacing, n): what it does.
CANNOT = {
    (
        "dpmpp_2m",
        "linspace",
        1000,
    ): "not finite: 1,001 rounded times among 1,000 indices, so one comes twice: h = 0, r = h_before / h",
    ("dpmpp_2m", "leading", 1000): "IndexError: T // (n + 1) = 0, so every time is 0 and the first is taken for the second",
}
NO_SAMPLE = ("euler_ancestral",)  # "prediction_type not implemented yet: sample"


class Wide:
    """A module, torch or numpy, with float64 in the place of float32."""

    def __init__(self, module):
        self.module, self.float32 = module, module.float64

    def __getattr__(self, name):
        return getattr(self.module, name)


@contextmanager
def precision(name, dtype):
    module = SCHEDULERS[name][1]
    if dtype == torch.float32:
        yield
    else:
        with mock.patch.object(module, "torch", Wide(torch)), mock.patch.object(module, "np", Wide(np)):
            yield


@cache
def alpha_bars(t):
    return alpha_bar_at(SCHEDULE.alphas_cumprod, torch.tensor(t, dtype=torch.float64)).item()


def network(prediction_type):
    """``model(xt, t)`` that outputs x_0 = tanh(...) as this prediction type."""

    def model(xt, t):
        time = column(t.to(xt.dtype), xt.ndim)
        x0, alpha_bar = torch.tanh(0.7 * xt + 2 * (0.013 * time).cos()), alpha_bars(t[0].item())
        _, noise = to_x0_and_noise(x0, xt, alpha_bar, "sample")
        return from_x0_and_noise(x0, noise, alpha_bar, prediction_type)

    return model


def scheduler(name, spacing, prediction_type="epsilon", dtype=torch.float32, **more):
    kind, _, keywords = SCHEDULERS[name]
    made = kind(T, **BETAS, timestep_spacing=spacing, prediction_type=prediction_type, **keywords | more)
    assert_near(made.alphas_cumprod, SCHEDULE.alphas_cumprod.to(made.alphas_cumprod.dtype), 1e-6)
    made.alphas_cumprod = SCHEDULE.alphas_cumprod.to(dtype)
    return made


def their_times(theirs, n):
    theirs.set_timesteps(n)
    times = theirs.timesteps.tolist()
    return times[:1] + times[1::2] if isinstance(theirs, HeunDiscreteScheduler) else times


def start(dtype):
    return normal(*SHAPE, seed=1, dtype=dtype)


def their_chain(theirs, model, n, dtype, correct=False, **options):
    """The variance-preserving state after each step; Heun's two calls of ``step`` are one step. ``correct``: see below."""
    times, states = their_times(theirs, n), []
    bars = [*map(alpha_bars, times), 1.0]
    in_sigma = isinstance(theirs, (EulerDiscreteScheduler, EulerAncestralDiscreteScheduler, HeunDiscreteScheduler))
    x = start(dtype) / (math.sqrt(bars[0]) if in_sigma else 1.0)
    if not isinstance(theirs, HeunDiscreteScheduler | DPMSolverMultistepScheduler):
        options["generator"] = torch.Generator().manual_seed(5)
    following = [*times[1:], -1]
    for i, t in enumerate(theirs.timesteps):
        if correct:
            theirs.num_inference_steps = Fraction(T, times[i] - following[i])
        output = model(theirs.scale_model_input(x, t), t.expand(len(x)))
        x = theirs.step(output, t, x, **options).prev_sample
        if not isinstance(theirs, HeunDiscreteScheduler) or theirs.state_in_first_order or i == len(theirs.timesteps) - 1:
            states.append(x * (math.sqrt(bars[len(states) + 1]) if in_sigma else 1.0))
    return torch.stack(states)


def our_chain(name, model, times, dtype, prediction_type="epsilon", **options):
    states = sample_iter(
        model, SHAPE, SCHEDULE.to(dtype=dtype), sampler=name, timesteps=times, x_init=start(dtype), prediction_type=prediction_type,
        generator=torch.Generator().manual_seed(5), **options,
    )
    return torch.stack([state.x for state in states])


def compare(name, spacing, n, prediction_type, dtype, tolerance, theirs_options=None, ours_options=None, **more):
    with precision(name, dtype):
        theirs = scheduler(name, spacing, prediction_type, dtype, **more)
        times = their_times(theirs, n)
        correct = name == "ddim" and spacing != "leading"
        expected = their_chain(theirs, network(prediction_type), n, dtype, correct, **theirs_options or {})
    found = our_chain(name, network(prediction_type), times, dtype, prediction_type, **ours_options or {})
    size = max(1.0, found.abs().max().item())
    assert expected.dtype == found.dtype == dtype
    assert size < (30 if name == "heun" and n < 10 else 6)
    if name == "ddpm" and spacing == "trailing" and dtype == torch.float64:
        tolerance = 4e-10  # they clamp the variance at 1e-20, so their step from t > 0 to clean data adds 1e-10 z
    if name == "heun" and (spacing, n, dtype) == ("linspace", 2, torch.float32):
        tolerance = 3e-5  # from index 999 to index 0 at once: the second slope divides by sqrt(1 - abar) = 0.03
    assert_near(found, expected, tolerance * size)
    return found


def chains(counts):
    return [
        pytest.param(name, spacing, n, id=f"{name}-{spacing}-{n}")
        for name in SCHEDULERS
        for spacing in SPACINGS
        for n in counts
        if (name, spacing, n) not in CANNOT
    ]


@pytest.mark.parametrize(("name", "spacing", "n"), chains(COUNTS[:-2]))
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_whole_chains(name, spacing, n, prediction_type):
    if prediction_type == "sample" and name in NO_SAMPLE:
        return test_what_diffusers_does_not_run_as_sample(name)
    compare(name, spacing, n, prediction_type, torch.float32, 1e-5)
    compare(name, spacing, n, prediction_type, torch.float64, 1e-10)


@pytest.mark.in_parts
@pytest.mark.slow
@pytest.mark.parametrize(("name", "spacing", "n"), chains(COUNTS[-2:]))
def test_chains_of_nearly_all_steps(name, spacing, n):
    compare(name, spacing, n, "epsilon", torch.float32, 1e-5)
    compare(name, spacing, n, "v_prediction", torch.float64, 1e-10)


@pytest.mark.parametrize("eta", [0.5, 1.0])
@pytest.mark.parametrize(("spacing", "n"), [("linspace", 7), ("leading", 30), ("trailing", 50)])
def test_ddim_with_noise(spacing, n, eta):
    options = {"eta": eta}
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        noisy = compare("ddim", spacing, n, "epsilon", dtype, tolerance, options, options)
    assert gap(noisy, compare("ddim", spacing, n, "epsilon", dtype, tolerance)) > 0.1


def test_ddim_with_a_float64_table_and_nothing_else_changed():
    theirs = scheduler("ddim", "leading", dtype=torch.float64)
    for n in (3, 10, 50):
        expected = their_chain(theirs, network("epsilon"), n, torch.float64)
        assert_near(our_chain("ddim", network("epsilon"), theirs.timesteps, torch.float64), expected, 1e-10)


@pytest.mark.parametrize("n", [3, 10, 50])
def test_clipped_x0(n):
    """Ours computes the noise again from the clipped x_0: Heun and ancestral DDPM do so too, DDIM if it is asked to."""
    ours = {"clip_x0": 0.5}
    clip = {"clip_sample": True, "clip_sample_range": 0.5}
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        for name, option in (("ddim", {"use_clipped_model_output": True}), ("ddpm", {}), ("heun", {})):
            clipped = compare(name, "leading", n, "epsilon", dtype, tolerance, option, ours, **clip)
            assert gap(clipped, compare(name, "leading", n, "epsilon", dtype, tolerance)) > 0.1


@pytest.mark.parametrize("name", NO_SAMPLE)
def test_what_diffusers_does_not_run_as_sample(name):
    with pytest.raises(NotImplementedError, match="prediction_type not implemented yet: sample"):
        their_chain(scheduler(name, "trailing", "sample"), network("sample"), 3, torch.float32)


@pytest.mark.parametrize(("name", "spacing", "n"), CANNOT, ids=str)
def test_what_diffusers_does_not_run(name, spacing, n):
    times = their_times(scheduler(name, spacing), n)
    assert len(set(times)) < len(times)
    if CANNOT[name, spacing, n].startswith("IndexError"):
        with pytest.raises(IndexError):
            their_chain(scheduler(name, spacing), network("epsilon"), n, torch.float32)
    else:
        x = their_chain(scheduler(name, spacing), network("epsilon"), n, torch.float32)
        assert not torch.isfinite(x[-1]).all()
    with pytest.raises(ValueError, match="timesteps must decrease strictly"):
        our_chain(name, network("epsilon"), times, torch.float32)
    ours = our_chain(name, network("epsilon"), inference_timesteps(T, n, spacing), torch.float32)
    assert torch.isfinite(ours).all()


# --- the times -------------------------------------------------------------------------------------------------------------

# diffusers takes np.arange(T, 0, -T / n). For these n, rounding errors make it one longer: n + 1 times, the last one -1.
ONE_TOO_MANY = {7: [], 50: [29, 31], 128: [49, 98, 103, 107]}


@pytest.mark.parametrize("kind", [DDIMScheduler, DDPMScheduler])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("total", [1, 7, 50, 128, 1000])
def test_times_are_diffusers_times(total, spacing, kind):
    theirs, longer = kind(total, timestep_spacing=spacing), []
    for n in range(1, total + 1):
        theirs.set_timesteps(n)
        if len(theirs.timesteps) > n:
            longer.append(n)
            assert theirs.timesteps[n:].tolist() == [-1]
        assert torch.equal(inference_timesteps(total, n, spacing), theirs.timesteps[:n])
    if spacing != "trailing" or total == 1:
        assert longer == []
    elif total == 1000:
        assert len(longer) == 62
        assert longer[:5] == [61, 103, 121, 122, 201]
    else:
        assert longer == ONE_TOO_MANY[total]


# --- a known deviation -----------------------------------------------------------------------------------------------------

FIXED = "diffusers' DDIM now takes the next time of its list: delete this test and its exception in compare()"
DEVIATES = [("linspace", n) for n in (2, 3, 7, 10, 30, 50, 999)] + [("trailing", n) for n in (3, 7, 30, 999)]


@pytest.mark.parametrize("n", COUNTS)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_ddim_of_diffusers_goes_to_another_time_than_the_next(spacing, n):
    """It goes to t - T // n: not the next of its times for "linspace", nor for "trailing" if n does not divide T.

    (huggingface/diffusers, scheduling_ddim.py, "get previous step value".) Told the true distance, by a num_inference_steps
    with T // num_inference_steps = t - t_next, it gives our chain: that is ``correct`` in ``their_chain``.
    """
    theirs = scheduler("ddim", spacing)
    times = their_times(theirs, n)
    goes_to = [max(-1, t - T // n) for t in times]
    assert (goes_to != [*times[1:], -1]) == ((spacing, n) in DEVIATES)
    with precision("ddim", torch.float64):
        theirs = scheduler("ddim", spacing, dtype=torch.float64)
        as_it_is = their_chain(theirs, network("epsilon"), n, torch.float64)
    ours = our_chain("ddim", network("epsilon"), times, torch.float64)
    if (spacing, n) in DEVIATES:
        assert gap(ours, as_it_is) > 1e-4, FIXED
    else:
        assert_near(ours, as_it_is, 1e-10)
