"""The source of a function as a learner can paste it: without type annotations, whose names a
notebook may not have.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from .syntax import parse


@functools.cache
def stand_alone(function: Callable[..., Any]) -> str:
    """Return the source of `function`, dedented and without annotations.

    Everything else stays to the letter, comments too; inner functions lose their annotations as
    well. Raises OSError where Python does not find the source.
    """
    source = textwrap.dedent(inspect.getsource(function))
    cuts = [cut for node in ast.walk(parse(source)) for cut in _annotations(node)]
    raw = source.encode("utf-8")  # ast counts columns in bytes
    starts = [0]
    for line in raw.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for begin, end in sorted(cuts, reverse=True):
        first, last = (starts[line - 1] + column for line, column in (begin, end))
        raw = raw[:first] + raw[last:]
    return raw.decode("utf-8")


def _annotations(node: ast.AST) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return (start, end) of what the annotations of an argument or a function take up.

    The `:` or `->` belongs to them.
    """
    if isinstance(node, ast.arg) and node.annotation is not None:
        begin = (node.lineno, node.col_offset + len(node.arg.encode("utf-8")))
        return [(begin, (node.annotation.end_lineno, node.annotation.end_col_offset))]
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.returns is not None:
        # The text between `)` and the annotation is ` -> ` by the project's format.
        begin = (node.returns.lineno, node.returns.col_offset - len(" -> "))
        return [(begin, (node.returns.end_lineno, node.returns.end_col_offset))]
    return []
