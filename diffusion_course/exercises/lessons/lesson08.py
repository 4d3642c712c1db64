"""Exercises of lesson 08, conditioning and guidance."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ...process import guided_prediction
from .. import draw
from ..calls import with_sizes
from ..definition import Case, Exercise, Property, Tolerance, WrongAnswer
from ..edits import edit
from ..given import ClassNetwork

EPSILON = Tolerance(rtol=1e-4, atol=1e-5)


def _scale_cases(generator: torch.Generator) -> Iterator[Case]:
    for (note, cond_output, _, uncond_output), scale in zip(
        draw.batches(generator, 7), (3.0, 7.5, 1.5, 0.0, 0.5, 2.0, 4.0, -1.0), strict=True
    ):
        yield Case((cond_output, uncond_output, scale), note=f"{note}, scale {scale}")
    yield Case((draw.normal(generator, 3, 2), draw.normal(generator, 3, 2), 1.0), note="scale 1")


def guide(cond_output: Tensor, uncond_output: Tensor, scale: float) -> Tensor:
    """Return eps_u + s (eps_c - eps_u): the package's formula does the work."""
    return guided_prediction(cond_output, uncond_output, scale)


GUIDE = Exercise(
    id="08.1",
    lesson=8,
    title="The line through two predictions",
    statement="""Return the guided prediction $\\epsilon_u + s\\,(\\epsilon_c - \\epsilon_u)$.
`cond_output` is $\\epsilon_c$, `uncond_output` is $\\epsilon_u$, of one shape; `scale` is $s$
as in this course: 0 is unconditional, 1 conditional.""",
    stub="""def guide(cond_output, uncond_output, scale):
    return uncond_output + ...
""",
    solution="""def guide(cond_output, uncond_output, scale):
    return uncond_output + scale * (cond_output - uncond_output)
""",
    reference=guide,
    cases=_scale_cases,
    hints=(
        (
            "Start at the unconditional prediction and walk towards the "
            "conditional one. How long is one step?"
        ),
        "The step is their difference. scale says how many of them to take.",
        "Check the ends: at scale 0 the result is uncond_output, at scale 1 it is cond_output.",
    ),
    derivation="lesson 08, 'The derivation', (08.5); Ho & Salimans 2022, eq. 6 with w = s - 1",
    tolerance=EPSILON,
    wrong_answers=(
        WrongAnswer(
            "the paper's w instead of s",
            edit("return uncond_output", "return cond_output"),
            "At scale 0 you return the conditional prediction: your zero lies at eps_c. "
            "In this course it lies at eps_u.",
        ),
        WrongAnswer(
            "the difference has the wrong sign",
            edit("(cond_output - uncond_output)", "(uncond_output - cond_output)"),
            "You walk away from the condition. At scale 1 the result has to be "
            "the conditional prediction.",
        ),
        WrongAnswer(
            "the sign of a published annotation",
            edit(
                "uncond_output + scale * (cond_output - uncond_output)",
                "scale * cond_output + (scale - 1) * uncond_output",
            ),
            "s eps_c + (s - 1) eps_u has weights that add up to 2 s - 1. They have to add up to 1.",
        ),
        WrongAnswer(
            "the unconditional prediction is forgotten",
            edit("uncond_output + scale", "scale"),
            "You return the step alone, without the place where it starts.",
        ),
        WrongAnswer(
            "the condition is multiplied, nothing subtracted",
            edit("(cond_output - uncond_output)", "cond_output"),
            "At scale 1 you return the sum of both predictions.",
        ),
        WrongAnswer(
            "the two predictions are swapped",
            edit(
                "uncond_output + scale * (cond_output - uncond_output)",
                "cond_output + scale * (uncond_output - cond_output)",
            ),
            "At scale 1 you return the unconditional prediction.",
        ),
        WrongAnswer(
            "no guidance at scales up to 1",
            edit("    return", "    if scale <= 1:\n        return cond_output\n    return"),
            "This is what diffusers' pipelines do. The formula has values below 1 too: "
            "at 0 it ignores the condition.",
        ),
    ),
)


