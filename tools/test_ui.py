"""What `make test-ui` runs: the book is built, then book and lessons are tried in a browser.

`python -m tools.test_ui [--all | pytest flags]`: every page, and in JupyterLab one part of the
lessons (tools/parts.py); with `--all` every lesson.
"""

import json
import os
import subprocess
import sys
from collections import Counter

from tools import book
from tools.parts import ALL, chosen
from tools.test import ROOT, WORKERS

ARTEFACTS = ROOT / "build" / "ui"


def commands(flags: list[str]) -> list[list[str]]:
    """The pytest calls: pages two at a time, lessons one by one since their latencies are measured;
    given a path, only that.
    """
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    if any(flag.startswith("tests_ui") for flag in flags):
        return [[*pytest, *flags]]
    return [
        [*pytest, "-n", str(WORKERS), "tests_ui/test_book.py", *flags],
        [*pytest, "tests_ui/test_lab.py", *flags],
    ]


def axe_by_rule() -> Counter[str]:
    """How many places axe-core names, by impact and rule, over all pages in light and dark."""
    found: Counter[str] = Counter()
    for path in ARTEFACTS.glob("axe-*.json"):
        for rule, pages in json.loads(path.read_text(encoding="utf-8")).items():
            found[rule] += sum(pages.values())
    return found


def main(flags: list[str]) -> int:
    """Build the book unless only lessons are tried, then run the tests; the exit code is the first
    that is not zero.
    """
    try:
        part = ALL if flags == ["--all"] else chosen()
    except ValueError as error:
        print(f"COURSE_PART: {error}", file=sys.stderr)
        return 2
    flags = [] if flags == ["--all"] else flags
    if not any("test_lab" in flag for flag in flags) and (code := book.main([])):
        return code
    for old in ARTEFACTS.glob("axe-*.json"):
        old.unlink()
    codes = []
    for command in commands(flags):
        print("+ python -m " + " ".join(command[2:]), flush=True)
        environment = os.environ | {"PYTHONPATH": str(ROOT), "COURSE_PART": part}
        codes.append(subprocess.run(command, cwd=ROOT, env=environment).returncode)
    for rule, count in sorted(axe_by_rule().items()):
        print(f"axe-core, {rule}: {count}")
    if part != ALL:
        print(
            f"Part {part} of the lessons was tried in JupyterLab; the commit's hash chooses it."
            " Another one: COURSE_PART=2/6 make test-ui. All: COURSE_PART=1/1 make test-ui."
        )
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
