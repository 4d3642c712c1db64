"""Exercises of lesson 09, the autoencoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ...latent import psnr
from ...process import gaussian_kl
from .. import draw
from ..calls import with_gradients
from ..definition import Case, Exercise, Property, Tolerance, WrongAnswer
from ..edits import edit
from ..given import PictureDecoder, PictureEncoder

ROUNDED = Tolerance(rtol=1e-4, atol=1e-5)


def _posterior_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, mean, _, noise in draw.batches(generator, 5):
        log_variance = draw.normal(generator, *mean.shape).to(mean.dtype) - 1
        yield Case((mean, log_variance, noise), note=note)


def draw_latents(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Return mean + exp(log_variance / 2) noise."""
    return mean + (0.5 * log_variance).exp() * noise


DRAW = Exercise(
    id="09.1",
    lesson=9,
    title="A draw that gradients pass",
    statement="""The encoder answers with the mean $m$ and the **logarithm of the variance**
$\\log v$ of a Gaussian over latents, `mean` and `log_variance`. Return a draw from it, made of
`noise`, which is standard normal and has their shape. Gradients have to pass from the draw to
`mean` and to `log_variance`.""",
    stub="""def draw_latents(mean, log_variance, noise):
    return mean + ...
""",
    reference=draw_latents,
    cases=_posterior_cases,
    call=with_gradients,
    properties=(
        Property(
            "gradients",
            lambda case, outcome, expected: (
                isinstance(outcome.output, tuple) and outcome.output[1] == 0.0
            ),
            "gradients do not pass from your draw to `mean` and `log_variance`. Compute it from"
            " both with torch alone, without detach, no_grad, numpy or .item().",
        ),
    ),
    hints=(
        "Stretch the noise by the standard deviation, then shift it by the mean.",
        (
            "The variance is the exponential of log_variance. The standard "
            "deviation is its square root."
        ),
        "A square root is a factor of one half in the exponent.",
    ),
    derivation=(
        "lesson 09, 'A draw that gradients pass', (09.5); Kingma & Welling 2013, section 2.4"
    ),
    tolerance=ROUNDED,
    wrong_answers=(
        WrongAnswer(
            "the variance where the standard deviation belongs",
            edit("(0.5 * log_variance).exp()", "log_variance.exp()"),
            "Noise is multiplied by a standard deviation. You multiply it by the variance.",
        ),
        WrongAnswer(
            "the logarithm where the standard deviation belongs",
            edit("(0.5 * log_variance).exp()", "log_variance"),
            "The network's output is a logarithm, so that any number is allowed. Undo it first.",
        ),
        WrongAnswer(
            "half of the variance",
            edit("(0.5 * log_variance).exp()", "0.5 * log_variance.exp()"),
            "One half belongs into the exponent, where it is a square "
            "root. Outside it only halves.",
        ),
        WrongAnswer(
            "the precision",
            edit("(0.5 *", "(-0.5 *"),
            "With this sign a confident encoder, with a small variance, draws far from its mean.",
        ),
        WrongAnswer(
            "one noise for the whole batch",
            edit("* noise", "* noise[:1]"),
            "Every picture of the batch gets the noise of the first one.",
        ),
        WrongAnswer(
            "the mode",
            edit("mean + (0.5 * log_variance).exp() * noise", "mean.clone()"),
            "This is the most probable latent, not a draw. The decoder would "
            "never learn what the variance means.",
        ),
        WrongAnswer(
            "the mean is stretched as well",
            edit(
                "mean + (0.5 * log_variance).exp() * noise",
                "(0.5 * log_variance).exp() * (mean + noise)",
            ),
            "Only the noise is stretched. The mean is where the draw is centred.",
        ),
        WrongAnswer(
            "the deviation is cut out of the graph",
            edit("(0.5 * log_variance).exp()", "(0.5 * log_variance).exp().detach()"),
            "The numbers are right, but no gradient reaches `log_variance`: the encoder would never"
            " learn how sure it is.",
        ),
    ),
)


