"""The verdict on one answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from .definition import Case, Exercise
from .trial import bound_arguments, clone


@dataclasses.dataclass(frozen=True, repr=False)
class Result:
    """The verdict on one answer.

    check: what failed ("raises", a name of compare.ORDER, "inputs", "random", "time", a property's
    name) or None.
    mistake: the name of the catalogued wrong answer, or None. case: the note of the case that shows
    it. detail: the first number that is off. explanation: why the mistake is one.
    `inputs` are that case's arguments, and `rerun()` calls the answer with them.
    """

    exercise_id: str
    status: Literal["right", "wrong", "unanswered"]
    message: str
    check: str | None = None
    mistake: str | None = None
    case: str | None = None
    detail: str = ""
    explanation: str = ""
    _case: Any = dataclasses.field(default=None, compare=False)  # a Case
    _exercise: Any = dataclasses.field(default=None, compare=False)
    _answer: Any = dataclasses.field(default=None, compare=False)

    def __repr__(self) -> str:
        return f"{self.exercise_id}: {self.status}"

    def _ipython_display_(self) -> None:
        """Show nothing: `check` has printed the message already."""

    @property
    def inputs(self) -> Mapping[str, Any]:
        """Copies of the arguments of the case that failed, by name; {} where there was none."""
        if self._case is None or self._exercise is None or self._exercise.is_value:
            return {}
        return clone(bound_arguments(self._exercise, self._case))

    def rerun(self) -> Any:
        """Call the answer with the inputs of the case that failed, and return what it returns.

        What the answer raises comes through, with its whole traceback. Raises ValueError where
        there is no such case: no function was called.
        """
        if not self.inputs:
            raise ValueError(f"{self.exercise_id}: no function was called, so there is no case.")
        args, kwargs = clone((self._case.args, dict(self._case.kwargs)))
        return self._answer(*args, **kwargs)


def with_trial(result: Result, exercise: Exercise, answer: Any, cases: Sequence[Case]) -> Result:
    """Return the verdict together with what was called; of a right answer the first case."""
    case = result._case if result._case is not None else cases[0]
    return dataclasses.replace(result, _exercise=exercise, _answer=answer, _case=case)
