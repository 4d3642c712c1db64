"""What a check does about an answer's surroundings: switches, digits, blanks, names, words, time, ids. On made-up exercises."""

import builtins
import dataclasses
import functools
import linecache
import math
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import types
import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from doubling import double, two_cases

from diffusion_course import exercises
from diffusion_course.exercises import digits, patience, saying
from diffusion_course.exercises.compare import Terms, difference
from diffusion_course.exercises.definition import Exercise, Tolerance
from diffusion_course.exercises.engine import CannotJudge, evaluate, judge, make_cases
from diffusion_course.exercises.record import Record
from diffusion_course.exercises.registry import (
    Case,
    WrongAnswer,
    all_exercises,
    canonical,
    get_exercise,
)
from diffusion_course.exercises.surroundings import kept
from diffusion_course.exercises.trial import run_case

VALUES = [one for one in all_exercises() if one.is_value]


def make(**changes):
    wrong = (
        WrongAnswer("tripled", lambda x, t: 3 * x, "Three is not two."),
        WrongAnswer("squared", lambda x, t: x**2, "A square is no double."),
        WrongAnswer("halved", lambda x, t: x / 2, "Half is no double."),
    )
    parts = {"id": "07.1", "lesson": 7, "title": "Double", "statement": "Double x.", "stub": "def double(x, t):\n    return ...\n", "reference": double,
             "cases": two_cases, "hints": ("a", "b", "c"), "derivation": "nowhere", "wrong_answers": wrong}
    return Exercise(**(parts | changes))


def made(source, name="double"):
    """A function as a notebook's cell would define it: without a file."""
    scope = {"torch": torch, "np": np}
    exec(compile(source, "<cell>", "exec"), scope)
    return scope[name]


# B1: what an answer switches


def _read_all():
    return {
        "gradients": torch.is_grad_enabled(), "dtype": torch.get_default_dtype(), "device": torch.get_default_device(),
        "anomaly": (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()), "threads": torch.get_num_threads(),
        "deterministic": torch.get_deterministic_debug_mode(), "precision": torch.get_float32_matmul_precision(),
        "cudnn": torch.backends.cudnn.benchmark, "autocast": torch.is_autocast_enabled("cpu"), "folder": os.getcwd(), "numpy": np.geterr(),
        "warnings": list(warnings.filters), "torch prints": vars(torch._tensor_str.PRINT_OPTS).copy(), "numpy prints": np.get_printoptions(),
        "path": list(sys.path), "depth": sys.getrecursionlimit(), "environment": dict(os.environ), "stdout": sys.stdout, "trace": sys.gettrace(),
        "alarm": (signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)), "inference": torch.is_inference_mode_enabled(),
        "random": (torch.get_rng_state().numpy().tobytes(), np.random.get_state()[1].tobytes(), random.getstate()),
        "tiny": float("2e-310") * 0.5,
    }


SWITCHES = {
    "gradients": lambda: torch.set_grad_enabled(False),
    "inference": lambda: torch.inference_mode().__enter__(),
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True),
    "dtype": lambda: torch.set_default_dtype(torch.float64),
    "device": lambda: torch.set_default_device("meta"),
    "threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "deterministic": lambda: torch.set_deterministic_debug_mode("warn"),
    "precision": lambda: torch.set_float32_matmul_precision("medium"),
    "cudnn": lambda: setattr(torch.backends.cudnn, "benchmark", not torch.backends.cudnn.benchmark),
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "tiny": lambda: torch.set_flush_denormal(True),
    "folder": lambda: os.chdir("/"),
    "numpy": lambda: np.seterr(all="raise"),
    "warnings": lambda: warnings.simplefilter("error"),
    "torch prints": lambda: torch.set_printoptions(precision=2, sci_mode=True),
    "numpy prints": lambda: np.set_printoptions(precision=2),
    "random": lambda: (torch.manual_seed(3), np.random.seed(3), random.seed(3)),
    "alarm": lambda: (signal.signal(signal.SIGALRM, signal.SIG_IGN), signal.setitimer(signal.ITIMER_REAL, 900)),
    "path": lambda: sys.path.insert(0, "/nowhere"),
    "depth": lambda: sys.setrecursionlimit(sys.getrecursionlimit() + 7),
    "environment": lambda: (os.environ.update(NEW="1"), os.environ.pop("PATH", None)),
    "stdout": lambda: setattr(sys, "stdout", sys.stderr),
    "trace": lambda: sys.settrace(None),
}


@pytest.mark.parametrize("name", SWITCHES)
def test_what_an_answer_switches_is_switched_back(name):
    def answer(x, t):
        y = 2 * x
        SWITCHES[name]()
        return y

    before = _read_all()
    assert evaluate(make(), answer).status == "right"
    assert _read_all() == before
    assert evaluate(make(), lambda x, t: 2 * x).status == "right"


def wants_defaults(x, t):
    """A right answer that works under torch's defaults only."""
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((leaf * leaf).sum(), leaf)
    return gradient + torch.zeros(x.shape)


