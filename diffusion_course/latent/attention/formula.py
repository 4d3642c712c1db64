"""Attention by hand: softmax(Q K^T / sqrt(d)) V in several heads, on a real layer's weights."""

import math
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...door import batch, beside, checked
from ...validation import check_batch, check_device, describe


@dataclass(frozen=True)
class AttentionWeights:
    """The four linear maps of one attention layer, and its number of heads.

    Each map is (weight (out, in), bias (out,) or None).
    """

    query: tuple[Tensor, Tensor | None]
    key: tuple[Tensor, Tensor | None]
    value: tuple[Tensor, Tensor | None]
    output: tuple[Tensor, Tensor | None]
    heads: int

    @classmethod
    @checked()
    def of(cls, module: nn.Module) -> Self:
        """Read them, without a copy, from diffusers' ``Attention`` or CLIP's ``CLIPAttention``.

        Raises TypeError for another module, ValueError for a layer that does more (norms, extra
        tokens, a residual).
        """
        if hasattr(module, "to_q"):
            check_plain(module)
            layers, heads = (module.to_q, module.to_k, module.to_v, module.to_out[0]), module.heads
        elif hasattr(module, "q_proj"):
            layers, heads = (module.q_proj, module.k_proj, module.v_proj), module.num_heads
            layers = (*layers, module.out_proj)
        else:
            demand = "an attention layer of diffusers or of CLIP"
            raise TypeError(f"module must be {demand}, got {type(module).__name__}.")
        return cls(*((layer.weight, layer.bias) for layer in layers), heads=heads)


class Attended(NamedTuple):
    """The output (B, N, C) and the probabilities (B, heads, N, L), which sum to 1 over L."""

    output: Tensor
    probabilities: Tensor


def check_plain(module: nn.Module) -> None:
    """Raise ValueError unless diffusers' ``Attention`` is the formula with an output map."""
    extras = ("group_norm", "spatial_norm", "norm_cross", "norm_q", "norm_k", "added_kv_proj_dim")
    found = [name for name in extras if getattr(module, name, None) is not None]
    found += ["residual_connection"] * module.residual_connection
    found += ["no scale"] * (not module.scale_qk)
    if found or module.rescale_output_factor != 1:
        more = ", ".join(found) or "it rescales its output"
        raise ValueError(f"this attention layer does more than attention: {more}.")


def _channels_of_heads(name: str, x: Tensor, given: dict) -> None:
    heads = given["heads"]
    if x.ndim != 3 or heads < 1 or x.shape[-1] % heads:
        fits = f"(B, N, C) with C a multiple of the {heads} heads"
        raise ValueError(f"x must be {fits}, got {describe(x)}.")


@checked(x=(batch, _channels_of_heads))
def split_heads(x: Tensor, heads: int) -> Tensor:
    """Return (B, N, heads * d) as (B, heads, N, d): each head has d neighbouring channels.

    Raises ValueError for other shapes.
    """
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _alike_in_dtype(name: str, x: Tensor, other: str, like: Tensor) -> None:
    if x.dtype != like.dtype:
        got = f"{describe(x)} and {describe(like)}"
        raise TypeError(f"{name} must have the dtype of {other}, got {got}. Cast one.")


def _for_scores(name: str, mask: Tensor, like: Tensor, shape: tuple[int, ...]) -> None:
    """Raise unless ``mask`` can be added to scores (B, heads, N, L)."""
    if mask.dtype == torch.bool or not mask.is_floating_point():
        raise TypeError(
            f"mask is added to the scores, 0 to look and -inf not to: it must be floating, got"
            f" {describe(mask)}. From True to look: torch.where({name}, 0.0, -torch.inf)."
        )
    check_device(name, mask, "x", like)
    sides = zip(reversed(mask.shape), reversed(shape), strict=False)
    if mask.ndim > len(shape) or any(a not in (1, b) for a, b in sides):
        demand = f"(B, heads, N, L) = {shape}"
        raise ValueError(f"mask must broadcast to the scores {demand}, got {describe(mask)}.")


