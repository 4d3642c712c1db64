"""Judge an answer: run it on the cases, find the first thing that is wrong, and name the mistake if
it is a known one.

`evaluate` does both halves here. A grader runs the first half (`trial.run_case`) elsewhere and
calls `judge` on the outcomes it gets back. Nothing in this module prints, and no message holds a
value of the reference: a message may go to a student whose cases are secret. `Result.detail` says
more, a number of the answer and how many times the right one it is; only `check` shows it, whose
cases and reference are open to the reader.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import types
from collections.abc import Sequence
from typing import Any

import torch

from .definition import Case, Exercise, WrongAnswer
from .findings import Finding, first_finding, named
from .libraries import patched
from .mistakes import name_mistake
from .patience import TimeLimit, within
from .result import Result, with_trial
from .surroundings import kept
from .traces import failure_of
from .trial import Outcome, run_case
from .written import nothing_comes_back, open_part, some_end_without, unwritten

__all__ = ["CannotJudge", "Result", "evaluate", "judge", "make_cases"]


class CannotJudge(RuntimeError):
    """The course's own answer does not run here, so there is nothing to compare with."""


def make_cases(exercise: Exercise, seed: int = 0) -> list[Case]:
    """Return the cases that `seed` draws; a find-the-number exercise has one, its parameters."""
    if exercise.cases is None:
        return [Case(kwargs=exercise.chosen)]
    with kept():
        return list(exercise.cases(torch.Generator().manual_seed(seed)))


def evaluate(
    exercise: Exercise, answer: Any, *, seed: int = 0, time_limit: float = math.inf
) -> Result:
    """Return the verdict on `answer`: a function, or a value where a number is to be found.

    `time_limit` is in seconds, for all cases together. It prints nothing.
    """
    try:
        return _evaluate(exercise, answer, seed, time_limit)
    except Exception as error:
        if not (why := patched()):
            raise
        text = f"{exercise.id} cannot be checked: {why}. ({type(error).__name__})"
        return Result(exercise.id, "unanswered", text)


def _evaluate(exercise: Exercise, answer: Any, seed: int, time_limit: float) -> Result:
    if answer is None or answer is ...:
        return _unanswered(exercise, *((" You pass None.", _PASS) if answer is None else ()))
    if told := _is_no_answer(exercise, answer):
        return _wrong(exercise, Finding("type", told))
    function = (lambda **_: answer) if exercise.is_value else answer
    with kept():
        cases = make_cases(exercise, seed)
        try:
            with within(time_limit):
                outcomes = [run_case(exercise, function, case) for case in cases]
        except TimeLimit as error:
            return _wrong(exercise, _too_long(answer, error, time_limit))
        if all(one.failure is None and one.output is None for one in outcomes):
            return _without_return(exercise, answer)
        try:
            result = judge(exercise, cases, outcomes)
        except CannotJudge as error:
            text = f"{exercise.id} cannot be checked: {patched() or error}"
            return Result(exercise.id, "unanswered", text)
        if result.check == "type" and any(one.output is None for one in outcomes):
            text = result.message + some_end_without(answer)
            result = dataclasses.replace(result, message=text)
    return with_trial(result, exercise, answer, cases)


def judge(exercise: Exercise, cases: Sequence[Case], outcomes: Sequence[Outcome]) -> Result:
    """Return the verdict on the outcomes that an answer had on `cases`, in the same order.

    Raises CannotJudge where the reference fails on one of the cases.
    """
    raised = [one.failure for one in outcomes if one.failure is not None and one.is_blank]
    stubs = [one for one in raised if one.type_name == "NotImplementedError"]
    if all(outcome.is_blank for outcome in outcomes) or len(stubs) < len(raised):
        if raised and len(stubs) == len(raised):
            return _unanswered(exercise, advice="Write your code in the place of the `raise`")
        return _unanswered(exercise)
    for outcome in outcomes:
        if part := open_part(outcome.output, exercise.render(exercise.stub)):
            text = f"{exercise.id} not answered yet: {part} of what it returns is still `...`;"
            return Result(exercise.id, "unanswered", f"{text} hint({exercise.id!r}) helps.")
    if len(outcomes) > 1 and any(outcome.output is ... for outcome in outcomes):
        return _unanswered(exercise, " A `...` is what it still returns in one of the cases.")
    with kept():
        judged = [
            (case, outcome)
            for case, outcome in zip(cases, outcomes, strict=True)
            if not numpy_cannot(case, outcome)
        ]
        if judged:
            cases, outcomes = zip(*judged, strict=True)
        expected = [run_case(exercise, exercise.reference, case) for case in cases]
        for case, one in zip(cases, expected, strict=True):
            if one.failure is not None:
                text = f"the course's own answer cannot run here: {one.failure.type_name}"
                raise CannotJudge(f"{named(case)}{text}: {one.failure.message}")
        finding = first_finding(exercise, cases, expected, outcomes)
        if finding is None:
            count = "" if exercise.is_value else f" ({len(cases)} cases agree)"
            return Result(exercise.id, "right", f"{exercise.id} is right{count}.")
        return _wrong(exercise, finding, name_mistake(exercise, cases, expected, outcomes))


