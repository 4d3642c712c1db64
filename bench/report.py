"""Numbers as text, and results as JSON lines that outlive a run."""

import json
import statistics
from collections.abc import Iterable
from pathlib import Path

from diffusion_course.files.paths import user_path, write_bytes

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "bench"


def spread(values: Iterable[float], scale: float = 1e3, digits: int = 1) -> str:
    """Format runs as min / median / max."""
    values = list(values)
    return " / ".join(f"{scale * f(values):.{digits}f}" for f in (min, statistics.median, max))


def table(head: list[str], rows: list[list[object]]) -> str:
    """Format rows as a Markdown table, padded so that it is legible as text too."""
    cells = [head, *([str(c) for c in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def verdict(value: float, goal: float, *, at_most: bool) -> str:
    """Say whether a goal is met, in the words of the tables."""
    met = value <= goal if at_most else value >= goal
    return f"{value:.3g}, goal {'<=' if at_most else '>='} {goal:g}: {'met' if met else 'MISSED'}"


class Results:
    """A file of JSON lines: one result each, found again by its key (a dict that must be equal)."""

    def __init__(self, name: str, out: Path = OUT) -> None:
        self.path = user_path(out, "--out") / f"{name}.jsonl"

    def lines(self) -> list[dict]:
        """Return every whole line; a line cut short by a kill is left out."""
        found = []
        for line in (
            self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else ()
        ):
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return found

    def find(self, key: dict) -> dict | None:
        """Return the newest result with this key, or None."""
        key = json.loads(json.dumps(key))
        return next((line["value"] for line in reversed(self.lines()) if line["key"] == key), None)

    def forget(self, contenders: list[str]) -> None:
        """Drop the results of these contenders, and those that belong to none."""
        kept = [
            line
            for line in self.lines()
            if line["key"].get("identity", {}).get("contender", contenders[0]) not in contenders
        ]
        if self.path.is_file():
            write_bytes(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def add(self, key: dict, value: dict) -> dict:
        """Append one result and return it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = not self.path.is_file() or self.path.read_bytes()[-1:] in (b"", b"\n")
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(("" if whole else "\n") + json.dumps({"key": key, "value": value}) + "\n")
        return value
