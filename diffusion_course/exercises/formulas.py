"""One change in the formula of a right answer, and what it is called.

The solution's syntax tree is changed in one place, or in all places of one kind. What is said of a
change names no part of the solution that the learner has not seen.
"""

from __future__ import annotations

import ast
import copy
import functools
import itertools
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch

from .definition import Exercise, WrongAnswer
from .syntax import parse

TURN, TURNS = "_one_more_turn", 20_000
Found = tuple[str, str, ast.AST]  # name, explanation, what stands in the node's place

_OTHER = {  # a method or function that is easily taken for another
    "sum": ("mean",), "mean": ("sum", "median"), "min": ("max",), "max": ("min",), "amin": ("amax",), "amax": ("amin",),
    "cumprod": ("cumsum",), "prod": ("sum", "mean"), "log2": ("log", "log10"), "log10": ("log", "log2"), "log": ("log2", "log10"),
    "std": ("var",), "var": ("std",), "all": ("any",), "any": ("all",), "floor": ("ceil", "round"), "ceil": ("floor",),
    "sin": ("cos",), "cos": ("sin",), "sqrt": ("square", "exp"), "square": ("abs", "sqrt"), "tril": ("triu",), "triu": ("tril",),
    "round": ("floor",), "int": ("round",), "zeros_like": ("ones_like",), "ones_like": ("zeros_like",), "randn": ("rand",), "exp": ("log",),
}
_AXES = ("sum", "mean", "std", "var", "min", "max", "amin", "amax", "softmax", "cumprod", "cumsum", "chunk", "all", "any", "flatten", "prod")
_LIMITS = ("clamp", "min", "max", "minimum", "maximum")


def formula_changes(exercise: Exercise) -> Iterator[WrongAnswer]:
    """Yield the exercise's solution with one change each, where it compiles."""
    seen = (*exercise.signature.parameters, *_names_of(exercise.stub))
    for name, why, source in _sources(exercise.solution_functions(), seen):
        yield WrongAnswer(name, _late(source, exercise.solution_name), why)


def _names_of(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(re.findall(r"[A-Za-z_]\w*", text)))


class TooLong(Exception):
    """A changed solution does not come to an end."""


def solution_of(exercise: Exercise) -> Callable[..., Any]:
    """Return the solution, with an end to its loops whatever its arguments are."""
    return _late(exercise.solution_functions(), exercise.solution_name)


def _late(source: str, name: str) -> Callable[..., Any]:
    def function(*args: Any, **kwargs: Any) -> Any:
        turns = itertools.count()

        def turn() -> None:
            if next(turns) > TURNS:
                raise TooLong(f"more than {TURNS} turns")

        scope: dict[str, Any] = {"torch": torch, "math": math, TURN: turn}
        exec(_compiled(source), scope)
        return scope[name](*args, **kwargs)

    return function


@functools.lru_cache(maxsize=4096)
def _compiled(source: str) -> Any:
    tree = parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.While, ast.For)):
            node.body.insert(0, ast.Expr(ast.Call(ast.Name(TURN, ast.Load()), [], [])))
    return compile(ast.fix_missing_locations(tree), "<a changed solution>", "exec")


@functools.lru_cache(maxsize=128)
def _sources(source: str, known: tuple[str, ...]) -> tuple[tuple[str, str, str], ...]:
    """(name, explanation, text) of each change; `known` are the names that a learner has seen."""
    tree, seen, made = parse(source), {source}, []
    for name, why, changed in _edits(tree, known):
        try:
            text = ast.unparse(ast.fix_missing_locations(changed))
        except (AttributeError, TypeError, ValueError):  # no code any more
            continue
        if text not in seen:
            seen.add(text)
            made.append((name, why, text))
    return tuple(made)


def _edits(tree: ast.Module, known: tuple[str, ...]) -> Iterator[tuple[str, str, ast.Module]]:
    for node in list(ast.walk(tree)):
        for field, value in list(ast.iter_fields(node)):
            if field in ("annotation", "returns", "decorator_list", "ctx", "args") and not isinstance(node, ast.Call):
                continue
            places = range(len(value)) if isinstance(value, list) else (None,)
            for place in places:
                child = value if place is None else value[place]
                if isinstance(child, ast.expr) and not isinstance(getattr(child, "ctx", None), ast.Store):
                    for name, why, other in _of_expression(child, node):
                        yield name, why, _with(tree, node, field, place, other)
                elif isinstance(child, ast.stmt):
                    for name, why, other in _of_statement(child):
                        yield name, why, _with(tree, node, field, place, other)
    yield from _everywhere(tree)
    yield from _other_names(tree, known)


