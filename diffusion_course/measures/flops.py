"""What a network costs: its parameters, and the floating-point operations of one call.

Counted from shapes while the network runs once, also on the meta device, where nothing is computed.
A multiply-add counts as 2. Counted are convolutions, linear layers, matrix products and attention;
additions, norms and activations are not, here as in ``torch.utils.flop_counter``.
"""

import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..door import checked, positive_int
from .inputs import evaluating


class ModuleCost(NamedTuple):
    """Parameters that a module holds, and multiply-adds times 2 that one call of it costs."""

    parameters: int
    flops: int


def _einsum(output: Tensor, equation: Any, *operands: Any) -> int:
    operands = operands[0] if isinstance(operands[0], list | tuple) else operands
    if not isinstance(equation, str) or "." in equation or len(operands) > 2:
        what = f"einsum {equation!r} with {len(operands)} operands"
        raise NotImplementedError(f"{what} is not counted: write it as products of two.")
    names = equation.replace(" ", "").partition("->")[0].split(",")
    pairs = zip(names, operands, strict=True)
    sizes = {letter: n for name, x in pairs for letter, n in zip(name, x.shape, strict=True)}
    return 2 * math.prod(sizes.values()) if len(operands) == 2 else 0


def _convolution(output: Tensor, input: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> int:
    # weight (C_out, C_in / groups, *kernel): each number of the output is a sum over weight[0]
    return 2 * output.numel() * weight[0].numel()


def _transposed(output: Tensor, input: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> int:
    # weight (C_in, C_out / groups, *kernel): each number of the input meets all of weight[0]
    return 2 * input.numel() * weight[0].numel()


def _product(output: Tensor, input: Tensor, *args: Any, **kwargs: Any) -> int:
    return 2 * output.numel() * input.shape[-1]


def _product_added(output: Tensor, input: Tensor, left: Tensor, *args: Any, **kwargs: Any) -> int:
    return 2 * output.numel() * left.shape[-1]


def _attention(output: Tensor, q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> int:
    *heads, length, width = q.shape
    # q k^T costs 2 L S E and the weighted sum of values 2 L S V, in each head
    return 2 * math.prod(heads) * length * k.shape[-2] * (width + v.shape[-1])


_COUNTED: dict[Callable, Callable[..., int]] = {
    **dict.fromkeys((F.conv1d, F.conv2d, F.conv3d), _convolution),
    **dict.fromkeys((F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d), _transposed),
    **dict.fromkeys((F.linear, torch.matmul, torch.mm, torch.bmm, torch.mv), _product),
    **dict.fromkeys((Tensor.matmul, Tensor.__matmul__, Tensor.mm, Tensor.bmm, Tensor.mv), _product),
    **dict.fromkeys((torch.addmm, torch.baddbmm, Tensor.addmm, Tensor.baddbmm), _product_added),
    F.scaled_dot_product_attention: _attention, torch.einsum: _einsum,
}
_NOT_COUNTED = {F.multi_head_attention_forward, torch._native_multi_head_attention}
_NOT_COUNTED |= {torch.lstm, torch.gru, F.bilinear}


class _Counter(TorchFunctionMode):
    """Adds up the cost of every counted function under the name of the module that is running."""

    def __init__(self) -> None:
        super().__init__()
        self.running, self.flops = [""], {}

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        name, kwargs = self.running[-1], kwargs or {}
        if func in _NOT_COUNTED:
            raise NotImplementedError(
                f"{func.__name__} is not counted (in {name or 'the network itself'}). Use "
                "torch.utils.flop_counter.FlopCounterMode for this network."
            )
        output = func(*args, **kwargs)
        if func in _COUNTED:
            self.flops[name] = self.flops.get(name, 0) + _COUNTED[func](output, *args, **kwargs)
        return output


def _flops_by_name(model: nn.Module, inputs: tuple) -> dict[str, int]:
    """Run the network once and return the cost of each module's own operations by its full name."""
    counter, model = _Counter(), getattr(model, "_orig_mod", model)  # what is compiled counts once
    with ExitStack() as stack:
        for name, module in model.named_modules():
            enter = lambda *_, name=name: counter.running.append(name)  # noqa: E731
            leave = lambda *_: [counter.running.pop(), None][1]  # noqa: E731
            stack.callback(module.register_forward_pre_hook(enter).remove)
            stack.callback(module.register_forward_hook(leave, always_call=True).remove)
        for context in (evaluating(model), torch.no_grad(), counter):
            stack.enter_context(context)
        model(*inputs)
    return counter.flops


@checked()
def count_parameters(model: nn.Module) -> int:
    """Return how many numbers are trained; a parameter that is used in two places counts once."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@checked()
def count_flops(model: nn.Module, *inputs: Any) -> int:
    """Return the floating-point operations of one call ``model(*inputs)``, forward only; training
    costs about 3 times as much.

    The network runs once, in evaluation mode and without gradients, and is left as it was. To cost
    nothing, build network and inputs on the meta device: ``with torch.device("meta"): ...``. Agrees
    with ``torch.utils.flop_counter.FlopCounterMode``, which counts no attention on the CPU. Raises
    NotImplementedError for recurrent layers, nn.MultiheadAttention, and einsum of three or more.
    """
    return sum(_flops_by_name(model, inputs).values())


@checked(depth=positive_int)
def flops_by_module(model: nn.Module, *inputs: Any, depth: int = 1) -> dict[str, ModuleCost]:
    """Return parameters and ``count_flops`` of one call by module, names cut to ``depth`` parts.

    What the network does itself, outside its modules, has the name "". The entries add up to the
    totals of ``count_parameters`` (of a network that is trained whole) and ``count_flops``.
    """
    model = getattr(model, "_orig_mod", model)
    costs, flops = {}, _flops_by_name(model, inputs)
    for name, module in model.named_modules():
        short = ".".join(name.split(".")[:depth])
        parameters, before = costs.get(short, (0, 0))
        parameters += sum(p.numel() for p in module.parameters(recurse=False))
        costs[short] = ModuleCost(parameters, before + flops.get(name, 0))
    return {name: cost for name, cost in costs.items() if any(cost)}
