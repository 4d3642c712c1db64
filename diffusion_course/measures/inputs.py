"""How the measures read what they are given: points flat and wide, networks in evaluation mode."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from ..door import number
from ..validation import widest_float

inside = number(lambda p: 0 < p < 1, "lie in (0, 1)")


def wide(x: Tensor) -> Tensor:
    """Return points (N, ...) as (N, D) in the widest float of their device, detached."""
    return x.detach().flatten(1).to(widest_float(x.device))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch to evaluation for the call, so that no running statistic moves, and back."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
