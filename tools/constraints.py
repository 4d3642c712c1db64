"""Write constraints.txt, the tested versions, from the running environment: `python -m
tools.constraints`.
"""

import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from diffusion_course.files.paths import write_bytes

ROOT = Path(__file__).resolve().parents[1]
# The CUDA libraries differ by platform and follow from torch's version.
PLATFORM_BOUND = ("nvidia-", "cuda-", "triton")


def closure(requirements: list[str]) -> dict[str, str]:
    """Installed versions of everything that the requirements need, found by walking the installed
    metadata.
    """
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    queue = [Requirement(line) for line in requirements]
    while queue:
        needed = queue.pop()
        package, extras = canonicalize_name(needed.name), frozenset(needed.extras)
        if (package, extras) in seen:
            continue
        seen.add((package, extras))
        try:
            distribution = metadata.distribution(package)
        except metadata.PackageNotFoundError:
            continue  # for another platform or Python
        found[package] = Version(distribution.version).public  # 2.4.0+cu121 -> 2.4.0
        for line in map(Requirement, distribution.requires or ()):
            if line.marker is None or any(
                line.marker.evaluate({"extra": extra}) for extra in extras or {""}
            ):
                queue.append(line)
    return found


def declared(root: Path = ROOT) -> list[str]:
    """The requirement lines of pyproject.toml, extras included."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["dependencies"] + [
        line for extra in project["optional-dependencies"].values() for line in extra
    ]


def marker(requires_python: str | None, lowest: str) -> str:
    """The condition under which a version is pinned, where it does not support the course's lowest
    Python.

    Debian 12 ships Python 3.11.2 and some releases ask for 3.11.5: there, pip chooses the newest
    that fits.
    """
    specifiers = SpecifierSet(requires_python or "")
    if specifiers.contains(lowest):
        return ""
    return "; " + " and ".join(
        f'python_full_version {part.operator} "{part.version}"'
        for part in sorted(specifiers, key=str)
    )


def render(versions: dict[str, str], lowest: str = "3.11.0") -> str:
    """The text of constraints.txt."""
    kept = sorted(item for item in versions.items() if not item[0].startswith(PLATFORM_BOUND))
    python = ".".join(map(str, sys.version_info[:2]))
    head = (
        f"# The versions the course was tested with (Python {python}); written by python -m"
        " tools.constraints\n"
    )
    needs = {name: marker(metadata.metadata(name)["Requires-Python"], lowest) for name, _ in kept}
    return head + "".join(f"{name}=={version}{needs[name]}\n" for name, version in kept)


if __name__ == "__main__":
    text = render(closure(declared()))
    write_bytes(ROOT / "constraints.txt", text.encode())
    print(f"constraints.txt: {len(text.splitlines()) - 1} versions")