def _with(tree: ast.Module, node: ast.AST, field: str, place: int | None, other: ast.AST) -> ast.Module:
    """A copy of the tree with `other` in one place."""
    value = getattr(node, field)
    old = value if place is None else value[place]
    _put(node, field, place, other)
    made = copy.deepcopy(tree)
    _put(node, field, place, old)
    return made


def _put(node: ast.AST, field: str, place: int | None, value: ast.AST) -> None:
    if place is None:
        setattr(node, field, value)
    else:
        getattr(node, field)[place] = value


def _is_number(node: ast.AST, *values: float) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float) and (not values or node.value in values)


def _of_expression(node: ast.expr, parent: ast.AST) -> Iterator[Found]:
    comes = "Your numbers are those of the right formula"
    if isinstance(node, ast.BinOp):
        yield from _of_operation(node, comes)
    if isinstance(node, ast.Call):
        yield from _of_call(node, comes)
    if isinstance(node, ast.UnaryOp):
        yield "a sign or a `not` is missing", f"{comes} without one of its minus signs or one of its `~` or `not`.", node.operand
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        pairs = {ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.LtE), ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,)}
        for kind in pairs.get(type(node.ops[0]), ()):
            edge = (kind in (ast.LtE, ast.GtE)) != isinstance(node.ops[0], (ast.LtE, ast.GtE)) and {kind, type(node.ops[0])} in ({ast.Lt, ast.LtE}, {ast.Gt, ast.GtE})
            name = "the border belongs to the other side" if edge else "a comparison is the wrong way round"
            yield name, f"{comes} with one comparison changed: look at `<`, `<=`, `>` and `==`.", ast.Compare(node.left, [kind()], node.comparators)
    if isinstance(node, ast.BoolOp):
        for one in node.values:
            yield "a condition is missing", f"{comes} with one of two conditions left out.", one
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        yield "an index or a slice is missing", f"{comes} without one of its indices or slices: all of a tensor is taken where a part belongs.", node.value
    if isinstance(node, ast.Slice):
        for lower, upper in ((None, node.upper), (node.lower, None)):
            yield "a slice is too long", f"{comes} with a slice that does not stop, or start, where it should.", ast.Slice(lower, upper, node.step)
    if _is_number(node):
        yield from _of_number(node, parent, comes)
    if isinstance(node, (ast.Name, ast.Call, ast.BinOp, ast.Attribute)) and not isinstance(parent, (ast.Call, ast.Attribute, ast.keyword, ast.Subscript, ast.Tuple, ast.Starred, ast.List)):
        yield "a square root too many", f"{comes} with a square root where there is none, or without a square.", _power(node, 0.5)
        yield "a square too many", f"{comes} with a square where there is none.", _power(node, 2)
        yield "a sign is wrong", f"{comes} with one sign changed.", ast.UnaryOp(ast.USub(), node)
        yield "one minus too many", f"{comes} with `1 - ...` of a quantity that belongs there as it is.", ast.BinOp(ast.Constant(1), ast.Sub(), node)
        for factor, word in ((2, "2"), (0.5, "one half")):
            yield f"a factor of {word} too many", f"{comes} with a factor of {word} that does not belong there.", ast.BinOp(ast.Constant(factor), ast.Mult(), node)
    if isinstance(node, (ast.Attribute,)) and node.attr in ("T", "mT"):
        yield "a transpose is missing", f"{comes} without a transpose.", node.value


def _power(node: ast.expr, power: float) -> ast.expr:
    return ast.BinOp(node, ast.Pow(), ast.Constant(power))


