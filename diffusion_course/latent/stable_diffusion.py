"""A real Stable Diffusion behind one call, and the miniature where it cannot be had."""

import json
from functools import partial
from pathlib import Path

import torch

from ..door import checked, number, one_of
from ..files.paths import user_path
from ..files.pretrained import data_dir
from ..seeds import default_device
from ..training.precision import has_fast_bfloat16
from ..validation import describe
from . import hub
from .folders import check_dtype
from .memory import OFFLOADS, predict_memory, shortage
from .parts import MINIATURE, load_parts
from .registry import CHECKPOINTS, SCHEDULERS, find_checkpoint, make_scheduler


def _an_id_or_a_folder(name: str, model: object, given: dict) -> None:
    if not isinstance(model, (str, Path)):
        raise TypeError(f"model must be an id on the hub or a folder, got {describe(model)}.")


_an_id_or_a_folder.typed = True


def _a_dtype(name: str, dtype: object, given: dict) -> None:
    check_dtype(dtype)


_a_dtype.typed = True


@checked(
    model=_an_id_or_a_folder, dtype=_a_dtype, offload=one_of(*OFFLOADS),
    scheduler=one_of(*SCHEDULERS), timeout=number(lambda s: s > 0, "be positive, in seconds"),
)
def load_stable_diffusion(
    model: str | Path | None = None, *, device: torch.device | str | None = None,
    dtype: torch.dtype | None = None, attention_slicing: bool = False, vae_slicing: bool = False,
    vae_tiling: bool = False, offload: str | None = None, scheduler: str | None = None,
    cache_dir: str | Path | None = None, fallback: bool = True, timeout: float = hub.TIMEOUT,
) -> object:
    """Return a ``StableDiffusionPipeline``, ready to draw.

    It is a real one, or the miniature, with one printed line that says why.

    model: an id on the hub, a folder in diffusers' layout, "mini-stable-diffusion" for the
    miniature, or None for Stable Diffusion 1.5. An id of the registry is tried with its mirrors,
    first in the cache, then on the hub; only safetensors are read.
    device: by default the GPU; without one an id is not loaded unless device="cpu" insists.
    dtype: by default float16 on a GPU; on the CPU bfloat16 where that is fast, else float32.
    attention_slicing: compute one head at a time. vae_slicing: decode one picture at a time.
    vae_tiling: decode parts of one.
    offload: keep weights in main memory, whole parts ("model") or layers ("sequential"); this needs
    an accelerator.
    scheduler: a name in ``SCHEDULERS``, by default the model's own.
    fallback: False raises RuntimeError instead of loading the miniature.

    Before weights are read, ``predict_memory`` for one picture has to fit. Raises ValueError,
    FileNotFoundError or RuntimeError for arguments or folders that do not work.
    """
    place = _place(device)
    dtype = _usual_dtype(place) if dtype is None else dtype
    if offload is not None and place.type == "cpu":
        raise ValueError(
            f"offload={offload!r} keeps weights in main memory while an accelerator does not need"
            " them, and here the device is cpu: there is nothing to save. Leave offload out."
        )
    _check_kernels(place, dtype)
    savings = {
        "attention_slicing": attention_slicing, "vae_slicing": vae_slicing,
        "vae_tiling": vae_tiling, "offload": offload,
    }
    model = CHECKPOINTS["Stable Diffusion 1.5"].ids[0] if model is None else model
    if str(model) == MINIATURE:
        pipe, line = _miniature(dtype), ""
    elif str(model) and (folder := user_path(model, "model")).is_dir():
        pipe, line = _folder(folder, place, dtype, savings, fallback)
    elif isinstance(model, Path):
        raise FileNotFoundError(f"there is no folder {model}.")
    else:
        insists, where = device is not None, {"cache_dir": cache_dir, "timeout": timeout}
        if cache_dir is not None:
            where["cache_dir"] = user_path(cache_dir, "cache_dir")
        pipe, line = _checkpoint(str(model), insists, place, dtype, savings, fallback, **where)
    _set_up(pipe, place, savings, scheduler)
    if line:
        print(line)
    return pipe


