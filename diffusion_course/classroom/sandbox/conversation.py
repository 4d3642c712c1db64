"""What the grader says to a run: cells first, then for each exercise its answer and its cases."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ...exercises.registry import Case, Exercise
from ...exercises.trial import Outcome
from ..reasons import Reason
from ..records import Cell
from .call_spec import CallSpec
from .handle import RunEnded, WorkerHandle
from .outcomes import PARTS, class_name, decode_outcome
from .protocol import ProtocolError
from .record import MOST

XCPU = int(getattr(signal, "SIGXCPU", 0))
NO_OUTCOME = {"escaped": Reason.EXITED, "memory": Reason.MEMORY}
STATES = ("found", "missing", "course", "value")


class CellEndedRun(RunEnded):
    """A run ended in a cell, or in what says it is this cell: only the run knows where it is."""

    def __init__(self, index: int, error: RunEnded) -> None:
        super().__init__(error.reason, error.detail)
        self.index = index


class AnswerEnded(RunEnded):
    """An answer ended the process that called it, and only that one: the run can go on."""


@contextmanager
def no_message_is(reason: Reason) -> Iterator[None]:
    """Take what is no message for the end of the run, for this reason."""
    try:
        yield
    except ProtocolError as error:
        raise RunEnded(reason, str(error)) from None


def have_cells_executed(
    worker: WorkerHandle,
    chosen: Sequence[tuple[int, Cell]],
    wanted: Sequence[Exercise],
    deadline: float,
) -> dict[int, str]:
    """Have cells executed, given with their numbers; returns the types of what they raised.

    `deadline` is a time of the worker's clock.
    Raises CellEndedRun for a cell that ends the run, RunEnded before the first one.
    """
    running = None
    try:
        with no_message_is(Reason.INTERFERED):
            worker.start(tuple(cell.source for _, cell in chosen), tuple(map(CallSpec.of, wanted)))
            while True:
                message = worker.message(_soon(worker, deadline, worker.limits.seconds_per_cell))
                said, value = message[0], message[-1]
                if said == "cell" and type(value) is int and 0 <= value < len(chosen):
                    running = chosen[value][0]
                elif said == "cells" and type(value) is tuple:
                    failures = _failures(value, len(chosen))
                    return {chosen[index][0]: kind for index, kind in failures}
                else:
                    raise ProtocolError("the worker said something else while the cells ran")
    except RunEnded as error:
        if running is None:
            raise
        raise CellEndedRun(running, error) from None


def have_answer_called(
    worker: WorkerHandle, position: int, cases: Sequence[Case], deadline: float
) -> tuple[str, tuple[Outcome, ...], tuple[str, ...]]:
    """Have the answer to the exercise at `position` called with each case.

    Returns ("found", outcomes, the course's functions that it called), or one of the other STATES
    and () twice. Raises AnswerEnded where the
    answer ends its process or returns what cannot be sent, and the run can go on; RunEnded where it
    cannot.
    """
    with no_message_is(Reason.INTERFERED):
        worker.send("answer", position)
        state = worker.message(_soon(worker, deadline, worker.limits.seconds_per_call))[0]
        if type(state) is not str or state not in STATES:
            raise ProtocolError("the worker said something else than whether there is an answer")
        if state != "found":
            _until_done(worker, deadline)
            return state, (), ()
        outcomes = tuple(_call(worker, case, deadline) for case in cases)
        worker.send("enough")
        return state, outcomes, _until_done(worker, deadline)


def _call(worker: WorkerHandle, case: Case, deadline: float) -> Outcome:
    worker.send("case", tuple(case.args), dict(case.kwargs))
    with no_message_is(Reason.NOT_DATA):
        message = worker.message(_soon(worker, deadline, worker.limits.seconds_per_call))
        if len(message) == PARTS or type(message[0]) is not str:
            return decode_outcome(message)
    if message[0] == "done":  # the process that called the answer is gone
        code = message[-1] if type(message[-1]) is int else 0
        raise AnswerEnded(Reason.TIME if code == -XCPU else Reason.CRASH)
    worker.send("enough")
    _until_done(worker, deadline)
    raise AnswerEnded(NO_OUTCOME.get(message[0], Reason.NOT_DATA))


def _until_done(worker: WorkerHandle, deadline: float) -> tuple[str, ...]:
    """Hear out a process that calls an answer; returns what the answer used, as it says."""
    used: tuple[str, ...] = ()
    said = worker.message(_soon(worker, deadline, worker.limits.seconds_per_call))
    if type(said[0]) is str and said[0] == "used":
        used = _names(said[-1])
        said = worker.message(_soon(worker, deadline, worker.limits.seconds_per_call))
    if type(said[0]) is not str or said[0] != "done":
        raise ProtocolError("the worker went on when it should have ended")
    return used


def _names(value: Any) -> tuple[str, ...]:
    if type(value) is not tuple or len(value) > MOST or {type(one) for one in value} - {str}:
        raise ProtocolError("what an answer used is a few names")
    return tuple(map(class_name, value))


def _soon(worker: WorkerHandle, deadline: float, seconds: float) -> float:
    return min(deadline, worker.clock.now() + seconds)


def _failures(value: tuple[Any, ...], count: int) -> list[tuple[int, str]]:
    for one in value:
        if (
            type(one) is not tuple
            or [type(part) for part in one] != [int, str]
            or not 0 <= one[0] < count
        ):
            raise ProtocolError("a failed cell is its number and a type")
    return [(index, class_name(kind)) for index, kind in value]
