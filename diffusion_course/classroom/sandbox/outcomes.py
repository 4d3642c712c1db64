"""What one call of an answer did, as a message and back. The grader believes nothing in it."""

from __future__ import annotations

import re
from typing import Any

from ...exercises.trial import Failure, Foreign, Outcome
from .protocol import MAX_JSON, ProtocolError, encode

_NO_MEMORY = ("can't allocate memory", "cannot allocate memory", "failed to map segment")
PARTS = 6  # output, failure, what changed, three flags


def encode_outcome(outcome: Outcome) -> bytes:
    """Return an outcome as a message; an output that cannot be sent becomes `Foreign`."""
    failure = outcome.failure
    # Not the source line: the grader shows none.
    told = failure and (
        *(failure.type_name[:200], failure.message[:200], failure.line),
        *(failure.where[:200], failure.blank),
    )
    flags = (outcome.used_global_random, outcome.ignored_generator, outcome.reproducible)
    try:
        return encode((outcome.output, told, outcome.changed, *flags), MAX_JSON)
    except ProtocolError as error:
        return encode((Foreign(str(error)), told, outcome.changed, *flags))


def decode_outcome(value: Any) -> Outcome:
    """Return the Outcome that a decoded message tells of.

    Raises ProtocolError where it tells of none.
    """
    if type(value) is not tuple or len(value) != PARTS:
        raise ProtocolError(f"an outcome has {PARTS} parts, got {type(value).__name__}")
    output, failure, changed, *flags = value
    if type(changed) is not tuple or not all(type(name) is str for name in changed):
        raise ProtocolError("what changed is a tuple of names")
    if not all(type(flag) is bool for flag in flags):
        raise ProtocolError("the flags of an outcome are True or False")
    return Outcome(output, None if failure is None else _failure(failure), changed, *flags)


def _failure(value: Any) -> Failure:
    if type(value) is not tuple or len(value) != 5:
        raise ProtocolError("a failure is its type, its message, a line, a function, and a flag")
    kind, text, line, where, blank = value
    if [type(part) for part in (kind, text, where, blank)] != [str, str, str, bool]:
        raise ProtocolError("a failure has three texts, and True or False")
    if line is not None and (type(line) is not int or not 0 < line < 10**6):
        raise ProtocolError("the line of a failure is a number")
    message = " ".join(text[:200].split())
    return Failure(class_name(kind), message, line, class_name(where), blank)


def is_out_of_memory(type_name: str, message: str) -> bool:
    """Whether an exception says that the system gave no more memory.

    Python, PyTorch, the system and its loader of libraries each say it in their own words.
    """
    return type_name == "MemoryError" or any(one in message.lower() for one in _NO_MEMORY)


def class_name(text: str) -> str:
    """A class's name as a name: the student's code can give it any text."""
    return re.sub(r"[^\w.]", "?", text[:80])
