"""What the system says of processes: which there are, whether they live, what memory they take."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Collection, Iterable

import psutil


def descendants(pid: int) -> list[psutil.Process]:
    """The processes that `pid` has started, and those that they have."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def kill_all(processes: Collection[psutil.Process], wait: float = 0.0) -> None:
    """Kill processes; those that are gone already, or are not ours, are passed over.

    Waits so many seconds for their end.
    """
    for one in processes:
        try:
            one.kill()
        except psutil.Error:
            continue
    if wait:
        psutil.wait_procs(processes, timeout=wait)


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still runs; one that has ended and waits for its parent does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def are_stopped(processes: Iterable[psutil.Process]) -> bool:
    """Whether one of them stands still, as after SIGSTOP."""
    for one in processes:
        try:
            if one.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP):
                return True
        except psutil.Error:
            continue
    return False


def used_by(processes: Iterable[psutil.Process]) -> tuple[float, bool]:
    """Return the processors' seconds of these and of what they had and has ended; and a state.

    The state is whether one of them computes or waits for a processor or a disk. Parents come
    first: what ends meanwhile is missed, and counted the next time, rather than counted twice.
    """
    seconds, is_running = 0.0, False
    for one in processes:
        try:
            with one.oneshot():
                times = one.cpu_times()
                is_running |= one.status() in (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP)
        except psutil.Error:
            continue
        seconds += times.user + times.system
        seconds += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return seconds, is_running


def count_tasks() -> int:
    """How many tasks the machine has, threads too; 0 where /proc does not tell."""
    try:
        with open("/proc/loadavg", encoding="ascii") as line:
            return int(line.read().split()[3].partition("/")[2])
    except (OSError, ValueError, IndexError):
        return 0


def count_inside(first: Iterable[psutil.Process]) -> int:
    """How many processes a sandbox has, by its own /proc; 0 where nobody can look.

    One read, where `descendants` has one for each process: a fork bomb leaves no time for those.
    """
    for one in first:
        try:
            return sum(name.isdigit() for name in os.listdir(f"/proc/{one.pid}/root/proc"))
        except OSError:
            continue
    return 0


def files_of(processes: Iterable[psutil.Process], places: Iterable[str]) -> int:
    """How many files there are in these places as a process sees them; 0 where none can look."""
    count = 0
    for one, place in itertools.product(processes, places):
        try:
            found = os.statvfs(f"/proc/{one.pid}/root{place}")
        except (OSError, AttributeError):
            continue
        count += found.f_files - found.f_ffree
    return count


def take_more_than(
    processes: Iterable[psutil.Process], most: int, go_on: Callable[[], bool]
) -> bool:
    """Whether the processes take more than `most` bytes of memory together.

    What each has of its own is looked up only where it matters, and as long as one shall `go_on`:
    that takes long, and very long while they fork.
    """
    known, whole = list(processes), 0
    for one in known:
        try:
            whole += one.memory_info().rss
        except psutil.Error:
            continue
    if whole <= most:
        return False
    whole = 0
    for one in known:
        whole += memory_of(one) if go_on() else 0
    return whole > most


def memory_of(process: psutil.Process) -> int:
    """The process's part of the memory in bytes.

    Pages that it shares with its forks count once in the sum over all of them.
    """
    try:
        with open(f"/proc/{process.pid}/smaps_rollup", encoding="ascii") as lines:
            return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration, ValueError):
        try:
            return process.memory_info().rss
        except psutil.Error:
            return 0
