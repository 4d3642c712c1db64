"""A figure that moves with sliders, keeps its alt text up to date and stores a picture."""

from __future__ import annotations

import base64
import html
import itertools
import math
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..validation import describe
from .display import check_alt, in_notebook, png_bytes

CACHED_PICTURES = 128


def _control(name: str, spec: Any):
    """Return the ipywidgets control that `spec` asks for (see `Explorer`)."""
    import ipywidgets as widgets

    options = {"description": name.replace("_", " "), "style": {"description_width": "initial"}}
    if isinstance(spec, widgets.ValueWidget):
        return spec
    if isinstance(spec, range) and len(spec):
        low, high = sorted((spec[0], spec[-1]))
        return widgets.IntSlider(value=spec[0], min=low, max=high, step=abs(spec.step), **options)
    if isinstance(spec, list) and spec:
        numbers = all(isinstance(value, Real) for value in spec)
        choice = widgets.SelectionSlider if numbers else widgets.Dropdown
        return choice(options=spec, value=spec[0], **options)
    if _is_range(spec):
        whole = all(isinstance(value, Integral) for value in spec)
        slider, spec = (
            (widgets.IntSlider, [int(value) for value in spec])
            if whole
            else (widgets.FloatSlider, [float(value) for value in spec])
        )
        step = {"step": spec[2]} if len(spec) == 3 else {}
        return slider(value=spec[0], min=spec[0], max=spec[1], **step, **options)
    raise ValueError(
        f"Explorer: control {name!r} must be (low, high), (low, high, step), a range, a list of"
        f" choices, or an ipywidgets control, got {describe(spec)}."
    )


def _is_range(spec: Any) -> bool:
    """Whether `spec` is (low, high) or (low, high, step) with numbers that a slider can go."""
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        return False
    if not all(isinstance(one, Real) and not isinstance(one, bool) for one in spec):
        return False
    rises = spec[0] < spec[1] and (len(spec) == 2 or spec[2] > 0)
    return rises and all(math.isfinite(one) for one in spec)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _allowed(control, value: Any) -> bool:
    """Whether `control` can take `value` without moving it elsewhere."""
    if hasattr(control, "options"):
        return value in [
            option[1] if isinstance(option, tuple) else option for option in control.options
        ]
    if hasattr(control, "min"):
        number = isinstance(value, Real) and not isinstance(value, bool)
        return number and control.min <= value <= control.max
    return True


def _every_value(control) -> list[Any]:
    """The values that `control` can take, in order."""
    if hasattr(control, "options"):
        return [option[1] if isinstance(option, tuple) else option for option in control.options]
    if isinstance(getattr(control, "step", None), int):
        return list(range(control.min, control.max + 1, control.step))
    kind = type(control).__name__
    raise ValueError(
        f"Explorer: the states of a {kind} cannot be drawn ahead; use a range or a list of choices."
    )


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
        self._controls = {name: _control(name, spec) for name, spec in controls.items()}
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
        states = list(itertools.product(*map(_every_value, self._controls.values())))
        if len(states) > CACHED_PICTURES:
            raise ValueError(
                f"Explorer: {len(states)} states cannot be drawn ahead, at most {CACHED_PICTURES}"
                " can; use coarser controls."
            )
        for state in states:
            self.set(**dict(zip(self._controls, state, strict=True)))
        self.set(**now)

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
            if not _allowed(self._controls[name], value):
                raise ValueError(f"Explorer: control {name!r} does not go there, got {value!r}.")
        self._hold = True
        try:
            for name, value in values.items():
                self._controls[name].value = _plain(value)
        finally:
            self._hold = False
        self._redraw()

    def _drawn(self) -> tuple[bytes, str]:
        values = self.values
        key = tuple(values.values())
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
