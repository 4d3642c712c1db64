"""Exercises of lesson 06, scores, ODEs and fast samplers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from ...process import previous_alpha_bar
from ...sampling import inference_timesteps
from .. import draw
from ..definition import Case, Exercise, Tolerance, WrongAnswer
from ..edits import edit
from ..given import IndexedNetwork, Slope

VALUES = Tolerance(rtol=1e-4, atol=1e-5)
TABLES = Tolerance(rtol=1e-4, atol=1e-9)
_SHAPES = (
    ("images", (4, 3, 4, 4), torch.float32),
    ("points", (5, 2), torch.float64),
    ("numbers", (6,), torch.float64),
    ("float16 images", (2, 1, 4, 3), torch.float16),
    ("sequences", (3, 4, 2), torch.float32),
)


def _pairs(generator: torch.Generator, low: float = 0.02, high: float = 0.9) -> tuple[float, float]:
    """Two noise levels, the noisier first, clearly apart."""
    first, gap = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    noisy = low + (high - low) * 0.5 * first
    return noisy, noisy + (high - noisy) * (0.3 + 0.6 * gap)


def _ddim_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, shape, dtype in _SHAPES:
        xt, noise = (
            draw.normal(generator, *shape, dtype=dtype),
            draw.normal(generator, *shape, dtype=dtype),
        )
        yield Case((xt, noise, *_pairs(generator)), note=note)
    xt, noise = draw.normal(generator, 3, 2), draw.normal(generator, 3, 2)
    yield Case((xt, noise, 0.6, 1.0), note="the last step, to clean data")


def ddim(xt: Tensor, noise_pred: Tensor, alpha_bar: float, alpha_bar_prev: float) -> Tensor:
    """Return the state at the new level, by the deterministic step of DDIM."""
    x0_pred = (xt - (1 - alpha_bar) ** 0.5 * noise_pred) / alpha_bar**0.5
    return alpha_bar_prev**0.5 * x0_pred + (1 - alpha_bar_prev) ** 0.5 * noise_pred


def _ancestral_mean(
    xt: Tensor, noise_pred: Tensor, alpha_bar: float, alpha_bar_prev: float
) -> Tensor:
    x0_pred = (xt - (1 - alpha_bar) ** 0.5 * noise_pred) / alpha_bar**0.5
    alpha = alpha_bar / alpha_bar_prev
    on_x0 = alpha_bar_prev**0.5 * (1 - alpha) / (1 - alpha_bar)
    on_xt = alpha**0.5 * (1 - alpha_bar_prev) / (1 - alpha_bar)
    return on_x0 * x0_pred + on_xt * xt


DDIM = Exercise(
    id="06.1",
    lesson=6,
    title="The DDIM step",
    statement="""Take the deterministic step of DDIM from the level `alpha_bar` to the level
`alpha_bar_prev`. `xt` and `noise_pred` have shape (B, ...); the two levels are Python numbers,
and `alpha_bar_prev` is 1 at the last step.""",
    stub="""def ddim(xt, noise_pred, alpha_bar, alpha_bar_prev):
    x0_pred = ...
    return alpha_bar_prev**0.5 * x0_pred + ...