_FORMS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "from the unconditional prediction": lambda c, u, v: u + v * (c - u),
    "from the conditional prediction": lambda c, u, v: c + v * (c - u),
    "two weights": lambda c, u, v: (1 + v) * c - v * u,
    "a share": lambda c, u, v: (1 - v) * u + v * c,
    "away from the condition": lambda c, u, v: u - v * (c - u),
}


def _outcome_cases(generator: torch.Generator) -> Iterator[Case]:
    shapes = (
        ((4, 1, 3, 3), torch.float32),
        ((5, 2), torch.float64),
        ((6,), torch.float64),
        ((1, 8), torch.float32),
        ((3, 4), torch.float64),
    )
    for (form, code), (shape, dtype) in zip(_FORMS.items(), shapes, strict=True):
        cond_output, uncond_output = (draw.normal(generator, *shape) for _ in range(2))
        same = torch.arange(cond_output.numel()).reshape(shape) % 4 == 0
        # Some numbers say nothing about the scale.
        cond_output = torch.where(same, uncond_output, cond_output)
        number = 0.3 + 4 * float(torch.rand(1, generator=generator))
        guided = code(cond_output, uncond_output, number)
        yield Case(
            (guided.to(dtype), cond_output.to(dtype), uncond_output.to(dtype)),
            note=f"{form}, shape {shape}",
        )
    yield _balanced_case(generator)


def _balanced_case(generator: torch.Generator) -> Case:
    """The steps add up to 0, so that sums alone say nothing."""
    uncond_output, half = draw.normal(generator, 4, 2), draw.normal(generator, 2, 2)
    step = torch.cat([half, -half])
    cond_output = uncond_output + step
    return Case((uncond_output + 2.5 * step, cond_output, uncond_output), note="steps that balance")


def scale_used(guided: Tensor, cond_output: Tensor, uncond_output: Tensor) -> Tensor:
    """Return the s () with guided = eps_u + s (eps_c - eps_u), by least squares."""
    step = cond_output - uncond_output
    return ((guided - uncond_output) * step).sum() / (step**2).sum()


CONVENTION = Exercise(
    id="08.2",
    lesson=8,
    title="Which scale was this?",
    statement="""Somebody's code has made `guided` out of `cond_output` and `uncond_output`, all of
one shape, along the line through both and in a convention that you do not know. Return this
course's $s$ for it, a tensor of shape (). Some numbers of the two predictions are equal.""",
    stub="""def scale_used(guided, cond_output, uncond_output):
    step = cond_output - uncond_output
    return ...
""",
    reference=scale_used,
    cases=_outcome_cases,
    hints=(
        "guided = uncond_output + s * step. Bring uncond_output to the other side.",
        (
            "Every number whose step is not 0 gives the same s. Dividing at the others gives 0 / "
            "0: combine before you divide."
        ),
        "Multiply both sides by step, add up, and divide the sums. Or use step.bool() as a mask.",
    ),
    derivation="lesson 08, 'One line, two zeros', (08.6)",
    tolerance=EPSILON,
    wrong_answers=(
        WrongAnswer(
            "the paper's w",
            edit("(guided - uncond_output)", "(guided - cond_output)"),
            "You measure from the conditional prediction: this is w. The course's s "
            "starts at the unconditional one.",
        ),
        WrongAnswer(
            "one too many is added",
            edit("(step**2).sum()", "(step**2).sum() + 1"),
            "You add 1 as if the result were w. Measured from the unconditional "
            "prediction it is s already.",
        ),
        WrongAnswer(
            "the two predictions are swapped",
            edit(
                "    step =",
                "    cond_output, uncond_output = uncond_output, cond_output\n    step =",
            ),
            "With the two in each other's place you read 1 - s.",
        ),
        WrongAnswer(
            "the prediction instead of the step",
            edit("(guided - uncond_output)", "guided"),
            "guided contains uncond_output itself. Take it away before you divide.",
        ),
        WrongAnswer(
            "a ratio of lengths",
            edit(
                "((guided - uncond_output) * step).sum() / (step**2).sum()",
                "(guided - uncond_output).norm() / step.norm()",
            ),
            "Lengths have no sign: a scale below zero comes out as its mirror image.",
        ),
        WrongAnswer(
            "the mean of ratios, with 0 / 0 set to 0",
            edit(
                "((guided - uncond_output) * step).sum() / (step**2).sum()",
                "((guided - uncond_output) / step).nan_to_num(0.0, 0.0, 0.0).mean()",
            ),
            "Where both predictions are equal you count a scale of 0. Leave these numbers out.",
        ),
    ),
)


