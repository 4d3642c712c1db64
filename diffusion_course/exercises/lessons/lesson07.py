"""Exercises of lesson 07, measuring samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ...measures import frechet_distance
from .. import draw
from ..definition import Case, Exercise, Tolerance, WrongAnswer
from ..edits import edit
from ..given import Field

SPECTRA = Tolerance(rtol=1e-4, atol=1e-5)


def _diagonal_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, num_dims, dtype in (
        ("one coordinate", 1, torch.float64),
        ("three coordinates", 3, torch.float32),
        ("64 coordinates", 64, torch.float64),
    ):
        means = draw.normal(generator, 2, num_dims, dtype=dtype)
        variances = 0.2 + 4 * torch.rand(2, num_dims, generator=generator, dtype=dtype)
        yield Case((means[0], variances[0], means[1], variances[1]), note=note)
    mean, variance = (
        draw.normal(generator, 4),
        0.5 + torch.rand(2, 4, generator=generator, dtype=torch.float64),
    )
    yield Case((mean, variance[0], mean.clone(), variance[1]), note="equal means")
    still = variance.clone()
    still[0, 1] = still[1, 2] = 0
    yield Case((mean, still[0], mean + 1, still[1]), note="coordinates that do not vary")


def frechet_diagonal(mean_a: Tensor, var_a: Tensor, mean_b: Tensor, var_b: Tensor) -> Tensor:
    """Return the sum over coordinates of (mean_a - mean_b)^2 + (std_a - std_b)^2."""
    return ((mean_a - mean_b) ** 2).sum() + ((var_a.sqrt() - var_b.sqrt()) ** 2).sum()


DIAGONAL = Exercise(
    id="07.1",
    lesson=7,
    title="The distance of two diagonal Gaussians",
    statement="""Return the Frechet distance between two Gaussians whose coordinates are
independent. All four arguments have shape (D,): means, and *variances*. Return a tensor with
one number, squared as in (07.6).""",
    stub="""def frechet_diagonal(mean_a, var_a, mean_b, var_b):
    return ((mean_a - mean_b) ** 2).sum() + ...
