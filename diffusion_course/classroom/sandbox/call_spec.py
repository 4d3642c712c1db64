"""What a worker may know of an exercise: how its answer is named and how it is called."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from ...exercises import calls
from ...exercises.registry import Exercise


@dataclasses.dataclass(frozen=True)
class CallSpec:
    """How an answer is found and called. `trial.run_case` takes it in place of an exercise."""

    answer_name: str
    signature: inspect.Signature
    may_change: tuple[str, ...]
    call: Callable[..., Any] | None
    is_value: bool

    @classmethod
    def of(cls, exercise: Exercise) -> CallSpec:
        """Return what there is to know of an exercise, without its reference and its cases."""
        return cls(
            exercise.answer_name,
            exercise.signature,
            tuple(exercise.may_change),
            exercise.call,
            exercise.is_value,
        )

    def as_message(self) -> tuple[Any, ...]:
        """Return it as plain data: names of parameters, and which of them may be left out."""
        parameters = self.signature.parameters.values()
        optional = tuple(one.name for one in parameters if one.default is not one.empty)
        call = self.call and self.call.__name__
        names = tuple(self.signature.parameters)
        return self.answer_name, names, optional, self.may_change, call, self.is_value

    @classmethod
    def from_message(cls, message: tuple[Any, ...]) -> CallSpec:
        """Return what `as_message` told; every parameter may be given by position or by name."""
        answer_name, names, optional, may_change, call, is_value = message
        kind, empty = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
        parameters = [
            inspect.Parameter(name, kind, default=None if name in optional else empty)
            for name in names
        ]
        call = getattr(calls, call) if call else None
        return cls(answer_name, inspect.Signature(parameters), may_change, call, is_value)
