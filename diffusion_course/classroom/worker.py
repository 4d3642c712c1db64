"""The untrusted side: runs a submission's cells and answers calls. Started by `sandbox`, talks over its stdin and stdout.

This first process never runs a student's code. For each run it forks a child that executes the cells, and the child forks
again for each exercise, so that no answer sees what another one did. Whatever happens here, the grader outside only gets
numbers and tensors to compare with values that were never in this process.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import os
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..exercises import calls
from ..exercises.registry import Case
from ..exercises.trial import run_case
from .decoding import receive
from .protocol import ProtocolError, encode, encode_outcome

COURSE = "diffusion_course"


class Channel:
    """The two pipes to the grader; everything else that writes to stdout or stderr ends in /dev/null."""

    def __init__(self) -> None:
        self._in, self._out = os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)

    def read(self) -> Any:
        """Wait for the next message; ends the process when the grader is gone."""
        return receive(self._exactly, objects=True)

    def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            part = os.read(self._in, min(size, 2**20))
            if not part:
                os._exit(0)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def send(self, *message: Any) -> None:
        """Send one message."""
        self.send_bytes(encode(message))

    def send_bytes(self, data: bytes) -> None:
        """Send what is encoded already."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._out, rest) :]


class Wanted:
    """What `trial.run_case` needs to know of an exercise, without the exercise."""

    def __init__(self, spec: Sequence[Any]) -> None:
        self.answer_name, names, optional, self.may_change, call, self.is_value = spec
        self.call = getattr(calls, call) if call else None
        plain, empty = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
        kinds = [inspect.Parameter(name, plain, default=None if name in optional else empty) for name in names]
        self.reference = lambda *args, **kwargs: None
        self.reference.__signature__ = inspect.Signature(kinds)  # type: ignore[attr-defined]


class Shell:
    """Stands for IPython: magics do nothing, except those that run the rest of their cell."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.user_ns = namespace

    def run_cell_magic(self, name: str, line: str, cell: str) -> None:
        """Run the cell of %%time, %%timeit and %%capture; leave others alone."""
        if name in ("time", "timeit", "capture", "prun"):
            exec(compile(cell, "<cell>", "exec"), self.user_ns)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


def python_of(source: str) -> str:
    """Return a cell without its magics and shell lines."""
    if not any(line.lstrip().startswith(("%", "!", "?")) or line.rstrip().endswith("?") for line in source.splitlines()):
        return source
    from IPython.core.inputtransformer2 import TransformerManager

    return TransformerManager().transform_cell(source)


def prepare(namespace: dict[str, Any]) -> None:
    """Give the cells the names that a notebook has."""
    module = types.ModuleType("__main__")
    namespace.update(vars(module))
    module.__dict__.update(namespace)
    sys.modules["__main__"] = module
    shell = Shell(namespace)
    builtins.get_ipython = lambda: shell  # type: ignore[attr-defined]
    builtins.display = lambda *args, **kwargs: None  # type: ignore[attr-defined]


def run_cells(cells: Sequence[str], channel: Channel) -> tuple[dict[str, Any], list[tuple[int, str, str]]]:
    """Execute the cells one by one; returns the namespace and (cell, exception's type, first line) of those that raised."""
    namespace: dict[str, Any] = {}
    prepare(namespace)
    failures = []
    for index, source in enumerate(cells):
        channel.send("cell", index)
        try:
            exec(compile(python_of(source), f"<cell {index}>", "exec"), namespace)
        except BaseException as error:  # SystemExit and KeyboardInterrupt too: the other cells still count
            failures.append((index, type(error).__name__[:200], _first_line(error)))
    return namespace, failures


def _first_line(error: BaseException) -> str:
    try:
        return (str(error).splitlines() or [""])[0][:200]
    except BaseException:
        return ""


def find(namespace: dict[str, Any], wanted: Wanted) -> tuple[str, Any]:
    """Return ("found", the answer as a function), ("missing", None), ("course", None) or ("type", its type)."""
    if wanted.answer_name not in namespace:
        return "missing", None
    answer = namespace[wanted.answer_name]
    if wanted.is_value:
        return "found", lambda **_: answer
    if answer is None or answer is ...:
        return "found", lambda *args, **kwargs: None
    inner = answer
    while isinstance(inner, functools.partial):
        inner = inner.func
    if str(getattr(inner, "__module__", "")).partition(".")[0] == COURSE:
        return "course", None
    return ("found", answer) if callable(answer) else ("type", type(answer).__name__[:200])


def answer_calls(namespace: dict[str, Any], wanted: Wanted, channel: Channel) -> None:
    """Look the answer up and call it with each case that the grader sends."""
    state, answer = find(namespace, wanted)
    channel.send(state, answer if state == "type" else None)
    while state == "found" and (message := channel.read())[0] == "case":
        _, args, kwargs = message
        try:
            outcome = run_case(wanted, answer, Case(args, kwargs))  # type: ignore[arg-type]
            data = encode_outcome(outcome)
        except ProtocolError as error:
            channel.send("unsendable", str(error)[:200])
        except BaseException as error:
            channel.send("escaped", type(error).__name__[:200])
        else:
            channel.send_bytes(data)
    os._exit(0)


def forked(work: Callable[[], None], channel: Channel) -> None:
    """Do `work` in a child, wait for it and tell the grader how it ended; only the grader knows whether it should have."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    channel.send("ended", -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))


def one_run(cells: Sequence[str], specs: Sequence[Any], channel: Channel) -> None:
    """Run the cells, then answer for the exercises that the grader names."""
    namespace, failures = run_cells(cells, channel)
    channel.send("cells", tuple(failures))
    while (message := channel.read())[0] == "answer":
        wanted = Wanted(specs[message[1]])
        forked(lambda wanted=wanted: answer_calls(namespace, wanted, channel), channel)
    os._exit(0)


def set_limits(memory_mib: int, disk_mib: int, seconds: int) -> None:
    """Set the limits that a process cannot raise again."""
    import resource

    for name, most in (
        ("RLIMIT_DATA", memory_mib * 2**20), ("RLIMIT_FSIZE", disk_mib * 2**20), ("RLIMIT_CPU", seconds), ("RLIMIT_CORE", 0),
        ("RLIMIT_NOFILE", 256),
    ):  # fmt: skip
        kind = getattr(resource, name, None)
        if kind is not None:
            try:
                resource.setrlimit(kind, (most, most))
            except (ValueError, OSError):  # a system that has the name and not the limit (macOS)
                continue


def main() -> None:
    """Read the limits, then fork for each run until the grader closes the pipe."""
    channel = Channel()
    os.environ.setdefault("MPLBACKEND", "Agg")
    if hasattr(os, "nice"):
        os.nice(10)  # the grader's watch goes first
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    kind, *limits = channel.read()
    if kind == "limits":
        set_limits(*limits)
    channel.send("ready")
    while True:
        message = channel.read()
        if message[0] == "run":
            _, cells, specs = message
            forked(lambda cells=cells, specs=specs: one_run(cells, specs, channel), channel)
        elif message[0] == "sync":  # after the grader has ended a run: whatever was under way is over
            channel.send_bytes(bytes.fromhex(message[1]))


if __name__ == "__main__":
    main()
