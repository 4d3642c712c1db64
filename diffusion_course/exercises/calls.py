"""How to get a comparable output from an answer where calling it does not do (`Exercise.call`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..latent.memory import LiveBytes
from .data import plain
from .given import ClassNetwork, DroppingNetwork


def from_numpy(output: Any) -> Any:
    """Return an array as the tensor that it counts as; all else as it is."""
    return plain(output) if isinstance(output, np.ndarray) else output


def named(*parts: str) -> Callable[[Callable], Callable]:
    """Say what the parts are called that a function here makes of an answer (`compare.Terms`)."""

    def mark(function: Callable) -> Callable:
        function.parts = parts
        return function

    return mark


@named(
    "the loss of the first step",
    "the loss of the second step",
    "a weight after the two steps",
    "the loss that your function returns still holds the graph it was computed with.",
)
def two_steps(
    answer: Any, model: nn.Module, x0: Tensor, optimizer: Any, table: Tensor, generator: Any
) -> Any:
    """Return the losses of two steps in a row and the weights after them.

    The last number is 1.0 if a loss still holds its graph, else 0.0.
    """
    losses, inputs = [], ((x0, table), (x0.clone(), table.clone()))
    for data, levels in inputs:  # the second shows gradients that were not cleared
        loss = answer(model, data, optimizer, levels, generator)
        if loss is None or loss is ...:
            return loss
        if isinstance(loss, (float, np.floating)):
            loss = torch.tensor(float(loss), dtype=x0.dtype)
        elif isinstance(loss, Tensor) and loss.dtype == torch.float32:
            loss = loss.to(x0.dtype)  # a float that went through torch.tensor
        losses.append(loss)
    held = any(isinstance(loss, Tensor) and loss.requires_grad for loss in losses)
    return *losses, *(parameter.detach().clone() for parameter in model.parameters()), float(held)


@named(
    "your output",
    "the network is called with other numbers of samples than it should be, or another time.",
)
def with_sizes(
    answer: Callable[..., Tensor], model: ClassNetwork, *args: object
) -> tuple[Tensor, Tensor]:
    """The answer's output, and how many samples the network saw in each of its calls."""
    output = from_numpy(answer(model, *args))
    return (output, torch.tensor(model.sizes)) if isinstance(output, Tensor) else output


@named(
    "your output",
    "after your function the network is in another mode than before.",
    "the loss that your function returns still holds the graph it was computed with.",
    "after your function a weight of the network is another.",
)
def with_mode(answer: Callable[..., Any], model: DroppingNetwork, batches: Any) -> Any:
    """Return the answer's loss, and three numbers that are 0.0 where all is well.

    The first is 1.0 if a part of the network is left in another mode, the second if the loss still
    holds its graph, the third if a weight of the network has changed.
    """
    dtype = batches[0]["xt"].dtype
    modes, weight = [part.training for part in model.modules()], model.weight.detach().clone()
    loss = answer(model, batches)
    if isinstance(loss, (float, np.floating)):
        loss = torch.tensor(float(loss), dtype=dtype)
    elif isinstance(loss, Tensor) and loss.dtype == torch.float32:
        loss = loss.to(dtype)  # a float that went through torch.tensor
    if not isinstance(loss, Tensor):
        return loss
    if loss.dtype == torch.float32:
        loss = loss.to(dtype)  # a float that went through torch.tensor
    other = [part.training for part in model.modules()] != modes
    changed = not torch.equal(model.weight.detach(), weight)
    return loss, float(other), float(loss.requires_grad), float(changed)


@named("your output", "no gradient gets through what your function returns to its first arguments.")
def with_gradients(answer: Callable[..., Any], mean: Tensor, *others: Tensor) -> Any:
    """Return the answer's draw, and 1.0 if no gradient gets through it to its first two arguments.

    0.0 where both get one.
    """
    output = from_numpy(answer(mean, *others))
    if not isinstance(output, Tensor):
        return output
    log_variance, *rest = others
    leaves = [x.detach().clone().requires_grad_() for x in (mean, log_variance)]
    try:
        with torch.enable_grad():
            again = answer(*leaves, *(x.clone() for x in rest))
            passed = torch.autograd.grad(again.sum(), leaves, allow_unused=True)
    except Exception:  # such as what numpy says of a tensor that wants gradients
        passed = (None,)
    return output, float(any(gradient is None for gradient in passed))


def as_numbers(answer: Callable[..., Any], *args: Any) -> Any:
    """Return the answer's list of ids as an int64 tensor.

    What is no list of whole numbers stays as it is, and the check refuses it. Raises TypeError for
    a tensor of the numbers.
    """
    output = answer(*args)
    if type(output) in (Tensor, np.ndarray) and output.dtype in (torch.int64, np.int64):
        if output.ndim == 1 and not getattr(output, "is_meta", False):
            raise TypeError("a list of int is asked for, got a tensor or an array: see .tolist()")
    if type(output) is list and all(type(i) is int and abs(i) < 2**63 for i in output):
        return torch.tensor(output, dtype=torch.int64)
    return output


@named("your output", "your function holds the scores of more heads at one time than it may.")
def count_scores(
    answer: Callable[..., Any], query: Tensor, key: Tensor, value: Tensor, slice_size: int
) -> Any:
    """Return the answer's result, and 1.0 if it held too many scores at one time, else 0.0.

    The scores of ``slice_size`` heads are allowed.
    """
    with LiveBytes() as live:
        output = from_numpy(answer(query, key, value, slice_size))
    if not isinstance(output, Tensor):
        return output
    scores = slice_size * query.shape[1] * key.shape[1] * query.element_size()
    # Scores, scaled, and as shares; copies of the small tensors.
    room = 3 * scores + 4 * (query.nbytes + key.nbytes + value.nbytes)
    return output, float(live.peak > room)
