"""The course on this machine: imports, the training step of the shipped network, and how good the shipped digits are."""

import argparse
import itertools
import subprocess
import sys
import time

import torch
from tqdm import tqdm

from diffusion_course import (
    UNet,
    frechet_distance,
    load_dataset,
    load_pretrained,
    make_generator,
    make_schedule,
    p_sample_loop,
    shipped_files,
    train,
)
from diffusion_course.checkpoints import write_bytes
from diffusion_course.display import png_bytes
from diffusion_course.plotting import image_grid

from .report import spread


def imports(args: argparse.Namespace) -> None:
    """Time a fresh process: Python alone, torch, the package's face, and all of its names."""
    lines = {
        "python": "pass",
        "import torch": "import torch",
        "import diffusion_course": "import diffusion_course",
        "torch and q_sample": "import torch; from diffusion_course import q_sample",
        "torch and p_sample_loop, train_step": "import torch; from diffusion_course import p_sample_loop, train_step",
    }
    print("imports, ms (min / median / max of 7 fresh processes)")
    for label, code in lines.items():
        seconds = []
        for _ in range(7):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            seconds.append(time.perf_counter() - start)
        print(f"  {label:40} {spread(seconds)}")


def speed(args: argparse.Namespace) -> None:
    """Time one training step and one network call of the shipped digit network in both memory layouts."""
    device, schedule = torch.device(args.device), make_schedule()
    print(f"training step, UNet(channels=32), batch 64, 16x16, on {device}, {torch.get_num_threads()} threads, ms")
    for label, layout in (("contiguous", torch.contiguous_format), ("channels last", torch.channels_last)):
        model = UNet(channels=32).to(device, memory_format=layout)
        data = load_dataset("digits", split="train", size=16).images.to(device)
        states = list(train(model, data, schedule, num_steps=60, batch_size=64, report_every=5))[2:]
        print(f"  {label:16} {spread([(b.seconds - a.seconds) / 5 for a, b in itertools.pairwise(states)])}")


def quality(args: argparse.Namespace) -> None:
    """Compare digits drawn by the shipped network with real ones: Frechet distance in the digit classifier's features."""
    device, entry = torch.device(args.device), shipped_files()["digits"]
    model, schedule = load_pretrained("digits").to(device, memory_format=torch.channels_last), entry.noise_schedule()
    generator, start, chunks = make_generator(0, device), time.perf_counter(), []

    def count(t: int, x: torch.Tensor, x0_pred: torch.Tensor) -> None:
        bar.update(len(x))

    bar = tqdm(total=args.samples * schedule.num_train_timesteps, unit="step", unit_scale=True, disable=None)
    while sum(map(len, chunks)) < args.samples:
        n = min(250, args.samples - sum(map(len, chunks)))
        tables = (table.to(device) for table in (schedule.betas, schedule.alphas, schedule.alphas_cumprod))
        chunks.append(p_sample_loop(model, (n, 1, 16, 16), *tables, generator=generator, callback=count).cpu())
    samples, seconds = torch.cat(chunks), time.perf_counter() - start
    bar.close()
    classifier = load_pretrained("digit_classifier")
    with torch.no_grad():
        drawn = classifier.features(samples)
        real = {
            split: classifier.features(load_dataset("digits", split=split, size=16).images) for split in ("train", "test", "all")
        }
        confidence = classifier(samples).softmax(1).amax(1)
    print(f"quality: {args.samples} digits drawn with p_sample_loop in {seconds:.0f} s on {device}")
    print(f"  Frechet distance to all {len(real['all'])} real digits: {frechet_distance(drawn, real['all']):.2f}")
    print(f"  Frechet distance to the {len(real['test'])} held-out digits: {frechet_distance(drawn, real['test']):.2f}")
    halves, matched, g = [], [], make_generator(1)
    half = len(real["all"]) // 2
    for _ in range(20):
        order = torch.randperm(len(real["all"]), generator=g)
        halves.append(frechet_distance(real["all"][order[:half]], real["all"][order[half : 2 * half]]))
        picked = drawn[torch.randperm(len(drawn), generator=g)[:half]]
        matched.append(frechet_distance(picked, real["all"][order[:half]]))
    print(f"  equal sets of {half}, 20 random draws, min / median / max:")
    print(f"    real against real (the floor): {spread(halves, 1)}")
    print(f"    drawn against real:            {spread(matched, 1)}")
    print(f"  train against test digits: {frechet_distance(real['train'], real['test']):.2f}")
    print(f"  classifier's confidence over 0.9: {(confidence > 0.9).float().mean().item():.3f} of the drawn digits")
    if args.picture:
        write_bytes(args.picture, png_bytes(image_grid(samples[:100], columns=20, scale=0.45, title="")))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of these benchmarks."""
    parser.add_argument("--samples", type=int, default=2000, help="quality: digits to draw (default: %(default)s)")
    parser.add_argument("--picture", help="quality: write a grid of the first 100 drawn digits to this PNG file")
