"""Is this machine ready, and what to do where it is not: `python -m diffusion_course doctor`."""

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
from functools import partial
from importlib import metadata
from pathlib import Path

MIN_PYTHON = (3, 11)
GIB = 2**30
SMOKE_SECONDS, SMOKE_STEPS = 5.0, 150


@dataclass(frozen=True)
class Finding:
    """One line of the report, "ok", "warn" or "fail"; `remedy` says what to do, empty when ok."""

    status: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        advice = f"\n       -> {self.remedy}" if self.remedy else ""
        return f"[{self.status:^4}] {self.text}{advice}"


ok = partial(Finding, "ok")
warn = partial(Finding, "warn")
fail = partial(Finding, "fail")


def release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "2.14.1+cu121" gives (2, 14, 1)."""
    leading = re.match(r"\d+(?:\.\d+)*|", version).group()
    return tuple(int(part) for part in leading.split(".") if part)


def lower_bounds() -> dict[str, str]:
    """Package name -> least version that the installed course declares; {} if it is not."""
    try:
        lines = metadata.requires("diffusion-course") or []
    except metadata.PackageNotFoundError:
        return {}
    found = [re.match(r"([\w.-]+)\s*>=\s*([\w.]+)\s*$", line) for line in lines]
    return {match[1]: match[2] for match in found if match}


def check_versions(bounds: dict[str, str] | None = None) -> Iterator[Finding]:
    """Python and every dependency against its lower bound."""
    python = platform.python_version()
    wanted = ".".join(map(str, MIN_PYTHON))
    if sys.version_info < MIN_PYTHON:
        remedy = f"make the environment with Python {wanted}"
        yield fail(f"Python {python} is older than {wanted}", remedy)
    else:
        yield ok(f"Python {python} on {platform.system()} {platform.machine()}")
    bounds = lower_bounds() if bounds is None else bounds
    if not bounds:
        remedy = "run make lab, or pip install -e ."
        yield fail("the course is not installed in this environment", remedy)
    for name, least in bounds.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield fail(f"{name} is missing", f'pip install "{name}>={least}"')
            continue
        if release(version) < release(least):
            remedy = f'pip install --upgrade "{name}>={least}"'
            yield fail(f"{name} {version} is older than {least}", remedy)
        else:
            yield ok(f"{name} {version}")


def check_device() -> Iterator[Finding]:
    """The default device, and a product with its gradient in every dtype the lessons mention."""
    import torch

    from .seeds import default_device

    device = default_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()} cores"
    yield ok(f"device {device.type} ({name}), {threads}")
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        title, reason = str(dtype).removeprefix("torch."), "not finite"
        try:
            x = torch.linspace(-1, 1, 16, device=device, dtype=dtype).reshape(4, 4).requires_grad_()
            (x @ x).exp().sum().backward()
            works = bool(torch.isfinite(x.grad).all())
        except (RuntimeError, TypeError) as error:
            works, reason = False, str(error).splitlines()[0]
        illness = f"{title} does not work on {device.type}: {reason}"
        if works:
            yield ok(f"{title} works on {device.type}")
        elif dtype is torch.float32:
            yield fail(illness, "install PyTorch again: pytorch.org")
        else:
            yield warn(illness, "the lessons run in float32 there")


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
        yield fail("Jupyter kernel python3 is missing", remedy)
        return
    found = shutil.which(program) or program
    if program.startswith("python") or os.path.normcase(found) == os.path.normcase(sys.executable):
        yield ok("Jupyter kernel python3 runs this environment")
    else:
        yield fail(f"Jupyter kernel python3 runs {found}, not {sys.executable}", remedy)
    import ipywidgets

    yield ok(f"ipywidgets {ipywidgets.__version__} can be imported: sliders will appear")


def check_data(files: Iterable | None = None) -> Iterator[Finding]:
    """Every shipped file (objects with .name, .path, .sha256) against its checksum."""
    from .files.checkpoints import sha256_of
    from .files.pretrained import shipped_files

    for file in shipped_files().values() if files is None else files:
        remedy = f"restore {Path(file.path).name}: git checkout -- data"
        try:
            digest = sha256_of(file.path)
        except OSError as error:
            yield fail(f"data {file.name} cannot be read: {error.strerror}", remedy)
            continue
        if digest == file.sha256:
            yield ok(f"data {file.name}: checksum matches")
        else:
            hashes = f"sha256 {digest[:12]}, expected {file.sha256[:12]}"
            yield fail(f"data {file.name} is damaged: {hashes}", remedy)


def check_smoke(seconds: float = SMOKE_SECONDS) -> Iterator[Finding]:
    """Train a small network on a mixture for a moment and sample from it, as lesson 04 does."""
    import torch

    from . import MLP, make_schedule, mixture, p_sample_loop, seed_everything, train_step

    generator, tables = seed_everything(0), make_schedule("cosine", 20).to(dtype=torch.float32)
    data = mixture("pair").sample(2048, generator=generator).float()
    model = MLP(dim=2, hidden=64)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    # The first step loads parts of PyTorch
    train_step(model, data[:128], optimizer, tables.alphas_cumprod)
    start, losses = time.perf_counter(), []
    while len(losses) < SMOKE_STEPS and (not losses or time.perf_counter() - start < seconds):
        rows = torch.randint(0, len(data), (128,), generator=generator)
        losses.append(train_step(model, data[rows], optimizer, tables.alphas_cumprod))
    chain = tables.betas, tables.alphas, tables.alphas_cumprod
    x0 = p_sample_loop(model, (64, 2), *chain, generator=generator)
    taken, part = time.perf_counter() - start, min(30, len(losses))
    first, last = sum(losses[:part]) / part, sum(losses[-part:]) / part
    text = (
        f"smoke run: {len(losses)} training steps, loss {first:.2f} -> {last:.2f}, {len(x0)}"
        f" samples, {taken:.1f} s"
    )
    slow, finite = len(losses) < SMOKE_STEPS, math.isfinite(last) and bool(torch.isfinite(x0).all())
    if not finite or (not slow and last >= first):
        must = "the loss must fall and the samples be finite"
        yield fail(text, f"{must}: run make test, and install PyTorch again")
    elif slow:
        expect = "expect several times the minutes that the lessons quote"
        yield warn(text, f"this machine is slow: {expect}")
    else:
        yield ok(text)


CHECKS = (check_versions, check_device, check_room, check_jupyter, check_data, check_smoke)


def guarded(check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings of one check; what it raises becomes a failed line, and the others still run."""
    try:
        yield from check()
    except Exception as error:  # a doctor reports, it does not die of the patient's illness
        text = f"{check.__name__.removeprefix('check_')}: {type(error).__name__}: {error}"
        yield fail(text, "run make test; if that fails too, install again: make lab")


def main(argv: list[str] | None = None) -> int:
    """Print the report; return 1 if a line failed, 2 for unknown arguments, else 0."""
    if argv:
        print(f"usage: python -m diffusion_course doctor (got {argv})", file=sys.stderr)
        return 2
    findings = []
    for check in CHECKS:
        for finding in guarded(check):
            print(finding, flush=True)
            findings.append(finding)
    statuses = [finding.status for finding in findings]
    failed, warned = statuses.count("fail"), statuses.count("warn")
    ready = "" if failed else " This machine is ready: make lab"
    print(f"\n{failed} failed, {warned} warnings.{ready}")
    return 1 if failed else 0
