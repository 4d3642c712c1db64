"""Training throughput: FLOP/s of ``train`` against the machine's matrix-product rate in the same
precision, and steps/s.

Operations are counted by torch.utils.flop_counter while one step runs forward and backward;
attention is written out for the count, because the counter does not know the fused one of the CPU.
The rate is that of the whole step: batch, loss, backward, clipping, optimiser, EMA. The ceiling is
the largest rate of several square products, n = 1024 to 4096 (GPU: 2048 to 8192).
"""

import argparse
import copy
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diffusion_course import diffusion_loss, train, train_step

from . import recipe
from .contenders import BATCH, Diffusers, digits, missing
from .fresh import in_fresh_process
from .report import Results, spread, table, verdict

GOAL_RATE, GOAL_SPEEDUP = 0.35, 3.0
RESULTS = "throughput"
PRODUCTS = {False: [1024, 2048, 4096], True: [2048, 4096, 8192]}  # on a GPU, which is filled later
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def synchronise(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def ceiling(precision: str, args: argparse.Namespace) -> dict:
    """Return the rates in FLOP/s of square matrix products in one precision, by size."""
    best = {}
    if args.device.startswith("cuda"):  # products may use what the convolutions use
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    for n in args.products or PRODUCTS[args.device.startswith("cuda")]:
        a, b = (torch.randn(n, n, device=args.device, dtype=DTYPES[precision]) for _ in range(2))
        rates, begun, at_once = [], time.perf_counter(), 1
        while len(rates) < 4 or (
            len(rates) < 50 and time.perf_counter() - begun < args.throughput_seconds / 3
        ):
            start = time.perf_counter()
            for _ in range(at_once):
                a @ b
            synchronise(args.device)
            elapsed = time.perf_counter() - start
            rates.append(2 * at_once * n**3 / elapsed)
            at_once = max(
                at_once, min(1000, round(at_once * 0.02 / elapsed))
            )  # so many that waiting for them costs nothing
        best[str(n)] = max(rates[1:])
    return best


def networks(args: argparse.Namespace) -> dict[str, tuple[recipe.Recipe, int]]:
    """Return the measured networks with their batches: the bench recipe's, and one wide enough to
    fill the machine.
    """
    bench = recipe.ours(min(args.seconds), args.device)
    channels, batch = recipe.wide(args.device)
    config = bench.config | {"channels": args.wide_channels or channels, "patch_size": 1}
    wide = recipe.Recipe(bench.network, config, bench.schedule, bench.train)
    return {"bench": (bench, BATCH), "wide": (wide, args.wide_batch or batch)}


def count(model: nn.Module, schedule, batch: int, prediction_type: str) -> tuple[int, int]:
    """Return the operations of one forward and one backward pass, from a batch of one."""
    model, x0 = copy.deepcopy(model).cpu(), torch.zeros(1, 1, 16, 16)
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward:
            loss = diffusion_loss(
                model, x0, schedule.alphas_cumprod, prediction_type=prediction_type
            )
        with FlopCounterMode(display=False) as backward:
            loss.backward()
    return batch * forward.get_total_flops(), batch * backward.get_total_flops()


def chunks(steps: Iterator, each: Callable[[], float], args: argparse.Namespace) -> list[float]:
    """Return seconds per step of several chunks of a running loop; ``each`` says how many steps one
    item of it is.
    """
    times, begun = [time.perf_counter()], time.perf_counter()
    for _ in steps:
        synchronise(args.device)
        times.append(time.perf_counter())
        if len(times) > 6 and times[-1] - begun > args.throughput_seconds:
            break
    gaps = [b - a for a, b in itertools.pairwise(times)]
    return [gap / each() for gap in gaps[2:] or gaps]


def time_train(
    made: recipe.Recipe, batch: int, arguments: dict, args: argparse.Namespace
) -> list[float]:
    """Return seconds per step of ``train``, chunk by chunk."""
    torch.manual_seed(0)
    model, data, schedule = (
        made.build().to(args.device),
        digits().to(args.device),
        made.noise_schedule(),
    )
    arguments = made.train | arguments | {"batch_size": batch}
    trial = train(copy.deepcopy(model), data, schedule, num_steps=8, report_every=1, **arguments)
    seconds = [state.seconds for state in trial]
    size = max(1, min(200, round(0.05 * args.throughput_seconds / (seconds[-1] - seconds[-2]))))
    run = train(model, data, schedule, num_steps=1_000_000, report_every=size, **arguments)
    return chunks(run, lambda: size, args)


def rate(network: str, precision: str, args: argparse.Namespace) -> dict:
    """Return operations and times of our training step."""
    made, batch = networks(args)[network]
    forward, backward = count(made.build(), made.noise_schedule(), batch, made.prediction_type)
    seconds = time_train(made, batch, {"precision": precision}, args)
    return {
        "forward": forward,
        "backward": backward,
        "seconds": seconds,
        "config": made.config,
        "batch": batch,
    }


def small(loop: str, args: argparse.Namespace) -> dict:
    """Return seconds per step of the small course network in one of three loops."""
    made = recipe.small_course_network(args.device)
    forward = count(made.build(), made.noise_schedule(), 1, "epsilon")[0]
    if loop == "train":
        return {
            "seconds": time_train(made, BATCH, {}, args),
            "forward": forward,
            "config": f"{made.network}({made.config})",
        }
    if loop == "eager":
        model, data = made.build().to(args.device), digits().to(args.device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        table_ = made.noise_schedule().alphas_cumprod.to(args.device)

        def steps() -> Iterator[float]:
            while True:
                yield train_step(
                    model,
                    data[torch.randint(len(data), (BATCH,), device=args.device)],
                    optimizer,
                    table_,
                )

        return {
            "seconds": chunks(steps(), lambda: 1, args),
            "forward": forward,
            "config": f"{made.network}({made.config})",
        }
    contender = Matched(seed=0, device=args.device, seconds=1e9, precision=args.peer_precision)
    return {
        "seconds": chunks(contender.run(), lambda: 1, args),
        "forward": contender.forward,
        "config": contender.description,
    }


class Matched(Diffusers):
    """diffusers' loop with the UNet2DModel of two levels whose forward pass costs as nearly as
    possible what ours does.
    """

    def build(self) -> None:
        super().build()
        from diffusers import UNet2DModel

        made = recipe.small_course_network()
        target = count(made.build(), made.noise_schedule(), 1, "epsilon")[0]
        best = None
        for channels in range(8, 65, 4):
            unet = UNet2DModel(
                sample_size=16,
                in_channels=1,
                out_channels=1,
                layers_per_block=1,
                block_out_channels=(channels, 2 * channels),
                down_block_types=("DownBlock2D",) * 2,
                up_block_types=("UpBlock2D",) * 2,
                norm_num_groups=4,
                add_attention=False,
            )
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                unet(torch.zeros(1, 1, 16, 16), torch.zeros(1, dtype=torch.int64))
            cost = counter.get_total_flops()
            if best is None or abs(cost - target) < abs(best[0] - target):
                best = cost, unet, f"UNet2DModel({channels}, {2 * channels}; 1 layer; no attention)"
        self.forward, self.unet, self.description = best
        self.shipped = self.unet = self.unet.to(self.device)


def profile(args: argparse.Namespace) -> str:
    """Return the profiler's table for a few of our training steps with the bench network."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    made, batch = networks(args)["bench"]
    torch.manual_seed(0)
    model, data = made.build().to(args.device), digits().to(args.device)
    steps = train(
        model,
        data,
        made.noise_schedule(),
        num_steps=1_000,
        report_every=5,
        **made.train | {"batch_size": batch},
    )
    next(steps)
    on_gpu = args.device.startswith("cuda")
    with profiler(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu) as found:
        next(steps)
        synchronise(args.device)
    return found.key_averages().table(
        sort_by="self_cuda_time_total" if on_gpu else "self_cpu_time_total", row_limit=20
    )


def measure(part: list, args: argparse.Namespace) -> dict | str:
    """Do one part of this benchmark (in a fresh process)."""
    kind, *rest = part
    return {"ceiling": ceiling, "rate": rate, "small": small, "profile": profile}[kind](
        *rest, args=args
    )


def run(args: argparse.Namespace) -> None:
    """Measure ceiling and steps and print the tables; parts that are in the results are not
    repeated.
    """
    if args.profile:
        print(in_fresh_process("throughput", {"part": ["profile"]}, args))
        return
    results, found = Results(RESULTS, Path(args.out)), {}
    parts = [("ceiling", p) for p in DTYPES]
    parts += [("rate", network, p) for network in ("bench", "wide") for p in DTYPES]
    parts += [("small", loop) for loop in ("train", "eager", "diffusers")]
    settings = {
        "device": args.device,
        "threads": torch.get_num_threads(),
        "seconds": args.throughput_seconds,
        "products": args.products,
        "networks": {name: [vars(made), batch] for name, (made, batch) in networks(args).items()},
        "peer precision": args.peer_precision,
    }
    for part in parts:
        if part == ("small", "diffusers") and (line := missing("diffusers")):
            print(line, flush=True)
            continue
        key = settings | {"part": part}
        found[part] = results.find(key)
        if found[part] is None:
            print(f"throughput: {' '.join(part)}", flush=True)
            found[part] = results.add(key, in_fresh_process("throughput", {"part": part}, args))
    print(assemble(found, args))


def assemble(found: dict, args: argparse.Namespace) -> str:
    """Return the two tables and the verdicts."""
    top = {p: max(found["ceiling", p].values()) for p in DTYPES}
    sizes = {p: max(found["ceiling", p], key=found["ceiling", p].get) for p in DTYPES}
    rows, best = [], dict.fromkeys(DTYPES, 0.0)
    for network, precision in itertools.product(("bench", "wide"), DTYPES):
        r = found["rate", network, precision]
        work = r["forward"] + r["backward"]
        shares = [work / s / top[precision] for s in r["seconds"]]
        best[precision] = max(best[precision], statistics.median(shares))
        name = f"{network}: channels {r['config']['channels']}, batch {r['batch']}"
        rows.append(
            [
                name,
                precision,
                f"{work / 1e9:.1f}",
                f"{3 * r['forward'] / 1e9:.1f}",
                spread(r["seconds"]),
            ]
        )
        rows[-1] += [
            spread((work / s for s in r["seconds"]), 1e-9),
            f"{top[precision] / 1e9:.0f}",
            spread(shares, 100),
        ]
    head = [
        "network",
        "precision",
        "GFLOP",
        "3 x forward",
        "ms per step",
        "GFLOP/s",
        "ceiling",
        "% of ceiling",
    ]
    tried = ", ".join(found["ceiling", "float32"])
    products = ", ".join(f"{p} n = {sizes[p]}" for p in DTYPES)
    lines = [
        (
            f"Training step of `train` on {args.device}, {torch.get_num_threads()} threads, digits"
            " at 16x16;"
        ),
        "min / median / max of chunks.",
        f"Ceiling: the largest rate of square products of n in {tried} ({products}).",
        "",
        table(head, rows),
        *(
            f"best share of the ceiling (median), {p}: {verdict(best[p], GOAL_RATE, at_most=False)}"
            for p in DTYPES
        ),
        "",
    ]
    names = {
        "train": "ours: train(), its defaults",
        "eager": "eager: train_step(), float32",
        "diffusers": "diffusers' loop",
    }
    small_ = {loop: found["small", loop] for loop in names if ("small", loop) in found}
    rows = [
        [
            names[loop],
            r["config"],
            f"{r['forward'] / 1e6:.0f}",
            spread(r["seconds"]),
            spread((1 / s for s in r["seconds"]), 1),
        ]
        for loop, r in small_.items()
    ]
    lines.append(
        table(["loop", f"network, batch {BATCH}", "MFLOP forward", "ms per step", "steps/s"], rows)
    )
    ours = statistics.median(small_["train"]["seconds"])
    for loop in ("eager", "diffusers"):
        if loop in small_:
            ratio = statistics.median(small_[loop]["seconds"]) / ours
            judged = (
                verdict(ratio, GOAL_SPEEDUP, at_most=False)
                if args.device.startswith("cuda")
                else f"{ratio:.3g}"
            )
            lines.append(f"steps/s, ours / {names[loop]}: {judged}")
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument(
        "--throughput-seconds",
        type=float,
        default=12.0,
        help="time for each rate (default: %(default)s)",
    )
    parser.add_argument(
        "--products", type=int, nargs="+", help="sizes of the matrix products (default: by device)"
    )
    parser.add_argument(
        "--wide-channels", type=int, help="width of the wide network (default: by device)"
    )
    parser.add_argument("--wide-batch", type=int, help="its batch (default: by device)")
    parser.add_argument(
        "--profile",
        action="store_true",
        help="throughput: print the profile of our training step instead",
    )
