"""The solution with one change in its formula, and what the change is called.

Its syntax tree is changed in one place, or in all places of one kind. What is said of a change
names no part of the solution that the learner has not seen.
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

from ..definition import Exercise, WrongAnswer
from ..syntax import parse
from .functions import of_call
from .operations import COMES, is_number, of_expression

TURN, TURNS = "_one_more_turn", 20_000
Change = tuple[str, str, ast.Module]


class TooLong(Exception):
    """A changed solution does not come to an end."""


def formula_changes(exercise: Exercise) -> Iterator[WrongAnswer]:
    """Yield the exercise's solution with one change each, where it compiles."""
    source = exercise.solution_functions()
    if "linalg" in source:  # of what it is not made for it complains on the console
        return
    words = (
        ()
        if exercise.is_value
        else (*exercise.signature.parameters, *re.findall(r"[A-Za-z_]\w*", exercise.stub))
    )
    for name, why, changed in _sources(source, tuple(dict.fromkeys(words))):
        yield WrongAnswer(name, _late(changed, exercise.solution_name), why)


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
    for name, why, changed in itertools.chain(
        _in_one_place(tree), _everywhere(tree), _other_names(tree, known) if known else ()
    ):
        try:
            text = ast.unparse(ast.fix_missing_locations(changed))
        except (AttributeError, TypeError, ValueError):  # no code any more
            continue
        if text not in seen:
            seen.add(text)
            made.append((name, why, text))
    return tuple(made)


def _in_one_place(tree: ast.Module) -> Iterator[Change]:
    for node in list(ast.walk(tree)):
        if isinstance(node, (ast.arguments, ast.arg)):
            continue
        for field, value in list(ast.iter_fields(node)):
            for place in range(len(value)) if isinstance(value, list) else (None,):
                child = value if place is None else value[place]
                for name, why, other in _of(child, node):
                    yield name, why, _with(tree, node, field, place, other)


def _of(child: Any, parent: ast.AST) -> Iterator[tuple[str, str, ast.AST]]:
    if isinstance(child, ast.stmt):
        yield from _of_statement(child)
    elif isinstance(child, ast.expr) and not isinstance(getattr(child, "ctx", None), ast.Store):
        yield from of_expression(child, parent)
        if isinstance(child, ast.Call):
            yield from of_call(child)


def _of_statement(node: ast.stmt) -> Iterator[tuple[str, str, ast.AST]]:
    comes = "Your numbers are those of the right answer"
    value = getattr(node, "value", None)
    if isinstance(node, (ast.AugAssign, ast.Expr)) and not isinstance(value, ast.Constant):
        yield "a step is left out", f"{comes} with one step left out.", ast.Pass()
    if isinstance(node, ast.If):
        why = (
            f"{comes} without one decision: what belongs to some cases is done in all, or in none."
        )
        always, never = (ast.If(ast.Constant(one), node.body, node.orelse) for one in (True, False))
        yield "a special case is taken always", why, always
        yield "a special case is never taken", why, never


def _with(tree: ast.Module, node: ast.AST, field: str, place: int | None, other: Any) -> ast.Module:
    """A copy of the tree with `other` in one place."""
    old = getattr(node, field) if place is None else getattr(node, field)[place]
    _put(node, field, place, other)
    made = copy.deepcopy(tree)
    _put(node, field, place, old)
    return made


def _put(node: ast.AST, field: str, place: int | None, value: Any) -> None:
    if place is None:
        setattr(node, field, value)
    else:
        getattr(node, field)[place] = value


class _All(ast.NodeTransformer):
    """Makes one change in every place."""

    def __init__(self, change: Callable[[ast.AST], ast.AST]) -> None:
        self.change = change

    def visit(self, node: ast.AST) -> ast.AST:
        """Change the parts, then the whole."""
        return self.change(super().generic_visit(node))


def _without_root(node: ast.AST) -> ast.AST:
    if _is_method(node, "sqrt"):
        return node.args[0] if node.args else node.func.value
    is_power = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)
    return node.left if is_power and is_number(node.right, 0.5) else node


def _is_method(node: ast.AST, name: str) -> bool:
    called = getattr(node, "func", None)
    return isinstance(called, ast.Attribute) and called.attr == name


def _everywhere(tree: ast.Module) -> Iterator[Change]:
    why = f"{COMES} without any of its square roots."
    yield "no square roots", why, _All(_without_root).visit(copy.deepcopy(tree))
    for old, new in (("sum", "mean"), ("mean", "sum"), ("std", "var"), ("square", "abs")):

        def change(node: ast.AST, old: str = old, new: str = new) -> ast.AST:
            if _is_method(node, old):
                node.func = ast.Attribute(node.func.value, new, ast.Load())
            return node

        why = f"{COMES} with `{new}` where `{old}` belongs, everywhere."
        yield f"`{new}` instead of `{old}`", why, _All(change).visit(copy.deepcopy(tree))


def _other_names(tree: ast.Module, known: tuple[str, ...]) -> Iterator[Change]:
    """One name of a value in the place of another, in one place."""
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    stored = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    stored |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    why = f"{COMES} with one quantity put in the place of another: compare each with the formula."
    for node in names:
        if not isinstance(node.ctx, ast.Load) or node.id not in stored:
            continue
        old = node.id
        for new in sorted(stored - {old}):
            node.id = new
            made = copy.deepcopy(tree)
            node.id = old
            seen = old in known and new in known
            name = f"`{new}` in the place of `{old}`" if seen else "one quantity for another"
            yield name, why, made
