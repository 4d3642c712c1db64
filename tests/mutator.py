"""Small wrong versions of a reference, made by changing its syntax tree in one place."""

from __future__ import annotations

import ast
import copy
import dataclasses
import inspect
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

SWAPS = {
    ast.Add: (ast.Sub, ast.Mult), ast.Sub: (ast.Add,), ast.Mult: (ast.Div, ast.Add), ast.Div: (ast.Mult,), ast.Pow: (ast.Mult,),
    ast.FloorDiv: (ast.Div, ast.Mult), ast.Mod: (ast.FloorDiv,), ast.MatMult: (ast.Mult,),
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt,), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt,), ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,), ast.And: (ast.Or,), ast.Or: (ast.And,), ast.USub: (ast.UAdd,), ast.BitAnd: (ast.BitOr,), ast.BitOr: (ast.BitAnd,),
}  # fmt: skip
NAMES = {
    "sqrt": ("square", "exp"), "exp": ("log1p", "expm1"), "log": ("log1p",), "sin": ("cos",), "cos": ("sin",), "sum": ("mean",),
    "mean": ("sum",), "min": ("max",), "max": ("min",), "amin": ("amax",), "amax": ("amin",), "cumprod": ("cumsum",),
    "cumsum": ("cumprod",), "log2": ("log",), "log10": ("log",), "square": ("abs",), "abs": ("square",), "floor": ("ceil",),
    "ceil": ("floor",), "std": ("var",), "var": ("std",), "ones_like": ("zeros_like",), "zeros_like": ("ones_like",),
    "argmin": ("argmax",), "argmax": ("argmin",), "softmax": ("log_softmax",), "flip": ("roll",), "prod": ("sum",),
}  # fmt: skip
DROPPED = ("sqrt", "square", "exp", "log", "detach", "clone", "abs", "clamp", "cumprod", "mean", "flip", "unsqueeze", "transpose", "mT", "softmax")


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A changed version: what stood there, what stands there now, and the function."""

    before: str
    after: str
    function: Callable[..., Any]
    number: int = 1

    @property
    def name(self) -> str:
        """before -> after, with a number from the second place on where the same is changed."""
        return f"{self.before} -> {self.after}" + (f" #{self.number}" if self.number > 1 else "")


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what may stand in the place of `node`."""
    if isinstance(node, ast.BinOp):
        for kind in SWAPS.get(type(node.op), ()):
            yield ast.BinOp(node.left, kind(), node.right)
        yield node.left  # a missing term or factor
        yield node.right
        if isinstance(node.op, (ast.Sub, ast.Div, ast.Pow)):
            yield ast.BinOp(node.right, node.op, node.left)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for kind in SWAPS.get(type(node.ops[0]), ()):
            yield ast.Compare(node.left, [kind()], node.comparators)
    elif isinstance(node, ast.BoolOp):
        for kind in SWAPS.get(type(node.op), ()):
            yield ast.BoolOp(kind(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield node.operand
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        for value in (node.value + 1, node.value - 1, node.value * 2):
            if value != node.value:
                yield ast.Constant(value)
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Call):
        yield from _call_changes(node)
    elif isinstance(node, ast.IfExp):
        yield node.body
        yield node.orelse


def _call_changes(node: ast.Call) -> Iterator[ast.AST]:
    attribute = node.func if isinstance(node.func, ast.Attribute) else None
    name = attribute.attr if attribute else node.func.id if isinstance(node.func, ast.Name) else ""
    for other in NAMES.get(name, ()):
        called = ast.Attribute(attribute.value, other, ast.Load()) if attribute else ast.Name(other, ast.Load())
        yield ast.Call(called, node.args, node.keywords)
    if attribute is not None and name in DROPPED and not (isinstance(attribute.value, ast.Name) and attribute.value.id in ("torch", "math", "F")):
        yield attribute.value
    if len(node.args) >= 2:
        yield ast.Call(node.func, [node.args[1], node.args[0], *node.args[2:]], node.keywords)


def _statement_changes(body: list[ast.stmt]) -> Iterator[list[ast.stmt]]:
    for index, statement in enumerate(body):
        if isinstance(statement, (ast.AugAssign, ast.Expr)) and not _is_text(statement):
            yield [*body[:index], ast.Pass(), *body[index + 1 :]]
        if isinstance(statement, ast.If):
            yield [*body[:index], *statement.body, *body[index + 1 :]]
            yield [*body[:index], *(statement.orelse or [ast.Pass()]), *body[index + 1 :]]
        if isinstance(statement, ast.AugAssign):
            for kind in SWAPS.get(type(statement.op), ()):
                yield [*body[:index], ast.AugAssign(statement.target, kind(), statement.value), *body[index + 1 :]]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _shown(node: ast.AST | list[ast.stmt]) -> str:
    text = ast.unparse(ast.Module(node, [])) if isinstance(node, list) else ast.unparse(node)
    return " ".join(text.split())[:120]


def _edits(tree: ast.Module) -> Iterator[tuple[str, str, ast.AST]]:
    """Yield (before, after, changed tree) for every change in one place."""
    nodes = [node for one in tree.body if isinstance(one, ast.FunctionDef) for node in ast.walk(one)]
    places = [(node, field, value) for node in nodes for field, value in ast.iter_fields(node) if field not in ("annotation", "returns", "decorator_list", "defaults")]
    for node, field, value in places:
        if isinstance(value, ast.expr):
            for other in _changes(value):
                setattr(node, field, other)
                yield _shown(value), _shown(other), copy.deepcopy(tree)
            setattr(node, field, value)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, ast.expr) and not isinstance(node, ast.FunctionDef):
                    for other in _changes(item):
                        value[index] = other
                        yield _shown(item), _shown(other), copy.deepcopy(tree)
                    value[index] = item
            if value and isinstance(value[0], ast.stmt) and not isinstance(node, ast.Module):
                for other in _statement_changes(value):
                    setattr(node, field, other)
                    yield _shown(value), _shown(other), copy.deepcopy(tree)
                setattr(node, field, value)


