"""Costs of networks, against torch's own counter, hand counts and arithmetic on shapes."""

import pytest
import torch
from helpers import normal
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from diffusion_course import models
from diffusion_course.measures import flops
from diffusion_course.measures.flops import count_flops, count_parameters, flops_by_module
from diffusion_course.models.unet import UNet


def by_torch(model, *inputs):
    """Torch counts what its dispatcher sees; on the meta device attention is two products, which it knows."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*inputs)
    return counter.get_total_flops()


class Function(nn.Module):
    """A function as a network."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


LAYERS = [
    (lambda: nn.Conv1d(4, 6, 5, stride=2, padding=1), (3, 4, 17)),
    (lambda: nn.Conv2d(4, 6, 3, padding=1), (3, 4, 8, 10)),
    (lambda: nn.Conv2d(8, 12, (3, 5), stride=(2, 1), dilation=2, groups=4), (2, 8, 16, 20)),
    (lambda: nn.Conv2d(8, 8, 3, groups=8, padding="same", bias=False), (2, 8, 6, 6)),
    (lambda: nn.Conv3d(2, 4, 3), (2, 2, 5, 6, 7)),
    (lambda: nn.ConvTranspose1d(4, 6, 3, stride=2), (2, 4, 9)),
    (lambda: nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1, groups=2), (2, 4, 5, 7)),
    (lambda: nn.Linear(7, 9), (4, 7)),
    (lambda: nn.Linear(7, 9, bias=False), (4, 5, 6, 7)),
]


@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=lambda x: "x".join(map(str, x)) if isinstance(x, tuple) else "")
def test_layers_as_torch_counts_them(make, shape):
    with torch.device("meta"):
        layer, x = make(), torch.empty(shape)
    assert count_flops(layer, x) == by_torch(layer, x) > 0


A, B = (2, 3, 4, 5), (2, 3, 5, 6)
PRODUCTS = [
    (lambda a, b: a @ b, A, B),
    (torch.matmul, A, B),
    (lambda a, b: a.matmul(b), A, B),
    (torch.mm, (4, 5), (5, 6)),
    (lambda a, b: a.mm(b), (4, 5), (5, 6)),
    (torch.bmm, (3, 4, 5), (3, 5, 6)),
    (lambda a, b: torch.addmm(torch.ones(6, device=a.device), a, b), (4, 5), (5, 6)),
    (lambda a, b: torch.baddbmm(torch.ones(6, device=a.device), a, b), (3, 4, 5), (3, 5, 6)),
    (lambda a, b: torch.einsum("bij,bjk->bik", a, b), (3, 4, 5), (3, 5, 6)),
    (lambda a, b: torch.einsum("bhid, bhjd -> bhij", a, b), (2, 3, 4, 5), (2, 3, 7, 5)),
    (lambda a, b: torch.einsum("ij,jk", [a, b]), (4, 5), (5, 6)),
    (lambda a, b: a + b, (4, 5), (4, 5)),
]


@pytest.mark.parametrize(("function", "a", "b"), PRODUCTS)
def test_products_as_torch_counts_them(function, a, b):
    network, a, b = Function(function), torch.empty(a, device="meta"), torch.empty(b, device="meta")
    assert count_flops(network, a, b) == by_torch(network, a, b)


@pytest.mark.parametrize(
    ("q", "k", "v"),
    [((2, 4, 16, 8), (2, 4, 16, 8), (2, 4, 16, 8)), ((2, 4, 16, 8), (2, 4, 5, 8), (2, 4, 5, 12)), ((3, 1, 2, 4), (3, 1, 9, 4), (3, 1, 9, 4))],
)
def test_attention_as_torch_counts_it_and_on_the_cpu_where_it_does_not(q, k, v):
    network = Function(F.scaled_dot_product_attention)
    shapes = [torch.empty(s, device="meta") for s in (q, k, v)]
    ours = count_flops(network, *shapes)
    assert ours == by_torch(network, *shapes) > 0
    assert count_flops(network, *(torch.zeros(s) for s in (q, k, v))) == ours


def test_torch_still_counts_no_attention_on_the_cpu():
    x = torch.zeros(1, 2, 4, 8)
    assert by_torch(Function(F.scaled_dot_product_attention), x, x, x) == 0, "torch counts it now: say so in lesson 05"


def unet(**options):
    return lambda: UNet(1, 16, (1, 2), **options)


TOKENS = torch.empty(3, 5, 12, device="meta")
NETWORKS = [
    (lambda: models.MLP(2, 16), (3, 2), None),
    (models.DigitClassifier, (3, 1, 16, 16), None),
    (unet(), (3, 1, 16, 16), None),
    (unet(blocks_per_level=2, attention_levels=(0, 1), num_classes=10), (3, 1, 8, 16), torch.zeros(3, dtype=torch.int64, device="meta")),
    (unet(attention_levels=(1,), context_dim=12, out_channels=2), (3, 1, 16, 16), TOKENS),
]


@pytest.mark.parametrize(("make", "shape", "cond"), NETWORKS)
def test_our_networks_as_torch_counts_them(make, shape, cond):
    with torch.device("meta"):
        network, x, t = make(), torch.empty(shape), torch.zeros(shape[0], dtype=torch.int64)
    inputs = (x,) if isinstance(network, models.DigitClassifier) else (x, t, cond)
    total = count_flops(network, *inputs)
    assert total == by_torch(network, *inputs) > 0
    parts = flops_by_module(network, *inputs, depth=3)
    assert sum(part.flops for part in parts.values()) == total
    assert sum(part.parameters for part in parts.values()) == count_parameters(network)
    assert count_parameters(network) == sum(v.numel() for v in network.state_dict().values())


