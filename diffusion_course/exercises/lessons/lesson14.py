"""Exercises of lesson 14, flow matching and transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .. import draw
from ..definition import Case, Exercise, Tolerance, WrongAnswer
from ..edits import edit
from ..given import FlowVelocity, TokenLayer

VALUES = Tolerance(rtol=1e-4, atol=1e-5)
_SHAPES = (
    ("images", (4, 3, 4, 4), torch.float32),
    ("points", (5, 2), torch.float64),
    ("one image", (1, 1, 3, 3), torch.float32),
    ("numbers", (6,), torch.float64),
    ("sequences", (3, 4, 2), torch.float64),
)


def _times(generator: torch.Generator, batch: int, dtype: torch.dtype) -> Tensor:
    """Times (B,) well inside (0, 1), all different."""
    return 0.1 + 0.8 * torch.rand(batch, generator=generator, dtype=torch.float64).to(dtype)


def _path_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, shape, dtype in _SHAPES:
        x0, noise = (draw.normal(generator, *shape, dtype=dtype) for _ in range(2))
        yield Case((x0, noise, _times(generator, shape[0], dtype)), note=note)
    x0, noise = draw.normal(generator, 2, 3), draw.normal(generator, 2, 3)
    yield Case((x0, noise, torch.tensor([0.0, 1.0], dtype=torch.float64)), note="both ends")


def path_point(x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Return x_t = (1 - t) x_0 + t noise, a time for each sample."""
    t = t.reshape(-1, *(1,) * (x0.ndim - 1))
    return (1 - t) * x0 + t * noise


PATH = Exercise(
    id="14.1",
    lesson=14,
    title="A point of the straight path",
    statement="""Return the points $x_t$ of the straight paths from data to noise. `x0` and `noise`
have shape (B, ...), `t` (B,) holds a time in $[0, 1]$ for each sample, in this course's
direction: 0 is data, 1 is noise.""",
    stub="""def path_point(x0, noise, t):
    ...
""",
    reference=path_point,
    cases=_path_cases,
    hints=(
        "At t = 0 the result is x0, at t = 1 it is noise, and between them it is a weighted mean.",
        "One time belongs to a whole sample: t needs the shape (B, 1, ..., 1) before you multiply.",
        "t.reshape(-1, *(1,) * (x0.ndim - 1)) has that shape; the weights are 1 - t and t.",
    ),
    derivation="lesson 14, 'One pixel by hand', (14.1); Liu et al. 2022, arXiv 2209.03003",
    tolerance=VALUES,
    wrong_answers=(
        WrongAnswer(
            "the other direction",
            edit("(1 - t) * x0 + t * noise", "t * x0 + (1 - t) * noise"),
            "At t = 1 you return the data. Some papers count so; in this course 1 is noise.",
        ),
        WrongAnswer(
            "the weights of diffusion",
            edit("(1 - t) * x0 + t * noise", "(1 - t).sqrt() * x0 + t.sqrt() * noise"),
            "Roots keep the variance, as diffusion does. A straight path has the weights 1 - t and "
            "t themselves.",
        ),
        WrongAnswer(
            "the velocity",
            edit("(1 - t) * x0 + t * noise", "noise - x0 + 0 * t"),
            "That is how fast the point moves. Asked for is where it is.",
        ),
        WrongAnswer(
            "the time of another sample",
            edit("    t = t.reshape", "    t = t.flip(0).reshape"),
            "Each sample has a time of its own, in the order of the batch.",
        ),
        WrongAnswer(
            "one time for all",
            edit("    t = t.reshape", "    t = t.mean(0, keepdim=True).expand(len(x0)).reshape"),
            "You use the mean of the times for every sample. Each has its own.",
        ),
    ),
)


def _velocity_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, shape, dtype in _SHAPES:
        xt, velocity = (draw.normal(generator, *shape, dtype=dtype) for _ in range(2))
        yield Case((xt, velocity, _times(generator, shape[0], dtype)), note=note)
    xt, velocity = draw.normal(generator, 2, 3), draw.normal(generator, 2, 3)
    yield Case((xt, velocity, torch.tensor([0.0, 1.0], dtype=torch.float64)), note="both ends")


