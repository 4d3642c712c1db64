"""Pages that the book generates: the package's functions by subject, and the papers."""

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import nbformat

from diffusion_course import EXPORTS
from tools import house
from tools.book_lessons import ARXIV, CITED, lessons
from tools.notebooks import ROOT

REFERENCES = ROOT / "book" / "references.bib"
# The reference has a page for each room of the package, small rooms together: title and rooms.
PAGES = {
    "process": ("The process", ("process",)),
    "sampling": ("Sampling and likelihood", ("sampling",)),
    "flow": ("Flow matching", ("flow",)),
    "datasets": ("Data", ("datasets",)),
    "models": ("Networks", ("models",)),
    "measures": ("Measures", ("measures",)),
    "training": ("Training", ("training", "files", "seeds")),
    "latent": ("A Stable Diffusion taken apart", ("latent",)),
    "notebook": ("Figures and explorers", ("notebook",)),
    "exercises": ("Exercises", ("exercises",)),
}
# Types that a public function returns and that nobody makes by hand.
RETURNED = {
    "measures.flops": ("ModuleCost",),
    "files.pretrained": ("ShippedFile",),
    "latent.memory": ("Peak",),
    "exercises": ("engine.Result",),
}
# Names that a room alone offers and that lessons use.
NOT_EXPORTED = {
    "notebook.plotting": tuple(import_module("diffusion_course.notebook.plotting").__all__),
    "notebook.style": ("figure",),
}
MODULES = {**EXPORTS, **NOT_EXPORTED}  # what the reference lists of each module
SUBJECTS = {
    stem: (title, tuple(module for module in MODULES if module.partition(".")[0] in rooms))
    for stem, (title, rooms) in PAGES.items()
}


class Paper(NamedTuple):
    """One entry of references.bib."""

    key: str
    authors: tuple[str, ...]
    title: str
    year: str
    arxiv: str


def names_of(module: str) -> tuple[str, ...]:
    """The public names of a module, in the order in which the package lists them."""
    return MODULES[module]


def summary(thing: object) -> str:
    """The first sentence of a docstring, on one line, without the papers that it cites."""
    first = " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())
    first = re.sub(r"\s*\((?:[^()]|\([^()]*\))*arXiv(?:[^()]|\([^()]*\))*\)", "", first)
    return re.split(r"(?<!e\.g\.)(?<=[.;])\s", first)[0].rstrip(";:.") + "."


def described(module: ModuleType, name: str) -> bool:
    """Whether a name is a function or class; a constant's docstring is its type's."""
    value = getattr(module, name)
    return inspect.isclass(value) or callable(value)


def subject_page(title: str, modules: tuple[str, ...]) -> str:
    """One page of the reference, in reStructuredText."""
    parts = [title, "=" * len(title), ""]
    for short in modules:
        dotted = f"diffusion_course.{short}"
        module = import_module(dotted)
        heading = f"``{short}``"
        parts += [
            "",
            heading,
            "-" * len(heading),
            "",
            f".. automodule:: {dotted}",
            "   :no-members:",
            "",
        ]
        for name in names_of(short):
            is_class = inspect.isclass(getattr(module, name))
            kind = (
                "autoclass"
                if is_class
                else "autofunction"
                if described(module, name)
                else "autodata"
            )
            parts.append(f".. {kind}:: {dotted}.{name}")
            parts += (
                ["   :no-value:"]
                if kind == "autodata"
                else ["   :members:"]
                if kind == "autoclass"
                else []
            )
            parts.append("")
        for name in RETURNED.get(short, ()):
            parts += [f".. autoclass:: {dotted}.{name}", "   :members:", ""]
    return "\n".join(parts)


def overview_page() -> str:
    """The reference's first page: every public name in one line, by subject."""
    parts = [
        "# The package",
        "",
        (
            "Every public function and class, by subject, from the docstrings that the code"
            ' carries. Shapes: B is the batch, "..." is whatever one sample is, T the number of'
            " steps. Indices run from 0 to T - 1; the papers' t is the index + 1. Each entry links"
            " to its lines. `from diffusion_course import NAME` works for every name here but those"
            " of `notebook.plotting` and `notebook.style`."
        ),
        "",
        "```{toctree}\n:hidden:\n\n" + "\n".join(SUBJECTS) + "\n```",
        "",
        "## How the code is laid out",
        "",
        "Each room imports only from rooms below it. The picture is drawn from the code.",
        "",
        *(layout_picture(theme) for theme in house.PICTURES),
        layout_in_words(),
    ]
    for stem, (title, modules) in SUBJECTS.items():
        parts += ["", f"## [{title}]({stem}.rst)", "", "| name | what it is |", "|---|---|"]
        for short in modules:
            module = import_module(f"diffusion_course.{short}")
            for name in names_of(short):
                text = (
                    summary(getattr(module, name))
                    if described(module, name)
                    else f"A constant of `{short}`."
                )
                parts.append(f"| `{name}` | {escaped(text)} |")
    return "\n".join(parts) + "\n"


