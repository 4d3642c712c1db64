"""Checks that public functions make at their door.

Shapes, dtypes and devices are checked always: they cost nothing. Values (the range of t,
finiteness) only where reading them does not wait for a device: on CPU tensors that hold data.
"""

from numbers import Integral

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch._subclasses.fake_tensor import FakeTensor


def describe(x: object) -> str:
    """Say what was passed: shape, dtype and device of a tensor, else type and value."""
    if isinstance(x, Tensor):
        return f"shape {tuple(x.shape)}, {str(x.dtype).removeprefix('torch.')}, on {x.device}"
    text = repr(x)
    return f"{type(x).__name__} {text if len(text) <= 80 else text[:77] + '...'}"


def values_are_free(x: Tensor) -> bool:
    """Whether values can be read without waiting: on the CPU, not traced, not inside torch.func."""
    traced = torch.compiler.is_compiling() or isinstance(x, FakeTensor)
    return x.device.type == "cpu" and not traced and not is_functorch_wrapped_tensor(x)


def widest_float(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on Apple's GPUs, which have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def check_floating(name: str, x: object) -> None:
    """Raise TypeError unless ``x`` is a tensor of a floating dtype."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor, got {describe(x)}. Wrap it: torch.as_tensor({name})."
        )
    if not x.is_floating_point():
        raise TypeError(
            f"{name} must have a floating dtype, got {describe(x)}. Convert it: {name}.float()."
        )


def check_finite(name: str, x: Tensor) -> None:
    """Raise ValueError if a readable ``x`` holds NaN or infinity: how many, and where first."""
    if not values_are_free(x):
        return
    bad = ~torch.isfinite(x)
    if bad.any():
        first = tuple(bad.nonzero()[0].tolist())
        raise ValueError(
            f"{name} holds {int(bad.sum())} values that are not finite, the first at index {first}:"
            f" {x[first].item()} ({describe(x)}). Clean the data or lower the learning rate."
        )


def check_batch(name: str, x: object) -> None:
    """Raise unless ``x`` is a floating tensor (B, ...) with at least one axis and one sample."""
    check_floating(name, x)
    if x.ndim == 0 or x.shape[0] == 0:
        raise ValueError(
            f"{name} needs a batch axis with at least one sample, (B, ...), got {describe(x)}."
        )


def check_alike(name: str, x: object, like_name: str, like: Tensor) -> None:
    """Raise unless ``x`` has the shape, dtype and device of ``like``."""
    check_floating(name, x)
    if x.shape != like.shape:
        raise ValueError(
            f"{name} must have the shape of {like_name}: got {describe(x)} and {describe(like)}."
        )
    if x.dtype != like.dtype:
        raise TypeError(
            f"{name} must have the dtype of {like_name}: got {describe(x)} and {describe(like)}. "
            f"Cast one: {name}.to({like_name}.dtype)."
        )
    check_device(name, x, like_name, like)


def check_device(name: str, x: Tensor, like_name: str, like: Tensor) -> None:
    """Raise ValueError unless both tensors are on one device."""
    if x.device != like.device:
        raise ValueError(
            f"{name} is on {x.device} and {like_name} on {like.device}: {describe(x)} and"
            f" {describe(like)}. Move one: {name}.to({like_name}.device)."
        )


def check_broadcast(name: str, x: Tensor, like_name: str, like: Tensor) -> None:
    """Raise ValueError unless the two tensors broadcast over each other, on one device."""
    pairs = zip(reversed(x.shape), reversed(like.shape), strict=False)
    if any(a != b and 1 not in (a, b) for a, b in pairs):
        both = f"got {describe(x)} and {describe(like)}"
        raise ValueError(f"{name} and {like_name} must have shapes that broadcast: {both}.")
    if x.ndim and like.ndim:  # a tensor () may stay on the CPU
        check_device(name, x, like_name, like)


def check_table(
    name: str, table: object, like_name: str | None = None, like: Tensor | None = None
) -> None:
    """Raise unless ``table`` is a floating tensor (T,), on the device of ``like`` if given."""
    check_floating(name, table)
    if table.ndim != 1 or len(table) == 0:
        raise ValueError(
            f"{name} must be a table of shape (T,) with T >= 1, got {describe(table)}."
        )
    if like is not None:
        check_device(name, table, like_name, like)
    if not values_are_free(table):
        return
    low, high = (end.item() for end in torch.aminmax(table.detach()))
    if not (low >= 0 and high <= 1):
        i = int((~((table >= 0) & (table <= 1))).nonzero()[0])
        got = f"got {name}[{i}] = {table[i].item()}"
        raise ValueError(f"{name} must lie in [0, 1], {got} ({describe(table)}).")


def check_falling(name: str, table: Tensor) -> None:
    """Raise ValueError unless abar falls from below 1, at each step."""
    if not values_are_free(table):
        return
    before = torch.cat([torch.ones_like(table[:1]), table[:-1]])
    if not (table < before).all():
        i = int((~(table < before)).nonzero()[0])
        now = f"{name}[{i}] = {table[i].item()} after {before[i].item()} ({describe(table)})"
        narrow = "" if table.dtype == torch.float64 else " Neighbours in float64 stay apart."
        raise ValueError(f"{name} must fall at each step, from below 1, got {now}.{narrow}")


def check_timesteps(t: object, like_name: str, like: Tensor, num_train_timesteps: int) -> None:
    """Raise unless ``t`` holds int indices (B,) in 0..T-1 on the device of ``like`` (B, ...)."""
    if not isinstance(t, Tensor) or t.dtype not in (torch.int64, torch.int32):
        raise TypeError(
            f"t must be an int64 tensor of shape ({like.shape[0]},), got {describe(t)}. "
            f"One index for the whole batch: torch.full(({like.shape[0]},), 3)."
        )
    if t.shape != like.shape[:1]:
        raise ValueError(
            f"t must have one index for each sample of {like_name}: expected shape"
            f" ({like.shape[0]},), got {describe(t)}; {like_name} has {describe(like)}."
        )
    check_device("t", t, like_name, like)
    if values_are_free(t):
        low, high = t.min().item(), t.max().item()
        if low < 0 or high >= num_train_timesteps:
            raise ValueError(
                f"t must lie in 0..{num_train_timesteps - 1} for tables of length"
                f" {num_train_timesteps}, got values from {low} to {high}. Index 0 is the first"
                " step of noise (the paper's t = 1)."
            )


def check_classes(cond: object, like_name: str, like: Tensor, num_classes: int) -> None:
    """Raise unless ``cond`` holds int classes (B,) in 0..num_classes; the last is "no class"."""
    if not isinstance(cond, Tensor) or cond.shape != like.shape[:1]:
        raise ValueError(
            f"cond must have one entry for each sample of {like_name}, ({len(like)},), got"
            f" {describe(cond)}."
        )
    if cond.dtype not in (torch.int64, torch.int32):
        raise TypeError(
            f"cond must hold classes as int64, got {describe(cond)}. Convert it: cond.long()."
        )
    check_device("cond", cond, like_name, like)
    if values_are_free(cond) and (cond.min() < 0 or cond.max() > num_classes):
        raise ValueError(
            f"cond must hold classes 0..{num_classes - 1}, or {num_classes} for no class, "
            f"got values from {cond.min().item()} to {cond.max().item()}."
        )


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}.")


def check_positive_int(name: str, value: object) -> None:
    """Raise unless ``value`` is an int of at least 1."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an int, got {describe(value)}.")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}.")
