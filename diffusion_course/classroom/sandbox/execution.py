"""Runs a submission's cells and calls its answers. Everything here shares a process with a
student's code.

Whatever that code does to this process, the grader outside only gets numbers and tensors, and
compares them with values that were never in it.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import inspect
import os
import re
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...exercises import calls
from ...exercises.registry import Case
from ...exercises.trial import run_case
from .decoding import receive
from .protocol import ProtocolError, encode, encode_outcome

PACKAGE = Path(__file__).resolve().parents[2]
RUN_THE_REST = ("time", "timeit", "capture", "prun")
COMMANDS = re.compile(r"^(\s*)(?:pip|conda|cd|ls|pwd|mkdir|cat|rm|cp|mv)(?: .*)?$", re.MULTILINE)


def exactly(read: Callable[[int], bytes], size: int) -> bytes:
    """Return `size` bytes from a `read` that may give fewer at a time; ends the process when the
    other side is gone.
    """
    parts = []
    while size:
        part = read(min(size, 2**20))
        if not part:
            os._exit(0)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class Channel:
    """A run's side of its conversation with the grader, over something with `recv` and `sendall`.
    """

    def __init__(self, link: Any) -> None:
        self._link = link

    def read(self) -> Any:
        """Wait for the next message; ends the process when the other side is gone."""
        return receive(lambda size: exactly(self._link.recv, size), objects=True)

    def send(self, *message: Any) -> None:
        """Send one message."""
        self._link.sendall(encode(message))

    def send_bytes(self, data: bytes) -> None:
        """Send what is encoded already."""
        self._link.sendall(data)


class Wanted:
    """What `trial.run_case` needs to know of an exercise, without the exercise."""

    def __init__(self, spec: Sequence[Any]) -> None:
        self.answer_name, names, optional, self.may_change, call, self.is_value = spec
        self.call = getattr(calls, call) if call else None
        plain, empty = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
        kinds = [
            inspect.Parameter(name, plain, default=None if name in optional else empty)
            for name in names
        ]
        self.reference = lambda *args, **kwargs: None
        self.reference.__signature__ = inspect.Signature(kinds)  # type: ignore[attr-defined]


class Shell:
    """Stands for IPython: magics do nothing, except those that run the rest of their cell."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.user_ns = namespace

    def run_cell_magic(self, name: str, line: str, cell: str) -> None:
        """Run the cell of %%time, %%timeit and %%capture; leave others alone."""
        if name in RUN_THE_REST:
            execute(cell, self.user_ns, "<cell>")

    def run_line_magic(self, name: str, line: str, _stack_depth: int = 1) -> None:
        """Run the statement of %time; leave others alone."""
        if name == "time":
            execute(line, self.user_ns, "<cell>")

    def getoutput(self, command: str, **kwargs: Any) -> list[str]:
        """What `x = !command` gives: no lines."""
        return []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


def compiled(source: str, name: str) -> types.CodeType:
    """Compile a cell as IPython would, with its magics and shell lines as calls of the Shell."""
    flags = {"flags": ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, "dont_inherit": True}
    try:
        return compile(source, name, "exec", **flags)
    except SyntaxError:
        from IPython.core.inputtransformer2 import TransformerManager

        transformed = TransformerManager().transform_cell(source)
        try:
            return compile(transformed, name, "exec", **flags)
        except SyntaxError:
            return compile(COMMANDS.sub(r"\1pass", transformed), name, "exec", **flags)


def execute(source: str, namespace: dict[str, Any], name: str) -> None:
    """Run a cell in `namespace`; raises what it raises."""
    code = compiled(source, name)
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(types.FunctionType(code, namespace)())
    else:
        exec(code, namespace)


def prepare(namespace: dict[str, Any]) -> None:
    """Give the cells the names that a notebook has."""
    module = types.ModuleType("__main__")
    namespace.update(vars(module))
    module.__dict__.update(namespace)
    sys.modules["__main__"] = module
    shell = Shell(namespace)
    builtins.get_ipython = lambda: shell  # type: ignore[attr-defined]
    builtins.display = lambda *args, **kwargs: None  # type: ignore[attr-defined]
    builtins.input = lambda prompt="": ""


def run_cells(
    cells: Sequence[str], channel: Channel
) -> tuple[dict[str, Any], list[tuple[int, str]]]:
    """Execute the cells one by one; returns the namespace and (cell, exception's type) of those
    that raised.
    """
    namespace: dict[str, Any] = {}
    prepare(namespace)
    failures = []
    for index, source in enumerate(cells):
        channel.send("cell", index)
        try:
            execute(source, namespace, f"<cell {index}>")
        except (
            BaseException
        ) as error:  # SystemExit and KeyboardInterrupt too: the other cells still count
            failures.append((index, type(error).__name__[:80]))
    return namespace, failures


def is_course(answer: Any) -> bool:
    """Whether an answer is the course's own function, also where partial, a method or a decorator
    is around it.
    """
    for _ in range(20):
        code = getattr(answer, "__code__", None)
        if str(getattr(answer, "__module__", "")).partition(".")[0] == PACKAGE.name:
            return True
        if isinstance(code, types.CodeType) and Path(code.co_filename).is_relative_to(PACKAGE):
            return True
        inner = [getattr(answer, name, None) for name in ("func", "__func__", "__wrapped__")]
        answer = next((one for one in inner if callable(one)), None)
        if answer is None:
            return False
    return False


def find(namespace: dict[str, Any], wanted: Wanted) -> tuple[str, Any]:
    """Return ("found", the answer as a function), ("missing", None), ("course", None) or ("type",
    None).
    """
    if wanted.answer_name not in namespace:
        return "missing", None
    answer = namespace[wanted.answer_name]
    if wanted.is_value:
        return "found", lambda **_: answer
    if answer is None or answer is ...:
        return "found", lambda *args, **kwargs: None
    if is_course(answer):
        return "course", None
    return ("found", answer) if callable(answer) else ("type", None)


def answer_calls(namespace: dict[str, Any], wanted: Wanted, channel: Channel) -> None:
    """Look the answer up and call it with each case that the grader sends."""
    state, answer = find(namespace, wanted)
    channel.send(state)
    while state == "found" and (message := channel.read())[0] == "case":
        _, args, kwargs = message
        try:
            # Type: ignore[arg-type]
            data = encode_outcome(run_case(wanted, answer, Case(args, kwargs)))
        except ProtocolError:
            channel.send("unsendable")
        except BaseException as error:
            channel.send("escaped", type(error).__name__[:80])
        else:
            channel.send_bytes(data)


def forked(work: Callable[[], None], channel: Channel) -> None:
    """Do `work` in a child, wait for it and say how it ended."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    channel.send("done", os.waitstatus_to_exitcode(status))


def one_run(cells: Sequence[str], specs: Sequence[Any], channel: Channel, *, forks: bool) -> None:
    """Run the cells, then answer for the exercises that the grader names, each in a fork of this
    state where there are forks.
    """
    os.environ.setdefault("MPLBACKEND", "Agg")
    namespace, failures = run_cells(cells, channel)
    channel.send("cells", tuple(failures))
    while (message := channel.read())[0] == "answer":
        wanted = Wanted(specs[message[1]])
        if forks:
            forked(lambda wanted=wanted: answer_calls(namespace, wanted, channel), channel)
        else:
            answer_calls(namespace, wanted, channel)
            channel.send("done", 0)
    os._exit(0)