def _without_checks(tree: ast.Module) -> ast.Module:
    """The tree without `raise` and calls of validation, whose changes are no wrong formula."""
    for node in ast.walk(tree):
        for field, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                kept = [one for one in value if not _is_check(one)]
                setattr(node, field, kept or [ast.Pass()])
    return tree


def _is_check(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.If):
        return all(isinstance(one, ast.Raise) for one in statement.body) and not statement.orelse
    called = statement.value if isinstance(statement, ast.Expr) else None
    name = getattr(getattr(called, "func", None), "id", getattr(getattr(called, "func", None), "attr", ""))
    return isinstance(called, ast.Call) and ("check" in name or "validate" in name) or _is_text(statement)


def mutants(source: str, scope: dict[str, Any]) -> list[Mutant]:
    """Return all mutants of the first function in `source`, in its order; none twice. `scope` holds the names that it uses."""
    tree = _without_checks(ast.parse(textwrap.dedent(source)))
    definition = next(node for node in tree.body if isinstance(node, ast.FunctionDef))
    definition.decorator_list = []
    seen, made, count = {ast.dump(tree)}, [], Counter()
    for before, after, changed in _edits(tree):
        mark = ast.dump(changed)
        if mark in seen:
            continue
        seen.add(mark)
        names = dict(scope)
        try:
            exec(compile(ast.fix_missing_locations(changed), "<mutant>", "exec"), names)
        except Exception:  # a mutant that cannot even be defined
            continue
        count[before, after] += 1
        made.append(Mutant(before, after, names[definition.name], count[before, after]))
    return made


def mutants_of(function: Callable[..., Any]) -> list[Mutant]:
    """The mutants of a function that has a name and a source."""
    inner = inspect.unwrap(function)
    return mutants(inspect.getsource(inner), inner.__globals__)