""",
    reference=ddim,
    cases=_ddim_cases,
    hints=(
        "First estimate the clean data: solve the closed form of lesson 02 for x_0.",
        "Then go back up to the new level with the closed form again. Which noise do you put in?",
        "The noise is the estimate you already have, with the standard deviation of the new level.",
    ),
    derivation="lesson 06, 'Predict x0, then leap'; arXiv 2010.02502, eq. 12 with sigma = 0",
    tolerance=VALUES,
    wrong_answers=(
        WrongAnswer(
            "the old level's noise",
            edit("(1 - alpha_bar_prev)", "(1 - alpha_bar)"),
            "You add back all the noise you removed. The new level has "
            "less: its own sqrt(1 - abar).",
        ),
        WrongAnswer(
            "the mean of the ancestral step",
            _ancestral_mean,
            "This is the mean of lesson 04's step. It is meant to get fresh noise on top; "
            "without it the variance is too small.",
        ),
        WrongAnswer(
            "the clean estimate alone",
            edit(
                "alpha_bar_prev**0.5 * x0_pred + (1 - alpha_bar_prev) ** 0.5 * noise_pred",
                "x0_pred",
            ),
            "You jump to the estimate of x_0 and stay there. The state "
            "has to be at the new noise level.",
        ),
        WrongAnswer(
            "no noise goes back in",
            edit(" + (1 - alpha_bar_prev) ** 0.5 * noise_pred", ""),
            "The signal has the right factor, but the next call of the network "
            "expects noise of its level.",
        ),
        WrongAnswer(
            "the variance where the standard deviation belongs",
            edit("(1 - alpha_bar_prev) ** 0.5", "(1 - alpha_bar_prev)"),
            "1 - abar is a variance. The factor on the noise is its square root.",
        ),
        WrongAnswer(
            "the two levels are swapped",
            edit(
                "    x0_pred =",
                "    alpha_bar, alpha_bar_prev = alpha_bar_prev, alpha_bar\n    x0_pred =",
            ),
            "You read x_t at the level you go to, and go to the one you are at.",
        ),
        WrongAnswer(
            "the signal is not scaled up",
            edit(" / alpha_bar**0.5", ""),
            "x_t minus its noise is sqrt(abar) x_0, not x_0.",
        ),
    ),
)


def _beta_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, num_steps, timesteps in (
        ("T = 20, every fifth", 20, [19, 14, 9, 4]),
        ("T = 20, 3 steps", 20, [19, 12, 6]),
        ("T = 100, uneven", 100, [99, 80, 33, 32, 10, 5]),
        ("one step", 12, [11]),
    ):
        alpha_bar = (1 - draw.betas(generator, num_steps, 0.005, 0.3)).cumprod(0)
        yield Case((alpha_bar, torch.tensor(timesteps)), note=note)


def respaced_betas(alphas_cumprod: Tensor, timesteps: Tensor) -> Tensor:
    """Return the betas (n,) of the steps that leave the timesteps, in their order."""
    alpha_bar = alphas_cumprod[timesteps]
    return 1 - alpha_bar / torch.cat([alpha_bar[1:], alpha_bar.new_ones(1)])


def _summed_betas(alphas_cumprod: Tensor, timesteps: Tensor) -> Tensor:
    betas = 1 - alphas_cumprod / previous_alpha_bar(alphas_cumprod)
    total = torch.cat([betas.new_zeros(1), betas.cumsum(0)])
    reached = torch.cat([timesteps[1:] + 1, timesteps.new_zeros(1)])
    return total[timesteps + 1] - total[reached]


BETAS = Exercise(
    id="06.2",
    lesson=6,
    title="The betas of a shorter chain",
    statement="""A chain visits only `timesteps` (n,), descending indices into `alphas_cumprod`
(T,). Return its betas (n,), in the order of `timesteps`: `betas[k]` belongs to the step that
leaves `timesteps[k]`. The last step goes to clean data.""",
    stub="""def respaced_betas(alphas_cumprod, timesteps):
    ...
