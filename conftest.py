"""Shared by the unit tests and nbval: the notebook comparison, the skip of tests that need a real
GPU, and of what belongs to another part than the one that is run.
"""

import math
import os
import re
from pathlib import Path

import pytest

from tools.parts import ALL, costs, lessons_of, parse

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


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `--part 2/6` choose what is run of that which takes long."""
    text = "of what takes long run this part only, such as 2/6 (tools/parts.py)"
    parser.addoption("--part", default=ALL, metavar="K/N", help=text)


def is_costly(cell: dict) -> bool:
    """Whether a lesson's cell trains or times something: its output is then not compared."""
    return "nbval-ignore-output" in cell.get("metadata", {}).get("tags", ())


def beginning(cells: list[dict]) -> int:
    """How many code cells of a lesson are run in the parts that do not run it whole: the first
    third, and from there on up to the first one that trains or times something.

    A lesson's first third is definitions, predictions and the smallest case by hand, so it is
    cheap; what comes after a training needs what was trained. A lesson that trains nothing after
    its first third is always run whole.
    """
    third = -(-len(cells) // 3)
    return next((at for at in range(third, len(cells)) if is_costly(cells[at])), len(cells))


def in_other_parts(items: list[pytest.Item], part: str) -> list[pytest.Item]:
    """What a run of one part skips.

    Tests marked `in_parts` are counted through and dealt to the parts in turn, so that each part
    has some of every function. Each lesson is run whole in one part, its `beginning` in all.
    """
    number, parts = parse(part)
    dealt = [item for item in items if item.get_closest_marker("in_parts")]
    skipped = [item for index, item in enumerate(dealt) if index % parts != number - 1]
    lessons: dict[Path, list[pytest.Item]] = {}
    for item in items:
        if hasattr(item, "cell_num"):
            lessons.setdefault(item.path, []).append(item)
    whole = lessons_of(part, [path.stem for path in lessons], costs())
    for path, cells in lessons.items():
        if path.stem not in whole:
            skipped += cells[beginning([item.cell for item in cells]) :]
    return skipped


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what belongs to another part, and tests marked `gpu` where there is none; say so."""
    part = config.getoption("part")
    for item in in_other_parts(items, part):
        item.add_marker(pytest.mark.skip(reason=f"not in part {part}; make test-all runs it"))
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU, this machine has none"))
