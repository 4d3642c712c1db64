"""A wrong answer as an edit of the right one: which text is replaced, and by what."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch


@dataclasses.dataclass(frozen=True)
class Edit:
    """Replacements in the text of a solution, made one after the other."""

    changes: tuple[tuple[str, str, int], ...] = ()

    def then(self, old: str, new: str, *, times: int = 1) -> Edit:
        """Return this edit with one more replacement after the others."""
        return Edit((*self.changes, (old, new, times)))

    def apply(self, source: str) -> str:
        """Return the edited text. Raises ValueError where `old` is not there as often as it should
        be, or where the replacement changes nothing.
        """
        for old, new, times in self.changes:
            if source.count(old) != times:
                expected = "once" if times == 1 else f"{times} times"
                raise ValueError(
                    f"{old!r} stands {source.count(old)} times in the solution, not {expected}"
                )
            if old == new:
                raise ValueError(f"{old!r} is replaced by itself")
            source = source.replace(old, new)
        return source


def edit(old: str, new: str, *, times: int = 1) -> Edit:
    """Return the edit of a solution that puts `new` where `old` stands, in `times` places.

    `edit(a, b).then(c, d)` makes two replacements.
    """
    return Edit().then(old, new, times=times)


@functools.cache
def compiled(source: str, name: str, title: str) -> Callable[..., Any]:
    """Return the function `name` of `source`, which needs torch alone; tracebacks show `title`."""
    scope: dict[str, Any] = {"torch": torch}
    exec(compile(source, f"<{title}>", "exec"), scope)
    return scope[name]
