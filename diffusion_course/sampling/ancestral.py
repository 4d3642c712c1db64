"""Ancestral sampling: all T reverse steps, from noise to data (arXiv 2006.11239, Algorithm 2)."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..door import checked, falling, keywords_of, like, table
from ..process.losses import Model, variances
from ..validation import check_device, values_are_free
from .loop import first_weight, iterate_levels, make_denoise, start
from .timesteps import Level


def _of_one_schedule(name: str, alphas_cumprod: Tensor, given: dict) -> None:
    """Raise ValueError unless alphas = 1 - betas and alphas_cumprod is its running product."""
    betas, alphas = given["betas"], given["alphas"]
    if not values_are_free(betas):
        return
    tolerance = 1e-2 if betas.dtype in (torch.bfloat16, torch.float16) else 1e-5
    pairs = {"alphas": (alphas, 1 - betas), "alphas_cumprod": (alphas_cumprod, alphas.cumprod(0))}
    for name, (found, expected) in pairs.items():
        gap = (found - expected).abs()
        if not (gap <= tolerance).all():
            i = int(gap.nan_to_num(nan=float("inf")).argmax())
            raise ValueError(
                f"the tables are not of one schedule: got {name}[{i}] = {found[i].item():.6g}, but "
                f"betas give {expected[i].item():.6g}. Take all three from one NoiseSchedule."
            )


@checked(
    betas=table, alphas=like("betas"), alphas_cumprod=(like("betas"), falling, _of_one_schedule),
    variance_type=variances,
)
def p_sample_iter(
    unet: Model, shape: tuple[int, ...], betas: Tensor, alphas: Tensor,
    alphas_cumprod: Tensor, *, cond: Tensor | None = None, x_init: Tensor | None = None,
    prediction_type: str = "epsilon", variance_type: str = "fixed_small",
    clip_x0: float | None = None, generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Return an iterator over (t, x, x0_pred) after each reverse step, t from T-1 down to 0.

    The arguments are ``p_sample_loop``'s.
    """
    weight = first_weight(unet)
    dtype_of = torch.get_default_dtype() if weight is None else weight.dtype
    x = start(shape, x_init, betas.to(dtype_of), generator, dtype)
    check_device("x_init", x, "betas", betas)
    levels = [Level(t, alphas_cumprod[t]) for t in reversed(range(len(betas)))]
    levels.append(Level(None, torch.ones_like(alphas_cumprod[0])))
    reading = {"prediction_type": prediction_type, "clip_x0": clip_x0}
    denoise = make_denoise(unet, cond=cond, **reading)
    drawing = {"variance_type": variance_type, "generator": generator}
    states = iterate_levels(denoise, x, levels, sampler="ddpm", **drawing)
    return ((state.t, state.x, state.x0_pred) for state in states)


@checked(kwargs=keywords_of(p_sample_iter))
def p_sample_loop(
    unet: Model, shape: tuple[int, ...], betas: Tensor, alphas: Tensor, alphas_cumprod: Tensor,
    *, callback: Callable[[int, Tensor, Tensor], None] | None = None, **kwargs: object,
) -> Tensor:
    """Draw samples (B, ...) by the whole reverse chain (arXiv 2006.11239, Algorithm 2).

    unet: ``model(xt, t[, cond])``, t (B,) int64; shape: that of the samples, batch first; betas,
    alphas, alphas_cumprod: (T,) of one schedule, on the device to work on. Keywords: cond, x_init
    (the starting noise), prediction_type, variance_type ("fixed_small" or "fixed_large"), clip_x0,
    generator, dtype (default: the network's), and ``callback(t, x, x0_pred)`` after each step.
    Raises ValueError if the tables disagree, or the network returns another shape or device.
    """
    for t, x, x0_pred in p_sample_iter(unet, shape, betas, alphas, alphas_cumprod, **kwargs):
        if callback is not None:
            callback(t, x, x0_pred)
    return x
