"""Exercises of lesson 02, closed-form sampling and noise schedules."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ...process import (
    cosine_betas,
    linear_betas,
    make_schedule,
    q_sample,
    rescale_zero_terminal_snr,
    snr,
)
from .. import draw
from ..definition import Case, Exercise, Tolerance, WrongAnswer
from ..edits import edit

TABLES = Tolerance(rtol=1e-4, atol=1e-9)


def _jump_cases(generator: torch.Generator) -> Iterator[Case]:
    table = (1 - draw.betas(generator, 7)).cumprod(0)
    table[-1] = 0  # the end of a zero-terminal schedule: pure noise
    for note, x0, t, noise in draw.batches(generator, len(table)):
        yield Case((x0, t, table, noise), note=note)
    one = (
        draw.normal(generator, 3, 2),
        torch.zeros(3, dtype=torch.int64),
        table[:1],
        draw.normal(generator, 3, 2),
    )
    yield Case(one, note="T = 1")


JUMP = Exercise(
    id="02.1",
    lesson=2,
    title="One jump to any t",
    statement="""Complete the closed form
$x_t = \\sqrt{\\bar\\alpha_t}\\,x_0 + \\sqrt{1-\\bar\\alpha_t}\\,\\epsilon$. `x0` and `noise`
have shape (B, ...), `t` (B,) holds indices into the table `alphas_cumprod` (T,). The signal
part is written; add the noise.""",
    stub="""def jump(x0, t, alphas_cumprod, noise):
    # (B,) -> (B, 1, ...)
    alpha_bar = alphas_cumprod[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    signal = alpha_bar.sqrt() * x0
    return signal + ...
""",
    solution="""def jump(x0, t, alphas_cumprod, noise):
    # (B,) -> (B, 1, ...)
    alpha_bar = alphas_cumprod[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    signal = alpha_bar.sqrt() * x0
    return signal + (1 - alpha_bar).sqrt() * noise
""",
    reference=q_sample,
    cases=_jump_cases,
    hints=(
        "Signal and noise share a variance of 1 between them. The signal takes alpha_bar of it.",
        (
            "The noise gets the variance 1 - alpha_bar. By what do you multiply "
            "standard normal noise to get it?"
        ),
        "The factor on `noise` is the square root of (1 - alpha_bar).",
    ),
    derivation="lesson 02, 'From one step to t steps'; Ho et al. 2020, eq. 4",
    wrong_answers=(
        WrongAnswer(
            "no square root on the noise",
            edit("(1 - alpha_bar).sqrt()", "(1 - alpha_bar)"),
            "1 - alpha_bar is the variance of the noise. As a factor it makes the noise too "
            "small, most of all at small t.",
        ),
        WrongAnswer(
            "1 - sqrt(alpha_bar) for sqrt(1 - alpha_bar)",
            edit("(1 - alpha_bar).sqrt()", "(1 - alpha_bar.sqrt())"),
            "The two factors do not add up to 1; their squares do.",
        ),
        WrongAnswer(
            "no square root on the signal",
            edit("alpha_bar.sqrt() * x0", "alpha_bar * x0"),
            "alpha_bar multiplies the variance of the signal, its root multiplies x_0.",
        ),
        WrongAnswer(
            "no square roots at all",
            edit("alpha_bar.sqrt() * x0", "alpha_bar * x0").then(
                "(1 - alpha_bar).sqrt()", "(1 - alpha_bar)"
            ),
            "This blends x_0 and noise in a straight line; the variance dips below 1 on "
            "the way. It is another process.",
        ),
        WrongAnswer(
            "signal and noise factors swapped",
            edit("alpha_bar.sqrt() * x0", "(1 - alpha_bar).sqrt() * x0").then(
                "(1 - alpha_bar).sqrt() * noise", "alpha_bar.sqrt() * noise"
            ),
            "At small t alpha_bar is close to 1 and x_t must be close to x_0.",
        ),
        WrongAnswer(
            "the index is off by one",
            edit("alphas_cumprod[t]", "alphas_cumprod[t - 1]"),
            "`alphas_cumprod[0]` holds one step of noise already. With `t - 1` index 0 wraps "
            "around to the end of the table.",
        ),
        WrongAnswer(
            "one alpha_bar for the whole batch",
            edit("alphas_cumprod[t]", "alphas_cumprod[t[:1]]"),
            "Every sample has its own t. You use the first one for all.",
        ),
        WrongAnswer(
            "alpha_bar has no axes to broadcast over",
            edit(".reshape(-1, *[1] * (x0.ndim - 1))", ""),
            "`alphas_cumprod[t]` has shape (B,) and lines up with the last axis of x0. "
            "Reshape it to (B, 1, 1, 1).",
        ),
        WrongAnswer(
            "the input is changed in place",
            edit("alpha_bar.sqrt() * x0", "x0.mul_(alpha_bar.sqrt())"),
            "`mul_`, `add_`, `*=` and `+=` write into the caller's tensor, and "
            "the next epoch trains on noise.",
        ),
    ),
)


def _table_cases(generator: torch.Generator) -> Iterator[Case]:
    for num_steps in (5, 50, 2, 1):
        yield Case((draw.betas(generator, num_steps, 1e-3, 0.3),), note=f"T = {num_steps}")
    yield Case((draw.betas(generator, 6).flip(0),), note="betas that fall")


def cumulative_alphas(betas: Tensor) -> Tensor:
    """Return alphas_cumprod (T,): entry i is the product of 1 - beta up to step i."""
    return (1 - betas).cumprod(0)


TABLE = Exercise(
    id="02.2",
    lesson=2,
    title="The table of alpha-bar",
    statement="""Return `alphas_cumprod` (T,) for a table `betas` (T,), float64. Entry i holds
the share of the signal's variance that is left after steps 0, ..., i, so the first entry
already contains one step of noise.""",
    stub="""def cumulative_alphas(betas):
    alphas = 1 - betas
    return ...
""",
    reference=cumulative_alphas,
    cases=_table_cases,
    hints=(
        "Each step multiplies what is left by its own alpha.",
        "Entry i is the product of alphas[0], ..., alphas[i]: a running product.",
        "torch has `cumprod`; a loop that multiplies and appends does it too.",
    ),
    derivation="lesson 02, 'From one step to t steps'; Ho et al. 2020, section 2",
    points=1,
    tolerance=TABLES,
    wrong_answers=(
        WrongAnswer(
            "a sum where a product belongs",
            edit("(1 - betas).cumprod(0)", "1 - betas.cumsum(0)"),
            "Subtracting betas takes every share from what there was at the start, not from what "
            "is left. It goes below 0.",
        ),
        WrongAnswer(
            "the product of the betas",
            edit("(1 - betas).cumprod(0)", "betas.cumprod(0)"),
            "beta is the share of new noise. The signal that is left is a product of 1 - beta.",
        ),
        WrongAnswer(
            "the product over all T in every entry",
            edit("(1 - betas).cumprod(0)", "(1 - betas).prod().expand(len(betas)).clone()"),
            "The product runs up to t, not up to T: every entry is the last one.",
        ),
        WrongAnswer(
            "the index is off by one",
            edit(
                "(1 - betas).cumprod(0)",
                "torch.cat([betas.new_ones(1), 1 - betas[:-1]]).cumprod(0)",
            ),
            "Your first entry is 1, no noise. In this course index 0 is one step of "
            "noise (the paper's t = 1).",
        ),
        WrongAnswer(
            "the first entry is overwritten with 1",
            edit(
                "return (1 - betas).cumprod(0)",
                "table = (1 - betas).cumprod(0)\n    table[0] = 1\n    return table",
            ),
            "The entries after it still contain the first step, so the chain "
            "takes two steps at once there.",
        ),
        WrongAnswer(
            "the square root of alpha-bar",
            edit(".cumprod(0)", ".cumprod(0).sqrt()"),
            "This is the factor on x_0. The table holds the factor on the variance.",
        ),
        WrongAnswer(
            "the sum of the alphas",
            edit(".cumprod(0)", ".cumsum(0)"),
            "A share of what is left cannot be larger than 1: use a running product.",
        ),
        WrongAnswer(
            "the input is changed in place",
            edit("(1 - betas)", "betas.neg_().add_(1)"),
            "After your function the caller's betas are alphas. Write `1 - betas`.",
        ),
    ),
)


def _snr_cases(generator: torch.Generator) -> Iterator[Case]:
    yield Case(((1 - draw.betas(generator, 8)).cumprod(0),), note="a table")
    yield Case(
        (torch.rand(4, 1, 1, 1, generator=generator) * 0.9 + 0.05,), note="one level per image"
    )
    yield Case(
        (torch.tensor([0.9999, 0.5, 1e-4, 0.0], dtype=torch.float64),),
        note="from hardly any noise to pure noise",
    )
    yield Case((torch.tensor(0.3, dtype=torch.float64),), note="one level, of shape ()")


SNR = Exercise(
    id="02.3",
    lesson=2,
    title="Signal-to-noise ratio",
    statement="""Return the signal-to-noise ratio of $x_t$ for a tensor of $\\bar\\alpha_t$ of any
shape: the variance that the signal part has for data of variance 1, divided by the variance of
the noise part.""",
    stub="""def signal_to_noise(alphas_cumprod):
    return ...
""",
    solution="""def signal_to_noise(alphas_cumprod):
    return alphas_cumprod / (1 - alphas_cumprod)
""",
    reference=snr,
    cases=_snr_cases,
    hints=(
        "Write down the two terms of the closed form. What is the variance of each?",
        "The signal part has variance alpha_bar.",
        "The noise part has variance 1 - alpha_bar. Divide.",
    ),
    derivation=(
        "lesson 02, 'Signal-to-noise ratio'; Kingma et al. 2021 (arXiv 2107.00630), section 3.1"
    ),
    tolerance=Tolerance(rtol=1e-4, atol=1e-9),
    wrong_answers=(
        WrongAnswer(
            "upside down",
            edit("alphas_cumprod / (1 - alphas_cumprod)", "(1 - alphas_cumprod) / alphas_cumprod"),
            "This is noise over signal: it grows with t.",
        ),
        WrongAnswer(
            "a ratio of sizes, not of variances",
            edit(
                "alphas_cumprod / (1 - alphas_cumprod)",
                "(alphas_cumprod / (1 - alphas_cumprod)).sqrt()",
            ),
            "The ratio of the two factors is the root of the ratio of variances.",
        ),
        WrongAnswer(
            "squared twice",
            edit(
                "alphas_cumprod / (1 - alphas_cumprod)",
                "(alphas_cumprod / (1 - alphas_cumprod)) ** 2",
            ),
            "alpha_bar is a variance already: its root is the factor on x_0.",
        ),
        WrongAnswer(
            "in decibels",
            edit(
                "alphas_cumprod / (1 - alphas_cumprod)",
                "10 * (alphas_cumprod / (1 - alphas_cumprod)).log10()",
            ),
            "Ten times a logarithm is good for a plot. The plain ratio is asked for.",
        ),
        WrongAnswer(
            "the logarithm of the ratio",
            edit(
                "alphas_cumprod / (1 - alphas_cumprod)",
                "(alphas_cumprod / (1 - alphas_cumprod)).log()",
            ),
            "log-SNR is another quantity. The plain ratio is asked for.",
        ),
        WrongAnswer(
            "mixed: a factor over a variance",
            edit("alphas_cumprod / (1", "alphas_cumprod.sqrt() / (1"),
            "Above the line stands the factor on x_0, below it a "
            "variance. Take the variance of both.",
        ),
    ),
)


def _cosine_cases(generator: torch.Generator) -> Iterator[Case]:
    for num_steps in (10, 1, 2, 50, 1000):
        yield Case((num_steps,), note=f"T = {num_steps}")
    offset = 0.002 + 0.03 * float(torch.rand((), generator=generator))
    yield Case(
        (20,), {"offset": round(offset, 4), "max_beta": 0.9}, note="T = 20, another offset and cap"
    )
    # A cap that bites long before the last step.
    yield Case((12,), {"max_beta": 0.2}, note="T = 12, a low cap")


COSINE = Exercise(
    id="02.4",
    lesson=2,
    title="The cosine schedule",
    statement="""Return the betas (T,), float64, of the cosine schedule:
$\\bar\\alpha(u) = f(u)/f(0)$ with
$f(u) = \\cos^2\\left(\\frac{u + o}{1 + o}\\cdot\\frac{\\pi}{2}\\right)$ at
$u = 0, 1/T, \\dots, 1$, and $\\beta$ of a step from the ratio of the two neighbours, cut at
`max_beta`. The letter o stands for `offset`.""",
    stub="""def cosine_schedule(num_train_timesteps, offset=0.008, max_beta=0.999):
    u = torch.linspace(0, 1, num_train_timesteps + 1, dtype=torch.float64)
    f = ...
    return ...
""",
    solution="""def cosine_schedule(num_train_timesteps, offset=0.008, max_beta=0.999):
    u = torch.linspace(0, 1, num_train_timesteps + 1, dtype=torch.float64)
    f = torch.cos((u + offset) / (1 + offset) * torch.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta)
""",
    reference=cosine_betas,
    cases=_cosine_cases,
    hints=(
        (
            "T steps need T + 1 values of f. abar after a step, divided "
            "by abar before it, is 1 - beta."
        ),
        "f(0) cancels in the ratio: beta_i = 1 - f[i + 1] / f[i].",
        "torch.cos(...) ** 2, then 1 - f[1:] / f[:-1], then clamp(max=max_beta).",
    ),
    derivation="lesson 02, 'Four schedules'; Nichol & Dhariwal 2021 (arXiv 2102.09672), eq. 17",
    points=2,
    tolerance=TABLES,
    wrong_answers=(
        WrongAnswer(
            "the cosine is not squared",
            edit(" ** 2", ""),
            "alpha_bar is a variance: the cosine is its root.",
        ),
        WrongAnswer(
            "the offset is left out",
            edit("(u + offset) / (1 + offset)", "u"),
            "Without s the first betas are close to 0. The paper adds it because so "
            "little noise is hard to predict.",
        ),
        WrongAnswer(
            "the offset is not divided out",
            edit(" / (1 + offset)", ""),
            "Without 1 + offset below the line the angle passes pi/2 at the end of the chain.",
        ),
        WrongAnswer(
            "the grid has T points",
            edit("num_train_timesteps + 1, ", "num_train_timesteps, "),
            "T points have T - 1 gaps. A chain of T steps needs T + 1 points.",
        ),
        WrongAnswer(
            "the grid stops short of 1",
            edit(
                "num_train_timesteps + 1, dtype=torch.float64)",
                "num_train_timesteps + 2, dtype=torch.float64)[:-1]",
            ),
            "Your last u is T / (T + 1). The chain then ends before the noise is complete.",
        ),
        WrongAnswer(
            "the cap is left out",
            edit(".clamp(max=max_beta)", ""),
            "At u = 1 the cosine is 0 and the last beta is 1: x_0 cannot be computed "
            "from x_t and noise there.",
        ),
        WrongAnswer(
            "alpha-bar is returned",
            edit(
                "return (1 - f[1:] / f[:-1]).clamp(max=max_beta)",
                "return (1 - (1 - f[1:] / f[:-1]).clamp(max=max_beta)).cumprod(0)",
            ),
            "This is the running product. The betas of the single steps are asked for.",
        ),
        WrongAnswer(
            "the offset alone is divided",
            edit("(u + offset) / (1 + offset)", "(u + offset / (1 + offset))"),
            "Brackets: the sum u + offset is divided by 1 + offset.",
        ),
        WrongAnswer(
            "cut from below",
            edit("max=max_beta", "min=max_beta"),
            "`max_beta` is the most that a beta may be: clamp(max=...).",
        ),
        WrongAnswer(
            "differences instead of ratios",
            edit("1 - f[1:] / f[:-1]", "f[:-1] - f[1:]"),
            "beta is the share that a step takes of what is left: divide by the level before it.",
        ),
        WrongAnswer(
            "a sine",
            edit("torch.cos(", "torch.sin("),
            "alpha_bar falls from 1 to 0: that is a cosine of an angle from 0 to a right angle.",
        ),
        WrongAnswer(
            "an angle in degrees",
            edit("torch.pi / 2)", "90)"),
            "torch's cosine takes radians. A right angle is pi / 2.",
        ),
        WrongAnswer(
            "the cap of the linear schedule",
            edit("max=max_beta", "max=0.02"),
            "0.02 is the last beta of the linear schedule. The cap is `max_beta`.",
        ),
        WrongAnswer(
            "max_beta as a factor",
            edit(".clamp(max=max_beta)", " * max_beta"),
            "`max_beta` cuts off what is larger. It does not stretch the others.",
        ),
    ),
)


def signal_left(num_steps: int) -> float:
    """Return sqrt(abar) at the end of the linear schedule from 1e-4 to 0.02."""
    return make_schedule("linear", num_steps).alphas_cumprod[-1].sqrt().item()


SIGNAL_LEFT = Exercise(
    id="02.5",
    lesson=2,
    title="A schedule used with another T",
    statement="""The linear schedule runs from $10^{-4}$ to 0.02. Use it with T = <<num_steps>>
instead of 1000. By which factor is $x_0$ still multiplied at the last step? Give it to 1 %.""",
    stub="factor = ...\n",
    solution="""def signal_left(num_steps):
    betas = torch.linspace(1e-4, 0.02, num_steps, dtype=torch.float64)
    return (1 - betas).prod().sqrt().item()


factor = signal_left(<<num_steps>>)
""",
    reference=signal_left,
    cases=None,
    parameters={"num_steps": (80, 60, 70, 90, 100, 120, 140, 150, 165, 180, 220, 250)},
    hints=(
        "In the closed form, what stands in front of x_0?",
        "Make the betas with `linear_betas`, then the table of 02.2, and take its last entry.",
        "The factor on x_0 is the square root of that entry.",
    ),
    derivation="lesson 02, 'The same betas, fewer steps'; Ho et al. 2020, section 4",
    tolerance=Tolerance(rtol=0.01, atol=0),
    wrong_answers=(
        WrongAnswer(
            "alpha-bar itself",
            edit(".sqrt()", ""),
            "This is the share of the variance. The factor on x_0 is asked for.",
        ),
        WrongAnswer(
            "the factor of the noise",
            edit("(1 - betas).prod()", "(1 - (1 - betas).prod())"),
            "This multiplies the noise, not x_0.",
        ),
        WrongAnswer(
            "the noise's share of the variance",
            edit("(1 - betas).prod().sqrt()", "(1 - (1 - betas).prod())"),
            "This is 1 - alpha_bar: the noise's part, and a variance.",
        ),
        WrongAnswer(
            "the last step alone",
            edit(".prod()", "[-1]"),
            "This is the factor of one step. All steps are multiplied.",
        ),
        WrongAnswer(
            "the schedule with T = 1000",
            edit("0.02, num_steps", "0.02, 1000"),
            "This is what the full 1000 steps leave. Fewer steps with the same ends leave more.",
        ),
        WrongAnswer(
            "every step with the largest beta",
            edit(
                "torch.linspace(1e-4, 0.02, num_steps, dtype=torch.float64)",
                "torch.full((num_steps,), 0.02, dtype=torch.float64)",
            ),
            "All steps have beta = 0.02 in yours. The schedule begins much lower.",
        ),
        WrongAnswer(
            "the first steps of the full schedule",
            edit(
                "0.02, num_steps, dtype=torch.float64)",
                "0.02, 1000, dtype=torch.float64)[:num_steps]",
            ),
            "You stop the schedule of 1000 steps early. Here the fewer steps run through all of"
            " its range, from 1e-4 to 0.02.",
        ),
        WrongAnswer(
            "the betas are subtracted",
            edit("(1 - betas).prod().sqrt()", "(1 - betas.sum())"),
            "Each step takes a share of what is left: multiply the factors 1 - beta.",
        ),
        WrongAnswer(
            "in percent",
            edit("return (1", "return 100 * (1"),
            "The factor itself is asked for, a number below 1.",
        ),
        WrongAnswer(
            "the signal-to-noise ratio",
            edit(
                "return (1 - betas).prod().sqrt()",
                "kept = (1 - betas).prod()\n    return (kept / (1 - kept))",
            ),
            "This is the ratio of the two variances. The factor on x_0 is asked for.",
        ),
        WrongAnswer(
            "the scaled-linear schedule",
            edit(
                "torch.linspace(1e-4, 0.02, num_steps, dtype=torch.float64)",
                "torch.linspace(1e-2, 0.02**0.5, num_steps, dtype=torch.float64) ** 2",
            ),
            "There the roots of the betas are evenly spaced, as in Stable Diffusion. Here the"
            " betas are.",
        ),
    ),
)


def _rescale_cases(generator: torch.Generator) -> Iterator[Case]:
    yield Case((linear_betas(1000),), note="linear, T = 1000")
    for num_steps in (10, 2, 100):
        yield Case(
            (draw.betas(generator, num_steps, 1e-3, 0.2),), note=f"random betas, T = {num_steps}"
        )


ZERO_TERMINAL = Exercise(
    id="02.6",
    lesson=2,
    title="End in pure noise",
    statement="""Write `zero_terminal(betas)` from an empty cell. It takes betas (T,), float64, T at
least 2, and returns betas (T,) whose chain ends in pure noise. Change $\\sqrt{\\bar\\alpha_t}$
by one shift and one factor, the same for all t, so that the last entry becomes 0 and the first
keeps its value. Then go back to betas; the last one is 1.""",
    stub="""# def zero_terminal(betas): your code here
zero_terminal = ...
""",
    solution="""def zero_terminal(betas):
    roots = (1 - betas).cumprod(0).sqrt()
    roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    alpha_bar = roots**2
    return 1 - torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])