""",
    reference=respaced_betas,
    cases=_beta_cases,
    hints=(
        (
            "A step is a pair of levels. Its alpha is the share of signal that is left between "
            "them: a ratio of two abar."
        ),
        (
            "Gather abar at the timesteps. The level that a step goes to is the next entry; "
            "after the last one comes clean data."
        ),
        "Append a 1 to the gathered abar, and divide it by itself shifted by one place.",
    ),
    derivation="lesson 06, 'Why not skip the steps?'; arXiv 2010.02502, section 4.2",
    tolerance=TABLES,
    wrong_answers=(
        WrongAnswer(
            "the betas of training",
            edit(
                "torch.cat([alpha_bar[1:], alpha_bar.new_ones(1)])",
                "torch.cat([alpha_bar.new_ones(1), alphas_cumprod])[timesteps]",
            ),
            "This is the noise of one training step. Your step covers all the steps that were "
            "skipped, and their noise adds up.",
        ),
        WrongAnswer(
            "the sum of the skipped betas",
            _summed_betas,
            "This is close, but betas do not add. Each later step also shrinks what the earlier "
            "ones brought in. Multiply the alphas.",
        ),
        WrongAnswer(
            "the chain ends at the first training level",
            edit("alpha_bar.new_ones(1)", "alphas_cumprod[:1]"),
            "The last step goes to clean data, where abar is 1. Index 0 of the table is "
            "one step of noise above it.",
        ),
        WrongAnswer(
            "the order is reversed",
            edit(
                "1 - alpha_bar / torch.cat([alpha_bar[1:], alpha_bar.new_ones(1)])",
                "(1 - alpha_bar / torch.cat([alpha_bar[1:], alpha_bar.new_ones(1)])).flip(0)",
            ),
            "The first entry belongs to the first of the timesteps, the noisiest.",
        ),
        WrongAnswer(
            "the alphas",
            edit("return 1 - alpha_bar", "return alpha_bar"),
            "That is the share of signal that stays. Beta is the share that goes.",
        ),
        WrongAnswer(
            "all the noise so far",
            edit(" / torch.cat([alpha_bar[1:], alpha_bar.new_ones(1)])", ""),
            "1 - abar is the noise since clean data. A step's beta is the part "
            "of it between two levels.",
        ),
    ),
)


def _heun_cases(generator: torch.Generator) -> Iterator[Case]:
    for (note, shape, dtype), (sigma, sigma_prev) in zip(
        _SHAPES, ((3.0, 1.0), (20.0, 5.0), (0.8, 0.2), (2.0, 0.5), (1.5, 0.9)), strict=True
    ):
        xhat = sigma * draw.normal(generator, *shape, dtype=dtype)
        yield Case((Slope(dtype=dtype), xhat, sigma, sigma_prev), note=note)
    xhat = draw.normal(generator, 3, 2)
    yield Case((Slope(dtype=xhat.dtype), xhat, 0.7, 0.0), note="the last step, to sigma = 0")


def heun(
    noise_at: Callable[[Tensor, float], Tensor], xhat: Tensor, sigma: float, sigma_prev: float
) -> Tensor:
    """Return Heun's step in sigma, and Euler's where sigma_prev is 0."""
    slope = noise_at(xhat, sigma)
    euler = xhat + (sigma_prev - sigma) * slope
    if sigma_prev == 0:
        return euler
    return xhat + (sigma_prev - sigma) * (slope + noise_at(euler, sigma_prev)) / 2


HEUN = Exercise(
    id="06.3",
    lesson=6,
    title="Heun's step",
    statement="""Take one step of Heun's method for $d\\hat x / d\\sigma = \\hat\\epsilon$.
`noise_at(xhat, sigma)` is the network in these coordinates and returns the slope; `xhat` has
shape (B, ...), `sigma` and `sigma_prev` are Python numbers with `sigma_prev < sigma`. The step
to `sigma_prev = 0` is Euler's.""",
    stub="""def heun(noise_at, xhat, sigma, sigma_prev):
    slope = noise_at(xhat, sigma)
    euler = ...
    ...
""",
    reference=heun,
    cases=_heun_cases,
    hints=(
        "Take the Euler step as a trial. It tells you where you would land.",
        "Ask for the slope there: at the trial point, and at the noise level of the trial point.",
        "Go back to the start and walk the whole way with the mean of the two slopes.",
    ),
    derivation="lesson 06, 'Heun: look before you walk'; arXiv 2206.00364, Algorithm 1",
    points=2,
    tolerance=VALUES,
    wrong_answers=(
        WrongAnswer(
            "Euler's step",
            edit("if sigma_prev == 0:", "if True:"),
            "You use the slope at the start only. Look at the slope where you land as well.",
        ),
        WrongAnswer(
            "the second slope is taken at the start",
            edit("noise_at(euler, sigma_prev)", "noise_at(xhat, sigma_prev)"),
            "The second call sees the old point with the new noise level. It has to see the "
            "point that Euler's step reaches.",
        ),
        WrongAnswer(
            "the second slope is taken at the old noise level",
            edit("noise_at(euler, sigma_prev)", "noise_at(euler, sigma)"),
            "The trial point has less noise than the start. The network "
            "has to be told the new level.",
        ),
        WrongAnswer(
            "the slopes are added, not averaged",
            edit(" / 2", ""),
            "The sum of both slopes walks twice as far.",
        ),
        WrongAnswer(
            "the second slope alone",
            edit("(slope + noise_at(euler, sigma_prev)) / 2", "noise_at(euler, sigma_prev)"),
            "The slope at the end alone errs as much as the one at the start, to the other side. "
            "Their mean cancels both errors.",
        ),
        WrongAnswer(
            "the mean slope is walked from the trial point",
            edit("return xhat", "return euler"),
            "The trial step only served to look ahead. Start again from the point where you were.",
        ),
        WrongAnswer(
            "two calls at the last step",
            edit("if sigma_prev == 0:", "if False:"),
            "At sigma = 0 there is no noise to predict, and the network was never "
            "trained there. Use Euler's step.",
        ),
    ),
)


