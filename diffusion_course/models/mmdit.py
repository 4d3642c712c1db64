"""The block of Stable Diffusion 3: words and pictures with weights of their own, one attention.

Names of weights are those of diffusers' ``JointTransformerBlock``.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..door import batch, checked, positive_int
from ..validation import describe
from .dit import AdaLNZero, TokenLayers, heads_of, modulate
from .embedding import as_the_weights


class JointAttention(nn.Module):
    """Tokens h (B, N, width) and words w (B, L, width) -> what each reads from all N + L.

    Both have layers of their own for query, key, value and output; the softmax runs over both.
    ``last``: nothing is returned for the words, which have no output layer then.
    """

    def __init__(self, width: int, num_heads: int, last: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.add_q_proj, self.add_k_proj, self.add_v_proj = (
            nn.Linear(width, width) for _ in range(3)
        )
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.to_add_out = None if last else nn.Linear(width, width)

    def forward(self, h: Tensor, w: Tensor) -> tuple[Tensor, Tensor | None]:
        pairs = (
            (self.to_q, self.add_q_proj), (self.to_k, self.add_k_proj), (self.to_v, self.add_v_proj)
        )
        rows = (torch.cat([own(h), other(w)], 1) for own, other in pairs)  # (B, N + L, width)
        read = F.scaled_dot_product_attention(*(heads_of(x, self.num_heads) for x in rows))
        read = read.transpose(1, 2).flatten(2)
        of_h, of_w = read[:, : h.shape[1]], read[:, h.shape[1] :]
        return self.to_out[0](of_h), None if self.to_add_out is None else self.to_add_out(of_w)


def _heads(name: str, num_heads: int, given: dict) -> None:
    if num_heads < 1 or given["width"] % num_heads:
        raise ValueError(
            f"num_heads must divide the width, got {num_heads=} for width={given['width']}."
        )


def _tokens(name: str, x: Tensor, given: dict) -> None:
    width, h = given["self"].width, given["h"]
    if x.ndim != 3 or x.shape[2] != width or len(x) != len(h):
        wanted = f"{name} must be (B, tokens, {width}), one row of them for each of h"
        raise ValueError(f"{wanted}, got {describe(x)} for h with {describe(h)}.")


def _condition(name: str, c: Tensor, given: dict) -> None:
    wanted = len(given["h"]), given["self"].width
    if c.shape != wanted:
        raise ValueError(f"{name} must be {wanted}, one row for each of h, got {describe(c)}.")


class MMDiTBlock(nn.Module):
    """Picture tokens h (B, N, width), words w (B, L, width), condition c (B, width) -> (h, w).

    A ``DiTBlock`` for each of the two with weights of their own, whose attention runs over both
    together (Esser et al. 2024, arXiv 2403.03206, section 4, figure 2). A new block changes
    nothing. ``last``: the words are read once more and end there; w comes back as None. Raises
    ValueError for shapes that do not fit, or heads that do not divide the width.
    """

    @checked(width=positive_int, num_heads=_heads)
    def __init__(self, width: int, num_heads: int, *, last: bool = False) -> None:
        super().__init__()
        self.width = width
        self.norm1 = AdaLNZero(width)
        self.norm1_context = AdaLNZero(width, rows=2 if last else 6)
        self.attn = JointAttention(width, num_heads, last)
        self.ff = TokenLayers(width)
        self.ff_context = None if last else TokenLayers(width)

    @property
    def first(self) -> nn.Module:
        """A layer whose dtype and device are the block's."""
        return self.norm1.linear

    @checked(
        h=(batch, _tokens, as_the_weights), w=(batch, _tokens, as_the_weights),
        c=(batch, _condition, as_the_weights),
    )
    def forward(self, h: Tensor, w: Tensor, c: Tensor) -> tuple[Tensor, Tensor | None]:
        shift, scale, gate, shift_2, scale_2, gate_2 = self.norm1(c)
        rows = self.norm1_context(c)
        # The last block names the scale before the shift, as diffusers does.
        of_w = rows[:2] if self.ff_context is not None else rows[::-1]
        read, read_w = self.attn(modulate(h, shift, scale), modulate(w, *of_w))
        h = h + gate * read
        h = h + gate_2 * self.ff(modulate(h, shift_2, scale_2))
        if self.ff_context is None:
            return h, None
        w = w + rows[2] * read_w
        return h, w + rows[5] * self.ff_context(modulate(w, *rows[3:5]))
