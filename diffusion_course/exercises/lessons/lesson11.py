"""Exercises of lesson 11, the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

import torch
from torch import Tensor

from ...latent import slerp
from ...measures import faithful
from ...sampling import inference_timesteps
from .. import draw
from ..definition import Case, Exercise, Tolerance, WrongAnswer
from ..edits import edit
from ..given import Decoder

ROUNDED = Tolerance(rtol=1e-4, atol=1e-5)


def _decode_cases(generator: torch.Generator) -> Iterator[Case]:
    factors = (0.18215, 0.7, 1.5, 0.13025, 2.5, 0.5, 0.9, 0.3)
    for (note, latents, _, _), factor in zip(draw.batches(generator, 5), factors, strict=True):
        spread = (2 * latents.double()).to(latents.dtype)
        decoder = Decoder(0.9, latents.dtype)
        yield Case((decoder, spread, factor), note=f"{note}, scaling factor {factor}")


def to_picture(
    decode: Callable[[Tensor], Tensor], latents: Tensor, scaling_factor: float
) -> Tensor:
    """Return the pictures in [0, 1] of scaled latents."""
    return (decode(latents / scaling_factor).clamp(-1, 1) + 1) / 2


DECODE = Exercise(
    id="11.1",
    lesson=11,
    title="The last line",
    statement="""The loop has ended, and `latents` (B, ...) are clean. `decode(z)` turns
**unscaled** latents into a picture whose values should lie in $[-1, 1]$, and sometimes do not.
`scaling_factor` multiplied the latents on their way in. Return the pictures with values in
$[0, 1]$, as a screen wants them.""",
    stub="""def to_picture(decode, latents, scaling_factor):
    picture = decode(...)
    return ...