def _sequence_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, shape, num_steps, n in (
        ("points, T = 20, n = 4", (4, 2), 20, 4),
        ("images, T = 50, n = 7", (2, 1, 3, 3), 50, 7),
        ("T = 10, n = 10", (3, 2), 10, 10),
        ("T = 13, n = 5", (3, 2), 13, 5),
        ("n = 1", (3, 2), 9, 1),
        ("sequences in float32, T = 12, n = 3", (2, 3, 2), 12, 3),
    ):
        dtype = torch.float32 if "float32" in note else torch.float64
        alpha_bar = (1 - draw.betas(generator, num_steps, 0.01, 0.25)).cumprod(0)
        yield Case(
            (
                IndexedNetwork(num_steps, 0.3, 4.0, strict=True, dtype=dtype),
                draw.normal(generator, *shape, dtype=dtype),
                alpha_bar,
                n,
            ),
            note=note,
        )


def _walk(model: Callable[..., Tensor], x: Tensor, times: list[int], levels: list[float]) -> Tensor:
    """Return where DDIM's steps through `levels` (n + 1) lead; `times` (n) tell the network."""
    for t, (now, then) in zip(times, pairwise(levels), strict=True):
        x = ddim(x, model(x, torch.full(x.shape[:1], t)), now, then)
    return x


def ddim_sample(model: Callable[..., Tensor], xt: Tensor, alphas_cumprod: Tensor, n: int) -> Tensor:
    """Return the clean end of n DDIM steps through the trailing sub-sequence of the T indices."""
    times = inference_timesteps(len(alphas_cumprod), n, "trailing").tolist()
    return _walk(model, xt, times, [*alphas_cumprod[times].tolist(), 1.0])


