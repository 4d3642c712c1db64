import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from helpers import LENGTHS, assert_near, unchanged

from diffusion_course import (
    NoiseSchedule,
    alpha_bar_at,
    cosine_betas,
    linear_betas,
    make_schedule,
    noise_levels,
    previous_alpha_bar,
    rescale_zero_terminal_snr,
    scaled_linear_betas,
    sigmoid_betas,
    snr,
)

NAMES = ("linear", "scaled_linear", "cosine", "sigmoid")


def expected_betas(name, n):
    """Each schedule once more, number by number, from its paper's formula."""
    u = [i / (n - 1) if n > 1 else 0.0 for i in range(n)]
    if name == "linear":
        return [1e-4 + a * (0.02 - 1e-4) for a in u]
    if name == "scaled_linear":
        return [(math.sqrt(0.00085) + a * (math.sqrt(0.012) - math.sqrt(0.00085))) ** 2 for a in u]
    if name == "sigmoid":
        return [1e-4 + (0.02 - 1e-4) / (1 + math.exp(6 - 12 * a)) for a in u]
    bar = [math.cos((i / n + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(n + 1)]
    return [min(1 - b / a, 0.999) for a, b in zip(bar, bar[1:], strict=False)]


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("name", NAMES)
def test_tables_from_their_formulas(name, n):
    schedule, betas = make_schedule(name, n), expected_betas(name, n)
    bars = np.cumprod([1 - b for b in betas])
    assert schedule.name == name and schedule.num_train_timesteps == n == len(schedule.betas)
    assert_near(schedule.betas, torch.tensor(betas, dtype=torch.float64), 1e-14)
    assert_near(schedule.alphas, torch.tensor([1 - b for b in betas], dtype=torch.float64), 1e-14)
    assert_near(schedule.alphas_cumprod, torch.tensor(bars), 1e-13)
    assert_near(schedule.alphas_cumprod_prev, torch.tensor([1.0, *bars[:-1]], dtype=torch.float64), 1e-13)
    assert torch.allclose(schedule.snr, torch.tensor(bars / (1 - bars)), rtol=1e-9)
    assert torch.allclose(schedule.sigmas, torch.tensor(np.sqrt((1 - bars) / bars)), rtol=1e-9)
    assert (schedule.betas.diff() >= 0).all() and (schedule.alphas_cumprod.diff() < 0).all()
    assert 0 < schedule.betas.min() and schedule.betas.max() < 1


@pytest.mark.parametrize(("name", "published"), [("linear", 0.006353), ("scaled_linear", 0.068265)])
def test_published_terminal_signal(name, published):
    """arXiv 2305.08891, table of sqrt(abar_T), to all its digits."""
    assert round(make_schedule(name).alphas_cumprod[-1].sqrt().item(), 6) == published


def test_published_terminal_signal_of_cosine_holds_in_float32():
    """arXiv 2305.08891 prints 4.928220e-05, which is the value of betas rounded to float32; in float64 it is 4.928252e-05.

    Nearly all of the difference is the last beta: 1 - float32(0.999) is 9.99987e-04, not 1e-3. In float64 the product
    telescopes to sqrt(abar_T) = cos(angle before the last step) / cos(angle at 0) * sqrt(1 - 0.999).
    """
    betas = cosine_betas()
    exact = math.cos((0.999 + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2) * math.sqrt(1 - 0.999)
    found = (1 - betas).prod().sqrt().item()
    assert math.isclose(found, exact, rel_tol=1e-10) and f"{found:.6e}" == "4.928252e-05"
    rounded = betas.float().double()
    assert f"{(1 - rounded).prod().sqrt().item():.6e}" == "4.928220e-05"
    last = math.sqrt((1 - rounded[-1].item()) / (1 - 0.999))
    assert math.isclose(found * last, 4.928220e-05, rel_tol=2e-7)


def test_published_abar_of_the_linear_schedule():
    """Ho et al. 2020, section 4: linear from 1e-4 to 0.02 leaves KL(q(x_T|x_0) || N(0, I)) of about 1e-5 bits per dimension."""
    bar = make_schedule().alphas_cumprod[-1].item()
    assert f"{bar:.4e}" == "4.0358e-05"
    kl_bits = 0.5 * (bar * 0.25 - bar - math.log(1 - bar)) / math.log(2)  # of pixels whose mean square is 1/4
    assert 0.5e-5 < kl_bits < 2e-5


def test_custom_ends_and_offset_are_used():
    assert linear_betas(3, 0.1, 0.3).tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert scaled_linear_betas(3, 0.01, 0.09).tolist() == pytest.approx([0.01, 0.04, 0.09])
    assert sigmoid_betas(3, 0.1, 0.3)[1].item() == pytest.approx(0.2)
    assert cosine_betas(4, max_beta=0.5)[-1].item() == 0.5
    plain = cosine_betas(4, offset=0.0)
    assert (1 - plain).cumprod(0)[:3].tolist() == pytest.approx([math.cos(i * math.pi / 8) ** 2 for i in (1, 2, 3)])
    assert torch.equal(make_schedule("linear", 3, beta_start=0.1, beta_end=0.3).betas, linear_betas(3, 0.1, 0.3))


@pytest.mark.parametrize("n", LENGTHS[1:])
@pytest.mark.parametrize("name", NAMES)
def test_zero_terminal_rescale(name, n):
    """sqrt(abar) changes by a shift and a scale, keeps its first entry, and ends at exactly 0."""
    betas = make_schedule(name, n).betas
    before, copy = (1 - betas).cumprod(0).sqrt(), betas.clone()
    schedule = make_schedule(name, n, zero_terminal_snr=True)
    after = schedule.alphas_cumprod.sqrt()
    assert torch.equal(rescale_zero_terminal_snr(betas), schedule.betas) and torch.equal(betas, copy)
    assert schedule.zero_terminal_snr and "zero" in schedule.name
    assert schedule.betas[-1] == 1 and schedule.alphas_cumprod[-1] == 0 and schedule.snr[-1] == 0
    assert_near(after[0], before[0], 1e-14)
    assert_near((after - after[-1]) / (after[0] - after[-1]), (before - before[-1]) / (before[0] - before[-1]), 1e-12)
    assert (schedule.alphas_cumprod.diff() < 0).all()


def test_rescaling_twice_changes_nothing_more():
    once = rescale_zero_terminal_snr(linear_betas(20))
    assert_near(rescale_zero_terminal_snr(once), once, 1e-14)


def test_snr_and_previous_on_their_own():
    bar = torch.tensor([0.8, 0.5, 0.0], dtype=torch.float64)
    assert_near(snr(bar), torch.tensor([4.0, 1.0, 0.0], dtype=torch.float64))
    assert previous_alpha_bar(bar).tolist() == [1.0, 0.8, 0.5]
    assert previous_alpha_bar(bar.float()).dtype == torch.float32


def test_schedule_cannot_be_changed_from_outside():
    betas = linear_betas(5)
    schedule = NoiseSchedule(betas)
    betas[0] = 0.5
    assert schedule.betas[0] == 1e-4
    with pytest.raises(FrozenInstanceError):
        schedule.betas = betas
    assert repr(schedule) == "NoiseSchedule('custom', T=5, sqrt(abar_T)=0.975002)"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_to_casts_each_table_once_and_leaves_the_original(dtype):
    schedule = make_schedule("cosine", 50)
    moved = schedule.to("cpu", dtype)
    for name in ("betas", "alphas", "alphas_cumprod"):
        assert torch.equal(getattr(moved, name), getattr(schedule, name).to(dtype))
        assert getattr(schedule, name).dtype == torch.float64
    assert moved.name == "cosine" and moved.num_train_timesteps == 50
    assert schedule.to(dtype=dtype).betas.device == schedule.betas.device


def test_betas_of_another_dtype_give_float64_tables():
    schedule = NoiseSchedule(torch.tensor([0.25, 0.5], requires_grad=True))
    assert schedule.alphas_cumprod.tolist() == [0.75, 0.375] and schedule.alphas_cumprod.dtype == torch.float64
    assert not schedule.betas.requires_grad


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("betas", "kwargs", "message"),
    [
        (f64(), {}, r"betas must be a table of shape \(T,\) with T >= 1, got shape \(0,\), float64, on cpu"),
        (f64(0.1).reshape(1, 1), {}, r"betas must be a table.*shape \(1, 1\)"),
        (f64(0.1, 0.0), {}, r"betas must lie in \(0, 1\), got betas\[1\] = 0\.0 \(shape \(2,\)"),
        (f64(-0.1, 0.2), {}, r"got betas\[0\] = -0\.1"),
        (f64(0.1, 1.5), {}, r"got betas\[1\] = 1\.5"),
        (f64(0.1, float("nan")), {}, r"got betas\[1\] = nan"),
        (f64(0.1, 1.0, 0.2), {}, r"betas\[1\] = 1\.0.*Only the last beta"),
    ],
)
def test_refused_betas(betas, kwargs, message):
    with pytest.raises(ValueError, match=message):
        NoiseSchedule(betas, **kwargs)


def test_betas_may_fall():
    assert NoiseSchedule(f64(0.3, 0.2)).alphas_cumprod.tolist() == pytest.approx([0.7, 0.56])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: NoiseSchedule([0.1, 0.2]), TypeError, r"betas must be a torch\.Tensor, got list \[0\.1, 0\.2\]"),
        (lambda: NoiseSchedule(torch.tensor([1])), TypeError, r"betas must have a floating dtype, got shape \(1,\), int64"),
        (lambda: make_schedule("quadratic"), ValueError, r"name must be one of 'linear'.*got 'quadratic'"),
        (lambda: make_schedule("linear", 0), ValueError, r"num_train_timesteps must be at least 1, got 0"),
        (lambda: make_schedule("cosine", 10.0), TypeError, r"num_train_timesteps must be an int, got float 10\.0"),
        (lambda: make_schedule("linear", True), TypeError, r"must be an int, got bool True"),
        (lambda: make_schedule("linear", beta_first=0.1), TypeError, "beta_first"),
        (lambda: linear_betas(10, 0.0, 0.02), ValueError, r"0 < beta_start <= beta_end < 1, got beta_start=0\.0, beta_end=0\.02"),
        (lambda: scaled_linear_betas(10, 0.02, 0.01), ValueError, r"got beta_start=0\.02, beta_end=0\.01"),
        (lambda: sigmoid_betas(10, 0.1, 1.0), ValueError, r"beta_end=1\.0"),
        (lambda: cosine_betas(10, offset=-1.0), ValueError, r"offset=-1\.0, max_beta=0\.999"),
        (lambda: cosine_betas(10, max_beta=1.5), ValueError, r"max_beta=1\.5"),
        (lambda: rescale_zero_terminal_snr(f64(0.1)), ValueError, r"at least 2 steps, got shape \(1,\)"),
        (lambda: rescale_zero_terminal_snr(f64(1.0, 0.1)), ValueError, r"betas\[0\] = 1\.0"),
        (lambda: make_schedule("linear", 1, zero_terminal_snr=True), ValueError, "num_train_timesteps must be at least 2 with zero_terminal_snr, got 1"),
    ],
)
def test_refused_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_schedule_says_whether_it_ends_in_pure_noise():
    assert not NoiseSchedule(f64(0.1, 0.2)).zero_terminal_snr
    ended = NoiseSchedule(f64(0.1, 1.0))
    assert ended.zero_terminal_snr
    assert ended.alphas_cumprod[-1] == 0