@pytest.mark.parametrize("name", ["gradients", "dtype", "device", "autocast", "numpy", "tiny"])
def test_a_check_judges_as_in_a_fresh_kernel_whatever_the_reader_has_switched(name):
    exercise = make(reference=wants_defaults)
    with kept():
        SWITCHES[name]()
        switched = _read_all()
        assert evaluate(exercise, wants_defaults).status == "right"
        assert evaluate(exercise, lambda x, t: 3 * x).mistake == "tripled"
        assert _read_all() == switched
    with torch.inference_mode(), torch.device("meta"):
        assert evaluate(exercise, wants_defaults).status == "right"


def test_a_reference_that_cannot_run_here_is_said():
    def broken(x, t):
        raise OSError("no such weights")

    exercise = make(reference=broken)
    result = evaluate(exercise, double)
    assert result.status == "unanswered"
    assert result.message == "07.1 cannot be checked: Case 'four': the course's own answer cannot run here: OSError: no such weights"
    cases = make_cases(exercise)
    with pytest.raises(CannotJudge, match="cannot run here"):
        judge(exercise, cases, [run_case(exercise, double, case) for case in cases])


# B2: digits


@pytest.mark.parametrize("number, right, wrong", [
    (3.14159265, [3.14, 3.142, 3.1416, 3.14159, 3.1415926], [3.1, 3.0, 3, 3.143, 3.141, 3.1428, 3.15, 3.13, 3.1417]),
    (2.998, [3.0, 3, 2.998, 3.00], [2.99, 2.997, 2.999, 3.01, 2.9]),
    (0.54231, [0.542, 0.5423, 0.54231], [0.54, 0.5, 0.543, 0.5424, 0.541]),
    (0.99961, [1.0, 1, 0.9996], [0.999, 0.9997, 1.01]),
    (-1234.5, [-1230, -1234.5, -1234, -1235.0], [1234.5, -1240, -1236, -1200]),
    (1.5e-7, [1.5e-7], [1.51e-7, 1.49e-7, 0.0, 1e-7]),
    (0.1 + 0.2, [0.3, 0.30], [0.31, 0.301]),
])
def test_a_number_is_right_in_each_digit_that_it_is_written_with(number, right, wrong):
    tolerance = Tolerance(rtol=1e-4, atol=0)
    assert [one for one in right if not digits.is_right(number, one, 3, tolerance)] == []
    assert [one for one in wrong if digits.is_right(number, one, 3, tolerance)] == []


def test_whole_numbers_are_exact_and_four_digits_are_four_where_they_are_asked_for():
    assert digits.is_right(12000, 12000.0, 3, Tolerance()) and not digits.is_right(12000, 12001, 3, Tolerance())
    assert digits.is_right(3.14159, 3.142, 4, Tolerance()) and not digits.is_right(3.14159, 3.14, 4, Tolerance())
    terms = Terms(Tolerance(), digits=4)
    assert difference(3.14159, 3.14, terms).message == "your output, 3.14, agrees to 3 digits, 4 are asked for."
    told = difference(3.14159, 3.1428, Terms(Tolerance(), digits=3)).message
    assert told == "your output, 3.1428, agrees to 3 digits: those after them that you write have to be right too."
    assert difference(3.14159, 4.0, terms).message == "your output, 4, is too large."
    with pytest.raises(ValueError, match="the statement must ask for 4 significant digits"):
        make(digits=4)
    with pytest.raises(ValueError, match="at least 3 significant digits"):
        make(digits=2)


def rounded(value, places):
    """The number as a person writes it with so many significant digits."""
    return float(f"{value:.{places}g}")


def with_every_parameter(exercise):
    for name, choices in exercise.parameters.items():
        for choice in choices:
            yield exercise.with_parameters(**{name: choice})


@pytest.mark.parametrize("exercise", VALUES, ids=lambda one: one.id)
def test_every_number_to_be_found_may_be_rounded_and_must_be_right_in_its_last_digit(exercise):
    for bound in with_every_parameter(exercise):
        value = bound.reference(**bound.chosen)
        if isinstance(value, str):
            continue
        if isinstance(value, int):
            right = [value, float(value), np.int64(value), torch.tensor(value), Fraction(value), Decimal(value)]
            wrong = [value + 1, value - 1]
        else:
            right, wrong = [value, np.float64(value), torch.tensor(value), Fraction(value)], []
            for places in range(bound.digits, 6):
                short = rounded(value, places)
                right += [short, np.float64(short), np.float32(short), torch.tensor(short), torch.tensor([short]), Fraction(repr(short)), Decimal(repr(short))]
                if bound.tolerance.rtol <= Tolerance().rtol:
                    unit = 10.0 ** (np.floor(np.log10(abs(value))) - places + 1)
                    near = [rounded(short + unit, places), rounded(short - unit, places)]
                    # 1.780 arrives as 1.78, and that may be right.
                    wrong += [one for one in near if len(Decimal(repr(one)).normalize().as_tuple().digits) == places]
        refused = [one for one in right if evaluate(bound, one).status != "right"]
        assert refused == [], (bound.chosen, value)
        assert [one for one in wrong if evaluate(bound, one).status == "right"] == [], (bound.chosen, value)


