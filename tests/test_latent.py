"""The pipeline put together from its parts against diffusers' pipelines, its folder, its prompts, and what it refuses.

The models are tiny and have random weights, so nothing in them is small by luck; the shipped miniature is compared too. Pictures
are in [0, 1] as diffusers returns them, float32. Prompts stay below the tiny model's 16 tokens.
"""

import copy
import dataclasses
import inspect
import json
import math
import pickle
import shutil
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)
from helpers import assert_near, gap, normal, unchanged
from PIL import Image
from tiny_stable_diffusion import make_tiny, tiny_parts

from diffusion_course import (
    CLEAN,
    LatentParts,
    Level,
    decode_latents,
    encode_images,
    encode_prompt,
    image_to_image,
    inpaint,
    latent_levels,
    load_parts,
    make_schedule,
    sample_latents,
    slerp,
    text_to_image,
)
from diffusion_course.datasets.scenes import captions, render_scenes, sample_scenes
from diffusion_course.files.checkpoints import sha256_of
from diffusion_course.files.pretrained import data_dir
from diffusion_course.latent.drawing import step_options
from diffusion_course.latent.parts import MINIATURE, NETWORKS
from diffusion_course.sampling.loop import SAMPLERS

# diffusers calls np.array on tensors
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")

TOLERANCE = 1e-5
SHIPPED = data_dir() / MINIATURE
no_miniature = pytest.mark.skipif(not (SHIPPED / "model_index.json").is_file(), reason="no miniature yet")
SCHEDULERS = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "dpmpp_2m": DPMSolverMultistepScheduler}
PROMPTS, NEGATIVE = ["a large red star", "two blue fish"], ["a boat", ""]
# What the scheduler of Stable Diffusion 1.5 says (its scheduler_config.json); the spacing is left to the class.
STABLE_DIFFUSION_15 = {
    "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "beta_start": 0.00085, "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
    "trained_betas": None, "clip_sample": False,
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Return a function: name -> folder. "like 1.5" has the scheduler's settings of Stable Diffusion 1.5."""

    @cache
    def folder_of(name):
        if name == "miniature":
            return SHIPPED
        folder = make_tiny(tmp_path_factory.mktemp("tiny"), prediction_type="epsilon" if name == "like 1.5" else name)
        if name == "like 1.5":
            (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(STABLE_DIFFUSION_15), encoding="utf-8")
            index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
            index["scheduler"] = ["diffusers", "PNDMScheduler"]
            (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
        return folder

    return folder_of


@pytest.fixture(scope="session")
def models(folders):
    """Return a function: name -> (our parts, their pipeline)."""

    @cache
    def pair(name):
        folder = folders(name)
        pipe = StableDiffusionPipeline.from_pretrained(folder)
        assert pipe.text_encoder.dtype == pipe.unet.dtype == torch.float32
        return load_parts(None if name == "miniature" else folder), pipe

    return pair


@pytest.fixture
def tiny(models):
    return models("v_prediction")[0]


class CorrectedDDIM(DDIMScheduler):
    """diffusers' DDIM, told how far the next of its times is, in place of T // n (see test_samplers_against_diffusers)."""

    def step(self, model_output, timestep, sample, **kwargs):
        times = self.timesteps.tolist()
        following = [*times[1:], -1][times.index(int(timestep))]
        self.num_inference_steps = Fraction(self.config.num_train_timesteps, int(timestep) - following)
        return super().step(model_output, timestep, sample, **kwargs)


def seeded(seed=11):
    return torch.Generator().manual_seed(seed)


def pictures(parts, n=2, seed=3):
    """Scenes, not noise: for pictures unlike any in training the miniature amplifies rounding a hundredfold."""
    size = parts.latent_shape()[1] * parts.factor
    return render_scenes(sample_scenes(n, generator=seeded(seed)), size=size, generator=seeded(seed))


def box_mask(parts, n=2):
    mask = torch.zeros_like(pictures(parts, n)[:, :1])
    height, width = mask.shape[2:]
    mask[:, :, height // 4 : height // 4 * 3, width // 8 : width // 2] = 1
    return mask


def theirs(pipe, kind, sampler, scheduler=None, **settings):
    """A picture of diffusers' in [0, 1]: of the pipeline ``kind``, from the components of ``pipe``, with another scheduler."""
    scheduler = scheduler or SCHEDULERS[sampler].from_config(pipe.scheduler.config)
    other = kind(**{**pipe.components, "scheduler": scheduler}, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    channels = pipe.unet.config.in_channels
    if kind is StableDiffusionInpaintPipeline:  # it refuses other than 4 or 9 channels, and reads the number nowhere else
        pipe.unet.register_to_config(in_channels=4)
    try:
        return other(output_type="pt", **settings).images
    finally:
        pipe.unet.register_to_config(in_channels=channels)


def scheduler_for(pipe, sampler, spacing=None):
    kind = CorrectedDDIM if sampler == "ddim" and spacing != "leading" else SCHEDULERS[sampler]
    return kind.from_config(pipe.scheduler.config, **({} if spacing is None else {"timestep_spacing": spacing}))


def shown(pictures):
    return pictures / 2 + 0.5


MODELS = ["epsilon", "v_prediction"]
CHAINS = [
    pytest.param(
        model, sampler, spacing, n, id=f"{model}-{sampler}-{spacing}-{n}", marks=no_miniature if model == "miniature" else ()
    )
    for model in (*MODELS, "miniature")
    for sampler in SCHEDULERS
    for spacing in ("leading", "trailing", "linspace")
    for n in (7, 20)  # 7 does not divide 1000
    if model != "miniature" or (spacing, n) == ("trailing", 20)  # its own spacing; the rest would take a minute
]


@pytest.mark.in_parts
@pytest.mark.parametrize(("model", "sampler", "spacing", "n"), CHAINS)
def test_the_four_tasks_equal_diffusers_pipelines(models, model, sampler, spacing, n):
    parts, pipe = models(model)
    images, mask, size = pictures(parts), box_mask(parts), dict(zip(("height", "width"), pictures(parts).shape[2:], strict=True))
    # The miniature at its own scale, with what its pictures show: elsewhere its pictures break down and a chain multiplies rounding.
    trained = model == "miniature"
    prompts = captions(sample_scenes(2, generator=seeded(3)), generator=seeded(3)) if trained else PROMPTS
    shared = {"guidance_scale": 3.0 if trained else 7.5, "num_inference_steps": n}
    ours = {**shared, "sampler": sampler, "spacing": spacing}

    def expected(kind, **more):
        return theirs(
            pipe, kind, sampler, scheduler_for(pipe, sampler, spacing), prompt=prompts, generator=seeded(), **shared, **more
        )

    plain = text_to_image(parts, prompts, generator=seeded(), **ours)
    assert_near(shown(plain), expected(StableDiffusionPipeline), TOLERANCE)
    negative = text_to_image(parts, prompts, generator=seeded(), negative_prompt=NEGATIVE, **ours)
    assert_near(shown(negative), expected(StableDiffusionPipeline, negative_prompt=NEGATIVE), TOLERANCE)
    redrawn = image_to_image(parts, images, prompts, strength=0.6, generator=seeded(), **ours)
    assert_near(shown(redrawn), expected(StableDiffusionImg2ImgPipeline, image=shown(images), strength=0.6), TOLERANCE)
    for strength in (1.0, 0.7):
        filled = inpaint(parts, images, mask, prompts, strength=strength, generator=seeded(), **ours)
        assert_near(
            shown(filled),
            expected(StableDiffusionInpaintPipeline, image=shown(images), mask_image=mask, strength=strength, **size),
            TOLERANCE,
        )
    assert gap(plain[:1], negative[:1]) > 1e-3
    assert gap(plain, redrawn) > 0.01
    assert gap(filled, redrawn) > 0.01


@pytest.mark.parametrize(("spacing", "n"), [("trailing", 7), ("linspace", 20)])
def test_ddim_needs_the_correction_only_where_diffusers_misses_its_own_next_time(models, spacing, n):
    parts, pipe = models("v_prediction")
    plain = DDIMScheduler.from_config(pipe.scheduler.config, timestep_spacing=spacing)
    expected = theirs(pipe, StableDiffusionPipeline, "ddim", plain, prompt=PROMPTS, generator=seeded(), num_inference_steps=n)
    ours = text_to_image(
        parts, PROMPTS, guidance_scale=7.5, generator=seeded(), num_inference_steps=n, sampler="ddim", spacing=spacing
    )
    assert gap(shown(ours), expected) > 1e-3, "diffusers' DDIM now goes to the next of its times: delete CorrectedDDIM"


@pytest.mark.parametrize("sampler", SCHEDULERS)
@pytest.mark.parametrize("n", [7, 20])
def test_a_folder_without_a_spacing_follows_each_schedulers_default(models, sampler, n):
    """Stable Diffusion 1.5: "leading" from 951 + 1 on for DDIM, ending at abar_0, "linspace" for the others."""
    parts, pipe = models("like 1.5")
    assert (parts.spacing, parts.steps_offset, parts.ends_clean) == (None, 1, False)
    settings = {"guidance_scale": 7.5, "num_inference_steps": n}
    expected = theirs(pipe, StableDiffusionPipeline, sampler, prompt=PROMPTS, generator=seeded(), **settings)
    assert_near(shown(text_to_image(parts, PROMPTS, sampler=sampler, generator=seeded(), **settings)), expected, TOLERANCE)
    mask, images = box_mask(parts), pictures(parts)
    expected = theirs(pipe, StableDiffusionInpaintPipeline, sampler, prompt=PROMPTS, image=shown(images), mask_image=mask,
                      height=32, width=32, generator=seeded(), **settings)
    assert_near(
        shown(inpaint(parts, images, mask, PROMPTS, sampler=sampler, generator=seeded(), **settings)), expected, TOLERANCE
    )
    levels = latent_levels(parts, n, sampler)
    assert len(levels) == n + 1
    assert (levels[-1] == CLEAN) == (sampler != "ddim")
    if sampler == "ddim":
        assert levels[-1] == Level(None, parts.schedule.alphas_cumprod[0].item())
        assert levels[0].t == 1000 // n * (n - 1) + 1


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_noise_in_every_step_comes_from_the_same_generator(models, eta):
    parts, pipe = models("v_prediction")
    settings = {"num_inference_steps": 20, "generator": seeded(), "eta": eta}
    expected = theirs(pipe, StableDiffusionPipeline, "ddim", prompt=PROMPTS, guidance_scale=4.0, **settings)
    ours = text_to_image(parts, PROMPTS, sampler="ddim", **settings | {"generator": seeded()})
    assert_near(shown(ours), expected, TOLERANCE)
    assert gap(ours, text_to_image(parts, PROMPTS, sampler="ddim", generator=seeded())) > 0.01


@pytest.mark.parametrize("sampler", SCHEDULERS)
def test_given_latents_other_sizes_and_rescaled_guidance(models, sampler):
    parts, pipe = models("v_prediction")
    latents = normal(2, 4, 6, 10, dtype=torch.float32)
    settings = {"num_inference_steps": 8, "guidance_scale": 12.0}
    expected = theirs(pipe, StableDiffusionPipeline, sampler, prompt=PROMPTS, latents=latents.clone(), height=24, width=40,
                      guidance_rescale=0.7, **settings)
    ours = text_to_image(parts, PROMPTS, latents=latents, sampler=sampler, rescale=0.7, **settings)
    assert_near(shown(ours), expected, TOLERANCE)
    drawn = text_to_image(parts, PROMPTS, height=24, width=40, sampler=sampler, generator=seeded())
    assert drawn.shape == (2, 3, 24, 40)


def test_scales_up_to_one(models):
    """At 1 both draw what the prompt says. Below, diffusers leaves guidance out; here 0 leaves the prompt out."""
    parts, pipe = models("v_prediction")
    settings = {"num_inference_steps": 8, "latents": normal(2, 4, 8, 8, dtype=torch.float32)}

    def both(scale, prompts=PROMPTS):
        expected = theirs(pipe, StableDiffusionPipeline, "ddim", prompt=prompts, guidance_scale=scale, **settings)
        return shown(text_to_image(parts, prompts, guidance_scale=scale, sampler="ddim", **settings)), expected

    (ours, expected), (at_zero, theirs_at_zero), (wordless, _) = both(1.0), both(0.0), both(1.0, ["", ""])
    assert_near(ours, expected, TOLERANCE)
    assert_near(theirs_at_zero, expected, 0)
    assert_near(at_zero, wordless, TOLERANCE)
    assert gap(ours, at_zero) > 1e-3


def test_prompts_are_encoded_as_diffusers_encodes_them(models):
    parts, pipe = models("v_prediction")
    texts = ["a red star", "", "星 🌟 é", "xyzzy!!! 3.14", "it's   A\tSTAR\n", "Звезда", "🧑‍🚀"]
    found = encode_prompt(parts, texts)
    expected, _ = pipe.encode_prompt(texts, "cpu", 1, False)
    assert found.shape == (7, 16, 24)
    assert_near(found, expected, 0)
    assert_near(encode_prompt(parts, texts[0]), found[:1], 1e-6)


@pytest.mark.parametrize("prompt", ["word " * 1000, "a red star " + "星" * 50])
def test_a_prompt_that_is_too_long_is_cut_with_one_warning(models, prompt, recwarn):
    parts, pipe = models("v_prediction")
    with pytest.warns(UserWarning, match=r"^1 of 2 prompts have more than the 14 tokens that the model reads. Unread: '") as seen:
        found = encode_prompt(parts, ["a boat", prompt])
    assert len(seen) == 1
    assert len(str(seen[0].message)) < 200
    expected, _ = pipe.encode_prompt(["a boat", prompt], "cpu", 1, False)
    assert_near(found, expected, 0)


# --- what a call may and may not do ------------------------------------------------------------------------------------------


def counted(parts):
    """The parts with a unet that notes (batch, time) of every call."""
    calls = []

    class Spy(torch.nn.Module):
        config = parts.unet.config

        def __init__(self):
            super().__init__()
            self.inner = parts.unet

        def forward(self, xt, t, **kwargs):
            calls.append((len(xt), t[0].item(), kwargs["encoder_hidden_states"].clone()))
            return self.inner(xt, t, **kwargs)

    fields = {name: getattr(parts, name) for name in LatentParts.__dataclass_fields__}
    return LatentParts(**{**fields, "unet": Spy()}), calls


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "heun"])
def test_guidance_acts_at_every_step_and_away_from_the_negative_prompt(tiny, sampler):
    spied, calls = counted(tiny)
    text_to_image(spied, PROMPTS, num_inference_steps=7, sampler=sampler, negative_prompt=NEGATIVE, generator=seeded())
    assert [size for size, _, _ in calls] == [4] * 7
    times = [time for _, time, _ in calls]
    assert times == sorted(times, reverse=True)
    assert len(set(times)) == 7
    words = torch.cat([encode_prompt(tiny, NEGATIVE), encode_prompt(tiny, PROMPTS)])
    assert all(torch.equal(told, words) for _, _, told in calls)
    calls.clear()
    text_to_image(spied, PROMPTS, num_inference_steps=7, sampler=sampler, guidance_scale=1.0, generator=seeded())
    assert [size for size, _, _ in calls] == [2] * 7


@pytest.mark.parametrize(("strength", "steps"), [(1.0, 20), (0.6, 12), (0.58, 11), (0.05, 1)])
def test_strength_is_the_share_of_the_steps(tiny, strength, steps):
    spied, calls = counted(tiny)
    image_to_image(spied, pictures(tiny), PROMPTS, strength=strength, generator=seeded())
    times = [level.t for level in latent_levels(tiny, 20, "dpmpp_2m")[:-1]]
    assert [time for _, time, _ in calls] == times[20 - steps :]


def every_task(parts, generator, **more):
    images, mask = pictures(parts), box_mask(parts)
    yield text_to_image(parts, PROMPTS, generator=generator(), num_inference_steps=4, **more)
    yield image_to_image(parts, images, PROMPTS, generator=generator(), num_inference_steps=4, **more)
    yield inpaint(parts, images, mask, PROMPTS, generator=generator(), num_inference_steps=4, **more)


def test_the_generator_alone_decides(tiny):
    runs = []
    for seed in (11, 11, 12):
        torch.manual_seed(len(runs))
        runs.append(list(every_task(tiny, lambda seed=seed: seeded(seed))))
    for first, again, other in zip(*runs, strict=True):
        assert torch.equal(first, again)
        assert gap(first, other) > 0.01
        assert first.dtype == torch.float32
        assert first.abs().max() <= 1
        assert not first.requires_grad


def test_no_input_is_changed(tiny):
    images, mask, latents = pictures(tiny), box_mask(tiny), normal(2, 4, 8, 8, dtype=torch.float32)
    weights = {name: p.clone() for name, p in tiny.unet.named_parameters()}
    unchanged(image_to_image, tiny, images, PROMPTS, num_inference_steps=3)
    unchanged(inpaint, tiny, images, mask, PROMPTS, num_inference_steps=3)
    before, prompts = latents.clone(), list(PROMPTS)
    text_to_image(tiny, prompts, latents=latents, num_inference_steps=3, sampler="euler", negative_prompt=NEGATIVE)
    assert torch.equal(latents, before)
    assert prompts == PROMPTS
    assert all(torch.equal(p, weights[name]) and p.grad is None for name, p in tiny.unet.named_parameters())


def test_encoded_prompts_one_prompt_for_all_and_none(tiny):
    latents = normal(2, 4, 8, 8, dtype=torch.float32)
    settings = {"latents": latents, "num_inference_steps": 4}
    plain = text_to_image(tiny, PROMPTS, negative_prompt="a boat", **settings)
    encoded = text_to_image(tiny, encode_prompt(tiny, PROMPTS), negative_prompt=encode_prompt(tiny, "a boat"), **settings)
    assert_near(plain, encoded, 0)
    assert_near(text_to_image(tiny, "a fish", **settings), text_to_image(tiny, ["a fish"] * 2, **settings), TOLERANCE)
    one = text_to_image(tiny, PROMPTS, latents=latents[:1], num_inference_steps=4)
    assert_near(one, text_to_image(tiny, PROMPTS, latents=latents[:1].repeat(2, 1, 1, 1), num_inference_steps=4), 0)
    assert_near(text_to_image(tiny, PROMPTS, negative_prompt=None, **settings), text_to_image(tiny, PROMPTS, **settings), 0)


def test_one_picture_for_many_prompts_and_one_prompt_for_many_pictures(tiny):
    images, mask = pictures(tiny), box_mask(tiny)
    many = image_to_image(tiny, images, "a fish", num_inference_steps=4, generator=seeded())
    assert_near(many, image_to_image(tiny, images, ["a fish"] * 2, num_inference_steps=4, generator=seeded()), TOLERANCE)
    assert image_to_image(tiny, images[:1], PROMPTS, num_inference_steps=4).shape == (2, 3, 32, 32)
    flat = inpaint(tiny, images, mask[0, 0] > 0, PROMPTS, num_inference_steps=4, generator=seeded())
    assert_near(flat, inpaint(tiny, images, mask, PROMPTS, num_inference_steps=4, generator=seeded()), 0)
    assert inpaint(tiny, images[:1], mask, "a fish", num_inference_steps=4).shape == (2, 3, 32, 32)


def test_every_step_can_be_looked_at(tiny):
    seen = []
    result = text_to_image(tiny, PROMPTS, generator=seeded(), num_inference_steps=5, callback=seen.append)
    assert [(state.step, state.num_steps) for state in seen] == [(i, 5) for i in range(1, 6)]
    assert_near(decode_latents(tiny, seen[-1].x), result, 0)
    assert_near(seen[-1].x, seen[-1].x0_pred, TOLERANCE)
    assert all(decode_latents(tiny, state.x0_pred).shape == (2, 3, 32, 32) for state in seen)
    start = torch.randn(2, 4, 8, 8, generator=seeded())
    *_, last = sample_latents(tiny, PROMPTS, start, latent_levels(tiny, 5, "dpmpp_2m"))
    assert_near(last.x, seen[-1].x, 0)


def test_inpainting_keeps_the_latents_outside_the_mask(tiny):
    images, mask, seen = pictures(tiny), box_mask(tiny), []
    inpaint(tiny, images, mask, PROMPTS, num_inference_steps=5, callback=seen.append)
    inside = torch.nn.functional.interpolate(mask, scale_factor=0.25).bool().expand(-1, 4, -1, -1)
    known = encode_images(tiny, images)
    assert torch.equal(seen[-1].x[~inside], known[~inside])
    assert ((seen[-1].x - known)[inside].abs() > 0.01).double().mean() > 0.9
    noises, levels = [], latent_levels(tiny, 5, "dpmpp_2m")
    for state, level in zip(seen[:-1], levels[1:], strict=False):
        noises.append((state.x - math.sqrt(level.alpha_bar) * known)[~inside] / math.sqrt(1 - level.alpha_bar))
    assert all(gap(noise, noises[0]) < 1e-4 for noise in noises)
    assert 0.8 < noises[0].std() < 1.2


def test_latents_are_scaled_once_on_the_way_in_and_once_on_the_way_out(tiny):
    images = pictures(tiny)
    with torch.no_grad():
        gaussian = tiny.vae.encode(images).latent_dist
        assert_near(encode_images(tiny, images), 0.7 * gaussian.mean, 1e-6)
        assert_near(encode_images(tiny, images, generator=seeded()), 0.7 * gaussian.sample(seeded()), 1e-6)
        raw = tiny.vae.decode(gaussian.mean).sample.clamp(-1, 1)
    assert_near(decode_latents(tiny, 0.7 * gaussian.mean), raw, TOLERANCE)


def test_slerp_walks_on_the_arc():
    a, b = normal(1, 4, 16, 16, seed=1), normal(1, 4, 16, 16, seed=2)
    weights = torch.linspace(0, 1, 9)
    path = slerp(a, b, weights)
    assert path.shape == (9, 4, 16, 16)
    assert_near(path[:1], a)
    assert_near(path[-1:], b, 1e-6)
    lengths = path.flatten(1).norm(dim=1)
    assert lengths.min() > 0.95 * min(a.norm(), b.norm())
    turns = torch.nn.functional.cosine_similarity(path[1:].flatten(1), path[:-1].flatten(1)).acos()
    assert turns.std() < 0.02 * turns.mean()  # equal steps of the angle, up to the different lengths of a and b
    unit = [x / x.norm() for x in (a, b)]
    assert_near(slerp(*unit, 0.3).norm(), torch.ones((), dtype=torch.float64))
    assert_near(slerp(a, a, 0.3), a)
    assert_near(slerp(a, 1.0001 * a, 0.5), 1.00005 * a)
    assert torch.isfinite(slerp(a, -a, 0.5)).all()
    assert torch.isfinite(slerp(0 * a, b, 0.5)).all()
    assert slerp(a.float(), b.float(), 0.5).dtype == torch.float32
    assert_near(
        slerp(a.repeat(2, 1, 1, 1), b.repeat(2, 1, 1, 1), torch.tensor([0.25, 0.5])), slerp(a, b, torch.tensor([0.25, 0.5]))
    )


# --- what it refuses ---------------------------------------------------------------------------------------------------------

BAD_CALLS = [
    (lambda p, i, m: inpaint(p, i[:1], m, ["a", "b", "c"]), ValueError, r"mask must be one for all 3 pictures or one for each of them, got 2 \(prompts: 3, images: 1, mask: 2\)"),
    (lambda p, i, m: inpaint(p, i, (m * 255).to(torch.uint8), "a"), ValueError, r"mask must lie in \[0, 1\], got values from 0 to 255. From 0..255: mask / 255"),
    (lambda p, i, m: inpaint(p, i, Image.new("L", (32, 32)), "a"), TypeError, r"mask must be a tensor.*to_tensor\(mask.convert\('L'\)\)"),
    (lambda p, i, m: image_to_image(p, Image.new("RGB", (32, 32)), "a"), TypeError, r"images must be .*to_tensor\(picture\)\[None\] \* 2 - 1"),
    (lambda p, i, m: image_to_image(p, i.mul(100).to(torch.uint8), "a"), TypeError, r"images must be floating in \[-1, 1\], got .*uint8.*images / 127.5 - 1"),
    (lambda p, i, m: image_to_image(p, i.to("meta"), "a"), ValueError, r"images is on meta and parts.vae on cpu.*images.to\(parts.vae.device\)"),
    (lambda p, i, m: text_to_image(p, "a", generator=0), TypeError, r"generator must be a torch.Generator or None, got int 0. Make one: make_generator\(0\)"),
    (lambda p, i, m: text_to_image(p, ["a", "b"], generator=[seeded(), seeded()]), TypeError, r"generator must be a torch.Generator or None, got list"),
    (lambda p, i, m: encode_images(p, i, generator=3), TypeError, r"generator must be a torch.Generator or None, got int 3"),
    (lambda p, i, m: text_to_image(p, "a", negative_prompt=[]), ValueError, r"negative_prompt must hold at least one text, got an empty list"),
    (lambda p, i, m: text_to_image(p, "a", negative_prompt=3), TypeError, r"negative_prompt must be a text or a list of texts, got int 3"),
    (lambda p, i, m: text_to_image(p, torch.zeros(1, 16, 5)), ValueError, r"prompts: encoded prompts must have 24 channels, got shape \(1, 16, 5\)"),
    (lambda p, i, m: text_to_image(p, "a", sampler="ddim", eta=2.0), ValueError, r"eta must lie in \[0, 1\].*got 2.0"),
    (lambda p, i, m: text_to_image(p, "a", sampler="ddim", eta="x"), TypeError, r"eta must be a number, got str 'x'"),
    (lambda p, i, m: text_to_image(p, "a", callback=3), TypeError, r"callback must be something to call or None, got int 3"),
    (lambda p, i, m: text_to_image(None, "a"), TypeError, r"parts must be a LatentParts, got NoneType None. Load them: load_parts\(\)"),
    (lambda p, i, m: slerp(i, i, torch.tensor(0.5, device="meta")), TypeError, r"weight must hold real numbers, on the CPU or a's device, got shape \(\)"),
    (lambda p, i, m: decode_latents(overflowing(p), torch.zeros(1, 4, 8, 8)), ValueError, r"the pictures are not finite.*overflows in float16.*parts.vae.float\(\)"),
    (lambda p, i, m: text_to_image(p, []), ValueError, r"at least one text, got an empty list.*\[''\]"),
    (lambda p, i, m: text_to_image(p, None), TypeError, r"a text or a list of texts, got NoneType None"),
    (lambda p, i, m: text_to_image(p, ["a star", 3]), TypeError, r"a text or a list of texts, got list \['a star', 3\]"),
    (lambda p, i, m: text_to_image(p, torch.zeros(1, 16)), ValueError, r"prompts: encoded prompts must have shape \(B, L, D\), got shape \(1, 16\)"),
    (lambda p, i, m: text_to_image(p, ["a", "b"], negative_prompt=["x"] * 3), ValueError, r"negative_prompt must be one for all 2 pictures or one for each of them, got 3"),
    (lambda p, i, m: text_to_image(p, ["a", "b"], latents=torch.zeros(3, 4, 8, 8)), ValueError, r"prompts must be one for all 3 pictures.*got 2"),
    (lambda p, i, m: text_to_image(p, "a", latents=torch.zeros(1, 3, 8, 8)), ValueError, r"latents must have shape \(B, 4, h, w\), got shape \(1, 3, 8, 8\)"),
    (lambda p, i, m: text_to_image(p, "a", latents=torch.zeros(1, 4, 8, 8), height=32), ValueError, r"latents have the size of the picture: leave out height and width, got height=32 and width=None"),
    (lambda p, i, m: text_to_image(p, "a", latents=[0.0]), TypeError, r"latents must be a torch.Tensor or None, got list"),
    (lambda p, i, m: text_to_image(p, "a", height=30), ValueError, r"height must be a positive multiple of 4, the down-sampling, got 30. Use 28 or 32"),
    (lambda p, i, m: text_to_image(p, "a", width=2), ValueError, r"width must be a positive multiple of 4, the down-sampling, got 2. Use 4 or 8"),
    (lambda p, i, m: text_to_image(p, "a", width=-4), ValueError, r"width must be a positive multiple of 4.*got -4. Use 4 or 8"),
    (lambda p, i, m: text_to_image(p, "a", width=32.0), TypeError, r"width must be an int or None, got float 32.0"),
    (lambda p, i, m: text_to_image(p, "a", guidance_scale=math.inf), ValueError, r"guidance_scale must be a finite number, got inf"),
    (lambda p, i, m: text_to_image(p, "a", guidance_scale=math.nan), ValueError, r"guidance_scale must be a number, got float nan"),
    (lambda p, i, m: text_to_image(p, "a", guidance_scale="high"), TypeError, r"guidance_scale must be a number, got str 'high'"),
    (lambda p, i, m: text_to_image(p, "a", guidance_scale=1e30), ValueError, r"latents are not finite.*use a smaller guidance_scale, or float32"),
    (lambda p, i, m: text_to_image(p, "a", sampler="pndm"), ValueError, r"sampler must be one of 'ddpm', .*got 'pndm'"),
    (lambda p, i, m: text_to_image(p, "a", spacing="karras"), ValueError, r"spacing must be one of 'linspace', .*got 'karras'"),
    (lambda p, i, m: text_to_image(p, "a", num_inference_steps=0), ValueError, r"num_inference_steps must be at least 1, got 0"),
    (lambda p, i, m: text_to_image(p, "a", num_inference_steps=1001), ValueError, r"num_inference_steps must be at most T = .*1000.*got 1001"),
    (lambda p, i, m: text_to_image(p, "a", num_inference_steps=2.5), TypeError, r"num_inference_steps must be an int, got float 2.5"),
    (lambda p, i, m: image_to_image(p, i, "a", strength=1.1), ValueError, r"strength must be a number in \[0, 1\], the share of the steps to take, got float 1.1"),
    (lambda p, i, m: image_to_image(p, i, "a", strength=-0.1), ValueError, r"strength must be a number in \[0, 1\].*got float -0.1"),
    (lambda p, i, m: image_to_image(p, i, "a", strength=math.nan), ValueError, r"strength must be a number in \[0, 1\].*got float nan"),
    (lambda p, i, m: image_to_image(p, i, "a", strength="weak"), ValueError, r"strength must be a number in \[0, 1\].*got str 'weak'"),
    (lambda p, i, m: image_to_image(p, i, "a", strength=0.04), ValueError, r"strength leaves no step of 20, got 0.04. The least is 0.05; or take more steps"),
    (lambda p, i, m: image_to_image(p, i, "a", strength=0), ValueError, r"strength leaves no step of 20, got 0. The least is 0.05"),
    (lambda p, i, m: image_to_image(p, i * 127.5, "a"), ValueError, r"images must lie in \[-1, 1\], got values from .*images / 127.5 - 1"),
    (lambda p, i, m: image_to_image(p, i[:, :1], "a"), ValueError, r"images must have 3 channels, got shape \(2, 1, 32, 32\)"),
    (lambda p, i, m: image_to_image(p, i[0], "a"), ValueError, r"images must have shape \(B, C, H, W\), got shape \(3, 32, 32\)"),
    (lambda p, i, m: image_to_image(p, i[..., :30], "a"), ValueError, r"width must be a positive multiple of 4, the down-sampling, got 30"),
    (lambda p, i, m: image_to_image(p, "photo.png", "a"), TypeError, r"images must be a torch.Tensor \(B, C, H, W\) in \[-1, 1\], got str 'photo.png'"),
    (lambda p, i, m: image_to_image(p, i * math.nan, "a"), ValueError, r"images holds 6144 values that are not finite"),
    (lambda p, i, m: image_to_image(p, i, ["a", "b", "c"]), ValueError, r"images must be one for all 3 pictures or one for each of them, got 2 \(prompts: 3, images: 2\)"),
    (lambda p, i, m: inpaint(p, i, m[:, :, :16], "a"), ValueError, r"mask must have the images' height 32 and width 32: shape \(H, W\), \(B, H, W\) or \(B, 1, H, W\), got shape \(2, 1, 16, 32\)"),
    (lambda p, i, m: inpaint(p, i, m.repeat(1, 3, 1, 1), "a"), ValueError, r"mask must have one channel, shape \(B, 1, H, W\), got shape \(2, 3, 32, 32\)"),
    (lambda p, i, m: inpaint(p, i, m.repeat(2, 1, 1, 1), "a"), ValueError, r"mask must be one for all 2 images or one for each of them, got 4 masks: shape \(4, 1, 32, 32\)"),
    (lambda p, i, m: inpaint(p, i, m * 255, "a"), ValueError, r"mask must lie in \[0, 1\], got values from 0 to 255. From 0..255: mask / 255."),
    (lambda p, i, m: inpaint(p, i, m * math.nan, "a"), ValueError, r"mask must lie in \[0, 1\]"),
    (lambda p, i, m: inpaint(p, i, m.long(), "a"), TypeError, r"mask must be a tensor, bool or floating in \[0, 1\], 1 where to repaint, got .*int64"),
    (lambda p, i, m: inpaint(p, i, None, "a"), TypeError, r"mask must be a tensor.*got NoneType None"),
    (lambda p, i, m: inpaint(p, i, one_pixel(m), "a"), ValueError, r"no latent is repainted: of 4 x 4 pixels the mask's first decides. Make the mask 4 pixels wide"),
    (lambda p, i, m: decode_latents(p, torch.full((1, 4, 8, 8), math.inf)), ValueError, r"latents are not finite"),
    (lambda p, i, m: decode_latents(p, torch.zeros(4, 8, 8)), ValueError, r"latents must have shape \(B, 4, h, w\)"),
    (lambda p, i, m: slerp(i, i[:1], 0.5), ValueError, r"b must have the shape of a"),
    (lambda p, i, m: slerp(i, i, 1.5), ValueError, r"weight must be in \[0, 1\], a number or one for each of 2 samples, got float 1.5"),
    (lambda p, i, m: slerp(i, i, torch.tensor([0.1, 0.2, 0.3])), ValueError, r"weight must be in \[0, 1\].*got shape \(3,\)"),
]


UNKNOWN = [
    (lambda p, i, m: text_to_image(p, "a", guidance=3.0), "text_to_image has no setting 'guidance'; it has latents, height, width, negative_prompt, guidance_scale,"),
    (lambda p, i, m: image_to_image(p, i, "a", latents=i), "image_to_image has no setting 'latents'; it has strength, .*, callback, eta, variance_type"),
    (lambda p, i, m: inpaint(p, i, m, "a", drawing=1), "inpaint has no setting 'drawing'"),
    (lambda p, i, m: text_to_image(p, "a", sampler=lambda denoise, xt, move: None, eta=1.0), "no setting 'eta'; it has .*callback.$"),
]


@pytest.mark.parametrize(("call", "message"), UNKNOWN, ids=[message[:30] for _, message in UNKNOWN])
def test_an_unknown_setting_is_named_beside_those_that_there_are(tiny, call, message):
    with pytest.raises(TypeError, match=message):
        call(tiny, pictures(tiny), box_mask(tiny))


@pytest.mark.parametrize("task", [text_to_image, image_to_image, inpaint])
def test_a_task_shows_its_settings_and_can_be_pickled(task):
    shown = inspect.signature(task).parameters
    assert {"parts", "prompts", "guidance_scale", "sampler", "generator", "callback", "options"} <= set(shown) and "drawing" not in shown
    assert shown["num_inference_steps"].default == 20 and shown["sampler"].default == "dpmpp_2m"
    assert shown["generator"].annotation == torch.Generator | None and pickle.loads(pickle.dumps(task)) is task


def test_a_step_of_ones_own_gets_its_options(tiny):
    seen = []

    def step(*args, mine=0, **kwargs):
        seen.append(mine)
        return SAMPLERS["ddim"](*args, **kwargs)

    picture = inpaint(tiny, pictures(tiny), box_mask(tiny), PROMPTS, sampler=step, mine=7, num_inference_steps=3, generator=seeded())
    plain = inpaint(tiny, pictures(tiny), box_mask(tiny), PROMPTS, sampler="ddim", num_inference_steps=3, generator=seeded())
    assert seen == [7] * 3 and torch.equal(picture, plain)


def overflowing(parts):
    """The parts with a decoder in half precision that adds more than it can hold."""
    vae = copy.deepcopy(parts.vae).half()
    vae.decoder.conv_in.bias.data.fill_(60000)
    vae.decoder.conv_in.weight.data.fill_(60000)
    vae.post_quant_conv.bias.data.fill_(60000)
    return dataclasses.replace(parts, vae=vae)


def test_the_advice_for_pictures_and_masks_works(tiny):
    """What the messages say, done with a PIL picture, and a mask in each shape that is allowed."""
    from torchvision.transforms.functional import to_tensor

    picture = Image.new("RGB", (32, 32), (255, 0, 128))
    images = to_tensor(picture)[None] * 2 - 1
    settings = {"num_inference_steps": 2}
    assert image_to_image(tiny, images, "a", **settings).shape == (1, 3, 32, 32)
    mask = to_tensor(Image.new("L", (32, 32), 255))
    whole = [inpaint(tiny, images, one, "a", generator=seeded(), **settings)
             for one in (mask, mask[0], mask[None], mask.bool(), mask.to(torch.uint8), mask.half(), mask.double())]
    assert all(torch.equal(one, whole[0]) for one in whole)


def test_numpys_numbers_are_numbers(tiny):
    wanted = image_to_image(tiny, pictures(tiny), "a", num_inference_steps=4, strength=0.5, guidance_scale=3.0, generator=seeded())
    found = image_to_image(tiny, pictures(tiny), "a", num_inference_steps=np.int64(4), strength=np.float32(0.5),
                           guidance_scale=np.float32(3), generator=seeded())
    assert torch.equal(found, wanted)
    assert text_to_image(tiny, "a", height=np.int64(24), width=np.int32(40), num_inference_steps=1).shape == (1, 3, 24, 40)


DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@pytest.mark.parametrize("of_words", DTYPES)
@pytest.mark.parametrize("of_vae", DTYPES)
@pytest.mark.parametrize("of_unet", DTYPES)
def test_each_part_is_fed_in_its_own_dtype(tiny, of_unet, of_vae, of_words):
    parts = dataclasses.replace(
        tiny, unet=copy.deepcopy(tiny.unet).to(of_unet), vae=copy.deepcopy(tiny.vae).to(of_vae),
        text_encoder=copy.deepcopy(tiny.text_encoder).to(of_words),
    )
    words, images = encode_prompt(parts, "a boat"), pictures(parts)[:1]
    assert words.dtype == of_unet == parts.dtype
    assert encode_images(parts, images).dtype == torch.float32 == parts.latent_dtype
    assert encode_images(parts, images.to(of_words), generator=seeded()).dtype == torch.float32
    assert ("vae" in repr(parts)) == (len({of_unet, of_vae, of_words}) > 1)
    settings = {"num_inference_steps": 2, "sampler": "ddim"}
    found = (
        text_to_image(parts, "a boat", generator=seeded(), **settings),
        image_to_image(parts, images, words.float(), generator=seeded(), **settings),
        inpaint(parts, images, torch.ones(32, 32), "a boat", generator=seeded(), **settings),
    )
    wanted = (
        text_to_image(tiny, "a boat", generator=seeded(), **settings),
        image_to_image(tiny, images, "a boat", generator=seeded(), **settings),
        inpaint(tiny, images, torch.ones(32, 32), "a boat", generator=seeded(), **settings),
    )
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == torch.float32
        assert gap(one, other) < 0.2


@pytest.mark.parametrize("setting", ["dtype", "device"])
def test_a_default_dtype_or_device_changes_no_picture(tiny, folders, setting):
    images, mask = pictures(tiny), box_mask(tiny)

    def all_tasks(parts):
        settings = {"num_inference_steps": 2}
        yield text_to_image(parts, PROMPTS, generator=seeded(), **settings)
        yield image_to_image(parts, images, PROMPTS, generator=seeded(), sampler="euler", **settings)
        yield inpaint(parts, images, mask, PROMPTS, generator=seeded(), sampler="heun", **settings)
        yield slerp(images, images.flip(0), 0.3)
        yield load_parts(folders("v_prediction")).schedule.alphas_cumprod

    wanted = list(all_tasks(tiny))
    try:
        torch.set_default_dtype(torch.float64) if setting == "dtype" else torch.set_default_device("meta")
        found = list(all_tasks(tiny))
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        assert one.device == other.device
        assert torch.equal(one, other)


def one_pixel(mask):
    mask = torch.zeros_like(mask)
    mask[..., 5, 6] = 1
    return mask


@pytest.mark.parametrize(("call", "error", "message"), BAD_CALLS, ids=[message[:40] for _, _, message in BAD_CALLS])
def test_hostile_calls_say_what_was_passed_and_what_to_do(tiny, call, error, message):
    with pytest.raises(error, match=message):
        call(tiny, pictures(tiny), box_mask(tiny))


@pytest.mark.parametrize("n", [1, 3, 20, 49, 50, 999])
def test_the_least_strength_that_the_message_names_is_enough(tiny, n):
    with pytest.raises(ValueError, match="leaves no step") as error:
        latent_levels(tiny, n, "ddim", strength=0.5 / n)
    least = float(str(error.value).split("The least is ")[1].split(";")[0])
    assert len(latent_levels(tiny, n, "ddim", strength=least)) == 2


@pytest.mark.parametrize("guidance_scale", [0.0, -3.0, 1e4])
def test_any_finite_scale_that_does_not_overflow_draws_something(tiny, guidance_scale):
    picture = text_to_image(tiny, PROMPTS, guidance_scale=guidance_scale, generator=seeded())
    assert torch.isfinite(picture).all()
    assert picture.abs().max() <= 1


# --- the folder --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(folders, tmp_path):
    """A copy of the tiny model to spoil."""
    return shutil.copytree(folders("v_prediction"), tmp_path / "model")


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def spoil(path):
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)


def weights_of(folder, part):
    return next((folder / part).glob("*.safetensors"))


def test_what_the_parts_say_of_themselves(tiny):
    assert (tiny.device, tiny.dtype, tiny.factor, tiny.latent_shape(), tiny.latent_shape(24, 40)) == (
        torch.device("cpu"), torch.float32, 4, (4, 8, 8), (4, 6, 10))
    assert (tiny.prediction_type, tiny.spacing, tiny.steps_offset, tiny.ends_clean) == ("v_prediction", "trailing", 1, True)
    assert repr(tiny) == "LatentParts(latents (4, 8, 8), 322,883 weights, v_prediction, float32 on cpu)"
    assert not any(getattr(tiny, part).training for part in NETWORKS)


def test_half_precision_files_become_what_is_asked_for(tmp_path):
    half = make_tiny(tmp_path, dtype=torch.float16)
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        parts = load_parts(half, dtype=dtype)
        assert {p.dtype for part in NETWORKS for p in getattr(parts, part).parameters()} == {dtype}
        pictures = text_to_image(parts, PROMPTS, generator=seeded(), num_inference_steps=3)
        assert pictures.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        if dtype == torch.float32:
            expected = pictures
        assert_near(pictures, expected, 1e-4 if dtype == torch.float64 else 0.1)
    assert parts.to(dtype=torch.float32) is parts
    assert parts.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.int64, "float16", None])
