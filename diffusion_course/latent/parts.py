"""The parts of a latent diffusion model, and how they are loaded from a folder in diffusers'
layout.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..files.checkpoints import check_sha256
from ..files.pretrained import data_dir, shipped_files
from ..process.kernels import PREDICTION_TYPES
from ..process.schedules import NoiseSchedule, make_schedule
from ..validation import check_choice, describe

MINIATURE = "mini-stable-diffusion"
NETWORKS = {"vae": "AutoencoderKL", "unet": "UNet2DConditionModel", "text_encoder": "CLIPTextModel"}
BETA_SCHEDULES = {
    "linear": "linear",
    "scaled_linear": "scaled_linear",
    "squaredcos_cap_v2": "cosine",
    "sigmoid": "sigmoid",
}


@dataclass(frozen=True, eq=False, repr=False)
class LatentParts:
    """A latent diffusion model taken apart (Rombach et al. 2022, arXiv 2112.10752): what turns
    words and noise into pictures.

    vae: pictures (B, 3, H, W) in [-1, 1] to latents (B, C, H/f, W/f) and back. unet: reads noisy
    latents, told the time and the words. text_encoder, tokenizer: texts to (B, L, D). schedule,
    prediction_type: how the unet was trained, as in ``sample_loop``. spacing (None: the sampler's
    own default), steps_offset, ends_clean: which times diffusers would visit.
    """

    vae: nn.Module
    unet: nn.Module
    text_encoder: nn.Module
    tokenizer: object
    schedule: NoiseSchedule
    prediction_type: str = "epsilon"
    spacing: str | None = None
    steps_offset: int = 0
    ends_clean: bool = True

    def __repr__(self) -> str:
        weights = sum(p.numel() for part in NETWORKS for p in getattr(self, part).parameters())
        kind = f"{self.prediction_type}, {str(self.dtype).removeprefix('torch.')} on {self.device}"
        return f"LatentParts(latents {self.latent_shape()}, {weights:,} weights, {kind})"

    @property
    def device(self) -> torch.device:
        """Where the unet's weights are."""
        return next(self.unet.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The unet's weights' dtype."""
        return next(self.unet.parameters()).dtype

    @property
    def factor(self) -> int:
        """How many pixels of a side become one latent."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def latent_shape(
        self, height: int | None = None, width: int | None = None
    ) -> tuple[int, int, int]:
        """Return (C, H/f, W/f) for a picture of this many pixels, by default of the size that the
        unet was trained on.

        Raises TypeError or ValueError for sides that are no positive multiples of ``factor``.
        """
        size, f = self.unet.config.sample_size, self.factor
        trained = (size, size) if isinstance(size, int) else size
        sides = [
            f * small if side is None else side
            for side, small in zip((height, width), trained, strict=True)
        ]
        for name, side in zip(("height", "width"), sides, strict=True):
            if isinstance(side, bool) or not isinstance(side, int):
                raise TypeError(f"{name} must be a whole number of pixels, got {describe(side)}.")
            if side < 1 or side % f:
                near = f"{max(1, side // f) * f} or {(max(1, side // f) + 1) * f}"
                raise ValueError(
                    f"{name} must be a positive multiple of {f}, the down-sampling, got {side}. Use"
                    f" {near}."
                )
        return self.unet.config.in_channels, sides[0] // f, sides[1] // f

    def predict(self, xt: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Return the unet's output for latents (B, C, h, w), times (B,), words (B, L, D): the
        ``model`` of ``sample_loop``.
        """
        return self.unet(xt.to(self.dtype), t, encoder_hidden_states=cond).sample.to(xt.dtype)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "LatentParts":
        """Move and cast the three networks in place; return self."""
        # Nn.Module's own: diffusers' warns of modules to be kept in float32, even if there are none
        for part in NETWORKS:
            nn.Module.to(
                getattr(self, part), device=device or self.device, dtype=dtype or self.dtype
            )
        return self


def load_parts(
    path: str | Path | None = None, *, device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> LatentParts:
    """Load the parts of a Stable Diffusion from a folder in diffusers' layout, by default the
    shipped miniature.

    The weights become ``dtype``, whatever the files hold: float16 files are float32 in memory
    unless you ask for another, since CPUs are slow in float16. Of the scheduler's settings those
    count that say how the unet was trained and at which times to call it; the steps are the
    ``sampler``'s, without clipping. The miniature's weight files are checked against the sha256 in
    ``data/manifest.json``. Nothing is downloaded. Raises FileNotFoundError for a missing folder or
    part; ValueError for a damaged one, or a model of another kind.
    """
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(
            f"dtype must be a floating torch.dtype such as torch.float16, got {describe(dtype)}."
        )
    if path is not None and not isinstance(path, (str, Path)):
        raise TypeError(
            f"path must be that of a folder, or None for the miniature, got {describe(path)}."
        )
    folder, advice = (
        (data_dir() / MINIATURE, "Restore it: git checkout data.")
        if path is None
        else (
            Path(path),
            "Copy the folder again, whole. For a name on the hub use load_stable_diffusion.",
        )
    )
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}. {advice}")
    classes = _read_json(folder / "model_index.json", advice)
    config = _read_json(folder / "scheduler" / "scheduler_config.json", advice)
    for part, expected in NETWORKS.items():
        if (classes.get(part) or [None])[-1] != expected:
            raise ValueError(
                f"this course runs models whose {part} is {expected}; in {folder} it is"
                f" {classes.get(part)}."
            )
        _read_json(folder / part / "config.json", advice)
    if path is None:
        _check_shipped(advice)
    networks = {part: _load_network(folder / part, dtype, advice) for part in NETWORKS}
    tokenizer = _load_tokenizer(
        folder / "tokenizer", networks["text_encoder"].config.vocab_size, advice
    )
    latents, read = networks["vae"].config.latent_channels, networks["unet"].config.in_channels
    if latents != read:
        raise ValueError(
            f"the unet in {folder} reads {read} channels, the latents have {latents}: it wants a"
            " mask or a picture as well. Load a model for text-to-image."
        )
    return LatentParts(**networks, tokenizer=tokenizer, **_read_process(config, folder)).to(
        device=device
    )


def _read_json(path: Path, advice: str) -> dict:
    if not path.is_file():
        raise FileNotFoundError(
            f"the model has no {path.parent.name}/{path.name}: there is no file {path}. {advice}"
        )
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}). {advice}") from error


def _check_shipped(advice: str) -> None:
    files = shipped_files()
    for part in NETWORKS:
        if (entry := files.get(f"{MINIATURE}/{part}")) is None:
            raise ValueError(
                f"{data_dir() / 'manifest.json'} has no entry {MINIATURE}/{part}. {advice}"
            )
        if not entry.path.is_file():
            raise FileNotFoundError(
                f"the weights of the {part} are missing: there is no file {entry.path}. {advice}"
            )
        check_sha256(entry.path, entry.sha256)


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _load_network(folder: Path, dtype: torch.dtype, advice: str) -> nn.Module:
    import diffusers
    import transformers
    from safetensors import SafetensorError

    if not any(folder.glob("*.safetensors")):
        raise FileNotFoundError(
            f"the weights of the {folder.name} are missing: no *.safetensors in {folder}. {advice}"
        )
    name = NETWORKS[folder.name]
    try:
        with _without_progress_bars():
            network, info = getattr(
                diffusers, name, getattr(transformers, name, None)
            ).from_pretrained(
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ValueError(
            f"the {folder.name} in {folder} cannot be loaded ({error}). {advice}"
        ) from error
    if lost := sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]])):
        raise ValueError(
            f"the weights of the {folder.name} in {folder} lack {len(lost)} tensors, such as"
            f" {lost[0]}. {advice}"
        )
    return nn.Module.to(network, dtype=dtype).eval()


def _load_tokenizer(folder: Path, vocab_size: int, advice: str) -> object:
    from transformers import CLIPTokenizer

    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise FileNotFoundError(f"the model has no tokenizer: no vocabulary in {folder}. {advice}")
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers library raises plain Exception for a damaged file
        raise ValueError(
            f"the tokenizer in {folder} cannot be loaded ({error}). {advice}"
        ) from error
    if len(tokenizer) > vocab_size:
        raise ValueError(
            f"the tokenizer in {folder} has {len(tokenizer)} tokens, the text_encoder {vocab_size}."
            f" {advice}"
        )
    return tokenizer


def _read_process(config: dict, folder: Path) -> dict[str, object]:
    """Return the fields of ``LatentParts`` that a scheduler's configuration holds, with diffusers'
    defaults.
    """
    betas, kind = config.get("trained_betas"), config.get("beta_schedule")
    if betas is None and kind not in BETA_SCHEDULES:
        raise ValueError(
            f"the scheduler in {folder} has beta_schedule {kind!r}; known are"
            f" {', '.join(BETA_SCHEDULES)}."
        )
    if betas is None:
        ends = (
            {}
            if kind == "squaredcos_cap_v2"
            else {end: config[end] for end in ("beta_start", "beta_end") if end in config}
        )
        total, rescaled = (
            config.get("num_train_timesteps", 1000), config.get("rescale_betas_zero_snr", False)
        )
        schedule = make_schedule(BETA_SCHEDULES[kind], total, zero_terminal_snr=rescaled, **ends)
    else:
        schedule = NoiseSchedule(torch.tensor(betas, dtype=torch.float64))
    prediction_type = config.get("prediction_type", "epsilon")
    check_choice(
        f"the prediction_type of the scheduler in {folder}", prediction_type, PREDICTION_TYPES
    )
    return {
        "schedule": schedule,
        "prediction_type": prediction_type,
        "spacing": config.get("timestep_spacing"),
        "steps_offset": config.get("steps_offset", 0),
        "ends_clean": config.get("set_alpha_to_one", True),
    }