def test_a_foreign_network():
    from diffusers import UNet2DModel

    with torch.device("meta"):
        network = UNet2DModel(16, 1, 1, block_out_channels=(32, 64), down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                              up_block_types=("AttnUpBlock2D", "UpBlock2D"), layers_per_block=1)
        inputs = torch.empty(2, 1, 16, 16), torch.zeros(2, dtype=torch.int64)
    assert count_flops(network, *inputs) == by_torch(network, *inputs) > 0


def test_a_convolution_by_hand():
    """8 x 8 outputs in each of 5 channels, each a sum of 3 x 3 x 3 products: loops, not formulas."""
    layer = nn.Conv2d(3, 5, 3, padding=1)
    count = sum(2 for _ in range(8 * 8) for _ in range(5) for _ in range(3) for _ in range(3) for _ in range(3))
    assert count_flops(layer, torch.zeros(1, 3, 8, 8)) == count
    assert count_parameters(layer) == 5 * 27 + 5


def test_the_cost_grows_with_the_batch_and_not_with_the_values():
    network = models.DigitClassifier()
    one = count_flops(network, torch.zeros(1, 1, 16, 16))
    assert count_flops(network, normal(7, 1, 16, 16, dtype=torch.float32)) == 7 * one


def test_a_huge_network_costs_nothing_on_meta():
    with torch.device("meta"):
        network = nn.Sequential(nn.Linear(100_000, 100_000), nn.SiLU(), nn.Linear(100_000, 10))
    assert count_parameters(network) == 100_000 * 100_001 + 10 * 100_001
    assert count_flops(network, torch.empty(8, 100_000, device="meta")) == 2 * 8 * (100_000**2 + 100_000 * 10)


def test_under_fake_tensors_on_a_gpu():
    with FakeTensorMode(), torch.device("cuda"):
        network, x, t = UNet(1, 16, (1, 2), attention_levels=(1,)), torch.ones(2, 1, 8, 8), torch.ones(2)
        total = count_flops(network, x, t)
    assert total == count_flops(UNet(1, 16, (1, 2), attention_levels=(1,)), torch.ones(2, 1, 8, 8), torch.ones(2))


def test_the_network_is_left_as_it_was():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.Dropout(), nn.Linear(6, 2)))
    network[2].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    count_flops(network, torch.ones(2, 1, 8, 8))
    assert [module.training for module in network.modules()] == [True, True, True, False, False, False]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    hooks = [h for module in network.modules() for h in (*module._forward_hooks, *module._forward_pre_hooks)]
    assert hooks == []


def test_the_network_is_left_as_it_was_by_a_call_that_fails():
    network = nn.Sequential(nn.Linear(3, 4))
    with pytest.raises(RuntimeError):
        count_flops(network, torch.ones(2, 5))
    assert network.training
    assert not network[0]._forward_hooks
    assert not network[0]._forward_pre_hooks


def test_parameters_that_do_not_train_or_are_shared():
    layer = nn.Linear(4, 4, bias=False)
    network = nn.Sequential(layer, layer, nn.Linear(4, 2).requires_grad_(False))
    assert count_parameters(network) == 16
    assert count_flops(network, torch.ones(3, 4)) == 2 * 3 * (16 + 16 + 8)


def test_names_and_depth():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.Linear(4, 3))
            self.scale = nn.Parameter(torch.ones(3, 3))

        def forward(self, x):
            return self.body(x) @ self.scale

    x = torch.ones(2, 3)
    assert flops_by_module(Net(), x) == {"": (9, 36), "body": (16 + 15, 96)}
    assert flops_by_module(Net(), x, depth=2) == {"": (9, 36), "body.0": (16, 48), "body.2": (15, 48)}


@pytest.mark.parametrize(
    ("network", "inputs"),
    [(nn.LSTM(3, 4), (torch.ones(2, 5, 3),)), (nn.MultiheadAttention(8, 2), (torch.ones(4, 2, 8),) * 3),
     (nn.TransformerEncoderLayer(8, 2, batch_first=True), (torch.ones(2, 4, 8),)),
     (Function(lambda a: torch.einsum("ij,jk,kl->il", a, a, a)), (torch.ones(3, 3),)),
     (Function(lambda a: torch.einsum("...i,...i->...", a, a)), (torch.ones(3, 3),))],
)
def test_what_cannot_be_counted_is_refused_and_not_forgotten(network, inputs):
    with pytest.raises(NotImplementedError, match="not counted"):
        count_flops(network, *inputs)


@pytest.mark.parametrize("planted", ["_convolution", "_product", "_attention"])
def test_a_wrong_formula_is_caught(planted, monkeypatch):
    """Half of each formula (multiply-adds counted as 1) must not pass the comparison above."""
    wrong = {f: (lambda *a, g=g, **k: g(*a, **k) // 2) if g.__name__ == planted else g for f, g in flops._COUNTED.items()}
    monkeypatch.setattr(flops, "_COUNTED", wrong)
    with torch.device("meta"):
        network, x, t = UNet(1, 16, (1, 2), attention_levels=(1,)), torch.ones(2, 1, 8, 8), torch.ones(2)
    assert count_flops(network, x, t) != by_torch(network, x, t)
