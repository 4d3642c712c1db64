"""Lessons as the book shows them: alt texts, folded hints and solutions, links to other places,
pictures for the cover.

Nothing here needs Sphinx. Equations are numbered in the lessons by their tag, such as (04.2); the
anchor follows from the number.
"""

import base64
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools.lesson_limits import further_at
from tools.notebook_checks import DRAWING, FIGURE
from tools.notebooks import NOTEBOOKS, ROOT

TAG = re.compile(r"\\tag\{(\d\d\.\d+)\}")
MENTION = re.compile(r"\((\d\d\.\d+)\)")
ARXIV = re.compile(r"\b(\d{4}\.\d{4,5})\b(?!\.)")
CITED = re.compile(r"(?:arXiv[: ]+|arxiv\.org/abs/)(\d{4}\.\d{4,5})")
CHECKED = re.compile(r'^check\("(\d\d\.\d+)"', re.MULTILINE)
FOLD = '<details class="further"><summary>Open this section</summary>'
# The address of the repository and its branch: with it, every lesson gets links that open it in
# Colab and Binder.
REPOSITORY, BRANCH = "COURSE_REPOSITORY", "COURSE_BRANCH"
# The picture of each lesson on the cover, by the start of its alt text.
COVERS = {
    "00": "Four small pictures, drawn from the words",
    "01": "The temple clean and at t",
    "02": "Four clouds of points in two blobs",
    "03": "Arrows in the plane",
    "04": "Two digits over t from 999 to 0",
    "05": "Three rows of eight 8x8 pictures",
    "06": "Three maps of x-hat against sigma",
    "07": "Two panels with blue points on two arcs",
    "08": "Five rows of ten digits. s = 0",
    "09": "Three rows of eight scenes: originals",
    "10": "Five rows of layers by eight tokens",
    "11": "Two rows of eight drawn scenes",
    "12": "Two rows of eight scenes for the same prompts",
    "14": "Two panels, time from 1 on the left",
}


def lessons() -> list[Path]:
    """The committed notebooks, in order."""
    return sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def anchor(number: str) -> str:
    """The anchor of an equation: eq-04-2 for 04.2."""
    return "eq-" + number.replace(".", "-")


def equations() -> dict[str, str]:
    """Number of each equation of the course and the page that it stands on; raises ValueError where
    a number is used twice.
    """
    found: dict[str, str] = {}
    for path in lessons():
        for cell in nbformat.read(path, as_version=4).cells:
            for number in TAG.findall(cell.source) if cell.cell_type == "markdown" else ():
                if number in found or not path.name.startswith(number[:2]):
                    raise ValueError(
                        f"{path.name}: equation ({number}) is used before or belongs to another"
                        " lesson"
                    )
                found[number] = f"notebooks/{path.stem}"
    return found


def costs() -> dict[str, dict]:
    """Minutes and memory of each lesson, as measured."""
    return json.loads((NOTEBOOKS / "cost.json").read_text(encoding="utf-8"))


def aims() -> dict[str, tuple[str, str]]:
    """Title of each lesson and what a reader can do after it, from README's table: one place says
    it.
    """
    row = re.compile(
        r"^\| \[(?P<title>[^\]]+)\]\(notebooks/(?P<stem>\w+)\.ipynb\) \| (?P<aim>[^|]+) \|",
        re.MULTILINE,
    )
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return {match["stem"]: (match["title"], match["aim"].strip()) for match in row.finditer(text)}


