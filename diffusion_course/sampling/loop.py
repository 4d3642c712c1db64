"""From noise to data in a few steps: one loop for every sampler, any spacing of the times, every
step open to a look.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..process.kernels import PREDICTION_TYPES, to_x0_and_noise
from ..process.losses import call_model
from ..process.schedules import NoiseSchedule
from ..validation import check_batch, check_choice, check_device, check_floating, describe
from .solvers import (
    Denoise, Estimate, Step, ddim_step, dpmpp_2m_step, euler_ancestral_step, euler_step, heun_step,
    posterior_step,
)
from .timesteps import Level, inference_timesteps, noise_levels

SAMPLERS: dict[str, Step] = {
    "ddpm": posterior_step,
    "ddim": ddim_step,
    "euler": euler_step,
    "euler_ancestral": euler_ancestral_step,
    "heun": heun_step,
    "dpmpp_2m": dpmpp_2m_step,
}


class SampleState(NamedTuple):
    """What ``sample_iter`` yields: step (from 1) of num_steps, the time t it started from, x after
    it, the estimate x0_pred.
    """

    step: int
    num_steps: int
    t: float | Tensor
    x: Tensor
    x0_pred: Tensor


def make_denoise(
    model: Callable[..., Tensor], *, cond: Tensor | None = None, prediction_type: str = "epsilon",
    clip_x0: float | None = None,
) -> Denoise:
    """Return ``denoise(xt, level) -> Estimate``: one call of ``model(xt, t[, cond])``, read by
    ``to_x0_and_noise``.

    ``clip_x0``: clamp x0 to [-clip_x0, clip_x0]; the noise is then computed again from x_t, so that
    the two still agree. level.t: a number or a tensor (B,). Raises ValueError for an unknown type
    or clip_x0 <= 0; called, as ``to_x0_and_noise``.
    """
    check_choice("prediction_type", prediction_type, PREDICTION_TYPES)
    if clip_x0 is not None and not clip_x0 > 0:
        raise ValueError(f"clip_x0 must be positive or None, got {clip_x0}.")

    def denoise(xt: Tensor, level: Level) -> Estimate:
        t, alpha_bar = level if isinstance(level.t, Tensor) else _tell([level], xt)[0]
        x0, noise = to_x0_and_noise(call_model(model, xt, t, cond), xt, alpha_bar, prediction_type)
        if clip_x0 is not None:
            x0, noise = to_x0_and_noise(x0.clamp(-clip_x0, clip_x0), xt, alpha_bar, "sample")
        return Estimate(x0, noise)

    return denoise


def iterate_levels(
    denoise: Denoise, x: Tensor, levels: Sequence[Level], *, sampler: str | Step = "ddim",
    generator: torch.Generator | None = None, **options: object,
) -> Iterator[SampleState]:
    """Yield a state after each step from levels[0], where x (B, ...) is, to levels[-1]: the one
    loop of all samplers.

    Any levels of rising alpha_bar will do; the last may still be noisy. Raises ValueError for fewer
    than two, and as the step.
    """
    step = _step_of(sampler)
    if len(levels) < 2:
        raise ValueError(
            f"a chain needs at least two levels, from now to next, got {describe(list(levels))}."
        )
    told, last, without_gradients = _tell(levels, x), None, torch.no_grad()
    for i, (now, prev) in enumerate(pairwise(told)):
        with without_gradients:
            x, estimate = step(denoise, x, now, prev, last=last, generator=generator, **options)
        last = now, estimate
        yield SampleState(i + 1, len(told) - 1, levels[i].t, x, estimate.x0)


def _tell(levels: Sequence[Level], x: Tensor) -> list[Level]:
    """Return the levels with their numbers t as tensors (B,) beside x, made at once; int64 if all
    are whole.
    """
    times = [level.t for level in levels if isinstance(level.t, (int, float))]
    dtype = (
        torch.int64
        if all(isinstance(t, int) for t in times)
        else torch.promote_types(x.dtype, torch.float32)
    )
    on_device = torch.tensor(times, dtype=dtype).to(x.device, non_blocking=True)
    rows = iter(on_device[:, None].repeat(1, len(x)).unbind())
    return [
        Level(next(rows), level.alpha_bar) if isinstance(level.t, (int, float)) else level
        for level in levels
    ]


def _step_of(sampler: str | Step) -> Step:
    if callable(sampler):
        return sampler
    check_choice("sampler", sampler, tuple(SAMPLERS))
    return SAMPLERS[sampler]


def sample_iter(
    model: Callable[..., Tensor], shape: tuple[int, ...], schedule: NoiseSchedule, *,
    sampler: str | Step = "ddim", num_inference_steps: int = 50, spacing: str = "trailing",
    timesteps: Tensor | Sequence[float] | None = None, cond: Tensor | None = None,
    x_init: Tensor | None = None, prediction_type: str = "epsilon", clip_x0: float | None = None,
    generator: torch.Generator | None = None, dtype: torch.dtype | None = None,
    device: torch.device | str | None = None, **options: object,
) -> Iterator[SampleState]:
    """Return an iterator over the steps from noise to data; the arguments are ``sample_loop``'s and
    are checked at once.
    """
    _step_of(sampler)
    if timesteps is None:
        timesteps = inference_timesteps(schedule.num_train_timesteps, num_inference_steps, spacing)
    levels = noise_levels(schedule, timesteps)
    denoise = make_denoise(model, cond=cond, prediction_type=prediction_type, clip_x0=clip_x0)
    weight = next((p for p in _parameters(model) if p.is_floating_point()), None)
    if x_init is None:
        if not isinstance(shape, (tuple, list)):
            raise TypeError(
                f"shape must be a tuple, batch first, such as (16, 1, 8, 8), got {describe(shape)}."
            )
        like = schedule.alphas_cumprod if weight is None else weight
        dtype = dtype or (torch.get_default_dtype() if weight is None else weight.dtype)
        x = torch.randn(
            tuple(shape), generator=generator, device=device or like.device, dtype=dtype
        )
    else:
        check_floating("x_init", x_init)
        x = x_init if dtype is None else x_init.to(dtype)
        if x.shape != tuple(shape):
            raise ValueError(
                f"x_init must have the shape {tuple(shape)} that was asked for, got {describe(x)}."
            )
        if device is not None and torch.empty(0, device=device).device != x.device:
            raise ValueError(
                f"x_init is on {x.device} and device={str(device)!r}: move x_init or leave device"
                " out."
            )
    check_batch("x_init", x)
    for name, other in (("the network's weights", weight), ("cond", cond)):
        if isinstance(other, Tensor):
            check_device(name, other, "x_init", x)
    return iterate_levels(denoise, x, levels, sampler=sampler, generator=generator, **options)


def _parameters(model: object) -> Iterator[Tensor]:
    return model.parameters() if isinstance(model, nn.Module) else iter(())


def sample_loop(
    model: Callable[..., Tensor], shape: tuple[int, ...], schedule: NoiseSchedule, *,
    callback: Callable[[SampleState], None] | None = None, **kwargs: object,
) -> Tensor:
    """Draw samples (B, ...) from N(0, I) in a few steps with any sampler.

    model: ``model(xt, t[, cond])``, t (B,); shape: that of the samples, batch first; schedule: the
    one it was trained on.
    sampler: a name in ``SAMPLERS`` or a step function. The times: ``num_inference_steps`` with
    ``spacing``, or ``timesteps``, any strictly decreasing numbers in [0, T-1]; the last step goes
    from the last of them to clean data. ``options`` go to the step: ``eta`` ("ddim",
    "euler_ancestral"), ``variance_type`` ("ddpm"). x_init: the noise to start from, else drawn from
    ``generator`` in ``dtype`` (default: the network's) on ``device`` (default: the network's, else
    the schedule's). prediction_type, cond and clip_x0 as in ``make_denoise``; ``callback(state)``
    after each step. Raises ValueError or TypeError for arguments that do not fit, at abar = 0 for
    "epsilon", and for samplers that work in sigma.
    """
    for state in sample_iter(model, shape, schedule, **kwargs):
        if callback is not None:
            callback(state)
    return state.x
