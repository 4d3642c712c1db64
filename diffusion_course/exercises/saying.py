"""Say a verdict: in a notebook with an icon, elsewhere as plain text."""

from __future__ import annotations

import html
import sys
from typing import Any

from .result import Result

# Words and icon tell right from wrong; the colour of the edge, readable on white and on black, only
# helps.
_LOOKS = {"right": ("\u2713", "Right", "#2e8b57"), "wrong": ("\u2717", "Not right yet", "#c8601a")}


def say(result: Result, *, show: bool = False) -> None:
    """Print the verdict and its detail, and with `show` the inputs of the case that failed."""
    text = "\n".join(filter(None, (result.message, result.detail, show and shown_inputs(result))))
    # That an answer is still open needs no look of its own: it stands in every fresh lesson.
    if result.status in _LOOKS and "ipykernel" in sys.modules:
        from ..notebook.display import publish

        publish({"text/plain": text, "text/html": as_html(result.status, text)})
    else:
        print(text)


def as_html(status: str, text: str) -> str:
    """Return the verdict as a box with an icon and a word; the text in it is the same."""
    icon, word, color = _LOOKS[status]
    return (
        f'<div style="border-left: 4px solid {color}; padding-left: 0.7em">'
        f'<strong><span aria-hidden="true">{icon}</span> {word}</strong>'
        f'<pre style="margin: 0; white-space: pre-wrap">{html.escape(text)}</pre></div>'
    )


def shown_inputs(result: Result) -> str:
    """Return the inputs of the case that failed, one after the other, long tensors shortened."""
    lines = [f"{name} = {_shown(value)}" for name, value in result.inputs.items()]
    return "\n".join([f"The inputs{_of(result)}:", *lines]) if lines else ""


def _of(result: Result) -> str:
    return f" of case {result.case!r}" if result.case else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 2000 else f"{text[:2000]}..."
