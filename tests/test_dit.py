"""The transformers: patches, blocks that change nothing at first, and diffusers' networks with the same weights."""

import pytest
import torch
from helpers import assert_near, normal

from diffusion_course import (
    DiT,
    diffusion_loss,
    make_schedule,
    patchify,
    timestep_embedding,
    unpatchify,
)
from diffusion_course.models.dit import DiTBlock, grid_waves, time_waves
from diffusion_course.models.mmdit import MMDiTBlock

SIZES = [(1, 8, 2, 64, 4, 2), (3, 12, 4, 48, 3, 3), (4, 8, 1, 16, 1, 1)]  # channels, side, p, width, heads, depth


def awake(model, seed=0):
    """The network in float64 with no weight left at zero."""
    model = model.double()
    for i, weight in enumerate(model.parameters()):
        if not weight.any():
            weight.data = 0.1 * normal(*weight.shape, seed=seed + i)
    return model


def test_patches_by_hand():
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert patchify(image, 2)[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    colours = torch.stack([image[0, 0], -image[0, 0]])[None]
    assert patchify(colours, 2)[0, 1].tolist() == [2, -2, 3, -3, 6, -6, 7, -7]  # channels last
    wide = normal(2, 3, 4, 8)
    assert torch.equal(unpatchify(patchify(wide, 2), 2, (2, 4)), wide) and patchify(wide, 2).shape == (2, 8, 12)


def test_a_convolution_with_a_stride_is_a_linear_layer_of_patches():
    images, p = normal(2, 3, 8, 8), 4
    convolution = torch.nn.Conv2d(3, 5, p, p).double()
    weight = convolution.weight.permute(0, 2, 3, 1).flatten(1)  # channels last, as in a token
    assert_near(convolution(images).flatten(2).mT, patchify(images, p) @ weight.T + convolution.bias, 1e-12)


@pytest.mark.parametrize(("channels", "side", "p", "width", "heads", "depth"), SIZES)
def test_the_same_network_as_diffusers(channels, side, p, width, heads, depth):
    from diffusers import DiTTransformer2DModel

    torch.manual_seed(0)
    theirs = DiTTransformer2DModel(
        num_attention_heads=heads, attention_head_dim=width // heads, in_channels=channels, out_channels=channels, num_layers=depth,
        sample_size=side, patch_size=p, num_embeds_ada_norm=10,
    ).eval()
    ours = DiT(channels, side, p, width, depth, num_heads=heads, num_classes=10)
    ours.load_state_dict(theirs.state_dict())
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    x, t, cond = normal(4, channels, side, side).float(), torch.tensor([0, 10.5, 300, 999]), torch.tensor([0, 1, 9, 10])
    with torch.no_grad():
        assert_near(ours(x, t, cond), theirs(x, t, cond).sample, 1e-5)
        assert_near(ours.double()(x.double(), t, cond), theirs.double()(x.double(), t, cond).sample, 1e-12)


def test_the_same_blocks_as_stable_diffusion_3():
    from diffusers import SD3Transformer2DModel

    torch.manual_seed(0)
    theirs = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=8, num_layers=3, attention_head_dim=8, num_attention_heads=4, joint_attention_dim=12,
        caption_projection_dim=32, pooled_projection_dim=12, out_channels=8, pos_embed_max_size=8,
    ).eval()
    inputs = normal(2, 8, 8, 8).float(), normal(2, 5, 12, seed=1).float(), normal(2, 12, seed=2).float(), torch.tensor([500.0, 20.0])
    with torch.no_grad():
        expected = theirs(*inputs).sample
        blocks = torch.nn.ModuleList(MMDiTBlock(32, 4, last=i == 2) for i in range(3))
        blocks.load_state_dict(theirs.transformer_blocks.state_dict())
        h, w, c = normal(2, 16, 32).float(), normal(2, 5, 32, seed=1).float(), normal(2, 32, seed=2).float()
        for own, other in zip(blocks, theirs.transformer_blocks, strict=True):
            found, wanted = own(h, w, c), other(h, w, c)[::-1]
            assert_near(found[0], wanted[0], 1e-5)
            assert (found[1] is None) == (wanted[1] is None)
            if found[1] is not None:
                assert_near(found[1], wanted[1], 1e-5)
        for own, other in zip(blocks, theirs.transformer_blocks, strict=True):  # and the whole network on our blocks
            other.forward = lambda hidden_states, encoder_hidden_states, temb, joint_attention_kwargs, own=own: (
                own(hidden_states, encoder_hidden_states, temb)[::-1]
            )
        assert_near(theirs(*inputs).sample, expected, 1e-5)


def test_a_new_network_predicts_zero_and_a_new_block_changes_nothing():
    model = DiT(2, 8, 4, 16, 2, num_classes=3)
    assert torch.equal(model(normal(2, 2, 8, 8).float(), torch.tensor([3, 9]), torch.tensor([0, 3])), torch.zeros(2, 2, 8, 8))
    h, w, c = normal(2, 4, 16).float(), normal(2, 3, 16).float(), normal(2, 16).float()
    assert torch.equal(DiTBlock(16, 2)(h, c), h)
    same_h, same_w = MMDiTBlock(16, 2)(h, w, c)
    assert torch.equal(same_h, h) and torch.equal(same_w, w)


