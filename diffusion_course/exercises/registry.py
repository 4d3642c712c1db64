"""Where the exercises are found.

How to add an exercise
1. Open `lessons/lessonNN.py`. Write a function `_cases(generator)` that yields
   `Case(args, kwargs, note)`: several shapes, float32 and float64, the first and the last index, a
   length of 1. Draw every number from `generator`.
2. Write the exercise as one `Exercise(...)` and add it to the module's `EXERCISES`. Its `reference`
   is the package's own function where one exists. The stub defines one name and holds a `...` where
   the learner writes.
3. What `solution()` shows must run with torch alone, in lines of at most 88 columns. It is the
   reference's source; where that does not do, write a `solution`.
4. Add at least three `WrongAnswer(name, answer, explanation)`: the mistakes people make. Write the
   answer as an edit of the shown solution, `edit("(1 - beta).sqrt()", "(1 - beta)")`, so that the
   mistake can be seen at a glance; `.then(old, new)` adds a second replacement, and `times=2` says
   that a text is replaced in two places. A replacement whose text is not there exactly that often
   is an error that names the exercise and the mistake. Only where a mistake is another formula
   altogether write a function of its own, with the signature of the reference. The explanation says
   why it is wrong and does not give the answer away.
5. A "find the number" exercise has `cases=None` and a reference that returns the number. Its
   arguments come from `parameters`: name -> choices, the lesson uses the first. Write `<<name>>`
   where statement or stub shows the value. A number counts when it is right in each digit that it
   is written with, 3 significant digits at least; where that does not tell it from a wrong one, ask
   for "4 significant digits" in the statement and set `digits=4`. A class gets them spread over its
   students: offer at least twelve combinations whose answers all differ.
6. Add two other correct solutions to `tests/exercise_variants.py` (or a file of the lesson,
   `..._NN.py`) and run `pytest tests/test_exercises.py`. It says which wrong answers the cases
   cannot tell from the reference or from each other.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
import re

from .definition import Case, Exercise, Property, Tolerance, WrongAnswer

__all__ = [
    "Case",
    "Exercise",
    "Property",
    "Tolerance",
    "WrongAnswer",
    "all_exercises",
    "canonical",
    "get_exercise",
]


@functools.cache
def _load() -> dict[str, Exercise]:
    found: dict[str, Exercise] = {}
    package = __name__.rpartition(".")[0] + ".lessons"
    modules = pkgutil.iter_modules(importlib.import_module(package).__path__)
    for module in sorted(modules, key=lambda info: info.name):
        number = re.fullmatch(r"lesson(\d\d)", module.name)
        if number is None:
            continue
        for exercise in importlib.import_module(f"{package}.{module.name}").EXERCISES:
            if exercise.lesson != int(number[1]):
                raise ValueError(
                    f"exercise {exercise.id} of lesson {exercise.lesson} is in {module.name}.py"
                )
            if exercise.id in found:
                raise ValueError(f"two exercises have the id {exercise.id}")
            found[exercise.id] = exercise
    return found


def all_exercises(lesson: int | None = None) -> tuple[Exercise, ...]:
    """Return the exercises of every lesson, or of one, in order."""
    return tuple(exercise for exercise in _load().values() if lesson in (None, exercise.lesson))


def canonical(exercise_id: object) -> str:
    """Return an id as it is written here: "4.2", 4.2, "ex 4-2." and "Exercise 04.2" mean "04.2".

    So do a heading, "4.2: The title", the title alone, and the function that is asked for, or its
    name. What names no exercise stays as it is, as a text.
    """
    if isinstance(exercise_id, (int, float)) and not isinstance(exercise_id, bool):
        exercise_id = repr(exercise_id)
    if callable(exercise_id):
        exercise_id = getattr(exercise_id, "__name__", "")
    text = exercise_id.strip() if isinstance(exercise_id, str) else ""
    found = _NUMBER.fullmatch(text)
    if found:
        return f"{int(found[1]):02d}.{int(found[2])}"
    return _by_name().get(_letters(text), text)


_NUMBER = re.compile(
    r"(?:\W*)(?:ex(?:ercise)?\b\.?|exercise)?\s*0*(\d{1,2})\s*[.,\-_]\s*0*(\d{1,2})\b"
    r"(?:\s*[.):*]*|\s*[:)*,\-\u2013\u2014]\s*\D.*|\.?\s+[^\W\d].*)",
    re.IGNORECASE | re.DOTALL,
)


def _letters(text: str) -> str:
    """Return a text with nothing but its letters and digits, to compare names by."""
    return re.sub(r"[\W_]+", "", text).lower()


@functools.cache
def _by_name() -> dict[str, str]:
    """Return the ids by title and by the answer's name, where these belong to one exercise only."""
    found: dict[str, set[str]] = {}
    for one in _load().values():
        for name in (one.title, one.answer_name):
            found.setdefault(_letters(name), set()).add(one.id)
    return {name: next(iter(ids)) for name, ids in found.items() if len(ids) == 1}


def get_exercise(exercise_id: object) -> Exercise:
    """Return one exercise; raises LookupError that lists near ids where there is none."""
    exercises, name = _load(), canonical(exercise_id)
    if name in exercises:
        return exercises[name]
    number = re.fullmatch(r"(?:lesson\s*)?0*(\d{1,2})(?:\.0*)?", name, re.IGNORECASE)
    own = [one.id for one in all_exercises(int(number[1]))] if number else []
    if own:
        raise LookupError(
            f"{exercise_id!r} is a lesson. Name one of its exercises: {', '.join(own)}."
        )
    plain = isinstance(exercise_id, (str, int, float)) or exercise_id is None
    shown = f"{exercise_id!r:.60}" if plain else f"of the type {type(exercise_id).__name__}"
    raise LookupError(f"there is no exercise {shown}. {_near(name)}")


def _near(name: str) -> str:
    """Say which exercises there are, near to a name."""
    exercises = _load()
    lesson = re.match(r"(\d\d)\.\d", name)
    own = [one.id for one in all_exercises(int(lesson[1]))] if lesson else []
    if own:
        near = difflib.get_close_matches(name, own, n=3, cutoff=0)
        return f"Near it: {', '.join(near)}. Lesson {lesson[1]} has {own[0]} to {own[-1]}."
    names = {_letters(one.title): one.id for one in exercises.values()}
    names |= {_letters(one.answer_name): one.id for one in exercises.values()}
    names |= {_letters(one): one for one in exercises}
    close = difflib.get_close_matches(_letters(name), names, n=6, cutoff=0.6)
    if close and not re.match(r"[\d.]*$", name):
        ids = list(dict.fromkeys(names[one] for one in close))[:3]
        return f"Near it: {', '.join(f'{one} ({exercises[one].title})' for one in ids)}."
    first, last = list(exercises)[0], list(exercises)[-1]
    return f"They are called {first!r} to {last!r}; progress() lists them all."