SEQUENCE = Exercise(
    id="06.4",
    lesson=6,
    title="DDIM with any number of steps",
    statement="""Draw samples with `n` DDIM steps out of T. `xt` (B, ...) is the starting noise,
`alphas_cumprod` (T,) the table, `model(xt, t)` returns the noise and wants `t` as an int64
tensor (B,) of training indices. Use the trailing sub-sequence: the k-th index is
`round(T - k * T / n) - 1` for k = 0, ..., n - 1. `n` need not divide T. End at clean data.""",
    stub="""def ddim_sample(model, xt, alphas_cumprod, n):
    ...
""",
    solution="""def ddim_sample(model, xt, alphas_cumprod, n):
    total = len(alphas_cumprod)
    times = [round(total - k * total / n) - 1 for k in range(n)]
    levels = [*alphas_cumprod[times].tolist(), 1.0]  # n + 1 levels, the last one clean
    for t, now, then in zip(times, levels[:-1], levels[1:]):
        noise_pred = model(xt, torch.full(xt.shape[:1], t))
        x0_pred = (xt - (1 - now) ** 0.5 * noise_pred) / now**0.5
        xt = then**0.5 * x0_pred + (1 - then) ** 0.5 * noise_pred
    return xt
""",
    reference=ddim_sample,
    cases=_sequence_cases,
    hints=(
        (
            "Write down the list of indices first, and beside it the list of levels: "
            "abar at each index, then 1."
        ),
        (
            "The level that a step goes to is the next entry of that list. No "
            "arithmetic on t is needed."
        ),
        "Inside the loop: torch.full(xt.shape[:1], t) for the network, then the step of 06.1.",
    ),
    derivation=(
        "lesson 06, 'Which levels to visit'; arXiv 2010.02502, section 4.2; "
        "arXiv 2305.08891, Table 2"
    ),
    points=2,
    tolerance=VALUES,
    wrong_answers=(
        WrongAnswer(
            "the place in the sub-sequence instead of the timestep",
            edit("zip(times,", "zip(reversed(range(n)),"),
            "The network was trained with indices 0..T-1. You tell it 0..n-1, so it believes "
            "that there is almost no noise.",
        ),
        WrongAnswer(
            "the chain ends at abar[0]",
            edit("1.0]", "alphas_cumprod[0].item()]"),
            "The last step goes to clean data, abar = 1. At abar[0] some "
            "noise stays in the picture.",
        ),
        WrongAnswer(
            "one training step at a time",
            edit("levels[1:]", "[[*alphas_cumprod.tolist(), 1.0][t - 1] for t in times]"),
            "You step from t to t - 1 and then jump to the next index without "
            "lowering the noise in between.",
        ),
        WrongAnswer(
            "t - T // n as the next index",
            edit(
                "levels[1:]",
                "[[*alphas_cumprod.tolist(), 1.0][max(t - total // n, -1)] for t in times]",
            ),
            "This is the next index only where n divides T. Elsewhere the level of the state and "
            "the level that the network is told drift apart. Take the next entry of the list.",
        ),
        WrongAnswer(
            "leading spacing",
            edit(
                "round(total - k * total / n) - 1 for k in range(n)",
                "k * (total // n) for k in reversed(range(n))",
            ),
            "You start at a multiple of T // n, below the noisiest index. The starting noise is "
            "then taken for less than it is.",
        ),
        WrongAnswer(
            "the last step is missing",
            edit("1.0]", "alphas_cumprod[times[-1]].item()]"),
            "n indices are n steps. You take n - 1, and return a noisy state.",
        ),
    ),
)


def _multistep_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, shape, dtype in _SHAPES:
        xt, x0, before = (draw.normal(generator, *shape, dtype=dtype) for _ in range(3))
        now, then = _pairs(generator, 0.1, 0.95)
        yield Case((xt, x0, before, 0.4 * now, now, then), note=note)
    xt, x0, before = (draw.normal(generator, 3, 2) for _ in range(3))
    yield Case((xt, x0, before, 0.05, 0.06, 0.9), note="a short step, then a long one")


def _lambda(alpha_bar: float) -> float:
    return 0.5 * math.log(alpha_bar / (1 - alpha_bar))


def multistep(
    xt: Tensor,
    x0_pred: Tensor,
    x0_before: Tensor,
    alpha_bar_before: float,
    alpha_bar: float,
    alpha_bar_prev: float,
) -> Tensor:
    """Return the step of DPM-Solver++(2M): exponential, x0 extrapolated to the step's middle."""
    h, h_before = (
        _lambda(alpha_bar_prev) - _lambda(alpha_bar),
        _lambda(alpha_bar) - _lambda(alpha_bar_before),
    )
    direction = x0_pred + h / (2 * h_before) * (x0_pred - x0_before)
    ratio = ((1 - alpha_bar_prev) / (1 - alpha_bar)) ** 0.5
    return ratio * xt + alpha_bar_prev**0.5 * (1 - math.exp(-h)) * direction


