"""The exercise engine on made-up exercises: each finding, its order, its words, and the checks on exercises themselves."""

import dataclasses
from decimal import Decimal
from fractions import Fraction

import pytest
import torch
from doubling import double, two_cases

from diffusion_course.exercises.edits import edit
from diffusion_course.exercises.engine import evaluate, judge, make_cases
from diffusion_course.exercises.registry import Case, Exercise, Property, WrongAnswer
from diffusion_course.exercises.self_check import self_check
from diffusion_course.exercises.trial import clone, run_case


def make(**changes):
    parts = {
        "id": "07.1",
        "lesson": 7,
        "title": "Double",
        "statement": "Double x.",
        "stub": "def double(x, t):\n    return ...\n",
        "reference": double,
        "cases": two_cases,
        "hints": ("a", "b", "c"),
        "derivation": "nowhere",
        "wrong_answers": (
            WrongAnswer("tripled", lambda x, t: 3 * x, "Three is not two."),
            WrongAnswer("squared", lambda x, t: x**2, "A square is no double."),
            WrongAnswer("raised", lambda x, t: x @ x if len(x) > 1 else 2 * x, "Shapes do not fit."),
        ),
    }
    return Exercise(**(parts | changes))


CATALOGUE = {one.name for one in make().wrong_answers}


def test_right_and_silent(capsys):
    result = evaluate(make(), lambda x, t: x + x)
    assert result.status == "right" and result.message == "07.1 is right (2 cases agree)." and result.check is None
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("answer", "check", "words"),
    [
        (lambda x, t: x.nope, "raises", "AttributeError"),
        (lambda x, t: (2 * x).numpy().astype(object), "type", "is an object of type numpy.ndarray of object, a torch.Tensor is"),
        (lambda x, t: (2 * x).numpy().astype("float64"), "dtype", "has dtype float64, float32 is asked for"),
        (lambda x, t: (2 * x).tolist(), "type", "is a tuple or list, a torch.Tensor is asked for"),
        (lambda x, t: 2 * x.T, "shape", "has shape (3, 4), (4, 3) is asked for"),
        (lambda x, t: 2 * x.double(), "dtype", "has dtype float64, float32 is asked for"),
        (lambda x, t: (2 * x).to("meta"), "device", "is on device meta, cpu is asked for"),
        (lambda x, t: x / 0, "finite", "holds an infinite value at every t"),
        (lambda x, t: x.add_(x), "inputs", "changes its input `x` in place"),
        (lambda x, t: 2 * x + torch.rand(1), "random", "global random state"),
        (lambda x, t: -2 * x, "value", "its sign is flipped"),
        (lambda x, t: 5 * x, "value", "it is the right value times 2.5"),
        (lambda x, t: 0 * x, "value", "it is all zero"),
        (lambda x, t: x, "value", "You return `x` as it came in"),
        (lambda x, t: 2 * x + (t[:, None] > 1) * 3.0, "value", "off at t = 2, 5 by up to 3. 1 of 2 cases differ"),
        (lambda x, t: 2 * x + 0.5, "value", "off at every t by up to 0.5. 2 of 2 cases differ"),
    ],
)
def test_each_finding_in_words(answer, check, words):
    result = evaluate(make(), answer)
    assert result.status == "wrong" and result.check == check and words in result.message
    assert result.mistake not in CATALOGUE


def test_findings_come_in_order_over_all_cases():
    def shape_in_one_case_dtype_in_the_other(x, t):
        return (2 * x)[None] if len(x) == 1 else (2 * x).double()

    assert evaluate(make(), shape_in_one_case_dtype_in_the_other).check == "shape"

    def raises_late(x, t):
        return x / 0 if len(x) > 1 else x.nope

    result = evaluate(make(), raises_late)
    assert result.check == "raises" and result.case == "one"


def test_errors_show_inputs_and_line():
    def answer(x, t):
        y = x * 2
        return y + torch.zeros(7)

    message = evaluate(make(), answer).message
    assert "RuntimeError in line 3 of it: The size of tensor a (3) must match" in message
    assert message.endswith("Inputs: x float32 (4, 3), t int64 (4,).")


def test_mistakes_are_named_also_when_they_raise_or_hit_one_case_only():
    assert evaluate(make(), lambda x, t: x * 3.0).mistake == "tripled"
    assert evaluate(make(), lambda x, t: x.mm(x) if len(x) > 1 else x * 2).mistake == "raised"
    own_dtype = evaluate(make(), lambda x, t: x.double() * 3)
    assert own_dtype.check == "dtype" and own_dtype.mistake == "tripled"
    assert evaluate(make(), lambda x, t: x.double() * 2).mistake is None
    mixed = evaluate(make(), lambda x, t: x * 3.0 if len(x) > 1 else x * 7.0)
    assert mixed.status == "wrong" and mixed.mistake not in CATALOGUE


