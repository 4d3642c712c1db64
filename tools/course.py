"""Run every lesson from a fresh kernel, write it as HTML and measure its cost: `python -m
tools.course [--write] [NAME ...]`.

The cost card (wall minutes, peak memory) is printed and written to build/course/cost.json;
`--write` also puts the measured lessons into notebooks/cost.json, the copy that README, the lessons
and the instructor's guide quote.
"""

import argparse
import json
import os
import platform
import re
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

import nbformat
import psutil
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from diffusion_course.files.checkpoints import write_bytes
from tools.lesson_limits import computing_of, further_at, reading, reading_of
from tools.notebook_checks import FIGURE
from tools.notebooks import NOTEBOOKS, ROOT, execute, normalise

CARD, GUIDE = NOTEBOOKS / "cost.json", ROOT / "docs" / "instructors.md"


class PeakMemory:
    """Largest resident memory, in bytes, of this process's new child processes (the kernel and its
    own children).
    """

    def __init__(self, interval: float = 0.2) -> None:
        self.peak, self.interval = 0, interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._stop.wait(self.interval):
            self.peak = max(
                self.peak, sum(map(resident, psutil.Process().children(recursive=True)))
            )

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()


def resident(process: psutil.Process) -> int:
    """Resident bytes of a process, 0 when it is gone."""
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def run_lesson(path: Path) -> tuple[NotebookNode, dict]:
    """Execute a notebook from its inputs; returns it with its cost."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    start = time.perf_counter()
    with PeakMemory() as memory:
        execute(notebook, path.parent, timed=True)
    cost = {"minutes": round((time.perf_counter() - start) / 60, 2)}
    further = notebook.cells[further_at(notebook.cells) :]
    if further:
        cost["further_minutes"] = round(sum(map(seconds, further)) / 60, 2)
    cost |= {"peak_mib": round(memory.peak / 2**20)} | reading(notebook)
    return normalise(notebook, path.stem), cost


def seconds(cell: NotebookNode) -> float:
    """How long a cell ran, by the times that nbclient stored; 0 for one that is not run."""
    times = cell.metadata.get("execution", {})
    names = ("iopub.execute_input", "shell.execute_reply")
    if not all(name in times for name in names):
        return 0.0
    began, ended = (datetime.fromisoformat(times[name].replace("Z", "+00:00")) for name in names)
    return (ended - began).total_seconds()


def to_html(notebook: NotebookNode, title: str) -> str:
    """The lesson as one HTML page; pictures carry the alt text that their text/plain holds."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data and (match := FIGURE.search(str(data.get("text/plain", "")))):
                output.metadata["image/png"] = output.metadata.get("image/png", {}) | {
                    "alt": match["alt"]
                }
    return HTMLExporter(template_name="classic").from_notebook_node(
        notebook, {"metadata": {"name": title}}
    )[0]


def table(lessons: dict[str, dict]) -> str:
    """The cost card as the Markdown table that README quotes."""
    rows = [
        f"| {name} | {reading_of(cost)} | {computing_of(cost)} | {cost['peak_mib']} |"
        for name, cost in sorted(lessons.items())
    ]
    return "\n".join(["| lesson | reading | computing | peak MiB |", "|---|---:|---:|---:|", *rows])


def machine() -> dict:
    """What the costs were measured on, without naming the host."""
    import torch

    from diffusion_course import default_device
    from diffusion_course.training.precision import has_fast_bfloat16

    memory = round(psutil.virtual_memory().total / 2**30)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "cores": os.cpu_count(),
        "memory_gib": memory,
        "device": device,
        "bfloat16_in_hardware": has_fast_bfloat16(default_device()),
        "system": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__.partition("+")[0],
    }


def save(path: Path, lessons: dict[str, dict], measured_on: dict) -> None:
    """Write the card whole; lessons that were not measured now keep what the file says."""
    known = json.loads(path.read_text(encoding="utf-8"))["lessons"] if path.exists() else {}
    text = json.dumps(
        {"machine": measured_on, "lessons": known | lessons}, indent=1, sort_keys=True
    )
    write_bytes(path, f"{text}\n".encode())


