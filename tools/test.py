"""What `make test` runs: the unit tests, then every notebook compared with its stored outputs by
nbval.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORKERS = 2


def environment(cores: int, workers: int = WORKERS) -> dict[str, str]:
    """Thread limits that keep `workers` processes from fighting over the cores; a limit set by the
    user stays.
    """
    threads = str(max(1, cores // workers))
    return {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads} | dict(os.environ)


def commands(flags: list[str], notebooks: list[str]) -> list[list[str]]:
    """The pytest calls: flags go to the unit tests; given any, the notebooks are left out."""
    pytest = [sys.executable, "-m", "pytest", "-n", str(WORKERS), "--dist", "loadfile"]
    unit = [*pytest, "tests", *flags]
    return [unit] if flags or not notebooks else [unit, [*pytest, "--nbval", *notebooks]]


def main(flags: list[str]) -> int:
    """Run both; the exit code is the first one that is not zero."""
    notebooks = sorted(
        path.relative_to(ROOT).as_posix() for path in (ROOT / "notebooks").glob("*.ipynb")
    )
    codes = []
    for command in commands(flags, notebooks):
        print("+ python -m " + " ".join(command[2:]), flush=True)
        codes.append(
            subprocess.run(command, cwd=ROOT, env=environment(os.cpu_count() or 1)).returncode
        )
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