def clean_from_velocity(xt: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
    """Return the estimate of x_0 that belongs to a velocity."""
    t = t.reshape(-1, *(1,) * (xt.ndim - 1))
    return xt - t * velocity


CLEAN = Exercise(
    id="14.2",
    lesson=14,
    title="Clean data from a velocity",
    statement="""A network sees `xt` (B, ...) at the times `t` (B,) and answers `velocity`
(B, ...), its estimate of $\\epsilon - x_0$. Return the estimate of $x_0$ that this is. It must
also be right at both ends, $t = 0$ and $t = 1$.""",
    stub="""def clean_from_velocity(xt, velocity, t):
    ...
""",
    reference=clean_from_velocity,
    cases=_velocity_cases,
    hints=(
        "Two equations, two unknowns: x_t = (1 - t) x_0 + t noise, and velocity = noise - x_0.",
        "Put noise = x_0 + velocity into the first one. What happens to the factor of x_0?",
        "It becomes 1: x_t = x_0 + t velocity. One Euler step to t = 0 says the same.",
    ),
    derivation="lesson 14, 'The same thing in words you know', (14.5)",
    tolerance=VALUES,
    wrong_answers=(
        WrongAnswer(
            "the sign is turned",
            edit("xt - t * velocity", "xt + t * velocity"),
            "You walk towards noise. The velocity points from data to noise, and you go back.",
        ),
        WrongAnswer(
            "the estimate of the noise",
            edit("xt - t * velocity", "xt + (1 - t) * velocity"),
            "That is where the path ends at t = 1: the noise. Asked for is its other end.",
        ),
        WrongAnswer(
            "the whole velocity",
            edit("xt - t * velocity", "xt - velocity"),
            "You go back by a whole unit of time. Only t of it is left.",
        ),
        WrongAnswer(
            "the way that is left to noise",
            edit("xt - t * velocity", "xt - (1 - t) * velocity"),
            "1 - t is the way to noise. The way to data is t long.",
        ),
        WrongAnswer(
            "noise taken for velocity",
            edit("xt - t * velocity", "(xt - t * velocity) / (1 - t).clamp(min=1e-6)"),
            "You solve for x_0 as if the answer were the noise. It is noise minus x_0.",
        ),
    ),
)


def _walk_cases(generator: torch.Generator) -> Iterator[Case]:
    for (note, shape, dtype), times in zip(
        _SHAPES,
        (
            [1.0, 0.6, 0.2, 0.0],
            [1.0, 0.75, 0.0],
            [0.9, 0.0],
            [1.0, 0.9, 0.5, 0.45],
            [0.0, 0.3, 1.0],
        ),
        strict=True,
    ):
        x = draw.normal(generator, *shape, dtype=dtype)
        yield Case((FlowVelocity(dtype=dtype), x, times), note=f"{note}, times {times}")


def walk_to_data(
    velocity: Callable[[Tensor, Tensor], Tensor], x: Tensor, times: list[float]
) -> Tensor:
    """Return the state at times[-1] after Euler's steps from times[0]."""
    for now, then in zip(times[:-1], times[1:], strict=True):
        x = x + (then - now) * velocity(x, x.new_full((len(x),), now))
    return x


WALK = Exercise(
    id="14.3",
    lesson=14,
    title="Along the velocity",
    statement="""Follow a flow by Euler's steps. `x` (B, ...) is the state at `times[0]`; return the
state at the last of `times`, a list of Python numbers at uneven distances. `velocity(x, t)` takes
the time as a tensor (B,) and returns the shape of `x`. The times may fall or rise.""",
    stub="""def walk_to_data(velocity, x, times):
    ...
""",
    solution="""def walk_to_data(velocity, x, times):
    for now, then in zip(times[:-1], times[1:]):
        x = x + (then - now) * velocity(x, x.new_full((len(x),), now))
    return x
""",
    reference=walk_to_data,
    cases=_walk_cases,
    hints=(
        "In a step the state changes by the velocity times the time that passes.",
        "Time passes from now to then: then - now, a negative number on the way to data.",
        "Ask for the velocity where you are, at now: torch.full((len(x),), now).",
    ),
    derivation="lesson 14, 'Recall' and 'Train one'; lesson 06, Euler's method",
    points=2,
    tolerance=VALUES,
    wrong_answers=(
        WrongAnswer(
            "time runs backwards",
            edit("(then - now)", "(now - then)"),
            "On the way to data then - now is negative. With the sign turned you move away.",
        ),
        WrongAnswer(
            "the velocity of the next time",
            edit("x.new_full((len(x),), now)", "x.new_full((len(x),), then)"),
            "You ask at the time where you want to be. Euler asks where you are.",
        ),
        WrongAnswer(
            "even steps",
            edit("(then - now)", "(times[-1] - times[0]) / (len(times) - 1)"),
            "The times are not evenly spaced: each step has a length of its own.",
        ),
        WrongAnswer(
            "the time is told in thousands",
            edit("x.new_full((len(x),), now)", "x.new_full((len(x),), 1000 * now)"),
            "Networks are told 1000 t, but this velocity takes t itself.",
        ),
        WrongAnswer(
            "the last step is missing",
            edit("zip(times[:-1], times[1:])", "zip(times[:-2], times[1:-1])"),
            "You stop one step early. The state belongs to the last of the times.",
        ),
    ),
)


def _level_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, shape, dtype in (
        ("times in a row", (6,), torch.float64),
        ("float32", (4,), torch.float32),
        ("one time", (1,), torch.float64),
        ("a table", (3, 4), torch.float64),
    ):
        t = 0.05 + 0.9 * torch.rand(shape, generator=generator, dtype=torch.float64)
        yield Case((t.to(dtype),), note=note)
    yield Case((torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64),), note="both ends")


