"""The autoencoder of latent diffusion: its loss, the error of its pictures, its latents' scale.

The network itself is diffusers' ``AutoencoderKL``. Its encoder answers with a Gaussian over
latents, its decoder with a picture.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..door import batch, checked, finite, like, number
from ..process.kernels import noise_like
from ..process.losses import gaussian_kl
from ..validation import (
    check_batch, check_device, check_finite, describe, values_are_free, widest_float,
)


class AutoencoderLoss(NamedTuple):
    """The loss () and its parts (), each per number of the picture.

    ``total = absolute + squared + kl_weight * kl``.
    """

    total: Tensor
    absolute: Tensor
    squared: Tensor
    kl: Tensor


def check_images(name: str, images: object) -> None:
    """Raise unless ``images`` is a floating batch (B, C, H, W) in [-1, 1], if read for free."""
    if not isinstance(images, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor (B, C, H, W) in [-1, 1], got {describe(images)}. From a"
            " PIL picture: torchvision.transforms.functional.to_tensor(picture)[None] * 2 - 1."
        )
    if images.dtype == torch.uint8:
        got = describe(images)
        raise TypeError(f"{name} must be floating in [-1, 1], got {got}: {name} / 127.5 - 1.")
    check_batch(name, images)
    if images.ndim != 4:
        raise ValueError(f"{name} must have shape (B, C, H, W), got {describe(images)}.")
    check_finite(name, images)
    if values_are_free(images) and images.abs().amax() > 1.001:
        low, high = images.amin().item(), images.amax().item()
        raise ValueError(
            f"{name} must lie in [-1, 1], got values from {low:.3g} to {high:.3g}. "
            f"From 0..255: {name} / 127.5 - 1. From a network: {name}.clamp(-1, 1)."
        )


def _pictures(name: str, images: object, given: dict) -> None:
    check_images(name, images)
    if (weight := next(given["vae"].parameters(), None)) is not None:
        check_device(name, images, "vae", weight)


_pictures.typed = True


_weight = number(lambda w: w >= 0 and math.isfinite(w), "be a finite number >= 0")


@checked(images=_pictures, kl_weight=_weight)
def autoencoder_loss(
    vae: nn.Module, images: Tensor, *, kl_weight: float = 2e-3,
    generator: torch.Generator | None = None,
) -> AutoencoderLoss:
    """Return mean |x - y| + mean (x - y)^2 + kl_weight * KL / numbers in x, and its three parts.

    KL is that of q(z|x) to N(0, I), and y = decode(z) with z = mean + std * noise drawn from
    ``generator`` (Kingma & Welling 2013, arXiv 1312.6114, eq. 7 and 10). Divided by ``kl_weight``
    it is the negative bound on log p(x) in nats per number of the picture, up to a constant, for a
    decoder with p(x|z) proportional to exp(-(|x - y| + (x - y)^2) / kl_weight). Latent diffusion's
    own weight, 1e-6, has the same units.
    images: (B, C, H, W) in [-1, 1]. vae: has ``encode(x).latent_dist`` with ``mean`` and
    ``logvar``, and ``decode(z).sample``, as diffusers' ``AutoencoderKL``. The sums are float32 at
    least, also under autocast. Raises ValueError for another shape or range, sides that the network
    cannot halve evenly, or a negative ``kl_weight``.
    """
    own = next((p.dtype for p in vae.parameters()), images.dtype)
    posterior = vae.encode(images.to(own)).latent_dist
    wide = torch.promote_types(images.dtype, torch.float32)
    mean, log_variance = posterior.mean.to(wide), posterior.logvar.to(wide)
    latents = mean + (0.5 * log_variance).exp() * noise_like(mean, generator)
    decoded = vae.decode(latents.to(own)).sample
    _check_decoded(decoded, images, latents)
    error = decoded.to(wide) - images.to(wide)
    zero = torch.zeros((), dtype=wide, device=images.device)
    kl = gaussian_kl(mean, log_variance, zero, zero).sum() / images.numel()
    absolute, squared = error.abs().mean(), (error**2).mean()
    return AutoencoderLoss(absolute + squared + kl_weight * kl, absolute, squared, kl)


def _check_decoded(decoded: Tensor, images: Tensor, latents: Tensor) -> None:
    if decoded.shape != images.shape:
        raise ValueError(
            f"the decoder returned shape {tuple(decoded.shape)} for images with {describe(images)}:"
            " height and width must be multiples of the down-sampling,"
            f" {round(images.shape[-1] / latents.shape[-1])}."
        )


@checked(images=batch, references=like("images"))
def psnr(images: Tensor, references: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio (B,) in dB of each picture in [-1, 1].

    It is 10 log10(2^2 / mean squared error). images, references: (B, ...), taken as they are: clamp
    what a network drew, as a screen does. Equal pictures give infinity. Computed in float32 at
    least. Raises if shapes, dtypes or devices differ.
    """
    wide = torch.promote_types(images.dtype, torch.float32)
    squared = (images.to(wide) - references.to(wide)) ** 2
    return 10 * torch.log10(4 / squared.reshape(len(images), -1).mean(1))


def _with_values(name: str, latents: Tensor, given: dict) -> None:
    if latents.is_meta:
        raise ValueError(f"latents have no values to measure, got {describe(latents)}.")


@checked(latents=(batch, _with_values, finite))
def latent_scaling(latents: Tensor) -> float:
    """Return 1 / std of ``latents`` (N, ...): times it, all numbers together have std 1.

    The deviation is about the mean of all numbers, channels pooled (Rombach et al. 2021, arXiv
    2112.10752, appendix G). Multiply after encoding, divide before decoding. Raises ValueError if
    the latents are not finite or all equal.
    """
    std = latents.detach().to(widest_float(latents.device)).std(correction=0).item()
    if not std > 0:
        raise ValueError(
            f"latents are all equal, got {describe(latents)}: no factor gives them standard"
            " deviation 1."
        )
    return 1 / std
