"""The files of a latent diffusion model in diffusers' layout, read part by part."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from ..files.checkpoints import check_sha256
from ..files.pretrained import data_dir, shipped_files
from ..process.schedules import NoiseSchedule
from ..validation import describe
from .schedulers import read_file

MINIATURE = "mini-stable-diffusion"
NETWORKS = {"vae": "AutoencoderKL", "unet": "UNet2DConditionModel", "text_encoder": "CLIPTextModel"}


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """No bars of diffusers and transformers inside: a notebook would store them as errors."""
    import diffusers
    import transformers

    modules = (diffusers.utils.logging, transformers.utils.logging)
    shown = [module for module in modules if module.is_progress_bar_enabled()]
    for module in shown:
        module.disable_progress_bar()
    try:
        yield
    finally:
        for module in shown:
            module.enable_progress_bar()


def read_json(path: Path, advice: str) -> dict:
    """Return the object in a file of the model; raises FileNotFoundError or ValueError."""
    if not path.is_file():
        raise FileNotFoundError(
            f"the model has no {path.parent.name}/{path.name}: there is no file {path}. {advice}"
        )
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}). {advice}") from error


def check_classes(folder: Path, advice: str) -> None:
    """Raise unless ``model_index.json`` names the classes of ``NETWORKS``, each with its config."""
    classes = read_json(folder / "model_index.json", advice)
    for part, expected in NETWORKS.items():
        pair = classes.get(part)
        if not isinstance(pair, list) or not pair or pair[-1] != expected:
            raise ValueError(
                f"this course runs models whose {part} is {expected}; in {folder} it is"
                f" {classes.get(part)}."
            )
        read_json(folder / part / "config.json", advice)


def check_shipped(advice: str) -> None:
    """Raise unless the miniature's weights are those of ``data/manifest.json``."""
    files = shipped_files()
    for part in NETWORKS:
        if (entry := files.get(f"{MINIATURE}/{part}")) is None:
            manifest = data_dir() / "manifest.json"
            raise ValueError(f"{manifest} has no entry {MINIATURE}/{part}. {advice}")
        if not entry.path.is_file():
            raise FileNotFoundError(
                f"the weights of the {part} are missing: there is no file {entry.path}. {advice}"
            )
        check_sha256(entry.path, entry.sha256)


def check_dtype(dtype: object) -> None:
    """Raise TypeError unless ``dtype`` is a floating torch.dtype."""
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(
            f"dtype must be a floating torch.dtype such as torch.float16, got {describe(dtype)}."
        )


def load_network(folder: Path, dtype: torch.dtype, advice: str) -> nn.Module:
    """Return the network in the folder of one part, in ``dtype``, with all of its weights."""
    import diffusers
    import transformers
    from safetensors import SafetensorError

    part, kind = folder.name, NETWORKS[folder.name]
    if not any(folder.glob("*.safetensors")):
        raise FileNotFoundError(
            f"the weights of the {part} are missing: no *.safetensors in {folder}. {advice}"
        )
    load = getattr(diffusers, kind, getattr(transformers, kind, None)).from_pretrained
    try:
        with without_progress_bars(), torch.device("cpu"):  # whatever the default device is
            network, info = load(
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ValueError(f"the {part} in {folder} cannot be loaded ({error}). {advice}") from error
    if lost := sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]])):
        raise ValueError(
            f"the weights of the {part} in {folder} lack {len(lost)} tensors, such as {lost[0]}."
            f" {advice}"
        )
    return nn.Module.to(network, dtype=dtype).eval()


# What a network may ask for that the tasks do not give it, and the values that ask for nothing
UNFED = {
    "unet": dict.fromkeys(
        ("class_embed_type", "num_class_embeds", "addition_embed_type", "encoder_hid_dim_type",
         "time_cond_proj_dim"),
        (None,),
    ),
    "vae": {"shift_factor": (None, 0), "latents_mean": (None,), "latents_std": (None,)},
    "text_encoder": {"use_attention_mask": (None, False)},
}


def check_networks(networks: dict[str, nn.Module], folder: Path) -> None:
    """Raise ValueError for networks that want what the tasks do not give, or do not fit together.

    It names the field of the configuration and its value.
    """
    for part, fields in UNFED.items():
        for field, nothing in fields.items():
            if (value := getattr(networks[part].config, field, None)) not in nothing:
                raise ValueError(
                    f"the {part} in {folder} has {field}={value!r}: this course's tasks do not feed"
                    " that, and would draw other pictures. Load a model for text-to-image."
                )
    unet, latents = networks["unet"].config, networks["vae"].config.latent_channels
    if latents != unet.in_channels:
        raise ValueError(
            f"the unet in {folder} reads {unet.in_channels} channels, the latents have {latents}:"
            " it wants a mask or a picture as well. Load a model for text-to-image."
        )
    if latents != unet.out_channels:
        raise ValueError(
            f"the unet in {folder} has out_channels={unet.out_channels}, the latents {latents}: it"
            " predicts a variance as well, which this course's samplers do not read."
        )
    wide, told = networks["text_encoder"].config.hidden_size, unet.cross_attention_dim
    if isinstance(told, int) and told != wide:
        raise ValueError(
            f"the unet in {folder} has cross_attention_dim={told}, the text_encoder"
            f" hidden_size={wide}. They are of two models."
        )


def load_tokenizer(folder: Path, vocab_size: int, advice: str) -> object:
    """Return the CLIPTokenizer in a folder, with no more tokens than the text encoder knows."""
    from transformers import CLIPTokenizer

    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise FileNotFoundError(f"the model has no tokenizer: no vocabulary in {folder}. {advice}")
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers library raises plain Exception for a damaged file
        reason = f"the tokenizer in {folder} cannot be loaded ({error}). {advice}"
        raise ValueError(reason) from error
    if len(tokenizer) > vocab_size:
        raise ValueError(
            f"the tokenizer in {folder} has {len(tokenizer)} tokens, the text_encoder {vocab_size}."
            f" {advice}"
        )
    return tokenizer


def read_process(folder: Path, advice: str) -> dict[str, object]:
    """Return the fields of ``LatentParts`` that the scheduler's configuration holds.

    The class that it names, or else ``model_index.json``, has the defaults of what it leaves out.
    Raises ValueError, naming the setting, for what diffusers would read otherwise.
    """
    path = folder / "scheduler" / "scheduler_config.json"
    config, index = read_json(path, advice), folder / "model_index.json"
    entry = read_json(index, advice).get("scheduler") if index.is_file() else None
    named = entry[-1] if isinstance(entry, list) and entry else None
    found = read_file({"_class_name": named} | config, path)
    if named in (None, kind := config.get("_class_name", named)):
        return found
    other = read_file(config | {"_class_name": named}, path)
    if differ := [name for name in found if not _same(found[name], other[name])]:
        raise ValueError(
            f"{path} names {kind}, model_index.json {named}, and their defaults differ in"
            f" {' and '.join(differ)}. Name the same class in both."
        )
    return found


def _same(a: object, b: object) -> bool:
    return torch.equal(a.betas, b.betas) if isinstance(a, NoiseSchedule) else a == b
