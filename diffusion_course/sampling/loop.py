"""From noise to data in a few steps: one loop for every sampler, any spacing, every step in view.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from numbers import Integral, Real
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..door import batch, checked, positive_or_none
from ..process.kernels import prediction, to_x0_and_noise
from ..process.losses import Model, call_model
from ..process.schedules import NoiseSchedule
from ..seeds import draw
from ..validation import check_batch, check_choice, check_device, check_floating, describe
from .solvers import (
    Denoise, Estimate, Step, Transition, ddim_step, dpmpp_2m_step, euler_ancestral_step,
    euler_step, heun_step, posterior_step,
)
from .timesteps import Level, inference_timesteps, noise_levels

SAMPLERS: dict[str, Step] = {
    "ddpm": posterior_step, "ddim": ddim_step, "euler": euler_step,
    "euler_ancestral": euler_ancestral_step, "heun": heun_step, "dpmpp_2m": dpmpp_2m_step,
}


class SampleState(NamedTuple):
    """What ``sample_iter`` yields after each step, from 1 to num_steps.

    t: the time that the step started from; x: the state after it; x0_pred: the estimate at t.
    """

    step: int
    num_steps: int
    t: float | Tensor
    x: Tensor
    x0_pred: Tensor


@checked(prediction_type=prediction, clip_x0=positive_or_none)
def make_denoise(
    model: Model, *, cond: Tensor | None = None, prediction_type: str = "epsilon",
    clip_x0: float | None = None,
) -> Denoise:
    """Return ``denoise(xt, level) -> Estimate``: one call of the model, read for x0 and noise.

    model: ``model(xt, t[, cond])``. ``clip_x0``: clamp x0 to [-clip_x0, clip_x0]; the noise is then
    computed again from x_t, so that the two still agree. level.t: a number or a tensor (B,). The
    estimate is float32 at least. Raises ValueError for an unknown type or clip_x0 <= 0; called, as
    ``to_x0_and_noise``.
    """

    def denoise(xt: Tensor, level: Level) -> Estimate:
        t, alpha_bar = level if isinstance(level.t, Tensor) else _with_tensors([level], xt)[0]
        output = call_model(model, xt, t, cond)
        if xt.dtype.itemsize < 4:  # an estimate of x0 may be larger than half precision holds
            xt, output = xt.float(), output.float()
        x0, noise = to_x0_and_noise(output, xt, alpha_bar, prediction_type)
        if clip_x0 is not None:
            x0, noise = to_x0_and_noise(x0.clamp(-clip_x0, clip_x0), xt, alpha_bar, "sample")
        return Estimate(x0, noise)

    return denoise


def _with_tensors(levels: Sequence[Level], x: Tensor) -> list[Level]:
    """Return the levels with their numbers t as tensors (B,) beside x, int64 if all are whole."""
    numbers = [level.t for level in levels if isinstance(level.t, Real)]
    whole = all(isinstance(t, Integral) for t in numbers)
    dtype = torch.int64 if whole else torch.promote_types(x.dtype, torch.float32)
    on_cpu = torch.tensor(numbers, dtype=dtype, device="cpu")
    on_device = on_cpu.to(x.device, non_blocking=True)  # one transfer
    rows = iter(on_device[:, None].repeat(1, len(x)).unbind())
    bars = [a if isinstance(a, Tensor) else float(a) for _, a in levels]
    times = [next(rows) if isinstance(t, Real) else t for t, _ in levels]
    return list(map(Level, times, bars))


def _step_of(sampler: str | Step) -> Step:
    if callable(sampler):
        return sampler
    check_choice("sampler", sampler, tuple(SAMPLERS))
    return SAMPLERS[sampler]


def _options_of_the_step(name: str, sampler: str | Step, given: dict) -> None:
    """Raise TypeError for an option that the step does not know, and as its door for others."""
    step, options = _step_of(sampler), given["options"]
    try:
        takes = list(inspect.signature(step).parameters.values())
    except ValueError:  # some builtins have none
        takes = []
    if any(p.kind is p.VAR_KEYWORD for p in takes):
        return
    if len(takes) < 3 and not any(p.kind is p.VAR_POSITIONAL for p in takes):
        raise TypeError(f"{name} must take (denoise, xt, move), got {describe(sampler)}.")
    known = [p.name for p in takes[3:]]
    if unknown := sorted(options.keys() - set(known)):
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise TypeError(f"sampler {sampler!r} has no option {unknown[0]!r}: {has}.")
    if hasattr(step, "checks"):  # a door of this package
        step.hold(**options)


def _is_a_step(found: object, x: Tensor) -> None:
    """Raise unless a step returned a state like x and an estimate."""
    if not isinstance(found, (tuple, list)) or len(found) != 2 or not hasattr(found[1], "x0"):
        wanted = "sampler must return a SamplerStep(x_prev, estimate)"
        raise TypeError(f"{wanted}, got {describe(found)}.")
    if not isinstance(found[0], Tensor) or found[0].shape != x.shape:
        got = describe(found[0])
        raise ValueError(f"sampler must return an x_prev of the shape of {describe(x)}, got {got}.")


def _from_now_to_next(name: str, levels: Sequence[Level], given: dict) -> None:
    if len(levels) < 2:
        got = describe(list(levels))
        raise ValueError(f"a chain needs at least two levels, from now to next, got {got}.")


@checked(x=batch, levels=_from_now_to_next, sampler=_options_of_the_step)
def iterate_levels(
    denoise: Denoise, x: Tensor, levels: Sequence[Level], *, sampler: str | Step = "ddim",
    generator: torch.Generator | None = None, **options: object,
) -> Iterator[SampleState]:
    """Yield a state after each step from levels[0], where x (B, ...) is, to levels[-1].

    The one loop of all samplers. Any levels of rising alpha_bar will do; the last may still be
    noisy. ``options`` go to the step. Raises ValueError for fewer than two, and as the step.
    """
    step, before, without_gradients = _step_of(sampler), None, torch.no_grad()
    for i, (now, then) in enumerate(pairwise(_with_tensors(levels, x))):
        move = Transition(now, then, before, None, generator)
        with without_gradients:
            found = step(denoise, x, move, **options)
        _is_a_step(found, x)
        x, estimate = found[0].to(x.dtype), found[1]
        before = now, estimate
        yield SampleState(i + 1, len(levels) - 1, levels[i].t, x, estimate.x0.to(x.dtype))


def first_weight(model: object) -> Tensor | None:
    """Return the first floating weight of a network, None for a function or a network without."""
    weights = model.parameters() if isinstance(model, nn.Module) else ()
    return next((p for p in weights if p.is_floating_point()), None)


def start(
    shape: tuple[int, ...], x_init: Tensor | None, like: Tensor,
    generator: torch.Generator | None, dtype: torch.dtype | None,
) -> Tensor:
    """Return where a chain starts: ``x_init``, checked and cast, or noise beside ``like``."""
    if len(shape) == 0 or min(shape) < 1:
        raise ValueError(
            "shape must hold sizes of at least 1, batch first, for example (16, 1, 8, 8), got"
            f" {describe(shape)}."
        )
    if x_init is None:
        kind = {"device": like.device, "dtype": dtype or like.dtype}
        x = draw(torch.randn, tuple(shape), generator=generator, **kind)
    else:
        check_floating("x_init", x_init)
        x = x_init if dtype is None else x_init.to(dtype)
        if x.shape != tuple(shape):
            asked = f"the shape {tuple(shape)} that was asked for"
            raise ValueError(f"x_init must have {asked}, got {describe(x)}.")
    check_batch("x_init", x)
    return x


@checked()
def sample_iter(
    model: Model, shape: tuple[int, ...], schedule: NoiseSchedule, *, sampler: str | Step = "ddim",
    num_inference_steps: int = 50, spacing: str = "trailing",
    timesteps: Tensor | Sequence[float] | None = None, cond: Tensor | None = None,
    x_init: Tensor | None = None, prediction_type: str = "epsilon", clip_x0: float | None = None,
    generator: torch.Generator | None = None, dtype: torch.dtype | None = None,
    device: torch.device | str | None = None, **options: object,
) -> Iterator[SampleState]:
    """Return an iterator over the steps; the arguments are ``sample_loop``'s and checked at once.
    """
    step = _step_of(sampler)
    if timesteps is None:
        total = schedule.num_train_timesteps
        timesteps = inference_timesteps(total, num_inference_steps, spacing)
    levels = noise_levels(schedule, timesteps)
    denoise = make_denoise(model, cond=cond, prediction_type=prediction_type, clip_x0=clip_x0)
    weight = first_weight(model)
    like = schedule.alphas_cumprod.to(torch.get_default_dtype()) if weight is None else weight
    if device is not None:
        like = torch.empty(0, device=device, dtype=like.dtype)
    x = start(shape, x_init, like, generator, dtype)
    if device is not None and like.device != x.device:
        raise ValueError(
            f"x_init is on {x.device} and device={str(device)!r}: move x_init or leave device out."
        )
    for name, other in (("the network's weights", weight), ("cond", cond)):
        if isinstance(other, Tensor):
            check_device(name, other, "x_init", x)
    states = iterate_levels(denoise, x, levels, sampler=sampler, generator=generator, **options)
    to_x0_and_noise.hold(prediction_type=prediction_type, xt=x, alpha_bar=levels[0].alpha_bar)
    if hasattr(step, "checks"):
        step.hold(xt=x, move=Transition(*levels[:2]))
    return states


@checked()
def sample_loop(
    model: Model, shape: tuple[int, ...], schedule: NoiseSchedule,
    *, callback: Callable[[SampleState], None] | None = None, **kwargs: object,
) -> Tensor:
    """Draw samples (B, ...) from N(0, I) in a few steps with any sampler.

    model: ``model(xt, t[, cond])``, t (B,); shape: that of the samples, batch first; schedule: the
    one it was trained on. Keywords:

    - sampler: a name in ``SAMPLERS`` or a step function; further options go to the step: ``eta``
      ("ddim", "euler_ancestral"), ``variance_type`` ("ddpm").
    - num_inference_steps and spacing, or timesteps: any strictly decreasing numbers in [0, T-1].
      The last step goes from the last of them to clean data.
    - prediction_type, cond, clip_x0: as in ``make_denoise``.
    - x_init: the noise to start from, else drawn from ``generator`` in ``dtype`` (default: the
      network's) on ``device`` (default: the network's, else the schedule's).

    ``callback(state)`` is called after each step. Raises ValueError or TypeError for arguments that
    do not fit, at abar = 0 for "epsilon", and for samplers that work in sigma.
    """
    for state in sample_iter(model, shape, schedule, **kwargs):
        if callback is not None:
            callback(state)
    return state.x
