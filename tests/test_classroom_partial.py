"""Partial credit: an answer has the points of what it has right, and a constant of the right shape has none."""

import json
from pathlib import Path

import pytest
import torch

from diffusion_course.classroom.assignment.assignment import (
    Assignment,
    load_assignment,
    save_assignment,
)
from diffusion_course.classroom.assignment.build import build_assignment
from diffusion_course.classroom.assignment.partial import RULE, even_shares, properties
from diffusion_course.classroom.grading.marking import hidden_cases, mark
from diffusion_course.classroom.records import Attempt, Submission
from diffusion_course.classroom.reports.feedback import student_page
from diffusion_course.exercises.registry import all_exercises, get_exercise
from diffusion_course.exercises.trial import Outcome, run_case

SHARED = ("02.1", "02.2", "01.2", "08.4")


def an_assignment(*exercises, points=None, partial=True):
    plain = Assignment("hw", "Homework", exercises, (), seed=99, points=points or {})
    shares = {one: even_shares(plain.exercise(one)) for one in exercises if not get_exercise(one).is_value}
    return Assignment("hw", "Homework", exercises, (), 99, (), plain.points, shares if partial else {})


def graded(assignment, function):
    wanted = hidden_cases(assignment, "")
    attempts = {one.id: Attempt(tuple(run_case(one, function, case) for case in cases)) for one, cases in wanted}
    return mark(assignment, Submission("ann", Path("ann.ipynb"), "0"), wanted, attempts)


def the_mark(function, exercise="02.1", **options):
    return graded(an_assignment(exercise, points={exercise: 4}, **options), function).marks[0]


def reference(*args, **kwargs):
    return get_exercise("02.1").reference(*args, **kwargs)


def in_place(x0, *rest):
    x0.copy_(right := reference(x0, *rest))
    return right


def with_nan(x0, *rest):
    right = reference(x0, *rest).clone()
    right.view(-1)[-1] = float("nan")
    return right


def only_batches(x0, t, *rest):
    if len(t) == 1:
        raise ValueError("one sample")
    return reference(x0, t, *rest)


@pytest.mark.parametrize(
    ("function", "points", "lost"),
    [
        (reference, 4, ""),
        (lambda *args: reference(*args).double(), 3.5, "dtype 0 of 0.5"),
        (in_place, 3.5, "inputs 0 of 0.5"),
        (only_batches, 1.5, "values 0 of 2, runs 0 of 0.5"),
        (with_nan, 0, "none, the values are right for fewer than half"),
        (lambda *args: reference(*args)[None], 0, "Partial credit: none"),
        (lambda x0, *rest: x0, 0, "Partial credit: none"),
        (lambda x0, *rest: torch.zeros_like(x0), 0, "Partial credit: none"),
    ],
)
def test_an_answer_has_the_points_of_what_it_has_right(function, points, lost):
    made = the_mark(function)
    assert made.points == points and made.max_points == 4 and lost in made.feedback
    assert made.status == ("right" if points == 4 else "wrong")
    assert the_mark(function, partial=False).points == (4 if points == 4 else 0), "the default is all or nothing"


def test_a_demand_has_points_and_a_rule_without_points_costs_the_values():
    two_calls = next(one for one in get_exercise("08.4").wrong_answers if one.name == "two calls")
    made = the_mark(two_calls.function, "08.4")
    assert made.points == 3.6 and "one call 0 of 0.4" in made.feedback and "values 2 of 2" in made.feedback

    def draws(*args):
        torch.rand(1)
        return reference(*args) * (1 + 1e-9 * torch.rand(1).item())

    assert "random" not in properties(get_exercise("02.1"))
    assert the_mark(draws).points == 2 and "values 0 of 2" in the_mark(draws).feedback


def test_the_answers_that_a_grader_ended_or_that_are_open_have_nothing():
    one = an_assignment("02.1")
    wanted = hidden_cases(one, "")
    for attempt in (Attempt(reason=None, outcomes=tuple(Outcome() for _ in wanted[0][1])), Attempt(reason="time")):
        made = mark(one, Submission("ann", Path("x"), "0"), wanted, {"02.1": attempt}).marks[0]
        assert made.points == 0 and "Partial credit" not in made.feedback


@pytest.mark.parametrize("exercise", [get_exercise(one) for one in SHARED], ids=lambda one: one.id)
def test_no_known_mistake_has_all_points_and_no_constant_any(exercise):
    one = an_assignment(exercise.id)
    for wrong in exercise.wrong_answers:
        assert graded(one, wrong.function).points < exercise.points, wrong.name
    for constant in (torch.zeros(3), 1.0, None):
        assert graded(one, lambda *_, value=constant, **__: value).points == 0


def test_shares_are_hundredths_that_add_up_and_half_is_for_the_values():
    for exercise in (get_exercise(one) for one in (*SHARED, "02.5")):
        shares = even_shares(exercise)
        assert round(sum(shares.values()), 9) == exercise.points and all(round(100 * value, 9) % 1 == 0 for value in shares.values())
        assert list(shares) == list(properties(exercise)) and shares["values"] >= exercise.points / 2
    assert even_shares(get_exercise("02.5")) == {"values": 1}
    assert "random" in properties(get_exercise("01.2")) and "one call" in properties(get_exercise("08.4"))


def test_the_rule_is_in_the_file_and_on_the_page_and_shows_no_hidden_case(tmp_path):
    built = build_assignment(None, tmp_path / "out", exercises="02.1,02.5", points={"02.1": 3}, partial=True)
    content = json.loads((tmp_path / "out/instructor/assignment.json").read_text())
    assert content["partial"] == {"02.1": even_shares(built.assignment.exercise("02.1"))} and content["rule of partial"] == RULE
    assert load_assignment(tmp_path / "out/instructor/assignment.json") == built.assignment
    assert "nbgrader gives all points of an exercise or none" in str(built)
    assert "can earn a part of its points" in (tmp_path / "out/student" / f"{built.assignment.name}.ipynb").read_text()
    done = graded(an_assignment("02.1"), only_batches)
    page = student_page(an_assignment("02.1"), done)
    assert RULE in page and "0.37 of 1 point" in page and "<strong>runs</strong>: it returns something for every input" in page
    for case in hidden_cases(an_assignment("02.1"), "")[0][1]:
        assert not case.note or case.note not in done.marks[0].feedback
    assert RULE not in student_page(an_assignment("02.1", partial=False), done)


@pytest.mark.parametrize(("partial", "message"), [
    ({"02.5": {"values": 1}}, "partial: '02.5' is no exercise"), ({"02.1": {"luck": 1}}, "partial: 02.1 has values, runs, form, dtype, inputs to share"),
    ({"02.1": {}}, "02.1 has values"), ({"02.1": {"values": 2, "runs": -1}}, "must be numbers from 0"),
    ({"02.1": {"values": 0.5, "runs": 0.4}}, "the points of 02.1 add up to 0.9, it has 1"), ({"02.1": {"values": float("nan")}}, "must be numbers from 0"),
])
def test_shares_that_cannot_be_meant_are_refused(tmp_path, partial, message):
    save_assignment(Assignment("hw", "Homework", ("02.1",), (), 9), tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text()) | {"partial": partial}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        load_assignment(tmp_path / "a.json")


def test_no_demand_is_called_like_a_property_of_all_exercises():
    names = {demand.name for exercise in all_exercises() for demand in exercise.properties}
    assert not names & {"values", "runs", "form", "dtype", "inputs", "random"}
