"""Get a submission's outcomes on the hidden cases from untrusted workers.

First all cells run together, and every exercise is answered in a fork of that state. An exercise
that is not right then runs by itself: its own cell with those statements of other cells that it
needs by name; and where it says something else then, its own cell with all cells that answer
nothing. So what one answer does to the process, to its files or to the conversation costs another
one nothing. The first part may take two thirds of the time, and in the second each exercise has its
part of the rest.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from torch.optim import Optimizer

from ...exercises.registry import Case, Exercise
from ..assignment.sources import answer_sources, left_blank
from ..reasons import ENDED, Reason, told
from ..records import Attempt, Submission
from ..sandbox.bubblewrap import SandboxMissing, course_copy, require_sandbox, sandbox_available
from ..sandbox.conversation import (
    AnswerEnded,
    CellEndedRun,
    have_answer_called,
    have_cells_executed,
)
from ..sandbox.handle import RunEnded, WorkerHandle
from ..sandbox.limits import Limits
from ..sandbox.other_user import OtherUser
from ..sandbox.outcomes import encode_outcome
from ..sandbox.reuse import ReusedWorker, Workers
from ..sandbox.unsafe import AS_OTHER_USER, NOT_PROTECTED
from .marking import verdict
from .selection import NumberedCells, Task

__all__ = ["Limits", "SandboxMissing", "run_attempts", "sandbox_available"]
RUNS_TOGETHER = 4
NOT_FOUND = {"course": Reason.COURSE, "value": Reason.NOT_A_FUNCTION}
NOT_DEFINED = {Reason.MISSING, Reason.RENAMED, Reason.CELL_RAISED}


def run_attempts(
    submission: Submission,
    wanted: Sequence[tuple[Exercise, Sequence[Case]]],
    limits: Limits | None = None,
    *,
    unsafe: bool = False,
    course: Path | None = None,
    workers: Workers | None = None,
    user: OtherUser | None = None,
    meter: list[float] | None = None,
) -> tuple[dict[str, Attempt], tuple[str, ...]]:
    """Return an Attempt for each exercise id, and notes for the instructor.

    `course` is a folder made by `bubblewrap.course_copy`; without it one is made. `workers` may
    have a sandbox that is ready, and keep it after, unless this submission's run was ended. `user`
    is whose processes an unsafe submission's are, if not this one's. `meter` is told the seconds
    that the submission used, as its clock counts them. Raises
    SandboxMissing where there is no bubblewrap and `unsafe` is False.
    """
    if not unsafe:
        require_sandbox()
    with ExitStack() as stack:
        course = course or stack.enter_context(course_copy())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="submission-")))
        workers = workers or stack.enter_context(Workers())
        options = {
            "unsafe": unsafe,
            "modules": _slow_imports(submission, wanted),
            "workers": workers,
        }
        options |= {"user": user} if user is not None else {}
        worker = ReusedWorker(course, folder, limits or Limits(), **options)
        stack.callback(worker.close)
        attempting = _Attempting(Task(submission, wanted), worker)
        attempting.together()
        attempting.apart()
        worker.close(keep=not attempting.notes)
        if meter is not None:
            meter.append(attempting.clock.now())
        how = NOT_PROTECTED if user is None else AS_OTHER_USER
        notes = [*attempting.notes, *[how] * unsafe]
        return attempting.attempts, tuple(dict.fromkeys(notes))


def _slow_imports(
    submission: Submission, wanted: Sequence[tuple[Exercise, Sequence[Case]]]
) -> tuple[str, ...]:
    """Modules that the worker should have before the student's time begins."""
    cases = [case for _, several in wanted for case in several]
    given = [value for case in cases for value in (*case.args, *case.kwargs.values())]
    # PyTorch's optimisers import this at their first use, which takes seconds.
    needed = ["torch._dynamo"] if any(isinstance(one, Optimizer) for one in given) else []
    needed += ["matplotlib.pyplot"] if any("plt" in one.source for one in submission.cells) else []
    return ("numpy.random", *needed)


