"""Exercises of lesson 01, the forward process."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ...datasets import GaussianMixture
from ...process import q_step
from .. import draw
from ..definition import Case, Exercise, Tolerance, WrongAnswer
from ..edits import edit

TABLES = Tolerance(rtol=1e-4, atol=1e-9)


def _step_cases(generator: torch.Generator) -> Iterator[Case]:
    betas = draw.betas(generator, 7)
    for note, x_prev, t, noise in draw.batches(generator, len(betas)):
        yield Case((x_prev, t, betas, noise), note=note)
    x_prev, noise = draw.normal(generator, 3, 2), draw.normal(generator, 3, 2)
    yield Case((x_prev, torch.zeros(3, dtype=torch.int64), betas[:1], noise), note="T = 1")


ONE_STEP = Exercise(
    id="01.1",
    lesson=1,
    title="One step of noise",
    statement="""Complete one step of the forward process,
$q(x_t \\mid x_{t-1}) = N(\\sqrt{1-\\beta_t}\\,x_{t-1}, \\beta_t I)$. `x_prev` and `noise` have
shape (B, ...), `t` (B,) holds indices, `betas` (T,) is the table. Each sample has its own t.
The mean is written; add the noise.""",
    stub="""def forward_step(x_prev, t, betas, noise):
    # (B,) -> (B, 1, ...)
    beta = betas[t].to(x_prev.dtype).reshape(-1, *[1] * (x_prev.ndim - 1))
    mean = (1 - beta).sqrt() * x_prev
    return mean + ...
""",
    solution="""def forward_step(x_prev, t, betas, noise):
    # (B,) -> (B, 1, ...)
    beta = betas[t].to(x_prev.dtype).reshape(-1, *[1] * (x_prev.ndim - 1))
    mean = (1 - beta).sqrt() * x_prev
    return mean + beta.sqrt() * noise
""",
    reference=q_step,
    cases=_step_cases,
    hints=(
        "N(m, s^2) is m plus a number times a standard normal. Which number?",
        (
            "Multiplying standard normal noise by c gives it variance c^2. You "
            "want the variance beta_t."
        ),
        "The noise is multiplied by the square root of `beta`.",
    ),
    derivation="lesson 01, 'One step of noise'; Ho et al. 2020, eq. 2",
    wrong_answers=(
        WrongAnswer(
            "the variance where the standard deviation belongs",
            edit("beta.sqrt() * noise", "beta * noise"),
            "You multiply the noise by beta. That gives it variance beta "
            "squared: far too little noise.",
        ),
        WrongAnswer(
            "the signal is not shrunk",
            edit("(1 - beta).sqrt() * x_prev", "x_prev"),
            "Without a factor below 1 on x_prev the variance grows in "
            "every step and never settles at 1.",
        ),
        WrongAnswer(
            "the signal is shrunk without a square root",
            edit("(1 - beta).sqrt()", "(1 - beta)"),
            "A factor of 1 - beta on x_prev shrinks its variance by (1 - beta) squared: data of "
            "variance 1 falls below 1.",
        ),
        WrongAnswer(
            "beta and 1 - beta swapped",
            edit("(1 - beta).sqrt() * x_prev", "beta.sqrt() * x_prev").then(
                "beta.sqrt() * noise", "(1 - beta).sqrt() * noise"
            ),
            "With a small beta this replaces nearly all of the signal by noise in one step.",
        ),
        WrongAnswer(
            "the noise is not scaled",
            edit("beta.sqrt() * noise", "noise"),
            "The noise goes in with variance 1 in every step, whatever beta says.",
        ),
        WrongAnswer(
            "beta has no axes to broadcast over",
            edit(".reshape(-1, *[1] * (x_prev.ndim - 1))", ""),
            "`betas[t]` has shape (B,). It lines up with the last axis of x, not with "
            "the batch, and where the sizes happen to be equal nothing is raised. "
            "Reshape it to (B, 1, 1, 1).",
        ),
        WrongAnswer(
            "one beta for the whole batch",
            edit("betas[t]", "betas[t[:1]]"),
            "Every sample has its own t. You use the first one for all.",
        ),
        WrongAnswer(
            "the index is off by one",
            edit("betas[t]", "betas[t - 1]"),
            "Index 0 is the first step of noise. `betas[t - 1]` takes the step before, and at t "
            "= 0 the last one of the table.",
        ),
        WrongAnswer(
            "the input is changed in place",
            edit("(1 - beta).sqrt() * x_prev", "x_prev.mul_((1 - beta).sqrt())"),
            "`mul_`, `add_`, `*=` and `+=` write into the caller's "
            "tensor. Write `a * x` and `x + y`.",
        ),
        WrongAnswer(
            "fresh noise instead of the noise given",
            edit("beta.sqrt() * noise", "beta.sqrt() * torch.randn_like(noise)"),
            "You draw your own noise. Use `noise`: only then can anybody repeat your result.",
        ),
    ),
)


def _walk_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, shape, num_steps, dtype in (
        ("points, T = 5", (10, 2), 5, torch.float64),
        ("one image, T = 4", (1, 2, 4, 4), 4, torch.float32),
        ("T = 1", (4,), 1, torch.float64),
    ):
        own = torch.Generator().manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        yield Case(
            (draw.normal(generator, *shape, dtype=dtype), draw.betas(generator, num_steps), own),
            note=note,
        )


def forward_walk(x0: Tensor, betas: Tensor, generator: torch.Generator) -> Tensor:
    """Return x_0, x_1, ..., x_T as one tensor (T + 1, ...), each from the one before."""
    steps = [x0]
    for i in range(len(betas)):
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        t = torch.full((len(x0),), i)
        steps.append(q_step(steps[-1], t, betas, noise))
    return torch.stack(steps)


WALK = Exercise(
    id="01.2",
    lesson=1,
    title="Walk the whole chain",
    statement="""Take all T steps, one after the other, and return every x on the way as one tensor
