"""What the training parts have in common: a job's settings, and how finished weights are written
and entered in the manifest.
"""

import json
import platform
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from diffusion_course.files.checkpoints import save_tensors, sha256_of, write_bytes
from diffusion_course.files.pretrained import MANIFEST
from diffusion_course.latent.parts import MINIATURE
from diffusion_course.training.precision import has_fast_bfloat16

ROOT = Path(__file__).resolve().parent.parent
SEED = 0


class Job(NamedTuple):
    """One run of a part: its name, optimiser steps, where to compute, the folders of checkpoints
    and of weights, the seed.
    """

    part: str
    steps: int
    device: torch.device
    work: Path
    data: Path
    seed: int = SEED

    @property
    def checkpoint(self) -> Path:
        """The file that the run goes on from."""
        return self.work / f"{self.part}.safetensors"


class Report(NamedTuple):
    """What a run says now and then: its step, seconds so far, a line of text, and the networks to
    ship by name.
    """

    step: int
    seconds: float
    text: str
    networks: dict[str, nn.Module]


class Part(NamedTuple):
    """How one part is trained: a function of the job, the shipped run's steps, and what the
    manifest says of its networks.

    goes_on: it starts from shipped weights; their own making stays in the manifest as "after".
    seed: of pictures and noise.
    """

    train: Callable[[Job], Iterator[Report]]
    steps: int
    config: dict
    schedule: dict | None
    goes_on: bool = False
    seed: int = SEED


def made_by(job: Job, report: Report) -> dict:
    """Return how the weights came to be: command, seed, time and machine class."""
    return {
        "command": f"make train PART={job.part}",
        "steps": job.steps,
        "seed": job.seed,
        "seconds": round(report.seconds),
        "device": str(job.device),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "fast_bfloat16": has_fast_bfloat16(job.device),
        "torch": torch.__version__,
        "result": report.text,
    }


def ship(job: Job, part: Part, report: Report) -> list[Path]:
    """Write every network of the report into ``job.data`` with its entry in the manifest; return
    the files.
    """
    files = []
    for name, network in report.networks.items():
        if name.startswith(MINIATURE):
            file = write_folder(network, job.data / name)
        else:
            file = job.data / f"{name}.safetensors"
            save_tensors(
                file, network.state_dict(), {"model": type(network).__name__, "config": part.config}
            )
        entry = {
            "file": file.relative_to(job.data).as_posix(),
            "sha256": sha256_of(file),
            "model": type(network).__name__,
        }
        entry |= {"config": part.config, "schedule": part.schedule, "made_by": made_by(job, report)}
        if part.goes_on:
            entry["made_by"]["after"] = read_manifest(job.data)[name]["made_by"]
        add_to_manifest(job.data, name, entry)
        files.append(file)
    return files


def read_manifest(data: Path) -> dict[str, dict]:
    """Return the manifest's entries by name; none if there is no manifest yet."""
    path = data / MANIFEST
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def add_to_manifest(data: Path, name: str, entry: dict) -> None:
    """Write ``entry`` under ``name`` into the manifest, keeping the others."""
    entries = read_manifest(data) | {name: entry}
    write_bytes(data / MANIFEST, (json.dumps(entries, indent=2, sort_keys=True) + "\n").encode())


def write_folder(network: nn.Module, folder: Path) -> Path:
    """Write a network in float16 as ``save_pretrained`` does, each file whole or not at all; return
    the file of weights.

    The configuration says float32: transformers loads a network in the dtype that it names,
    diffusers in float32.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        network.half().save_pretrained(work, safe_serialization=True)
        network.float()
        config = Path(work) / "config.json"
        settings = json.loads(config.read_text(encoding="utf-8").replace('"float16"', '"float32"'))
        settings.pop(
            "_name_or_path", None
        )  # where the network was loaded from: a folder of this machine
        config.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        for file in Path(work).iterdir():
            write_bytes(folder / file.name, file.read_bytes())
    return next(folder.glob("*.safetensors"))