def test_a_dtype_that_is_none(folder, dtype):
    with pytest.raises(TypeError, match="dtype must be a floating torch.dtype such as torch.float16, got"):
        load_parts(folder, dtype=dtype)


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [("no/such/folder", FileNotFoundError, r"there is no folder no/such/folder.*load_stable_diffusion"),
     ("stable-diffusion-v1-5/stable-diffusion-v1-5", FileNotFoundError, r"For a name on the hub use load_stable_diffusion"),
     (3, TypeError, r"path must be that of a folder, or None for the miniature, got int 3")],
)
def test_no_folder(path, error, message):
    with pytest.raises(error, match=message):
        load_parts(path)


@pytest.mark.parametrize("part", [*NETWORKS, "tokenizer", "scheduler", "model_index.json"])
def test_a_folder_without_a_part_names_it(folder, part):
    gone = folder / part
    gone.unlink() if gone.is_file() else shutil.rmtree(gone)
    with pytest.raises(FileNotFoundError, match=rf"the model has no .*{part}.*Copy the folder again, whole"):
        load_parts(folder)


@pytest.mark.parametrize("part", NETWORKS)
def test_a_part_without_its_weights_or_with_half_of_them(folder, part):
    path = weights_of(folder, part)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=rf"the {part} in .*{part} cannot be loaded \(.*Copy the folder again"):
        load_parts(folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"the weights of the {part} are missing: no \*.safetensors in"):
        load_parts(folder)