def _drop_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, size, num_classes, probability in (
        ("10 classes", 40, 10, 0.2),
        ("2 classes", 12, 2, 0.5),
        ("one label", 1, 3, 0.9),
        ("never", 6, 4, 0.0),
        ("always", 6, 4, 1.0),
    ):
        cond = torch.randint(num_classes, (size,), generator=generator)
        uniform = torch.rand(size, generator=generator, dtype=torch.float64)
        if 0 < probability < 1:
            uniform[0], uniform[-1] = (
                0.99 * probability,
                (1 + probability) / 2 if size > 1 else 0.99 * probability,
            )
        if size > 2:
            uniform[1] = probability  # not below it
        yield Case((cond, uniform, probability, num_classes), note=note)


def drop_labels(cond: Tensor, uniform: Tensor, probability: float, null_class: int) -> Tensor:
    """Return cond (B,) with null_class where uniform (B,) is below the probability."""
    return torch.where(uniform < probability, torch.full_like(cond, null_class), cond)


DROP = Exercise(
    id="08.3",
    lesson=8,
    title="Label dropout",
    statement="""Make the labels that one training batch is shown. `cond` (B,) int64 holds classes,
`uniform` (B,) numbers drawn uniformly from [0, 1). A sample loses its label, that is, gets
`null_class`, where its number is below `probability`. The labels of the data set must stay as
they are.""",
    stub="""def drop_labels(cond, uniform, probability, null_class):
    dropped = uniform < probability
    return ...
""",
    reference=drop_labels,
    cases=_drop_cases,
    hints=(
        "Every sample decides for itself, so the answer has the shape of cond.",
        (
            "torch.where(condition, a, b) takes a where the condition holds and b "
            "elsewhere. It makes a new tensor."
        ),
        "a is null_class, b is cond.",
    ),
    derivation="lesson 08, 'Telling a network the label', (08.1)",
    wrong_answers=(
        WrongAnswer(
            "the caller's labels are overwritten",
            edit("    return", "    cond[uniform < probability] = null_class\n    return"),
            "You write into `cond`. If it is the data set's own tensor, a few "
            "epochs later no label is left.",
        ),
        WrongAnswer(
            "the share that keeps its label",
            edit("uniform < probability", "uniform > probability"),
            "`probability` is the share that loses its label. You drop all the others.",
        ),
        WrongAnswer(
            "one decision for the whole batch",
            edit("uniform < probability", "uniform[:1] < probability"),
            "You drop all labels of the batch or none. Each sample has a number of its own.",
        ),
        WrongAnswer(
            "class 0 as no class",
            edit("torch.full_like(cond, null_class)", "torch.zeros_like(cond)"),
            "Class 0 is a class. Its embedding would learn two things at once.",
        ),
        WrongAnswer(
            "the last class as no class",
            edit("(cond, null_class)", "(cond, null_class - 1)"),
            "With K classes the labels are 0 to K-1. No class is one more, index K.",
        ),
        WrongAnswer(
            "another class instead of none",
            edit("torch.full_like(cond, null_class)", "(cond + 1) % null_class"),
            "You give some samples a wrong label. That teaches the network to ignore labels.",
        ),
    ),
)


def _network_cases(generator: torch.Generator) -> Iterator[Case]:
    for (note, xt, t, _), scale in zip(
        draw.batches(generator, 30), (3.0, 7.5, 2.0, 0.5, 0.0, 2.0, 1.0, 4.0), strict=True
    ):
        cond = torch.randint(4, (len(xt),), generator=generator)
        model = ClassNetwork(4, dtype=xt.dtype)
        yield Case((model, xt, t, cond, scale), note=f"{note}, scale {scale}")