def pictures(notebook: NotebookNode) -> Iterator[tuple[str, bytes]]:
    """(alt text, PNG) of every stored picture."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                yield alt_text(data), base64.b64decode(data["image/png"])


def alt_text(data: dict) -> str:
    """The alt text of a stored picture; raises ValueError where there is none."""
    match = FIGURE.search(str(data.get("text/plain", "")))
    if match is None:
        raise ValueError(f"a picture without alt text: {str(data.get('text/plain'))[:80]!r}")
    return match["alt"]


def cover(path: Path) -> tuple[str, bytes]:
    """(alt text, PNG) of the picture that stands for a lesson; raises LookupError where the lesson
    no longer has it.
    """
    start = COVERS[path.name[:2]]
    for alt, png in pictures(nbformat.read(path, as_version=4)):
        if alt.startswith(start):
            return alt, png
    raise LookupError(
        f"{path.name} has no picture whose alt text starts with {start!r}; choose another in COVERS"
    )


def launch_links(name: str, repository: str | None, branch: str) -> list[tuple[str, str]]:
    """(label, address) of the places that can open a notebook of a repository: Binder for three
    hosts, Colab for GitHub.
    """
    found = re.match(
        r"https://(github\.com|gitlab\.com|bitbucket\.org)/(.+?)(?:\.git)?/?$", repository or ""
    )
    if not found:
        if repository:
            hosts = "GitHub, GitLab or Bitbucket"
            raise ValueError(
                f"{REPOSITORY}={repository!r} is not an https address of a repository on {hosts}."
            )
        return []
    host, project = found.groups()
    kind = {"github.com": "gh", "gitlab.com": "gl", "bitbucket.org": "bb"}[host]
    links = [
        (
            "Open in Colab",
            f"https://colab.research.google.com/github/{project}/blob/{branch}/notebooks/{name}",
        )
    ]
    place = project if kind != "gl" else project.replace("/", "%2F")
    binder = (
        "Open in Binder",
        f"https://mybinder.org/v2/{kind}/{place}/{branch}?labpath=notebooks/{name}",
    )
    return [*(links if kind == "gh" else []), binder]


def header(name: str) -> str:
    """The line under a lesson's title: where to open it, and the notebook itself."""
    repository, branch = os.environ.get(REPOSITORY), os.environ.get(BRANCH, "main")
    links = [f"[{label}]({address})" for label, address in launch_links(name, repository, branch)]
    return " · ".join([f"{{download}}`Download the notebook <../downloads/{name}>`", *links])


def folded(summary: str, text: str) -> str:
    """Markdown behind a line that opens it."""
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"


def help_for(exercise_id: str) -> str:
    """Hints and solution of an exercise, each folded."""
    from diffusion_course.exercises.registry import get_exercise

    exercise = get_exercise(exercise_id)
    hints = [
        folded(f"{exercise_id}, hint {n} of 3", exercise.render(hint))
        for n, hint in enumerate(exercise.hints, start=1)
    ]
    solution = (
        f"From: {exercise.derivation}.\n\n```python\n{exercise.solution_source().rstrip()}\n```"
    )
    if exercise.is_value:
        solution += f"\n\nIt gives {exercise.reference(**exercise.chosen):.6g}."
    return "\n\n".join([*hints, folded(f"{exercise_id}, solution", solution)])


def prepare(path: Path) -> NotebookNode:
    """The lesson as a page: the stored notebook, changed only in what a page needs."""
    notebook = nbformat.read(path, as_version=4)
    title, _, rest = notebook.cells[0].source.partition("\n")
    notebook.cells[0].source = f"{title}\n\n{header(path.name)}\n{rest}"
    cells, helped = [], set()
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type != "code":
            continue
        cell.outputs = [output for output in cell.outputs if not hidden(output)]
        for output in cell.outputs:
            data = output.get("data", {})
            if "text/html" not in data and "image/png" in data:
                drawn = DRAWING.search(str(data["text/plain"])) is not None
                image = {"alt": alt_text(data)} | ({"classes": "drawing"} if drawn else {})
                cell.metadata["mystnb"] = {"image": image}
        for exercise_id in sorted(set(CHECKED.findall(cell.source)) - helped):
            helped.add(exercise_id)
            cells.append(
                nbformat.v4.new_markdown_cell(
                    help_for(exercise_id), id=f"help-{exercise_id.replace('.', '-')}"
                )
            )
    at = further_at(cells)
    notebook.cells = cells[:at] + list(fold_sections(cells[at:]))
    return notebook


def fold_sections(cells: list[NotebookNode]) -> Iterator[NotebookNode]:
    """The cells with each section of the third level, its heading aside, folded.

    What opens and what closes a fold stand inside one section, so that the page nests rightly.
    """
    count = 0
    for cell in cells:
        heading = cell.cell_type == "markdown" and cell.source.startswith("### ")
        if heading:
            if count:
                yield fold_end(count)
            count += 1
            title, _, text = cell.source.partition("\n")
            cell.source = f"{title}\n\n{FOLD}\n\n{text.strip()}"
        yield cell
    if count:
        yield fold_end(count)


def fold_end(count: int) -> NotebookNode:
    """The cell that closes a fold."""
    return nbformat.v4.new_markdown_cell("</details>", id=f"fold-{count}")


def hidden(output: NotebookNode) -> bool:
    """Whether a stored output says nothing on a page: a progress bar that is through."""
    return str(output.get("data", {}).get("text/plain", "")).startswith("[progress]")