def _kl_cases(generator: torch.Generator) -> Iterator[Case]:
    for case in _posterior_cases(generator):
        mean, log_variance, _ = case.args
        if mean.dtype != torch.float16:  # a sum of many numbers, which float16 cannot hold
            yield Case((mean, log_variance), note=case.note)


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(0, I)) of each sample (B,): the package's, summed."""
    zero = torch.zeros((), dtype=mean.dtype)
    return gaussian_kl(mean, log_variance, zero, zero).reshape(len(mean), -1).sum(1)


KL = Exercise(
    id="09.2",
    lesson=9,
    title="What a picture pays",
    statement="""Return $\\mathrm{KL}(N(m, v)\\,\\|\\,N(0, I))$ in nats for each sample: `mean` and
`log_variance` have the shape (B, ...), the result has the shape (B,). All numbers of one sample
are independent of each other.""",
    stub="""def kl_to_standard_normal(mean, log_variance):
    per_number = ...
    return per_number.reshape(len(mean), -1).sum(1)
""",
    solution="""def kl_to_standard_normal(mean, log_variance):
    per_number = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)
    return per_number.reshape(len(mean), -1).sum(1)
""",
    reference=kl_to_standard_normal,
    cases=_kl_cases,
    hints=(
        (
            "For one number: take the mean of log q(z) - log p(z) over z "
            "from q. Only m and v are left."
        ),
        "The means you need are E[(z - m)^2] = v and E[z^2] = m^2 + v.",
        "Half of m^2 + v - 1 - log v. It is 0 at m = 0, v = 1.",
    ),
    derivation="lesson 09, 'The derivation', (09.4); Kingma & Welling 2013, appendix B",
    tolerance=ROUNDED,
    wrong_answers=(
        WrongAnswer(
            "averaged over the numbers of a sample",
            edit(".sum(1)", ".mean(1)"),
            "Divergences of independent numbers add up. An average makes a picture with "
            "more latents pay no more.",
        ),
        WrongAnswer(
            "one number for the whole batch",
            edit(".reshape(len(mean), -1).sum(1)", ".sum()"),
            "Each sample has its own divergence. Keep the batch axis.",
        ),
        WrongAnswer(
            "the sign that it has in the bound",
            edit("0.5 * (", "-0.5 * ("),
            "The bound on log p(x) contains minus this divergence. A divergence "
            "itself is never negative.",
        ),
        WrongAnswer(
            "one half is forgotten",
            edit("0.5 * (", "("),
            "Both Gaussians have a square root and a half in the exponent, and so has "
            "every term of the result.",
        ),
        WrongAnswer(
            "the logarithm taken for that of the standard deviation",
            edit(
                "log_variance.exp() - 1 - log_variance",
                "(2 * log_variance).exp() - 1 - 2 * log_variance",
            ),
            "log_variance is log v, not log of the standard deviation.",
        ),
        WrongAnswer(
            "the minus one is forgotten",
            edit(" - 1 - log_variance", " - log_variance"),
            "At m = 0 and v = 1 both distributions are the same, so the divergence has to be 0.",
        ),
        WrongAnswer(
            "the other direction",
            edit(
                "mean**2 + log_variance.exp() - 1 - log_variance",
                "log_variance + (1 + mean**2) * (-log_variance).exp() - 1",
            ),
            "This is KL(N(0, I) || N(m, v)). The mean of the logarithms is taken over "
            "the encoder's distribution.",
        ),
        WrongAnswer(
            "the logarithm is forgotten",
            edit(" - 1 - log_variance", " - 1"),
            "Without the logarithm nothing keeps the variance from shrinking to 0, where the "
            "divergence must be infinite.",
        ),
    ),
)


def bits(variance: float, weight: float) -> float:
    """Return log2(2 variance / weight) / 2, or 0 where that is negative."""
    return max(0.0, 0.5 * math.log2(2 * variance / weight))


