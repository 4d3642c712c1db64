"""What a task starts from: the words of its prompts, noise, a mask."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..door import checked
from ..process.kernels import mix
from ..sampling.timesteps import Level
from ..validation import check_device, describe, values_are_free
from .coding import encode_prompt
from .parts import LatentParts

Prompts = str | Sequence[str] | Tensor


def _encoded(name: str, prompts: Prompts, given: dict) -> None:
    if isinstance(prompts, Tensor):
        if prompts.ndim != 3 or not prompts.is_floating_point():
            shape = describe(prompts)
            raise ValueError(f"encoded prompts must have shape (B, L, D), got {shape}.")
        weight = next(given["parts"].unet.parameters())
        check_device("the encoded prompts", prompts, "the model", weight)


@checked(prompts=_encoded)
def words_of(parts: LatentParts, prompts: Prompts) -> Tensor:
    """Return the words (B, L, D) of texts, or the words themselves in the model's dtype."""
    if isinstance(prompts, Tensor):
        return prompts.to(parts.dtype)
    return encode_prompt(parts, prompts)


def one_for_each(name: str, words: Tensor, latents: Tensor) -> Tensor:
    """Return the words (1 or B, L, D) as one for each of the latents; raises for another number."""
    if len(words) not in (1, len(latents)):
        raise ValueError(
            f"{name} must be one for all {len(latents)} pictures or one for each of them, got"
            f" {len(words)}."
        )
    return words.expand(len(latents), -1, -1)


def repeat(x: Tensor, n: int) -> Tensor:
    """Return x (1 or n, ...) as (n, ...)."""
    return x.expand(n, *x.shape[1:]) if len(x) == 1 else x


def draw_noise(
    parts: LatentParts, shape: Sequence[int], generator: torch.Generator | None
) -> Tensor:
    """Return standard normal noise on the model's device, drawn where the generator is."""
    where = parts.device if generator is None else generator.device
    noise = torch.randn(shape, generator=generator, device=where, dtype=torch.float32)
    return noise.to(parts.device, parts.latent_dtype)


def noised(latents: Tensor, noise: Tensor, level: Level) -> Tensor:
    """Return sqrt(abar) latents + sqrt(1 - abar) noise: the forward process to one level."""
    return mix(math.sqrt(level.alpha_bar), latents, math.sqrt(1 - level.alpha_bar), noise)


def _a_mask_of_the_images(name: str, mask: object, given: dict) -> None:
    images, got = given["images"], describe(mask)
    if not isinstance(mask, Tensor) or not (mask.is_floating_point() or mask.dtype == torch.bool):
        raise TypeError(
            f"mask must be a tensor, bool or floating in [0, 1], 1 where to repaint, got {got}."
        )
    size, n = tuple(images.shape[2:]), len(images)
    batch = mask.shape[0] if mask.ndim == 4 else 1
    fits_images = batch in (1, n) or n == 1
    if mask.shape not in (size, (batch, 1, *size)) or not fits_images:
        demand = f"{size} or (1 or {n}, 1, *{size})"
        raise ValueError(f"mask must be {demand} for these images, got {got}.")
    check_device("mask", mask, "images", images)
    if values_are_free(mask) and not ((mask >= 0) & (mask <= 1)).all():
        low, high = mask.min().item(), mask.max().item()
        raise ValueError(f"mask must lie in [0, 1], got values from {low:g} to {high:g}.")


@checked(mask=_a_mask_of_the_images)
def latent_mask(parts: LatentParts, mask: Tensor, images: Tensor) -> Tensor:
    """Return where to repaint as bool (1 or B, 1, h, w): of f x f pixels the first, cut at 0.5.

    mask: (H, W) or (1 or B, 1, H, W), bool or in [0, 1]. Raises TypeError or ValueError for
    another, or for one that repaints no latent.
    """
    f = parts.factor
    repaint = mask.reshape(-1, 1, *images.shape[2:]) >= 0.5
    coarse = repaint[..., ::f, ::f]
    if values_are_free(mask) and repaint.any() and not coarse.any():
        raise ValueError(
            f"no latent is repainted: of {f} x {f} pixels the mask's first decides. Make the mask"
            f" {f} pixels wide."
        )
    return coarse
