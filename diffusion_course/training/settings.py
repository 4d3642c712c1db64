"""The settings of a training run, and what is asked of the things it is given."""

import math
from dataclasses import dataclass
from numbers import Real

import numpy as np
from torch import Tensor, nn

from ..door import Check, number, one_of, positive_or_none, share
from ..process.kernels import prediction
from ..process.losses import WEIGHTINGS
from ..seeds import MAX_SEED
from ..validation import check_device, describe
from .precision import PRECISIONS


def at_least(least: int, most: float = math.inf) -> Check:
    """Return the check for an int from ``least`` to ``most``."""

    def at_least(name: str, value: object, given: dict) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be an int, got {describe(value)}.")
        if not least <= value <= most:
            up_to = "" if most == math.inf else f" and at most {most}"
            raise ValueError(f"{name} must be at least {least}{up_to}, got {value}.")

    return at_least


def flag(name: str, value: object, given: dict) -> None:
    """Raise TypeError unless the value is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {describe(value)}.")


SETTINGS = {
    "num_steps": at_least(1), "batch_size": at_least(1), "warmup_steps": at_least(0),
    "learning_rate": number(lambda rate: 0 < rate < math.inf, "be positive and finite"),
    "ema_decay": number(lambda decay: 0 <= decay < 1, "lie in [0, 1)"),
    "seed": at_least(0, MAX_SEED),
    "max_grad_norm": positive_or_none, "cond_dropout": share, "compile": flag,
    "precision": one_of(*PRECISIONS), "prediction_type": prediction,
    "weighting": one_of(*WEIGHTINGS),
}


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a run, with all defaults; num_steps and batch_size are at least 1.

    num_steps: steps of the optimiser, each on batch_size samples of one process. learning_rate: its
    highest value, after warmup_steps. ema_decay: of the averaged weights. max_grad_norm: gradients
    are clipped to it; None: never. precision: "float32", "bfloat16" (autocast; weights stay
    float32) or "auto" (``resolve_precision``). compile: use torch.compile, which needs a C++
    compiler. For the loss of a diffusion model: prediction_type and weighting as in
    ``diffusion_loss``, and cond_dropout, the share of conditions that become the null class.
    Numbers of numpy and of tensors become Python's. Raises TypeError or ValueError by name.
    """

    num_steps: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    ema_decay: float = 0.999
    max_grad_norm: float | None = 1.0
    seed: int = 0
    precision: str = "auto"
    compile: bool = False
    prediction_type: str = "epsilon"
    weighting: str = "simple"
    cond_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, check in SETTINGS.items():
            value = getattr(self, name)
            if isinstance(value, (np.generic, np.ndarray, Tensor)) and math.prod(value.shape) == 1:
                object.__setattr__(self, name, value := value.item())
            if isinstance(value, Real) and not isinstance(value, int):  # a Fraction too
                object.__setattr__(self, name, value := float(value))
            if name != "max_grad_norm" or value is not None:
                check(name, value, {})


def trainable(name: str, model: nn.Module, given: dict) -> None:
    """Raise ValueError unless a weight of the network asks for a gradient."""
    if not any(weight.requires_grad for weight in model.parameters()):
        raise ValueError(f"{name} has no weight to train: no parameter that asks for a gradient.")


def launched(name: str, accelerator: object, given: dict) -> None:
    """Raise TypeError unless the value is like an ``accelerate.Accelerator``."""
    if not hasattr(accelerator, "prepare_model"):
        got = describe(accelerator)
        raise TypeError(f"{name} must be an accelerate.Accelerator or None, got {got}.")


def fitting(model: str) -> Check:
    """Return the check for the device and dtype of a network's floating weights, if it has any."""

    def fitting(name: str, x: Tensor, given: dict) -> None:
        network = given[model]
        weights = network.parameters() if isinstance(network, nn.Module) else ()
        if (weight := next((one for one in weights if one.is_floating_point()), None)) is None:
            return
        check_device(name, x, "the network's weights", weight)
        if x.dtype != weight.dtype:
            here, there = (str(one.dtype).removeprefix("torch.") for one in (x, weight))
            cast = f"{name}.float()" if there == "float32" else f"{name}.to(torch.{there})"
            unlike = f"{name} is {here} and the network {there}"
            raise TypeError(f"{unlike}. Cast it: {cast} (got {describe(x)}).")

    return fitting


def one_for_each(name: str, cond: object, given: dict) -> None:
    """Raise unless the conditions are None or one for each sample of ``data``, beside it."""
    data = given["data"]
    if cond is None:
        return
    if cond.shape[:1] != data.shape[:1]:
        raise ValueError(
            f"{name} must have one entry for each sample: got {len(cond) if cond.ndim else 'none'} "
            f"for {len(data)} samples of data ({describe(cond)})."
        )
    check_device(name, cond, "data", data)
