"""A time limit for code that may never come back."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

VARIABLE = "DIFFUSION_COURSE_TIME_LIMIT"
SECONDS = 60.0
_AGAIN = 1.0  # seconds after which it is tried again: an `except:` may have caught it


class TimeLimit(BaseException):
    """The time is over. It is no Exception, so that `except Exception` does not catch it."""


def chosen_limit(seconds: float | None) -> float:
    """Return the limit in seconds: the one given, else the environment's, else SECONDS.

    DIFFUSION_COURSE_TIME_LIMIT is a number of seconds, or "off". Raises ValueError for what is no
    positive number.
    """
    name = "time_limit"
    if seconds is None:
        text = os.environ.get(VARIABLE, "").strip()
        if text.lower() == "off":
            return math.inf
        name, seconds = (VARIABLE, text) if text else (name, SECONDS)
    try:
        value = math.nan if isinstance(seconds, bool) else float(seconds)
    except (TypeError, ValueError):
        value = math.nan
    if not value > 0:
        raise ValueError(
            f"{name} is a positive number of seconds (math.inf: no limit), got {seconds!r}."
        )
    return value


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise TimeLimit in the body when the time is over; math.inf sets no limit.

    In a program's main thread the alarm clock does it; in another thread, or where there is none, a
    thread that watches. Code that is inside one long call of a library ends when that returns.
    """
    if not math.isfinite(seconds):
        yield
    elif hasattr(signal, "setitimer") and (threading.current_thread() is threading.main_thread()):
        with _alarm(seconds):
            yield
    else:
        with _watched(seconds):
            yield


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: Any) -> None:
        raise TimeLimit

    left, handler = signal.getitimer(signal.ITIMER_REAL), signal.getsignal(signal.SIGALRM)
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler if handler is not None else signal.SIG_DFL)
        if left[0]:  # another clock was running: it goes on, a little late
            signal.setitimer(signal.ITIMER_REAL, *left)


@contextlib.contextmanager
def _watched(seconds: float) -> Iterator[None]:
    number, over, lock = threading.get_ident(), threading.Event(), threading.Lock()
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc

    def watch() -> None:
        pause = seconds
        while not over.wait(pause):
            with lock:
                if not over.is_set():
                    raise_in(ctypes.c_ulong(number), ctypes.py_object(TimeLimit))
            pause = _AGAIN

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        with lock:
            over.set()
            raise_in(ctypes.c_ulong(number), None)  # one that is on its way
        watcher.join()
