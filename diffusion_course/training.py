"""Training: the seed's one step, and a loop that can be watched, stopped and resumed to the bit."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .checkpoints import load_into, load_tensors, save_tensors
from .losses import diffusion_loss
from .schedules import NoiseSchedule
from .validation import check_batch, check_device, check_finite, check_positive_int, widest_float


def train_step(
    unet: Callable[..., Tensor],
    x0: Tensor,
    optimizer: torch.optim.Optimizer,
    alphas_cumprod: Tensor,
    *,
    cond: Tensor | None = None,
    prediction_type: str = "epsilon",
    weighting: str = "simple",
    generator: torch.Generator | None = None,
) -> float:
    """Take one step of Algorithm 1 (Ho et al. 2020, arXiv 2006.11239) on the batch x0 (B, ...) and return the loss as a float.

    Draws t uniformly and noise from N(0, I), predicts, descends. Raises as ``diffusion_loss``; ValueError before any weight
    has changed if the loss is not finite.
    """
    loss = diffusion_loss(
        unet, x0, alphas_cumprod, cond=cond, prediction_type=prediction_type, weighting=weighting, generator=generator
    )
    value = loss.item()
    if not math.isfinite(value):
        raise ValueError(f"the loss is {value}: no weight was changed. Lower the learning rate, or look for NaN in the weights.")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return value


class EMA:
    """A copy of a network whose weights are a running average of the original's: w <- d w + (1 - d) w_new.

    The decay warms up as min(decay, (1 + n) / (10 + n)) with n updates, so that the random start is soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}.")
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, num_updates: int) -> None:
        """Move the average towards the weights of ``model`` after its ``num_updates``-th step; buffers are copied."""
        decay = min(self.decay, (1 + num_updates) / (10 + num_updates))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)


@dataclass(frozen=True)
class TrainState:
    """What ``train`` yields: step of num_steps, mean loss since the last report, learning rate, seconds, the EMA network."""

    step: int
    num_steps: int
    loss: float
    learning_rate: float
    seconds: float
    seconds_left: float
    ema_model: nn.Module


