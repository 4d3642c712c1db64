"""The parts of a latent diffusion model, and the call that loads them from a folder."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..door import checked
from ..files.paths import user_path
from ..files.pretrained import data_dir
from ..process.schedules import NoiseSchedule
from ..validation import describe
from . import folders
from .folders import MINIATURE, NETWORKS


def dtype_of(network: nn.Module) -> torch.dtype:
    """Return the dtype of a network's weights, float32 if it has none."""
    return next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)


def device_of(network: nn.Module) -> torch.device:
    """Return where a network's weights are."""
    return next(network.parameters()).device


def _a_multiple_of_the_factor(name: str, side: object, given: dict) -> None:
    f = given["self"].factor
    if isinstance(side, bool) or not isinstance(side, int):
        raise TypeError(f"{name} must be a whole number of pixels, got {describe(side)}.")
    if side < 1 or side % f:
        near = f"{max(1, side // f) * f} or {(max(1, side // f) + 1) * f}"
        raise ValueError(
            f"{name} must be a positive multiple of {f}, the down-sampling, got {side}. Use {near}."
        )


@dataclass(frozen=True, eq=False, repr=False)
class LatentParts:
    """A latent diffusion model taken apart (Rombach et al. 2022, arXiv 2112.10752).

    vae: pictures (B, 3, H, W) in [-1, 1] to latents (B, C, H/f, W/f) and back.
    unet: reads noisy latents, told the time and the words.
    text_encoder, tokenizer: texts to words (B, L, D).
    schedule, prediction_type: how the unet was trained, as in ``sample_loop``.
    spacing (None: the sampler's own default), steps_offset, ends_clean: which times diffusers would
    visit.
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
        dtypes = {part: str(dtype_of(getattr(self, part)))[6:] for part in NETWORKS}
        one = {*dtypes.values()} == {dtypes["unet"]}
        said = dtypes["unet"] if one else ", ".join(f"{part} {d}" for part, d in dtypes.items())
        kind = f"{self.prediction_type}, {said} on {self.device}"
        return f"LatentParts(latents {self.latent_shape()}, {weights:,} weights, {kind})"

    @property
    def device(self) -> torch.device:
        """Where the unet's weights are."""
        return next(self.unet.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The unet's weights' dtype. The others may have their own: ``parts.vae.float()``."""
        return dtype_of(self.unet)

    @property
    def latent_dtype(self) -> torch.dtype:
        """The dtype of latents between the parts: the unet's, float32 at least."""
        return torch.promote_types(self.dtype, torch.float32)

    @property
    def factor(self) -> int:
        """How many pixels of a side become one latent."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @checked(height=_a_multiple_of_the_factor, width=_a_multiple_of_the_factor)
    def latent_shape(
        self, height: int | None = None, width: int | None = None
    ) -> tuple[int, int, int]:
        """Return (C, H/f, W/f) for a picture of this many pixels.

        By default it is as large as those that the unet was trained on. Raises TypeError or
        ValueError for sides that are no positive multiples of ``factor``.
        """
        size, f = self.unet.config.sample_size, self.factor
        rows, columns = (size, size) if isinstance(size, int) else size
        h, w = (rows if height is None else height // f), (columns if width is None else width // f)
        return self.unet.config.in_channels, h, w

    def predict(self, xt: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Return the unet's output for latents (B, C, h, w), times (B,), words (B, L, D).

        This is the ``model`` of ``sample_loop``.
        """
        xt_seen, words = xt.to(self.dtype), cond.to(self.dtype)
        return self.unet(xt_seen, t, encoder_hidden_states=words).sample.to(xt.dtype)

    def to(
        self, device: torch.device | str | int | None = None, dtype: torch.dtype | None = None
    ) -> "LatentParts":
        """Move and cast the three networks in place; return self.

        Each is fed in its own dtype, so ``parts.vae.float()`` cures pictures that half precision
        makes black.
        """
        # Nn.Module's own: diffusers' warns of modules to be kept in float32, even if there are none
        place = self.device if device is None else device
        for part in NETWORKS:
            network = getattr(self, part)
            nn.Module.to(network, device=place, dtype=dtype or self.dtype)
        return self


def _a_path(name: str, path: object, given: dict) -> None:
    if not isinstance(path, (str, Path)):
        got = describe(path)
        raise TypeError(f"{name} must be that of a folder, or None for the miniature, got {got}.")


def _dtype(name: str, dtype: object, given: dict) -> None:
    folders.check_dtype(dtype)


def _there(name: str, device: object, given: dict) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{name} must be one of this machine, got {device!r}: {reason}") from None


_a_path.typed = _dtype.typed = True


@checked(path=_a_path, device=_there, dtype=_dtype)
def load_parts(
    path: str | Path | None = None, *, device: torch.device | str | int = "cpu",
    dtype: torch.dtype = torch.float32,
) -> LatentParts:
    """Load the parts of a Stable Diffusion from a folder, by default the shipped miniature.

    The folder has diffusers' layout. The weights become ``dtype``, whatever the files hold: float16
    files are float32 in memory unless you ask for another, since CPUs are slow in float16. Of the
    scheduler's settings those count that say how the unet was trained and at which times to call
    it; the steps are the ``sampler``'s, without clipping. The miniature's weight files are checked
    against the sha256 in ``data/manifest.json``. Nothing is downloaded. Raises FileNotFoundError
    for a missing folder or part; ValueError for a damaged one, or a model of another kind.
    """
    folder = data_dir() / MINIATURE if path is None else user_path(path)
    again = "Copy the folder again, whole. For a name on the hub use load_stable_diffusion."
    advice = "Restore it: git checkout data." if path is None else again
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}. {advice}")
    folders.check_classes(folder, advice)
    process = folders.read_process(folder, advice)
    if path is None:
        folders.check_shipped(advice)
    networks = {part: folders.load_network(folder / part, dtype, advice) for part in NETWORKS}
    folders.check_networks(networks, folder)
    vocab_size = networks["text_encoder"].config.vocab_size
    tokenizer = folders.load_tokenizer(folder / "tokenizer", vocab_size, advice)
    return LatentParts(**networks, tokenizer=tokenizer, **process).to(device=device)
