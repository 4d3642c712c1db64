"""The parts of the miniature Stable Diffusion, trained one after another: judge, vae, text_encoder, denoiser."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from diffusion_course.autoencoder import latent_scaling, psnr
from diffusion_course.checkpoints import load_tensors, save_tensors, write_bytes
from diffusion_course.display import png_bytes
from diffusion_course.images import image_grid
from diffusion_course.judge import faithful, read_scenes
from diffusion_course.latent import LatentParts
from diffusion_course.latent_tasks import text_to_image
from diffusion_course.pretrained import load_pretrained
from diffusion_course.scenes import captions, render_scenes, sample_scenes
from diffusion_course.schedules import make_schedule
from diffusion_course.tokenization import train_vocabulary
from diffusion_course.trainer import Trainer
from diffusion_course.training import TrainState, run_training
from tools.jobs import MINIATURE, SEED, Job, Report
from tools.scene_runs import (
    SCHEDULE,
    SIZE,
    AutoencoderRun,
    AutoencoderTask,
    CaptionReader,
    JudgeRun,
    ReaderRun,
    new_autoencoder,
    new_denoiser,
    new_judge,
    new_text_encoder,
    settings,
    token_ids,
)

KL_WEIGHT = 2e-3
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


def test_scenes(n: int, split: str = "all") -> tuple[Tensor, Tensor]:
    """Return codes and pictures that no training step draws: their generator has a seed of its own."""
    generator = torch.Generator().manual_seed(2**40)
    codes = sample_scenes(n, generator=generator, split=split)
    return codes, render_scenes(codes, size=SIZE, generator=generator)


def _drive(job: Job, run: Trainer, accelerator: Accelerator, every: int) -> Iterator[TrainState]:
    yield from run_training(run, report_every=every, checkpoint=job.checkpoint, checkpoint_every=every, resume=True)
    accelerator.wait_for_everyone()  # as in tools.digit_runs
    accelerator.end_training()


def _start(job: Job) -> Accelerator:
    torch.manual_seed(SEED)  # the networks' first weights
    return Accelerator(cpu=job.device.type == "cpu")


def train_judge(job: Job) -> Iterator[Report]:
    """Train the judge on scenes of every combination; report the share of wrong answers, attribute by attribute."""
    accelerator = _start(job)
    device = accelerator.device
    model = new_judge().to(device)
    config = settings(
        device, num_steps=job.steps, batch_size=128 // accelerator.num_processes, learning_rate=2e-3, ema_decay=0.995
    )
    run = JudgeRun(model, config, device, accelerator)
    codes, images = test_scenes(4_000)
    for state in _drive(job, run, accelerator, 250):
        judge = state.ema_model.eval()
        right = faithful(read_scenes(judge, images.to(device)).cpu(), codes).float().mean(0)
        text = f"loss {state.loss:.4f}, accuracy of the worst attribute {right.min():.4f}, of all {right.mean():.4f}"
        yield Report(state.step, state.seconds, text, {"judge": judge})


def train_vae(job: Job) -> Iterator[Report]:
    """Train the autoencoder on scenes; its scaling factor is that of 2,000 scenes' latents."""
    accelerator = _start(job)
    device = accelerator.device
    task = AutoencoderTask(new_autoencoder(), KL_WEIGHT).to(device)
    size = 16 // accelerator.num_processes
    config = settings(device, num_steps=job.steps, batch_size=size, learning_rate=2e-3, ema_decay=0.995)
    run = AutoencoderRun(task, config, device, accelerator)
    images = test_scenes(256)[1].to(device)
    for state in _drive(job, run, accelerator, 200):
        vae = state.ema_model.vae.eval()
        with torch.no_grad():
            latents = encode(vae, images)
            drawn = torch.cat([vae.decode(part).sample for part in latents.split(32)]).clamp(-1, 1)
        vae.register_to_config(scaling_factor=latent_scaling(latents))
        text = f"loss {state.loss:.4f}, {psnr(drawn, images).mean():.2f} dB, scaling factor {vae.config.scaling_factor:.4f}"
        yield Report(state.step, state.seconds, text, {f"{MINIATURE}/vae": vae})