def cost_line(cost: dict) -> str:
    """What a lesson says of its cost in its first cell."""
    memory = f"{cost['peak_mib'] / 1024:.1f} GB of memory at the peak"
    line = f"**Measured cost:** {cost['minutes']:.1f} min on 2 cores, {memory}."
    if "further_minutes" not in cost:
        return line
    further = cost["further_minutes"]
    return (
        f"{line} Core: about {cost['reading']} minutes of reading,"
        f" {cost['minutes'] - further:.1f} of computing."
        f" Going further: about {cost['further_reading']} and {further:.1f}."
    )


def quote(lessons: dict[str, dict], readme: Path, sources: Path) -> None:
    """Write the costs into README's table of lessons and into the first cell of each lesson's
    source.
    """
    text = readme.read_text(encoding="utf-8")
    for name, cost in lessons.items():
        row = rf"(\({NOTEBOOKS.name}/{name}\.ipynb\) \|[^|\n]*\|)[^|\n]*\|[^|\n]*\|[^|\n]*\|"
        numbers = f"{reading_of(cost)} | {computing_of(cost)} | {cost['peak_mib']}"
        text = re.sub(row, rf"\1 {numbers} |", text)
        source = sources / f"{name}.py"
        lesson = re.sub(
            r"\*\*Measured cost:\*\* .*",
            cost_line(cost),
            source.read_text(encoding="utf-8"),
            count=1,
        )
        write_bytes(source, lesson.encode())
    write_bytes(readme, text.encode())


def quote_weeks(lessons: dict[str, dict], guide: Path) -> None:
    """Write the costs into the rows of the instructor's guide that name lessons: | week | 09, 10 |
    minutes | peak MiB | ...
    """
    by_number = {name[:2]: cost for name, cost in lessons.items()}

    def row(found: re.Match) -> str:
        costs = [by_number[number] for number in found[2].split(", ")]
        minutes, peak = (
            sum(cost["minutes"] for cost in costs),
            max(cost["peak_mib"] for cost in costs),
        )
        return f"{found[1]}{found[2]} | {minutes:.1f} | {peak} |"

    text = guide.read_text(encoding="utf-8")
    write_bytes(
        guide,
        re.sub(r"(?m)^(\| \d+ \| )(\d\d(?:, \d\d)*) \|[^|\n]*\|[^|\n]*\|", row, text).encode(),
    )


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 when a lesson fails (the others still run)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="lessons by the start of their file name, such as 03",
    )
    parser.add_argument("--write", action="store_true", help="update notebooks/cost.json too")
    args = parser.parse_args(argv)
    paths = [
        p
        for p in sorted(NOTEBOOKS.glob("*.ipynb"))
        if not args.names or p.stem.startswith(tuple(args.names))
    ]
    if not paths:
        print(
            f"no lesson starts with {args.names}; build them first: make notebooks", file=sys.stderr
        )
        return 1
    output = ROOT / "build" / "course"
    output.mkdir(parents=True, exist_ok=True)
    lessons, failed = {}, []
    for path in paths:
        print(f"{path.stem} ...", flush=True)
        try:
            notebook, lessons[path.stem] = run_lesson(path)
        except Exception as error:  # noqa: BLE001 - a cell's error, a dead kernel or a timeout: report it, go on
            print(f"{path.stem} failed: {error}", file=sys.stderr)
            failed.append(path.stem)
            continue
        write_bytes(output / f"{path.stem}.html", to_html(notebook, path.stem).encode())
    save(output / "cost.json", lessons, machine())
    if args.write:
        save(CARD, lessons, machine())
        quote(lessons, ROOT / "README.md", NOTEBOOKS / "source")
        quote_weeks(json.loads(CARD.read_text(encoding="utf-8"))["lessons"], GUIDE)
    print(
        table(lessons),
        f"\nHTML in {output.relative_to(ROOT)}",
        *(f"FAILED: {name}" for name in failed),
        sep="\n",
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
