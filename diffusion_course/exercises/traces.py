"""What the exception of an answer tells: where in the learner's own code, and whether a `...` is
what is left.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import dis
import functools
import inspect
import linecache
import os
import re
import site
import sysconfig
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..door import FILE
from .syntax import parse

_ROOMS = [str(Path(__file__).resolve().parents[1])]
_ROOMS += [os.path.dirname(module.__file__) for module in (torch, np)]
_ROOMS += [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
_ROOMS += site.getsitepackages()
_LIBRARIES = tuple(f"{folder}{os.sep}" for one in _ROOMS for folder in (one, os.path.realpath(one)))
_NO_FILES = ("<frozen ", "<__array_function__", FILE)
_NOT_A_STUB = re.compile(r"^einsum\(")  # torch calls the dots in its pattern an ellipsis
_NOTHING = set("RESUME NOP LOAD_CONST RETURN_CONST RETURN_VALUE CACHE COPY_FREE_VARS".split())
_SHOWN = 100


@dataclasses.dataclass(frozen=True)
class Failure:
    """An exception that the answer raised: its type, its first line, and where.

    `line` counts from the `def` of the answer, or of the function `where` if the exception came
    from another one of the learner's; the `def` is line 1. It is None where that is not known.
    `source` is the line itself. `blank` says that a `...` is left there, or a `raise
    NotImplementedError` of the learner's own.
    """

    type_name: str
    message: str
    line: int | None = None
    where: str = ""
    blank: bool = False
    source: str = ""

    @property
    def place(self) -> str:
        """Where it was, in words; empty where that is not known."""
        if not self.line:
            return ""
        return f"in line {self.line} of {f'`{self.where}`' if self.where else 'it'}"


@dataclasses.dataclass(frozen=True)
class _Step:
    """One entry of a traceback."""

    frame: types.FrameType
    line: int
    position: int  # of the instruction

    @property
    def code(self) -> types.CodeType:
        return self.frame.f_code

    @property
    def is_own(self) -> bool:
        """True in the learner's code, false in a library's and in the course's."""
        return not self.code.co_filename.startswith((*_LIBRARIES, *_NO_FILES))


def failure_of(answer: Any, error: BaseException) -> Failure:
    """Return what `error` tells, which calling `answer` has raised."""
    steps = list(_steps(error.__traceback__))
    own, known = [step for step in steps if step.is_own], codes(answer)
    place: dict[str, Any] = {}
    if own:
        step = own[-1]
        home = next((code for code in known if step.code in _family(code)), step.code)
        first, source = _first_line(home), linecache.getline(step.code.co_filename, step.line)
        # The answer itself is "it"; a method of the learner's class has a name.
        where = "" if home is _code_of(answer) else home.co_name
        source = source.strip()[:_SHOWN]
        place = {"line": max(step.line - first + 1, 1), "where": where, "source": source}
    message = first_line_of(error)
    return Failure(type(error).__name__, message, blank=_is_blank(error, message, steps), **place)


def first_line_of(error: BaseException) -> str:
    """Return the first line of an exception's text; some cannot say theirs."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # an exception class of the learner's own may fail to print itself
        return ""
    return lines[0][:200] if lines else ""


def codes(answer: Any) -> list[types.CodeType]:
    """Return the code of an answer: under decorators and partials, and of a class's methods."""
    found, waiting, seen = [], [answer], set()
    while waiting and len(seen) < 20:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        if (code := _plain_code(one)) is not None:
            found.append(code)
        for name in ("__wrapped__", "func", "__func__"):
            if callable(inner := _attribute(one, name)):
                waiting.append(inner)
        if not isinstance(one, (types.FunctionType, types.MethodType, functools.partial)):
            kind = one if isinstance(one, type) else type(one)
            waiting += [
                vars(base)[name]
                for base in kind.__mro__
                for name in ("forward", "__call__", "__init__")
                if isinstance(vars(base).get(name), types.FunctionType)
            ]
    return [code for code in found if not code.co_filename.startswith((*_LIBRARIES, *_NO_FILES))]


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


