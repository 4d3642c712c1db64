"""Make the weights that the course ships: ``python -m tools.train PART`` (``make train
PART=digits``).

A run writes a checkpoint and a log to build/train/ and goes on from them when started again. At the
end it writes its weights to data/ and their entries to data/manifest.json: sha256, command, seed,
time and machine.

Parts on digits: digits, digits_classes, digit_classifier. Parts of the miniature Stable Diffusion,
in this order: judge, vae, text_encoder, denoiser, denoiser_more, text_places, denoiser_places.
"""

import argparse
import json
import os
import sys

import torch

from diffusion_course import default_device
from diffusion_course.files.checkpoints import load_tensors
from diffusion_course.files.paths import user_path, write_bytes
from tools.denoiser_parts import train_denoiser, train_denoiser_more, train_denoiser_places
from tools.digit_runs import DIGITS, DIGITS_CLASSES, train_classifier, train_digits
from tools.digit_runs import SCHEDULE as DIGITS_SCHEDULE
from tools.jobs import ROOT, Job, Part, ship
from tools.scene_parts import train_judge, train_text_encoder, train_text_places, train_vae
from tools.scene_runs import JUDGE_CONFIG, SCHEDULE

PARTS = {
    "digits": Part(train_digits, 8_000, DIGITS, DIGITS_SCHEDULE),
    "digits_classes": Part(train_digits, 8_000, DIGITS_CLASSES, DIGITS_SCHEDULE),
    "digit_classifier": Part(train_classifier, 1_500, {}, None),
    "judge": Part(train_judge, 2_000, JUDGE_CONFIG, None),
    "vae": Part(train_vae, 4_000, {}, None),
    "text_encoder": Part(train_text_encoder, 800, {}, None),
    "denoiser": Part(train_denoiser, 6_500, {}, SCHEDULE),
    "denoiser_more": Part(train_denoiser_more, 7_500, {}, SCHEDULE, goes_on=True, seed=1),
    "text_places": Part(train_text_places, 300, {}, None, goes_on=True, seed=2),
    "denoiser_places": Part(train_denoiser_places, 5_500, {}, SCHEDULE, goes_on=True, seed=2),
}


def main(argv: list[str] | None = None) -> int:
    """Run one part and ship its weights; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.train", description=__doc__.splitlines()[0]
    )
    parser.add_argument("part", choices=sorted(PARTS), help="which weights to make")
    parser.add_argument("--steps", type=int, help="optimiser steps (default: the shipped run's)")
    parser.add_argument(
        "--device", default=str(default_device()), help="where to train (default: %(default)s)"
    )
    parser.add_argument(
        "--data",
        type=user_path,
        default=ROOT / "data",
        help="where the weights go (default: data/)",
    )
    parser.add_argument(
        "--work",
        type=user_path,
        default=ROOT / "build" / "train",
        help="checkpoint and log (default: build/train/)",
    )
    args = parser.parse_args(argv)
    part = PARTS[args.part]
    job = Job(
        args.part,
        args.steps or part.steps,
        torch.device(args.device),
        args.work,
        args.data,
        part.seed,
    )
    if job.checkpoint.is_file() and load_tensors(job.checkpoint)[1].get("step") == job.steps:
        print(
            f"{args.part}: the run was complete already; delete {job.checkpoint} to train anew.",
            file=sys.stderr,
        )
        return 1
    args.work.mkdir(parents=True, exist_ok=True)
    if int(
        os.environ.get("RANK", "0")
    ):  # not the first process of accelerate launch: that one reports and writes
        for _ in part.train(job):
            pass
        return 0
    report, clock = (
        None,
        args.work / f"{args.part}-seconds.json",
    )  # of the stretches before, if the run goes on from a checkpoint
    before = json.loads(clock.read_text()) if clock.is_file() and job.checkpoint.is_file() else 0.0
    with open(args.work / f"{args.part}.log", "a", encoding="utf-8") as log:
        for report in part.train(job):
            report = report._replace(seconds=before + report.seconds)
            write_bytes(clock, json.dumps(report.seconds).encode())
            line = f"{args.part} {report.step}/{job.steps}: {report.text}, {report.seconds:.0f} s"
            print(line, flush=True)
            print(line, file=log, flush=True)
    for file in ship(job, part, report):
        print(f"wrote {file} ({file.stat().st_size / 2**20:.2f} MiB)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