def layout_picture(theme: str) -> str:
    """The map of the rooms on pages of one theme."""
    alt = f"{house.TITLE} from the ground up, each with its line, and what imports what."
    options = f":class: only-{theme} house\n:alt: {alt}\n:width: 700px"
    return f"```{{image}} ../figures/house-{theme}.svg\n{options}\n```\n"


def layout_in_words() -> str:
    """The map of the rooms as a folded list."""
    lines = [f"- {escaped(line)}" for line in house.in_words(house.read_house())]
    return "\n".join(["````{dropdown} The same in words", *lines, "````"])


def escaped(text: str) -> str:
    """A docstring's sentence as Markdown in a table."""
    if "`" in text:
        return text.replace("``", "`").replace("|", r"\|")
    return re.sub(r"([|*_$<\[\]])", r"\\\1", text)


def papers(path: Path = REFERENCES) -> list[Paper]:
    """The entries of the bibliography, by year and first author."""
    found = []
    for key, body in re.findall(
        r"@misc\{([\w-]+),\n(.*?)\n\}", path.read_text(encoding="utf-8"), flags=re.DOTALL
    ):
        fields = dict(re.findall(r"^\s*(\w+) = \{(.*)\},?$", body, flags=re.MULTILINE))
        authors = tuple(fields["author"].split(" and "))
        found.append(
            Paper(
                key,
                authors,
                fields["title"].replace("{", "").replace("}", ""),
                fields["year"],
                fields["eprint"],
            )
        )
    return sorted(
        found, key=lambda paper: (paper.authors[0].partition(",")[0].lower(), paper.arxiv)
    )


def cited_in_lessons() -> dict[str, list[str]]:
    """arXiv number -> stems of the lessons that name it."""
    found: dict[str, list[str]] = {}
    for path in lessons():
        notebook = nbformat.read(path, as_version=4)
        text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        for number in sorted(set(CITED.findall(text))):
            found.setdefault(number, []).append(path.stem)
    return found


def cited_in_code() -> dict[str, list[str]]:
    """arXiv number -> public names whose docstrings name it."""
    found: dict[str, list[str]] = {}
    for name, thing in documented():
        for number in sorted({match for match in ARXIV.findall(inspect.getdoc(thing) or "")}):
            found.setdefault(number, []).append(name)
    return found


def documented() -> Iterator[tuple[str, object]]:
    """Every public name that has a docstring of its own."""
    for _, modules in SUBJECTS.values():
        for short in modules:
            module = import_module(f"diffusion_course.{short}")
            yield from (
                (name, getattr(module, name)) for name in names_of(short) if described(module, name)
            )


def spoken(author: str) -> str:
    """`Ho, Jonathan` as `Jonathan Ho`."""
    family, _, given = author.partition(", ")
    return f"{given} {family}".strip()


def bibliography_page() -> str:
    """The papers, with links, and where the course uses each."""
    in_lessons, in_code = cited_in_lessons(), cited_in_code()
    parts = [
        "# Papers",
        "",
        (
            "What the lessons and docstrings cite, by first author. The year is that of the first"
            " version on arXiv. {download}`The same as BibTeX <references.bib>`."
        ),
        "",
    ]
    for paper in papers():
        names = ", ".join(map(spoken, paper.authors)).replace(", others", " and others")
        places = [
            f"[lesson {stem[:2]}](notebooks/{stem}.ipynb)"
            for stem in in_lessons.get(paper.arxiv, ())
        ]
        places += [f"`{name}`" for name in in_code.get(paper.arxiv, ())]
        used = f" Used in: {', '.join(places)}." if places else ""
        link = f"[arXiv {paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})"
        parts += [
            f"(arxiv-{paper.arxiv.replace('.', '-')})=",
            f"{names}. *{paper.title}.* {paper.year}. {link}.{used}",
            "",
        ]
    return "\n".join(parts)
