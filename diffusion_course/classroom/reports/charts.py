"""Charts as plain HTML: legible at any width, in light and dark, and read aloud as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from ..records import Mark

_MOST_COLUMNS = 13
_PARTS = (("right", "right"), ("wrong", "not right"), ("unanswered", "not answered"))


def bars(rows: Sequence[tuple[str, int, str]], most: int) -> str:
    """Return a list of lines with a bar each: (label as HTML, count, what to print of the count).

    A bar of `most` takes the whole width.
    """
    lines = [
        f'<li><span class="label">{label}</span> <span class="count">{escape(shown)}</span>'
        f'<span class="bar" style="width:{_percent(count, most)}%"></span></li>'
        for label, count, shown in rows
    ]
    return f'<ul class="bars">{"".join(lines)}</ul>'


def histogram(values: Sequence[float], most: float, what: str) -> str:
    """Return columns that show how many of the values lie where between 0 and `most`.

    A column holds what is at least its number and below the next; the last one ends with `most`.
    `what` says what is counted, for those who hear the page: its summary follows.
    """
    width = _width(most)
    counts = [0] * (math.floor(most / width + 1e-9) + 1)
    for value in values:
        counts[min(max(math.floor(value / width + 1e-9), 0), len(counts) - 1)] += 1
    starts = [f"{index * width:g}" for index in range(len(counts))]
    told = ", ".join(
        f"{count} from {start}" for start, count in zip(starts, counts, strict=True) if count
    )
    highest = max([1, *counts])
    columns = "".join(
        f'<span class="column"><span>{count or ""}</span>'
        f'<span class="bar" style="height:{0.09 * _percent(count, highest):.2f}rem"></span>'
        f'<span class="start">{start}</span></span>'
        for start, count in zip(starts, counts, strict=True)
    )
    alt = escape(f"{what}: {told or 'none'}.")
    return f'<div class="histogram" role="img" aria-label="{alt}">{columns}</div>'


def shares(marks: Sequence[Mark], about: str) -> str:
    """Return one bar that is divided into answers that are right, not right and not there.

    The numbers stand under it, so that it is not told by colours alone, and `about` after them.
    """
    counts = {state: sum(mark.status == state for mark in marks) for state, _ in _PARTS}
    pieces = "".join(
        f'<span class="{state}" style="width:{_percent(count, len(marks))}%"></span>'
        for state, count in counts.items()
        if count
    )
    legend = ", ".join(
        f'<span class="key {state}"></span>{counts[state]} {name}' for state, name in _PARTS
    )
    bar = f'<div class="shares" aria-hidden="true">{pieces}</div>'
    return f'{bar}<p class="legend">{legend}; {escape(about)}</p>'


def _width(most: float) -> float:
    """The width of a column: 1, 2 or 5 times a power of ten, so that there are not too many."""
    steps = (unit * 10**power for power in range(-1, 6) for unit in (1, 2, 5))
    fitting = (step for step in steps if step >= 1 and most / step < _MOST_COLUMNS)
    return next(fitting, most or 1)


def _percent(count: float, most: float) -> float:
    return round(100 * count / most, 1) if most else 0