def _attribute(value: Any, name: str) -> Any:
    try:
        return getattr(value, name, None)
    except Exception:  # a property of the learner's own
        return None


def _plain_code(value: Any) -> types.CodeType | None:
    code = _attribute(value, "__code__")
    return code if isinstance(code, types.CodeType) else None


def _code_of(answer: Any) -> types.CodeType | None:
    """The code of what was handed in as a function, under its decorators and partials."""
    for _ in range(20):
        inner = [_attribute(answer, name) for name in ("__wrapped__", "func", "__func__")]
        following = next((one for one in inner if callable(one)), None)
        if following is None:
            break
        answer = following
    return _plain_code(answer)


def _steps(entry: types.TracebackType | None) -> Iterator[_Step]:
    while entry is not None:
        yield _Step(entry.tb_frame, entry.tb_lineno, entry.tb_lasti)
        entry = entry.tb_next


def _family(code: types.CodeType) -> list[types.CodeType]:
    """A function's code and that of the functions that are written in it."""
    inner = [one for one in code.co_consts if isinstance(one, types.CodeType)]
    return [code, *(member for one in inner for member in _family(one))]


def _first_line(code: types.CodeType) -> int:
    """The line of the `def`, below its decorators where Python can show the text."""
    for line in range(code.co_firstlineno, code.co_firstlineno + 20):
        text = linecache.getline(code.co_filename, line)
        if re.match(r"\s*(async\s+)?def\s", text):
            return line
        if not text:
            break
    return code.co_firstlineno


def _is_blank(error: BaseException, message: str, steps: list[_Step]) -> bool:
    if isinstance(error, NotImplementedError):
        # torch raises it too, for an operation that it lacks; then no `raise` stands there.
        last = steps[-1] if steps else None
        return last is not None and last.is_own and _opcode(last) == "RAISE_VARARGS"
    told = "ellipsis" in message.lower() and not _NOT_A_STUB.match(message)
    if not told or isinstance(error, IndexError):  # x[..., 0, ...]
        return False
    return any(_holds_one(step.frame) for step in steps if step.is_own)


def _opcode(step: _Step) -> str:
    return dis.opname[step.code.co_code[step.position]]


def _holds_one(frame: types.FrameType) -> bool:
    """True where a `...` is a value in this frame, or stands in its code and not in an index."""
    near = [*frame.f_locals.values()]
    near += [frame.f_globals[name] for name in frame.f_code.co_names if name in frame.f_globals]
    for value in near:
        homes = [] if isinstance(value, types.ModuleType) else [value, type(value)]
        kept = [dict(_attribute(home, "__dict__") or {}) for home in homes]
        if value is ... or any(one is ... for attributes in kept for one in attributes.values()):
            return True
    return any(_loads_one(code) for code in _family(frame.f_code))


def _loads_one(code: types.CodeType) -> bool:
    """True where the code loads a `...` by itself, and not to take a part: x[...], x[..., 0]."""
    steps = [step for step in dis.get_instructions(code) if step.opname != "CACHE"]
    return any(
        step.opname == "LOAD_CONST" and step.argval is ... and not _is_index(steps[place + 1 :])
        for place, step in enumerate(steps)
    )


def _is_index(following: list[dis.Instruction]) -> bool:
    """True where what was just loaded ends as an index, or as a part of one."""
    height = 1  # of the stack, counted from what was loaded
    for step in following:
        if "SUBSCR" in step.opname or (step.opname, step.argrepr) == ("BINARY_OP", "[]"):
            if height == 1:
                return True
        if step.opname == "BUILD_TUPLE" and step.arg >= height:
            height = 1  # the tuple takes its place
            continue
        if step.opname in ("BINARY_OP", "COMPARE_OP", "IS_OP", "CONTAINS_OP") and height <= 2:
            return False
        argument = step.arg if step.opcode >= dis.HAVE_ARGUMENT else None
        height += dis.stack_effect(step.opcode, argument, jump=False)
        if height < 1 or step.opname.startswith(("STORE_", "RETURN_")):
            return False
    return False