@pytest.mark.parametrize(
    "schedule", [make_schedule("linear"), make_schedule("cosine", 7), make_schedule("linear", 5, zero_terminal_snr=True)]
)
def test_fractional_times(schedule):
    table, last = schedule.alphas_cumprod, schedule.num_train_timesteps - 1
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(
            alpha_bar_at(table, torch.arange(last + 1).to(dtype)), table
        )  # whole numbers: the table, also where it is 0
    times = torch.linspace(0.1, last - 1.1, 40, dtype=torch.float64)
    sigmas = ((1 - table) / table).sqrt().numpy()
    expected = np.interp(times.numpy(), np.arange(last + 1), sigmas)
    found = unchanged(alpha_bar_at, table, times)
    assert_near(((1 - found) / found).sqrt() / torch.from_numpy(expected), torch.ones(40, dtype=torch.float64), 1e-9)
    levels = noise_levels(schedule, times.flip(0))
    assert_near(
        found.flip(0), torch.tensor([level.alpha_bar for level in levels[:-1]], dtype=torch.float64), 1e-15
    )  # as in samplers


@pytest.mark.parametrize(
    ("t", "error", "message"),
    [
        (torch.tensor([1, 2]), TypeError, r"t must have a floating dtype"),
        (torch.tensor([-0.1]), ValueError, r"t must lie in \[0, 6\].*got -0\.1"),
        (torch.tensor([2.0, 6.5]), ValueError, r"t must lie in \[0, 6\].*to 6\.5"),
        (torch.tensor([math.nan]), ValueError, r"t must lie in \[0, 6\]"),
    ],
)
def test_refused_fractional_times(t, error, message):
    with pytest.raises(error, match=message):
        alpha_bar_at(make_schedule("linear", 7).alphas_cumprod, t)


def test_a_cast_does_not_end_a_schedule_in_pure_noise():
    assert not make_schedule("cosine", 100).to(dtype=torch.bfloat16).zero_terminal_snr
    assert make_schedule("cosine", 100, zero_terminal_snr=True).to(dtype=torch.bfloat16).zero_terminal_snr
