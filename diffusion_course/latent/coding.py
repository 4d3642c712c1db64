"""Into the latents, out again and between them: texts and pictures encoded, latents decoded, two of
them interpolated.
"""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from ..validation import check_alike, check_batch, check_device, describe, values_are_free
from .autoencoder import check_images
from .parts import LatentParts


@torch.no_grad()
def encode_prompt(parts: LatentParts, prompts: str | Sequence[str]) -> Tensor:
    """Return what the unet is told of each text: the text encoder's last hidden states (B, L, D),
    padded to L tokens.

    Any text will do, also none: unknown words become pieces of words, down to bytes. A text of more
    than L tokens, start and end included, is cut, with a warning that says where. Raises TypeError
    for anything but texts, ValueError for an empty list.
    """
    texts = (
        [prompts]
        if isinstance(prompts, str)
        else list(prompts)
        if isinstance(prompts, (list, tuple))
        else None
    )
    if texts is None or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"prompts must be a text or a list of texts, got {describe(prompts)}.")
    if not texts:
        raise ValueError(
            "prompts must hold at least one text, got an empty list. For a picture without words"
            " use ['']."
        )
    length = min(
        parts.tokenizer.model_max_length, parts.text_encoder.config.max_position_embeddings
    )
    if cut := [ids for ids in parts.tokenizer(texts, verbose=False).input_ids if len(ids) > length]:
        unread = describe(parts.tokenizer.decode(cut[0][length - 1 : -1])).removeprefix("str ")
        warnings.warn(
            f"{len(cut)} of {len(texts)} prompts have more than the {length - 2} tokens that the"
            f" model reads. Unread: {unread}.",
            stacklevel=3,
        )
    ids = parts.tokenizer(texts, padding="max_length", truncation=True, max_length=length).input_ids
    return parts.text_encoder(torch.tensor(ids, device=parts.device)).last_hidden_state.to(
        parts.dtype
    )


@torch.no_grad()
def encode_images(
    parts: LatentParts, images: Tensor, *, generator: torch.Generator | None = None
) -> Tensor:
    """Return the scaled latents (B, C, H/f, W/f) of pictures (B, 3, H, W) in [-1, 1]:
    scaling_factor * z, float32 at least.

    With a generator z is drawn from the encoder's Gaussian, without one it is the mean. Raises for
    another shape or range, sides that are no multiples of f, or another device.
    """
    check_images("images", images)
    check_device("images", images, "the model", next(parts.vae.parameters()))
    if images.shape[1] != parts.vae.config.in_channels:
        raise ValueError(
            f"images must have {parts.vae.config.in_channels} channels, got {describe(images)}."
        )
    parts.latent_shape(*images.shape[2:])
    latent_dist = parts.vae.encode(images.to(parts.dtype)).latent_dist
    z = latent_dist.mean if generator is None else latent_dist.sample(generator)
    return parts.vae.config.scaling_factor * z.to(torch.promote_types(z.dtype, torch.float32))


@torch.no_grad()
def decode_latents(parts: LatentParts, latents: Tensor) -> Tensor:
    """Return the pictures (B, 3, H, W) of scaled latents (B, C, h, w), divided by scaling_factor
    first; clamped to [-1, 1].

    Raises for another shape or device, and ValueError for latents that are not finite, where that
    can be read for free.
    """
    check_latents(parts, latents)
    if values_are_free(latents) and not torch.isfinite(latents).all():
        raise ValueError(
            f"latents are not finite ({describe(latents)}): use a smaller guidance_scale, or"
            " float32 weights."
        )
    decoded = parts.vae.decode((latents / parts.vae.config.scaling_factor).to(parts.dtype)).sample
    return decoded.to(latents.dtype).clamp(-1, 1)


def check_latents(parts: LatentParts, latents: object) -> None:
    """Raise unless ``latents`` is a floating batch (B, C, h, w) with the autoencoder's channels, on
    the model's device.
    """
    check_batch("latents", latents)
    check_device("latents", latents, "the model", next(parts.unet.parameters()))
    if latents.ndim != 4 or latents.shape[1] != parts.vae.config.latent_channels:
        raise ValueError(
            f"latents must have shape (B, {parts.vae.config.latent_channels}, h, w), got"
            f" {describe(latents)}."
        )


def slerp(a: Tensor, b: Tensor, weight: Tensor | float) -> Tensor:
    """Return the points at ``weight`` in [0, 1] of the arc from a to b (Shoemake 1985): noise
    between noise a and noise b.

    sin((1 - w) theta) / sin(theta) a + sin(w theta) / sin(theta) b, with theta the angle between
    them in each sample. Midway on the straight line independent noise would have the variance 1/2;
    on the arc it keeps 1. Where sin(theta) is 0 it is the line.
    a, b: (B, ...) alike; weight: a number, or (N,), with B = 1 or N, for N points. Raises TypeError
    or ValueError otherwise.
    """
    check_batch("a", a)
    check_alike("b", b, "a", a)
    wide = torch.promote_types(a.dtype, torch.float32)
    w = torch.as_tensor(weight, dtype=wide, device=a.device)
    if (
        w.ndim > 1
        or (w.ndim == 1 and len(a) not in (1, len(w)))
        or (values_are_free(w) and not ((w >= 0) & (w <= 1)).all())
    ):
        raise ValueError(
            f"weight must be in [0, 1], a number or one for each of {len(a)} samples, got"
            f" {describe(weight)}."
        )
    w = w.reshape(-1, *(1,) * (a.ndim - 1))
    u, v = (x.to(wide).flatten(1) for x in (a, b))
    cosine = (
        torch.nn.functional.cosine_similarity(u, v).clamp(-1, 1).reshape(-1, *(1,) * (a.ndim - 1))
    )
    angle, sine = cosine.acos(), (1 - cosine**2).sqrt()
    straight = sine < 1e-4
    sine = torch.where(straight, 1, sine)
    on_a = torch.where(straight, 1 - w, ((1 - w) * angle).sin() / sine)
    on_b = torch.where(straight, w, (w * angle).sin() / sine)
    return (on_a * a.to(wide) + on_b * b.to(wide)).to(a.dtype)