def test_an_exception_that_cannot_print_itself_is_a_finding():
    class Evil(Exception):
        def __str__(self):
            raise RuntimeError

    def answer(x, t):
        raise Evil

    assert evaluate(make(), answer).check == "raises"


def test_not_implemented_is_unanswered():
    def answer(x, t):
        raise NotImplementedError

    assert evaluate(make(), answer).status == "unanswered"


def test_none_in_one_case_only_is_a_mistake():
    result = evaluate(make(), lambda x, t: 2 * x if len(x) > 1 else None)
    assert result.check == "type" and "is None, a torch.Tensor is asked for" in result.message


def test_tuples_lists_dictionaries_and_dataclasses():
    @dataclasses.dataclass
    class Pair:
        first: torch.Tensor
        second: torch.Tensor

    pair = make(reference=lambda x, t: Pair(x + 1, 2 * x))
    assert evaluate(pair, lambda x, t: [x + 1, 2 * x]).status == "right"
    assert evaluate(pair, lambda x, t: (x + 1,)).check == "structure"
    assert "part 2 of your output is off" in evaluate(pair, lambda x, t: (x + 1, 4 * x + 1)).message
    table = make(reference=lambda x, t: {"a": x + 1, "b": 2 * x})
    assert evaluate(table, lambda x, t: {"b": 2 * x, "a": x + 1}).status == "right"
    assert "has the keys ['a'], ['a', 'b'] are asked for" in evaluate(table, lambda x, t: {"a": x}).message
    assert "your output['b'] is off" in evaluate(table, lambda x, t: {"a": x + 1, "b": x + 1}).message


def test_a_list_that_holds_itself_does_not_hang():
    def answer(x, t):
        loop = []
        loop.append(loop)
        return loop

    assert evaluate(make(), answer).check == "type"


def test_strided_views_gradients_and_infinities_of_the_reference_are_fine():
    assert evaluate(make(), lambda x, t: (2 * x).T.contiguous().T).status == "right"
    assert evaluate(make(), lambda x, t: 2 * x * torch.ones((), requires_grad=True)).status == "right"
    infinite = make(reference=lambda x, t: torch.where(x > 0, torch.inf, x))
    assert evaluate(infinite, lambda x, t: x.masked_fill(x > 0, torch.inf)).status == "right"
    assert evaluate(infinite, lambda x, t: x).status == "wrong"
    assert evaluate(make(), lambda x, t: (2 * x).to_sparse()).check == "type"


def dictionary_cases(generator):
    yield Case((torch.ones(2),), {"options": {"scale": 2.0, "more": torch.zeros(2)}}, "with options")


def scaled(x, options):
    return options["scale"] * x


@pytest.mark.parametrize(
    "spoil", [lambda o: o.pop("more"), lambda o: o.update(scale=3.0), lambda o: o["more"].add_(1), lambda o: o.update(new=1)]
)
def test_a_changed_dictionary_is_found(spoil):
    def answer(x, options):
        out = options["scale"] * x
        spoil(options)
        return out

    result = evaluate(make(reference=scaled, cases=dictionary_cases), answer)
    assert result.check == "inputs" and "`options`" in result.message


def network_cases(generator):
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.5))
    with torch.no_grad():
        network[0].weight.copy_(torch.randn(2, 2, generator=generator))
        network[0].bias.zero_()
    yield Case((network.eval(), torch.randn(3, 2, generator=generator)), note="network")


def test_a_network_left_in_another_mode_or_trained_is_found_unless_allowed():
    def left_in_train_mode(network, x):
        out = network(x)
        network.train()
        return out

    def trained(network, x):
        out = network(x).detach()
        with torch.no_grad():
            network[0].weight.add_(1)
        return out

    apply = make(reference=lambda network, x: network(x), cases=network_cases)
    assert evaluate(apply, left_in_train_mode).check == evaluate(apply, trained).check == "inputs"
    allowed = dataclasses.replace(apply, may_change=("network",))
    assert evaluate(allowed, trained).status == "right"


def training_cases(generator):
    network = torch.nn.Linear(1, 1)
    torch.nn.init.ones_(network.weight)
    torch.nn.init.zeros_(network.bias)
    yield Case((network, torch.optim.SGD(network.parameters(), lr=0.1)), note="one step")