""",
    reference=frechet_diagonal,
    cases=_diagonal_cases,
    hints=(
        (
            "The coordinates are independent, so each can be paired by itself, with the "
            "one-dimensional formula (07.4)."
        ),
        (
            "In one dimension the cheapest pairing stretches one bell onto the other. The cost "
            "is a squared difference of widths."
        ),
        "Add ((var_a.sqrt() - var_b.sqrt()) ** 2).sum().",
    ),
    derivation="lesson 07, 'The cheapest pairing'; Heusel et al. 2017, eq. 6",
    wrong_answers=(
        WrongAnswer(
            "variances where standard deviations belong",
            edit("var_a.sqrt() - var_b.sqrt()", "var_a - var_b"),
            "A pairing moves points by differences of x, so widths count in the "
            "unit of x. You square variances.",
        ),
        WrongAnswer(
            "the cross term is not doubled",
            edit(
                "((var_a.sqrt() - var_b.sqrt()) ** 2)", "(var_a + var_b - (var_a * var_b).sqrt())"
            ),
            "Expand the square of a difference: the mixed term comes twice.",
        ),
        WrongAnswer(
            "the root of the product is missing",
            edit("((var_a.sqrt() - var_b.sqrt()) ** 2)", "(var_a + var_b - 2 * var_a * var_b)"),
            "The covariance of a pairing is at most the product of the standard "
            "deviations, not of the variances.",
        ),
        WrongAnswer(
            "the spread is ignored",
            edit(" + ((var_a.sqrt() - var_b.sqrt()) ** 2).sum()", ""),
            "You compare the means only. A set whose pictures are all the average "
            "picture would be perfect.",
        ),
        WrongAnswer(
            "the variances are added",
            edit("((var_a.sqrt() - var_b.sqrt()) ** 2)", "(var_a + var_b)"),
            "This is the cost of pairing at random. The cheapest pairing costs less.",
        ),
        WrongAnswer(
            "the mean over coordinates",
            edit(".sum()", ".mean()", times=2),
            "A squared length is a sum over coordinates.",
        ),
        WrongAnswer(
            "the root of the whole",
            edit("return ((", "return torch.sqrt(((").then(
                "var_b.sqrt()) ** 2).sum()", "var_b.sqrt()) ** 2).sum())"
            ),
            "The literature quotes the square. Leave the root out, or your "
            "numbers compare with nobody's.",
        ),
        WrongAnswer(
            "the KL divergence",
            lambda ma, va, mb, vb: 0.5 * ((va + (ma - mb) ** 2) / vb - 1 + (vb / va).log()).sum(),
            "This is the KL divergence of lesson 03. It compares densities; the "
            "Frechet distance moves points.",
        ),
    ),
)


def _sets_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, num_a, num_b, num_dims in (
        ("12 against 15", 12, 15, 3),
        ("two columns", 9, 9, 2),
        ("40 against 30", 40, 30, 6),
    ):
        mix = draw.normal(generator, 2, num_dims, num_dims)
        a, b = (
            draw.normal(generator, num_a, num_dims) @ mix[0],
            draw.normal(generator, num_b, num_dims) @ mix[1],
        )
        yield Case((a, b + draw.normal(generator, num_dims)), note=note)
    mix = draw.normal(generator, 2, 4, 4)
    a, b = draw.normal(generator, 20, 4) @ mix[0], draw.normal(generator, 20, 4) @ mix[1]
    yield Case((a - a.mean(0), b - b.mean(0)), note="equal means")
    mix = draw.normal(generator, 2, 7, 7)
    a, b = draw.normal(generator, 4, 7) @ mix[0], draw.normal(generator, 5, 7) @ mix[1]
    yield Case((a, b), note="fewer samples than columns")
    # Eigenvalues that should be 0, and some of them a little below.
    mix = draw.normal(generator, 2, 14, 14)
    a, b = draw.normal(generator, 3, 14) @ mix[0], draw.normal(generator, 4, 14) @ mix[1]
    yield Case((a, b), note="far fewer samples than columns")


def frechet(features_a: Tensor, features_b: Tensor) -> Tensor:
    """Return the package's frechet_distance as a tensor."""
    return torch.tensor(frechet_distance(features_a, features_b), dtype=features_a.dtype)


def _root(matrix: Tensor) -> Tensor:
    values, axes = torch.linalg.eigh(matrix)
    return axes * values.clamp(min=0).sqrt() @ axes.T


def _product_of_roots(features_a: Tensor, features_b: Tensor) -> Tensor:
    gap = ((features_a.mean(0) - features_b.mean(0)) ** 2).sum()
    cov_a, cov_b = features_a.T.cov(), features_b.T.cov()
    return gap + cov_a.trace() + cov_b.trace() - 2 * (_root(cov_a) @ _root(cov_b)).trace()


