"""How good are drawn digits: the Frechet distance in the digit classifier's features, against
equally many real digits.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_course import frechet_distance, load_dataset, load_pretrained, make_generator
from diffusion_course.process.schedules import NoiseSchedule
from diffusion_course.sampling.loop import sample_loop

NUM_REAL = 1797
HALF = NUM_REAL // 2  # the largest set that has a disjoint partner of the same size
DRAWS = 20


class Drawable(NamedTuple):
    """A network of any package as our samplers call it: ``network(xt, t)`` on ``schedule``, saying
    ``prediction_type``.
    """

    network: Callable[[Tensor, Tensor], Tensor]
    schedule: NoiseSchedule
    prediction_type: str


@torch.no_grad()
def features(images: Tensor) -> Tensor:
    """Return the classifier's features (N, 64) of images clamped to the data's range."""
    return _classifier().features(images.detach().cpu().float().clamp(-1, 1))


@cache
def _classifier() -> torch.nn.Module:
    return load_pretrained("digit_classifier")


@cache
def real_features() -> Tensor:
    """Return the features of all 1,797 real digits."""
    return features(load_dataset("digits", size=16).images)


def check_count(n: int) -> None:
    """Raise ValueError unless there are two disjoint sets of n real digits and n says something
    about 64 features.
    """
    if not 65 <= n <= HALF:
        raise ValueError(
            f"the number of digits must lie in 65..{HALF} (two disjoint halves of {NUM_REAL}), got"
            f" {n}."
        )


def floor_distances(n: int) -> list[float]:
    """Return the distance of real digits to real digits for random disjoint sets of n: what a
    perfect sampler would get.
    """
    check_count(n)
    real, g, found = real_features(), make_generator(1), []
    for _ in range(DRAWS):
        order = torch.randperm(len(real), generator=g)
        found.append(frechet_distance(real[order[:n]], real[order[n : 2 * n]]))
    return found


def distances(images: Tensor) -> list[float]:
    """Return the distance of drawn images to random sets of equally many real digits."""
    check_count(len(images))
    real, drawn, g = real_features(), features(images), make_generator(1)
    return [
        frechet_distance(drawn, real[torch.randperm(len(real), generator=g)[: len(images)]])
        for _ in range(DRAWS)
    ]


@torch.no_grad()
def draw(
    drawable: Drawable,
    n: int,
    *,
    sampler: str,
    steps: int,
    seed: int,
    device: str,
    batch: int = 128,
) -> Tensor:
    """Draw n digits with one of our samplers, in float32."""
    generator, chunks = make_generator(seed, device), []
    for start in range(0, n, batch):
        shape = (min(batch, n - start), 1, 16, 16)
        x = sample_loop(
            drawable.network,
            shape,
            drawable.schedule,
            sampler=sampler,
            num_inference_steps=steps,
            prediction_type=drawable.prediction_type,
            clip_x0=1.0,
            generator=generator,
            dtype=torch.float32,
            device=torch.device(device),
        )
        chunks.append(x.cpu())
    return torch.cat(chunks)
