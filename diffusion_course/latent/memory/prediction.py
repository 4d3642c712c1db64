"""How much memory a Stable Diffusion will take: a dry run of its configuration with tensors that
have shapes and no data.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ...validation import check_choice, check_positive_int, describe
from .counting import LiveBytes, free_memory

OFFLOADS = (None, "model", "sequential")
PARTS = ("text_encoder", "unet", "vae", "safety_checker")
AT_WORK = {
    "text": "text_encoder",
    "denoise": "unet",
    "decode": "vae",
    "check": "vae",
}  # phase -> what model offload leaves there
HEADROOM = (
    0.2  # share of the estimate that is kept for scratch space and gaps: a habit, not a measurement
)
# The widths of Stable Diffusion 1.x: 859,520,964 + 83,653,863 + 123,060,480 weights
STABLE_DIFFUSION_15 = {
    "unet": {
        "sample_size": 64,
        "block_out_channels": (320, 640, 1280, 1280),
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
    },
    "vae": {
        "sample_size": 512,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    },
    "text_encoder": {
        "vocab_size": 49408,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 77,
        "projection_dim": 768,
    },
}


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes: ``weights`` of each part and, for each phase, ``activations``, the most that other
    tensors take at one time.

    Phases are "text", "denoise", "decode" and, with a safety checker, "check". With
    ``offload="sequential"`` the weights of the layer at work count as activations.
    """

    weights: dict[str, int]
    activations: dict[str, int]
    offload: str | None = None

    def during(self, phase: str) -> int:
        """Return the bytes on the device at the peak of one phase. Raises ValueError for another
        name.
        """
        check_choice("phase", phase, tuple(self.activations))
        if self.offload is None:
            return sum(self.weights.values()) + self.activations[phase]
        stays = self.weights.get("safety_checker", 0)  # diffusers does not offload it
        return (
            stays
            + (self.weights[AT_WORK[phase]] if self.offload == "model" else 0)
            + self.activations[phase]
        )

    @property
    def total(self) -> int:
        """The bytes on the device at the highest peak."""
        return max(map(self.during, self.activations))

    @property
    def host(self) -> int:
        """The bytes of weights that offloading keeps in main memory; 0 without it."""
        return (
            0
            if self.offload is None
            else sum(self.weights.values()) - self.weights.get("safety_checker", 0)
        )

    def __str__(self) -> str:
        def listed(sizes: dict[str, int]) -> str:
            return ", ".join(f"{name} {size / 1e6:,.1f}" for name, size in sizes.items())

        return (
            f"{self.total / 1e6:,.1f} MB at the peak; weights: {listed(self.weights)}; on top:"
            f" {listed(self.activations)}"
        )