def _of_these_scores(name: str, mask: Tensor, given: dict) -> None:
    queries, keys = given["queries"], given["keys"]
    _for_scores(name, mask, queries, (*queries.shape[:3], keys.shape[2]))


def _of_the_queries(name: str, keys: Tensor, given: dict) -> None:
    queries = given["queries"]
    b, heads, _, d = queries.shape if queries.ndim == 4 else (0,) * 4
    if keys.ndim != 4 or (b, heads, d) != (*keys.shape[:2], keys.shape[3]):
        raise ValueError(
            "queries (B, heads, N, d) and keys (B, heads, L, d) must agree in B, heads and d, "
            f"got {describe(queries)} and {describe(keys)}."
        )
    _alike_in_dtype("keys", keys, "queries", queries)


@checked(
    queries=batch, keys=(batch, beside("queries"), _of_the_queries), mask=_of_these_scores
)
def attention_probabilities(
    queries: Tensor, keys: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Return softmax over L of Q K^T / sqrt(d) + mask (Vaswani et al., arXiv 1706.03762, eq. 1).

    queries: (B, heads, N, d); keys: (B, heads, L, d); the result: (B, heads, N, L). ``mask`` is
    added to the scores and broadcasts to them: 0 to look, -inf not to. The softmax is computed in
    float32 at least.
    """
    scores = (queries / math.sqrt(queries.shape[-1])) @ keys.transpose(-1, -2)
    scores = scores if mask is None else scores + mask
    wide = torch.promote_types(scores.dtype, torch.float32)
    return scores.softmax(-1, dtype=wide).to(queries.dtype)


def _tokens(name: str, context: object, given: dict) -> None:
    x = given["x"]
    context = x if context is None else context
    check_batch("context", context)
    check_device("context", context, "x", x)
    if x.ndim != 3 or context.ndim != 3 or len(x) != len(context):
        got = f"{describe(x)} and {describe(context)}"
        raise ValueError(f"x must be (B, N, C) and context (B, L, D) with one B, got {got}.")


def _of_these_widths(name: str, weights: AttentionWeights, given: dict) -> None:
    context = given["x"] if given["context"] is None else given["context"]
    for tokens_name, tokens, (weight, _) in (
        ("x", given["x"], weights.query), ("context", context, weights.key)
    ):
        if tokens.shape[-1] != weight.shape[1]:
            channels = f"{weight.shape[1]} channels for these weights"
            raise ValueError(f"{tokens_name} must have {channels}, got {describe(tokens)}.")
        check_device(tokens_name, tokens, "weights", weight)
        _alike_in_dtype(tokens_name, tokens, "weights", weight)
    if (mask := given["mask"]) is not None:
        shape = len(given["x"]), weights.heads, given["x"].shape[1], context.shape[1]
        _for_scores("mask", mask, given["x"], shape)


@checked(x=batch, context=_tokens, weights=_of_these_widths)
def attend(
    x: Tensor, context: Tensor | None, weights: AttentionWeights, *,
    mask: Tensor | None = None,
) -> Attended:
    """Return what attention reads for each place from the tokens (arXiv 1706.03762, section 3.2.2).

    The N places are ``x`` (B, N, C), the L tokens ``context`` (B, L, D). Q = x W_q, K = context
    W_k, V = context W_v, output = softmax(Q K^T / sqrt(d)) V W_o, in ``weights.heads`` heads side
    by side. ``context=None`` is self-attention. Raises ValueError for shapes that do not fit.
    """
    context = x if context is None else context
    queries = split_heads(F.linear(x, *weights.query), weights.heads)
    keys = split_heads(F.linear(context, *weights.key), weights.heads)
    values = split_heads(F.linear(context, *weights.value), weights.heads)
    probabilities = attention_probabilities(queries, keys, mask)
    joined = (probabilities @ values).transpose(1, 2).flatten(2)
    return Attended(F.linear(joined, *weights.output), probabilities)