@pytest.mark.parametrize("exercise", VALUES, ids=lambda one: one.id)
def test_no_wrong_number_becomes_right_by_rounding(exercise):
    for bound in with_every_parameter(exercise):
        for wrong in bound.wrong_answers:
            value = wrong.function(**bound.chosen)
            if isinstance(value, float) and np.isfinite(value):
                for places in range(bound.digits, 6):
                    assert evaluate(bound, rounded(value, places)).status == "wrong", (bound.chosen, wrong.name, value)


# B4: numpy and layers


def half_precision_too(generator):
    yield from two_cases(generator)
    yield Case((torch.randn(2, 3, generator=generator).bfloat16(), torch.tensor([0, 1])), note="bfloat16")


def test_numpy_may_compute_an_answer_and_cannot_be_asked_for_bfloat16():
    exercise = make(cases=half_precision_too)
    assert evaluate(exercise, lambda x, t: x.numpy() * 2).message == "07.1 is right (2 cases agree)."
    assert evaluate(exercise, lambda x, t: torch.from_numpy(x.float().numpy() * 2).to(x.dtype)).message == "07.1 is right (3 cases agree)."
    assert evaluate(exercise, lambda x, t: x.numpy() * 3).mistake == "tripled"
    assert evaluate(exercise, lambda x, t: x.numpy().astype("float64") * 2).check == "dtype"
    only = make(cases=lambda generator: list(half_precision_too(generator))[2:])
    result = evaluate(only, lambda x, t: x.numpy() * 2)
    assert result.check == "raises" and "numpy has no bfloat16: go through `x.float()`." in result.message


def test_layers_filled_with_given_weights_are_right_and_their_first_weights_are_not():
    def filled(x, t):
        layer = torch.nn.Linear(3, 3, bias=False)
        with torch.no_grad():
            layer.weight.copy_(2 * torch.eye(3))
        return layer(x)

    assert evaluate(make(), filled).status == "right"
    assert evaluate(make(), lambda x, t: 2 * x + 0 * torch.nn.Dropout(0.5)(x)).status == "right"
    result = evaluate(make(), lambda x, t: torch.nn.Linear(3, 3)(x))
    assert result.check == "random" and "depends on the global random state" in result.message


def test_gradients_that_are_switched_on_for_an_input_are_a_change_of_it():
    result = evaluate(make(), lambda x, t: 2 * x.requires_grad_())
    assert result.check == "inputs" and "switches gradients of its input `x` on or off" in result.message
    assert evaluate(make(), lambda x, t: 2 * x.detach().requires_grad_()).status == "right"


# B5: not answered yet


class Unwritten:
    scale = ...

    def __call__(self, x, t):
        return self.scale * x


class Layer(torch.nn.Module):
    def forward(self, x, t):
        raise NotImplementedError


HELPER = "def helper(x):\n    raise NotImplementedError('later')\ndef double(x, t):\n    with torch.no_grad():\n        return helper(x)\n"
BLANKS = {
    "a stub": "def double(x, t):\n    return ...\n",
    "a product": "def double(x, t):\n    return x * ...\n",
    "an argument of torch": "def double(x, t):\n    return torch.where(x > 0, x, ...)\n",
    "an argument of numpy": "def double(x, t):\n    return x * np.sqrt(...)\n",
    "a float": "def double(x, t):\n    return x * float(...)\n",
    "a name": "scale = ...\ndef double(x, t):\n    return scale * x\n",
    "an attribute": "def double(x, t):\n    return ....sqrt() * x\n".replace("....sqrt", "(...).sqrt"),
    "a call": "scale = ...\ndef double(x, t):\n    return scale(x)\n",
    "beside an index": "def double(x, t):\n    y = x[..., 0] * ... + x[0, 0]\n    return y\n",
    "raise": "def double(x, t):\n    raise NotImplementedError\n",
    "raise in a helper": HELPER,
    "a line alone": "def double(x, t):\n    y = 2 * x\n    ...\n",
    "pass": "def double(x, t):\n    'Double x.'\n    pass\n",
    "in one branch": "def double(x, t):\n    if len(x) > 1:\n        return 2 * x\n    return ...\n",
    "a lambda": "double = lambda x, t: ... + x\n",
    "a loop": "def double(x, t):\n    return torch.stack([row * ... for row in x])\n",
}


@pytest.mark.parametrize("name", BLANKS)
def test_a_blank_is_the_dots_or_the_raise_of_the_learners_own(name, tmp_path, monkeypatch):
    monkeypatch.setitem(linecache.cache, "<cell>", (1, None, BLANKS[name].splitlines(True), "<cell>"))
    result = evaluate(make(), made(BLANKS[name]))
    assert result.status == "unanswered", result.message
    assert result.message.startswith("07.1 not answered yet.")


def test_blanks_in_classes_and_partials():
    for answer in (Unwritten(), Layer(), functools.partial(lambda x, t, s: s * x, s=...)):
        assert evaluate(make(), answer).status == "unanswered"


def lacks(x, t):
    return torch.linalg.svdvals(torch.ones(2, 2).bfloat16()) * x


