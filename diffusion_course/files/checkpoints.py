"""Files written whole or not at all, and safetensors whose contents are checked on load."""

import hashlib
import json
from pathlib import Path

from torch import Tensor

from ..door import checked
from ..validation import describe
from .paths import user_path, write_bytes

Tensors = dict[str, Tensor]


def sha256_of(path: str | Path) -> str:
    """Return the file's sha256 as 64 hexadecimal digits."""
    with open(user_path(path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_tensors(path: str | Path, tensors: Tensors, metadata: dict | None = None) -> None:
    """Write tensors and JSON-able ``metadata`` to a safetensors file, whole or not at all."""
    from safetensors.torch import save

    flat = {name: x.detach().contiguous().cpu() for name, x in tensors.items()}
    write_bytes(path, save(flat, metadata={"json": json.dumps(metadata or {}, sort_keys=True)}))


def check_sha256(path: str | Path, sha256: str) -> None:
    """Raise ValueError, naming both, unless the file's sha256 is the one given."""
    if (found := sha256_of(path)) != sha256:
        raise ValueError(
            f"{path} is damaged or not the file that belongs here: its sha256 is {found}, expected"
            f" {sha256}. Restore it (git checkout of that file), or make it again (make train)."
        )


def _is_a_file(name: str, path: str | Path, given: dict) -> None:
    if not user_path(path, name).is_file():
        raise FileNotFoundError(f"there is no file {path}.")


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
            metadata = (file.metadata() or {}).get("json", "{}")
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(metadata)
    except SafetensorError as error:
        damaged = f"{path} is not a whole safetensors file ({error})"
        raise ValueError(f"{damaged}. Delete it and make it again.") from error


def _fit(name: str, tensors: Tensors, given: dict) -> None:
    module = given["module"]
    own = module.state_dict()
    faults = [f"missing {key}" for key in own.keys() - tensors.keys()]
    faults += [f"unexpected {key}" for key in tensors.keys() - own.keys()]
    both = ((key, tensors[key], own[key]) for key in own.keys() & tensors.keys())
    faults += [f"{k}: {describe(a)} for {describe(b)}" for k, a, b in both if a.shape != b.shape]
    if faults:
        unfit = f"the weights of {given['source']} do not fit {type(module).__name__}"
        raise ValueError(f"{unfit}: {'; '.join(sorted(faults)[:5])}.")


@checked(tensors=_fit)
def load_into(module: object, tensors: Tensors, source: str) -> None:
    """Load all tensors into ``module``, or raise ValueError naming up to five that do not fit."""
    module.load_state_dict(tensors)
