"""The U-Net against a naive one written from the definitions, its symmetries, its gradients, and its conditions."""

import math

import pytest
import torch
from helpers import assert_near, normal
from torch import nn

from diffusion_course import UNet, diffusion_loss, make_schedule
from diffusion_course.models.blocks import GROUP, Attention, ResBlock


def awake(module, seed=0):
    """The module in float64 with every weight random: no branch is hidden by a zero."""
    for i, weight in enumerate(module.parameters()):
        weight.data = 0.3 * normal(*weight.shape, seed=seed + i)
    return module.double()


def silu(x):
    return x / (1 + (-x).exp())


def linear(layer, x):
    return torch.einsum("...i,oi->...o", x, layer.weight) + layer.bias


def convolution(layer, x):
    """A sum over shifted copies of the zero-padded image."""
    k = layer.weight.shape[-1]
    padded = torch.zeros(*x.shape[:2], x.shape[2] + k - 1, x.shape[3] + k - 1, dtype=x.dtype)
    padded[:, :, k // 2 : k // 2 + x.shape[2], k // 2 : k // 2 + x.shape[3]] = x
    out = layer.bias[None, :, None, None].expand(len(x), -1, *x.shape[2:]).clone()
    for i in range(k):
        for j in range(k):
            window = padded[:, :, i : i + x.shape[2], j : j + x.shape[3]]
            out = out + torch.einsum("bchw,oc->bohw", window, layer.weight[:, :, i, j])
    return out


def normalise(layer, x):
    """Groups of 16 channels, one mean and variance for each group of each sample."""
    out = torch.empty_like(x)
    for b in range(len(x)):
        for c in range(0, x.shape[1], GROUP):
            group = x[b, c : c + GROUP]
            centred = group - group.mean()
            out[b, c : c + GROUP] = centred / (centred.square().mean() + layer.eps).sqrt()
    return out * layer.weight[:, None, None] + layer.bias[:, None, None]


def naive_res_block(block, x, emb):
    h = convolution(block.conv1, silu(normalise(block.norm1, x)))
    both = linear(block.scale_shift, emb)
    c = h.shape[1]
    h = normalise(block.norm2, h) * (1 + both[:, :c, None, None]) + both[:, c:, None, None]
    skip = x if isinstance(block.skip, nn.Identity) else convolution(block.skip, x)
    return skip + convolution(block.conv2, silu(h))


def naive_attention(layer, x, context=None):
    """One sample, one head, one position at a time."""
    size, (b, c, height, width) = x.shape[1] // layer.num_heads, x.shape
    h, out = normalise(layer.norm, x), torch.zeros_like(x)
    for i in range(b):
        positions = [h[i, :, y, z] for y in range(height) for z in range(width)]
        tokens = positions if context is None else list(context[i])
        keys, values = zip(*(linear(layer.key_value, token).split(c) for token in tokens), strict=True)
        for j, position in enumerate(positions):
            query, read = linear(layer.query, position), []
            for head in range(layer.num_heads):
                part = slice(head * size, (head + 1) * size)
                score = torch.stack([(query[part] * key[part]).sum() / math.sqrt(size) for key in keys])
                weight = score.exp() / score.exp().sum()
                read.append(sum(w * value[part] for w, value in zip(weight, values, strict=True)))
            out[i, :, j // width, j % width] = linear(layer.out, torch.cat(read))
    return x + out


def naive_block(block, x, emb, context):
    x = naive_res_block(block.res, x, emb)
    x = x if block.attend_self is None else naive_attention(block.attend_self, x)
    return x if block.attend_context is None else naive_attention(block.attend_context, x, context)


def naive_unet(model, xt, emb, context=None):
    """The network's text: down with averages of 2x2, across, up with copies of each pixel, skips from last to first."""
    h, skips = convolution(model.first, xt), []
    for i, blocks in enumerate(model.down):
        if i:
            h = (h[:, :, ::2, ::2] + h[:, :, 1::2, ::2] + h[:, :, ::2, 1::2] + h[:, :, 1::2, 1::2]) / 4
        for block in blocks:
            h = naive_block(block, h, emb, context)
            skips.append(h)
    h = naive_block(model.middle, h, emb, context)
    for i in range(len(model.up) - 1, -1, -1):
        for block in model.up[i]:
            h = naive_block(block, torch.cat([h, skips.pop()], 1), emb, context)
        if i:
            h = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert skips == []
    return convolution(model.last, silu(normalise(model.norm, h)))


@pytest.mark.parametrize(("ins", "outs"), [(16, 16), (32, 16), (16, 48)])
def test_residual_block_is_the_naive_one(ins, outs):
    block, x, emb = awake(ResBlock(ins, outs, 5)), normal(2, ins, 3, 4), normal(2, 5, seed=1)
    assert_near(block(x, emb), naive_res_block(block, x, emb), 1e-10)


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("context_dim", [None, 6])
def test_attention_is_the_naive_one(heads, context_dim):
    layer, x = awake(Attention(16, heads, context_dim)), normal(2, 16, 2, 3)
    context = None if context_dim is None else normal(2, 5, context_dim, seed=1)
    assert_near(layer(x, context), naive_attention(layer, x, context), 1e-10)


WHOLE = {
    "one level": ({"channel_mult": (2,)}, None),
    "attention below": ({"channel_mult": (1, 2), "attention_levels": (1,), "num_heads": 2}, None),
    "two blocks, three levels, tokens": (
        {"channel_mult": (1, 2, 1), "blocks_per_level": 2, "attention_levels": (0, 2), "num_heads": 2, "context_dim": 3}, 3),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_network_is_the_naive_one(name):
    settings, context_dim = WHOLE[name]
    model, xt, t = awake(UNet(2, 16, **settings)), normal(2, 2, 4, 4), torch.tensor([3, 700])
    context = None if context_dim is None else normal(2, 4, context_dim, seed=2)
    emb = silu(model.conditioning(xt, t))
    found = model(xt, t) if context is None else model(xt, t, context)
    assert_near(found, naive_unet(model, xt, emb, context), 1e-8)


def everything(**kwargs):
    return awake(UNet(1, 16, (1, 2), attention_levels=(1,), num_heads=2, **kwargs))


@pytest.mark.parametrize("cond", [None, "classes", "tokens"])
def test_permuting_the_batch_permutes_the_output_exactly(cond):
    """A batch of 4, 8 ...: the rows left over of a blocked matrix product are added up in another order on some CPUs."""
    settings = {None: {}, "classes": {"num_classes": 4}, "tokens": {"context_dim": 3}}[cond]
    model, xt, t = everything(**settings), normal(8, 1, 4, 4), torch.tensor([0, 9, 99, 250, 500, 700, 998, 999])
    extra = {None: (), "classes": (torch.arange(8) % 5,), "tokens": (normal(8, 2, 3, seed=3),)}[cond]
    order = torch.tensor([3, 0, 4, 7, 1, 6, 2, 5])
    assert torch.equal(model(xt[order], t[order], *(x[order] for x in extra)), model(xt, t, *extra)[order])


def test_tokens_are_a_set_and_only_the_own_ones_are_read():
    model, xt, t, tokens = everything(context_dim=3), normal(2, 1, 4, 4), torch.tensor([5, 6]), normal(2, 4, 3, seed=3)
    out = model(xt, t, tokens)
    assert_near(model(xt, t, tokens[:, [2, 0, 3, 1]]), out, 1e-10)
    other = tokens.clone()
    other[1] += 1
    moved = (model(xt, t, other) - out).flatten(1).abs().amax(1)
    assert moved[0] == 0
    assert moved[1] > 1e-6


def test_gradients_are_those_of_finite_differences():
    model, xt, t = everything(context_dim=3), normal(1, 1, 2, 2).requires_grad_(), torch.tensor([40])
    tokens = normal(1, 2, 3, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, c: model(x, t, c), (xt, tokens), eps=1e-6, atol=1e-7)


def test_gradients_of_weights_are_those_of_finite_differences():
    model, xt, t = everything(), normal(2, 1, 2, 2), torch.tensor([40, 3])
    loss = model(xt, t).square().mean()
    loss.backward()
    for i, (name, weight) in enumerate(model.named_parameters()):
        direction = normal(*weight.shape, seed=100 + i)
        values = []
        with torch.no_grad():
            for step in (1e-5, -1e-5):
                weight += step * direction
                values.append(model(xt, t).square().mean().item())
                weight -= step * direction
        slope = (values[0] - values[1]) / 2e-5
        assert slope == pytest.approx((weight.grad * direction).sum().item(), rel=1e-4, abs=1e-8), name


def test_a_new_network_predicts_zero_and_its_loss_is_the_variance_of_the_noise():
    torch.manual_seed(0)
    model = UNet(1, 16, attention_levels=(1,))
    noise = normal(64, 1, 8, 8, dtype=torch.float32)
    t = torch.arange(64)
    assert (model(noise, t) == 0).all()
    loss = diffusion_loss(model, torch.zeros(64, 1, 8, 8), make_schedule().alphas_cumprod, t=t, noise=noise)
    assert_near(loss, noise.square().mean(), 1e-6)


def test_a_new_block_is_its_skip():
    torch.manual_seed(0)
    x = normal(2, 16, 4, 4, dtype=torch.float32)
    assert torch.equal(ResBlock(16, 16, 4)(x, torch.ones(2, 4)), x)
    assert torch.equal(Attention(16, 4)(x), x)


def test_memory_layout_does_not_change_the_output():
    model, xt, t = everything(), normal(3, 1, 8, 8), torch.tensor([1, 2, 3])
    expected = model(xt, t)
    last = torch.channels_last
    assert_near(model.to(memory_format=last)(xt.contiguous(memory_format=last), t), expected, 1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: UNet(1, 24), r"channels must be a multiple of 16 .*got 24"),
        (lambda: UNet(1, 16, attention_levels=(2,)), r"attention_levels must be among \[0, 1\], got \(2,\)"),
        (lambda: UNet(1, 16, attention_levels=(1,), num_heads=3), r"num_heads must divide the channels, got num_heads=3 for 32"),
        (lambda: UNet(1, 16, context_dim=4), "context_dim needs attention_levels"),
        (lambda: UNet(1, 16, context_dim=4, attention_levels=(1,), num_classes=2), "the condition is one or the other"),
        (lambda: token_call(None), r"takes tokens cond \(B, L, 3\).*got NoneType None"),
        (lambda: token_call(torch.zeros(2, 5, 4)), r"takes tokens cond \(B, L, 3\).*got shape \(2, 5, 4\)"),
        (lambda: token_call(torch.zeros(1, 5, 3)), r"got shape \(1, 5, 3\), float32, on cpu for xt with shape \(2, 1, 4, 4\)"),
        (lambda: token_call(torch.zeros(2, dtype=torch.long)), r"got shape \(2,\), int64"),
    ],
)
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def token_call(cond):
    return UNet(1, 16, attention_levels=(1,), context_dim=3)(torch.zeros(2, 1, 4, 4), torch.arange(2), cond)


def test_patches_are_channels_in_and_pixels_out():
    """Cutting the picture by hand around a network without patches is the network with them."""
    torch.manual_seed(0)
    patched, plain = awake(UNet(2, 16, patch_size=2)), awake(UNet(8, 16))
    xt, t = normal(3, 2, 8, 4), torch.tensor([1, 2, 3])
    cut = torch.stack([xt[:, c, i::2, j::2] for c in range(2) for i in range(2) for j in range(2)], 1)  # (3, 8, 4, 2)
    out, expected = plain(cut, t), torch.empty_like(xt)
    for k, (c, i, j) in enumerate((c, i, j) for c in range(2) for i in range(2) for j in range(2)):
        expected[:, c, i::2, j::2] = out[:, k]
    assert_near(patched(xt, t), expected, 1e-12)
    with pytest.raises(ValueError, match=r"sides divisible by 4, got shape \(3, 2, 8, 6\)"):
        patched(normal(3, 2, 8, 6), t)


def test_more_channels_out_than_in():
    out = UNet(3, 16, out_channels=6)(torch.zeros(2, 3, 4, 4), torch.arange(2))
    assert out.shape == (2, 6, 4, 4)
