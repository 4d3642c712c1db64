"""Training: the seed's one step, and a loop that can be watched, stopped and resumed to the bit."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..process.losses import diffusion_loss
from ..process.schedules import NoiseSchedule
from .run import Run, Trainer

if TYPE_CHECKING:
    from accelerate import Accelerator


def train_step(
    unet: Callable[..., Tensor], x0: Tensor, optimizer: torch.optim.Optimizer,
    alphas_cumprod: Tensor, *, cond: Tensor | None = None, prediction_type: str = "epsilon",
    weighting: str = "simple", generator: torch.Generator | None = None,
) -> float:
    """Take one step of Algorithm 1 (Ho et al. 2020, arXiv 2006.11239) on the batch x0 (B, ...) and
    return the loss as a float.

    Draws t uniformly and noise from N(0, I), predicts, descends. Raises as ``diffusion_loss``;
    ValueError before any weight has changed if the loss is not finite.
    """
    loss = diffusion_loss(
        unet, x0, alphas_cumprod, cond=cond, prediction_type=prediction_type, weighting=weighting,
        generator=generator,
    )
    value = loss.item()
    if not math.isfinite(value):
        raise ValueError(
            f"the loss is {value}: no weight was changed. Lower the learning rate, or look for NaN"
            " in the weights."
        )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return value


@dataclass(frozen=True)
class TrainState:
    """What ``train`` yields: step of num_steps, mean loss since the last report, learning rate,
    seconds, the EMA network.
    """

    step: int
    num_steps: int
    loss: float
    learning_rate: float
    seconds: float
    seconds_left: float
    ema_model: nn.Module


def train(
    model: nn.Module, data: Tensor, schedule: NoiseSchedule, *, num_steps: int,
    cond: Tensor | None = None, batch_size: int = 128, learning_rate: float = 1e-3,
    warmup_steps: int = 100, ema_decay: float = 0.999, max_grad_norm: float = 1.0,
    prediction_type: str = "epsilon", weighting: str = "simple", cond_dropout: float = 0.0,
    precision: str = "auto", compile: bool = False, seed: int = 0, report_every: int = 50,
    checkpoint: str | Path | None = None, checkpoint_every: int = 500, resume: bool = False,
    accelerator: "Accelerator | None" = None,
) -> Iterator[TrainState]:
    """Train ``model`` in place and yield a ``TrainState`` every ``report_every`` steps and at the
    end; stop whenever you like.

    data: (N, ...) on the network's device; batches are drawn with replacement. AdamW with warm-up
    and cosine decay, gradients clipped to ``max_grad_norm``, EMA in ``state.ema_model``. ``cond``:
    (N, ...) one for each sample; a share ``cond_dropout`` of a batch's classes is replaced by the
    network's null class. ``precision``: "float32", "bfloat16" (autocast; the weights stay float32)
    or "auto" (``resolve_precision``). ``compile``: torch.compile, with CUDA graphs on a GPU; it
    needs a C++ compiler. ``checkpoint``: a file written every ``checkpoint_every`` steps and at the
    end; with ``resume`` a run goes on from it and ends with the same bits as one that was never
    stopped. ``accelerator``: share each step among the processes of ``accelerate launch``;
    ``batch_size`` counts one process. At the end the caller calls its ``wait_for_everyone()`` and
    ``end_training()``. Raises ValueError for data that is not finite, a checkpoint of another run,
    or a loss that stops being finite.
    """
    config = {
        "num_steps": num_steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "warmup_steps": warmup_steps,
    }
    config |= {"ema_decay": ema_decay, "max_grad_norm": max_grad_norm, "seed": seed}
    config |= {
        "prediction_type": prediction_type,
        "weighting": weighting,
        "cond_dropout": cond_dropout,
    }
    config |= {"precision": precision, "compile": compile}
    trainer = Trainer(model, data, schedule, cond, config, accelerator)
    return run_training(
        trainer, report_every=report_every, checkpoint=checkpoint,
        checkpoint_every=checkpoint_every, resume=resume,
    )


def run_training(
    trainer: Run, *, report_every: int = 50, checkpoint: str | Path | None = None,
    checkpoint_every: int = 500, resume: bool = False,
) -> Iterator[TrainState]:
    """Take the steps of any ``Run``; yield a ``TrainState`` every ``report_every`` steps and at the
    end, write checkpoints.

    The arguments are ``train``'s. Raises ValueError for a checkpoint of another run, or a loss that
    stops being finite.
    """
    num_steps = trainer.config["num_steps"]
    if resume and checkpoint is not None and Path(checkpoint).is_file():
        trainer.load(checkpoint)
    trainer.model.train()
    start, first, total, count = (
        time.perf_counter(), trainer.step_count, torch.zeros((), device=trainer.device), 0
    )
    while trainer.step_count < num_steps:
        total, count = total + trainer.step(), count + 1
        n = trainer.step_count
        if n % report_every == 0 or n == num_steps:
            loss, total, count = (total / count).item(), torch.zeros_like(total), 0
            if not math.isfinite(loss):
                rate = trainer.config["learning_rate"]
                raise ValueError(
                    f"the loss is {loss} by step {n}. Lower learning_rate (now {rate}); the last"
                    " checkpoint is whole."
                )
            seconds = time.perf_counter() - start
            left = seconds / (n - first) * (num_steps - n)
            yield TrainState(
                n, num_steps, loss, trainer.learning_rate(), seconds, left, trainer.ema.model
            )
        if checkpoint is not None and (n % checkpoint_every == 0 or n == num_steps):
            trainer.save(checkpoint)
