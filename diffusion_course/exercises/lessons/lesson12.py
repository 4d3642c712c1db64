"""Exercises of lesson 12, a real Stable Diffusion: memory, half precision, predictions."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ...process import from_x0_and_noise
from .. import draw
from ..calls import count_scores
from ..definition import Case, Exercise, Tolerance, WrongAnswer
from ..edits import edit

ROUNDED = Tolerance(rtol=1e-4, atol=1e-5)


def scores_in_gb(pixels: int) -> float:
    """Return the GB (10^9 bytes) of one layer's attention scores at full size."""
    positions = (pixels // 8) ** 2  # of one picture's latents
    scores = 2 * 8 * positions * positions  # guidance, heads, queries, keys
    return scores * 2 / 1e9  # two bytes each


SCORES = Exercise(
    id="12.1",
    lesson=12,
    title="What attention would keep",
    statement="""The first layers of Stable Diffusion 1.5's U-Net attend from every position of the
latents to every position, with 8 heads. A picture has <<pixels>> x <<pixels>> pixels, the
autoencoder's factor is 8. With guidance, in float16: how many GB ($10^9$ bytes) are the scores
of **one** such layer, all of them at once? Give it to 1 %.""",
    stub="""scores = ...  # GB, for <<pixels>> x <<pixels>> pixels
""",
    reference=scores_in_gb,
    cases=None,
    parameters={"pixels": (512, 768, 1024, 320, 384, 448, 576, 640, 704, 832, 896, 960)},
    tolerance=Tolerance(rtol=0.01, atol=0.0),
    hints=(
        (
            "A score belongs to a pair: one query and one key. How many positions have the "
            "latents, and how many pairs is that?"
        ),
        "Each head has its own scores, and guidance runs two predictions in one batch.",
        (
            "2 * 8 * positions * positions numbers of two bytes each, with "
            "positions = (pixels / 8) ** 2."
        ),
    ),
    derivation="lesson 12, 'Which switch first?', (12.2)",
    wrong_answers=(
        WrongAnswer(
            "a factor of 2 is missing",
            edit("2 * 8 * positions", "8 * positions"),
            "With guidance the U-Net sees a batch of two, without and with the prompt; and a number"
            " in float16 has two bytes. One of the two factors is not in your number.",
        ),
        WrongAnswer(
            "one head",
            edit("2 * 8 * positions", "2 * positions"),
            "Every head compares all positions, and keeps its own scores.",
        ),
        WrongAnswer(
            "positions instead of pairs",
            edit("positions * positions", "positions"),
            "There is a score for each pair of positions, not for each position.",
        ),
        WrongAnswer(
            "pixels instead of latents",
            edit("pixels // 8", "pixels"),
            "The U-Net works on latents, one for 8 x 8 pixels.",
        ),
        WrongAnswer(
            "a factor of 2 too many",
            edit("scores * 2", "scores * 4"),
            "Your number is twice as large: a float16 number has two bytes, not four, and the"
            " scores are asked for, once.",
        ),
        WrongAnswer(
            "bits instead of bytes", edit("scores * 2", "scores * 16"), "16 bits are two bytes."
        ),
        WrongAnswer(
            "GiB instead of GB",
            edit("1e9", "2**30"),
            "This is the number of GiB, which have 2^30 bytes. A GB has 10^9.",
        ),
        WrongAnswer("in MB", edit("1e9", "1e6"), "A GB is 10^9 bytes, a thousand MB."),
        WrongAnswer("in bytes", edit(" / 1e9", ""), "This is in bytes. The question asks for GB."),
        WrongAnswer(
            "cross-attention",
            edit("positions * positions", "positions * 77"),
            "Those are the scores against 77 tokens of text. Here every position attends to every"
            " position.",
        ),
        WrongAnswer(
            "the area is divided by 8 once",
            edit("(pixels // 8) ** 2", "pixels**2 // 8"),
            "The autoencoder divides each side by 8, so the area by 64.",
        ),
        WrongAnswer(
            "three colours",
            edit("2 * 8 * positions", "3 * 2 * 8 * positions"),
            "The latents' channels are what is compared; they do not multiply the number of"
            " scores.",
        ),
        WrongAnswer(
            "the factor of another autoencoder",
            edit("pixels // 8", "pixels // 4"),
            "This autoencoder makes one latent of 8 x 8 pixels, not of 4 x 4.",
        ),
    ),
)


def _peak_cases(generator: torch.Generator) -> Iterator[Case]:
    real = [[0.246, 1.719, 0.167], [0.002, 0.137, 0.403], [0.076, 0.052, 0.005]]
    yield Case(
        tuple(torch.tensor(row, dtype=torch.float64) for row in real),
        note="Stable Diffusion 1.5 in float16",
    )
    for size, dtype in ((4, torch.float64), (6, torch.float32), (1, torch.float64)):
        weights = 1 + torch.rand(size, generator=generator, dtype=torch.float64).sort().values
        activations = (
            0.5
            + torch.rand(size, generator=generator, dtype=torch.float64)
            .sort(descending=True)
            .values
        )
        layers = weights * (0.1 + 0.4 * torch.rand(size, generator=generator, dtype=torch.float64))
        yield Case(
            (weights.to(dtype), activations.to(dtype), layers.to(dtype)),
            note=f"{size} part{'s' * (size > 1)}",
        )
    # The largest of each belong to other parts, in no order.
    mixed = torch.tensor([[2.0, 7.0, 4.0, 1.0, 6.0], [3.0, 1.5, 2.0, 4.0, 0.5]]).double()
    order = torch.randperm(5, generator=generator)
    layers = torch.tensor([1.0, 0.5, 2.5, 0.2, 1.5]).double()
    yield Case((mixed[0, order], mixed[1, order], layers[order]), note="5 parts in no order")


def peaks(weights: Tensor, activations: Tensor, largest_layers: Tensor) -> Tensor:
    """Return the peaks (3,): all weights there, whole parts moved, layers moved."""
    return torch.stack(
        [
            weights.sum() + activations.max(),
            (weights + activations).max(),
            (largest_layers + activations).max(),
        ]
    )


PEAKS = Exercise(
    id="12.2",
    lesson=12,
    title="Three peaks",
    statement="""A pipeline runs its parts one after the other. Part $i$ has weights of `weights[i]`
GB, needs at most `activations[i]` GB on top while it runs, and its largest layer has weights of
`largest_layers[i]` GB; all three are (P,). Return (3,), the peak on the device: with all
weights on it; with whole parts moved there when they run, and away after; with each layer moved
there when it runs. For the last give the bound in which the largest layer meets the highest
activations of its part.""",
    stub="""def peaks(weights, activations, largest_layers):
    ...
""",
    reference=peaks,
    cases=_peak_cases,
    hints=(
        "Activations of different parts are never there together. Which of them counts?",
        (
            "With parts moved, part i costs weights[i] + activations[i] while it runs. The peak "
            "is the largest of these sums."
        ),
        "torch.stack([weights.sum() + activations.max(), (weights + activations).max(), ...]).",
    ),
    derivation="lesson 12, 'Which switch first?', (12.1)",
    tolerance=ROUNDED,
    wrong_answers=(
        WrongAnswer(
            "activations are added up",
            edit("weights.sum() + activations.max()", "weights.sum() + activations.sum()"),
            "What one part needed is gone when the next one runs: only the largest counts.",
        ),
        WrongAnswer(
            "the largest of each, from different parts",
            edit("(weights + activations).max()", "weights.max() + activations.max()").then(
                "(largest_layers + activations).max()", "largest_layers.max() + activations.max()"
            ),
            "The part with the most weights need not be the one with the most activations. They "
            "are not on the device together.",
        ),
        WrongAnswer(
            "weights only",
            edit(" + activations.max()", "")
            .then("(weights + activations)", "weights")
            .then("(largest_layers + activations)", "largest_layers"),
            "You count weights only. While a part runs its activations are there too.",
        ),
        WrongAnswer(
            "the parts stay where they are",
            edit("(weights + activations).max()", "weights.sum() + activations.max()"),
            "In the second way the other parts' weights are not on the device.",
        ),
        WrongAnswer(
            "all parts at once",
            edit("(weights + activations).max()", "(weights + activations).sum()"),
            "You add up all parts. They run one after the other: the "
            "peak is the largest, not the sum.",
        ),
        WrongAnswer(
            "the layer at work is forgotten",
            edit("(largest_layers + activations)", "activations"),
            "While a layer runs, its own weights are on the device.",
        ),
        WrongAnswer(
            "all layers of a part",
            edit("(largest_layers + activations)", "(weights + activations)"),
            "In the third way only one layer's weights are there, not the whole part's.",
        ),
    ),
)


def _rms_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, shape, dtype, scale in (
        ("float16, large numbers", (3, 4, 5, 5), torch.float16, 400.0),
        ("float16, small numbers", (4, 64), torch.float16, 2e-4),
        ("float16", (2, 3, 6), torch.float16, 1.0),
        ("one sample in float16", (1, 40), torch.float16, 3.0),
        ("float32", (5, 2, 2, 2), torch.float32, 10.0),
    ):
        x = draw.normal(generator, *shape) + 0.7
        width = torch.linspace(0.5, 1.5, shape[0], dtype=torch.float64).reshape(
            -1, *(1,) * (len(shape) - 1)
        )
        yield Case(((scale * width * x).to(dtype),), note=note)


def rms(x: Tensor) -> Tensor:
    """Return the root of the mean square of each sample (B,) in float32."""
    return x.float().flatten(1).square().mean(1).sqrt()


HALF = Exercise(
    id="12.3",
    lesson=12,
    title="Half in, float32 inside",
    statement="""`x` (B, ...) is the output of a layer, possibly in float16, whose largest number is
65,504 and whose smallest positive one is about 0.00000006. Return the root of the mean square
of each sample's numbers, (B,), in float32, right also where squares leave float16's range.""",
    stub="""def rms(x):
    ...
""",
    reference=rms,
    cases=_rms_cases,
    hints=(
        (
            "400 squared is 160,000. What does float16 make of it, and where "
            "does the number have to be wider?"
        ),
        "Convert before you square, not after: x.float().",
        "x.float().flatten(1).square().mean(1).sqrt()",
    ),
    derivation="lesson 12, 'Which switch first?'",
    tolerance=Tolerance(rtol=1e-4, atol=1e-8),
    wrong_answers=(
        WrongAnswer(
            "squared in half precision",
            edit("x.float().flatten(1).square()", "x.flatten(1).square().float()"),
            "You square in the layer's own dtype. Numbers above 256 become infinite there, "
            "numbers below 0.00017 become 0.",
        ),
        WrongAnswer(
            "the result is half again",
            edit(".sqrt()", ".sqrt().to(x.dtype)"),
            "The numbers were right, and then you round them to the input's dtype. Return float32.",
        ),
        WrongAnswer(
            "one number for the batch",
            edit(".flatten(1).square().mean(1).sqrt()", ".square().mean().sqrt().expand(len(x))"),
            "You mix the samples. Each has a root mean square of its own.",
        ),
        WrongAnswer(
            "no root", edit(".sqrt()", ""), "This is the mean square. Take the root at the end."
        ),
        WrongAnswer(
            "the mean of absolute values",
            edit(".square().mean(1).sqrt()", ".abs().mean(1)"),
            "You average absolute values. The mean square weighs large numbers more.",
        ),
        WrongAnswer(
            "the mean is taken away",
            edit(".square().mean(1).sqrt()", ".std(1, correction=0)"),
            "This is the standard deviation. The root mean square keeps the mean.",
        ),
        WrongAnswer(
            "the sum instead of the mean",
            edit(".mean(1)", ".sum(1)"),
            "You add up squares. Divide by how many there are.",
        ),
        WrongAnswer(
            "the mean's size",
            edit(".square().mean(1).sqrt()", ".mean(1).abs()"),
            "This is the size of the mean. The mean of squares is another number: signs do not"
            " cancel in it.",
        ),
        WrongAnswer(
            "a small number is added",
            edit(".mean(1).sqrt()", ".mean(1).add(1e-5).sqrt()"),
            "A layer adds such a number so as not to divide by 0. Here it hides small inputs.",
        ),
        WrongAnswer(
            "divided by n - 1",
            edit(".square().mean(1)", ".square().sum(1).div(x[0].numel() - 1)"),
            "That is for a variance about a mean that was fitted. A mean of squares divides by n.",
        ),
        WrongAnswer(
            "divided by the size of the batch",
            edit(".mean(1)", ".sum(1).div(len(x))"),
            "Each sample's sum is divided by how many numbers the sample has.",
        ),
    ),
)


def _slice_cases(generator: torch.Generator) -> Iterator[Case]:
    for heads, queries, keys, width, size, dtype in (
        (12, 128, 128, 4, 1, torch.float32),  # here the scores are larger than all else together
        (7, 40, 24, 6, 3, torch.float64),
        (6, 32, 9, 8, 1, torch.float64),
        (4, 36, 36, 3, 4, torch.float32),
        (1, 16, 5, 2, 1, torch.float64),
        (5, 8, 6, 4, 2, torch.float64),  # large scores
    ):
        shapes = ((heads, queries, width), (heads, keys, width), (heads, keys, width))
        size_of = 50.0 if heads == 5 else 1.5
        tensors = [size_of * draw.normal(generator, *shape, dtype=dtype) for shape in shapes]
        yield Case((*tensors, size), note=f"{heads} heads, {size} at a time")


def sliced_attention(query: Tensor, key: Tensor, value: Tensor, slice_size: int) -> Tensor:
    """Return softmax(Q K^T / sqrt(d)) V by torch's fused kernel, which keeps no scores."""
    return torch.nn.functional.scaled_dot_product_attention(query, key, value)


def _slice_the_keys(query: Tensor, key: Tensor, value: Tensor, slice_size: int) -> Tensor:
    total, pieces = 0.0, range(0, key.shape[1], slice_size)
    for start in pieces:
        part = slice(start, start + slice_size)
        scores = query @ key[:, part].transpose(1, 2) / query.shape[-1] ** 0.5
        total = total + scores.softmax(-1) @ value[:, part]
    return total / len(pieces)


SLICES = Exercise(
    id="12.4",
    lesson=12,
    title="One slice at a time",
    statement="""Compute $\\mathrm{softmax}(QK^\\top / \\sqrt d)\\,V$ for every head, but keep the
scores of at most `slice_size` heads at a time. `query` is (heads, N, d), `key` and `value` are
(heads, L, d); return (heads, N, d). `slice_size` need not divide the number of heads. Each row
of scores is normalised over all L keys. The check counts the bytes alive while your function
runs and adds 1 as a second part of the output if they are too many, else 0.""",
    stub="""def sliced_attention(query, key, value, slice_size):
    out = torch.empty_like(query)
    for start in range(0, len(query), slice_size):
        out[start : start + slice_size] = ...
    return out
""",
    reference=sliced_attention,
    call=count_scores,
    cases=_slice_cases,
    solution="""def sliced_attention(query, key, value, slice_size):
    out = torch.empty_like(query)
    for start in range(0, len(query), slice_size):
        part = slice(start, start + slice_size)  # slicing past the end is fine
        scores = query[part] @ key[part].transpose(1, 2) / query.shape[-1] ** 0.5
        out[part] = scores.softmax(-1) @ value[part]
    return out
""",
    hints=(
        (
            "Heads do not see each other: the formula for heads start to start + slice_size is "
            "the whole formula on three slices."
        ),
        (
            "query[part] @ key[part].transpose(1, 2) are the scores (slice, N, L). Divide by the "
            "root of d, then softmax(-1)."
        ),
        (
            "out[part] = (query[part] @ key[part].transpose(1, 2) / query.shape[-1] ** "
            "0.5).softmax(-1) @ value[part]"
        ),
    ),
    derivation="lesson 12, 'Which switch first?'; lesson 10 for the formula",
    points=2,
    tolerance=ROUNDED,
    wrong_answers=(
        WrongAnswer(
            "all heads at once",
            edit("    out =", "    slice_size = len(query)\n    out ="),
            "The result is right, but the scores of all heads are there together. That "
            "is what the slices are for.",
        ),
        WrongAnswer(
            "the keys are sliced",
            _slice_the_keys,
            "You slice the keys and normalise each slice by itself. A row's shares have "
            "to add up to 1 over all keys.",
        ),
        WrongAnswer(
            "the scores are not scaled",
            edit(" / query.shape[-1] ** 0.5", ""),
            "Divide the scores by the root of d.",
        ),
        WrongAnswer(
            "divided by d instead of its root",
            edit("query.shape[-1] ** 0.5", "query.shape[-1]"),
            "You divide by d. The scores' deviation grows with the root of d, so divide by that.",
        ),
        WrongAnswer(
            "normalised over the queries",
            edit("softmax(-1)", "softmax(1)"),
            "Each query shares itself out over the keys: the softmax runs along "
            "the last axis of the scores.",
        ),
        WrongAnswer(
            "the rest is left out",
            edit("torch.empty_like", "torch.zeros_like").then(
                "range(0, len(query), slice_size)",
                "range(0, len(query) // slice_size * slice_size, slice_size)",
            ),
            "If slice_size does not divide the number of heads, the last slice is "
            "shorter. You leave it at zero.",
        ),
    ),
)


def _tile_cases(generator: torch.Generator) -> Iterator[Case]:
    for shape, other, overlap, dtype in (
        ((2, 3, 6, 6), 6, 2, torch.float32),
        ((1, 1, 4, 8), 5, 3, torch.float64),
        ((3, 2, 5, 5), 4, 4, torch.float64),
        ((2, 3, 3, 3), 3, 1, torch.float32),
        ((1, 3, 5, 6), 7, 4, torch.float16),
    ):
        left, right = (
            draw.normal(generator, *shape[:3], width, dtype=dtype) for width in (shape[3], other)
        )
        yield Case((left, right, overlap), note=f"{shape[3]} and {other} columns, {overlap} shared")


def join_tiles(left: Tensor, right: Tensor, overlap: int) -> Tensor:
    """Return both tiles side by side, mixed where they show the same columns."""
    share = torch.arange(overlap, dtype=left.dtype) / overlap
    blended = (1 - share) * left[..., -overlap:] + share * right[..., :overlap]
    return torch.cat([left[..., :-overlap], blended, right[..., overlap:]], dim=-1)


TILES = Exercise(
    id="12.5",
    lesson=12,
    title="No seam",
    statement="""Two tiles of a decoded picture, `left` (B, C, H, W) and `right` (B, C, H, V), show
the same columns: the last `overlap` of the left one and the first `overlap` of the right one.
They differ a little there. Return the picture (B, C, H, W + V - overlap) in which the shared
column $i = 0, 1, ...$ is a mix: the share $i\\,/\\,$`overlap` of the right tile, the rest of
the left one.""",
    stub="""def join_tiles(left, right, overlap):
    share = torch.arange(overlap, dtype=left.dtype) / overlap
    ...
""",
    reference=join_tiles,
    cases=_tile_cases,
    hints=(
        (
            "Three pieces side by side: the left tile's own columns, the mix, "
            "the right tile's own columns."
        ),
        (
            "left[..., -overlap:] and right[..., :overlap] are the shared columns; share runs "
            "along the last axis, so it broadcasts."
        ),
        (
            "torch.cat([left[..., :-overlap], (1 - share) * left[..., -overlap:] + share * "
            "right[..., :overlap], ...], dim=-1)"
        ),
    ),
    derivation="lesson 12, 'Which switch first?'; diffusers' AutoencoderKL.blend_h",
    tolerance=ROUNDED,
    wrong_answers=(
        WrongAnswer(
            "faded the wrong way round",
            edit("share = torch", "share = 1 - torch"),
            "Your mix starts with the right tile and ends with the left "
            "one: two seams instead of none.",
        ),
        WrongAnswer(
            "half and half",
            edit("torch.arange(overlap, dtype=left.dtype) / overlap", "0.5"),
            "A constant mix has two seams. Let the share grow.",
        ),
        WrongAnswer(
            "the left tile only",
            edit("torch.arange(overlap, dtype=left.dtype) / overlap", "0"),
            "You cut at the end of the left tile. The cut shows.",
        ),
        WrongAnswer(
            "the right tile only",
            edit("torch.arange(overlap, dtype=left.dtype) / overlap", "1"),
            "You cut where the right tile starts. The cut shows.",
        ),
        WrongAnswer(
            "the shared columns come twice",
            edit("[left[..., :-overlap], blended, right[..., overlap:]]", "[left, right]"),
            "You put the tiles beside each other without taking the shared "
            "columns out of one of them.",
        ),
        WrongAnswer(
            "the outer columns are mixed",
            edit("left[..., -overlap:]", "left[..., :overlap]").then(
                "right[..., :overlap]", "right[..., -overlap:]"
            ),
            "You mix the first columns of the left tile with the last ones of the right. "
            "The inner ones are shared.",
        ),
        WrongAnswer(
            "the mix is added, not shared",
            edit("(1 - share) * left", "left").then("share * right", "right"),
            "The two shares have to add up to 1, else the middle becomes too bright.",
        ),
        WrongAnswer(
            "the share reaches 1",
            edit(
                "torch.arange(overlap, dtype=left.dtype) / overlap",
                "torch.linspace(0, 1, overlap, dtype=left.dtype)",
            ),
            "Your last shared column is all from the right tile. The share at column i is i /"
            " overlap, so it stays below 1.",
        ),
        WrongAnswer(
            "the share begins one column later",
            edit(
                "torch.arange(overlap, dtype=left.dtype) / overlap",
                "(torch.arange(overlap, dtype=left.dtype) + 1) / overlap",
            ),
            "You count the columns from 1. The share at the first is 0.",
        ),
        WrongAnswer(
            "the share has one gap more",
            edit(
                "torch.arange(overlap, dtype=left.dtype) / overlap",
                "(torch.arange(overlap, dtype=left.dtype) + 1) / (overlap + 1)",
            ),
            "You divide the way into overlap + 1 pieces. The share at column i is i / overlap.",
        ),
        WrongAnswer(
            "the share at the columns' middles",
            edit(
                "torch.arange(overlap, dtype=left.dtype) / overlap",
                "(torch.arange(overlap, dtype=left.dtype) + 0.5) / overlap",
            ),
            "You take the share at the middle of each column. At column i it is i / overlap.",
        ),
        WrongAnswer(
            "the roots of the shares",
            edit("(1 - share) * left", "(1 - share).sqrt() * left").then(
                "share * right", "share.sqrt() * right"
            ),
            "Roots of shares are for independent signals. Here both tiles show the same, and the"
            " shares add up to 1.",
        ),
        WrongAnswer(
            "a cosine in the place of a line",
            edit(
                "torch.arange(overlap, dtype=left.dtype) / overlap",
                "0.5 - 0.5 * torch.cos(torch.pi * torch.arange(overlap, dtype=left.dtype) /"
                " overlap)",
            ),
            "Your share follows a cosine. It is to grow in equal steps.",
        ),
        WrongAnswer(
            "the left tile's first columns in the mix",
            edit("left[..., -overlap:]", "left[..., :overlap]"),
            "The columns that both show are the last ones of the left tile.",
        ),
        WrongAnswer(
            "the right tile's last columns in the mix",
            edit("right[..., :overlap]", "right[..., -overlap:]"),
            "The columns that both show are the first ones of the right tile.",
        ),
        WrongAnswer(
            "the left columns mirrored",
            edit("left[..., -overlap:]", "left[..., -overlap:].flip(-1)"),
            "The shared columns of the left tile come in their own order.",
        ),
    ),
)


def _type_cases(generator: torch.Generator) -> Iterator[Case]:
    for kind, shape, dtype in (
        ("epsilon", (4, 4, 8, 8), torch.float32),
        ("v_prediction", (5, 4, 6, 6), torch.float64),
        ("sample", (3, 2, 5, 5), torch.float64),
        ("v_prediction", (1, 3, 4, 4), torch.float32),
        ("epsilon", (6, 2), torch.float64),
        ("v_prediction", (3, 4, 2), torch.float64),
        ("epsilon", (5,), torch.float64),
    ):
        x0, noise, error = (draw.normal(generator, *shape) for _ in range(3))
        alpha_bar = 0.05 + 0.6 * torch.rand(shape[0], generator=generator, dtype=torch.float64)
        output = from_x0_and_noise(x0, noise, alpha_bar, kind) + 0.2 * error
        tensors = (x.to(dtype) for x in (output, x0, noise, alpha_bar))
        yield Case(tuple(tensors), note=f"a network that predicts {kind}, shape {shape}")


def type_errors(output: Tensor, x0: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """Return the mean squared errors (2,) of outputs (B, ...) read as noise and read as v."""
    targets = (
        from_x0_and_noise(x0, noise, alpha_bar, kind) for kind in ("epsilon", "v_prediction")
    )
    return torch.stack([(output - target).square().mean() for target in targets])


TYPE = Exercise(
    id="12.6",
    lesson=12,
    title="What does this network predict?",
    statement="""A folder of weights has lost its scheduler's configuration. You noise some data
yourself, with `alpha_bar` (B,), ask the network, and get `output`, shaped like `x0` and `noise`
(B, ...). Return (2,): the mean squared error of the output read as noise, and read as
$v = \\sqrt{\\bar\\alpha}\\,\\epsilon - \\sqrt{1-\\bar\\alpha}\\,x_0$. The smaller one names
what the network predicts.""",
    stub="""def type_errors(output, x0, noise, alpha_bar):
    ...
""",
    reference=type_errors,
    cases=_type_cases,
    solution="""def type_errors(output, x0, noise, alpha_bar):
    a = alpha_bar.reshape(-1, *[1] * (x0.ndim - 1))  # (B, 1, ..., 1)
    v = a.sqrt() * noise - (1 - a).sqrt() * x0
    return torch.stack([(output - noise).square().mean(), (output - v).square().mean()])
""",
    hints=(
        (
            "Both targets can be computed: you know x0 and the noise, because "
            "you noised the data yourself."
        ),
        "alpha_bar needs the axes of x0: alpha_bar.reshape(-1, 1, 1, 1) for images.",
        "torch.stack([(output - noise).square().mean(), (output - v).square().mean()])",
    ),
    derivation="lesson 12, 'A file from somewhere'; lesson 03 for the four readings of one network",
    points=2,
    tolerance=ROUNDED,
    wrong_answers=(
        WrongAnswer(
            "v with the wrong sign",
            edit(
                "a.sqrt() * noise - (1 - a).sqrt() * x0", "(1 - a).sqrt() * x0 - a.sqrt() * noise"
            ),
            "Your v is the right one times -1.",
        ),
        WrongAnswer(
            "the coefficients of v are swapped",
            edit(
                "a.sqrt() * noise - (1 - a).sqrt() * x0", "(1 - a).sqrt() * noise - a.sqrt() * x0"
            ),
            "In v the noise comes with sqrt(abar) and x0 with sqrt(1 - abar): "
            "the other way round than in x_t.",
        ),
        WrongAnswer(
            "x_t instead of v",
            edit(
                "a.sqrt() * noise - (1 - a).sqrt() * x0", "a.sqrt() * x0 + (1 - a).sqrt() * noise"
            ),
            "You compare with the noisy picture x_t, the network's input.",
        ),
        WrongAnswer(
            "no roots in v",
            edit("a.sqrt() * noise - (1 - a).sqrt() * x0", "a * noise - (1 - a) * x0"),
            "The coefficients are the roots of abar and of 1 - abar.",
        ),
        WrongAnswer(
            "x0 instead of the noise",
            edit("(output - noise)", "(output - x0)"),
            "The first error compares with the noise.",
        ),
        WrongAnswer(
            "the order is the other way round",
            edit("(output - noise)", "(output - v)").then(
                "(output - v).square().mean()]", "(output - noise).square().mean()]"
            ),
            "First the error as noise, then the error as v.",
        ),
        WrongAnswer(
            "sums instead of means",
            edit(".mean()", ".sum()", times=2),
            "You add up squares. Average them.",
        ),
        WrongAnswer(
            "roots of means", edit(".mean()", ".mean().sqrt()", times=2), "Leave the root out."
        ),
    ),
)


EXERCISES = (SCORES, PEAKS, HALF, SLICES, TILES, TYPE)
