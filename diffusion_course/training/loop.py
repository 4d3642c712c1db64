"""Training: the one step of Algorithm 1, and a loop that can be watched, stopped and resumed."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..door import batch, checked, positive_int, table_beside
from ..files.paths import user_path, writable
from ..process.losses import Model, diffusion_loss
from ..process.schedules import NoiseSchedule
from .run import Run, Trainer
from .settings import TrainConfig, fitting, flag

if TYPE_CHECKING:
    from accelerate import Accelerator

OPTIONS = ("cond", "t", "noise", "prediction_type", "weighting", "gamma", "generator")


def _options(name: str, options: dict, given: dict) -> None:
    if unknown := sorted(options.keys() - set(OPTIONS)):
        raise TypeError(f"train_step has no option {unknown[0]!r}; it has {', '.join(OPTIONS)}.")


@checked(x0=(batch, fitting("unet")), alphas_cumprod=table_beside("x0"), options=_options)
def train_step(
    unet: Model, x0: Tensor, optimizer: torch.optim.Optimizer, alphas_cumprod: Tensor,
    **options: object,
) -> float:
    """Take one step of Algorithm 1 on the batch x0 (B, ...) and return the loss (arXiv 2006.11239).

    Draws t uniformly and noise from N(0, I), predicts, descends. ``options``: cond,
    prediction_type, weighting, generator, as in ``diffusion_loss``. Raises as it does; ValueError
    before any weight has changed if the loss is not finite.
    """
    loss = diffusion_loss(unet, x0, alphas_cumprod, **options)
    value = _finite_loss(loss)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return value


def _finite_loss(loss: Tensor) -> float:
    """Return the loss as a float; raise ValueError unless it is finite and has a gradient."""
    if not loss.requires_grad:
        raise ValueError(
            "the loss depends on no weight that asks for a gradient: look for torch.no_grad(), "
            "detach() or requires_grad=False."
        )
    if not math.isfinite(value := loss.item()):
        raise ValueError(
            f"the loss is {value}: no weight was changed. Lower the learning rate, or look for NaN "
            "in the weights."
        )
    return value


@dataclass(frozen=True)
class TrainState:
    """What ``train`` yields: the mean loss since the last report, times, the EMA network."""

    step: int
    num_steps: int
    loss: float
    learning_rate: float
    seconds: float
    seconds_left: float
    ema_model: nn.Module


def _known(name: str, settings: dict, given: dict) -> None:
    has = [field.name for field in fields(TrainConfig)]
    if unknown := sorted(settings.keys() - set(has)):
        raise TypeError(f"train has no setting {unknown[0]!r}; it has {', '.join(has)}.")


def _resumable(name: str, resume: object, given: dict) -> None:
    flag(name, resume, given)
    if resume and given["checkpoint"] is None:
        raise ValueError("resume=True needs the file to go on from: checkpoint=...")


def _file(name: str, path: object, given: dict) -> None:
    writable(path, name)


REPORTS = {
    "report_every": positive_int, "checkpoint": _file, "checkpoint_every": positive_int,
    "resume": _resumable,
}


def _outside_inference_mode(name: str, model: nn.Module, given: dict) -> None:
    if torch.is_inference_mode_enabled():
        raise ValueError(
            f"{name} cannot be trained inside torch.inference_mode(), which forbids gradients: call"
            f" train outside of it (got {type(model).__name__})."
        )


@checked(settings=_known, model=_outside_inference_mode, **REPORTS)
def train(
    model: nn.Module, data: Tensor, schedule: NoiseSchedule, *, num_steps: int,
    cond: Tensor | None = None, report_every: int = 50, checkpoint: str | Path | None = None,
    checkpoint_every: int = 500, resume: bool = False, accelerator: "Accelerator | None" = None,
    **settings: object,
) -> Iterator[TrainState]:
    """Train ``model`` in place; yield a ``TrainState`` every ``report_every`` steps and at the end.

    Stop whenever you like. ``settings`` are the others of ``TrainConfig``: batch_size,
    learning_rate, warmup_steps, ema_decay, max_grad_norm, prediction_type, weighting, cond_dropout,
    precision, compile, seed. data: (N, ...) on the network's device; batches are drawn with
    replacement. cond: (N, ...), one for each sample. AdamW with warm-up and cosine decay; the
    average is ``state.ema_model``. checkpoint: a file written every ``checkpoint_every`` steps and
    at the end, before that step's report, and tried before the first step; with ``resume`` a run
    goes on from it and ends with the same bits as one that was never stopped, a finished one yields
    its last state. Without, the first checkpoint replaces an older file. accelerator: share each
    step among the processes of ``accelerate launch``; at the end the caller calls its
    ``wait_for_everyone()`` and ``end_training()``.
    Raises ValueError for data that is not finite, a checkpoint of another run (other settings, or
    other contents of schedule, data or cond), or a loss that stops being finite; TypeError for a
    setting that does not exist; OSError where the checkpoint cannot be written.
    """
    config = TrainConfig(num_steps, **settings)
    trainer = Trainer(model, data, schedule, cond, config, accelerator)
    return run_training(
        trainer, report_every=report_every, checkpoint=checkpoint,
        checkpoint_every=checkpoint_every, resume=resume,
    )


@checked(**REPORTS)
def run_training(
    trainer: Run, *, report_every: int = 50, checkpoint: str | Path | None = None,
    checkpoint_every: int = 500, resume: bool = False,
) -> Iterator[TrainState]:
    """Take the steps of any ``Run``, yield a ``TrainState`` now and then, write checkpoints.

    The arguments are ``train``'s. Raises ValueError for a checkpoint of another run, or a loss that
    stops being finite.
    """
    num_steps = trainer.config.num_steps
    if checkpoint is not None:
        if resume and user_path(checkpoint, "checkpoint").is_file():
            trainer.load(checkpoint)
        trainer.save(checkpoint, trial=True)
    trainer.model.train()
    start, first = time.perf_counter(), trainer.step_count

    def state() -> TrainState:
        n, seconds = trainer.step_count, time.perf_counter() - start
        left, rate = seconds / max(1, n - first) * (num_steps - n), trainer.learning_rate()
        return TrainState(n, num_steps, trainer.reported, rate, seconds, left, trainer.ema.model)

    if first == num_steps:  # a finished run
        yield state()
    while trainer.step_count < num_steps:
        trainer.total, trainer.count = trainer.total + trainer.step(), trainer.count + 1
        n = trainer.step_count
        report = n % report_every == 0 or n == num_steps
        keep = checkpoint is not None and (n % checkpoint_every == 0 or n == num_steps)
        if not (report or keep):
            continue
        loss = (trainer.total / trainer.count).item()
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss is {loss} by step {n}. Lower learning_rate (now "
                f"{trainer.config.learning_rate}); the last checkpoint is whole."
            )
        if report:
            trainer.reported, trainer.count = loss, 0
            trainer.total = torch.zeros_like(trainer.total)
        if keep:  # before the report, at which a reader may stop
            trainer.save(checkpoint)
        if report:
            yield state()
            trainer.model.train()  # a reader may have looked at it in evaluation mode
