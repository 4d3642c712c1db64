"""The worker's two pipes to the grader, and what speaks through them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

from .decoding import receive
from .protocol import CONTROL, FRAME, RUN, frames


def read_exactly(read: Callable[[int], bytes], size: int) -> bytes:
    """Return `size` bytes from a `read` that may give fewer at a time.

    Ends the process when the other side is gone.
    """
    parts = []
    while size:
        part = read(min(size, 2**20))
        if not part:
            os._exit(0)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class GraderPipes:
    """The two pipes to the grader, given by number, or else moved away from stdin and stdout.

    Whatever else writes to stdout or stderr ends in /dev/null.
    """

    def __init__(self, read_end: int | None = None, write_end: int | None = None) -> None:
        self.read_end = os.dup(0) if read_end is None else read_end
        self._write_end = os.dup(1) if write_end is None else write_end
        os.set_inheritable(self.read_end, False)
        os.set_inheritable(self._write_end, False)
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)

    def close(self) -> None:
        """Close both, in a child that has no business with the grader."""
        os.close(self.read_end)
        os.close(self._write_end)

    def frame(self) -> tuple[int, bytes]:
        """Wait for a frame: who is spoken to, and what is said."""
        read = functools.partial(os.read, self.read_end)
        kind, size = FRAME.unpack(read_exactly(read, FRAME.size))
        return kind, read_exactly(read, size)

    def send(self, kind: int, data: bytes) -> None:
        """Send `data` in frames."""
        rest = memoryview(frames(kind, data))
        while rest:
            rest = rest[os.write(self._write_end, rest) :]

    def control(self) -> tuple[Any, ...]:
        """Wait for what is said to this process; frames for a run that is over are dropped."""
        waiting = b""

        def read(size: int) -> bytes:
            nonlocal waiting
            while len(waiting) < size:
                kind, data = self.frame()
                waiting += data if kind == CONTROL else b""
            wanted, waiting = waiting[:size], waiting[size:]
            return wanted

        return receive(read, objects=True)


class DirectLink:
    """What a run speaks through where it has no process of its own: the grader's pipes."""

    def __init__(self, pipes: GraderPipes) -> None:
        self._pipes, self._rest = pipes, b""

    def recv(self, size: int) -> bytes:
        """Return at most `size` bytes for the run; b"" when somebody else is spoken to."""
        while not self._rest:
            kind, self._rest = self._pipes.frame()
            if kind != RUN:
                return b""
        part, self._rest = self._rest[:size], self._rest[size:]
        return part

    def sendall(self, data: bytes) -> None:
        """Send as the run."""
        self._pipes.send(RUN, data)