NOT_BLANK = {
    "torch lacks it": (lacks, "NotImplementedError"),
    "an abstract method": (lambda x, t: torch.nn.Module()(x), "NotImplementedError"),
    "dots in an index": (lambda x, t: x[..., 0, 0, 0], "IndexError"),
    "an error beside an index": (lambda x, t: x[..., None] + torch.zeros(7, 7), "RuntimeError"),
    "einsum": (lambda x, t: torch.einsum("...i,...jk->...i", x, x[..., 0]), "RuntimeError"),
    "another word": (lambda x, t: int("ellipsis"), "ValueError"),
    "another word beside an index": (lambda x, t: x[..., int("ellipsis") :], "ValueError"),
}


@pytest.mark.parametrize("name", NOT_BLANK)
def test_what_torch_cannot_do_is_no_blank(name):
    answer, kind = NOT_BLANK[name]
    result = evaluate(make(), answer)
    assert result.status == "wrong" and result.check == "raises" and kind in result.message


def test_a_mask_is_turned_round_with_a_tilde():
    assert "`~" in evaluate(make(), lambda x, t: torch.where(1 - (x > 0), x, 2 * x)).message
    assert evaluate(make(), lambda x, t: torch.where(~(x > 0), 2 * x, x + x[..., :])).status == "right"


def test_an_answer_that_prints_is_told_that_it_returns_none():
    def printing(x, t):
        print(2 * x)

    def silent(x, t):
        y = 2 * x  # noqa: F841

    result = evaluate(make(), printing)
    assert result.status == "wrong" and "returns None: its `return` is missing. It prints" in result.message
    assert evaluate(make(), silent).message == "07.1 is not right yet. Your function returns None: its `return` is missing."


# B7: names


def test_what_is_complex_or_not_finite_is_not_taken_for_a_mistake():
    exercise = make()
    for answer in (lambda x, t: 3 * x + 1j, lambda x, t: 3 * x / 0, lambda x, t: torch.full_like(x, torch.nan), lambda x, t: (3 * x).int()):
        result = evaluate(exercise, answer)
        assert result.status == "wrong" and result.mistake is None, result.message
    assert evaluate(exercise, lambda x, t: 3 * x + 0j).mistake == "tripled"
    assert evaluate(exercise, lambda x, t: (3 * x).double()).mistake == "tripled"


def test_two_mistakes_that_explain_as_much_are_not_named():
    twins = (*make().wrong_answers, WrongAnswer("also tripled", lambda x, t: x + 2 * x, "x"))
    assert evaluate(make(wrong_answers=twins), lambda x, t: 3 * x).mistake is None
    one = (*make().wrong_answers, WrongAnswer("tripled in one case", lambda x, t: x * (3 if len(x) > 1 else 2), "x"))
    assert evaluate(make(wrong_answers=one), lambda x, t: 3 * x).mistake == "tripled"


def half_again(x, t):
    return (2 * x).half()


def test_a_mistake_of_the_dtype_is_not_named_for_what_only_comes_near():
    wrong = (*make().wrong_answers, WrongAnswer("half again", half_again, "x"))
    assert evaluate(make(wrong_answers=wrong), half_again).mistake == "half again"
    assert evaluate(make(wrong_answers=wrong), lambda x, t: 2.01 * x).mistake != "half again"


def test_a_mistake_is_named_only_where_it_explains_every_case():
    """The course's ratio of lengths loses the sign; a ratio of the other sign does so in one case and not in the other."""
    cases = [Case((torch.ones(2, 3), torch.tensor([0, 1])), note="up"), Case((-torch.ones(1, 3), torch.tensor([0])), note="down")]
    wrong = (*make().wrong_answers, WrongAnswer("the size", lambda x, t: 2 * x.abs(), "x"))
    exercise = make(cases=lambda generator: cases, wrong_answers=wrong)
    assert evaluate(exercise, lambda x, t: 2 * x.abs()).mistake == "the size"
    assert evaluate(exercise, lambda x, t: -2 * x).mistake != "the size"


# B8: messages


def test_the_first_number_that_is_off_is_shown_and_never_times_one():
    exercise = make(cases=lambda generator: [Case((torch.arange(6.0).reshape(2, 3), torch.tensor([0, 1])), note="six")])
    assert evaluate(exercise, lambda x, t: 5 * x).detail == "At index (0, 1) yours is 5, 2.5 times what is asked for."
    assert evaluate(exercise, lambda x, t: 2 * x + (x > 4) * 0.004).detail == "At index (1, 2) yours is 10."
    assert "times 1" not in evaluate(exercise, lambda x, t: 2 * x * 1.0004).message
    assert evaluate(exercise, lambda x, t: 0 * x).detail == "At index (0, 1) yours is 0."
    scalar = make(reference=lambda x, t: x.sum())
    assert re.fullmatch(r"Yours is -?[\d.]+, 3 times what is asked for\.", evaluate(scalar, lambda x, t: 3 * x.sum()).detail)
    assert "off by up to 1." in evaluate(scalar, lambda x, t: x.sum() + 1).message
    assert "  " not in evaluate(scalar, lambda x, t: x.sum() + 1).message
    assert "NaN." in evaluate(scalar, lambda x, t: x.sum() * torch.nan).message


