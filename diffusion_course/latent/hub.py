"""A checkpoint from the hub or its cache: the folder and the pipeline in it, or soon a reason that
fits into a line.
"""

import json
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

NETWORKS = (
    "text_encoder", "unet", "vae", "safety_checker", "image_encoder"
)  # the parts that have weights, if they are there
FILES = ("model", "diffusion_pytorch_model")  # transformers' and diffusers' names for them
TIMEOUT = 3.0  # seconds


class Unavailable(Exception):
    """Why a checkpoint cannot be had, in one clause."""


class NoRoom(Unavailable):
    """There is not enough memory for it: another mirror would not help."""


def parts_of(folder: Path) -> list[str]:
    """Return the parts that ``model_index.json`` of a folder in diffusers' layout names. Raises
    Unavailable without one.
    """
    index = folder / "model_index.json"
    try:
        entries = json.loads(index.read_text(encoding="utf-8"))
        return [
            name
            for name, value in entries.items()
            if isinstance(value, list) and value and value[0] is not None
        ]
    except FileNotFoundError:
        raise Unavailable(
            f"it is no folder in diffusers' layout: there is no {index.name} in {folder}"
        ) from None
    except (ValueError, AttributeError) as error:
        raise Unavailable(f"its {index.name} is damaged ({error})") from None


def choose_weights(
    files: Collection[str], parts: Iterable[str], *, half: bool
) -> tuple[str | None, list[str]]:
    """Return diffusers' ``variant``, "fp16" or None, and one weight file of each part: safetensors
    only, no pickles.

    Half precision takes float16 files where all parts have them, else what there is. Raises
    Unavailable, naming what lacks.
    """
    networks = [part for part in parts if part in NETWORKS]
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
    """Return diffusers' ``variant`` for a folder that has all its parts. Raises Unavailable, naming
    what lacks.
    """
    parts = parts_of(folder)
    if missing := [part for part in parts if not (folder / part).is_dir()]:
        raise Unavailable(f"it has no {' and no '.join(missing)}")
    files = {file.relative_to(folder).as_posix() for file in folder.glob("*/*.safetensors")}
    return choose_weights(files, parts, half=half)[0]


def cached_folder(repo_id: str, *, half: bool, cache_dir: str | Path | None = None) -> Path | None:
    """Return the folder of a repository that was downloaded whole before, or None. Touches no
    network.
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


def silence(timeout: float = TIMEOUT) -> str:
    """Return "" if the hub answers within ``timeout`` seconds, else a clause that says why it does
    not.

    It asks in a thread of its own, since looking up a name has no timeout.
    """
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    answers = []

    def ask() -> None:
        try:
            answers.append(get_session().head(constants.ENDPOINT, timeout=timeout))
        except Exception as error:  # noqa: BLE001 - a proxy, a name server, a certificate: any of them means no
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
    """Download what a pipeline needs, the small files first, and return the folder in the cache;
    what is there is kept.

    ``before_weights(folder)`` may look at the configurations and raise. Raises Unavailable with the
    reason in a clause.
    """
    from huggingface_hub import HfApi, constants, hf_hub_download

    def get(name: str) -> Path:
        return Path(
            hf_hub_download(
                repo_id, name, cache_dir=cache_dir, endpoint=constants.ENDPOINT,
                etag_timeout=timeout,
            )
        )

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
    except Exception as error:  # noqa: BLE001 - whatever happens between here and the hub is a reason, not a crash
        raise Unavailable(_reason(repo_id, error)) from error
    return folder


def locate(
    ids: Sequence[str], *, half: bool, cache_dir: str | Path | None = None,
    check: Callable[[Path], None] = lambda folder: None, timeout: float = TIMEOUT,
) -> tuple[str, Path]:
    """Return (id, folder) of the first id that is in the cache, else of the first that the hub
    gives.

    ``check(folder)`` looks at the configurations before weights are read or fetched, and may raise
    NoRoom. Raises Unavailable.
    """
    for repo_id in ids:
        if (folder := cached_folder(repo_id, half=half, cache_dir=cache_dir)) is not None:
            check(folder)
            return repo_id, folder
    if why := silence(timeout):
        raise Unavailable(f"it is not in the cache, and {why}")
    reasons = {}
    for repo_id in ids:
        try:
            return repo_id, fetch(
                repo_id, half=half, cache_dir=cache_dir, before_weights=check, timeout=timeout
            )
        except NoRoom:
            raise
        except Unavailable as reason:
            reasons[repo_id] = str(reason)
    only = next(iter(reasons.values()))
    raise Unavailable(
        only
        if len(reasons) == 1
        else "; ".join(f"{repo_id}: {reason}" for repo_id, reason in reasons.items())
    )


def _reason(repo_id: str, error: Exception) -> str:
    from huggingface_hub.utils import GatedRepoError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return f"its licence has to be accepted first, at https://huggingface.co/{repo_id}"
    if isinstance(error, RepositoryNotFoundError):
        return "the hub has no such repository, or not any more"
    text = next(iter(str(error).strip().splitlines()), "")
    return f"the download failed ({type(error).__name__}{f': {text[:100]}' if text else ''})"


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """No bars of diffusers and transformers while parts are loaded: a notebook would store them as
    errors.
    """
    import diffusers
    import transformers

    modules = (diffusers.utils.logging, transformers.utils.logging)
    shown = [module for module in modules if module.is_progress_bar_enabled()]
    for module in shown:
        module.disable_progress_bar()
    try:
        yield
    finally:
        for module in shown:
            module.enable_progress_bar()


def load_folder(folder: Path, dtype: torch.dtype) -> object:
    """Return the ``StableDiffusionPipeline`` in a folder that has all its parts. Raises Unavailable
    where it cannot be read.
    """
    import diffusers

    keyword = (
        "dtype" if _version(diffusers.__version__) >= (0, 40) else "torch_dtype"
    )  # renamed in 0.40
    variant = check_folder(folder, half=dtype.itemsize == 2)
    try:
        with _without_progress_bars():
            return diffusers.StableDiffusionPipeline.from_pretrained(
                folder, **{keyword: dtype}, variant=variant, use_safetensors=True,
                local_files_only=True,
            )
    except Exception as error:  # noqa: BLE001 - what a damaged file raises depends on which one it is
        text = next(iter(str(error).strip().splitlines()), "")
        raise Unavailable(
            f"its files cannot be read ({type(error).__name__}: {text[:100]})"
        ) from error


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)
