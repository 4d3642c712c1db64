"""Networks that answers are given are `nn.Module`s in every respect, and hold no chance."""

import copy
import inspect

import pytest
import torch
from torch import nn

from diffusion_course.exercises import given

STAND_INS = [
    one for _, one in inspect.getmembers(given, inspect.isclass) if issubclass(one, given.StandIn) and one is not given.StandIn
]
PARTS = {  # what a class is made of that has no defaults
    given.TwoLayers: {"inner": torch.ones(3, 8), "outer": torch.ones(8, 2)},
    given.IndexedNetwork: {"num_steps": 7},
    given.Field: {"mix": torch.eye(2)},
    given.ClassNetwork: {"null_class": 3},
    given.DroppingNetwork: {"weight": 0.5, "training": True},
    given.Decoder: {"scale": 0.5},
}


def made(kind):
    return kind(**PARTS.get(kind, {}))


@pytest.mark.parametrize("kind", STAND_INS)
def test_a_stand_in_is_a_module_in_every_respect(kind):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    module = made(kind)
    assert torch.equal(torch.get_rng_state(), before), "it drew from the global random state"
    assert isinstance(module, nn.Module) and callable(module)
    weights = list(module.parameters())
    assert weights and all(weight.is_floating_point() for weight in weights)
    assert module in list(module.modules())
    mode = module.training
    assert module.eval() is module and not module.training
    assert module.train() is module and module.training
    module.train(mode)
    other = copy.deepcopy(module)
    other.load_state_dict(module.state_dict())
    for dtype in (torch.float64, torch.float32):
        assert module.to(dtype) is module and next(module.parameters()).dtype == dtype
    assert module.requires_grad_(False) is module and not any(weight.requires_grad for weight in module.parameters())


@pytest.mark.parametrize("kind", STAND_INS)
def test_a_stand_in_is_made_again_of_its_parts(kind):
    module = made(kind)
    again = kind(**module.parts)
    assert again.state_dict().keys() == module.state_dict().keys()
    assert all(torch.equal(again.state_dict()[name], value) for name, value in module.state_dict().items())
