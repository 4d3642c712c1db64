"""How much memory a Stable Diffusion will take: a dry run of its configuration."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ...door import checked, one_of, positive_int
from ...files.paths import user_path
from ...validation import check_choice, describe
from .counting import LiveBytes, free_memory
from .rehearsal import PARTS, dry_run, fill, load_layer_by_layer, skeleton

OFFLOADS = (None, "model", "sequential")
# Phase -> what model offload leaves there
AT_WORK = {"text": "text_encoder", "denoise": "unet", "decode": "vae", "check": "vae"}
HEADROOM = 0.2  # share kept for scratch space and gaps: a habit, not a measurement


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes: ``weights`` of each part, and ``activations`` of each phase.

    Activations are the most that other tensors take at one time. Phases are "text", "denoise",
    "decode" and, with a safety checker, "check". With ``offload="sequential"`` the weights of the
    layer at work count as activations.
    """

    weights: dict[str, int]
    activations: dict[str, int]
    offload: str | None = None

    def during(self, phase: str) -> int:
        """Return the bytes on the device at the peak of one phase; raises ValueError for others."""
        check_choice("phase", phase, tuple(self.activations))
        if self.offload is None:
            return sum(self.weights.values()) + self.activations[phase]
        stays = self.weights.get("safety_checker", 0)  # diffusers does not offload it
        works = self.weights[AT_WORK[phase]] if self.offload == "model" else 0
        return stays + works + self.activations[phase]

    @property
    def total(self) -> int:
        """The bytes on the device at the highest peak."""
        return max(map(self.during, self.activations))

    @property
    def host(self) -> int:
        """The bytes of weights that offloading keeps in main memory; 0 without it."""
        if self.offload is None:
            return 0
        return sum(self.weights.values()) - self.weights.get("safety_checker", 0)

    def __str__(self) -> str:
        def listed(sizes: dict[str, int]) -> str:
            return ", ".join(f"{name} {size / 1e6:,.1f}" for name, size in sizes.items())

        peak = f"{self.total / 1e6:,.1f} MB at the peak"
        return f"{peak}; weights: {listed(self.weights)}; on top: {listed(self.activations)}"


@checked(offload=one_of(*OFFLOADS), batch=positive_int, height=positive_int, width=positive_int)
def predict_memory(
    model: object, *, height: int | None = None, width: int | None = None, batch: int = 1,
    dtype: torch.dtype | None = None, guidance: bool = True, fused_attention: bool = True,
    attention_slicing: bool = False, vae_slicing: bool = False, vae_tiling: bool = False,
    offload: str | None = None,
) -> MemoryEstimate:
    """Return the memory that ``batch`` pictures take, from the configuration alone.

    model: a pipeline or anything with its parts, a folder in diffusers' layout (only its
    ``config.json`` files are read), or a dict of configurations such as ``STABLE_DIFFUSION_15``.
    height, width: in pixels, by default the model's own. dtype: by default each part's own, else
    float32. guidance doubles the U-Net's batch. fused_attention: one kernel that keeps no scores,
    as torch does it; False: the formula, with all scores of a layer at once. The other choices are
    those of ``load_stable_diffusion``. Raises ValueError for a size that is no multiple of the
    autoencoder's factor, a part without configuration, or an unknown choice.
    """
    from diffusers.models.attention_processor import AttnProcessor

    configs = _configs(model)
    h, w = _latent_size(configs, height, width)
    dtypes = {name: dtype or _own_dtype(model, name) for name in configs}
    networks = {name: skeleton(name, config) for name, config in configs.items()}
    with FakeTensorMode(), torch.device("cpu"), torch.no_grad():
        weights = {name: fill(network, dtypes[name]) for name, network in networks.items()}
        if not fused_attention:
            for name in ("unet", "vae"):
                networks[name].set_attn_processor(AttnProcessor())
        if attention_slicing:
            networks["unet"].set_attention_slice("max")
        networks["vae"].use_slicing, networks["vae"].use_tiling = vae_slicing, vae_tiling
        if offload == "sequential":
            for name in PARTS[:3]:
                load_layer_by_layer(networks[name])
        with LiveBytes() as live:
            dry_run(networks, (batch, h, w), dtypes, guidance, live.begin)
    activations = {phase: peak for phase, peak in live.peaks.items() if phase}
    return MemoryEstimate(weights, activations, offload)


def _own_dtype(model: object, name: str) -> torch.dtype:
    found = getattr(getattr(model, name, None), "dtype", None)
    return found if isinstance(found, torch.dtype) else torch.float32


def shortage(estimate: MemoryEstimate, device: torch.device | str) -> str:
    """Return "" if the estimate, with ``HEADROOM``, fits into what is free, else what lacks."""
    for place, need in ((device, estimate.total), ("cpu", estimate.host)):
        need, free = (1 + HEADROOM) * need, free_memory(place)
        if need > free:
            needs = f"it needs {need / 1e9:.1f} GB of memory on {torch.device(place).type}"
            return f"{needs}, {free / 1e9:.1f} GB are free"
    return ""


def _latent_size(configs: dict, height: int | None, width: int | None) -> list[int]:
    factor = 2 ** (len(configs["vae"]["block_out_channels"]) - 1)
    native = configs["unet"]["sample_size"]
    native = native if isinstance(native, (tuple, list)) else (native, native)
    for name, size in (("height", height), ("width", width)):
        if size is not None and size % factor:
            demand = f"a multiple of {factor}, the autoencoder's factor"
            raise ValueError(f"{name} must be {demand}, got {size}.")
    sizes = zip((height, width), native, strict=True)
    return [own if size is None else size // factor for size, own in sizes]


def _read(file: Path, text: str) -> dict:
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({error}). Copy the model again, whole.") from None


def _configs(model: object) -> dict[str, dict]:
    if isinstance(model, Mapping):
        found = {name: model[name] for name in PARTS if name in model}
    elif isinstance(model, (str, Path)):
        folder = user_path(model, "model")
        if not folder.is_dir():
            wanted = "model must be a folder in diffusers' layout"
            raise FileNotFoundError(f"{wanted}, none is {folder}.")
        files = {name: folder / name / "config.json" for name in PARTS}
        texts = {name: file.read_text("utf-8") for name, file in files.items() if file.is_file()}
        found = {name: _read(files[name], text) for name, text in texts.items()}
    else:
        parts = {name: getattr(model, name, None) for name in PARTS}
        configs = {name: part.config for name, part in parts.items() if part is not None}
        found = {
            name: config.to_dict() if hasattr(config, "to_dict") else dict(config)
            for name, config in configs.items()
        }
    if missing := [name for name in PARTS[:3] if name not in found]:
        lacks = f"got {describe(model)} without a configuration of {' and '.join(missing)}"
        raise ValueError(
            "model must be a pipeline, a folder in diffusers' layout, or a dict with unet, vae and"
            f" text_encoder, {lacks}."
        )
    return found
