"""The core against diffusers' DDPMScheduler, in float64.

diffusers casts to float32 in one place: the constructor makes every table with an explicit dtype=torch.float32 ("sigmoid" with
the default dtype). ``scheduler`` below builds it with float64 in that place. After that nothing is cast: ``add_noise`` and
``get_velocity`` cast the table to the sample's dtype, ``step`` computes in the table's dtype and draws its noise in the
network output's. So everything is compared to 1e-10; only the scheduler as users have it, with float32 tables, to 1e-6.
"""

from functools import cache
from unittest import mock

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.schedulers import scheduling_ddpm
from diffusers.training_utils import compute_snr
from helpers import LENGTHS, assert_near, normal, wavy_network

from diffusion_course import (
    ddpm_step,
    loss_weight,
    make_schedule,
    p_sample_iter,
    prediction_target,
    q_posterior,
    q_sample,
    rescale_zero_terminal_snr,
)

THEIR_NAMES = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2", "sigmoid": "sigmoid"}
THEIR_TYPES = ("epsilon", "sample", "v_prediction")
ENDS = {"linear": (1e-4, 0.02), "scaled_linear": (0.00085, 0.012), "cosine": (1e-4, 0.02), "sigmoid": (1e-4, 0.02)}
# (schedule, T, zero terminal SNR): every schedule at T = 1000, and the small T where each step is large
CASES = [(name, 1000, False) for name in THEIR_NAMES] + [("scaled_linear", 1000, True)]
CASES += [(name, n, False) for n in LENGTHS[:-1] for name in ("linear", "cosine")] + [("linear", n, True) for n in (2, 3, 7, 50)]
IDS = [f"{name}-{n}{'-zero' * zero}" for name, n, zero in CASES]
all_cases = pytest.mark.parametrize("case", CASES, ids=IDS)


class Float64Torch:
    """torch, but with float64 where diffusers' constructor asks for float32 or for the default dtype."""

    float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)

    @staticmethod
    def linspace(start, end, steps, dtype=None):
        return torch.linspace(start, end, steps, dtype=torch.float64)


@cache
def scheduler(case, prediction_type="epsilon", variance_type="fixed_small", clip=None):
    name, num_train_timesteps, zero = case
    with mock.patch.object(scheduling_ddpm, "torch", Float64Torch()):
        made = DDPMScheduler(
            num_train_timesteps,
            *ENDS[name],
            THEIR_NAMES[name],
            prediction_type=prediction_type,
            variance_type=variance_type,
            clip_sample=clip is not None,
            clip_sample_range=clip or 1.0,
            rescale_betas_zero_snr=zero,
        )
    assert made.betas.dtype == made.alphas_cumprod.dtype == torch.float64
    return made


def ours(case):
    return make_schedule(case[0], case[1], zero_terminal_snr=case[2])


def no_noise(shape, generator=None, device=None, dtype=None, layout=None):
    return torch.zeros(shape, dtype=dtype)


@pytest.fixture
def without_noise(monkeypatch):
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", no_noise)


@all_cases
def test_tables(case):
    theirs, mine = scheduler(case), ours(case)
    for name in ("betas", "alphas", "alphas_cumprod"):
        assert_near(getattr(mine, name), getattr(theirs, name), 1e-12)


@pytest.mark.parametrize("name", THEIR_NAMES)
def test_betas_of_the_scheduler_as_users_have_it(name):
    theirs = DDPMScheduler(1000, *ENDS[name], THEIR_NAMES[name])
    assert theirs.betas.dtype == torch.float32
    assert_near(make_schedule(name).betas.float(), theirs.betas, 2e-7)


@pytest.mark.parametrize("name", THEIR_NAMES)
def test_zero_terminal_rescale(name):
    betas = make_schedule(name, 50).betas
    assert_near(rescale_zero_terminal_snr(betas), scheduling_ddpm.rescale_zero_terminal_snr(betas.clone()), 1e-12)


@all_cases
def test_add_noise_and_v_target_at_every_t(case):
    n, mine, theirs = case[1], ours(case).alphas_cumprod, scheduler(case)
    x0, noise, t = normal(n, 3, seed=1), normal(n, 3, seed=2), torch.arange(n)
    assert_near(q_sample(x0, t, mine, noise), theirs.add_noise(x0, noise, t), 1e-10)
    assert_near(prediction_target(x0, noise, t, mine, "v_prediction"), theirs.get_velocity(x0, noise, t), 1e-10)


def test_add_noise_of_the_scheduler_as_users_have_it():
    x0, noise = (normal(1000, 3, seed=seed, dtype=torch.float32) for seed in (1, 2))
    t = torch.arange(1000)
    theirs = DDPMScheduler()
    assert_near(q_sample(x0, t, theirs.alphas_cumprod, noise), theirs.add_noise(x0, noise, t), 1e-6)
    # The float32 table itself costs more than that: at t = 0 its 1 - abar is 1e-4 with a relative error of 1e-4 or so.
    assert_near(q_sample(x0, t, make_schedule().alphas_cumprod, noise), theirs.add_noise(x0, noise, t), 1e-5)


