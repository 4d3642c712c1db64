"""List pairs of submissions that share what is rare in their class.

Short right answers are alike by nature, so nothing counts that many have, that the stub holds or
that the course's own solution holds. What counts: the structure of an answer (windows over its
syntax tree, names taken away), the names that it makes up and its comments. A pair is a reason to
look, and never a proof.
"""

from __future__ import annotations

import ast
import dataclasses
import io
import itertools
import math
import tokenize
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from ...exercises.registry import Exercise
from ...exercises.syntax import parse
from ..assignment.assignment import Assignment
from ..assignment.sources import CELL_CHARACTERS, answer_sources
from ..records import Submission

WINDOW = 8  # nodes of the syntax tree in one fingerprint
RARE_SHARE = 0.1  # of the class; what more have is common
# People outside the class who would not have it: in a small class two alike are rare too.
OTHERS = 50
ENOUGH = 12.0  # nats of rarity that two submissions share before the pair is listed


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two students, how rare what they share is (nats; higher is more), and where it is."""

    first: str
    second: str
    score: float
    evidence: tuple[str, ...]


def features(source: str) -> set[tuple[str, str]]:
    """Return what can be told of an answer, as pairs of kind and text.

    Kinds are "shape" (of its syntax), "whole" (all of that), "name" (of its variables), "comment",
    and "text" where it is no Python or very long.
    """
    try:
        tree = parse(source) if len(source) <= CELL_CHARACTERS else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    if tree is None:
        return {("text", line.strip()) for line in source.splitlines() if len(line.strip()) >= 12}
    found = {
        ("name", node.id)
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    found |= {("name", node.arg) for node in ast.walk(tree) if isinstance(node, ast.arg)}
    kinds = [_kind(node) for node in _in_order(tree)]
    found.add(("whole", " ".join(kinds)))
    windows = [" ".join(kinds[i : i + WINDOW]) for i in range(max(0, len(kinds) - WINDOW + 1))]
    found |= {("shape", window) for window in windows}
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        tokens = []
    return found | {
        ("comment", token.string)
        for token in tokens
        if token.type == tokenize.COMMENT and len(token.string) > 8
    }


def _in_order(tree: ast.AST):
    waiting = [tree]
    while waiting:  # no recursion: a long sum is a deep tree
        node = waiting.pop()
        yield node
        waiting += reversed(list(ast.iter_child_nodes(node)))


def _kind(node: ast.AST) -> str:
    """The node without names and places; constants, operators and attributes stay."""
    if isinstance(node, ast.Constant):
        # Python does not print the largest ints.
        huge = isinstance(node.value, int) and node.value.bit_length() > 400
        return "Constant:int" if huge else f"Constant:{node.value!r:.40}"
    return (
        f"{type(node).__name__}:{node.attr}"
        if isinstance(node, ast.Attribute)
        else type(node).__name__
    )


def similar_pairs(assignment: Assignment, submissions: Mapping[str, Submission]) -> list[Pair]:
    """Return the suspicious pairs, the most suspicious first."""
    shared: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    readable = {student: one for student, one in submissions.items() if one.problem is None}
    for exercise_id in assignment.exercises:
        bound, answers = answers_of_all(assignment, exercise_id, readable)
        for pair, weight in _rare_together(bound, answers).items():
            shared[pair][f"{exercise_id}: {weight[1]}"] += weight[0]
    pairs = [
        Pair(*names, round(sum(parts.values()), 1), tuple(sorted(parts)))
        for names, parts in shared.items()
        if sum(parts.values()) >= ENOUGH
    ]
    return sorted(pairs, key=lambda pair: (-pair.score, pair.first, pair.second))


def answers_of_all(
    assignment: Assignment, exercise_id: str, submissions: Mapping[str, Submission]
) -> tuple[dict[str, Exercise], dict[str, str]]:
    """Return by student the exercise with their own numbers, and the text of their answer."""
    try:
        bound = {student: assignment.exercise(exercise_id, student) for student in submissions}
    except LookupError:
        first = assignment.exercise(exercise_id, assignment.roster[0].id)
        bound = dict.fromkeys(submissions, first)
    answers = {
        student: "\n".join(answer_sources(one, bound[student]))
        for student, one in submissions.items()
    }
    return bound, answers


def _rare_together(
    bound: Mapping[str, Exercise], answers: Mapping[str, str]
) -> dict[tuple[str, str], tuple[float, str]]:
    """Return for each pair of students the rarity of what both have, and what it is.

    Only rare names and comments are told.
    """
    known = set()
    for exercise in itertools.islice(bound.values(), 1):
        known = features(exercise.render(exercise.stub)) | features(exercise.solution_source())
    own = {student: features(source) - known for student, source in answers.items()}
    count = Counter(feature for found in own.values() for feature in found)
    most = max(2, math.floor(RARE_SHARE * len(own)))
    holders: dict[tuple[str, str], list[str]] = defaultdict(list)
    for student, found in sorted(own.items()):
        for feature in found:
            if 2 <= count[feature] <= most:
                holders[feature].append(student)
    shapes: dict[tuple[str, str], float] = defaultdict(float)
    words: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (kind, text), students in sorted(holders.items()):
        for pair in itertools.combinations(students, 2):
            weight = math.log((len(own) + OTHERS) / len(students))
            # Windows overlap: a run of WINDOW of them tells one thing.
            shapes[pair] += weight / WINDOW if kind == "shape" else weight
            if kind in ("name", "comment", "text"):
                words[pair].append(text[:60])
    return {pair: (weight, _told(words[pair])) for pair, weight in shapes.items()}


def _told(words: Sequence[str]) -> str:
    telling = [word for word in words if len(word) > 2]
    listed = ", ".join(repr(word) for word in telling[:4])
    return f"both have {listed}" if telling else "the same unusual structure"
