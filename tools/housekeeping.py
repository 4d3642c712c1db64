"""`make help` and `make clean`, standard library only: they run without an environment."""

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHES = ("__pycache__", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints", "*.egg-info")


def targets(makefile: str) -> list[tuple[str, str]]:
    """The targets of a Makefile that carry a `##` description, in order."""
    return re.findall(r"^([\w-]+):.*?##\s*(.+)$", makefile, flags=re.MULTILINE)


def clean(root: Path) -> list[Path]:
    """Remove build/ and caches below `root`, not in an environment; returns what was removed."""
    found = [root / "build", *(path for name in CACHES for path in root.rglob(name))]
    removed = []
    for path in found:
        inside = path.relative_to(root).parts[0]
        if path.is_dir() and not (root / inside / "pyvenv.cfg").exists() and inside != ".git":
            shutil.rmtree(path)
            removed.append(path)
    return removed


if __name__ == "__main__":
    if sys.argv[1:] == ["clean"]:
        print(
            "\n".join(f"removed {path.relative_to(ROOT)}" for path in clean(ROOT))
            or "nothing to remove"
        )
    else:
        print("make TARGET [ARGS=...] [VENV=an environment of yours] [PYTHON=python3.12]\n")
        for name, text in targets((ROOT / "Makefile").read_text(encoding="utf-8")):
            print(f"  {name:10} {text}")
