"""The manual questions of all lessons, from `questions/`: for words and for judging pictures."""

from __future__ import annotations

from pathlib import Path

from .rubric import ManualQuestion, parse_questions

__all__ = ["ManualQuestion", "all_questions", "get_question"]

FOLDER = Path(__file__).parent / "questions"
_QUESTIONS = {
    question.id: question
    for path in sorted(FOLDER.glob("lesson*.md"))
    for question in parse_questions(path.read_text(encoding="utf-8"))
}


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
