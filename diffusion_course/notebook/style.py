"""Figures without pyplot: panels with fixed margins, labels at the ends of lines."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from ..door import checked, positive_int
from .arguments import each_word, inches, only, room
from .arguments import heading as check_heading
from .look import COLORS, CourseFigure, course_style

__all__ = [
    "COLORS",
    "DPI",
    "figure",
    "ink",
    "label_ends",
    "label_width",
    "panels",
    "spread",
    "wrapped",
]
DPI = 100


@checked(width=inches, height=inches, nrows=positive_int, ncols=positive_int)
def figure(
    width: float = 7.0, height: float = 3.5, nrows: int = 1, ncols: int = 1, **subplots: Any
) -> tuple[Figure, Any]:
    """Return `(Figure, axes)` in the course's style, as `Figure.subplots` gives axes.

    `width` and `height` are inches at 100 pixels each.
    """
    only(subplots, [*inspect.signature(Figure.subplots).parameters][3:], "figure")
    with course_style():
        fig = CourseFigure(figsize=(width, height), dpi=DPI, layout="constrained")
        return fig, fig.subplots(nrows, ncols, **subplots)


def wrapped(text: str, inches: float, points: float = 11) -> str:
    """Return `text` broken into lines that fit into `inches` at a font size of `points`."""
    return textwrap.fill(text, max(12, int(inches * 72 / (0.56 * points)))) if text else ""


def ink(color: str) -> tuple[float, float, float]:
    """Return `color`, dark enough for text on white: a contrast of 4.5 (WCAG 2.2, 1.4.3)."""
    rgb = to_rgb(color)
    while True:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        if 1.05 / (luminance + 0.05) >= 4.5:
            return rgb
        rgb = tuple(0.95 * c for c in rgb)


def spread(positions: list[float], gap: float) -> list[float]:
    """Return places in 0..1 near `positions`, in their order, `gap` apart.

    Least squares, then moved inside.
    """
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    blocks: list[
        list[float]
    ] = []  # pool adjacent violators: [sum, count] of positions minus rank * gap
    for rank, i in enumerate(order):
        blocks.append([positions[i] - rank * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1] = [blocks[-1][0] + total, blocks[-1][1] + count]
    levels = [total / count for total, count in blocks for _ in range(int(count))]
    placed = [level + rank * gap for rank, level in enumerate(levels)]
    for i in range(len(placed) - 1, -1, -1):  # inside the axes: below 1, then above 0
        placed[i] = min(placed[i], 1 - (len(placed) - 1 - i) * gap)
    placed = [max(place, rank * gap) for rank, place in enumerate(placed)]
    return [placed[order.index(i)] for i in range(len(placed))]


@checked(
    titles=each_word("titles"),
    heading=check_heading,
    width=inches,
    height=inches,
    xlabel=check_heading,
    ylabel=check_heading,
    right=room,
    legend=room,
)
def panels(
    titles: Sequence[str],
    heading: str | None,
    *,
    width: float,
    height: float,
    xlabel: str | None = "",
    ylabel: str | None = "",
    right: float = 0.2,
    legend: float = 0.0,
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its axes, one of `width` x `height` inches per title, four in a row.

    They share both axes. `right` and `legend`: inches kept free at the right of the axes and of the
    heading. Margins are fixed, because measuring them (matplotlib's layout engines) triples the
    time of a redraw.
    """
    if len(titles) == 0:
        raise ValueError("titles must hold one for each panel, got none.")
    rows = -(-len(titles) // 4)
    columns = -(-len(titles) // rows)
    named, left, between = any(titles), 0.75, (0.2, 0.55)
    full = left + columns * (width + between[0]) - between[0] + right
    heading = wrapped(heading or "", full - 0.2 - legend)
    top = 0.16 + 0.19 * len(heading.splitlines()) + (0.22 if named else 0.0)
    total = top + rows * (height + between[1])
    with course_style():
        fig = CourseFigure(figsize=(full, total), dpi=DPI)
        fig.text(0.1 / full, 1 - 0.08 / total, heading, va="top", fontsize=11)
        axes: list = []
        for i, title in enumerate(titles):
            row, column = divmod(i, columns)
            x, y = left + column * (width + between[0]), top + row * (height + between[1]) + height
            place = (x / full, 1 - y / total, width / full, height / total)
            first = axes[0] if axes else None
            ax = fig.add_axes(place, sharex=first, sharey=first)
            ax.set_title(title, fontsize=10)
            ax.tick_params(labelleft=column == 0, labelbottom=i + columns >= len(titles))
            ax.set(
                xlabel=xlabel if i + columns >= len(titles) else "", ylabel="" if column else ylabel
            )
            axes.append(ax)
    return fig, axes


def label_width(labels: Iterable[str]) -> float:
    """Return the inches that `label_ends` needs at the right of the axes for the longest label."""
    return 0.35 + 0.085 * max((len(str(label)) for label in labels), default=0)


def label_ends(ax: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Write each label right of `ax`, beside the end of its line, none over another.

    `ends` holds (x, y, label, colour) in data units. Call it last: it freezes the axis limits.
    """
    ax.set_xlim(ax.get_xlim())
    ax.set_ylim(ax.get_ylim())
    to_axes = ax.transData + ax.transAxes.inverted()
    starts = [to_axes.transform((x, y)) for x, y, _, _ in ends]
    inches = ax.get_position().height * ax.figure.get_figheight()
    places = spread([start[1] for start in starts], 10 * 1.3 / 72 / inches)
    for (_, _, label, color), place in zip(ends, places, strict=True):
        ax.text(1.035, place, label, transform=ax.transAxes, va="center", color=ink(color))
    leaders = [[start, (1.03, place)] for start, place in zip(starts, places, strict=True)]
    colors = [color for *_, color in ends]
    ax.add_artist(
        LineCollection(
            leaders, colors=colors, linewidths=0.7, transform=ax.transAxes, clip_on=False
        )
    )