of shape (T + 1, ...): x_0 first, x_T last. Step i uses `betas[i]`, the same for the whole
batch. Draw the noise of each step, in order, as
`torch.randn(x0.shape, generator=generator, dtype=x0.dtype)`, so that the walk can be repeated.""",
    stub="""def forward_walk(x0, betas, generator):
    steps = [x0]
    for beta in betas.tolist():
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        steps.append(...)
    return torch.stack(steps)  # (T + 1, ...)
""",
    solution="""def forward_walk(x0, betas, generator):
    steps = [x0]
    for beta in betas.tolist():
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        steps.append((1 - beta) ** 0.5 * steps[-1] + beta**0.5 * noise)
    return torch.stack(steps)  # (T + 1, ...)
""",
    reference=forward_walk,
    cases=_walk_cases,
    hints=(
        "The step is the one of 01.1. What does step i + 1 start from?",
        "The newest x is `steps[-1]`.",
        "Append sqrt(1 - beta) * steps[-1] + sqrt(beta) * noise; `beta ** 0.5` is its root.",
    ),
    derivation="lesson 01, 'The chain'; Ho et al. 2020, eq. 2",
    points=2,
    wrong_answers=(
        WrongAnswer(
            "every step starts from x0 again",
            edit("* steps[-1]", "* x0"),
            "Step t starts from the x of step t - 1. From x_0 the noise never accumulates.",
        ),
        WrongAnswer(
            "the same noise in every step",
            edit("noise = torch.randn", "noise = noise if len(steps) > 1 else torch.randn"),
            "One draw is reused in all steps. Equal noises add up faster than independent ones: "
            "the variance gets too large.",
        ),
        WrongAnswer(
            "the steps run backwards",
            edit("betas.tolist()", "betas.flip(0).tolist()"),
            "The first step uses `betas[0]`, the smallest.",
        ),
        WrongAnswer(
            "the variance where the standard deviation belongs",
            edit("beta**0.5 * noise", "beta * noise"),
            "The noise is multiplied by beta. Its variance is then beta squared.",
        ),
        WrongAnswer(
            "the generator is not used",
            edit("generator=generator, ", ""),
            "`torch.randn_like` draws from the global random state: whatever ran before changes "
            "your walk. Pass `generator`.",
        ),
        WrongAnswer(
            "x_0 is missing",
            edit("torch.stack(steps)", "torch.stack(steps[1:])"),
            "The walk starts at x_0: T steps have T + 1 stations.",
        ),
        WrongAnswer(
            "the last step is missing",
            edit("betas.tolist()", "betas[:-1].tolist()"),
            "The last entry of `betas` is never used: the range of your loop ends one too early.",
        ),
        WrongAnswer(
            "all stations are the last one",
            edit("torch.stack(steps)", "torch.stack([steps[-1]] * len(steps))"),
            "One tensor is changed in place and put into the list many times. The list holds T + "
            "1 names of the same tensor.",
        ),
    ),
)


def _variance_cases(generator: torch.Generator) -> Iterator[Case]:
    for variance0 in (0.0, 1.0, 4.0):
        yield Case(
            (variance0, draw.betas(generator, 6)), note=f"variance {variance0} at the start, T = 6"
        )
    yield Case((2.5, draw.betas(generator, 1)), note="T = 1")
    yield Case((0.3, draw.betas(generator, 40, 1e-4, 0.02)), note="T = 40")
    yield Case((2.0, draw.betas(generator, 9).float()), note="betas in float32")


def variance_after(variance0: float, betas: Tensor) -> Tensor:
    """Return the variances of x_1, ..., x_T (T,).

    Each step shrinks the old variance and adds its own.
    """
    variance, table = variance0, []
    for beta in betas.tolist():
        variance = (1 - beta) * variance + beta
        table.append(variance)
    return torch.tensor(table, dtype=betas.dtype)


VARIANCE = Exercise(
    id="01.3",
    lesson=1,
    title="The variance along the chain",
    statement="""Data of variance `variance0` (a float) goes through the chain. Return the variances
