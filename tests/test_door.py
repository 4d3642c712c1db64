"""The door of public functions: what it checks, and that everything else sees the function behind it."""

import inspect
import pickle
import typing

import numpy as np
import pytest
import torch
from helpers import assert_near, normal
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from diffusion_course import (
    GaussianMixture,
    Posterior,
    UNet,
    mixture,
    q_posterior,
    q_sample,
    to_x0_and_noise,
)
from diffusion_course.door import (
    batch,
    beside,
    checked,
    finite,
    floating,
    like,
    number,
    one_of,
    positive_int,
    timesteps,
)

BAR = torch.linspace(0.9, 0.1, 5, dtype=torch.float64)
X, NOISE, T = normal(3, 2), normal(3, 2, seed=1), torch.tensor([0, 2, 4])
PAIR = mixture("pair")
seen = []
NUMBERS = (1, 0.5, np.float64(0.5), np.float32(0.5), np.int64(1))


def note(name, value, given):
    seen.append((name, value, dict(given)))


@pytest.fixture(autouse=True)
def nothing_seen():
    seen.clear()


@checked(b=note, a=(note, positive_int), rest=note, d=note)
def function(a: int, b: Tensor | None = None, *rest: str, c: float = 0.5, d: str) -> str:
    """Say what came."""
    return f"{a} {b} {rest} {c} {d}"


class Counter:
    @checked(by=positive_int)
    def __init__(self, by: int) -> None:
        self.by = by

    @checked(times=(positive_int, lambda name, value, given: seen.append(given["self"].by)))
    def count(self, times: int = 2) -> int:
        return self.by * times

    @classmethod
    @checked(text=one_of("one", "two"))
    def of(cls, text: str) -> "Counter":
        return cls({"one": 1, "two": 2}[text])


def test_signature_docstring_and_annotations_are_those_of_the_function():
    assert str(inspect.signature(function)) == "(a: int, b: torch.Tensor | None = None, *rest: str, c: float = 0.5, d: str) -> str"
    assert function.__doc__ == "Say what came." and function.__name__ == "function" and function.__module__ == __name__
    assert typing.get_type_hints(function) == {"a": int, "b": Tensor | None, "rest": str, "c": float, "d": str, "return": str}
    assert typing.get_type_hints(q_posterior)["return"] is Posterior
    assert list(inspect.signature(Counter).parameters) == ["by"]
    assert list(inspect.signature(GaussianMixture.score).parameters) == ["self", "xt", "alpha_bar"]
    assert "def q_sample" in inspect.getsource(q_sample)
    assert function.checks == {"b": ["note"], "a": ["note", "positive int"], "rest": ["note"], "d": ["note"]}


def test_checks_run_in_the_written_order_with_all_arguments():
    assert function(1, X, "x", "y", d="z") == f"1 {X} ('x', 'y') 0.5 z"
    assert [name for name, *_ in seen] == ["b", "a", "rest", "d"]
    assert all(given.keys() == {"a", "b", "rest", "c", "d"} for *_, given in seen)
    assert seen[2][1] == ("x", "y") and seen[0][1] is X and seen[0][2]["c"] == 0.5
    seen.clear()
    with pytest.raises(ValueError, match="a must be at least 1, got 0"):
        function(0, X, d="z")
    assert [name for name, *_ in seen] == ["b", "a"], "a check ran after the one that failed"


def test_a_default_of_none_passes_and_another_none_does_not():
    function(1, d="z")
    assert [name for name, *_ in seen] == ["a", "rest", "d"]  # b is None by default; d has no default
    with pytest.raises(TypeError, match="d must be a string, got NoneType None"):
        function(1, d=None)
    with pytest.raises(TypeError, match="a must be an int, got NoneType None"):
        function(None, d="z")


