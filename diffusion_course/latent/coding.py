"""Into the latents, out again and between them: texts, pictures, latents."""

import warnings
from collections.abc import Sequence, Set
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from ..door import batch, checked, like
from ..process.levels import column
from ..validation import check_batch, check_device, describe, values_are_free
from .autoencoder import check_images
from .parts import LatentParts, device_of, dtype_of


# Annotated: its own check looks, before anything is made a list of it
Texts = Annotated[str | Sequence[str], "check_texts"]


def check_texts(name: str, prompts: object) -> None:
    """Raise unless ``prompts`` is a text or a list of at least one text."""
    texts = [prompts] if isinstance(prompts, str) else prompts
    texts = [*texts] if isinstance(texts, np.ndarray) and texts.ndim == 1 else texts
    if isinstance(texts, Set):
        order = f"got {describe(texts)}: a set has no order, so it is not clear which is whose"
        raise TypeError(f"{name} must be a text or a list of texts, {order}.")
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"{name} must be a text or a list of texts, got {describe(prompts)}.")
    if not texts:
        wordless = "For a picture without words use ['']"
        raise ValueError(f"{name} must hold at least one text, got an empty list. {wordless}.")
    for text in texts:
        if half := next((c for c in text if "\ud800" <= c <= "\udfff"), None):
            where = f"{half!r} at place {text.index(half)} of {describe(text)}"
            raise ValueError(f"{name} must be Unicode text, got half a character, {where}.")


def _texts(name: str, prompts: object, given: dict) -> None:
    check_texts(name, prompts)


_texts.typed = True


@checked(prompts=_texts)
@torch.no_grad()
def encode_prompt(parts: LatentParts, prompts: Texts) -> Tensor:
    """Return what the unet is told of each text: the words (B, L, D).

    They are the text encoder's last hidden states, padded to L tokens. Any text will do, also none:
    unknown words become pieces of words, down to bytes. A text of more than L tokens, start and end
    included, is cut, with a warning that says where. Raises TypeError for anything but texts,
    ValueError for an empty list.
    """
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    tokenizer, encoder = parts.tokenizer, parts.text_encoder
    length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    if cut := [ids for ids in tokenizer(texts, verbose=False).input_ids if len(ids) > length]:
        unread = describe(tokenizer.decode(cut[0][length - 1 : -1])).removeprefix("str ")
        warnings.warn(
            f"{len(cut)} of {len(texts)} prompts have more than the {length - 2} tokens that the"
            f" model reads. Unread: {unread}.",
            stacklevel=4,
        )
    ids = tokenizer(texts, padding="max_length", truncation=True, max_length=length).input_ids
    words = encoder(torch.tensor(ids, device=device_of(encoder))).last_hidden_state
    return words.to(parts.device, parts.dtype)


def for_the_model(name: str, images: object, parts: LatentParts) -> None:
    """Raise unless ``images`` are pictures (B, C, H, W) that the autoencoder can read."""
    check_images(name, images)
    check_device(name, images, "parts.vae", next(parts.vae.parameters()))
    if images.shape[1] != parts.vae.config.in_channels:
        channels, got = parts.vae.config.in_channels, describe(images)
        raise ValueError(f"images must have {channels} channels, got {got}.")
    parts.latent_shape(*images.shape[2:])


def _pictures_for_the_model(name: str, images: object, given: dict) -> None:
    for_the_model(name, images, given["parts"])


_pictures_for_the_model.typed = True


@checked(images=_pictures_for_the_model)
@torch.no_grad()
def encode_images(
    parts: LatentParts, images: Tensor, *, generator: torch.Generator | None = None
) -> Tensor:
    """Return the scaled latents (B, C, H/f, W/f) of pictures (B, 3, H, W) in [-1, 1].

    They are scaling_factor * z, in ``parts.latent_dtype``: float32 at least. The pictures may have
    any floating dtype; the encoder reads them in its own. With a generator z is drawn from the
    encoder's Gaussian, without one it is the mean. Raises for another shape or range, sides that
    are no multiples of f, or another device.
    """
    posterior = parts.vae.encode(images.to(dtype_of(parts.vae))).latent_dist
    z = posterior.mean if generator is None else posterior.sample(generator)
    return parts.vae.config.scaling_factor * z.to(parts.device, parts.latent_dtype)


