import random

import numpy as np
import pytest
import torch

from diffusion_course.seeds import default_device, make_generator, seed_everything


def draws():
    return random.random(), float(np.random.rand()), torch.randn(3).tolist()


def test_seed_everything_repeats_every_source_and_returns_a_generator():
    generator = seed_everything(7)
    first = draws(), torch.randn(3, generator=generator).tolist()
    generator = seed_everything(7)
    assert (draws(), torch.randn(3, generator=generator).tolist()) == first
    seed_everything(8)
    assert draws() != first[0]


def test_returned_generator_is_independent_of_the_global_one():
    generator = seed_everything(0)
    torch.randn(100)
    assert torch.equal(torch.randn(4, generator=generator), torch.randn(4, generator=make_generator(0)))


@pytest.mark.parametrize("call", [seed_everything, make_generator])
@pytest.mark.parametrize("seed", [1.0, "1", None, True])
def test_seed_of_wrong_type(call, seed):
    with pytest.raises(TypeError, match=rf"{call.__name__}: seed must be an integer, got {seed!r}"):
        call(seed)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seed_out_of_range(seed):
    with pytest.raises(ValueError, match=rf"0\.\.4294967295, got {seed}"):
        seed_everything(seed)


def test_numpy_integers_and_the_largest_seed_are_seeds():
    assert make_generator(np.int64(3)).initial_seed() == 3
    assert make_generator(2**32 - 1).initial_seed() == 2**32 - 1


def test_absent_device_says_what_to_do():
    absent = "mps" if not torch.backends.mps.is_available() else "cuda"
    with pytest.raises(RuntimeError, match=f"'{absent}'.*device='cpu' or default_device"):
        make_generator(0, absent)


def test_default_device_can_hold_a_tensor():
    assert torch.zeros(1, device=default_device()).device.type == default_device().type
