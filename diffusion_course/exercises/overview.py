"""Progress as a table and a picture."""

from __future__ import annotations

from typing import Any

from .record import Record
from .registry import all_exercises

STATES = ("done", "tried", "open")


def rows(record: Record) -> list[tuple[str, str, int, int, int, str]]:
    """Return (id, state, tries, hints, points, title) of every exercise."""
    return [
        (
            one.id,
            record.state(one.id),
            record.attempts(one.id),
            record.hints(one.id),
            one.points,
            one.title,
        )
        for one in all_exercises()
    ]


def as_text(table: list[tuple[str, str, int, int, int, str]]) -> str:
    """Return the table in words, with the points at its end."""
    lines = [f"{'id':<6} {'state':<6} {'tries':>5} {'hints':>5} {'points':>6}  title"]
    for name, state, tries, hints, points, title in table:
        lines.append(f"{name:<6} {state:<6} {tries:>5} {hints:>5} {points:>6}  {title}")
    earned = sum(points for _, state, _, _, points, _ in table if state == "done")
    return "\n".join([*lines, f"{earned} of {sum(row[4] for row in table)} points."])


def picture(table: list[tuple[str, str, int, int, int, str]]) -> tuple[Any, str]:
    """Return a figure with a box for each exercise, and its alt text."""
    boxes: dict[str, list[tuple[str, str]]] = {}
    for name, state, *_ in table:
        lesson, _, number = name.partition(".")
        boxes.setdefault(lesson, []).append((number, state))
    counts = {state: sum(row[1] == state for row in table) for state in STATES}
    title = f"{counts['done']} of {len(table)} exercises done"
    told = [
        f"lesson {lesson}: {sum(state == 'done' for _, state in own)} of {len(own)} done"
        for lesson, own in boxes.items()
    ]
    alt = (
        f"Exercises by lesson. {counts['done']} done, {counts['tried']} tried, {counts['open']}"
        " open. " + "; ".join(told) + "."
    )
    return _grid(boxes, title), alt


def _grid(boxes: dict[str, list[tuple[str, str]]], title: str) -> Any:
    """Draw a row of boxes for each lesson; a box tells its state by colour and by a mark."""
    from ..notebook.style import COLORS, figure

    looks = {
        "done": (COLORS[0], "white", "\u2713"),
        "tried": ("#F2D8C9", "black", "~"),
        "open": ("white", "#595959", ""),
    }
    most = max(map(len, boxes.values()))
    fig, ax = figure(0.62 * most + 2.4, 0.36 * len(boxes) + 0.7)

    def box(column: float, row: float, state: str, number: str = "") -> None:
        back, front, mark = looks[state]
        ax.barh(row, 0.92, height=0.84, left=column, color=back, edgecolor="#595959", linewidth=0.8)
        ax.text(
            column + 0.46,
            row,
            f"{number} {mark}".strip(),
            color=front,
            ha="center",
            va="center",
            fontsize=9,
        )

    for row, own in enumerate(boxes.values()):
        for column, (number, state) in enumerate(own):
            box(column, row, state, number)
    for row, state in enumerate(STATES):
        box(most + 0.4, row, state)
        ax.text(most + 1.5, row, state, va="center", fontsize=9)
    ax.set(xlim=(-0.05, most + 2.9), ylim=(len(boxes) - 0.4, -0.6), xticks=[], ylabel="lesson")
    ax.set_title(title, loc="left")
    ax.set_yticks(range(len(boxes)), list(boxes))
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    return fig
