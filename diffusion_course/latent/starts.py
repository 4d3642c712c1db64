"""What a task starts from: the words of its prompts, noise, a mask."""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from ..door import checked
from ..process.kernels import mix
from ..sampling.timesteps import Level
from ..seeds import draw
from ..validation import check_device, describe, values_are_free
from .coding import check_texts, encode_prompt
from .parts import LatentParts

Prompts = Annotated[str | Sequence[str] | Tensor, "check_prompts"]  # its own check looks
WHOLE = (torch.bool, torch.uint8)  # a uint8 mask may hold 0 and 1
TO_MASK = "From a PIL picture: torchvision.transforms.functional.to_tensor(mask.convert('L'))."


def check_prompts(name: str, prompts: object, parts: LatentParts) -> None:
    """Raise unless ``prompts`` is texts, or words (B, L, D) that the unet can read."""
    if not isinstance(prompts, Tensor):
        return check_texts(name, prompts)
    wide = parts.unet.config.cross_attention_dim
    if prompts.ndim != 3 or not prompts.is_floating_point() or 0 in prompts.shape:
        got = describe(prompts)
        raise ValueError(f"{name}: encoded prompts must have shape (B, L, D), got {got}.")
    if isinstance(wide, int) and prompts.shape[2] != wide:
        got = describe(prompts)
        raise ValueError(f"{name}: encoded prompts must have {wide} channels, got {got}.")
    check_device(name, prompts, "parts.unet", next(parts.unet.parameters()))


def prompts_of_the_model(name: str, prompts: object, given: dict) -> None:
    """The door's check for ``check_prompts``."""
    if prompts is not None or name == "prompts":
        check_prompts(name, prompts, given["parts"])


prompts_of_the_model.typed = True


@checked(prompts=prompts_of_the_model)
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


def of_one_length(words: Tensor, others: Tensor) -> None:
    """Raise ValueError unless the prompts and the negative prompts have as many tokens."""
    if words.shape[1] != others.shape[1]:
        raise ValueError(
            f"prompts and negative_prompt must have as many tokens L, got {describe(words)} and"
            f" {describe(others)}. Encode both: encode_prompt(parts, texts)."
        )


def repeat(x: Tensor, n: int) -> Tensor:
    """Return x (1 or n, ...) as (n, ...)."""
    return x.expand(n, *x.shape[1:]) if len(x) == 1 else x


def draw_noise(
    parts: LatentParts, shape: Sequence[int], generator: torch.Generator | None
) -> Tensor:
    """Return standard normal noise on the model's device, drawn where the generator is."""
    kind = {"device": parts.device, "dtype": torch.float32}
    return draw(torch.randn, shape, generator=generator, **kind).to(parts.latent_dtype)


def inside(times: list[float], offset: int, n: int, total: int) -> None:
    """Raise ValueError if the offset moves the first time past the last of the schedule."""
    if offset and times[0] > total - 1:
        raise ValueError(
            f"num_inference_steps={n} with steps_offset={offset} begins at t = {times[0]}, after"
            f" the last, {total - 1}. Take other num_inference_steps, or steps_offset=0."
        )


def drawn_noise(name: str, latents: Tensor, given: dict) -> None:
    """The door's check of latents to start from."""
    if values_are_free(latents) and (bad := int((~latents.isfinite()).sum())):
        made = "latents is where the loop starts; draw noise: torch.randn(shape)"
        raise ValueError(f"{name} holds {bad} values that are not finite: {made}.")


def noised(latents: Tensor, noise: Tensor, level: Level) -> Tensor:
    """Return sqrt(abar) latents + sqrt(1 - abar) noise: the forward process to one level."""
    return mix(math.sqrt(level.alpha_bar), latents, math.sqrt(1 - level.alpha_bar), noise)


def a_mask_of_the_images(name: str, mask: object, given: dict) -> None:
    """The door's check of ``latent_mask``."""
    images, got = given["images"], describe(mask)
    height, width = images.shape[2:]
    known = isinstance(mask, Tensor) and (mask.is_floating_point() or mask.dtype in WHOLE)
    if not known:
        demand = "a tensor, bool or floating in [0, 1], 1 where to repaint"
        advice = "" if isinstance(mask, Tensor) else f" {TO_MASK}"
        raise TypeError(f"mask must be {demand}, got {got}.{advice}")
    if mask.ndim not in (2, 3, 4) or mask.shape[-2:] != (height, width):
        raise ValueError(
            f"mask must have the images' height {height} and width {width}: shape (H, W), (B, H, W)"
            f" or (B, 1, H, W), got {got}."
        )
    if mask.ndim == 4 and mask.shape[1] != 1:
        raise ValueError(f"mask must have one channel, shape (B, 1, H, W), got {got}.")
    few = (1, len(images)) if len(images) > 1 else range(1, len(mask) + 1)
    if mask.ndim > 2 and len(mask) not in few:
        raise ValueError(
            f"mask must be one for all {len(images)} images or one for each of them, got"
            f" {len(mask)} masks: {got}."
        )
    check_device("mask", mask, "images", images)
    if not values_are_free(mask):
        return
    if not ((mask >= 0) & (mask <= 1)).all():
        low, high = mask.min().item(), mask.max().item()
        cure = " From 0..255: mask / 255." if high > 1 and low >= 0 else ""
        raise ValueError(f"mask must lie in [0, 1], got values from {low:g} to {high:g}.{cure}")


a_mask_of_the_images.typed = True


def pictures_of(**counts: int) -> int:
    """Return how many pictures there will be; raises ValueError unless each count is that or 1."""
    n = max(counts.values())
    for name, count in counts.items():
        if count not in (1, n):
            listed = ", ".join(f"{one}: {k}" for one, k in counts.items())
            demand = f"one for all {n} pictures or one for each of them"
            raise ValueError(f"{name} must be {demand}, got {count} ({listed}).")
    return n


@checked(mask=a_mask_of_the_images)
def latent_mask(parts: LatentParts, mask: Tensor, images: Tensor) -> Tensor:
    """Return where to repaint as bool (1 or B, 1, h, w): of f x f pixels the first, cut at 0.5.

    mask: (H, W), (1 or B, H, W) or (1 or B, 1, H, W), bool or in [0, 1]. Raises TypeError or
    ValueError for another, or for one that repaints no latent.
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