def flow_alpha_bar(t: Tensor) -> Tensor:
    """Return the level of the diffusion that a flow is at the times t."""
    return (1 - t) ** 2 / ((1 - t) ** 2 + t**2)


LEVEL = Exercise(
    id="14.4",
    lesson=14,
    title="A flow as a diffusion",
    statement="""A point of a flow at the time $t$, divided by the right number, is a state
$\\sqrt{\\bar\\alpha}\\,x_0 + \\sqrt{1-\\bar\\alpha}\\,\\epsilon$ of a diffusion process. Return
$\\bar\\alpha$ for a tensor `t` of times in $[0, 1]$, of any shape.""",
    stub="""def flow_alpha_bar(t):
    ...
""",
    reference=flow_alpha_bar,
    cases=_level_cases,
    hints=(
        "x_t has the weights 1 - t and t. Their squares must add up to 1 in a diffusion process.",
        "Divide both weights by the root of the sum of their squares.",
        "The weight of x_0 is then (1 - t) over that root. alpha-bar is its square.",
    ),
    derivation="lesson 14, 'The same thing in words you know', (14.7)",
    tolerance=VALUES,
    wrong_answers=(
        WrongAnswer(
            "the root of alpha-bar",
            edit("(1 - t) ** 2 / ((1 - t) ** 2 + t**2)", "(1 - t) / ((1 - t) ** 2 + t**2).sqrt()"),
            "This is the weight of x_0. alpha-bar is its square.",
        ),
        WrongAnswer(
            "without the scale",
            edit(" / ((1 - t) ** 2 + t**2)", ""),
            "(1 - t)^2 is the square of the weight before you divided.",
        ),
        WrongAnswer(
            "divided by the root",
            edit("((1 - t) ** 2 + t**2)", "((1 - t) ** 2 + t**2).sqrt()"),
            "The weight is divided by the root, its square by the sum of squares itself.",
        ),
        WrongAnswer(
            "the share of the noise",
            edit("return (1 - t) ** 2", "return t**2"),
            "That is 1 - alpha-bar, the share of noise.",
        ),
        WrongAnswer(
            "the time itself",
            edit("(1 - t) ** 2 / ((1 - t) ** 2 + t**2)", "1 - t"),
            "1 - t is the weight of x_0 on the straight path. It is no share of a variance.",
        ),
    ),
)


def last_time(shift: float, num_steps: int) -> float:
    """Return the last time before 0 of evenly spaced times that are shifted."""
    t = 1 / num_steps
    return shift * t / (1 + (shift - 1) * t)


TIME = Exercise(
    id="14.5",
    lesson=14,
    title="Where the last step begins",
    statement="""A sampler makes <<num_steps>> steps from $t = 1$ to $t = 0$. Its times are evenly
spaced and then shifted by $s = <<shift>>$, as in (14.9). At which time does the last step begin?
Give at least 3 significant digits.""",
    stub="""shift, num_steps = <<shift>>, <<num_steps>>
last_time = ...
""",
    reference=last_time,
    cases=None,
    parameters={"shift": (3.0, 2.5, 4.0, 6.0), "num_steps": (28, 20, 24, 36)},
    hints=(
        "Before the shift, how long is a step, and where does the last one begin?",
        "It begins one step before 0: at 1 / num_steps. Now shift this time.",
        "t' = s t / (1 + (s - 1) t).",
    ),
    derivation="lesson 14, 'Where to spend the steps', (14.9)",
    wrong_answers=(
        WrongAnswer(
            "the time before the shift",
            lambda shift, num_steps: 1 / num_steps,
            "You left the shift out.",
        ),
        WrongAnswer(
            "shifted twice",
            lambda shift, num_steps: last_time(shift, 1) * shift**2 / (num_steps - 1 + shift**2),
            "This is the time after two shifts. (diffusers' scheduler does so to the end of its "
            "grid.)",
        ),
        WrongAnswer(
            "the first step",
            lambda shift, num_steps: shift * (num_steps - 1) / (1 + shift * (num_steps - 1)),
            "This is where the second step begins, near noise. Look at the other end.",
        ),
        WrongAnswer(
            "the shift as a factor",
            lambda shift, num_steps: shift / num_steps,
            "The denominator is missing. At t = 1 a factor alone would lead beyond noise.",
        ),
        WrongAnswer(
            "shifted towards data",
            lambda shift, num_steps: 1 / num_steps / (shift + (1 - shift) / num_steps),
            "You shift the other way: s above 1 moves times towards noise.",
        ),
    ),
)