""",
    reference=to_picture,
    cases=_decode_cases,
    hints=(
        (
            "Three things: undo the scaling, cut what is too bright or "
            "too dark, move [-1, 1] to [0, 1]."
        ),
        "The decoder was trained on unscaled latents. It has to get them.",
        "decode(latents / scaling_factor), then .clamp(-1, 1), then half of it plus one half.",
    ),
    derivation="lesson 11, 'Fifteen lines', (11.4); lesson 09 on the scaling factor",
    tolerance=ROUNDED,
    wrong_answers=(
        WrongAnswer(
            "multiplied instead of divided",
            edit("latents / scaling_factor", "latents * scaling_factor"),
            "The factor multiplied on the way in. On the way out it has to be undone.",
        ),
        WrongAnswer(
            "not unscaled",
            edit("latents / scaling_factor", "latents"),
            "The decoder gets scaled latents. It has never seen such small or large ones.",
        ),
        WrongAnswer(
            "unscaled after decoding",
            edit("decode(latents / scaling_factor)", "(decode(latents) / scaling_factor)"),
            "You divide the picture. The factor belongs to the latents, "
            "and the decoder is not linear.",
        ),
        WrongAnswer(
            "not cut",
            edit(".clamp(-1, 1)", ""),
            "Values outside [-1, 1] stay outside [0, 1]. As bytes they wrap "
            "around to the opposite brightness.",
        ),
        WrongAnswer(
            "cut before it is moved, to [0, 1]",
            edit(
                "(decode(latents / scaling_factor).clamp(-1, 1) + 1) / 2",
                "decode(latents / scaling_factor).clamp(0, 1)",
            ),
            "Everything below mid-grey becomes black. The picture lies "
            "in [-1, 1] until you move it.",
        ),
        WrongAnswer(
            "still in [-1, 1]",
            edit(
                "(decode(latents / scaling_factor).clamp(-1, 1) + 1) / 2",
                "decode(latents / scaling_factor).clamp(-1, 1)",
            ),
            "The values are those of the network. Move them to [0, 1].",
        ),
        WrongAnswer(
            "stretched by the batch's own range",
            edit(
                "return (decode(latents / scaling_factor).clamp(-1, 1) + 1) / 2",
                "picture = decode(latents / scaling_factor)\n"
                "    return (picture - picture.amin()) / (picture.amax() - picture.amin())",
            ),
            "You make the batch's smallest value black and its largest white. Then a picture "
            "depends on its neighbours.",
        ),
        WrongAnswer(
            "the latents are cut",
            edit(
                "decode(latents / scaling_factor).clamp(-1, 1)",
                "decode((latents / scaling_factor).clamp(-1, 1))",
            ),
            "It is the picture whose values have to be cut. Latents may be as large as they are.",
        ),
        WrongAnswer(
            "a sigmoid instead of a cut",
            edit(
                "(decode(latents / scaling_factor).clamp(-1, 1) + 1) / 2",
                "decode(latents / scaling_factor).sigmoid()",
            ),
            "A sigmoid bends all values. Those between -1 and 1 are moved as they are.",
        ),
        WrongAnswer(
            "a tanh instead of a cut",
            edit(".clamp(-1, 1)", ".tanh()"),
            "tanh bends all values. Those between -1 and 1 are moved as they are.",
        ),
        WrongAnswer(
            "one is added, not halved",
            edit(
                "(decode(latents / scaling_factor).clamp(-1, 1) + 1) / 2",
                "(decode(latents / scaling_factor) + 1).clamp(0, 1)",
            ),
            "[-1, 1] is twice as wide as [0, 1]: halve after adding 1.",
        ),
        WrongAnswer(
            "halved before it is cut",
            edit(
                "(decode(latents / scaling_factor).clamp(-1, 1) + 1) / 2",
                "(decode(latents / scaling_factor) / 2).clamp(-1, 1) + 0.5",
            ),
            "Cut first: half of a value is no longer beyond 1 when the value is.",
        ),
        WrongAnswer(
            "the factor of Stable Diffusion",
            edit("latents / scaling_factor", "latents / 0.18215"),
            "0.18215 is one model's factor. Take the `scaling_factor` that is given.",
        ),
        WrongAnswer(
            "the sign is lost",
            edit(
                "(decode(latents / scaling_factor).clamp(-1, 1) + 1) / 2",
                "decode(latents / scaling_factor).abs().clamp(max=1)",
            ),
            "-1 is black and 1 is white. The absolute value makes both white.",
        ),
    ),
)


def _guided_cases(generator: torch.Generator) -> Iterator[Case]:
    levels = (0.005, 0.1), (0.1, 0.4), (0.4, 0.9), (0.9, 0.99), (0.3, 1.0), (0.05, 0.5)
    levels += (0.2, 0.3), (0.6, 0.95)
    scales = (4.0, 7.5, 1.0, 0.0, 2.0, -1.0, 0.5, 3.0)
    for (note, x, _, v_cond), (now, then), scale in zip(
        draw.batches(generator, 5), levels, scales, strict=True
    ):
        v_uncond = draw.normal(generator, *x.shape).to(x.dtype)
        yield Case(
            (x, v_cond, v_uncond, scale, now, then),
            note=f"{note}, scale {scale}, from {now} to {then}",
        )


def guided_step(
    xt: Tensor,
    v_cond: Tensor,
    v_uncond: Tensor,
    scale: float,
    alpha_bar: float,
    alpha_bar_prev: float,
) -> Tensor:
    """Return x at the next level: guidance, then DDIM with a prediction of v."""
    v = v_uncond + scale * (v_cond - v_uncond)
    x0 = alpha_bar**0.5 * xt - (1 - alpha_bar) ** 0.5 * v
    noise = (1 - alpha_bar) ** 0.5 * xt + alpha_bar**0.5 * v
    return alpha_bar_prev**0.5 * x0 + (1 - alpha_bar_prev) ** 0.5 * noise


STEP = Exercise(
    id="11.2",
    lesson=11,
    title="One step of the loop",
    statement="""Write the middle of the loop from an empty cell. The unet was asked twice at `xt`
(B, ...). It predicts $v$: with the prompt `v_cond`, without it `v_uncond`. Combine them at
guidance scale $s$ = `scale`, read $\\hat x_0$ and $\\hat\\epsilon$ from the result, and return
the state one DDIM step further, from the level $\\bar\\alpha$ = `alpha_bar` to
`alpha_bar_prev`. Both are numbers.""",
    stub="""def guided_step(xt, v_cond, v_uncond, scale, alpha_bar, alpha_bar_prev):
    ...