of $x_1, \\dots, x_T$ as a tensor (T,) with the dtype of `betas`. Entry i belongs to the x after
step i: the first entry holds one step of noise.""",
    stub="""def variance_after(variance0, betas):
    variance = variance0
    table = []
    for beta in betas.tolist():
        variance = ...
        table.append(variance)
    return torch.tensor(table, dtype=betas.dtype)
""",
    reference=variance_after,
    cases=_variance_cases,
    hints=(
        "x_t is a sum of two independent parts. What is the variance of such a sum?",
        "Var(c x) = c^2 Var(x), and here c is the factor in front of x_{t-1}.",
        "The old variance times (1 - beta), plus the variance of the new noise.",
    ),
    derivation="lesson 01, 'Why the square root of 1 - beta'; Ho et al. 2020, section 2",
    points=2,
    tolerance=TABLES,
    wrong_answers=(
        WrongAnswer(
            "the old variance is not shrunk",
            edit("(1 - beta) * variance", "variance"),
            "The signal is multiplied by sqrt(1 - beta) in each step, so its variance shrinks too.",
        ),
        WrongAnswer(
            "the factor of x is used for its variance",
            edit("(1 - beta) * variance", "(1 - beta) ** 0.5 * variance"),
            "sqrt(1 - beta) multiplies x. A factor c on x is a factor c squared on the variance.",
        ),
        WrongAnswer(
            "1 - beta is squared",
            edit("(1 - beta) * variance", "(1 - beta) ** 2 * variance"),
            "The factor on x is sqrt(1 - beta), not 1 - beta; its square multiplies the variance.",
        ),
        WrongAnswer(
            "the noise's deviation is added to the variance",
            edit("* variance + beta", "* variance + beta**0.5"),
            "sqrt(beta) is the standard deviation of the noise. Variances add, deviations do not.",
        ),
        WrongAnswer(
            "deviations are added",
            edit(
                "(1 - beta) * variance + beta", "(((1 - beta) * variance) ** 0.5 + beta**0.5) ** 2"
            ),
            "The two parts are independent: their variances add, their deviations do not.",
        ),
        WrongAnswer(
            "the table starts before the first step",
            edit("        table.append(variance)\n", "").then(
                "        variance =", "        table.append(variance)\n        variance ="
            ),
            "Your first entry is the variance of the data. Index 0 belongs to x after one step.",
        ),
    ),
)


def steps_until(beta: float, share: float) -> int:
    """Return the number of steps that leave less than `share` of the variance."""
    steps, left = 0, 1.0
    while left >= share:
        left *= 1 - beta
        steps += 1
    return steps


STEPS = Exercise(
    id="01.4",
    lesson=1,
    title="How long does a picture last",
    statement="""With a constant beta of <<beta>>, after how many steps is the variance of the
