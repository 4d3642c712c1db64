"""The training runs on handwritten digits: two noise predictors and the classifier whose features
measure them.
"""

import time
from collections.abc import Iterator

import torch
from accelerate import Accelerator
from torch import nn

from diffusion_course import DigitClassifier, UNet, load_dataset, make_schedule, train
from tools.jobs import SEED, Job, Report

DIGITS = {"in_channels": 1, "channels": 32, "channel_mult": [1, 2]}
DIGITS_CLASSES = DIGITS | {"num_classes": 10}
SCHEDULE = {"name": "linear", "num_train_timesteps": 1000}
BATCH = 128


def train_digits(job: Job) -> Iterator[Report]:
    """Train a noise predictor on the training digits at 16x16.

    "digits_classes" learns the classes, and one in ten labels is dropped, so that it can be guided.
    Under ``accelerate launch`` the processes share each batch.
    """
    accelerator = Accelerator(cpu=job.device.type == "cpu")
    device = accelerator.device
    torch.manual_seed(SEED)  # the network's first weights
    model = UNet(**(DIGITS_CLASSES if job.part == "digits_classes" else DIGITS)).to(device)
    data = load_dataset("digits", split="train", size=16)
    classes = (
        {"cond": data.labels.to(device), "cond_dropout": 0.1}
        if job.part == "digits_classes"
        else {}
    )
    for state in train(
        model,
        data.images.to(device),
        make_schedule(**SCHEDULE),
        num_steps=job.steps,
        batch_size=BATCH // accelerator.num_processes,
        learning_rate=2e-3,
        ema_decay=0.999,
        seed=SEED,
        report_every=100,
        checkpoint=job.checkpoint,
        checkpoint_every=500,
        resume=True,
        accelerator=accelerator,
        **classes,
    ):
        yield Report(
            state.step, state.seconds, f"loss {state.loss:.4f}", {job.part: state.ema_model}
        )
    # A process that leaves at once can abort: gloo's threads still let go of tensors
    accelerator.wait_for_everyone()
    accelerator.end_training()


def train_classifier(job: Job) -> Iterator[Report]:
    """Train the digit classifier on small random shifts of the training digits."""
    start, device, steps = time.perf_counter(), job.device, job.steps
    torch.manual_seed(SEED)
    model = DigitClassifier().to(device)
    data, test = (load_dataset("digits", split=split, size=16) for split in ("train", "test"))
    images, labels = data.images.to(device), data.labels.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(1, steps + 1):
        index = torch.randint(len(images), (128,), device=device)
        dy, dx = torch.randint(-1, 2, (2,)).tolist()
        batch = torch.roll(images[index], (dy, dx), (2, 3)) + 0.1 * torch.randn(
            128, 1, 16, 16, device=device
        )
        loss = nn.functional.cross_entropy(model(batch), labels[index], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        if step % 200 == 0 or step == steps:
            with torch.no_grad():
                right = (
                    (model(test.images.to(device)).argmax(1).cpu() == test.labels)
                    .float()
                    .mean()
                    .item()
                )
            text = f"loss {loss.item():.4f}, test accuracy {right:.4f}"
            yield Report(step, time.perf_counter() - start, text, {job.part: model})
