"""Which cells of a submission answer an exercise, told from their text alone."""

from __future__ import annotations

import ast

from ..exercises.registry import Exercise
from .records import Submission


def grade_id(exercise_id: str) -> str:
    """nbgrader's name of the answer cell of an exercise."""
    return f"answer-{exercise_id.replace('.', '-')}"


def parsed(source: str) -> ast.Module:
    """The syntax tree of a cell; an empty one where it has none."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module([], [])


def defines(source: str, name: str) -> bool:
    """Whether a cell defines `name` at its top level."""
    for node in parsed(source).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name == name:
            return True
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return True
    return False


def answer_sources(submission: Submission, exercise: Exercise) -> list[str]:
    """The cells that answer an exercise: by nbgrader's name of the cell, or by what they define."""
    own = grade_id(exercise.id)
    return [
        cell.source for cell in submission.cells
        if cell.grade_id == own or (cell.grade_id is None and defines(cell.source, exercise.answer_name))
    ]  # fmt: skip


def definitions(source: str) -> str:
    """The imports, functions and classes of a cell."""
    kept = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    return "\n\n".join(ast.unparse(node) for node in parsed(source).body if isinstance(node, kept))