""",
    reference=guided_step,
    cases=_guided_cases,
    hints=(
        "Guidance first, on v: it is linear in x0 and noise, so (08.5) holds for it.",
        "With a = sqrt(abar) and b = sqrt(1 - abar): x0 = a x - b v, noise = b x + a v.",
        (
            "The step keeps both and changes their shares: sqrt(abar_prev) x0 + "
            "sqrt(1 - abar_prev) noise."
        ),
    ),
    derivation="lesson 11, 'One number, by hand', (11.1) to (11.3)",
    points=2,
    tolerance=ROUNDED,
    wrong_answers=(
        WrongAnswer(
            "v is taken for noise",
            edit(
                "alpha_bar**0.5 * xt - (1 - alpha_bar) ** 0.5 * v",
                "(xt - (1 - alpha_bar) ** 0.5 * v) / alpha_bar**0.5",
            ).then("(1 - alpha_bar) ** 0.5 * xt + alpha_bar**0.5 * v", "v"),
            "You read the output as noise. This unet predicts v; ask the "
            "scheduler's prediction_type.",
        ),
        WrongAnswer(
            "v is taken for the picture",
            edit("alpha_bar**0.5 * xt - (1 - alpha_bar) ** 0.5 * v", "v").then(
                "(1 - alpha_bar) ** 0.5 * xt + alpha_bar**0.5 * v",
                "(xt - alpha_bar**0.5 * v) / (1 - alpha_bar) ** 0.5",
            ),
            "You read the output as x0. This unet predicts v = "
            "sqrt(abar) noise - sqrt(1 - abar) x0.",
        ),
        WrongAnswer(
            "the sign of v",
            edit("    x0 =", "    v = -v\n    x0 ="),
            "v points from the picture to the noise: sqrt(abar) noise - sqrt(1 - abar) x0. You "
            "have it the other way round.",
        ),
        WrongAnswer(
            "the two predictions are swapped",
            edit("v_uncond + scale * (v_cond - v_uncond)", "v_cond + scale * (v_uncond - v_cond)"),
            "Your scale acts as 1 - s: you guide away from the prompt.",
        ),
        WrongAnswer(
            "the paper's w",
            edit("v = v_uncond", "v = v_cond"),
            "You count the scale from the conditional prediction. Here s "
            "= 1 is the conditional model.",
        ),
        WrongAnswer(
            "no guidance at scales up to 1",
            edit("(v_cond - v_uncond)", "(v_cond - v_uncond) if scale > 1 else v_cond"),
            "This is what diffusers' pipelines do. The formula means something below 1 "
            "too: at 0 the prompt is ignored.",
        ),
        WrongAnswer(
            "the levels without their roots",
            edit("alpha_bar_prev**0.5", "alpha_bar_prev").then(
                "(1 - alpha_bar_prev) ** 0.5", "(1 - alpha_bar_prev)"
            ),
            "abar is a variance. The shares of x0 and noise are the square roots of "
            "abar_prev and 1 - abar_prev.",
        ),
        WrongAnswer(
            "read at the next level",
            edit("    x0 =", "    alpha_bar = alpha_bar_prev\n    x0 ="),
            "The outputs belong to xt, which stands at alpha_bar. Only the new state is "
            "made with alpha_bar_prev.",
        ),
        WrongAnswer(
            "straight to the picture",
            edit("alpha_bar_prev**0.5 * x0 + (1 - alpha_bar_prev) ** 0.5 * noise", "x0"),
            "You return the estimate of the picture. The next level still has its share of noise.",
        ),
    ),
)


def _time_cases(generator: torch.Generator) -> Iterator[Case]:
    # No product within rounding of a whole number, as 0.58 * 50 is: there floats and paper differ.
    for n, strength in ((20, 0.63), (50, 0.59), (7, 1.0), (20, 0.5), (10, 0.13), (30, 0.35)):
        yield Case(
            (inference_timesteps(1000, n).double(), strength),
            note=f"{n} steps, strength {strength}",
        )
    uneven = torch.tensor([999.0, 400.0, 120.0, 30.0, 8.0, 2.0], dtype=torch.float64)
    yield Case((uneven, 0.55), note="6 uneven times, strength 0.55")
    n = int(torch.randint(11, 40, (1,), generator=generator))
    yield Case((torch.linspace(999, 0, n), 0.77), note=f"{n} fractional times, strength 0.77")


def times_taken(times: Tensor, strength: float) -> Tensor:
    """Return the times that image-to-image visits: the last ones."""
    taken = len(times) * Fraction(str(strength)) // 1
    return times[len(times) - taken :]


TIMES = Exercise(
    id="11.3",
    lesson=11,
    title="Which steps does image-to-image take?",
    statement="""`times` (n,) are the times of text-to-image, from noise to picture. Image-to-image