MULTISTEP = Exercise(
    id="06.5",
    lesson=6,
    title="The step of DPM-Solver++(2M)",
    statement="""Take one step with memory. `xt`, the estimate `x0_pred` at `xt` and the estimate
`x0_before` of the step before have shape (B, ...). The three levels are Python numbers:
`alpha_bar_before < alpha_bar < alpha_bar_prev < 1`, where `x0_before` was made, where you are,
and where you go. With $\\lambda = \\log(\\sqrt{\\bar\\alpha}/\\sqrt{1-\\bar\\alpha})$,
extrapolate the estimate to the middle of the step and take the exponential step.""",
    stub="""def multistep(xt, x0_pred, x0_before, alpha_bar_before, alpha_bar, alpha_bar_prev):
    ...
""",
    solution="""import math


def multistep(xt, x0_pred, x0_before, alpha_bar_before, alpha_bar, alpha_bar_prev):
    levels = (alpha_bar_before, alpha_bar, alpha_bar_prev)
    before, now, then = (0.5 * math.log(a / (1 - a)) for a in levels)
    h = then - now
    middle = x0_pred + h / (2 * (now - before)) * (x0_pred - x0_before)
    ratio = ((1 - alpha_bar_prev) / (1 - alpha_bar)) ** 0.5
    return ratio * xt + alpha_bar_prev**0.5 * (1 - math.exp(-h)) * middle
""",
    reference=multistep,
    cases=_multistep_cases,
    hints=(
        (
            "Compute the three lambdas, then h (this step) and h_before (the "
            "last step), both positive."
        ),
        (
            "A straight line through the two estimates rises by (x0_pred - x0_before) over "
            "h_before. You want it h / 2 further on."
        ),
        (
            "x_t gets the ratio of the two sqrt(1 - abar), new over old; the extrapolated "
            "estimate sqrt(abar_prev) (1 - exp(-h))."
        ),
    ),
    derivation="lesson 06, 'DPM-Solver++(2M): remember instead'; arXiv 2211.01095, Algorithm 2",
    points=3,
    tolerance=VALUES,
    wrong_answers=(
        WrongAnswer(
            "first order: the old estimate is not used",
            edit("x0_pred + h / (2 * (now - before)) * (x0_pred - x0_before)", "x0_pred"),
            "This is the DDIM step. The old estimate tells how x0_pred is changing.",
        ),
        WrongAnswer(
            "extrapolated to the end of the step",
            edit("(2 * (now - before))", "(now - before)"),
            "One value has to stand for the whole step. The one half-way does so to second "
            "order, the one at the end does not.",
        ),
        WrongAnswer(
            "the ratio of the steps is upside down",
            edit("h / (2 * (now - before))", "(now - before) / (2 * h)"),
            "The slope of the estimate is a difference over the last step's "
            "length. You multiply by that length.",
        ),
        WrongAnswer(
            "interpolated instead of extrapolated",
            edit("x0_pred + h", "x0_pred - h"),
            "You go back towards the old estimate. The next step lies on the other side.",
        ),
        WrongAnswer(
            "steps taken as equally long",
            edit("h / (2 * (now - before))", "0.5"),
            "The weight one half is right where both steps are equally "
            "long in lambda. Yours are not.",
        ),
        WrongAnswer(
            "the log of the SNR instead of half of it",
            edit("0.5 * math.log", "math.log"),
            "lambda has square roots inside: it is half the logarithm of the signal-to-noise "
            "ratio. Your step is twice as long.",
        ),
        WrongAnswer(
            "the ratio in front of x_t is upside down",
            edit(
                "(1 - alpha_bar_prev) / (1 - alpha_bar)", "(1 - alpha_bar) / (1 - alpha_bar_prev)"
            ),
            "The noise in x_t has to shrink: new standard deviation over old.",
        ),
        WrongAnswer(
            "a square root is missing in front of the estimate",
            edit("alpha_bar_prev**0.5", "alpha_bar_prev"),
            "The state at the new level holds sqrt(abar_prev) x_0.",
        ),
    ),
)


def _inversion_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, shape, num_steps, timesteps in (
        ("points", (4, 2), 20, [1, 5, 9, 13, 19]),
        ("images, uneven", (2, 1, 3, 3), 50, [2, 3, 10, 30, 49]),
        ("two levels", (3, 2), 12, [4, 11]),
        ("sequences in float32", (2, 3, 2), 15, [0, 6, 14]),
    ):
        dtype = torch.float32 if "float32" in note else torch.float64
        alpha_bar = (1 - draw.betas(generator, num_steps, 0.01, 0.25)).cumprod(0)
        model = IndexedNetwork(num_steps, 0.3, 4.0, strict=True, dtype=dtype)
        xt = draw.normal(generator, *shape, dtype=dtype)
        yield Case((model, xt, alpha_bar, torch.tensor(timesteps)), note=note)


