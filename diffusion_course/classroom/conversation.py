"""What grader and worker say to each other for one run: the cells, then for each exercise its answer and its cases."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from typing import Any

from ..exercises.registry import Case, Exercise
from ..exercises.trial import Outcome
from .decoding import decode_outcome
from .protocol import ProtocolError, encode
from .records import Cell
from .supervised import Died, Worker


class CellDied(Exception):
    """A cell took the worker with it."""

    def __init__(self, index: int, died: Died) -> None:
        super().__init__(str(died))
        self.index, self.died = index, died


def run_cells(worker: Worker, chosen: Sequence[tuple[int, Cell]], wanted: Sequence[Exercise], deadline: float) -> dict[int, str]:
    """Run cells, given with their numbers; returns the type of what those raised that did.

    Raises CellDied for a cell that takes the worker with it, Died and ProtocolError before the first one.
    """
    specs = tuple(map(_spec, wanted))
    worker.send(encode(("run", tuple(cell.source for _, cell in chosen), specs)), deadline)
    running = None
    try:
        while True:
            limit = min(deadline, time.monotonic() + worker.limits.seconds_per_cell)
            message = worker.message(limit)
            if message[:1] == ("cell",) and type(message[-1]) is int and 0 <= message[-1] < len(chosen):
                running = chosen[message[-1]][0]
            elif message[:1] == ("cells",) and type(message[-1]) is tuple:
                return {chosen[index][0]: f"{kind}" for index, kind, _ in _checked(message[-1], len(chosen))}
            else:
                raise ProtocolError("the worker said something else while the cells ran")
    except (Died, ProtocolError) as error:
        if running is None:
            raise
        died = error if isinstance(error, Died) else Died("protocol", str(error))
        raise CellDied(running, died) from None


def call_cases(worker: Worker, place: int, cases: Sequence[Case], deadline: float) -> tuple[str, tuple[Outcome, ...]]:
    """Call the answer of exercise `place` with each case; returns ("found", outcomes) or why there is no answer, and ().

    Raises Died or ProtocolError where an answer ends the worker, takes too long, or returns what cannot be sent.
    """
    worker.send(encode(("answer", place)), deadline)
    found = worker.message(min(deadline, time.monotonic() + worker.limits.seconds_per_call))
    if found[0] != "found":
        worker.ended(deadline)
        return str(found[0]), ()
    outcomes = tuple(_call(worker, case, deadline) for case in cases)
    worker.finish("done")
    return "found", outcomes


def _call(worker: Worker, case: Case, deadline: float) -> Outcome:
    worker.send(encode(("case", tuple(case.args), dict(case.kwargs))), deadline)
    message = worker.message(min(deadline, time.monotonic() + worker.limits.seconds_per_call))
    if message[:1] == ("unsendable",):
        raise Died("protocol", "the answer is no plain data or too large")
    if message[:1] == ("escaped",):
        raise Died("crash", f"the answer raised {message[-1]}")
    return decode_outcome(message)


def _checked(failures: tuple[Any, ...], count: int) -> list[tuple[int, str, str]]:
    for one in failures:
        if type(one) is not tuple or [type(part) for part in one] != [int, str, str] or not 0 <= one[0] < count:
            raise ProtocolError("a failed cell is its number, a type and a line")
    return list(failures)


def _spec(exercise: Exercise) -> tuple[Any, ...]:
    parameters = inspect.signature(exercise.reference).parameters.values()
    names = tuple(one.name for one in parameters)
    optional = tuple(one.name for one in parameters if one.default is not inspect.Parameter.empty)
    call = exercise.call.__name__ if exercise.call is not None else None
    return exercise.answer_name, names, optional, tuple(exercise.may_change), call, exercise.is_value
