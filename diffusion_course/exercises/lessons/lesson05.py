"""Exercises of lesson 05, the U-Net."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from ...models import timestep_embedding
from .. import draw
from ..calls import with_mode
from ..definition import Case, Exercise, Property, Tolerance, WrongAnswer
from ..edits import edit
from ..given import DroppingNetwork

ANGLES = Tolerance(rtol=1e-3, atol=1e-3)  # float32 angles up to 1000 rad
CLOSE = Tolerance(rtol=1e-4, atol=1e-5)
WHOLE = Tolerance(rtol=0.0, atol=0.2)
F32, F64 = torch.float32, torch.float64


def _time_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, batch, dim in (
        ("5 times, dim 8", 5, 8),
        ("4 times, dim 8", 4, 8),
        ("1 time, dim 32", 1, 32),
        ("3 times, dim 4", 3, 4),
    ):
        yield Case((1000 * torch.rand(batch, generator=generator), dim), note=note)
    yield Case((torch.tensor([0, 1, 500, 999]), 16), note="indices")
    yield Case((1000 * torch.rand(3, generator=generator, dtype=F64), 6), note="times in float64")


def embed(t: Tensor, dim: int) -> Tensor:
    """Return the package's embedding of t."""
    return timestep_embedding(t, dim)


EMBEDDING = Exercise(
    id="05.1",
    lesson=5,
    title="The time embedding",
    statement="""Return the embedding (B, dim) of `t` (B,), float32: first the cosines, then the
sines, of $t\\,\\omega_i$ with $\\omega_i = 10000^{-i/n}$ for $i = 0, \\dots, n-1$ and $n$ = dim
/ 2. `t` holds indices up to 999 and may be integer or floating, `dim` is even.""",
    stub="""def embed(t, dim):
    half = dim // 2
    frequencies = ...  # (half,)
    angles = t.float()[:, None] * frequencies  # (B, half)
    return ...
""",
    solution="""def embed(t, dim):
    half = dim // 2
    frequencies = 10_000.0 ** -(torch.arange(half) / half)  # (half,)
    angles = t.float()[:, None] * frequencies  # (B, half)
    return torch.cat([angles.cos(), angles.sin()], 1)
""",
    reference=embed,
    cases=_time_cases,
    hints=(
        (
            "`torch.arange(half) / half` are the exponents 0, 1/n, 2/n, ... They belong to a row "
            "of the result, not to the batch."
        ),
        "A power with a negative exponent: 10_000.0 ** -(...). The first frequency is 1.",
        "The last line joins two blocks of shape (B, half) along axis 1.",
    ),
    derivation="lesson 05, 'The time as a vector'; arXiv 1706.03762, section 3.5",
    tolerance=ANGLES,
    wrong_answers=(
        WrongAnswer(
            "half - 1 in the exponent",
            edit("torch.arange(half) / half", "torch.arange(half) / (half - 1)"),
            "Both forms are in use, and weights trained with one do not fit the other. Here the "
            "slowest is not quite 1/10000.",
        ),
        WrongAnswer(
            "sines first",
            edit("[angles.cos(), angles.sin()]", "[angles.sin(), angles.cos()]"),
            "Both orders are in use, and weights trained with one do not fit the other. "
            "The cosines come first here.",
        ),
        WrongAnswer(
            "sine and cosine alternate",
            edit(
                "torch.cat([angles.cos(), angles.sin()], 1)",
                "torch.stack([angles.cos(), angles.sin()], 2).flatten(1)",
            ),
            "You interleave the two. Here all cosines stand before all sines.",
        ),
        WrongAnswer(
            "t is divided by 1000",
            edit("t.float()", "(t.float() / 1000)"),
            "The frequencies are made for indices. With fractions the fastest pair turns "
            "by less than 1 rad in all.",
        ),
        WrongAnswer(
            "the frequencies run over the batch",
            edit("torch.arange(half) / half", "torch.arange(len(t)) / len(t)").then(
                "t.float()[:, None] * frequencies",
                "(t.float() * frequencies)[:, None].expand(-1, half)",
            ),
            "Each sample gets one frequency of its own, so the same t has another embedding at "
            "another place in the batch.",
        ),
        WrongAnswer(
            "dim instead of dim / 2 in the exponent",
            edit("torch.arange(half) / half", "torch.arange(half) / dim"),
            "Your frequencies end near 1/100: there are only dim / 2 of them, and they "
            "share the range down to 1/10000.",
        ),
        WrongAnswer(
            "frequencies that grow",
            edit("** -(torch", "** (torch"),
            "The sign of the exponent is missing: with frequencies above 1 the angle jumps by "
            "many turns from one t to the next.",
        ),
        WrongAnswer(
            "only sines",
            edit("angles.cos()", "angles.sin()"),
            "A sine alone does not tell which way the angle moves. Each "
            "frequency needs its cosine too.",
        ),
    ),
)


