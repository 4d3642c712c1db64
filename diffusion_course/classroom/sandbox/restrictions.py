"""What the worker's first process forbids itself and all that it starts."""

from __future__ import annotations

import ctypes
import os
import re

DUMPABLE, NO_NEW_PRIVILEGES = 4, 38  # prctl's PR_SET_DUMPABLE and PR_SET_NO_NEW_PRIVS
COUNTED_BY_NAMESPACE = (5, 14)  # since this Linux a sandbox's processes are counted by themselves


def set_limits(*, memory_mib: int, disk_mib: int, seconds: int, tasks: int) -> None:
    """Set the limits that a process cannot raise again, where the system has them.

    `tasks` is 0 where they are counted together with other people's.
    """
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
    if tasks:
        limits["RLIMIT_NPROC"] = tasks
    for name, most in limits.items():
        try:
            resource.setrlimit(getattr(resource, name), (most, most))
        except (AttributeError, ValueError, OSError):  # not there, or there in name only (macOS)
            continue


def are_counted_by_sandbox() -> bool:
    """Whether this Linux counts the tasks of a sandbox by themselves."""
    version = re.findall(r"\d+", os.uname().release)[:2] if hasattr(os, "uname") else ()
    return tuple(map(int, version)) >= COUNTED_BY_NAMESPACE


def forbid_tracing() -> None:
    """Let no other process of the sandbox read or trace this one, and no program give it rights."""
    try:
        system = ctypes.CDLL(None)
        system.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        system.prctl(DUMPABLE, 0, 0, 0, 0)
    except (AttributeError, OSError, TypeError):  # not Linux
        return