def check_latents(parts: LatentParts, latents: object) -> None:
    """Raise unless ``latents`` is a floating batch (B, C, h, w) for this model, on its device."""
    check_batch("latents", latents)
    check_device("latents", latents, "parts.unet", next(parts.unet.parameters()))
    channels = parts.vae.config.latent_channels
    if latents.ndim != 4 or latents.shape[1] != channels:
        raise ValueError(f"latents must have shape (B, {channels}, h, w), got {describe(latents)}.")


def _of_the_model(name: str, latents: object, given: dict) -> None:
    check_latents(given["parts"], latents)


_of_the_model.typed = True


def _finite(name: str, latents: Tensor, given: dict) -> None:
    if values_are_free(latents) and not torch.isfinite(latents).all():
        raise ValueError(
            f"latents are not finite, got {describe(latents)}: use a smaller guidance_scale, or"
            " float32 weights."
        )


@checked(latents=(_of_the_model, _finite))
@torch.no_grad()
def decode_latents(parts: LatentParts, latents: Tensor) -> Tensor:
    """Return the pictures (B, 3, H, W) of scaled latents (B, C, h, w), clamped to [-1, 1].

    They are divided by scaling_factor first; the decoder reads them in its own dtype, and the
    pictures get that of the latents. Raises for another shape or device, and ValueError for latents
    or pictures that are not finite, where that can be read for free.
    """
    z = latents / parts.vae.config.scaling_factor
    z = z.to(device_of(parts.vae), dtype_of(parts.vae))
    pictures = parts.vae.decode(z).sample.to(latents.device, latents.dtype)
    _check_drawn(pictures, z)
    return pictures.clamp(-1, 1)


def _check_drawn(pictures: Tensor, z: Tensor) -> None:
    if values_are_free(pictures) and not torch.isfinite(pictures).all():
        kind = str(z.dtype).removeprefix("torch.")
        raise ValueError(
            f"the pictures are not finite, though the latents are ({describe(z)}): the autoencoder"
            f" overflows in {kind}. Let it compute in float32: parts.vae.float()."
        )


def _as_weight(weight: Tensor | float) -> Tensor:
    return weight if isinstance(weight, Tensor) else torch.as_tensor(weight, device="cpu")


def _share_for_each(name: str, weight: Tensor | float, given: dict) -> None:
    n = len(given["a"])
    w = _as_weight(weight)
    if w.is_complex() or w.device.type not in ("cpu", given["a"].device.type):
        got = describe(weight)
        raise TypeError(f"weight must hold real numbers, on the CPU or a's device, got {got}.")
    fits = w.ndim == 0 or (w.ndim == 1 and (n == 1 or len(w) == n))
    if not fits or (values_are_free(w) and not ((w >= 0) & (w <= 1)).all()):
        demand = f"in [0, 1], a number or one for each of {n} samples"
        raise ValueError(f"weight must be {demand}, got {describe(weight)}.")


@checked(a=batch, b=like("a"), weight=_share_for_each)
def slerp(a: Tensor, b: Tensor, weight: Tensor | float) -> Tensor:
    """Return the points at ``weight`` in [0, 1] of the arc from a to b (Shoemake 1985).

    sin((1 - w) theta) / sin(theta) a + sin(w theta) / sin(theta) b, with theta the angle between
    them in each sample: noise between two noises. Midway on the straight line independent noise
    would have the variance 1/2; on the arc it keeps 1. Where sin(theta) is 0 it is the line.
    a, b: (B, ...) alike; weight: a number, or (N,), with B = 1 or N, for N points. Raises TypeError
    or ValueError otherwise.
    """
    wide = torch.promote_types(a.dtype, torch.float32)
    w = column(torch.as_tensor(weight, dtype=wide, device=a.device), a)
    u, v = (x.to(wide).flatten(1) for x in (a, b))
    cosine = column(torch.nn.functional.cosine_similarity(u, v).clamp(-1, 1), a)
    angle, sine = cosine.acos(), (1 - cosine**2).sqrt()
    straight = sine < 1e-4
    sine = torch.where(straight, 1, sine)
    on_a = torch.where(straight, 1 - w, ((1 - w) * angle).sin() / sine)
    on_b = torch.where(straight, w, (w * angle).sin() / sine)
    return (on_a * a.to(wide) + on_b * b.to(wide)).to(a.dtype)
