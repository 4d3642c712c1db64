"""Judge an answer: run it on the cases, find the first thing that is wrong, and name the mistake if
it is a known one.

`evaluate` does both halves here. A grader runs the first half (`trial.run_case`) elsewhere and
calls `judge` on the outcomes it gets back. Nothing in this module prints, and no message holds a
value of the reference.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch

from .compare import ORDER, difference
from .mistakes import name_mistake
from .registry import Case, Exercise, WrongAnswer
from .trial import Outcome, bound_arguments, run_case


@dataclasses.dataclass(frozen=True, repr=False)
class Result:
    """The verdict on one answer.

    check: what failed ("raises", a name of compare.ORDER, "inputs", "random", a property's name) or
    None.
    mistake: the name of the catalogued wrong answer, or None. case: the note of the case that shows
    it.
    """

    exercise_id: str
    status: Literal["right", "wrong", "unanswered"]
    message: str
    check: str | None = None
    mistake: str | None = None
    case: str | None = None

    def __repr__(self) -> str:
        return f"{self.exercise_id}: {self.status}"

    def _ipython_display_(self) -> None:
        """Show nothing: `check` has printed the message already."""


@dataclasses.dataclass(frozen=True)
class _Finding:
    check: str
    message: str
    case: Case | None = None


def make_cases(exercise: Exercise, seed: int = 0) -> list[Case]:
    """Return the cases that `seed` draws; a find-the-number exercise has one, its parameters."""
    if exercise.cases is None:
        return [Case(kwargs=exercise.chosen)]
    return list(exercise.cases(torch.Generator().manual_seed(seed)))


def evaluate(exercise: Exercise, answer: Any, *, seed: int = 0) -> Result:
    """Return the verdict on `answer` (a function, or a value for a find-the-number exercise);
    prints nothing.
    """
    if answer is None or answer is ...:
        return _unanswered(exercise)
    if not exercise.is_value and not callable(answer):
        finding = _Finding(
            "type",
            f"Pass the function itself, check({exercise.id!r}, {exercise.answer_name}), not a"
            " value.",
        )
        return _wrong(exercise, finding, None)
    function = (lambda **_: answer) if exercise.is_value else answer
    cases = make_cases(exercise, seed)
    outcomes = [run_case(exercise, function, case) for case in cases]
    result = judge(exercise, cases, outcomes)
    code = getattr(answer, "__code__", None)
    written = (
        outcomes[0].failure is None
        and outcomes[0].output is None
        and code is not None
        and code.co_names
    )
    if result.status == "unanswered" and written:
        return _unanswered(
            exercise,
            " Your function returns None: if you have written it, its `return` is missing.",
        )
    return result


def judge(exercise: Exercise, cases: Sequence[Case], outcomes: Sequence[Outcome]) -> Result:
    """Return the verdict on the outcomes that an answer had on `cases`, in the same order."""
    if any(outcome.failure is not None and outcome.is_blank for outcome in outcomes):
        return _unanswered(exercise)
    if all(outcome.is_blank for outcome in outcomes):
        return _unanswered(exercise)
    expected = [run_case(exercise, exercise.reference, case) for case in cases]
    finding = _first_finding(exercise, cases, expected, outcomes)
    if finding is None:
        count = "" if exercise.is_value else f" ({len(cases)} cases agree)"
        return Result(exercise.id, "right", f"{exercise.id} is right{count}.")
    return _wrong(exercise, finding, name_mistake(exercise, cases, expected, outcomes))


def _unanswered(exercise: Exercise, note: str = "") -> Result:
    message = (
        f"{exercise.id} not answered yet.{note} Replace the `...` and run the cell again;"
        f" hint({exercise.id!r}) helps."
    )
    return Result(exercise.id, "unanswered", message)


def _wrong(exercise: Exercise, finding: _Finding, mistake: WrongAnswer | None) -> Result:
    message = f"{exercise.id} is not right yet. {finding.message[0].upper()}{finding.message[1:]}"
    if mistake is not None:
        message += f"\nThis is a known mistake: {mistake.name}. {mistake.explanation}"
    note = finding.case.note if finding.case is not None else None
    return Result(exercise.id, "wrong", message, finding.check, mistake and mistake.name, note)


def _first_finding(
    exercise: Exercise,
    cases: Sequence[Case],
    expected: Sequence[Outcome],
    outcomes: Sequence[Outcome],
) -> _Finding | None:
    trials = list(zip(cases, expected, outcomes, strict=True))
    for case, _, outcome in trials:
        if outcome.failure is not None:
            failure = outcome.failure
            line = f" in line {failure.line} of it" if failure.line else ""
            text = f"your code raises {failure.type_name}{line}: {failure.message}"
            return _Finding(
                "raises",
                f"{_named(case)}{text}\nInputs: {_describe(bound_arguments(exercise, case))}.",
                case,
            )
    differences = [
        difference(want.output, outcome.output, exercise.tolerance, bound_arguments(exercise, case))
        for case, want, outcome in trials
    ]
    for check in ORDER[:-1]:
        for case, found in zip(cases, differences, strict=True):
            if found is not None and found.check == check:
                return _Finding(check, _named(case) + found.message, case)
    for case, want, outcome in trials:
        if finding := _side_effect(exercise, case, want, outcome):
            return finding
    wrong = [
        (case, found) for case, found in zip(cases, differences, strict=True) if found is not None
    ]
    if not wrong:
        return None
    case, found = wrong[0]
    count = f" {len(wrong)} of {len(cases)} cases differ." if len(cases) > 1 else ""
    return _Finding(
        "value",
        f"{_named(case)}{found.message}{_returned_input(exercise, cases, outcomes)}{count}",
        case,
    )


def _side_effect(exercise: Exercise, case: Case, want: Outcome, got: Outcome) -> _Finding | None:
    if got.changed:
        names = " and ".join(f"`{name}`" for name in got.changed)
        text = (
            f"your function changes its input {names} in place. Make a new one: the caller still"
            " needs the old."
        )
        return _Finding("inputs", _named(case) + text, case)
    if got.used_global_random and not want.used_global_random:
        text = (
            "your function draws from the global random state. Use only the randomness it is given."
        )
        return _Finding("random", _named(case) + text, case)
    if got.ignored_generator and not want.ignored_generator:
        return _Finding(
            "random",
            f"{_named(case)}your function does not draw from the generator it is given.",
            case,
        )
    if not got.reproducible:
        text = (
            "called twice with a generator in the same state, your function gives two different"
            " outputs."
        )
        return _Finding("random", _named(case) + text, case)
    for demand in exercise.properties:
        if not demand.holds(case, got, want):
            return _Finding(demand.name, _named(case) + demand.message, case)
    return None


def _named(case: Case) -> str:
    """Return the words that a message about this case begins with."""
    return f"Case {case.note!r}: " if case.note else ""


def _describe(arguments: Mapping[str, Any]) -> str:
    def one(value: Any) -> str:
        if isinstance(value, torch.Tensor):
            return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
        return repr(value) if isinstance(value, (bool, int, float, str)) else type(value).__name__

    return ", ".join(f"{name} {one(value)}" for name, value in arguments.items())


def _returned_input(exercise: Exercise, cases: Sequence[Case], outcomes: Sequence[Outcome]) -> str:
    same: set[str] | None = None
    for case, outcome in zip(cases, outcomes, strict=True):
        tensors = {
            name
            for name, value in bound_arguments(exercise, case).items()
            if isinstance(value, torch.Tensor)
            and isinstance(outcome.output, torch.Tensor)
            and value.shape == outcome.output.shape
            and torch.equal(value, outcome.output)
        }
        same = tensors if same is None else same & tensors
    return f" You return `{min(same)}` as it came in." if same else ""


def self_check(exercise: Exercise, seeds: Sequence[int] = (0, 1)) -> list[str]:
    """Return what is wrong with the exercise itself: a reference that fails, a wrong answer that
    passes or is misnamed.
    """
    problems = []
    for choice in itertools.product(*exercise.parameters.values()):
        bound = exercise.with_parameters(**dict(zip(exercise.parameters, choice, strict=True)))
        for seed in seeds:
            if (
                result := evaluate(bound, _answer(bound, bound.reference), seed=seed)
            ).status != "right":
                problems.append(
                    f"{bound.id}, {choice}, seed {seed}: the reference is refused: {result.message}"
                )
            for wrong in bound.wrong_answers:
                result = evaluate(bound, _answer(bound, wrong.function), seed=seed)
                if result.mistake != wrong.name:
                    said = f"{result.status}, named {result.mistake!r}"
                    problems.append(
                        f"{bound.id}, {choice}, seed {seed}: wrong answer {wrong.name!r} is {said}"
                    )
    return problems


def _answer(exercise: Exercise, function: Callable[..., Any]) -> Any:
    return function(**exercise.chosen) if exercise.is_value else function
