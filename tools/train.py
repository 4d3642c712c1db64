"""Make the weights that the course ships: ``python -m tools.train PART`` (``make train PART=digits``).

A run writes a checkpoint and a log to build/train/ and goes on from them when started again. At the end it writes
data/PART.safetensors and its entry in data/manifest.json: sha256, command, seed, time and machine.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from diffusion_course import DigitClassifier, UNet, default_device, load_dataset, make_schedule, train
from diffusion_course.checkpoints import save_tensors, sha256_of, write_bytes
from diffusion_course.precision import has_fast_bfloat16
from diffusion_course.pretrained import MANIFEST

ROOT = Path(__file__).resolve().parent.parent
DIGITS = {"in_channels": 1, "channels": 32, "channel_mult": [1, 2]}
DIGITS_CLASSES = DIGITS | {"num_classes": 10}
SCHEDULE = {"name": "linear", "num_train_timesteps": 1000}
SEED, BATCH = 0, 128


def train_digits(part: str, config: dict, steps: int, device: torch.device, work: Path) -> Iterator[tuple[int, str, nn.Module]]:
    """Train a noise predictor on the training digits at 16x16; yield (step, report, network).

    With classes in ``config`` it learns them, and one in ten labels is dropped, so that it can be guided. Under
    ``accelerate launch`` the processes share each batch.
    """
    accelerator = Accelerator(cpu=device.type == "cpu")
    device = accelerator.device
    torch.manual_seed(SEED)  # the network's first weights
    model = UNet(**config).to(device)
    data = load_dataset("digits", split="train", size=16)
    classes = {"cond": data.labels.to(device), "cond_dropout": 0.1} if "num_classes" in config else {}
    for state in train(
        model,
        data.images.to(device),
        make_schedule(**SCHEDULE),
        num_steps=steps,
        batch_size=BATCH // accelerator.num_processes,
        learning_rate=2e-3,
        ema_decay=0.999,
        seed=SEED,
        report_every=100,
        checkpoint=work / f"{part}.safetensors",
        checkpoint_every=500,
        resume=True,
        accelerator=accelerator,
        **classes,
    ):
        yield state.step, f"loss {state.loss:.4f}, {state.seconds:.0f} s, {state.seconds_left:.0f} s left", state.ema_model
    accelerator.wait_for_everyone()  # a process that leaves at once can abort: gloo's threads still let go of tensors
    accelerator.end_training()


def train_classifier(
    part: str, config: dict, steps: int, device: torch.device, work: Path
) -> Iterator[tuple[int, str, nn.Module]]:
    """Train the digit classifier on small random shifts of the training digits; yield (step, report, network)."""
    torch.manual_seed(SEED)
    model = DigitClassifier().to(device)
    data, test = (load_dataset("digits", split=split, size=16) for split in ("train", "test"))
    images, labels = data.images.to(device), data.labels.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(1, steps + 1):
        index = torch.randint(len(images), (128,), device=device)
        dy, dx = torch.randint(-1, 2, (2,)).tolist()
        batch = torch.roll(images[index], (dy, dx), (2, 3)) + 0.1 * torch.randn(128, 1, 16, 16, device=device)
        loss = nn.functional.cross_entropy(model(batch), labels[index], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        if step % 200 == 0 or step == steps:
            with torch.no_grad():
                right = (model(test.images.to(device)).argmax(1).cpu() == test.labels).float().mean().item()
            yield step, f"loss {loss.item():.4f}, test accuracy {right:.4f}", model


PARTS = {
    "digits": (train_digits, 8_000, "UNet", DIGITS, SCHEDULE),
    "digits_classes": (train_digits, 8_000, "UNet", DIGITS_CLASSES, SCHEDULE),
    "digit_classifier": (train_classifier, 1_500, "DigitClassifier", {}, None),
}


def add_to_manifest(data: Path, name: str, entry: dict) -> None:
    """Write ``entry`` under ``name`` into the manifest, keeping the others."""
    path = data / MANIFEST
    entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    entries[name] = entry
    write_bytes(path, (json.dumps(entries, indent=2, sort_keys=True) + "\n").encode())


def main(argv: list[str] | None = None) -> int:
    """Run one part and ship its weights; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.train", description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=sorted(PARTS), help="which weights to make")
    parser.add_argument("--steps", type=int, help="optimiser steps (default: the shipped run's)")
    parser.add_argument("--device", default=str(default_device()), help="where to train (default: %(default)s)")
    parser.add_argument("--data", type=Path, default=ROOT / "data", help="where the weights go (default: data/)")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "train", help="checkpoint and log (default: build/train/)")
    args = parser.parse_args(argv)
    function, default_steps, model_name, config, schedule = PARTS[args.part]
    steps = args.steps or default_steps
    args.work.mkdir(parents=True, exist_ok=True)
    if int(os.environ.get("RANK", "0")):  # not the first process of accelerate launch: that one reports and writes
        for _ in function(args.part, config, steps, torch.device(args.device), args.work):
            pass
        return 0
    start, model = time.perf_counter(), None
    with open(args.work / f"{args.part}.log", "a", encoding="utf-8") as log:
        for step, report, model in function(args.part, config, steps, torch.device(args.device), args.work):  # noqa: B007
            line = f"{args.part} {step}/{steps}: {report}"
            print(line, flush=True)
            print(line, file=log, flush=True)
    if model is None:
        print(
            f"{args.part}: the run was complete already; delete {args.work / args.part}.safetensors to train anew.",
            file=sys.stderr,
        )
        return 1
    file = args.data / f"{args.part}.safetensors"
    tensors = {name: x.contiguous() for name, x in model.state_dict().items()}
    save_tensors(file, tensors, {"model": model_name, "config": config})
    made_by = {
        "command": f"make train PART={args.part}",
        "steps": steps,
        "seed": SEED,
        "seconds": round(time.perf_counter() - start),
        "device": args.device,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "fast_bfloat16": has_fast_bfloat16(torch.device(args.device)),
        "torch": torch.__version__,
        "result": report,
    }
    add_to_manifest(
        args.data,
        args.part,
        {
            "file": file.name,
            "sha256": sha256_of(file),
            "model": model_name,
            "config": config,
            "schedule": schedule,
            "made_by": made_by,
        },
    )
    print(f"wrote {file} ({file.stat().st_size / 2**20:.2f} MiB)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
