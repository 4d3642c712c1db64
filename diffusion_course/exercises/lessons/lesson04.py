"""Exercises of lesson 04, the DDPM posterior."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ...process import linear_betas, previous_alpha_bar, q_posterior
from .. import draw
from ..definition import Case, Exercise, Tolerance, WrongAnswer
from ..edits import edit
from ..given import IndexedNetwork

TABLES = Tolerance(rtol=1e-4, atol=1e-9)
EPSILON = Tolerance(rtol=1e-4, atol=1e-5)


def _variance_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, num_steps, low, high in (
        ("T = 6", 6, 0.02, 0.5),
        ("T = 40", 40, 1e-3, 0.1),
        ("T = 1", 1, 0.1, 0.5),
    ):
        alpha_bar = (1 - draw.betas(generator, num_steps, low, high)).cumprod(0)
        yield Case((alpha_bar, previous_alpha_bar(alpha_bar)), note=note)
    alpha_bar = (1 - draw.betas(generator, 12)).cumprod(0)
    yield Case(
        (alpha_bar[3::4], torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[3:-1:4]])),
        note="four steps in one",
    )
    two = (1 - draw.betas(generator, 8)).cumprod(0).reshape(4, 2)
    yield Case((two[2:].float(), two[:2].float()), note="shape (2, 2), in float32")
    yield Case((two[3, 1], two[1, 0]), note="shape ()")


def posterior_variance(alpha_bar: Tensor, alpha_bar_prev: Tensor) -> Tensor:
    """Return beta-tilde, the shape of the inputs."""
    beta = 1 - alpha_bar / alpha_bar_prev
    return (1 - alpha_bar_prev) / (1 - alpha_bar) * beta


VARIANCE = Exercise(
    id="04.1",
    lesson=4,
    title="The posterior variance",
    statement="""Return $\\tilde\\beta$, the variance of $q(x_{t-1} \\mid x_t, x_0)$. You get
`alpha_bar` and `alpha_bar_prev`, tensors of one shape: the noise level now and the one that you
step to. There is no table of betas here, so that one step may also jump over several indices.""",
    stub="""def posterior_variance(alpha_bar, alpha_bar_prev):
    beta = 1 - alpha_bar / alpha_bar_prev
    return beta * ...
""",
    reference=posterior_variance,
    cases=_variance_cases,
    hints=(
        (
            "The precisions add: 1 / (1 - abar_prev) from where the walk came, alpha / "
            "beta from where it is now."
        ),
        "Their sum is (1 - abar) / (beta (1 - abar_prev)). The variance is one over the precision.",
        (
            "beta times a fraction. Above the line: the noise at the level you go to. Below: the "
            "noise at the level you are at."
        ),
    ),
    derivation="lesson 04, 'Completing the square'; Ho et al. 2020, eq. 7",
    tolerance=TABLES,
    wrong_answers=(
        WrongAnswer(
            "beta instead of beta-tilde",
            edit("(1 - alpha_bar_prev) / (1 - alpha_bar) * beta", "beta"),
            "That is the variance of the forward step. Knowing where the walk began "
            "makes the spread smaller.",
        ),
        WrongAnswer(
            "the fraction is upside down",
            edit(
                "(1 - alpha_bar_prev) / (1 - alpha_bar)", "(1 - alpha_bar) / (1 - alpha_bar_prev)"
            ),
            "You divide by the noise at the level you go to: it is 0 at the last step, "
            "and your variance exceeds beta.",
        ),
        WrongAnswer(
            "the standard deviation",
            edit(
                "(1 - alpha_bar_prev) / (1 - alpha_bar) * beta",
                "((1 - alpha_bar_prev) / (1 - alpha_bar) * beta).sqrt()",
            ),
            "This is the factor on the noise. The exercise asks for its square.",
        ),
        WrongAnswer(
            "the prior alone",
            edit(" / (1 - alpha_bar) * beta", ""),
            "This is the variance of x_{t-1} for one who knows x_0 only. x_t narrows it further.",
        ),
        WrongAnswer(
            "the likelihood alone",
            edit("(1 - alpha_bar_prev) / (1 - alpha_bar) * beta", "beta / (1 - beta)"),
            "This is the spread of x_{t-1} for one who knows x_t only. x_0 narrows it further.",
        ),
        WrongAnswer(
            "the precision",
            edit(
                "(1 - alpha_bar_prev) / (1 - alpha_bar) * beta",
                "(1 - alpha_bar) / (1 - alpha_bar_prev) / beta",
            ),
            "You return one over the variance.",
        ),
    ),
)


def _mean_cases(generator: torch.Generator) -> Iterator[Case]:
    alphas_cumprod = (1 - draw.betas(generator, 7)).cumprod(0)
    for note, x0, t, xt in draw.batches(generator, 7):
        yield Case((x0, xt, t, alphas_cumprod), note=note)
    x0, xt = draw.normal(generator, 3, 2), draw.normal(generator, 3, 2)
    yield Case((x0, xt, torch.zeros(3, dtype=torch.int64), alphas_cumprod[:1]), note="T = 1")


def posterior_mean(x0: Tensor, xt: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Return the mean of q(x_{t-1} | x_t, x_0): the package's q_posterior does the work."""
    return q_posterior(x0, xt, t, alphas_cumprod).mean


