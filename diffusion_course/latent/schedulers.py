"""The configuration of a diffusers scheduler: what it says of the training, and its defaults."""

import difflib
import inspect
import math
from collections.abc import Mapping
from functools import cache
from numbers import Integral, Real
from pathlib import Path

import torch
from torch import Tensor

from ..process.schedules import NoiseSchedule, make_schedule, rescale_zero_terminal_snr
from ..sampling.timesteps import SPACINGS
from ..validation import describe

BETA_SCHEDULES = {  # diffusers' names -> this course's
    "linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine",
    "sigmoid": "sigmoid",
}
PREDICTIONS = ("epsilon", "sample", "v_prediction")
# How the network was trained. The other settings say how a scheduler steps.
TRAINING = (
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas",
    "prediction_type", "rescale_betas_zero_snr",
)
# Settings that change the pictures of any scheduler that knows them, and where they change none
OFF = {
    "thresholding": (False,), "use_karras_sigmas": (False,),
    "use_exponential_sigmas": (False,), "use_beta_sigmas": (False,),
    "use_flow_sigmas": (False,), "use_lu_lambdas": (False,),
    "use_dynamic_shifting": (False,), "timestep_type": ("discrete",),
    "final_sigmas_type": ("zero",), "lambda_min_clipped": (-math.inf,),
    "shift_terminal": (None,),
    "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
}
# Of classes that are not read here, or of releases of 2022
OTHERS = ("tensor_format", "original_inference_steps", "timestep_scaling")
# Settings of 2022 that diffusers does not read any more, and what they may say
OLD = {"timestep_values": (None,), "predict_epsilon": (True,)}
HARMLESS = OFF | {"clip_sample": (False,), "set_alpha_to_one": (True,)}
UNTRANSLATED = (
    "cannot be translated: its noise or its steps are not those of the schedulers that can take"
    " each other's place"
)


@cache
def defaults_of(name: str) -> dict[str, object]:
    """Return the settings of a scheduler of diffusers and their defaults, {} for what is none."""
    import diffusers

    kind = getattr(diffusers, name, None) if name in _names() else None
    parameters = inspect.signature(kind.__init__).parameters.values() if kind else ()
    found = {p.name: p.default for p in parameters if p.default is not p.empty}
    return found if "trained_betas" in found else {}


@cache
def _names() -> tuple[str, ...]:
    """Return the schedulers that can take each other's place."""
    from diffusers import DDIMScheduler

    return tuple(DDIMScheduler._compatibles)


@cache
def _known() -> frozenset[str]:
    """Return the settings of all schedulers."""
    return frozenset(OTHERS).union(*map(defaults_of, _names()))


def nearest(name: str, names: object) -> str:
    """Return "; did you mean ...?" for the nearest of the names, "" if none is near."""
    near = difflib.get_close_matches(str(name), [*names], 1)
    return f"; did you mean {near[0]!r}?" if near else "."


def _parameters(name: str) -> list[str]:
    """Return the settings of a class of diffusers."""
    import diffusers

    return [*inspect.signature(getattr(diffusers, name).__init__).parameters][1:]


def _all() -> list[str]:
    """Return all schedulers of diffusers, also those of other kinds of diffusion."""
    import diffusers

    return [one for one in dir(diffusers) if one.endswith("Scheduler")]


def check_class(name: object) -> None:
    """Raise ValueError for a class of diffusers that no other scheduler can stand for."""
    import diffusers

    kind = getattr(diffusers, name, None) if isinstance(name, str) and name else None
    if kind is None or defaults_of(name):
        return
    own = _parameters(name)
    if "trained_betas" not in own or {*own} - _known():
        known = ", ".join(filter(defaults_of, _names()))
        raise ValueError(f"_class_name is {name!r}, which {UNTRANSLATED}. Those are {known}.")