def _place(device: object) -> torch.device:
    try:
        return torch.empty(0, device=default_device() if device is None else device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = next(iter(str(error).strip().splitlines()), "")
        raise RuntimeError(
            f"this machine has no device {str(device)!r} ({reason}). Leave device out: it is"
            f" {str(default_device())!r} here."
        ) from None


def _usual_dtype(place: torch.device) -> torch.dtype:
    on_cpu = torch.bfloat16 if has_fast_bfloat16(place) else torch.float32
    return on_cpu if place.type == "cpu" else torch.float16


def _check_kernels(place: torch.device, dtype: torch.dtype) -> None:
    """Raise ValueError if the device has no kernels for the dtype.

    Float16 is missing on the CPU in some builds of torch.
    """
    x, weight = (torch.zeros(n, 4, 3, 3, dtype=dtype, device=place) for n in (1, 2))
    try:
        torch.nn.functional.group_norm(torch.nn.functional.conv2d(x, weight, padding=1), 2)
        torch.nn.functional.layer_norm(x, (3,))
    except RuntimeError as error:
        raise ValueError(
            f"{dtype} does not work on {place.type} here ({error}). Use bfloat16 or float32."
        ) from None


def _checkpoint(
    model: str, insists: bool, place: torch.device, dtype, savings: dict, fallback: bool,
    **where: object,
) -> tuple:
    ids, licence, note = find_checkpoint(model)
    try:
        if place.type == "cpu" and not insists:
            raise hub.Unavailable("there is no GPU here (device='cpu' insists)")
        check = partial(_check_room, place=place, dtype=dtype, savings=savings)
        repo_id, folder = hub.locate(ids, half=dtype.itemsize == 2, check=check, **where)
        pipe = hub.load_folder(folder, dtype)
    except hub.Unavailable as reason:
        return _instead(f"{note}{ids[0]}", reason, dtype, fallback)
    return pipe, f"{note}{repo_id} (licence: {licence}) is loaded: {_how(pipe, place, dtype)}"


def _folder(
    folder: Path, place: torch.device, dtype: torch.dtype, savings: dict, fallback: bool
) -> tuple:
    try:
        hub.check_folder(folder, half=dtype.itemsize == 2)
        _check_room(folder, place=place, dtype=dtype, savings=savings)
        pipe = hub.load_folder(folder, dtype)
    except hub.NoRoom as reason:
        return _instead(str(folder), reason, dtype, fallback)
    except hub.Unavailable as reason:
        lost = f"the model in {folder} cannot be loaded: {reason}"
        raise ValueError(f"{lost}. Copy the folder again, whole.") from None
    return pipe, f"{folder.name} is loaded: {_how(pipe, place, dtype)}"


def _check_room(folder: Path, *, place: torch.device, dtype: torch.dtype, savings: dict) -> None:
    try:
        estimate = predict_memory(folder, dtype=dtype, **savings)
    except Exception as error:  # what a damaged configuration raises depends on what is wrong
        reason = f"{type(error).__name__}: {str(error)[:100]}"
        raise hub.Unavailable(f"its configuration cannot be read ({reason})") from error
    if lacks := shortage(estimate, place):
        raise hub.NoRoom(lacks)


def _instead(what: str, reason: Exception, dtype: torch.dtype, fallback: bool) -> tuple:
    if not fallback:
        raise RuntimeError(
            f"{what} cannot be loaded: {reason}. With fallback=True you get the miniature instead."
        ) from None
    return _miniature(dtype), f"{what} cannot be loaded: {reason}. This is the miniature instead."


def _how(pipe: object, place: torch.device, dtype: torch.dtype) -> str:
    checker = "it has no safety checker"
    if pipe.safety_checker is not None:
        checker = "its safety checker is on, and pictures that it flags come out black"
    return f"{str(dtype).removeprefix('torch.')} on {place.type}; {checker}."


def _miniature(dtype: torch.dtype) -> object:
    """Return the shipped model as a pipeline, its files checked.

    It draws nothing that would need a safety checker.
    """
    import diffusers

    parts, folder = load_parts(dtype=dtype), data_dir() / MINIATURE
    kind = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))["scheduler"][1]
    with torch.device("cpu"):  # whatever the default device is
        scheduler = getattr(diffusers, kind).from_pretrained(folder / "scheduler")
    pipe = diffusers.StableDiffusionPipeline(
        vae=parts.vae, text_encoder=parts.text_encoder, tokenizer=parts.tokenizer, unet=parts.unet,
        scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )
    pipe.register_to_config(_name_or_path=MINIATURE)
    return pipe


def _set_up(pipe: object, place: torch.device, savings: dict, scheduler: str | None) -> None:
    pipe.set_progress_bar_config(disable=True)
    if scheduler is not None:
        pipe.scheduler = make_scheduler(scheduler, pipe.scheduler.config)
    if savings["attention_slicing"]:
        pipe.enable_attention_slicing("max")
    if savings["vae_slicing"]:
        pipe.vae.enable_slicing()
    if savings["vae_tiling"]:
        pipe.vae.enable_tiling()
    if savings["offload"] == "model":
        pipe.enable_model_cpu_offload(device=place)
    elif savings["offload"] == "sequential":
        pipe.enable_sequential_cpu_offload(device=place)
    else:
        pipe.to(place, silence_dtype_warnings=True)
