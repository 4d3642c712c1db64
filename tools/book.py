"""Build the book: `python -m tools.book` writes build/book/html, which needs no server and no
network (`make book`).

The pages are assembled in build/book/source: what people wrote in book/ and docs/, the committed
notebooks, and the reference, bibliography and lesson map, which are generated. Sphinx then runs on
them, with warnings as errors. Nothing is executed.
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat

from diffusion_course.files.paths import user_path, write_bytes
from tools import book_lessons, book_reference, house
from tools.lesson_limits import computing_of, reading_of
from tools.notebooks import NOTEBOOKS, ROOT

BOOK, BUILD = ROOT / "book", ROOT / "build" / "book"
NEEDED = ("sphinx", "myst_nb", "sphinx_book_theme", "sphinx_design", "sphinx_copybutton")
CARD = ROOT / "data" / "mini-stable-diffusion" / "README.md"


def missing() -> list[str]:
    """Packages of the extra "book" that are not installed."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def pages() -> dict[str, bytes]:
    """Every file of the assembled source."""
    found: dict[str, bytes] = {}
    for path in sorted(BOOK.glob("*.md")):
        found[path.name] = path.read_bytes()
    index = found["index.md"].decode().replace("<!-- machine -->", machine())
    found["index.md"] = index.replace("<!-- lesson map -->", lesson_map()).encode()
    found["references.bib"] = book_reference.REFERENCES.read_bytes()
    found["references.md"] = book_reference.bibliography_page().encode()
    for path in sorted((ROOT / "docs").glob("*.md")):
        found[f"docs/{path.name}"] = path.read_bytes()
    found["docs/mini-stable-diffusion.md"] = CARD.read_bytes()
    for theme, path in house.PICTURES.items():
        found[f"figures/house-{theme}.svg"] = path.read_bytes()
    found["figures/digits.png"] = (NOTEBOOKS / "figures" / "digits.png").read_bytes()
    for path in book_lessons.lessons():
        found[f"notebooks/{path.name}"] = (
            f"{nbformat.writes(book_lessons.prepare(path))}\n".encode()
        )
        found[f"downloads/{path.name}"] = path.read_bytes()
        found[f"figures/{path.name[:2]}.png"] = book_lessons.cover(path)[1]
    found["api/index.md"] = book_reference.overview_page().encode()
    for stem, (title, modules) in book_reference.SUBJECTS.items():
        found[f"api/{stem}.rst"] = book_reference.subject_page(title, modules).encode()
    return found


def machine() -> str:
    """What the costs were measured on, in words."""
    facts = book_lessons.costs()["machine"]
    fast = "with" if facts["bfloat16_in_hardware"] else "without"
    return (
        f"{facts['cores']} cores {fast} bfloat16 in hardware, {facts['memory_gib']} GiB of memory,"
        f" {facts['device']}, torch {facts['torch']}"
    )


def lesson_map() -> str:
    """The lessons as cards: picture, what a reader can do after it, measured cost."""
    measured, aims = book_lessons.costs()["lessons"], book_lessons.aims()
    cards = ["::::{grid} 1 2 2 3", ":gutter: 3", ""]
    for path in book_lessons.lessons():
        title, aim = aims[path.stem]
        cost = measured[path.stem]
        alt = book_lessons.cover(path)[0]
        cards += [
            f":::{{grid-item-card}} {title}",
            f":link: notebooks/{path.stem}",
            ":link-type: doc",
            f":link-alt: Lesson {title}",
            f":img-top: figures/{path.name[:2]}.png",
            f":img-alt: {alt}",
            "",
            f"{aim[0].upper()}{aim[1:]}.",
            "",
            f"*{reading_of(cost)} min to read; {computing_of(cost)} min of computing,"
            f" {cost['peak_mib'] / 1024:.1f} GB*",
            ":::",
            "",
        ]
    return "\n".join([*cards, "::::"])


def assemble(source: Path) -> None:
    """Write the pages; a file that did not change keeps its time, one that is no longer wanted
    goes.
    """
    wanted = pages()
    for path in source.rglob("*"):
        if path.is_file() and path.relative_to(source).as_posix() not in wanted:
            path.unlink()
    for name, content in wanted.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_bytes() != content:
            write_bytes(path, content)


def folder_size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(argv: list[str] | None = None) -> int:
    """Command line; the exit code is Sphinx's."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.book", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--fresh", action="store_true", help="build every page anew")
    parser.add_argument(
        "--output",
        type=user_path,
        default=BUILD / "html",
        help="where the pages go (default: build/book/html)",
    )
    args = parser.parse_args(argv)
    if names := missing():
        how = "Run: pip install -c constraints.txt -e '.[test,book]', or make book"
        print(f"not installed: {', '.join(names)}. {how}", file=sys.stderr)
        return 1
    start = time.perf_counter()
    if args.fresh:
        shutil.rmtree(BUILD, ignore_errors=True)
    source = BUILD / "source"
    assemble(source)
    options = ["-b", "html", "-c", BOOK, "-d", BUILD / "doctrees", "-q", "-W", "--keep-going"]
    command = [sys.executable, "-m", "sphinx", *options, source, args.output]
    code = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=os.environ | {"DIFFUSION_COURSE_PROGRESS": "off"}
    ).returncode
    if code == 0:
        count = sum(1 for _ in args.output.rglob("*.html"))
        size, seconds = folder_size(args.output) / 2**20, time.perf_counter() - start
        print(f"{count} pages, {size:.0f} MiB, {seconds:.0f} s: {args.output / 'index.html'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