BITS = Exercise(
    id="09.3",
    lesson=9,
    title="How many bits is a number worth?",
    statement="""A Gaussian number has the variance <<variance>>. The best linear autoencoder for it
is found, with squared error and the weight $w = $ <<weight>> on the KL. How many **bits** does
it spend on this number, that is, how large is its mean KL in bits?""",
    stub="bits = ...\n",
    solution="""import math


def rate(variance, weight):
    return max(0.0, 0.5 * math.log2(2 * variance / weight))


bits = rate(<<variance>>, <<weight>>)
""",
    reference=bits,
    cases=None,
    parameters={"variance": (0.6, 3.0, 9.0, 5.0), "weight": (0.5, 0.125, 0.25)},
    hints=(
        (
            "First the distortion: the autoencoder accepts an error as large as "
            "the decoder's own variance."
        ),
        (
            "That is half of the weight. The rate is half the logarithm of the "
            "variance over the distortion."
        ),
        "Bits need the logarithm to the base two.",
    ),
    derivation="lesson 09, 'The smallest autoencoder, solved', (09.7)",
    wrong_answers=(
        WrongAnswer(
            "nats", edit("math.log2", "math.log"), "The question asks for bits. These are nats."
        ),
        WrongAnswer(
            "the weight as distortion",
            edit("2 * variance / weight", "variance / weight"),
            "The decoder's variance is half of the weight: (x - y)^2 / w "
            "is (x - y)^2 / (2 variance).",
        ),
        WrongAnswer(
            "without the half",
            edit("0.5 * math", "math"),
            "A ratio of variances is a ratio of lengths squared. Halve its logarithm.",
        ),
        WrongAnswer(
            "the capacity of a channel",
            edit("2 * variance / weight", "1 + 2 * variance / weight"),
            "This is what a noisy channel can carry. Here the error is part of the "
            "variance, not added to it.",
        ),
        WrongAnswer(
            "the variance squared",
            edit("2 * variance / weight", "2 * variance**2 / weight"),
            "The number given is the variance already.",
        ),
        WrongAnswer(
            "the distortion",
            edit("max(0.0, 0.5 * math.log2(2 * variance / weight))", "weight / 2"),
            "This is the mean squared error that is left. The question asks what the number costs.",
        ),
        WrongAnswer(
            "in decibels",
            edit(
                "0.5 * math.log2(2 * variance / weight)", "10 * math.log10(2 * variance / weight)"
            ),
            "This is the ratio in decibels. A rate in bits is half of its logarithm to the base 2.",
        ),
        WrongAnswer(
            "no distortion",
            edit("max(0.0, 0.5 * math.log2(2 * variance / weight))", "0.5 * math.log2(variance)"),
            "Without an error that is accepted a number would cost endless bits. Divide by the"
            " distortion.",
        ),
        WrongAnswer(
            "nats times ln 2",
            edit(
                "math.log2(2 * variance / weight)", "math.log(2 * variance / weight) * math.log(2)"
            ),
            "A nat is more than a bit: divide nats by ln 2.",
        ),
        WrongAnswer(
            "weighted as in the loss",
            edit("0.5 * math.log2", "weight * 0.5 * math.log2"),
            "This is what the KL adds to the loss. The KL itself is asked for.",
        ),
        WrongAnswer(
            "the weight is squared",
            edit("2 * variance / weight", "2 * variance / weight**2"),
            "The distortion is half of the weight itself.",
        ),
        WrongAnswer(
            "upside down",
            edit(
                "max(0.0, 0.5 * math.log2(2 * variance / weight))",
                "0.5 * math.log2(weight / (2 * variance))",
            ),
            "The distortion stands below the line: a smaller error costs more bits.",
        ),
        WrongAnswer(
            "a decimal logarithm",
            edit("math.log2", "math.log10"),
            "Bits need the logarithm to the base 2.",
        ),
    ),
)


def _picture_cases(generator: torch.Generator) -> Iterator[Case]:
    for (shape, dtype), noise in zip(
        (
            ((4, 3, 4, 4), torch.float32),
            ((1, 1, 3, 5), torch.float64),
            ((3, 3, 8, 6), torch.float64),
            ((2, 1, 2, 2), torch.float32),
        ),
        (0.05, 0.5, 0.01, 1.0),
        strict=True,
    ):
        reference = draw.normal(generator, *shape).tanh()
        growing = torch.linspace(0.5, 2, shape[0], dtype=torch.float64).reshape(-1, 1, 1, 1)
        image = reference + noise * growing * draw.normal(generator, *shape)
        yield Case((image.to(dtype), reference.to(dtype)), note=f"shape {shape}")


