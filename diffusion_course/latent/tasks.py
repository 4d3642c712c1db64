"""Text to image, image to image, inpainting: one guided loop over latents, and what it starts from.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..process.guidance import ClassifierFreeGuidance
from ..process.kernels import mix
from ..sampling.loop import SAMPLERS, SampleState, iterate_levels, make_denoise
from ..sampling.solvers import Denoise, SamplerStep, Step
from ..sampling.timesteps import CLEAN, Level, inference_timesteps, noise_levels
from ..validation import check_choice, check_device, describe, values_are_free
from .coding import check_latents, decode_latents, encode_images, encode_prompt
from .parts import LatentParts

IN_SIGMA = (
    "euler", "euler_ancestral", "heun"
)  # diffusers keeps x_t / sqrt(abar) in these, and takes fractional times
Prompts = str | Sequence[str] | Tensor


def latent_levels(
    parts: LatentParts, num_inference_steps: int, sampler: str | Step, *,
    spacing: str | None = None, strength: float = 1.0,
) -> list[Level]:
    """Return the n + 1 noise levels that diffusers' scheduler for this sampler visits with this
    model's settings.

    spacing: by default the model's; if it has none, "leading" for "ddim" and "ddpm", "linspace" for
    the others. "leading" times are raised by ``steps_offset``. "ddim" ends at abar_0 if the model
    has ``set_alpha_to_one=False``. Of n steps the last floor(strength * n) are taken. Raises
    ValueError for a strength outside [0, 1] or that leaves no step, n above T, or an unknown name.
    """
    spacing = _spacing(parts, sampler, spacing)
    n, total = num_inference_steps, parts.schedule.num_train_timesteps
    times = inference_timesteps(total, n, spacing).tolist()
    if spacing == "linspace" and sampler in IN_SIGMA:
        times = np.linspace(0, total - 1, n, dtype=np.float32)[::-1].tolist()
    elif (
        spacing != "trailing" and sampler == "dpmpp_2m" and n < total
    ):  # n + 1 times without the last
        times = inference_timesteps(total, n + 1, spacing)[:n].tolist()
    if (
        isinstance(strength, bool)
        or not isinstance(strength, (int, float))
        or not 0 <= strength <= 1
    ):
        raise ValueError(
            "strength must be a number in [0, 1], the share of the steps to take, got"
            f" {describe(strength)}."
        )
    if (taken := int(n * strength)) < 1:
        least = math.ceil(1e4 / n) / 1e4
        raise ValueError(
            f"strength={strength} of {n} steps leaves no step. The least is {least:g}; or take more"
            " steps."
        )
    offset = parts.steps_offset if spacing == "leading" else 0
    levels = noise_levels(parts.schedule, [t + offset for t in times[n - taken :]])
    ends_noisy = sampler == "ddim" and not parts.ends_clean and levels[-2].t > 0
    return [
        *levels[:-1],
        Level(None, parts.schedule.alphas_cumprod[0].item()) if ends_noisy else CLEAN,
    ]


def _spacing(parts: LatentParts, sampler: str | Step, spacing: str | None) -> str:
    if not callable(sampler):
        check_choice("sampler", sampler, tuple(SAMPLERS))
    return (
        spacing
        or parts.spacing
        or ("linspace" if sampler in (*IN_SIGMA, "dpmpp_2m") else "leading")
    )


def sample_latents(
    parts: LatentParts, prompts: Prompts, latents: Tensor, levels: Sequence[Level], *,
    negative_prompt: Prompts = "", guidance_scale: float = 4.0, rescale: float = 0.0,
    sampler: str | Step = "dpmpp_2m", generator: torch.Generator | None = None, **options: object,
) -> Iterator[SampleState]:
    """Return an iterator over the steps of the guided loop, from ``latents`` (B, C, h, w) at
    levels[0] to levels[-1].

    prompts, negative_prompt: texts, or words (1 or B, L, D) from ``encode_prompt``: one for all
    latents or one for each.
    guidance_scale, rescale: as in ``ClassifierFreeGuidance``, with the negative prompt in the place
    of no condition. ``options`` go to the step. Any state's ``x0_pred`` can be decoded. Raises for
    what does not fit.
    """
    check_latents(parts, latents)
    cond = _for_each("prompts", _words(parts, prompts), latents)
    away = _for_each(
        "negative_prompt", _words(parts, "" if negative_prompt is None else negative_prompt),
        latents,
    )
    guided = ClassifierFreeGuidance(
        parts.predict, guidance_scale, negative_cond=away, rescale=rescale
    )
    denoise = make_denoise(guided, cond=cond, prediction_type=parts.prediction_type)
    return iterate_levels(denoise, latents, levels, sampler=sampler, generator=generator, **options)


def _words(parts: LatentParts, prompts: Prompts) -> Tensor:
    if not isinstance(prompts, Tensor):
        return encode_prompt(parts, prompts)
    if prompts.ndim != 3 or not prompts.is_floating_point():
        raise ValueError(f"encoded prompts must have shape (B, L, D), got {describe(prompts)}.")
    check_device("the encoded prompts", prompts, "the model", next(parts.unet.parameters()))
    return prompts.to(parts.dtype)


def _for_each(name: str, words: Tensor, latents: Tensor) -> Tensor:
    if len(words) not in (1, len(latents)):
        raise ValueError(
            f"{name} must be one for all {len(latents)} pictures or one for each of them, got"
            f" {len(words)}."
        )
    return words.expand(len(latents), -1, -1)


def _repeat(x: Tensor, n: int) -> Tensor:
    return x.expand(n, *x.shape[1:]) if len(x) == 1 else x


def _noise(parts: LatentParts, shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
    noise = torch.randn(
        shape, generator=generator, device=parts.device if generator is None else generator.device
    )
    return noise.to(parts.device, torch.promote_types(parts.dtype, torch.float32))


def _noised(latents: Tensor, noise: Tensor, level: Level) -> Tensor:
    return mix(math.sqrt(level.alpha_bar), latents, math.sqrt(1 - level.alpha_bar), noise)


def _pure_noise(
    parts: LatentParts, noise: Tensor, level: Level, sampler: str | Step, spacing: str | None
) -> Tensor:
    """Return the start x_T: noise, or as diffusers' schedulers in sigma, except for "leading", its
    share sqrt(1 - abar_T).
    """
    shrinks = sampler in IN_SIGMA and _spacing(parts, sampler, spacing) != "leading"
    return noise * math.sqrt(1 - level.alpha_bar) if shrinks else noise


def _draw(
    parts: LatentParts, steps: Iterator[SampleState], callback: Callable[[SampleState], None] | None
) -> Tensor:
    for state in steps:
        if callback is not None:
            callback(state)
    return decode_latents(parts, state.x)


def _latent_mask(parts: LatentParts, mask: object, images: Tensor) -> Tensor:
    """Return where to repaint as bool (1 or B, 1, h, w): of each f x f pixels of the mask the
    first, cut at 0.5.
    """
    if not isinstance(mask, Tensor) or not (mask.is_floating_point() or mask.dtype == torch.bool):
        raise TypeError(
            "mask must be a tensor, bool or floating in [0, 1], 1 where to repaint, got"
            f" {describe(mask)}."
        )
    size, f = tuple(images.shape[2:]), parts.factor
    batch = mask.shape[0] if mask.ndim == 4 else 1
    if mask.shape not in (size, (batch, 1, *size)) or (
        batch not in (1, len(images)) and len(images) > 1
    ):
        raise ValueError(
            f"mask must be {size} or (1 or {len(images)}, 1, *{size}) for these images, got"
            f" {describe(mask)}."
        )
    check_device("mask", mask, "images", images)
    if values_are_free(mask) and not ((mask >= 0) & (mask <= 1)).all():
        raise ValueError(
            f"mask must lie in [0, 1], got values from {mask.min().item():g} to"
            f" {mask.max().item():g}."
        )
    repaint = mask.reshape(batch, 1, *size) >= 0.5
    coarse = repaint[..., ::f, ::f]
    if values_are_free(mask) and repaint.any() and not coarse.any():
        raise ValueError(
            f"no latent is repainted: of {f} x {f} pixels the mask's first decides. Make the mask"
            f" {f} pixels wide."
        )
    return coarse


def text_to_image(
    parts: LatentParts, prompts: Prompts, *, negative_prompt: Prompts = "",
    guidance_scale: float = 4.0, num_inference_steps: int = 20, sampler: str | Step = "dpmpp_2m",
    spacing: str | None = None, generator: torch.Generator | None = None,
    latents: Tensor | None = None, height: int | None = None, width: int | None = None,
    callback: Callable[[SampleState], None] | None = None, **options: object,
) -> Tensor:
    """Draw a picture (B, 3, H, W) in [-1, 1] of each prompt: with the same settings the one of
    diffusers' pipeline.

    latents: the noise from N(0, I) to start from, (1 or B, C, H/f, W/f); else it is drawn from
    ``generator``, in float32, so that a seed means one picture in every dtype. ``callback(state)``
    after each step. The rest: ``latent_levels``, ``sample_latents``. Unlike in diffusers, guidance
    also acts at scales up to 1: at 0 the prompt is ignored. Raises as these do.
    """
    words, levels = (
        _words(parts, prompts), latent_levels(parts, num_inference_steps, sampler, spacing=spacing)
    )
    if latents is not None and (height, width) != (None, None):
        raise ValueError(
            f"latents have the size of the picture: leave out height={height} and width={width}."
        )
    if latents is None:
        latents = _noise(parts, (len(words), *parts.latent_shape(height, width)), generator)
    check_latents(parts, latents)
    x = _pure_noise(parts, _repeat(latents, len(words)), levels[0], sampler, spacing)
    steps = sample_latents(
        parts, words, x, levels, negative_prompt=negative_prompt, guidance_scale=guidance_scale,
        sampler=sampler, generator=generator, **options,
    )
    return _draw(parts, steps, callback)


def image_to_image(
    parts: LatentParts, images: Tensor, prompts: Prompts, *, strength: float = 0.6,
    num_inference_steps: int = 20, sampler: str | Step = "dpmpp_2m", spacing: str | None = None,
    generator: torch.Generator | None = None, callback: Callable[[SampleState], None] | None = None,
    **options: object,
) -> Tensor:
    """Redraw pictures (1 or B, 3, H, W) in [-1, 1]: noise their latents part of the way, and go
    back with other words.

    The chain starts at x_t = sqrt(abar_t) z + sqrt(1 - abar_t) noise, the forward process (SDEdit,
    Meng et al. 2021, arXiv 2108.01073), ``strength`` of the steps from the end. ``generator`` draws
    z, then the noise; without one z is the mean. ``options``: those of ``sample_latents``. Raises
    as ``encode_images``, ``latent_levels`` and ``sample_latents`` do.
    """
    words, levels = (
        _words(parts, prompts),
        latent_levels(parts, num_inference_steps, sampler, spacing=spacing, strength=strength),
    )
    known = _repeat(encode_images(parts, images, generator=generator), len(words))
    x = _noised(known, _noise(parts, known.shape, generator), levels[0])
    return _draw(
        parts,
        sample_latents(parts, words, x, levels, sampler=sampler, generator=generator, **options),
        callback,
    )


def inpaint(
    parts: LatentParts, images: Tensor, mask: Tensor, prompts: Prompts, *, strength: float = 1.0,
    num_inference_steps: int = 20, sampler: str | Step = "dpmpp_2m", spacing: str | None = None,
    generator: torch.Generator | None = None, callback: Callable[[SampleState], None] | None = None,
    **options: object,
) -> Tensor:
    """Redraw where ``mask`` is 1 and keep the rest, with a unet that knows nothing of masks.

    After each step the latents outside the mask are put back: the picture's own, noised to the
    level that was reached (RePaint, Lugmayr et al. 2022, arXiv 2201.09865, without its resampling;
    as diffusers). Kept pixels still pass the autoencoder. mask: (H, W) or (1 or B, 1, H, W), bool
    or in [0, 1], cut at 0.5; of f x f pixels the first decides. strength 1 starts from pure noise.
    The rest as in ``image_to_image``. Raises also for a mask that does not fit.
    """
    words, levels = (
        _words(parts, prompts),
        latent_levels(parts, num_inference_steps, sampler, spacing=spacing, strength=strength),
    )
    known = encode_images(parts, images, generator=generator)
    repaint = _latent_mask(parts, mask, images)
    known = _repeat(known, max(len(words), len(repaint)))
    noise = _noise(parts, known.shape, generator)
    x = (
        _pure_noise(parts, noise, levels[0], sampler, spacing)
        if strength == 1
        else _noised(known, noise, levels[0])
    )
    plain = sampler if callable(sampler) else SAMPLERS[sampler]

    def keeping(
        denoise: Denoise, xt: Tensor, now: Level, prev: Level, **kwargs: object
    ) -> SamplerStep:
        step = plain(denoise, xt, now, prev, **kwargs)
        return step._replace(
            x_prev=torch.where(
                repaint, step.x_prev, known if prev.t is None else _noised(known, noise, prev)
            )
        )

    return _draw(
        parts,
        sample_latents(parts, words, x, levels, sampler=keeping, generator=generator, **options),
        callback,
    )
