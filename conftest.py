"""Shared by the unit tests and nbval: the notebook comparison, and the skip of tests that need a
real GPU.
"""

import math
import os
import re

import pytest

os.environ["DIFFUSION_COURSE_PROGRESS"] = (
    "off"  # neither tests nor notebooks touch the reader's own progress
)

# Not compared by nbval: what is unstable or drawn from the same data as the text/plain beside it.
SKIP_COMPARE = (
    "stderr",
    "text/html",
    "image/svg+xml",
    "image/gif",
    "image/webp",
    "application/javascript",
)
DECIMAL = re.compile(r"([-+]?\d+\.\d*(?:[eE][-+]?\d+)?|[-+]?\d+[eE][-+]?\d+)")
RELATIVE_TOLERANCE = 1e-3
SMALLEST = 1e-9  # below this a printed decimal is rounding noise


def close(a: str, b: str) -> bool:
    """Whether two printed decimals agree: to 1e-3, or to one unit of the last place where three or
    more are printed.
    """
    x, y = float(a), float(b)
    places = len(re.split("[eE]", a.partition(".")[2])[0])
    unit = 1.01 * 10.0**-places if places >= 3 and "e" not in (a + b).lower() else 0.0
    return math.isclose(x, y, rel_tol=RELATIVE_TOLERANCE, abs_tol=max(unit, SMALLEST))


class About(str):
    """A printed output that compares equal to one whose decimals are close; integers and words
    compare exactly.
    """

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, str):
            return NotImplemented
        mine, theirs = DECIMAL.split(str(self)), DECIMAL.split(str(other))
        if len(mine) != len(theirs) or mine[::2] != theirs[::2]:
            return False
        return all(a == b or close(a, b) for a, b in zip(mine[1::2], theirs[1::2], strict=True))

    def __ne__(self, other: object) -> bool:
        return not self == other


def pytest_configure(config: pytest.Config) -> None:
    """Let nbval compare sanitized outputs through About."""
    from nbval.plugin import IPyNbCell

    plain = IPyNbCell.sanitize

    def sanitize(self: IPyNbCell, value: object) -> object:
        value = plain(self, value)
        return About(value) if isinstance(value, str) else value

    if not getattr(plain, "compares_about", False):
        sanitize.compares_about = True
        IPyNbCell.sanitize = sanitize


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Extend nbval's list of outputs that are run but not compared."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += SKIP_COMPARE


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` where there is none, and say so."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU, this machine has none"))