FROM_SAMPLES = Exercise(
    id="07.2",
    lesson=7,
    title="The Frechet distance of two sets",
    statement="""Return the Frechet distance of two sets of features, `features_a` (N, D) and
`features_b` (M, D), D at least 2, float64: fit a mean and a covariance (divided by N - 1) to
each and use (07.6). Return a tensor with one number.""",
    stub="""def frechet(features_a, features_b):
    ...
""",
    solution="""def frechet(features_a, features_b):
    gap = ((features_a.mean(0) - features_b.mean(0)) ** 2).sum()
    cov_a, cov_b = features_a.T.cov(), features_b.T.cov()  # (D, D)
    roots = torch.linalg.eigvals(cov_a @ cov_b).real.clamp(min=0).sqrt()
    return gap + cov_a.trace() + cov_b.trace() - 2 * roots.sum()
""",
    reference=frechet,
    cases=_sets_cases,
    hints=(
        "`features.T.cov()` is the covariance: torch.cov wants one variable in each row.",
        (
            "You need the trace of a matrix root only. A trace is the sum of the eigenvalues, "
            "and the root takes theirs."
        ),
        (
            "The eigenvalues of cov_a @ cov_b are real and not negative: "
            "torch.linalg.eigvals(...).real.clamp(min=0).sqrt().sum()."
        ),
    ),
    derivation="lesson 07, 'The cheapest pairing'; Heusel et al. 2017, eq. 6",
    points=2,
    tolerance=SPECTRA,
    wrong_answers=(
        WrongAnswer(
            "the root of each element of the product",
            edit("torch.linalg.eigvals(cov_a @ cov_b).real", "(cov_a @ cov_b).diagonal()"),
            "`.sqrt()` takes the root of every element. R is a root of the "
            "matrix S if R @ R gives S.",
        ),
        WrongAnswer(
            "the product of the two roots",
            _product_of_roots,
            "The root of a product is the product of the roots only if the two "
            "matrices have the same axes.",
        ),
        WrongAnswer(
            "only the diagonals",
            edit(
                "torch.linalg.eigvals(cov_a @ cov_b).real", "(cov_a.diagonal() * cov_b.diagonal())"
            ),
            "You treat the coordinates as independent. How they vary together is lost.",
        ),
        WrongAnswer(
            "the covariance divided by N",
            edit(".cov()", ".cov(correction=0)", times=2),
            "You divide by N. The mean was fitted to the same points, which makes them look "
            "closer to it than they are.",
        ),
        WrongAnswer(
            "the cross term is not doubled",
            edit("- 2 * roots", "- roots"),
            "Two equal sets get a distance above 0: the mixed term comes twice.",
        ),
        WrongAnswer(
            "the means are ignored",
            edit("return gap + cov_a", "return cov_a"),
            "A set that is shifted as a whole would be perfect.",
        ),
        WrongAnswer(
            "the distance of the covariance matrices",
            edit("cov_a.trace() + cov_b.trace() - 2 * roots.sum()", "((cov_a - cov_b) ** 2).sum()"),
            "You compare the entries of the covariances. The cost of moving "
            "points compares their roots.",
        ),
        WrongAnswer(
            "the root of the whole",
            edit("return gap", "return torch.sqrt(gap").then("roots.sum()", "roots.sum())"),
            "The literature quotes the square. Leave the root out.",
        ),
        WrongAnswer(
            "the eigenvalues without their root",
            edit("clamp(min=0).sqrt()", "clamp(min=0)"),
            "R is the root of the product of the covariances: its eigenvalues are the roots of"
            " theirs.",
        ),
        WrongAnswer(
            "the distance of the means is not squared",
            edit(" ** 2).sum()", " ** 2).sum().sqrt()"),
            "(07.6) has the squared length of the difference of the means.",
        ),
        WrongAnswer(
            "the mean over the coordinates of the means",
            edit(" ** 2).sum()", " ** 2).mean()"),
            "A squared length is a sum over coordinates.",
        ),
        WrongAnswer(
            "not centred",
            edit(
                "features_a.T.cov(), features_b.T.cov()",
                "(features_a.T @ features_a) / (len(features_a) - 1), (\n        features_b.T @"
                " features_b\n    ) / (len(features_b) - 1)",
            ),
            "These are second moments. A covariance is taken about the mean.",
        ),
        WrongAnswer(
            "the roots of the eigenvalues are compared",
            edit(
                "- 2 * roots.sum()",
                "- 2 * (torch.linalg.eigvalsh(cov_a).clamp(min=0).sqrt() *"
                " torch.linalg.eigvalsh(cov_b).clamp(min=0).sqrt()).sum()",
            ),
            "You pair the axes of both by their length. They point in different directions.",
        ),
    ),
)


def at_infinity(d_small: float, n_small: int, d_large: float, n_large: int) -> float:
    """Return the intercept of the line through both distances over 1 / N."""
    slope = (d_small - d_large) / (1 / n_small - 1 / n_large)
    return d_large - slope / n_large


