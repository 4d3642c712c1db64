"""Find the first thing that is wrong with an answer, from its outcomes and the reference's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .advice import advice
from .compare import ORDER, Terms, difference
from .definition import Case, Exercise
from .trial import GRADIENTS, PATCHED, Outcome, bound_arguments


@dataclasses.dataclass(frozen=True)
class Finding:
    """What failed, in words; `detail` is what only the learner at home is shown."""

    check: str
    message: str
    case: Case | None = None
    detail: str = ""


def first_finding(
    exercise: Exercise,
    cases: Sequence[Case],
    expected: Sequence[Outcome],
    outcomes: Sequence[Outcome],
) -> Finding | None:
    """Return what is wrong first: exceptions, then the output's form, side effects, values."""
    trials = list(zip(cases, expected, outcomes, strict=True))
    for case, _, outcome in trials:
        if outcome.failure is not None:
            return _raised(exercise, case, outcome)
    differences = [
        difference(want.output, outcome.output, terms_of(exercise, case))
        for case, want, outcome in trials
    ]
    for check in ORDER[:-1]:
        for case, found in zip(cases, differences, strict=True):
            if found is not None and found.check == check:
                return Finding(check, named(case) + found.message, case)
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
    return Finding(
        "value",
        f"{named(case)}{found.message}{_returned_input(exercise, cases, outcomes)}{count}",
        case,
        found.detail,
    )


def terms_of(exercise: Exercise, case: Case) -> Terms:
    """How the outputs of a case are compared."""
    return Terms(
        exercise.tolerance,
        bound_arguments(exercise, case),
        digits=exercise.digits if exercise.is_value else None,
        parts=getattr(exercise.call, "parts", ()),
    )


def _raised(exercise: Exercise, case: Case, outcome: Outcome) -> Finding:
    failure = outcome.failure
    text = f"your code raises {failure.type_name}{failure.place and ' ' + failure.place}"
    told = f"{text}: {failure.message}" if failure.message else f"{text}, without a text."
    lines = [f"{named(case)}{told}", failure.source and f"    {failure.source}"]
    lines.append(advice(failure.message))
    if not exercise.is_value:
        lines.append(f"Inputs: {_describe(bound_arguments(exercise, case))}.")
    return Finding("raises", "\n".join(filter(None, lines)), case)


def _side_effect(exercise: Exercise, case: Case, want: Outcome, got: Outcome) -> Finding | None:
    if got.changed:
        return Finding("inputs", named(case) + _changed(got.changed), case)
    if got.used_global_random and not want.used_global_random:
        text = (
            "what your function returns depends on the global random state. Draw only from what it"
            " is given."
        )
        return Finding("random", named(case) + text, case)
    if got.ignored_generator and not want.ignored_generator:
        return Finding(
            "random",
            f"{named(case)}your function does not draw from the generator it is given.",
            case,
        )
    if not got.reproducible:
        text = (
            "called twice with a generator in the same state, your function gives two different"
            " outputs."
        )
        return Finding("random", named(case) + text, case)
    for demand in exercise.properties:
        if not demand.holds(case, got, want):
            return Finding(demand.name, named(case) + demand.message, case)
    return None


def _changed(changed: Sequence[str]) -> str:
    if patched := [name for name in changed if name.startswith(PATCHED)]:
        names = " and ".join(f"`{name.removeprefix(PATCHED)}`" for name in patched[:4])
        return (
            f"your function gives {names} another value, for all that is called after it. It is put"
            " back; keep what you need under a name of your own."
        )
    held = [name for name in changed if not name.endswith(GRADIENTS)]
    if held:
        names = " and ".join(f"`{name}`" for name in held)
        return (
            f"your function changes its input {names} in place. Make a new one: the caller still"
            " needs the old."
        )
    name = changed[0].removesuffix(GRADIENTS)
    return (
        f"your function switches gradients of its input `{name}` on or off: the caller's tensor"
        f" is then another. Work on {name}.detach().clone().requires_grad_()."
    )


def named(case: Case) -> str:
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
