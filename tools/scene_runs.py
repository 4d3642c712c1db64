"""The training runs on scenes: judge, autoencoder, caption reader, denoiser. ``tools.train`` drives
them.

Pictures are drawn anew for every step. Step k of a run always sees the same ones, whatever was
stopped and resumed before.
"""

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from diffusion_course.datasets.scenes import captions, parse_caption, render_scenes, sample_scenes
from diffusion_course.latent.autoencoder import autoencoder_loss
from diffusion_course.measures.judge import JUDGE_SIZES, judge_loss
from diffusion_course.models import Judge
from diffusion_course.training.precision import has_fast_bfloat16
from diffusion_course.training.run import Run, TrainConfig

SIZE = 64
VAE_CONFIG = {
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "block_out_channels": [32, 64, 64],
    "layers_per_block": 1,
    "latent_channels": 8,
    "norm_num_groups": 4,  # few groups: the backward pass of small ones is slow on CPUs
    "sample_size": SIZE,
}
TEXT_CONFIG = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "hidden_act": "quick_gelu",
}
UNET_CONFIG = {
    "sample_size": SIZE // 4,
    "in_channels": VAE_CONFIG["latent_channels"],
    "out_channels": VAE_CONFIG["latent_channels"],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [96, 160, 160],
    "layers_per_block": 1,
    "cross_attention_dim": TEXT_CONFIG["hidden_size"],
    "attention_head_dim": 4,  # in diffusers' U-Net this is the number of heads
    "norm_num_groups": 4,
}
SCHEDULE = {"name": "scaled_linear", "num_train_timesteps": 1000}
JUDGE_CONFIG = {"sizes": list(JUDGE_SIZES)}


def settings(device: torch.device, **given: object) -> TrainConfig:
    """Return the settings of a run: bfloat16 where the device is faster with it.

    AVX-512 counts: convolutions gain here.
    """
    fast = has_fast_bfloat16(device) or (
        device.type == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16", False)
    )
    return TrainConfig(**{"precision": "bfloat16" if fast else "float32"} | given)


class SceneRun(Run):
    """A run that draws its pictures: ``codes`` and ``pictures`` return this process's share of the
    step's batch.
    """

    split = "train"

    def generator_of_step(self) -> torch.Generator:
        """Return the CPU generator that scenes and captions of this step come from."""
        return torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.step_count)

    def codes(self, generator: torch.Generator) -> Tensor:
        """Return the codes (B, 10) of this process."""
        size = self.config.batch_size * self.num_processes
        return sample_scenes(size, generator=generator, split=self.split)[self.share]

    def pictures(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        """Return the pictures (B, 3, 64, 64) of codes."""
        images = render_scenes(codes, size=SIZE, generator=generator, device=self.device)
        return images.contiguous(memory_format=torch.channels_last)


class JudgeRun(SceneRun):
    """The judge sees every combination, in pictures with a little noise or blur, as a generator's
    are.
    """

    split = "all"

    def loss(self) -> Tensor:
        """Return the cross-entropy of all attributes."""
        g = self.generator_of_step()
        codes = self.codes(g)
        images = self.pictures(codes, g)
        noise = torch.randn(images.shape, generator=self.generator, device=self.device)
        images = (
            images
            + 0.08
            * torch.rand(len(images), 1, 1, 1, generator=self.generator, device=self.device)
            * noise
        )
        return judge_loss(self.model, self.network(images), codes.to(self.device))


class AutoencoderTask(nn.Module):
    """An autoencoder whose forward pass is its loss, so that several processes can share it."""

    def __init__(self, vae: AutoencoderKL, kl_weight: float) -> None:
        super().__init__()
        self.vae, self.kl_weight = vae, kl_weight

    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return autoencoder_loss(
            self.vae, images, kl_weight=self.kl_weight, generator=generator
        ).total


class AutoencoderRun(SceneRun):
    """The autoencoder learns to draw scenes again."""

    def loss(self) -> Tensor:
        """Return the autoencoder's loss."""
        g = self.generator_of_step()
        return self.network(self.pictures(self.codes(g), g), self.generator)


def new_autoencoder() -> AutoencoderKL:
    """Return an untrained autoencoder; on a CPU plain attention trains faster than the fused."""
    vae = AutoencoderKL(**VAE_CONFIG).to(memory_format=torch.channels_last)
    vae.set_attn_processor(AttnProcessor())
    return vae


def new_judge() -> Judge:
    """Return an untrained judge."""
    return Judge(**JUDGE_CONFIG).to(memory_format=torch.channels_last)


class CaptionReader(nn.Module):
    """The text encoder with one answer for each attribute of a scene, read off the end token; "not
    said" is an answer too.
    """

    def __init__(self, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.sizes = tuple(size + 1 for size in JUDGE_SIZES)
        self.head = nn.Linear(text_encoder.config.hidden_size, sum(self.sizes))

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.text_encoder(ids).pooler_output)


class ReaderRun(SceneRun):
    """The text encoder learns alone what a caption asks for, before it learns with the denoiser
    what to show it.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        device: torch.device,
        accelerator: object,
        tokenizer: CLIPTokenizer,
    ):
        super().__init__(model, config, device, accelerator)
        self.tokenizer = tokenizer

    def loss(self) -> Tensor:
        """Return the cross-entropy of what captions ask for."""
        g = self.generator_of_step()
        texts = captions(self.codes(g), generator=g)
        asked = torch.stack([parse_caption(text) for text in texts]).to(self.device)
        logits = (
            self.network(token_ids(self.tokenizer, texts).to(self.device))
            .float()
            .split(self.model.sizes, 1)
        )
        answers = torch.where(
            asked < 0, asked.new_tensor(JUDGE_SIZES), asked
        )  # the last choice: not said
        return sum(
            nn.functional.cross_entropy(part, answer)
            for part, answer in zip(logits, answers.unbind(1), strict=True)
        )


class TextDenoiser(nn.Module):
    """U-Net and text encoder as one network ``model(xt, t, cond)`` with token ids (B, L) as
    condition.
    """

    def __init__(
        self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, null_ids: Tensor
    ) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder
        self.register_buffer("null_class", null_ids)  # the empty prompt, for label dropout

    def forward(self, xt: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        return self.unet(xt, t, self.text_encoder(cond).last_hidden_state).sample


def token_ids(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Return the ids (N, L) of texts, cut or filled to the tokenizer's length."""
    return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return an untrained text encoder for the vocabulary."""
    ids = {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")
    }
    return CLIPTextModel(
        CLIPTextConfig(**TEXT_CONFIG, vocab_size=len(tokenizer), **ids, attn_implementation="eager")
    )


def new_denoiser(
    text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, unet: nn.Module | None = None
) -> TextDenoiser:
    """Return a text encoder with a U-Net, by default an untrained one; plain attention trains
    faster than the fused on a CPU.
    """
    unet = UNet2DConditionModel(**UNET_CONFIG) if unet is None else unet
    unet.set_attn_processor(AttnProcessor())
    return TextDenoiser(unet, text_encoder, token_ids(tokenizer, [""])[0])
