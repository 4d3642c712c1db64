"""Text to image, image to image, inpainting: one guided loop over latents, and its starts."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from ..door import checked
from ..process.guidance import ClassifierFreeGuidance
from ..sampling.loop import SAMPLERS, SampleState, iterate_levels, make_denoise
from ..sampling.solvers import Denoise, SamplerStep, Step, Transition
from ..sampling.timesteps import CLEAN, Level, inference_timesteps, noise_levels
from ..validation import check_choice, describe
from .coding import check_latents, decode_latents, encode_images, for_the_model
from .drawing import Drawing, with_settings
from .parts import LatentParts
from .starts import (
    Prompts, a_mask_of_the_images, draw_noise, drawn_noise, inside, latent_mask, noised,
    of_one_length, one_for_each, pictures_of, prompts_of_the_model, repeat, words_of,
)

# diffusers keeps x_t / sqrt(abar) in these, and takes fractional times
IN_SIGMA = ("euler", "euler_ancestral", "heun")


def _of_the_model(name: str, latents: object, given: dict) -> None:
    check_latents(given["parts"], latents)


_of_the_model.typed = True


def _alone(name: str, latents: Tensor, given: dict) -> None:
    if (size := (given["height"], given["width"])) != (None, None):
        out = "leave out height and width, got height={} and width={}".format(*size)
        raise ValueError(f"latents have the size of the picture: {out}.")


def _sampler(name: str, sampler: str | Step, given: dict) -> None:
    if not callable(sampler):
        check_choice("sampler", sampler, tuple(SAMPLERS))


def _share(name: str, strength: object, given: dict) -> None:
    is_number = isinstance(strength, Real) and not isinstance(strength, bool)
    if not (is_number and 0 <= strength <= 1):
        got = describe(strength)
        raise ValueError(
            f"strength must be a number in [0, 1], the share of the steps to take, got {got}."
        )


_share.typed = True
_sampler.typed = True


@checked(sampler=_sampler, strength=_share)
def latent_levels(
    parts: LatentParts, num_inference_steps: int, sampler: str | Step, *,
    spacing: str | None = None, strength: float = 1.0,
) -> list[Level]:
    """Return the n + 1 noise levels that diffusers' scheduler for this sampler visits.

    spacing: by default the model's; if it has none, "leading" for "ddim" and "ddpm", "linspace" for
    the others. "leading" times are raised by ``steps_offset``. "ddim" ends at abar_0 if the model
    has ``set_alpha_to_one=False``. Of n steps the last int(n * strength) are taken, in floats as in
    diffusers: 28 at 0.58 of 50. Raises ValueError for a strength outside [0, 1] or that leaves no
    step, n above T, or an unknown name.
    """
    spacing = _spacing(parts, sampler, spacing)
    times = _times(parts.schedule.num_train_timesteps, num_inference_steps, sampler, spacing)
    offset = parts.steps_offset if spacing == "leading" else 0
    taken = [t + offset for t in times[-_steps_taken(num_inference_steps, strength) :]]
    inside(taken, offset, num_inference_steps, parts.schedule.num_train_timesteps)
    levels = noise_levels(parts.schedule, taken)
    ends_noisy = sampler == "ddim" and not parts.ends_clean and taken[-1] > 0
    last = Level(None, parts.schedule.alphas_cumprod[0].item()) if ends_noisy else CLEAN
    return [*levels[:-1], last]


def _spacing(parts: LatentParts, sampler: str | Step, spacing: str | None) -> str:
    usual = "linspace" if sampler in (*IN_SIGMA, "dpmpp_2m") else "leading"
    return spacing or parts.spacing or usual


def _times(total: int, n: int, sampler: str | Step, spacing: str) -> list[float]:
    """Return the n times, descending, of diffusers' scheduler for this sampler."""
    times = inference_timesteps(total, n, spacing).tolist()
    if spacing == "linspace" and sampler in IN_SIGMA:
        return np.linspace(0, total - 1, n, dtype=np.float32)[::-1].tolist()
    if spacing != "trailing" and sampler == "dpmpp_2m" and n < total:
        return inference_timesteps(total, n + 1, spacing)[:n].tolist()  # without the last
    return times


