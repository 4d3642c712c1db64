"""The U-Net of the course: down, across, up, and skips between equal sizes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..validation import describe
from .blocks import Block, check_context, group_norm, zero_init
from .embedding import Conditioning


class UNet(nn.Module):
    """U-Net for images (B, C, H, W): ``model(xt, t, cond=None)`` -> the same shape (arXiv
    1505.04597, told the time).

    Level i has ``channels * channel_mult[i]`` channels at 1 / 2^i of the size, ``blocks_per_level``
    residual blocks each way and attention if i is in ``attention_levels``. cond: (B,) int64 classes
    with ``num_classes`` (index num_classes means "no class"), or tokens (B, L, context_dim) with
    ``context_dim``, read by cross-attention at the levels that have attention. The last convolution
    starts at zero, so a new network predicts 0. ``out_channels``: default as many as come in.
    ``patch_size`` p: p x p pixels enter as channels of one position, so that all levels work on a
    smaller picture. Raises ValueError for widths that 16 does not divide and for images or
    conditions of another shape.
    """

    def __init__(
        self, in_channels: int = 1, channels: int = 64, channel_mult: tuple[int, ...] = (1, 2), *,
        blocks_per_level: int = 1, attention_levels: tuple[int, ...] = (), num_heads: int = 4,
        num_classes: int | None = None, context_dim: int | None = None,
        out_channels: int | None = None, patch_size: int = 1,
    ) -> None:
        super().__init__()
        levels = range(len(channel_mult))
        if any(i not in levels for i in attention_levels):
            raise ValueError(
                f"attention_levels must be among {list(levels)}, got {attention_levels}."
            )
        if context_dim is not None and (num_classes is not None or not attention_levels):
            raise ValueError(
                "context_dim needs attention_levels, and excludes num_classes: the condition is one"
                " or the other."
            )
        self.in_channels, self.context_dim, self.patch_size = in_channels, context_dim, patch_size
        self.stride = patch_size * 2 ** (len(channel_mult) - 1)
        widths, emb_dim = [channels * m for m in channel_mult], 4 * channels

        def block(level: int, ins: int, outs: int) -> Block:
            heads = num_heads if level in attention_levels else None
            return Block(ins, outs, emb_dim, num_heads=heads, context_dim=context_dim)

        self.conditioning = Conditioning(2 * channels, emb_dim, num_classes)
        self.first = nn.Conv2d(in_channels * patch_size**2, channels, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        before = channels
        for i, width in enumerate(widths):
            self.down.append(
                nn.ModuleList(
                    block(i, before if j == 0 else width, width) for j in range(blocks_per_level)
                )
            )
            before = width
        self.middle = block(levels[-1], before, before)
        for i, width in enumerate(widths):  # up[i] undoes down[i] and hands level i - 1 its width
            after = widths[max(i - 1, 0)]
            outs = [width] * (blocks_per_level - 1) + [after]
            self.up.append(nn.ModuleList(block(i, 2 * width, out) for out in outs))
        self.norm = group_norm(widths[0])
        self.last = zero_init(
            nn.Conv2d(widths[0], (out_channels or in_channels) * patch_size**2, 3, padding=1)
        )

    @property
    def null_class(self) -> int | None:
        """The class index that means "no class", or None for a network without classes."""
        return self.conditioning.null_class

    def forward(self, xt: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        if (
            xt.ndim != 4
            or xt.shape[1] != self.in_channels
            or xt.shape[2] % self.stride
            or xt.shape[3] % self.stride
        ):
            raise ValueError(
                f"this UNet takes images (B, {self.in_channels}, H, W) with sides divisible by"
                f" {self.stride}, got {describe(xt)}."
            )
        context = None
        if self.context_dim is not None:
            check_context(cond, xt, self.context_dim)
            cond, context = None, cond
        emb = F.silu(self.conditioning(xt, t, cond))  # (B, 4 channels)
        h, skips = (
            self.first(F.pixel_unshuffle(xt, self.patch_size)), []
        )  # (B, C p^2, H / p, W / p) enters
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
