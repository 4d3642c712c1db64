"""The eight settings. A painter takes coordinates in [0, 1] (y up), chance (n, 16) and a pixel's
width, paints (n, 3, S, S).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Rgb = tuple[float, float, float]


def _colour(rgb: Rgb, like: Tensor) -> Tensor:
    return torch.tensor(rgb, device=like.device, dtype=like.dtype)[None, :, None, None]


def _fade(x: Tensor, y: Tensor, random: Tensor, low: Rgb, high: Rgb) -> Tensor:
    """A vertical gradient from ``low`` at y = 0 to ``high`` at y = 1, a little lighter or darker by
    chance.
    """
    share = (y + 0 * x)[:, None]
    sky = torch.lerp(_colour(low, x), _colour(high, x), share)
    return sky * (0.96 + 0.08 * random[:, 0, None, None, None])


def _over(pictures: Tensor, rgb: Rgb, cover: Tensor, strength: float = 1.0) -> Tensor:
    return torch.lerp(pictures, _colour(rgb, pictures), strength * cover.clamp(0, 1)[:, None])


def _spots(
    x: Tensor, y: Tensor, random: Tensor, cells: int, radius: float, pixel: float, share: float
) -> Tensor:
    """Round specks, at most one in each cell of a grid, each at a place of its own; (n, S, S)
    cover.
    """
    shift = random[:, 1, None, None]
    u, v = x * cells + shift * 7, y * cells + shift * 5
    i, j = u.floor(), v.floor()
    chance = [
        (torch.sin(i * a + j * b + random[:, k, None, None] * 40) * 43758.5453).frac().abs()
        for a, b, k in _HASHES
    ]
    px, py = 0.25 + 0.5 * chance[0], 0.25 + 0.5 * chance[1]
    distance = torch.hypot(u - i - px, v - j - py) / cells
    return torch.where(chance[2] < share, (radius - distance) / (1.6 * pixel) + 0.5, 0.0).clamp(
        0, 1
    )


_HASHES = ((12.9898, 78.233, 2), (39.3461, 11.135, 3), (73.1562, 52.235, 4))


def _hills(
    x: Tensor, y: Tensor, random: Tensor, level: float, height: float, pixel: float, k: int = 5
) -> Tensor:
    """Cover (n, S, S) of what lies below a gently waving line."""
    phase = 2 * math.pi * random[:, k, None, None]
    line = level + 0.03 * (random[:, k + 1, None, None] - 0.5) + height * torch.sin(5.5 * x + phase)
    return ((line - y) / pixel + 0.5).clamp(0, 1)


def _paper(x: Tensor, y: Tensor, random: Tensor, pixel: float) -> Tensor:
    return _fade(x, y, random, (0.90, 0.87, 0.81), (0.96, 0.94, 0.89))


def _night(x: Tensor, y: Tensor, random: Tensor, pixel: float) -> Tensor:
    sky = _fade(x, y, random, (0.16, 0.17, 0.42), (0.05, 0.06, 0.20))
    return _over(sky, (1.0, 0.97, 0.80), _spots(x, y, random, 5, 0.015, pixel, 0.6))


def _meadow(x: Tensor, y: Tensor, random: Tensor, pixel: float) -> Tensor:
    sky = _fade(x, y, random, (0.80, 0.93, 0.98), (0.52, 0.80, 0.97))
    ground = _hills(x, y, random, 0.40, 0.03, pixel)
    grass = _over(sky, (0.50, 0.76, 0.32), ground)
    return _over(grass, (0.98, 0.96, 0.80), ground * _spots(x, y, random, 4, 0.018, pixel, 0.6))


def _sea(x: Tensor, y: Tensor, random: Tensor, pixel: float) -> Tensor:
    water = _fade(x, y, random, (0.86, 0.95, 0.97), (0.62, 0.86, 0.95))
    for i, (level, rgb) in enumerate(
        ((0.48, (0.28, 0.66, 0.78)), (0.32, (0.17, 0.54, 0.70)), (0.16, (0.09, 0.42, 0.60)))
    ):
        phase = 2 * math.pi * random[:, 5 + i, None, None]
        wave = level + 0.022 * torch.sin(2 * math.pi * 4 * x + phase)
        water = _over(water, rgb, (wave - y) / pixel + 0.5)
    return water


def _desert(x: Tensor, y: Tensor, random: Tensor, pixel: float) -> Tensor:
    sky = _fade(x, y, random, (0.99, 0.94, 0.80), (0.72, 0.86, 0.93))
    far = _over(sky, (0.93, 0.77, 0.50), _hills(x, y, random, 0.46, 0.05, pixel, 5))
    return _over(far, (0.85, 0.65, 0.38), _hills(x, y, random, 0.26, 0.06, pixel, 8))


def _snow(x: Tensor, y: Tensor, random: Tensor, pixel: float) -> Tensor:
    sky = _fade(x, y, random, (0.70, 0.77, 0.87), (0.52, 0.60, 0.75))
    ground = _over(sky, (0.95, 0.97, 1.0), _hills(x, y, random, 0.36, 0.04, pixel))
    return _over(ground, (1.0, 1.0, 1.0), _spots(x, y, random, 5, 0.02, pixel, 0.7))


def _sunset(x: Tensor, y: Tensor, random: Tensor, pixel: float) -> Tensor:
    sky = _fade(x, y, random, (0.98, 0.62, 0.35), (0.50, 0.30, 0.55))
    for level, rgb in ((0.62, (0.90, 0.47, 0.45)), (0.45, (0.98, 0.66, 0.42))):
        sky = _over(sky, rgb, _hills(x, y, random, level, 0.015, 0.1), 0.5)
    return _over(sky, (0.30, 0.17, 0.32), _hills(x, y, random, 0.15, 0.03, pixel, 8))


def _rain(x: Tensor, y: Tensor, random: Tensor, pixel: float) -> Tensor:
    sky = _fade(x, y, random, (0.62, 0.66, 0.70), (0.44, 0.48, 0.54))
    u, v = 5 * (x + 0.25 * y) + 9 * random[:, 1, None, None], 3.5 * y + 5 * random[:, 2, None, None]
    v = v + 0.5 * (u.floor() % 2)
    lane, beat = u - u.floor() - 0.5, v - v.floor() - 0.5
    drop = torch.maximum(lane.abs() / 5 - 0.009, beat.abs() / 3.5 - 0.07)
    return _over(sky, (0.76, 0.84, 0.92), 0.5 - drop / (1.6 * pixel))


BACKGROUND_PAINTERS: dict[str, Callable[[Tensor, Tensor, Tensor, float], Tensor]] = {
    "paper": _paper,
    "night": _night,
    "meadow": _meadow,
    "sea": _sea,
    "desert": _desert,
    "snow": _snow,
    "sunset": _sunset,
    "rain": _rain,
}
