"""Execute a submission's cells and call its answers.

Everything here shares a process with a student's code. Whatever that code does to this process, the
grader outside only gets numbers and tensors, and compares them with values that were never in it.
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

from ...door import FILE
from ...exercises.registry import Case
from ...exercises.trial import run_case
from .call_spec import CallSpec
from .decoding import receive
from .outcomes import encode_outcome, is_out_of_memory
from .pipes import read_exactly
from .protocol import encode
from .record import PACKAGE, Record

# What an outcome tells of. SystemExit, KeyboardInterrupt and a student's own kinds of BaseException
# are all told by "escaped", so that they are one kind.
CAUGHT = (Exception,)
RUN_THE_REST = ("time", "timeit", "capture", "prun")
COMMANDS = re.compile(r"^(\s*)(?:pip|conda|cd|ls|pwd|mkdir|cat|rm|cp|mv)(?: .*)?$", re.MULTILINE)


class Channel:
    """A run's side of its conversation with the grader, over what has `recv` and `sendall`."""

    def __init__(self, link: Any) -> None:
        self._link = link

    def read(self) -> Any:
        """Wait for the next message; ends the process when the other side is gone."""
        return receive(lambda size: read_exactly(self._link.recv, size), objects=True)

    def send(self, *message: Any) -> None:
        """Send one message."""
        self._link.sendall(encode(message))

    def send_bytes(self, data: bytes) -> None:
        """Send what is encoded already."""
        self._link.sendall(data)


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


def execute_cells(
    cells: Sequence[str], channel: Channel
) -> tuple[dict[str, Any], list[tuple[int, str]]]:
    """Execute the cells one by one.

    Returns the namespace, and (cell, exception's type) of those that raised.
    """
    namespace: dict[str, Any] = {}
    prepare(namespace)
    failures = []
    for index, source in enumerate(cells):
        channel.send("cell", index)
        try:
            execute(source, namespace, f"<cell {index}>")
        # SystemExit and KeyboardInterrupt too: the other cells still count.
        except BaseException as error:
            failures.append((index, type(error).__name__[:80]))
    return namespace, failures


def is_course(answer: Any) -> bool:
    """Whether an answer is the course's own function.

    A partial, a method or a decorator around it changes nothing.
    """
    for _ in range(20):
        code, module = _own(answer, "__code__"), _own(answer, "__module__")
        if type(module) is str and module.partition(".")[0] == PACKAGE.name:
            return True
        file = code.co_filename if type(code) is types.CodeType else ""
        if Path(file).is_relative_to(PACKAGE) or file.startswith(f"{FILE}{PACKAGE.name}."):
            return True
        inner = [_own(answer, name) for name in ("func", "__func__", "__wrapped__")]
        answer = next((one for one in inner if callable(one)), None)
        if answer is None:
            return False
    return False


def _own(answer: Any, name: str) -> Any:
    """An attribute of an answer, or None: looking it up may run the student's code."""
    try:
        return getattr(answer, name, None)
    except BaseException:
        return None


def find_answer(namespace: dict[str, Any], spec: CallSpec) -> tuple[str, Any]:
    """Return the state of an answer, and the answer as a function where that is "found".

    The other states are "missing", "course" (the course's own function) and "value" (it cannot be
    called).
    """
    if spec.answer_name not in namespace:
        return "missing", None
    answer = namespace[spec.answer_name]
    if spec.is_value:
        return "found", lambda **_: answer
    if answer is None or answer is ...:
        return "found", lambda *args, **kwargs: None
    if is_course(answer):
        return "course", None
    return ("found", answer) if callable(answer) else ("value", None)


def serve_answer(namespace: dict[str, Any], spec: CallSpec, channel: Channel) -> None:
    """Look the answer up and call it with each case that the grader sends; say what it used."""
    state, answer = find_answer(namespace, spec)
    record = Record()
    channel.send(state)
    while state == "found" and (message := channel.read())[0] == "case":
        _, args, kwargs = message
        try:
            with record.kept():
                outcome = run_case(spec, answer, Case(args, kwargs), caught=CAUGHT)
            data = encode_outcome(outcome)
        except BaseException as error:
            channel.send(why_there_is_no_outcome(error))
        else:
            channel.send_bytes(data)
    if state == "found":
        channel.send("used", tuple(sorted(record.names)))


def why_there_is_no_outcome(error: BaseException) -> str:
    """Return the word for what came out of a call: an outcome tells of an answer's own errors."""
    kind = type(error)
    # Of these kinds alone: to ask another one for its text may run the student's code.
    said = error.args[-1:] if kind in (RuntimeError, ImportError, OSError) else ()
    message = said[0] if said and type(said[0]) is str else ""
    if issubclass(kind, MemoryError) or is_out_of_memory("", message):
        return "memory"
    return "unsendable" if issubclass(kind, Exception) else "escaped"


def in_a_fork(work: Callable[[], None], channel: Channel) -> None:
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


def one_run(
    cells: Sequence[str], specs: Sequence[tuple[Any, ...]], channel: Channel, *, forks: bool
) -> None:
    """Execute the cells, then answer for the exercises that the grader names.

    Where there are forks, each answer is called in one of its own, with this state.
    """
    os.environ.setdefault("MPLBACKEND", "Agg")
    namespace, failures = execute_cells(cells, channel)
    channel.send("cells", tuple(failures))
    while (message := channel.read())[0] == "answer":
        spec = CallSpec.from_message(specs[message[1]])
        if forks:
            in_a_fork(lambda spec=spec: serve_answer(namespace, spec, channel), channel)
        else:
            serve_answer(namespace, spec, channel)
            channel.send("done", 0)
    os._exit(0)