MEAN = Exercise(
    id="04.2",
    lesson=4,
    title="The posterior mean",
    statement="""Return the mean of $q(x_{t-1} \\mid x_t, x_0)$. `x0` and `xt` have shape (B, ...),
`t` (B,) holds indices 0..T-1, each sample has its own; `alphas_cumprod` (T,) is the table. One
step before index 0 is the clean data. The result has the dtype of `x0`, whatever the table's
is.""",
    stub="""def posterior_mean(x0, xt, t, alphas_cumprod):
    ...
""",
    solution="""def posterior_mean(x0, xt, t, alphas_cumprod):
    shape = (-1, *[1] * (x0.ndim - 1))
    # The table of the step before: 1 at index 0.
    previous = torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])
    alpha_bar = alphas_cumprod[t].reshape(shape)
    alpha_bar_prev = previous[t].reshape(shape)
    alpha = alpha_bar / alpha_bar_prev
    coef_x0 = alpha_bar_prev.sqrt() * (1 - alpha) / (1 - alpha_bar)
    coef_xt = alpha.sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar)
    return coef_x0.to(x0.dtype) * x0 + coef_xt.to(x0.dtype) * xt
""",
    reference=posterior_mean,
    cases=_mean_cases,
    hints=(
        (
            "You need abar at t, abar one step earlier, and alpha = abar / abar_prev. "
            "What is abar_prev at index 0?"
        ),
        (
            "Build the earlier table with torch.cat: a 1, then alphas_cumprod without its last "
            "entry. Then index both tables with t."
        ),
        (
            "x_0 gets sqrt(abar_prev) beta / (1 - abar), x_t gets sqrt(alpha) (1 "
            "- abar_prev) / (1 - abar)."
        ),
    ),
    derivation="lesson 04, 'Completing the square'; Ho et al. 2020, eq. 7",
    points=2,
    wrong_answers=(
        WrongAnswer(
            "alphas_cumprod[t - 1] at t = 0",
            edit("previous[t]", "alphas_cumprod[t - 1]"),
            "At t = 0 the index is -1: Python takes the last entry of the table, the noisiest. "
            "Before index 0 there is no noise.",
        ),
        WrongAnswer(
            "the two coefficients are swapped",
            edit("    return", "    coef_x0, coef_xt = coef_xt, coef_x0\n    return"),
            "x_t carries the factor that vanishes at the last step; x_0 carries "
            "the one that becomes 1 there.",
        ),
        WrongAnswer(
            "abar instead of abar_prev in front of x_0",
            edit("alpha_bar_prev.sqrt()", "alpha_bar.sqrt()"),
            "The mean lives at the level you step to, so x_0 is scaled "
            "with that level's square root.",
        ),
        WrongAnswer(
            "a square root is missing in front of x_0",
            edit("alpha_bar_prev.sqrt()", "alpha_bar_prev"),
            "x_0 reaches level t - 1 with the factor sqrt(abar_prev), not abar_prev.",
        ),
        WrongAnswer(
            "a square root is missing in front of x_t",
            edit("alpha.sqrt()", "alpha"),
            "The forward step multiplies by sqrt(alpha), and that root "
            "goes into the coefficient of x_t.",
        ),
        WrongAnswer(
            "sqrt(abar) instead of sqrt(alpha) in front of x_t",
            edit("alpha.sqrt()", "alpha_bar.sqrt()"),
            "Only one step lies between x_{t-1} and x_t: its factor is "
            "sqrt(alpha), without the bar.",
        ),
        WrongAnswer(
            "one t for the whole batch",
            edit("    shape =", "    t = t[:1]\n    shape ="),
            "Every sample has its own t. You use the first one for all.",
        ),
        WrongAnswer(
            "the coefficients have no axes to broadcast over",
            edit("shape = (-1, *[1] * (x0.ndim - 1))", "shape = (-1,)"),
            "`alphas_cumprod[t]` has shape (B,). It lines up with the last axis of x. "
            "Reshape it to (B, 1, 1, 1).",
        ),
    ),
)