def test_no_detail_gives_a_number_that_is_to_be_found_away():
    exercise = make(cases=None, reference=lambda: 3.14159, stub="answer = ...\n", wrong_answers=tuple(
        dataclasses.replace(one, answer=lambda k=k: k) for k, one in enumerate(make().wrong_answers, start=50)))
    assert evaluate(exercise, 4.0).detail == "" and evaluate(exercise, torch.tensor([4.0])).detail == ""


class Called:
    def __call__(self, x, t):
        y = 2 * x
        return y + torch.zeros(7)


class Forward(torch.nn.Module):
    def forward(self, x, t):
        return x + torch.zeros(7)


def decorated(function):
    @functools.wraps(function)
    def around(*args, **kwargs):
        return function(*args, **kwargs)

    return around


@torch.no_grad()
@decorated
def twice_decorated(x, t):
    return x + torch.zeros(7)


def with_scale(scale, x, t):
    return scale * x + torch.zeros(7)


def helps(x):
    return x + torch.zeros(7)


def is_helped(x, t):
    return helps(x)


@pytest.mark.parametrize("answer, place, line", [
    (Called(), "in line 3 of `__call__`", "return y + torch.zeros(7)"),
    (Forward(), "in line 2 of `forward`", "return x + torch.zeros(7)"),
    (twice_decorated, "in line 2 of it", "return x + torch.zeros(7)"),
    (functools.partial(with_scale, 2.0), "in line 2 of it", "return scale * x + torch.zeros(7)"),
    (lambda x, t: x + torch.zeros(7), "in line 1 of it", "(lambda x, t: x + torch.zeros(7)"),
    (is_helped, "in line 2 of `helps`", "return x + torch.zeros(7)"),
], ids=["call", "forward", "decorated", "partial", "lambda", "helper"])
def test_an_error_is_shown_with_its_own_line(answer, place, line):
    message = evaluate(make(), answer).message
    assert f"RuntimeError {place}: The size of tensor a (3)" in message and f"\n    {line}" in message


def test_parts_that_a_check_measures_are_called_what_they_are():
    exercise = get_exercise("05.7")
    source = exercise.solution_source()
    assert "part " not in evaluate(exercise, made(source.replace("model.train(was_training)", "pass"), "validation_loss")).message
    doubled = evaluate(exercise, lambda *args: 2 * made(source, "validation_loss")(*args))
    assert doubled.check == "value" and "': your output is off by " in doubled.message and "part " not in doubled.message
    text = evaluate(exercise, lambda model, batches: "0.5").message
    assert "Your output is a string, a torch.Tensor is asked for." in text.replace("your output", "Your output")
    for one in all_exercises():
        if one.call is not None and one.call.__name__ != "as_numbers":
            assert one.call.parts, one.id


@pytest.fixture
def fresh(monkeypatch):
    monkeypatch.setattr(exercises, "_record", Record())


def off_by_one(x_prev, t, betas, noise):
    return x_prev + 1


def test_the_inputs_of_the_failing_case_are_shown_on_request_and_can_be_tried_again(fresh, capsys):
    result = exercises.check("01.1", off_by_one, show=True)
    printed = capsys.readouterr().out
    assert result.detail and result.detail in printed and "The inputs of case 'images':\nx_prev = tensor(" in printed
    assert list(result.inputs) == ["x_prev", "t", "betas", "noise"] and torch.equal(result.rerun(), result.inputs["x_prev"] + 1)
    assert exercises.check("01.4", 3).inputs == {}
    with pytest.raises(ValueError, match=r"01\.4: no function was called"):
        exercises.check("01.4", 3).rerun()
    raising = exercises.check("01.1", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        raising.rerun()


def test_in_a_notebook_right_and_wrong_differ_by_icon_and_words(monkeypatch, capsys):
    shown = []
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    monkeypatch.setattr("diffusion_course.notebook.display.publish", shown.append)
    for answer in (lambda x, t: 2 * x, lambda x, t: 3 * x, ...):
        saying.say(evaluate(make(), answer))
    right, wrong = shown
    assert "✓" in right["text/html"] and "Right" in right["text/html"] and right["text/plain"] == "07.1 is right (2 cases agree)."
    assert "✗" in wrong["text/html"] and "Not right yet" in wrong["text/html"] and wrong["text/plain"].startswith("07.1 is not right yet. ")
    assert capsys.readouterr().out.startswith("07.1 not answered yet.")
    assert "<script>" not in saying.as_html("wrong", "<script>")


def endless(x, t):
    while True:
        try:
            sum(range(100))
        except Exception:
            pass


def test_a_loop_that_never_ends_is_stopped_and_the_handlers_stay():
    def handler(*args):
        raise AssertionError

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 500)
    try:
        result = evaluate(make(), endless, time_limit=0.05)
        assert signal.getsignal(signal.SIGALRM) is handler and 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 500
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert result.status == "wrong" and result.check == "time"
    assert "it had not come back after 0.05 s" in result.message and re.search(r"It was in line \d of it: ", result.message)


def test_another_thread_is_stopped_too_and_nothing_comes_late():
    results = []

    def work():
        results.append(evaluate(make(), endless, time_limit=0.05))
        results.append(evaluate(make(), lambda x, t: 2 * x, time_limit=5.0))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert [one.check for one in results] == ["time", None]


