"""What a public function demands of its arguments is said at its door, so that its body is the
formula.

``@checked(x0=(batch, finite), t=timesteps("x0", "alphas_cumprod"))``: before the body runs, each
named argument passes its checks in the order written. A check is called with the argument's name,
its value and all arguments by name; it raises, or returns nothing.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

from . import validation

Check = Callable[[str, Any, dict[str, Any]], None]
Function = TypeVar("Function", bound=Callable)


def checked(**checks: Check | tuple[Check, ...]) -> Callable[[Function], Function]:
    """Return a decorator that checks the named arguments; one that is left at its default None
    passes.
    """
    rows = [(name, c if isinstance(c, tuple) else (c,)) for name, c in checks.items()]

    def decorate(function: Function) -> Function:
        parameters = inspect.signature(function).parameters.values()
        order = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        rest = [p.name for p in parameters if p.kind is p.VAR_POSITIONAL]
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        gathers = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        needed = {p.name for p in parameters if p.kind not in gathers} - defaults.keys()
        if unknown := set(checks) - {p.name for p in parameters}:
            raise TypeError(f"{function.__qualname__} has no argument named {sorted(unknown)}.")

        @functools.wraps(function)
        def door(*args: Any, **kwargs: Any) -> Any:
            given = {**defaults, **dict(zip(order, args, strict=False)), **kwargs}
            if rest:
                given[rest[0]] = args[len(order) :]
            if not needed <= given.keys():
                return function(*args, **kwargs)  # Python's own TypeError
            for name, row in rows:
                value = given[name]
                if value is None and name in defaults:
                    continue
                for check in row:
                    check(name, value, given)
            return function(*args, **kwargs)

        door.checks = {name: [check.__name__ for check in row] for name, row in rows}
        return door

    return decorate


def batch(name: str, x: object, given: dict) -> None:
    """A floating tensor (B, ...) with at least one sample."""
    validation.check_batch(name, x)


def finite(name: str, x: Tensor, given: dict) -> None:
    """No NaN and no infinity, where values can be read for free."""
    validation.check_finite(name, x)


def floating(name: str, x: object, given: dict) -> None:
    """A tensor of a floating dtype."""
    validation.check_floating(name, x)


def positive_int(name: str, value: object, given: dict) -> None:
    """A whole number of at least 1."""
    validation.check_positive_int(name, value)


def table(name: str, x: object, given: dict) -> None:
    """A floating tensor (T,) with T >= 1."""
    validation.check_table(name, x)


def table_beside(other: str) -> Check:
    """Return the check for a table (T,) on the device of another argument."""

    def table(name: str, x: object, given: dict) -> None:
        validation.check_table(name, x, other, given[other])

    return table


def like(other: str) -> Check:
    """Return the check for the shape, dtype and device of another argument."""

    def alike(name: str, x: object, given: dict) -> None:
        validation.check_alike(name, x, other, given[other])

    return alike


def beside(other: str) -> Check:
    """Return the check for the device of another argument."""

    def beside(name: str, x: Tensor, given: dict) -> None:
        validation.check_device(name, x, other, given[other])

    return beside


def timesteps(other: str, of: str) -> Check:
    """Return the check for int indices (B,) of the table ``of``, one for each sample of ``other``.
    """

    def timesteps(name: str, t: object, given: dict) -> None:
        validation.check_timesteps(t, other, given[other], len(given[of]))

    return timesteps


def one_of(*choices: str) -> Check:
    """Return the check for one of these names."""

    def choice(name: str, value: object, given: dict) -> None:
        validation.check_choice(name, value, choices)

    return choice


def number(holds: Callable[[float], bool], demand: str) -> Check:
    """Return the check for a number of which something holds; "NAME must ``demand``" is the
    message.
    """

    def number(name: str, value: object, given: dict) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not holds(value):
            shown = value if type(value) in (int, float) else validation.describe(value)
            raise ValueError(f"{name} must {demand}, got {shown}.")

    return number


positive = number(lambda value: value > 0, "be positive or None")
share = number(lambda value: 0 <= value <= 1, "lie in [0, 1]")