def first_index(num_train_timesteps: int, share: float) -> int:
    """Return the first index at which beta-tilde is at least `share` of beta, linear schedule."""
    alpha_bar = (1 - linear_betas(num_train_timesteps)).cumprod(0)
    ratio = (1 - previous_alpha_bar(alpha_bar)) / (1 - alpha_bar)
    return int((ratio >= share).nonzero()[0])


RATIO = Exercise(
    id="04.3",
    lesson=4,
    title="Where the two variances meet",
    statement="""In the linear schedule with T = <<num_train_timesteps>>
(`linear_betas(<<num_train_timesteps>>)`), at which index is $\\tilde\\beta$ for the first time
at least <<share>> times $\\beta$? From there on the two choices of variance hardly differ. Give
the index (0..T-1).""",
    stub="index = ...\n",
    solution="""def first_index(num_train_timesteps, share):
    betas = torch.linspace(1e-4, 0.02, num_train_timesteps, dtype=torch.float64)
    alpha_bar = (1 - betas).cumprod(0)
    before = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]])
    ratio = (1 - before) / (1 - alpha_bar)  # beta-tilde over beta
    return int((ratio >= share).nonzero()[0])


index = first_index(<<num_train_timesteps>>, <<share>>)
""",
    reference=first_index,
    cases=None,
    parameters={"num_train_timesteps": (1000, 500, 2000), "share": (0.99, 0.95, 0.98, 0.9)},
    hints=(
        "Which of the two factors of beta-tilde is not beta?",
        "The ratio is (1 - abar_prev) / (1 - abar). Compute it for the whole table at once.",
        "`(ratio >= share).nonzero()[0]` is the first index where the condition holds.",
    ),
    derivation="lesson 04, 'Which variance?'; Ho et al. 2020, eq. 7",
    wrong_answers=(
        WrongAnswer(
            "the paper's t instead of the index",
            edit(".nonzero()[0])", ".nonzero()[0]) + 1"),
            "You count from 1, as the paper does. The index of the tables starts at 0.",
        ),
        WrongAnswer(
            "the ratio of the standard deviations",
            edit("(1 - before) / (1 - alpha_bar)", "((1 - before) / (1 - alpha_bar)).sqrt()"),
            "A ratio of standard deviations reaches the mark earlier than one of variances.",
        ),
        WrongAnswer(
            "the ratio of the standard deviations, squared once too often",
            edit("(1 - before) / (1 - alpha_bar)", "((1 - before) / (1 - alpha_bar)) ** 2"),
            "You square a ratio that is already one of variances.",
        ),
        WrongAnswer(
            "the ratio of the signal left",
            edit("(1 - before) / (1 - alpha_bar)", "alpha_bar / before * (before < 1)"),
            "abar / abar_prev is alpha, the share of signal that one step keeps. "
            "Compare the shares of noise.",
        ),
        WrongAnswer(
            "the last index before",
            edit(".nonzero()[0])", ".nonzero()[0]) - 1"),
            "At this index the ratio is still below the mark. You want "
            "the first one at or above it.",
        ),
        WrongAnswer(
            "counted from there on",
            edit("return int((ratio >= share).nonzero()[0])", "return int((ratio >= share).sum())"),
            "This is how many indices fulfil it. The first of them is asked for.",
        ),
        WrongAnswer(
            "the last index of the table",
            edit(".nonzero()[0]", ".nonzero()[-1]"),
            "From the first such index on all fulfil it. You give the last of them.",
        ),
    ),
)


