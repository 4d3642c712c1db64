"""Which of the course's own functions an answer uses, as far as its text tells."""

from __future__ import annotations

import ast

from ... import __all__ as everything
from ...exercises.registry import Exercise
from ..assignment.sources import answer_sources, parsed
from ..records import Submission

PACKAGE = "diffusion_course"
SILENT = {"check", "exercise", "hint", "progress", "solution"}


def course_names(submission: Submission, exercise: Exercise) -> str:
    """The names of the course's package that an answer uses."""
    imported: dict[str, str] = {}
    has_star, defined = False, set()
    for cell in submission.cells:
        for node in ast.walk(parsed(cell.source)):
            if isinstance(node, ast.ImportFrom) and _is_of_course(node.module or ""):
                has_star |= any(alias.name == "*" for alias in node.names)
                imported |= {alias.asname or alias.name: alias.name for alias in node.names}
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                defined.add(node.name)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if _is_of_course(alias.name):
                        imported[alias.asname or PACKAGE] = alias.name
    if has_star:
        imported = {name: name for name in set(everything) - defined} | imported
    used = set()
    for source in answer_sources(submission, exercise):
        nodes = list(ast.walk(parsed(source)))
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        used |= {full for name, full in imported.items() if name in names} - SILENT
        texts = [node.value for node in nodes if isinstance(node, ast.Constant)]
        used |= {PACKAGE for text in texts if type(text) is str and _is_of_course(text)}
    return ", ".join(sorted(used))


def _is_of_course(module: str) -> bool:
    return module.partition(".")[0] == PACKAGE
