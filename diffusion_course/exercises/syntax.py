"""Parse Python text, one thread at a time."""

from __future__ import annotations

import ast
import threading

_ONE_AT_A_TIME = threading.Lock()


def parse(source: str) -> ast.Module:
    """Return `ast.parse(source)`, with its errors, while no other thread is in here.

    Before Python 3.11.8 and 3.12.2 all threads share one count of the depth while trees are built,
    so a switch between them can end in "SystemError: AST constructor recursion depth mismatch"
    (https://github.com/python/cpython/pull/113035).
    """
    with _ONE_AT_A_TIME:
        return ast.parse(source)
