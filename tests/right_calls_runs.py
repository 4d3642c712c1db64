"""A right call of every public function of training and files: fresh arguments by name, so that one can be replaced."""

import inspect

import torch
from torch import nn

from diffusion_course import EMA, MLP, make_schedule, train, train_step
from diffusion_course.exercises.record import Record
from diffusion_course.files.checkpoints import load_into, load_tensors, save_tensors, sha256_of
from diffusion_course.files.paths import write_bytes
from diffusion_course.training.run import TrainConfig

SCHEDULE = make_schedule("linear", 10)


def network():
    return MLP(hidden=4, depth=1, num_classes=3)


def run(**given):
    """Train to the end. (What it is given is annotated with a class of accelerate's, which a test need not have.)"""
    return [state.loss for state in train(**given)]


def settings(**given):
    TrainConfig(**given)


def update(**given):
    EMA(network()).update(**given)


run.__signature__ = inspect.signature(lambda model, data, schedule, num_steps, cond, report_every, checkpoint, checkpoint_every, resume, seed: None)
settings.__signature__ = inspect.signature(lambda **fields: None)
update.__signature__ = inspect.signature(lambda model, num_updates: None)


def step_of():
    net, labels = network(), torch.zeros(4, dtype=torch.long)
    return {"unet": net, "x0": torch.zeros(4, 2), "optimizer": torch.optim.SGD(net.parameters(), 0.1), "alphas_cumprod": SCHEDULE.alphas_cumprod.clone(), "cond": labels}


RUNS = {
    run: lambda: {"model": network(), "data": torch.zeros(8, 2), "schedule": SCHEDULE, "num_steps": 2, "cond": torch.zeros(8, dtype=torch.long),
                  "report_every": 1, "checkpoint": "c", "checkpoint_every": 1, "resume": False, "seed": 1},
    settings: lambda: {"num_steps": 2, "batch_size": 2, "learning_rate": 1e-3, "warmup_steps": 1, "ema_decay": 0.9, "max_grad_norm": 1.0, "seed": 0, "precision": "auto",
                       "compile": False, "prediction_type": "epsilon", "weighting": "simple", "cond_dropout": 0.1},
    train_step: step_of, EMA: lambda: {"model": network(), "decay": 0.9}, update: lambda: {"model": network(), "num_updates": 1},
    load_tensors: lambda: {"path": "w", "sha256": sha256_of("w")}, sha256_of: lambda: {"path": "w"},
    save_tensors: lambda: {"path": "c", "tensors": {"a": torch.ones(2)}, "metadata": {"a": 1}},
    load_into: lambda: {"module": nn.Linear(2, 2), "tensors": nn.Linear(2, 2).state_dict(), "source": "a file"},
    write_bytes: lambda: {"path": "c", "content": b""}, Record: lambda: {"path": "c"},
}
# Messages that say what was passed in other words.
SAID = {("load_into", "tensors", "a dict"), ("train_step", "x0", "one sample more"), ("load_tensors", "sha256", "a string"), ("load_tensors", "sha256", "a number as a string")}
