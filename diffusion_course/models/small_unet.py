"""A first U-Net, small enough to train on a laptop in minutes."""

import torch
from torch import Tensor, nn

from ..validation import describe
from .embedding import Conditioning


class ResBlock(nn.Module):
    """Two convolutions around a scale and shift that depend on the time; the last one starts at zero."""

    def __init__(self, in_channels: int, out_channels: int, emb_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.scale_shift = nn.Linear(emb_dim, 2 * out_channels)
        self.norm2 = nn.GroupNorm(8, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(nn.functional.silu(self.norm1(x)))
        scale, shift = self.scale_shift(emb)[:, :, None, None].chunk(2, 1)  # (B, C, 1, 1) each
        h = self.norm2(h) * (1 + scale) + shift
        return self.skip(x) + self.conv2(nn.functional.silu(h))


class SmallUNet(nn.Module):
    """U-Net for images (B, C, H, W): ``model(xt, t, cond=None)`` -> the same shape.

    H and W must be divisible by 2 ** (len(channel_mult) - 1); channels by 8. cond: (B,) int64 classes if ``num_classes`` is
    given. Raises ValueError for images of another shape.
    """

    def __init__(
        self, in_channels: int = 1, channels: int = 32, channel_mult: tuple[int, ...] = (1, 2), num_classes: int | None = None
    ) -> None:
        super().__init__()
        if channels % 8:
            raise ValueError(f"channels must be divisible by 8 (group normalisation), got {channels}.")
        self.in_channels, self.stride = in_channels, 2 ** (len(channel_mult) - 1)
        widths, emb_dim = [channels * m for m in channel_mult], 4 * channels
        self.conditioning = Conditioning(2 * channels, emb_dim, num_classes)
        self.first = nn.Conv2d(in_channels, channels, 3, padding=1)
        ins = [channels, *widths[:-1]]
        self.down = nn.ModuleList(ResBlock(i, o, emb_dim) for i, o in zip(ins, widths, strict=True))
        self.middle = ResBlock(widths[-1], widths[-1], emb_dim)
        outs = [channels, *widths[:-1]]
        self.up = nn.ModuleList(ResBlock(2 * w, o, emb_dim) for w, o in zip(widths, outs, strict=True))
        self.norm = nn.GroupNorm(8, channels)
        self.last = nn.Conv2d(channels, in_channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, xt: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        if xt.ndim != 4 or xt.shape[1] != self.in_channels or xt.shape[2] % self.stride or xt.shape[3] % self.stride:
            raise ValueError(
                f"this SmallUNet takes images (B, {self.in_channels}, H, W) with sides divisible by {self.stride}, "
                f"got {describe(xt)}."
            )
        emb = nn.functional.silu(self.conditioning(xt, t, cond))
        h, skips = self.first(xt), []
        for i, block in enumerate(self.down):
            h = nn.functional.avg_pool2d(h, 2) if i else h
            h = block(h, emb)
            skips.append(h)
        h = self.middle(h, emb)
        for i in reversed(range(len(self.up))):
            h = self.up[i](torch.cat([h, skips[i]], 1), emb)
            h = nn.functional.interpolate(h, scale_factor=2.0, mode="nearest") if i else h
        return self.last(nn.functional.silu(self.norm(h)))