def guided_noise(
    model: Callable[..., Tensor], xt: Tensor, t: Tensor, cond: Tensor, scale: float
) -> Tensor:
    """Return the guided prediction from one call on a batch of 2B, at scale 1 too."""
    cond_both = torch.cat([torch.full_like(cond, model.null_class), cond])
    uncond_output, cond_output = model(torch.cat([xt, xt]), torch.cat([t, t]), cond_both).chunk(2)
    return guided_prediction(cond_output, uncond_output, scale)


WRAPPER = Exercise(
    id="08.4",
    lesson=8,
    title="One call for both predictions",
    statement="""Write the guided model. `model(xt, t, cond)` wants `t` and `cond` as int64 tensors
(B,) and has the attribute `null_class`. Call it **once**, on a batch of 2B whatever the scale
is, and return the guided prediction for `xt` (B, ...) at scale $s$ = `scale`.""",
    stub="""def guided_noise(model, xt, t, cond, scale):
    ...
""",
    solution="""def guided_noise(model, xt, t, cond, scale):
    null = torch.full_like(cond, model.null_class)
    both = model(torch.cat([xt, xt]), torch.cat([t, t]), torch.cat([null, cond]))
    uncond_output, cond_output = both.chunk(2)
    return uncond_output + scale * (cond_output - uncond_output)
""",
    reference=guided_noise,
    cases=_network_cases,
    call=with_sizes,
    hints=(
        "Three tensors have to be doubled with torch.cat. Two of them are doubled with themselves.",
        (
            "`torch.full_like(cond, model.null_class)` is a batch of no "
            "labels. Put it in front of cond."
        ),
        "`.chunk(2)` cuts the answer into its halves, in the order in which you put them together.",
    ),
    derivation="lesson 08, 'The guided loop', (08.5)",
    points=2,
    tolerance=EPSILON,
    properties=(
        Property(
            "one call",
            lambda case, outcome, expected: (
                isinstance(outcome.output, tuple) and len(outcome.output[1]) == 1
            ),
            "your function calls the network more than once, or not at all. Put "
            "both halves into one batch.",
        ),
    ),
    may_change=("model",),
    wrong_answers=(
        WrongAnswer(
            "two calls",
            edit(
                "model(torch.cat([xt, xt]), torch.cat([t, t]), torch.cat([null, cond]))",
                "torch.cat([model(xt, t, null), model(xt, t, cond)])",
            ),
            "The numbers are right. Two calls of B cost more than one of 2B wherever small "
            "batches leave the device idle.",
        ),
        WrongAnswer(
            "the halves are cut in the wrong order",
            edit("uncond_output, cond_output =", "cond_output, uncond_output ="),
            "What you take for the conditional half is the unconditional "
            "one. Your s acts as 1 - s.",
        ),
        WrongAnswer(
            "the paper's w",
            edit("return uncond_output", "return cond_output"),
            "You count the scale from the conditional prediction. In this course s = 1 "
            "is the conditional model.",
        ),
        WrongAnswer(
            "class 0 as no class",
            edit("torch.full_like(cond, model.null_class)", "torch.zeros_like(cond)"),
            "Class 0 is a class: you guide away from it. Ask the network for its null_class.",
        ),
        WrongAnswer(
            "the condition in both halves",
            edit("[null, cond]", "[cond, cond]"),
            "Both halves have the label, so their difference is zero and the scale does nothing.",
        ),
        WrongAnswer(
            "the unconditional half at time 0",
            edit("[t, t]", "[torch.zeros_like(t), t]"),
            "One half is asked about the wrong time. Both stand at the same noise level.",
        ),
        WrongAnswer(
            "each sample twice in a row, cut in the middle",
            edit(
                "torch.cat([xt, xt]), torch.cat([t, t])",
                "xt.repeat_interleave(2, 0), t.repeat_interleave(2)",
            ),
            "repeat_interleave puts copies side by side, but chunk cuts in the middle and cond "
            "was put together with cat.",
        ),
    ),
)


def standard_deviation(a: float, b: float, s: float) -> float:
    """Return the root of a^s b^(1-s), the variance of the guided ODE's end points."""
    return (a**s * b ** (1 - s)) ** 0.5


