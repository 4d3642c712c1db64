"""What the system says of processes: which there are, whether they live, how much memory they take.
"""

from __future__ import annotations

import psutil


def family(pid: int) -> list[psutil.Process]:
    """The processes below `pid`."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still runs; one that has ended and waits for its parent does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def tasks() -> int:
    """How many tasks the machine has, threads too; 0 where /proc does not tell."""
    try:
        with open("/proc/loadavg", encoding="ascii") as line:
            return int(line.read().split()[3].partition("/")[2])
    except (OSError, ValueError, IndexError):
        return 0


def memory(process: psutil.Process) -> int:
    """The process's share of memory in bytes: pages that it shares with its forks count once in the
    sum.
    """
    try:
        with open(f"/proc/{process.pid}/smaps_rollup", encoding="ascii") as lines:
            return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration, ValueError):
        try:
            return process.memory_info().rss
        except psutil.Error:
            return 0
