"""What a public function demands of its arguments is said at its door; its body is the formula.

``@checked(x0=(batch, finite), t=timesteps("x0", of="alphas_cumprod"))``: before the body runs, each
argument is held to its annotation (``kinds``), then each named one passes its checks in the order
written. A check is called with the argument's name, its value and all arguments by name; it raises,
or returns nothing.
"""

import functools
import inspect
import linecache
from collections.abc import Callable, Mapping
from inspect import Parameter
from numbers import Real
from typing import Any, TypeVar

from . import validation
from .kinds import Kind, held_to

Check = Callable[[str, Any, dict[str, Any]], None]
Function = TypeVar("Function", bound=Callable)
FILE = "<the door of "  # how the file name of a door's code begins; module and name follow


def checked(**checks: Check | tuple[Check, ...]) -> Callable[[Function], Function]:
    """Return a decorator that checks these arguments; one whose default is None may be None."""
    rows = {name: c if isinstance(c, tuple) else (c,) for name, c in checks.items()}

    def decorate(function: Function) -> Function:
        parameters = inspect.signature(function).parameters
        if unknown := sorted(checks.keys() - parameters.keys()):
            raise TypeError(f"{function.__qualname__} has no argument named {unknown}.")
        door = functools.update_wrapper(_written(function, parameters, rows), function)
        door.hold = functools.partial(_hold, _kinds(function, parameters), rows)
        door.checks = {name: [check.__name__ for check in row] for name, row in rows.items()}
        return door

    return decorate


def _written(function: Callable, parameters: Mapping[str, Parameter], rows: dict) -> Callable:
    """Return a function with these parameters that makes the checks, then calls ``function``.

    It is written as text and compiled, as a dataclass's ``__init__`` is: so Python itself binds the
    arguments, and says in its own words if one is missing.
    """
    space: dict[str, Any] = {"_function": function}
    head, passed = [], []
    for name, p in parameters.items():
        stars = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        if p.kind is p.KEYWORD_ONLY and not any(one.startswith("*") for one in head):
            head.append("*")
        space[f"_default_{name}"] = p.default
        head.append(stars + name + ("" if p.default is p.empty else f"=_default_{name}"))
        passed.append(f"{name}={name}" if p.kind is p.KEYWORD_ONLY else stars + name)
    given = ", ".join(f"{name!r}: {name}" for name in parameters)
    lines = [f"def {function.__name__}({', '.join(head)}):"]
    for name, kind in _kinds(function, parameters).items():
        typed = name in rows and getattr(rows[name][0], "typed", False)  # it says more than a kind
        space |= {f"_plain_{name}": kind.plain, f"_kind_{name}": kind.plainly if typed else kind.of}
        other = f"type({name}) not in _plain_{name}"
        if kind.number:  # a float that is one passes at once too
            other = f"({name} != {name}) if type({name}) is float else {other}"
        lines.append(f"    if {other}: {name} = _kind_{name}({name!r}, {name})")
    lines.append(f"    _given = {{{given}}}")
    for name, row in rows.items():
        guard = f"if {name} is not None: " if parameters[name].default is None else ""
        for i, check in enumerate(row):
            alone = getattr(check, "alone", None)  # it wants no other argument: one call less
            space[f"_check_{name}_{i}"] = alone or check
            others = "" if alone else ", _given"
            lines.append(f"    {guard}_check_{name}_{i}({name!r}, {name}{others})")
    text = "\n".join([*lines, f"    return _function({', '.join(passed)})"])
    file = f"{FILE}{function.__module__}.{function.__qualname__}>"
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file  # for tracebacks
    exec(compile(text, file, "exec"), space)
    return space[function.__name__]


def _hold(kinds: dict[str, Kind], rows: dict[str, tuple[Check, ...]], **given: Any) -> None:
    """Make the checks of the arguments that are given, ahead of a call: ``function.hold(eta=2)``.
    """
    for name, value in given.items():
        if name in kinds and type(value) not in kinds[name].plain:
            kinds[name].of(name, value)
        for check in rows.get(name, ()) if value is not None else ():
            check(name, value, given)


def _kinds(function: Callable, parameters: Mapping[str, Parameter]) -> dict[str, Kind]:
    """Return what the annotations ask of the arguments, of those that ask for something."""
    kinds = {}
    for name, p in parameters.items():
        annotation = p.annotation
        if isinstance(annotation, str):
            try:
                annotation = eval(annotation, function.__globals__)  # written text of the package
            except NameError:  # a name for type checkers only
                continue
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) or annotation is p.empty:
            continue
        if (kind := held_to(annotation, p.default is None)) is not None:
            kinds[name] = kind
    return kinds


def _named(name: str, check: Check) -> Check:
    """Return a check that looks at the value's type itself, and has a name to show."""
    check.__name__, check.typed = name, True
    return check


def _alone(name: str, check: Callable[[str, Any], None]) -> Check:
    """Return the check of an argument that needs no other."""
    door_check = _named(name, lambda argument, value, given: check(argument, value))
    door_check.alone = check
    return door_check


batch = _alone("batch", validation.check_batch)  # a floating tensor (B, ...), B >= 1
finite = _alone("finite", validation.check_finite)  # where values can be read for free
floating = _alone("floating", validation.check_floating)
positive_int = _alone("positive int", validation.check_positive_int)
falling = _alone("falling", validation.check_falling)  # abar, from below 1
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

    def beside(name: str, x: Any, given: dict[str, Any]) -> None:
        validation.check_device(name, x, other, given[other])

    beside.__name__ = f"beside {other}"
    return beside


def broadcasts(other: str) -> Check:
    """Return the check for a floating tensor that broadcasts over another argument."""

    def broadcasts(name: str, x: Any, given: dict[str, Any]) -> None:
        validation.check_floating(name, x)
        validation.check_floating(other, given[other])
        validation.check_broadcast(name, x, other, given[other])

    return _named(f"broadcasts over {other}", broadcasts)


def timesteps(other: str, of: str) -> Check:
    """Return the check for indices (B,) of the table ``of``, one for each sample of ``other``."""
    check = validation.check_timesteps
    return _named(
        "timesteps", lambda name, t, given: check(t, other, given[other], len(given[of]))
    )


def one_of(*choices: str) -> Check:
    """Return the check for one of these names."""
    return _alone("choice", lambda name, value: validation.check_choice(name, value, choices))


def number(holds: Callable[[float], bool], demand: str) -> Check:
    """Return the check for a number of which something holds: "NAME must ``demand``"."""

    def number(name: str, value: object) -> None:
        plain = type(value) in (int, float)
        if plain or (isinstance(value, Real) and not isinstance(value, bool)):
            if holds(value):
                return
        shown = value if plain else validation.describe(value)
        raise ValueError(f"{name} must {demand}, got {shown}.")

    check = _alone("number", number)
    check.typed = False  # the annotation says that it is a number
    return check


def keywords_of(function: Callable) -> Check:
    """Return the check for ``**kwargs`` that go on to ``function``: it takes them all."""
    takes = inspect.signature(function).parameters.values()
    known = [p.name for p in takes if p.kind is p.KEYWORD_ONLY]

    def keywords(name: str, kwargs: dict[str, Any], given: dict[str, Any]) -> None:
        if unknown := sorted(kwargs.keys() - set(known)):
            raise TypeError(f"there is no option {unknown[0]!r}: there are {', '.join(known)}.")

    return _named("keywords", keywords)


positive_or_none = number(lambda value: value > 0, "be positive or None")
share = number(lambda value: 0 <= value <= 1, "lie in [0, 1]")
