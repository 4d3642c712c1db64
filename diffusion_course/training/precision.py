"""Which number format and memory layout to train in, by what was measured (docs/performance.md)."""

import torch
from torch import Tensor, nn

from ..validation import check_choice

PRECISIONS = ("auto", "float32", "bfloat16")


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether ``device`` multiplies bfloat16 in hardware: AMX, or CUDA capability 8.0."""
    if device.type == "cuda":
        return torch.cuda.is_available() and torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and getattr(torch.cpu, "get_capabilities", dict)().get(
        "amx_bf16", False
    )


def resolve_precision(data: Tensor, precision: str = "auto") -> str:
    """Return "bfloat16" or "float32": what ``precision`` means for training on ``data``.

    "auto" is bfloat16 for images (N, C, H, W) on a device that multiplies it in hardware, else
    float32: the small products of a network for points gain nothing. Raises ValueError for another
    name.
    """
    check_choice("precision", precision, PRECISIONS)
    if precision != "auto":
        return precision
    return "bfloat16" if data.ndim == 4 and has_fast_bfloat16(data.device) else "float32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context of a forward pass: "bfloat16" is for products, weights stay as they are.

    Raises ValueError for a precision other than "float32" and "bfloat16".
    """
    check_choice("precision", precision, PRECISIONS[1:])
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def set_layout(model: nn.Module, data: Tensor) -> Tensor:
    """Return ``data`` in the faster layout, with the convolutions of ``model`` in it too.

    That is channels-last on CPUs and CUDA GPUs, in float32 and in bfloat16 (``python -m bench
    speed``); other data and devices keep theirs. The numbers stay the same up to rounding.
    """
    if data.ndim != 4 or data.device.type not in ("cpu", "cuda"):
        return data
    model.to(memory_format=torch.channels_last)
    return data.contiguous(memory_format=torch.channels_last)
