"""The course's look, whatever a reader has set: figures that keep their own settings."""

from __future__ import annotations

import functools
import inspect
import threading
from contextlib import ContextDecorator
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe & Ito's colour-blind safe palette with grey for its yellow, which is too pale on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#777777")
STYLE = {
    "axes.prop_cycle": matplotlib.cycler(color=COLORS),
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same pixels on every machine
    "font.size": 10,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "image.cmap": "viridis",
    "image.interpolation": "nearest",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}
# Of the session, not of a picture: these stay the reader's.
SESSION = (
    "backend backend_fallback date.epoch docstring.hardcopy figure.max_open_warning"
    " figure.raise_window interactive savefig.directory timezone toolbar tk.window_focus"
).split()


@functools.cache
def _settings() -> dict[str, Any]:
    """Return matplotlib's defaults, as it ships them, with the course's style."""
    defaults = matplotlib.rcParamsDefault
    kept = [name for name in defaults if name not in SESSION and not name.startswith("webagg.")]
    return {name: defaults[name] for name in kept} | STYLE


class course_style(ContextDecorator):  # noqa: N801 (used as a function is)
    """A context, also a decorator, in which matplotlib draws in the course's style.

    Inside are matplotlib's defaults and `STYLE`, whatever a reader has set; afterwards the reader's
    settings are there again. Contexts in one another cost nothing, also in several threads.
    """

    _lock, _inside, _outer, _here = threading.RLock(), 0, None, threading.local()

    def __enter__(self) -> None:
        course_style._here.depth = self.depth() + 1
        with course_style._lock:
            if course_style._inside == 0:
                course_style._outer = matplotlib.rc_context(_settings())
                course_style._outer.__enter__()
            course_style._inside += 1

    def __exit__(self, *error: object) -> None:
        course_style._here.depth -= 1
        with course_style._lock:
            course_style._inside -= 1
            if course_style._inside == 0:
                course_style._outer.__exit__(None, None, None)

    @classmethod
    def depth(cls) -> int:
        """How many of these contexts this thread is in."""
        return getattr(cls._here, "depth", 0)


def _always_in_style(cls: type) -> type:
    """Let each public method of a class run in the course's style."""

    def styled(method: Any) -> Any:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            if course_style.depth():
                return method(*args, **kwargs)
            with course_style():
                return method(*args, **kwargs)

        return call

    itself = {"set", "get_data_ratio"}  # matplotlib looks at these functions, not only calls them
    for name in dir(cls):
        method = inspect.getattr_static(cls, name)
        if inspect.isfunction(method) and not name.startswith("_") and name not in itself:
            setattr(cls, name, styled(method))
    return cls


@_always_in_style
class CourseAxes(Axes):
    """Axes that draw in the course's style, also when a reader calls `ax.plot(...)`."""


@_always_in_style
class CourseFigure(Figure):
    """A Figure that is made, filled and saved in the course's style."""

    def add_subplot(self, *args: Any, **kwargs: Any) -> Any:
        """Add axes as Figure.add_subplot does, of the course's kind."""
        return super().add_subplot(*args, **self._of_the_course(args, kwargs))

    def add_axes(self, *args: Any, **kwargs: Any) -> Any:
        """Add axes as Figure.add_axes does, of the course's kind."""
        return super().add_axes(*args, **self._of_the_course(args, kwargs))

    @staticmethod
    def _of_the_course(args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
        others = {"projection", "polar", "axes_class"} & kwargs.keys()
        made = bool(args) and isinstance(args[0], Axes)
        return kwargs if others or made else kwargs | {"axes_class": CourseAxes}
