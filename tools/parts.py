"""What takes long is run in parts: which one a commit runs, and what belongs to it.

`make test` and `make test-ui` run one part of PARTS, by the commit's hash, so that a series of
commits runs everything. `COURSE_PART=2/6 make test` chooses another one; `COURSE_PART=1/1` and
`make test-all` run all. In parts are

- tests marked `in_parts`: every PARTS-th of a function's parameters,
- lessons under nbval: a part's own are run whole, of the others the `beginning` (conftest.py),
- lessons in JupyterLab.

pytest itself knows the part by `--part`, and runs everything without it.
"""

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = 6
ALL = "1/1"
CARD = ROOT / "notebooks" / "cost.json"


def of_commit(parts: int = PARTS, root: Path = ROOT) -> str:
    """The part of the checked-out commit, such as "3/4"; the first where there is no git."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True
        ).stdout.strip()
    except OSError:
        found = ""
    return f"{int(found[:8] or '0', 16) % parts + 1}/{parts}"


def chosen(environ: Mapping[str, str] = os.environ) -> str:
    """The part that COURSE_PART names, else the commit's."""
    part = environ.get("COURSE_PART") or of_commit()
    parse(part)
    return part


def parse(part: str) -> tuple[int, int]:
    """(2, 6) of "2/6"; raises ValueError for what is no part."""
    number, slash, parts = part.partition("/")
    if not (slash and number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts)):
        raise ValueError(f"{part!r} is no part: write the part and how many there are, such as 2/6")
    return int(number), int(parts)


def costs() -> dict[str, float]:
    """Measured minutes of each lesson, from the cost card."""
    return {
        name: cost["minutes"]
        for name, cost in json.loads(CARD.read_text(encoding="utf-8"))["lessons"].items()
    }


def lessons_of(part: str, names: Iterable[str], minutes: Mapping[str, float]) -> list[str]:
    """The lessons of a part: the costliest first, each to the part that has least so far.

    One that was not measured yet counts as a minute.
    """
    number, parts = parse(part)
    shares: list[list[str]] = [[] for _ in range(parts)]
    for name in sorted(sorted(names), key=lambda name: -minutes.get(name, 1.0)):
        min(shares, key=lambda share: sum(minutes.get(one, 1.0) for one in share)).append(name)
    return sorted(shares[number - 1])
