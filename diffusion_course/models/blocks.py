"""What a U-Net is made of: a residual block that is told the time, and attention."""

from torch import Tensor, nn
from torch.nn import functional as F

from ..door import checked, number, positive_int

GROUP = 16  # channels normalised together; fewer are slow in bfloat16 and channels-last on CPUs
MULTIPLE = f"be a multiple of {GROUP} (group normalisation)"


grouped = number(lambda n: n >= 1 and n % GROUP == 0, MULTIPLE)


@checked(channels=grouped)
def group_norm(channels: int) -> nn.GroupNorm:
    """Return normalisation over groups of 16 channels. Raises ValueError unless 16 divides them."""
    return nn.GroupNorm(channels // GROUP, channels)


def zero_init(layer: nn.Module) -> nn.Module:
    """Set all weights of ``layer`` to zero and return it: a branch that ends in it adds nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class ResBlock(nn.Module):
    """x (B, C_in, H, W) and an embedding (B, E) -> (B, C_out, H, W): two convolutions and a skip.

    The second normalisation is followed by h (1 + scale) + shift, both linear in the embedding
    (arXiv 2105.05233, section 3, "adaptive group normalization"). The last convolution starts at
    zero, so a new block is its skip connection.
    """

    @checked(in_channels=grouped, out_channels=grouped, emb_dim=positive_int)
    def __init__(self, in_channels: int, out_channels: int, emb_dim: int) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.scale_shift = nn.Linear(emb_dim, 2 * out_channels)
        self.norm2 = group_norm(out_channels)
        self.conv2 = zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        widens = in_channels != out_channels
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if widens else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        numbers = self.scale_shift(emb)[:, :, None, None]
        scale, shift = numbers.chunk(2, 1)  # (B, C, 1, 1) each
        h = shift.addcmul(self.norm2(h), 1 + scale)
        return self.skip(x) + self.conv2(F.silu(h))


def _divides_channels(name: str, num_heads: int, given: dict) -> None:
    channels = given["channels"]
    if num_heads < 1 or channels % num_heads:
        raise ValueError(f"num_heads must divide the channels, got {num_heads=} for {channels}.")


class Attention(nn.Module):
    """Add to x (B, C, H, W) what each position reads from all, or from a context (B, L, D).

    softmax(q k^T / sqrt(C / num_heads)) v in each head (arXiv 1706.03762, eq. 1). ``context_dim`` D
    makes it cross-attention; without it the context is x itself. The output layer starts at zero.
    Raises ValueError if the heads do not divide C.
    """

    @checked(num_heads=_divides_channels, context_dim=positive_int)
    def __init__(
        self, channels: int, num_heads: int, context_dim: int | None = None
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = group_norm(channels)
        self.query = nn.Linear(channels, channels)
        read = channels if context_dim is None else context_dim
        self.key_value = nn.Linear(read, 2 * channels)
        self.out = zero_init(nn.Linear(channels, channels))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.norm(x).flatten(2).mT  # (B, HW, C)
        context = h if context is None else context  # (B, L, D)
        q, k, v = self.query(h), *self.key_value(context).chunk(2, -1)
        split = (z.unflatten(-1, (self.num_heads, -1)) for z in (q, k, v))
        heads = (z.transpose(1, 2) for z in split)  # (B, heads, HW or L, C / heads)
        h = F.scaled_dot_product_attention(*heads).transpose(1, 2)
        h = self.out(h.flatten(2))  # (B, HW, C)
        return x + h.mT.unflatten(2, x.shape[2:])


class Block(nn.Module):
    """A residual block, self-attention with ``num_heads``, cross-attention with a context too."""

    def __init__(
        self, ins: int, outs: int, emb_dim: int, *, num_heads: int | None, context_dim: int | None
    ) -> None:
        super().__init__()
        self.res = ResBlock(ins, outs, emb_dim)
        self.attend_self = None if num_heads is None else Attention(outs, num_heads)
        crosses = num_heads is not None and context_dim is not None
        self.attend_context = Attention(outs, num_heads, context_dim) if crosses else None

    def forward(self, x: Tensor, emb: Tensor, context: Tensor | None) -> Tensor:
        x = self.res(x, emb)
        x = x if self.attend_self is None else self.attend_self(x)
        return x if self.attend_context is None else self.attend_context(x, context)
