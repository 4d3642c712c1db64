"""Turn outcomes into points and into feedback that names mistakes and shows no hidden case."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from ...exercises.engine import Result, judge, make_cases
from ...exercises.registry import Case, Exercise
from ...exercises.trial import Outcome
from ..assignment.assignment import Assignment
from ..assignment.manual import get_question
from ..reasons import UNANSWERED, Reason, told
from ..records import Attempt, Graded, Mark, Submission
from ..sandbox.outcomes import is_out_of_memory
from .disclosed import told_of_failure
from .partial import satisfied, shared_points, told_shares

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
    """Return the marks of a submission.

    `wanted` is what `hidden_cases` gave, `attempts` what the worker made of it.
    """
    marks, own_notes = [], list(notes)
    for exercise, cases in wanted:
        if submission.problem is not None:
            attempt = Attempt(reason=Reason.UNREADABLE, detail=submission.problem)
        else:
            attempt = attempts.get(exercise.id, Attempt(reason=Reason.TIME))
        shares = assignment.partial.get(exercise.id, {})
        marks.append(_mark_one(submission, exercise, cases, attempt, shares))
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


def _mark_one(
    submission: Submission,
    exercise: Exercise,
    cases: Sequence[Case],
    attempt: Attempt,
    shares: Mapping[str, float],
) -> Mark:
    """The mark of one exercise; `shares` are the points of its properties, if it has such."""
    reason, detail, result = attempt.reason, attempt.detail, None
    if reason is None:
        result = verdict(exercise, cases, attempt.outcomes)
        reason, detail = _why(submission, exercise, result, attempt.outcomes)
    who = (exercise.id, exercise.title)
    if reason is None:
        return Mark(*who, "right", exercise.points, exercise.points, "Right.")
    feedback = f"`{exercise.answer_name}`: {told(reason, detail)}"
    if reason in UNANSWERED:
        return Mark(*who, "unanswered", 0, exercise.points, feedback, check=reason)
    mistake = result and result.mistake
    if mistake is not None:
        feedback += f" Known mistake: {mistake}. {result.explanation}"
    check, points = result.check if result and reason is not Reason.MEMORY else reason, 0
    if shares and result:
        with ONE_AT_A_TIME:
            has = satisfied(exercise, cases, attempt.outcomes)
        points, feedback = shared_points(shares, has), f"{feedback} {told_shares(shares, has)}"
    return Mark(*who, "wrong", points, exercise.points, feedback, mistake, check)


def _why(
    submission: Submission, exercise: Exercise, result: Result, outcomes: Sequence[Outcome]
) -> tuple[Reason | None, str]:
    """The reason that a verdict names, and its detail; None where the answer is right."""
    if result.status == "right":
        return None, ""
    if result.status == "unanswered":
        return Reason.BLANK, ""
    for demand in exercise.properties:
        if demand.name == result.check:
            return Reason.DEMAND, demand.message
    reason = Reason(result.check)
    if reason is not Reason.CALL_RAISED:
        return reason, ""
    failure = next(outcome.failure for outcome in outcomes if outcome.failure is not None)
    if is_out_of_memory(failure.type_name, failure.message):
        return Reason.MEMORY, ""
    return reason, told_of_failure(failure, submission, exercise.answer_name)


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
