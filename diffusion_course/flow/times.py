"""Flow times: which a sampler visits, how they are shifted, how training draws them.

Time runs from 0, clean data, to 1, pure noise.
"""

import torch
from torch import Tensor

from ..door import checked, number, positive_int
from ..seeds import draw
from ..validation import check_floating, describe, values_are_free

positive = number(lambda value: 0 < value < float("inf"), "be positive and finite")


def unit(name: str, t: Tensor | float, given: dict) -> None:
    """Raise unless t is a number in [0, 1], or a floating tensor of such numbers."""
    if isinstance(t, Tensor):
        check_floating(name, t)
        inside = not values_are_free(t) or bool(((t >= 0) & (t <= 1)).all())
    else:
        inside = 0 <= t <= 1
    if not inside:
        shown = t if not isinstance(t, Tensor) or t.numel() > 8 else t.tolist()
        got = describe(shown) if isinstance(shown, Tensor) else shown
        raise ValueError(f"{name} must lie in [0, 1] (0: data, 1: noise), got {got}.")


@checked(t=unit, shift=positive)
def shift_time(t: Tensor | float, shift: float) -> Tensor | float:
    """Move flow times towards noise (shift > 1) or data (shift < 1), as Stable Diffusion 3 does.

    t' = s t / (1 + (s - 1) t) (Esser et al. 2024, arXiv 2403.03206, eq. 23): the log of noise over
    signal, log(t / (1 - t)), grows by log s; both ends stay. FLUX writes s = exp(mu). t: a number
    or a tensor in [0, 1]; returns the same. Raises ValueError for t outside it or a shift that is
    not positive.
    """
    return shift * t / (1 + (shift - 1) * t)


@checked(num_steps=positive_int, shift=positive)
def flow_times(num_steps: int, shift: float = 1.0) -> list[float]:
    """Return the num_steps + 1 times of a sampler, from 1 down to 0, as Python numbers.

    They are evenly spaced, then shifted (``shift_time``). Raises ValueError for fewer than one step
    or a shift that is not positive.
    """
    return [shift_time(1 - i / num_steps, shift) for i in range(num_steps + 1)]


@checked(n=positive_int, std=positive)
def logit_normal_times(
    n: int,
    mean: float = 0.0,
    std: float = 1.0,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return n times of training (n,) in (0, 1), logit-normal (arXiv 2403.03206, eq. 19).

    t = sigmoid(mean + std z), z from N(0, 1): dense in the middle. A positive mean draws more noisy
    times. Raises ValueError for n < 1 or a std that is not positive.
    """
    z = draw(torch.randn, n, generator=generator, device=torch.device(device), dtype=dtype)
    return torch.sigmoid(mean + std * z)