def _steps_taken(n: int, strength: float) -> int:
    if (taken := int(n * strength)) < 1:
        least = math.ceil(1e4 / n) / 1e4
        raise ValueError(
            f"strength leaves no step of {n}, got {strength}. The least is {least:g}; or take more"
            " steps."
        )
    return taken


def _settings(name: str, drawing: Drawing, given: dict) -> None:
    prompts_of_the_model("negative_prompt", drawing.negative_prompt, given)
    sample_latents.hold(sampler=drawing.sampler)


@checked(
    prompts=prompts_of_the_model, latents=(_of_the_model, drawn_noise),
    negative_prompt=prompts_of_the_model, sampler=_sampler,
)
def sample_latents(
    parts: LatentParts, prompts: Prompts, latents: Tensor, levels: Sequence[Level], *,
    negative_prompt: Prompts | None = "", guidance_scale: float = 4.0,
    rescale: float = 0.0, sampler: str | Step = "dpmpp_2m",
    generator: torch.Generator | None = None, **options: object,
) -> Iterator[SampleState]:
    """Return an iterator over the steps of the guided loop, from latents (B, C, h, w) at levels[0].

    prompts, negative_prompt: texts, or words (1 or B, L, D) from ``encode_prompt``: one for all
    latents or one for each.
    guidance_scale, rescale: as in ``ClassifierFreeGuidance``, with the negative prompt in the place
    of no condition. ``options`` go to the step. Any state's ``x0_pred`` can be decoded; the last
    state is at levels[-1]. Raises for what does not fit.
    """
    negative_prompt = "" if negative_prompt is None else negative_prompt
    cond = one_for_each("prompts", words_of(parts, prompts), latents)
    away = one_for_each("negative_prompt", words_of(parts, negative_prompt), latents)
    of_one_length(cond, away)
    guided = ClassifierFreeGuidance(
        parts.predict, guidance_scale, negative_cond=away, rescale=rescale
    )
    denoise = make_denoise(guided, cond=cond, prediction_type=parts.prediction_type)
    loop = {"sampler": sampler, "generator": generator, **options}
    return iterate_levels(denoise, latents, levels, **loop)


def _levels(parts: LatentParts, drawing: Drawing, strength: float = 1.0) -> list[Level]:
    n, sampler = drawing.num_inference_steps, drawing.sampler
    return latent_levels(parts, n, sampler, spacing=drawing.spacing, strength=strength)


def _pure_noise(parts: LatentParts, noise: Tensor, level: Level, drawing: Drawing) -> Tensor:
    """Return the start x_T: noise, or, as diffusers' schedulers in sigma, sqrt(1 - abar_T) noise.

    With the spacing "leading" it is noise in these, too.
    """
    spacing = _spacing(parts, drawing.sampler, drawing.spacing)
    shrinks = drawing.sampler in IN_SIGMA and spacing != "leading"
    return noise * math.sqrt(1 - level.alpha_bar) if shrinks else noise


def _draw(
    parts: LatentParts, words: Tensor, x: Tensor, levels: Sequence[Level], drawing: Drawing
) -> Tensor:
    """Return the pictures at the end of the loop; ``callback`` sees each of its states."""
    steps = sample_latents(
        parts, words, x, levels, negative_prompt=drawing.negative_prompt,
        guidance_scale=drawing.guidance_scale, rescale=drawing.rescale, sampler=drawing.sampler,
        generator=drawing.generator, **drawing.options,
    )
    for state in steps:
        if drawing.callback is not None:
            drawing.callback(state)
    return decode_latents(parts, state.x)


@with_settings
@checked(
    prompts=prompts_of_the_model, drawing=_settings, latents=(_alone, _of_the_model, drawn_noise)
)
def text_to_image(
    parts: LatentParts, prompts: Prompts, *, drawing: Drawing, latents: Tensor | None = None,
    height: int | None = None, width: int | None = None,
) -> Tensor:
    """Draw a picture (B, 3, H, W) in [-1, 1] of each prompt.

    With the same settings it is the one of diffusers' pipeline. latents: the noise from N(0, I) to
    start from, (1 or B, C, H/f, W/f); else it is drawn. The settings are those of ``Drawing``:
    guidance also acts at scales up to 1, unlike in diffusers, and at 0 the prompt is ignored.
    Raises as ``latent_levels`` and ``sample_latents``, and TypeError for an unknown setting.
    """
    words, levels = words_of(parts, prompts), _levels(parts, drawing)
    if latents is None:
        shape = len(words), *parts.latent_shape(height, width)
        latents = draw_noise(parts, shape, drawing.generator)
    n = pictures_of(prompts=len(words), latents=len(latents))
    x = _pure_noise(parts, repeat(latents, n), levels[0], drawing)
    return _draw(parts, words, x, levels, drawing)


