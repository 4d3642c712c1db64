"""Turn outcomes into points and into feedback that names mistakes and shows no hidden case."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from ...exercises.engine import Result, judge, make_cases
from ...exercises.registry import Case, Exercise
from ...exercises.trial import Outcome
from ..assignment.assignment import Assignment
from ..assignment.manual import get_question
from ..records import Attempt, Graded, Mark, Submission

# What failed, in words that hold nothing of a hidden case: no values, no shapes, no notes.
FAILED = {
    "type": "it returns another kind of thing than was asked for.",
    "structure": "it returns another number of parts, or other keys, than were asked for.",
    "shape": "the shape of what it returns is not the one that was asked for.",
    "dtype": "the dtype of what it returns is not the one that was asked for.",
    "device": "what it returns is not on the device that was asked for.",
    "finite": "it returns NaN or infinity where a number is asked for.",
    "value": "the values it returns are not right.",
    "inputs": "it changes its input in place.",
    "random": "its randomness is not right: use the generator that is given, and only that.",
}
REASONS = {
    "time": "it took too long.",
    "memory": "it needed more memory than it may have.",
    "processes": "it started too many processes.",
    "crash": "it ended the process it ran in.",
    "protocol": (
        "what it returns is no tensor, number, string or collection of them, or is too large."
    ),
}
# Running a reference sets and restores the global random state, which all threads share.
ONE_AT_A_TIME = threading.Lock()


def hidden_cases(assignment: Assignment, student_id: str) -> list[tuple[Exercise, list[Case]]]:
    """Return each exercise with the student's parameters and the hidden cases drawn for them.

    Raises LookupError for a student who is not on a roster.
    """
    with ONE_AT_A_TIME:
        bound = [assignment.exercise(one, student_id) for one in assignment.exercises]
        return [(one, make_cases(one, assignment.case_seed(one.id, student_id))) for one in bound]


def verdict(exercise: Exercise, cases: Sequence[Case], outcomes: Sequence[Outcome]) -> Result:
    """Return `engine.judge`'s verdict; safe to call from several threads."""
    with ONE_AT_A_TIME:
        return judge(exercise, cases, outcomes)


def mark(
    assignment: Assignment,
    submission: Submission,
    wanted: Sequence[tuple[Exercise, Sequence[Case]]],
    attempts: Mapping[str, Attempt],
    notes: Sequence[str] = (),
) -> Graded:
    """Return the marks of a submission; `wanted` is what `hidden_cases` gave, `attempts` what the
    worker made of it.
    """
    marks, own_notes = [], list(notes)
    for exercise, cases in wanted:
        if submission.problem is not None:
            attempt = Attempt(reason="unread", detail=submission.problem)
        else:
            attempt = attempts.get(exercise.id, Attempt(reason="time"))
        marks.append(_one(exercise, cases, attempt))
        if exercise.is_value and marks[-1].status == "wrong" and attempt.outcomes:
            own_notes += _number_of_another(
                assignment, submission.student, exercise, attempt.outcomes[0].output
            )
    for one in assignment.manual:
        question = get_question(one)
        marks.append(
            Mark(one, question.title, "manual", 0, question.points, "Marked by your instructor.")
        )
    return Graded(
        submission.student, submission.sha256, tuple(marks), (*submission.notes, *own_notes)
    )


def _one(exercise: Exercise, cases: Sequence[Case], attempt: Attempt) -> Mark:
    def made(
        status: str,
        feedback: str,
        points: float = 0,
        mistake: str | None = None,
        check: str | None = None,
    ) -> Mark:
        return Mark(
            exercise.id, exercise.title, status, points, exercise.points, feedback, mistake, check
        )

    if attempt.reason is not None:
        feedback = REASONS.get(attempt.reason, attempt.detail) or attempt.detail
        blank = attempt.reason == "missing"
        return made(
            "unanswered" if blank else "wrong",
            f"`{exercise.answer_name}`: {feedback}",
            check=attempt.reason,
        )
    result = verdict(exercise, cases, attempt.outcomes)
    if result.status == "right":
        return made("right", "Right.", exercise.points)
    if result.status == "unanswered":
        return made("unanswered", "Not answered.")
    known = {demand.name: demand.message for demand in exercise.properties} | FAILED
    if result.check == "raises":
        failure = next(
            outcome.failure for outcome in attempt.outcomes if outcome.failure is not None
        )
        line = f" in its line {failure.line}" if failure.line else ""
        failed = f"it raises {failure.type_name}{line} on an input that it must take."
    else:
        failed = known.get(result.check or "", "it is not right.")
    feedback = f"`{exercise.answer_name}`: {failed}"
    if result.mistake is not None:
        wrong = next(one for one in exercise.wrong_answers if one.name == result.mistake)
        feedback += f" Known mistake: {wrong.name}. {wrong.explanation}"
    return made("wrong", feedback, mistake=result.mistake, check=result.check)


def _number_of_another(
    assignment: Assignment, student_id: str, exercise: Exercise, output: object
) -> list[str]:
    """Say whose number this is, where it is right for another student of the roster."""
    if type(output) not in (int, float):
        return []
    for other in assignment.roster:
        theirs = assignment.exercise(exercise.id, other.id)
        if other.id != student_id and theirs.chosen != exercise.chosen:
            if verdict(theirs, [Case(kwargs=theirs.chosen)], [Outcome(output)]).status == "right":
                return [f"{exercise.id}: the number is wrong here and right for {other.id}"]
    return []
