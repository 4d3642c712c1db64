import math

import pytest
import torch
from helpers import assert_near, normal
from torch.nn.functional import silu

from diffusion_course import MLP, DigitClassifier, UNet, timestep_embedding
from diffusion_course.models.blocks import ResBlock

NETWORKS = {
    "mlp": (lambda **k: MLP(2, 16, 2, **k), (5, 2)),
    "mlp 3-D": (lambda **k: MLP(3, 16, 1, **k), (5, 3)),
    "unet": (lambda **k: UNet(1, 16, **k), (3, 1, 8, 8)),
    "unet 3 levels": (lambda **k: UNet(3, 16, (1, 2, 3), **k), (3, 3, 8, 12)),
    "unet 1 level": (lambda **k: UNet(1, 16, (2,), **k), (3, 1, 5, 7)),
    "unet attends": (lambda **k: UNet(1, 16, (1, 2), blocks_per_level=2, attention_levels=(0, 1), num_heads=2, **k), (3, 1, 4, 6)),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def made(name, **kwargs):
    """The network with no weight left at zero, so that every part of it matters."""
    torch.manual_seed(0)
    build, shape = NETWORKS[name]
    model = build(**kwargs).double()
    for i, weight in enumerate(model.parameters()):
        if not weight.any():
            weight.data = 0.1 * normal(*weight.shape, seed=i)
    return model, normal(*shape, seed=1), torch.tensor([0, 7, 999, 3, 500])[: shape[0]]


def test_embedding_number_by_number():
    t = torch.tensor([0, 1, 999])
    expected = [[f(i * 10_000 ** (-k / 4)) for f in (math.cos, math.sin) for k in range(4)] for i in t.tolist()]
    assert timestep_embedding(t, 8).dtype == torch.float32
    assert_near(timestep_embedding(t, 8), torch.tensor(expected), 1e-4)
    assert_near(
        timestep_embedding(t, 4)[1],
        torch.tensor([math.cos(1), math.cos(0.01), math.sin(1), math.sin(0.01)]),
        1e-6,
    )


def test_embedding_tells_all_timesteps_apart():
    rows = timestep_embedding(torch.arange(1000), 32)
    distance = torch.cdist(rows, rows) + 10 * torch.eye(1000)
    assert distance.min() > 0.05


@pytest.mark.parametrize("dim", [0, 7, -2])
def test_embedding_of_odd_size(dim):
    with pytest.raises(ValueError, match=f"dim must be a positive even number, got {dim}"):
        timestep_embedding(torch.arange(3), dim)


@every_network
def test_output_depends_on_every_input_and_each_sample_on_its_own_only(name):
    model, x, t = made(name)
    out = model(x, t)
    assert out.shape == x.shape and out.dtype == x.dtype and torch.isfinite(out).all()
    assert_near(model(x[1:2], t[1:2]), out[1:2], 1e-12)
    assert ((model(x, t + 1) - out).flatten(1).abs().amax(1) > 1e-6).all()
    assert ((model(x + 0.1, t) - out).flatten(1).abs().amax(1) > 1e-6).all()
    assert torch.equal(model(x, t), out)


@every_network
def test_classes_change_the_output(name):
    model, x, t = made(name, num_classes=4)
    cond = torch.tensor([0, 1, 2, 3, 0])[: len(x)]
    moved = (model(x, t, cond) - model(x, t, (cond + 1) % 4)).flatten(1).abs().amax(1)
    assert (moved > 1e-6).all()
    with pytest.raises(ValueError, match="built with num_classes=4, but cond is missing"):
        model(x, t)
    with pytest.raises(ValueError, match="built without classes, but cond is given"):
        made(name)[0](x, t, cond)


def test_no_class_is_one_more_class():
    """Its embedding is its own: it is none of the classes', and it is the only one that a batch without labels teaches."""
    model, x, t = made("mlp", num_classes=4)
    assert model.null_class == model.conditioning.null_class == 4 and MLP().null_class is None
    nobody = torch.full((5,), model.null_class)
    for label in range(4):
        assert (model(x, t, nobody) - model(x, t, torch.full((5,), label))).abs().amin() > 1e-9
    model(x, t, nobody).square().sum().backward()
    assert model.conditioning.classes.weight.grad.any(1).tolist() == [False] * 4 + [True]


@pytest.mark.parametrize(
    ("cond", "error", "message"),
    [
        ([0, 5, 1], ValueError, r"cond must hold classes 0\.\.3, or 4 for no class, got values from 0 to 5"),
        ([-1, 0, 4], ValueError, r"or 4 for no class, got values from -1 to 4"),
        ([0.0, 1.0, 2.0], TypeError, r"cond must hold classes as int64, got shape \(3,\), float32.*cond\.long\(\)"),
        ([True, False, True], TypeError, r"cond must hold classes as int64, got shape \(3,\), bool"),
    ],
)
def test_refused_classes(cond, error, message):
    with pytest.raises(error, match=message):
        MLP(2, 16, num_classes=4)(torch.zeros(3, 2), torch.arange(3), torch.tensor(cond))
    assert MLP(2, 16, num_classes=4)(torch.zeros(3, 2), torch.arange(3), torch.tensor([0, 3, 4], dtype=torch.int32)).shape == (3, 2)


@every_network
def test_every_weight_is_used(name):
    model, x, t = made(name, num_classes=3)
    for cond in (torch.tensor([0, 1, 2, 0, 1]), torch.tensor([3, 3, 3, 3, 3])):  # 3: no class
        model(x, t, cond[: len(x)]).square().sum().backward()
    dead = [
        name
        for name, weight in model.named_parameters()
        if weight.grad is None or not (weight.grad.flatten(1).any(1).all() if weight.ndim > 1 else weight.grad.any())
    ]
    assert dead == []


@every_network
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_dtypes(name, dtype):
    model, x, t = made(name)
    exact, found = model(x, t), model.to(dtype)(x.to(dtype), t)
    assert found.dtype == dtype
    assert (found.double() - exact).abs().max() < 50 * torch.finfo(dtype).eps * max(1, exact.abs().max().item())


def test_time_scales_a_residual_block_around_one():
    """With a scale and shift of zero the block is the plain one, not a constant."""
    torch.manual_seed(0)
    block, x = ResBlock(16, 16, 4), normal(2, 16, 4, 4, dtype=torch.float32)
    block.conv2.weight.data.normal_()
    h = block.norm2(block.conv1(silu(block.norm1(x))))
    block.scale_shift.weight.data.zero_()
    block.scale_shift.bias.data.zero_()
    assert_near(block(x, torch.ones(2, 4)), x + block.conv2(silu(h)), 1e-4)


def test_fresh_unet_predicts_zero():
    assert (UNet(1, 16)(torch.ones(2, 1, 8, 8), torch.tensor([0, 5])) == 0).all()


def test_classifier_shapes_and_features():
    model, images = DigitClassifier(), normal(3, 1, 16, 16, dtype=torch.float32)
    assert model(images).shape == (3, 10) and model.features(images).shape == (3, 64)
    assert_near(model.head(model.features(images)), model(images), 0)
    assert_near(model(images[1:2]), model(images)[1:2], 1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MLP(2)(torch.ones(3, 3), torch.arange(3)), r"takes points of shape \(B, 2\), got shape \(3, 3\)"),
        (lambda: MLP(2)(torch.ones(2), torch.arange(2)), r"got shape \(2,\)"),
        (lambda: UNet(1, 12), r"channels must be a multiple of 16.*got 12"),
        (lambda: UNet(1, 16)(torch.ones(2, 3, 8, 8), torch.arange(2)), r"images \(B, 1, H, W\).*got shape \(2, 3, 8, 8\)"),
        (lambda: UNet(1, 16)(torch.ones(2, 1, 7, 8), torch.arange(2)), r"sides divisible by 2, got shape \(2, 1, 7, 8\)"),
        (lambda: UNet(1, 16)(torch.ones(2, 1, 8, 7), torch.arange(2)), r"got shape \(2, 1, 8, 7\)"),
        (lambda: UNet(1, 16)(torch.ones(2, 8), torch.arange(2)), r"got shape \(2, 8\)"),
        (lambda: DigitClassifier()(torch.ones(2, 1, 8, 8)), r"takes images \(B, 1, 16, 16\), got shape \(2, 1, 8, 8\)"),
        (lambda: DigitClassifier().features(torch.ones(16, 16)), r"got shape \(16, 16\)"),
    ],
)
def test_refused_shapes(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("t", "cond", "message"),
    [
        (torch.zeros(1, dtype=torch.long), None, r"t must have one entry for each sample of xt, \(3,\), got shape \(1,\)"),
        (torch.tensor(5), None, r"t must have one entry .*got shape \(\)"),
        (5, None, r"t must be a torch\.Tensor, got int 5"),
        (torch.zeros(3, 1, dtype=torch.long), None, r"got shape \(3, 1\)"),
        (torch.zeros(3, dtype=torch.long), torch.zeros(1, dtype=torch.long), r"cond must have one entry .*got shape \(1,\)"),
    ],
)
@pytest.mark.parametrize("make", [lambda n: (MLP(num_classes=n), (3, 2)), lambda n: (UNet(channels=16, num_classes=n), (3, 1, 8, 8))])
def test_time_and_class_need_one_entry_for_each_sample(make, t, cond, message):
    model, shape = make(None if cond is None else 4)
    with pytest.raises((TypeError, ValueError), match=message):
        model(torch.zeros(shape), t, *(() if cond is None else (cond,)))
