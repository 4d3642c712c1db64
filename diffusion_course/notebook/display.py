"""What a notebook cell shows: figures with alt text, and progress bars."""

from __future__ import annotations

import functools
import html
import io
import sys
import time
from collections.abc import Iterable, Iterator
from numbers import Integral, Real
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..validation import describe
from .look import CourseFigure


@functools.cache
def _formula_parser() -> Any:
    """One parser of formulas for all figures.

    Matplotlib makes one with every canvas, and what it parsed is lost with it.
    """
    return FigureCanvasAgg(Figure()).get_renderer().mathtext_parser


def png_bytes(fig: Figure) -> bytes:
    """Return `fig` as PNG, without date and version: one figure, one row of bytes."""
    if not isinstance(fig, Figure):
        raise TypeError(
            f"fig must be a Figure, as plotting functions return, got {type(fig).__name__}."
        )
    canvas = fig.canvas if isinstance(fig.canvas, FigureCanvasAgg) else FigureCanvasAgg(fig)
    if isinstance(fig, CourseFigure):  # its settings of formulas are always the same
        canvas.get_renderer().mathtext_parser = _formula_parser()
    buffer = io.BytesIO()
    with matplotlib.rc_context(_as_it_is()):
        fig.savefig(buffer, format="png", dpi=fig.dpi, metadata={"Software": None})
    return buffer.getvalue()


def _as_it_is() -> dict[str, Any]:
    """Return matplotlib's own settings of saving: nothing cut off, the figure's own ground."""
    defaults = matplotlib.rcParamsDefault
    names = [name for name in defaults if name.startswith("savefig.")]
    return {name: defaults[name] for name in names if name != "savefig.directory"}


def check_alt(alt: str) -> str:
    """Return `alt` on one line; raise when there is no text that says what the picture shows."""
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(
            f"alt text is missing, got {alt!r}; say in a sentence what the picture shows, for"
            " readers who cannot see it."
        )
    return " ".join(alt.split())


