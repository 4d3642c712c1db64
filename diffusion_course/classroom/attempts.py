"""Get a submission's outcomes on the hidden cases from untrusted workers, within limits of time, memory and processes.

First all cells run, and every exercise is answered in a fork of that state. An exercise that is not right then runs again by
itself: its own answer cell with the cells that answer nothing, then with only the imports and definitions of those. So what one
answer does to the process costs another one nothing.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..exercises.registry import Case, Exercise
from ..exercises.trial import Outcome
from .decoding import decode_outcome
from .limits import Limits
from .marking import verdict
from .protocol import ProtocolError, encode
from .records import Attempt, Cell, Submission
from .sandbox import NOT_PROTECTED, course_copy, require_sandbox
from .supervised import Died, Worker

__all__ = ["Limits", "run_attempts"]
MAX_RESTARTS = 8
DETAILS = {
    "missing": "the notebook does not define it.",
    "course": "it is the course's own function: write yours.",
    "raises": "the cell that should define it raised {detail}.",
    "protocol": "it is neither a function nor a class.",
}


WHAT_HAPPENED = {
    "time": "it took too long and was ended",
    "memory": "it took too much memory and was ended",
    "processes": "it started too many processes and was ended",
    "crash": "it ended the process it ran in",
    "protocol": "it sent something that is no answer",
}


def grade_id(exercise_id: str) -> str:
    """nbgrader's name of the answer cell of an exercise."""
    return f"answer-{exercise_id.replace('.', '-')}"


def run_attempts(
    submission: Submission,
    wanted: Sequence[tuple[Exercise, Sequence[Case]]],
    limits: Limits | None = None,
    *,
    unsafe: bool = False,
    course: Path | None = None,
) -> tuple[dict[str, Attempt], tuple[str, ...]]:
    """Return an Attempt for each exercise id, and notes for the instructor.

    `course` is a folder made by `sandbox.course_copy`; without it one is made. Raises SandboxMissing where there is no
    bubblewrap and `unsafe` is False.
    """
    if not unsafe:
        require_sandbox()
    with ExitStack() as stack:
        course = course or stack.enter_context(course_copy())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="submission-")))
        run = _Run(submission, wanted, limits or Limits(), unsafe, course, folder)
        try:
            run.together()
            run.apart()
        finally:
            run.close()
        if unsafe:
            run.notes.append(NOT_PROTECTED)
        return run.attempts, tuple(dict.fromkeys(run.notes))