def is_one_of(value: object, choices: tuple) -> bool:
    """Whether the value is one of these, and of its type: 0 is not False."""
    return any(type(value) is type(one) and value == one for one in choices)


def given_settings(config: Mapping[str, object]) -> dict[str, object]:
    """Return what was set, without what diffusers filled in; raises ValueError for a misspelling.

    A ``scheduler.config`` of diffusers holds its class's defaults as well, and their names.
    """
    check_class(config.get("_class_name", ""))
    own = defaults_of(config.get("_class_name", ""))  # a pipeline may have changed one since
    filled = {n for n in config.get("_use_default_values", ()) if own.get(n) == config.get(n)}
    given = {name: config[name] for name in config if name not in filled and name[:1] != "_"}
    for name in OLD.keys() & given.keys():
        if not is_one_of(value := given.pop(name), OLD[name]):
            cure = " Write prediction_type='sample'." if name == "predict_epsilon" else ""
            raise ValueError(
                f"{name} is {describe(value)}, a setting of 2022 that diffusers does not follow any"
                f" more; only {OLD[name][0]!r} changes nothing.{cure}"
            )
    if strange := sorted(map(str, given.keys() - _known())):
        if others := [one for one in _all() if given.keys() <= {*_parameters(one)}]:
            raise ValueError(
                f"{strange[0]} is a setting of {' and '.join(others)}, which {UNTRANSLATED}."
            )
        tip = nearest(strange[0], _known())
        raise ValueError(f"no scheduler has a setting {strange[0]!r}{tip}")
    return given


def complete(config: Mapping[str, object]) -> dict[str, object]:
    """Return the settings of a configuration, those left out with the defaults of its class."""
    return defaults_of(config.get("_class_name", "")) | given_settings(config)


def read_scheduler(config: Mapping[str, object]) -> dict[str, object]:
    """Return the fields of ``LatentParts`` that a scheduler's configuration holds.

    What it leaves out has the default of the class that it names, as in diffusers; a
    ``timestep_spacing`` that it leaves out is None. ``clip_sample`` does not count: diffusers'
    ``StableDiffusionPipeline`` switches it off. Raises ValueError, naming the setting, for what
    would be read otherwise than diffusers reads it.
    """
    kind = config.get("_class_name")
    if not isinstance(kind, str) or not (own := defaults_of(kind)):
        known = ", ".join(name for name in _names() if defaults_of(name))
        raise ValueError(f"_class_name must be one of {known}, got {describe(kind)}.")
    settings = complete(config)
    for name, harmless in OFF.items():
        if name in own and settings[name] not in harmless:
            raise ValueError(
                f"{name} is {settings[name]!r}: this course's samplers do not follow that, and"
                f" would draw other pictures. If that is what you want, write {harmless[0]!r}."
            )
    for name in ("set_alpha_to_one", "rescale_betas_zero_snr"):
        if not isinstance(settings.get(name, False), bool):
            raise ValueError(f"{name} must be true or false, got {describe(settings[name])}.")
    if settings.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" not in own:
        raise ValueError(
            f"rescale_betas_zero_snr is True, which {kind} does not know: the betas of the training"
            " are not clear. Name a class that knows it, such as DDIMScheduler."
        )
    _check_choice(settings, "prediction_type", PREDICTIONS)
    if settings.get("timestep_spacing") is not None:
        _check_choice(settings, "timestep_spacing", SPACINGS)
    offset = settings.get("steps_offset", 0)
    if isinstance(offset, bool) or not isinstance(offset, Integral) or offset < 0:
        raise ValueError(f"steps_offset must be a whole number >= 0, got {describe(offset)}.")
    return {
        "schedule": _schedule(settings, kind), "prediction_type": settings["prediction_type"],
        "spacing": given_settings(config).get("timestep_spacing"), "steps_offset": int(offset),
        "ends_clean": settings.get("set_alpha_to_one", True),
    }


