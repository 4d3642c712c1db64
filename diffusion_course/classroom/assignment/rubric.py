"""A question that a person marks: what is asked, and what each part of a good answer is worth."""

from __future__ import annotations

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class ManualQuestion:
    """One question for words or for judging a picture; `rubric` holds (points, what earns them).

    The id is `NN.mK` for question K of lesson NN. Raises ValueError with the id where a part is
    missing or contradicts another.
    """

    id: str
    lesson: int
    title: str
    prompt: str
    rubric: tuple[tuple[float, str], ...]

    def __post_init__(self) -> None:
        if not re.fullmatch(rf"{self.lesson:02d}\.m[1-9]\d*", self.id):
            raise ValueError(
                f"question {self.id!r}: the id must be {self.lesson:02d}.mK for lesson"
                f" {self.lesson}"
            )
        if not self.title.strip() or not self.prompt.strip():
            raise ValueError(f"question {self.id!r}: title or prompt is empty")
        if not self.rubric or not all(points > 0 and text.strip() for points, text in self.rubric):
            raise ValueError(
                f"question {self.id!r}: every entry of the rubric needs points above 0 and a text"
            )

    @property
    def points(self) -> float:
        """The points of a full answer."""
        return sum(points for points, _ in self.rubric)
