"""Get a submission's outcomes on the hidden cases from untrusted workers, within limits of time,
memory and processes.

First all cells run, and every exercise is answered in a fork of that state. An exercise that is not
right then runs by itself: its own cell with those statements of other cells that it needs by name;
and where it says something else then, its own cell with all cells that answer nothing. So what one
answer does to the process, to its files or to the conversation costs another one nothing. The first
part may take two thirds of the time, and in the second each exercise has its share.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from torch.optim import Optimizer

from ...exercises.registry import Case, Exercise
from ..assignment.sources import (
    answer_cells,
    answer_sources,
    defined_names,
    defines,
    grade_id,
    left_blank,
    needed,
)
from ..records import Attempt, Cell, Submission
from ..sandbox.bubblewrap import (
    NOT_PROTECTED,
    SandboxMissing,
    course_copy,
    require_sandbox,
    sandbox_available,
)
from ..sandbox.conversation import AnswerDied, CellDied, as_died, call_cases, run_cells
from ..sandbox.limits import Limits
from ..sandbox.protocol import ProtocolError, encode_outcome
from ..sandbox.supervised import Died, Worker
from .marking import verdict

__all__ = ["Limits", "SandboxMissing", "run_attempts", "sandbox_available"]
RUNS_TOGETHER = 4
DETAILS = {
    "missing": "the notebook does not define it{detail}.",
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

    `course` is a folder made by `sandbox.course_copy`; without it one is made. Raises
    SandboxMissing where there is no bubblewrap and `unsafe` is False.
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
        self.deadline = time.monotonic() + self.limits.seconds
        self.bad_cells: set[int] = set()
        given = [
            value
            for _, cases in self.wanted
            for case in cases
            for value in (*case.args, *case.kwargs.values())
        ]
        # PyTorch's optimisers import this at their first use, which takes seconds.
        self.modules = (
            ("torch._dynamo",) if any(isinstance(value, Optimizer) for value in given) else ()
        )

    def close(self) -> None:
        """End the worker."""
        if self.worker is not None:
            self.worker.close()
            self.worker = None

    def _ready(self, deadline: float) -> tuple[Worker, float]:
        """A worker in which nothing of an earlier run is left, and the deadline without the time
        that its start took.
        """
        started = time.monotonic()
        if self.worker is not None and not self.worker.clean():
            self.close()
        if self.worker is None:
            self.worker = Worker(
                self.course, self.folder, self.limits, unsafe=self.unsafe, modules=self.modules
            )
        took = time.monotonic() - started  # importing torch is not the student's time
        self.deadline += took
        return self.worker, deadline + took

    def _failed(self, error: Died | ProtocolError, where: str) -> Died:
        died = as_died(error)
        self.notes.append(
            f"{where}: {WHAT_HAPPENED[died.reason]}" + (f" ({died.detail})" if died.detail else "")
        )
        return died

    def _name(self, index: int) -> str:
        return self.submission.cells[index].grade_id or f"code cell {index + 1}"

    def together(self) -> None:
        """Run all cells in one process; leave out a cell that ends the process, and begin again."""
        pending = list(range(len(self.wanted)))
        if not pending:
            return
        until = time.monotonic() + 2 / 3 * self.limits.seconds
        for _ in range(RUNS_TOGETHER):
            chosen = [
                (index, cell)
                for index, cell in enumerate(self.submission.cells)
                if index not in self.bad_cells
            ]
            try:
                worker, until = self._ready(until)
                failures = run_cells(
                    worker, chosen, [exercise for exercise, _ in self.wanted], until
                )
                while pending:
                    self.attempts[self._id(pending[0])] = self._answer(
                        worker, pending[0], failures, until
                    )
                    pending.pop(0)
                return
            except CellDied as error:
                self.bad_cells.add(error.index)
                died = self._failed(error.died, self._name(error.index))
                for place in [one for one in pending if error.index in self._mine(one)]:
                    self.attempts[self._id(place)] = Attempt(reason=died.reason, detail=died.detail)
                    pending.remove(place)
            except (Died, ProtocolError) as error:
                died = self._failed(error, self._id(pending[0]))
                self.attempts[self._id(pending.pop(0))] = Attempt(
                    reason=died.reason, detail=died.detail
                )
            if not pending or time.monotonic() > until:
                return

    def apart(self) -> None:
        """Run each exercise that is not settled by itself: those that ended a process last."""
        waiting = [place for place in range(len(self.wanted)) if not self._is_settled(place)]
        waiting.sort(
            key=lambda place: (
                getattr(self.attempts.get(self._id(place)), "reason", None) in WHAT_HAPPENED
            )
        )
        for count, place in enumerate(waiting):
            share = (self.deadline - time.monotonic()) / (len(waiting) - count)
            until = time.monotonic() + share / 2
            before = self.attempts.get(self._id(place))
            first, until = self._alone(place, self._slice(place), until)
            candidates = [first] if before is None else [before, first]
            if not self._is_right(place, first) and not _same(before, first):
                candidates.append(
                    self._alone(place, self._without_answers(place), until + share / 2)[0]
                )
            right = [one for one in candidates if self._is_right(place, one)]
            self.attempts[self._id(place)] = right[0] if right else min(candidates, key=_trouble)

    def _alone(
        self, place: int, cells: list[tuple[int, Cell]], until: float
    ) -> tuple[Attempt, float]:
        try:
            worker, until = self._ready(until)
            failures = run_cells(worker, cells, [exercise for exercise, _ in self.wanted], until)
            return self._answer(worker, place, failures, until), until
        except (CellDied, Died, ProtocolError) as error:
            died = self._failed(getattr(error, "died", error), f"{self._id(place)} by itself")
            return Attempt(reason=died.reason, detail=died.detail), until

    def _answer(
        self, worker: Worker, place: int, failures: dict[int, str], until: float
    ) -> Attempt:
        exercise, cases = self.wanted[place]
        try:
            state, outcomes = call_cases(worker, place, cases, until)
        except AnswerDied as error:
            died = self._failed(error, exercise.id)
            return Attempt(reason=died.reason, detail=died.detail)
        return Attempt(outcomes) if state == "found" else self._not_found(exercise, state, failures)

    def _slice(self, place: int) -> list[tuple[int, Cell]]:
        """The cells that answer an exercise, after what they need of the others."""
        cells, mine = self.submission.cells, self._mine(place)
        answers = {grade_id(exercise.id) for exercise, _ in self.wanted}
        others = [index for index in range(len(cells)) if index not in mine]
        groups: tuple[list[str], list[str]] = [], []
        for index in others:
            groups[cells[index].grade_id in answers].append(cells[index].source)
        before = Cell(needed([cells[index].source for index in mine], *groups))
        return [(mine[0] if mine else 0, before), *((index, cells[index]) for index in mine)]

    def _without_answers(self, place: int) -> list[tuple[int, Cell]]:
        """The cells that answer an exercise with all that answer none, but for those that ended a
        process.
        """
        mine, answers = self._mine(place), {grade_id(exercise.id) for exercise, _ in self.wanted}
        return [
            (index, cell)
            for index, cell in enumerate(self.submission.cells)
            if index in mine or (cell.grade_id not in answers and index not in self.bad_cells)
        ]

    def _mine(self, place: int) -> list[int]:
        return answer_cells(self.submission, self.wanted[place][0])

    def _id(self, place: int) -> str:
        return self.wanted[place][0].id

    def _is_right(self, place: int, attempt: Attempt) -> bool:
        return (
            attempt.reason is None
            and verdict(*self.wanted[place], attempt.outcomes).status == "right"
        )

    def _is_settled(self, place: int) -> bool:
        """Whether a run by itself can change nothing: right, left blank, or nowhere in the
        notebook.
        """
        exercise, cases = self.wanted[place]
        attempt, own = self.attempts.get(exercise.id), answer_sources(self.submission, exercise)
        if attempt is None or attempt.reason is not None:
            return attempt is not None and attempt.reason == "missing" and not own
        status = verdict(exercise, cases, attempt.outcomes).status
        return status == "right" or (status == "unanswered" and all(map(left_blank, own)))

    def _not_found(self, exercise: Exercise, state: str, failures: dict[int, str]) -> Attempt:
        reason, detail = state if state in ("missing", "course") else "protocol", ""
        if reason == "missing":
            for index, kind in failures.items():
                cell = self.submission.cells[index]
                if cell.grade_id == grade_id(exercise.id) or defines(
                    cell.source, exercise.answer_name
                ):
                    reason, detail = "raises", kind
        if reason == "missing":
            found = [
                name
                for source in answer_sources(self.submission, exercise)
                for name in defined_names(source)
            ]
            detail = f": its cell defines `{found[0][:80]}`" if found else ""
        return Attempt(reason=reason, detail=DETAILS[reason].format(detail=detail))


def _trouble(attempt: Attempt) -> int:
    """How little an attempt tells of an answer: all outcomes, some that raised, none."""
    return (
        2
        if attempt.reason is not None
        else int(any(outcome.failure is not None for outcome in attempt.outcomes))
    )


def _same(before: Attempt | None, now: Attempt) -> bool:
    """Whether an answer said the same by itself as with all other cells, so that these do not
    matter.
    """
    failures = [
        outcome.failure.type_name for outcome in now.outcomes if outcome.failure is not None
    ]
    if before is None or "NameError" in failures or now.reason in ("missing", "raises"):
        return False
    said = [[encode_outcome(outcome) for outcome in one.outcomes] for one in (before, now)]
    return before.reason == now.reason and said[0] == said[1]