def decibels(images: Tensor, references: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio (B,) for the range [-1, 1]: the package's function."""
    return psnr(images, references)


DECIBELS = Exercise(
    id="09.4",
    lesson=9,
    title="Decibels",
    statement="""Return the peak signal-to-noise ratio of each picture in decibels,
$10 \\log_{10}(r^2 / e)$, where $r$ is the range from black to white and $e$ the mean squared
error. `images` and `references` have the shape (B, C, H, W), values from -1 (black) to 1
(white); the result has the shape (B,). Take the values as they are.""",
    stub="""def decibels(images, references):
    error = ...
    return ...
""",
    solution="""def decibels(images, references):
    error = ((images - references) ** 2).flatten(1).mean(1)
    return 10 * torch.log10(4 / error)
""",
    reference=decibels,
    cases=_picture_cases,
    hints=(
        "The error is a mean over channels, rows and columns of one picture, not over the batch.",
        "From black to white it is 2. The square of that stands above the error.",
        "10 * torch.log10(4 / error), with error of shape (B,).",
    ),
    derivation="lesson 09, 'What is lost', (09.8)",
    tolerance=ROUNDED,
    wrong_answers=(
        WrongAnswer(
            "a range of 1",
            edit("4 / error", "1 / error"),
            "Your range is that of [0, 1]. These pictures go from -1 to 1.",
        ),
        WrongAnswer(
            "a range of 255",
            edit("4 / error", "255**2 / error"),
            "255 is the range of bytes. These pictures go from -1 to 1.",
        ),
        WrongAnswer(
            "the range is not squared",
            edit("4 / error", "2 / error"),
            "A squared error is compared with a squared range.",
        ),
        WrongAnswer(
            "20 instead of 10",
            edit("10 * torch", "20 * torch"),
            "20 belongs to a ratio of lengths. The mean squared error is a square already.",
        ),
        WrongAnswer(
            "the natural logarithm",
            edit("torch.log10", "torch.log"),
            "Decibels are tenths of powers of ten: the logarithm has the base 10.",
        ),
        WrongAnswer(
            "one error for the whole batch",
            edit(".flatten(1).mean(1)", ".mean()"),
            "You average over the batch as well. Each picture has its own decibels.",
        ),
        WrongAnswer(
            "the ratio is upside down",
            edit("4 / error", "error / 4"),
            "A smaller error has to give more decibels.",
        ),
        WrongAnswer(
            "the absolute error",
            edit("((images - references) ** 2)", "(images - references).abs()").then(
                "10 * torch.log10(4", "20 * torch.log10(2"
            ),
            "The definition has the mean of squares. A few large errors count more in it than in "
            "the mean of absolute values.",
        ),
    ),
)


def _noising_cases(generator: torch.Generator) -> Iterator[Case]:
    for shape, dtype, factor, alpha_bar in (
        ((3, 3, 4, 4), torch.float32, 0.18215, 0.5),
        ((2, 1, 6, 4), torch.float64, 0.5, 0.9),
        ((1, 3, 4, 8), torch.float64, 1.3, 0.04),
        ((4, 1, 2, 2), torch.float32, 0.3, 1.0),
        ((2, 3, 2, 4), torch.float64, 0.7, 0.0),
    ):
        images = draw.normal(generator, *shape).tanh().to(dtype)
        encode, decode = PictureEncoder(dtype=dtype), PictureDecoder(dtype=dtype)
        noise = draw.normal(generator, *encode(images).shape, dtype=dtype)
        yield Case(
            (encode, decode, images, noise, factor, alpha_bar),
            note=f"factor {factor}, abar {alpha_bar}",
        )


def noised_picture(
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    images: Tensor,
    noise: Tensor,
    factor: float,
    alpha_bar: float,
) -> Tensor:
    """Return the decoded picture of scaled latents that were noised to `alpha_bar`."""
    latents = factor * encode(images)
    noised = alpha_bar**0.5 * latents + (1 - alpha_bar) ** 0.5 * noise
    return decode(noised / factor)


NOISING = Exercise(
    id="09.5",
    lesson=9,
    title="Noise in latents, seen as a picture",
    statement="""Show what a latent diffusion model sees at a noise level. `encode(images)` returns
latents as the encoder makes them, `decode(latents)` takes such latents. The diffusion model
lives in latents multiplied by `factor`. Take `images` there, mix them with `noise` to
$\\bar\\alpha$ = `alpha_bar` (a number), and return the decoded picture.""",
    stub="""def noised_picture(encode, decode, images, noise, factor, alpha_bar):
    ...
""",
    reference=noised_picture,
    cases=_noising_cases,
    hints=(
        "Five steps: encode, scale, mix with noise, undo the scale, decode.",
        "Mixing is lesson 02's closed form, with the roots of alpha_bar and of 1 - alpha_bar.",
        "Multiply right after encode. Divide right before decode, noise and all.",
    ),
    derivation="lesson 09, 'The scaling factor', (09.11)",
    points=2,
    tolerance=ROUNDED,
    wrong_answers=(
        WrongAnswer(
            "no scaling",
            edit("factor * encode", "encode").then("noised / factor", "noised"),
            "Noise of size 1 meets latents of another size: the signal-to-noise ratio is "
            "not the one of the schedule.",
        ),
        WrongAnswer(
            "never divided",
            edit("noised / factor", "noised"),
            "The decoder gets latents of the diffusion model's size. It "
            "expects those of the encoder.",
        ),
        WrongAnswer(
            "divided after decoding",
            edit("decode(noised / factor)", "decode(noised) / factor"),
            "You divide the picture. The factor belongs to latents, so it is "
            "undone before they are decoded.",
        ),
        WrongAnswer(
            "multiplied twice",
            edit("noised / factor", "noised * factor"),
            "Before decoding the factor is divided out, not multiplied in again.",
        ),
        WrongAnswer(
            "divided first, multiplied last",
            edit("factor * encode(images)", "encode(images) / factor").then(
                "noised / factor", "noised * factor"
            ),
            "The factor is 1 / std: multiplying makes the latents' size "
            "1. You make their size larger.",
        ),
        WrongAnswer(
            "the roots are forgotten",
            edit("alpha_bar**0.5", "alpha_bar").then("(1 - alpha_bar) ** 0.5", "(1 - alpha_bar)"),
            "Without roots the variance of the mix is not kept. See lesson 02.",
        ),
        WrongAnswer(
            "1 - sqrt(alpha_bar) for the noise",
            edit("(1 - alpha_bar) ** 0.5", "(1 - alpha_bar**0.5)"),
            "The two factors do not add up to 1; their squares do.",
        ),
        WrongAnswer(
            "the pictures are multiplied",
            edit("factor * encode(images)", "encode(factor * images)"),
            "The factor belongs to the latents, and the encoder is not linear.",
        ),
        WrongAnswer(
            "the factor of Stable Diffusion",
            edit("factor * encode", "0.18215 * encode").then("noised / factor", "noised / 0.18215"),
            "0.18215 is one model's factor. Take the `factor` that is given.",
        ),
        WrongAnswer(
            "the latents are cut",
            edit("decode(noised / factor)", "decode((noised / factor).clamp(-1, 1))"),
            "Nothing asks for a cut: latents may be as large as they are.",
        ),
        WrongAnswer(
            "the pictures are moved to [0, 1]",
            edit("encode(images)", "encode((images + 1) / 2)"),
            "The encoder takes the pictures as they are.",
        ),
    ),
)


def _batch_cases(generator: torch.Generator) -> Iterator[Case]:
    for num_batches in (3, 5, 2, 1, 8):
        count = torch.randint(20, 400, (num_batches,), generator=generator)
        mean = 2 * draw.normal(generator, num_batches) + 1
        variance = 0.2 + 5 * torch.rand(num_batches, generator=generator, dtype=torch.float64)
        yield Case(
            (count, mean, variance),
            note=f"{num_batches} batches" if num_batches > 1 else "one batch",
        )


def scaling_factor(count: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Return 1 / std of all numbers together; `variance` is about each batch's own mean."""
    share = count / count.sum()
    overall = (share * mean).sum()
    return (share * (variance + (mean - overall) ** 2)).sum() ** -0.5


SCALING = Exercise(
    id="09.6",
    lesson=9,
    title="The factor of more latents than memory holds",
    statement="""The latents of a whole data set do not fit into memory, so you kept three numbers
of each of K batches: `count` (K,) int64, how many numbers it held; `mean` (K,); and `variance`
(K,) about that batch's own mean, divided by its count. Return the scaling factor of all latents
together, a tensor of shape ().""",
    stub="""def scaling_factor(count, mean, variance):
    ...
""",
    solution="""def scaling_factor(count, mean, variance):
    total = count.sum()
    overall = (count * mean).sum() / total
    square = (count * (variance + mean**2)).sum() / total
    return (square - overall**2) ** -0.5
""",
    reference=scaling_factor,
    cases=_batch_cases,
    hints=(
        (
            "The variance of all numbers is the mean of their squares minus the square of their "
            "mean. Both are sums over batches."
        ),
        (
            "Inside one batch the mean of squares is variance + mean ** 2. Weight each batch by "
            "its share of the numbers."
        ),
        "The result is one over the square root of that variance.",
    ),
    derivation="lesson 09, 'The scaling factor', (09.10); Rombach et al. 2021, appendix G",
    points=2,
    tolerance=ROUNDED,
    wrong_answers=(
        WrongAnswer(
            "the means are taken to be equal",
            edit("(variance + mean**2)", "variance").then("(square - overall**2)", "square"),
            "Batches with different means spread wider together than each of them alone.",
        ),
        WrongAnswer(
            "the mean of the deviations",
            edit("(variance + mean**2)", "variance.sqrt()").then(
                "(square - overall**2) ** -0.5", "1 / square"
            ),
            "Standard deviations do not average. Variances do, once the means are accounted for.",
        ),
        WrongAnswer(
            "the mean of the factors",
            edit("(variance + mean**2)", "variance.rsqrt()").then(
                "(square - overall**2) ** -0.5", "square"
            ),
            "A factor for each batch, averaged, is not the factor of all of them.",
        ),
        WrongAnswer(
            "about zero",
            edit("(square - overall**2)", "square"),
            "This is one over the root mean square. A deviation is measured "
            "about the mean of all numbers.",
        ),
        WrongAnswer(
            "small batches count as much as large ones",
            edit("    total =", "    count = torch.ones_like(count)\n    total ="),
            "Each number counts once, so each batch counts by its share.",
        ),
        WrongAnswer(
            "the variance instead of the deviation",
            edit("** -0.5", "** -1"),
            "Latents are divided by their standard deviation, not by their variance.",
        ),
        WrongAnswer(
            "the deviation itself",
            edit("** -0.5", "** 0.5"),
            "The factor is what latents are multiplied with. That is one over their deviation.",
        ),
        WrongAnswer(
            "the first batch only",
            edit("(square - overall**2)", "variance[0]"),
            "The paper did that, and it is why 0.18215 has chance in its "
            "digits. You have all batches.",
        ),
        WrongAnswer(
            "the plain mean of the variances",
            edit("(square - overall**2)", "variance.mean()"),
            "Two things: batches count by their size, and different means spread wider together.",
        ),
        WrongAnswer(
            "the spread of the means is not weighted",
            edit(
                "    square = (count * (variance + mean**2)).sum() / total\n    return (square -"
                " overall**2)",
                "    within = (count * variance).sum() / total\n    return (within + ((mean -"
                " overall) ** 2).mean())",
            ),
            "A small batch's mean counts less than a large one's, also in how far the means are"
            " apart.",
        ),
        WrongAnswer(
            "the plain mean of the factors",
            edit("(square - overall**2) ** -0.5", "variance.rsqrt().mean()"),
            "A factor for each batch, averaged, is not the factor of all of them.",
        ),
        WrongAnswer(
            "deviations are added",
            edit(
                "    square = (count * (variance + mean**2)).sum() / total\n    return (square -"
                " overall**2) ** -0.5",
                "    within = (count * variance).sum() / total\n    between = (count * (mean -"
                " overall) ** 2).sum() / total\n    return 1 / (within**0.5 + between**0.5)",
            ),
            "The spread within and the spread of the means add up as variances.",
        ),
        WrongAnswer(
            "divided by the number of batches",
            edit(
                "    square = (count * (variance + mean**2)).sum() / total",
                "    square = (count * (variance + mean**2)).sum() / len(count)",
            ),
            "Sums over numbers are divided by how many numbers there are, not by how many batches.",
        ),
    ),
)


EXERCISES = (DRAW, KL, BITS, DECIBELS, NOISING, SCALING)
