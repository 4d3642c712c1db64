"""The smallest exercise there is, for tests of the engine: twice x, on two cases."""

import torch

from diffusion_course.exercises.definition import Case


def two_cases(generator):
    yield Case((torch.randn(4, 3, generator=generator), torch.tensor([0, 2, 5, 5])), note="four")
    yield Case((torch.randn(1, 3, generator=generator), torch.tensor([1])), note="one")


def double(x, t):
    return 2 * x