def _modulation_cases(generator: torch.Generator) -> Iterator[Case]:
    sizes = (
        ("3 samples", (3, 4, 5, 6), 7, F32),
        ("B = H, C = W", (2, 6, 2, 6), 3, F64),
        ("one sample", (1, 2, 3, 3), 5, F64),
    )
    for note, shape, width, dtype in sizes:
        h = draw.normal(generator, *shape, dtype=dtype)
        emb = draw.normal(generator, shape[0], width, dtype=dtype)
        weight = draw.normal(generator, 2 * shape[1], width, dtype=dtype)
        yield Case((h, emb, weight, draw.normal(generator, 2 * shape[1], dtype=dtype)), note=note)


def modulate(h: Tensor, emb: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return h (1 + scale) + shift: a pair for each sample and channel, linear in the embedding."""
    scale, shift = F.linear(emb, weight, bias)[:, :, None, None].chunk(2, 1)  # (B, C, 1, 1) each
    return h * (1 + scale) + shift


MODULATION = Exercise(
    id="05.2",
    lesson=5,
    title="Scale and shift",
    statement="""A residual block is told the time by two numbers for each channel. From `emb` (B,
E) compute a linear layer with `weight` (2C, E) and `bias` (2C,). Its first C outputs are the
scale, the last C the shift. Return $h\\,(1 + \\text{scale}) + \\text{shift}$ for `h` (B, C, H,
W).""",
    stub="""def modulate(h, emb, weight, bias):
    ...
""",
    solution="""def modulate(h, emb, weight, bias):
    both = emb @ weight.T + bias  # (B, 2C)
    scale, shift = both[:, :, None, None].chunk(2, 1)  # (B, C, 1, 1) each
    return h * (1 + scale) + shift
""",
    reference=modulate,
    cases=_modulation_cases,
    hints=(
        "The linear layer: emb @ weight.T + bias has shape (B, 2C). Which axis do you halve?",
        (
            "`chunk(2, 1)` halves axis 1. A scale of shape (B, C) has to meet "
            "axes 0 and 1 of h, not 2 and 3."
        ),
        (
            "Index with [:, :, None, None] to get (B, C, 1, 1), then write the "
            "formula of the statement."
        ),
    ),
    derivation="lesson 05, 'A block that knows the time'; arXiv 2105.05233, section 3",
    tolerance=CLOSE,
    wrong_answers=(
        WrongAnswer(
            "scale instead of 1 + scale",
            edit("(1 + scale)", "scale"),
            "A layer whose output is near zero then erases h. With 1 + scale it leaves h alone.",
        ),
        WrongAnswer(
            "scale and shift are swapped",
            edit("scale, shift =", "shift, scale ="),
            "The first half of the outputs is the scale. Weights trained with "
            "one order do not fit the other.",
        ),
        WrongAnswer(
            "the shift is scaled too",
            edit("h * (1 + scale) + shift", "(h + shift) * (1 + scale)"),
            "You shift before you scale, so the shift is multiplied as well.",
        ),
        WrongAnswer(
            "every second output is the scale",
            edit(
                "both[:, :, None, None].chunk(2, 1)",
                "both[:, ::2, None, None], both[:, 1::2, None, None]",
            ),
            "The two halves lie one behind the other: outputs 0..C-1 and C..2C-1.",
        ),
        WrongAnswer(
            "no axes to broadcast over",
            edit("both[:, :, None, None]", "both"),
            "(B, C) lines up with the last two axes of h, height and width. Where B = H "
            "and C = W nothing is raised.",
        ),
        WrongAnswer(
            "only the shift",
            edit("h * (1 + scale) + shift", "h + shift"),
            "This adds the embedding, as the first DDPM did. The "
            "exercise asks for a scale as well.",
        ),
        WrongAnswer(
            "one embedding for the whole batch",
            edit("emb @", "emb[:1] @"),
            "Every sample has its own time, so its own scale and shift. You use those of "
            "the first sample for all.",
        ),
    ),
)


def flops_of_a_convolution(in_channels: int, out_channels: int, size: int) -> int:
    """Return the FLOPs of one such convolution on one image of size x size."""
    side = (size + 2 * 1 - 3) // 2 + 1  # padding 1, kernel 3, stride 2
    return 2 * (side * side * out_channels) * (in_channels * 3 * 3)


CONVOLUTION = Exercise(
    id="05.3",
    lesson=5,
    title="What a convolution costs",
    statement="""How many FLOPs does
`nn.Conv2d(<<in_channels>>, <<out_channels>>, 3, stride=2, padding=1)` need for one image of
<<size>>x<<size>>? A multiply-add counts as 2, the bias is not counted. Work it out on paper,
then check it with `count_flops`.""",
    stub="""flops = ...
""",
    reference=flops_of_a_convolution,
    cases=None,
    parameters={"in_channels": (8, 12), "out_channels": (16, 28), "size": (16, 12, 20, 13)},
    hints=(
        "How many numbers does the layer output? How many products are summed for each of them?",
        (
            "Stride 2 halves each side. One output number is a sum over all input "
            "channels and a 3x3 window."
        ),
        "2 x (side x side x out_channels) x (in_channels x 3 x 3).",
    ),
    derivation="lesson 05, (05.5)",
    tolerance=WHOLE,
    wrong_answers=(
        WrongAnswer(
            "a multiply-add counts as 1",
            edit("return 2 * (", "return ("),
            "These are multiply-adds (MACs). Each is two operations. Tables mix the two: "
            "look which one they mean.",
        ),
        WrongAnswer(
            "the stride is forgotten",
            edit("(size + 2 * 1 - 3) // 2 + 1", "size"),
            "You count an output at every pixel of the input. With stride 2 there are fewer.",
        ),
        WrongAnswer(
            "the padding is forgotten",
            edit("(size + 2 * 1 - 3)", "(size - 3)"),
            "Without padding the last window would not fit. Padding 1 adds a pixel on each side.",
        ),
        WrongAnswer(
            "the input channels, or one side of the output",
            edit("(in_channels * 3 * 3)", "(3 * 3)"),
            "Each output number sums over all input channels, and there is one for each place along"
            " both sides. One of these factors is not in yours.",
        ),
        WrongAnswer(
            "the output channels are forgotten",
            edit("(side * side * out_channels)", "(side * side)"),
            "That is the cost of one output channel.",
        ),
        WrongAnswer(
            "3 instead of 3x3",
            edit("(in_channels * 3 * 3)", "(in_channels * 3)"),
            "The window has two sides.",
        ),
        WrongAnswer(
            "the number of parameters",
            edit(
                "2 * (side * side * out_channels) * (in_channels * 3 * 3)",
                "out_channels * (in_channels * 3 * 3 + 1)",
            ),
            "That is how many numbers the layer stores. Each weight is "
            "used once for every output pixel.",
        ),
        WrongAnswer(
            "the bias is counted",
            edit(
                "2 * (side * side * out_channels) * (in_channels * 3 * 3)",
                "(side * side * out_channels) * (2 * in_channels * 3 * 3 + 1)",
            ),
            "You add one operation for each output number. That is fair, but the "
            "convention leaves the bias out.",
        ),
        WrongAnswer(
            "the number of weights",
            edit(
                "2 * (side * side * out_channels) * (in_channels * 3 * 3)",
                "out_channels * (in_channels * 3 * 3)",
            ),
            "That is how many numbers the layer stores, without the bias. Each is used at every"
            " output pixel.",
        ),
        WrongAnswer(
            "one addition less",
            edit(
                "2 * (side * side * out_channels) * (in_channels * 3 * 3)",
                "(side * side * out_channels) * (2 * in_channels * 3 * 3 - 1)",
            ),
            "A sum of n products has n - 1 additions, that is true. By the convention a"
            " multiply-add counts as 2 throughout.",
        ),
        WrongAnswer(
            "one column too many",
            edit("(size + 2 * 1 - 3) // 2 + 1", "(size + 2 * 1 - 3) // 2 + 2"),
            "Your output has one row and one column more than the layer's.",
        ),
        WrongAnswer(
            "in millions",
            edit("return 2 *", "return 1e-6 * 2 *"),
            "The number of FLOPs itself is asked for.",
        ),
        WrongAnswer(
            "the stride halves one side only",
            edit("(side * side * out", "(size * side * out"),
            "The stride acts along both sides, so a quarter of the positions is left.",
        ),
    ),
)


def _norm_cases(generator: torch.Generator) -> Iterator[Case]:
    sizes = (
        ("images, 2 groups", (3, 6, 2, 3), 2, F64),
        ("images, 4 groups", (2, 12, 3, 2), 4, F32),
        ("one group", (2, 4, 2, 2), 1, F64),
        ("tokens", (2, 8, 3), 2, F64),
        ("clips", (2, 6, 2, 2, 3), 3, F64),
        ("channels alone", (3, 8), 2, F64),
    )
    for note, shape, num_groups, dtype in sizes:
        x = 0.2 * draw.normal(generator, *shape, dtype=dtype) + 0.5 * draw.normal(
            generator, 1, shape[1], *shape[2:], dtype=dtype
        )
        yield Case(
            (
                x,
                num_groups,
                *(draw.normal(generator, shape[1], dtype=dtype) for _ in range(2)),
                0.01,
            ),
            note=note,
        )


def group_norm(x: Tensor, num_groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Return torch's own group normalisation."""
    return F.group_norm(x, num_groups, weight, bias, eps)


NORM = Exercise(
    id="05.4",
    lesson=5,
    title="Group normalisation",
    statement="""Normalise `x` (B, C, ...) in groups of channels: group g holds the channels g C/G
to (g+1) C/G - 1, with G = `num_groups`. Within each sample and group subtract the mean over its
channels and positions and divide by $\\sqrt{\\text{variance} + \\text{eps}}$, where the
variance divides by the number of values. Then multiply each channel with its `weight` (C,) and
add its `bias` (C,).""",
    stub="""def group_norm(x, num_groups, weight, bias, eps):
    ...
""",
    solution="""def group_norm(x, num_groups, weight, bias, eps):
    y = x.reshape(len(x), num_groups, -1)  # (B, G, values of a group)
    mean = y.mean(2, keepdim=True)
    variance = (y - mean).square().mean(2, keepdim=True)
    y = ((y - mean) / (variance + eps).sqrt()).reshape(x.shape)
    shape = (1, -1, *[1] * (x.ndim - 2))
    return y * weight.reshape(shape) + bias.reshape(shape)
""",
    reference=group_norm,
    cases=_norm_cases,
    hints=(
        "One reshape puts all values of a group into one axis: (B, G, -1).",
        (
            "mean(2, keepdim=True) and var(2, keepdim=True, correction=0). The batch "
            "axis is never averaged over."
        ),
        (
            "Reshape back to x.shape, then weight.reshape(1, C, 1, 1) for images; the number of "
            "trailing ones is x.ndim - 2."
        ),
    ),
    derivation="lesson 05, 'A block that knows the time'; arXiv 1803.08494, section 3",
    points=2,
    tolerance=CLOSE,
    wrong_answers=(
        WrongAnswer(
            "statistics over the batch too",
            edit(".mean(2, ", ".mean((0, 2), ", times=2),
            "A picture then comes out differently in another batch. Each "
            "sample has its own statistics.",
        ),
        WrongAnswer(
            "each channel on its own",
            edit("num_groups, -1", "x.shape[1], -1"),
            "That is instance normalisation. The channels of a group "
            "share one mean and one variance.",
        ),
        WrongAnswer(
            "num_groups taken for the size of a group",
            edit("num_groups, -1", "x.shape[1] // num_groups, -1"),
            "`num_groups` is how many groups there are. Each has C / num_groups channels.",
        ),
        WrongAnswer(
            "each position on its own",
            edit("num_groups, -1", "num_groups, x.shape[1] // num_groups, -1"),
            "You average over the channels of a group only. The positions belong to the group too.",
        ),
        WrongAnswer(
            "every G-th channel forms a group",
            edit("num_groups, -1", "x.shape[1] // num_groups, num_groups, -1").then(
                ".mean(2, ", ".mean((1, 3), ", times=2
            ),
            "A group is a run of neighbouring channels. You reshape to "
            "(C/G, G) where (G, C/G) is meant.",
        ),
        WrongAnswer(
            "the variance divides by n - 1",
            edit("(y - mean).square().mean(2, keepdim=True)", "y.var(2, keepdim=True)"),
            "`var` divides by n - 1 unless you ask for correction=0.",
        ),
        WrongAnswer(
            "eps outside the root",
            edit("(variance + eps).sqrt()", "(variance.sqrt() + eps)"),
            "eps is added to the variance, under the root.",
        ),
        WrongAnswer(
            "divided by the variance",
            edit("(variance + eps).sqrt()", "(variance + eps)"),
            "Divide by the standard deviation: take the root.",
        ),
        WrongAnswer(
            "the mean stays",
            edit("((y - mean) /", "(y /"),
            "You divide without subtracting the mean first.",
        ),
        WrongAnswer(
            "weight and bias are forgotten",
            edit("y * weight.reshape(shape) + bias.reshape(shape)", "y"),
            "After the normalisation each channel has a factor and an offset of its own.",
        ),
    ),
)


def _average_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, count, shape, decay, dtype in (
        ("5 steps", 5, (3, 2), 0.3, F64),
        ("40 steps", 40, (4,), 0.9, F64),
        ("1 step", 1, (2, 2), 0.99, F64),
        ("a kernel in float32, 7 steps", 7, (2, 1, 3, 3), 0.5, F32),
        ("a single number, 6 steps", 6, (), 0.4, F64),
    ):
        start, snapshots = (
            draw.normal(generator, *size, dtype=dtype) for size in (shape, (count, *shape))
        )
        yield Case((start, snapshots, decay), note=note)


def average(start: Tensor, snapshots: Tensor, decay: float) -> Tensor:
    """Return the running average of the weights, as the package's EMA keeps it."""
    kept = start
    for n, weights in enumerate(snapshots, start=1):
        d = min(decay, (1 + n) / (10 + n))
        kept = d * kept + (1 - d) * weights
    return kept


AVERAGE = Exercise(
    id="05.5",
    lesson=5,
    title="The average of a training run",
    statement="""`start` (...) are the weights before training, `snapshots` (N, ...) the weights
after steps 1 to N. Keep the running average $\\bar w \\leftarrow d_n \\bar w + (1 - d_n) w_n$,
which begins at `start`, with $d_n = \\min\\big(\\text{decay}, \\tfrac{1 + n}{10 + n}\\big)$ at
step $n$. Return it after step N.""",
    stub="""def average(start, snapshots, decay):
    ...
""",
    reference=average,
    cases=_average_cases,
    hints=(
        "A loop over the snapshots with a counter n that begins at 1.",
        (
            "`enumerate(snapshots, start=1)` gives n and the weights. d is how "
            "much of the OLD average stays."
        ),
        "kept = d * kept + (1 - d) * weights, with d = min(decay, (1 + n) / (10 + n)).",
    ),
    derivation="lesson 05, 'Train, average, draw'",
    points=2,
    tolerance=CLOSE,
    wrong_answers=(
        WrongAnswer(
            "old and new are swapped",
            edit("d * kept + (1 - d) * weights", "(1 - d) * kept + d * weights"),
            "d belongs to the old average. With d near 1 it should move slowly; yours "
            "jumps to the newest weights.",
        ),
        WrongAnswer(
            "no warm-up",
            edit("min(decay, (1 + n) / (10 + n))", "decay"),
            "With a constant decay the random start stays in the average for "
            "about 1 / (1 - decay) steps.",
        ),
        WrongAnswer(
            "max instead of min",
            edit("min(decay", "max(decay"),
            "`decay` is the most that d may become, so the smaller of the two counts.",
        ),
        WrongAnswer(
            "the steps are counted from 0",
            edit("start=1", "start=0"),
            "The weights after the first step have n = 1.",
        ),
        WrongAnswer(
            "the average begins at zero",
            edit("kept = start", "kept = torch.zeros_like(start)"),
            "A zero network is none of the networks you average. Begin at `start`.",
        ),
        WrongAnswer(
            "the average begins at the first snapshot",
            edit("kept = start", "kept = snapshots[0]"),
            "It begins at the weights before the first step.",
        ),
        WrongAnswer(
            "the plain mean",
            lambda start, snapshots, decay: torch.cat([start[None], snapshots]).mean(0),
            "All networks of the run count alike in yours, the bad first ones too.",
        ),
        WrongAnswer(
            "the last weights",
            edit("return kept", "return snapshots[-1].clone()"),
            "That is the network at the end of training, without any average.",
        ),
    ),
)


def _attention_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, batch, length, channels, num_heads, dtype in (
        ("2 heads", 3, 5, 8, 2, F32),
        ("1 head", 2, 4, 4, 1, F64),
        ("4 heads of 4, 4 positions", 2, 4, 16, 4, F64),
        ("3 heads of 5", 2, 6, 15, 3, F64),
        ("large scores", 1, 5, 6, 2, F64),
    ):
        x = draw.normal(generator, batch, length, channels, dtype=dtype)
        qkv = draw.normal(generator, 3 * channels, channels, dtype=dtype) / channels**0.5
        out = draw.normal(generator, channels, channels, dtype=dtype) / channels**0.5
        size = 60.0 if note == "large scores" else 2.0  # there exp(score) leaves float64
        yield Case((x, size * qkv, out, num_heads), note=note)


def self_attention(x: Tensor, w_qkv: Tensor, w_out: Tensor, num_heads: int) -> Tensor:
    """Return x plus what every position reads from all positions, head by head: torch's own."""
    q, k, v = (
        z.unflatten(-1, (num_heads, -1)).transpose(1, 2) for z in F.linear(x, w_qkv).chunk(3, -1)
    )
    return x + F.linear(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2), w_out)


