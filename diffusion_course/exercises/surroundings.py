"""What an answer may switch in the process that runs it, saved before a call and put back after.

Gradients, default dtype and device, threads, number formats, the working folder, random states and
more: an answer that leaves one of them changed must not decide over what is called next. Inside,
everything that decides about numbers has its default, whatever the reader has switched before.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

_AS_IT_IS = object()
_TINY = float("2e-310")


class _Switch(NamedTuple):
    """How to read a setting, how to set it, and what it is while an answer is called."""

    get: Callable[[], Any]
    put: Callable[[Any], Any]
    default: Any = _AS_IT_IS


def _attribute(owner: Any, name: str) -> _Switch:
    return _Switch(lambda: getattr(owner, name), lambda value: setattr(owner, name, value))


def _autocast(device: str) -> _Switch:
    return _Switch(
        lambda: torch.is_autocast_enabled(device),
        lambda value: torch.set_autocast_enabled(device, value),
        False,
    )


def _anomaly() -> tuple[bool, bool]:
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


def _device() -> Any:
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return context and context.device


def _flushes() -> bool:
    """True where numbers too small for the full precision become 0: torch sets it, none reads."""
    return _TINY * 0.5 == 0.0


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


def _enter(folder: str | None) -> None:
    if folder is not None:
        os.chdir(folder)


def _environment() -> dict[Any, Any]:
    """The environment as Python keeps it: to decode it takes longer than all the rest."""
    return dict(getattr(os.environ, "_data", os.environ))


def _set_environment(values: dict[Any, Any]) -> None:
    inside = _environment()
    text = os.environ.decodekey, os.environ.decodevalue
    for name in inside.keys() - values.keys():
        del os.environ[text[0](name)]
    for name, value in values.items():
        if inside.get(name) != value:
            os.environ[text[0](name)] = text[1](value)


def _set_filters(values: list[Any]) -> None:
    warnings.resetwarnings()  # which also tells the warnings that their filters are others
    warnings.filters[:] = values


def _set_path(values: list[str]) -> None:
    sys.path[:] = values


_PRINTED = torch._tensor_str.PRINT_OPTS
_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
_SWITCHES = (
    _Switch(_device, torch.set_default_device, None),
    _Switch(torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    _Switch(torch.is_grad_enabled, torch.set_grad_enabled, True),
    _Switch(_anomaly, lambda value: torch.set_anomaly_enabled(*value), (False, True)),
    *map(_autocast, ("cpu", "cuda")),
    _Switch(np.geterr, lambda value: np.seterr(**value), _ERRORS),
    _Switch(np.geterrcall, np.seterrcall),
    _Switch(torch.get_num_threads, torch.set_num_threads),
    _Switch(torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    _attribute(torch.utils.deterministic, "fill_uninitialized_memory"),
    _Switch(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    *(
        _attribute(torch.backends.cudnn, name)
        for name in ("enabled", "benchmark", "deterministic", "allow_tf32")
    ),
    *(
        _attribute(torch.backends.cuda.matmul, name)
        for name in (
            "allow_tf32",
            "allow_fp16_reduced_precision_reduction",
            "allow_bf16_reduced_precision_reduction",
        )
    ),
    _Switch(_flushes, torch.set_flush_denormal, False),
    _Switch(lambda: dict(vars(_PRINTED)), lambda value: vars(_PRINTED).update(value)),
    _Switch(np.get_printoptions, lambda value: np.set_printoptions(**value)),
    _Switch(lambda: list(warnings.filters), _set_filters),
    _attribute(warnings, "showwarning"),
    _Switch(_folder, _enter),
    _Switch(_environment, _set_environment),
    _Switch(lambda: list(sys.path), _set_path),
    _Switch(sys.getrecursionlimit, sys.setrecursionlimit),
    *(_attribute(sys, name) for name in ("stdin", "stdout", "stderr", "excepthook")),
    _Switch(sys.gettrace, sys.settrace),
    _Switch(sys.getprofile, sys.setprofile),
    _Switch(gc.isenabled, lambda value: gc.enable() if value else gc.disable()),
)


def random_states() -> tuple[Any, ...]:
    """Return the states of all generators that a function may draw from without being given one."""
    graphics = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    return torch.get_rng_state(), np.random.get_state(), random.getstate(), graphics


def _set_random_states(states: tuple[Any, ...]) -> None:
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])
    if states[3] is not None:
        torch.cuda.set_rng_state_all(states[3])


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Run the body with the defaults, and leave the process as it was.

    It may stand inside itself. What belongs to a thread is kept for this thread.
    """
    with torch.inference_mode(False), _alarms(), contextlib.ExitStack() as stack:
        states = random_states()
        before = [_read(switch) for switch in _SWITCHES]
        try:
            for switch, value in zip(_SWITCHES, before, strict=True):
                if switch.default is not _AS_IT_IS and value != switch.default:
                    switch.put(switch.default)
            if torch.get_default_device().type != "cpu":  # inside `with torch.device(...)`
                stack.enter_context(torch.device("cpu"))
            yield
        finally:
            stack.close()
            for switch, value in zip(_SWITCHES, before, strict=True):
                if _read(switch) != value:
                    with contextlib.suppress(RuntimeError):  # flags that torch has frozen
                        switch.put(value)
            _set_random_states(states)


def _read(switch: _Switch) -> Any:
    try:
        return switch.get()
    except RuntimeError:  # torch refuses to read a precision that was set in two ways
        return None


@contextlib.contextmanager
def _alarms() -> Iterator[None]:
    """Keep the handlers of Ctrl-C and of the alarm clock, and the clock itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kinds = [signal.SIGINT, *([signal.SIGALRM] if hasattr(signal, "SIGALRM") else [])]
    handlers = {kind: signal.getsignal(kind) for kind in kinds}
    left = signal.getitimer(signal.ITIMER_REAL) if len(kinds) == 2 else (0.0, 0.0)
    start = time.monotonic()
    try:
        yield
    finally:
        for kind, handler in handlers.items():
            if handler is not None and signal.getsignal(kind) is not handler:
                signal.signal(kind, handler)
        if len(kinds) == 2:
            _wind_up(left, time.monotonic() - start)


def _wind_up(left: tuple[float, float], passed: float) -> None:
    """Set the alarm clock as if nobody had touched it for `passed` seconds."""
    now = signal.getitimer(signal.ITIMER_REAL)
    wanted = max(left[0] - passed, 1e-3) if left[0] else 0.0
    if abs(now[0] - wanted) > 0.5 or bool(now[0]) != bool(wanted) or now[1] != left[1]:
        signal.setitimer(signal.ITIMER_REAL, wanted, left[1])