def _of_operation(node: ast.BinOp, comes: str) -> Iterator[Found]:
    left, right, op = node.left, node.right, node.op
    if isinstance(op, (ast.Add, ast.Sub)):
        other = ast.Sub() if isinstance(op, ast.Add) else ast.Add()
        yield "a sign is wrong", f"{comes} with plus and minus exchanged in one place.", ast.BinOp(left, other, right)
        if isinstance(op, ast.Sub) and _is_number(left, 1):
            yield "one minus is missing", f"{comes} without `1 -` in one place: you take a share where the rest belongs.", right
        elif isinstance(op, ast.Sub):
            yield "a difference is the wrong way round", f"{comes} with one difference the other way round.", ast.BinOp(right, op, left)
        for kept in (left, right):
            yield "a term is missing", f"{comes} with one term left out of a sum or difference.", kept
    if isinstance(op, (ast.Mult, ast.Div, ast.FloorDiv, ast.MatMult)):
        if isinstance(op, ast.Mult):
            yield "divided instead of multiplied", f"{comes} with a division where a product belongs.", ast.BinOp(left, ast.Div(), right)
            yield "divided instead of multiplied", f"{comes} with a division where a product belongs.", ast.BinOp(right, ast.Div(), left)
            yield "a sum instead of a product", f"{comes} with a sum where a product belongs.", ast.BinOp(left, ast.Add(), right)
        elif isinstance(op, (ast.Div, ast.FloorDiv)):
            yield "multiplied instead of divided", f"{comes} with a product where a division belongs.", ast.BinOp(left, ast.Mult(), right)
            yield "a fraction is upside down", f"{comes} with one fraction upside down.", ast.BinOp(right, op, left)
        word = "division" if isinstance(op, ast.Div) else "factor"
        yield f"a {word} is missing", f"{comes} without one {word}.", left
        yield "a factor is missing", f"{comes} without one factor, or with what it is divided by alone.", right
        if isinstance(op, ast.MatMult):
            yield "another order of a matrix product", f"{comes} with a matrix product the other way round.", ast.BinOp(right, op, left)
    if isinstance(op, ast.Pow) and _is_number(right):
        power = right.value
        words = {0.5: "a square root is missing", 2: "a square is missing"}.get(power, "a power is missing")
        yield words, f"{comes} without one of its {'square roots' if power == 0.5 else 'squares' if power == 2 else 'powers'}.", left
        for other, name in ((2, "a square instead of a root"), (0.5, "a root instead of a square"), (1.5, "another power"), (-power, "a fraction is upside down"), (4 * power, "squared twice")):
            if other != power:
                yield name, f"{comes} with another power in one place.", ast.BinOp(left, op, ast.Constant(other))
        if power == 2:
            yield "the absolute value instead of the square", f"{comes} with an absolute value where a square belongs.", ast.Call(ast.Name("abs", ast.Load()), [left], [])
    if isinstance(op, (ast.BitOr, ast.BitAnd)):
        other = ast.BitAnd() if isinstance(op, ast.BitOr) else ast.BitOr()
        yield "and instead of or", f"{comes} with `&` and `|` exchanged.", ast.BinOp(left, other, right)
        for kept in (left, right):
            yield "a condition is missing", f"{comes} with one of two conditions left out.", kept


def _of_call(node: ast.Call, comes: str) -> Iterator[Found]:
    function = node.func
    is_method = isinstance(function, ast.Attribute) and not (isinstance(function.value, ast.Name) and function.value.id in ("torch", "math", "F"))
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    inner = function.value if is_method else node.args[0] if node.args else None
    if inner is not None and (is_method or len(node.args) == 1) and name not in ("range", "len", "reshape", "append", "tolist", "item", "zip"):
        words = {"sqrt": "a square root is missing", "square": "a square is missing", "clamp": "a limit is missing", "softmax": "the softmax is missing", "transpose": "a transpose is missing", "flip": "the order is not reversed"}
        yield words.get(name, f"`{name}` is missing"), f"{comes} without one `{name}`.", inner
    if name in _LIMITS and not is_method and len(node.args) == 2:
        for kept in node.args:
            yield "a limit is missing", f"{comes} without one `{name}`: only one of two values is ever taken.", kept
    for other in _OTHER.get(name, ()):
        if isinstance(function, ast.Attribute):
            changed = ast.Call(ast.Attribute(function.value, other, ast.Load()), node.args, node.keywords)
        else:
            changed = ast.Call(ast.Name(other, ast.Load()), node.args, node.keywords)
        yield f"`{other}` instead of `{name}`", f"{comes} with `{other}` where `{name}` belongs.", changed
    if name in _AXES and is_method:
        for axes in (-1, -2, 0, 1, 2, 3, None):
            args = [] if axes is None else [ast.Constant(axes) if axes >= 0 else ast.UnaryOp(ast.USub(), ast.Constant(-axes))]
            rest = [one for one in node.keywords if one.arg != "dim"]
            kept = node.args[1:] if name != "chunk" else []
            start = node.args[:1] if name == "chunk" else []
            words = "over everything" if axes is None else "along another axis"
            yield f"`{name}` {words}", f"{comes} with `{name}` taken {words}.", ast.Call(function, [*start, *args, *kept], rest)
    if name == "range":
        yield from _of_range(node, comes)
    if len(node.args) == 2 and name not in ("range", "zip", "chunk"):
        yield "two arguments change places", f"{comes} with the two arguments of one call exchanged.", ast.Call(function, node.args[::-1], node.keywords)
    if name in ("std", "var", "cov"):
        for correction in (0, 1):
            rest = [one for one in node.keywords if one.arg != "correction"]
            words = "divided by n" if correction == 0 else "divided by n - 1"
            yield f"the variance is {words}", f"{comes} with a variance that is {words}.", ast.Call(function, node.args, [*rest, ast.keyword("correction", ast.Constant(correction))])


