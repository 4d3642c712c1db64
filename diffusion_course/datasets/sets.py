"""Data behind one call. Offline: handwritten digits, two photographs, scenes, Gaussian mixtures.
With a network: MNIST and others. Images are float32 in [-1, 1], shape (N, C, H, W).
"""

import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..door import checked, one_of, positive_int
from ..seeds import on_cpu
from ..files.paths import user_path
from .mixtures import GaussianMixture
from .scenes import render_scenes, sample_scenes

OFFLINE_DATASETS = ("digits", "photos", "scenes")
DOWNLOAD_DATASETS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10"}
SPLITS = ("train", "test", "all")
MIXTURES = ("pair", "ring", "grid", "moons")
Labelled = tuple[Tensor, Tensor]  # images (N, C, H, W) and labels (N,)


class PointSet(NamedTuple):
    """points (N, 2) float32, labels (N,) int64 (the likeliest component), the mixture's name."""

    points: Tensor
    labels: Tensor
    name: str


class ImageSet(NamedTuple):
    """images (N, C, H, W) float32 in [-1, 1], labels (N,) int64, and the set's name."""

    images: Tensor
    labels: Tensor
    name: str


def _of_images(name: str, size: int, given: dict) -> None:
    if (points := given["name"]) in MIXTURES:
        raise ValueError(f"size resizes images; {points!r} holds points, got {size=}.")


@checked(
    name=one_of(*OFFLINE_DATASETS, *MIXTURES, *DOWNLOAD_DATASETS), split=one_of(*SPLITS),
    size=(positive_int, _of_images),
)
@on_cpu
def load_dataset(
    name: str, *, split: str = "all", size: int | None = None,
    root: str | Path = "~/.cache/diffusion_course", download: bool = True,
) -> ImageSet | PointSet:
    """Return a data set by name, drawn, shipped with a package or downloaded once.

    Offline: "digits", scikit-learn's 1,797 of 8x8 in ten classes ("test" is every fifth one);
    "photos", the centre squares of scikit-learn's two, 384x384, for every split; "scenes", 2,048
    drawn ones, 64x64, labelled by the kind of the first thing ("train" holds out pairs of kind and
    colour, "test" has one in every picture; for captions, or more of them, use ``sample_scenes``
    and ``render_scenes``); "pair", "ring", "grid", "moons", 4,096 points of that ``mixture``,
    others for each split. Downloaded to ``root``: "mnist", "fashion_mnist", "cifar10". ``size``:
    resize images to (size, size). Raises ValueError for an unknown name or split, ConnectionError
    naming the offline sets if there is no network.
    """
    if name in MIXTURES:
        return _points(name, split)
    if name == "scenes":
        images, labels = _scenes(split, size or 64)
    elif name in DOWNLOAD_DATASETS:
        images, labels = _downloaded(name, split, user_path(root, "root"), download)
    else:
        images, labels = _digits(split) if name == "digits" else _photos()
    return ImageSet(images if size is None else _resized(images, size), labels, name)


def _resized(images: Tensor, size: int) -> Tensor:
    if images.shape[-2:] == (size, size):
        return images
    return interpolate(images, (size, size), mode="bilinear", antialias=True)


def _points(name: str, split: str) -> PointSet:
    source, generator = mixture(name), torch.Generator().manual_seed(SPLITS.index(split))
    points = source.sample(4096, generator=generator)
    return PointSet(points.float(), source.responsibilities(points).argmax(1), name)


def _scenes(split: str, size: int) -> Labelled:
    generator = torch.Generator().manual_seed(SPLITS.index(split))
    held_out = {"test": "held_out"}.get(split, split)
    codes = sample_scenes(2048, generator=generator, split=held_out)  # (2048, 10)
    return render_scenes(codes, size=size, generator=generator), codes[:, 2]


def _digits(split: str) -> Labelled:
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.from_numpy(data.images).float()[:, None] / 8 - 1  # pixel values are 0..16
    is_test = torch.arange(len(images)) % 5 == 4
    keep = {"train": ~is_test, "test": is_test, "all": is_test | True}[split]
    return images[keep], torch.from_numpy(data.target).long()[keep]


def _photos() -> Labelled:
    from sklearn.datasets import load_sample_images

    photos = []
    for photo in load_sample_images().images:
        x = torch.tensor(photo).permute(2, 0, 1).float() / 127.5 - 1  # (3, H, W)
        side = min(x.shape[1:])
        top, left = ((n - side) // 2 for n in x.shape[1:])
        photos.append(_resized(x[None, :, top : top + side, left : left + side], 384))
    return torch.cat(photos).clamp(-1, 1), torch.arange(len(photos))


def _downloaded(name: str, split: str, root: Path, download: bool) -> Labelled:
    import torchvision

    source, images, labels = getattr(torchvision.datasets, DOWNLOAD_DATASETS[name]), [], []
    for train in {"train": (True,), "test": (False,), "all": (True, False)}[split]:
        try:
            data = source(str(root), train=train, download=download)
        except (RuntimeError, OSError) as error:
            why = f"could not be {'downloaded to' if download else 'found in'} {root} ({error})"
            sets = ", ".join(map(repr, (*OFFLINE_DATASETS, *MIXTURES)))
            raise ConnectionError(f"{name!r} {why}. These sets need no network: {sets}.") from error
        x = torch.as_tensor(data.data)
        images.append((x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)).float() / 127.5 - 1)
        labels.append(torch.as_tensor(data.targets).long())
    return torch.cat(images), torch.cat(labels)


@checked(name=one_of(*MIXTURES))
@on_cpu
def mixture(name: str = "pair") -> GaussianMixture:
    """Return a named 2-D Gaussian mixture in float64, within about [-2, 2].

    "pair": two round blobs of unequal weight. "ring": eight on a circle. "grid": nine on a square.
    "moons": two arcs of six tilted ellipses each. Raises ValueError for another name.
    """
    eye = torch.eye(2, dtype=torch.float64)
    if name == "pair":
        return _blobs([(-1.0, -0.5), (1.0, 0.5)], 0.25**2 * eye, weights=[0.3, 0.7])
    if name == "ring":
        angles = [2 * math.pi * k / 8 for k in range(8)]
        return _blobs([(1.5 * math.cos(a), 1.5 * math.sin(a)) for a in angles], 0.15**2 * eye)
    if name == "grid":
        return _blobs([(1.2 * i, 1.2 * j) for i in (-1, 0, 1) for j in (-1, 0, 1)], 0.15**2 * eye)
    angles = torch.linspace(0.15, math.pi - 0.15, 6, dtype=torch.float64)
    upper = torch.stack([angles.cos() - 0.5, angles.sin() - 0.25], 1)
    tangent = torch.stack([-angles.sin(), angles.cos()], 1)
    covariances = 0.06 * tangent[:, :, None] * tangent[:, None] + 0.006 * eye
    return _blobs((1.3 * torch.cat([upper, -upper])).tolist(), covariances.repeat(2, 1, 1))


def _blobs(means: list, covariances: Tensor, weights: list | None = None) -> GaussianMixture:
    k = len(means)
    weights, means = (torch.tensor(x, dtype=torch.float64) for x in (weights or [1 / k] * k, means))
    return GaussianMixture(weights, means, covariances.expand(k, 2, 2))
