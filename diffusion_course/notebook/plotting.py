"""The course's figures: tensors on any device in, a matplotlib `Figure` out.

Where a function draws several panels it takes a dict {panel title: data}; a single value gives one
panel. All panels of a figure share axes and colour scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..validation import describe
from .images import image_grid, image_strip
from .look import COLORS, course_style
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


def _numpy(value: Any):
    """Return numbers or any tensor as a float64 array on the CPU."""
    return torch.as_tensor(value, dtype=torch.float64, device="cpu").detach().numpy()


def _panels(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {"": value}


def _vector(name: str, value: Any, length: int | None = None):
    array = _numpy(value)
    if array.ndim != 1 or len(array) == 0 or (length is not None and len(array) != length):
        expected = "(N,) with N >= 1" if length is None else f"({length},)"
        raise ValueError(f"{name} must have shape {expected}, got {array.shape}.")
    return array


def _points(name: str, value: Any):
    array = _numpy(value)
    if array.ndim != 2 or array.shape[1] != 2 or len(array) == 0:
        raise ValueError(f"{name} must be points in the plane, shape (N, 2), got {array.shape}.")
    return array


@course_style()
def lines(
    x: Any,
    ys: Mapping[str, Any],
    *,
    xlabel: str,
    ylabel: str,
    title: str,
    logx: bool = False,
    logy: bool = False,
    direct_labels: bool = True,
    width: float = 5.2,
    height: float = 2.7,
) -> Figure:
    """Draw the curves {label: y}, each labelled at its end.

    y is (N,) like x, an (x, y) pair, or a number.

    A number is a dashed level. Values that are not finite, or <= 0 on a logarithmic axis, leave a
    gap.
    """
    right = label_width(ys) if direct_labels else 0.2
    fig, (ax,) = panels(
        [""], title, width=width, height=height, xlabel=xlabel, ylabel=ylabel, right=right
    )
    if logx:
        ax.set_xscale("log", nonpositive="mask")
    if logy:
        ax.set_yscale("log", nonpositive="mask")
    x, ends, levels = _vector("x", x), [], []
    for i, (label, y) in enumerate(ys.items()):
        color = COLORS[i % len(COLORS)]
        xs, y = y if isinstance(y, tuple) else (x, _numpy(y))
        if y.ndim == 0:
            ax.axhline(float(y), color=color, linestyle="--", label=label)
            levels.append((float(y), label, color))
            continue
        xs = _vector(f"x of {label!r}", xs)
        y = _vector(f"y of {label!r}", y, len(xs))
        ax.plot(xs, y, color=color, label=label)
        seen = [k for k in range(len(y)) if math.isfinite(y[k]) and (y[k] > 0 or not logy)]
        if seen:
            ends.append((xs[seen[-1]], y[seen[-1]], label, color))
    ax.margins(x=0.02)
    if direct_labels:
        label_ends(ax, ends + [(ax.get_xlim()[1], *level) for level in levels])
    else:
        ax.legend()
    return fig


@course_style()
def loss_curve(
    losses: Any,
    *,
    title: str,
    window: int = 50,
    reference: float | None = None,
    reference_label: str = "least possible",
    ylabel: str = "loss",
) -> Figure:
    """Draw losses (N,), one per step, faintly, and their running mean over `window`.

    `reference` is a level to compare with.
    """
    losses = torch.from_numpy(_vector("losses", losses))
    window = max(1, min(window, len(losses)))
    label = f"mean of {window}"
    steps = torch.arange(1, len(losses) + 1)
    fig, (ax,) = panels(
        [""],
        title,
        width=5.2,
        height=2.7,
        xlabel="training step",
        ylabel=ylabel,
        right=label_width([label, reference_label]),
    )
    mean = losses.unfold(0, window, 1).mean(-1)
    ax.plot(steps, losses, color=COLORS[0], alpha=0.3, linewidth=0.8)
    ax.plot(steps[window - 1 :], mean, color=COLORS[0])
    ends = [(float(steps[-1]), float(mean[-1]), label, COLORS[0])]
    if reference is not None:
        ax.axhline(reference, color=COLORS[1], linestyle="--")
        ends.append((float(steps[-1]), reference, reference_label, COLORS[1]))
    label_ends(ax, ends)
    return fig


@course_style()
def histogram_against_density(
    samples: Any, grid: Any, density: Any, *, xlabel: str = "x", title: str, bins: int = 60
) -> Figure:
    """Draw histograms of samples (N,) under densities (G,) on `grid` (G,).

    Bars are counts / (all samples x bin width): samples outside the grid count, so the area may be
    below 1.
    """
    samples, density, grid = _panels(samples), _panels(density), _vector("grid", grid)
    if samples.keys() != density.keys():
        raise ValueError(
            f"samples and density need the same panels: {list(samples)}, {list(density)}."
        )
    width = 1.9 if len(samples) > 1 else 5.2
    fig, axes = panels(
        list(samples), title, width=width, height=2.0, xlabel=xlabel, ylabel="density", legend=2.1
    )
    edges = torch.linspace(float(grid[0]), float(grid[-1]), bins + 1, dtype=torch.float64)
    for ax, name in zip(axes, samples, strict=True):
        values = torch.from_numpy(_vector(f"samples {name}", samples[name]))
        counts = torch.histc(values, bins, min=float(edges[0]), max=float(edges[-1]))
        bars = ax.stairs(
            counts / (len(values) * (edges[1] - edges[0])), edges, fill=True, color="#BBBBBB"
        )
        (curve,) = ax.plot(
            grid, _vector(f"density {name}", density[name], len(grid)), color=COLORS[0]
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


def _plane(names: Sequence[str], title: str, limit: float, size: float | None):
    """Return square panels with both axes from -limit to limit."""
    size = size or (1.9 if len(names) > 1 else 3.4)
    fig, axes = panels(list(names), title, width=size, height=size, xlabel="$x_1$", ylabel="$x_2$")
    axes[0].set(xlim=(-limit, limit), ylim=(-limit, limit))
    return fig, axes


@course_style()
def scatter_2d(
    points: Any, *, title: str, limit: float | None = None, size: float | None = None
) -> Figure:
    """Draw points (N, 2); the axes end at `limit` (default: all points)."""
    clouds = {name: _points(f"points {name}", value) for name, value in _panels(points).items()}
    limit = limit or 1.05 * max(abs(cloud).max() for cloud in clouds.values())
    fig, axes = _plane(list(clouds), title, limit, size)
    for ax, cloud in zip(axes, clouds.values(), strict=True):
        ax.scatter(*cloud.T, s=4, alpha=0.5, linewidths=0, c=COLORS[0])
    return fig


def _on_grid(
    function: Callable[[Tensor], Tensor], limit: float, resolution: int, shape: tuple[int, ...]
):
    """Return the axis (n,) and values (n, n, *shape) of `function` on a square grid."""
    axis = torch.linspace(-limit, limit, resolution, dtype=torch.float64)
    points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)
    values = function(points)
    if tuple(values.shape) != (len(points), *shape):
        raise ValueError(
            f"the function must return shape {(len(points), *shape)}, got {describe(values)}."
        )
    return axis.numpy(), _numpy(values).reshape(resolution, resolution, *shape)


@course_style()
def vector_field(
    fields: Any, *, title: str, limit: float = 3.0, resolution: int = 16, size: float | None = None
) -> Figure:
    """Draw arrows in the plane, all lengths on one scale.

    Each field maps float64 points (N, 2) to (N, 2).
    """
    drawn = {name: _on_grid(f, limit, resolution, (2,)) for name, f in _panels(fields).items()}
    fig, axes = _plane(list(drawn), title, 1.1 * limit, size)
    longest = max((vectors**2).sum(-1).max() ** 0.5 for _, vectors in drawn.values())
    scale = longest * resolution / (4 * limit) or 1.0  # the longest arrow spans two cells
    for ax, (axis, vectors) in zip(axes, drawn.values(), strict=True):
        u, v = vectors[..., 0], vectors[..., 1]
        ax.quiver(
            axis,
            axis,
            u,
            v,
            color=COLORS[0],
            angles="xy",
            scale_units="xy",
            scale=scale,
            width=0.006,
        )
    return fig
