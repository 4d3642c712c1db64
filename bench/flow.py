"""Lesson 14 on digits of 8x8: a transformer beside a U-Net, and the U-Net's flow beside its reflow.

Training ends after so many seconds of the processor, of all threads together, so that other work on
the machine hardly matters. Digits are judged at 16x16, as the classifier of the course sees them.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffusion_course import (
    EMA,
    DiT,
    UNet,
    as_velocity,
    flow_iter,
    flow_loop,
    flow_loss,
    flow_times,
    load_dataset,
    load_pretrained,
    make_generator,
    seed_everything,
)

from .evaluation import distances
from .report import Results, table

RESULTS = "flow"
BATCH, WARMUP = 64, 50
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "DiT": lambda: DiT(1, 8, patch_size=2, width=64, depth=3, num_classes=10),
    "U-Net": lambda: UNet(1, 16, (1, 2), num_classes=10),
}
Batches = Callable[[torch.Generator], tuple[Tensor, Tensor | None, Tensor]]


def trained(
    network: nn.Module, batches: Batches, seconds: float, rate: float, seed: int
) -> tuple[nn.Module, int]:
    """Train on (x0, noise, class) until ``seconds`` are used; return the averaged network and the
    number of its steps.
    """
    network.train().requires_grad_(True)
    optimizer, average = torch.optim.Adam(network.parameters(), lr=rate), EMA(network, 0.99)
    generator, began, step = make_generator(seed), time.process_time(), 0
    while time.process_time() - began < seconds:
        optimizer.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / WARMUP)
        x0, noise, cond = batches(generator)
        loss = flow_loss(network, x0, cond=cond, noise=noise, generator=generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update(network, step)
        step += 1
    return average.model, step


def of_the_data(generator: torch.Generator) -> tuple[Tensor, None, Tensor]:
    """Draw a batch of digits with their classes; the loss draws the noise."""
    data = load_dataset("digits")
    chosen = torch.randint(len(data.images), (BATCH,), generator=generator)
    return data.images[chosen], None, data.labels[chosen]


@torch.no_grad()
def drawn(network: nn.Module, noise: Tensor, cond: Tensor, steps: int) -> Tensor:
    """Draw a digit of its class from each noise, 128 at a time."""
    parts = zip(noise.split(128), cond.split(128), strict=True)
    return torch.cat([flow_loop(as_velocity(network, cond=c), x, steps) for x, c in parts])


@torch.no_grad()
def judged(images: Tensor, cond: Tensor) -> dict[str, float]:
    """Return the Frechet distance to real digits and the share that shows the asked class."""
    large = functional.interpolate(images.clamp(-1, 1), 16, mode="bilinear", antialias=True)
    right = load_pretrained("digit_classifier")(large).argmax(1) == cond
    return {"distance": statistics.mean(distances(large)), "right": right.float().mean().item()}


def asked(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the noise and the classes of n digits."""
    return torch.randn(n, 1, 8, 8, generator=make_generator(seed)), torch.arange(n) % 10


def first_flow(name: str, seed: int, args: argparse.Namespace, results: Results) -> dict:
    """Train a network on the data and judge its digits; keep its weights for ``reflow``."""
    key = {"what": "first flow", "network": name, "seed": seed, "rate": args.flow_rate}
    key |= {"seconds": args.flow_seconds, "digits": args.digits}
    file = results.path.with_name(f"flow-{name}-{seed}-{args.flow_rate:g}-{args.flow_seconds:g}.pt")
    if (value := results.find(key)) is None or not file.is_file():
        seed_everything(seed)
        network = NETWORKS[name]()
        weights = sum(p.numel() for p in network.parameters())
        network, steps = trained(network, of_the_data, args.flow_seconds, args.flow_rate, seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), file)
        noise, cond = asked(args.digits, seed)
        value = judged(drawn(network, noise, cond, 20), cond) | {"steps": steps, "weights": weights}
        results.add(key, value)
    return value | {"file": str(file)}


def straightness(network: nn.Module, noise: Tensor, cond: Tensor, steps: int = 20) -> float:
    """Return S of lesson 14, equation (14.8), a mean over pixels."""
    states = list(flow_iter(as_velocity(network, cond=cond), noise, flow_times(steps)))
    chord = noise - states[-1].x
    return statistics.mean((s.velocity - chord).square().mean().item() for s in states)


def reflow(seed: int, args: argparse.Namespace, results: Results) -> dict:
    """Train a copy of the U-Net on pairs of its own flow, as long as the first; measure both."""
    key = {"what": "reflow", "seed": seed, "rate": args.flow_rate, "pairs": args.flow_pairs}
    key |= {"seconds": args.flow_seconds, "digits": args.digits}
    if (value := results.find(key)) is not None:
        return value
    first = NETWORKS["U-Net"]()
    first.load_state_dict(torch.load(first_flow("U-Net", seed, args, results)["file"]))
    source, classes = asked(args.flow_pairs, 100 + seed)
    target = drawn(first, source, classes, 20)

    def of_the_flow(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        chosen = torch.randint(len(source), (BATCH,), generator=generator)
        return target[chosen], source[chosen], classes[chosen]

    again, _ = trained(copy.deepcopy(first), of_the_flow, args.flow_seconds, args.flow_rate, seed)
    (noise, cond), value = asked(args.digits, seed), {}
    for name, network in (("first", first), ("again", again)):
        value[name] = {"S": straightness(network, noise[:128], cond[:128])}
        for steps in (1, 2, 4, 20):
            value[name][str(steps)] = judged(drawn(network, noise, cond, steps), cond)
    return results.add(key, value)


def several(values: list[float], digits: int = 2) -> str:
    """Format the mean of some runs and its standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.{digits}f} ± {error:.{digits}f}"


def flow(args: argparse.Namespace) -> None:
    """Print a DiT beside a U-Net after equal seconds, and a flow before and after reflow."""
    results = Results(RESULTS, Path(args.out))
    print(
        f"flow: each training {args.flow_seconds:g} s of the processor,"
        f" {torch.get_num_threads()} threads; {args.flow_seeds} seeds, mean and standard error;"
        f" {args.digits} digits"
    )
    seeds = range(args.flow_seeds)
    first = {n: [first_flow(n, seed, args, results) for seed in seeds] for n in NETWORKS}
    rows = [
        [n, f"{some[0]['weights']:,}", round(statistics.mean(f["steps"] for f in some))]
        + [several([f[what] for f in some]) for what in ("distance", "right")]
        for n, some in first.items()
    ]
    print(table(["network", "weights", "steps", "distance, 20 steps", "class right"], rows))
    found = [reflow(seed, args, results) for seed in seeds]
    rows = [
        [title, several([f[name]["S"] for f in found], 3)]
        + [several([f[name][n]["distance"] for f in found]) for n in ("1", "2", "4", "20")]
        for name, title in (("first", "first flow"), ("again", "after reflow"))
    ]
    print(table(["U-Net", "S", *(f"distance, {n} steps" for n in (1, 2, 4, 20))], rows))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add = parser.add_argument
    add("--flow-seconds", type=float, default=20.0, help="of each training (default: %(default)s)")
    add("--flow-seeds", type=int, default=5, help="runs of each (default: %(default)s)")
    add("--flow-rate", type=float, default=2e-3, help="learning rate (default: %(default)s)")
    add("--flow-pairs", type=int, default=1024, help="pairs of reflow (default: %(default)s)")
