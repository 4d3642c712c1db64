"""Data behind one call. Offline: handwritten digits, two photographs, Gaussian mixtures. With a
network: MNIST and others.

Images are float32 in [-1, 1], shape (N, C, H, W).
"""

import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..validation import check_choice, check_positive_int
from .mixtures import GaussianMixture
from .scenes import render_scenes, sample_scenes

OFFLINE_DATASETS = ("digits", "photos", "scenes")
DOWNLOAD_DATASETS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10"}
SPLITS = ("train", "test", "all")
MIXTURES = ("pair", "ring", "grid", "moons")


class PointSet(NamedTuple):
    """points (N, 2) float32, labels (N,) int64 (the likeliest component), and the mixture's name.
    """

    points: Tensor
    labels: Tensor
    name: str


class ImageSet(NamedTuple):
    """images (N, C, H, W) float32 in [-1, 1], labels (N,) int64, and the set's name."""

    images: Tensor
    labels: Tensor
    name: str


def load_dataset(
    name: str, *, split: str = "all", size: int | None = None,
    root: str | Path = "~/.cache/diffusion_course", download: bool = True,
) -> ImageSet | PointSet:
    """Return a data set by name; the offline ones come with installed packages, the others are
    downloaded once.

    "digits" (offline): scikit-learn's optical digits, 1,797 of 8x8, ten classes; "test" is every
    fifth one. "photos" (offline): scikit-learn's two sample photographs, the centre square,
    384x384; the same for every split. "scenes" (offline): 2,048 drawn scenes, 64x64, labelled by
    the kind of the first thing; "train" holds out pairs of kind and colour, "test" has one in every
    picture. For captions, or more of them, use ``sample_scenes`` and ``render_scenes``. "pair",
    "ring", "grid", "moons" (offline): 4,096 points of that ``mixture``, others for each split.
    "mnist", "fashion_mnist", "cifar10": torchvision's. ``size``: resize images to (size, size).
    ``root``: where downloads are kept. Raises ValueError for an unknown name or split,
    ConnectionError naming the offline sets if there is no network.
    """
    check_choice("name", name, (*OFFLINE_DATASETS, *MIXTURES, *DOWNLOAD_DATASETS))
    check_choice("split", split, SPLITS)
    if size is not None:
        check_positive_int("size", size)
    if name in MIXTURES:
        return _points(name, split, size)
    if name == "digits":
        images, labels = _digits(split)
    elif name == "photos":
        images, labels = _photos()
    elif name == "scenes":
        generator = torch.Generator().manual_seed(SPLITS.index(split))
        codes = sample_scenes(
            2048, generator=generator, split={"test": "held_out"}.get(split, split)
        )
        images, labels = render_scenes(codes, size=size or 64, generator=generator), codes[:, 2]
    else:
        images, labels = _downloaded(name, split, Path(root).expanduser(), download)
    if size is not None and images.shape[-2:] != (size, size):
        images = interpolate(
            images, (size, size), mode="bilinear", antialias=True, align_corners=False
        )
    return ImageSet(images, labels, name)


def _points(name: str, split: str, size: int | None) -> PointSet:
    if size is not None:
        raise ValueError(
            f"size resizes images; {name!r} holds points, got size={size}. Leave size out."
        )
    source = mixture(name)
    points = source.sample(4096, generator=torch.Generator().manual_seed(SPLITS.index(split)))
    return PointSet(points.float(), source.responsibilities(points).argmax(1), name)


def _digits(split: str) -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.from_numpy(data.images).float()[:, None] / 8 - 1  # pixel values are 0..16
    labels = torch.from_numpy(data.target).long()
    is_test = torch.arange(len(labels)) % 5 == 4
    keep = {"train": ~is_test, "test": is_test, "all": torch.ones_like(is_test)}[split]
    return images[keep], labels[keep]


def _photos() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_sample_images

    photos = []
    for photo in load_sample_images().images:
        x = torch.tensor(photo).permute(2, 0, 1).float() / 127.5 - 1  # (3, H, W)
        side = min(x.shape[1:])
        top, left = ((n - side) // 2 for n in x.shape[1:])
        photos.append(
            interpolate(
                x[None, :, top : top + side, left : left + side], (384, 384), mode="bilinear",
                antialias=True,
            )
        )
    return torch.cat(photos).clamp(-1, 1), torch.arange(len(photos))


def _downloaded(name: str, split: str, root: Path, download: bool) -> tuple[Tensor, Tensor]:
    import torchvision

    images, labels = [], []
    for train in {"train": (True,), "test": (False,), "all": (True, False)}[split]:
        try:
            data = getattr(torchvision.datasets, DOWNLOAD_DATASETS[name])(
                str(root), train=train, download=download
            )
        except (RuntimeError, OSError) as error:
            raise ConnectionError(
                f"{name!r} could not be {'downloaded to' if download else 'found in'} {root}"
                f" ({error}). These sets need no network:"
                f" {', '.join(map(repr, (*OFFLINE_DATASETS, *MIXTURES)))}."
            ) from error
        x = torch.as_tensor(data.data)
        images.append((x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)).float() / 127.5 - 1)
        labels.append(torch.as_tensor(data.targets).long())
    return torch.cat(images), torch.cat(labels)


def mixture(name: str = "pair") -> GaussianMixture:
    """Return a named 2-D Gaussian mixture in float64, within about [-2, 2]: "pair", "ring", "grid"
    or "moons".

    pair: two round blobs of unequal weight; ring: eight on a circle; grid: nine on a square; moons:
    two arcs of six tilted ellipses each. Raises ValueError for another name.
    """
    check_choice("name", name, MIXTURES)
    if name == "pair":
        return _round_blobs([(-1.0, -0.5), (1.0, 0.5)], 0.25, weights=[0.3, 0.7])
    if name == "ring":
        angles = [2 * math.pi * k / 8 for k in range(8)]
        return _round_blobs([(1.5 * math.cos(a), 1.5 * math.sin(a)) for a in angles], 0.15)
    if name == "grid":
        return _round_blobs([(1.2 * i, 1.2 * j) for i in (-1, 0, 1) for j in (-1, 0, 1)], 0.15)
    angles = torch.linspace(0.15, math.pi - 0.15, 6, dtype=torch.float64)
    upper = torch.stack([angles.cos() - 0.5, angles.sin() - 0.25], 1)
    lower = torch.stack([0.5 - angles.cos(), 0.25 - angles.sin()], 1)
    tangent = torch.stack([-angles.sin(), angles.cos()], 1)
    covariance = 0.06 * tangent[:, :, None] * tangent[:, None, :] + 0.006 * torch.eye(
        2, dtype=torch.float64
    )
    means = 1.3 * torch.cat([upper, lower])
    return GaussianMixture(
        torch.full((12,), 1 / 12, dtype=torch.float64), means, torch.cat([covariance, covariance])
    )


def _round_blobs(
    centres: list[tuple[float, float]], std: float, weights: list[float] | None = None
) -> GaussianMixture:
    k = len(centres)
    covariances = std**2 * torch.eye(2, dtype=torch.float64).repeat(k, 1, 1)
    return GaussianMixture(
        torch.tensor(weights or [1 / k] * k, dtype=torch.float64),
        torch.tensor(centres, dtype=torch.float64), covariances,
    )