def predict_memory(
    model: object, *, height: int | None = None, width: int | None = None, batch: int = 1,
    dtype: torch.dtype | None = None, guidance: bool = True, fused_attention: bool = True,
    attention_slicing: bool = False, vae_slicing: bool = False, vae_tiling: bool = False,
    offload: str | None = None,
) -> MemoryEstimate:
    """Return the memory that ``batch`` pictures take, from the configuration alone.

    model: a pipeline or anything with its parts, a folder in diffusers' layout (only its
    ``config.json`` files are read), or a dict of configurations such as ``STABLE_DIFFUSION_15``.
    height, width: in pixels, by default the model's own. dtype: by default that of the parts, else
    float32. guidance doubles the U-Net's batch. fused_attention: one kernel that keeps no scores,
    as torch does it; False: the formula, with all scores of a layer at once. The other choices are
    those of ``load_stable_diffusion``. Raises ValueError for a size that is no multiple of the
    autoencoder's factor, a part without configuration, or an unknown choice.
    """
    from diffusers.models.attention_processor import AttnProcessor

    check_choice("offload", offload, OFFLOADS)
    check_positive_int("batch", batch)
    configs = _configs(model)
    factor, native = (
        2 ** (len(configs["vae"]["block_out_channels"]) - 1), configs["unet"]["sample_size"]
    )
    rows, columns = native if isinstance(native, (tuple, list)) else (native, native)
    height, width = (
        _pixels("height", height, factor * rows, factor),
        _pixels("width", width, factor * columns, factor),
    )
    dtype = dtype or getattr(getattr(model, "unet", None), "dtype", torch.float32)
    networks = {name: _skeleton(name, config) for name, config in configs.items()}
    with FakeTensorMode(), torch.no_grad():
        weights = {name: _fill(network, dtype) for name, network in networks.items()}
        if not fused_attention:
            for name in ("unet", "vae"):
                networks[name].set_attn_processor(AttnProcessor())
        if attention_slicing:
            networks["unet"].set_attention_slice("max")
        networks["vae"].use_slicing, networks["vae"].use_tiling = vae_slicing, vae_tiling
        if offload == "sequential":
            for name in PARTS[:3]:
                _load_layer_by_layer(networks[name])
        with LiveBytes() as live:
            dry_run(
                networks, (batch, height // factor, width // factor), dtype, guidance, live.begin
            )
    return MemoryEstimate(
        weights, {phase: peak for phase, peak in live.peaks.items() if phase}, offload
    )


def dry_run(
    networks: dict[str, nn.Module], shape: tuple, dtype: torch.dtype, guidance: bool,
    begin: Callable,
) -> None:
    """Do what ``StableDiffusionPipeline`` does for pictures with latents of ``shape`` (B, h, w);
    ``begin(phase)`` marks the way.

    The same tensors are alive at the same time; the schedule's arithmetic is left out.
    """
    from diffusers.image_processor import VaeImageProcessor

    text, unet, vae, checker = (networks.get(name) for name in PARTS)
    begin("text")
    tokens = torch.zeros(shape[0], text.config.max_position_embeddings, dtype=torch.long)
    context = text(tokens)[0]
    if guidance:
        negative = text(tokens)[0]
        context = torch.cat([negative, context])  # (2B, L, D)
    begin("denoise")
    latents = torch.zeros(shape[0], unet.config.in_channels, *shape[1:], dtype=dtype)
    kept = latents.repeat(
        1 + 2 * guidance, 1, 1, 1
    )  # the predictions of the step before, until this one's replace them
    inputs = torch.cat([latents, latents]) if guidance else latents
    output = unet(inputs, torch.tensor(1), encoder_hidden_states=context, return_dict=False)[0]
    del kept
    if guidance:
        uncond, cond = output.chunk(2)
        output = uncond + 2.0 * (cond - uncond)
    latents = latents + output
    begin("decode")
    pictures = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
    if checker is not None:
        begin("check")
        size = checker.config.vision_config.image_size
        checker.vision_model(torch.zeros(shape[0], 3, size, size, dtype=dtype))
        begin("decode")
    VaeImageProcessor().postprocess(pictures, output_type="pt")


def shortage(estimate: MemoryEstimate, device: torch.device | str) -> str:
    """Return "" if the estimate, with ``HEADROOM``, fits into what is free now, else a clause that
    says what lacks where.
    """
    for place, need in ((device, estimate.total), ("cpu", estimate.host)):
        need, free = (1 + HEADROOM) * need, free_memory(place)
        if need > free:
            return (
                f"it needs {need / 1e9:.1f} GB of memory on {torch.device(place).type},"
                f" {free / 1e9:.1f} GB are free"
            )
    return ""


def _pixels(name: str, size: int | None, native: int, factor: int) -> int:
    size = native if size is None else size
    check_positive_int(name, size)
    if size % factor:
        raise ValueError(
            f"{name} must be a multiple of {factor}, the autoencoder's factor, got {size}."
        )
    return size


def _configs(model: object) -> dict[str, dict]:
    if isinstance(model, Mapping):
        found = {name: model[name] for name in PARTS if name in model}
    elif isinstance(model, (str, Path)):
        files = {name: Path(model) / name / "config.json" for name in PARTS}
        found = {
            name: json.loads(file.read_text(encoding="utf-8"))
            for name, file in files.items()
            if file.is_file()
        }
    else:
        configs = {
            name: part.config for name in PARTS if (part := getattr(model, name, None)) is not None
        }
        found = {
            name: config.to_dict() if hasattr(config, "to_dict") else dict(config)
            for name, config in configs.items()
        }
    if missing := [name for name in PARTS[:3] if name not in found]:
        raise ValueError(
            f"there is no configuration of {' and '.join(missing)} in {describe(model)}. Pass a"
            " pipeline, a folder in diffusers' layout, or a dict with unet, vae and text_encoder."
        )
    return found


def _skeleton(name: str, config: dict) -> nn.Module:
    """Return the network of a configuration on the meta device: shapes without data."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        if name == "text_encoder":
            return CLIPTextModel(CLIPTextConfig.from_dict(config)).eval()
        if name == "safety_checker":
            return StableDiffusionSafetyChecker(CLIPConfig.from_dict(config)).eval()
        return {"unet": UNet2DConditionModel, "vae": AutoencoderKL}[name].from_config(config).eval()


def _fill(network: nn.Module, dtype: torch.dtype) -> int:
    """Replace the tensors of a skeleton by new ones, floating ones in ``dtype``; return their
    bytes.
    """
    total = 0
    for module in network.modules():
        for tensors in (module._parameters, module._buffers):
            for name, x in [(name, x) for name, x in tensors.items() if x is not None]:
                new = torch.empty(x.shape, dtype=dtype if x.is_floating_point() else x.dtype)
                tensors[name] = (
                    nn.Parameter(new, requires_grad=False) if isinstance(x, nn.Parameter) else new
                )
                total += new.nbytes
    return total


def _load_layer_by_layer(network: nn.Module) -> None:
    """Let each layer hold bytes for its own weights while it works, as accelerate's sequential
    offloading does.
    """

    def load(module: nn.Module, _: object) -> None:
        module.on_device = torch.empty(_own(module), dtype=torch.uint8)

    def unload(module: nn.Module, *_: object) -> None:
        del module.on_device

    for module in network.modules():
        if _own(module):
            module.register_forward_pre_hook(load)
            module.register_forward_hook(unload)


def _own(module: nn.Module) -> int:
    return sum(x.nbytes for x in module._parameters.values() if x is not None)
