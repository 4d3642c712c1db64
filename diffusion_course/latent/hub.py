"""A checkpoint from the hub or its cache, or soon a reason that fits into a line."""

import json
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import torch

from .folders import without_progress_bars

# The parts that have weights, if they are there
WEIGHTED = ("text_encoder", "unet", "vae", "safety_checker", "image_encoder")
FILES = ("model", "diffusion_pytorch_model")  # transformers' and diffusers' names for them
TIMEOUT = 3.0  # seconds


class Unavailable(Exception):
    """Why a checkpoint cannot be had, in one clause."""


class NoRoom(Unavailable):
    """There is not enough memory for it: another mirror would not help."""


def parts_of(folder: Path) -> list[str]:
    """Return the parts that ``model_index.json`` of a folder names; raises Unavailable."""
    index = folder / "model_index.json"
    try:
        entries = json.loads(index.read_text(encoding="utf-8")).items()
        lists = {name: value for name, value in entries if isinstance(value, list)}
        return [name for name, value in lists.items() if value and value[0] is not None]
    except FileNotFoundError:
        raise Unavailable(
            f"it is no folder in diffusers' layout: there is no {index.name} in {folder}"
        ) from None
    except (ValueError, AttributeError) as error:
        raise Unavailable(f"its {index.name} is damaged ({error})") from None


def choose_weights(
    files: Collection[str], parts: Iterable[str], *, half: bool
) -> tuple[str | None, list[str]]:
    """Return diffusers' ``variant``, "fp16" or None, and one weight file of each part.

    Safetensors only, no pickles. Half precision takes float16 files where all parts have them, else
    what there is. Raises Unavailable, naming what lacks.
    """
    networks = [part for part in parts if part in WEIGHTED]
    found: dict[str | None, list[str | None]] = {}
    for variant in ("fp16", None) if half else (None, "fp16"):
        ending = ".safetensors" if variant is None else f".{variant}.safetensors"
        names = [[f"{part}/{file}{ending}" for file in FILES] for part in networks]
        found[variant] = [next((name for name in both if name in files), None) for both in names]
        if all(found[variant]):
            return variant, found[variant]
    missing = [part for part, name in zip(networks, found[None], strict=True) if name is None]
    raise Unavailable(f"it has no safetensors weights of {' and '.join(missing)}")


def check_folder(folder: Path, *, half: bool) -> str | None:
    """Return diffusers' ``variant`` for a folder that has all its parts.

    Raises Unavailable, naming what lacks.
    """
    parts = parts_of(folder)
    if missing := [part for part in parts if not (folder / part).is_dir()]:
        raise Unavailable(f"it has no {' and no '.join(missing)}")
    files = {file.relative_to(folder).as_posix() for file in folder.glob("*/*.safetensors")}
    return choose_weights(files, parts, half=half)[0]


def cached_folder(repo_id: str, *, half: bool, cache_dir: str | Path | None = None) -> Path | None:
    """Return the folder of a repository that was downloaded whole before, or None.

    Touches no network.
    """
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo_id, "model_index.json", cache_dir=cache_dir)
    if not isinstance(found, str):
        return None
    try:
        check_folder(Path(found).parent, half=half)
    except Unavailable:
        return None
    return Path(found).parent


def why_not_reached(timeout: float = TIMEOUT) -> str:
    """Return "" if the hub answers within ``timeout`` seconds, else why not, in a clause.

    It asks in a thread of its own, since looking up a name has no timeout.
    """
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    answers = []

    def ask() -> None:
        try:
            answers.append(get_session().head(constants.ENDPOINT, timeout=timeout))
        except Exception as error:  # a proxy, a name server, a certificate: any of them means no
            answers.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout)
    if answers and not isinstance(answers[0], Exception):
        return ""
    return f"{constants.ENDPOINT.partition('://')[2]} does not answer"


