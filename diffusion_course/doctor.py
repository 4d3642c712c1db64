"""`python -m diffusion_course doctor`: is this machine ready for the course, and what to do where
it is not.
"""

from __future__ import annotations

import math
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

MIN_PYTHON = (3, 11)
GIB = 2**30
SMOKE_SECONDS, SMOKE_STEPS = 5.0, 150


@dataclass(frozen=True)
class Finding:
    """One line of the report: `status` is "ok", "warn" or "fail"; `remedy` says what to do, empty
    when ok.
    """

    status: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"[{self.status:^4}] {self.text}" + (
            f"\n       -> {self.remedy}" if self.remedy else ""
        )


def release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "2.14.1+cu121" gives (2, 14, 1)."""
    return tuple(
        int(part) for part in re.match(r"\d+(?:\.\d+)*|", version).group().split(".") if part
    )


def lower_bounds() -> dict[str, str]:
    """Package name -> least version, as the installed course declares them; {} when it is not
    installed.
    """
    try:
        lines = metadata.requires("diffusion-course") or []
    except metadata.PackageNotFoundError:
        return {}
    return {
        match[1]: match[2]
        for line in lines
        if (match := re.match(r"([\w.-]+)\s*>=\s*([\w.]+)\s*$", line))
    }


def check_versions(bounds: dict[str, str] | None = None) -> Iterator[Finding]:
    """Python and every dependency against its lower bound."""
    python = platform.python_version()
    wanted = ".".join(map(str, MIN_PYTHON))
    if sys.version_info < MIN_PYTHON:
        yield Finding(
            "fail",
            f"Python {python} is older than {wanted}",
            f"make the environment with Python {wanted}",
        )
    else:
        yield Finding("ok", f"Python {python} on {platform.system()} {platform.machine()}")
    bounds = lower_bounds() if bounds is None else bounds
    if not bounds:
        yield Finding(
            "fail",
            "the course is not installed in this environment",
            "run make lab, or pip install -e .",
        )
    for name, least in bounds.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding("fail", f"{name} is missing", f'pip install "{name}>={least}"')
            continue
        if release(version) < release(least):
            yield Finding(
                "fail",
                f"{name} {version} is older than {least}",
                f'pip install --upgrade "{name}>={least}"',
            )
        else:
            yield Finding("ok", f"{name} {version}")


def check_device() -> Iterator[Finding]:
    """The default device, and a product with its gradient in every dtype the lessons mention."""
    import torch

    from .seeds import default_device

    device = default_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    yield Finding(
        "ok",
        f"device {device.type} ({name}), {torch.get_num_threads()} threads of {os.cpu_count()}"
        " cores",
    )
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        title, reason = str(dtype).removeprefix("torch."), "not finite"
        try:
            x = torch.linspace(-1, 1, 16, device=device, dtype=dtype).reshape(4, 4).requires_grad_()
            (x @ x).exp().sum().backward()
            works = bool(torch.isfinite(x.grad).all())
        except (RuntimeError, TypeError) as error:
            works, reason = False, str(error).splitlines()[0]
        if works:
            yield Finding("ok", f"{title} works on {device.type}")
        elif dtype is torch.float32:
            yield Finding(
                "fail",
                f"{title} does not work on {device.type}: {reason}",
                "install PyTorch again: pytorch.org",
            )
        else:
            yield Finding(
                "warn",
                f"{title} does not work on {device.type}: {reason}",
                "the lessons run in float32 there",
            )


def check_room(
    place: str = ".", *, available: int | None = None, free: int | None = None
) -> Iterator[Finding]:
    """Memory and disk against what the lessons need, in bytes (measured when not given)."""
    import psutil

    available = psutil.virtual_memory().available if available is None else available
    free = shutil.disk_usage(place).free if free is None else free
    rooms = (
        ("memory available", available, 1.5, 3.0, "close other programs"),
        ("disk free", free, 0.2, 1.0, "free some space"),
    )
    for what, size, least, comfortable, remedy in rooms:
        status = "ok" if size >= comfortable * GIB else "warn" if size >= least * GIB else "fail"
        advice = f"{remedy}: {comfortable:g} GiB are comfortable, {least:g} GiB the least"
        yield Finding(status, f"{what}: {size / GIB:.1f} GiB", "" if status == "ok" else advice)


def check_jupyter() -> Iterator[Finding]:
    """A kernel named python3 that runs this very Python, and the widgets."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    remedy = f"{sys.executable} -m ipykernel install --sys-prefix"
    try:
        program = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        yield Finding("fail", "Jupyter kernel python3 is missing", remedy)
        return
    found = shutil.which(program) or program
    if program.startswith("python") or os.path.normcase(found) == os.path.normcase(sys.executable):
        yield Finding("ok", "Jupyter kernel python3 runs this environment")
    else:
        yield Finding("fail", f"Jupyter kernel python3 runs {found}, not {sys.executable}", remedy)
    import ipywidgets

    yield Finding("ok", f"ipywidgets {ipywidgets.__version__} can be imported: sliders will appear")