HELPED = "def double(x, t):\n    def helper(y):\n        {body}\n    {end}\n"


@pytest.mark.parametrize("source, words", [
    (HELPED.format(body="pass", end="return helper(x)"), "returns None: what stands behind its `return` is None."),
    (HELPED.format(body="return 2 * y", end="z = helper(x)"), "returns None: its `return` is missing."),
    ("def double(x, t):\n    y = 2 * x\n    return None\n", "returns None: write behind its `return` what is asked for."),
    ("def double(x, t):\n    y = 2 * x\n    return\n", "returns None: write behind its `return` what is asked for."),
    ("def double(x, t):\n    if len(x) > 9:\n        return 2 * x\n", "no `return` with a value is reached"),
    ("double = lambda x, t: x.__setitem__(0, 1)\n", "Your function returns None."),
])
def test_why_nothing_comes_back_is_read_in_the_learners_own_function(source, words, monkeypatch):
    monkeypatch.setitem(linecache.cache, "<cell>", (1, None, source.splitlines(True), "<cell>"))
    result = evaluate(make(), made(source))
    assert result.status == "wrong" and words in result.message, result.message
    assert ("is missing" in result.message) == ("is missing" in words)


def test_a_return_in_one_branch_only_is_said():
    result = evaluate(make(), made("def double(x, t):\n    if len(x) > 1:\n        return 2 * x\n"))
    assert result.check == "type" and result.message.endswith("Its `return` stands in one branch only: on another way nothing comes back.")
    assert "branch" not in evaluate(make(), lambda x, t: 2 * x if len(x) > 1 else None).message


def test_a_part_that_is_still_open_is_named():
    pair = make(reference=lambda x, t: (x + 1, 2 * x), stub="def double(x, t):\n    more = x + 1\n    twice = ...\n    return more, twice\n")
    assert evaluate(pair, lambda x, t: (x + 1, ...)).message == (
        "07.1 not answered yet: the second part (`twice`) of what it returns is still `...`; hint('07.1') helps.")
    assert evaluate(pair, lambda x, t: [..., 2 * x]).status == evaluate(pair, lambda x, t: (..., ...)).status == "unanswered"
    assert "Replace the `...`" in evaluate(pair, lambda x, t: (..., ...)).message
    assert "entry 'b'" in evaluate(make(reference=lambda x, t: {"a": x, "b": x}), lambda x, t: {"a": x, "b": ...}).message


def test_the_dots_are_spoken_of_only_where_they_are():
    def tried(x, t):
        if len(x) > 1:
            return 2 * x
        raise NotImplementedError("one row")

    result = evaluate(make(), tried)
    assert result.check == "raises" and "NotImplementedError in line 4 of it: one row" in result.message
    assert "in the place of the `raise`" in evaluate(make(), made(BLANKS["raise"])).message
    assert evaluate(make(), None).message.startswith("07.1 not answered yet. You pass None. Pass your answer")
    assert "you pass Python's own `print`" in evaluate(make(), print).message.replace("You", "you")
    assert "not a value: you pass 3." in evaluate(make(), 3).message


async def waiting(x, t):
    return 2 * x


async def yielding_and_waiting(x, t):
    yield 2 * x


def yielding(x, t):
    yield 2 * x


@pytest.mark.parametrize("answer, words", [
    (Forward, "pass an instance, check('07.1', Forward())"), (yielding, "use `return`, not `yield`"), (waiting, "write `def` alone"),
    (yielding_and_waiting, "use `return`, not `yield`"), (torch, "the module `torch`"), (lambda x, t: waiting(x, t), "is an object of type coroutine"),
])
def test_classes_generators_and_coroutines_are_told_apart_from_functions(answer, words):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = evaluate(make(), answer)
    assert result.check == "type" and words in result.message


def test_every_exception_of_an_answer_but_an_interrupt_is_a_finding():
    class Own(BaseException):
        pass

    for kind in (Own, GeneratorExit, BaseException, SystemExit):
        def answer(x, t, kind=kind):
            raise kind

        result = evaluate(make(), answer)
        assert result.check == "raises" and f"code raises {kind.__name__} in line 2 of it" in result.message


PATCHES = {
    "torch.softmax": lambda: setattr(torch, "softmax", None),
    "torch.nn.functional.relu": lambda: setattr(torch.nn.functional, "relu", abs),
    "torch.Tensor.sqrt": lambda: setattr(torch.Tensor, "sqrt", lambda self: self),
    "torch.Tensor.backward": lambda: delattr(torch.Tensor, "backward"),
    "numpy.exp": lambda: setattr(np, "exp", 3),
    "math.sqrt": lambda: setattr(math, "sqrt", abs),
    "builtins.sum": lambda: setattr(builtins, "sum", max),
}


