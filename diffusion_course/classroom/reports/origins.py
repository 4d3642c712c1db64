"""Where the text of a submission may come from: files that are equal, notebooks that were made for
somebody else, answers that read as the course's own solution.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
from collections import defaultdict

from ...exercises.registry import Exercise
from ..assignment.sources import answer_sources, left_blank, parsed
from ..records import Submission
from .class_results import ClassResults

SHORT = 40  # nodes of a solution's body: of shorter ones many people write the same
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclasses.dataclass(frozen=True)
class AsPublished:
    """Who answers an exercise as the course's solution does, apart from names and comments."""

    exercise_id: str
    title: str
    students: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Origins:
    """The groups of students with equal files, (student, for whom it was made), and answers."""

    equal: tuple[tuple[str, ...], ...]
    made_for_others: tuple[tuple[str, str], ...]
    published: tuple[AsPublished, ...]

    def __bool__(self) -> bool:
        return bool(self.equal or self.made_for_others or self.published)


def origins_of(results: ClassResults) -> Origins:
    """Return all three for a class."""
    return Origins(
        tuple(equal_files(results)), tuple(made_for_others(results)), tuple(as_published(results))
    )


def equal_files(results: ClassResults) -> list[tuple[str, ...]]:
    """Return groups of students whose files are equal to the byte and not left blank."""
    groups: dict[str, list[str]] = defaultdict(list)
    for student, one in sorted(results.submissions.items()):
        if one.problem is None and any(_answers(one)):
            groups[one.sha256].append(student)
    return [tuple(students) for students in groups.values() if len(students) > 1]


def made_for_others(results: ClassResults) -> list[tuple[str, str]]:
    """Return (student, for whom the notebook was made) where these are two of the roster."""
    roster = {one.id for one in results.assignment.roster}
    return [
        (student, one.made_for)
        for student, one in sorted(results.submissions.items())
        if one.made_for in roster and one.made_for != student
    ]


def as_published(results: ClassResults) -> list[AsPublished]:
    """Return by exercise who answers it as the course's solution does; short ones are left out."""
    found = []
    for exercise_id in results.assignment.exercises:
        students, title = [], ""
        for one in results.graded:
            exercise = results.assignment.exercise(exercise_id, one.student)
            title = exercise.title
            solution = exercise.solution_source()
            if _size(solution) < SHORT:
                break
            answer = "\n".join(answer_sources(results.submissions[one.student], exercise))
            if (form := normal_form(answer, exercise)) and form == normal_form(solution, exercise):
                students.append(one.student)
        if students:
            found.append(AsPublished(exercise_id, title, tuple(students)))
    return found


def normal_form(source: str, exercise: Exercise) -> str:
    """Return the definitions of an answer without its own names, comments, notes and spaces.

    It is "" for what is no Python, is nested very deeply or defines nothing.
    """
    body = [one for one in parsed(source).body if isinstance(one, (*_FUNCTIONS, ast.Assign))]
    try:
        tree = copy.deepcopy(ast.Module(body, []))  # the tree is shared
        nodes = list(ast.walk(tree))
        names = {node.id for node in nodes if _binds(node)}
        names |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        names |= {node.name for node in nodes if isinstance(node, _FUNCTIONS)}
        numbers: dict[str, str] = {exercise.answer_name: exercise.answer_name}
        for node in nodes:
            _simplify(node)
            for field in ("id", "arg", "name"):
                name = getattr(node, field, None)
                if name in names and not isinstance(node, (ast.keyword, ast.alias)):
                    setattr(node, field, numbers.setdefault(name, f"name{len(numbers)}"))
        return ast.dump(tree) if body else ""
    except RecursionError:
        return ""


def _binds(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def _simplify(node: ast.AST) -> None:
    """Take away what says nothing of how it works: annotations and the text that explains it."""
    if isinstance(node, _FUNCTIONS):
        first = node.body[0]
        is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        if is_text and len(node.body) > 1:
            del node.body[0]
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        node.returns = None
    if isinstance(node, ast.arg):
        node.annotation = None


def _size(source: str) -> int:
    """The nodes of the bodies of what a solution defines."""
    functions = [node for node in parsed(source).body if isinstance(node, _FUNCTIONS)]
    return sum(1 for one in functions for line in one.body for _ in ast.walk(line))


def _answers(submission: Submission) -> list[str]:
    return [
        cell.source
        for cell in submission.cells
        if (cell.grade_id or "answer-").startswith("answer-") and not left_blank(cell.source)
    ]
