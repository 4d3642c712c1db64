"""Figures of images: grids, and strips that show x_t over t (`plotting` offers them)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..door import checked, positive_int
from ..validation import check_floating, describe
from .arguments import heading, inches
from .arguments import labels as are_labels
from .look import CourseFigure, course_style
from .style import DPI, wrapped


def _images(images: Any, name: str = "images") -> Tensor:
    """Return images (N, C, H, W) in [-1, 1] as (N, H, W, C) in [0, 1]; the picture alone clips."""
    if isinstance(images, (list, tuple)) and all(isinstance(one, Tensor) for one in images):
        raise TypeError(
            f"{name} must be one tensor (N, C, H, W), got a {type(images).__name__} of"
            f" {len(images)} tensors. Put them together: torch.stack({name})."
        )
    if isinstance(images, Tensor) and images.dtype == torch.uint8:
        raise TypeError(
            f"{name} must be floating in [-1, 1], got {describe(images)}. From 0..255: {name} /"
            " 127.5 - 1."
        )
    check_floating(name, images)
    if images.is_meta:
        raise ValueError(f"{name} has no values to show, got {describe(images)}.")
    if images.ndim != 4 or 0 in images.shape or images.shape[1] not in (1, 3):
        raise ValueError(
            f"{name} must have shape (N, 1 or 3, H, W), values in [-1, 1], got {describe(images)}."
        )
    if bad := int((~images.isfinite()).sum()):
        raise ValueError(
            f"{name} holds {bad} values that are not finite, got {describe(images)}. To see the"
            f" others: {name}.nan_to_num(0, 1, -1)."
        )
    shown = images.detach().to("cpu", torch.float32).clamp(-1, 1).add(1).div(2)
    return shown.permute(0, 2, 3, 1)


@course_style()
def _mosaic(rows: Sequence[Tensor], cell_titles, column_labels, row_labels, title, scale) -> Figure:
    """Draw rows of images (H, W, C), `scale` inches each, without resampling across pixels."""
    height, width = rows[0].shape[1:3]
    cell_w, cell_h = scale * width / max(height, width), scale * height / max(height, width)
    columns, gap = max(len(row) for row in rows), 0.06
    left = 0.1 + max((0.085 * len(str(label)) for label in row_labels or ()), default=0.0)
    pitch = cell_h + gap + (0.2 if cell_titles else 0.0)
    heading = wrapped(title or "", left + columns * (cell_w + gap))
    top = 0.1 + 0.19 * len(heading.splitlines()) + (0.22 if column_labels else 0.0)
    size = max(1.5, left + columns * (cell_w + gap) + 0.1), top + len(rows) * pitch + 0.1
    fig = CourseFigure(figsize=size, dpi=DPI)
    ax = fig.add_axes((0, 0, 1, 1), xlim=(0, size[0]), ylim=(size[1], 0))  # data units are inches
    ax.set_axis_off()
    for r, row in enumerate(rows):
        y = top + r * pitch + (0.2 if cell_titles else 0.0)
        first_row = column_labels and r == 0
        for c, image in enumerate(row):
            x = left + c * (cell_w + gap)
            gray = {"cmap": "gray", "vmin": 0, "vmax": 1} if image.shape[-1] == 1 else {}
            pixels = image[..., 0] if gray else image
            ax.imshow(
                pixels.numpy(),
                extent=(x, x + cell_w, y + cell_h, y),
                interpolation="nearest",
                **gray,
            )
            above = (
                cell_titles[r * columns + c]
                if cell_titles
                else column_labels[c]
                if first_row
                else ""
            )
            ax.text(x + cell_w / 2, y - 0.04, str(above), ha="center", va="bottom", fontsize=9)
        if row_labels:
            ax.text(
                left - 0.08, y + cell_h / 2, str(row_labels[r]), ha="right", va="center", fontsize=9
            )
    ax.set(xlim=(0, size[0]), ylim=(size[1], 0), aspect="auto")
    fig.text(left / size[0], 1 - 0.08 / size[1], heading, va="top", fontsize=11)
    return fig


def _pictures(name: str, images: Any, given: dict[str, Any]) -> None:
    _images(images, name)


_pictures.typed = True


def _check_labels(name: str, labels: Sequence | None, count: int, each: str) -> list | None:
    """Return the labels as a list; raises TypeError or ValueError for others than `count`."""
    are_labels(name, labels)
    if labels is not None and len(labels) != count:
        got = f"got {len(labels)}: {list(labels)!r}"
        raise ValueError(f"{name} needs {count} entries, one for each of {each}, {got}.")
    return None if labels is None else list(labels)


@checked(images=_pictures, columns=positive_int, scale=inches, title=heading)
def image_grid(
    images: Tensor,
    *,
    columns: int = 8,
    titles: Sequence | None = None,
    row_labels: Sequence | None = None,
    title: str | None = None,
    scale: float = 0.8,
) -> Figure:
    """Draw images (N, C, H, W) row by row: black is -1, white 1, values outside are clipped.

    `titles` stand above each image, `row_labels` left of each row, `scale` is the longer side in
    inches. Raises ValueError for another shape, values that are not finite, or a wrong number of
    labels.
    """
    shown = _images(images)
    rows = list(shown.split(max(1, min(columns, len(shown)))))
    titles = _check_labels("titles", titles, len(shown), "images")
    row_labels = _check_labels("row_labels", row_labels, len(rows), "the rows of images")
    return _mosaic(rows, titles, None, row_labels, title, scale)


@checked(scale=inches, title=heading)
def image_strip(
    rows: Tensor | Sequence[Tensor],
    *,
    column_labels: Sequence | None = None,
    row_labels: Sequence | None = None,
    title: str | None = None,
    scale: float = 0.8,
) -> Figure:
    """Draw rows of images, such as x_t over t: a list of (N, C, H, W), or one for one row."""
    each = [rows] if isinstance(rows, Tensor) else rows
    if not isinstance(each, (list, tuple)):
        raise TypeError(
            f"rows must be a tensor of pictures or a list of them, got {describe(rows)}."
        )
    shown = [_images(row, f"rows[{i}]" if each is rows else "rows") for i, row in enumerate(each)]
    if not shown or any(row.shape != shown[0].shape for row in shown):
        raise ValueError(f"rows must have one shape, got {[tuple(row.shape) for row in shown]}.")
    column_labels = _check_labels("column_labels", column_labels, len(shown[0]), "rows[0]")
    row_labels = _check_labels("row_labels", row_labels, len(shown), "rows")
    return _mosaic(shown, None, column_labels, row_labels, title, scale)