def _gated_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, (b, n, c), dtype in (
        ("four tokens of width four", (4, 4, 4), torch.float64),
        ("float32", (2, 5, 6), torch.float32),
        ("one token", (3, 1, 8), torch.float64),
        ("one sample", (1, 6, 3), torch.float64),
    ):
        h = 2 + 3 * draw.normal(generator, b, n, c, dtype=dtype)
        shift, scale, gate = (draw.normal(generator, b, 1, c, dtype=dtype) for _ in range(3))
        yield Case((h, shift, scale, gate, TokenLayer(dtype=dtype)), note=note)
    h = 2 + 0.001 * draw.normal(generator, 2, 3, 4)
    rows = [draw.normal(generator, 2, 1, 4) for _ in range(3)]
    yield Case((h, *rows, TokenLayer(dtype=h.dtype)), note="tokens that hardly vary")


def gated(
    h: Tensor, shift: Tensor, scale: Tensor, gate: Tensor, layer: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return the tokens after one branch that is told its condition."""
    mean, variance = h.mean(-1, keepdim=True), h.var(-1, keepdim=True, correction=0)
    normal = (h - mean) / (variance + 1e-6).sqrt()
    return h + gate * layer(normal * (1 + scale) + shift)


GATED = Exercise(
    id="14.6",
    lesson=14,
    title="Half a block with adaLN-zero",
    statement="""Return what (14.10) makes of the tokens `h` (B, N, C). LN gives each token mean 0
and variance 1 over its C numbers (divide by the root of variance + 1e-6). `shift`, `scale` and
`gate` have shape (B, 1, C); `layer` is a function of tokens.""",
    stub="""def gated(h, shift, scale, gate, layer):
    ...
""",
    reference=gated,
    cases=_gated_cases,
    hints=(
        "First the norm: over the last axis only, each token on its own.",
        "Then scale and shift. A scale of 0 must change nothing: the factor is 1 + scale.",
        "Then the layer, times the gate, added to h as it came in.",
    ),
    derivation="lesson 14, 'Pictures as tokens', (14.10); arXiv 2212.09748, section 3.2",
    points=2,
    tolerance=Tolerance(rtol=1e-4, atol=1e-4),
    wrong_answers=(
        WrongAnswer(
            "the scale without the 1",
            edit("(1 + scale)", "scale"),
            "At the start scale is 0, and you would hand zeros to the layer.",
        ),
        WrongAnswer(
            "the way around is missing",
            edit("return h + gate", "return gate"),
            "With a gate of 0 nothing would come out. The tokens themselves are added.",
        ),
        WrongAnswer(
            "the gate on everything",
            edit("return h + gate * layer(", "return gate * (h + layer(").then(
                "(1 + scale) + shift)", "(1 + scale) + shift))"
            ),
            "The gate belongs to the branch alone. With a gate of 0 the block is the identity.",
        ),
        WrongAnswer(
            "one mean for all tokens",
            edit(
                "h.mean(-1, keepdim=True), h.var(-1, keepdim=True, correction=0)",
                "h.mean((1, 2), keepdim=True), h.var((1, 2), keepdim=True, correction=0)",
            ),
            "LN looks at each token on its own, over its C numbers.",
        ),
        WrongAnswer(
            "shift before scale",
            edit("normal * (1 + scale) + shift", "(normal + shift) * (1 + scale)"),
            "The shift comes last: it is not scaled.",
        ),
        WrongAnswer(
            "the sum of normal and branch",
            edit("return h + gate", "return normal + gate"),
            "The way around carries h as it came in, not the normalised tokens.",
        ),
        WrongAnswer(
            "no norm",
            edit("normal = (h - mean) / (variance + 1e-6).sqrt()", "normal = h"),
            "The tokens go into the layer as they are. LN comes first.",
        ),
    ),
)

EXERCISES = (PATH, CLEAN, WALK, LEVEL, TIME, GATED)
