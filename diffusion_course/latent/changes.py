"""What `make_scheduler` is asked to change: held to what the new class asks, by name."""

import inspect
import typing
from collections.abc import Mapping

from ..kinds import held_to
from ..sampling.timesteps import SPACINGS
from ..validation import describe
from .schedulers import HARMLESS, OFF, PREDICTIONS, TRAINING, is_one_of, training_table

# Of words, where diffusers itself looks late or not at all
CHOICES = {
    "prediction_type": PREDICTIONS, "timestep_spacing": SPACINGS,
    "interpolation_type": ("linear", "log_linear"), "variance_type": OFF["variance_type"],
}
LEAST = {"steps_offset": 0, "solver_order": 1}


def _check_change(name: str, settings: dict[str, object], kind: str) -> None:
    """Hold a setting to what its class asks, numpy's numbers as Python's; raises for others."""
    import diffusers

    value, given = settings[name], inspect.signature(getattr(diffusers, kind).__init__).parameters
    asked = given[name].annotation if name in given else bool
    choices = CHOICES.get(name) or (typing.get_args(asked) if name != "beta_schedule" else ())
    if name in CHOICES or typing.get_origin(asked) is typing.Literal and choices:
        if not is_one_of(value, choices):
            listed = ", ".join(map(repr, choices))
            raise ValueError(f"{name} must be one of {listed}, got {describe(value)}.")
    elif name in TRAINING and name != "rescale_betas_zero_snr":
        return  # its table is made
    elif (held := held_to(asked)) is not None:
        settings[name] = value = held.of(name, value)
        if value is not None and value < LEAST.get(name, value):
            raise ValueError(f"{name} must be at least {LEAST[name]}, got {value}.")


def check_changes(
    settings: dict[str, object], changes: Mapping[str, object], kind: str
) -> None:
    """Raise ValueError for changes that have no effect, or of names that diffusers finds late."""
    if settings.get("trained_betas") is not None and "trained_betas" not in changes:
        idle = [name for name in ("beta_start", "beta_end", "beta_schedule") if name in changes]
        if idle:
            raise ValueError(
                f"{idle[0]}={changes[idle[0]]!r} changes nothing beside the trained_betas of the"
                " configuration. Change trained_betas=None as well."
            )
    for name in changes:
        _check_change(name, settings, kind)
    if {*TRAINING} & changes.keys() and settings.get("beta_schedule") not in ("laplace", "exp"):
        training_table(settings)


def lost_settings(given: Mapping[str, object], known: Mapping[str, object]) -> str:
    """Return the settings that changed pictures and that another class does not know, or ""."""
    lost = [name for name in given if name in (*OFF, "clip_sample") and name not in known]
    return ", ".join(f"{n}={given[n]!r}" for n in sorted(lost) if given[n] not in HARMLESS[n])