class Trainer:
    """Everything that a training run is: network, EMA, optimiser, step count, random state. ``train`` drives it."""

    def __init__(self, model: nn.Module, data: Tensor, schedule: NoiseSchedule, cond: Tensor | None, config: dict) -> None:
        check_batch("data", data)
        check_finite("data", data)
        check_positive_int("num_steps", config["num_steps"])
        check_positive_int("batch_size", config["batch_size"])
        check_device("data", data, "the network's weights", next(model.parameters()))
        if cond is not None and len(cond) != len(data):
            raise ValueError(f"cond must have one entry for each sample: got {len(cond)} for {len(data)} samples.")
        self.model, self.data, self.cond, self.step_count = model, data, cond, 0
        self.config = config | {"schedule": schedule.name, "T": schedule.num_train_timesteps, "data": list(data.shape)}
        self.alphas_cumprod = schedule.alphas_cumprod.to(data.device, widest_float(data.device))
        self.ema = EMA(model, config["ema_decay"])
        fused = data.device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=config["learning_rate"], weight_decay=0.0, fused=fused)
        self.generator = torch.Generator(data.device).manual_seed(config["seed"])

    def learning_rate(self) -> float:
        """Return the rate of the next step: a linear warm-up, then half a cosine down to zero."""
        c, n = self.config, self.step_count
        warm = min(1.0, (n + 1) / max(1, c["warmup_steps"]))
        return c["learning_rate"] * warm * 0.5 * (1 + math.cos(math.pi * n / c["num_steps"]))

    def step(self) -> Tensor:
        """Take one step and return the loss (), still on the device."""
        c = self.config
        index = torch.randint(len(self.data), (c["batch_size"],), generator=self.generator, device=self.data.device)
        loss = diffusion_loss(
            self.model,
            self.data[index],
            self.alphas_cumprod,
            cond=None if self.cond is None else self.cond[index],
            prediction_type=c["prediction_type"],
            weighting=c["weighting"],
            generator=self.generator,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), c["max_grad_norm"])
        self.optimizer.step()
        self.step_count += 1
        self.ema.update(self.model, self.step_count)
        return loss.detach()

    def save(self, path: str | Path) -> None:
        """Write the whole state to one safetensors file, whole or not at all."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.model.state_dict().items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{k}": v for k, v in state.items()}
        tensors |= {"random.generator": self.generator.get_state(), "random.global": torch.get_rng_state()}
        save_tensors(path, tensors, {"step": self.step_count, "config": self.config})

    def load(self, path: str | Path) -> None:
        """Take up the state of a checkpoint. Raises ValueError if it belongs to a run with other settings or is damaged."""
        tensors, metadata = load_tensors(path)
        theirs = metadata.get("config", {})
        differ = [f"{k}: {theirs.get(k)!r} there, {v!r} here" for k, v in self.config.items() if theirs.get(k) != v]
        if differ:
            raise ValueError(f"{path} is a checkpoint of another run ({'; '.join(differ)}). Use its settings or another file.")
        part = {
            p: {k.removeprefix(p + "."): v for k, v in tensors.items() if k.startswith(p + ".")}
            for p in ("model", "ema", "optimizer")
        }
        load_into(self.model, part["model"], str(path))
        load_into(self.ema.model, part["ema"], str(path))
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in part["optimizer"].items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.generator.set_state(tensors["random.generator"])
        torch.set_rng_state(tensors["random.global"])
        self.step_count = metadata["step"]


def train(
    model: nn.Module,
    data: Tensor,
    schedule: NoiseSchedule,
    *,
    num_steps: int,
    cond: Tensor | None = None,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    warmup_steps: int = 100,
    ema_decay: float = 0.999,
    max_grad_norm: float = 1.0,
    prediction_type: str = "epsilon",
    weighting: str = "simple",
    seed: int = 0,
    report_every: int = 50,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 500,
    resume: bool = False,
) -> Iterator[TrainState]:
    """Train ``model`` in place and yield a ``TrainState`` every ``report_every`` steps and at the end; stop whenever you like.

    data: (N, ...) on the network's device; batches are drawn with replacement. AdamW with warm-up and cosine decay, gradients
    clipped to ``max_grad_norm``, EMA in ``state.ema_model``. ``checkpoint``: a file written every ``checkpoint_every`` steps and
    at the end; with ``resume`` a run goes on from it and ends with the same bits as one that was never stopped.
    Raises ValueError for data that is not finite, a checkpoint of another run, or a loss that stops being finite.
    """
    config = {"num_steps": num_steps, "batch_size": batch_size, "learning_rate": learning_rate, "warmup_steps": warmup_steps}
    config |= {"ema_decay": ema_decay, "max_grad_norm": max_grad_norm, "seed": seed}
    config |= {"prediction_type": prediction_type, "weighting": weighting}
    trainer = Trainer(model, data, schedule, cond, config)
    if resume and checkpoint is not None and Path(checkpoint).is_file():
        trainer.load(checkpoint)
    model.train()
    start, first, total, count = time.perf_counter(), trainer.step_count, torch.zeros((), device=data.device), 0
    while trainer.step_count < num_steps:
        total, count = total + trainer.step(), count + 1
        n = trainer.step_count
        if n % report_every == 0 or n == num_steps:
            loss, total, count = (total / count).item(), torch.zeros_like(total), 0
            if not math.isfinite(loss):
                raise ValueError(
                    f"the loss is {loss} by step {n}. Lower learning_rate (now {learning_rate}); the last checkpoint is whole."
                )
            seconds = time.perf_counter() - start
            left = seconds / (n - first) * (num_steps - n)
            yield TrainState(n, num_steps, loss, trainer.learning_rate(), seconds, left, trainer.ema.model)
        if checkpoint is not None and (n % checkpoint_every == 0 or n == num_steps):
            trainer.save(checkpoint)
