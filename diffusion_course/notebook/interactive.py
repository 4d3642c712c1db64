"""A figure that moves with sliders, keeps its alt text up to date and stores a picture."""

from __future__ import annotations

import base64
import html
import itertools
import math
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.figure import Figure

from ..validation import describe
from .controls import allowed, control_of, every_value, key_of, plain
from .display import check_alt, in_notebook, png_bytes

CACHED_PICTURES = 128


class Explorer:
    """A picture that depends on controls: `Explorer(draw, t=(0, 999, 10), schedule=["linear",
    "cosine"])`.

    `draw(**values)` returns `(Figure, alt text)`, or a Figure when `alt(**values)` gives the text.
    It must depend on its arguments alone, because drawn states are kept. A control is `(low,
    high)`, `(low, high, step)`, a range, a list of choices (numbers give a slider, words a
    drop-down list) or an ipywidgets control. It starts at its first value unless `start={"t": 100}`
    says otherwise. `ahead=True` draws every state now, for a `draw` that takes longer than a hand
    can wait; it needs controls with at most 128 states in all. Raises what `draw` raises for the
    first picture; later errors are shown in the picture's place and kept in `.error`.
    """

    def __init__(
        self,
        draw: Callable[..., Any],
        /,
        *,
        alt: Callable[..., str] | None = None,
        start: dict[str, Any] | None = None,
        ahead: bool = False,
        **controls: Any,
    ):
        import ipywidgets as widgets

        for name, one in (("draw", draw), ("alt", alt)):
            if not callable(one) and not (name == "alt" and one is None):
                raise TypeError(f"{name} must be a function of the controls, got {describe(one)}.")
        if not isinstance(ahead, bool):
            raise TypeError(f"ahead must be True or False, got {describe(ahead)}.")
        if start is not None and not isinstance(start, Mapping):
            raise TypeError(f"start must be a dictionary of values, got {describe(start)}.")
        if not controls:
            raise ValueError(
                "Explorer needs a control, for example Explorer(draw, t=(0, 999, 10))."
            )
        self._draw, self._describe = draw, alt
        self._kept: OrderedDict[tuple, tuple[bytes, str]] = OrderedDict()
        self._controls = {name: control_of(name, spec) for name, spec in controls.items()}
        self._status = widgets.HTML()
        self._picture = widgets.HTML()
        self._box = widgets.VBox([*self._controls.values(), self._status, self._picture])
        self.error: Exception | None = None
        self._hold = False
        self.set(**(start or {}))
        if self.error is not None:
            raise self.error
        if ahead:
            self._draw_ahead()
        for control in self._controls.values():
            control.observe(self._redraw, "value")

    def _draw_ahead(self) -> None:
        now = self.values
        each = [every_value(control) for control in self._controls.values()]
        if (count := math.prod(map(len, each))) > CACHED_PICTURES:
            raise ValueError(
                f"Explorer: {count} states cannot be drawn ahead, at most {CACHED_PICTURES}"
                " can; use coarser controls."
            )
        failed = None
        for state in itertools.product(*each):
            self.set(**dict(zip(self._controls, state, strict=True)))
            failed = failed or self.error
        self.set(**now)
        self.error = self.error or failed

    @property
    def values(self) -> dict[str, Any]:
        """The controls' present values."""
        return {name: control.value for name, control in self._controls.items()}

    def set(self, **values: Any) -> None:
        """Move controls and redraw once.

        Raises ValueError for an unknown control or a value that it cannot take.
        """
        for name, value in values.items():
            if name not in self._controls:
                raise ValueError(
                    f"Explorer has no control {name!r}; it has {', '.join(self._controls)}."
                )
            if not allowed(self._controls[name], value):
                raise ValueError(f"Explorer: control {name!r} does not go there, got {value!r}.")
        self._hold = True
        try:
            for name, value in values.items():
                self._controls[name].value = plain(value)
        finally:
            self._hold = False
        self._redraw()

    def _drawn(self) -> tuple[bytes, str]:
        values = self.values
        key = tuple(map(key_of, values.values()))
        if key not in self._kept:
            result = self._draw(**values)
            fig, alt = (result, self._describe(**values)) if self._describe else self._pair(result)
            if not isinstance(fig, Figure):
                got = describe(fig)
                raise TypeError(
                    f"Explorer: draw must return a Figure where alt= is given, got {got}."
                )
            self._kept[key] = png_bytes(fig), check_alt(alt)
            if len(self._kept) > CACHED_PICTURES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    @staticmethod
    def _pair(result: Any) -> tuple[Figure, str]:
        if isinstance(result, tuple) and len(result) == 2:
            return result
        raise TypeError(
            f"Explorer: draw must return (Figure, alt text), got {type(result).__name__}; "
            "or give alt= a function of the same values."
        )

    def _redraw(self, change: Any = None) -> None:
        if self._hold:
            return
        try:
            self.png, self.alt = self._drawn()
            self.error = None
            source = base64.b64encode(self.png).decode()
            picture = f'<img alt="{html.escape(self.alt)}" src="data:image/png;base64,{source}">'
        except (
            Exception
        ) as error:  # shown to the reader: a callback has no other place to report to
            self.png, self.error = None, error
            place = traceback.extract_tb(error.__traceback__)[-1]
            self.alt = " ".join(
                f"The picture could not be drawn. {type(error).__name__}: {error}".split()
            )
            picture = (
                f'<pre role="alert">{html.escape(self.alt)}\n(line {place.lineno},'
                f" {place.name})</pre>"
            )
        self._status.value = (
            f'<div role="status" aria-live="polite">{html.escape(self._state())}</div>'
        )
        self._picture.value = picture

    def _state(self) -> str:
        return ", ".join(
            f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in self.values.items()
        )

    def __repr__(self) -> str:
        return f"Explorer({self._state()}): {self.alt}"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, Any]:
        """Return stable text, a picture for readers without a kernel, and the live controls."""
        bundle: dict[str, Any] = {"text/plain": repr(self)}
        if self.png is not None:
            bundle["image/png"] = base64.b64encode(self.png).decode()
        if in_notebook():
            view = {"version_major": 2, "version_minor": 0, "model_id": self._box.model_id}
            bundle["application/vnd.jupyter.widget-view+json"] = view
        return bundle
