"""How to get a comparable output from an answer, where calling it is not enough (`Exercise.call`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..memory import LiveBytes
from .given import ClassNetwork


def two_steps(answer: Any, model: nn.Module, x0: Tensor, optimizer: Any, table: Tensor, generator: Any) -> Any:
    """Return the losses of two steps in a row and the weights after them; what a blank answer returns."""
    losses, inputs = [], ((x0, table), (x0.clone(), table.clone()))
    for data, levels in inputs:  # the second shows gradients that were not cleared
        loss = answer(model, data, optimizer, levels, generator)
        if loss is None or loss is ...:
            return loss
        if isinstance(loss, float):
            loss = torch.tensor(loss, dtype=x0.dtype)
        elif isinstance(loss, Tensor) and loss.dtype == torch.float32:  # a float that went through torch.tensor
            loss = loss.to(x0.dtype)
        losses.append(loss)
    return *losses, *(parameter.detach().clone() for parameter in model.parameters())


def exact_numbers(answer: Callable[..., Tensor], *args: object) -> Tensor:
    """The answer's labels as float64, in which the comparison can tell NaN; other dtypes stay and are refused."""
    output = answer(*args)
    return output.double() if isinstance(output, Tensor) and output.dtype == torch.int64 else output


def with_sizes(answer: Callable[..., Tensor], model: ClassNetwork, *args: object) -> tuple[Tensor, Tensor]:
    """The answer's output, and how many samples the network saw in each of its calls."""
    output = answer(model, *args)
    return output if output is None or output is ... else (output, torch.tensor(model.sizes))


def as_numbers(answer: Callable[..., Any], *args: Any) -> Any:
    """The answer's list of ids as a float64 tensor, in which the comparison can tell NaN; what is no such list stays."""
    output = answer(*args)
    if type(output) is list and all(type(i) is int for i in output):
        output = torch.tensor(output, dtype=torch.int64)
    return output.double() if isinstance(output, Tensor) and output.dtype == torch.int64 else output


def count_scores(answer: Callable[..., Any], query: Tensor, key: Tensor, value: Tensor, slice_size: int) -> Any:
    """The answer's result, and 1.0 if its tensors held more than the scores of ``slice_size`` heads at one time, else 0.0."""
    with LiveBytes() as live:
        output = answer(query, key, value, slice_size)
    if not isinstance(output, Tensor):
        return output
    scores = slice_size * query.shape[1] * key.shape[1] * query.element_size()
    room = 3 * scores + 4 * (query.nbytes + key.nbytes + value.nbytes)  # scaled, shares, and copies of the small tensors
    return output, float(live.peak > room)
