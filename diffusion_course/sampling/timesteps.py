"""Which noise levels a sampler visits: a few times out of T, each with its alpha-bar as a Python
number.

Numbers, not tensors: a step's coefficients are then computed in float64 and cost nothing next to
the network.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..process.schedules import NoiseSchedule, alpha_bar_at
from ..validation import check_choice, check_positive_int, describe

SPACINGS = ("linspace", "leading", "trailing")


class Level(NamedTuple):
    """One noise level: ``t``, what the network is told (a number, a tensor (B,) or, for clean data,
    None), and ``alpha_bar``.
    """

    t: Tensor | float | None
    alpha_bar: float


CLEAN = Level(None, 1.0)


def inference_timesteps(
    num_train_timesteps: int, num_inference_steps: int, spacing: str = "trailing"
) -> Tensor:
    """Return n of the indices 0..T-1, descending int64 (n,): the spacings of arXiv 2305.08891,
    Table 2, rounded as in diffusers.

    "linspace": evenly from T-1 down to 0 (n = 1 gives index 0 alone: pure noise to a network that
    is told there is none). "leading": multiples of T // n from 0 up; T-1, the noisiest, is left out
    unless n = T. "trailing": from T-1 down in steps of T / n; index 0 is left out unless n is close
    to T. Any n from 1 to T: it need not divide T. Raises ValueError otherwise.
    """
    check_positive_int("num_train_timesteps", num_train_timesteps)
    check_positive_int("num_inference_steps", num_inference_steps)
    check_choice("spacing", spacing, SPACINGS)
    total, n = num_train_timesteps, num_inference_steps
    if n > total:
        raise ValueError(
            f"num_inference_steps must be at most T = {total}, the network's steps of training, got"
            f" {n}."
        )
    if spacing == "linspace":
        indices = np.linspace(0, total - 1, n).round()[::-1]
    elif spacing == "leading":
        indices = np.arange(n)[::-1] * (total // n)
    else:
        indices = (
            np.arange(total, 0, -total / n).round()[:n] - 1
        )  # rounding errors can make arange one longer, down to -1
    return torch.from_numpy(indices.astype(np.int64))


def noise_levels(schedule: NoiseSchedule, timesteps: Tensor | Sequence[float]) -> list[Level]:
    """Return the levels at ``timesteps`` (n,) and, after them, clean data: n + 1 levels, n steps.

    timesteps: strictly decreasing in [0, T-1]. Fractional ones are allowed: sigma = sqrt((1 - abar)
    / abar) is linear between two indices. The tables are read once, so keep the schedule on the
    CPU. Raises TypeError or ValueError otherwise.
    """
    if not isinstance(schedule, NoiseSchedule):
        raise TypeError(
            f"schedule must be a NoiseSchedule, got {describe(schedule)}. Make one:"
            " make_schedule('linear', 1000)."
        )
    times = timesteps.tolist() if isinstance(timesteps, (Tensor, np.ndarray)) else timesteps
    if (
        not isinstance(times, (list, tuple, range))
        or not times
        or any(not isinstance(t, (int, float)) for t in times)
    ):
        raise TypeError(
            f"timesteps must be numbers of shape (n,), n >= 1, got {describe(timesteps)}."
        )
    last = schedule.num_train_timesteps - 1
    if not all(0 <= t <= last for t in times):
        raise ValueError(
            f"timesteps must lie in [0, {last}], the schedule's indices, got {describe(times)}."
        )
    for i, (now, then) in enumerate(zip(times, times[1:], strict=False)):
        if not now > then:
            raise ValueError(
                "timesteps must decrease strictly, from noise to data, got "
                f"timesteps[{i}] = {now} and timesteps[{i + 1}] = {then}."
            )
    if all(float(t).is_integer() for t in times):
        times = [int(t) for t in times]
        table = schedule.alphas_cumprod.tolist()
        alpha_bars = [table[t] for t in times]
    else:
        table = schedule.alphas_cumprod.to("cpu", torch.float64)
        alpha_bars = alpha_bar_at(table, torch.tensor(times, dtype=torch.float64)).tolist()
    return [*map(Level, times, alpha_bars), CLEAN]


def sigma_of(alpha_bar: float) -> float:
    """Return sigma = sqrt((1 - abar) / abar), the noise level of arXiv 2206.00364; infinite at abar
    = 0.
    """
    return math.sqrt((1 - alpha_bar) / alpha_bar) if alpha_bar > 0 else math.inf
