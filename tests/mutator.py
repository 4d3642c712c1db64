"""Small wrong versions of a function, made by changing its syntax tree in one place."""

from __future__ import annotations
import __future__

import ast
import copy
import dataclasses
import functools
import inspect
import math
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

OPERATORS = {
    ast.Add: (ast.Sub, ast.Mult), ast.Sub: (ast.Add,), ast.Mult: (ast.Div, ast.Add), ast.Div: (ast.Mult, ast.FloorDiv),
    ast.Pow: (ast.Mult,), ast.FloorDiv: (ast.Div, ast.Mult), ast.Mod: (ast.FloorDiv,), ast.MatMult: (ast.Mult,),
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,), ast.And: (ast.Or,), ast.Or: (ast.And,), ast.BitAnd: (ast.BitOr,), ast.BitOr: (ast.BitAnd,),
}
METHODS = {
    "sqrt": ("square", "exp"), "exp": ("log", "expm1"), "log": ("exp", "log1p"), "sin": ("cos",), "cos": ("sin",),
    "sum": ("mean",), "mean": ("sum",), "min": ("max",), "max": ("min",), "amin": ("amax",), "amax": ("amin",), "prod": ("sum",),
    "cumprod": ("cumsum",), "cumsum": ("cumprod",), "log2": ("log",), "log10": ("log",), "square": ("abs",), "abs": ("square",),
    "floor": ("ceil",), "ceil": ("floor",), "std": ("var",), "var": ("std",), "argmin": ("argmax",), "argmax": ("argmin",),
    "ones_like": ("zeros_like",), "zeros_like": ("ones_like",), "softmax": ("log_softmax",), "all": ("any",), "any": ("all",),
    "cat": ("stack",), "triu": ("tril",), "tril": ("triu",), "randn": ("rand",), "tanh": ("sin",), "quantile": ("nanquantile",),
}
# `x.name(...)` becomes `x`.
DROPPED = (
    "sqrt", "square", "exp", "log", "log2", "log10", "detach", "clone", "abs", "clamp", "cumprod", "cumsum", "mean", "sum", "flip",
    "unsqueeze", "squeeze", "transpose", "softmax", "to", "float", "double", "long", "int", "item", "tolist", "reshape", "flatten",
    "unflatten", "view", "expand", "contiguous", "diagonal", "type_as", "round", "norm", "tanh", "sort", "append", "roll",
)
SHAPES = ("T", "mT", "real", "imag")  # `x.name` becomes `x`
REDUCTIONS = ("sum", "mean", "prod", "std", "var", "min", "max", "amin", "amax", "norm", "any", "all", "flatten")
DTYPES = {"float64": "float32", "float32": "float64", "int64": "float32", "long": "float", "bool": "int64"}
IN_PLACE = {ast.Add: "add_", ast.Sub: "sub_", ast.Mult: "mul_", ast.Div: "div_", ast.Pow: "pow_"}  # `a + b` becomes `a.add_(b)`
CUT = ("sqrt", "exp", "square", "tanh", "softmax", "mean", "sum")  # `x.name(...)` becomes `x.name(...).detach()`
PLAIN = ("min", "max", "any", "all")  # of the functions without a module, those that METHODS renames
# Not changed: types, decorators, names of arguments and their defaults.
SKIPPED = ("annotation", "returns", "decorator_list", "ctx")


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A changed version: the line as it is now, and the function; `origin` says what was changed."""

    origin: str
    line: str
    function: Callable[..., Any]
    number: int = 1
    of_graphs: bool = False  # only gradients differ: that says something where gradients are asked for

    @property
    def name(self) -> str:
        """origin: line, with a number from the second on where two changes give the same line at different places."""
        return f"{self.origin}: {self.line}" + (f" #{self.number}" if self.number > 1 else "")


def _changes(node: ast.expr) -> Iterator[ast.expr | None]:
    """Yield what may stand in the place of `node`; None leaves the place empty (the bound of a slice)."""
    if isinstance(node, ast.BinOp):
        for kind in OPERATORS.get(type(node.op), ()):
            yield ast.BinOp(node.left, kind(), node.right)
        yield node.left  # a missing term or factor
        yield node.right
        if isinstance(node.op, (ast.Sub, ast.Div, ast.FloorDiv, ast.Pow, ast.MatMult)):
            yield ast.BinOp(node.right, node.op, node.left)
        if isinstance(node.left, ast.Name) and type(node.op) in IN_PLACE:
            yield ast.Call(ast.Attribute(node.left, IN_PLACE[type(node.op)], ast.Load()), [node.right], [])
        if isinstance(node.right, ast.Name) and isinstance(node.op, (ast.Mult, ast.Add)):
            yield ast.Call(ast.Attribute(node.right, IN_PLACE[type(node.op)], ast.Load()), [node.left], [])
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for kind in OPERATORS.get(type(node.ops[0]), ()):
            yield ast.Compare(node.left, [kind()], node.comparators)
    elif isinstance(node, ast.BoolOp):
        for kind in OPERATORS.get(type(node.op), ()):
            yield ast.BoolOp(kind(), node.values)
        yield from node.values
    elif isinstance(node, ast.UnaryOp):
        yield node.operand  # -x, ~x, not x
    elif isinstance(node, ast.Constant):
        yield from _constants(node.value)
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    elif isinstance(node, ast.IfExp):
        yield from (node.body, node.orelse)
    elif isinstance(node, ast.Subscript):
        yield node.value
    elif isinstance(node, ast.Slice):
        if node.lower is not None:
            yield ast.Slice(None, node.upper, node.step)
        if node.upper is not None:
            yield ast.Slice(node.lower, None, node.step)
        if node.step is not None:
            yield ast.Slice(node.lower, node.upper, None)
    elif isinstance(node, ast.Attribute):
        if node.attr in SHAPES:
            yield node.value
        if node.attr in DTYPES and isinstance(node.value, ast.Name) and node.value.id == "torch":
            yield ast.Attribute(node.value, DTYPES[node.attr], ast.Load())
    elif isinstance(node, (ast.ListComp, ast.GeneratorExp)):
        for place, loop in enumerate(node.generators):
            for test in range(len(loop.ifs)):
                other = ast.comprehension(loop.target, loop.iter, loop.ifs[:test] + loop.ifs[test + 1 :], 0)
                yield type(node)(node.elt, [*node.generators[:place], other, *node.generators[place + 1 :]])


def _constants(value: object) -> Iterator[ast.expr]:
    if type(value) is bool:
        yield ast.Constant(not value)
    elif type(value) in (int, float) and math.isfinite(value):
        for other in (value + 1, value - 1, value * 2):
            if other != value:
                yield ast.Constant(other)


def _calls(node: ast.Call) -> Iterator[ast.expr]:
    attribute = node.func if isinstance(node.func, ast.Attribute) else None
    name = attribute.attr if attribute else node.func.id if isinstance(node.func, ast.Name) else ""
    owner = attribute.value.id if attribute and isinstance(attribute.value, ast.Name) else ""
    is_method = attribute is not None and owner not in ("torch", "math", "F", "nn", "process", "losses")
    for other in METHODS.get(name, ()):
        if attribute is not None and (owner != "math" or hasattr(math, other)):
            yield ast.Call(ast.Attribute(attribute.value, other, ast.Load()), node.args, node.keywords)
        elif attribute is None and name in PLAIN:
            yield ast.Call(ast.Name(other, ast.Load()), node.args, node.keywords)
    if is_method and name in CUT:
        yield ast.Call(ast.Attribute(node, "detach", ast.Load()), [], [])
    if is_method and name in DROPPED:
        yield attribute.value
    elif name in DROPPED + ("reversed", "sorted", "abs", "float", "int", "round", "exp", "sqrt") and len(node.args) == 1:
        yield node.args[0]
    for place in range(len(node.args) - 1):
        yield ast.Call(node.func, [*node.args[:place], node.args[place + 1], node.args[place], *node.args[place + 2 :]], node.keywords)
    if is_method and name in REDUCTIONS and node.args:
        yield ast.Call(node.func, [], node.keywords)  # over everything
    if name in ("min", "max", "minimum", "maximum") and len(node.args) == 2:
        yield from node.args
    if name == "range":
        *first, last = node.args[:2]
        yield ast.Call(node.func, [*first, ast.BinOp(last, ast.Sub(), ast.Constant(1)), *node.args[2:]], [])
        if not first:
            yield ast.Call(node.func, [ast.Constant(1), last], [])
    for place in range(len(node.keywords)):
        yield ast.Call(node.func, node.args, node.keywords[:place] + node.keywords[place + 1 :])


def _statements(body: list[ast.stmt], known: set[str]) -> Iterator[tuple[str, list[ast.stmt]]]:
    """Yield (the line, the body) with one statement left out or replaced; `known` holds names that are bound already."""
    for index, one in enumerate(body):
        before, after = body[:index], body[index + 1 :]
        targets = {target.id for target in getattr(one, "targets", []) if isinstance(target, ast.Name)}
        stored = isinstance(one, ast.Assign) and any(isinstance(target, ast.Subscript) for target in one.targets)
        if isinstance(one, (ast.AugAssign, ast.Expr, ast.Break, ast.Continue)) or stored or (targets and targets <= known):
            yield f"without {_first_line(one)}", [*before, ast.Pass(), *after]
        if isinstance(one, ast.If):
            yield f"always {_first_line(one)}", [*before, *one.body, *after]
            yield f"never {_first_line(one)}", [*before, *(one.orelse or [ast.Pass()]), *after]
        if isinstance(one, ast.AugAssign):
            for kind in OPERATORS.get(type(one.op), ()):
                other = ast.AugAssign(one.target, kind(), one.value)
                yield _first_line(other), [*before, other, *after]
        if isinstance(one, ast.Return) and isinstance(one.value, ast.Tuple) and len(one.value.elts) == 2:
            other = ast.Return(ast.Tuple(one.value.elts[::-1], ast.Load()))
            yield _first_line(other), [*before, other, *after]
        if isinstance(one, ast.Return) and isinstance(one.value, (ast.BinOp, ast.Call, ast.Name)):
            other = ast.Return(ast.UnaryOp(ast.USub(), one.value))
            yield _first_line(other), [*before, other, *after]
        if isinstance(one, ast.Return) and one.value is not None:
            for value in _returned_otherwise(one.value):
                other = ast.Return(value)
                yield _first_line(other), [*before, other, *after]
        known |= targets


def _returned_otherwise(value: ast.expr) -> Iterator[ast.expr]:
    """The result in another dtype, on another device, or with another graph; of a tuple the first part."""
    parts = value.elts if isinstance(value, ast.Tuple) else [value]
    for name, args in (
        ("to", [ast.Attribute(ast.Name("torch", ast.Load()), "float32", ast.Load())]),
        ("to", [ast.Attribute(ast.Name("torch", ast.Load()), "float64", ast.Load())]),
        ("half", []), ("cfloat", []), ("to", [ast.Constant("meta")]), ("detach", []), ("requires_grad_", []),
    ):
        changed = ast.Call(ast.Attribute(parts[0], name, ast.Load()), args, [])
        yield ast.Tuple([changed, *parts[1:]], ast.Load()) if isinstance(value, ast.Tuple) else changed


def _first_line(node: ast.AST) -> str:
    return ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).splitlines()[0]


def _edits(tree: ast.Module) -> Iterator[tuple[str, ast.Module]]:
    """Yield (the changed line, the changed tree) for every change in one place, in the order of the source."""
    for function in [node for node in tree.body if isinstance(node, ast.FunctionDef)]:
        known = {argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)}
        yield from _edits_below(function, function, tree, known)


def _edits_below(node: ast.AST, statement: ast.AST, tree: ast.Module, known: set[str]) -> Iterator[tuple[str, ast.Module]]:
    for field, value in ast.iter_fields(node):
        if field in SKIPPED or isinstance(value, ast.arguments):
            continue
        if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
            for line, body in list(_statements(value, known)):
                setattr(node, field, body)
                yield line, copy.deepcopy(tree)
                setattr(node, field, value)
        for place, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST):
                continue
            if isinstance(child, ast.expr) and not isinstance(getattr(child, "ctx", None), (ast.Store, ast.Del)):
                for other in list(_changes(child)):
                    _put(node, field, place, other)
                    yield _first_line(statement), copy.deepcopy(tree)
                    _put(node, field, place, child)
            yield from _edits_below(child, child if isinstance(child, ast.stmt) else statement, tree, known)


def _put(node: ast.AST, field: str, place: int | None, value: ast.AST | None) -> None:
    if place is None:
        setattr(node, field, value)
    else:
        getattr(node, field)[place] = value


def _written(statement: ast.stmt) -> Iterator[str]:
    """The first line of a statement, and how it reads with its result in brackets, as a method is called on it."""
    yield _first_line(statement)
    if isinstance(statement, ast.Return) and statement.value is not None:
        value = statement.value.elts[0] if isinstance(statement.value, ast.Tuple) else statement.value
        yield f"return ({ast.unparse(value)})"


def _without_checks(tree: ast.Module) -> ast.Module:
    """The tree without `raise`, calls of validation and docstrings, whose changes are no wrong formula."""
    for node in ast.walk(tree):
        for field, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                setattr(node, field, [one for one in value if not _is_check(one)] or [ast.Pass()])
    return tree


def _is_check(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Raise):
        return True
    if isinstance(statement, ast.If):
        return all(map(_is_check, statement.body)) and not statement.orelse
    if not isinstance(statement, ast.Expr):
        return False
    called = getattr(statement.value, "func", None)
    name = getattr(called, "id", getattr(called, "attr", ""))
    return isinstance(statement.value, ast.Constant) or "check" in name or "validate" in name


def _is_call_of(node: ast.stmt, names: set[str]) -> bool:
    called = getattr(getattr(node, "value", None), "func", None)
    return isinstance(node, ast.Assign) and isinstance(called, ast.Name) and called.id in names


def mutants(source: str, scope: dict[str, Any], origin: str, name: str) -> list[Mutant]:
    """Return all mutants of the function `name` of `source` and of the other functions beside it, in order, none twice.

    `scope` holds the names that the source uses.
    """
    tree = _without_checks(ast.parse(textwrap.dedent(source)))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    tree.body = [node for node in tree.body if not _is_call_of(node, defined)]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = []
    seen, made, count = {ast.dump(tree)}, [], Counter()
    lines = {text for node in ast.walk(tree) if isinstance(node, ast.stmt) for text in _written(node)}
    arguments = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for line, changed in _edits(tree):
        mark = ast.dump(changed)
        if mark in seen or not set(re.findall(r"(\w+)\.(?:add|sub|mul|div|pow)_\(", line)) <= arguments:
            continue  # what is the function's own may be changed in place
        seen.add(mark)
        names = dict(scope)
        try:
            flags = __future__.annotations.compiler_flag
            exec(compile(ast.fix_missing_locations(changed), "<mutant>", "exec", flags), names)
        except (SyntaxError, ValueError, TypeError):  # it cannot even be defined
            continue
        count[line] += 1
        of_graphs = any(line.replace(added, "", 1) in lines for added in (".detach()", ".requires_grad_()") if added in line)
        made.append(Mutant(origin, line, names[name], count[line], of_graphs))
    return made


def mutants_of(function: Callable[..., Any], origin: str) -> list[Mutant]:
    """The mutants of a function that has a name and a source, and of the functions of its module that it calls."""
    inner = inspect.unwrap(function)
    scope = inner.__globals__ | inspect.getclosurevars(inner).nonlocals
    sources = [textwrap.dedent(inspect.getsource(one)) for one in _with_helpers(inner)]
    return mutants("\n\n".join(sources), scope, origin, inner.__name__)


@functools.cache
def _with_helpers(function: Callable[..., Any]) -> tuple[Callable[..., Any], ...]:
    """The function, and what it calls of its own module, however deep; a lesson's module only: others have their own tests."""
    found = [function]
    for one in found:
        names = [node.id for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(one)))) if isinstance(node, ast.Name)]
        for name in dict.fromkeys(names):
            called = one.__globals__.get(name)
            if inspect.isfunction(called) and called.__module__ == one.__module__ and called not in found:
                found.append(called)
    is_lesson = "exercises.lessons.lesson" in function.__module__
    return tuple(found) if is_lesson else (function,)


class Endless(Exception):
    """A mutant that does not come to an end."""


def bounded(function: Callable[..., Any], lines: int = 20_000) -> Callable[..., Any]:
    """Return the function, which raises Endless when it has run that many lines of a mutant."""

    def limited(*args: Any, **kwargs: Any) -> Any:
        count = 0

        def trace(frame: Any, event: str, argument: Any) -> Any:
            nonlocal count
            if frame.f_code.co_filename != "<mutant>":
                return None
            count += 1
            if count > lines:
                raise Endless(f"more than {lines} lines")
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            return function(*args, **kwargs)
        finally:
            sys.settrace(before)

    return limited
