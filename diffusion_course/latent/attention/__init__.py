"""Attention by hand, and maps of where a U-Net looks for each word of its prompt."""

from .formula import (
    Attended,
    AttentionWeights,
    attend,
    attention_probabilities,
    check_plain,
    split_heads,
)
from .maps import AttentionMaps, word_positions

__all__ = [
    "Attended", "AttentionMaps", "AttentionWeights", "attend", "attention_probabilities",
    "check_plain", "split_heads", "word_positions",
]
