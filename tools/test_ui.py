"""What `make test-ui` runs: the book is built, then book and lessons are tried in a browser.

`python -m tools.test_ui [pytest flags]`
"""

import os
import subprocess
import sys

from tools import book
from tools.test import ROOT


def main(flags: list[str]) -> int:
    """Build the book unless the flags leave it out, then run tests_ui; the exit code is the first that is not zero."""
    lab_only = any("test_lab" in flag for flag in flags)
    if not lab_only and (code := book.main([])):
        return code
    paths = [] if any(flag.startswith("tests_ui") for flag in flags) else ["tests_ui"]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *paths, *flags]
    print("+ python -m " + " ".join(command[2:]), flush=True)
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