def _noise_mean_cases(generator: torch.Generator) -> Iterator[Case]:
    betas = draw.betas(generator, 7)
    for note, xt, t, noise_pred in draw.batches(generator, 7):
        yield Case((xt, noise_pred, t, betas), note=note)
    xt, noise_pred = draw.normal(generator, 3, 2), draw.normal(generator, 3, 2)
    yield Case((xt, noise_pred, torch.zeros(3, dtype=torch.int64), betas[:1]), note="T = 1")


def mean_from_noise(xt: Tensor, noise_pred: Tensor, t: Tensor, betas: Tensor) -> Tensor:
    """Return the mean of Algorithm 2."""
    shape = (-1, *[1] * (xt.ndim - 1))
    beta = betas[t].reshape(shape)
    alpha_bar = (1 - betas).cumprod(0)[t].reshape(shape)
    scale = (1 / (1 - beta).sqrt()).to(xt.dtype)
    share = (beta / (1 - alpha_bar).sqrt()).to(xt.dtype)
    return scale * (xt - share * noise_pred)


FROM_NOISE = Exercise(
    id="04.4",
    lesson=4,
    title="The mean from the noise",
    statement="""Write the mean of Algorithm 2,
$\\left(x_t - \\frac{\\beta_t}{\\sqrt{1-\\bar\\alpha_t}}\\hat\\epsilon\\right) / \\sqrt{\\alpha_t}$.
`xt` and `noise_pred` have shape (B, ...), `t` (B,) holds indices, `betas` (T,) is the only
table you get. The result has the dtype of `xt`, whatever the table's is.""",
    stub="""def mean_from_noise(xt, noise_pred, t, betas):
    ...
""",
    reference=mean_from_noise,
    cases=_noise_mean_cases,
    hints=(
        "Two tables follow from betas: alphas = 1 - betas, and their running product.",
        (
            "Gather beta and abar at t as (B, 1, ..., 1), in the table's dtype; cast to "
            "the dtype of xt at the end."
        ),
        (
            "The share of the noise is beta / sqrt(1 - abar); then everything is "
            "divided by sqrt(1 - beta)."
        ),
    ),
    derivation="lesson 04, 'The mean in terms of the noise'; Ho et al. 2020, eq. 11",
    points=2,
    wrong_answers=(
        WrongAnswer(
            "1 / sqrt(abar) in front",
            edit("1 / (1 - beta).sqrt()", "1 / alpha_bar.sqrt()"),
            "One step back divides by sqrt(alpha), without the bar. The bar "
            "undoes all steps at once.",
        ),
        WrongAnswer(
            "all of the noise is removed",
            edit("beta / (1 - alpha_bar).sqrt()", "(1 - alpha_bar).sqrt()"),
            "sqrt(1 - abar) is the noise of all steps. One step removes the "
            "share beta / sqrt(1 - abar).",
        ),
        WrongAnswer(
            "the deviation of one step is removed",
            edit("beta / (1 - alpha_bar).sqrt()", "beta.sqrt()"),
            "sqrt(beta) is the deviation of this step's noise. The network names the sum of all "
            "steps' noise, and only a part of it belongs to this step.",
        ),
        WrongAnswer(
            "a square root is missing under beta",
            edit("(1 - alpha_bar).sqrt()", "(1 - alpha_bar)"),
            "1 - abar stands under a square root: it is the deviation of the noise in x_t.",
        ),
        WrongAnswer(
            "the signal is not scaled up",
            edit("return scale * (xt", "return (xt"),
            "The forward step shrank the signal by sqrt(1 - beta). The way back has to undo that.",
        ),
        WrongAnswer(
            "divided by alpha instead of its root",
            edit("(1 - beta).sqrt()", "(1 - beta)"),
            "The forward step multiplied x by sqrt(alpha), not by alpha.",
        ),
        WrongAnswer(
            "the noise is added",
            edit("xt - share", "xt + share"),
            "A minus sign is lost: the noise has to leave.",
        ),
        WrongAnswer(
            "the index is off by one",
            edit("    shape =", "    t = t - 1\n    shape ="),
            "The tables hold the paper's t at index t - 1, and `t` is an index already.",
        ),
    ),
)


