"""Files written whole or not at all, and safetensors whose contents are checked on load."""

import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from ..door import checked
from ..validation import describe
from .paths import user_path, write_bytes

Tensors = dict[str, Tensor]


def _is_a_file(name: str, path: str | Path, given: dict) -> None:
    if not user_path(path, name).is_file():
        raise FileNotFoundError(f"there is no file {path}.")


@checked(path=_is_a_file)
def sha256_of(path: str | Path) -> str:
    """Return the file's sha256 as 64 hexadecimal digits. Raises FileNotFoundError without it."""
    with open(user_path(path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_of(x: Tensor | None) -> str | None:
    """Return a digest of a tensor's dtype, shape and values: the same in any layout and place."""
    if x is None:
        return None
    digest = hashlib.sha256(f"{x.dtype} {tuple(x.shape)}".encode())
    digest.update(x.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


@checked()
def save_tensors(
    path: str | Path, tensors: Tensors, metadata: dict | None = None, **options: object
) -> None:
    """Write tensors and JSON-able ``metadata`` to a safetensors file, whole or not at all.

    One of several that share their values, as tied weights do, is written for all of them.
    ``options``: name and trial, as in ``write_bytes``.
    """
    from safetensors.torch import save

    flat, first, tied = {}, {}, {}
    for key, x in tensors.items():
        if not isinstance(x, Tensor):
            raise TypeError(f"tensors[{key!r}] must be a torch.Tensor, got {describe(x)}.")
        place = (x.device, x.data_ptr(), x.dtype, x.shape, x.stride())
        if (one := first.setdefault(place, key)) != key:
            tied[key] = one
        else:  # a copy: safetensors takes no views of one memory
            flat[key] = x.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    said = {"json": metadata or {}} | ({"tied": tied} if tied else {})
    said = {key: json.dumps(value, sort_keys=True) for key, value in said.items()}
    write_bytes(path, save(flat, metadata=said), **options)


def check_sha256(path: str | Path, sha256: str) -> None:
    """Raise ValueError, naming both, unless the file's sha256 is the one given."""
    if (found := sha256_of(path)) != sha256:
        raise ValueError(
            f"{path} is damaged or not the file that belongs here: its sha256 is {found}, expected"
            f" {sha256}. Restore it (git checkout of that file), or make it again (make train)."
        )


def _of_that_file(name: str, sha256: str, given: dict) -> None:
    check_sha256(given["path"], sha256)


@checked(path=_is_a_file, sha256=_of_that_file)
def load_tensors(path: str | Path, *, sha256: str | None = None) -> tuple[Tensors, dict]:
    """Return (tensors on the CPU, metadata) of a file that ``save_tensors`` wrote.

    Raises FileNotFoundError without the file, ValueError for another sha256 or a damaged file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(user_path(path), framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            said = file.metadata() or {}
        tied = json.loads(said.get("tied", "{}"))
        tensors |= {key: tensors[one] for key, one in tied.items()}
        return tensors, json.loads(said.get("json", "{}"))
    except (SafetensorError, ValueError, KeyError, AttributeError) as error:
        damaged = f"{path} is not a whole safetensors file ({error})"
        raise ValueError(f"{damaged}. Delete it and make it again.") from error


def plain_names(tensors: dict) -> dict:
    """Return them by the names without torch.compile's and DataParallel's prefixes."""
    plain = {name.replace("_orig_mod.", ""): x for name, x in tensors.items()}
    while plain and all(name.startswith("module.") for name in plain):
        plain = {name.removeprefix("module."): x for name, x in plain.items()}
    return plain


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@checked()
def load_into(module: nn.Module, tensors: Tensors, source: str) -> None:
    """Load all tensors into ``module``, or raise ValueError naming some of each kind of misfit.

    Prefixes that torch.compile and DataParallel put before the names are left out, here and there.
    """
    state, tensors = module.state_dict(), plain_names(tensors)
    own = plain_names({name: name for name in state})  # as it is called here, by plain name
    pairs = {k: (tensors[k], state[own[k]]) for k in own if k in tensors}
    faults = {
        "missing ": [k for k in own if k not in tensors],
        "unexpected ": [k for k in tensors if k not in own],
        "": [
            f"{k} is {describe(a)} for {describe(b)}" for k, (a, b) in pairs.items()
            if not isinstance(a, Tensor) or (a.shape, a.dtype) != (b.shape, b.dtype)
        ],
    }
    if found := "; ".join(kind + _few(names) for kind, names in faults.items() if names):
        kind = type(getattr(module, "_orig_mod", module)).__name__
        raise ValueError(f"the weights of {source} do not fit {kind}: {found}.")
    module.load_state_dict({own[k]: x for k, x in tensors.items()})
