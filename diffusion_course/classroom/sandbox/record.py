"""Which of the course's functions an answer calls, by itself or by other hands.

Python's profiler tells of every call (https://docs.python.org/3/library/sys.html#sys.setprofile).
What shares a process with it can switch it off: the record is a note for the instructor, no proof.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from ...door import FILE

PACKAGE = Path(__file__).resolve().parents[2]
MOST = 20  # names
# What calls the answer, what it is called with, and what only guards the course's functions.
OWN = {"exercises", "classroom", "lazy.py", "door.py", "validation.py", "kinds.py"}
OWN |= {"latent/memory/counting.py"}  # measures an answer


class Record:
    """The names of the course's functions that were called from outside of the course."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._known: dict[CodeType, tuple[bool, str]] = {}

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Write down what is called, in new threads too."""
        before = sys.getprofile()
        threading.setprofile(self._called)
        sys.setprofile(self._called)
        try:
            yield
        finally:
            sys.setprofile(before)
            threading.setprofile(None)

    def _called(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call":
            return
        is_course, name = self._place(frame.f_code)
        if not name or len(self.names) >= MOST:
            return
        caller = frame.f_back
        if caller is None or not self._place(caller.f_code)[0]:
            self.names.add(name)

    def _place(self, code: CodeType) -> tuple[bool, str]:
        """Whether code is the package's, and the name to note where it is one that answers."""
        if code not in self._known:
            self._known[code] = _place(code)
        return self._known[code]


def _place(code: CodeType) -> tuple[bool, str]:
    file = code.co_filename
    if file.startswith(door := f"{FILE}{PACKAGE.name}."):
        parts = file.removeprefix(door).rstrip(">").split(".")
    elif file.startswith(f"{PACKAGE}/"):
        inside = Path(file).relative_to(PACKAGE)
        whole = getattr(code, "co_qualname", code.co_name).split(".")
        # Of a class its name, of what a function has made its own.
        first = inside.as_posix() if inside.as_posix() in OWN else inside.parts[0]
        parts = [first, whole[-1] if "<locals>" in whole else whole[0]]
    else:
        return False, ""
    name = parts[-1]
    return True, "" if parts[0] in OWN or name.startswith(("_", "<")) else name