def check_data(files: Iterable | None = None) -> Iterator[Finding]:
    """Every shipped file (objects with .name, .path, .sha256) against its checksum."""
    from .files.checkpoints import sha256_of
    from .files.pretrained import shipped_files

    for file in shipped_files().values() if files is None else files:
        remedy = f"restore {Path(file.path).name}: git checkout -- data"
        try:
            digest = sha256_of(file.path)
        except OSError as error:
            yield Finding("fail", f"data {file.name} cannot be read: {error.strerror}", remedy)
            continue
        if digest == file.sha256:
            yield Finding("ok", f"data {file.name}: checksum matches")
        else:
            yield Finding(
                "fail",
                f"data {file.name} is damaged: sha256 {digest[:12]}, expected {file.sha256[:12]}",
                remedy,
            )


def check_smoke(seconds: float = SMOKE_SECONDS) -> Iterator[Finding]:
    """Train a small network on a mixture for a moment and sample from it: the whole path of lesson
    04.
    """
    import torch

    from . import MLP, make_schedule, mixture, p_sample_loop, seed_everything, train_step

    generator, tables = seed_everything(0), make_schedule("cosine", 20).to(dtype=torch.float32)
    data = mixture("pair").sample(2048, generator=generator).float()
    model = MLP(dim=2, hidden=64)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    train_step(
        model, data[:128], optimizer, tables.alphas_cumprod
    )  # the first step loads parts of PyTorch
    start, losses = time.perf_counter(), []
    while len(losses) < SMOKE_STEPS and (not losses or time.perf_counter() - start < seconds):
        rows = torch.randint(0, len(data), (128,), generator=generator)
        losses.append(train_step(model, data[rows], optimizer, tables.alphas_cumprod))
    x0 = p_sample_loop(
        model, (64, 2), tables.betas, tables.alphas, tables.alphas_cumprod, generator=generator
    )
    taken, part = time.perf_counter() - start, min(30, len(losses))
    first, last = sum(losses[:part]) / part, sum(losses[-part:]) / part
    text = (
        f"smoke run: {len(losses)} training steps, loss {first:.2f} -> {last:.2f}, {len(x0)}"
        f" samples, {taken:.1f} s"
    )
    slow, finite = len(losses) < SMOKE_STEPS, math.isfinite(last) and bool(torch.isfinite(x0).all())
    if not finite or (not slow and last >= first):
        yield Finding(
            "fail",
            text,
            "the loss must fall and the samples be finite: run make test, and install PyTorch"
            " again",
        )
    elif slow:
        yield Finding(
            "warn",
            text,
            "this machine is slow: expect several times the minutes that the lessons quote",
        )
    else:
        yield Finding("ok", text)


CHECKS = (check_versions, check_device, check_room, check_jupyter, check_data, check_smoke)


def guarded(check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings of one check; whatever it raises becomes a failed line, so that the others still
    run.
    """
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001 - a doctor reports, it does not die of the patient's illness
        text = f"{check.__name__.removeprefix('check_')}: {type(error).__name__}: {error}"
        yield Finding("fail", text, "run make test; if that fails too, install again: make lab")


def main(argv: list[str] | None = None) -> int:
    """Print the report; 1 when a line failed, 0 otherwise (warnings included), 2 for arguments
    nobody knows.
    """
    if argv:
        print(f"usage: python -m diffusion_course doctor (got {argv})", file=sys.stderr)
        return 2
    findings = []
    for check in CHECKS:
        for finding in guarded(check):
            print(finding, flush=True)
            findings.append(finding)
    failed, warned = (
        sum(finding.status == status for finding in findings) for status in ("fail", "warn")
    )
    print(
        f"\n{failed} failed, {warned} warnings."
        + ("" if failed else " This machine is ready: make lab")
    )
    return 1 if failed else 0
