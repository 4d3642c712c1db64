"""Drawings of what has parts: boxes, arrows and words, placed in inches, in the course's colours.

A kind of thing has one colour in every drawing of the course (`boxes.KINDS`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from torch import Tensor

from ..door import checked, finite
from .arguments import each_word, finite_number, inches, only, words
from .arguments import heading as check_heading
from .boxes import INK, KINDS, QUIET, Box, Place, kind_of_box
from .display import check_alt, png_bytes, publish
from .images import _images
from .look import CourseFigure, course_style
from .style import DPI, ink, wrapped


class Drawing:
    """A drawing of `width` x `height` inches; (0, 0) is its lower left corner.

    `box`, `row`, `arrow`, `text` and `picture` add to it, `show(alt)` shows it with the sentence
    that says what is drawn. Raises ValueError when a text is wider than its box or leaves the
    drawing.
    """

    @checked(width=inches, height=inches, title=check_heading)
    def __init__(self, width: float, height: float, title: str | None = None) -> None:
        heading = wrapped(title or "", width - 0.2)
        head = 0.12 + 0.19 * len(heading.splitlines()) if heading else 0.0
        self.width, self.height, self._pictures = width, height, False
        self._texts: list[tuple[Any, str, float | None]] = []
        with course_style():
            self.figure = CourseFigure(figsize=(width, height + head), dpi=DPI)
            self.axes = self.figure.add_axes((0, 0, 1, 1))
            self.axes.set(xlim=(0, width), ylim=(0, height + head))
            self.axes.set_axis_off()
            self.axes.text(0.1, height + head - 0.08, heading, va="top", fontsize=11)

    @checked(
        x=finite_number,
        y=finite_number,
        text=words,
        width=inches,
        height=inches,
        kind=kind_of_box,
        note=words,
    )
    def box(
        self,
        x: float,
        y: float,
        text: str,
        *,
        width: float = 1.2,
        height: float = 0.5,
        kind: str = "formula",
        note: str = "",
    ) -> Box:
        """Draw a box with its middle at (x, y) and return it; `note`, a shape, stands below it."""
        box, (ground, edge) = Box(x, y, width, height), KINDS[kind]
        corner, look = (x - width / 2, y - height / 2), "round,pad=0,rounding_size=0.06"
        with course_style():
            self.axes.add_patch(
                FancyBboxPatch(
                    corner,
                    width,
                    height,
                    boxstyle=look,
                    facecolor=ground,
                    edgecolor=edge,
                    linewidth=1.2,
                )
            )
        self._write(x, y, text, 10, INK, room=width)
        if note:
            self._write(x, box.bottom[1] - 0.04, note, 8, QUIET, va="top")
        return box

    @checked(texts=each_word("texts"), y=finite_number, left=finite_number, right=finite_number)
    def row(
        self,
        texts: Sequence[str],
        y: float,
        left: float,
        right: float,
        *,
        kinds: str | Sequence[str] = "formula",
        notes: Sequence[str] = (),
        **box: Any,
    ) -> list[Box]:
        """Draw boxes in a row, their middles spread evenly from `left` to `right`; return them.

        `kinds` is one kind for all or a list, `notes` a list of notes; `width` and `height` are
        `box`'s.
        """
        only(box, ("width", "height"), "row")
        count = len(texts)
        each = [kinds] * count if isinstance(kinds, str) else list(kinds)
        below = list(notes) or [""] * count
        if not count == len(each) == len(below):
            raise ValueError(f"row needs one kind and one note for each of its {count} boxes.")
        pitch = (right - left) / max(1, count - 1)
        return [
            self.box(left + i * pitch, y, text, kind=each[i], note=below[i], **box)
            for i, text in enumerate(texts)
        ]

    @checked(label=words, bend=finite_number, kind=kind_of_box)
    def arrow(
        self,
        start: Box | Place,
        end: Box | Place,
        label: str = "",
        *,
        via: Sequence[Place] = (),
        bend: float = 0.0,
        dashed: bool = False,
        kind: str = "formula",
        below: bool = False,
        heads: bool = True,
    ) -> None:
        """Draw an arrow from a box or place to another one, its label above its longest stretch.

        `via` are corners on its way; `bend` curves a straight one (0.3 bends to the right of its
        way); `below` puts the label under it, `heads=False` leaves the head out.
        """
        marks = [start, *via, end]
        middles = [(m.x, m.y) if isinstance(m, Box) else m for m in marks]
        path = list(middles)
        if isinstance(start, Box):
            path[0] = start.edge(middles[1])
        if isinstance(end, Box):
            path[-1] = end.edge(middles[-2])
        look = {
            "arrowstyle": "-|>" if heads else "-",
            "mutation_scale": 11,
            "linewidth": 1.3,
            "color": KINDS[kind][1],
            "linestyle": (0, (3, 2)) if dashed else "-",
            "joinstyle": "round",
        }
        with course_style():
            if via:
                arrow = FancyArrowPatch(path=Path(path), **look)
            else:
                curve = f"arc3,rad={bend}"
                arrow = FancyArrowPatch(*path, connectionstyle=curve, shrinkA=1, shrinkB=1, **look)
            self.axes.add_patch(arrow)
        if label:
            (x0, y0), (x1, y1) = max(pairwise(path), key=lambda stretch: math.dist(*stretch))
            x, y = (x0 + x1) / 2 + bend * (y1 - y0) / 2, (y0 + y1) / 2 - bend * (x1 - x0) / 2
            slanted = abs(x1 - x0) > 0.02 and abs(y1 - y0) > 0.1
            if bend or slanted:  # on the line, which passes behind it
                self._write(x, y, label, 9, INK, bbox={"facecolor": "white", "pad": 1, "lw": 0})
            elif abs(x1 - x0) < 0.02:  # upright: the label stands beside it
                side = -0.06 if below else 0.06
                self._write(x + side, y, label, 9, INK, ha="right" if below else "left")
            else:
                side, va = (-0.05, "top") if below else (0.05, "bottom")
                self._write(x, y + side, label, 9, INK, va=va)

    @checked(x=finite_number, y=finite_number, text=words, size=finite_number, kind=kind_of_box)
    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 9,
        kind: str = "formula",
        align: str = "center",
    ) -> None:
        """Write a text with its middle (or its "left" or "right" end) at (x, y)."""
        self._write(x, y, text, size, ink(KINDS[kind][1]), ha=align)

    @checked(x=finite_number, y=finite_number, image=finite, size=inches, note=words)
    def picture(self, x: float, y: float, image: Tensor, *, size: float, note: str = "") -> Box:
        """Draw a picture (C, H, W) in [-1, 1], `size` inches high, its middle at (x, y)."""
        shown = _images(image[None], "image[None]")[0]
        box = Box(x, y, size * shown.shape[1] / shown.shape[0], size)
        gray = {"cmap": "gray", "vmin": 0, "vmax": 1} if shown.shape[-1] == 1 else {}
        place = (box.left[0], box.right[0], box.bottom[1], box.top[1])
        with course_style():
            limits = self.axes.get_xlim(), self.axes.get_ylim()
            pixels = (shown[..., 0] if gray else shown).numpy()
            self.axes.imshow(pixels, extent=place, interpolation="nearest", **gray)
            self.axes.set(xlim=limits[0], ylim=limits[1], aspect="auto")
        self._pictures = True
        if note:
            self._write(x, box.bottom[1] - 0.04, note, 8, QUIET, va="top")
        return box

    def show(self, alt: str = "") -> None:
        """Show the drawing with `alt`, the sentence that says what is drawn.

        Raises ValueError when `alt` is empty, or when a text is too wide for its place.
        """
        alt = check_alt(alt)
        png = png_bytes(self.figure)
        self._check_texts()
        # The book turns a drawing's colours over in the dark; a photograph would suffer from that.
        mark = "figure" if self._pictures else "drawing"
        publish({"image/png": png, "text/plain": f"[{mark}] {alt}"})

    def _write(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        color: Any,
        *,
        room: float | None = None,
        ha: str = "center",
        va: str = "center",
        **look: Any,
    ) -> None:
        with course_style():
            drawn = self.axes.text(x, y, text, fontsize=size, color=color, ha=ha, va=va, **look)
        self._texts.append((drawn, text, room))

    def _check_texts(self) -> None:
        """Raise ValueError for a text that is wider than its box or leaves the drawing."""
        for drawn, text, room in self._texts:
            extent = drawn.get_window_extent()
            wide, (left, low, right) = extent.width / DPI, (extent.x0, extent.y0, extent.x1)
            if room is not None and wide > room - 0.06:
                raise ValueError(f"{text!r} is {wide:.2f} inches wide, too wide for its box.")
            if min(left, low) < 0 or right > self.width * DPI:
                raise ValueError(f"{text!r} leaves the drawing, which is {self.width} inches wide.")
