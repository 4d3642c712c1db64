"""The state of a training run: network, average, optimiser, randomness; a step, checkpoints."""

import copy
import math
import warnings
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..door import batch, checked, finite
from ..files.checkpoints import content_of, load_into, load_tensors, plain_names, save_tensors
from ..process.guidance import drop_condition
from ..process.kernels import noise_like
from ..process.losses import diffusion_loss
from ..process.schedules import NoiseSchedule
from ..seeds import make_generator
from ..validation import widest_float
from .precision import autocast, resolve_precision, set_layout
from .settings import SETTINGS, TrainConfig, at_least, fitting, launched, one_for_each, trainable

if TYPE_CHECKING:
    from accelerate import Accelerator


def _of_one_kind(name: str, model: nn.Module, given: dict) -> None:
    mine, theirs = ([w.shape for w in m.parameters()] for m in (given["self"].model, model))
    if mine != theirs:
        raise ValueError(f"{name} must be the network that is averaged, got other weights.")


class EMA:
    """A copy of a network with a running average of its weights: w <- d w + (1 - d) w_new.

    The decay warms up as min(decay, (1 + n) / (10 + n)) with n updates, so that the random start is
    soon forgotten. Raises TypeError for no network, ValueError for a decay outside [0, 1).
    """

    @checked(decay=SETTINGS["ema_decay"])
    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    @checked(model=_of_one_kind, num_updates=at_least(0))
    def update(self, model: nn.Module, num_updates: int) -> None:
        """Move the average towards ``model`` after its ``num_updates``-th step; copy buffers."""
        decay = min(self.decay, (1 + num_updates) / (10 + num_updates))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)


