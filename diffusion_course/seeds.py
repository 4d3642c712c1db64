"""One seed for everything, explicit generators, and the device the course runs on."""

from __future__ import annotations

import random

import numpy as np
import torch

MAX_SEED = 2**32 - 1  # numpy's global generator takes no more


def _check_seed(seed: int, caller: str) -> int:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(
            f"{caller}: seed must be an integer, got {seed!r} of type {type(seed).__name__}; write"
            f" for example {caller}(0)."
        )
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"{caller}: seed must lie in 0..{MAX_SEED}, got {seed}.")
    return int(seed)


def make_generator(seed: int, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a `torch.Generator` on `device` that starts at `seed`.

    Raises TypeError or ValueError for a bad seed, RuntimeError for a device that this machine does
    not have.
    """
    seed = _check_seed(seed, "make_generator")
    try:
        return torch.Generator(device=device).manual_seed(seed)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RuntimeError(
            f"make_generator: no random generator on device {str(device)!r} ({reason}); use"
            f" device='cpu' or default_device(), which is {str(default_device())!r} on this"
            " machine."
        ) from error


def seed_everything(seed: int) -> torch.Generator:
    """Seed python's, numpy's and torch's global generators (torch seeds CUDA and MPS too).

    Returns a new CPU generator that starts at `seed`, for calls that take `generator=`.
    Raises TypeError for a seed that is no integer, ValueError outside 0..2^32 - 1.
    """
    seed = _check_seed(seed, "seed_everything")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return make_generator(seed)


def default_device() -> torch.device:
    """Return the fastest device present: cuda, else mps (Apple), else cpu."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")
