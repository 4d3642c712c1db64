"""Exercises of lesson 03, the noise-prediction loss."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ...process import loss_weight, snr
from ...training import train_step
from .. import draw
from ..calls import two_steps
from ..definition import Case, Exercise, Property, Tolerance, WrongAnswer
from ..edits import edit
from ..given import TwoLayers

WEIGHTS = Tolerance(rtol=1e-4, atol=1e-9)


def _score_cases(generator: torch.Generator) -> Iterator[Case]:
    table = (1 - draw.betas(generator, 7)).cumprod(0)
    for note, noise_pred, t, _ in draw.batches(generator, len(table)):
        yield Case((noise_pred, t, table), note=note)
    yield Case(
        (draw.normal(generator, 3, 2), torch.zeros(3, dtype=torch.int64), table[:1]), note="T = 1"
    )


def score_from_noise(noise_pred: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Return the score, -noise_pred / sqrt(1 - abar), shaped like noise_pred."""
    alpha_bar = alphas_cumprod[t].to(noise_pred.dtype)
    alpha_bar = alpha_bar.reshape(-1, *[1] * (noise_pred.ndim - 1))  # (B, 1, ...)
    return noise_pred * -1 / (1 - alpha_bar).sqrt()


SCORE = Exercise(
    id="03.1",
    lesson=3,
    title="The score from the noise",
    statement="""A network has predicted the noise in $x_t$. Turn it into the score, the gradient of
the log-density of $x_t$. `noise_pred` has shape (B, ...), `t` (B,) holds indices into the table
`alphas_cumprod` (T,). One factor is missing.""",
    stub="""def score_from_noise(noise_pred, t, alphas_cumprod):
    alpha_bar = alphas_cumprod[t].to(noise_pred.dtype)
    alpha_bar = alpha_bar.reshape(-1, *[1] * (noise_pred.ndim - 1))  # (B, 1, ...)
    return noise_pred * ...
""",
    reference=score_from_noise,
    cases=_score_cases,
    hints=(
        (
            "The score points to where x_t is more likely. Does the noise point "
            "there, or away from there?"
        ),
        (
            "Differentiate the log of a normal density with variance 1 - alpha_bar, then express "
            "x_t minus its mean by the noise."
        ),
        "The factor is minus one over the square root of (1 - alpha_bar).",
    ),
    derivation="lesson 03, 'The score is the noise, rescaled'; Song et al. 2021 (arXiv 2011.13456)",
    wrong_answers=(
        WrongAnswer(
            "the sign is missing",
            edit("* -1 /", "/"),
            "The noise points away from the data. The score points "
            "uphill, to where the density grows.",
        ),
        WrongAnswer(
            "divided by the variance of the noise",
            edit("(1 - alpha_bar).sqrt()", "(1 - alpha_bar)"),
            "That is the factor on x_t minus its mean. The noise is that difference divided by "
            "its standard deviation already.",
        ),
        WrongAnswer(
            "multiplied where it has to be divided",
            edit("-1 / (1", "-1 * (1"),
            "A narrow density has a steep logarithm: with little noise the score is large.",
        ),
        WrongAnswer(
            "the factor of the signal",
            edit("(1 - alpha_bar).sqrt()", "alpha_bar.sqrt()"),
            "sqrt(alpha_bar) belongs to x_0. The spread of x_t around its mean is the noise's.",
        ),
        WrongAnswer(
            "the noise with its sign flipped, not scaled",
            edit(" / (1 - alpha_bar).sqrt()", ""),
            "The unit of a score is one over the unit of x_t. A factor is still missing.",
        ),
        WrongAnswer(
            "the index is off by one",
            edit("alphas_cumprod[t]", "alphas_cumprod[t - 1]"),
            "`alphas_cumprod[0]` holds one step of noise already. With `t - 1` index 0 wraps "
            "around to the end of the table.",
        ),
    ),
)