INFINITY = Exercise(
    id="07.3",
    lesson=7,
    title="Without the bias",
    statement="""The same network, the same features: <<n_small>> of its pictures against
<<n_small>> real ones have a Frechet distance of <<d_small>>, <<n_large>> against <<n_large>>
one of <<d_large>>. Which distance does (07.8) give for endless sets?""",
    stub="distance = ...\n",
    reference=at_infinity,
    cases=None,
    parameters={
        "d_small": (31.5, 24.0),
        "n_small": (500, 800),
        "d_large": (9.0, 8.2),
        "n_large": (2000, 5000),
    },
    hints=(
        (
            "The measured distance is the true one plus a number divided by N. Two "
            "measurements, two unknowns."
        ),
        "Take the difference of the two equations: the true distance falls out.",
        (
            "slope = (d_small - d_large) / (1 / n_small - 1 / n_large); then "
            "d_large - slope / n_large."
        ),
    ),
    derivation="lesson 07, 'Two samples of the same thing'; Chong & Forsyth 2020",
    wrong_answers=(
        WrongAnswer(
            "a bias that falls with the root of N",
            edit("1 / n_small - 1 / n_large", "n_small**-0.5 - n_large**-0.5").then(
                "slope / n_large", "slope * n_large**-0.5"
            ),
            "Errors of a mean fall with the root of N. The distance is made of their squares.",
        ),
        WrongAnswer(
            "a bias that falls with the square of N",
            edit("1 / n_small - 1 / n_large", "n_small**-2 - n_large**-2").then(
                "slope / n_large", "slope * n_large**-2"
            ),
            "Twice the pictures halve the bias; you let them quarter it.",
        ),
        WrongAnswer(
            "the larger set's distance as it stands",
            edit(" - slope / n_large", ""),
            "The larger set has a smaller bias, not none.",
        ),
        WrongAnswer(
            "the average, weighted with N",
            edit(
                "d_large - slope / n_large",
                "(n_small * d_small + n_large * d_large) / (n_small + n_large)",
            ),
            "Both measurements are too large, so an average of them is too.",
        ),
        WrongAnswer(
            "the slope instead of the intercept",
            edit("d_large - slope / n_large", "slope"),
            "This is the number that is divided by N. You want what is left when N has no end.",
        ),
        WrongAnswer(
            "the bias is added",
            edit("d_large - slope", "d_large + slope"),
            "The bias of the Frechet distance is positive: without it the distance is "
            "smaller than any measured one.",
        ),
        WrongAnswer(
            "one more doubling instead of infinity",
            edit("slope / n_large", "slope / (2 * n_large)"),
            "You halve the bias once more. At infinity it is gone.",
        ),
        WrongAnswer(
            "a straight line in N, not in 1 / N",
            edit("(1 / n_small - 1 / n_large)", "(n_small - n_large)").then(
                "d_large - slope / n_large", "d_large - slope * n_large"
            ),
            "The bias is a number divided by N. You continue a line over N to N = 0.",
        ),
        WrongAnswer(
            "the small set's distance with the large set's bias",
            edit("d_large - slope", "d_small - slope"),
            "The bias at n_large belongs to the distance that was measured there.",
        ),
        WrongAnswer(
            "the mean of both",
            edit("d_large - slope / n_large", "(d_small + d_large) / 2"),
            "Both measurements are too large, so their mean is too.",
        ),
        WrongAnswer(
            "the difference of both",
            edit("d_large - slope / n_large", "d_small - d_large"),
            "This is how much of the bias goes from one size to the other, not what is left at"
            " the end.",
        ),
    ),
)


def _mmd_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, num_x, num_y, num_dims in (
        ("8 against 5", 8, 5, 3),
        ("6 against 6", 6, 6, 1),
        ("2 against 30", 2, 30, 4),
    ):
        yield Case(
            (
                draw.normal(generator, num_x, num_dims),
                0.7 + draw.normal(generator, num_y, num_dims),
            ),
            note=note,
        )
    x = draw.normal(generator, 10, 2)
    yield Case((x, x + 1e-3 * draw.normal(generator, 10, 2)), note="almost the same set")


