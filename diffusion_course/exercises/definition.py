"""What an exercise is: its texts, its right answer, the known wrong ones, how answers compare."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from .edits import Edit, compiled
from .solutions import stand_alone
from .syntax import parse


@dataclasses.dataclass(frozen=True)
class Case:
    """One call of the answer: its arguments, and a note that names the case to the learner."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    note: str = ""


@dataclasses.dataclass(frozen=True)
class WrongAnswer:
    """A known mistake: a short name, the answer that makes it, and why it is wrong.

    `answer` is an edit of the exercise's solution, or a function. `exercise` is where it belongs:
    the exercise fills that in.
    """

    name: str
    answer: Edit | Callable[..., Any]
    explanation: str
    exercise: Exercise | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def function(self) -> Callable[..., Any]:
        """The function that makes the mistake; an edit is compiled when it is first asked for."""
        if not isinstance(self.answer, Edit):
            return self.answer
        source = self.edited(self.exercise.solution_functions())
        title = f"{self.exercise.id}, {self.name}"
        return compiled(source, self.exercise.solution_name, title)

    def edited(self, source: str) -> str:
        """Return `source` with the edit made.

        Raises ValueError with exercise and name where it does not fit.
        """
        try:
            return self.answer.apply(source)
        except ValueError as error:
            raise ValueError(
                f"exercise {self.exercise.id!r}: wrong answer {self.name!r}: {error}"
            ) from error


@dataclasses.dataclass(frozen=True)
class Property:
    """A further demand on an answer.

    `holds(case, outcome, expected)` sees the `trial.Outcome` of the answer and of the reference.
    """

    name: str
    holds: Callable[[Case, Any, Any], bool]
    message: str


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """Values agree when |answer - reference| <= atol + rtol |reference|.

    Half precision gets at least 0.03 of each.
    """

    rtol: float = 1e-4
    atol: float = 1e-6

    def limits(self, dtype: torch.dtype) -> tuple[float, float]:
        """Return (rtol, atol) for values of `dtype`."""
        if dtype in (torch.bfloat16, torch.float16):
            return max(self.rtol, 0.03), max(self.atol, 0.03)
        return self.rtol, self.atol


