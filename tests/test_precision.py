"""What "auto" means where, that autocast leaves the weights alone, and that the layout changes nothing but speed."""

import pytest
import torch
from helpers import normal
from torch import nn

from diffusion_course import UNet, make_schedule, train
from diffusion_course.files.checkpoints import load_tensors
from diffusion_course.training.precision import (
    autocast,
    has_fast_bfloat16,
    resolve_precision,
    set_layout,
)

SCHEDULE = make_schedule("linear", 50, beta_start=1e-3, beta_end=0.3)
IMAGES = normal(24, 1, 8, 8, dtype=torch.float32)
SETTINGS = {"num_steps": 12, "batch_size": 8, "warmup_steps": 3, "report_every": 4, "checkpoint_every": 4}


def unet(**kwargs):
    torch.manual_seed(0)
    return UNet(1, 16, **kwargs)


@pytest.mark.parametrize("amx", [False, True])
def test_auto_is_bfloat16_for_images_on_fast_hardware_only(monkeypatch, amx):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx}, raising=False)
    assert has_fast_bfloat16(torch.device("cpu")) is amx
    assert resolve_precision(IMAGES) == ("bfloat16" if amx else "float32")
    assert resolve_precision(torch.ones(3, 2)) == "float32"
    assert [resolve_precision(torch.ones(3, 2), p) for p in ("float32", "bfloat16")] == ["float32", "bfloat16"]


def test_an_old_torch_without_capabilities_gets_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert resolve_precision(IMAGES) == "float32"


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_gpus_have_it_from_capability_8(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert has_fast_bfloat16(torch.device("cuda")) is expected
    assert has_fast_bfloat16(torch.device("mps")) is False


def test_another_name_is_refused():
    with pytest.raises(ValueError, match="precision must be one of 'auto', 'float32', 'bfloat16', got 'half'"):
        resolve_precision(IMAGES, "half")
    with pytest.raises(ValueError, match="precision must be one of 'float32', 'bfloat16', got 'auto'"):
        autocast(torch.device("cpu"), "auto")
    with pytest.raises(ValueError, match="got 'half'"):
        next(train(unet(), IMAGES, SCHEDULE, precision="half", **SETTINGS))


@pytest.mark.parametrize(("precision", "dtype"), [("bfloat16", torch.bfloat16), ("float32", torch.float32)])
def test_autocast_computes_in_it_and_keeps_the_weights(precision, dtype):
    layer = nn.Conv2d(1, 4, 3)
    with autocast(torch.device("cpu"), precision):
        out = layer(IMAGES)
    assert out.dtype == dtype
    assert layer.weight.dtype == torch.float32
    out.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32


def test_layout_moves_images_and_leaves_points():
    model, points = unet(), torch.ones(3, 2)
    assert set_layout(model, points) is points
    assert model.middle.res.conv1.weight.is_contiguous()
    images = set_layout(model, IMAGES.expand(24, 3, 8, 8))
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert model.middle.res.conv1.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_images_resume_to_the_same_bits(tmp_path, precision):
    """Channels-last weights too: their optimiser state has to come back in the same layout."""
    whole, stopped, resumed = (unet(attention_levels=(1,)) for _ in range(3))
    settings = SETTINGS | {"precision": precision}
    *_, last = train(whole, IMAGES, SCHEDULE, **settings)
    file = tmp_path / "run.safetensors"
    for state in train(stopped, IMAGES, SCHEDULE, checkpoint=file, **settings):
        if state.step == 8:
            break
    assert load_tensors(file)[1]["step"] == 8  # written before the report of step 8
    *_, again = train(resumed, IMAGES, SCHEDULE, checkpoint=file, resume=True, **settings)
    for a, b in ((whole, resumed), (last.ema_model, again.ema_model)):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            assert torch.equal(p, q)


def test_bfloat16_trains_as_float32_does():
    losses = {}
    for precision in ("float32", "bfloat16"):
        model = unet()
        losses[precision] = [s.loss for s in train(model, IMAGES, SCHEDULE, **SETTINGS | {"precision": precision, "num_steps": 40})]
        assert all(p.dtype == torch.float32 for p in model.parameters())
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.03)
    assert losses["bfloat16"] != losses["float32"]
    assert losses["float32"][-1] < 0.9 * losses["float32"][0]


@pytest.mark.gpu
@pytest.mark.parametrize("compile", [False, True])
def test_training_on_a_gpu_follows_the_cpu(compile):
    """The same settings with the GPU's own random numbers: other draws, about the same loss."""
    settings = SETTINGS | {"num_steps": 60, "report_every": 60}
    *_, cpu = train(unet(), IMAGES, SCHEDULE, **settings | {"precision": "float32"})
    model = unet().cuda()
    *_, gpu = train(model, IMAGES.cuda(), SCHEDULE, **settings | {"precision": "bfloat16", "compile": compile})
    assert next(gpu.ema_model.parameters()).is_cuda
    assert next(model.parameters()).dtype == torch.float32
    assert gpu.loss == pytest.approx(cpu.loss, rel=0.15)
