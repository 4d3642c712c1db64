"""What a public function demands of its arguments is said at its door; its body is the formula.

``@checked(x0=(batch, finite), t=timesteps("x0", of="alphas_cumprod"))``: before the body runs, each
named argument passes its checks in the order written. A check is called with the argument's name,
its value and all arguments by name; it raises, or returns nothing.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from . import validation

Check = Callable[[str, Any, dict[str, Any]], None]
Function = TypeVar("Function", bound=Callable)


def checked(**checks: Check | tuple[Check, ...]) -> Callable[[Function], Function]:
    """Return a decorator that checks these arguments; one left at its default None passes."""
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


def _named(name: str, check: Check) -> Check:
    check.__name__ = name
    return check


def _alone(name: str, check: Callable[[str, Any], None]) -> Check:
    """Return the check of an argument that needs no other."""
    return _named(name, lambda argument, value, given: check(argument, value))


batch = _alone("batch", validation.check_batch)  # a floating tensor (B, ...), B >= 1
finite = _alone("finite", validation.check_finite)  # where values can be read for free
floating = _alone("floating", validation.check_floating)
positive_int = _alone("positive int", validation.check_positive_int)
table = _alone("table", validation.check_table)  # a floating tensor (T,), T >= 1


def table_beside(other: str) -> Check:
    """Return the check for a table (T,) on the device of another argument."""
    return _named("table", lambda n, x, given: validation.check_table(n, x, other, given[other]))


def like(other: str) -> Check:
    """Return the check for the shape, dtype and device of another argument."""
    check = validation.check_alike
    return _named(f"like {other}", lambda name, x, given: check(name, x, other, given[other]))


def beside(other: str) -> Check:
    """Return the check for the device of another argument."""
    check = validation.check_device
    return _named(f"beside {other}", lambda name, x, given: check(name, x, other, given[other]))


def timesteps(other: str, of: str) -> Check:
    """Return the check for indices (B,) of the table ``of``, one for each sample of ``other``."""
    check = validation.check_timesteps
    return _named(
        "timesteps", lambda name, t, given: check(t, other, given[other], len(given[of]))
    )


def one_of(*choices: str) -> Check:
    """Return the check for one of these names."""
    return _named("choice", lambda name, x, given: validation.check_choice(name, x, choices))


def number(holds: Callable[[float], bool], demand: str) -> Check:
    """Return the check for a number of which something holds: "NAME must ``demand``"."""

    def number(name: str, value: object, given: dict) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not holds(value):
            shown = value if type(value) in (int, float) else validation.describe(value)
            raise ValueError(f"{name} must {demand}, got {shown}.")

    return number


positive = number(lambda value: value > 0, "be positive or None")
share = number(lambda value: 0 <= value <= 1, "lie in [0, 1]")