def in_notebook() -> bool:
    """Return True inside a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    return getattr(ipython and ipython.get_ipython(), "kernel", None) is not None


def publish(bundle: dict[str, Any], **options: Any) -> Any:
    """Show a mimebundle in a notebook; elsewhere print its text."""
    if not in_notebook():
        print(bundle["text/plain"])
        return None
    from IPython.display import display

    return display(bundle, raw=True, **options)


def show(fig: Figure, alt: str = "") -> None:
    """Show `fig` with `alt`, the sentence that says what is seen.

    Raises ValueError when `alt` is empty.
    """
    alt = check_alt(alt)
    publish({"image/png": png_bytes(fig), "text/plain": f"[figure] {alt}"})


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _items(total: Any) -> Iterable | None:
    """Return what can be gone through, None for a number.

    A data set of torch has numbered items and a length, and no end of its own.
    """
    if isinstance(total, Iterable):
        return total
    numbered = hasattr(total, "__getitem__") and hasattr(total, "__len__")
    if isinstance(total, type) or not numbered or _length(total) is None:
        return None
    return (total[i] for i in range(len(total)))


def _length(items: Any) -> int | None:
    """Return how many there are, None where that is not known, as with a stream of data."""
    try:
        return len(items)
    except (TypeError, NotImplementedError):
        return None


class Progress:
    """A progress bar whose stored text never changes, so that a notebook with one can be compared.

    Iterate it, `for item in Progress(items, "sampling")`, or use it as a context with a number of
    steps, `with Progress(300, "training") as progress: ... progress.update(message="loss 0.12")`.
    In a notebook it redraws `text/html` under constant `text/plain`; elsewhere tqdm writes to
    stderr. Raises ValueError for a negative number of steps, TypeError for neither a number nor an
    iterable.
    """

    def __init__(
        self, total: int | Iterable, label: str = "progress", *, unit: str = "step", interval=0.2
    ):
        for name, text in (("label", label), ("unit", unit)):
            if not isinstance(text, str):
                raise TypeError(f"{name} must be a string, got {describe(text)}.")
        if isinstance(interval, bool) or not isinstance(interval, Real) or not interval >= 0:
            raise ValueError(
                f"interval must be a number of seconds >= 0, got {describe(interval)}."
            )
        point = getattr(total, "ndim", 1) == 0 and not isinstance(total, Integral)
        if isinstance(total, (str, bytes)) or point:
            raise TypeError(f"total must be a number of steps or a list, got {describe(total)}.")
        self.items = _items(total)
        if self.items is not None:
            total = _length(total)
        elif isinstance(total, bool) or not isinstance(total, Integral):
            wanted = "total must be a number of steps or an iterable"
            raise TypeError(f"Progress: {wanted}, got {describe(total)}.")
        else:
            total = int(total)
        if total is not None and total < 0:
            raise ValueError(f"Progress: total must be a number of steps >= 0, got {total}.")
        self.total, self.label, self.unit, self.interval = total, label, unit, interval
        self.done, self.message, self.state = 0, "", "running"
        self._handle = self._bar = None
        self._open = False

    @property
    def text(self) -> str:
        """The stored text: label and number of steps, nothing that varies from run to run."""
        return f"[progress] {self.label}" + (
            "" if self.total is None else f": {self.total} {self.unit}s"
        )

    def _html(self) -> str:
        seconds = time.perf_counter() - self._start
        rate = self.done / seconds if seconds > 0 else 0.0
        count = f"{self.done}" + ("" if self.total is None else f" of {self.total}")
        facts = [f"{count} {self.unit}s", f"{rate:.3g} per s"]
        if self.state != "running":
            facts.append(f"{self.state} after {_duration(seconds)}")
        elif rate and self.total:
            facts.append(f"about {_duration((self.total - self.done) / rate)} left")
        text = html.escape(" · ".join(facts + ([self.message] if self.message else [])))
        size = f'max="{max(self.total, 1)}" value="{self.done}"' if self.total is not None else ""
        label = html.escape(self.label, quote=True)
        return (
            f'<div>{label} <progress aria-label="{label}" {size}></progress>'
            f" <span>{text}</span></div>"
        )

    def _draw(self) -> None:
        self._drawn = time.perf_counter()
        bundle = {"text/plain": self.text, "text/html": self._html()}
        if self._handle is None:
            self._handle = publish(bundle, display_id=True)
        else:
            self._handle.update(bundle, raw=True)

    def __enter__(self) -> Progress:
        self._start, self._open = time.perf_counter(), True
        if in_notebook():
            self._draw()
        else:
            from tqdm import tqdm

            self._bar = tqdm(total=self.total, desc=self.label, unit=self.unit)
        return self

    def update(self, steps: int = 1, message: str | None = None) -> None:
        """Count `steps` more as done; `message` replaces the text at the end of the line."""
        if isinstance(steps, bool) or not isinstance(steps, Integral) or steps < 0:
            raise TypeError(f"steps must be a whole number >= 0, got {describe(steps)}.")
        if not (message is None or isinstance(message, str)):
            raise TypeError(f"message must be a string or None, got {describe(message)}.")
        if not self._open:
            raise RuntimeError(
                f"{self.label}: update() counts inside the context only: with Progress(...) as"
                " progress: ... progress.update()."
            )
        self.done += int(steps)
        self.message = self.message if message is None else message
        if self._bar is not None:
            self._bar.set_postfix_str(self.message, refresh=False)
            self._bar.update(steps)
        elif time.perf_counter() - self._drawn >= self.interval:
            self._draw()

    def __exit__(self, kind, value, traceback) -> None:
        self._open, self.state = False, "done" if kind is None else "stopped"
        if self._bar is not None:
            self._bar.close()
        else:
            self._draw()

    def __iter__(self) -> Iterator:
        if self.items is None:
            self.items = range(self.total)
        with self:
            for item in self.items:
                yield item
                self.update()
