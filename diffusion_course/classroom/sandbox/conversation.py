"""What grader and worker say to each other for one run: the cells, then for each exercise its
answer and its cases.
"""

from __future__ import annotations

import inspect
import signal
import time
from collections.abc import Sequence
from typing import Any

from ...exercises.registry import Case, Exercise
from ...exercises.trial import Outcome
from ..records import Cell
from .decoding import class_name, decode_outcome
from .protocol import ProtocolError
from .supervised import Died, Worker

OUTCOME_PARTS = 6
XCPU = int(getattr(signal, "SIGXCPU", 0))
STATES = ("found", "missing", "course", "type")


class CellDied(Exception):
    """A run ended in a cell, or in what says it is this cell: only the run itself knows where it
    is.
    """

    def __init__(self, index: int, died: Died) -> None:
        super().__init__(str(died))
        self.index, self.died = index, died


class AnswerDied(Died):
    """An answer ended the process that called it, and only that one."""


def run_cells(
    worker: Worker, chosen: Sequence[tuple[int, Cell]], wanted: Sequence[Exercise], deadline: float
) -> dict[int, str]:
    """Run cells, given with their numbers; returns the type of what those raised that did.

    Raises CellDied for a cell that ends the run, Died and ProtocolError before the first one.
    """
    worker.start(tuple(cell.source for _, cell in chosen), tuple(map(_spec, wanted)))
    running = None
    try:
        while True:
            message = worker.message(_soon(deadline, worker.limits.seconds_per_cell))
            if message[0] == "cell" and type(message[-1]) is int and 0 <= message[-1] < len(chosen):
                running = chosen[message[-1]][0]
            elif message[0] == "cells" and type(message[-1]) is tuple:
                return {
                    chosen[index][0]: kind for index, kind in _checked(message[-1], len(chosen))
                }
            else:
                raise ProtocolError("the worker said something else while the cells ran")
    except (Died, ProtocolError) as error:
        if running is None:
            raise
        raise CellDied(running, as_died(error)) from None


def call_cases(
    worker: Worker, place: int, cases: Sequence[Case], deadline: float
) -> tuple[str, tuple[Outcome, ...]]:
    """Call the answer of exercise `place` with each case; returns ("found", outcomes) or why there
    is no answer, and ().

    Raises AnswerDied where the answer ends its process or returns what cannot be sent, and the run
    can go on; Died or ProtocolError where it cannot.
    """
    worker.send("answer", place)
    state = worker.message(_soon(deadline, worker.limits.seconds_per_call))[0]
    if type(state) is not str or state not in STATES:
        raise ProtocolError("the worker said something else than whether there is an answer")
    outcomes = tuple(_call(worker, case, deadline) for case in cases) if state == "found" else ()
    if state == "found":
        worker.send("enough")
    _until_done(worker, deadline)
    return state, outcomes


def _call(worker: Worker, case: Case, deadline: float) -> Outcome:
    worker.send("case", tuple(case.args), dict(case.kwargs))
    message = worker.message(_soon(deadline, worker.limits.seconds_per_call))
    if len(message) == OUTCOME_PARTS or type(message[0]) is not str:
        return decode_outcome(message)
    if message[0] == "done":  # the process that called the answer is gone
        code = message[-1] if type(message[-1]) is int else 0
        raise AnswerDied("time" if code == -XCPU else "crash")
    worker.send("enough")
    _until_done(worker, deadline)
    if message[0] == "escaped":
        raise AnswerDied("crash", "it raised SystemExit, KeyboardInterrupt or the like")
    raise AnswerDied("protocol")


def _until_done(worker: Worker, deadline: float) -> None:
    if worker.message(_soon(deadline, worker.limits.seconds_per_call))[0] != "done":
        raise ProtocolError("the worker went on when it should have ended")


def as_died(error: Died | ProtocolError) -> Died:
    """The same as Died."""
    return error if isinstance(error, Died) else Died("protocol", str(error))


def _soon(deadline: float, seconds: float) -> float:
    return min(deadline, time.monotonic() + seconds)


def _checked(failures: tuple[Any, ...], count: int) -> list[tuple[int, str]]:
    for one in failures:
        if (
            type(one) is not tuple
            or [type(part) for part in one] != [int, str]
            or not 0 <= one[0] < count
        ):
            raise ProtocolError("a failed cell is its number and a type")
    return [(index, class_name(kind)) for index, kind in failures]


def _spec(exercise: Exercise) -> tuple[Any, ...]:
    parameters = inspect.signature(exercise.reference).parameters.values()
    names = tuple(one.name for one in parameters)
    optional = tuple(one.name for one in parameters if one.default is not inspect.Parameter.empty)
    call = exercise.call.__name__ if exercise.call is not None else None
    return (
        exercise.answer_name,
        names,
        optional,
        tuple(exercise.may_change),
        call,
        exercise.is_value,
    )