def _check_choice(settings: dict, name: str, choices: tuple[str, ...]) -> None:
    if not isinstance(settings[name], str) or settings[name] not in choices:
        demand = f"{name} must be one of {', '.join(map(repr, choices))}"
        raise ValueError(f"{demand}, got {describe(settings[name])}.")


def _schedule(settings: dict, kind: str) -> NoiseSchedule:
    """Return the tables of a class's complete settings, in float64."""
    steps, betas = settings["num_train_timesteps"], settings["trained_betas"]
    if isinstance(steps, bool) or not isinstance(steps, Integral) or steps < 1:
        raise ValueError(f"num_train_timesteps must be an int >= 1, got {describe(steps)}.")
    rescale = settings.get("rescale_betas_zero_snr", False)
    if betas is not None:
        table = _trained(betas, int(steps))
        return NoiseSchedule(rescale_zero_terminal_snr(table) if rescale else table)
    _check_choice(settings, "beta_schedule", tuple(BETA_SCHEDULES))
    name = settings["beta_schedule"]
    if name == "sigmoid" and kind != "DDPMScheduler":
        raise ValueError(f"beta_schedule 'sigmoid' is not known to {kind}, only to DDPMScheduler.")
    ends = () if name == "squaredcos_cap_v2" else ("beta_start", "beta_end")
    for end in ends:
        if isinstance(settings[end], bool) or not isinstance(settings[end], Real):
            raise ValueError(f"{end} must be a number, got {describe(settings[end])}.")
    return make_schedule(
        BETA_SCHEDULES[name], int(steps), zero_terminal_snr=rescale,
        **{end: float(settings[end]) for end in ends},
    )


def _trained(betas: object, steps: int) -> Tensor:
    try:
        table = torch.as_tensor(betas, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        got = describe(betas)
        raise ValueError(f"trained_betas must be a list of numbers, got {got}.") from None
    if table.shape != (steps,):
        raise ValueError(
            f"trained_betas must have num_train_timesteps={steps} entries, got shape"
            f" {tuple(table.shape)}."
        )
    return table


def carried_over(config: Mapping[str, object]) -> dict[str, object]:
    """Return what another class of scheduler is to be told: what was set, and how it was trained.

    Also where the chain ends, and that x0 is not clipped, if the class that ``config`` names has
    other defaults than the next.
    """
    settings, given = complete(config), given_settings(config)
    kept = {name: settings[name] for name in (*TRAINING, "set_alpha_to_one") if name in settings}
    if "_class_name" in config:
        kept["clip_sample"] = settings.get("clip_sample", False)
    return given | kept


def trains_alike(settings: Mapping[str, object], kind: str) -> bool:
    """Whether a class makes these betas from the settings of their schedule."""
    if settings.get("trained_betas") is None and settings.get("beta_schedule") == "sigmoid":
        return kind == "DDPMScheduler"
    name = "rescale_betas_zero_snr"
    return not settings.get(name) or name in defaults_of(kind)


def training_table(settings: Mapping[str, object]) -> list[float]:
    """Return the betas of the settings, as ``trained_betas`` for any class.

    A last beta of 1 becomes less, so that sigma stays finite, as in diffusers' own schedulers in
    sigma: there abar_T is 2^-24.
    """
    training = {name: settings[name] for name in TRAINING if name in settings}
    betas = _schedule(defaults_of("DDPMScheduler") | training, "DDPMScheduler").betas.clone()
    if betas[-1] == 1:
        betas[-1] = 1 - min(2**-24 / (1 - betas[:-1]).prod().item(), 0.5)
    return betas.tolist()


def read_file(config: Mapping[str, object], path: Path) -> dict[str, object]:
    """Return ``read_scheduler`` of the content of a file, which an error names."""
    try:
        return read_scheduler(config)
    except (TypeError, ValueError) as error:
        what = f"the scheduler in {path} cannot be read as diffusers reads it"
        raise ValueError(f"{what}: {error}") from None
