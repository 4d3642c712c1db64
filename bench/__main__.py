"""Measure the course on this machine: ``python -m bench [imports] [speed] [quality]`` (``make bench``); all without a name.

Run it with nothing else busy. Times are printed as min / median / max of several runs.
"""

import argparse
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from tqdm import tqdm

from diffusion_course import (
    SmallUNet,
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


def spread(seconds: list[float], scale: float = 1e3) -> str:
    """Format runs as min / median / max."""
    return " / ".join(f"{scale * f(seconds):.1f}" for f in (min, statistics.median, max))


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
    print(f"training step, SmallUNet(channels=32), batch 64, 16x16, on {device}, {torch.get_num_threads()} threads, ms")
    for label, layout in (("contiguous", torch.contiguous_format), ("channels last", torch.channels_last)):
        model = SmallUNet(channels=32).to(device, memory_format=layout)
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


BENCHMARKS: dict[str, Callable[[argparse.Namespace], None]] = {"imports": imports, "speed": speed, "quality": quality}


def main() -> None:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--device", default="cpu", help="where to compute (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=2000, help="digits to draw for quality (default: %(default)s)")
    parser.add_argument("--picture", help="write a grid of the first 100 drawn digits to this PNG file")
    args = parser.parse_args()
    if unknown := set(args.names) - BENCHMARKS.keys():
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    for name in args.names or BENCHMARKS:
        BENCHMARKS[name](args)


if __name__ == "__main__":
    main()
