"""Time per 1,000 digits at equal quality: each package's own sampler on its own network against
ours.

Every contender's network of the training benchmark (the longest budget, seed 0) draws digits with
its own samplers on a grid of steps. A peer's best is the least distance on its grid, and its time
is that of the fewest steps that reach it within 5 %. Ours is then timed at the fewest steps that
reach the same distance within 5 %: the quality is the peer's best, and the network, the sampler and
the precision of either side are its own (ours: bfloat16 where the hardware has it). The ratio is
the peer's time over ours; the goal is for the smallest ratio. The table also says what each needs
for 5 % of its own best.
"""

import argparse
import itertools
import statistics
import time
from pathlib import Path

import torch

from .contenders import BATCH, CONTENDERS, missing
from .evaluation import check_count, distances, floor_distances
from .fresh import in_fresh_process
from .report import Results, spread, table, verdict
from .train_quality import checkpoint, identity, trained

GOAL = 3.0
TOLERANCE = 1.05
RESULTS = "sampling"


def measure(name: str, args: argparse.Namespace) -> list[dict]:
    """Draw with each of a contender's own samplers at each number of steps: distance, and seconds
    per 1,000 for each batch.
    """
    contender = CONTENDERS[name](
        seed=0, device=args.device, seconds=max(args.seconds), precision=args.peer_precision
    )
    contender.load(checkpoint(name, 0, max(args.seconds), args))
    found = []
    for sampler, run in contender.own_samplers().items():
        run(BATCH, 2, torch.Generator(args.device).manual_seed(0))  # warm-up
        for steps in sorted(args.grid):
            images, seconds = [], []
            for i, start in enumerate(range(0, args.sampling_digits, BATCH)):
                n = min(BATCH, args.sampling_digits - start)
                begun = time.perf_counter()
                images.append(
                    run(n, steps, torch.Generator(args.device).manual_seed(1000 + i)).cpu()
                )
                if n == BATCH:  # a last, smaller batch would be dearer per digit
                    seconds.append((time.perf_counter() - begun) * 1000 / n)
            found.append(
                {
                    "sampler": sampler,
                    "steps": steps,
                    "distance": statistics.median(distances(torch.cat(images))),
                    "seconds": seconds,
                }
            )
    return found


def cheapest(entries: list[dict], distance: float) -> dict | None:
    """Return the entry that reaches a distance within the tolerance in the least time, or None."""
    good = [e for e in entries if e["distance"] <= TOLERANCE * distance]
    return min(good, key=lambda e: statistics.median(e["seconds"]), default=None)


def run(args: argparse.Namespace) -> None:
    """Measure every contender that has a trained network and print the table."""
    check_count(args.sampling_digits)
    if args.sampling_digits < BATCH:
        raise ValueError(
            f"sampling_digits must be at least one batch of {BATCH}, got {args.sampling_digits}."
        )
    results, found = Results(RESULTS, Path(args.out)), {}
    for name in args.only:
        if line := missing(name):
            print(line, flush=True)
            continue
        made = trained(name, 0, max(args.seconds), args)
        if made is None:
            print(
                f"{name} is left out: no network of {max(args.seconds):g} s in {args.out}. Run"
                " train-quality first.",
                flush=True,
            )
            continue
        key = {
            "identity": identity(name, 0, max(args.seconds), args),
            "trained": made,
            "digits": args.sampling_digits,
        }
        key["grid"] = sorted(args.grid)
        found[name] = results.find(key)
        if found[name] is None:
            print(f"sampling: {name}", flush=True)
            found[name] = results.add(key, in_fresh_process("sampling", {"name": name}, args))
    print(assemble(found, floor_distances(args.sampling_digits), args))


def assemble(found: dict[str, list[dict]], floor: list[float], args: argparse.Namespace) -> str:
    """Return the two tables and the verdict from each contender's entries."""
    rows = []
    for name, entries in found.items():
        for sampler, group in itertools.groupby(entries, key=lambda e: e["sampler"]):
            for e in group:
                rows.append(
                    [name, sampler, e["steps"], f"{e['distance']:.1f}", spread(e["seconds"], 1, 2)]
                )
    lines = [
        (
            f"Each contender's network ({max(args.seconds):g} s of training) with its own samplers;"
            f" {args.sampling_digits} digits"
        ),
        f"against as many real ones; real against real {spread(floor, 1)}; batch {BATCH},",
        f"{args.device}, {torch.get_num_threads()} threads;",
        "seconds per 1,000 digits as min / median / max over batches.",
        "",
        table(["contender", "sampler", "steps", "distance", "s per 1,000"], rows),
        "",
    ]
    rows, ratios = [], {}
    for name, entries in found.items():
        best = min(e["distance"] for e in entries)
        peer = cheapest(entries, best)
        ours = cheapest(found.get("ours", []), best)
        row = [
            name,
            f"{best:.1f}",
            f"{peer['sampler']}, {peer['steps']}",
            spread(peer["seconds"], 1, 2),
        ]
        if name != "ours" and ours is not None:
            ratios[name] = statistics.median(peer["seconds"]) / statistics.median(ours["seconds"])
            row += [
                f"{ours['sampler']}, {ours['steps']} ({ours['distance']:.1f})",
                spread(ours["seconds"], 1, 2),
            ]
            row += [f"{ratios[name]:.1f}"]
        else:
            row += ["-" if name == "ours" else "not reached", "-", "-"]
        rows.append(row)
    head = [
        "contender",
        "its best",
        "reached within 5 % by",
        "s per 1,000",
        "ours reaches it by (distance)",
        "s per 1,000",
        "ratio",
    ]
    lines += [table(head, rows), ""]
    if ratios and len(ratios) == len(found) - 1:
        worst = min(ratios, key=ratios.get)
        lines.append(
            f"peer's time / ours at equal quality, smallest ({worst}):"
            f" {verdict(ratios[worst], GOAL, at_most=False)}"
        )
    elif found:
        lines.append(
            "no verdict: ours does not reach some peer's best on this grid, or there is no peer"
        )
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument(
        "--grid",
        type=int,
        nargs="+",
        default=[5, 10, 20, 50],
        help="numbers of steps (default: 5 10 20 50)",
    )
    parser.add_argument(
        "--sampling-digits", type=int, default=512, help="digits for each (default: %(default)s)"
    )
