"""What the sampler itself costs per step, beside the network: ours and diffusers' schedulers around
a network that returns zeros.

Both sides do all that a user does for one draw: set the times, loop over the steps, call the
network, take the step. Repeats are interleaved, so that a busy moment hits both.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_course import make_generator, make_schedule

from .report import spread, table, verdict
from .throughput import synchronise

GOAL = 0.5
LONGEST = 6.0  # seconds for one pair
SHAPES = ((1, 1, 16, 16), (64, 1, 16, 16), (16, 4, 64, 64))
# Our sampler and diffusers' scheduler of the same method.
PAIRS = {
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpmpp_2m": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "dpmsolver++", "solver_order": 2},
    ),
}


def zeros(shape: tuple[int, ...], device: str) -> Callable[..., Tensor]:
    """Return the network that returns zeros, always the same, so that it costs nothing."""
    nothing = torch.zeros(shape, device=device)
    return lambda x, t: nothing


def our_loop(sampler: str, shape: tuple[int, ...], steps: int, device: str) -> Callable[[], Tensor]:
    """Return a function that draws once with our sampler."""
    from diffusion_course.sampling.loop import sample_loop

    schedule, generator = make_schedule("linear", 1000), make_generator(0, device)
    options = {
        "sampler": sampler,
        "num_inference_steps": steps,
        "generator": generator,
        "device": device,
    }
    network = zeros(shape, device)
    return lambda: sample_loop(network, shape, schedule, **options)


def their_loop(
    sampler: str, shape: tuple[int, ...], steps: int, device: str
) -> Callable[[], Tensor]:
    """Return a function that draws once with diffusers' scheduler, in the loop of its
    documentation.
    """
    import diffusers

    name, options = PAIRS[sampler]
    scheduler = getattr(diffusers, name)(
        num_train_timesteps=1000, timestep_spacing="trailing", **options
    )
    generator, network = make_generator(0, device), zeros(shape, device)
    takes_generator = name in (
        "DDIMScheduler",
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
    )
    extra = {"generator": generator} if takes_generator else {}

    @torch.no_grad()
    def run() -> Tensor:
        scheduler.set_timesteps(steps, device=device)
        x = torch.randn(shape, generator=generator, device=device) * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            x = scheduler.step(
                network(scheduler.scale_model_input(x, t), t), t, x, **extra
            ).prev_sample
        return x

    return run


def run(args: argparse.Namespace) -> None:
    """Time both sides, interleaved, and print the table."""
    rows, ratios = [], {}
    for shape in SHAPES:
        for sampler in PAIRS:
            loops = [
                make(sampler, shape, args.loop_steps, args.device)
                for make in (our_loop, their_loop)
            ]
            times: tuple[list[float], list[float]] = ([], [])
            begun = time.perf_counter()
            for repeat in range(args.repeats + 1):
                if repeat > 3 and time.perf_counter() - begun > LONGEST:
                    break
                for loop, kept in zip(loops, times, strict=True):
                    start = time.perf_counter()
                    loop()
                    synchronise(args.device)
                    if repeat:  # the first is a warm-up
                        kept.append((time.perf_counter() - start) / args.loop_steps)
            ratios[sampler, shape] = statistics.median(times[0]) / statistics.median(times[1])
            row = [
                sampler,
                PAIRS[sampler][0],
                "x".join(map(str, shape)),
                spread(times[0], 1e6, 0),
                spread(times[1], 1e6, 0),
            ]
            rows.append([*row, f"{ratios[sampler, shape]:.2f}"])
    print(
        f"Time per step around a network that returns zeros, draws of {args.loop_steps} steps on"
        f" {args.device};"
    )
    print(f"min / median / max of up to {args.repeats} interleaved repeats")
    print()
    print(table(["sampler", "diffusers'", "shape", "ours, us", "diffusers, us", "ratio"], rows))
    worst = max(ratios, key=ratios.get)
    print(f"largest ratio ({worst[0]} {worst[1]}): {verdict(ratios[worst], GOAL, at_most=True)}")
    print(f"median ratio: {statistics.median(ratios.values()):.2f}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument(
        "--repeats",
        type=int,
        default=15,
        help="overhead: interleaved repeats (default: %(default)s)",
    )
    parser.add_argument(
        "--loop-steps",
        type=int,
        default=50,
        help="overhead: steps of a draw (default: %(default)s)",
    )