@pytest.mark.parametrize("call", [
    lambda f: f(), lambda f: f(1), lambda f: f(b=X, d="z"), lambda f: f(1, d="z", e=3), lambda f: f(1, a=1, d="z"),
])
def test_arguments_that_do_not_fit_give_pythons_own_error(call):
    errors = []
    for one in (function, function.__wrapped__):
        with pytest.raises(TypeError) as error:
            call(one)
        errors.append(str(error.value))
    assert errors[0] == errors[1]


def test_a_missing_argument_that_another_ones_check_reads():
    for call in (lambda: q_sample(t=T, alphas_cumprod=BAR), lambda: to_x0_and_noise(X, X, prediction_type="epsilon")):
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            call()
    with pytest.raises(TypeError, match="positional arguments but 5 were given"):
        q_sample(X, T, BAR, NOISE, None)  # the generator is given by name


def test_methods_and_constructors():
    counter = Counter(3)
    assert (counter.count(), counter.count(times=4), Counter.of("two").by) == (6, 12, 2) and seen == [3, 3]
    for call, message in (
        (lambda: Counter(0), "by must be at least 1"), (lambda: counter.count(0), "times must be at least 1"),
        (lambda: Counter.of("ten"), "text must be one of 'one', 'two', got 'ten'"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_an_unknown_name_is_an_error_where_it_is_written():
    with pytest.raises(TypeError, match=r"f has no argument named \['y'\]"):

        @checked(y=note)
        def f(x):
            return x


def test_a_generator_is_checked_at_the_call():
    @checked(n=positive_int)
    def numbers(n):
        yield from range(n)

    with pytest.raises(ValueError, match="n must be at least 1"):
        numbers(0)
    assert list(numbers(3)) == [0, 1, 2]


@pytest.mark.parametrize("of", [q_sample, function, Counter.count, GaussianMixture.at], ids=lambda f: f.__qualname__)
def test_pickled_by_name(of):
    assert pickle.loads(pickle.dumps(of)) is of


@pytest.mark.parametrize(
    ("check", "value", "error", "message"),
    [
        (batch, torch.ones(0, 2), ValueError, "x needs a batch axis"),
        (floating, torch.ones(2).int(), TypeError, "x must have a floating dtype"),
        (finite, torch.tensor([1.0, torch.nan]), ValueError, r"x holds 1 values that are not finite, the first at index \(1,\)"),
        (like("other"), torch.ones(3, 3), ValueError, r"x must have the shape of other"),
        (beside("other"), torch.ones(3, 2, device="meta"), ValueError, "x is on meta and other on cpu"),
        (timesteps("other", of="table"), torch.tensor([0, 1, 5]), ValueError, r"t must lie in 0\.\.4"),
        (number(lambda n: n > 2, "exceed 2"), 2, ValueError, r"x must exceed 2, got 2\."),
        (number(lambda n: n > 0, "be positive"), True, ValueError, r"x must be positive, got bool True"),
        (number(lambda n: n > 2, "exceed 2"), torch.ones(2), ValueError, r"x must exceed 2, got shape \(2,\)"),
    ],
)
def test_checks_that_a_door_offers(check, value, error, message):
    with pytest.raises(error, match=message):
        check("x", value, {"x": value, "other": X, "table": BAR})


# --- what looks through the door --------------------------------------------------------------------------------------------
def test_compiled_whole():
    torch._dynamo.reset()
    fast = torch.compile(q_sample, backend="eager", fullgraph=True)
    assert_near(fast(X, T, BAR, NOISE), q_sample(X, T, BAR, NOISE), 0)
    fast = torch.compile(lambda x, e: to_x0_and_noise(e, x, 0.3, "v_prediction")[0], backend="eager", fullgraph=True)
    assert_near(fast(X, NOISE), to_x0_and_noise(NOISE, X, 0.3, "v_prediction")[0], 0)
    network, images = UNet(1, 16, num_classes=3), normal(3, 1, 4, 4, dtype=torch.float32)
    torch.nn.init.ones_(network.last.weight)
    assert_near(torch.compile(network, backend="eager", fullgraph=True)(images, T, T % 3), network(images, T, T % 3), 1e-6)
    point = PAIR.score(X, BAR[T])
    assert_near(torch.compile(PAIR.score, backend="eager", fullgraph=True)(X, BAR[T]), point, 1e-12)


def test_vmapped():
    xs, noises, ts = normal(4, 3, 2, seed=2), normal(4, 3, 2, seed=3), torch.stack([T, T, 4 - T, T // 2])
    found = torch.func.vmap(q_sample, in_dims=(0, 0, None, 0))(xs, ts, BAR, noises)
    assert_near(found, torch.stack([q_sample(x, t, BAR, e) for x, t, e in zip(xs, ts, noises, strict=True)]), 0)
    scores = [PAIR.score(x, level) for x, level in zip(xs, BAR[:4], strict=True)]
    assert_near(torch.func.vmap(PAIR.score)(xs, BAR[:4]), torch.stack(scores), 1e-12)
    both = lambda e, x: to_x0_and_noise(e, x, BAR[T], "epsilon")  # noqa: E731
    for found, wanted in zip(torch.func.vmap(both)(noises, xs), zip(*map(both, noises, xs), strict=True), strict=True):
        assert_near(found, torch.stack(wanted), 0)
    with pytest.raises(ValueError, match=r"noise must have the shape of x0: got shape \(2, 2\)"):  # shapes are checked there too
        torch.func.vmap(q_sample, in_dims=(0, 0, None, 0))(xs, ts, BAR, noises[:, :2])


def test_differentiated():
    slope = torch.func.grad(lambda x: q_sample(x, T, BAR, NOISE).sum())(X)
    assert_near(slope, BAR[T].sqrt()[:, None].expand(3, 2), 1e-12)
    slope = torch.func.grad(lambda level: to_x0_and_noise(NOISE, X, level, "epsilon")[0].sum())(BAR[T])
    a, b = BAR[T].sqrt()[:, None], (1 - BAR[T]).sqrt()[:, None]
    assert_near(slope, (NOISE / (2 * a * b) - (X - b * NOISE) / (2 * a**3)).sum(1), 1e-12)
    jacobian = torch.func.jacrev(lambda x: q_sample(x, T, BAR, NOISE))(X)  # a vmap of a gradient
    assert_near(jacobian.reshape(6, 6).diagonal(), BAR[T].sqrt().repeat_interleave(2), 1e-12)


def test_fake_tensors_on_a_gpu():
    with FakeTensorMode(allow_non_fake_inputs=True):
        on = [x.to("cuda") for x in (X, T, BAR, NOISE)]
        out = q_sample(*on)
        assert isinstance(out, FakeTensor) and out.device.type == "cuda" and out.shape == (3, 2)
        with pytest.raises(ValueError, match="noise is on cpu and x0 on cuda:0"):
            q_sample(*on[:3], NOISE)
        on_cpu = [torch.empty_like(x) for x in (X, T, BAR, NOISE)]  # they have no values either
        assert isinstance(q_sample(*on_cpu), FakeTensor)


@pytest.mark.parametrize("value", NUMBERS, ids=lambda value: type(value).__name__)
def test_a_number_may_be_of_python_or_of_numpy(value):
    at_most_one = number(lambda v: v <= 1, "be at most 1")
    at_most_one("x", value, {})
    with pytest.raises(ValueError, match="x must be at most 1, got"):
        at_most_one("x", value + 1, {})


@pytest.mark.parametrize("value", [True, "0.5", [0.5], None, np.array([0.5]), torch.tensor(0.5)], ids=repr)
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="x must be at most 1, got"):
        number(lambda v: v <= 1, "be at most 1")("x", value, {})


def test_a_traceback_shows_the_lines_of_a_door():
    with pytest.raises(ValueError) as caught:
        q_sample(X, T, BAR, NOISE[:1])
    shown = [str(entry.statement) for entry in caught.traceback]
    assert any("_check_noise_0" in line for line in shown)
