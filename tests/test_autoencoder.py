"""The autoencoder's loss against torch.distributions, quadrature and diffusers' own KL; decibels; the scale of latents."""

import math

import pytest
import torch
from helpers import DTYPES, normal, unchanged
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence

from diffusion_course import autoencoder_loss, latent_scaling, psnr
from diffusion_course.latent.autoencoder import check_images


def make_vae(dtype=torch.float64, channels=3, seed=0, **config):
    """A small AutoencoderKL with down-sampling 4 and random weights."""
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    blocks = ("DownEncoderBlock2D",) * 3, ("UpDecoderBlock2D",) * 3
    vae = AutoencoderKL(channels, channels, *blocks, (8, 8, 8), latent_channels=4, norm_num_groups=4, sample_size=16, **config)
    return vae.to(dtype)


def pictures(n=2, size=16, channels=3, dtype=torch.float64, seed=0):
    return normal(n, channels, size, size, seed=seed).tanh().to(dtype)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# --- the loss --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "size", "channels"), [(1, 8, 3), (2, 16, 3), (3, 16, 1)])
def test_the_loss_is_its_definition(n, size, channels):
    vae, x = make_vae(channels=channels), pictures(n, size, channels)
    loss = autoencoder_loss(vae, x, kl_weight=0.01, generator=seeded(3))
    q = vae.encode(x).latent_dist
    z = Normal(q.mean, q.std).loc + q.std * torch.randn(q.mean.shape, generator=seeded(3), dtype=torch.float64)
    y = vae.decode(z).sample
    target = Independent(Normal(torch.zeros_like(q.mean), torch.ones_like(q.mean)), 3)
    kl = kl_divergence(Independent(Normal(q.mean, q.std), 3), target).mean() / x[0].numel()
    parts = nn.functional.l1_loss(y, x), nn.functional.mse_loss(y, x), kl
    for ours, other in zip(loss[1:], parts, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(loss.total, parts[0] + parts[1] + 0.01 * kl, rtol=1e-10, atol=1e-12)


def test_the_kl_is_the_one_of_diffusers():
    vae, x = make_vae(), pictures()
    theirs = vae.encode(x).latent_dist.kl().sum() / x.numel()
    torch.testing.assert_close(autoencoder_loss(vae, x).kl, theirs, rtol=1e-10, atol=1e-12)


def test_divided_by_the_weight_it_is_the_negative_bound_up_to_a_constant():
    """p(x|z) is proportional to exp(-(|e| + e^2) / w): its log-density, with the constant by quadrature, gives the same bound."""
    vae, x, w = make_vae(), pictures(), 0.05
    loss = autoencoder_loss(vae, x, kl_weight=w, generator=seeded(1))
    q = vae.encode(x).latent_dist
    e = vae.decode(q.mean + q.std * torch.randn(q.mean.shape, generator=seeded(1), dtype=torch.float64)).sample - x
    grid = torch.linspace(-2, 2, 400_001, dtype=torch.float64)
    log_constant = torch.trapezoid((-(grid.abs() + grid**2) / w).exp(), grid).log()
    log_likelihood = (-(e.abs() + e**2) / w - log_constant).sum((1, 2, 3))
    bound = (log_likelihood - q.kl()).mean() / x[0].numel()
    torch.testing.assert_close(loss.total / w, -bound - log_constant, rtol=1e-9, atol=1e-9)


def test_the_noise_comes_from_the_generator_alone_and_moves_the_reconstruction():
    vae, x = make_vae(), pictures()
    state = torch.get_rng_state()
    first, again, other = (unchanged(autoencoder_loss, vae, x, generator=seeded(s)) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.total == again.total
    assert first.squared != other.squared
    assert first.kl == other.kl


def test_gradients_reach_encoder_and_decoder():
    vae = make_vae()
    autoencoder_loss(vae, pictures(), generator=seeded()).total.backward()
    for name in ("encoder.conv_in", "quant_conv", "post_quant_conv", "decoder.conv_out"):
        assert vae.get_parameter(f"{name}.weight").grad.abs().max() > 0


def test_training_lowers_it():
    vae, x = make_vae(torch.float32), pictures(4, dtype=torch.float32)
    optimizer = torch.optim.Adam(vae.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        loss = autoencoder_loss(vae, x, generator=seeded()).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_under_autocast_it_is_float32_and_near():
    vae, x = make_vae(torch.float32), pictures(dtype=torch.float32)
    exact = autoencoder_loss(vae, x, generator=seeded())
    with torch.autocast("cpu", torch.bfloat16):
        near = autoencoder_loss(vae, x, generator=seeded())
        near.total.backward()
    for a, b in zip(near, exact, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0.05, atol=1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype):
    loss = autoencoder_loss(make_vae(dtype), pictures(dtype=dtype), generator=seeded())
    assert {part.dtype for part in loss} == {torch.promote_types(dtype, torch.float32)}
    assert all(torch.isfinite(part) and part.shape == () for part in loss)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [(pictures()[0], ValueError, r"images must have shape \(B, C, H, W\), got shape \(3, 16, 16\)"),
     (pictures() * 255, ValueError, r"images must lie in \[-1, 1\], got values from -2\d\d to 2\d\d\. From 0\.\.255"),
     (pictures().long(), TypeError, "images must have a floating dtype"),
     (pictures()[:0], ValueError, "at least one sample"),
     (pictures() * math.nan, ValueError, "not finite"),
     (pictures(size=18), ValueError, r"returned shape \(2, 3, 16, 16\) .*multiples of the down-sampling, 4")],
)
def test_bad_images_are_explained(images, error, message):
    with pytest.raises(error, match=message):
        autoencoder_loss(make_vae(), images)


@pytest.mark.parametrize("weight", [-1e-6, math.nan, math.inf])
def test_a_bad_weight_is_explained(weight):
    with pytest.raises(ValueError, match="kl_weight must be a (finite number >= 0|number), got"):
        autoencoder_loss(make_vae(), pictures(), kl_weight=weight)


def test_rounding_beyond_one_is_no_error():
    check_images("images", torch.full((1, 3, 4, 4), 1.0005))


@pytest.mark.gpu
def test_a_gpu_gives_the_numbers_of_the_cpu_and_bfloat16_is_near():
    vae, x = make_vae(torch.float32), pictures(dtype=torch.float32)
    exact = autoencoder_loss(vae, x, generator=seeded())
    vae, x = vae.to("cuda"), x.to("cuda")
    parts = autoencoder_loss(vae, x, generator=torch.Generator("cuda").manual_seed(0))
    torch.testing.assert_close(parts.kl.cpu(), exact.kl, rtol=1e-3, atol=1e-5)
    with torch.autocast("cuda", torch.bfloat16):
        near = autoencoder_loss(vae, x, generator=torch.Generator("cuda").manual_seed(0))
    for a, b in zip(near, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=0.05, atol=1e-3)


# --- decibels --------------------------------------------------------------------------------------------------------------


def test_psnr_of_known_errors():
    x = torch.zeros(3, 3, 8, 8)
    y = x + torch.tensor([2.0, 0.2, 0.02]).reshape(3, 1, 1, 1)  # black against white is 0 dB, a tenth of the range 20 dB
    torch.testing.assert_close(psnr(y, x), torch.tensor([0.0, 20.0, 40.0]), rtol=1e-5, atol=1e-4)
    assert psnr(x, x).isinf().all()


def test_psnr_against_numbers_of_255_levels():
    x, y = pictures(), pictures(seed=1)
    as_bytes = [(p + 1) * 127.5 for p in (x, y)]
    mse = ((as_bytes[0] - as_bytes[1]) ** 2).mean((1, 2, 3))
    torch.testing.assert_close(unchanged(psnr, x, y), 20 * math.log10(255) - 10 * mse.log10(), rtol=1e-12, atol=1e-12)


def test_psnr_of_half_precision_is_measured_in_float32():
    x = pictures(dtype=torch.float16)
    y = x + 1e-3  # its square underflows in half precision's normal numbers
    assert psnr(y, x).dtype == torch.float32
    torch.testing.assert_close(psnr(y, x), psnr(y.double(), x.double()).float(), rtol=1e-5, atol=1e-4)


def test_psnr_refuses_a_broadcast():
    with pytest.raises(ValueError, match="references must have the shape of images"):
        psnr(torch.zeros(2, 3, 4, 4), torch.zeros(1, 3, 4, 4))
    with pytest.raises(TypeError, match="dtype"):
        psnr(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.float64))


# --- the scale of latents --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_scaled_latents_have_deviation_one_whatever_their_mean(dtype):
    latents = (5.0 * normal(64, 4, 8, 8) - 2.0).to(dtype)
    factor = latent_scaling(latents)
    assert isinstance(factor, float)
    assert factor == pytest.approx(0.2, rel=0.02)
    assert (latents.double() * factor).std(correction=0).item() == pytest.approx(1, abs=1e-12)


def test_channels_are_pooled():
    latents = normal(50, 2, 8, 8) * torch.tensor([1.0, 3.0]).reshape(2, 1, 1) + torch.tensor([0.0, 4.0]).reshape(2, 1, 1)
    variance = (1 + 9) / 2 + 2**2  # within channels, and between their means
    assert latent_scaling(latents) == pytest.approx(variance**-0.5, rel=0.02)


def test_latents_without_a_scale_are_explained():
    with pytest.raises(ValueError, match="latents are all equal"):
        latent_scaling(torch.ones(2, 4, 3, 3))
    with pytest.raises(ValueError, match="not finite"):
        latent_scaling(torch.full((2, 4), math.inf))
