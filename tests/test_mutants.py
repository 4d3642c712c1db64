"""Every small change of a right answer is refused, unless it is listed here as changing nothing that an exercise asks for.

Mutants are made of the reference and of the written solution; where these are too short for ten, of the variants too. Those
of a find-the-number exercise must be refused for one of the offered parameters at least. `pytest tests/test_mutants.py -k 04.2`
checks one exercise, `-s` prints how many were made.
"""

import importlib
import itertools
import warnings
from pathlib import Path

import pytest
import torch
from mutator import mutants, mutants_of

from diffusion_course.exercises.engine import evaluate
from diffusion_course.exercises.registry import all_exercises

VARIANTS = {}
for path in sorted(Path(__file__).parent.glob("exercise_variants*.py")):
    VARIANTS |= importlib.import_module(path.stem).VARIANTS
FEWEST = 10
ONE_AXIS = "what it is taken along has one axis, or one entry"
SQUARED = "the difference is squared"
SYMMETRIC = "the two may be swapped"
EITHER_WAY = "two axes are swapped either way round"
# exercise -> {mutant: why it is as right as the original}
EQUIVALENT = {
    "01.4": {"left >= share -> left > share": "the share is never met exactly"},
    "01.5": {"0 -> -1": ONE_AXIS, "0 -> -1 #2": ONE_AXIS, "0 -> -1 #3": ONE_AXIS},
    "02.2": {"0 -> -1": ONE_AXIS},
    "02.5": {
        "0.0001 -> 0.0002": "the first beta of a linear schedule changes the product by less than a number is asked for",
        "torch.linspace(0.0001, 0.02, num_steps, dtype=torch.float64) -> torch.linspace(0.02, 0.0001, num_steps, dtype=torch.float64)": "a product has no order",
    },
    "02.6": {
        "0 -> -1": ONE_AXIS,
        "roots - roots[-1] -> roots[-1] - roots": SQUARED,
        "roots[0] - roots[-1] -> roots[-1] - roots[0]": SQUARED,
        "signal - signal[-1] -> signal[-1] - signal": SQUARED,
        "signal[0] - signal[-1] -> signal[-1] - signal[0]": SQUARED,
    },
    "03.1": {"noise_pred * -1 -> noise_pred / -1": "both are the other sign"},
    "03.3": {
        "0 -> -1": ONE_AXIS,
        "alpha_bar ** 0.5 * x0 -> alpha_bar ** 0.5 / x0": "the two x_0 are 1 and -1",
        "x_t - alpha_bar ** 0.5 * x0 -> x_t + alpha_bar ** 0.5 * x0": "the two x_0 are 1 and -1, and change places",
    },
    "03.6": {
        "[1] * (x0.ndim - 1) -> [1]": "the exercise is about points (B, 2)",
        "x0.ndim - 1 -> 1": "the exercise is about points (B, 2)",
        "model(xt, t) - noise -> noise - model(xt, t)": SQUARED,
    },
    "04.3": {"0 -> -1": ONE_AXIS, "ratio >= share -> ratio > share": "the share is never met exactly"},
    "04.4": {"0 -> -1": ONE_AXIS},
    "04.5": {"0 -> -1": ONE_AXIS},
    "04.6": {"0 -> -1": ONE_AXIS},
    "05.1": {"dim // 2 -> dim / 2": "dim is even"},
    "05.3": {"2 * 1 -> 2": "the same number", "2 * 1 -> 2 / 1": "the same number"},
    "05.4": {
        "x.reshape(len(x), num_groups, -1) -> x.reshape(num_groups, len(x), -1)": "the rows are the same, and only rows are used",
        "y - mean -> mean - y #2": SQUARED,
    },
    "05.5": {"min(decay, (1 + n) / (10 + n)) -> min((1 + n) / (10 + n), decay)": SYMMETRIC},
    "05.6": {
        "F.scaled_dot_product_attention(q, k, v).transpose(1, 2) -> F.scaled_dot_product_attention(q, k, v).transpose(2, 1)": EITHER_WAY,
        "h.transpose(1, 2) -> h.transpose(2, 1)": EITHER_WAY,
        "z.reshape(batch, length, num_heads, -1).transpose(1, 2) -> z.reshape(batch, length, num_heads, -1).transpose(2, 1)": EITHER_WAY,
        "z.unflatten(-1, (num_heads, -1)).transpose(1, 2) -> z.unflatten(-1, (num_heads, -1)).transpose(2, 1)": EITHER_WAY,
    },
    "07.1": {
        "mean_a - mean_b -> mean_b - mean_a": SQUARED,
        "var_a.sqrt() - var_b.sqrt() -> var_b.sqrt() - var_a.sqrt()": SQUARED,
    },
    "07.2": {
        "0 -> -1": "the eigenvalues are not negative",
        "features_a.mean(0) - features_b.mean(0) -> features_b.mean(0) - features_a.mean(0)": SQUARED,
        "frechet_distance(features_a, features_b) -> frechet_distance(features_b, features_a)": SYMMETRIC,
        "torch.linalg.eigvals(cov_a @ cov_b).real.clamp(min=0) -> torch.linalg.eigvals(cov_a @ cov_b).real": "the eigenvalues are not negative",
    },
    "07.4": {"kernel(x, y) -> kernel(y, x)": SYMMETRIC},
    "07.5": {"1 -> 0 #2": "distances among the centres are symmetric"},
    "07.6": {
        "(total / len(probes)).detach() -> total / len(probes)": "an outcome holds values without their gradients",
        "row * z -> row / z": "the probes are 1 and -1",
        "x.detach() -> x": "an outcome holds values without their gradients",
    },
    "09.3": {
        "0.0 -> -1.0": "every variance that is offered is worth some bits",
        "max(0.0, 0.5 * math.log2(2 * variance / weight)) -> max(0.5 * math.log2(2 * variance / weight), 0.0)": SYMMETRIC,
    },
    "09.4": {
        "autoencoder.psnr(images, references) -> autoencoder.psnr(references, images)": SYMMETRIC,
        "images - references -> references - images": SQUARED,
    },
    "09.5": {
        "mix(alpha_bar ** 0.5, factor * encode(images), (1 - alpha_bar) ** 0.5, noise) -> mix(factor * encode(images), alpha_bar ** 0.5, (1 - alpha_bar) ** 0.5, noise)": SYMMETRIC,
    },
    "09.6": {"mean - overall -> overall - mean": SQUARED},
    "10.2": {"True -> False": "the two lists that are zipped are equally long"},
    "10.3": {"-2 -> 2": "scores have four axes", "2 -> 3": "leading axes of 1 or more broadcast", "2 -> 4": "leading axes broadcast"},
    "10.4": {"0 -> -1": ONE_AXIS, "keys.transpose(-1, -2) -> keys.transpose(-2, -1)": EITHER_WAY},
    "10.5": {
        "(attention_probabilities(queries, keys) @ values).transpose(1, 2) -> (attention_probabilities(queries, keys) @ values).transpose(2, 1)": EITHER_WAY,
        "(shares @ v).transpose(1, 2) -> (shares @ v).transpose(2, 1)": EITHER_WAY,
        "-2 -> 2": "keys have four axes",
        "k.transpose(-1, -2) -> k.transpose(-2, -1)": EITHER_WAY,
        "x.unflatten(-1, (heads, -1)).transpose(1, 2) -> x.unflatten(-1, (heads, -1)).transpose(2, 1)": EITHER_WAY,
    },
    "11.4": {
        "mask > 0.5 -> mask >= 0.5": "a mask holds 0 and 1",
        "mix(math.sqrt(alpha_bar), known, math.sqrt(1 - alpha_bar), noise) -> mix(known, math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar), noise)": SYMMETRIC,
    },
    "11.5": {"0 -> -1": ONE_AXIS},
    "12.1": {
        "1000000000.0 -> 1000000001.0": "less than a number is asked for",
        "1000000000.0 -> 999999999.0": "less than a number is asked for",
        "pixels // 8 -> pixels / 8": "sizes are multiples of 8",
    },
    "12.4": {"key[part].transpose(1, 2) -> key[part].transpose(2, 1)": EITHER_WAY},
    "12.6": {
        "output - noise -> noise - output": SQUARED,
        "output - target -> target - output": SQUARED,
        "output - v -> v - output": SQUARED,
    },
}