def train_once(network, optimizer):
    optimizer.zero_grad()
    network(torch.ones(1, 1)).square().sum().backward()
    optimizer.step()


def weight_after(answer, network, optimizer):
    answer(network, optimizer)
    return network.weight


def test_call_measures_an_answer_that_returns_nothing():
    training = make(reference=train_once, cases=training_cases, call=weight_after, may_change=("network", "optimizer"))
    assert evaluate(training, train_once).status == "right"
    assert evaluate(training, lambda network, optimizer: network(torch.ones(1, 1)).sum().backward()).status == "wrong"


def random_cases(generator):
    seed = int(torch.randint(99, (1,), generator=generator))
    yield Case((torch.zeros(3),), {"generator": torch.Generator().manual_seed(seed)}, "g")


def noisy(x, generator):
    return x + torch.randn(x.shape, generator=generator)


def test_generators_are_demanded_and_checked():
    exercise = make(reference=noisy, cases=random_cases)
    counter = iter(range(99))
    assert evaluate(exercise, lambda x, generator: x + torch.empty_like(x).normal_(generator=generator)).status == "right"
    assert "global random state" in evaluate(exercise, lambda x, generator: x + torch.randn_like(x)).message
    assert "does not draw from the generator" in evaluate(exercise, lambda x, generator: x + 1).message
    unsteady = evaluate(exercise, lambda x, generator: noisy(x, generator) + 1e-3 * next(counter))
    assert unsteady.check == "random" and "two different outputs" in unsteady.message


def test_clones_of_generators_start_from_the_same_state():
    generator = torch.Generator().manual_seed(3)
    first, second = clone({"a": [generator, generator]})["a"]
    assert first is second and first is not generator
    assert torch.equal(torch.randn(3, generator=first), torch.randn(3, generator=generator))


def test_properties_are_checked_before_values():
    positive = Property("positive", lambda case, outcome, expected: bool((outcome.output >= 0).all()), "your output is negative.")
    exercise = make(reference=lambda x, t: x.abs(), properties=(positive,))
    assert evaluate(exercise, lambda x, t: x).check == "positive"
    assert evaluate(exercise, lambda x, t: x.abs() + 1).check == "value"


def number(beta):
    return 10 * beta


def value_exercise(**changes):
    parts = {
        "reference": number,
        "cases": None,
        "stub": "answer = ...\n",
        "statement": "Ten times <<beta>>.",
        "parameters": {"beta": (0.5, 0.25)},
        "wrong_answers": (
            WrongAnswer("nine times", lambda beta: 9 * beta, "Ten."),
            WrongAnswer("plus ten", lambda beta: 10 + beta, "Times."),
            WrongAnswer("squared", lambda beta: 100 * beta, "Once."),
        ),
    }
    return make(**(parts | changes))


def test_numbers_of_any_numeric_type_but_no_others():
    import numpy as np

    exercise = value_exercise()
    for answer in (5, 5.0, np.float32(5), torch.tensor(5.0), torch.tensor([5]), np.array([5.0]), Fraction(5), Decimal("5.00")):
        assert evaluate(exercise, answer).message == "07.1 is right."
    assert evaluate(exercise, 4.5).mistake == "nine times"
    assert evaluate(exercise, 6).message == "07.1 is not right yet. Your output, 6, is too large."
    for answer in ("5", True, [5], number, 5 + 0j, np.array([5.0, 5.0])):
        assert evaluate(exercise, answer).check == "type", answer
    assert evaluate(exercise, float("nan")).check == "finite"


def test_parameters_change_statement_and_answer():
    other = value_exercise().with_parameters(beta=0.25)
    assert other.render(other.statement) == "Ten times 0.25."
    assert evaluate(other, 2.5).status == "right" and evaluate(other, 5).status == "wrong"
    with pytest.raises(ValueError, match="beta=7 is not offered"):
        value_exercise().with_parameters(beta=7)
    with pytest.raises(ValueError, match="gamma=1 is not offered"):
        value_exercise().with_parameters(gamma=1)


def test_a_choice_is_compared_as_text():
    choice = value_exercise(reference=lambda beta: "b")
    assert evaluate(choice, "b").status == "right"
    assert evaluate(choice, "c").check == "value" and evaluate(choice, 2).check == "type"


def test_judge_needs_only_plain_outcomes():
    exercise = make()
    cases = make_cases(exercise, seed=5)
    outcomes = [run_case(exercise, lambda x, t: 3 * x, case) for case in cases]
    assert judge(exercise, cases, outcomes) == evaluate(exercise, lambda x, t: 3 * x, seed=5)