ATTENTION = Exercise(
    id="05.6",
    lesson=5,
    title="Self-attention with several heads",
    statement="""Write self-attention from an empty cell. `x` (B, L, C) are L positions with C
channels. `w_qkv` (3C, C) is a linear layer without bias whose outputs are the queries, then the
keys, then the values. Head number j of `num_heads` owns the channels jE to (j+1)E - 1 of each,
E = C / num_heads. In each head compute $\\operatorname{softmax}(q k^T / \\sqrt{E})\\, v$; put
the heads side by side again, apply the layer `w_out` (C, C), and add the result to `x`.""",
    stub="""def self_attention(x, w_qkv, w_out, num_heads):
    ...
""",
    solution="""def self_attention(x, w_qkv, w_out, num_heads):
    batch, length, channels = x.shape
    q, k, v = (x @ w_qkv.T).chunk(3, -1)  # (B, L, C) each
    split = (batch, length, num_heads, -1)
    q, k, v = (z.reshape(split).transpose(1, 2) for z in (q, k, v))  # (B, heads, L, E)
    scores = q @ k.mT / q.shape[-1] ** 0.5  # (B, heads, L, L)
    h = scores.softmax(-1) @ v  # (B, heads, L, E)
    return x + h.transpose(1, 2).reshape(batch, length, channels) @ w_out.T
""",
    reference=self_attention,
    cases=_attention_cases,
    hints=(
        (
            "Five steps: one linear layer, split into q, k, v and heads, scores, "
            "softmax and sum, merge and add."
        ),
        (
            "Split with reshape(B, L, heads, E), then transpose(1, 2). A reshape straight to (B, "
            "heads, L, E) mixes positions."
        ),
        (
            "scores = q @ k.mT / E ** 0.5; softmax over the last axis: one query's weights add "
            "up to 1. Merge: transpose first."
        ),
    ),
    derivation="lesson 05, 'Attention'; arXiv 1706.03762, eq. 1",
    points=4,
    tolerance=CLOSE,
    wrong_answers=(
        WrongAnswer(
            "no division by the root",
            edit(" / q.shape[-1] ** 0.5", ""),
            "The scores' standard deviation is sqrt(E) for random queries and keys. Undivided, "
            "the softmax picks one position.",
        ),
        WrongAnswer(
            "divided by E instead of its root",
            edit("q.shape[-1] ** 0.5", "q.shape[-1]"),
            "The scores grow with the root of E. Divided by E they shrink, and all "
            "positions count nearly alike.",
        ),
        WrongAnswer(
            "divided by the root of C",
            edit("q.shape[-1] ** 0.5", "channels**0.5"),
            "Each head's scores are sums over its own E channels, not over all C.",
        ),
        WrongAnswer(
            "divided after the softmax",
            edit(" / q.shape[-1] ** 0.5", "").then(
                "scores.softmax(-1)", "scores.softmax(-1) / q.shape[-1] ** 0.5"
            ),
            "After the softmax the weights add up to 1, and divided then they no "
            "longer do. Divide the scores.",
        ),
        WrongAnswer(
            "softmax over the queries",
            edit("softmax(-1)", "softmax(-2)"),
            "The weights of one query must add up to 1. Yours add up to 1 for each key.",
        ),
        WrongAnswer(
            "queries and keys are swapped",
            edit("q, k, v = (x @", "k, q, v = (x @"),
            "Position i then reads with its key. The first C outputs of the layer are the queries.",
        ),
        WrongAnswer(
            "one head only",
            edit("length, num_heads, -1", "length, 1, -1"),
            "You compute one attention over all C channels. Each head "
            "has scores and weights of its own.",
        ),
        WrongAnswer(
            "heads cut by a reshape alone",
            edit("length, num_heads, -1", "num_heads, length, -1").then(
                "z.reshape(split).transpose(1, 2)", "z.reshape(split)"
            ),
            "A reshape from (B, L, C) to (B, heads, L, E) mixes positions: axis L has to stay in "
            "its place until you transpose.",
        ),
        WrongAnswer(
            "heads joined by a reshape alone",
            edit("h.transpose(1, 2).reshape", "h.reshape"),
            "Before the last reshape the axes are (B, heads, L, E). Transpose "
            "heads and positions back first.",
        ),
        WrongAnswer(
            "x is not added",
            edit("return x + h", "return h"),
            "The block adds what it read to x. Without that the positions forget themselves.",
        ),
        WrongAnswer(
            "w_out is forgotten",
            edit(" @ w_out.T", ""),
            "The heads are put side by side, then mixed by the layer `w_out`.",
        ),
    ),
)