at `strength` takes a share of the steps: $\\lfloor \\text{strength} \\cdot n \\rfloor$ of them.
Return the times that it visits, in their order. In the cases here that is at least one time,
and the product never falls on the other side of a whole number as a float, as `0.58 * 50`
does.""",
    stub="""def times_taken(times, strength):
    taken = ...
    return ...
""",
    solution="""def times_taken(times, strength):
    # Rounded first: as floats 50 * 0.58 is a little below 29.
    taken = int(round(len(times) * strength, 9))
    return times[len(times) - taken :]
""",
    reference=times_taken,
    cases=_time_cases,
    hints=(
        (
            "At strength 0.2 the picture should change little. Are those the first steps "
            "of the chain, or the last?"
        ),
        "int(...) of a positive number is its floor.",
        "Leave out n - taken times at the start. times[-taken:] would be everything at taken = 0.",
    ),
    derivation="lesson 11, 'Image to image', (11.6); get_timesteps in diffusers' pipeline",
    tolerance=ROUNDED,
    wrong_answers=(
        WrongAnswer(
            "the first steps",
            edit("times[len(times) - taken :]", "times[:taken]"),
            "These start from pure noise and stop while there is still noise. The chain "
            "has to end with the picture.",
        ),
        WrongAnswer(
            "rounded",
            edit("int(round(len(times) * strength, 9))", "round(len(times) * strength)"),
            "You round to the nearest number of steps. The question asks for the "
            "floor, as diffusers takes it.",
        ),
        WrongAnswer(
            "rounded up",
            edit("int(round(len(times) * strength, 9))", "-int(-len(times) * strength // 1)"),
            "You round up. Then strength says the least share of the steps, not the greatest.",
        ),
        WrongAnswer(
            "strength is what is kept",
            edit("int(round(", "len(times) - int(round("),
            "At strength 1 you take no step at all. Strength says how much is redrawn.",
        ),
        WrongAnswer(
            "one step too few",
            edit("strength, 9))", "strength, 9)) - 1"),
            "One time is missing at the start, so the picture gets less "
            "noise than strength asks for.",
        ),
        WrongAnswer(
            "one step too many",
            edit(
                "int(round(len(times) * strength, 9))",
                "min(len(times), int(len(times) * strength) + 1)",
            ),
            "There is one time too many. At strength 1 there would be no such time.",
        ),
        WrongAnswer(
            "all steps, from a lower level",
            lambda times, s: torch.linspace(
                float(times[int(len(times) * (1 - s))]), 0, len(times)
            ).to(times.dtype),
            "You keep the number of steps and make them shorter. Here the steps stay what they "
            "are, and there are fewer.",
        ),
        WrongAnswer(
            "by the value of the time",
            edit("times[len(times) - taken :]", "times[times < 1000 * strength]"),
            "You compare times with strength times T. The question is for a share of the steps, "
            "whatever their times are.",
        ),
        WrongAnswer(
            "the times are scaled",
            lambda times, strength: times * strength,
            "You keep all times and make them smaller. Fewer of the same times are asked for.",
        ),
        WrongAnswer(
            "the last time is left out",
            edit("times[len(times) - taken :]", "times[len(times) - taken : -1]"),
            "The chain has to end at the picture: the last time belongs to it.",
        ),
        WrongAnswer(
            "one window too early",
            edit("times[len(times) - taken :]", "times[len(times) - taken - 1 : -1]"),
            "Your window begins one time too early and misses the last one.",
        ),
        WrongAnswer(
            "places instead of times",
            edit(
                "return times[len(times) - taken :]",
                "return torch.arange(len(times) - taken, len(times)).to(times.dtype)",
            ),
            "These are places in the list. The times that stand there are asked for.",
        ),
        WrongAnswer(
            "spread over the whole chain",
            lambda times, strength: times[
                torch.linspace(0, len(times) - 1, int(len(times) * strength)).round().long()
            ],
            "You take every so many of all times. Image-to-image takes the last ones, one after"
            " the other.",
        ),
    ),
)


def _mask_cases(generator: torch.Generator) -> Iterator[Case]:
    levels = (0.01, 0.3, 0.0, 0.95, 1.0, 0.8, 0.6, 0.4)
    for (note, x, _, noise), level in zip(draw.batches(generator, 5), levels, strict=True):
        known = (0.5 + draw.normal(generator, *x.shape)).to(x.dtype)
        mask = (torch.rand(x.shape, generator=generator) < 0.5).to(x.dtype)
        yield Case((x, known, noise, mask, level), note=f"{note}, to alpha_bar {level}")


def keep_known(x: Tensor, known: Tensor, noise: Tensor, mask: Tensor, alpha_bar: float) -> Tensor:
    """Return x where the mask is 1, elsewhere the known latents at its noise level."""
    at_this_level = alpha_bar**0.5 * known + (1 - alpha_bar) ** 0.5 * noise
    return mask * x + (1 - mask) * at_this_level


INPAINT = Exercise(
    id="11.4",
    lesson=11,
    title="Put back what is known",
    statement="""After each step of inpainting, the latents outside the mask are replaced. `x` is