def numpy_cannot(case: Case, outcome: Outcome) -> bool:
    """True where an answer has failed because numpy has no bfloat16: numpy may be used."""
    failure, given = outcome.failure, (*case.args, *case.kwargs.values())
    return (
        failure is not None
        and "unsupported ScalarType BFloat16" in failure.message
        and any(isinstance(one, torch.Tensor) and one.dtype == torch.bfloat16 for one in given)
    )


def _is_no_answer(exercise: Exercise, answer: Any) -> str:
    """Say what is handed in where that cannot be an answer; "" where it may be one."""
    call = f"check({exercise.id!r}, {exercise.answer_name})"
    if isinstance(answer, types.ModuleType):
        return f"you pass the module `{answer.__name__}`. Pass what you have written: {call}."
    builtin = isinstance(answer, (types.BuiltinFunctionType, type))
    if builtin and getattr(answer, "__module__", None) == "builtins":
        return f"you pass Python's own `{answer.__name__}`. Pass what you have written: {call}."
    if isinstance(answer, type) and any(
        isinstance(getattr(answer, name, None), types.FunctionType)
        for name in ("forward", "__call__")
    ):
        name = answer.__name__
        return f"you pass the class `{name}`: pass an instance, check({exercise.id!r}, {name}())."
    if not exercise.is_value and not callable(answer):
        shown = "one" if isinstance(answer, torch.Tensor) else f"{answer!r:.60}"
        text = f"Pass the function itself, {call}, not a value"
        return f"{text}." if shown == "one" else f"{text}: you pass {shown}."
    if inspect.isasyncgenfunction(answer) or inspect.isgeneratorfunction(answer):
        return "your function is a generator: use `return`, not `yield`."
    if inspect.iscoroutinefunction(answer):
        return "your function begins with `async def`: write `def` alone."
    return ""


_REPLACE, _PASS = "Replace the `...`", "Pass your answer"


def _unanswered(exercise: Exercise, note: str = "", advice: str = _REPLACE) -> Result:
    message = (
        f"{exercise.id} not answered yet.{note} {advice} and run the cell again;"
        f" hint({exercise.id!r}) helps."
    )
    return Result(exercise.id, "unanswered", message)


def _without_return(exercise: Exercise, answer: Any) -> Result:
    """The verdict on a function that always returns None: a stub, or one that forgets to return."""
    if exercise.is_value or unwritten(answer, exercise.render(exercise.stub)):
        return _unanswered(exercise)
    return _wrong(exercise, Finding("type", nothing_comes_back(answer)))


def _too_long(answer: Any, error: TimeLimit, seconds: float) -> Finding:
    place = failure_of(answer, error)
    where = f" It was {place.place}: {place.source}" if place.place and place.source else ""
    text = (
        f"your code was stopped: it had not come back after {seconds:g} s. Does a loop of it never"
        f" end?{where}\ncheck(..., time_limit={10 * seconds:g}) waits longer."
    )
    return Finding("time", text)


def _wrong(exercise: Exercise, finding: Finding, mistake: WrongAnswer | None = None) -> Result:
    message = f"{exercise.id} is not right yet. {finding.message[0].upper()}{finding.message[1:]}"
    if mistake is not None:
        lead = "This is a known mistake" if mistake.exercise is not None else "It looks like this"
        message += f"\n{lead}: {mistake.name}. {mistake.explanation}"
    note = finding.case.note if finding.case is not None else None
    return Result(
        exercise.id,
        "wrong",
        message,
        finding.check,
        mistake and mistake.name,
        note,
        finding.detail,
        mistake.explanation if mistake else "",
        finding.case,
    )