@pytest.mark.parametrize("part", NETWORKS)
def test_weights_that_lack_a_tensor_are_not_filled_with_random_ones(folder, part):
    from safetensors.torch import load_file, save_file

    path = weights_of(folder, part)
    tensors = load_file(path)
    name = next(iter(tensors))
    del tensors[name]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"the weights of the {part} in .* lack 1 tensors, such as .*{name.rpartition('.')[2]}"):
        load_parts(folder)


def test_other_damage(folder):
    vocabulary = folder / "tokenizer" / "tokenizer.json"
    whole = vocabulary.read_text(encoding="utf-8")
    vocabulary.write_text(whole[: len(whole) // 2], encoding="utf-8")
    with pytest.raises(ValueError, match=r"the tokenizer in .* cannot be loaded"):
        load_parts(folder)
    vocabulary.write_text(whole, encoding="utf-8")
    for name in ("unet/config.json", "scheduler/scheduler_config.json", "model_index.json"):
        text = (folder / name).read_text(encoding="utf-8")
        (folder / name).write_text(text[:-5], encoding="utf-8")
        with pytest.raises(ValueError, match=rf"{name} is damaged"):
            load_parts(folder)
        (folder / name).write_text(text, encoding="utf-8")
    load_parts(folder)


def test_models_of_another_kind(folder, tmp_path):
    edit(folder / "model_index.json", text_encoder=["transformers", "T5EncoderModel"])
    with pytest.raises(
        ValueError, match=r"models whose text_encoder is CLIPTextModel; in .* it is \['transformers', 'T5EncoderModel'\]"
    ):
        load_parts(folder)
    edit(folder / "model_index.json", text_encoder=["transformers", "CLIPTextModel"])
    edit(folder / "scheduler" / "scheduler_config.json", beta_schedule=None)
    with pytest.raises(ValueError, match=r"beta_schedule must be one of 'linear', 'scaled_linear', 'squaredcos_cap_v2', 'sigmoid', got NoneType None"):
        load_parts(folder)
    edit(folder / "scheduler" / "scheduler_config.json", beta_schedule="linear", prediction_type="flow")
    with pytest.raises(ValueError, match=r"the scheduler in .*: prediction_type must be one of .*got str 'flow'"):
        load_parts(folder)


def test_an_inpainting_unet_is_refused(folder):
    from diffusers import UNet2DConditionModel

    config = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
    UNet2DConditionModel.from_config({**config, "in_channels": 9}).save_pretrained(folder / "unet")
    with pytest.raises(ValueError, match=r"the unet in .* reads 9 channels, the latents have 4"):
        load_parts(folder)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [("unet", {"num_class_embeds": 10}, "the unet in .* has num_class_embeds=10: this course's tasks do not feed that"),
     ("unet", {"time_cond_proj_dim": 8}, "time_cond_proj_dim=8"), ("unet", {"out_channels": 8}, "has out_channels=8, the latents 4: it predicts a variance"),
     ("unet", {"cross_attention_dim": 32}, "cross_attention_dim=32, the text_encoder hidden_size=24"),
     ("vae", {"shift_factor": 0.1}, "the vae in .* has shift_factor=0.1"), ("vae", {"latents_mean": [0.0] * 4}, "latents_mean=")],
)
def test_what_a_network_asks_for_and_is_not_given_is_refused_by_name(folder, part, change, message):
    import diffusers

    kind = getattr(diffusers, NETWORKS[part])
    config = json.loads((folder / part / "config.json").read_text(encoding="utf-8"))
    kind.from_config({**config, **change}).save_pretrained(folder / part)
    with pytest.raises(ValueError, match=message):
        load_parts(folder)


def test_a_tokenizer_with_more_words_than_the_text_encoder(folder):
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig.from_pretrained(folder / "text_encoder")
    config.vocab_size = 100
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    with pytest.raises(ValueError, match=r"has 538 tokens, the text_encoder 100"):
        load_parts(folder)


@pytest.mark.parametrize(
    "settings",
    [{"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}, {"beta_schedule": "squaredcos_cap_v2"},
     {"trained_betas": [0.1, 0.2, 0.3], "num_train_timesteps": 3}, {"rescale_betas_zero_snr": True},
     {"num_train_timesteps": 50}],
)
def test_the_schedule_is_the_schedulers(folder, settings):
    path = folder / "scheduler" / "scheduler_config.json"
    edit(path, **settings)
    parts = load_parts(folder)
    assert_near(parts.schedule.alphas_cumprod, DDIMScheduler.from_pretrained(path.parent).alphas_cumprod.double(), 1e-6)
    if parts.schedule.zero_terminal_snr:
        assert torch.isfinite(text_to_image(parts, "a", num_inference_steps=3, generator=seeded())).all()
        with pytest.raises(ValueError, match="euler works in sigma, which is infinite at alpha_bar = 0"):
            text_to_image(parts, "a", num_inference_steps=3, sampler="euler")


@pytest.fixture
def shipped(folders, tmp_path, monkeypatch):
    """A data folder that ships the tiny model as the miniature."""
    folder = shutil.copytree(folders("v_prediction"), tmp_path / "data" / MINIATURE)
    entries = {
        f"{MINIATURE}/{part}": {"file": str(weights_of(folder, part).relative_to(tmp_path / "data")), "sha256": sha256_of(weights_of(folder, part)),
                                "model": NETWORKS[part], "config": {}, "schedule": None, "made_by": {"command": "make train"}}
        for part in NETWORKS
    }
    (tmp_path / "data" / "manifest.json").write_text(json.dumps(entries), encoding="utf-8")
    monkeypatch.setenv("DIFFUSION_COURSE_DATA", str(tmp_path / "data"))
    return folder


def test_the_shipped_miniature_is_the_default(shipped, tiny):
    parts = load_parts()
    settings = {"num_inference_steps": 3, "latents": normal(2, 4, 8, 8, dtype=torch.float32)}
    assert_near(text_to_image(parts, PROMPTS, **settings), text_to_image(tiny, PROMPTS, **settings), 0)


@pytest.mark.parametrize("part", NETWORKS)
def test_one_changed_bit_in_shipped_weights_is_found(shipped, part):
    spoil(weights_of(shipped, part))
    with pytest.raises(ValueError, match=rf"{part}/.*safetensors is damaged or not the file that belongs here: its sha256 is"):
        load_parts()


@pytest.mark.parametrize("part", NETWORKS)
def test_missing_shipped_weights_and_entries(shipped, part):
    weights_of(shipped, part).unlink()
    with pytest.raises(FileNotFoundError, match=rf"the weights of the {part} are missing: .*git checkout data"):
        load_parts()
    (shipped.parent / "manifest.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"manifest.json has no entry {MINIATURE}/vae"):
        load_parts()
    shutil.rmtree(shipped)
    with pytest.raises(FileNotFoundError, match=rf"there is no folder .*{MINIATURE}. Restore it: git checkout data."):
        load_parts()


@no_miniature
def test_the_miniature_draws_in_a_hurry(models):
    parts, _ = models("miniature")
    pictures = text_to_image(parts, ["a large red star on a meadow"], num_inference_steps=4, generator=seeded())
    assert pictures.shape == (1, 3, 64, 64)
    assert pictures.std() > 0.1


# --- a real GPU --------------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_on_a_gpu_is_finite_and_close_to_float32(dtype):
    torch.manual_seed(0)
    parts = tiny_parts().to("cuda")
    wide = list(every_task_on(parts))
    for found, expected in zip(every_task_on(parts.to(dtype=dtype)), wide, strict=True):
        assert torch.isfinite(found).all()
        assert found.device.type == "cuda"
        assert (found - expected).abs().mean() < 0.02
        assert gap(found, expected) < 0.3


@pytest.mark.gpu
def test_a_gpu_draws_the_cpus_picture_from_a_cpu_generator():
    parts = tiny_parts()
    on_cpu = list(every_task_on(parts))
    for found, expected in zip(every_task_on(parts.to("cuda")), on_cpu, strict=True):
        assert_near(found.cpu(), expected, 1e-2)


def every_task_on(parts):
    images, mask = pictures(parts).to(parts.device), box_mask(parts).to(parts.device)
    settings = {"num_inference_steps": 8, "negative_prompt": NEGATIVE}
    yield text_to_image(parts, PROMPTS, generator=seeded(), **settings)
    yield image_to_image(parts, images, PROMPTS, generator=seeded(), **settings)
    yield inpaint(parts, images, mask, PROMPTS, generator=seeded(), **settings)


def test_the_schedule_of_the_tiny_model_is_stable_diffusions():
    assert_near(tiny_parts().schedule.alphas_cumprod, make_schedule("scaled_linear").alphas_cumprod, 0)


def test_options_of_a_step_of_your_own_may_be_keywords_or_not():
    def mine(denoise, xt, move, power=1.0, *, pull=0.5): ...

    def anything(denoise, xt, move, **options): ...

    assert step_options(mine) == {"power", "pull"}
    assert step_options(anything) is None
    assert step_options("ddim") == {"eta", "variance_type"}


def test_a_device_may_be_a_number_and_one_that_is_not_there_is_named(monkeypatch):
    parts = load_parts()
    seen = []
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, device, dtype: seen.append(device) or self)
    parts.to(device=0)
    assert seen == [0, 0, 0]
    load_parts.hold(dtype=torch.float32)
    for device in (97, -1, "cuda:97"):
        with pytest.raises(ValueError, match=f"device must be one of this machine, got {device!r}"):
            load_parts(device=device)
    with pytest.raises(TypeError, match="device must be .*, got bool True"):
        load_parts(device=True)


def few_steps(parts, prompts, **options):
    return text_to_image(parts, prompts, num_inference_steps=2, generator=torch.Generator().manual_seed(0), **options)


@pytest.mark.parametrize("name", ["prompts", "negative_prompt"])
def test_texts_may_be_a_list_or_an_array_and_no_set(name):
    parts = tiny_parts()

    def drawn(texts):
        return few_steps(parts, texts) if name == "prompts" else few_steps(parts, ["a", "b"], negative_prompt=texts)

    assert torch.equal(drawn(np.array(["red", "blue"])), drawn(["red", "blue"]))
    for texts in ({"red", "blue"}, frozenset({"red"})):
        with pytest.raises(TypeError, match=rf"{name} must be a text or a list of texts, got .*a set has no order"):
            drawn(texts)
    for texts in (np.array([["red"]]), np.array("red"), np.array([1, 2]), {"red": 1}):
        with pytest.raises(TypeError, match=f"{name} must be a text or a list of texts, got"):
            drawn(texts)
    with pytest.raises(TypeError, match="prompts must be a text or a list of texts, got set"):
        encode_prompt(parts, {"red", "blue"})


def test_half_a_character_is_refused_by_name():
    parts = tiny_parts()
    with pytest.raises(ValueError, match=r"prompts must be Unicode text, got half a character, '\\ud800' at place 2"):
        few_steps(parts, "a \ud800")
    with pytest.raises(ValueError, match="negative_prompt must be Unicode text"):
        few_steps(parts, "a", negative_prompt=["\udfff"])
    with pytest.raises(ValueError, match="prompts must be Unicode text"):
        encode_prompt(parts, ["a", "\udc00"])


def test_encoded_prompts_of_two_lengths_are_named():
    parts = tiny_parts()
    words = encode_prompt(parts, "a")
    for prompts, negative in ((words[:, :5], ""), ("a", words[:, :5])):
        with pytest.raises(ValueError, match="prompts and negative_prompt must have as many tokens L, got shape"):
            few_steps(parts, prompts, negative_prompt=negative)
    assert few_steps(parts, words[:, :5], negative_prompt=words[:, :5]).shape[1] == 3


def test_noise_that_is_not_finite_is_named_before_the_loop():
    parts, called = tiny_parts(), []
    latents = torch.full((1, *parts.latent_shape()), math.nan)
    with pytest.raises(ValueError, match=r"latents holds \d+ values that are not finite: latents is where the loop starts"):
        few_steps(parts, "a", latents=latents, callback=called.append)
    with pytest.raises(ValueError, match="latents holds .* not finite"):
        sample_latents(parts, "a", latents, latent_levels(parts, 2, "ddim"))
    assert not called


def test_an_offset_beyond_the_last_time_names_what_to_change():
    parts = dataclasses.replace(tiny_parts(), steps_offset=60, spacing="leading")
    with pytest.raises(ValueError, match=r"num_inference_steps=20 with steps_offset=60 begins at t = 1010, after the last, 999"):
        latent_levels(parts, 20, "ddim")
    assert latent_levels(parts, 10, "ddim")[0].t == 960


@pytest.mark.parametrize("sampler", [max, lambda: 0], ids=["builtin", "lambda"])
def test_a_sampler_that_takes_no_step_is_refused_with_an_option_too(sampler):
    with pytest.raises(TypeError, match="sampler must be a step|sampler must return|sampler must be"):
        few_steps(tiny_parts(), "a", sampler=sampler, eta=0.0)


def test_one_picture_may_have_several_masks():
    parts = tiny_parts()
    h, w = (parts.factor * side for side in parts.latent_shape()[1:])
    masks = torch.zeros(2, h, w)
    masks[0, : h // 2] = masks[1, h // 2 :] = 1
    images = normal(1, 3, h, w, dtype=torch.float32).clamp(-1, 1)
    drawn = [
        inpaint(parts, images, mask, "a", num_inference_steps=2, generator=torch.Generator().manual_seed(0))
        for mask in (masks, masks[:, None])
    ]
    assert drawn[0].shape == (2, 3, h, w)
    assert torch.equal(*drawn)


@pytest.mark.parametrize("entry", ["AutoencoderKL", 3, None, []])
def test_an_index_without_a_pair_is_named(entry, tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"vae": entry}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"whose vae is AutoencoderKL; in .* it is"):
        load_parts(tmp_path)
