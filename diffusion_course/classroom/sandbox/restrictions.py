"""What the worker's first process forbids itself and all that it starts."""

from __future__ import annotations

import ctypes
import os
import re

DUMPABLE = 4  # prctl's PR_SET_DUMPABLE
COUNTED_BY_NAMESPACE = (5, 14)  # since this Linux a sandbox's processes are counted by themselves


def set_limits(
    *, memory_mib: int, disk_mib: int, seconds: int, tasks: int, sandboxed: bool
) -> None:
    """Set the limits that a process cannot raise again, where the system has them."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limits = {
        "RLIMIT_DATA": memory_mib * 2**20,
        "RLIMIT_FSIZE": disk_mib * 2**20,
        "RLIMIT_CPU": seconds,
        "RLIMIT_CORE": 0,
        "RLIMIT_NOFILE": 256,
    }
    if sandboxed and _linux_version() >= COUNTED_BY_NAMESPACE:
        limits["RLIMIT_NPROC"] = tasks
    for name, most in limits.items():
        try:
            resource.setrlimit(getattr(resource, name), (most, most))
        except (AttributeError, ValueError, OSError):  # not there, or there in name only (macOS)
            continue


def _linux_version() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])


def forbid_tracing() -> None:
    """Let no other process of the sandbox read or trace this one."""
    try:
        ctypes.CDLL(None).prctl(DUMPABLE, 0, 0, 0, 0)
    except (AttributeError, OSError, TypeError):  # not Linux
        return
