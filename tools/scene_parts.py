"""The parts of the miniature Stable Diffusion before its denoiser: judge, vae, text_encoder,
text_places.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from diffusion_course.datasets.scenes import captions, render_scenes, sample_scenes
from diffusion_course.latent.autoencoder import latent_scaling, psnr
from diffusion_course.latent.vocabulary import train_vocabulary
from diffusion_course.measures.judge import faithful, read_scenes
from diffusion_course.training.loop import TrainState, run_training
from diffusion_course.training.run import Run
from tools.jobs import MINIATURE, SEED, Job, Report
from tools.places import MarkRun
from tools.scene_runs import (
    SIZE,
    AutoencoderRun,
    AutoencoderTask,
    CaptionReader,
    JudgeRun,
    ReaderRun,
    new_autoencoder,
    new_judge,
    new_text_encoder,
    settings,
)

KL_WEIGHT = 2e-3


def test_scenes(n: int, split: str = "all") -> tuple[Tensor, Tensor]:
    """Return codes and pictures that no training step draws: they have a seed of their own."""
    generator = torch.Generator().manual_seed(2**40)
    codes = sample_scenes(n, generator=generator, split=split)
    return codes, render_scenes(codes, size=SIZE, generator=generator)


def drive(job: Job, run: Run, accelerator: Accelerator, every: int) -> Iterator[TrainState]:
    """Go through a run that goes on from its checkpoint and writes one every ``every`` steps, of
    one process or several.
    """
    yield from run_training(
        run, report_every=every, checkpoint=job.checkpoint, checkpoint_every=every, resume=True
    )
    accelerator.wait_for_everyone()  # as in tools.digit_runs
    accelerator.end_training()


def start(job: Job) -> Accelerator:
    """Seed the networks' first weights and return the processes' accelerator."""
    torch.manual_seed(SEED)
    return Accelerator(cpu=job.device.type == "cpu")


def train_judge(job: Job) -> Iterator[Report]:
    """Train the judge on scenes of every combination; report the share of wrong answers, attribute
    by attribute.
    """
    accelerator = start(job)
    device = accelerator.device
    model = new_judge().to(device)
    config = settings(
        device,
        num_steps=job.steps,
        batch_size=128 // accelerator.num_processes,
        learning_rate=2e-3,
        ema_decay=0.995,
    )
    run = JudgeRun(model, config, device, accelerator)
    codes, images = test_scenes(4_000)
    for state in drive(job, run, accelerator, 250):
        judge = state.ema_model.eval()
        right = faithful(read_scenes(judge, images.to(device)).cpu(), codes).float().mean(0)
        text = (
            f"loss {state.loss:.4f}, accuracy of the worst attribute {right.min():.4f}, of all"
            f" {right.mean():.4f}"
        )
        yield Report(state.step, state.seconds, text, {"judge": judge})


def train_vae(job: Job) -> Iterator[Report]:
    """Train the autoencoder on scenes; its scaling factor is that of 2,000 scenes' latents."""
    accelerator = start(job)
    device = accelerator.device
    task = AutoencoderTask(new_autoencoder(), KL_WEIGHT).to(device)
    size = 16 // accelerator.num_processes
    config = settings(
        device, num_steps=job.steps, batch_size=size, learning_rate=2e-3, ema_decay=0.995
    )
    run = AutoencoderRun(task, config, device, accelerator)
    images = test_scenes(256)[1].to(device)
    for state in drive(job, run, accelerator, 200):
        vae = state.ema_model.vae.eval()
        with torch.no_grad():
            latents = encode(vae, images)
            drawn = torch.cat([vae.decode(part).sample for part in latents.split(32)]).clamp(-1, 1)
        vae.register_to_config(scaling_factor=latent_scaling(latents))
        text = (
            f"loss {state.loss:.4f}, {psnr(drawn, images).mean():.2f} dB, scaling factor"
            f" {vae.config.scaling_factor:.4f}"
        )
        yield Report(state.step, state.seconds, text, {f"{MINIATURE}/vae": vae})


@torch.no_grad()
def encode(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Return the mean latents of pictures, unscaled, in small parts."""
    return torch.cat([vae.encode(part).latent_dist.mean for part in images.split(32)])


def train_text_encoder(job: Job) -> Iterator[Report]:
    """Learn the vocabulary from captions, then train the text encoder to say what a caption asks
    for.
    """
    accelerator = start(job)
    device = accelerator.device
    generator = torch.Generator().manual_seed(SEED)
    folder = job.data / MINIATURE / "tokenizer"
    if accelerator.is_main_process:
        train_vocabulary(
            captions(sample_scenes(20_000, generator=generator), generator=generator),
            folder,
            max_length=32,
        )
    accelerator.wait_for_everyone()
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    model = CaptionReader(new_text_encoder(tokenizer)).to(device)
    size = 192 // accelerator.num_processes
    config = settings(
        device, num_steps=job.steps, batch_size=size, learning_rate=1e-3, ema_decay=0.99
    )
    run = ReaderRun(model, replace(config, precision="float32"), device, accelerator, tokenizer)
    for state in drive(job, run, accelerator, 100):
        networks = {f"{MINIATURE}/text_encoder": state.ema_model.text_encoder.eval()}
        yield Report(state.step, state.seconds, f"loss {state.loss:.4f}", networks)


def train_text_places(job: Job) -> Iterator[Report]:
    """Go on from the shipped text encoder: it learns to mark the words said last with their place,
    see ``tools.places``.
    """
    accelerator = start(job)
    folder = job.data / MINIATURE
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    model = (
        CLIPTextModel.from_pretrained(folder / "text_encoder", attn_implementation="eager")
        .float()
        .to(accelerator.device)
    )
    size = 192 // accelerator.num_processes
    config = settings(
        accelerator.device,
        num_steps=job.steps,
        batch_size=size,
        seed=job.seed,
        learning_rate=1e-3,
        ema_decay=0.95,
    )
    run = MarkRun(
        model, replace(config, precision="float32"), accelerator.device, accelerator, tokenizer
    )
    for state in drive(job, run, accelerator, 50):
        yield Report(
            state.step,
            state.seconds,
            f"loss {state.loss:.4f}",
            {f"{MINIATURE}/text_encoder": state.ema_model.eval()},
        )
