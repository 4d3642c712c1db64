"""Which noise levels a sampler visits: a few times out of T, each with its alpha-bar as a number.

Numbers, not tensors: a step's coefficients are then computed in float64 and cost nothing next to
the network.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..door import checked, one_of, positive_int
from ..process.schedules import NoiseSchedule, alpha_bar_at
from ..validation import describe

SPACINGS = ("linspace", "leading", "trailing")


class Level(NamedTuple):
    """One noise level: ``t``, what the network is told, and ``alpha_bar``.

    t: a number, a tensor (B,) or, for clean data, None.
    """

    t: Tensor | float | None
    alpha_bar: float


CLEAN = Level(None, 1.0)


def _at_most_all(name: str, n: int, given: dict) -> None:
    total = given["num_train_timesteps"]
    if n > total:
        raise ValueError(
            f"{name} must be at most T = num_train_timesteps = {total}, the network's steps of "
            f"training, got {n}."
        )


@checked(
    num_train_timesteps=positive_int, num_inference_steps=(positive_int, _at_most_all),
    spacing=one_of(*SPACINGS),
)
def inference_timesteps(
    num_train_timesteps: int, num_inference_steps: int, spacing: str = "trailing"
) -> Tensor:
    """Return n of the indices 0..T-1, descending int64 (n,) (arXiv 2305.08891, Table 2).

    "linspace": evenly from T-1 down to 0 (n = 1 gives index 0 alone: pure noise to a network that
    is told there is none). "leading": multiples of T // n from 0 up; T-1, the noisiest, is left out
    unless n = T. "trailing": from T-1 down in steps of T / n; index 0 is left out unless n is close
    to T. Any n from 1 to T: it need not divide T. Raises ValueError otherwise.
    """
    total, n = num_train_timesteps, num_inference_steps
    indices = {
        "linspace": lambda: np.linspace(0, total - 1, n).round()[::-1],
        "leading": lambda: np.arange(n)[::-1] * (total // n),
        # Rounding errors can make arange one longer, down to -1.
        "trailing": lambda: np.arange(total, 0, -total / n).round()[:n] - 1,
    }[spacing]()
    return torch.from_numpy(indices.astype(np.int64))


def _numbers(timesteps: object) -> Sequence[float]:
    """Return times as Python numbers."""
    return timesteps.tolist() if isinstance(timesteps, Tensor) else timesteps


def _decreasing(name: str, timesteps: object, given: dict) -> None:
    if isinstance(timesteps, Tensor) and (timesteps.is_complex() or timesteps.is_meta):
        raise TypeError(f"{name} must hold real numbers, got {describe(timesteps)}.")
    times, last = _numbers(timesteps), given["schedule"].num_train_timesteps - 1
    if not isinstance(times, Sequence) or len(times) == 0 or isinstance(times[0], list):
        got = describe(timesteps)
        raise ValueError(f"{name} must be numbers of shape (n,), n >= 1, got {got}.")
    if not all(0 <= t <= last for t in times):
        raise ValueError(
            f"{name} must lie in [0, {last}], the schedule's indices, got {describe(times)}."
        )
    for i, (now, then) in enumerate(pairwise(times)):
        if not now > then:
            raise ValueError(
                f"{name} must decrease strictly, from noise to data, got {name}[{i}] = {now} "
                f"and {name}[{i + 1}] = {then}."
            )


@checked(timesteps=_decreasing)
def noise_levels(schedule: NoiseSchedule, timesteps: Tensor | Sequence[float]) -> list[Level]:
    """Return the levels at ``timesteps`` (n,) and, after them, clean data: n + 1 levels, n steps.

    timesteps: strictly decreasing in [0, T-1]. Fractional ones are allowed: sigma =
    sqrt((1 - abar) / abar) is linear between two indices. The tables are read once, so keep the
    schedule on the CPU. Raises TypeError or ValueError otherwise.
    """
    times = _numbers(timesteps)
    if all(float(t).is_integer() for t in times):
        times, table = [int(t) for t in times], schedule.alphas_cumprod.tolist()
        return [*(Level(t, table[t]) for t in times), CLEAN]
    table = schedule.alphas_cumprod.to("cpu", torch.float64)
    alpha_bars = alpha_bar_at(table, torch.tensor(times, dtype=table.dtype, device="cpu")).tolist()
    return [*map(Level, times, alpha_bars), CLEAN]


def sigma_of(alpha_bar: float) -> float:
    """Return sigma = sqrt((1 - abar) / abar), as in arXiv 2206.00364; infinite at abar = 0."""
    return math.sqrt((1 - alpha_bar) / alpha_bar) if alpha_bar > 0 else math.inf


def log_snr_of(alpha_bar: float) -> float:
    """Return lambda = log(sqrt(abar) / sqrt(1 - abar)); minus infinity at 0, infinity at 1."""
    if alpha_bar in (0.0, 1.0):
        return -math.inf if alpha_bar == 0 else math.inf
    return -math.log(sigma_of(alpha_bar))