@dataclasses.dataclass(frozen=True)
class Exercise:
    """One exercise as data: what the learner reads, what is right, what is wrong and why.

    `reference` is called with the arguments of each case, or with `parameters` when `cases` is None
    (find the number). `call(answer, *args, **kwargs)` says how to get a comparable output from an
    answer, where calling it is not enough. `solution` is what the learner is shown at last; empty,
    it is the source of the reference. `may_change` names the arguments that the answer is allowed
    to change (a network, an optimiser). `digits` is how many significant digits a number that is to
    be found must have at least; the statement says it where it is not 3. Raises ValueError with the
    id where a part is missing or contradicts another, or where a wrong answer does not fit the
    written solution (where none is written, that shows when the wrong answer is first used: reading
    every source costs too much).
    """

    id: str
    lesson: int
    title: str
    statement: str
    stub: str
    reference: Callable[..., Any]
    cases: Callable[[torch.Generator], Iterable[Case]] | None
    hints: tuple[str, str, str]
    derivation: str
    wrong_answers: tuple[WrongAnswer, ...]
    points: int = 1
    tolerance: Tolerance = Tolerance()
    properties: tuple[Property, ...] = ()
    parameters: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    solution: str = ""
    call: Callable[..., Any] | None = None
    may_change: tuple[str, ...] = ()
    digits: int = 3

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise ValueError(f"exercise {self.id!r}: " + "; ".join(problems))
        owned = tuple(dataclasses.replace(one, exercise=self) for one in self.wrong_answers)
        object.__setattr__(self, "wrong_answers", owned)
        if self.solution:
            for wrong in owned:
                if isinstance(wrong.answer, Edit):
                    wrong.edited(self.solution_functions())

    @property
    def is_value(self) -> bool:
        """True for "find the number": the answer is a value, not a function."""
        return self.cases is None

    @property
    def signature(self) -> inspect.Signature:
        """How the answer is called: the reference's signature."""
        return inspect.signature(self.reference)

    @property
    def answer_name(self) -> str:
        """The name that the stub defines."""
        return _defined_names(self.stub)[-1]

    @property
    def chosen(self) -> dict[str, Any]:
        """The parameters in force: the first choice of each."""
        return {name: choices[0] for name, choices in self.parameters.items()}

    def with_parameters(self, **values: Any) -> Exercise:
        """Return the same exercise with other parameters.

        Raises ValueError for a name or value that is not offered.
        """
        for name, value in values.items():
            if value not in self.parameters.get(name, ()):
                offered = {key: list(choices) for key, choices in self.parameters.items()}
                raise ValueError(
                    f"exercise {self.id}: {name}={value!r} is not offered; choose from {offered}"
                )
        single = {
            name: (values.get(name, choices[0]),) for name, choices in self.parameters.items()
        }
        return dataclasses.replace(self, parameters=single)

    def render(self, text: str) -> str:
        """Fill the parameters in force into `text` (`<<name>>`)."""
        return re.sub(r"<<(\w+)>>", lambda found: str(self.chosen[found[1]]), text)

    @property
    def solution_name(self) -> str:
        """The function that the solution defines; for a number, the one that computes it."""
        if not self.is_value:
            return self.answer_name
        if not self.solution:
            return self.reference.__name__
        return re.findall(r"^def (\w+)", self.solution, re.MULTILINE)[-1]

    def solution_functions(self) -> str:
        """The solution's text, without the line that computes a number with the function."""
        if not self.solution:
            return stand_alone(self.reference)
        if not self.is_value:
            return self.solution
        return re.sub(rf"^{self.answer_name} = .*\n", "", self.solution, flags=re.MULTILINE)

    def solution_source(self) -> str:
        """Return the solution's text, which defines `answer_name` and needs only torch.

        It is the one given, else the reference's source.
        """
        if self.solution:
            return self.render(self.solution)
        source = stand_alone(self.reference)
        if not self.is_value:
            return source
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.chosen.items())
        return f"{source}\n\n{self.answer_name} = {self.reference.__name__}({arguments})\n"


def _defined_names(source: str) -> list[str]:
    names = []
    for node in parse(re.sub(r"<<\w+>>", "0", source)).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return names


def _problems(exercise: Exercise) -> Iterable[str]:
    if not re.fullmatch(rf"{exercise.lesson:02d}\.[1-9]\d*", exercise.id):
        yield f"the id must be {exercise.lesson:02d}.N for lesson {exercise.lesson}"
    for part in ("title", "statement", "derivation"):
        if not getattr(exercise, part).strip():
            yield f"{part} is empty"
    if "..." not in exercise.stub or not _defined_names(exercise.stub):
        yield "the stub must define a name and hold a `...`"
    if len(exercise.hints) != 3 or not all(hint.strip() for hint in exercise.hints):
        yield f"three hints are needed, got {len(exercise.hints)}"
    names = [wrong.name for wrong in exercise.wrong_answers]
    if len(names) < 3 or len(set(names)) < len(names):
        yield f"at least three wrong answers with different names are needed, got {names}"
    if not all(wrong.explanation.strip() for wrong in exercise.wrong_answers):
        yield "a wrong answer has no explanation"
    if exercise.points <= 0:
        yield f"points must be positive, got {exercise.points}"
    if exercise.digits < 3:
        yield f"a number has at least 3 significant digits, got digits={exercise.digits}"
    if exercise.digits != 3 and f"{exercise.digits} significant digits" not in exercise.statement:
        yield f"the statement must ask for {exercise.digits} significant digits"
    if not all(len(choices) for choices in exercise.parameters.values()):
        yield "a parameter has no choices"
    if exercise.parameters and not exercise.is_value:
        yield "only a find-the-number exercise has parameters; put the others into cases"
    if unknown := set(re.findall(r"<<(\w+)>>", exercise.statement + exercise.stub)) - set(
        exercise.parameters
    ):
        yield f"<<...>> names {sorted(unknown)}, which are not parameters"
