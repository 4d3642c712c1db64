"""A diffusion transformer: pictures as rows of patches, every block told the time (adaLN-zero).

Names of weights are those of diffusers' ``DiTTransformer2DModel``, so that state dicts fit both.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..door import checked, number, positive_int
from ..validation import check_floating, describe
from .blocks import zero_init
from .embedding import _classes, _cond_if_built_so, _one_each, as_the_weights

WAVES = 256  # cosines and sines of the time


def _in_patches(name: str, images: Tensor, given: dict) -> None:
    p = given["patch_size"]
    check_floating(name, images)
    if images.ndim != 4 or any(side == 0 or side % p for side in images.shape[2:]):
        wanted = f"{name} must be (B, C, H, W) with sides divisible by patch_size={p}"
        raise ValueError(f"{wanted}, got {describe(images)}.")


@checked(patch_size=positive_int, images=_in_patches)
def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images (B, C, H, W) into tokens (B, H W / p^2, p p C): row by row, channels last.

    The p p C numbers of a token are its pixels row by row, each with its C channels (Peebles & Xie
    2022, arXiv 2212.09748, section 3.2). Raises ValueError unless p divides both sides.
    """
    rows, columns = (side // patch_size for side in images.shape[2:])
    cut = images.unflatten(3, (columns, patch_size)).unflatten(2, (rows, patch_size))
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def _of_a_grid(name: str, tokens: Tensor, given: dict) -> None:
    p, (rows, columns) = given["patch_size"], given["grid"]
    check_floating(name, tokens)
    shape = tokens.shape
    if tokens.ndim != 3 or shape[1] != rows * columns or shape[2] == 0 or shape[2] % p**2:
        wanted = f"{name} must be (B, {rows * columns}, p p C) for grid={(rows, columns)}"
        raise ValueError(f"{wanted} and p={p}, got {describe(tokens)}.")


@checked(patch_size=positive_int, tokens=_of_a_grid)
def unpatchify(tokens: Tensor, patch_size: int, grid: tuple[int, int]) -> Tensor:
    """Put tokens (B, rows columns, p p C) back into images (B, C, rows p, columns p).

    ``patchify`` undone; grid: (rows, columns). Raises ValueError for another number of tokens or
    of numbers in one.
    """
    cut = tokens.unflatten(2, (patch_size, patch_size, -1)).unflatten(1, grid)
    return cut.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


def grid_waves(side: int, width: int) -> Tensor:
    """Return where each of side x side tokens is (side^2, width): waves of its column and its row.

    Half of the width for either: sines, then cosines, at width / 4 frequencies from 1 towards, but
    never at, 1 / 10,000 (as in diffusers). Row by row.
    """
    frequencies = 10_000.0 ** -(torch.arange(width // 4, dtype=torch.float64) * 4 / width)
    angles = torch.arange(side, dtype=torch.float64)[:, None] * frequencies
    one = torch.cat([angles.sin(), angles.cos()], 1)  # (side, width / 2)
    return torch.cat([one.repeat(side, 1), one.repeat_interleave(side, 0)], 1).float()


def time_waves(t: Tensor, last: int = WAVES // 2 - 1) -> Tensor:
    """Return cosines and sines of t (B, 256) float32; the slowest turns by t / 10,000.

    ``timestep_embedding`` divides the exponent by half of the width, 128, this by ``last``: 127 in
    DiT, 128 in Stable Diffusion 3.
    """
    steps = torch.arange(WAVES // 2, dtype=torch.float32, device=t.device)
    angles = t.float()[:, None] * torch.exp(-math.log(10_000) * steps / last)
    return torch.cat([angles.cos(), angles.sin()], 1)


class TwoLayers(nn.Module):
    """x (B, D) -> (B, E): a layer, SiLU, a layer."""

    def __init__(self, ins: int, outs: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(ins, outs), nn.Linear(outs, outs)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(x)))


class Table(nn.Module):
    """A vector (B, E) for each class (B,)."""

    def __init__(self, entries: int, width: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(entries, width)

    def forward(self, cond: Tensor) -> Tensor:
        return self.embedding_table(cond)


class TimeAndClass(nn.Module):
    """Time t (B,) and class (B,) as one vector (B, width); without classes, the time alone."""

    def __init__(self, width: int, num_classes: int | None) -> None:
        super().__init__()
        self.timestep_embedder = TwoLayers(WAVES, width)
        self.class_embedder = None if num_classes is None else Table(num_classes + 1, width)

    def forward(self, t: Tensor, cond: Tensor | None) -> Tensor:
        weight = self.timestep_embedder.linear_1.weight
        emb = self.timestep_embedder(time_waves(t).to(weight.dtype))
        return emb if cond is None else emb + self.class_embedder(cond)


class AdaLNZero(nn.Module):
    """Six rows (B, 1, width) for a block, linear in its condition (B, width); at first all zero.

    shift, scale and gate of the attention, then of the layers behind it. ``emb``: what makes the
    condition, if each block has its own, as in diffusers.
    """

    def __init__(self, width: int, emb: nn.Module | None = None, rows: int = 6) -> None:
        super().__init__()
        self.emb, self.rows = emb, rows
        self.linear = zero_init(nn.Linear(width, rows * width))

    def forward(self, c: Tensor) -> tuple[Tensor, ...]:
        return self.linear(F.silu(c))[:, None].chunk(self.rows, -1)


def modulate(h: Tensor, shift: Tensor, scale: Tensor, eps: float = 1e-6) -> Tensor:
    """Return LN(h) (1 + scale) + shift: each token of h (B, N, width) with mean 0, variance 1."""
    return F.layer_norm(h, h.shape[-1:], eps=eps) * (1 + scale) + shift


class Wide(nn.Module):
    """A layer to four times the width and GELU: the first half of ``TokenLayers``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 4 * width)

    def forward(self, h: Tensor) -> Tensor:
        return F.gelu(self.proj(h), approximate="tanh")


class TokenLayers(nn.Module):
    """h (B, N, width) -> the same: each token on its own through 4 width numbers and back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # The middle is diffusers' dropout.
        self.net = nn.ModuleList([Wide(width), nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, h: Tensor) -> Tensor:
        return self.net[2](self.net[0](h))


def heads_of(h: Tensor, num_heads: int) -> Tensor:
    """Return h (B, N, width) as (B, heads, N, width / heads)."""
    return h.unflatten(-1, (num_heads, -1)).transpose(1, 2)


class TokenAttention(nn.Module):
    """h (B, N, width) -> the same: what each token reads from all (arXiv 1706.03762, eq. 1)."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, h: Tensor) -> Tensor:
        qkv = (heads_of(layer(h), self.num_heads) for layer in (self.to_q, self.to_k, self.to_v))
        read = F.scaled_dot_product_attention(*qkv)
        return self.to_out[0](read.transpose(1, 2).flatten(2))


class DiTBlock(nn.Module):
    """One block of a DiT: tokens h (B, N, width) and a condition c (B, width) -> (B, N, width).

    h + gate attention(LN(h) (1 + scale) + shift), then the same with two layers for each token
    (arXiv 2212.09748, section 3.2, "adaLN-Zero"). All six rows are linear in silu(c) and start at
    zero, so a new block changes nothing. Raises ValueError if the heads do not divide the width.
    """

    def __init__(
        self, width: int, num_heads: int, emb: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.norm1 = AdaLNZero(width, emb)
        self.attn1 = TokenAttention(width, num_heads)
        self.ff = TokenLayers(width)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        shift, scale, gate, shift_2, scale_2, gate_2 = self.norm1(c)
        h = h + gate * self.attn1(modulate(h, shift, scale))
        h_2 = modulate(h, shift_2, scale_2, 1e-5)  # the eps of diffusers
        return h + gate_2 * self.ff(h_2)


class Patches(nn.Module):
    """Pictures (B, C, H, W) -> tokens (B, N, width): a layer for each patch, and its place."""

    def __init__(self, side: int, patch_size: int, channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch_size, patch_size)
        places = grid_waves(side // patch_size, width)
        self.register_buffer("pos_embed", places[None], persistent=False)

    def forward(self, xt: Tensor) -> Tensor:
        h = self.proj(xt).flatten(2).mT
        return (h + self.pos_embed).to(h.dtype)


def _divided(name: str, num_heads: int, given: dict) -> None:
    width, p, size = given["width"], given["patch_size"], given["sample_size"]
    if num_heads < 1 or width % num_heads:
        raise ValueError(f"num_heads must divide the width, got {num_heads=} for {width=}.")
    if size % p:
        raise ValueError(f"patch_size must divide sample_size, got {p} and {size}.")


def _pictures(name: str, xt: Tensor, given: dict) -> None:
    channels, side = given["self"].in_channels, given["self"].sample_size
    if xt.shape[1:] != (channels, side, side):
        takes = f"images (B, {channels}, {side}, {side})"
        raise ValueError(f"{name}: this network takes {takes}, got {describe(xt)}.")


quarters = number(lambda n: n >= 4 and n % 4 == 0, "be a positive multiple of 4")


class DiT(nn.Module):
    """``model(xt, t, cond=None)``: square images (B, C, side, side) to the same shape.

    A transformer (Peebles & Xie 2022, arXiv 2212.09748): patches of p x p pixels are its tokens, of
    ``width`` numbers, in ``depth`` blocks (``DiTBlock``). t: (B,) indices or 1000 times flow time.
    cond: (B,) int64 classes with ``num_classes`` (index num_classes, ``null_class``, means "no
    class"). A new network predicts 0. ``sample_size``: the side. With ``num_classes`` weights fit
    diffusers' ``DiTTransformer2DModel``, which has a time embedding in every block, as here; it
    drops labels by itself while it trains, this does not. Raises ValueError for other shapes or
    labels, a width that 4 or the heads do not divide, or a side that p does not divide.
    """

    @checked(
        in_channels=positive_int, sample_size=positive_int, patch_size=positive_int, width=quarters,
        depth=positive_int, num_heads=_divided, num_classes=positive_int,
    )
    def __init__(
        self, in_channels: int = 1, sample_size: int = 16, patch_size: int = 2, width: int = 128,
        depth: int = 4, *, num_heads: int = 4, num_classes: int | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.sample_size, self.null_class = in_channels, sample_size, num_classes
        self.patch_size = patch_size
        self.pos_embed = Patches(sample_size, patch_size, in_channels, width)

        def block() -> DiTBlock:
            return DiTBlock(width, num_heads, TimeAndClass(width, num_classes))

        self.transformer_blocks = nn.ModuleList(block() for _ in range(depth))
        self.proj_out_1 = zero_init(nn.Linear(width, 2 * width))
        self.proj_out_2 = zero_init(nn.Linear(width, patch_size**2 * in_channels))

    @property
    def first(self) -> nn.Module:
        """The first layer, whose dtype and device are the network's."""
        return self.pos_embed.proj

    @checked(xt=(_pictures, as_the_weights), t=(_one_each, _cond_if_built_so), cond=_classes)
    def forward(self, xt: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        h = self.pos_embed(xt)
        for block in self.transformer_blocks:
            h = block(h, block.norm1.emb(t, cond))
        c = self.transformer_blocks[0].norm1.emb(t, cond)
        shift, scale = self.proj_out_1(F.silu(c))[:, None].chunk(2, -1)
        h = self.proj_out_2(modulate(h, shift, scale))
        side = self.sample_size // self.patch_size
        return unpatchify(h, self.patch_size, (side, side))