def fetch(
    repo_id: str, *, half: bool, cache_dir: str | Path | None = None,
    before_weights: Callable[[Path], None] = lambda folder: None, timeout: float = TIMEOUT,
) -> Path:
    """Download what a pipeline needs, the small files first; return the folder in the cache.

    What is there is kept. ``before_weights(folder)`` may look at the configurations and raise.
    Raises Unavailable with the reason in a clause.
    """
    from huggingface_hub import HfApi, constants, hf_hub_download

    def get(name: str) -> Path:
        where = {"cache_dir": cache_dir, "endpoint": constants.ENDPOINT, "etag_timeout": timeout}
        return Path(hf_hub_download(repo_id, name, **where))

    try:
        info = HfApi(endpoint=constants.ENDPOINT).model_info(repo_id, timeout=timeout)
        files = {file.rfilename for file in info.siblings}
        if "model_index.json" not in files:
            raise Unavailable("it is not in diffusers' layout")
        folder = get("model_index.json").parent
        parts = parts_of(folder)
        _, weights = choose_weights(files, parts, half=half)
        for name in sorted(files):
            if name.split("/")[0] in parts and name.endswith((".json", ".txt")):
                get(name)
        before_weights(folder)
        for name in weights:
            get(name)
    except Unavailable:
        raise
    except Exception as error:  # what happens between here and the hub is a reason, not a crash
        raise Unavailable(_reason(repo_id, error)) from error
    return folder


def locate(
    ids: Sequence[str], *, half: bool, cache_dir: str | Path | None = None,
    check: Callable[[Path], None] = lambda folder: None, timeout: float = TIMEOUT,
) -> tuple[str, Path]:
    """Return (id, folder) of the first id in the cache, else of the first that the hub gives.

    ``check(folder)`` looks at the configurations before weights are read or fetched, and may raise
    NoRoom. Raises Unavailable.
    """
    where = {"half": half, "cache_dir": cache_dir}
    for repo_id in ids:
        if (folder := cached_folder(repo_id, **where)) is not None:
            check(folder)
            return repo_id, folder
    if why := why_not_reached(timeout):
        raise Unavailable(f"it is not in the cache, and {why}")
    reasons = {}
    for repo_id in ids:
        try:
            return repo_id, fetch(repo_id, **where, before_weights=check, timeout=timeout)
        except NoRoom:
            raise
        except Unavailable as reason:
            reasons[repo_id] = str(reason)
    if len(reasons) == 1:
        raise Unavailable(*reasons.values())
    raise Unavailable("; ".join(f"{repo_id}: {reason}" for repo_id, reason in reasons.items()))


def _reason(repo_id: str, error: Exception) -> str:
    from huggingface_hub.utils import GatedRepoError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return f"its licence has to be accepted first, at https://huggingface.co/{repo_id}"
    if isinstance(error, RepositoryNotFoundError):
        return "the hub has no such repository, or not any more"
    text = _first_line(error)
    return f"the download failed ({type(error).__name__}{f': {text[:100]}' if text else ''})"


def load_folder(folder: Path, dtype: torch.dtype) -> object:
    """Return the ``StableDiffusionPipeline`` in a folder that has all its parts.

    Raises Unavailable where it cannot be read.
    """
    import diffusers

    renamed = _version(diffusers.__version__) >= (0, 40)
    settings = {
        "variant": check_folder(folder, half=dtype.itemsize == 2), "use_safetensors": True,
        "local_files_only": True, "dtype" if renamed else "torch_dtype": dtype,
    }
    try:
        with without_progress_bars(), torch.device("cpu"):  # whatever the default device is
            return diffusers.StableDiffusionPipeline.from_pretrained(folder, **settings)
    except Exception as error:  # what a damaged file raises depends on which one it is
        reason = f"{type(error).__name__}: {_first_line(error)[:100]}"
        raise Unavailable(f"its files cannot be read ({reason})") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "")


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)