def test_self_check_finds_twins_right_wrong_answers_and_bad_references():
    good = make()
    assert self_check(good) == []
    twin = WrongAnswer("also tripled", lambda x, t: x + 2 * x, "x")
    assert any("also tripled" in problem for problem in self_check(make(wrong_answers=(*good.wrong_answers, twin))))
    right = WrongAnswer("right", double, "x")
    assert any("is right, named None" in problem for problem in self_check(make(wrong_answers=(*good.wrong_answers, right))))
    assert any("reference is refused" in problem for problem in self_check(make(reference=lambda x, t: x.add_(x))))


WRITTEN = """def double(x, t):
    y = x + x
    return y
"""


def with_edit(change, **changes):
    return make(wrong_answers=(*make().wrong_answers, WrongAnswer("edited", change, "An edit.")), **changes)


@pytest.mark.parametrize(
    ("change", "changes", "answer"),
    [
        (edit("2 * x", "5 * x"), {}, lambda x, t: 5 * x),  # of the reference's source
        (edit("x + x", "x - 5"), {"solution": WRITTEN}, lambda x, t: x - 5),
        (edit("x + x", "x").then("return y", "return 7 * y"), {"solution": WRITTEN}, lambda x, t: 7 * x),
        (edit(" x", " 3 * x", times=2), {"solution": WRITTEN}, lambda x, t: 6 * x),
    ],
)
def test_a_wrong_answer_may_be_an_edit_of_the_solution(change, changes, answer):
    exercise = with_edit(change, **changes)
    assert evaluate(exercise, answer).mistake == "edited"
    assert self_check(exercise) == []
    assert exercise.wrong_answers[-1].function is exercise.wrong_answers[-1].function


def test_a_number_s_edit_changes_the_function_and_not_the_line_that_calls_it():
    change = edit("10 *", "3 *")
    wrong = (*value_exercise().wrong_answers[:2], WrongAnswer("three times", change, "Ten."))
    written = "def ten(beta):\n    return 10 * beta\n\n\nanswer = ten(<<beta>>)\n"
    for solution in ("", written):
        exercise = value_exercise(wrong_answers=wrong, solution=solution).with_parameters(beta=0.25)
        assert evaluate(exercise, 0.75).mistake == "three times" and self_check(exercise) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (edit("3 * x", "x"), "'3 \\* x' stands 0 times in the solution, not once"),
        (edit("x", "y"), "'x' stands 3 times in the solution, not once"),
        (edit("y", "z", times=3), "'y' stands 2 times in the solution, not 3 times"),
        (edit("x + x", "2 * x").then("x + x", "x"), "'x \\+ x' stands 0 times"),
        (edit("x + x", "x + x"), "'x \\+ x' is replaced by itself"),
    ],
)
def test_an_edit_that_does_not_fit_is_an_error_with_exercise_and_mistake(change, words):
    with pytest.raises(ValueError, match=f"exercise '07.1': wrong answer 'edited': {words}"):
        with_edit(change, solution=WRITTEN)


def test_an_edit_that_does_not_fit_the_reference_is_an_error_when_it_is_first_used():
    exercise = with_edit(edit("3 * x", "x"))
    with pytest.raises(ValueError, match="exercise '07.1': wrong answer 'edited': '3 . x' stands 0 times"):
        self_check(exercise)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": "7.1"}, r"exercise '7\.1': the id must be 07\.N"),
        ({"id": "08.1"}, r"the id must be 07\.N"),
        ({"hints": ("a", "b")}, "three hints are needed, got 2"),
        ({"hints": ("a", "b", " ")}, "three hints"),
        ({"points": 0}, "points must be positive, got 0"),
        ({"statement": " "}, "statement is empty"),
        ({"stub": "x = 1"}, "stub must define a name"),
        ({"stub": "print(...)"}, "stub must define a name"),
        ({"wrong_answers": make().wrong_answers[:2]}, "at least three wrong answers"),
        ({"wrong_answers": make().wrong_answers[:1] * 3}, "different names"),
        ({"wrong_answers": (*make().wrong_answers, WrongAnswer("n", double, ""))}, "has no explanation"),
        ({"parameters": {"a": (1,)}}, "only a find-the-number exercise"),
        ({"statement": "<<beta>>"}, r"names \['beta'\]"),
    ],
)
def test_a_bad_exercise_is_refused_with_its_id(changes, words):
    with pytest.raises(ValueError, match=words):
        make(**changes)
