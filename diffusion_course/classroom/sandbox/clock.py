"""A submission's own time: what it computes, not what the machine does for others meanwhile.

On a busy machine a second of the clock on the wall says little about an answer. So the time that is
limited is that of the processors, of all processes that a submission has in the sandbox, those that
have ended too. Who waits by its own choice, as in `time.sleep`, uses up its time all the same; and
while a run waits for a processor, one part in `WALL` of the time passes, so that it does end.
"""

from __future__ import annotations

from .limits import WALL

LATEST = 0.5  # seconds; a watch that was itself held up counts no more than this as waiting


class Clock:
    """Seconds of a submission, over all its workers; it stands still between them."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def now(self) -> float:
        """The seconds used up to now, as of the last look."""
        return self._seconds

    def passed(self, wall: float, computed: float, *, awaited: bool, is_running: bool) -> None:
        """Add what has passed since the last look: on the wall, and on the processors.

        `awaited` says that the grader waited for the run, `is_running` that one of its processes
        computed or waited for a processor when it was looked at.
        """
        waited = (wall / WALL if is_running else min(wall, LATEST)) if awaited else 0.0
        self._seconds += max(computed, waited, 0.0)
