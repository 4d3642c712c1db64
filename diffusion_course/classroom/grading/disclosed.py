"""What of an exception a student may read.

An answer sees the hidden inputs, and its code chooses the names of its classes and functions: a
class that is named after an input would carry it to the feedback page. So only names are shown that
are known without running anything.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable

from ...exercises.traces import Failure
from ..assignment.sources import parsed
from ..records import Submission

OF_ITS_OWN = "an exception of its own"
LINES = 200  # of a function that names the line
_LIBRARIES = """
AcceleratorError AxisError BrokenProcessPool CalledProcessError ComplexWarning DTypePromotionError
DistBackendError Empty FrozenInstanceError Full InvalidOperation JSONDecodeError LinAlgError
OutOfMemoryError PicklingError RankWarning TimeoutExpired TooHardError UnpicklingError
UnsupportedOperation VisibleDeprecationWarning _LinAlgError error
""".split()
KNOWN = {
    *_LIBRARIES,
    *(
        name
        for name, one in vars(builtins).items()
        if isinstance(one, type) and issubclass(one, BaseException)
    ),
}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def exception_name(name: str) -> str:
    """The name of an exception of Python's or a library's; of others that it is another one."""
    return name if name in KNOWN else OF_ITS_OWN


def told_of_failure(failure: Failure, submission: Submission, answer_name: str) -> str:
    """Return what was raised and where, "ValueError in line 3 of `helper`".

    The function and the line are told where the submission's text has such a function, and it has
    so many lines.
    """
    kind, name = exception_name(failure.type_name), failure.where or answer_name
    longest = max(_lengths(submission, name), default=0)
    if not failure.line or failure.line > min(longest, LINES):
        return kind
    if failure.where:
        return f"{kind} in line {failure.line} of `{name}`"
    return f"{kind} in its line {failure.line}"


def _lengths(submission: Submission, name: str) -> Iterable[int]:
    """The lines of each function or class of this name, and of a cell that assigns the name."""
    for cell in submission.cells:
        if name not in cell.source:
            continue
        for node in ast.walk(parsed(cell.source)):
            if isinstance(node, _FUNCTIONS) and node.name == name:
                first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
                yield node.end_lineno - first + 1
            elif isinstance(node, ast.Assign):
                targets = [one.id for one in node.targets if isinstance(one, ast.Name)]
                if name in targets:
                    yield node.end_lineno - node.lineno + 1
