"""The U-Net of the course: down, across, up, and skips between equal sizes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..door import checked, positive_int
from ..validation import describe
from .blocks import Block, group_norm, grouped, zero_init
from .embedding import Conditioning, as_the_weights


def _widths(name: str, channel_mult: tuple[int, ...], given: dict) -> None:
    if not channel_mult or min(channel_mult) < 1:
        wanted = "must hold an int of at least 1 for each level"
        raise ValueError(f"{name} {wanted}, got {channel_mult}.")


def _levels(name: str, attention_levels: tuple[int, ...], given: dict) -> None:
    levels = list(range(len(given["channel_mult"])))
    if not set(attention_levels) <= set(levels):
        raise ValueError(f"attention_levels must be among {levels}, got {attention_levels}.")


def _is_read(name: str, context_dim: int, given: dict) -> None:
    if given["num_classes"] is not None or not given["attention_levels"]:
        needs = "context_dim needs attention_levels, and excludes num_classes"
        names = "context_dim", "attention_levels", "num_classes"
        found = ", ".join(f"{name}={given[name]}" for name in names)
        raise ValueError(f"{needs}: the condition is one or the other; got {found}.")


def _images(name: str, xt: Tensor, given: dict) -> None:
    channels, stride = given["self"].in_channels, given["self"].stride
    if xt.ndim != 4 or xt.shape[1] != channels or any(side % stride for side in xt.shape[2:]):
        takes = f"images (B, {channels}, H, W) with sides divisible by {stride}"
        raise ValueError(f"{name}: this UNet takes {takes}, got {describe(xt)}.")


def _tokens(name: str, xt: Tensor, given: dict) -> None:
    width, cond = given["self"].context_dim, given["cond"]
    shape = cond.shape if isinstance(cond, Tensor) else ()
    if width is not None and (len(shape) != 3 or (shape[0], shape[2]) != (len(xt), width)):
        takes = f"tokens cond (B, L, {width}), one row of them for each sample of xt"
        got = f"got {describe(cond)} for xt with {describe(xt)}"
        raise ValueError(f"{name}: this network takes {takes}, {got}.")
    if width is not None:
        as_the_weights("cond", cond, given)


class UNet(nn.Module):
    """``model(xt, t, cond=None)``: images (B, C, H, W) to the same shape (arXiv 1505.04597).

    Level i has ``channels * channel_mult[i]`` channels at 1 / 2^i of the size, ``blocks_per_level``
    residual blocks each way and attention if i is in ``attention_levels``. cond: (B,) int64 classes
    with ``num_classes`` (index num_classes means "no class"), or tokens (B, L, context_dim) with
    ``context_dim``, read by cross-attention at the levels that have attention. The last convolution
    starts at zero, so a new network predicts 0. ``out_channels``: default as many as come in.
    ``patch_size`` p: p x p pixels enter as channels of one position, and all levels are smaller.
    Raises ValueError for widths that 16 does not divide, or another shape of images or conditions.
    """

    @checked(
        in_channels=positive_int, channels=grouped, channel_mult=_widths,
        blocks_per_level=positive_int, attention_levels=_levels, num_heads=positive_int,
        num_classes=positive_int, context_dim=(positive_int, _is_read), out_channels=positive_int,
        patch_size=positive_int,
    )
    def __init__(
        self, in_channels: int = 1, channels: int = 64, channel_mult: tuple[int, ...] = (1, 2), *,
        blocks_per_level: int = 1, attention_levels: tuple[int, ...] = (), num_heads: int = 4,
        num_classes: int | None = None, context_dim: int | None = None,
        out_channels: int | None = None, patch_size: int = 1,
    ) -> None:
        super().__init__()
        self.in_channels, self.context_dim, self.patch_size = in_channels, context_dim, patch_size
        self.stride = patch_size * 2 ** (len(channel_mult) - 1)
        widths, emb_dim = [channels * m for m in channel_mult], 4 * channels

        def block(level: int, ins: int, outs: int) -> Block:
            heads = num_heads if level in attention_levels else None
            return Block(ins, outs, emb_dim, num_heads=heads, context_dim=context_dim)

        self.conditioning = Conditioning(2 * channels, emb_dim, num_classes)
        self.first = nn.Conv2d(in_channels * patch_size**2, channels, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for i, (before, width) in enumerate(zip([channels, *widths], widths, strict=False)):
            ins = [before] + [width] * (blocks_per_level - 1)
            self.down.append(nn.ModuleList(block(i, n, width) for n in ins))
        self.middle = block(len(widths) - 1, widths[-1], widths[-1])
        for i, width in enumerate(widths):  # up[i] undoes down[i] and hands level i - 1 its width
            outs = [width] * (blocks_per_level - 1) + [widths[max(i - 1, 0)]]
            self.up.append(nn.ModuleList(block(i, 2 * width, n) for n in outs))
        self.norm = group_norm(widths[0])
        pixels = (out_channels or in_channels) * patch_size**2
        self.last = zero_init(nn.Conv2d(widths[0], pixels, 3, padding=1))

    @property
    def null_class(self) -> int | None:
        """The class index that means "no class", or None for a network without classes."""
        return self.conditioning.null_class

    @checked(xt=(_images, as_the_weights, _tokens))
    def forward(self, xt: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        cond, context = (cond, None) if self.context_dim is None else (None, cond)
        emb = F.silu(self.conditioning(xt, t, cond))  # (B, 4 channels)
        patches = F.pixel_unshuffle(xt, self.patch_size)  # (B, C p^2, H / p, W / p)
        h = self.first(patches)
        skips = []
        for i, blocks in enumerate(self.down):
            h = F.avg_pool2d(h, 2) if i else h
            for block in blocks:
                h = block(h, emb, context)
                skips.append(h)
        h = self.middle(h, emb, context)
        for i, blocks in reversed(list(enumerate(self.up))):
            for block in blocks:
                h = block(torch.cat([h, skips.pop()], 1), emb, context)
            h = F.interpolate(h, scale_factor=2.0, mode="nearest") if i else h
        return F.pixel_shuffle(self.last(F.silu(self.norm(h))), self.patch_size)
