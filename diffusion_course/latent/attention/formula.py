"""Attention by hand: softmax(Q K^T / sqrt(d)) V in several heads, on the weights of a real layer.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...validation import check_batch, check_device, describe


@dataclass(frozen=True)
class AttentionWeights:
    """The four linear maps of one attention layer, each (weight (out, in), bias (out,) or None),
    and its number of heads.
    """

    query: tuple[Tensor, Tensor | None]
    key: tuple[Tensor, Tensor | None]
    value: tuple[Tensor, Tensor | None]
    output: tuple[Tensor, Tensor | None]
    heads: int

    @classmethod
    def of(cls, module: nn.Module) -> Self:
        """Read them from diffusers' ``Attention`` or transformers' ``CLIPAttention``, without a
        copy.

        Raises TypeError for another module, ValueError for a layer that does more (norms, extra
        tokens, a residual).
        """
        if hasattr(module, "to_q"):
            check_plain(module)
            layers, heads = (module.to_q, module.to_k, module.to_v, module.to_out[0]), module.heads
        elif hasattr(module, "q_proj"):
            layers, heads = (
                (module.q_proj, module.k_proj, module.v_proj, module.out_proj), module.num_heads
            )
        else:
            raise TypeError(
                "module must be an attention layer of diffusers or of CLIP, got"
                f" {type(module).__name__}."
            )
        return cls(*((layer.weight, layer.bias) for layer in layers), heads=heads)


class Attended(NamedTuple):
    """What attention returns: the output (B, N, C) and the probabilities (B, heads, N, L), which
    sum to 1 over L.
    """

    output: Tensor
    probabilities: Tensor


def check_plain(module: nn.Module) -> None:
    """Raise ValueError unless diffusers' ``Attention`` module is softmax(Q K^T / sqrt(d)) V with an
    output map and no more.
    """
    extras = ("group_norm", "spatial_norm", "norm_cross", "norm_q", "norm_k", "added_kv_proj_dim")
    found = [name for name in extras if getattr(module, name, None) is not None]
    found += ["residual_connection"] * module.residual_connection + ["no scale"] * (
        not module.scale_qk
    )
    if found or module.rescale_output_factor != 1:
        raise ValueError(
            "this attention layer does more than attention:"
            f" {', '.join(found) or 'it rescales its output'}."
        )


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Return (B, N, heads * d) as (B, heads, N, d): each head has d neighbouring channels. Raises
    ValueError for others.
    """
    check_batch("x", x)
    if x.ndim != 3 or heads < 1 or x.shape[-1] % heads:
        raise ValueError(
            f"x must be (B, N, C) with C a multiple of the {heads} heads, got {describe(x)}."
        )
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def attention_probabilities(queries: Tensor, keys: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return softmax over L of Q K^T / sqrt(d) + mask, (B, heads, N, L), from (B, heads, N, d) and
    (B, heads, L, d).

    Vaswani et al., arXiv:1706.03762, eq. 1. ``mask`` is added to the scores and broadcasts to them:
    0 to look, -inf not to. The softmax is computed in float32 at least.
    """
    check_batch("queries", queries)
    check_batch("keys", keys)
    check_device("keys", keys, "queries", queries)
    if (
        queries.ndim != 4
        or keys.ndim != 4
        or queries.shape[:2] + queries.shape[3:] != keys.shape[:2] + keys.shape[3:]
    ):
        raise ValueError(
            "queries (B, heads, N, d) and keys (B, heads, L, d) must agree in B, heads and d, "
            f"got {describe(queries)} and {describe(keys)}."
        )
    scores = (queries / math.sqrt(queries.shape[-1])) @ keys.transpose(-1, -2)
    scores = scores if mask is None else scores + mask
    return scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(
        queries.dtype
    )


def attend(
    x: Tensor, context: Tensor | None, weights: AttentionWeights, *, mask: Tensor | None = None
) -> Attended:
    """Return what attention reads for each of the N places of ``x`` (B, N, C) from the L tokens of
    ``context`` (B, L, D).

    Q = x W_q, K = context W_k, V = context W_v, output = softmax(Q K^T / sqrt(d)) V W_o, in
    ``weights.heads`` heads side by side (arXiv:1706.03762, section 3.2.2). ``context=None`` is
    self-attention. Raises ValueError for shapes that do not fit.
    """
    check_batch("x", x)
    context = x if context is None else context
    check_batch("context", context)
    check_device("context", context, "x", x)
    if x.ndim != 3 or context.ndim != 3 or len(x) != len(context):
        raise ValueError(
            f"x must be (B, N, C) and context (B, L, D) with one B, got {describe(x)} and"
            f" {describe(context)}."
        )
    for name, tokens, (weight, _) in (("x", x, weights.query), ("context", context, weights.key)):
        if tokens.shape[-1] != weight.shape[1]:
            raise ValueError(
                f"{name} must have {weight.shape[1]} channels for these weights, got"
                f" {describe(tokens)}."
            )
    queries = split_heads(F.linear(x, *weights.query), weights.heads)
    keys = split_heads(F.linear(context, *weights.key), weights.heads)
    values = split_heads(F.linear(context, *weights.value), weights.heads)
    probabilities = attention_probabilities(queries, keys, mask)
    joined = (probabilities @ values).transpose(1, 2).flatten(2)
    return Attended(F.linear(joined, *weights.output), probabilities)
