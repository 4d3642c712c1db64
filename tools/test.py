"""What `make test` runs: the unit tests, and every notebook compared with its stored outputs by
nbval, in one pool of two workers.

`python -m tools.test [--all | pytest flags]`: of what takes long a part is run (tools/parts.py);
with `--all` everything; with flags the unit tests that they choose, whole.
"""

import os
import subprocess
import sys
from pathlib import Path

from tools.parts import ALL, chosen, costs, lessons_of

ROOT = Path(__file__).resolve().parents[1]
WORKERS = 2


def environment(cores: int, workers: int = WORKERS) -> dict[str, str]:
    """Thread limits that keep `workers` processes from fighting over the cores; a limit set by the
    user stays.
    """
    threads = str(max(1, cores // workers))
    return {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads} | dict(os.environ)


def longest_first(part: str, root: Path = ROOT) -> list[str]:
    """What pytest collects, in an order in which no worker has much left when the other is done:
    the lessons that are run whole, costliest first, then test files with tests marked slow, the
    other tests, and the beginnings of the other lessons.
    """
    minutes = costs()
    names = [path.stem for path in sorted((root / "notebooks").glob("*.ipynb"))]
    whole = lessons_of(part, names, minutes)
    whole.sort(key=lambda name: -minutes.get(name, 1.0))
    files = sorted((root / "tests").glob("test_*.py"))
    slow = [path for path in files if "mark.slow" in path.read_text(encoding="utf-8")]
    tests = [f"tests/{path.name}" for path in [*slow, *(one for one in files if one not in slow)]]
    rest = [name for name in names if name not in whole]
    first, last = ([f"notebooks/{name}.ipynb" for name in some] for some in (whole, rest))
    return [*first, *tests, *last]


def command(flags: list[str], part: str) -> list[str]:
    """The pytest call: flags go to the unit tests; given any, notebooks and parts are left out."""
    pytest = [sys.executable, "-m", "pytest", "-n", str(WORKERS), "--dist", "loadfile"]
    if flags:
        return [*pytest, "tests", *flags]
    in_order = ["--no-loadscope-reorder", "--nbval", *longest_first(part)]
    return [*pytest, "--part", part, *in_order]


def summary(part: str) -> str:
    """What was run, and how to run the rest."""
    if part == ALL:
        return "Everything was run but the tests in a browser: make test-ui."
    names = [path.stem for path in (ROOT / "notebooks").glob("*.ipynb")]
    whole = ", ".join(name[:2] for name in lessons_of(part, names, costs()))
    return (
        f"Part {part} of what takes long was run: lessons {whole} whole and the others' beginnings,"
        " and a share of the tests marked in_parts. The commit's hash chooses the part."
        " Another one: COURSE_PART=2/6 make test. Everything, in a browser too: make test-all."
    )


def main(flags: list[str]) -> int:
    """Run them; the exit code is pytest's."""
    try:
        part = ALL if flags == ["--all"] else chosen()
    except ValueError as error:
        print(f"COURSE_PART: {error}", file=sys.stderr)
        return 2
    flags = [] if flags == ["--all"] else flags
    run = command(flags, part)
    shown = run[2:] if flags else [*run[2:9], "..."]
    print("+ python -m " + " ".join(shown), flush=True)
    code = subprocess.run(run, cwd=ROOT, env=environment(os.cpu_count() or 1)).returncode
    if not flags:
        print(summary(part))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
