"""No exercise's answer hangs on the rounding of floats.

The numbers to be found are computed again in 50 digits and with changed inputs; the references of all exercises are run on
inputs that differ in the seventh digit. `image_to_image` counts its steps as diffusers does.
"""

import itertools
from fractions import Fraction

import mpmath
import pytest
import torch
from mpmath import mpf

from diffusion_course.exercises.compare import Terms, difference
from diffusion_course.exercises.engine import evaluate, make_cases
from diffusion_course.exercises.registry import Case, Tolerance, all_exercises, get_exercise
from diffusion_course.exercises.trial import clone, run_case
from diffusion_course.latent.tasks import _steps_taken
from diffusion_course.sampling import inference_timesteps


def _betas(number):
    return [mpf("1e-4") + (mpf("0.02") - mpf("1e-4")) * i / (number - 1) for i in range(number)]


def _steps(beta, share):
    steps = mpmath.log(share) / mpmath.log(1 - beta)
    return int(mpmath.floor(steps)) + 1


def _first_index(num_train_timesteps, share):
    now, index = mpf(1), 0
    for index, beta in enumerate(_betas(int(num_train_timesteps))):  # noqa: B007
        now, before = now * (1 - beta), now
        if (1 - before) / (1 - now) >= share:
            break
    return index


def _noise(alpha_bar, x_t):
    noise = [(x_t - mpmath.sqrt(alpha_bar) * x0) / mpmath.sqrt(1 - alpha_bar) for x0 in (1, -1)]
    weights = [mpmath.exp(-(one**2) / 2) for one in noise]
    return sum(w * one for w, one in zip(weights, noise, strict=True)) / sum(weights)


EXACT = {
    "01.4": _steps,
    "02.5": lambda num_steps: mpmath.sqrt(mpmath.fprod(1 - beta for beta in _betas(int(num_steps)))),
    "03.3": _noise,
    "04.3": _first_index,
    "05.3": lambda in_channels, out_channels, size: 2 * (mpmath.floor((size - 1) / 2) + 1) ** 2 * out_channels * in_channels * 9,
    "07.3": lambda d_small, n_small, d_large, n_large: (n_large * d_large - n_small * d_small) / (n_large - n_small),
    "07.7": lambda nats, side: mpmath.log(mpf("127.5"), 2) - nats / (3 * side**2 * mpmath.log(2)),
    "08.5": lambda a, b, s: mpmath.sqrt(a**s * b ** (1 - s)),
    "09.3": lambda variance, weight: max(mpf(0), mpmath.log(2 * variance / weight, 2) / 2),
    "12.1": lambda pixels: mpf(2) * 8 * mpmath.floor(pixels / 8) ** 4 * 2 / 10**9,
    "14.5": lambda shift, num_steps: shift / (num_steps - 1 + shift),
}
WHOLE = ("01.4", "04.3", "05.3")
VALUES = [exercise for exercise in all_exercises() if exercise.is_value]


def test_every_number_has_an_exact_route():
    assert sorted(EXACT) == [exercise.id for exercise in VALUES]


@pytest.mark.parametrize("exercise", VALUES, ids=lambda exercise: exercise.id)
def test_a_number_is_the_one_of_fifty_digits_and_does_not_hang_on_the_seventh(exercise):
    with mpmath.workdps(50):
        for choice in itertools.product(*exercise.parameters.values()):
            exact = EXACT[exercise.id](*(mpf(str(value)) for value in choice))
            found = exercise.reference(*choice)
            assert abs(found - exact) <= mpf("1e-11") * abs(exact), (choice, found, exact)
            if exercise.id not in WHOLE:
                continue
            assert type(found) is int and found == exact
            for place, factor in itertools.product(range(len(choice)), (1 - 1e-6, 1 + 1e-6)):
                near = [value * factor if i == place and type(value) is float else value for i, value in enumerate(choice)]
                assert exercise.reference(*near) == exact, near


# What is compared there is given to the answer, and no arithmetic comes before it.
EDGES = {
    "11.3": ("strength 0.5", "half of 20 steps is 10 in every kind of float"),
    "07.5": ("points", "distances of whole numbers are compared: the same floats on every route"),
    "08.3": ("", "one uniform number is the probability itself, which is not below it"),
}


def _near(value, factor):
    """`value` with every floating number in it times `factor`; 0 and 1 are ends of a range, and stay."""
    if isinstance(value, torch.Tensor) and value.dtype in (torch.float32, torch.float64):
        return torch.where((value == 0) | (value.abs() == 1), value, value * factor).contiguous()
    if isinstance(value, float):
        return value if value in (0.0, 1.0) else value * factor
    if isinstance(value, (list, tuple)):
        return type(value)(_near(part, factor) for part in value)
    return {key: _near(part, factor) for key, part in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("exercise", [one for one in all_exercises() if not one.is_value], ids=lambda one: one.id)
def test_no_reference_jumps_where_an_input_differs_in_the_seventh_digit(exercise):
    edge, loose = EDGES.get(exercise.id, (None, None))[0], Terms(Tolerance(rtol=2e-2, atol=1e-3))
    for seed in (0, 1, 2):
        for case in make_cases(exercise, seed):
            if edge is not None and edge in case.note:
                continue
            expected = run_case(exercise, exercise.reference, case)
            for place, factor in itertools.product(range(len(case.args)), (1 - 1e-6, 1 + 1e-6)):
                args = list(clone(case.args))
                args[place] = _near(args[place], factor)
                got = run_case(exercise, exercise.reference, Case(tuple(args), case.kwargs, case.note))
                assert difference(expected.output, got.output, loose) is None, (case.note, place)


def test_a_share_of_steps_is_counted_exactly():
    count = get_exercise("11.3").reference
    cell = {}
    exec(get_exercise("11.3").solution, cell)
    assert len(count(torch.arange(50.0), 0.58)) == 29 == len(cell["times_taken"](torch.arange(50.0), 0.58))
    for n, hundredths in itertools.product(range(1, 101), range(1, 101)):
        exact = n * hundredths // 100
        assert len(count(torch.arange(float(n)), hundredths / 100)) == exact == len(cell["times_taken"](torch.arange(float(n)), hundredths / 100))


def test_both_ways_to_count_the_steps_are_right_in_the_exercise():
    for count in (lambda n, s: int(n * s), lambda n, s: int(n * Fraction(str(s))), lambda n, s: int(torch.tensor(s) * n)):
        answer = lambda times, strength, count=count: times[len(times) - count(len(times), strength) :]  # noqa: E731
        assert all(evaluate(get_exercise("11.3"), answer, seed=seed).status == "right" for seed in range(10))


def test_image_to_image_counts_its_steps_as_diffusers_does():
    for n, hundredths in itertools.product(range(1, 101), range(1, 101)):
        if taken := min(int(n * (hundredths / 100)), n):  # get_timesteps of StableDiffusionImg2ImgPipeline
            assert _steps_taken(n, hundredths / 100) == taken
    assert _steps_taken(50, 0.58) == 28


def test_the_indices_of_a_shorter_chain_are_those_of_exact_fractions():
    for case in make_cases(get_exercise("06.4"), 0):
        total, n = len(case.args[2]), case.args[3]
        exact = [Fraction(total) - k * Fraction(total, n) for k in range(n)]
        assert all(abs(one % 1 - Fraction(1, 2)) > Fraction(1, 1000) for one in exact), "a half is rounded up or to even"
        assert inference_timesteps(total, n, "trailing").tolist() == [round(one) - 1 for one in exact]
