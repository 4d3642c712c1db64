"""A time limit for code that may never come back."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

from .traces import is_own

VARIABLE = "DIFFUSION_COURSE_TIME_LIMIT"
SECONDS = 60.0
_AGAIN = 0.05  # seconds after which it is tried again: an `except:` may have caught it
_GRACE = 0.5  # seconds that the alarm clock has before the watching thread helps
_MANY = 60  # tries after which a word is said
_WORD = (
    "\nThis code catches every interruption, so that the check cannot stop it: interrupt or restart"
    " the kernel. A bare `except:` catches too much; name the exception that you expect.\n"
)


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
        none = '"off"' if name == VARIABLE else "math.inf"
        raise ValueError(
            f"{name} is a positive number of seconds ({none}: no limit), got {seconds!r}."
        )
    return value


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise TimeLimit in the body when the time is over; math.inf sets no limit.

    In a program's main thread the alarm clock does it, and a thread that watches where the code has
    stopped the clock; in another thread, or where there is no clock, that thread alone. Code that
    is inside one long call of a library ends when that returns. Code that catches the interruption
    gets it again, on the next line that it comes to.
    """
    if not math.isfinite(seconds):
        yield
        return
    alarm = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    limit, trace = _Limit(), sys.gettrace()
    try:
        with _unreported(), _alarm(limit, seconds) if alarm else contextlib.nullcontext():
            with _watched(limit, seconds + _GRACE if alarm else seconds):
                yield
    finally:
        limit.over = True
        if sys.gettrace() == limit.trace:
            sys.settrace(trace)


@contextlib.contextmanager
def _unreported() -> Iterator[None]:
    """Keep Python from telling of a TimeLimit that came inside a finaliser.

    Python drops every exception there; the limit comes back on the next line.
    """
    hook = sys.unraisablehook

    def told(lost: Any) -> None:
        if not issubclass(lost.exc_type, TimeLimit):
            hook(lost)

    sys.unraisablehook = told
    try:
        yield
    finally:
        if sys.unraisablehook is told:
            sys.unraisablehook = hook


class _Limit:
    """One time limit: its own exception, which comes back where it was caught."""

    def __init__(self) -> None:
        self.over, self.tries, self.wait = False, 0, 0
        self.home, self.thread = _caller(), threading.get_ident()
        self.stderr = sys.stderr
        lost = self.lost
        self.kind = type("TimeLimit", (TimeLimit,), {"__del__": lambda error: lost()})

    def lost(self) -> None:
        """The exception was caught and is gone: raise it on the line that comes next."""
        if not self.over and threading.get_ident() == self.thread:
            self.arm(0)

    def again(self) -> None:
        """Count a try; the later ones also raise where an `except` has caught and kept them."""
        self.tries += 1
        if self.tries > 1:
            self.arm(self.tries % 8)
        if self.tries == _MANY:
            with contextlib.suppress(Exception):
                self.stderr.write(_WORD)

    def arm(self, wait: int) -> None:
        """Raise on the line after the next `wait` ones of the learner's own code."""
        frames = list(_above(self.home))
        if frames:
            self.wait = wait
            for frame in frames:
                frame.f_trace = self.trace
            sys.settrace(self.trace)

    def trace(self, frame: Any, event: str, value: Any) -> Callable[..., Any] | None:
        if self.over or not is_own(frame.f_code):
            return None
        if event == "line":
            self.wait -= 1
            if self.wait < 0:
                raise self.kind
        return self.trace


def _caller() -> types.FrameType:
    """The frame of the `with` statement."""
    frame = sys._getframe()
    while frame.f_code.co_filename in (__file__, contextlib.__file__):
        frame = frame.f_back
    return frame


def _above(home: types.FrameType) -> Iterator[types.FrameType]:
    """Yield the frames of the learner's own code that `home` has called, the innermost first."""
    frame = sys._getframe()
    while frame is not None and frame is not home:
        if is_own(frame.f_code):
            yield frame
        frame = frame.f_back


@contextlib.contextmanager
def _alarm(limit: _Limit, seconds: float) -> Iterator[None]:
    def ring(number: int, frame: Any) -> None:
        limit.again()
        raise limit.kind

    left, handler = signal.getitimer(signal.ITIMER_REAL), signal.getsignal(signal.SIGALRM)
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        limit.over = True
        signal.signal(signal.SIGALRM, handler if handler is not None else signal.SIG_DFL)
        if left[0]:  # another clock was running: it goes on, a little late
            signal.setitimer(signal.ITIMER_REAL, *left)


@contextlib.contextmanager
def _watched(limit: _Limit, seconds: float) -> Iterator[None]:
    over, lock = threading.Event(), threading.Lock()
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc

    def watch() -> None:
        pause = seconds
        while not over.wait(pause):
            with lock:
                if not over.is_set():
                    raise_in(ctypes.c_ulong(limit.thread), ctypes.py_object(limit.kind))
            pause = _AGAIN

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        limit.over = True
        _stop(over, lock, limit.kind)
        watcher.join()


def _stop(over: threading.Event, lock: threading.Lock, kind: type[TimeLimit]) -> None:
    """Set `over`, and take the exception that may be on its way.

    It must come: where it is called back instead, Python 3.11 waits for it for ever, and the next
    traced call (a debugger's, say) does not return.
    """
    while True:
        try:
            with lock:
                over.set()
            for _ in range(2):  # a place where it comes
                pass
            return
        except kind:
            continue
