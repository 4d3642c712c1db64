"""The weights that ship with the course: found in ``data/``, checked, loaded into networks."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from .. import models
from ..door import checked
from ..process.schedules import NoiseSchedule, make_schedule
from ..seeds import on_cpu
from .checkpoints import load_into, load_tensors
from .paths import user_path

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class ShippedFile:
    """One entry of ``data/manifest.json``: a file, the network that it fits, how it was made."""

    name: str
    path: Path
    sha256: str
    model: str
    config: dict
    schedule: dict | None
    made_by: dict

    def noise_schedule(self) -> NoiseSchedule:
        """Return the schedule of the network's training. Raises ValueError if there is none."""
        if self.schedule is None:
            raise ValueError(f"{self.name!r} is a {self.model}, which has no noise schedule.")
        return make_schedule(**self.schedule)


def data_dir() -> Path:
    """Return the folder of weights: $DIFFUSION_COURSE_DATA, else ``data/`` beside the package.

    Raises FileNotFoundError, saying what to do, if it holds no manifest.
    """
    override = os.environ.get("DIFFUSION_COURSE_DATA")
    own = Path(__file__).resolve().parents[2] / "data"
    folder = user_path(override, "DIFFUSION_COURSE_DATA") if override else own
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(
            f"no shipped weights: {folder / MANIFEST} does not exist. Work in a clone of the course"
            " (they are in its data/ folder), or set DIFFUSION_COURSE_DATA to a folder with them."
        )
    return folder


def shipped_files() -> dict[str, ShippedFile]:
    """Return the manifest's entries by name, no file opened. Raises ValueError if it is damaged."""
    folder, fields = data_dir(), ("sha256", "model", "config", "schedule", "made_by")
    try:
        entries = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return {
            name: ShippedFile(name, folder / entry["file"], *(entry[field] for field in fields))
            for name, entry in entries.items()
        }
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        damaged = f"{folder / MANIFEST} is damaged ({error!r})"
        raise ValueError(f"{damaged}. Restore it: git checkout data/{MANIFEST}.") from error


def _shipped(name: str, value: str, given: dict) -> None:
    files = shipped_files()
    if value not in files:
        names = ", ".join(map(repr, files))
        wanted = "name must be one of the shipped weights"
        raise ValueError(f"{wanted}, got {value!r}; there are {names}.")
    if "/" in value:
        part = "is a part of a latent model and needs the others: use load_parts()"
        raise ValueError(f"{value!r} {part}.")
    if not (entry := files[value]).path.is_file():
        missing = f"the weights {value!r} are missing: {entry.path}"
        again = f"git checkout data, or {entry.made_by['command']}"
        raise FileNotFoundError(f"{missing}. Restore them: {again}.")


@checked(name=_shipped)
@on_cpu
def load_pretrained(name: str) -> nn.Module:
    """Return the shipped network of this name, in evaluation mode on the CPU.

    Raises ValueError for an unknown name, a part of the miniature, or a file whose sha256 differs;
    FileNotFoundError for one that is missing.
    """
    entry = shipped_files()[name]
    tensors, _ = load_tensors(entry.path, sha256=entry.sha256)
    model = getattr(models, entry.model)(**entry.config).float()
    load_into(model, tensors, entry.path.name)
    return model.eval()
