"""One seed for everything, explicit generators, and the device the course runs on."""

import functools
import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .door import Check, checked

MAX_SEED = 2**32 - 1  # numpy's global generator takes no more


def _seed_of(caller: str) -> Check:
    """Return the check for a seed, whose messages name the function that was called."""

    def seed(name: str, seed: object, given: dict) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
            got = f"got {seed!r} of type {type(seed).__name__}; write for example {caller}(0)"
            raise TypeError(f"{caller}: seed must be an integer, {got}.")
        if not 0 <= seed <= MAX_SEED:
            raise ValueError(f"{caller}: seed must lie in 0..{MAX_SEED}, got {seed}.")

    seed.typed = True
    return seed


@checked(seed=_seed_of("make_generator"))
def make_generator(seed: int, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a ``torch.Generator`` on ``device`` that starts at ``seed``.

    Raises TypeError or ValueError for a bad seed, RuntimeError for a device that is not here.
    """
    try:
        return torch.Generator(device=device).manual_seed(int(seed))
    except (RuntimeError, AssertionError) as error:
        raise RuntimeError(
            f"make_generator: no random generator on device {str(device)!r} "
            f"({str(error).strip().splitlines()[0]}); use device='cpu' or default_device(), which"
            f" is {str(default_device())!r} on this machine."
        ) from error


@checked(seed=_seed_of("seed_everything"))
def seed_everything(seed: int) -> torch.Generator:
    """Seed python's, numpy's and torch's global generators (torch seeds CUDA and MPS too), and
    return a new CPU generator that starts at ``seed``, for calls that take ``generator=``.

    Raises TypeError for a seed that is no integer, ValueError outside 0..2^32 - 1.
    """
    random.seed(int(seed))
    np.random.seed(int(seed))
    torch.manual_seed(int(seed))
    return make_generator(seed)


def draw(
    kind: Callable[..., Tensor], *size: object, generator: torch.Generator | None,
    device: torch.device, dtype: torch.dtype | None = None,
) -> Tensor:
    """Return ``kind(*size)``, random numbers on ``device``, from a generator on any device."""
    home = device if generator is None else generator.device
    return kind(*size, generator=generator, device=home, dtype=dtype).to(device)


def on_cpu(function: Callable) -> Callable:
    """Return the function with its tensors on the CPU, whatever default device a reader has set."""

    @functools.wraps(function)
    def there(*args: object, **kwargs: object) -> object:
        with torch.device("cpu"):
            return function(*args, **kwargs)

    return there


def exactly(method: Callable) -> Callable:
    """Return the method with its products in their own dtype, also inside torch.autocast."""

    @functools.wraps(method)
    def exact(self: object, *args: object) -> object:
        with torch.autocast(args[0].device.type, enabled=False):
            return method(self, *args)

    return exact


def default_device() -> torch.device:
    """Return the fastest device present: cuda, else mps (Apple), else cpu."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