""",
    reference=rescale_zero_terminal_snr,
    cases=_rescale_cases,
    hints=(
        "betas to alpha_bar to its root; change the root; then all the way back.",
        (
            "Subtract the last root from all. The first is then too small: "
            "multiply all by what brings it back."
        ),
        (
            "Square the roots, divide neighbours to get alphas (the first alpha is the first "
            "alpha_bar), and take 1 - alphas."
        ),
    ),
    derivation="lesson 02, 'Zero terminal SNR'; Lin et al. 2023 (arXiv 2305.08891), Algorithm 1",
    points=3,
    tolerance=Tolerance(rtol=1e-4, atol=1e-8),
    wrong_answers=(
        WrongAnswer(
            "shifted, not scaled",
            edit(" * roots[0] / (roots[0] - roots[-1])", ""),
            "After the shift the first entry is smaller than before: the first step has "
            "become larger. Scale it back.",
        ),
        WrongAnswer(
            "alpha-bar is changed, not its root",
            edit(".sqrt()", "").then("roots**2", "roots"),
            "Shift and factor belong to sqrt(alpha_bar), the factor on x_0.",
        ),
        WrongAnswer(
            "the first root becomes 1",
            edit("* roots[0] / (", "/ ("),
            "The factor must bring the first root back to its old value, not to 1: your "
            "first step adds no noise.",
        ),
        WrongAnswer(
            "only the last beta is changed",
            lambda betas: torch.cat([betas[:-1], torch.ones_like(betas[:1])]),
            "The chain then jumps from a visible picture to pure noise in one step.",
        ),
        WrongAnswer(
            "alpha-bar is returned",
            edit("1 - torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])", "alpha_bar"),
            "This is the changed table. Go back to the betas of the single steps.",
        ),
        WrongAnswer(
            "alphas are returned",
            edit("return 1 - torch", "return torch"),
            "The ratio of neighbours is alpha. The betas are 1 - alpha.",
        ),
        WrongAnswer(
            "the first beta is lost",
            edit(
                "torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])",
                "alpha_bar[1:] / alpha_bar[:-1]",
            ),
            "Ratios of neighbours give T - 1 values. The first alpha is "
            "the first alpha_bar itself.",
        ),
    ),
)

EXERCISES = (JUMP, TABLE, SNR, COSINE, SIGNAL_LEFT, ZERO_TERMINAL)