def _for_the_model(name: str, images: object, given: dict) -> None:
    for_the_model(name, images, given["parts"])


_for_the_model.typed = True


@with_settings
@checked(
    images=_for_the_model, prompts=prompts_of_the_model, drawing=_settings, strength=_share
)
def image_to_image(
    parts: LatentParts, images: Tensor, prompts: Prompts, *, drawing: Drawing,
    strength: float = 0.6,
) -> Tensor:
    """Redraw pictures (1 or B, 3, H, W) in [-1, 1]: noise them part of the way, and go back.

    The chain starts at x_t = sqrt(abar_t) z + sqrt(1 - abar_t) noise, the forward process (SDEdit,
    Meng et al. 2021, arXiv 2108.01073), ``strength`` of the steps from the end. ``generator`` draws
    z, then the noise; without one z is the mean. The settings are those of ``Drawing``. Raises as
    ``encode_images`` and ``text_to_image``.
    """
    words, levels = words_of(parts, prompts), _levels(parts, drawing, strength)
    n = pictures_of(prompts=len(words), images=len(images))
    z = repeat(encode_images(parts, images, generator=drawing.generator), n)
    x = noised(z, draw_noise(parts, z.shape, drawing.generator), levels[0])
    return _draw(parts, words, x, levels, drawing)


def _keeping(step: Step, z: Tensor, noise: Tensor, repaint: Tensor) -> Step:
    """Return the step that puts z, noised to the level reached, back where nothing is repainted."""

    def keep(
        denoise: Denoise, xt: Tensor, move: Transition, **options: object
    ) -> SamplerStep:
        taken = step(denoise, xt, move, **options)
        if not isinstance(taken, SamplerStep):
            got = describe(taken)
            raise TypeError(f"sampler must return a SamplerStep, with x_prev, got {got}.")
        known = z if move.then.t is None else noised(z, noise, move.then)
        return taken._replace(x_prev=torch.where(repaint, taken.x_prev, known))

    return keep


@with_settings
@checked(
    images=_for_the_model, mask=a_mask_of_the_images, prompts=prompts_of_the_model,
    drawing=_settings, strength=_share,
)
def inpaint(
    parts: LatentParts, images: Tensor, mask: Tensor, prompts: Prompts, *, drawing: Drawing,
    strength: float = 1.0,
) -> Tensor:
    """Redraw where ``mask`` is 1 and keep the rest, with a unet that knows nothing of masks.

    After each step the latents outside the mask are put back: the picture's own, noised to the
    level that was reached (RePaint, Lugmayr et al. 2022, arXiv 2201.09865, without its resampling;
    as diffusers). Kept pixels still pass the autoencoder. mask: (H, W), (1 or B, H, W) or (1 or B,
    1, H, W), bool or in [0, 1], cut at 0.5; of f x f pixels the first decides. strength 1 starts
    from pure noise. The rest as in ``image_to_image``. Raises also for a mask that does not fit.
    """
    words, levels = words_of(parts, prompts), _levels(parts, drawing, strength)
    repaint = latent_mask(parts, mask, images)
    n = pictures_of(prompts=len(words), images=len(images), mask=len(repaint))
    z = repeat(encode_images(parts, images, generator=drawing.generator), n)
    noise = draw_noise(parts, z.shape, drawing.generator)
    pure = strength == 1
    x = _pure_noise(parts, noise, levels[0], drawing) if pure else noised(z, noise, levels[0])
    step = drawing.sampler if callable(drawing.sampler) else SAMPLERS[drawing.sampler]
    drawing = replace(drawing, sampler=_keeping(step, z, noise, repaint))
    return _draw(parts, words, x, levels, drawing)
