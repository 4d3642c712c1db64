"""Answers to the exercises, written from the statements alone by people who had not seen the known mistakes.

`NN.txt` holds those to lesson NN. Each is a cell, under a line that starts with `### ` and has the fields
id | right, wrong or unanswered | kind | what was done | names of known mistakes that are true of it, with `;` between; `-` for none
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import warnings
from pathlib import Path

import torch._dynamo  # noqa: F401  torch.func wants it, and the first import takes seconds

from diffusion_course.exercises.engine import Result, evaluate
from diffusion_course.exercises.registry import get_exercise
from diffusion_course.exercises.surroundings import kept

FOLDER = Path(__file__).parent
SECONDS = 3.0  # for an answer that never ends; the others take hundredths


@dataclasses.dataclass(frozen=True)
class Answer:
    """One cell that a student has run before the check."""

    exercise_id: str
    status: str
    kind: str
    what: str
    names: tuple[str, ...]
    code: str
    line: int

    @property
    def place(self) -> str:
        """Where it is written."""
        return f"{self.exercise_id.split('.')[0]}.txt:{self.line}"

    def judged(self, seed: int = 0) -> Result:
        """Run the cell and return what `check` says of the answer that it defines."""
        exercise, cell = get_exercise(self.exercise_id), {"__name__": "__main__"}
        with kept(), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(self.code, f"<{self.place}>", "exec"), cell)
            return evaluate(exercise, cell[exercise.answer_name], seed=seed, time_limit=SECONDS)


def read(path: Path) -> list[Answer]:
    """Return the answers of a file; raises ValueError for a heading that is none."""
    answers: list[Answer] = []
    starts, lines = [], path.read_text(encoding="utf-8").splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("### ")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        exercise_id, status, kind, what, *rest = (part.strip() for part in lines[start][4:].split(" | "))
        if status not in ("right", "wrong", "unanswered") or len(rest) > 1:
            raise ValueError(f"{path.name}:{start + 1}: {lines[start]!r} is no heading of an answer")
        names = tuple(name.strip() for name in rest[0].split(";")) if rest and rest[0] != "-" else ()
        code = "\n".join(lines[start + 1 : end]).strip() + "\n"
        answers.append(Answer(exercise_id, status, kind, what, names, code, start + 1))
    return answers


def all_answers() -> list[Answer]:
    """Return the answers to all lessons, in order."""
    return [answer for path in sorted(FOLDER.glob("*.txt")) for answer in read(path)]