@pytest.mark.parametrize("name", PATCHES)
def test_what_an_answer_patches_is_put_back_and_said(name):
    def answer(x, t):
        y = 2 * x
        PATCHES[name]()
        return y

    before = torch.softmax, torch.nn.functional.relu, torch.Tensor.sqrt, torch.Tensor.backward, np.exp, math.sqrt, sum
    result = evaluate(make(), answer)
    assert (torch.softmax, torch.nn.functional.relu, torch.Tensor.sqrt, torch.Tensor.backward, np.exp, math.sqrt, sum) == before
    assert result.check == "inputs" and f"gives `{name}` another value" in result.message
    assert evaluate(make(), lambda x, t: 2 * x).status == "right"


@pytest.mark.parametrize("owner, name, value", [(torch, "randn", lambda *args: 3), (torch, "tensor", 5), (torch, "equal", None), (torch.Tensor, "clone", 3)])
def test_a_reader_who_has_patched_torch_is_told_what(owner, name, value, monkeypatch):
    monkeypatch.setattr(owner, name, value)
    result = evaluate(make(), lambda x, t: 2 * x)
    monkeypatch.undo()
    assert result.status == "unanswered"
    assert f"07.1 cannot be checked: `torch.{'Tensor.' if owner is torch.Tensor else ''}{name}` is no longer what it was: restart" in result.message


def test_an_answer_cannot_close_the_streams(capsys):
    def answer(x, t):
        print("seen")
        sys.stdout.close()
        sys.stderr.close()
        return 2 * x

    assert evaluate(make(), answer).status == "right"
    print("open", file=sys.stderr)
    assert capsys.readouterr() == ("seen\nseen\n", "open\n")


def test_small_things_of_messages():
    def silent(x, t):
        raise ValueError

    assert "your code raises ValueError in line 2 of it, without a text." in evaluate(make(), silent).message.replace("Your", "your")
    assert evaluate(make(), lambda x, t: 0 * -x.abs()).detail.endswith("yours is 0.")
    close = Terms(Tolerance(), digits=3)
    assert difference(147456, 147456.4, close).message == "your output, 147456.4, is too large."
    assert difference(3.14159, -0.0, close).message == "your output, 0, is too small."
    assert difference(1.04339, 1.08866, close).message == "your output, 1.08866, is too large."
    loose = Terms(Tolerance(rtol=0.01, atol=0), digits=3)
    assert difference(1.04339, 1.06, loose).message == "your output, 1.06, is too large by more than 1 %."


def test_parameters_in_another_order_or_by_name_only_get_their_own_arguments():
    def by_name(*, t, x):
        return 2 * x

    for answer in (lambda t, x: 2 * x, by_name, lambda t, x, scale=2: scale * x, functools.partial(lambda scale, t, x: scale * x, 2)):
        assert evaluate(make(), answer).status == "right"
    assert evaluate(make(), lambda t, x: 3 * x).mistake == "tripled"
    assert evaluate(make(), lambda time, x: 2 * x).status == "wrong"
    assert evaluate(make(), lambda a, b: 2 * a).status == evaluate(make(), lambda *both: 2 * both[0]).status == "right"


CATCHES_ALL = {
    "a sleep": "    while True:\n        try:\n            time.sleep(100)\n        except:\n            pass\n",
    "short sleeps": "    while True:\n        try:\n            time.sleep(0.01)\n        except:\n            continue\n",
    "loops in loops": "    while True:\n        try:\n            while True:\n                try:\n                    sum(range(100))\n"
                      "                except:\n                    pass\n        except BaseException:\n            y = x\n",
    "kept": "    found = []\n    while True:\n        try:\n            time.sleep(100)\n        except BaseException as error:\n            found.append(error)\n",
    "a deaf clock": "    signal.signal(signal.SIGALRM, signal.SIG_IGN)\n    while True:\n        sum(range(100))\n",
    "a finaliser": "    class Loop:\n        def __del__(self):\n            while True:\n                sum(range(100))\n    Loop()\n    y = 2 * x\n    return y\n",
    "a stopped clock": "    signal.setitimer(signal.ITIMER_REAL, 0)\n    while True:\n        try:\n            sum(range(100))\n        except:\n            pass\n",
}


@pytest.mark.parametrize("name", CATCHES_ALL)
def test_a_loop_that_catches_every_interruption_is_stopped(name):
    answer = made("import signal, time\ndef double(x, t):\n" + CATCHES_ALL[name])
    trace = sys.gettrace()
    result = evaluate(make(), answer, time_limit=0.05)
    assert result.check == "time" and "was stopped" in result.message
    assert sys.gettrace() is trace and signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert evaluate(make(), lambda x, t: 2 * x, time_limit=5.0).status == "right"


def test_a_loop_in_another_thread_that_catches_every_interruption_is_stopped():
    results, answer = [], made("import time\ndef double(x, t):\n" + CATCHES_ALL["short sleeps"])
    thread = threading.Thread(target=lambda: results.append(evaluate(make(), answer, time_limit=0.05)), daemon=True)
    thread.start()
    thread.join(30)
    assert [one.check for one in results] == ["time"]


