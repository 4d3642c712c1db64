"""Shipped weights: whole, checked, and refused with a clear word when they are not."""

import json
import shutil

import pytest
import torch

from diffusion_course import load_dataset, load_pretrained, shipped_files
from diffusion_course.files.checkpoints import sha256_of
from diffusion_course.files.pretrained import data_dir


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """Return a copy of data/ that the package uses instead."""
    folder = tmp_path / "data"
    shutil.copytree(data_dir(), folder)
    monkeypatch.setenv("DIFFUSION_COURSE_DATA", str(folder))
    return folder


@pytest.mark.parametrize("name", ["digits", "digit_classifier", "judge"])
def test_shipped_weights_load(name):
    entry = shipped_files()[name]
    assert sha256_of(entry.path) == entry.sha256
    model = load_pretrained(name)
    assert not model.training
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert {"command", "seed", "seconds", "machine", "torch", "steps"} <= entry.made_by.keys()


def test_the_folder_holds_what_the_manifest_says_and_is_small():
    files = {entry.path for entry in shipped_files().values()}
    assert files == set(data_dir().rglob("*.safetensors"))
    assert sum(file.stat().st_size for file in files) < 40e6
    assert sum(file.stat().st_size for file in (data_dir() / "mini-stable-diffusion").rglob("*") if file.is_file()) <= 30e6


def test_a_part_of_the_miniature_is_not_loaded_alone():
    with pytest.raises(ValueError, match=r"'mini-stable-diffusion/vae' is a part of a latent model and needs the others: use load_parts"):
        load_pretrained("mini-stable-diffusion/vae")


def test_the_classifier_reads_digits_it_has_not_seen():
    test = load_dataset("digits", split="test", size=16)
    with torch.no_grad():
        right = (load_pretrained("digit_classifier")(test.images).argmax(1) == test.labels).float().mean()
    assert right >= 0.985


def test_the_digit_network_predicts_noise_on_digits_it_has_not_seen():
    from diffusion_course import diffusion_loss

    entry = shipped_files()["digits"]
    test = load_dataset("digits", split="test", size=16)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        loss = diffusion_loss(load_pretrained("digits"), test.images, entry.noise_schedule().alphas_cumprod, generator=g).item()
    assert loss < 0.04


def test_unknown_name():
    with pytest.raises(ValueError, match=r"name must be one of the shipped weights, got 'cats'; there are .*'digits'"):
        load_pretrained("cats")


def test_a_network_without_a_schedule_says_so():
    with pytest.raises(ValueError, match="'digit_classifier' is a DigitClassifier, which has no noise schedule"):
        shipped_files()["digit_classifier"].noise_schedule()


def test_damaged_weights(copied):
    file = copied / "digits.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="damaged or not the file that belongs here: its sha256 is"):
        load_pretrained("digits")


def test_missing_weights(copied):
    (copied / "digits.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"the weights 'digits' are missing.*make train PART=digits"):
        load_pretrained("digits")


def test_missing_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFUSION_COURSE_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="Work in a clone of the course"):
        load_pretrained("digits")


def test_damaged_manifest(copied):
    (copied / "manifest.json").write_text('{"digits": {}}')
    with pytest.raises(ValueError, match="manifest.json is damaged"):
        shipped_files()


def test_weights_of_another_network(copied):
    entries = json.loads((copied / "manifest.json").read_text())
    entries["digits"]["config"]["channels"] = 16
    (copied / "manifest.json").write_text(json.dumps(entries))
    with pytest.raises(ValueError, match="do not fit UNet"):
        load_pretrained("digits")