def mmd_unbiased(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean kernel within x and within y, minus twice that between them."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def over_pairs(a: Tensor) -> Tensor:
        table = kernel(a, a)
        return (table.sum() - table.diagonal().sum()) / (len(a) * (len(a) - 1))

    return over_pairs(x) + over_pairs(y) - 2 * kernel(x, y).mean()


KERNEL = Exercise(
    id="07.4",
    lesson=7,
    title="The kernel distance without bias",
    statement="""Return the unbiased estimate (07.11) of the squared kernel distance between the
samples `x` (N, D) and `y` (M, D), with the kernel $k(a, b) = (a \\cdot b / D + 1)^3$. N and M
are at least 2 and may differ. Return a tensor with one number; it may be negative.""",
    stub="""def mmd_unbiased(x, y):
    ...
""",
    reference=mmd_unbiased,
    cases=_mmd_cases,
    hints=(
        (
            "Three tables of kernel values: x with x, y with y, x with y. `a @ b.T` "
            "holds all products a_i . b_j."
        ),
        (
            "In the first two tables a point must not meet itself: take the diagonal out and "
            "count the pairs that are left."
        ),
        (
            "(k_xx.sum() - k_xx.diagonal().sum()) / (N * (N - 1)), the same for "
            "y, minus 2 * k_xy.mean()."
        ),
    ),
    derivation="lesson 07, 'A distance without bias'; Binkowski et al. 2018",
    points=2,
    wrong_answers=(
        WrongAnswer(
            "the diagonal is left in",
            edit(
                "(table.sum() - table.diagonal().sum()) / (len(a) * (len(a) - 1))", "table.mean()"
            ),
            "You let each point meet itself. k(x_i, x_i) is not a draw of k(x, "
            "x') with independent x and x'.",
        ),
        WrongAnswer(
            "the diagonal is left in, divided by N (N - 1)",
            edit("(table.sum() - table.diagonal().sum())", "table.sum()"),
            "You sum N^2 values and divide by the number of pairs of different points.",
        ),
        WrongAnswer(
            "divided by N squared",
            edit("(len(a) * (len(a) - 1))", "len(a) ** 2"),
            "Without the diagonal fewer than N^2 values are left.",
        ),
        WrongAnswer(
            "the cross term is not doubled",
            edit("- 2 * kernel", "- kernel"),
            "Expand the squared length of a difference: the mixed term comes twice.",
        ),
        WrongAnswer(
            "the diagonal of the cross table is left out",
            edit("kernel(x, y)", "kernel(x, y)[~torch.eye(len(x), len(y), dtype=torch.bool)]"),
            "x_i and y_i are two different points that share an index only. All "
            "pairs of the cross table count.",
        ),
        WrongAnswer(
            "the square instead of the cube",
            edit("** 3", "** 2"),
            "With the power 2 the kernel compares means and covariances only.",
        ),
        WrongAnswer(
            "not divided by D",
            edit(" / a.shape[1]", ""),
            "The product a . b is divided by the number of coordinates.",
        ),
        WrongAnswer(
            "negative values are set to 0",
            edit("return over_pairs", "return torch.relu(over_pairs").then(".mean()", ".mean())"),
            "An unbiased estimate of 0 is negative about half the time. Cut that "
            "off and its mean is above 0.",
        ),
        WrongAnswer(
            "the root of the result",
            edit("return over_pairs", "return torch.sqrt(over_pairs").then(".mean()", ".mean())"),
            "The estimate is one of the square. Its root is biased, and not "
            "defined where it is negative.",
        ),
    ),
)


def _neighbour_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, num_real, num_fake, num_dims, k, width in (
        ("a wide fake set", 20, 16, 2, 3, 1.6),
        ("a narrow fake set", 14, 20, 3, 2, 0.5),
        ("k = 1", 25, 25, 2, 1, 1.0),
    ):
        real, fake = (
            draw.normal(generator, num_real, num_dims),
            width * draw.normal(generator, num_fake, num_dims),
        )
        yield Case((real, fake, k), note=note)
    real = draw.normal(generator, 24, 2)
    yield Case(
        (real, real[:8] + 0.01 * draw.normal(generator, 8, 2), 3), note="near copies of a third"
    )
    axis = torch.arange(4, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)[torch.randperm(16, generator=generator)]
    yield Case((grid[:9], grid[7:], 2), note="points on a grid")
    narrow = tuple((grid[part] / 2).float() for part in (slice(12), slice(3, 16)))
    yield Case((*narrow, 1), note="points in float32")
    once = 3 * draw.normal(generator, 4, 2)  # the nearest other point is the same point again
    real, fake = torch.cat([once, once]), once + 0.1 * draw.normal(generator, 4, 2)
    yield Case((real, fake, 1), note="points that are there twice")


def precision_and_recall(real: Tensor, fake: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the share of each set that lies within the balls of the other."""

    def share_inside(points: Tensor, centres: Tensor) -> Tensor:
        # The nearest of all is the centre itself.
        radius = torch.cdist(centres, centres).kthvalue(k + 1, dim=1).values
        inside = (torch.cdist(points, centres) <= radius).any(dim=1)
        return inside.to(points.dtype).mean()

    return share_inside(fake, real), share_inside(real, fake)


NEIGHBOURS = Exercise(
    id="07.5",
    lesson=7,
    title="Precision and recall",
    statement="""Return the tuple (precision, recall), two tensors with one number each. Around each
real point lies a ball that reaches to its `k`-th nearest *other* real point, border included.
Precision is the share of fake points in at least one of these balls. Recall is the same with
the roles exchanged. `real` is (N, D), `fake` (M, D); the results have the dtype of the points.""",
    stub="""def precision_and_recall(real, fake, k):
    ...
""",
    reference=precision_and_recall,
    cases=_neighbour_cases,
    hints=(
        "Write the share of points inside the balls of other points once, and call it twice.",
        (
            "torch.cdist(a, b) holds all distances; `.kthvalue(n, dim=1).values` is the n-th "
            "smallest of each row. Who comes first?"
        ),
        (
            "radius = torch.cdist(centres, centres).kthvalue(k + 1, dim=1).values; then "
            "(cdist(points, centres) <= radius).any(1)."
        ),
    ),
    derivation="lesson 07, 'Fidelity and coverage'; Kynkaanniemi et al. 2019",
    points=2,
    wrong_answers=(
        WrongAnswer(
            "precision and recall are swapped",
            edit(
                "share_inside(fake, real), share_inside(real, fake)",
                "share_inside(real, fake), share_inside(fake, real)",
            ),
            "Precision asks of each fake point whether it looks real. Recall asks of each real "
            "point whether it could be drawn.",
        ),
        WrongAnswer(
            "a point counts as its own neighbour",
            edit("k + 1", "k"),
            "The distance of a point to itself is 0 and comes first. Your balls "
            "reach one neighbour less far.",
        ),
        WrongAnswer(
            "one neighbour too many",
            edit("k + 1", "k + 2"),
            "Your balls reach to the neighbour after the k-th.",
        ),
        WrongAnswer(
            "the radius belongs to the asking point",
            edit("torch.cdist(centres, centres)", "torch.cdist(points, points)").then(
                "<= radius", "<= radius[:, None]"
            ),
            "The balls lie around the points of the other set: their size is "
            "what says where that set is dense.",
        ),
        WrongAnswer(
            "one radius for all",
            edit("<= radius", "<= radius.mean()"),
            "Each ball has its own size, small where the points are dense.",
        ),
        WrongAnswer(
            "half of the balls instead of one",
            edit(".any(dim=1)", ".double().mean(dim=1) >= 0.5"),
            "One ball is enough: you ask for half of them.",
        ),
        WrongAnswer(
            "only the nearest ball",
            edit(
                "(torch.cdist(points, centres) <= radius).any(dim=1)",
                "distance.amin(1) <= radius[distance.argmin(1)]",
            ).then(
                "        inside =",
                "        distance = torch.cdist(points, centres)\n        inside =",
            ),
            "The nearest centre may have a small ball. A larger one further away "
            "may still reach the point.",
        ),
        WrongAnswer(
            "squared distances against radii",
            edit("torch.cdist(points, centres) <=", "torch.cdist(points, centres) ** 2 <="),
            "One side is squared, the other is not.",
        ),
    ),
)


def _field_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, shape, num_probes, dtype in (
        ("points", (5, 2), 3, torch.float64),
        ("images", (3, 1, 3, 3), 4, torch.float64),
        ("one probe", (4, 6), 1, torch.float32),
        ("one number", (2, 1), 2, torch.float64),
    ):
        size = math.prod(shape[1:])
        field = Field(draw.normal(generator, size, size, dtype=dtype) / size**0.5)
        x = draw.normal(generator, *shape, dtype=dtype)
        signs = torch.randint(2, (num_probes, *shape), generator=generator).to(dtype) * 2 - 1
        yield Case((field, x, signs), note=note)


def divergence(velocity: Callable[[Tensor], Tensor], x: Tensor, probes: Tensor) -> Tensor:
    """Return the mean over probes z of z^T (dv/dx) z, one number for each sample."""
    x = x.detach().requires_grad_()
    v = velocity(x)
    total = torch.zeros(len(x), dtype=x.dtype)
    for z in probes:
        # z^T dv/dx, the shape of x
        (row,) = torch.autograd.grad(v, x, z, retain_graph=True)
        total = total + (row * z).flatten(1).sum(1)
    return (total / len(probes)).detach()


HUTCHINSON = Exercise(
    id="07.6",
    lesson=7,
    title="A divergence from a few probes",
    statement="""Estimate the divergence of `velocity` at each sample of `x` (B, ...) by (07.21):
the mean over the probes $z$ of $z^\\top \\frac{\\partial v}{\\partial x} z$. `velocity(x)` has
the shape of `x`, and each sample depends on itself only. `probes` has shape (K, B, ...). Return
(B,), in the dtype of `x`.""",
    stub="""def divergence(velocity, x, probes):
    ...
""",
    reference=divergence,
    cases=_field_cases,
    hints=(
        (
            "You never need the Jacobian: torch.autograd.grad(v, x, z) gives z^T "
            "dv/dx, in the shape of x."
        ),
        (
            "x must carry gradients: x = x.detach().requires_grad_(). With more than one "
            "probe, retain_graph=True."
        ),
        "For each z: (row * z).flatten(1).sum(1). Then the mean over the probes.",
    ),
    derivation="lesson 07, 'The exact likelihood'; Song et al. 2021, appendix D.2",
    points=3,
    wrong_answers=(
        WrongAnswer(
            "the second z is missing",
            edit("(row * z)", "row"),
            "z^T dv/dx is a vector. Without the second z its entries "
            "average to 0, not to the trace.",
        ),
        WrongAnswer(
            "the squared length of z^T dv/dx",
            edit("(row * z)", "(row**2)"),
            "You multiply the product with itself. That estimates the sum of all "
            "squared entries of the Jacobian.",
        ),
        WrongAnswer(
            "no derivative",
            edit("(row * z)", "(v * z)"),
            "You multiply the velocity with z, not its derivative.",
        ),
        WrongAnswer(
            "the mean over coordinates",
            edit(".sum(1)", ".mean(1)"),
            "A trace is a sum over coordinates.",
        ),
        WrongAnswer(
            "the sum over probes",
            edit("total / len(probes)", "total"),
            "Each probe estimates the whole trace. Average them.",
        ),
        WrongAnswer(
            "only the first probe",
            edit("in probes:", "in probes[:1]:").then("total / len(probes)", "total"),
            "You use one of the probes. The others make the estimate steadier.",
        ),
        WrongAnswer(
            "one number for the whole batch",
            edit("(total / len(probes))", "(total / len(probes)).mean().expand(len(x))"),
            "Each sample has a divergence of its own. Sum over coordinates, not over the batch.",
        ),
        WrongAnswer(
            "the sign is flipped",
            edit("total + (row", "total - (row"),
            "This is how the log-density changes along the path. The "
            "exercise asks for the divergence.",
        ),
    ),
)


def bits(nats: float, side: int) -> float:
    """Return -nats / (D ln 2) + log2(127.5), D = 3 side^2: bits per value of 8-bit pictures."""
    return -nats / (3 * side**2 * math.log(2)) + math.log2(127.5)


BITS = Exercise(
    id="07.7",
    lesson=7,
    title="Bits per dimension",
    statement="""A network for colour pictures of <<side>>x<<side>> pixels (three channels) gives
held-out pictures a mean log-density of <<nats>> nats per picture. The pictures are 8-bit with
noise added to fill the steps, and were scaled from [0, 255] to [-1, 1] for the network. How
many bits per dimension is that in the unit of the 8-bit values, as papers quote it?""",
    stub="bits_per_dimension = ...\n",
    solution="""import math


def bits(nats, side):
    dimensions = 3 * side**2
    return -nats / (dimensions * math.log(2)) + math.log2(127.5)


bits_per_dimension = bits(<<nats>>, <<side>>)
""",
    reference=bits,
    cases=None,
    parameters={"nats": (8500.0, 8100.0, 7900.0, 8800.0), "side": (32, 28, 30)},
    hints=(
        (
            "Bits per dimension are the negative log-density, in base 2, divided "
            "by the number of colour values."
        ),
        "Scaling x = u / 127.5 - 1 makes every density larger: by which factor per coordinate?",
        "-nats / (D ln 2) + log2(127.5) with D = 3 * side * side.",
    ),
    derivation="lesson 07, 'The exact likelihood'; Theis et al. 2016, section 3.1",
    wrong_answers=(
        WrongAnswer(
            "the scaling is forgotten",
            edit(" + math.log2(127.5)", ""),
            "This is in the unit of the scaled pixels. A code for 8-bit values cannot be "
            "that short, or even negative.",
        ),
        WrongAnswer(
            "the scaling goes the wrong way",
            edit("+ math.log2(127.5)", "- math.log2(127.5)"),
            "In [-1, 1] the values lie closer together, so densities are larger "
            "than in [0, 255], not smaller.",
        ),
        WrongAnswer(
            "scaled to [0, 1]",
            edit("127.5", "255"),
            "Your offset belongs to pictures in [0, 1]. The range here is twice as wide.",
        ),
        WrongAnswer(
            "8 bits are added",
            edit("math.log2(127.5)", "8"),
            "8 bits are the cost of a value without any model. The "
            "offset is the logarithm of the scale.",
        ),
        WrongAnswer(
            "nats instead of bits",
            edit("(dimensions * math.log(2))", "dimensions").then("math.log2(", "math.log("),
            "Your logarithms have base e.",
        ),
        WrongAnswer(
            "the sign of the log-density",
            edit("-nats", "nats"),
            "A higher density means a shorter code.",
        ),
        WrongAnswer(
            "the channels are not counted",
            edit("3 * side**2", "side**2"),
            "A dimension is one colour value: each pixel has three.",
        ),
        WrongAnswer(
            "bits of the whole picture",
            edit(
                "-nats / (dimensions * math.log(2)) + math.log2(127.5)",
                "-nats / math.log(2) + dimensions * math.log2(127.5)",
            ),
            "This is for all values of a picture together. Divide by their number.",
        ),
        WrongAnswer(
            "the unit is divided by the dimensions too",
            edit(
                "-nats / (dimensions * math.log(2)) + math.log2(127.5)",
                "(-nats / math.log(2) + math.log2(127.5)) / dimensions",
            ),
            "The offset is there once for each value, so it is not divided by their number.",
        ),
        WrongAnswer(
            "nats in one part and bits in the other",
            edit("(dimensions * math.log(2))", "dimensions"),
            "The offset is in bits and the rest in nats: divide by ln 2.",
        ),
        WrongAnswer(
            "multiplied by ln 2",
            edit("-nats / (dimensions * math.log(2))", "-nats / dimensions * math.log(2)"),
            "A nat is more than a bit: the number of bits is larger. Divide by ln 2.",
        ),
        WrongAnswer(
            "no scaling, and the sign of the log-density",
            edit("-nats", "nats").then(" + math.log2(127.5)", ""),
            "Two things: a code's length is minus the log-density, and the unit is that of the"
            " scaled pixels.",
        ),
        WrongAnswer(
            "one side of the picture",
            edit("side**2", "side"),
            "A picture of this side has side * side pixels.",
        ),
        WrongAnswer(
            "the decimal logarithm of 2",
            edit("math.log(2)", "math.log10(2)"),
            "Nats are made with the natural logarithm, so they are divided by the natural"
            " logarithm of 2.",
        ),
    ),
)


EXERCISES = (DIAGONAL, FROM_SAMPLES, INFINITY, KERNEL, NEIGHBOURS, HUTCHINSON, BITS)