TRACED = """
import sys, threading, time
from diffusion_course.exercises.patience import TimeLimit, within

def traced():
    lines = []
    def trace(frame, event, value):
        lines.append(event)
        return trace
    sys.settrace(trace)
    try:
        (lambda: 1)()
    finally:
        sys.settrace(None)
    return len(lines)

def limited(seconds):
    try:
        with within(seconds):
            while seconds < 1:
                time.sleep(0.001)
    except TimeLimit:
        pass
    return traced()

def main():
    print([limited(seconds) > 0 for seconds in (30, 0.05)])

main()
thread = threading.Thread(target=main)
thread.start()
thread.join()
"""


def test_a_debugger_goes_on_after_a_time_limit():
    """What was sent to a thread and taken back is waited for by Python 3.11: the next traced call never returned."""
    ran = subprocess.run([sys.executable, "-c", TRACED], capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr) == ("[True, True]\n" * 2, "")


def test_code_that_no_interruption_stops_is_told_so(monkeypatch):
    limit, told = patience._Limit(), []
    monkeypatch.setattr(limit, "stderr", types.SimpleNamespace(write=told.append))
    monkeypatch.setattr(limit, "arm", lambda wait: None)
    for _ in range(2 * patience._MANY):
        limit.again()
    assert len(told) == 1 and "interrupt or restart the kernel" in told[0]
    limit.over = True


def test_the_time_limit_is_the_one_given_or_the_environments(monkeypatch):
    monkeypatch.delenv(patience.VARIABLE, raising=False)
    assert patience.chosen_limit(None) == 60 and patience.chosen_limit(5) == 5
    monkeypatch.setenv(patience.VARIABLE, "7.5")
    assert patience.chosen_limit(None) == 7.5
    monkeypatch.setenv(patience.VARIABLE, "off")
    assert patience.chosen_limit(None) == float("inf")
    for bad in (0, -1, "soon", True, float("nan"), []):
        with pytest.raises(ValueError, match="time_limit is a positive number of seconds"):
            patience.chosen_limit(bad)
    monkeypatch.setenv(patience.VARIABLE, "soon")
    with pytest.raises(ValueError, match='DIFFUSION_COURSE_TIME_LIMIT is a positive number of seconds ."off": no limit'):
        patience.chosen_limit(None)


def test_sys_exit_is_a_finding_and_an_interrupt_interrupts():
    result = evaluate(make(), lambda x, t: sys.exit(1))
    assert result.check == "raises" and "your code raises SystemExit in line 1" in result.message.replace("Your", "your")

    def interrupted(x, t):
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        evaluate(make(), interrupted, time_limit=60)
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0 and time.monotonic() > started


@pytest.mark.parametrize("name", ["4.2", 4.2, "04.2 ", " 04.02", "Exercise 4.2", "4,2", "04.2", "4.2.", "ex 04.2", "Ex. 4.2", "04-2", "4_2", "4.2)",
                                  "04.2: Some title", "4.2 Some title", "**Exercise 04.2: Some title**", "4.2 - a title"])
def test_an_id_may_be_written_in_other_ways(name):
    assert canonical(name) == "04.2" and get_exercise(name).id == "04.2"


def test_a_lesson_lists_its_exercises_and_swapped_arguments_work(fresh, capsys):
    for name in ("04", 4, "4", "lesson 4"):
        with pytest.raises(LookupError, match=r"is a lesson\. Name one of its exercises: 04\.1, 04\.2"):
            get_exercise(name)
    for name in ("99.1", double, None, True, float("nan"), ""):
        with pytest.raises(LookupError, match="there is no exercise"):
            get_exercise(name)
    assert exercises.check(228, "01.4").status == exercises.check("1.4", 228).status == "right"
    assert exercises.check(off_by_one, "01.1").exercise_id == "01.1"
    exercises.hint("1.4")
    assert "Hint 1 of 3" in capsys.readouterr().out


def test_titles_and_names_of_functions_lead_to_an_exercise(fresh, capsys):
    for one in all_exercises():
        assert canonical(one.id) == canonical(one.title) == canonical(one.title.lower()) == canonical(one.answer_name) == one.id
    named = made("def signal_to_noise(t, alphas_cumprod):\n    return t\n", "signal_to_noise")
    assert get_exercise(named).id == "02.3"
    assert exercises.check(named, named).exercise_id == exercises.check(named, 2.3).exercise_id == "02.3"
    exercises.hint(named)
    assert "Hint 1 of 3" in capsys.readouterr().out
    for name in ("04.2.1", "4.234", "a 4.2"):
        with pytest.raises(LookupError):
            get_exercise(name)


@pytest.mark.parametrize("name, words", [("02.9", r"Near it: 02\.\d, 02\.\d, 02\.\d\. Lesson 02 has 02.1 to 02.6"), ("signal to nois", r"Near it: 02\.3 \(Signal-to-noise ratio\)"), (None, "'01.1' to '14.6'"),
                                         (True, "'01.1' to '14.6'"), ("13.1", "'01.1' to '14.6'"), ([1], "of the type list"), (abs, "of the type builtin"), ("x" * 99, "'01.1' to")])
def test_no_unknown_id_is_answered_with_a_wall_of_ids(name, words):
    with pytest.raises(LookupError, match=words) as told:
        get_exercise(name)
    assert len(str(told.value)) < 220 and len(re.findall(r"\d\d\.\d", str(told.value))) <= 6
