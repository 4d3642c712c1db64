"""Which of the course's own functions an answer uses, as far as its text tells."""

from __future__ import annotations

import ast

from ...exercises.registry import Exercise
from ..assignment.sources import answer_sources, parsed
from ..records import Submission

SILENT = {"check", "exercise", "hint", "progress", "solution"}


def course_names(submission: Submission, exercise: Exercise) -> str:
    """The names of the course's package that an answer uses."""
    imported: dict[str, str] = {}
    for cell in submission.cells:
        for node in ast.walk(parsed(cell.source)):
            if isinstance(node, ast.ImportFrom) and _is_of_course(node.module or ""):
                imported |= {alias.asname or alias.name: alias.name for alias in node.names}
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if _is_of_course(alias.name):
                        imported[alias.asname or "diffusion_course"] = alias.name
    used = set()
    for source in answer_sources(submission, exercise):
        names = {node.id for node in ast.walk(parsed(source)) if isinstance(node, ast.Name)}
        used |= {full for name, full in imported.items() if name in names} - SILENT
    return ", ".join(sorted(used))


def _is_of_course(module: str) -> bool:
    return module.partition(".")[0] == "diffusion_course"