@torch.no_grad()
def encode(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Return the mean latents of pictures, unscaled, in small parts."""
    return torch.cat([vae.encode(part).latent_dist.mean for part in images.split(32)])


def train_text_encoder(job: Job) -> Iterator[Report]:
    """Learn the vocabulary from captions, then train the text encoder to say what a caption asks for."""
    accelerator = _start(job)
    device = accelerator.device
    generator = torch.Generator().manual_seed(SEED)
    folder = job.data / MINIATURE / "tokenizer"
    if accelerator.is_main_process:
        train_vocabulary(captions(sample_scenes(20_000, generator=generator), generator=generator), folder, max_length=32)
    accelerator.wait_for_everyone()
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    model = CaptionReader(new_text_encoder(tokenizer)).to(device)
    size = 192 // accelerator.num_processes
    config = settings(device, num_steps=job.steps, batch_size=size, learning_rate=1e-3, ema_decay=0.99)
    run = ReaderRun(model, config | {"precision": "float32"}, device, accelerator, tokenizer)
    for state in _drive(job, run, accelerator, 100):
        networks = {f"{MINIATURE}/text_encoder": state.ema_model.text_encoder.eval()}
        yield Report(state.step, state.seconds, f"loss {state.loss:.4f}", networks)


def latents_and_ids(job: Job, vae: AutoencoderKL, tokenizer: CLIPTokenizer, n: int) -> tuple[Tensor, Tensor]:
    """Return scaled latents (n, 8, 16, 16) and token ids (n, 32) of training scenes, drawn once and kept in ``job.work``."""
    file = job.work / f"{job.part}-latents-{n}.safetensors"
    if not file.is_file():
        generator, latents, texts = torch.Generator().manual_seed(job.seed), [], []
        for _ in range(0, n, 2_000):
            codes = sample_scenes(2_000, generator=generator, split="train")
            images = render_scenes(codes, size=SIZE, generator=generator, device=vae.device)
            with torch.autocast(vae.device.type, torch.bfloat16):
                latents.append(encode(vae, images.contiguous(memory_format=torch.channels_last)).float().cpu())
            texts += captions(codes, generator=generator)
        save_tensors(file, {"latents": torch.cat(latents)[:n], "ids": token_ids(tokenizer, texts)[:n]})
    tensors, _ = load_tensors(file)
    return tensors["latents"] * vae.config.scaling_factor, tensors["ids"]


def train_denoiser(job: Job) -> Iterator[Report]:
    """Train a new U-Net and the text encoder together; see ``_train_denoiser``."""
    yield from _train_denoiser(job, 8e-4)


def train_denoiser_more(job: Job) -> Iterator[Report]:
    """Go on from the shipped U-Net and text encoder, on other pictures, with a second warm-up and a second half cosine.

    A warm restart (Loshchilov & Hutter 2017, arXiv 1608.03983).
    """
    unet = UNet2DConditionModel.from_pretrained(job.data / MINIATURE / "unet").float()
    yield from _train_denoiser(job, 6e-4, unet)


def _train_denoiser(job: Job, learning_rate: float, unet: nn.Module | None = None) -> Iterator[Report]:
    """Train U-Net and text encoder together on latents and captions; one caption in ten is dropped, for guidance.

    Every 1,000 steps the judge reads 64 pictures, and a grid of them is written beside the checkpoint.
    """
    accelerator = _start(job)
    device, folder = accelerator.device, job.data / MINIATURE
    vae = AutoencoderKL.from_pretrained(folder / "vae").to(device).float().eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", attn_implementation="eager").float()
    model = new_denoiser(text_encoder, tokenizer, unet).to(device)
    latents, ids = latents_and_ids(job, vae, tokenizer, PICTURES)
    size = 64 // accelerator.num_processes
    config = settings(device, num_steps=job.steps, batch_size=size, seed=job.seed, learning_rate=learning_rate, ema_decay=0.999)
    config |= {"prediction_type": "v_prediction", "weighting": "simple", "cond_dropout": 0.1}
    schedule = make_schedule(**SCHEDULE)
    run = Trainer(model, latents.to(device), schedule, ids.to(device), config, accelerator)
    judge = load_pretrained("judge").to(device)
    for state in _drive(job, run, accelerator, 100):
        unet, text_encoder = state.ema_model.unet.eval(), state.ema_model.text_encoder.eval()
        text = f"loss {state.loss:.4f}"
        if state.step % 1_000 == 0 or state.step == job.steps:
            parts = LatentParts(vae, unet, text_encoder, tokenizer, schedule, "v_prediction", "trailing")
            text += ", " + _try_out(job, parts, judge, state.step)
        yield Report(state.step, state.seconds, text, {f"{MINIATURE}/unet": unet, f"{MINIATURE}/text_encoder": text_encoder})
    if accelerator.is_main_process:
        _write_pipeline(folder)


def _try_out(job: Job, parts: LatentParts, judge: nn.Module, step: int) -> str:
    """Draw 64 prompts, write a grid of 40, return what the judge says."""
    generator = torch.Generator().manual_seed(2**41)
    codes = sample_scenes(64, generator=generator, split="train")
    prompts = captions(codes, generator=generator, complete=True)
    images = text_to_image(parts, prompts, num_inference_steps=12, generator=torch.Generator(parts.device).manual_seed(SEED))
    right = faithful(read_scenes(judge, images).cpu(), codes)
    figure = image_grid(images[:40], columns=10, scale=1.1, title=f"{step} steps")
    write_bytes(job.work / f"{job.part}-{step:06d}.png", png_bytes(figure))
    return f"judge: all right in {right.all(1).float().mean():.2f}, attributes {right.float().mean():.3f}"


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