def test_a_new_block_learns_its_gates_first():
    block, h, c = DiTBlock(16, 2), normal(2, 4, 16).float(), normal(2, 16).float()
    (block(h, c) ** 2).sum().backward()
    moved = {name for name, p in block.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"norm1.linear.weight", "norm1.linear.bias"}
    rows = block.norm1.linear.bias.grad.reshape(6, 16).abs().sum(1)
    assert (rows > 0).tolist() == [False, False, True, False, False, True]  # the two gates


def test_the_order_of_tokens_does_not_matter_to_a_block_but_their_place_does():
    block = awake(DiTBlock(16, 2))
    h, c, order = normal(2, 6, 16), normal(2, 16), torch.tensor([3, 1, 5, 0, 2, 4])
    assert_near(block(h, c)[:, order], block(h[:, order], c), 1e-12)
    places = grid_waves(4, 16)
    assert places.shape == (16, 16) and (torch.cdist(places, places) + 10 * torch.eye(16)).min() > 0.1


def test_words_and_picture_read_each_other():
    block = awake(MMDiTBlock(16, 2))
    h, w, c = normal(2, 4, 16), normal(2, 3, 16, seed=1), normal(2, 16, seed=2)
    before = block(h, w, c)
    assert (block(h, w.flip(2), c)[0] - before[0]).abs().max() > 1e-3
    assert (block(h.flip(2), w, c)[1] - before[1]).abs().max() > 1e-3
    assert_near(block(h[:, [1, 0, 3, 2]], w[:, [2, 0, 1]], c)[1], before[1][:, [2, 0, 1]], 1e-12)


def test_each_sample_is_on_its_own_and_depends_on_all_it_is_given():
    model, x = awake(DiT(1, 8, 4, 16, 2, num_heads=2, num_classes=3)), normal(3, 1, 8, 8)
    t, cond = torch.tensor([0, 500, 999]), torch.tensor([0, 1, 3])
    out = model(x, t, cond)
    assert_near(torch.cat([model(x[i : i + 1], t[i : i + 1], cond[i : i + 1]) for i in range(3)]), out, 1e-10)
    assert (model(x, t.flip(0), cond) - out).abs().max() > 1e-4 and (model(x, t, cond.flip(0)) - out).abs().max() > 1e-4
    (out**2).mean().backward()
    unused = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert unused == set()


def test_without_classes_and_in_other_dtypes():
    model = DiT(1, 8, 2, 16, 1)
    assert model.null_class is None
    for dtype in (torch.float64, torch.bfloat16):
        assert model.to(dtype)(normal(2, 1, 8, 8, dtype=dtype), torch.tensor([1, 2])).dtype == dtype


def test_it_trains_as_any_network_of_the_course():
    torch.manual_seed(0)
    model, x0 = DiT(1, 8, 4, 16, 1, num_classes=3), normal(8, 1, 8, 8).float()
    loss = diffusion_loss(model, x0, make_schedule("linear", 10).alphas_cumprod, cond=torch.arange(8) % 4, prediction_type="velocity")
    loss.backward()
    assert loss.isfinite() and model.proj_out_2.weight.grad.any()


def test_waves_of_time():
    t = torch.tensor([0.0, 3.5, 999.0])
    assert_near(time_waves(t, 128), timestep_embedding(t, 256), 1e-3)
    assert_near(time_waves(t)[:, 127], (t / 10_000).cos(), 1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DiT(1, 8, 3), "patch_size must divide sample_size, got 3 and 8"),
        (lambda: DiT(1, 8, 2, 18), "width must be a positive multiple of 4, got 18"),
        (lambda: DiT(1, 8, 2, 16, num_heads=3), "num_heads must divide the width, got num_heads=3 for width=16"),
        (lambda: DiT(1, 8, 2, 16, 1)(normal(2, 1, 8, 6).float(), torch.tensor([1, 2])), r"xt: this network takes images \(B, 1, 8, 8\)"),
        (lambda: DiT(1, 8, 2, 16, 1)(normal(2, 1, 8, 8), torch.tensor([1, 2])), "xt must have the dtype of the network"),
        (lambda: DiT(1, 8, 2, 16, 1)(normal(2, 1, 8, 8).float(), torch.tensor([1])), r"t must have one entry for each sample of xt, \(2,\)"),
        (lambda: DiT(1, 8, 2, 16, 1)(normal(2, 1, 8, 8).float(), torch.tensor([1, 2]), torch.tensor([1, 2])), "built without classes, but cond is given"),
        (lambda: DiT(1, 8, 2, 16, 1, num_classes=3)(normal(2, 1, 8, 8).float(), torch.tensor([1, 2]), torch.tensor([1, 4])), r"cond must hold classes 0..2, or 3"),
        (lambda: patchify(normal(1, 1, 5, 4), 2), r"images must be \(B, C, H, W\) with sides divisible by patch_size=2"),
        (lambda: unpatchify(normal(1, 5, 4), 2, (2, 2)), r"tokens must be \(B, 4, p p C\) for grid=\(2, 2\)"),
        (lambda: MMDiTBlock(16, 3), "num_heads must divide the width, got num_heads=3 for width=16"),
        (lambda: MMDiTBlock(16, 2)(normal(2, 4, 16).float(), normal(2, 3, 12).float(), normal(2, 16).float()), r"w must be \(B, tokens, 16\)"),
        (lambda: MMDiTBlock(16, 2)(normal(2, 4, 16).float(), normal(2, 3, 16).float(), normal(3, 16).float()), r"c must be \(2, 16\)"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
