"""The drawing of a U-Net tells the sizes of the network that it is given."""

import pytest
import torch
from torch import nn

from diffusion_course import UNet
from diffusion_course.notebook import unet_drawing
from diffusion_course.notebook.unets import sizes


def words_of(drawing):
    return {text.get_text() for text in drawing.axes.texts}


def test_sizes_are_those_of_the_network():
    found = sizes(UNet(channels=16), 8)
    assert found["first"] == ((1, 8, 8), (16, 8, 8))
    assert found["down[1]"] == ((16, 4, 4), (32, 4, 4))
    assert found["up[1]"] == ((64, 4, 4), (16, 4, 4))
    assert found["last"] == ((16, 8, 8), (1, 8, 8))


def test_a_level_of_several_blocks_is_one_box():
    found = sizes(UNet(channels=16, blocks_per_level=2), 8)
    assert found["down[1]"] == ((16, 4, 4), (32, 4, 4))
    assert found["up[0]"] == ((32, 8, 8), (16, 8, 8))


@pytest.mark.parametrize(("channel_mult", "size"), [((1,), 8), ((1, 2), 8), ((1, 2, 4), 16)])
def test_every_level_is_drawn_and_everything_fits(channel_mult, size, capsys):
    drawing = unet_drawing(UNet(channels=16, channel_mult=channel_mult), size, "A U")
    for i, mult in enumerate(channel_mult):
        side = size // 2**i
        assert {f"down[{i}]", f"up[{i}]", f"{16 * mult}×{side}×{side}"} <= words_of(drawing)
    drawing.show("A U-Net with its sizes.")
    assert capsys.readouterr().out.startswith("[drawing] A U-Net")


def test_shapes_stand_before_and_after_each_change_of_size():
    drawing = unet_drawing(UNet(channels=16, channel_mult=(1, 2, 4), blocks_per_level=2), 32)
    words = [text.get_text() for text in drawing.axes.texts]
    assert words.count("16×32×32") == 5  # at the ends, at the skip, before halve, after double
    assert words.count("16×16×16") == 2  # after halve, before double
    assert words.count("32×16×16") == 3 and words.count("32×8×8") == 2
    assert words.count("64×8×8") == 3  # the skip, before and after the middle
    assert words.count("2 skips") == 3 and "64+64→32" in words


def test_the_network_is_left_as_it_was():
    network = UNet(channels=16)
    unet_drawing(network, 8)
    modules = list(network.modules())
    assert not any(module._forward_hooks for module in modules)
    assert all(p.grad is None for p in network.parameters())
    assert torch.is_grad_enabled()


def test_what_is_no_unet_is_said():
    with pytest.raises(TypeError, match="network must be a UNet, got Linear"):
        unet_drawing(nn.Linear(2, 2), 8)
    with pytest.raises(ValueError, match="sides divisible by 2"):
        unet_drawing(UNet(channels=16), 7)
