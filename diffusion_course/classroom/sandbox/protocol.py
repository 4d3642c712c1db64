"""Messages between the grader and its untrusted worker: a JSON tree and the bytes of its tensors.

There are no pickles. A message is an 8-byte length of the JSON, an 8-byte length of the bytes, the
JSON, the bytes. The grader decodes what a worker sends with `decoding.decode`, which makes numbers,
strings, tuples, dictionaries and tensors and nothing else.

On the pipes between grader and worker, messages travel in frames: one byte that says who speaks or
is spoken to (RUN: the process that runs the student's code; CONTROL: the worker's first process,
which never does), a 4-byte length, the content.
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import torch
from torch import Tensor

from ...exercises import given
from ...exercises.trial import Foreign

_NUMBERS = (
    *(torch.float64, torch.float32, torch.bfloat16, torch.float16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    *(torch.complex64, torch.complex128),
)
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in _NUMBERS}
CLASSES = {kind.__name__: kind for kind in given.StandIn.__subclasses__()}
HEADER, FRAME = struct.Struct("<QQ"), struct.Struct("<BI")
RUN, CONTROL, MAX_FRAME = 0, 1, 2**16
MAX_JSON, MAX_BYTES = 4 * 2**20, 64 * 2**20
MAX_DEPTH, MAX_PARTS, MAX_TEXT, MAX_DIGITS, MAX_DIMS = 12, 100_000, 10_000, 300, 16
MAX_SOURCE = 3 * 2**20  # characters of one cell; more than a worker may send
_SAFE_INT = 2**53


class ProtocolError(ValueError):
    """A message that is not one, or that holds more than a message may."""


class _Writer:
    """Collects the bytes of the tensors while the tree is built."""

    def __init__(self) -> None:
        self.blobs: list[bytes] = []
        self.tensors: list[dict[str, Any]] = []
        self.modules: list[Any] = []

    def tree(self, value: Any) -> Any:
        kind = type(value)
        if kind is str and len(value) > MAX_SOURCE:
            raise ProtocolError(f"a text of {len(value)} characters is too long to be sent")
        if value is None or kind in (bool, str):
            return value
        if kind is int and abs(value) < _SAFE_INT:
            return value
        if kind is int:
            return {"int": str(value) if value.bit_length() < 3 * MAX_DIGITS else None}
        if kind is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if value is ...:
            return {"ellipsis": True}
        if kind in (tuple, list):
            return {kind.__name__: [self.tree(item) for item in value]}
        if kind is dict:
            return {"dict": [[self.tree(key), self.tree(item)] for key, item in value.items()]}
        if kind in (Tensor, torch.nn.Parameter):
            return {"tensor": self.tensor(value)}
        if kind is Foreign:
            return {"foreign": value.type_name[:MAX_TEXT]}
        return self.object(value)

    def object(self, value: Any) -> Any:
        """Return the tree of a generator, an optimiser or an object of `given`: only cases do."""
        if isinstance(value, torch.Generator):
            return {"generator": self.tensor(value.get_state())}
        if isinstance(value, torch.optim.SGD):
            parameters = [id(one) for one in value.param_groups[0]["params"]]
            for index, module in enumerate(self.modules):
                if [id(one) for one in module.parameters()] == parameters:
                    kept = {
                        key: value.defaults[key]
                        for key in ("lr", "momentum", "weight_decay", "dampening", "nesterov")
                    }
                    return {"sgd": index, "options": self.tree(kept)}
        if isinstance(value, given.StandIn):
            self.modules.append(value)
            parts = self.tree(value.parts)
            return {"object": type(value).__name__, "parts": parts, "training": value.training}
        raise ProtocolError(f"{type(value).__name__} cannot be sent")

    def tensor(self, value: Tensor) -> int:
        dtype = str(value.dtype).removeprefix("torch.")
        if value.device.type != "cpu" or value.layout != torch.strided or dtype not in DTYPES:
            what = f"a {value.dtype} tensor on {value.device} with layout {value.layout}"
            raise ProtocolError(f"{what} cannot be sent")
        if (size := value.numel() * value.element_size()) > MAX_BYTES:
            raise ProtocolError(f"a tensor of {size} bytes is too large to be sent")
        # A transposed input arrives transposed.
        order = sorted(range(value.ndim), key=lambda axis: -value.stride(axis))
        flat = value.detach().resolve_conj().resolve_neg().permute(order).contiguous()
        raw = flat.reshape(-1).view(torch.uint8).numpy().tobytes() if flat.numel() else b""
        description = {"dtype": dtype, "shape": list(flat.shape), "order": order}
        self.tensors.append({**description, "bytes": len(raw)})
        self.blobs.append(raw)
        return len(self.tensors) - 1


def encode(value: Any, max_json: int = MAX_BYTES) -> bytes:
    """Return `value` as one message; raises ProtocolError for what cannot be sent or is too large.

    `max_json` bounds the JSON: what a worker sends has MAX_JSON, the grader's cells may be longer.
    """
    writer = _Writer()
    tree = writer.tree(value)
    text = json.dumps(
        {"tensors": writer.tensors, "tree": tree}, allow_nan=False, ensure_ascii=False
    ).encode("utf-8", "replace")
    size = sum(map(len, writer.blobs))
    if len(text) > max_json or size > MAX_BYTES:
        raise ProtocolError(
            f"a message of {len(text)} + {size} bytes is too large; at most {max_json} +"
            f" {MAX_BYTES} can be sent"
        )
    return HEADER.pack(len(text), size) + text + b"".join(writer.blobs)


def frames(kind: int, data: bytes) -> bytes:
    """Return `data` in frames of at most MAX_FRAME bytes."""
    parts = [data[start : start + MAX_FRAME] for start in range(0, len(data), MAX_FRAME)]
    return b"".join(FRAME.pack(kind, len(part)) + part for part in parts)