def _step_cases(generator: torch.Generator) -> Iterator[Case]:
    betas = draw.betas(generator, 7)
    for note, xt, t, noise_pred in draw.batches(generator, 7):
        noise = draw.normal(generator, *xt.shape, dtype=xt.dtype)
        yield Case((xt, noise_pred, t, betas, noise), note=note)
    xt, noise_pred, noise = (draw.normal(generator, 3, 2) for _ in range(3))
    yield Case((xt, noise_pred, torch.zeros(3, dtype=torch.int64), betas[:1], noise), note="T = 1")


def reverse_step(xt: Tensor, noise_pred: Tensor, t: Tensor, betas: Tensor, noise: Tensor) -> Tensor:
    """Return mean + sqrt(beta-tilde) noise; beta-tilde is 0 at index 0, so none is added there."""
    alpha_bar = (1 - betas).cumprod(0)
    variance = q_posterior(xt, xt, t, alpha_bar).variance  # the same for every x_0
    return mean_from_noise(xt, noise_pred, t, betas) + variance.sqrt() * noise


STEP = Exercise(
    id="04.5",
    lesson=4,
    title="One step of ancestral sampling",
    statement="""Take one reverse step: the mean of 04.4 plus `noise` with the variance
$\\tilde\\beta_t$. Samples at index 0 get no noise. `xt`, `noise_pred` and `noise` have shape
(B, ...), `t` (B,) may hold different indices, `betas` is (T,). The result has the dtype of
`xt`, whatever the table's is.""",
    stub="""def reverse_step(xt, noise_pred, t, betas, noise):
    ...
""",
    solution="""def reverse_step(xt, noise_pred, t, betas, noise):
    shape = (-1, *[1] * (xt.ndim - 1))
    alphas_cumprod = (1 - betas).cumprod(0)
    previous = torch.cat([betas.new_ones(1), alphas_cumprod[:-1]])  # 1 at index 0
    beta = betas[t].reshape(shape)
    alpha_bar = alphas_cumprod[t].reshape(shape)
    alpha_bar_prev = previous[t].reshape(shape)
    share = (beta / (1 - alpha_bar).sqrt()).to(xt.dtype)
    mean = (xt - share * noise_pred) / (1 - beta).sqrt().to(xt.dtype)
    std = (beta * (1 - alpha_bar_prev) / (1 - alpha_bar)).sqrt()  # 0 at index 0
    return mean + std.to(xt.dtype) * noise
""",
    reference=reverse_step,
    cases=_step_cases,
    hints=(
        (
            "You have both parts already: the mean of 04.4 and the variance of 04.1. The noise "
            "needs a standard deviation."
        ),
        "With abar_prev = 1 at index 0, what does the formula of the variance give there?",
        (
            "mean + sqrt(beta (1 - abar_prev) / (1 - abar)) * noise, with abar_prev from "
            "torch.cat([ones(1), alphas_cumprod[:-1]])."
        ),
    ),
    derivation="lesson 04, 'The loop'; Ho et al. 2020, Algorithm 2",
    points=3,
    wrong_answers=(
        WrongAnswer(
            "noise at index 0",
            edit(
                "    return",
                "    std = torch.where(alpha_bar_prev == 1, beta.sqrt(), std)\n    return",
            ),
            "The last step ends at the data. Whatever noise you add there stays in the picture.",
        ),
        WrongAnswer(
            "beta instead of beta-tilde",
            edit("(1 - alpha_bar_prev) / (1 - alpha_bar)", "(alpha_bar_prev < 1)"),
            "beta is the other choice of Algorithm 2. The exercise asks for the "
            "posterior's own variance.",
        ),
        WrongAnswer(
            "beta, also at index 0",
            edit("(beta * (1 - alpha_bar_prev) / (1 - alpha_bar)).sqrt()", "beta.sqrt()"),
            "Two things: beta is not the posterior's variance, and at index 0 "
            "your noise stays in the picture.",
        ),
        WrongAnswer(
            "the variance where the standard deviation belongs",
            edit("(1 - alpha_bar)).sqrt()", "(1 - alpha_bar))"),
            "Noise multiplied by the variance has the variance squared. Take the root.",
        ),
        WrongAnswer(
            "no noise at all",
            edit(" + std.to(xt.dtype) * noise", ""),
            "Without noise every step lands on the mean, and the chain "
            "ends with too little spread.",
        ),
        WrongAnswer(
            "the first sample of the batch decides about the noise",
            edit("return mean +", "return mean if t[0] == 0 else mean +"),
            "`if t[0] == 0` looks at one sample. Each has its own index: multiply by a mask, or "
            "use a variance that is 0 there.",
        ),
        WrongAnswer(
            "the clean estimate instead of the mean",
            edit("beta / (1 - alpha_bar).sqrt()", "(1 - alpha_bar).sqrt()").then(
                "(1 - beta).sqrt()", "alpha_bar.sqrt()"
            ),
            "You jump to the estimate of x_0 and add one step's noise. The mean lies "
            "between x_t and that estimate.",
        ),
        WrongAnswer(
            "fresh noise instead of the noise given",
            edit("std.to(xt.dtype) * noise", "std.to(xt.dtype) * torch.randn_like(xt)"),
            "You draw your own noise. Use `noise`: only then can anybody repeat your result.",
        ),
    ),
)