@all_cases
def test_posterior_mean_and_variance_at_every_t(case, without_noise):
    n, table = case[1], ours(case).alphas_cumprod
    x0, xt, t = normal(n, 3, seed=3), normal(n, 3, seed=4), torch.arange(n)
    theirs = scheduler(case, "sample")
    mean = torch.cat([theirs.step(x0[i : i + 1], i, xt[i : i + 1]).prev_sample for i in range(n)])
    posterior = q_posterior(x0, xt, t, table)
    assert_near(posterior.mean, mean, 1e-10)
    small = torch.stack([theirs._get_variance(i, variance_type="fixed_small") for i in range(n)])
    assert_near(posterior.variance[:, 0], small, 1e-10)
    assert_near(posterior.log_variance_clipped[:, 0], small.log(), 1e-9)  # relative agreement, down to the clip at index 0
    large = torch.stack([theirs._get_variance(i, variance_type="fixed_large") for i in range(n)])
    previous = torch.cat([torch.ones(1, dtype=torch.float64), table[:-1]])
    for variance_type, expected in (("fixed_small", small), ("fixed_large", large)):
        step = ddpm_step(x0, xt, table, previous, torch.zeros_like(xt), prediction_type="sample", variance_type=variance_type)
        assert_near(step.variance[:, 0], expected, 1e-10)
        assert_near(step.mean, mean, 1e-10)


@all_cases
@pytest.mark.parametrize("prediction_type", THEIR_TYPES)
def test_their_step_reads_our_targets(case, prediction_type, without_noise):
    n, table = case[1], ours(case).alphas_cumprod
    x0, noise, t = normal(n, 3, seed=5), normal(n, 3, seed=6), torch.arange(n)
    xt, target = q_sample(x0, t, table, noise), prediction_target(x0, noise, t, table, prediction_type)
    theirs = scheduler(case, prediction_type)
    rows = [i for i in range(0, n, max(1, n // 50)) if not (prediction_type == "epsilon" and table[i] == 0)]
    found = torch.cat([theirs.step(target[i : i + 1], i, xt[i : i + 1]).pred_original_sample for i in rows])
    assert_near(found, x0[rows], 1e-10)


@pytest.mark.parametrize("clip", [None, 1.0, 0.5])
@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize("prediction_type", THEIR_TYPES)
@pytest.mark.parametrize(
    "case", [("linear", n, False) for n in LENGTHS[:-1]] + [("cosine", 50, False), ("scaled_linear", 7, True)], ids=str
)
def test_whole_chain_step_by_step(case, prediction_type, variance_type, clip):
    check_chain(case, prediction_type, variance_type, clip)


@pytest.mark.parametrize(
    ("name", "zero", "prediction_type", "variance_type", "clip"),
    [
        ("linear", False, "epsilon", "fixed_small", None),
        ("linear", False, "epsilon", "fixed_large", 1.0),
        ("cosine", False, "v_prediction", "fixed_small", 1.0),
        ("scaled_linear", True, "v_prediction", "fixed_large", None),
    ],
)
def test_whole_chain_of_1000_steps(name, zero, prediction_type, variance_type, clip):
    check_chain((name, 1000, zero), prediction_type, variance_type, clip)


def check_chain(case, prediction_type, variance_type, clip):
    """Both chains from one start, each with its own generator of the same seed: both draw like randn(x.shape) once a step."""
    if case[2] and prediction_type == "epsilon":
        pytest.skip("epsilon does not determine x0 at abar = 0")
    theirs, mine = scheduler(case, prediction_type, variance_type, clip), ours(case)
    start = normal(2, 3, 4, seed=7)
    their_x, their_noise = start.clone(), torch.Generator().manual_seed(8)
    steps = p_sample_iter(
        wavy_network,
        start.shape,
        mine.betas,
        mine.alphas,
        mine.alphas_cumprod,
        x_init=start,
        clip_x0=clip,
        prediction_type=prediction_type,
        variance_type=variance_type,
        generator=torch.Generator().manual_seed(8),
    )
    count = 0
    for t, x, x0_pred in steps:
        their_step = theirs.step(wavy_network(their_x, torch.full((2,), t)), t, their_x, generator=their_noise)
        their_x, count = their_step.prev_sample, count + 1
        assert_near(x0_pred, their_step.pred_original_sample, 1e-10)
        assert_near(x, their_x, 1e-10)
    assert count == case[1]


@pytest.mark.parametrize(("prediction_type", "offset"), [("epsilon", 0), ("v_prediction", 1)])
def test_min_snr_weight_from_their_snr(prediction_type, offset):
    case, t = ("linear", 1000, False), torch.arange(1000)
    snr = compute_snr(scheduler(case), t).double()  # computed in float32: compute_snr casts with .float()
    found = loss_weight(t, ours(case).alphas_cumprod, weighting="min_snr", gamma=5.0, prediction_type=prediction_type)
    assert_near(found, snr.clamp(max=5.0) / (snr + offset), 1e-6)  # as their training scripts divide, for epsilon and for v
