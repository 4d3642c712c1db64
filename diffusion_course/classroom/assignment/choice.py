"""Which exercises and questions are asked: whole lessons, single ones, or both."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence

from ...exercises.registry import all_exercises
from .manual import all_questions

LONGEST_NAME = 64


def parse_lessons(lessons: str | int | Iterable[str | int]) -> tuple[int, ...]:
    """Return lesson numbers in order, from 2, "02", "02,04" or several of these.

    Raises ValueError for what is no number of a lesson that has exercises or questions.
    """
    words = _words(lessons)
    there = sorted({part.lesson for part in (*all_exercises(), *all_questions())})
    listed = f"There are {', '.join(f'{one:02d}' for one in there)}."
    numbers = [int(word) if word.isascii() and word.isdigit() else -1 for word in words]
    if bad := [word for word, one in zip(words, numbers, strict=True) if one not in there]:
        raise ValueError(f"no such lesson: {', '.join(bad)}. {listed}")
    if not words:
        raise ValueError(f"no lesson is given. {listed}")
    return tuple(sorted(set(numbers)))


def parse_exercises(ids: str | Iterable[str]) -> tuple[str, ...]:
    """Return ids of exercises and manual questions, from "01.1,02.m1" or several of these.

    They come in the order of the course. Raises ValueError, with names near it, for one that the
    course does not have or that is given twice, and where none is given.
    """
    words = _words(ids)
    there = [one.id for one in (*all_exercises(), *all_questions())]
    for word in words:
        if word not in there:
            near = difflib.get_close_matches(word, there, n=3)
            hint = f" Near it: {', '.join(near)}." if near else ""
            raise ValueError(
                f"no such exercise or question: {word!r}.{hint} Write lesson and number, such as"
                " 01.1, or 01.m1 for a question in words."
            )
    if twice := sorted({word for word in words if words.count(word) > 1}):
        raise ValueError(f"given twice among the exercises: {', '.join(twice)}.")
    if not words:
        raise ValueError("no exercise is given. Write such as 01.1,02.5.")
    return tuple(one for one in there if one in words)


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is asked: whole lessons, single exercises and questions, or both, and for how much.

    `points` are those of each exercise, the course's where it is left out; with `partial` they are
    shared over what an answer can have right on its own. With `manual` the questions of whole
    lessons are asked too; single ones are where they are named.
    """

    lessons: str | int | Iterable[str | int] | None = None
    exercises: str | Iterable[str] | None = None
    points: Mapping[str, float] = dataclasses.field(default_factory=dict)
    partial: bool = False
    manual: bool = True

    def ids(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the ids of the exercises and of the questions, in order.

        Raises ValueError where neither lessons nor exercises are given, for questions that are
        named without `manual`, and as `parse_lessons` and `parse_exercises` do.
        """
        if self.lessons is None and self.exercises is None:
            raise ValueError("nothing to ask is given: name lessons, exercises, or both.")
        numbers, single = self._numbers(), self._single()
        code = [one.id for one in all_exercises() if one.lesson in numbers or one.id in single]
        words = [
            one.id
            for one in all_questions()
            if (self.manual and one.lesson in numbers) or one.id in single
        ]
        if words and not self.manual:
            raise ValueError(f"{', '.join(words)} is asked for, and questions in words are not.")
        return tuple(code), tuple(words)

    def parts(self) -> list[tuple[str, Sequence[str]]]:
        """Return what `usual_name` and `usual_title` name; it raises what `ids` does."""
        lessons = [f"{one:02d}" for one in self._numbers()]
        found = [("lesson", lessons), ("exercise", self._single())]
        return [(kind, ids) for kind, ids in found if ids]

    def _numbers(self) -> tuple[int, ...]:
        return () if self.lessons is None else parse_lessons(self.lessons)

    def _single(self) -> tuple[str, ...]:
        return () if self.exercises is None else parse_exercises(self.exercises)


def usual_name(parts: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Return what an assignment of these parts is called in files: "lessons-02-04".

    Raises ValueError where so many exercises are chosen that their ids make no name.
    """
    words = [word for kind, ids in parts for word in (_plural(kind, len(ids)), *ids)]
    name = "-".join(words).replace(".", "-")
    if len(name) > LONGEST_NAME:
        raise ValueError("with so many exercises the assignment needs a name: give it with --name.")
    return name


def usual_title(parts: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Return how an assignment of these parts is headed: "Lessons 02, 04"."""
    title = " and ".join(f"{_plural(kind, len(ids))} {', '.join(ids)}" for kind, ids in parts)
    return title[0].upper() + title[1:]


def _words(given: str | int | Iterable[str | int]) -> list[str]:
    several = [given] if isinstance(given, (str, int)) else list(given)
    return [word.strip() for one in several for word in str(one).split(",") if word.strip()]


def _plural(word: str, number: int) -> str:
    return word if number == 1 else f"{word}s"