def made_of(exercise):
    """The mutants of an exercise, by name."""
    found = mutants_of(exercise.reference)
    if exercise.solution:
        scope = {"torch": torch}
        exec(exercise.render(exercise.solution), scope)
        found += mutants(exercise.render(exercise.solution), scope)
    for variant in VARIANTS[exercise.id]:
        if len(found) < FEWEST and variant.__name__ != "<lambda>":
            found += mutants_of(variant)
    return found


def survives(exercise, function):
    """Whether `check` would take the mutant for right."""
    if not exercise.is_value:
        return all(evaluate(exercise, function, seed=seed).status == "right" for seed in (0, 1))
    for choice in itertools.product(*exercise.parameters.values()):
        bound = exercise.with_parameters(**dict(zip(exercise.parameters, choice, strict=True)))
        try:
            value = function(**bound.chosen)
        except Exception:
            return False
        if evaluate(bound, value).status != "right":
            return False
    return True


class Endless(Exception):
    """A mutant that does not come to an end."""


@pytest.fixture
def bounded():
    """Stop a mutant whose loop has no end, by counting the lines that it runs."""
    import sys

    def watch(function, lines=200_000):
        def limited(*args, **kwargs):
            count = 0

            def trace(frame, event, argument):
                nonlocal count
                if frame.f_code.co_filename != "<mutant>":
                    return None
                count += 1
                if count > lines:
                    raise Endless
                return trace

            before = sys.gettrace()
            sys.settrace(trace)
            try:
                return function(*args, **kwargs)
            finally:
                sys.settrace(before)

        limited.__signature__ = None
        return limited

    return watch


@pytest.mark.parametrize("exercise", all_exercises(), ids=lambda exercise: exercise.id)
def test_every_mutant_is_refused_or_listed(exercise, bounded):
    found = made_of(exercise)
    assert len(found) >= FEWEST, f"only {len(found)} mutants of {exercise.id}: write out its solution"
    listed = EQUIVALENT.get(exercise.id, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a mutant does to torch is not the suite's concern
        survivors = {one.name for one in found if survives(exercise, bounded(one.function))}
    print(f"{exercise.id}: {len(found)} mutants, {len(found) - len(survivors)} refused, {len(survivors)} of them listed as equal")
    assert survivors - set(listed) == set(), "these changes pass: strengthen the cases, or list them with the reason"
    assert set(listed) - survivors == set(), "these are listed and do not survive, or are not made: remove them"
    assert torch.is_grad_enabled()
