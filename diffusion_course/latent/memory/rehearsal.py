"""A rehearsal of a Stable Diffusion's pipeline with tensors that have shapes and no data."""

from collections.abc import Callable

import torch
from torch import nn

PARTS = ("text_encoder", "unet", "vae", "safety_checker")
# The widths of Stable Diffusion 1.x: 859,520,964 + 83,653,863 + 123,060,480 weights
STABLE_DIFFUSION_15 = {
    "unet": {
        "sample_size": 64, "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768,
        "attention_head_dim": 8,
    },
    "vae": {
        "sample_size": 512, "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    },
    "text_encoder": {
        "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
        "num_attention_heads": 12, "max_position_embeddings": 77, "projection_dim": 768,
    },
}



def dry_run(
    networks: dict[str, nn.Module], shape: tuple, dtypes: dict[str, torch.dtype],
    guidance: bool, begin: Callable,
) -> None:
    """Do what ``StableDiffusionPipeline`` does for pictures with latents of ``shape`` (B, h, w).

    ``begin(phase)`` marks the way. The same tensors are alive at the same time; the schedule's
    arithmetic is left out.
    """
    from diffusers.image_processor import VaeImageProcessor

    text, unet, vae, checker = (networks.get(name) for name in PARTS)
    begin("text")
    length = text.config.max_position_embeddings
    tokens = torch.zeros(shape[0], length, dtype=torch.long)
    context = text(tokens)[0]
    if guidance:
        negative = text(tokens)[0]
        context = torch.cat([negative, context])  # (2B, L, D)
    context, dtype = context.to(dtypes["unet"]), dtypes["unet"]
    begin("denoise")
    latents = torch.zeros(shape[0], unet.config.in_channels, *shape[1:], dtype=dtype)
    # The predictions of the step before, until this one's replace them
    kept = latents.repeat(1 + 2 * guidance, 1, 1, 1)
    inputs = torch.cat([latents, latents]) if guidance else latents
    output = unet(inputs, torch.tensor(1), context, return_dict=False)[0]
    del kept
    if guidance:
        uncond, cond = output.chunk(2)
        output = uncond + 2.0 * (cond - uncond)
    latents = latents + output
    begin("decode")
    scaled = (latents / vae.config.scaling_factor).to(dtypes["vae"])
    pictures = vae.decode(scaled, return_dict=False)[0]
    if checker is not None:
        begin("check")
        size = checker.config.vision_config.image_size
        seen = torch.zeros(shape[0], 3, size, size, dtype=dtypes["safety_checker"])
        checker.vision_model(seen)
        begin("decode")
    VaeImageProcessor().postprocess(pictures, output_type="pt")


def skeleton(name: str, config: dict) -> nn.Module:
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


def fill(network: nn.Module, dtype: torch.dtype) -> int:
    """Replace a skeleton's tensors by new ones, floating ones in ``dtype``; return their bytes."""
    total = 0
    for module in network.modules():
        for tensors in (module._parameters, module._buffers):
            for name, x in [(name, x) for name, x in tensors.items() if x is not None]:
                new = torch.empty(x.shape, dtype=dtype if x.is_floating_point() else x.dtype)
                total += new.nbytes
                is_weight = isinstance(x, nn.Parameter)
                tensors[name] = nn.Parameter(new, requires_grad=False) if is_weight else new
    return total


def load_layer_by_layer(network: nn.Module) -> None:
    """Let each layer hold bytes for its weights while it works, as sequential offloading does."""

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
