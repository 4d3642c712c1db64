"""The weights that ship with the course: found in ``data/``, checked against their sha256, loaded
into their networks.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from .. import models
from ..process.schedules import NoiseSchedule, make_schedule
from .checkpoints import load_into, load_tensors

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class ShippedFile:
    """One entry of ``data/manifest.json``: the file, its sha256, the network it fits, and how it
    was made.
    """

    name: str
    path: Path
    sha256: str
    model: str
    config: dict
    schedule: dict | None
    made_by: dict

    def noise_schedule(self) -> NoiseSchedule:
        """Return the schedule that the network was trained with. Raises ValueError if it is not a
        diffusion network.
        """
        if self.schedule is None:
            raise ValueError(f"{self.name!r} is a {self.model}, which has no noise schedule.")
        return make_schedule(**self.schedule)


def data_dir() -> Path:
    """Return the folder of shipped weights: $DIFFUSION_COURSE_DATA if set, else ``data/`` beside
    the package.

    Raises FileNotFoundError, saying what to do, if it holds no manifest.
    """
    override = os.environ.get("DIFFUSION_COURSE_DATA")
    folder = Path(override) if override else Path(__file__).resolve().parents[2] / "data"
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(
            f"no shipped weights: {folder / MANIFEST} does not exist. Work in a clone of the course"
            " (they are in its data/ folder), or set DIFFUSION_COURSE_DATA to a folder that has"
            " them."
        )
    return folder


def shipped_files() -> dict[str, ShippedFile]:
    """Return every entry of the manifest by name. Files are not opened. Raises ValueError if the
    manifest cannot be read.
    """
    folder = data_dir()
    try:
        entries = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return {
            name: ShippedFile(
                name=name, path=folder / e["file"], sha256=e["sha256"], model=e["model"],
                config=e["config"], schedule=e["schedule"], made_by=e["made_by"],
            )
            for name, e in entries.items()
        }
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder / MANIFEST} is damaged ({error!r}). Restore it: git checkout data/{MANIFEST}."
        ) from error


def load_pretrained(name: str) -> nn.Module:
    """Return the shipped network of this name, in evaluation mode on the CPU.

    Raises ValueError for a name that the manifest does not hold, a part of the miniature, or a file
    whose sha256 differs; FileNotFoundError if missing.
    """
    files = shipped_files()
    if name not in files:
        raise ValueError(
            f"there are no shipped weights named {name!r}; there are {', '.join(map(repr, files))}."
        )
    entry = files[name]
    if "/" in name:
        raise ValueError(
            f"{name!r} is a part of a latent model and needs the others: use load_parts()."
        )
    if not entry.path.is_file():
        raise FileNotFoundError(
            f"the weights {name!r} are missing: {entry.path}. Restore them: git checkout data, or"
            f" {entry.made_by['command']}."
        )
    tensors, _ = load_tensors(entry.path, sha256=entry.sha256)
    model = getattr(models, entry.model)(**entry.config)
    load_into(model, tensors, entry.path.name)
    return model.eval()
