"""Call an answer on one case and write down what happened as plain data.

A trial holds only tensors, numbers, strings and containers of them, so that it can be judged in
another process than the one that ran the answer. Nothing here knows what is right.
"""

from __future__ import annotations

import dataclasses
import inspect
import random
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch

from .data import Foreign, clone, plain, unchanged
from .definition import Case
from .patience import TimeLimit
from .surroundings import kept, random_states
from .traces import Failure, failure_of

GRADIENTS = ".requires_grad"  # behind the name of an input of which this alone was changed

__all__ = ["Called", "Failure", "Foreign", "Outcome", "bound_arguments", "clone", "run_case"]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one call did: its output as plain data or its failure, and its side effects.

    `used_global_random` says that the output depends on the global random state; an answer that
    draws from it and uses nothing of that (a new layer, filled with given weights) is as good as
    any.
    """

    output: Any = None
    failure: Failure | None = None
    changed: tuple[str, ...] = ()
    used_global_random: bool = False
    ignored_generator: bool = False
    reproducible: bool = True

    @property
    def is_blank(self) -> bool:
        """True where the answer has not been written.

        Then it returns None or `...`, or trips over a `...` of its own.
        """
        if self.failure is None:
            return self.output is None or _is_open(self.output)
        return self.failure.blank


def _is_open(output: Any) -> bool:
    """True for a `...`, and for a tuple or dictionary that holds nothing else."""
    if isinstance(output, dict):
        output = tuple(output.values())
    return output is ... or (
        isinstance(output, tuple) and len(output) > 0 and all(map(_is_open, output))
    )


class Called(Protocol):
    """What a trial has to know of an exercise: how its answer is called."""

    signature: inspect.Signature
    may_change: tuple[str, ...]
    call: Callable[..., Any] | None


def run_case(
    exercise: Called,
    answer: Callable[..., Any],
    case: Case,
    *,
    caught: tuple[type[BaseException], ...] = (BaseException,),
) -> Outcome:
    """Call `answer` on clones of the case's arguments and return what happened.

    The caller's process is left as it was (`surroundings.kept`). Exceptions that are not `caught`
    come through, and KeyboardInterrupt and TimeLimit always do.
    """
    before = bound_arguments(exercise, case)
    args, kwargs = clone((case.args, dict(case.kwargs)))
    after = bound_arguments(exercise, Case(args, kwargs))
    output, failure, drew = _call(exercise, answer, args, kwargs, caught, seed=0)
    changed = tuple(
        name
        for name in before
        if name not in exercise.may_change and not unchanged(before[name], after[name])
    ) + tuple(f"{name}{GRADIENTS}" for name in before if _switched(before[name], after[name]))
    generators = [name for name, value in before.items() if isinstance(value, torch.Generator)]
    ignored = any(
        torch.equal(before[name].get_state(), after[name].get_state()) for name in generators
    )
    same = True
    if (generators or drew) and failure is None:
        args, kwargs = clone((case.args, dict(case.kwargs)))
        again, _, _ = _call(exercise, answer, args, kwargs, caught, seed=1)
        same = unchanged(output, again)
    return Outcome(output, failure, changed, drew and not same, ignored, drew or same)


def _switched(before: Any, after: Any) -> bool:
    """True where a tensor wants gradients after a call and did not before, or the other way."""
    both = (before, after)
    return all(isinstance(one, torch.Tensor) for one in both) and (
        before.requires_grad != after.requires_grad
    )


def bound_arguments(exercise: Called, case: Case) -> dict[str, Any]:
    """Return the case's arguments by the reference's parameter names."""
    return dict(exercise.signature.bind(*case.args, **case.kwargs).arguments)


def _call(
    exercise: Called,
    answer: Any,
    args: tuple,
    kwargs: dict,
    caught: tuple[type[BaseException], ...],
    seed: int,
) -> tuple[Any, Failure | None, bool]:
    """Return the output or the failure, and whether the global random state was drawn from."""
    with kept():
        # A fixed start makes an answer that wrongly draws from the global state give the same
        # verdict every time.
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        started = _as_bytes(random_states())
        output, failure = None, None
        try:
            output = (
                answer(*args, **kwargs)
                if exercise.call is None
                else exercise.call(answer, *args, **kwargs)
            )
            if inspect.iscoroutine(output):
                output.close()  # else Python warns that nobody waits for it
            output = plain(output)
        except (KeyboardInterrupt, TimeLimit):
            raise
        except caught as error:  # a finding, whatever it is: the check itself does not crash
            output, failure = None, failure_of(answer, error)
        return output, failure, _as_bytes(random_states()) != started


def _as_bytes(states: tuple[Any, ...]) -> tuple[Any, ...]:
    own, (_, keys, *position), python, _ = states
    return own.numpy().tobytes(), keys.tobytes(), position, python
