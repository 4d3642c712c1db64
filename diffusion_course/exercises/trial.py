"""Call an answer on one case and write down what happened as plain data.

A trial holds only tensors, numbers, strings and containers of them, so that it can be judged in
another process than the one that ran the answer. Nothing here knows what is right.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import random
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch

from .registry import Case

_NUMPY_SCALARS = {
    kind for kind in np.sctypeDict.values() if issubclass(kind, (np.floating, np.integer, np.bool_))
}
_BITS = 900  # a larger int does not become a float, with which it would be compared
_DEPTH = 6  # containers deeper than this are no answer; also stops a list that holds itself


@dataclasses.dataclass(frozen=True)
class Foreign:
    """Stands for a returned object that is no tensor, number, string or container of them."""

    type_name: str


@dataclasses.dataclass(frozen=True)
class Failure:
    """An exception that the answer raised: its type, its first line, the line of the answer (1 is
    its `def`) if known.
    """

    type_name: str
    message: str
    line: int | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one call did: its output as plain data or its failure, and its side effects."""

    output: Any = None
    failure: Failure | None = None
    changed: tuple[str, ...] = ()
    used_global_random: bool = False
    ignored_generator: bool = False
    reproducible: bool = True

    @property
    def is_blank(self) -> bool:
        """True where the answer has not been written: it returns None or `...`, or trips over a
        `...`.
        """
        if self.failure is None:
            return self.output is None or self.output is ...
        return self.failure.type_name == "NotImplementedError" or "ellipsis" in self.failure.message


class Called(Protocol):
    """What a trial has to know of an exercise: how its answer is called."""

    signature: inspect.Signature
    may_change: tuple[str, ...]
    call: Callable[..., Any] | None


def run_case(exercise: Called, answer: Callable[..., Any], case: Case) -> Outcome:
    """Call `answer` on clones of the case's arguments; the caller's global random state is left as
    it was.
    """
    before = bound_arguments(exercise, case)
    args, kwargs = clone((case.args, dict(case.kwargs)))
    after = bound_arguments(exercise, Case(args, kwargs))
    output, failure, used_global_random = _call(exercise, answer, args, kwargs, seed=0)
    changed = tuple(
        name
        for name in before
        if name not in exercise.may_change and not unchanged(before[name], after[name])
    )
    generators = [name for name, value in before.items() if isinstance(value, torch.Generator)]
    ignored = any(
        torch.equal(before[name].get_state(), after[name].get_state()) for name in generators
    )
    reproducible = True
    if generators and failure is None:
        again_args, again_kwargs = clone((case.args, dict(case.kwargs)))
        again, _, _ = _call(exercise, answer, again_args, again_kwargs, seed=1)
        reproducible = unchanged(output, again)
    return Outcome(output, failure, changed, used_global_random, ignored, reproducible)


def bound_arguments(exercise: Called, case: Case) -> dict[str, Any]:
    """Return the case's arguments by the reference's parameter names."""
    return dict(exercise.signature.bind(*case.args, **case.kwargs).arguments)


def _call(
    exercise: Called, answer: Any, args: tuple, kwargs: dict, seed: int
) -> tuple[Any, Failure | None, bool]:
    saved = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        # A fixed start makes an answer that wrongly draws from the global state give the same
        # verdict every time.
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        started = _random_states()
        output, failure = None, None
        try:
            output = (
                answer(*args, **kwargs)
                if exercise.call is None
                else exercise.call(answer, *args, **kwargs)
            )
            output = plain(output)
        except (
            Exception
        ) as error:  # whatever the learner's code raises is a finding, not a crash of the check
            failure = Failure(type(error).__name__, _first_line(error), _line_in(answer, error))
            output = None
        return output, failure, _random_states() != started
    finally:
        torch.set_rng_state(saved[0])
        np.random.set_state(saved[1])
        random.setstate(saved[2])


def _random_states() -> tuple[Any, ...]:
    _, keys, *position = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), keys.tobytes(), position, random.getstate()


def _first_line(error: Exception) -> str:
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # an exception class of the learner's own may fail to print itself
        return ""
    return lines[0][:200] if lines else ""


def _line_in(answer: Any, error: Exception) -> int | None:
    code = getattr(answer, "__code__", None)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if code is not None and frame.filename == code.co_filename and frame.name == code.co_name:
            return frame.lineno - code.co_firstlineno + 1
    return None


def clone(value: Any) -> Any:
    """Deep copy that also copies random generators (copy.deepcopy cannot)."""
    memo: dict[int, Any] = {}

    def find_generators(part: Any) -> None:
        if isinstance(part, torch.Generator):
            memo[id(part)] = torch.Generator(part.device).set_state(part.get_state())
        elif isinstance(part, Mapping):
            for item in part.values():
                find_generators(item)
        elif isinstance(part, (tuple, list)):
            for item in part:
                find_generators(item)

    find_generators(value)
    return copy.deepcopy(value, memo)


def plain(value: Any, depth: int = 0) -> Any:
    """Copy an output into plain data; anything unexpected becomes `Foreign`.

    Types are compared exactly: an object that pretends to be a number or a tensor, or a tensor
    subclass whose operators are its own, must not take part in a comparison.
    """
    kind = type(value)
    if kind in (torch.Tensor, torch.nn.Parameter):
        return (
            value.detach().clone()
            if value.layout == torch.strided
            else Foreign(f"{value.layout} tensor")
        )
    if kind is int and value.bit_length() > _BITS:
        return Foreign("a very large int")
    if value is None or value is ... or kind in (bool, int, float, str):
        return value
    if kind in _NUMPY_SCALARS:
        return value.item()
    if depth < _DEPTH:
        if issubclass(kind, (tuple, list)):
            return tuple(plain(item, depth + 1) for item in list(value))
        if kind is dict and all(type(key) is str for key in value):
            return {key: plain(item, depth + 1) for key, item in value.items()}
        if dataclasses.is_dataclass(kind):
            return tuple(
                plain(getattr(value, field.name), depth + 1) for field in dataclasses.fields(kind)
            )
    return Foreign(
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def unchanged(before: Any, after: Any) -> bool:
    """True where two pieces of data hold the same values; objects that are no data count as
    unchanged.
    """
    if isinstance(before, torch.Tensor):
        if (
            not isinstance(after, torch.Tensor)
            or before.shape != after.shape
            or before.dtype != after.dtype
        ):
            return False
        if before.device != after.device or before.device.type == "meta":
            return before.device == after.device
        return torch.equal(_bits(before), _bits(after))
    if isinstance(before, torch.nn.Module):
        return before.training == after.training and unchanged(
            dict(before.state_dict()), dict(after.state_dict())
        )
    if isinstance(before, Mapping):
        return list(before) == list(after) and all(
            unchanged(before[key], after[key]) for key in before
        )
    if isinstance(before, (tuple, list)):
        return len(before) == len(after) and all(map(unchanged, before, after))
    if isinstance(before, (bool, int, float, str)):
        return type(before) is type(after) and (before == after or before != before)
    return True


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return torch.nan_to_num(tensor.detach()) if tensor.is_floating_point() else tensor.detach()