def _validation_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, shapes, training, dtype in (
        ("a network in training mode, 2 batches", ((6, 2), (2, 2)), True, F64),
        ("a network in evaluation mode", ((3, 1, 2, 3), (2, 1, 2, 3), (1, 1, 2, 3)), False, F32),
        ("one batch", ((4, 5),), True, F64),
    ):
        batches = []
        for size, *rest in shapes:
            xt, noise = (draw.normal(generator, size, *rest, dtype=dtype) for _ in range(2))
            batches.append(
                {"xt": xt, "t": torch.randint(30, (size,), generator=generator), "noise": noise}
            )
        weight = 0.3 + float(torch.rand((), generator=generator))
        yield Case((DroppingNetwork(weight, training, dtype), batches), note=note)


def validation_loss(model: DroppingNetwork, batches: list[dict[str, Tensor]]) -> Tensor:
    """Return the mean squared error () over all numbers, in evaluation mode and without a graph."""
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for batch in batches:
            error = model(batch["xt"], batch["t"]) - batch["noise"]
            total, count = total + (error**2).sum(), count + error.numel()
    model.train(was_training)
    return total / count


VALIDATION = Exercise(
    id="05.7",
    lesson=5,
    title="The loss on held-out batches",
    statement="""Measure a network in the middle of its training. Each of `batches` is a dictionary
with `xt` (B, ...), `t` (B,) and `noise` (B, ...); B differs from batch to batch. Return the
mean of $(\\text{model}(x_t, t) - \\epsilon)^2$ over all numbers of all batches, a tensor of
shape (). The network has dropout: measure in evaluation mode and without gradients, and leave
its mode and the batches as you found them.""",
    stub="""def validation_loss(model, batches):
    ...
""",
    solution="""def validation_loss(model, batches):
    was_training = model.training
    model.eval()
    errors = []
    with torch.no_grad():
        for batch in batches:
            error = model(batch["xt"], batch["t"]) - batch["noise"]
            errors.append(error.flatten())
    model.train(was_training)
    return torch.cat(errors).square().mean()
""",
    reference=validation_loss,
    cases=_validation_cases,
    call=with_mode,
    may_change=("model",),  # with_mode looks at it
    hints=(
        (
            "Four things around the loop: remember model.training, switch to evaluation, "
            "no gradients, switch back."
        ),
        (
            "model.eval() switches dropout off. `with torch.no_grad():` keeps no graph. "
            "model.train(was_training) restores the mode."
        ),
        (
            "Add up the squared errors and count their numbers, batch by "
            "batch; divide once, at the end."
        ),
    ),
    derivation="lesson 05, 'Train on real digits'",
    points=2,
    tolerance=CLOSE,
    properties=(
        Property(
            "mode",
            lambda case, outcome, expected: (
                isinstance(outcome.output, tuple) and outcome.output[1] == 0.0
            ),
            "after your function the network is in another mode than before. Remember "
            "`model.training` and restore it.",
        ),
        Property(
            "no graph",
            lambda case, outcome, expected: (
                isinstance(outcome.output, tuple) and outcome.output[2] == 0.0
            ),
            "the loss that your function returns still holds the graph it was computed with. "
            "Measure without gradients.",
        ),
        Property(
            "weights",
            lambda case, outcome, expected: (
                isinstance(outcome.output, tuple) and outcome.output[3] == 0.0
            ),
            "your function changes the weights of the network. To measure is not to train.",
        ),
    ),
    wrong_answers=(
        WrongAnswer(
            "training mode is left on",
            edit("model.eval()", "pass"),
            "Dropout stays active, so you measure a network with half of its numbers missing. "
            "Switch to evaluation mode first.",
        ),
        WrongAnswer(
            "the old mode is not restored",
            edit("model.train(was_training)", "pass"),
            "Training goes on after the measurement, now without dropout, and nothing says so.",
        ),
        WrongAnswer(
            "training mode is switched on at the end",
            edit("model.train(was_training)", "model.train()"),
            "A network that was in evaluation mode comes back in training mode. "
            "Restore the mode that you found.",
        ),
        WrongAnswer(
            "the caller's dictionaries are changed",
            edit('batch["noise"]', 'batch.pop("noise")'),
            "`pop` takes the entry out of the dictionary that the caller still holds: the next "
            "measurement finds no noise.",
        ),
        WrongAnswer(
            "a graph is kept",
            edit("torch.no_grad()", "torch.enable_grad()"),
            "Without `torch.no_grad()` the activations of all batches stay in memory for a "
            "backward pass that never comes.",
        ),
        WrongAnswer(
            "the mean of the batches' means",
            edit("error.flatten()", "error.square().mean()").then(
                "torch.cat(errors).square().mean()", "torch.stack(errors).mean()"
            ),
            "A small last batch then counts as much as a full one. Divide the sum over all "
            "numbers by how many there are.",
        ),
        WrongAnswer(
            "divided by the number of batches",
            edit(".square().mean()", ".square().sum() / len(batches)"),
            "A batch holds many numbers. Your result grows with its size.",
        ),
        WrongAnswer(
            "only the last batch",
            edit("torch.cat(errors)", "errors[-1]"),
            "Your loop overwrites the loss instead of adding it up.",
        ),
    ),
)


EXERCISES = (EMBEDDING, MODULATION, CONVOLUTION, NORM, AVERAGE, ATTENTION, VALIDATION)