def _of_range(node: ast.Call, comes: str) -> Iterator[Found]:
    less, more = ([ast.BinOp(one, op(), ast.Constant(1)) for one in node.args] for op in (ast.Sub, ast.Add))
    why = f"{comes} with a loop that starts or ends one step off."
    for place in range(min(len(node.args), 2)):
        for other in (less, more):
            args = [*node.args[:place], other[place], *node.args[place + 1 :]]
            yield "a loop is one step off", why, ast.Call(node.func, args, [])
    if len(node.args) == 1:
        yield "a loop is one step off", why, ast.Call(node.func, [ast.Constant(1), *node.args], [])
        shifted = [ast.Constant(1), ast.BinOp(node.args[0], ast.Add(), ast.Constant(1))]
        yield "the loop counts from 1", f"{comes} with a count that starts at 1 where 0 belongs.", ast.Call(node.func, shifted, [])


def _of_number(node: ast.Constant, parent: ast.AST, comes: str) -> Iterator[Found]:
    value = node.value
    for other in (value + 1, value - 1):
        yield "a number is one off", f"{comes} with one of its numbers one too large or too small: an index, a count or a constant.", ast.Constant(other)
    for other in (2 * value, value / 2, value * value, 10 * value, value / 10):
        if other != value:
            yield "a constant is another", f"{comes} with one constant doubled, halved, squared or ten times as large or small.", ast.Constant(other)


def _of_statement(node: ast.stmt) -> Iterator[Found]:
    comes = "Your numbers are those of the right answer"
    if isinstance(node, (ast.AugAssign, ast.Expr)) and not isinstance(getattr(node, "value", None), ast.Constant):
        yield "a step is left out", f"{comes} with one step left out.", ast.Pass()
    if isinstance(node, ast.If):
        for test, name in ((True, "a special case is taken always"), (False, "a special case is never taken")):
            yield name, f"{comes} without one decision: what belongs to some cases is done in all, or in none.", ast.If(ast.Constant(test), node.body, node.orelse)
    if isinstance(node, ast.AugAssign):
        for kind, other in ((ast.Add, ast.Sub), (ast.Mult, ast.Add), (ast.Mult, ast.Div)):
            if isinstance(node.op, kind):
                yield "another operation", f"{comes} with another operation in one place.", ast.AugAssign(node.target, other(), node.value)


class _All(ast.NodeTransformer):
    """Makes one change in every place."""

    def __init__(self, change: Callable[[ast.AST], ast.AST]) -> None:
        self.change = change

    def visit(self, node: ast.AST) -> ast.AST:
        """Change the parts, then the whole."""
        return self.change(super().generic_visit(node))


def _everywhere(tree: ast.Module) -> Iterator[tuple[str, str, ast.Module]]:
    def without_roots(node: ast.AST) -> ast.AST:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "sqrt":
            return node.args[0] if node.args else node.func.value
        return node.left if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and _is_number(node.right, 0.5) else node

    def renamed(old: str, new: str) -> Callable[[ast.AST], ast.AST]:
        def change(node: ast.AST) -> ast.AST:
            is_it = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == old
            return ast.Call(ast.Attribute(node.func.value, new, ast.Load()), node.args, node.keywords) if is_it else node

        return change

    comes = "Your numbers are those of the right formula"
    yield "no square roots", f"{comes} without any of its square roots.", _All(without_roots).visit(copy.deepcopy(tree))
    for old, new in (("sum", "mean"), ("mean", "sum"), ("std", "var"), ("square", "abs")):
        yield f"`{new}` instead of `{old}`", f"{comes} with `{new}` where `{old}` belongs, everywhere.", _All(renamed(old, new)).visit(copy.deepcopy(tree))


def _other_names(tree: ast.Module, known: tuple[str, ...]) -> Iterator[tuple[str, str, ast.Module]]:
    """One name of a value in the place of another, in one place."""
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    stored |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    used = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in stored]
    for node in used:
        old = node.id
        for new in sorted(stored - {old}):
            node.id = new
            made = copy.deepcopy(tree)
            node.id = old
            both = old in known and new in known
            name = f"`{new}` in the place of `{old}`" if both else "one quantity in the place of another"
            yield name, "Your numbers are those of the right formula with one quantity put in the place of another: compare each factor with the formula.", made
