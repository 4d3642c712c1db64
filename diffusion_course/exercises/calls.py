"""How to get a comparable output from an answer where calling it does not do (`Exercise.call`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..latent.memory import LiveBytes
from .given import ClassNetwork, DroppingNetwork


def two_steps(
    answer: Any, model: nn.Module, x0: Tensor, optimizer: Any, table: Tensor, generator: Any
) -> Any:
    """Return the losses of two steps in a row, the weights after them, and 1.0 if a loss still
    holds its graph, else 0.0.
    """
    losses, inputs = [], ((x0, table), (x0.clone(), table.clone()))
    for data, levels in inputs:  # the second shows gradients that were not cleared
        loss = answer(model, data, optimizer, levels, generator)
        if loss is None or loss is ...:
            return loss
        if isinstance(loss, float):
            loss = torch.tensor(loss, dtype=x0.dtype)
        elif (
            isinstance(loss, Tensor) and loss.dtype == torch.float32
        ):  # a float that went through torch.tensor
            loss = loss.to(x0.dtype)
        losses.append(loss)
    held = any(isinstance(loss, Tensor) and loss.requires_grad for loss in losses)
    return *losses, *(parameter.detach().clone() for parameter in model.parameters()), float(held)


def with_sizes(
    answer: Callable[..., Tensor], model: ClassNetwork, *args: object
) -> tuple[Tensor, Tensor]:
    """The answer's output, and how many samples the network saw in each of its calls."""
    output = answer(model, *args)
    return output if output is None or output is ... else (output, torch.tensor(model.sizes))


def with_mode(answer: Callable[..., Any], model: DroppingNetwork, batches: Any) -> Any:
    """The answer's loss, 1.0 if the network is left in another mode, and 1.0 if the loss still
    holds its graph, else 0.0.
    """
    before, dtype = model.training, batches[0]["xt"].dtype
    loss = answer(model, batches)
    if isinstance(loss, float):
        loss = torch.tensor(loss, dtype=dtype)
    if not isinstance(loss, Tensor):
        return loss
    return loss, float(model.training != before), float(loss.requires_grad)


def as_numbers(answer: Callable[..., Any], *args: Any) -> Any:
    """The answer's list of ids as an int64 tensor; what is no list of whole numbers stays, and is
    refused.
    """
    output = answer(*args)
    if type(output) is list and all(type(i) is int and abs(i) < 2**63 for i in output):
        return torch.tensor(output, dtype=torch.int64)
    return output


def count_scores(
    answer: Callable[..., Any], query: Tensor, key: Tensor, value: Tensor, slice_size: int
) -> Any:
    """The answer's result, and 1.0 if its tensors held more than the scores of ``slice_size`` heads
    at one time, else 0.0.
    """
    with LiveBytes() as live:
        output = answer(query, key, value, slice_size)
    if not isinstance(output, Tensor):
        return output
    scores = slice_size * query.shape[1] * key.shape[1] * query.element_size()
    room = 3 * scores + 4 * (
        query.nbytes + key.nbytes + value.nbytes
    )  # scaled, shares, and copies of the small tensors
    return output, float(live.peak > room)