def _weight_cases(generator: torch.Generator) -> Iterator[Case]:
    for num_steps in (6, 2, 30, 1):
        table = (1 - draw.betas(generator, num_steps, 1e-3, 0.3)).cumprod(0)
        yield Case((torch.arange(num_steps), table), note=f"every t of T = {num_steps}")
    yield Case(
        (torch.tensor([3, 0, 3]), (1 - draw.betas(generator, 4)).cumprod(0)),
        note="the same t twice",
    )


def bound_weight(t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Return beta^2 / (2 zeta^2 alpha (1 - abar)) with zeta^2 = beta, (B,)."""
    return loss_weight(t, alphas_cumprod, weighting="elbo", variance_type="fixed_large")


WEIGHT = Exercise(
    id="03.2",
    lesson=3,
    title="The weight in the bound",
    statement="""Return the weight (B,) that the squared error of the noise has in the bound, at
indices `t` (B,), for reverse steps of variance $\\zeta_t^2 = \\beta_t$. You are given the
table `alphas_cumprod` (T,) alone.""",
    stub="""def bound_weight(t, alphas_cumprod):
    alpha_bar = alphas_cumprod[t]  # (B,)
    alpha = alpha_bar / ...
    return ...
""",
    solution="""def bound_weight(t, alphas_cumprod):
    alpha_bar = alphas_cumprod[t]  # (B,)
    before = torch.cat([torch.ones_like(alphas_cumprod[:1]), alphas_cumprod[:-1]])
    alpha = alpha_bar / before[t]
    return (1 - alpha) / (2 * alpha * (1 - alpha_bar))
""",
    reference=bound_weight,
    cases=_weight_cases,
    hints=(
        (
            "alpha of one step is alpha_bar after it, divided by alpha_bar before it. Before the "
            "first step alpha_bar is 1."
        ),
        "Put zeta^2 = beta into beta^2 / (2 zeta^2 alpha (1 - alpha_bar)) and cancel.",
        "What is left is beta / (2 alpha (1 - alpha_bar)).",
    ),
    derivation="lesson 03, 'From means to noise'; Ho et al. 2020, eq. 12",
    points=2,
    tolerance=WEIGHTS,
    wrong_answers=(
        WrongAnswer(
            "beta is still squared",
            edit("return (1 - alpha) /", "return (1 - alpha) ** 2 /"),
            "The zeta^2 = beta below the line cancels one of the two factors beta above it.",
        ),
        WrongAnswer(
            "the 2 is missing",
            edit("(2 * alpha *", "(alpha *"),
            "A normal density has half of the squared distance in its exponent.",
        ),
        WrongAnswer(
            "alpha is missing below the line",
            edit("(2 * alpha *", "(2 *"),
            "The mean has 1 / sqrt(alpha) in front, and the weight has its square.",
        ),
        WrongAnswer(
            "a square root on 1 - alpha_bar",
            edit("(1 - alpha_bar)", "(1 - alpha_bar).sqrt()"),
            "The root stands in the mean. The weight is made of squares.",
        ),
        WrongAnswer(
            "alpha_bar in the place of alpha",
            edit("2 * alpha *", "2 * alpha_bar *"),
            "The step's own alpha stands there, not the product of all alphas so far.",
        ),
        WrongAnswer(
            "1 - alpha_bar of the step before",
            edit("(1 - alpha_bar)", "(1 - before[t])"),
            "This comes out with the variance beta-tilde instead of beta, and at "
            "index 0 it divides by zero.",
        ),
        WrongAnswer(
            "the weight of x_0's error",
            edit(
                "(2 * alpha * (1 - alpha_bar))",
                "(2 * alpha * (1 - alpha_bar)) * alpha_bar / (1 - alpha_bar)",
            ),
            "An error of x_0 is an error of the noise divided by the root of the SNR. The "
            "noise's error is asked for.",
        ),
        WrongAnswer(
            "the plain loss",
            edit(
                "return (1 - alpha) / (2 * alpha * (1 - alpha_bar))",
                "return torch.ones_like(alpha)",
            ),
            "All weights are 1: that is L_simple. The bound weighs the noise levels differently.",
        ),
        WrongAnswer(
            "weights of mean 1",
            edit(
                "return (1 - alpha) / (2 * alpha * (1 - alpha_bar))",
                "weight = (1 - alpha) / (2 * alpha * (1 - alpha_bar))\n    return weight /"
                " weight.mean()",
            ),
            "You divide by the mean of the weights. The bound's own weights are asked for, as"
            " they are.",
        ),
        WrongAnswer(
            "the neighbour in the batch",
            edit("before[t]", "torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]])"),
            "The level before t stands in the table, not at the place before it in the batch.",
        ),
    ),
)


def best_noise(alpha_bar: float, x_t: float) -> float:
    """Return E[noise | x_t] for x_0 = +1 or -1 with equal probability."""
    signal, spread = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    return (x_t - signal * math.tanh(signal * x_t / (1 - alpha_bar))) / spread


BEST = Exercise(
    id="03.3",
    lesson=3,
    title="The best guess by hand",
    statement="""A data set of one pixel: $x_0$ is $+1$ or $-1$, each with probability one half. At
$\\bar\\alpha_t$ = <<alpha_bar>> you see $x_t$ = <<x_t>>. Which noise prediction has the least
mean squared error? Give it to 1 %.""",
    stub="noise_guess = ...\n",
    solution="""def best_noise(alpha_bar, x_t):
    x0 = torch.tensor([1.0, -1.0], dtype=torch.float64)
    # The noise that each of the two would need.
    noise = (x_t - alpha_bar**0.5 * x0) / (1 - alpha_bar) ** 0.5
    share = (-(noise**2) / 2).softmax(0)  # Bayes: both were equally likely
    return (share * noise).sum().item()


noise_guess = best_noise(<<alpha_bar>>, <<x_t>>)
""",
    reference=best_noise,
    cases=None,
    parameters={"alpha_bar": (0.8, 0.6, 0.7, 0.4), "x_t": (0.3, 0.45, 0.2)},
    hints=(
        (
            "There are two explanations of x_t, one for each x_0. Each says "
            "exactly which noise was drawn."
        ),
        (
            "Weigh each explanation by the standard normal density of its noise, and "
            "make the two weights sum to 1."
        ),
        "The best guess is the weighted mean of the two noises.",
    ),
    derivation="lesson 03, 'The smallest case by hand'",
    points=2,
    tolerance=Tolerance(rtol=0.01, atol=0),
    wrong_answers=(
        WrongAnswer(
            "the noise of the likelier value",
            edit("(share * noise).sum()", "noise[0]"),
            "This bets all on x_0 = +1. The squared error punishes the cases where it was -1.",
        ),
        WrongAnswer(
            "the plain mean of the two noises",
            edit("(share * noise).sum()", "noise.mean()"),
            "The two explanations are not equally likely any more once x_t has been seen.",
        ),
        WrongAnswer(
            "the best guess of x_0",
            edit("(share * noise)", "(share * x0)"),
            "This is the mean of x_0 given x_t. Solve the closed form for the noise.",
        ),
        WrongAnswer(
            "the probability of +1",
            edit("(share * noise).sum()", "share[0]"),
            "This is the weight of one explanation. Use it to average the two noises.",
        ),
        WrongAnswer(
            "the difference is not divided by the noise scale",
            edit("return (share", "return (1 - alpha_bar) ** 0.5 * (share"),
            "x_t minus the signal is the noise times sqrt(1 - alpha_bar).",
        ),
        WrongAnswer(
            "the score",
            edit("return (share", "return -((1 - alpha_bar) ** -0.5) * (share"),
            "This is the gradient of the log-density. The noise is that "
            "times -sqrt(1 - alpha_bar).",
        ),
        WrongAnswer(
            "the noise of the unlikelier value",
            edit("(share * noise).sum()", "noise[1]"),
            "This bets all on x_0 = -1, although x_t lies nearer to what +1 gives.",
        ),
        WrongAnswer(
            "the two weights are swapped",
            edit("(share * noise)", "(share.flip(0) * noise)"),
            "You weigh each explanation with the probability of the other one.",
        ),
        WrongAnswer(
            "the half is missing in the exponent",
            edit("(-(noise**2) / 2)", "(-(noise**2))"),
            "The standard normal density has minus half of the square in its exponent.",
        ),
        WrongAnswer(
            "signal and noise levels are swapped",
            edit("    x0 =", "    alpha_bar = 1 - alpha_bar\n    x0 ="),
            "alpha_bar is the share of the signal. You take it for the noise's.",
        ),
        WrongAnswer(
            "the factors without their roots",
            edit("alpha_bar**0.5 * x0", "alpha_bar * x0").then(
                "(1 - alpha_bar) ** 0.5", "(1 - alpha_bar)"
            ),
            "x_t is made with sqrt(alpha_bar) and sqrt(1 - alpha_bar): solve that for the noise.",
        ),
        WrongAnswer(
            "the tanh is not divided by the variance",
            lambda alpha_bar, x_t: (
                (x_t - alpha_bar**0.5 * math.tanh(alpha_bar**0.5 * x_t)) / (1 - alpha_bar) ** 0.5
            ),
            "In E[x_0 | x_t] the argument of tanh is sqrt(alpha_bar) x_t over the variance 1 -"
            " alpha_bar.",
        ),
        WrongAnswer(
            "the tanh is divided by the deviation",
            lambda alpha_bar, x_t: (
                (x_t - alpha_bar**0.5 * math.tanh(alpha_bar**0.5 * x_t / (1 - alpha_bar) ** 0.5))
                / (1 - alpha_bar) ** 0.5
            ),
            "In E[x_0 | x_t] the argument of tanh is sqrt(alpha_bar) x_t over the variance 1 -"
            " alpha_bar, without a root.",
        ),
    ),
)


def _v_cases(generator: torch.Generator) -> Iterator[Case]:
    table = (1 - draw.betas(generator, 7)).cumprod(0)
    table[-1] = 0  # the end of a zero-terminal schedule
    for note, v, t, xt in draw.batches(generator, len(table)):
        yield Case((v, xt, t, table), note=note)
    one = (
        draw.normal(generator, 3, 2),
        draw.normal(generator, 3, 2),
        torch.zeros(3, dtype=torch.int64),
        table[:1],
    )
    yield Case(one, note="T = 1")


def solve_v(v: Tensor, xt: Tensor, t: Tensor, alphas_cumprod: Tensor) -> tuple[Tensor, Tensor]:
    """Return (x0_pred, noise_pred) from a prediction of v, each shaped like xt."""
    # (B,) -> (B, 1, ...)
    alpha_bar = alphas_cumprod[t].to(xt.dtype).reshape(-1, *[1] * (xt.ndim - 1))
    a, b = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    x0_pred = a * xt - b * v
    noise_pred = b * xt + a * v
    return x0_pred, noise_pred


SOLVE_V = Exercise(
    id="03.4",
    lesson=3,
    title="Solve for x_0 and the noise",
    statement="""A network has predicted
$v = \\sqrt{\\bar\\alpha_t}\\,\\epsilon - \\sqrt{1-\\bar\\alpha_t}\\,x_0$. Together with
$x_t = \\sqrt{\\bar\\alpha_t}\\,x_0 + \\sqrt{1-\\bar\\alpha_t}\\,\\epsilon$ you have two
equations. Solve them: return `(x0_pred, noise_pred)`. It has to work at $\\bar\\alpha_t = 0$
too.""",
    stub="""def solve_v(v, xt, t, alphas_cumprod):
    # (B,) -> (B, 1, ...)
    alpha_bar = alphas_cumprod[t].to(xt.dtype).reshape(-1, *[1] * (xt.ndim - 1))
    a, b = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    x0_pred = a * ...
    noise_pred = ...
    return x0_pred, noise_pred
""",
    reference=solve_v,
    cases=_v_cases,
    hints=(
        "Multiply the equation of x_t by a and that of v by b. Subtract them: the noise drops out.",
        "a^2 + b^2 = 1. For the noise, multiply the other way round and add.",
        (
            "The matrix is a rotation, so its inverse is its transpose: x0 = a "
            "xt - b v and noise = b xt + a v."
        ),
    ),
    derivation=(
        "lesson 03, 'Four names for one prediction'; Salimans & Ho 2022 "
        "(arXiv 2202.00512), appendix D"
    ),
    points=2,
    wrong_answers=(
        WrongAnswer(
            "the sign of v is flipped",
            edit("a * xt - b * v", "a * xt + b * v").then("b * xt + a * v", "b * xt - a * v"),
            "This solves for v = b x_0 - a noise. Put your result back into the definition of v.",
        ),
        WrongAnswer(
            "x_0 and noise swapped",
            edit("return x0_pred, noise_pred", "return noise_pred, x0_pred"),
            "The order of the result is (x0_pred, noise_pred).",
        ),
        WrongAnswer(
            "v read as the noise",
            edit("a * xt - b * v", "(xt - b * v) / a").then("b * xt + a * v", "v"),
            "This is the right solution for another network: one that predicts the noise.",
        ),
        WrongAnswer(
            "v read as x_0",
            edit("a * xt - b * v", "v").then("b * xt + a * v", "(xt - a * v) / b"),
            "This is the right solution for another network: one that predicts x_0.",
        ),
        WrongAnswer(
            "v read as noise - x_0",
            edit("a * xt - b * v", "(xt - b * v) / (a + b)").then(
                "b * xt + a * v", "(xt + a * v) / (a + b)"
            ),
            "That is the velocity of flow matching. Here v has the factors "
            "sqrt(alpha_bar) and sqrt(1 - alpha_bar).",
        ),
        WrongAnswer(
            "the factors of x_t and v swapped",
            edit("a * xt - b * v", "b * xt - a * v").then("b * xt + a * v", "a * xt + b * v"),
            "At alpha_bar = 1 there is no noise, so x_0 has to come out as x_t.",
        ),
        WrongAnswer(
            "the squares in the place of the roots",
            edit("alpha_bar.sqrt(), (1 - alpha_bar).sqrt()", "alpha_bar, 1 - alpha_bar"),
            "The factors are sqrt(alpha_bar) and sqrt(1 - alpha_bar).",
        ),
    ),
)


def _min_snr_cases(generator: torch.Generator) -> Iterator[Case]:
    table = (1 - draw.betas(generator, 40, 1e-3, 0.3)).cumprod(0)
    yield Case((table, 5.0), note="a table, gamma = 5")
    yield Case((table.float().reshape(-1, 1), 1.0), note="a column in float32, gamma = 1")
    yield Case(
        (torch.tensor([0.99, 0.5, 0.1, 0.0], dtype=torch.float64), 5.0), note="down to pure noise"
    )
    yield Case((torch.tensor(0.9, dtype=torch.float64), 2.5), note="one level, of shape ()")


def min_snr_for_v(alpha_bar: Tensor, gamma: float) -> Tensor:
    """Return min(SNR, gamma) / (SNR + 1) for alpha_bar of any shape."""
    ratio = snr(alpha_bar)
    return ratio.clamp(max=gamma) / (ratio + 1)


MIN_SNR = Exercise(
    id="03.5",
    lesson=3,
    title="Min-SNR for v",
    statement="""Min-SNR gives the squared error of $x_0$ the weight
$\\min(\\mathrm{SNR}, \\gamma)$. Your network predicts $v$. Return the weight of *its* squared
error that has the same effect, for `alpha_bar` of any shape. It has to stay finite at
`alpha_bar` = 0.""",
    stub="""def min_snr_for_v(alpha_bar, gamma):
    ratio = alpha_bar / (1 - alpha_bar)
    return ...
""",
    solution="""def min_snr_for_v(alpha_bar, gamma):
    ratio = alpha_bar / (1 - alpha_bar)
    return ratio.clamp(max=gamma) / (ratio + 1)
""",
    reference=min_snr_for_v,
    cases=_min_snr_cases,
    hints=(
        (
            "By which factor is the squared error of x_0 larger or smaller than "
            "that of v, at the same x_t?"
        ),
        "x_0 = a x_t - b v, so an error d of v is an error of size b d of x_0.",
        "Multiply min(SNR, gamma) by 1 - alpha_bar, which is 1 / (SNR + 1).",
    ),
    derivation=("lesson 03, 'Other weights'; Hang et al. 2023 (arXiv 2303.09556)"),
    points=2,
    tolerance=WEIGHTS,
    wrong_answers=(
        WrongAnswer(
            "the 1 is added before the minimum is taken",
            edit("ratio.clamp", "(ratio + 1).clamp"),
            "This is a published slip (huggingface/diffusers#5238, corrected in #6307). "
            "At pure noise it has weight 1.",
        ),
        WrongAnswer(
            "the weight of the noise's error",
            edit("ratio.clamp(max=gamma) / (ratio + 1)", "(gamma / ratio).clamp(max=1)"),
            "min(SNR, gamma) / SNR belongs to a network that predicts the noise.",
        ),
        WrongAnswer(
            "the weight of x_0's error",
            edit(" / (ratio + 1)", ""),
            "This is where you start. An error of v is not an error of x_0 of the same size.",
        ),
        WrongAnswer(
            "the maximum in the place of the minimum",
            edit("max=gamma", "min=gamma"),
            "gamma caps the weight from above: `clamp(max=...)`, not `clamp(min=...)`.",
        ),
        WrongAnswer(
            "no cap",
            edit(".clamp(max=gamma)", ""),
            "Without the minimum this is the weight SNR on x_0: at small t it is huge.",
        ),
        WrongAnswer(
            "divided by the capped ratio",
            edit("(ratio + 1)", "(ratio.clamp(max=gamma) + 1)"),
            "Only the weight is capped. The factor between the errors holds the true SNR.",
        ),
    ),
)


def _training_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, batch, dtype in (
        ("float64", 64, torch.float64),
        ("one point", 1, torch.float64),
        ("float32", 32, torch.float32),
    ):
        model = TwoLayers.drawn(generator, dtype)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        table = (1 - draw.betas(generator, 6)).cumprod(0)
        x0 = draw.normal(generator, batch, 2, dtype=dtype)
        seed = int(torch.randint(10_000, (), generator=generator))
        yield Case((model, x0, optimizer, table, torch.Generator().manual_seed(seed)), note=note)


def training_step(
    model: nn.Module,
    x0: Tensor,
    optimizer: torch.optim.Optimizer,
    alphas_cumprod: Tensor,
    generator: torch.Generator,
) -> float:
    """Take one step of Algorithm 1 and return the loss."""
    return train_step(model, x0, optimizer, alphas_cumprod, generator=generator)


_DRAW_T = "    t = torch.randint(len(alphas_cumprod), (len(x0),), generator=generator)\n"


STEP = Exercise(
    id="03.6",
    lesson=3,
    title="Your own training step",
    statement="""Write one step of training from an empty cell. `x0` (B, 2) holds points. Draw `t`
(B,) uniformly from all indices with `torch.randint`, then the noise with `torch.randn`, in this
order and both with `generator=generator`. Make x_t, let `model(xt, t)` predict the noise, take
the mean squared error, descend one step with `optimizer`, and return the loss as a float.
Gradients of earlier calls must not count. The network, x0 and the noise share one dtype.""",
    stub="""def training_step(model, x0, optimizer, alphas_cumprod, generator):
    ...
""",
    solution="""def training_step(model, x0, optimizer, alphas_cumprod, generator):
    t = torch.randint(len(alphas_cumprod), (len(x0),), generator=generator)
    noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    alpha_bar = alphas_cumprod[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    xt = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise
    loss = ((model(xt, t) - noise) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
""",
    reference=training_step,
    cases=_training_cases,
    call=two_steps,
    may_change=("model", "optimizer", "generator"),
    properties=(
        Property(
            "no graph",
            lambda case, outcome, expected: (
                isinstance(outcome.output, tuple) and outcome.output[-1] == 0.0
            ),
            "the loss that your function returns still holds the graph it was computed "
            "with. Return a plain number.",
        ),
    ),
    hints=(
        "Six things in order: t, noise, x_t, the loss, the gradients, the step of the optimiser.",
        (
            "q_sample(x0, t, alphas_cumprod, noise) makes x_t. The "
            "target is the noise that went into it."
        ),
        "optimizer.zero_grad(), loss.backward(), optimizer.step(), then return loss.item().",
    ),
    derivation="lesson 03, 'Train it'; Ho et al. 2020, Algorithm 1",
    points=3,
    wrong_answers=(
        WrongAnswer(
            "gradients are not cleared",
            edit("optimizer.zero_grad()", "pass"),
            "`backward` adds to what is there. Old gradients take part in your step.",
        ),
        WrongAnswer(
            "the loss is not detached",
            edit("loss.item()", "loss"),
            "A list of such losses keeps the activations of every step, and memory grows until "
            "it ends. Use `loss.item()`.",
        ),
        WrongAnswer(
            "the optimiser takes no step",
            edit("optimizer.step()", "pass"),
            "The loss comes out right, and the weights stay where they are.",
        ),
        WrongAnswer(
            "the network is asked for x_0",
            edit("- noise)", "- x0)"),
            "Your target is the clean data. The noise is asked for.",
        ),
        WrongAnswer(
            "the network is asked for x_t",
            edit("- noise)", "- xt)"),
            "The network sees x_t; to repeat it teaches nothing.",
        ),
        WrongAnswer(
            "the network sees the clean data",
            edit("model(xt, t)", "model(x0, t)"),
            "The network must see x_t: the noise cannot be found in x0.",
        ),
        WrongAnswer(
            "uniform noise",
            edit("torch.randn(", "torch.rand("),
            "`torch.rand` is uniform on [0, 1): its mean is 0.5. The noise is "
            "standard normal, `torch.randn`.",
        ),
        WrongAnswer(
            "index 0 is never drawn",
            edit("torch.randint(len", "torch.randint(1, len"),
            "Indices run from 0 to T - 1. Without 0 the last step of sampling is never trained.",
        ),
        WrongAnswer(
            "one t for the whole batch",
            edit("(len(x0),), generator=generator)", "(1,), generator=generator).expand(len(x0))"),
            "It is right on average and noisier: every sample gets its own t.",
        ),
        WrongAnswer(
            "the noise is drawn before t",
            edit(_DRAW_T, "").then("    alpha_bar =", f"{_DRAW_T}    alpha_bar ="),
            "This trains as well, but your random numbers differ from the ones "
            "that are checked. Draw t first.",
        ),
        WrongAnswer(
            "the sum in the place of the mean",
            edit(".mean()", ".sum()"),
            "The step then grows with the size of the batch.",
        ),
        WrongAnswer(
            "the absolute error",
            edit("((model(xt, t) - noise) ** 2)", "(model(xt, t) - noise).abs()"),
            "Its minimum is the median of the noise, not the mean. Sampling needs the mean.",
        ),
        WrongAnswer(
            "no square root on the noise",
            edit("(1 - alpha_bar).sqrt()", "(1 - alpha_bar)"),
            "1 - alpha_bar is the variance of the noise in x_t. Its root is the factor.",
        ),
    ),
)

EXERCISES = (SCORE, WEIGHT, BEST, SOLVE_V, MIN_SNR, STEP)
