"""Pictures of scenes: signed distances, anti-aliased and painted, many at once, on any device and
of any size.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...door import checked, positive_int
from ...seeds import draw
from .backgrounds import BACKGROUND_PAINTERS
from .shapes import SHAPES
from .words import BACKGROUNDS, COLOURS, KINDS, LAYOUTS, PATTERNS, SINGLE, check_codes

RGB = {
    "red": (0.86, 0.15, 0.17),
    "orange": (0.98, 0.54, 0.10),
    "yellow": (0.99, 0.86, 0.18),
    "green": (0.16, 0.62, 0.28),
    "blue": (0.15, 0.38, 0.87),
    "purple": (0.50, 0.22, 0.70),
    "pink": (0.98, 0.56, 0.76),
    "brown": (0.48, 0.29, 0.16),
    "black": (0.15, 0.15, 0.18),
    "white": (0.97, 0.97, 0.95),
}
PAINTS = {
    "ink": (0.13, 0.11, 0.16),
    "light": (1.0, 1.0, 1.0),
    "cream": (0.97, 0.91, 0.78),
    "wood": (0.36, 0.22, 0.13),
    "gold": (0.99, 0.80, 0.25),
}
SECOND_TONE = {
    "yellow": (0.80, 0.50, 0.05),
    "white": (0.55, 0.58, 0.66),
    "pink": (0.80, 0.22, 0.48),
    "orange": (1.0, 0.84, 0.55),
}
RADII = {
    "one": (0.165, 0.27),
    "side by side": (0.16, 0.235),
    "stacked": (0.16, 0.235),
    "nested": (0.155, 0.40),
}
# The most that a thing leans, in radians; the others lean by 0.08.
TURNS = {
    "ball": 0.2,
    "square": 0.25,
    "triangle": 0.2,
    "star": 0.3,
    "heart": 0.2,
    "moon": 0.3,
    "flower": 0.5,
}
FLIPS = ("moon", "fish", "boat")
SOFTNESS = 1.6
CHUNK = 256  # pictures drawn together: many enough to pay for the calls, few enough for the caches


@checked(size=positive_int)
def render_scenes(
    codes: Tensor | Sequence[Sequence[int]],
    *,
    size: int = 64,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw codes (N, 10) as pictures (N, 3, size, size) in [-1, 1].

    Places, sizes, turns, tints and the background's details vary with ``generator`` (a CPU one, so
    that a seed gives the same scene on every device, up to rounding). Raises ValueError for codes
    without a meaning or a size below 16.
    """
    rows, device = check_codes(codes), "cpu" if device is None else device
    if size < 16:
        raise ValueError(
            f"size must be at least 16 pixels, got {size}: a small thing would be smaller than its"
            " outline."
        )
    # All chance of a picture is one row.
    random = draw(torch.rand, len(rows), 32, generator=generator, **SINGLE).to(device)
    pictures = torch.empty(len(rows), 3, size, size, device=device, dtype=dtype)
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        pictures[part] = (
            _draw(rows[part], random[part], size).mul_(2).sub_(1).clamp_(-1, 1).to(dtype)
        )
    return pictures


def _draw(rows: list[list[int]], random: Tensor, size: int) -> Tensor:
    axis = (torch.arange(size, device=random.device, dtype=random.dtype) + 0.5) / size
    x, y = axis[None, None, :], 1 - axis[None, :, None]  # y points up
    pictures = torch.empty(len(rows), 3, size, size, device=random.device, dtype=random.dtype)
    for background in {row[1] for row in rows}:
        index = [i for i, row in enumerate(rows) if row[1] == background]
        pictures[index] = BACKGROUND_PAINTERS[BACKGROUNDS[background]](
            x, y, random[index, 16:], 1 / size
        )
    for slot in (0, 1):
        present = [row[0] > 0 or slot == 0 for row in rows]
        for kind in {row[2 + 4 * slot] for row, here in zip(rows, present, strict=True) if here}:
            index = [i for i, row in enumerate(rows) if present[i] and row[2 + 4 * slot] == kind]
            chosen = [rows[i] for i in index]
            pictures[index] = _paint_thing(
                pictures[index], chosen, slot, random[index, 8 * slot : 8 * slot + 8], x, y, size
            )
    return pictures


def _column(values: Sequence[float] | Tensor, like: Tensor) -> Tensor:
    """Values (n,) as (n, 1, 1) beside ``like``."""
    return torch.as_tensor(values, **SINGLE).to(like.device)[:, None, None]


