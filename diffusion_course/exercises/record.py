"""What the learner has tried, hinted and solved. It lives in the process; another store needs only these methods."""

from __future__ import annotations

from .engine import Result


class Record:
    """Attempts and hints by exercise id."""

    def __init__(self) -> None:
        self._attempts: dict[str, int] = {}
        self._done: set[str] = set()
        self._hints: dict[str, int] = {}

    def add(self, result: Result) -> None:
        """Count a real attempt; an unanswered stub is none."""
        if result.status != "unanswered":
            self._attempts[result.exercise_id] = self._attempts.get(result.exercise_id, 0) + 1
        if result.status == "right":
            self._done.add(result.exercise_id)

    def attempts(self, exercise_id: str) -> int:
        """Return how often the exercise was tried."""
        return self._attempts.get(exercise_id, 0)

    def state(self, exercise_id: str) -> str:
        """Return "done", "tried" or "open"."""
        if exercise_id in self._done:
            return "done"
        return "tried" if self.attempts(exercise_id) else "open"

    def hints(self, exercise_id: str) -> int:
        """Return how many hints were shown."""
        return self._hints.get(exercise_id, 0)

    def next_hint(self, exercise_id: str, available: int) -> int:
        """Return the index of the hint to show now and remember it; the last one repeats."""
        index = min(self.hints(exercise_id), available - 1)
        self._hints[exercise_id] = index + 1
        return index
