"""Which of a submission's cells run for one exercise, and why its answer was not found."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

from ...exercises.registry import Case, Exercise
from ..assignment.sources import (
    answer_cells,
    answer_sources,
    defined_names,
    defines,
    grade_id,
    needed,
)
from ..reasons import Reason
from ..records import Attempt, Cell, Submission
from .disclosed import exception_name

NumberedCells = list[tuple[int, Cell]]


@dataclasses.dataclass(frozen=True)
class Task:
    """What is asked of a submission: each exercise with its hidden cases."""

    submission: Submission
    wanted: Sequence[tuple[Exercise, Sequence[Case]]]

    @property
    def exercises(self) -> list[Exercise]:
        """The exercises, in order."""
        return [exercise for exercise, _ in self.wanted]

    @property
    def grade_ids(self) -> set[str]:
        """nbgrader's names of all cells that answer one of them."""
        return {grade_id(exercise.id) for exercise in self.exercises}

    def cell_name(self, index: int) -> str:
        """What a cell is called in the notes."""
        return self.submission.cells[index].grade_id or f"code cell {index + 1}"

    def own_cells(self, position: int) -> list[int]:
        """The numbers of the cells that answer the exercise at `position`."""
        return answer_cells(self.submission, self.exercises[position])

    def all_cells(self, without: Collection[int] = ()) -> NumberedCells:
        """Every cell but those `without`."""
        cells = enumerate(self.submission.cells)
        return [(index, cell) for index, cell in cells if index not in without]

    def cells_with_needed(self, position: int) -> NumberedCells:
        """The cells that answer an exercise, after what they need of the others."""
        cells, own = self.submission.cells, self.own_cells(position)
        others: list[str] = []
        answers: list[str] = []
        for _, cell in self.all_cells(without=own):
            (answers if cell.grade_id in self.grade_ids else others).append(cell.source)
        before = Cell(needed([cells[index].source for index in own], others, answers))
        return [(own[0] if own else 0, before), *((index, cells[index]) for index in own)]

    def cells_without_answers(self, position: int, bad: Collection[int]) -> NumberedCells:
        """The cells that answer an exercise, with all that answer none but the `bad` ones."""
        own = self.own_cells(position)
        others = {
            index for index, cell in self.all_cells(bad) if cell.grade_id not in self.grade_ids
        }
        return [(index, cell) for index, cell in self.all_cells() if index in {*own, *others}]

    def not_found(self, position: int, failures: Mapping[int, str]) -> Attempt:
        """Why an answer is not there: its cell raised, it has another name, or nothing is there."""
        exercise = self.exercises[position]
        raised = [
            kind
            for index, kind in failures.items()
            if self.submission.cells[index].grade_id == grade_id(exercise.id)
            or defines(self.submission.cells[index].source, exercise.answer_name)
        ]
        if raised:
            return Attempt(reason=Reason.CELL_RAISED, detail=exception_name(raised[-1]))
        sources = answer_sources(self.submission, exercise)
        if names := [name for source in sources for name in defined_names(source)]:
            return Attempt(reason=Reason.RENAMED, detail=names[0][:80])
        return Attempt(reason=Reason.MISSING)