the state at the level $\\bar\\alpha$ = `alpha_bar` that the step has reached, `known` are the
clean latents of the picture, `noise` is the noise of this run, all of one shape. `mask` is 1
where to redraw and 0 where to keep. Return the state to go on with.""",
    stub="""def keep_known(x, known, noise, mask, alpha_bar):
    at_this_level = ...
    return ...
""",
    reference=keep_known,
    cases=_mask_cases,
    hints=(
        (
            "The unet will see the whole of it and is told one noise level. Both "
            "parts have to be as noisy."
        ),
        "Noising known latents to a level is the closed form of lesson 02.",
        "mask * x + (1 - mask) * (the known latents, noised).",
    ),
    derivation="lesson 11, 'Inpainting', (11.7)",
    tolerance=ROUNDED,
    wrong_answers=(
        WrongAnswer(
            "the mask the other way round",
            edit("mask * x + (1 - mask) * at_this_level", "(1 - mask) * x + mask * at_this_level"),
            "You keep what should be redrawn. 1 says: redraw.",
        ),
        WrongAnswer(
            "clean latents outside the mask",
            edit("alpha_bar**0.5 * known + (1 - alpha_bar) ** 0.5 * noise", "known"),
            "The unet sees a clean part and a noisy one, and is told that all of it is noisy.",
        ),
        WrongAnswer(
            "variances instead of deviations",
            edit("alpha_bar**0.5", "alpha_bar").then("(1 - alpha_bar) ** 0.5", "(1 - alpha_bar)"),
            "abar is the share of the variance. Signal and noise are multiplied by square roots.",
        ),
        WrongAnswer(
            "the shares are swapped",
            edit(
                "alpha_bar**0.5 * known + (1 - alpha_bar) ** 0.5 * noise",
                "(1 - alpha_bar) ** 0.5 * known + alpha_bar**0.5 * noise",
            ),
            "Near the end alpha_bar is close to 1 and there is hardly any noise left. Yours grows.",
        ),
        WrongAnswer(
            "the noise is added, the picture not faded",
            edit("alpha_bar**0.5 * known", "known"),
            "This is the sigma form without its division. In this course the picture "
            "fades by sqrt(alpha_bar).",
        ),
        WrongAnswer(
            "both everywhere",
            edit("(1 - mask) * at_this_level", "at_this_level"),
            "Inside the mask you add the known latents to the state.",
        ),
        WrongAnswer(
            "nothing kept",
            edit("mask * x + (1 - mask) * at_this_level", "x.clone()"),
            "You return the state as it is. Then this is text-to-image.",
        ),
        WrongAnswer(
            "noise without a picture",
            edit("alpha_bar**0.5 * known + ", ""),
            "Outside the mask there is only noise. The picture's own latents have to be in it.",
        ),
    ),
)


def _pair_cases(generator: torch.Generator) -> Iterator[Case]:
    shapes = (
        ((64,), torch.float64),
        ((4, 8, 8), torch.float32),
        ((2, 5), torch.float64),
        ((3,), torch.float64),
    )
    for (shape, dtype), weight in zip(shapes, (0.5, 0.25, 0.8, 0.6), strict=True):
        a, b = draw.normal(generator, *shape), 1.3 * draw.normal(generator, *shape)
        yield Case((a.to(dtype), b.to(dtype), weight), note=f"shape {shape}, weight {weight}")
    a = draw.normal(generator, 40)
    yield Case((a, a + 0.7 * draw.normal(generator, 40), 0.5), note="two noises that are alike")
    for weight in (0.0, 1.0):
        ends = draw.normal(generator, 5), draw.normal(generator, 5)
        yield Case((*ends, weight), note=f"weight {weight}")


def on_the_arc(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """Return the point at this weight of the arc from a to b: the package's slerp on one sample."""
    return slerp(a[None], b[None], weight)[0]