def _place(rows: list[list[int]], slot: int, random: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centre (x, y) and radius of the thing in each picture, in units of the picture, each (n, 1,
    1).
    """
    base = {"one": (0.5, 0.5, 0.10, 0.10), "nested": (0.5, 0.5, 0.02, 0.02)}
    base |= {
        "side by side": ((0.255, 0.745)[slot], 0.5, 0.02, 0.09),
        "stacked": (0.5, (0.745, 0.255)[slot], 0.09, 0.02),
    }
    places = [base[LAYOUTS[row[0]]] for row in rows]
    radii = [RADII[LAYOUTS[row[0]]][row[5 + 4 * slot]] for row in rows]
    cx, cy, wide, high = (_column([p[k] for p in places], random) for k in range(4))
    sway = 2 * random[:, :3, None, None] - 1
    return (
        cx + wide * sway[:, 0],
        cy + high * sway[:, 1],
        _column(radii, random) * (1 + 0.07 * sway[:, 2]),
    )


def _paint_thing(
    pictures: Tensor,
    rows: list[list[int]],
    slot: int,
    random: Tensor,
    x: Tensor,
    y: Tensor,
    size: int,
) -> Tensor:
    """Return pictures (n, 3, S, S) with the thing of this slot, one kind in all of them, painted
    over.
    """
    kind = KINDS[rows[0][2 + 4 * slot]]
    cx, cy, radius = _place(rows, slot, random)
    turn = TURNS.get(kind, 0.08) * (2 * random[:, 3, None, None] - 1)
    flip = (2 * (random[:, 4, None, None] >= 0.5) - 1) if kind in FLIPS else 1.0
    dx, dy = (x - cx) / radius, (y - cy) / radius
    u, v = (dx * turn.cos() + dy * turn.sin()) * flip, dy * turn.cos() - dx * turn.sin()
    shape = SHAPES[kind](u, v)
    pixels = radius * size  # one unit of distance, in pixels

    colours = [COLOURS[row[3 + 4 * slot]] for row in rows]
    tint = 0.05 * (random[:, 5:8, None, None] - 0.5)
    body = torch.tensor([RGB[c] for c in colours], **SINGLE).to(x.device)[:, :, None, None] + tint
    tones = [SECOND_TONE.get(c, _lighter(RGB[c])) for c in colours]
    tone = torch.tensor(tones, **SINGLE).to(x.device)[:, :, None, None] + tint
    outline = torch.tensor(
        [(0.93, 0.93, 0.96) if c == "black" else PAINTS["ink"] for c in colours], **SINGLE
    ).to(x.device)[..., None, None]

    silhouette = shape.body
    for distance, _paint in shape.details:
        silhouette = torch.minimum(silhouette, distance)
    width = 1.2 * max(1.0, size / 64)  # of the outline, in pixels
    pictures = torch.lerp(pictures, outline, _cover(silhouette * pixels - width)[:, None])
    paint = torch.lerp(
        body, tone, _pattern(rows, slot, dx * radius, dy * radius, 1 / size)[:, None]
    )
    paint = paint * (1 + 0.10 * v)[:, None]  # light from above
    pictures = torch.lerp(pictures, paint, _cover(shape.body * pixels)[:, None])
    for distance, name in shape.details:
        colour = (
            0.72 * body
            if name == "shade"
            else torch.tensor(PAINTS[name], **SINGLE).to(x.device)[None, :, None, None]
        )
        pictures = torch.lerp(pictures, colour, _cover(distance * pixels)[:, None])
    return pictures


def _lighter(rgb: tuple[float, float, float]) -> tuple[float, ...]:
    return tuple(0.35 * c + 0.65 for c in rgb)


def _cover(distance: Tensor) -> Tensor:
    """The covered share of a pixel whose centre is ``distance`` pixels outside an edge: 1 inside, 0
    outside, a ramp between.

    The ramp is ``SOFTNESS`` pixels wide, a little softer than the box filter of one pixel.
    """
    return (0.5 - distance / SOFTNESS).clamp_(0, 1)


def _pattern(rows: list[list[int]], slot: int, x: Tensor, y: Tensor, pixel: float) -> Tensor:
    """The share (n, S, S) of the second tone: 0 for plain, slanted stripes, or dots; periods are
    fixed in the picture.
    """
    names = [PATTERNS[row[4 + 4 * slot]] for row in rows]
    share = torch.zeros_like(x + y)
    for name, period in (("striped", 0.125), ("dotted", 0.13)):
        index = [i for i, n in enumerate(names) if n == name]
        if not index:
            continue
        a, b = (x[index] + y[index]) / math.sqrt(2), (x[index] - y[index]) / math.sqrt(2)
        along = (a - period * torch.round(a / period)).abs()
        if name == "striped":
            share[index] = _cover((along - period / 4) / pixel)
        else:
            across = b - period * torch.round(b / period)
            share[index] = _cover((torch.hypot(along, across) - 0.29 * period) / pixel)
    return share
