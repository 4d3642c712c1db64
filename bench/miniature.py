"""How good and how fast the shipped miniature Stable Diffusion is: by the judge, beside its ceiling
and beside diffusers.
"""

import argparse
import statistics
import time
import warnings

import torch
from torch import Tensor

from diffusion_course import (
    captions,
    extract_features,
    faithful,
    frechet_distance,
    is_held_out,
    load_parts,
    load_pretrained,
    make_generator,
    psnr,
    read_scenes,
    render_scenes,
    sample_scenes,
    text_to_image,
)
from diffusion_course.datasets.scenes.words import ATTRIBUTES
from diffusion_course.files.checkpoints import write_bytes
from diffusion_course.files.pretrained import data_dir, shipped_files
from diffusion_course.latent.coding import decode_latents, encode_images
from diffusion_course.latent.parts import MINIATURE, NETWORKS, LatentParts
from diffusion_course.notebook.display import png_bytes
from diffusion_course.notebook.images import image_grid

from .report import spread, table

SEED = 2**31  # of prompts and pictures that no training run has drawn


def fixed_prompts(n: int) -> tuple[Tensor, list[str]]:
    """Return n codes and prompts naming every attribute: half of pairs seen in training, half held
    out; half with two things.
    """
    generator, codes = make_generator(SEED), []
    for split in ("train", "held_out"):
        for things in (1, 2):
            codes.append(sample_scenes(n // 4, generator=generator, split=split, things=things))
    codes = torch.cat(codes)
    return codes, captions(codes, generator=generator, complete=True)


def draw(
    parts: LatentParts, prompts: list[str], args: argparse.Namespace, batch: int = 50
) -> Tensor:
    """Draw one picture for each prompt, a batch at a time."""
    generator, pictures = make_generator(0, parts.device), []
    for start in range(0, len(prompts), batch):
        some = prompts[start : start + batch]
        pictures.append(
            text_to_image(
                parts,
                some,
                guidance_scale=args.guidance,
                num_inference_steps=args.miniature_steps,
                sampler=args.miniature_sampler,
                generator=generator,
            )
        )
    return torch.cat(pictures).cpu()


def miniature(args: argparse.Namespace) -> None:
    """Measure the miniature: faithfulness by the judge, decibels, Frechet distance, sizes, time."""
    parts, judge = load_parts(device=args.device), load_pretrained("judge")
    codes, prompts = fixed_prompts(args.prompts)
    how = f"guidance {args.guidance:g}, {args.miniature_sampler} in {args.miniature_steps} steps"
    print(f"miniature: {len(prompts)} fixed prompts, {how}")
    start = time.perf_counter()
    drawn = draw(parts, prompts, args)
    print(
        f"  drawn in {time.perf_counter() - start:.0f} s on {args.device},"
        f" {torch.get_num_threads()} threads"
    )
    fresh = render_scenes(codes, generator=make_generator(SEED + 1))
    decoded = torch.cat(
        [decode_latents(parts, encode_images(parts, x.to(args.device))) for x in fresh.split(50)]
    ).cpu()
    held, two = is_held_out(codes), codes[:, 0] > 0
    groups = {
        "all": held | True,
        "seen": ~held,
        "seen, one thing": ~held & ~two,
        "seen, two things": ~held & two,
    }
    groups |= {
        "held out": held,
        "held out, one thing": held & ~two,
        "held out, two things": held & two,
    }
    rows = []
    for what, pictures in (
        ("drawn from prompts", drawn),
        ("scenes, encoded and decoded", decoded),
        ("scenes", fresh),
    ):
        read = read_scenes(judge, pictures.clamp(-1, 1))
        right = faithful(read, codes)
        rows += [
            [what, name, int(of.sum()), f"{right[of].all(1).float().mean():.3f}"]
            for name, of in groups.items()
        ]
        single = ", ".join(
            f"{n} {s:.3f}" for n, s in zip(ATTRIBUTES, right.float().mean(0).tolist(), strict=True)
        )
        print(f"  {what}, by attribute: {single}")
        print(f"  {what}, things side by side or stacked: {order(read, codes)}")
    print(table(["pictures", "prompts", "number", "every attribute right"], rows))
    decibels = psnr(decoded.clamp(-1, 1), fresh)
    print(
        f"  autoencoder: {decibels.mean():.2f} dB on average over {len(fresh)} fresh scenes,"
        f" {decibels.min():.1f} at least"
    )
    features = [extract_features(judge, x.clamp(-1, 1)) for x in (drawn, fresh)]
    again = extract_features(judge, render_scenes(codes, generator=make_generator(SEED + 2)))
    distance, floor = frechet_distance(features[0], again), frechet_distance(features[1], again)
    print(
        f"  Frechet distance, drawn against real: {distance:.3f}; real against real: {floor:.3f};"
        f" ratio {distance / floor:.2f}"
    )
    sizes(args)
    drawing_speed(codes[:500])
    speed(parts, prompts[:16], args)
    if args.picture_of_prompts:
        chosen = list(range(0, len(prompts), max(1, len(prompts) // 40)))[:40]
        for i in chosen:
            print(f"  {prompts[i]}")
        figure = image_grid(drawn[chosen], columns=10, scale=1.1, title="")
        write_bytes(args.picture_of_prompts, png_bytes(figure))


def order(read: Tensor, codes: Tensor) -> str:
    """Return how often two things with two sides stand as asked, and the other way round, by kind
    and colour.
    """
    pairs, things = (codes[:, 0] == 1) | (codes[:, 0] == 2), [2, 3, 6, 7]
    read, asked = read[pairs][:, things], codes[pairs][:, things]
    shares = [(read == way).all(1).float().mean() for way in (asked, asked.roll(2, 1))]
    return f"{int(pairs.sum())}, as asked {shares[0]:.3f}, the other way round {shares[1]:.3f}"


def sizes(args: argparse.Namespace) -> None:
    """Print the size of every part's weights and of the folder."""
    files, folder = shipped_files(), data_dir() / MINIATURE
    for part in NETWORKS:
        entry = files[f"{MINIATURE}/{part}"]
        print(
            f"  {part}: {entry.path.stat().st_size / 1e6:.2f} MB, {entry.made_by['steps']} steps,"
            f" {entry.made_by['seconds']} s"
        )
    print(
        f"  folder: {sum(f.stat().st_size for f in folder.rglob('*') if f.is_file()) / 1e6:.2f} MB"
    )


def drawing_speed(codes: Tensor, runs: int = 5) -> None:
    """Time the renderer, which draws every picture of training."""
    rates = []
    for run in range(runs):
        start = time.perf_counter()
        render_scenes(codes, generator=make_generator(run))
        rates.append(len(codes) / (time.perf_counter() - start))
    print(
        f"  scenes of 64 x 64 drawn a second: {spread(rates, 1, 0)}, {torch.get_num_threads()}"
        " threads"
    )


def speed(parts: LatentParts, prompts: list[str], args: argparse.Namespace, runs: int = 5) -> None:
    """Time 16 pictures in 20 steps, our loop and diffusers' pipeline in turn."""
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline = StableDiffusionPipeline.from_pretrained(data_dir() / MINIATURE).to(args.device)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    times: dict[str, list[float]] = {"ours": [], "diffusers": []}
    for run in range(runs):
        latents = torch.randn(
            len(prompts), *parts.latent_shape(), generator=make_generator(run)
        ).to(args.device)
        start = time.perf_counter()
        ours = text_to_image(
            parts, prompts, guidance_scale=args.guidance, num_inference_steps=20, latents=latents
        )
        times["ours"].append(time.perf_counter() - start)
        start = time.perf_counter()
        options = {
            "guidance_scale": args.guidance,
            "num_inference_steps": 20,
            "latents": latents,
            "output_type": "pt",
        }
        theirs = pipeline(prompts, **options).images
        times["diffusers"].append(time.perf_counter() - start)
    difference = (ours.clamp(-1, 1) - (2 * theirs - 1)).abs().max().item()
    ratio = statistics.median(times["ours"]) / statistics.median(times["diffusers"])
    print(
        f"  16 pictures, 20 steps, s: ours {spread(times['ours'], 1, 2)}, diffusers"
        f" {spread(times['diffusers'], 1, 2)}"
    )
    print(f"  ratio {ratio:.2f}; greatest difference of the pictures {difference:.1e}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument(
        "--prompts", type=int, default=1000, help="miniature: how many (default: %(default)s)"
    )
    parser.add_argument(
        "--guidance",
        type=float,
        default=3.0,
        help="miniature: guidance scale (default: %(default)s)",
    )
    parser.add_argument(
        "--miniature-steps",
        type=int,
        default=20,
        help="miniature: sampling steps (default: %(default)s)",
    )
    parser.add_argument(
        "--miniature-sampler",
        default="dpmpp_2m",
        help="miniature: a name of SAMPLERS (default: %(default)s)",
    )
    parser.add_argument(
        "--picture-of-prompts", help="miniature: write 40 of the drawn pictures to this PNG file"
    )