@dataclasses.dataclass
class _Run:
    """The state of one submission's grading."""

    submission: Submission
    wanted: Sequence[tuple[Exercise, Sequence[Case]]]
    limits: Limits
    unsafe: bool
    course: Path
    folder: Path

    def __post_init__(self) -> None:
        self.attempts: dict[str, Attempt] = {}
        self.notes: list[str] = []
        self.worker: Worker | None = None
        self.restarts = -1
        self.deadline = time.monotonic() + self.limits.seconds
        self.bad_cells: set[int] = set()

    def close(self) -> None:
        """End the worker."""
        if self.worker is not None:
            self.worker.close()
            self.worker = None

    def _ready(self) -> Worker:
        if self.worker is None:
            self.restarts += 1
            if self.restarts > MAX_RESTARTS:
                raise Died("crash", f"the worker had to be started again {MAX_RESTARTS} times")
            started = time.monotonic()
            self.worker = Worker(self.course, self.folder, self.limits, unsafe=self.unsafe)
            self.deadline += time.monotonic() - started  # importing torch is not the student's time
        return self.worker

    def _failed(self, error: Exception, where: str) -> Died:
        self.close()
        died = error if isinstance(error, Died) else Died("protocol", str(error))
        self.notes.append(f"{where}: {WHAT_HAPPENED[died.reason]}" + (f" ({died.detail})" if died.detail else ""))
        return died

    def _name(self, index: int) -> str:
        cell = self.submission.cells[index]
        return cell.grade_id or f"code cell {index + 1}"

    def together(self) -> None:
        """Run all cells in one process; leave out a cell that ends the process, and begin again."""
        pending = [exercise.id for exercise, _ in self.wanted]
        while pending and time.monotonic() < self.deadline:
            chosen = [(index, cell) for index, cell in enumerate(self.submission.cells) if index not in self.bad_cells]
            try:
                self._ready()
                failures = self._cells(chosen)
                while pending:
                    self._answer(pending[0], failures)
                    pending.pop(0)
                self._ready().finish("end")
            except _CellDied as error:
                self.bad_cells.add(error.index)
                died = self._failed(error.died, self._name(error.index))
                self._blame(self.submission.cells[error.index], died)
            except (Died, ProtocolError) as error:
                died = self._failed(error, pending[0] if pending else "after the answers")
                if pending:
                    self._set(pending.pop(0), Attempt(reason=died.reason, detail=died.detail))
                if self.restarts >= MAX_RESTARTS:
                    break

    def apart(self) -> None:
        """Run each exercise that is not right by itself."""
        answers = {grade_id(exercise.id) for exercise, _ in self.wanted}
        for exercise, cases in self.wanted:
            own = grade_id(exercise.id)
            for only_definitions in (False, True):
                if self._is_settled(exercise, cases) or time.monotonic() > self.deadline or self.restarts >= MAX_RESTARTS:
                    break
                if only_definitions and any(self.submission.cells[bad].grade_id == own for bad in self.bad_cells):
                    break  # its own cell has ended the process twice
                chosen = []
                for index, cell in enumerate(self.submission.cells):
                    mine = cell.grade_id == own or (cell.grade_id is None and defines(cell.source, exercise.answer_name))
                    if index in self.bad_cells and not mine:
                        continue
                    if mine:
                        chosen.append((index, cell))
                    elif cell.grade_id not in answers:
                        source = definitions(cell.source) if only_definitions else cell.source
                        chosen.append((index, dataclasses.replace(cell, source=source)))
                self._alone(exercise, cases, chosen)

    def _alone(self, exercise: Exercise, cases: Sequence[Case], chosen: list[tuple[int, Cell]]) -> None:
        before = self.attempts.get(exercise.id)
        try:
            self._ready()
            failures = self._cells(chosen)
            self._answer(exercise.id, failures)
            self._ready().finish("end")
        except _CellDied as error:
            self._failed(error.died, self._name(error.index))
            return
        except (Died, ProtocolError) as error:
            died = self._failed(error, exercise.id)
            self._set(exercise.id, Attempt(reason=died.reason, detail=died.detail))
        if before is not None and self._status(exercise, cases) != "right":
            self.attempts[exercise.id] = before

    def _status(self, exercise: Exercise, cases: Sequence[Case]) -> str:
        attempt = self.attempts.get(exercise.id)
        if attempt is None or attempt.reason is not None:
            return attempt.reason if attempt is not None and attempt.reason else "none"
        return verdict(exercise, cases, attempt.outcomes).status

    def _is_settled(self, exercise: Exercise, cases: Sequence[Case]) -> bool:
        """Whether a run by itself can change nothing: right, left blank, or nowhere in the notebook."""
        status = self._status(exercise, cases)
        return status in ("right", "unanswered") or (status == "missing" and not answer_sources(self.submission, exercise))

    def _set(self, exercise_id: str, attempt: Attempt) -> None:
        before = self.attempts.get(exercise_id)
        if before is not None and before.reason is not None and attempt.reason == "missing":
            return  # its cell was left out because it ended the process; the reason for that stands
        self.attempts[exercise_id] = attempt

    def _blame(self, cell: Cell, died: Died) -> None:
        for exercise, _ in self.wanted:
            if cell.grade_id == grade_id(exercise.id):
                self._set(exercise.id, Attempt(reason=died.reason, detail=died.detail))

    def _cells(self, chosen: list[tuple[int, Cell]]) -> dict[int, str]:
        """Send the cells; returns what those raised that did."""
        worker = self._ready()
        specs = tuple(_spec(exercise) for exercise, _ in self.wanted)
        worker.send(encode(("run", tuple(cell.source for _, cell in chosen), specs)), self.deadline)
        running = None
        try:
            while True:
                limit = min(self.deadline, time.monotonic() + self.limits.seconds_per_cell)
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
            raise _CellDied(running, died) from None

    def _answer(self, exercise_id: str, failures: dict[int, str]) -> None:
        place = next(index for index, (exercise, _) in enumerate(self.wanted) if exercise.id == exercise_id)
        exercise, cases = self.wanted[place]
        worker = self._ready()
        worker.send(encode(("answer", place)), self.deadline)
        found = worker.message(min(self.deadline, time.monotonic() + self.limits.seconds_per_call))
        if found[:1] != ("found",):
            worker.ended(self.deadline)
            self._set(exercise_id, self._not_found(exercise, found, failures))
            return
        outcomes = [self._call(worker, case) for case in cases]
        worker.finish("done")
        self._set(exercise_id, Attempt(tuple(outcomes)))

    def _call(self, worker: Worker, case: Case) -> Outcome:
        worker.send(encode(("case", tuple(case.args), dict(case.kwargs))), self.deadline)
        message = worker.message(min(self.deadline, time.monotonic() + self.limits.seconds_per_call))
        if message[:1] == ("unsendable",):
            raise Died("protocol", "the answer is no plain data or too large")
        if message[:1] == ("escaped",):
            raise Died("crash", f"the answer raised {message[-1]}")
        return decode_outcome(message)

    def _not_found(self, exercise: Exercise, found: tuple[Any, ...], failures: dict[int, str]) -> Attempt:
        reason = found[0] if found[:1] in (("missing",), ("course",)) else "protocol"
        detail = ""
        if reason == "missing":
            for index, kind in failures.items():
                cell = self.submission.cells[index]
                if cell.grade_id == grade_id(exercise.id) or defines(cell.source, exercise.answer_name):
                    reason, detail = "raises", kind
        text = DETAILS[reason].format(detail=detail)
        return Attempt(reason=reason, detail=text)


class _CellDied(Exception):
    """A cell took the worker with it."""

    def __init__(self, index: int, died: Died) -> None:
        super().__init__(str(died))
        self.index, self.died = index, died


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


def parsed(source: str) -> ast.Module:
    """The syntax tree of a cell; an empty one where it has none."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module([], [])


def defines(source: str, name: str) -> bool:
    """Whether a cell defines `name` at its top level."""
    for node in parsed(source).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name == name:
            return True
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return True
    return False


def answer_sources(submission: Submission, exercise: Exercise) -> list[str]:
    """The cells that answer an exercise: by nbgrader's name of the cell, or by what they define."""
    own = grade_id(exercise.id)
    return [
        cell.source for cell in submission.cells
        if cell.grade_id == own or (cell.grade_id is None and defines(cell.source, exercise.answer_name))
    ]  # fmt: skip


def definitions(source: str) -> str:
    """The imports, functions and classes of a cell."""
    kept = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    return "\n\n".join(ast.unparse(node) for node in parsed(source).body if isinstance(node, kept))