ARC = Exercise(
    id="11.5",
    lesson=11,
    title="Between two seeds",
    statement="""`a` and `b` are two noises of one shape, here of one sample. Return the point of
the arc between them at `weight` $w$: $w = 0$ is `a`, $w = 1$ is `b`. The angle $\\theta$ is
that between the two, all their numbers taken as one vector each.""",
    stub="""def on_the_arc(a, b, weight):
    theta = ...
    return ...
""",
    solution="""def on_the_arc(a, b, weight):
    cosine = (a * b).sum() / (a.norm() * b.norm())
    theta = cosine.acos()
    point = torch.sin((1 - weight) * theta) * a + torch.sin(weight * theta) * b
    return point / torch.sin(theta)
""",
    reference=on_the_arc,
    cases=_pair_cases,
    hints=(
        "The cosine of the angle is the sum of a * b, divided by both lengths.",
        "The weights of a and b are sin((1 - w) theta) and sin(w theta), each over sin(theta).",
        "`(a * b).sum() / (a.norm() * b.norm())` and `.acos()` give theta.",
    ),
    derivation="lesson 11, 'Between two seeds', (11.9); Shoemake 1985",
    points=2,
    tolerance=ROUNDED,
    wrong_answers=(
        WrongAnswer(
            "the straight line",
            edit("point / torch.sin(theta)", "(1 - weight) * a + weight * b"),
            "In the middle of the line independent noises half cancel: the variance is one half, "
            "and the picture turns flat.",
        ),
        WrongAnswer(
            "the line, stretched by the mean length",
            lambda a, b, w: (
                ((1 - w) * a + w * b)
                * ((1 - w) * a.norm() + w * b.norm())
                / ((1 - w) * a + w * b).norm()
            ),
            "The length is right, but equal steps of w are not equal steps of the angle.",
        ),
        WrongAnswer(
            "always a right angle",
            edit("cosine.acos()", "torch.tensor(torch.pi / 2)"),
            "Two long noises are nearly at a right angle, but these may be short, or "
            "alike. Compute the angle.",
        ),
        WrongAnswer(
            "the cosine taken for the angle",
            edit("cosine.acos()", "cosine"),
            "You use the cosine as the angle. There is an acos missing.",
        ),
        WrongAnswer(
            "the weights are swapped",
            edit("(1 - weight) * theta", "weight * theta").then(
                "weight * theta) * b", "(1 - weight) * theta) * b"
            ),
            "At weight 0 you are at b.",
        ),
        WrongAnswer(
            "a point of length 1",
            edit("point / torch.sin(theta)", "point / point.norm()"),
            "You normalise the result. Noise of d numbers has a length near "
            "sqrt(d), and the unet expects it.",
        ),
        WrongAnswer(
            "divided by nothing",
            edit("point / torch.sin(theta)", "point"),
            "The weights are not yet divided by sin(theta): at weight 0 you do not get a.",
        ),
        WrongAnswer(
            "the square root of the line's weights",
            edit("point / torch.sin(theta)", "(1 - weight) ** 0.5 * a + weight**0.5 * b"),
            "The variance is right for independent noise. But the steps are "
            "unequal, and the angle is ignored.",
        ),
    ),
)


