"""Which cells of a submission answer an exercise, told from their text alone."""

from __future__ import annotations

import ast
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

from ...exercises.registry import Exercise
from ...exercises.syntax import parse
from ..records import Submission

# Of a cell. Python takes time that grows with the square of an f-string: a second here, hours for
# 20 MiB.
CELL_CHARACTERS = 2**15
KEPT_CHARACTERS = 2**19  # whose trees are remembered: about 100 MiB at the worst
_ENTRY = 100  # what a text without characters counts
_IMPORTS = (ast.Import, ast.ImportFrom)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def grade_id(exercise_id: str) -> str:
    """nbgrader's name of the answer cell of an exercise."""
    return f"answer-{exercise_id.replace('.', '-')}"


class _Kept:
    """A function of a text that remembers what it returned, for texts of so many characters."""

    def __init__(self, function: Callable[[str], ast.Module]) -> None:
        self.__wrapped__ = function
        self._lock, self._trees, self._size = threading.Lock(), OrderedDict(), 0

    def __call__(self, source: str) -> ast.Module:
        with self._lock:
            if source in self._trees:
                self._trees.move_to_end(source)
                return self._trees[source]
        tree = self.__wrapped__(source)
        with self._lock:
            if source not in self._trees:
                self._trees[source], self._size = tree, self._size + len(source) + _ENTRY
            while self._size > KEPT_CHARACTERS:
                old, _ = self._trees.popitem(last=False)
                self._size -= len(old) + _ENTRY
        return tree

    def characters(self) -> int:
        """The characters of the texts that are remembered."""
        return sum(map(len, self._trees))

    def cache_clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._trees.clear()
            self._size = 0


@_Kept
def parsed(source: str) -> ast.Module:
    """The syntax tree of a cell, without its magics and shell lines.

    It is empty where the cell has none, or more than CELL_CHARACTERS.
    """
    for text in (source, re.sub(r"(?m)^([ \t]*)[%!?].*$", r"\1pass", source)):
        if len(text) > CELL_CHARACTERS:
            break
        try:
            return parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return ast.Module([], [])


def defines(source: str, name: str) -> bool:
    """Whether a cell defines `name` at its top level."""
    for node in parsed(source).body:
        if isinstance(node, _FUNCTIONS) and node.name == name:
            return True
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return True
    return False


def answer_cells(submission: Submission, exercise: Exercise) -> list[int]:
    """The numbers of the cells that answer an exercise.

    They are told by nbgrader's name of the cell, or by what they define.
    """
    own = grade_id(exercise.id)
    return [
        index
        for index, cell in enumerate(submission.cells)
        if cell.grade_id == own
        or (cell.grade_id is None and defines(cell.source, exercise.answer_name))
    ]


def answer_sources(submission: Submission, exercise: Exercise) -> list[str]:
    """The text of the cells that answer an exercise."""
    return [submission.cells[index].source for index in answer_cells(submission, exercise)]


def left_blank(source: str) -> bool:
    """Whether a cell still holds a `...` that is no index, or raises NotImplementedError."""
    waiting: list[tuple[ast.AST, bool]] = [(parsed(source), False)]
    while waiting:
        node, in_index = waiting.pop()
        if isinstance(node, ast.Constant) and node.value is ... and not in_index:
            return True
        if getattr(node, "id", None) == "NotImplementedError":
            return True
        index = node.slice if isinstance(node, ast.Subscript) else None
        children = ast.iter_child_nodes(node)
        waiting += [(child, in_index or child is index) for child in children]
    return False


def defined_names(source: str) -> list[str]:
    """The functions, classes and variables that a cell defines at its top level."""
    nodes = [node for node in parsed(source).body if not isinstance(node, _IMPORTS)]
    return sorted({name for node in nodes for name in _defined(node)})


def needed(own: Sequence[str], others: Sequence[str], answers: Sequence[str] = ()) -> str:
    """The statements of other cells that an answer needs by name, in their order.

    It may need them directly or through each other. A name is taken from an import if there is one,
    else from `others`, else from the cells that answer other exercises.
    """
    ranked = [
        (0 if isinstance(node, _IMPORTS) else rank, node)
        for rank, sources in ((1, others), (2, answers))
        for one in sources
        for node in parsed(one).body
    ]
    makers: dict[str, list[tuple[int, int]]] = {}  # of each name: rank and number of a statement
    for index, (rank, node) in enumerate(ranked):
        for name in _defined(node):
            makers.setdefault(name, []).append((rank, index))
    mine = {name for one in own for node in parsed(one).body for name in _defined(node)}
    waiting = {name for one in own for name in _loaded(parsed(one))} - mine
    kept: set[int] = set()
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        best = min(makers.get(name, ()), default=(0, 0))[0]
        for rank, index in makers.get(name, ()):
            if rank == best and index not in kept:
                kept.add(index)
                waiting |= _loaded(ranked[index][1]) - mine - seen
    kept |= {index for _, index in makers.get("*", ())}
    return "\n".join(_text(node) for index, (_, node) in enumerate(ranked) if index in kept)


def _text(node: ast.AST) -> str:
    try:
        return ast.unparse(node)
    except RecursionError:
        return ""


def _defined(statement: ast.AST) -> set[str]:
    """The names that a statement binds at the top level, not inside a function or class."""
    if isinstance(statement, _IMPORTS):
        return {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}
    found, waiting = set(), [statement]
    while waiting:  # no recursion: a long sum is a deep tree
        node = waiting.pop()
        if isinstance(node, _FUNCTIONS):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        else:
            waiting += ast.iter_child_nodes(node)
    return found


def _loaded(node: ast.AST) -> set[str]:
    return {
        part.id
        for part in ast.walk(node)
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)
    }
