import struct
import urllib.request
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from helpers import assert_near
from sklearn.datasets import load_digits, load_sample_images

from diffusion_course import load_dataset, mixture


@pytest.fixture
def offline(monkeypatch):
    """A machine without a network: every address fails, and the attempts are listed."""
    tried = []

    def unreachable(request, *args, **kwargs):
        tried.append(getattr(request, "full_url", request))
        raise URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    return tried


def test_digits_are_the_scans_in_order():
    data, raw = load_dataset("digits"), load_digits()
    assert data.images.shape == (1797, 1, 8, 8) and data.images.dtype == torch.float32 and data.name == "digits"
    assert torch.equal((data.images[:, 0] + 1) * 8, torch.from_numpy(raw.images).float())
    assert data.labels.dtype == torch.int64 and data.labels.tolist() == raw.target.tolist()
    assert data.images.min() == -1 and data.images.max() == 1


def test_digits_splits_are_disjoint_and_complete():
    train, test, whole = (load_dataset("digits", split=split) for split in ("train", "test", "all"))
    assert (len(train.images), len(test.images)) == (1438, 359) and len(train.labels) == 1438
    assert torch.equal(test.images, whole.images[4::5]) and torch.equal(test.labels, whole.labels[4::5])
    rows = torch.cat([train.images, test.images]).flatten(1)
    assert torch.equal(rows.sum(0), whole.images.flatten(1).sum(0))
    assert all((split.labels.bincount(minlength=10) > 15).all() for split in (train, test))


@pytest.mark.parametrize("name", ["digits", "photos"])
@pytest.mark.parametrize("size", [4, 16])
def test_resized(name, size, offline):
    data, whole = load_dataset(name, size=size), load_dataset(name)
    assert data.images.shape == (*whole.images.shape[:2], size, size) and torch.equal(data.labels, whole.labels)
    assert data.images.min() >= -1 and data.images.max() <= 1
    assert (data.images.mean((1, 2, 3)) - whole.images.mean((1, 2, 3))).abs().max() < 0.05  # same brightness
    assert offline == []


def test_photos_are_the_centre_squares():
    data, raw = load_dataset("photos"), load_sample_images().images
    assert data.images.shape == (2, 3, 384, 384) and data.images.dtype == torch.float32 and data.labels.tolist() == [0, 1]
    assert data.images.min() >= -1 and data.images.max() <= 1
    for x, photo in zip(data.images, raw, strict=True):
        height, width, _ = photo.shape
        left = (width - height) // 2
        centre = photo[:, left : left + height].astype(float) / 127.5 - 1
        for rows in (slice(0, None, 2), slice(1, None, 2)):  # each third of the picture keeps its colours: no shift, no flip
            blocks = [
                [np.array_split(np.array_split(a, 3, 0)[i], 3, 1)[j].mean((0, 1)) for i in range(3) for j in range(3)]
                for a in (x.permute(1, 2, 0).numpy()[rows], centre[rows])
            ]
            assert np.abs(np.array(blocks[0]) - blocks[1]).max() < 0.02


def write_idx(folder, prefix, images, labels):
    """MNIST's own file format: a magic number, the sizes, the bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, *images.shape) + images.tobytes())
    (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, len(labels)) + bytes(labels))


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_a_downloaded_set_in_mnists_format(name, folder, tmp_path, offline):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    write_idx(tmp_path / folder / "raw", "train", pixels[:3], [7, 0, 9])
    write_idx(tmp_path / folder / "raw", "t10k", pixels[3:], [1, 2])
    wanted = torch.from_numpy(pixels)[:, None].float() / 127.5 - 1
    for split, rows, labels in (
        ("all", slice(0, 5), [7, 0, 9, 1, 2]),
        ("train", slice(0, 3), [7, 0, 9]),
        ("test", slice(3, 5), [1, 2]),
    ):
        data = load_dataset(name, split=split, root=tmp_path)
        assert_near(data.images, wanted[rows], 1e-6)
        assert data.labels.tolist() == labels and data.labels.dtype == torch.int64 and data.name == name
    assert load_dataset(name, root=tmp_path, size=14).images.shape == (5, 1, 14, 14)
    assert offline == []


def test_cifar_keeps_its_colours_and_channel_order(monkeypatch, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)

    class Stored:
        def __init__(self, root, train, download):
            assert (root, download) == (str(tmp_path), False)
            self.data, self.targets = (pixels[:3], [5, 6, 7]) if train else (pixels[3:], [8])

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Stored)
    data = load_dataset("cifar10", root=tmp_path, download=False)
    assert_near(data.images, torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1, 1e-6)
    assert data.labels.tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_download_without_a_network_names_the_offline_sets(name, offline, tmp_path):
    with pytest.raises(
        ConnectionError,
        match=rf"(?s)'{name}' could not be downloaded to {tmp_path}.*need no network: 'digits', 'photos', 'scenes', 'pair', 'ring'",
    ):
        load_dataset(name, root=tmp_path)
    assert offline, "nothing was tried"


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_download_switched_off_tries_no_network(name, offline, tmp_path):
    with pytest.raises(ConnectionError, match=rf"(?s)'{name}' could not be found in {tmp_path}.*'digits', 'photos'"):
        load_dataset(name, root=tmp_path, download=False)
    assert offline == []


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: load_dataset("imagenet"), ValueError, r"name must be one of 'digits', 'photos', 'scenes', 'pair', 'ring', 'grid', 'moons', 'mnist', 'fashion_mnist', 'cifar10', got 'imagenet'"),
        (lambda: load_dataset("digits", split="validation"), ValueError, r"split must be one of 'train', 'test', 'all', got 'validation'"),
        (lambda: load_dataset("digits", size=0), ValueError, r"size must be at least 1, got 0"),
        (lambda: load_dataset("digits", size=16.0), TypeError, r"size must be an int, got float 16\.0"),
        (lambda: load_dataset("digits", size=(16, 16)), TypeError, r"size must be an int, got tuple"),
        (lambda: mixture("two_moons"), ValueError, r"name must be one of 'pair', 'ring', 'grid', 'moons', got 'two_moons'"),
    ],
)
def test_refused_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("name", ["pair", "ring", "grid", "moons"])
def test_points_come_through_the_same_call(name, offline):
    train, test = (load_dataset(name, split=split) for split in ("train", "test"))
    assert train.points.shape == (4096, 2) and train.points.dtype == torch.float32 and train.name == name
    assert torch.equal(train.points, load_dataset(name, split="train").points) and not torch.equal(train.points, test.points)
    source = mixture(name)
    own = source.responsibilities(test.points.double())
    assert torch.equal(test.labels, own.argmax(1)) and len(test.labels.unique()) == len(source.weights)
    assert_near(test.points.double().mean(0), (source.weights[:, None] * source.means).sum(0), 0.1)
    assert offline == []
    with pytest.raises(ValueError, match=f"size resizes images; '{name}' holds points, got size=8"):
        load_dataset(name, size=8)