def _code_cases(generator: torch.Generator) -> Iterator[Case]:
    for n, wrong_share, unasked in (
        (40, 0.05, 0.0),
        (25, 0.1, 0.3),
        (60, 0.03, 0.1),
        (8, 0.0, 0.2),
        (1, 0.0, 0.5),
    ):
        asked = torch.randint(0, 5, (n, 10), generator=generator)
        lies = torch.rand(n, 10, generator=generator) < wrong_share
        read = torch.where(lies, asked + 1, asked)
        asked = torch.where(torch.rand(n, 10, generator=generator) < unasked, -1, asked)
        yield Case(
            (read, asked),
            note=f"{n} pictures, {wrong_share:.0%} wrong, {unasked:.0%} not asked for",
        )
    yield _exchanged_codes(generator)


def _exchanged_codes(generator: torch.Generator) -> Case:
    """Two codes of a picture are exchanged: both are wrong, and their sum is right."""
    asked = torch.randint(0, 5, (12, 10), generator=generator)
    asked[:, 3] = asked[:, 7] + 1
    read = asked.clone()
    read[:5, [3, 7]] = asked[:5, [7, 3]]
    return Case((read, asked), note="codes in each other's place")


def share_right(read: Tensor, asked: Tensor) -> Tensor:
    """Return the share () of pictures that are right in everything that was asked for."""
    return faithful(read, asked).all(1).double().mean()


SHARE = Exercise(
    id="11.6",
    lesson=11,
    title="How many are right?",
    statement="""The judge has read the codes `read` (N, 10) from N pictures; `asked` (N, 10) are
the codes of their prompts. Both are int64, and a $-1$ in `asked` says that the prompt left this
attribute open. Return the share of pictures in which **everything** that was asked for is
right, as a float64 tensor ().""",
    stub="""def share_right(read, asked):
    right = ...
    return ...
""",
    solution="""def share_right(read, asked):
    right = (read == asked) | (asked == -1)  # (N, 10)
    return right.all(1).double().mean()
""",
    reference=share_right,
    cases=_code_cases,
    hints=(
        "First a table (N, 10) of bool: is this attribute of this picture right?",
        "An attribute is right if both codes agree, or if it was not asked for.",
        "`.all(1)` says which pictures are right in everything; `.double().mean()` is their share.",
    ),
    derivation="lesson 11, 'Does it draw what you say?'",
    tolerance=ROUNDED,
    wrong_answers=(
        WrongAnswer(
            "the share of right attributes",
            edit("right.all(1)", "right"),
            "You count attributes. A picture with one mistake in ten is not nine "
            "tenths of a right picture.",
        ),
        WrongAnswer(
            "what was left open counts as wrong",
            edit(" | (asked == -1)", ""),
            "-1 is no code that a picture can have. What was not asked for cannot be wrong.",
        ),
        WrongAnswer(
            "one right attribute is enough",
            edit(".all(1)", ".any(1)"),
            "You ask whether anything is right. Everything has to be.",
        ),
        WrongAnswer(
            "the share of wrong pictures",
            edit("return right", "return 1 - right"),
            "This is the share with at least one mistake. The question is for the others.",
        ),
        WrongAnswer(
            "over pictures instead of attributes",
            edit(".all(1)", ".all(0)"),
            "You ask for each attribute whether it is right in all pictures. Ask for each picture.",
        ),
        WrongAnswer(
            "what was left open is left out of the pictures",
            edit("right.all(1)", "right[asked != -1]"),
            "You count attributes that were asked for. The unit here is the picture.",
        ),
        WrongAnswer(
            "the number of right pictures",
            edit(".mean()", ".sum()"),
            "This is how many are right. Divide by how many there are.",
        ),
    ),
)


EXERCISES = (DECODE, STEP, TIMES, INPAINT, ARC, SHARE)
