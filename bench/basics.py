"""The course on this machine: imports, the training step's switches, and how good the shipped
digits are.
"""

import argparse
import itertools
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from diffusion_course import (
    UNet,
    diffusion_loss,
    frechet_distance,
    load_dataset,
    load_pretrained,
    make_generator,
    make_schedule,
    sample_loop,
    shipped_files,
)
from diffusion_course.files.checkpoints import write_bytes
from diffusion_course.notebook.display import png_bytes
from diffusion_course.notebook.plotting import image_grid
from diffusion_course.training.precision import PRECISIONS, autocast

from .evaluation import HALF, features, floor_distances, real_features
from .report import spread


def imports(args: argparse.Namespace) -> None:
    """Time a fresh process: Python alone, torch, the package's face, and all of its names."""
    lines = {
        "python": "pass",
        "import torch": "import torch",
        "import diffusion_course": "import diffusion_course",
        "torch and q_sample": "import torch; from diffusion_course import q_sample",
        "torch and p_sample_loop, train_step": (
            "import torch; from diffusion_course import p_sample_loop, train_step"
        ),
    }
    print("imports, ms (min / median / max of 7 fresh processes)")
    for label, code in lines.items():
        seconds = []
        for _ in range(7):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            seconds.append(time.perf_counter() - start)
        print(f"  {label:40} {spread(seconds)}")


def _seconds(call: Callable[[], object], repeats: int = 10) -> list[float]:
    """Return the seconds of single calls, after two that do not count."""
    marks = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        call()
        marks.append(time.perf_counter() - start)
    return marks[2:]


def speed(args: argparse.Namespace) -> None:
    """Time what precision, memory layout and normalisation's groups do to training."""
    device, alphas_cumprod = (
        torch.device(args.device),
        make_schedule().alphas_cumprod.to(args.device),
    )
    images = load_dataset("digits", split="train", size=16).images[:128].to(device)
    layouts = {"channels-first": torch.contiguous_format, "channels-last": torch.channels_last}
    print(
        f"training step, UNet(channels=64), batch 128, 16x16, on {device},"
        f" {torch.get_num_threads()} threads, ms"
    )
    for precision, (layout, memory) in itertools.product(PRECISIONS[1:], layouts.items()):
        model = UNet(channels=64).to(device, memory_format=memory)
        optimizer, x0 = (
            torch.optim.AdamW(model.parameters(), fused=True),
            images.contiguous(memory_format=memory),
        )

        def step(model=model, optimizer=optimizer, x0=x0, precision=precision) -> None:
            with autocast(device, precision):
                loss = diffusion_loss(model, x0, alphas_cumprod)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()

        print(f"  {precision:9} {layout:15} {spread(_seconds(step))}")
    print("group normalisation, forward and backward, (128, 64, 16, 16), ms")
    for dtype, (layout, memory), size in itertools.product(
        (torch.float32, torch.bfloat16), layouts.items(), (8, 16, 32)
    ):
        x = (
            torch.randn(128, 64, 16, 16, device=device)
            .to(dtype)
            .contiguous(memory_format=memory)
            .requires_grad_()
        )
        norm = torch.nn.GroupNorm(64 // size, 64).to(device, dtype)

        def both(x=x, norm=norm) -> None:
            norm(x).sum().backward()

        print(
            f"  {str(dtype)[6:]:9} {layout:15} groups of {size:2} channels {spread(_seconds(both))}"
        )


def quality(args: argparse.Namespace) -> None:
    """Compare digits drawn by the shipped networks with real ones: Frechet distance in the digit
    classifier's features.
    """
    device, real = torch.device(args.device), real_features()
    print(
        f"quality: {args.samples} digits by DPM-Solver++(2M) in 25 steps on {device}; equal sets of"
        f" {HALF}, 20 random ones"
    )
    print(f"  {'real against real (the floor)':32} {spread(floor_distances(HALF), 1)}")
    for name in ("digits", "digits_classes"):
        model, schedule = (
            load_pretrained(name).to(device, memory_format=torch.channels_last),
            shipped_files()[name].noise_schedule(),
        )
        cond = torch.arange(args.samples, device=device) % 10 if name == "digits_classes" else None
        start = time.perf_counter()
        samples = sample_loop(
            model,
            (args.samples, 1, 16, 16),
            schedule,
            sampler="dpmpp_2m",
            num_inference_steps=25,
            cond=cond,
            clip_x0=1.0,
            generator=make_generator(0, device),
        ).cpu()
        seconds, drawn, g = time.perf_counter() - start, features(samples), make_generator(1)
        matched = [drawn[torch.randperm(len(drawn), generator=g)[:HALF]] for _ in range(20)]
        near = [
            frechet_distance(some, real[torch.randperm(len(real), generator=g)[:HALF]])
            for some in matched
        ]
        print(
            f"  {name + ' against real':32} {spread(near, 1)}; all:"
            f" {frechet_distance(drawn, real):.2f}; {seconds:.0f} s"
        )
        if cond is not None:
            right = (
                (load_pretrained("digit_classifier")(samples).argmax(1) == cond.cpu())
                .float()
                .mean()
                .item()
            )
            print(f"  {'drawn with the class asked for':32} {right:.3f}")
        elif args.picture:
            write_bytes(
                args.picture, png_bytes(image_grid(samples[:100], columns=20, scale=0.45, title=""))
            )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of these benchmarks."""
    parser.add_argument(
        "--samples", type=int, default=2000, help="quality: digits to draw (default: %(default)s)"
    )
    parser.add_argument(
        "--picture", help="quality: write a grid of the first 100 drawn digits to this PNG file"
    )
