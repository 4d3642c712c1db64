"""Frames as a short loop, with a still for print and for people who prefer no motion."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image, features
from torch import Tensor

from ..door import checked
from ..validation import describe
from .arguments import heading, labels, only
from .display import check_alt, png_bytes
from .images import image_grid

MOST_BYTES = 400_000  # of the stored HTML: a lesson has several figures and opens on a phone
QUALITIES = (None, 90, 75, 60, 45, 30)  # None: without loss
MOST_STILL_BYTES = 60_000
MOST_SECONDS = 600.0
GRID = ("columns", "titles", "row_labels", "title", "scale")  # the options of image_grid
MOST_ROUNDS = 65535  # what WebP counts to
MOST_FRAMES = 1000  # so that frames without an end are noticed
HOLD = 1.0  # seconds that the last frame stays


class Animation:
    """A loop that plays a few times and rests on its last frame: `Animation(frames, alt="...")`.

    Each frame is pictures (N, C, H, W) in [-1, 1], a Figure, or, with `draw`, whatever
    `draw(frame)` turns into one of these; all frames are drawn to one size. `titles` gives each
    frame of pictures its heading. `seconds` is the time of one round before the last frame is held,
    `repeat` the number of rounds, 0 for no end. `still` is a Figure, or the index of the
    frame that stands for the loop where it must not move: in print, where a reader asks the system
    for less motion, and where a page shows pictures only. Options go to `plotting.image_grid`. The
    loop is stored as WebP, without loss if that is small enough. Raises ValueError for no frames,
    frames of several sizes, missing alt text, or more than 400 kB.
    """

    @checked(titles=labels)
    def __init__(
        self,
        frames: Iterable[Any],
        alt: str,
        *,
        draw: Callable[[Any], Figure | Tensor] | None = None,
        titles: Sequence[str] | None = None,
        seconds: float = 4.0,
        repeat: int = 3,
        still: int | Figure = -1,
        **options: Any,
    ):
        self.alt = check_alt(alt)
        if isinstance(frames, (str, bytes)) or not isinstance(frames, Iterable):
            raise TypeError(
                f"frames must be a list of pictures or Figures, got {describe(frames)}."
            )
        if getattr(frames, "ndim", 1) == 0:
            raise ValueError(f"frames must have an axis of frames, got {describe(frames)}.")
        only(options, GRID, "Animation")
        if not 0 < seconds < MOST_SECONDS or not 0 <= repeat <= MOST_ROUNDS:
            raise ValueError(
                f"Animation: seconds must be > 0, below {MOST_SECONDS:g}, and repeat >= 0 and"
                f" <= {MOST_ROUNDS}, got {seconds} and {repeat}."
            )
        for i, title in enumerate(titles if titles is not None else ()):
            heading(f"titles[{i}]", title)
        drawn = _drawn(frames, draw, titles, options)
        if titles is not None and len(titles) != len(drawn):
            raise ValueError(
                f"Animation: titles needs {len(drawn)} entries, one for each of frames, got"
                f" {len(titles)}."
            )
        if isinstance(still, int) and not -len(drawn) <= still < len(drawn):
            raise ValueError(f"still must be the index of one of {len(drawn)} frames, got {still}.")
        self.still = png_bytes(still) if isinstance(still, Figure) else drawn[still]
        self._images = [Image.open(io.BytesIO(png)).convert("RGB") for png in drawn]
        sizes = sorted({image.size for image in self._images})
        if len(sizes) > 1:
            raise ValueError(
                f"Animation: frames must have one size, got {sizes} pixels; fix the axes or shorten"
                " the titles."
            )
        steps = [max(20, round(1000 * seconds / len(drawn)))] * len(drawn)
        steps[-1] += round(1000 * HOLD)
        self.kind, still = _smallest_loss(
            [Image.open(io.BytesIO(self.still)).convert("RGB")], MOST_STILL_BYTES
        )
        self._still_uri = _uri(self.kind, still)
        room = (MOST_BYTES - len(self._html(""))) * 3 // 4 - 100
        _, self.moving = _smallest_loss(
            self._images, room, save_all=True, duration=steps, loop=repeat
        )
        if len(self.moving) > room:
            size = " x ".join(map(str, sizes[0]))
            raise ValueError(
                f"Animation: {len(drawn)} frames of {size} pixels take {len(self.moving)} bytes,"
                f" {room} fit into a page beside the still; give fewer or smaller frames."
            )

    def _html(self, moving: str) -> str:
        return (
            '<div class="course-animation"><picture><source media="print, (prefers-reduced-motion:'
            f' reduce)" srcset="{self._still_uri}"><img alt="{html.escape(self.alt)}"'
            f' style="max-width: 100%; background: #fff" src="{moving}"></picture></div>'
        )

    def __repr__(self) -> str:
        return f"[figure] {self.alt}"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        """Return the loop as HTML, the still where only pictures are shown, and the alt text."""
        return {
            "text/plain": repr(self),
            "text/html": self._html(_uri(self.kind, self.moving)),
            "image/png": base64.b64encode(self.still).decode(),
        }


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _smallest_loss(images: list[Image.Image], room: int, **options: Any) -> tuple[str, bytes]:
    """Return (mime type, bytes) in the best quality that fits into `room` bytes, else the last."""
    webp = features.check("webp")
    more = {"append_images": images[1:]} if options else {}
    for quality in QUALITIES if webp else QUALITIES[:1]:
        buffer = io.BytesIO()
        how = (
            {"method": 4, **({"lossless": True} if quality is None else {"quality": quality})}
            if webp
            else {}
        )
        images[0].save(buffer, "WEBP" if webp else "PNG", **how, **options, **more)
        if len(buffer.getvalue()) <= room:
            break
    return ("image/webp" if webp else "image/png"), buffer.getvalue()


def _drawn(frames: Iterable, draw: Callable | None, titles: Any, options: dict) -> list[bytes]:
    """Return each frame's picture, drawn when it comes: the next may change the same Figure."""
    if isinstance(frames, Sequence) and len(frames) > 1 and draw is None:
        if isinstance(frames[0], Figure) and all(frame is frames[0] for frame in frames):
            raise ValueError(
                f"Animation: frames holds one and the same Figure {len(frames)} times, as it is"
                " now. Give a generator that yields it after each change, or draw=."
            )
    drawn: list[bytes] = []
    for i, frame in enumerate(frames):
        if i == MOST_FRAMES:
            raise ValueError(f"Animation: frames must be at most {MOST_FRAMES}, got more.")
        title = titles[i] if titles is not None and i < len(titles) else None
        source = f"frames[{i}]" if draw is None else "draw"
        shown = _figure(frame if draw is None else draw(frame), title, options, source)
        drawn.append(png_bytes(shown))
    if not drawn:
        raise ValueError("Animation: frames needs at least one frame, got none.")
    return drawn


def _figure(frame: Any, title: str | None, options: dict[str, Any], source: str) -> Figure:
    """Return a frame as a Figure."""
    if isinstance(frame, Figure):
        if title is not None or options:
            raise ValueError(
                "Animation: titles and options are for frames of pictures; a Figure brings its own"
                " title."
            )
        return frame
    if not isinstance(frame, torch.Tensor):
        raise TypeError(
            f"Animation: {source} must give a frame, a tensor of pictures (N, C, H, W) or a Figure,"
            f" got {describe(frame)}."
        )
    try:
        return image_grid(frame, **({"title": title} if title is not None else {}), **options)
    except (TypeError, ValueError) as error:
        raise type(error)(f"Animation: {source}: {error}") from None
