"""What the text of an answer says, where its output says nothing: is it written, does it return."""

from __future__ import annotations

import ast
import contextlib
import dis
import inspect
import textwrap
import types
from typing import Any

import numpy as np
import torch

from .syntax import parse
from .traces import code_of, codes

_NOTHING = set("RESUME NOP LOAD_CONST RETURN_CONST RETURN_VALUE CACHE COPY_FREE_VARS".split())
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_COUNTED = ("first", "second", "third", "fourth", "fifth", "sixth")


def unwritten(answer: Any, stub: str) -> bool:
    """True where the answer does nothing, is the stub, or has a `...` left that stands alone."""
    given = set()
    for before in ("", "import torch\n"):  # Python calls methods of an imported name in another way
        scope: dict[str, Any] = {"torch": torch, "numpy": np}
        with contextlib.suppress(Exception):
            exec(compile(before + stub, "<the stub>", "exec"), scope)
        given |= {code.co_code for value in scope.values() for code in codes(value)}
    return all(
        code.co_code in given or _does_nothing(code) or _has_open_line(code)
        for code in codes(answer)
        if code.co_name != "__init__"
    )


def prints(answer: Any) -> bool:
    """True where the answer calls `print`."""
    return any("print" in code.co_names for code in codes(answer))


def _does_nothing(code: types.CodeType) -> bool:
    return {step.opname for step in dis.get_instructions(code)} <= _NOTHING


def _has_open_line(code: types.CodeType) -> bool:
    """True where a line of the function's text is `...` alone; Python compiles it to nothing."""
    try:
        tree = parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, SyntaxError, TypeError, ValueError):
        return False
    lines = (node.value for node in ast.walk(tree) if isinstance(node, ast.Expr))
    return any(isinstance(line, ast.Constant) and line.value is ... for line in lines)


def nothing_comes_back(answer: Any) -> str:
    """Say why an answer that always returns None does so."""
    code = code_of(answer)
    told = "your function returns None"
    valued, bare = _returns(code) if code is not None else (False, True)
    if valued and bare:
        told += ": no `return` with a value is reached, or what stands behind it is None."
    elif valued and code.co_name != "<lambda>":
        told += ": what stands behind its `return` is None."
    elif not valued and code is not None and _says_return(code):
        told += ": write behind its `return` what is asked for."
    else:
        told += ": its `return` is missing." if not valued else "."
    if prints(answer):
        told += " It prints, and what is printed is seen but does not come back."
    return told


def some_end_without(answer: Any) -> str:
    """Say that an answer, which returns None in some cases only, ends there without a `return`."""
    code = code_of(answer)
    if code is None or _returns(code) != (True, True):
        return ""
    return " Its `return` stands in one branch only: on another way nothing comes back."


def open_part(output: Any, stub: str) -> str:
    """Name the first part of an output that is `...` still; "" where none is."""
    if isinstance(output, dict):
        return next((f"the entry {key!r}" for key, part in output.items() if part is ...), "")
    if not isinstance(output, tuple) or not any(part is ... for part in output):
        return ""
    index = next(place for place, part in enumerate(output) if part is ...)
    name = f"the {_COUNTED[index]} part" if index < len(_COUNTED) else f"part {index + 1}"
    found = [node.value for node in ast.walk(parse(stub)) if isinstance(node, ast.Return)]
    parts = found[-1].elts if found and isinstance(found[-1], ast.Tuple) else []
    if len(parts) == len(output) and isinstance(parts[index], ast.Name):
        name += f" (`{parts[index].id}`)"
    return name


def _returns(code: types.CodeType) -> tuple[bool, bool]:
    """Whether the code returns something, and whether it returns None."""
    steps = [step for step in dis.get_instructions(code) if step.opname != "CACHE"]
    kinds = set()
    for before, step in zip(steps, steps[1:], strict=False):
        if step.opname == "RETURN_CONST":
            kinds.add(step.argval is None)
        elif step.opname == "RETURN_VALUE":
            kinds.add(before.opname == "LOAD_CONST" and before.argval is None)
    return False in kinds, True in kinds


def _says_return(code: types.CodeType) -> bool:
    """True where a `return` stands in the function's own text, not in that of one inside it."""
    try:
        waiting = list(parse(textwrap.dedent(inspect.getsource(code))).body[0].body)
    except (AttributeError, IndexError, OSError, SyntaxError, TypeError, ValueError):
        return False
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Return):
            return True
        if not isinstance(node, _FUNCTIONS):
            waiting += ast.iter_child_nodes(node)
    return False