signal part of $x_t$ less than <<share>> times the variance of $x_0$? Give the first such number
of steps.""",
    stub="steps = ...\n",
    reference=steps_until,
    cases=None,
    parameters={"beta": (0.02, 0.01, 0.03, 0.05), "share": (0.01, 0.02, 0.05)},
    hints=(
        "By which factor does one step multiply the variance of the signal part?",
        "After n steps the factor is (1 - beta) to the power n.",
        "Solve (1 - beta)^n < share for n with logarithms, or count in a loop.",
    ),
    derivation="lesson 01, 'Why the square root of 1 - beta'",
    wrong_answers=(
        WrongAnswer(
            "the signal's size instead of its variance",
            edit("left *= 1 - beta", "left *= (1 - beta) ** 0.5"),
            "You follow the factor on x, sqrt(1 - beta). The question is about "
            "the variance, its square.",
        ),
        WrongAnswer(
            "a square too many",
            edit("left *= 1 - beta", "left *= (1 - beta) ** 2"),
            "You square a factor that is already one of variances.",
        ),
        WrongAnswer(
            "one step too few",
            edit("return steps", "return steps - 1"),
            "That is the last number of steps with more than this share left, or "
            "an index that starts at 0.",
        ),
        WrongAnswer(
            "beta is subtracted, not multiplied",
            lambda beta, share: math.ceil((1 - share) / beta),
            "Each step takes a share of what is left, not of what there was at the start.",
        ),
        WrongAnswer(
            "beta for 1 - beta",
            edit("left *= 1 - beta", "left *= beta"),
            "beta is the share of new noise. What is left of the signal is the rest.",
        ),
        WrongAnswer(
            "an exponential in the place of the product",
            lambda beta, share: math.ceil(-math.log(share) / beta),
            "exp(-n beta) is near (1 - beta)^n for a small beta, but a step takes its share of"
            " what is left: use 1 - beta itself.",
        ),
    ),
)


def _mixture_cases(generator: torch.Generator) -> Iterator[Case]:
    kinds = (
        (3, 6, torch.float64),
        (1, 4, torch.float64),
        (2, 1, torch.float64),
        (4, 9, torch.float32),
    )
    for components, num_steps, dtype in kinds:
        weights = torch.rand(components, generator=generator, dtype=torch.float64) + 0.2
        means = 2 * draw.normal(generator, components)
        variances = torch.rand(components, generator=generator, dtype=torch.float64) + 0.1
        mixture = ((weights / weights.sum()).to(dtype), means.to(dtype), variances.to(dtype))
        yield Case(
            (*mixture, draw.betas(generator, num_steps)),
            note=f"{components} components, T = {num_steps}",
        )


def mixture_after(
    weights: Tensor, means: Tensor, variances: Tensor, betas: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return weights, means and variances (K,) of the mixture after all steps of noise."""
    alpha_bar = float((1 - betas).prod())
    noisy = GaussianMixture(weights, means[:, None], variances[:, None, None]).at(alpha_bar)
    return noisy.weights, noisy.means[:, 0], noisy.covariances[:, 0, 0]


MIXTURE = Exercise(
    id="01.5",
    lesson=1,
    title="A mixture in the noise",
    statement="""Write `mixture_after(weights, means, variances, betas)` from an empty cell. The
data is a mixture of K normal distributions on the line; `weights`, `means` and `variances` have
shape (K,). All steps of `betas` (T,), float64, are taken. Return (weights, means, variances) of
the distribution of $x_T$, each (K,) with the dtype that came in.""",
    stub="""# def mixture_after(weights, means, variances, betas): your code here
mixture_after = ...
""",
    solution="""def mixture_after(weights, means, variances, betas):
    alpha_bar = float((1 - betas).prod())
    return weights, alpha_bar**0.5 * means, alpha_bar * variances + (1 - alpha_bar)
""",
    reference=mixture_after,
    cases=_mixture_cases,
    hints=(
        (
            "Each component is normal and stays normal. Follow one of them; which component a "
            "sample comes from does not change."
        ),
        (
            "After all steps x_T is a number times x_0 plus independent noise. The variances of "
            "the two parts are in 01.3."
        ),
        (
            "With p the product of all (1 - beta): means get the factor sqrt(p), "
            "variances v become p v + (1 - p)."
        ),
    ),
    derivation="lesson 01, 'A mixture in closed form'; Ho et al. 2020, eq. 4",
    points=3,
    wrong_answers=(
        WrongAnswer(
            "the means shrink without a square root",
            edit("alpha_bar**0.5 * means", "alpha_bar * means"),
            "Each step multiplies x, and with it the mean, by sqrt(1 - beta).",
        ),
        WrongAnswer(
            "the means do not move",
            edit("alpha_bar**0.5 * means", "means"),
            "The factor on x_{t-1} also shrinks the mean: at the end all components sit near 0.",
        ),
        WrongAnswer(
            "the data's own variance is not shrunk",
            edit("alpha_bar * variances", "variances"),
            "The data's spread is part of the signal and shrinks with it.",
        ),
        WrongAnswer(
            "the data's own variance is forgotten",
            edit("alpha_bar * variances", "0 * variances"),
            "This is the noise alone. What is left of the data's spread adds to it.",
        ),
        WrongAnswer(
            "the betas are summed",
            edit("+ (1 - alpha_bar)", "+ float(betas.sum())"),
            "Noise of early steps is shrunk by the later ones, so the betas do not add up.",
        ),
        WrongAnswer(
            "standard deviations instead of variances",
            edit(
                "alpha_bar * variances + (1 - alpha_bar)",
                "(alpha_bar * variances + (1 - alpha_bar)) ** 0.5",
            ),
            "You return square roots. Variances are asked for.",
        ),
        WrongAnswer(
            "only the last step is taken",
            edit("(1 - betas).prod()", "1 - betas[-1]"),
            "All steps count: the factors of the single steps are multiplied.",
        ),
    ),
)

EXERCISES = (ONE_STEP, WALK, VARIANCE, STEPS, MIXTURE)
