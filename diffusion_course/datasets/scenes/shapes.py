"""Signed distances of the things: below 0 inside, above 0 outside, in units where a thing fits a
circle of radius 1.

x points right and y up. Unions, intersections and differences are minimum and maximum, so distances
are exact near an edge but not far from one, which is all that drawing needs. See Inigo Quilez, "2D
distance functions", https://iquilezles.org/articles/distfunctions2d/.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Shape(NamedTuple):
    """A thing's parts: the body that carries colour and pattern, and details (distance, paint)
    drawn over it in order.
    """

    body: Tensor
    details: tuple[tuple[Tensor, str], ...] = ()


def _circle(x: Tensor, y: Tensor, cx: float, cy: float, r: float) -> Tensor:
    return torch.hypot(x - cx, y - cy) - r


def _box(x: Tensor, y: Tensor, cx: float, cy: float, half_w: float, half_h: float) -> Tensor:
    return torch.maximum((x - cx).abs() - half_w, (y - cy).abs() - half_h)


def _ellipse(x: Tensor, y: Tensor, cx: float, cy: float, a: float, b: float) -> Tensor:
    return (torch.hypot((x - cx) / a, (y - cy) / b) - 1) * min(a, b)


def _wedge(x: Tensor, y: Tensor, tip: float, base: float, half_w: float) -> Tensor:
    """A triangle with a horizontal base: from the tip (0, tip) to the base of width 2 half_w at y =
    base.
    """
    up = 1.0 if tip > base else -1.0
    height = abs(tip - base)
    side = (x.abs() * height + (y - tip) * up * half_w) / math.hypot(height, half_w)
    return torch.maximum(side, (base - y) * up)


def _union(first: Tensor, *others: Tensor) -> Tensor:
    for other in others:
        first = torch.minimum(first, other)
    return first


def _ball(x: Tensor, y: Tensor) -> Shape:
    gloss = _ellipse(x * 0.8 + y * 0.6, y * 0.8 - x * 0.6, -0.02, 0.66, 0.22, 0.11)
    return Shape(_circle(x, y, 0, 0, 0.95), ((gloss, "light"),))


def _square(x: Tensor, y: Tensor) -> Shape:
    return Shape(_box(x, y, 0, 0, 0.8, 0.8))


def _triangle(x: Tensor, y: Tensor) -> Shape:
    return Shape(_wedge(x, y, 1.0, -0.75, 1.0))


def _star(x: Tensor, y: Tensor) -> Shape:
    sector = 2 * math.pi / 5
    angle = torch.atan2(x, y)  # 0 at the upper tip
    folded = (angle - sector * torch.round(angle / sector)).abs()
    r = torch.hypot(x, y)
    px, py = r * folded.sin(), r * folded.cos()
    inner = (0.5 * math.sin(sector / 2), 0.5 * math.cos(sector / 2))  # the corner between two tips
    edge = (inner[0], inner[1] - 1)
    length = math.hypot(*edge)
    return Shape((px * -edge[1] + (py - 1) * edge[0]) / length)


def _heart(x: Tensor, y: Tensor) -> Shape:
    x = x.abs()
    diamond = (x + (y + 0.1).abs() - 0.82) / math.sqrt(2)
    return Shape(_union(_circle(x, y, 0.41, 0.31, 0.58), diamond))


def _moon(x: Tensor, y: Tensor) -> Shape:
    return Shape(torch.maximum(_circle(x, y, 0, 0, 0.98), -_circle(x, y, 0.5, 0.15, 0.7)))


def _fish(x: Tensor, y: Tensor) -> Shape:
    tail = torch.maximum(_wedge(y, -x, -0.25, -1.0, 0.62), -_circle(x, y, 1.12, 0, 0.25))
    fin = torch.maximum(_circle(x, y, -0.1, 0.28, 0.36), 0.3 - y)
    body = _union(_ellipse(x, y, -0.2, 0, 0.78, 0.5), tail, fin)
    return Shape(
        body,
        ((_circle(x, y, -0.58, 0.12, 0.17), "light"), (_circle(x, y, -0.6, 0.12, 0.09), "ink")),
    )


def _house(x: Tensor, y: Tensor) -> Shape:
    walls, roof = _box(x, y, 0, -0.35, 0.68, 0.58), _wedge(x, y, 0.98, 0.15, 0.98)
    chimney, eaves = _box(x, y, 0.45, 0.62, 0.13, 0.28), _box(x, y, 0, 0.14, 0.9, 0.05)
    details = (chimney, "wood"), (eaves, "ink"), (_box(x, y, -0.25, -0.62, 0.19, 0.31), "wood")
    return Shape(_union(walls, roof), (*details, (_box(x, y, 0.3, -0.3, 0.17, 0.17), "light")))


def _tree(x: Tensor, y: Tensor) -> Shape:
    crown = _union(
        _circle(x.abs(), y, 0.4, 0.1, 0.42),
        _circle(x, y, 0, 0.5, 0.46),
        _circle(x, y, 0, 0.1, 0.42),
    )
    return Shape(crown, ((_box(x, y, 0, -0.64, 0.14, 0.34), "wood"),))


def _mushroom(x: Tensor, y: Tensor) -> Shape:
    cap = torch.maximum(_ellipse(x, y, 0, -0.05, 0.95, 0.92), -0.05 - y)
    return Shape(cap, ((_box(x, y, 0, -0.5, 0.3 - 0.06 * y, 0.45), "cream"),))


def _boat(x: Tensor, y: Tensor) -> Shape:
    hull = torch.maximum((y + 0.6).abs() - 0.26, (x.abs() - 0.8 - 0.35 * (y + 0.6)) * 0.94)
    slope = 0.6
    right = torch.maximum(torch.maximum(0.1 - x, -0.2 - y), (y - 0.95 + (x - 0.1) * 1.5) * 0.55)
    left = torch.maximum(torch.maximum(x + 0.1, -0.2 - y), (y - 0.7 - (x + 0.1) * 1.5) * slope)
    return Shape(_union(right, left), ((_box(x, y, 0, 0.3, 0.055, 0.66), "wood"), (hull, "shade")))


def _flower(x: Tensor, y: Tensor) -> Shape:
    sector = 2 * math.pi / 6
    angle, r = torch.atan2(x, y), torch.hypot(x, y)
    folded = angle - sector * torch.round(angle / sector)
    petals = _circle(r * folded.sin(), r * folded.cos(), 0, 0.6, 0.37)
    centre = _circle(x, y, 0, 0, 0.3)
    return Shape(
        _union(petals, _circle(x, y, 0, 0, 0.45)), ((centre, "ink"), (centre + 0.08, "gold"))
    )


def _umbrella(x: Tensor, y: Tensor) -> Shape:
    bites = _circle(x - 0.64 * torch.round(x / 0.64), y, 0, -0.14, 0.33)
    canopy = torch.maximum(torch.maximum(_circle(x, y, 0, 0, 0.96), -0.04 - y), -bites)
    hook = torch.maximum(_circle(x, y, 0.19, -0.7, 0.19).abs() - 0.06, y + 0.7)
    handle = _union(_box(x, y, 0, -0.25, 0.06, 0.46), hook)
    return Shape(canopy, ((handle, "wood"),))


def _cat(x: Tensor, y: Tensor) -> Shape:
    ear = _wedge(x.abs() - 0.52, y, 0.98, 0.1, 0.42)
    head = _union(_ellipse(x, y, 0, -0.15, 0.85, 0.72), ear)
    eyes, nose = _ellipse(x.abs(), y, 0.36, -0.02, 0.15, 0.19), _wedge(x, y, -0.4, -0.24, 0.12)
    return Shape(
        head,
        ((eyes, "light"), (_ellipse(x.abs(), y, 0.35, -0.03, 0.08, 0.14), "ink"), (nose, "ink")),
    )


SHAPES: dict[str, Callable[[Tensor, Tensor], Shape]] = {
    "ball": _ball,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "moon": _moon,
    "fish": _fish,
    "house": _house,
    "tree": _tree,
    "mushroom": _mushroom,
    "boat": _boat,
    "flower": _flower,
    "umbrella": _umbrella,
    "cat": _cat,
}