VARIANCE = Exercise(
    id="08.5",
    lesson=8,
    title="How narrow does it get?",
    statement="""All data is $N(0, <<b>>)$, data with the label is $N(0, <<a>>)$, and both networks
are exact. Guided samples are drawn at $s = <<s>>$, in small steps without fresh noise. Which
**standard deviation** do they have?""",
    stub="standard_deviation = ...\n",
    reference=standard_deviation,
    cases=None,
    parameters={"a": (2.0, 1.0, 0.5), "b": (3.0, 5.0), "s": (2.5, 4.0)},
    hints=(
        "That section computes two variances. Which of them did the guided run have?",
        "(08.8) is the variance: a geometric mean of both variances, with weights s and 1 - s.",
        "a ** s * b ** (1 - s), and then the root.",
    ),
    derivation="lesson 08, 'Which distribution it is, for two Gaussians', (08.8)",
    wrong_answers=(
        WrongAnswer(
            "the variance",
            edit("(a**s * b ** (1 - s)) ** 0.5", "a**s * b ** (1 - s)"),
            "This is the variance. The question asks for the standard deviation, its root.",
        ),
        WrongAnswer(
            "the tilted density",
            edit("(a**s * b ** (1 - s)) ** 0.5", "(s / a + (1 - s) / b) ** -0.5"),
            "This is the deviation of the density p(x) p(c|x)^s. Guided samples do not follow it.",
        ),
        WrongAnswer(
            "w instead of s",
            edit("a**s * b ** (1 - s)", "a ** (1 + s) * b**-s"),
            "You take the number for the paper's w. Here it is s, and s "
            "= 1 is the conditional model.",
        ),
        WrongAnswer(
            "s - 1 instead of s",
            edit("a**s * b ** (1 - s)", "a ** (s - 1) * b ** (2 - s)"),
            "You subtract 1 as if s had to be turned into w first. (08.8) is written in s.",
        ),
        WrongAnswer(
            "the two variances are swapped",
            edit("a**s * b ** (1 - s)", "b**s * a ** (1 - s)"),
            "The power s belongs to the data with the label. Guidance makes the "
            "samples narrower, not wider.",
        ),
        WrongAnswer(
            "the deviations on a line",
            edit("(a**s * b ** (1 - s)) ** 0.5", "abs(b**0.5 + s * (a**0.5 - b**0.5))"),
            "The predictions lie on a line, but the deviations of the samples do not. "
            "Integrate the path, as before (08.8).",
        ),
        WrongAnswer(
            "the other variance is left out",
            edit(" * b ** (1 - s)", ""),
            "The geometric mean has both variances: b with the power 1 - s.",
        ),
        WrongAnswer(
            "the sign of 1 - s",
            edit("b ** (1 - s)", "b ** (s - 1)"),
            "The weights s and 1 - s add up to 1. Beyond s = 1 the second is negative, so you"
            " divide by a power of b.",
        ),
        WrongAnswer(
            "the root is taken twice",
            edit(") ** 0.5", ") ** 0.25"),
            "One root turns a variance into a deviation. You take two.",
        ),
        WrongAnswer(
            "variances taken for deviations",
            edit(") ** 0.5", ") ** 2"),
            "The given numbers are variances already. You square where a root belongs.",
        ),
    ),
)


def _rescale_cases(generator: torch.Generator) -> Iterator[Case]:
    shapes = (
        ((4, 3, 4, 4), torch.float32),
        ((5, 6), torch.float64),
        ((1, 1, 3, 3), torch.float64),
        ((3, 2, 2, 2), torch.float16),
        ((2, 3, 5), torch.float64),
        ((3, 20), torch.float64),  # there the guided prediction has less spread
    )
    for (shape, dtype), scale, phi in zip(
        shapes, (7.5, 3.0, 5.0, 4.0, 2.5, 0.5), (0.7, 1.0, 0.3, 0.5, 0.6, 0.9), strict=True
    ):
        cond_output, uncond_output = (draw.normal(generator, *shape) for _ in range(2))
        width = torch.linspace(0.5, 2.0, shape[0], dtype=torch.float64).reshape(
            -1, *(1,) * (len(shape) - 1)
        )
        yield Case(
            ((width * cond_output + 0.3).to(dtype), uncond_output.to(dtype), scale, phi),
            note=f"shape {shape}",
        )
    yield Case(
        (draw.normal(generator, 2, 3), draw.normal(generator, 2, 3), 6.0, 0.0), note="phi = 0"
    )


