"""What to do about errors whose own text does not say it."""

from __future__ import annotations

import re

_ADVICE = (
    (
        r"not implemented for '(BFloat16|Half)'",
        "torch lacks this operation in half precision: compute with `x.float()` and cast back at"
        " the end, `.to(x.dtype)`.",
    ),
    (r"unsupported ScalarType BFloat16", "numpy has no bfloat16: go through `x.float()`."),
    (
        r"Boolean value of Tensor with more than one value is ambiguous",
        "`if` wants one True or False. For each element on its own use torch.where or a mask.",
    ),
    (
        r"'(float|int)' object has no attribute '(sqrt|exp|log|clamp|to|shape)'",
        "It is a number of Python and no tensor there: use `math`, or make it a tensor.",
    ),
    (
        r"(sqrt|exp|log|sin|cos)\(\): argument 'input' .* must be Tensor, not (float|int)",
        "It is a number of Python there: use `math`, or `value ** 0.5` for a root.",
    ),
)


def advice(message: str) -> str:
    """Return a sentence of advice on an error's text, or nothing."""
    return next((told for pattern, told in _ADVICE if re.search(pattern, message)), "")
