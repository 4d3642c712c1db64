"""Bytes of tensors that are alive, the peak of a call, and the memory that is free.

The scratch space that a kernel allocates inside one operation is no tensor: only the allocator of a
GPU tells of it.
"""

import math
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ...door import checked


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that were made inside a ``with`` block and are alive.

    Views share; inputs and tensors on the meta device do not count. now: bytes alive; peaks: the
    largest ``now`` in each phase that ``begin`` names, and before any in "".
    """

    def __init__(self) -> None:
        super().__init__()
        self.now, self.phase, self.peaks, self._known = 0, "", {"": 0}, {}

    @property
    def peak(self) -> int:
        """The largest number of bytes alive at one time."""
        return max(self.peaks.values())

    def begin(self, phase: str) -> None:
        """Start a phase or go on with it: its peak is kept apart."""
        self.phase, self.peaks[phase] = phase, max(self.peaks.get(phase, 0), self.now)

    def _see(self, x: object, *, made_here: bool) -> None:
        if not isinstance(x, Tensor) or x.device.type == "meta":
            return
        storage = x.untyped_storage()
        key, size = id(storage), storage.nbytes() if made_here else 0
        if (seen := self._known.get(key)) is not None and seen() is storage:
            return

        def freed(_: object) -> None:
            self.now -= size
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, freed)
        self.now += size
        self.peaks[self.phase] = max(self.peaks[self.phase], self.now)

    def __torch_dispatch__(
        self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        for x in tree_leaves((args, kwargs)):
            self._see(x, made_here=False)
        output = func(*args, **(kwargs or {}))
        for x in tree_leaves(output):
            self._see(x, made_here=True)
        return output


class Peak(NamedTuple):
    """The result of a measured call, and the most bytes that it held at one time."""

    result: Any
    bytes: int


@checked()
def measure_peak(function: Callable[[], Any], device: torch.device | str = "cpu") -> Peak:
    """Call ``function()`` and return its result and the most bytes that it held on ``device``.

    Bytes held before do not count. On a CUDA GPU this is the allocator's peak, scratch space
    included; elsewhere it is the tensors', from ``LiveBytes``.
    """
    if torch.device(device).type != "cuda":
        with LiveBytes() as live:
            result = function()
        return Peak(result, live.peak)
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = function()
    torch.cuda.synchronize(device)
    return Peak(result, torch.cuda.max_memory_allocated(device) - before)


def free_memory(device: torch.device | str = "cpu") -> int:
    """Return the bytes that this program could still get.

    On a CUDA GPU its memory, elsewhere main memory or the container's.
    """
    if torch.device(device).type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    import psutil

    return int(min(psutil.virtual_memory().available, container_memory()))


def container_memory(folder: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the bytes that the limit of a container leaves, infinity without one.

    The limit is that of Linux control groups, version 2 or 1. Cached files that nobody uses count
    as free, as ``docker stats`` counts them.
    """
    for limit, used, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most, now = (folder / limit).read_text().strip(), int((folder / used).read_text())
            lines = (folder / used).with_name("memory.stat").read_text().splitlines()
            statistics = dict(line.split() for line in lines)
        except OSError:
            continue
        return math.inf if most == "max" else int(most) - now + int(statistics.get(cached, 0))
    return math.inf
