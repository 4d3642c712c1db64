"""Quality at equal training time: the Frechet distance after 90 s and 300 s of wall clock, ours
against three packages.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from diffusion_course.files.paths import user_path

from . import recipe
from .contenders import CONTENDERS, missing
from .evaluation import check_count, distances, draw, floor_distances
from .fresh import in_fresh_process
from .report import OUT, Results, spread, table, verdict

GOAL = 0.25
RESULTS = "train-quality"


def runs(args: argparse.Namespace) -> list[tuple[int, float]]:
    """Return the (seed, seconds) that are measured: the shortest budget for every seed, the longer
    ones for the first.
    """
    shortest = min(args.seconds)
    return [
        (seed, s)
        for seed in range(args.seeds)
        for s in sorted(args.seconds)
        if seed == 0 or s == shortest
    ]


def identity(name: str, seed: int, seconds: float, args: argparse.Namespace) -> dict:
    """Return what a trained network depends on; a network with the same identity is not trained
    again.
    """
    made = {
        "contender": name,
        "seed": seed,
        "seconds": seconds,
        "device": args.device,
        "threads": torch.get_num_threads(),
    }
    if name == "ours":
        return made | {"recipe": vars(recipe.ours(seconds, args.device))}
    return made | {"precision": args.peer_precision, "description": CONTENDERS[name].description}


def checkpoint(name: str, seed: int, seconds: float, args: argparse.Namespace) -> Path:
    """Return the file of a trained network."""
    precision = "" if name == "ours" or args.peer_precision == "no" else f"-{args.peer_precision}"
    return (
        user_path(args.out, "--out")
        / f"{name}{precision}-{args.device}-seed{seed}-{seconds:g}s.safetensors"
    )


def trained(name: str, seed: int, seconds: float, args: argparse.Namespace) -> dict | None:
    """Return the metadata of a network that was trained before under the same identity, or None."""
    from diffusion_course.files.checkpoints import load_tensors

    path = checkpoint(name, seed, seconds, args)
    if not path.is_file():
        return None
    metadata = load_tensors(path)[1]
    return metadata if metadata["identity"] == identity(name, seed, seconds, args) else None


def train_contender(name: str, seed: int, budgets: list[float], args: argparse.Namespace) -> None:
    """Train one network for the longest budget and keep it; keep it on the way at shorter ones
    where that is the same run.
    """
    contender = CONTENDERS[name](
        seed=seed, device=args.device, seconds=max(budgets), precision=args.peer_precision
    )
    parameters, left = sum(p.numel() for p in contender.shipped.parameters()), sorted(budgets)
    start, paused = time.perf_counter(), 0.0
    for step in contender.run():
        if args.device.startswith("cuda"):
            torch.cuda.synchronize()
        now = time.perf_counter()
        elapsed, over = now - start - paused, []
        while left and elapsed >= left[0]:
            over.append(left.pop(0))
        for seconds in over:
            if seconds != max(budgets) and not contender.independent_of_length(step):
                continue
            keep(contender, name, seed, seconds, args, step, elapsed, parameters)
        paused += time.perf_counter() - now
        if not left:
            return
    if left:  # a schedule that ended a little before the time was up
        keep(
            contender,
            name,
            seed,
            left[-1],
            args,
            step,
            time.perf_counter() - start - paused,
            parameters,
        )


def keep(
    contender,
    name: str,
    seed: int,
    seconds: float,
    args,
    step: int,
    elapsed: float,
    parameters: int,
) -> None:
    """Write a trained network with what it cost."""
    path = checkpoint(name, seed, seconds, args)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {
        "identity": identity(name, seed, seconds, args),
        "steps": step,
        "elapsed": elapsed,
        "parameters": parameters,
    }
    contender.save(path, metadata)


def evaluate(name: str, networks: list[tuple[int, float]], args: argparse.Namespace) -> list[dict]:
    """Evaluate a contender's networks of these (seed, seconds), all in one process, which starts
    slowly.
    """
    return [evaluate_one(name, seed, seconds, args) for seed, seconds in networks]


def evaluate_one(name: str, seed: int, seconds: float, args: argparse.Namespace) -> dict:
    """Draw digits with a trained network and our sampler, the same for everyone, and compare them
    with real ones.
    """
    contender = CONTENDERS[name](
        seed=seed, device=args.device, seconds=seconds, precision=args.peer_precision
    )
    metadata = contender.load(checkpoint(name, seed, seconds, args))
    start = time.perf_counter()
    images = draw(
        contender.drawable(),
        args.digits,
        sampler=args.sampler,
        steps=args.steps,
        seed=1000 + seed,
        device=args.device,
    )
    seconds_drawing, found = time.perf_counter() - start, distances(images)
    return metadata | {
        "distance": statistics.median(found),
        "distances": found,
        "drawing": seconds_drawing,
    }


def run(args: argparse.Namespace) -> None:
    """Train, evaluate and print the table; what is in the results already is not repeated."""
    check_count(args.digits)
    results = Results(RESULTS, Path(args.out))
    found: dict[tuple[str, float], list[dict]] = {}
    left_out = [line for name in args.only if (line := missing(name))]
    for line in left_out:
        print(line, flush=True)
    for name in args.only:
        if missing(name):
            continue
        for seed in range(args.seeds):
            wanted = [s for other, s in runs(args) if other == seed]
            while left_to_do := [s for s in wanted if trained(name, seed, s, args) is None]:
                print(
                    f"train-quality: {name}, seed {seed},"
                    f" {' and '.join(f'{s:g} s' for s in left_to_do)}",
                    flush=True,
                )
                in_fresh_process("train", {"name": name, "seed": seed, "budgets": left_to_do}, args)
                if trained(name, seed, max(left_to_do), args) is None:
                    raise RuntimeError(f"{name} was trained but left no network in {args.out}.")
        keys = {
            (seed, seconds): {
                "identity": identity(name, seed, seconds, args),
                "evaluation": [args.digits, args.sampler, args.steps],
                "trained": trained(name, seed, seconds, args),
            }
            for seed, seconds in runs(args)
        }
        new = [network for network, key in keys.items() if results.find(key) is None]
        for network, value in zip(
            new,
            in_fresh_process("evaluate", {"name": name, "networks": new}, args) if new else [],
            strict=True,
        ):
            results.add(keys[network], value)
            print(
                f"  seed {network[0]}, {network[1]:g} s: {value['steps']} steps, distance"
                f" {value['distance']:.1f}",
                flush=True,
            )
        for (_, seconds), key in keys.items():
            found.setdefault((name, seconds), []).append(results.find(key))
    print(assemble(found, floor_distances(args.digits), args))


def assemble(
    found: dict[tuple[str, float], list[dict]], floor: list[float], args: argparse.Namespace
) -> str:
    """Return the table and the verdicts from the evaluations of each (contender, seconds)."""
    base = statistics.median(floor)
    rows = []
    for seconds in sorted({s for _, s in found}):
        for name in [n for n, s in found if s == seconds]:
            values = found[name, seconds]
            above = statistics.median(v["distance"] for v in values) - base
            steps = spread((v["steps"] for v in values), 1, 0)
            rows.append(
                [
                    f"{seconds:g} s",
                    name,
                    f"{values[0]['parameters'] / 1e6:.2f} M",
                    steps,
                    spread((v["distance"] for v in values), 1),
                    f"{above:.1f}",
                    len(values),
                ]
            )
    lines = [
        (
            f"Frechet distance in the digit classifier's features, {args.digits} digits against"
            f" {args.digits} real ones;"
        ),
        (
            f"batch 128, {args.device}, {torch.get_num_threads()} threads; {args.sampler},"
            f" {args.steps} steps, for everyone;"
        ),
        "min / median / max.",
        f"Real against real (the floor): {spread(floor, 1)}",
        "",
        table(
            [
                "trained for",
                "contender",
                "parameters",
                "steps",
                "distance",
                "above the floor",
                "seeds",
            ],
            rows,
        ),
        "",
    ]
    for seconds in sorted({s for _, s in found}):
        above = {
            n: statistics.median(v["distance"] for v in found[n, s]) - base
            for n, s in found
            if s == seconds
        }
        peers = {n: a for n, a in above.items() if n != "ours"}
        if "ours" in above and peers:
            best = min(peers, key=peers.get)
            ratio = above["ours"] / peers[best]
            lines.append(
                f"{seconds:g} s: ours / best peer ({best}), above the floor:"
                f" {verdict(ratio, GOAL, at_most=True)}"
            )
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark (the sampling benchmark reads them too)."""
    parser.add_argument(
        "--seconds",
        type=float,
        nargs="+",
        default=[90.0, 300.0],
        help="training budgets (default: 90 300)",
    )
    parser.add_argument(
        "--seeds", type=int, default=3, help="runs with the shortest budget (default: %(default)s)"
    )
    parser.add_argument(
        "--digits", type=int, default=898, help="digits drawn for a distance (default: %(default)s)"
    )
    parser.add_argument(
        "--sampler", default="dpmpp_2m", help="sampler of the evaluation (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=25, help="its steps (default: %(default)s)")
    parser.add_argument(
        "--peer-precision",
        default="no",
        choices=("no", "bf16", "fp16"),
        help="the packages' autocast (default: theirs, no)",
    )
    parser.add_argument(
        "--out", default=str(OUT), help="networks and results (default: build/bench)"
    )
