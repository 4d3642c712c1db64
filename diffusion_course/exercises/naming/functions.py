"""Changes of a call: another function, another axis, other arguments, or none at all."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .operations import COMES, Found

_OTHER = {  # what is easily taken for another
    "sum": ("mean",),
    "mean": ("sum", "median"),
    "min": ("max",),
    "max": ("min",),
    "amin": ("amax",),
    "amax": ("amin",),
    "cumprod": ("cumsum",),
    "prod": ("sum", "mean"),
    "log2": ("log", "log10"),
    "log10": ("log", "log2"),
    "log": ("log2", "log10"),
    "std": ("var",),
    "var": ("std",),
    "all": ("any",),
    "any": ("all",),
    "sin": ("cos",),
    "cos": ("sin",),
    "sqrt": ("square", "exp"),
    "square": ("abs", "sqrt"),
    "exp": ("log",),
    "tril": ("triu",),
    "triu": ("tril",),
    "round": ("floor",),
    "int": ("round",),
    "zeros_like": ("ones_like",),
    "ones_like": ("zeros_like",),
    "randn": ("rand",),
}
_MISSING = {
    "sqrt": "a square root is missing",
    "square": "a square is missing",
    "clamp": "a limit is missing",
    "softmax": "the softmax is missing",
    "transpose": "a transpose is missing",
    "flip": "the order is not reversed",
}
_KEPT = ("range", "len", "reshape", "append", "tolist", "item", "zip")  # without it, no number
_ALONG = (
    *("sum", "mean", "std", "var", "min", "max", "amin", "amax", "all", "any", "prod"),
    *("softmax", "cumprod", "cumsum", "chunk", "flatten"),
)
_MODULES = ("torch", "math", "F")


def of_call(node: ast.Call) -> Iterator[Found]:
    """Yield what may wrongly stand in the place of a call."""
    called = node.func
    owner = called.value if isinstance(called, ast.Attribute) else None
    is_method = owner is not None and getattr(owner, "id", "") not in _MODULES
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    inner = owner if is_method else node.args[0] if len(node.args) == 1 else None
    if inner is not None and name not in _KEPT:
        yield _MISSING.get(name, f"`{name}` is missing"), f"{COMES} without one `{name}`.", inner
    for other in _OTHER.get(name, ()):
        changed = ast.Name(other, ast.Load())
        if isinstance(called, ast.Attribute):
            changed = ast.Attribute(called.value, other, ast.Load())
        why = f"{COMES} with `{other}` where `{name}` belongs."
        yield f"`{other}` instead of `{name}`", why, ast.Call(changed, node.args, node.keywords)
    if is_method and name in _ALONG:
        yield from _along_another(node, name)
    if name == "range":
        yield from _of_range(node)
    if len(node.args) == 2 and name not in ("range", "zip", "chunk"):
        yield from _of_two_arguments(node, name)
    if name in ("std", "var", "cov"):
        yield from _of_spread(node)


def _without(node: ast.Call, keyword: str) -> list[ast.keyword]:
    return [one for one in node.keywords if one.arg != keyword]


def _along_another(node: ast.Call, name: str) -> Iterator[Found]:
    first, last = (node.args[:1], []) if name == "chunk" else ([], node.args[1:])
    for axis in (-1, -2, 0, 1, 2, 3):
        why = f"{COMES} with `{name}` taken along another axis."
        args = [*first, ast.Constant(axis), *last]
        yield f"`{name}` along another axis", why, ast.Call(node.func, args, _without(node, "dim"))
    why = f"{COMES} with `{name}` taken over everything."
    yield f"`{name}` over everything", why, ast.Call(node.func, first, [])


def _of_two_arguments(node: ast.Call, name: str) -> Iterator[Found]:
    why = f"{COMES} with the two arguments of one call exchanged."
    yield "two arguments change places", why, ast.Call(node.func, node.args[::-1], node.keywords)
    if name in ("min", "max", "minimum", "maximum"):
        for one in node.args:
            why = f"{COMES} without one `{name}`: only one of two values is ever taken."
            yield "a limit is missing", why, one


def _of_spread(node: ast.Call) -> Iterator[Found]:
    for correction, words in ((0, "n"), (1, "n - 1")):
        added = ast.keyword("correction", ast.Constant(correction))
        changed = ast.Call(node.func, node.args, [*_without(node, "correction"), added])
        why = f"{COMES} with a variance that is divided by {words}."
        yield f"the variance is divided by {words}", why, changed


def _of_range(node: ast.Call) -> Iterator[Found]:
    why, one = f"{COMES} with a loop that starts or ends one step off.", ast.Constant(1)
    for place, old in enumerate(node.args[:2]):
        for kind in (ast.Sub, ast.Add):
            other = ast.BinOp(old, kind(), one)
            args = [*node.args[:place], other, *node.args[place + 1 :]]
            yield "a loop is one step off", why, ast.Call(node.func, args, [])
    if len(node.args) == 1:
        yield "a loop is one step off", why, ast.Call(node.func, [one, *node.args], [])
        shifted = [one, ast.BinOp(node.args[0], ast.Add(), one)]
        why = f"{COMES} with a count that starts at 1 where 0 belongs."
        yield "the loop counts from 1", why, ast.Call(node.func, shifted, [])
