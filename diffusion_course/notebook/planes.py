"""Figures of the plane: points, and fields of arrows (`plotting` offers them)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..door import checked, positive_int
from ..validation import describe
from .arguments import all_finite, array, by_panel, heading, inches, positive
from .arguments import points as points_of
from .look import COLORS, course_style
from .style import panels


def _plane(names: Sequence[str], title: str | None, limit: float, size: float | None):
    """Return square panels with both axes from -limit to limit."""
    size = size or (1.9 if len(names) > 1 else 3.4)
    names_of_axes = {"xlabel": "first coordinate", "ylabel": "second coordinate"}
    fig, axes = panels(list(names), title, width=size, height=size, **names_of_axes)
    axes[0].set(xlim=(-limit, limit), ylim=(-limit, limit))
    return fig, axes


@course_style()
@checked(title=heading, limit=positive, size=inches)
def scatter_2d(
    points: Any, *, title: str | None, limit: float | None = None, size: float | None = None
) -> Figure:
    """Draw points (N, 2); the axes end at `limit` (default: all points)."""
    given = by_panel("points", points)
    clouds = {name: points_of(f"points {name}".strip(), value) for name, value in given.items()}
    limit = limit or 1.05 * max(abs(cloud).max() for cloud in clouds.values()) or 1.0
    fig, axes = _plane(list(clouds), title, limit, size)
    for ax, cloud in zip(axes, clouds.values(), strict=True):
        ax.scatter(*cloud.T, s=4, alpha=0.5, linewidths=0, c=COLORS[0])
    return fig


def _on_grid(
    function: Callable[[Tensor], Tensor], limit: float, resolution: int, shape: tuple[int, ...]
):
    """Return the axis (n,) and values (n, n, *shape) of `function` on a square grid."""
    axis = torch.linspace(-limit, limit, resolution, dtype=torch.float64, device="cpu")
    plane = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)
    values = function(plane)
    if tuple(getattr(values, "shape", ())) != (len(plane), *shape):
        raise ValueError(
            f"the function in fields must return shape {(len(plane), *shape)}, got"
            f" {describe(values)}."
        )
    found = all_finite("what the function in fields returns", array("fields", values))
    return axis.numpy(), found.reshape(resolution, resolution, *shape)


def _callables(name: str, fields: Any, given: dict[str, Any]) -> None:
    for title, one in by_panel(name, fields).items():
        if not callable(one):
            which = f"fields[{title!r}]" if title else "fields"
            raise TypeError(f"{which} must be a function of points (N, 2), got {describe(one)}.")


_callables.typed = True


@course_style()
@checked(fields=_callables, title=heading, limit=positive, resolution=positive_int, size=inches)
def vector_field(
    fields: Any,
    *,
    title: str | None,
    limit: float = 3.0,
    resolution: int = 16,
    size: float | None = None,
) -> Figure:
    """Draw arrows in the plane, all lengths on one scale.

    Each field maps float64 points (N, 2) to (N, 2).
    """
    drawn = {
        name: _on_grid(f, limit, resolution, (2,)) for name, f in by_panel("fields", fields).items()
    }
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