class Run:
    """What every training run is: network, EMA, AdamW, step count, random state, checkpoints.

    A subclass says what the loss is. With an ``accelerate.Accelerator`` of several processes, each
    draws the numbers of the whole batch and keeps its ``share``, so the run is that of one process
    with the batch of all. ``same``: what must agree for a checkpoint to be of this run, of tensors
    their contents.
    """

    @checked(model=trainable, accelerator=launched)
    def __init__(
        self, model: nn.Module, config: TrainConfig, device: torch.device,
        accelerator: "Accelerator | None" = None, **same: object,
    ) -> None:
        self.step_count, self.device, self.config, self.same = 0, device, config, same
        self.model = self.network = model
        if config.compile:  # on a GPU "reduce-overhead" replays CUDA graphs
            mode = "reduce-overhead" if device.type == "cuda" else None
            self.network = torch.compile(model, mode=mode)
        self.accelerator, self.num_processes, rank = accelerator, 1, 0
        if accelerator is not None:  # starts all processes from the first one's weights
            self.network = accelerator.prepare_model(self.network)
            self.num_processes, rank = accelerator.num_processes, accelerator.process_index
        self.share = slice(rank * config.batch_size, (rank + 1) * config.batch_size)
        self.ema = EMA(model, config.ema_decay)
        options = {"weight_decay": 0.0, "fused": device.type in ("cpu", "cuda")}
        self.optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate, **options)
        self.generator = make_generator(config.seed, device)
        # Of the steps since the last report the summed loss and their number; that report's loss.
        self.total, self.count, self.reported = torch.zeros((), device=device), 0, math.nan

    @cached_property
    def identity(self) -> dict[str, object]:
        """What must agree for a checkpoint to be of this run, as it is written there."""
        same = {k: content_of(v) if isinstance(v, Tensor) else v for k, v in self.same.items()}
        return asdict(self.config) | same | {"num_processes": self.num_processes}

    def loss(self) -> Tensor:
        """Return the loss () of this process's share of a batch drawn with ``self.generator``."""
        raise NotImplementedError

    def learning_rate(self) -> float:
        """Return the rate of the next step: a linear warm-up, then half a cosine down to zero."""
        c, n = self.config, self.step_count
        warm = min(1.0, (n + 1) / max(1, c.warmup_steps))
        return c.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * n / c.num_steps))

    @torch.enable_grad()
    def step(self) -> Tensor:
        """Take one step; return the loss (), on the device, the mean over all processes."""
        with autocast(self.device, self.config.precision):
            loss = self.loss()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.zero_grad()
        loss.backward()
        if (norm := self.config.max_grad_norm) is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), norm)
        self.optimizer.step()
        self.step_count += 1
        self.ema.update(self.model, self.step_count)
        loss = loss.detach()
        return loss if self.num_processes == 1 else self.accelerator.reduce(loss, "mean")

    def save(self, path: str | Path, *, trial: bool = False) -> None:
        """Write the whole state to one safetensors file; of several processes the first does.

        ``trial``: write it beside that file and remove it, to see that it can be done.
        """
        if self.accelerator is not None and not self.accelerator.is_main_process:
            return
        networks = {"model": self.model, "ema": self.ema.model}
        parts = {name: plain_names(one.state_dict()) for name, one in networks.items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            parts[f"optimizer.{i}"] = state
        parts["random"] = {"generator": self.generator.get_state(), "global": torch.get_rng_state()}
        parts["loss"] = {"total": self.total}
        tensors = {f"{part}.{k}": v for part, state in parts.items() for k, v in state.items()}
        loss = {"reported": self.reported, "count": self.count}
        said = {"step": self.step_count, "config": self.identity, "loss": loss}
        save_tensors(path, tensors, said, name="checkpoint", trial=trial)

    def load(self, path: str | Path) -> None:
        """Take up a checkpoint's state. Raises ValueError for another run's or a damaged one.

        A finished run needs its data no more: for other contents of it there is a warning only.
        """
        tensors, metadata = load_tensors(path)
        theirs = metadata.get("config", {})
        differ = {
            k: f"{k}: {theirs.get(k)!r} there, {v!r} here"
            for k, v in self.identity.items() if theirs.get(k) != v
        }
        said = f"({'; '.join(differ.values())})"
        finished = metadata.get("step") == self.config.num_steps
        if differ and finished and differ.keys() <= {"contents of data", "contents of cond"}:
            warnings.warn(
                f"{path} is of a finished run on other data {said}: nothing is trained. Name "
                "another file to train on this data.", stacklevel=4,
            )
        elif differ:
            raise ValueError(
                f"{path} is a checkpoint of another run {said}. Use its settings, schedule and "
                "data, or another file. None there: the file, of an older version or no checkpoint,"
                " does not say."
            )
        try:
            self._take_up(path, tensors, metadata)
        except (KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
            damaged = f"{path} is no whole checkpoint of a run ({error!r})"
            raise ValueError(f"{damaged}. Delete it and train again.") from error

    def _take_up(self, path: str | Path, tensors: dict[str, Tensor], metadata: dict) -> None:
        """Set networks, optimiser, random states and counts to what the file holds."""
        part: dict[str, dict[str, Tensor]] = {
            name: {} for name in ("model", "ema", "optimizer", "random", "loss")
        }
        for name, tensor in tensors.items():
            first, _, rest = name.partition(".")
            if first not in part:
                raise ValueError(f"{path} is no checkpoint of a run: it holds {name!r}.")
            part[first][rest] = tensor
        load_into(self.model, part["model"], str(path))
        load_into(self.ema.model, part["ema"], str(path))
        weights, state = list(self.model.parameters()), {}
        for name, value in part["optimizer"].items():
            index, key = name.split(".", 1)
            weight = weights[int(index)]
            if value.shape == weight.shape:  # the fused step wants each weight's own memory layout
                value = torch.empty_like(weight, dtype=value.dtype).copy_(value)
            state.setdefault(int(index), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.generator.set_state(part["random"]["generator"])
        torch.set_rng_state(part["random"]["global"])
        self.step_count, loss = metadata["step"], metadata["loss"]
        self.total, self.count = part["loss"]["total"].to(self.device), loss["count"]
        self.reported = loss["reported"]


class Trainer(Run):
    """The run of a diffusion model on ``data`` (N, ...) with conditions ``cond`` (N, ...) or None.

    Raises TypeError or ValueError for data that is not finite or not of the network's dtype and
    device, conditions of another number, or cond_dropout for a network without a null class.
    """

    @checked(model=trainable, data=(batch, finite, fitting("model")), cond=one_for_each)
    def __init__(
        self, model: nn.Module, data: Tensor, schedule: NoiseSchedule, cond: Tensor | None,
        config: TrainConfig, accelerator: "Accelerator | None" = None,
    ) -> None:
        if config.cond_dropout and getattr(model, "null_class", None) is None:
            raise ValueError(
                f"cond_dropout={config.cond_dropout} needs a network with a null class, "
                f"got {type(model).__name__}. Build it with num_classes."
            )
        config = replace(config, precision=resolve_precision(data, config.precision))
        self.data, self.cond = set_layout(model, data.detach()), cond
        same = {"T": len(schedule.betas), "data": list(data.shape)}
        # The table in float32: another machine's may differ in its last digit.
        same |= {"contents of schedule": schedule.alphas_cumprod.float()}
        same |= {"contents of data": self.data, "contents of cond": cond}
        super().__init__(model, config, data.device, accelerator, **same)
        self.alphas_cumprod = schedule.alphas_cumprod.to(data.device, widest_float(data.device))

    def loss(self) -> Tensor:
        """Return the loss () of samples, times and noise drawn with ``self.generator``."""
        c, g, mine = self.config, self.generator, self.share
        size, on = c.batch_size * self.num_processes, {"generator": g, "device": self.device}
        index = torch.randint(len(self.data), (size,), **on)
        x0, cond = self.data[index], None if self.cond is None else self.cond[index]
        if cond is not None and c.cond_dropout:
            cond = drop_condition(cond, c.cond_dropout, self.model.null_class, generator=g)
        t = torch.randint(len(self.alphas_cumprod), (size,), **on)
        noise = noise_like(x0, g)
        kind = {"prediction_type": c.prediction_type, "weighting": c.weighting}
        return diffusion_loss(
            self.network, x0[mine], self.alphas_cumprod, t=t[mine], noise=noise[mine],
            cond=None if cond is None else cond[mine], **kind,
        )
