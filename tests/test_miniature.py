"""The shipped miniature Stable Diffusion does what its card says."""

import json
import socket
import warnings

import pytest
import torch

from diffusion_course import (
    captions,
    faithful,
    latent_scaling,
    load_parts,
    load_pretrained,
    psnr,
    read_scenes,
    render_scenes,
    sample_scenes,
    shipped_files,
)
from diffusion_course.files.checkpoints import sha256_of
from diffusion_course.files.pretrained import data_dir
from diffusion_course.latent.coding import decode_latents, encode_images
from diffusion_course.latent.parts import MINIATURE, NETWORKS
from diffusion_course.latent.tasks import text_to_image

FOLDER = data_dir() / MINIATURE


@pytest.fixture(scope="module")
def parts():
    return load_parts()


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_diffusers_loads_and_runs_it_without_network_or_warning(no_network, caplog, recwarn, capfd):
    from diffusers import StableDiffusionPipeline

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline = StableDiffusionPipeline.from_pretrained(str(FOLDER))
        pipeline.set_progress_bar_config(disable=True)
        image = pipeline("a red star at night", num_inference_steps=3, generator=seeded(0)).images[0]
    assert image.size == (64, 64)
    assert not caplog.records
    assert not recwarn.list
    assert "warn" not in capfd.readouterr().err.lower()


def test_the_files_are_those_of_the_manifest_in_float16_and_small():
    from safetensors import safe_open

    for part in NETWORKS:
        entry = shipped_files()[f"{MINIATURE}/{part}"]
        assert sha256_of(entry.path) == entry.sha256
        assert {"command", "seed", "seconds", "machine", "torch", "steps"} <= entry.made_by.keys()
        with safe_open(entry.path, "pt") as file:
            assert {file.get_tensor(name).dtype for name in file.keys()} <= {torch.float16, torch.int64}
    assert sum(f.stat().st_size for f in FOLDER.rglob("*") if f.is_file()) <= 30e6
    assert json.loads((FOLDER / "scheduler" / "scheduler_config.json").read_text())["prediction_type"] == "v_prediction"


def test_the_autoencoder_keeps_fresh_scenes(parts):
    images = render_scenes(sample_scenes(200, generator=seeded(2**43)), generator=seeded(2**43))
    latents = torch.cat([encode_images(parts, x) for x in images.split(50)])
    drawn = torch.cat([decode_latents(parts, z) for z in latents.split(50)]).clamp(-1, 1)
    assert psnr(drawn, images).mean() >= 32
    assert latent_scaling(latents) == pytest.approx(1, abs=0.03)  # the factor is in them already


@pytest.mark.in_parts
@pytest.mark.slow
@pytest.mark.parametrize(("split", "floor"), [("train", 0.88), ("held_out", 0.78)])
def test_pictures_show_what_the_words_say(parts, split, floor):
    """The card's shares are of 500 prompts each (``python -m bench miniature``); 80 prompts may fall short of them by chance."""
    generator = seeded(2**43 + 1)
    codes = sample_scenes(80, generator=generator, split=split)
    images = text_to_image(parts, captions(codes, generator=generator, complete=True), generator=seeded(0))
    right = faithful(read_scenes(load_pretrained("judge"), images), codes)
    assert right.all(1).float().mean() >= floor
    wrong = faithful(read_scenes(load_pretrained("judge"), images.roll(1, 0)), codes)
    assert wrong.all(1).float().mean() <= 0.05