def _loop_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, shape, num_steps, dtype in (
        ("points, T = 6", (4, 2), 6, torch.float64),
        ("images, T = 4", (2, 1, 3, 3), 4, torch.float64),
        ("T = 1", (3, 2), 1, torch.float64),
        ("one sequence in float32, T = 5", (1, 3, 2), 5, torch.float32),
    ):
        betas = draw.betas(generator, num_steps, 0.05, 0.4)
        own = torch.Generator().manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        yield Case((IndexedNetwork(num_steps, dtype=dtype), shape, betas.to(dtype), own), note=note)


def sample(
    model: Callable[..., Tensor], shape: tuple[int, ...], betas: Tensor, generator: torch.Generator
) -> Tensor:
    """Return samples of Algorithm 2 with variance beta: no noise is added at the last index."""
    x = torch.randn(shape, generator=generator, dtype=betas.dtype)
    for i in reversed(range(len(betas))):
        t = torch.full(shape[:1], i)
        x = mean_from_noise(x, model(x, t), t, betas)
        if i > 0:
            x = x + betas[i].sqrt() * torch.randn(shape, generator=generator, dtype=betas.dtype)
    return x


LOOP = Exercise(
    id="04.6",
    lesson=4,
    title="The whole sampling loop",
    statement="""Write Algorithm 2 from an empty cell. `model(xt, t)` returns the noise it sees in
`xt`; it wants `t` as an int64 tensor of shape (B,). Start from
`torch.randn(shape, generator=generator, dtype=betas.dtype)`, go through all indices from T-1 to
0, and return the clean samples. Use the variance $\\zeta_t^2 = \\beta_t$ and draw each step's
noise with the same call as the start, after the model; index 0 gets none.""",
    stub="""def sample(model, shape, betas, generator):
    ...
""",
    solution="""def sample(model, shape, betas, generator):
    alphas_cumprod = (1 - betas).cumprod(0)
    x = torch.randn(shape, generator=generator, dtype=betas.dtype)
    for i in reversed(range(len(betas))):
        noise_pred = model(x, torch.full(shape[:1], i))
        share = betas[i] / (1 - alphas_cumprod[i]).sqrt()
        x = (x - share * noise_pred) / (1 - betas[i]).sqrt()
        if i > 0:
            noise = torch.randn(shape, generator=generator, dtype=betas.dtype)
            x = x + betas[i].sqrt() * noise
    return x
""",
    reference=sample,
    cases=_loop_cases,
    hints=(
        (
            "Four lines inside the loop: make t, ask the model, compute the mean of 04.4, add "
            "noise unless the index is 0."
        ),
        (
            "`reversed(range(len(betas)))` gives T-1, ..., 0; `torch.full(shape[:1], i)` "
            "is the t of a whole batch."
        ),
        "x = mean + betas[i].sqrt() * noise if i > 0 else mean. Every x comes from the one before.",
    ),
    derivation="lesson 04, 'The loop'; Ho et al. 2020, Algorithm 2",
    points=4,
    tolerance=EPSILON,
    wrong_answers=(
        WrongAnswer(
            "the loop runs from 0 to T-1",
            edit("reversed(range(len(betas)))", "range(len(betas))"),
            "Your first step treats pure noise as if it were almost clean. The "
            "noisiest index comes first.",
        ),
        WrongAnswer(
            "the last step is missing",
            edit("reversed(range(len(betas)))", "range(len(betas) - 1, 0, -1)"),
            "`range(T - 1, 0, -1)` stops before index 0: the noise of the first forward "
            "step stays in the picture.",
        ),
        WrongAnswer(
            "the first step is missing",
            edit("reversed(range(len(betas)))", "range(len(betas) - 2, -1, -1)"),
            "Your loop starts at T-2, although x holds the noise of level T-1.",
        ),
        WrongAnswer(
            "noise at the last step",
            edit("if i > 0:", "if True:"),
            "At index 0 you add noise that no later step takes away.",
        ),
        WrongAnswer(
            "beta-tilde instead of beta",
            edit(
                "betas[i].sqrt() * noise",
                "(betas[i] * (1 - alphas_cumprod[i - 1]) / (1 - alphas_cumprod[i])).sqrt() * noise",
            ),
            "This is the other choice of variance. The exercise asks for beta.",
        ),
        WrongAnswer(
            "no noise at all",
            edit("x = x + betas[i].sqrt() * noise", "pass"),
            "Without noise the chain only follows its means: this is not ancestral sampling.",
        ),
        WrongAnswer(
            "the variance where the standard deviation belongs",
            edit("betas[i].sqrt() * noise", "betas[i] * noise"),
            "You multiply the noise by beta. Its standard deviation should be the root of beta.",
        ),
        WrongAnswer(
            "the model is asked about t + 1",
            edit("torch.full(shape[:1], i)", "torch.full(shape[:1], i + 1)"),
            "The network was trained with indices 0..T-1. The paper's t is one larger, "
            "and your network never saw it so.",
        ),
        WrongAnswer(
            "the same noise in every step",
            edit("    for i in", "    start = x\n    for i in").then(
                "betas[i].sqrt() * noise", "betas[i].sqrt() * start"
            ),
            "Each step needs noise of its own. One draw, used again and again, "
            "pushes all steps the same way.",
        ),
        WrongAnswer(
            "the generator is not used",
            edit("generator=generator, ", "", times=2),
            "Your noise comes from the global random state, so nobody can repeat your "
            "samples. Pass `generator`.",
        ),
    ),
)


EXERCISES = (VARIANCE, MEAN, RATIO, FROM_NOISE, STEP, LOOP)