class _Attempting:
    """One submission: what is known of each exercise so far, and the time that is left."""

    def __init__(self, task: Task, worker: ReusedWorker) -> None:
        self.task, self.worker = task, worker
        self.attempts: dict[str, Attempt] = {}
        self.notes: list[str] = []
        self.bad_cells: set[int] = set()
        self.clock = worker.clock  # stands still while no worker runs
        self.deadline = worker.limits.seconds
        self.ceiling = time.monotonic() + worker.limits.ceiling

    def together(self) -> None:
        """Run all cells in one process; leave out a cell that ends the process, and begin again."""
        pending = list(range(len(self.task.wanted)))
        until = 2 / 3 * self.deadline
        for _ in range(RUNS_TOGETHER):
            if not pending or self._is_late(until):
                return
            try:
                worker = self.worker.get(self.ceiling)
                cells = self.task.all_cells(without=self.bad_cells)
                failures = have_cells_executed(worker, cells, self.task.exercises, until)
                while pending:
                    answer = self._answer(worker, pending[0], failures, until)
                    self.attempts[self._id(pending.pop(0))] = answer
            except CellEndedRun as error:
                self.bad_cells.add(error.index)
                attempt = self._ended(error, self.task.cell_name(error.index))
                for position in list(pending):
                    if error.index in self.task.own_cells(position):
                        self.attempts[self._id(position)] = attempt
                        pending.remove(position)
            except RunEnded as error:
                name = self._id(pending.pop(0))
                self.attempts[name] = self._ended(error, name)

    def apart(self) -> None:
        """Run each exercise that is not settled by itself: those that ended a process last."""
        waiting = [one for one in range(len(self.task.wanted)) if not self._is_settled(one)]
        waiting.sort(key=self._ended_a_process)
        for count, position in enumerate(waiting):
            if self._is_late(self.deadline):
                self.attempts.setdefault(self._id(position), Attempt(reason=Reason.TIME))
                continue
            part = (self.deadline - self.clock.now()) / (len(waiting) - count)
            until = self.clock.now() + part / 2
            before = self.attempts.get(self._id(position))
            first = self._alone(position, self.task.cells_with_needed(position), until)
            candidates = [first] if before is None else [before, first]
            if not self._is_right(position, first) and not _says_the_same(before, first):
                cells = self.task.cells_without_answers(position, self.bad_cells)
                candidates.append(self._alone(position, cells, until + part / 2))
            right = [one for one in candidates if self._is_right(position, one)]
            best = right[0] if right else min(candidates, key=_trouble)
            self.attempts[self._id(position)] = best

    def _is_late(self, until: float) -> bool:
        """Whether the submission's own time is up, or that on the wall."""
        return self.clock.now() >= until or time.monotonic() >= self.ceiling

    def _alone(self, position: int, cells: NumberedCells, until: float) -> Attempt:
        try:
            worker = self.worker.get(self.ceiling)  # importing torch is not the student's time
            failures = have_cells_executed(worker, cells, self.task.exercises, until)
            return self._answer(worker, position, failures, until)
        except RunEnded as error:
            return self._ended(error, f"{self._id(position)} by itself")

    def _answer(
        self, worker: WorkerHandle, position: int, failures: dict[int, str], until: float
    ) -> Attempt:
        _, cases = self.task.wanted[position]
        try:
            state, outcomes, used = have_answer_called(worker, position, cases, until)
        except AnswerEnded as error:
            return self._ended(error, self._id(position))
        if state == "found":
            return Attempt(outcomes, used=used)
        if state in NOT_FOUND:
            return Attempt(reason=NOT_FOUND[state])
        return self.task.not_found(position, failures)

    def _ended(self, error: RunEnded, where: str) -> Attempt:
        """The attempt that ended so; the instructor is told where."""
        detail = f" ({error.detail})" if error.detail else ""
        self.notes.append(f"{where}: {told(error.reason).rstrip('.')}{detail}")
        return Attempt(reason=error.reason, detail=error.detail)

    def _id(self, position: int) -> str:
        return self.task.exercises[position].id

    def _ended_a_process(self, position: int) -> bool:
        attempt = self.attempts.get(self._id(position))
        return attempt is not None and attempt.reason in ENDED

    def _is_right(self, position: int, attempt: Attempt) -> bool:
        if attempt.reason is not None:
            return False
        return verdict(*self.task.wanted[position], attempt.outcomes).status == "right"

    def _is_settled(self, position: int) -> bool:
        """Whether a run by itself changes nothing: it is right, left blank, or nowhere there."""
        exercise, cases = self.task.wanted[position]
        attempt = self.attempts.get(exercise.id)
        own = answer_sources(self.task.submission, exercise)
        if attempt is None or attempt.reason is not None:
            return attempt is not None and attempt.reason is Reason.MISSING and not own
        status = verdict(exercise, cases, attempt.outcomes).status
        return status == "right" or (status == "unanswered" and all(map(left_blank, own)))


def _trouble(attempt: Attempt) -> int:
    """How little an attempt tells of an answer: all outcomes, some that raised, none."""
    if attempt.reason is not None:
        return 2
    return int(any(outcome.failure is not None for outcome in attempt.outcomes))


def _says_the_same(before: Attempt | None, now: Attempt) -> bool:
    """Whether an answer said the same with all other cells, so that these do not matter."""
    failures = [one.failure.type_name for one in now.outcomes if one.failure is not None]
    if before is None or "NameError" in failures or now.reason in NOT_DEFINED:
        return False
    said = [[encode_outcome(outcome) for outcome in one.outcomes] for one in (before, now)]
    return before.reason == now.reason and said[0] == said[1]
