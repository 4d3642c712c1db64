"""The core of a lesson and its part Going further: where they meet, and how long each is.

`python -m tools.lesson_limits [NAME ...]` prints words, cells and reading minutes of the lessons.
`make check` holds the core of every lesson in REWRITTEN to the limits.
"""

import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
CARD = ROOT / "notebooks" / "cost.json"
REWRITTEN = ("00", "01", "02", "03", "04", "05", "06", "07", "08", "12", "14")  # have a core
FURTHER, NOTE = "## Going further", "The core of this lesson ends here"
MAX_WORDS, MAX_CELLS, MAX_READING, MAX_COMPUTING = 2200, 30, 25.0, 1.0  # of a core; in minutes
# A reader's pace, so chosen that 2,200 words, 30 cells and 15 formulas take 25 minutes.
WORDS_A_MINUTE, CELLS_A_MINUTE, FORMULAS_A_MINUTE = 160, 4, 4

FORMULA = re.compile(r"\$\$.*?\$\$", re.DOTALL)
ANSWER = re.compile(r"<details>.*?</details>", re.DOTALL)
NOT_READ = re.compile(r"```.*?```|\]\([^)\s]*\)|<[^>]*>", re.DOTALL)  # code, addresses, HTML
INLINE = re.compile(r"\$[^$\n]+\$|`[^`\n]+`")
EXERCISE = re.compile(r"^(?:exercise|check)\(", re.MULTILINE)


class Size(NamedTuple):
    """How long a part of a lesson is; exercises and folded answers are left out."""

    words: int
    cells: int
    formulas: int

    @property
    def reading(self) -> float:
        """Minutes that reading takes, reckoned at the paces above."""
        return (
            self.words / WORDS_A_MINUTE
            + self.cells / CELLS_A_MINUTE
            + self.formulas / FORMULAS_A_MINUTE
        )


def further_at(cells: list[NotebookNode]) -> int:
    """The index of the cell that begins Going further; the number of cells where there is none."""
    heads = (
        at
        for at, cell in enumerate(cells)
        if cell.cell_type == "markdown" and cell.source.partition("\n")[0].strip() == FURTHER
    )
    return next(heads, len(cells))


def split(notebook: NotebookNode) -> tuple[list[NotebookNode], list[NotebookNode]]:
    """The cells of the core, and those of Going further."""
    at = further_at(notebook.cells)
    return notebook.cells[:at], notebook.cells[at:]


def words(source: str) -> int:
    """How many words of prose Markdown holds: a formula or a name in a sentence is one word,
    displayed formulas and folded answers are none.
    """
    text = NOT_READ.sub(" ", FORMULA.sub(" ", ANSWER.sub(" ", source)))
    return sum(1 for word in INLINE.sub(" x ", text).split() if re.search(r"\w", word))


def size(cells: list[NotebookNode]) -> Size:
    """How long these cells are."""
    prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
    code = [c for c in cells if c.cell_type == "code" and not EXERCISE.search(c.source)]
    formulas = sum(len(FORMULA.findall(ANSWER.sub(" ", text))) for text in prose)
    return Size(sum(map(words, prose)), len(code), formulas)


def reading(notebook: NotebookNode) -> dict[str, int]:
    """Minutes of reading for the cost card: of the core (or of all), and of Going further."""
    core, further = (round(size(cells).reading) for cells in split(notebook))
    return {"reading": core} | ({"further_reading": further} if further else {})


def limit_faults(stem: str, notebook: NotebookNode, costs: dict[str, dict]) -> list[str]:
    """What is wrong with the parts of a lesson in REWRITTEN; nothing for any other lesson."""
    if not stem.startswith(REWRITTEN):
        return []
    core, further = split(notebook)
    if not further:
        return [f"has no part {FURTHER!r}"]
    faults = [] if NOTE in further[0].source else [f"{FURTHER!r} does not say: {NOTE!r}"]
    later = [c.source for c in further[1:] if c.cell_type == "markdown"]
    if any(re.search(r"^#{1,2} ", FORMULA.sub("", text), re.MULTILINE) for text in later):
        faults.append(f"a heading of the first or second level follows {FURTHER!r}")
    if any("\n### " in FORMULA.sub("", text) for text in later):
        faults.append(f"a section of {FURTHER!r} does not begin with its heading's cell")
    if any(EXERCISE.search(c.source) for c in further if c.cell_type == "code"):
        faults.append(f"an exercise stands in {FURTHER!r}; it belongs to the core")
    found = size(core)
    for count, most, what in (
        (found.words, MAX_WORDS, "words of prose"),
        (found.cells, MAX_CELLS, "code cells"),
        (found.reading, MAX_READING, "minutes of reading"),
    ):
        if count > most:
            faults.append(f"the core has {count:.4g} {what}, at most {most:g}")
    return faults + cost_faults(costs.get(stem, {}), reading(notebook))


def cost_faults(cost: dict, counted: dict[str, int]) -> list[str]:
    """What a lesson's entry in the cost card lacks, or holds too much of; `counted`: `reading`."""
    if "further_minutes" not in cost:
        return ["the cost card has no minutes of Going further; run make course ARGS=--write"]
    for name, minutes in counted.items():
        if abs(cost.get(name, 0) - minutes) > 2:
            return [f"the cost card's {name} is {cost.get(name)}, counted are {minutes} minutes"]
    parts = {"the core": cost["minutes"] - cost["further_minutes"]}
    parts["Going further"] = cost["further_minutes"]
    return [
        f"{part} computes for {minutes:.2f} minutes, at most {MAX_COMPUTING:g}"
        for part, minutes in parts.items()
        if minutes > MAX_COMPUTING
    ]


def costs(card: Path = CARD) -> dict[str, dict]:
    """What each lesson costs, by its stem, as the card says; nothing where there is no card."""
    return json.loads(card.read_text(encoding="utf-8"))["lessons"] if card.exists() else {}


def both(first: float, further: float | None, form: str) -> str:
    """A number for the core and one for Going further, such as "23 + 9"; one where there is one."""
    return format(first, form) + (f" + {further:{form}}" if further is not None else "")


def reading_of(cost: dict) -> str:
    """Minutes of reading as the maps say them, "23 + 9"; empty where they are not known."""
    return both(cost["reading"], cost.get("further_reading"), "d") if "reading" in cost else ""


def computing_of(cost: dict) -> str:
    """Minutes of computing as the maps say them: "0.5 + 0.4", or those of the whole lesson."""
    further = cost.get("further_minutes")
    return both(cost["minutes"] - (further or 0.0), further, ".1f")


def main(names: list[str]) -> int:
    """Print the sizes of the lessons whose file name starts with one of the names."""
    print("lesson                     part     words cells formulas  reading")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if names and not path.stem.startswith(tuple(names)):
            continue
        for part, cells in zip(
            ("core", "further"), split(nbformat.read(path, as_version=4)), strict=True
        ):
            if cells:
                n = size(cells)
                print(
                    f"{path.stem:26s} {part:7s} {n.words:6d} {n.cells:5d} {n.formulas:8d}"
                    f" {n.reading:4.0f} min"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
