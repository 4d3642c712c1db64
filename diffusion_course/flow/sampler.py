"""Along a velocity from noise to data, or back: one loop, Euler's step or Heun's."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor

from ..door import batch, checked, keywords_of, one_of
from ..process.kernels import prediction, to_x0_and_noise
from ..process.levels import column
from ..process.losses import Model, call_model
from ..process.schedules import NoiseSchedule
from ..validation import describe, widest_float
from .paths import flow_level, flow_time, told
from .times import flow_times

METHODS = ("euler", "heun")
Velocity = Callable[[Tensor, Tensor], Tensor]


class FlowState(NamedTuple):
    """What ``flow_iter`` yields after each step, from 1 to num_steps.

    t: the time that the step started from; x: the state after it; velocity: that of the step.
    """

    step: int
    num_steps: int
    t: float
    x: Tensor
    velocity: Tensor


def _listed(times: object) -> object:
    return times.tolist() if isinstance(times, Tensor) and not times.is_meta else times


def _one_way(name: str, times: object, given: dict) -> None:
    """Raise unless times are at least two numbers in [0, 1] that only fall, or only rise."""
    times, found = _listed(times), describe(times)
    listed = isinstance(times, Sequence) and not isinstance(times, str) and len(times) >= 2
    if not listed or not all(isinstance(t, Real) and 0 <= t <= 1 for t in times):
        raise ValueError(f"{name} must hold at least two numbers in [0, 1], got {found}.")
    steps = [b - a for a, b in pairwise(times)]
    if not (all(h < 0 for h in steps) or all(h > 0 for h in steps)):
        way = "fall from noise (1) to data (0), or rise the other way, at each step"
        raise ValueError(f"{name} must {way}, got {describe(times)}.")


@checked(x=batch, times=_one_way, method=one_of(*METHODS))
def flow_iter(
    velocity: Velocity, x: Tensor, times: Tensor | Sequence[float], *, method: str = "euler"
) -> Iterator[FlowState]:
    """Yield a state after each step of dx = velocity(x, t) dt from times[0] to times[-1].

    velocity: ``velocity(x, t)``, x (B, ...) and t (B,) in [0, 1]; ``as_velocity`` makes one of a
    network. times: falling from noise, 1, to data, 0, or rising. Euler: x' = x + (t' - t) v(x, t)
    (arXiv 2209.03003, Algorithm 1). Heun goes by the mean of the velocities at both ends, with two
    calls, and its error falls with the square of the steps. Raises ValueError for times out of
    order, and if the velocity is not like x.
    """
    times = [float(t) for t in _listed(times)]
    wide = torch.promote_types(x.dtype, torch.float32)
    without_gradients = torch.no_grad()

    def at(x: Tensor, t: float) -> Tensor:
        return call_model(
            velocity, x, torch.full(x.shape[:1], t, dtype=wide, device=x.device), None
        )

    for i, (now, then) in enumerate(pairwise(times)):
        with without_gradients:
            v = at(x, now)
            if method == "heun":
                v = (v + at(x + (then - now) * v, then)) / 2
            x = x + (then - now) * v
        yield FlowState(i + 1, len(times) - 1, now, x, v)


@checked(kwargs=keywords_of(flow_iter))
def flow_loop(
    velocity: Velocity, x: Tensor, num_steps: int = 50, *, shift: float = 1.0, **kwargs: object
) -> Tensor:
    """Return the data (B, ...) that a flow makes of noise x (B, ...) in a few steps.

    The times are ``flow_times(num_steps, shift)``; other times: ``flow_iter``. Keyword: method
    ("euler" or "heun"). Raises as ``flow_iter``.
    """
    for state in flow_iter(velocity, x, flow_times(num_steps, shift), **kwargs):
        x = state.x
    return x


@checked(prediction_type=prediction)
def as_velocity(
    model: Model,
    schedule: NoiseSchedule | None = None,
    *,
    cond: Tensor | None = None,
    prediction_type: str = "epsilon",
) -> Velocity:
    """Return ``velocity(x, t)`` of a network, of flow or, with its schedule, of diffusion.

    Without ``schedule``: a network trained by ``flow_loss``, which is told 1000 t. With it: one
    trained on that schedule; it sees x / scale (``flow_level``) at the index as noisy as t, between
    two indices in proportion, and its answer is read as ``prediction_type`` says. Times beyond the
    schedule's first and last index count as those. Raises as ``to_x0_and_noise``.
    """
    if schedule is None:
        return lambda x, t: call_model(model, x, told(t, x), cond)
    table = [flow_time(alpha_bar) for alpha_bar in schedule.alphas_cumprod.tolist()]

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        known = torch.tensor(table, dtype=widest_float(x.device), device=x.device)
        time = t.to(known.dtype).clamp(known[0], known[-1])
        alpha_bar, scale = (column(level, x) for level in flow_level(time))
        state = x / scale.to(x.dtype)
        output = call_model(model, state, _index_of(time, known).to(told(t, x).dtype), cond)
        x0, noise = to_x0_and_noise(output, state, alpha_bar, prediction_type)
        return noise - x0

    return velocity


def _index_of(time: Tensor, table: Tensor) -> Tensor:
    """Return the (fractional) index of each time in a rising table; noise / signal is linear."""
    i = (torch.searchsorted(table, time, right=True) - 1).clamp(0, max(len(table) - 2, 0))
    low, high = table[i], table[(i + 1).clamp(max=len(table) - 1)]
    straight = (time - low) / (high - low)
    bent = straight * (1 - high) / (1 - time)  # of t / (1 - t); at high = 1 that is infinite
    part = torch.where(high < 1, bent, straight)
    return i + torch.where(high > low, part, 0.0)
