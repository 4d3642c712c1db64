"""Get a submission's outcomes on the hidden cases from untrusted workers, within limits of time, memory and processes.

First all cells run, and every exercise is answered in a fork of that state. An exercise that is not right then runs again by
itself: its own answer cell with the cells that answer nothing, then with only the imports and definitions of those. So what one
answer does to the process costs another one nothing.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ..exercises.registry import Case, Exercise
from .conversation import CellDied, call_cases, run_cells
from .limits import Limits
from .marking import verdict
from .protocol import ProtocolError
from .records import Attempt, Cell, Submission
from .sandbox import NOT_PROTECTED, course_copy, require_sandbox
from .sources import answer_sources, defines, definitions, grade_id
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
            if self.restarts >= MAX_RESTARTS:
                raise Died("crash", f"the worker had to be started again {MAX_RESTARTS} times")
            self.restarts += 1
            started = time.monotonic()
            self.worker = Worker(self.course, self.folder, self.limits, unsafe=self.unsafe)
            self.deadline += time.monotonic() - started  # importing torch is not the student's time
        return self.worker

    def _failed(self, error: Exception, where: str) -> Died:
        if self.worker is not None and not self.worker.reset():
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
            except CellDied as error:
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
        except CellDied as error:
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
        return run_cells(self._ready(), chosen, [exercise for exercise, _ in self.wanted], self.deadline)

    def _answer(self, exercise_id: str, failures: dict[int, str]) -> None:
        place = next(index for index, (exercise, _) in enumerate(self.wanted) if exercise.id == exercise_id)
        exercise, cases = self.wanted[place]
        state, outcomes = call_cases(self._ready(), place, cases, self.deadline)
        self._set(exercise_id, Attempt(outcomes) if state == "found" else self._not_found(exercise, state, failures))

    def _not_found(self, exercise: Exercise, state: str, failures: dict[int, str]) -> Attempt:
        reason = state if state in ("missing", "course") else "protocol"
        detail = ""
        if reason == "missing":
            for index, kind in failures.items():
                cell = self.submission.cells[index]
                if cell.grade_id == grade_id(exercise.id) or defines(cell.source, exercise.answer_name):
                    reason, detail = "raises", kind
        text = DETAILS[reason].format(detail=detail)
        return Attempt(reason=reason, detail=text)