def ddim_invert(
    model: Callable[..., Tensor], xt: Tensor, alphas_cumprod: Tensor, timesteps: Tensor
) -> Tensor:
    """Return the state at timesteps[-1]: DDIM's steps upwards from xt at timesteps[0]."""
    times = timesteps.tolist()
    return _walk(model, xt, times[:-1], alphas_cumprod[timesteps].tolist())


INVERSION = Exercise(
    id="06.6",
    lesson=6,
    title="DDIM backwards: from a picture to its noise",
    statement="""The deterministic path can be walked upwards. `xt` (B, ...) is a state at the level
of `timesteps[0]`; `timesteps` (n,) are ascending indices into `alphas_cumprod`. Walk through
all of them with the DDIM step and return the state at `timesteps[-1]`. At each step the network
sees the state where it is, with the index of that level.""",
    stub="""def ddim_invert(model, xt, alphas_cumprod, timesteps):
    ...
""",
    solution="""def ddim_invert(model, xt, alphas_cumprod, timesteps):
    times = timesteps.tolist()
    for t, then in zip(times[:-1], times[1:]):
        now, after = alphas_cumprod[t].item(), alphas_cumprod[then].item()
        noise_pred = model(xt, torch.full(xt.shape[:1], t))
        x0_pred = (xt - (1 - now) ** 0.5 * noise_pred) / now**0.5
        xt = after**0.5 * x0_pred + (1 - after) ** 0.5 * noise_pred
    return xt
""",
    reference=ddim_invert,
    cases=_inversion_cases,
    hints=(
        (
            "Nothing in the DDIM step says that the new level must be less noisy. In sigma it is "
            "Euler's step, either way."
        ),
        "n levels are n - 1 steps. Pair each index with the one after it.",
        (
            "For each pair: noise from the network at the first index, then the step of 06.1 "
            "from the first level to the second."
        ),
    ),
    derivation="lesson 06, 'A picture has its own noise'; arXiv 2010.02502, section 4.3 and eq. 14",
    points=3,
    tolerance=VALUES,
    wrong_answers=(
        WrongAnswer(
            "the place in the list instead of the timestep",
            edit("torch.full(xt.shape[:1], t)", "torch.full(xt.shape[:1], times.index(t))"),
            "The network wants the training index of the level, not the count of your loop.",
        ),
        WrongAnswer(
            "the network is told the level it goes to",
            edit("torch.full(xt.shape[:1], t)", "torch.full(xt.shape[:1], then)"),
            "The state is still at the lower level when the network looks at it. Told another "
            "level, it misjudges the noise.",
        ),
        WrongAnswer(
            "downwards",
            edit("timesteps.tolist()", "timesteps.flip(0).tolist()"),
            "You walk from noise to data. The state you are given belongs to "
            "timesteps[0], the least noisy one.",
        ),
        WrongAnswer(
            "the last level is missing",
            edit("timesteps.tolist()", "timesteps[:-1].tolist()"),
            "You stop one level too early.",
        ),
        WrongAnswer(
            "one jump",
            edit("timesteps.tolist()", "timesteps[[0, -1]].tolist()"),
            "You ask the network once and go all the way on that answer. The estimate of the "
            "noise changes along the path.",
        ),
        WrongAnswer(
            "only the noise grows",
            edit(
                "after**0.5 * x0_pred + (1 - after) ** 0.5 * noise_pred",
                "xt + ((1 - after) ** 0.5 - (1 - now) ** 0.5) * noise_pred",
            ),
            "The signal has to shrink by sqrt(abar_next / abar) while the noise grows.",
        ),
    ),
)

EXERCISES = (DDIM, BETAS, HEUN, SEQUENCE, MULTISTEP, INVERSION)
