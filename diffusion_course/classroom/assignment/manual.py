"""The manual questions of all lessons: for words and for judging pictures, each with a rubric."""

from __future__ import annotations

from . import manual_00_04, manual_05_08, manual_09_12
from .rubric import ManualQuestion

__all__ = ["ManualQuestion", "all_questions", "get_question"]

_PARTS = (manual_00_04, manual_05_08, manual_09_12)
_QUESTIONS = {question.id: question for part in _PARTS for question in part.QUESTIONS}


def all_questions(lesson: int | None = None) -> tuple[ManualQuestion, ...]:
    """Return the manual questions of every lesson, or of one, in order."""
    return tuple(question for question in _QUESTIONS.values() if lesson in (None, question.lesson))


def get_question(question_id: str) -> ManualQuestion:
    """Return one question; raises LookupError that lists all ids where there is none."""
    if question_id not in _QUESTIONS:
        raise LookupError(
            f"there is no manual question {question_id!r}. There are: {', '.join(_QUESTIONS)}."
        )
    return _QUESTIONS[question_id]
