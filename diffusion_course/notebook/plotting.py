"""The course's figures: tensors on any device in, a matplotlib `Figure` out.

Where a function draws several panels it takes a dict {panel title: data}; a single value gives one
panel. All panels of a figure share axes and colour scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from ..door import checked, positive_int
from ..validation import describe
from .arguments import (
    all_finite,
    array,
    as_long_as,
    by_panel,
    finite_number,
    heading,
    in_words,
    inches,
    vector,
    words,
)
from .images import image_grid, image_strip
from .look import COLORS, course_style
from .planes import scatter_2d, vector_field
from .style import label_ends, label_width, panels

__all__ = [
    "histogram_against_density",
    "image_grid",
    "image_strip",
    "lines",
    "loss_curve",
    "scatter_2d",
    "vector_field",
]


def _curves(name: str, ys: Any, given: dict[str, Any]) -> None:
    if not isinstance(ys, Mapping):
        raise TypeError(f"ys must be a dictionary, a curve for each label, got {describe(ys)}.")
    if not ys:
        raise ValueError("ys must hold at least one curve, got an empty dictionary.")
    in_words("a label in ys", ys)


_curves.typed = True


@course_style()
@checked(xlabel=heading, ylabel=heading, title=heading, ys=_curves, width=inches, height=inches)
def lines(
    x: Any,
    ys: Mapping[str, Any],
    *,
    xlabel: str | None,
    ylabel: str | None,
    title: str | None,
    logx: bool = False,
    logy: bool = False,
    direct_labels: bool = True,
    width: float = 5.2,
    height: float = 2.7,
) -> Figure:
    """Draw the curves {label: y}, a text or a number each, labelled at their ends.

    y is (N,) like x, an (x, y) pair, or a number.

    A number is a dashed level. Values that are not finite, or <= 0 on a logarithmic axis, leave a
    gap. Raises TypeError or ValueError for what holds no numbers, or lengths that differ.
    """
    ys = in_words("a label in ys", ys)
    right = label_width(ys) if direct_labels else 0.2
    fig, (ax,) = panels(
        [""], title, width=width, height=height, xlabel=xlabel, ylabel=ylabel, right=right
    )
    if logx:
        ax.set_xscale("log", nonpositive="mask")
    if logy:
        ax.set_yscale("log", nonpositive="mask")
    x, ends, levels = vector("x", x), [], []
    for i, (label, y) in enumerate(ys.items()):
        color = COLORS[i % len(COLORS)]
        if isinstance(y, tuple) and len(y) != 2:
            raise ValueError(f"ys[{label!r}] must be y or a pair (x, y), got {describe(y)}.")
        xs, y = y if isinstance(y, tuple) else (x, y)
        y = array(f"ys[{label!r}]", y)
        if y.ndim == 0:
            if math.isfinite(y) and (y > 0 or not logy):
                ax.axhline(float(y), color=color, linestyle="--", label=label)
                levels.append((float(y), label, color))
            continue
        xs = vector(f"x of ys[{label!r}]", xs)
        y = as_long_as(f"ys[{label!r}]", y, "x", len(xs))
        ax.plot(xs, y, color=color, label=label)
        there = np.isfinite(y) & np.isfinite(xs) & ((y > 0) | (not logy)) & ((xs > 0) | (not logx))
        if there.any():
            last = there.nonzero()[0][-1]
            ends.append((xs[last], y[last], label, color))
    ax.margins(x=0.02)
    if direct_labels:
        label_ends(ax, ends + [(ax.get_xlim()[1], *level) for level in levels])
    else:
        ax.legend()
    return fig


@course_style()
@checked(
    title=heading,
    window=positive_int,
    reference=finite_number,
    reference_label=words,
    ylabel=heading,
)
def loss_curve(
    losses: Any,
    *,
    title: str | None,
    window: int = 50,
    reference: float | None = None,
    reference_label: str = "least possible",
    ylabel: str | None = "loss",
) -> Figure:
    """Draw losses (N,), one per step, faintly, and their running mean over `window`.

    `reference` is a level to compare with. A loss that is not finite leaves a gap.
    Raises ValueError if none is finite.
    """
    losses = vector("losses", losses)
    if not np.isfinite(losses).any():
        raise ValueError(f"losses holds no finite number, got {len(losses)} values.")
    window = min(window, len(losses))
    label = f"mean of {window}"
    steps = np.arange(1, len(losses) + 1)
    fig, (ax,) = panels(
        [""],
        title,
        width=5.2,
        height=2.7,
        xlabel="training step",
        ylabel=ylabel,
        right=label_width([label, reference_label]),
    )
    mean = torch.from_numpy(losses).unfold(0, window, 1).mean(-1).numpy()
    ax.plot(steps, losses, color=COLORS[0], alpha=0.3, linewidth=0.8)
    ax.plot(steps[window - 1 :], mean, color=COLORS[0])
    shown = mean if np.isfinite(mean).any() else losses
    last = np.isfinite(shown).nonzero()[0][-1]
    ends = [(float(steps[last - len(shown)]), float(shown[last]), label, COLORS[0])]
    if reference is not None:
        ax.axhline(reference, color=COLORS[1], linestyle="--")
        ends.append((float(steps[-1]), reference, reference_label, COLORS[1]))
    label_ends(ax, ends)
    return fig


@course_style()
@checked(xlabel=heading, title=heading, bins=positive_int)
def histogram_against_density(
    samples: Any,
    grid: Any,
    density: Any,
    *,
    xlabel: str | None = "x",
    title: str | None,
    bins: int = 60,
) -> Figure:
    """Draw histograms of samples (N,) under densities (G,) on `grid` (G,).

    Bars are counts / (all samples x bin width): samples outside the grid count, so the area may be
    below 1.
    """
    samples, density = by_panel("samples", samples), by_panel("density", density)
    grid = all_finite("grid", vector("grid", grid))
    if len(grid) < 2 or not grid[0] < grid[-1]:
        raise ValueError(f"grid must rise, over at least two places, got {describe(grid)}.")
    if samples.keys() != density.keys():
        raise ValueError(
            f"samples and density need the same panels, got {list(samples)} and {list(density)}."
        )
    width = 1.9 if len(samples) > 1 else 5.2
    fig, axes = panels(
        list(samples), title, width=width, height=2.0, xlabel=xlabel, ylabel="density", legend=2.1
    )
    edges = np.linspace(grid[0], grid[-1], bins + 1)
    for ax, name in zip(axes, samples, strict=True):
        where = f" {name}" if name else ""
        values = vector(f"samples{where}", samples[name])
        if np.isnan(values).any():
            raise ValueError(f"samples{where} holds {int(np.isnan(values).sum())} NaN.")
        counts = torch.histc(torch.from_numpy(values), bins, min=edges[0], max=edges[-1]).numpy()
        height = counts / (len(values) * (edges[1] - edges[0]))
        bars = ax.stairs(height, edges, fill=True, color="#BBBBBB")
        (curve,) = ax.plot(
            grid, as_long_as(f"density{where}", density[name], "grid", len(grid)), color=COLORS[0]
        )
    fig.legend(
        [bars, curve],
        ["samples", "density"],
        loc="upper right",
        ncols=2,
        fontsize=9,
        handlelength=1.2,
    )
    return fig
