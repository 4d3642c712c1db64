"""The state of a training run: network, average, optimiser, randomness; one step of it, and its
checkpoints.
"""

import copy
import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..files.checkpoints import load_into, load_tensors, save_tensors
from ..process.guidance import drop_condition
from ..process.kernels import noise_like
from ..process.losses import diffusion_loss
from ..process.schedules import NoiseSchedule
from ..validation import check_batch, check_device, check_finite, check_positive_int, widest_float
from .precision import autocast, resolve_precision, set_layout

if TYPE_CHECKING:
    from accelerate import Accelerator


class EMA:
    """A copy of a network whose weights are a running average of the original's: w <- d w + (1 - d)
    w_new.

    The decay warms up as min(decay, (1 + n) / (10 + n)) with n updates, so that the random start is
    soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}.")
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, num_updates: int) -> None:
        """Move the average towards the weights of ``model`` after its ``num_updates``-th step;
        buffers are copied.
        """
        decay = min(self.decay, (1 + num_updates) / (10 + num_updates))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)


class Run:
    """What every training run is: network, EMA, AdamW, step count, random state, checkpoints. A
    subclass says what the loss is.

    config: num_steps, batch_size, learning_rate, warmup_steps, ema_decay, max_grad_norm, seed,
    precision ("float32" or "bfloat16"), compile. With an ``accelerate.Accelerator`` of several
    processes, each draws the numbers of the whole batch and keeps its ``share``, so the run is that
    of one process with the batch of all. ``batch_size`` counts one process.
    """

    def __init__(
        self, model: nn.Module, config: dict, device: torch.device,
        accelerator: "Accelerator | None" = None,
    ) -> None:
        check_positive_int("num_steps", config["num_steps"])
        check_positive_int("batch_size", config["batch_size"])
        self.step_count, self.device = 0, device
        self.model = self.network = model
        if config["compile"]:  # on a GPU "reduce-overhead" replays CUDA graphs
            self.network = torch.compile(
                model, mode="reduce-overhead" if device.type == "cuda" else None
            )
        self.accelerator, self.num_processes, rank = accelerator, 1, 0
        if accelerator is not None:
            self.network = accelerator.prepare_model(
                self.network
            )  # starts all processes from the first one's weights
            self.num_processes, rank = accelerator.num_processes, accelerator.process_index
        self.config = config | {"num_processes": self.num_processes}
        self.share = slice(rank * config["batch_size"], (rank + 1) * config["batch_size"])
        self.ema = EMA(model, config["ema_decay"])
        fused = device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=config["learning_rate"], weight_decay=0.0, fused=fused
        )
        self.generator = torch.Generator(device).manual_seed(config["seed"])

    def loss(self) -> Tensor:
        """Return the loss () of this process's share of a new batch, whose numbers come from
        ``self.generator``.
        """
        raise NotImplementedError

    def learning_rate(self) -> float:
        """Return the rate of the next step: a linear warm-up, then half a cosine down to zero."""
        c, n = self.config, self.step_count
        warm = min(1.0, (n + 1) / max(1, c["warmup_steps"]))
        return c["learning_rate"] * warm * 0.5 * (1 + math.cos(math.pi * n / c["num_steps"]))

    def step(self) -> Tensor:
        """Take one step and return the loss (), still on the device, as the mean over all
        processes.
        """
        with autocast(self.device, self.config["precision"]):
            loss = self.loss()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config["max_grad_norm"])
        self.optimizer.step()
        self.step_count += 1
        self.ema.update(self.model, self.step_count)
        loss = loss.detach()
        return loss if self.num_processes == 1 else self.accelerator.reduce(loss, "mean")

    def save(self, path: str | Path) -> None:
        """Write the whole state to one safetensors file, whole or not at all; of several processes
        the first one writes.
        """
        if self.accelerator is not None and not self.accelerator.is_main_process:
            return
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.model.state_dict().items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{k}": v for k, v in state.items()}
        tensors |= {
            "random.generator": self.generator.get_state(),
            "random.global": torch.get_rng_state(),
        }
        save_tensors(path, tensors, {"step": self.step_count, "config": self.config})

    def load(self, path: str | Path) -> None:
        """Take up the state of a checkpoint. Raises ValueError if it belongs to a run with other
        settings or is damaged.
        """
        tensors, metadata = load_tensors(path)
        theirs = metadata.get("config", {})
        differ = [
            f"{k}: {theirs.get(k)!r} there, {v!r} here"
            for k, v in self.config.items()
            if theirs.get(k) != v
        ]
        if differ:
            raise ValueError(
                f"{path} is a checkpoint of another run ({'; '.join(differ)}). Use its settings or"
                " another file."
            )
        part = {
            p: {k.removeprefix(p + "."): v for k, v in tensors.items() if k.startswith(p + ".")}
            for p in ("model", "ema", "optimizer")
        }
        load_into(self.model, part["model"], str(path))
        load_into(self.ema.model, part["ema"], str(path))
        state: dict[int, dict[str, Tensor]] = {}
        weights = list(self.model.parameters())
        for name, value in part["optimizer"].items():
            index, key = name.split(".", 1)
            weight = weights[int(index)]
            if value.shape == weight.shape:  # the fused step wants each weight's own memory layout
                value = torch.empty_like(weight, dtype=value.dtype).copy_(value)
            state.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict(
            {"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]}
        )
        self.generator.set_state(tensors["random.generator"])
        torch.set_rng_state(tensors["random.global"])
        self.step_count = metadata["step"]


class Trainer(Run):
    """The run of a diffusion model on ``data`` (N, ...) with its conditions ``cond`` (N, ...), as
    ``train`` drives it.

    config: as for ``Run``, and prediction_type, weighting, cond_dropout; precision may be "auto".
    """

    def __init__(
        self, model: nn.Module, data: Tensor, schedule: NoiseSchedule, cond: Tensor | None,
        config: dict, accelerator: "Accelerator | None" = None,
    ) -> None:
        check_batch("data", data)
        check_finite("data", data)
        check_device("data", data, "the network's weights", next(model.parameters()))
        if cond is not None and len(cond) != len(data):
            raise ValueError(
                f"cond must have one entry for each sample: got {len(cond)} for {len(data)}"
                " samples."
            )
        if config["cond_dropout"] and getattr(model, "null_class", None) is None:
            raise ValueError(
                f"cond_dropout={config['cond_dropout']} needs a network with a null class, got"
                f" {type(model).__name__}. Build it with num_classes."
            )
        config = config | {"precision": resolve_precision(data, config["precision"])}
        config |= {
            "schedule": schedule.name,
            "T": schedule.num_train_timesteps,
            "data": list(data.shape),
        }
        self.data, self.cond = set_layout(model, data), cond
        super().__init__(model, config, data.device, accelerator)
        self.alphas_cumprod = schedule.alphas_cumprod.to(data.device, widest_float(data.device))

    def loss(self) -> Tensor:
        """Return the diffusion loss () of samples, times and noise drawn from ``self.generator``.
        """
        c, device, g = self.config, self.device, self.generator
        size = c["batch_size"] * self.num_processes
        index = torch.randint(len(self.data), (size,), generator=g, device=device)
        x0, cond = self.data[index], None if self.cond is None else self.cond[index]
        if cond is not None and c["cond_dropout"]:
            cond = drop_condition(cond, c["cond_dropout"], self.model.null_class, generator=g)
        t = torch.randint(len(self.alphas_cumprod), (size,), generator=g, device=device)
        noise, mine = noise_like(x0, g), self.share
        kind = {"prediction_type": c["prediction_type"], "weighting": c["weighting"]}
        cond = None if cond is None else cond[mine]
        return diffusion_loss(
            self.network, x0[mine], self.alphas_cumprod, t=t[mine], noise=noise[mine], cond=cond,
            **kind,
        )