def rescaled(cond_output: Tensor, uncond_output: Tensor, scale: float, phi: float) -> Tensor:
    """Return the guided prediction, the share phi of it at cond_output's standard deviation."""
    return guided_prediction(cond_output, uncond_output, scale, phi)


RESCALE = Exercise(
    id="08.6",
    lesson=8,
    title="Rescaled guidance",
    statement="""Write guidance with rescaling from an empty cell. First the guided prediction $g$
at $s$ = `scale`. Then, for each sample, multiply $g$ so that its standard deviation over all
numbers of that sample becomes that of `cond_output` (`torch.std`, as it is). Return the blend:
the share `phi` of the rescaled one and $1 - $ `phi` of $g$.""",
    stub="""def rescaled(cond_output, uncond_output, scale, phi):
    ...
""",
    solution="""def rescaled(cond_output, uncond_output, scale, phi):
    guided = uncond_output + scale * (cond_output - uncond_output)
    axes = tuple(range(1, guided.ndim))
    # (B, 1, ..., 1)
    factor = cond_output.std(axes, keepdim=True) / guided.std(axes, keepdim=True)
    return phi * factor * guided + (1 - phi) * guided
""",
    reference=rescaled,
    cases=_rescale_cases,
    hints=(
        (
            "One factor for each sample: std(cond_output) / std(guided), shaped (B, 1, "
            "..., 1) so that it broadcasts."
        ),
        (
            "x.std(dim=(1, 2, 3), keepdim=True) is that for images; range(1, x.ndim) "
            "gives the axes for any rank."
        ),
        "phi * factor * guided + (1 - phi) * guided.",
    ),
    derivation=(
        "lesson 08, Going further, 'Too much of everything: rescaling'; "
        "Lin et al. 2023, section 3.4"
    ),
    points=2,
    tolerance=EPSILON,
    wrong_answers=(
        WrongAnswer(
            "one factor for the whole batch",
            edit(".std(axes, keepdim=True)", ".std()", times=2),
            "You measure the deviation over the batch. Then one sample's contrast "
            "depends on its neighbours in the batch.",
        ),
        WrongAnswer(
            "the factor is upside down",
            edit(
                "cond_output.std(axes, keepdim=True) / guided.std(",
                "guided.std(axes, keepdim=True) / cond_output.std(",
            ),
            "You divide by the deviation that you want and multiply by the one that you "
            "have: the contrast grows.",
        ),
        WrongAnswer(
            "the unconditional deviation",
            edit("cond_output.std(", "uncond_output.std("),
            "The target is the deviation of the conditional prediction.",
        ),
        WrongAnswer(
            "variances instead of deviations",
            edit(".std(", ".var(", times=2),
            "A factor multiplies deviations. A ratio of variances is its square.",
        ),
        WrongAnswer(
            "phi and 1 - phi are swapped",
            edit(
                "phi * factor * guided + (1 - phi) * guided",
                "(1 - phi) * factor * guided + phi * guided",
            ),
            "At phi = 0 nothing may be rescaled.",
        ),
        WrongAnswer(
            "always fully rescaled",
            edit("phi * factor * guided + (1 - phi) * guided", "factor * guided"),
            "You rescale completely. Only the share phi is; fully rescaled pictures look flat.",
        ),
        WrongAnswer(
            "no rescaling",
            edit("phi * factor * guided + (1 - phi) * guided", "guided"),
            "This is plain guidance. phi does nothing in it.",
        ),
        WrongAnswer(
            "blended with the conditional prediction",
            edit("(1 - phi) * guided", "(1 - phi) * cond_output"),
            "The other part of the blend is the guided prediction, not the conditional one.",
        ),
    ),
)


EXERCISES = (GUIDE, CONVENTION, DROP, WRAPPER, VARIANCE, RESCALE)
