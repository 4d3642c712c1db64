"""The denoiser of the miniature Stable Diffusion, U-Net and text encoder together, in three
stretches.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from diffusion_course.datasets.scenes import captions, render_scenes, sample_scenes
from diffusion_course.files.checkpoints import load_tensors, save_tensors, write_bytes
from diffusion_course.files.pretrained import load_pretrained
from diffusion_course.latent.parts import LatentParts
from diffusion_course.latent.tasks import text_to_image
from diffusion_course.measures.judge import faithful, read_scenes
from diffusion_course.notebook.display import png_bytes
from diffusion_course.notebook.images import image_grid
from diffusion_course.process.schedules import make_schedule
from diffusion_course.training.run import Trainer
from tools.jobs import MINIATURE, SEED, Job, Report
from tools.places import PlacedDenoiser, PlacedTrainer
from tools.scene_parts import drive, encode, start
from tools.scene_runs import SCHEDULE, SIZE, new_denoiser, settings, token_ids

PICTURES = 64_000  # of the denoiser's training set
SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "steps_offset": 1,  # of "leading" spacing, as Stable Diffusion's; the pipeline warns of another
}


def latents_and_ids(
    job: Job, vae: AutoencoderKL, tokenizer: CLIPTokenizer, n: int
) -> tuple[Tensor, Tensor]:
    """Return scaled latents (n, 8, 16, 16) and token ids (n, 32) of training scenes, drawn once and
    kept in ``job.work``.
    """
    file = job.work / f"{job.part}-latents-{n}.safetensors"
    if not file.is_file():
        generator, latents, texts = torch.Generator().manual_seed(job.seed), [], []
        for _ in range(0, n, 2_000):
            codes = sample_scenes(2_000, generator=generator, split="train")
            images = render_scenes(codes, size=SIZE, generator=generator, device=vae.device)
            with torch.autocast(vae.device.type, torch.bfloat16):
                latents.append(
                    encode(vae, images.contiguous(memory_format=torch.channels_last)).float().cpu()
                )
            texts += captions(codes, generator=generator)
        save_tensors(
            file, {"latents": torch.cat(latents)[:n], "ids": token_ids(tokenizer, texts)[:n]}
        )
    tensors, _ = load_tensors(file)
    return tensors["latents"] * vae.config.scaling_factor, tensors["ids"]


def train_denoiser(job: Job) -> Iterator[Report]:
    """Train a new U-Net and the text encoder together; see ``_train``."""
    yield from _train(job, 8e-4)


def train_denoiser_more(job: Job) -> Iterator[Report]:
    """Go on from the shipped U-Net and text encoder, on other pictures, with a second warm-up and a
    second half cosine.

    A warm restart (Loshchilov & Hutter 2017, arXiv 1608.03983).
    """
    unet = UNet2DConditionModel.from_pretrained(job.data / MINIATURE / "unet").float()
    yield from _train(job, 6e-4, unet)


def train_denoiser_places(job: Job) -> Iterator[Report]:
    """Go on from the shipped U-Net and the marking text encoder, with an attention that learns who
    stands where.
    """
    unet = UNet2DConditionModel.from_pretrained(job.data / MINIATURE / "unet").float()
    yield from _train(job, 6e-4, unet, places=True)


def _train(
    job: Job, learning_rate: float, unet: nn.Module | None = None, places: bool = False
) -> Iterator[Report]:
    """Train U-Net and text encoder together on latents and captions; one caption in ten is dropped,
    for guidance.

    places: with the attention's loss of ``tools.places``. Every 1,000 steps the judge reads 64
    pictures; a grid of them stands beside the checkpoint.
    """
    accelerator = start(job)
    device, folder = accelerator.device, job.data / MINIATURE
    vae = AutoencoderKL.from_pretrained(folder / "vae").to(device).float().eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    text_encoder = CLIPTextModel.from_pretrained(
        folder / "text_encoder", attn_implementation="eager"
    ).float()
    model = new_denoiser(text_encoder, tokenizer, unet)
    if places:
        model = PlacedDenoiser(text_encoder, tokenizer, model.unet, model.null_class)
    model = model.to(device)
    latents, ids = latents_and_ids(job, vae, tokenizer, PICTURES)
    size = 64 // accelerator.num_processes
    config = settings(
        device,
        num_steps=job.steps,
        batch_size=size,
        seed=job.seed,
        learning_rate=learning_rate,
        prediction_type="v_prediction",
        cond_dropout=0.1,
    )
    schedule = make_schedule(**SCHEDULE)
    run = (PlacedTrainer if places else Trainer)(
        model, latents.to(device), schedule, ids.to(device), config, accelerator
    )
    judge = load_pretrained("judge").to(device)
    for state in drive(job, run, accelerator, 100):
        unet, text_encoder = state.ema_model.unet.eval(), state.ema_model.text_encoder.eval()
        text = f"loss {state.loss:.4f}"
        if state.step % 1_000 == 0 or state.step == job.steps:
            parts = LatentParts(
                vae, unet, text_encoder, tokenizer, schedule, "v_prediction", "trailing"
            )
            text += ", " + _try_out(job, parts, judge, state.step)
        yield Report(
            state.step,
            state.seconds,
            text,
            {f"{MINIATURE}/unet": unet, f"{MINIATURE}/text_encoder": text_encoder},
        )
    if accelerator.is_main_process:
        _write_pipeline(folder)


def _try_out(job: Job, parts: LatentParts, judge: nn.Module, step: int) -> str:
    """Draw 64 prompts, write a grid of 40, return what the judge says."""
    generator = torch.Generator().manual_seed(2**41)
    codes = sample_scenes(64, generator=generator, split="train")
    prompts = captions(codes, generator=generator, complete=True)
    images = text_to_image(
        parts,
        prompts,
        num_inference_steps=12,
        generator=torch.Generator(parts.device).manual_seed(SEED),
    )
    right = faithful(read_scenes(judge, images).cpu(), codes)
    figure = image_grid(images[:40], columns=10, scale=1.1, title=f"{step} steps")
    write_bytes(job.work / f"{job.part}-{step:06d}.png", png_bytes(figure))
    return (
        f"judge: all right in {right.all(1).float().mean():.2f}, attributes"
        f" {right.float().mean():.3f}"
    )


def _write_pipeline(folder: Path) -> None:
    """Write the scheduler and model_index.json, so that the folder is a pipeline."""
    DDIMScheduler(**SCHEDULER).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    write_bytes(folder / "model_index.json", (json.dumps(index, indent=2) + "\n").encode())
