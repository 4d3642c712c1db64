"""Build notebooks from their sources and check them: `python -m tools.notebooks build|check [--all]
[NAME ...]`.

notebooks/source/NN_name.py (py:percent) -> jupytext -> executed top to bottom -> normalised ->
notebooks/NN_name.ipynb.
One direction only: the source is what people write and review.
"""

import argparse
import hashlib
import os
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from diffusion_course.files.checkpoints import write_bytes
from tools import lesson_limits
from tools.notebook_checks import check_notebook, exported_names, inputs

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
os.environ["DIFFUSION_COURSE_PROGRESS"] = (
    "off"  # what was done before must not show in a built notebook
)
CELL_TIMEOUT = 120  # seconds, as in nbval
KEPT_CELL_METADATA = ("tags", "mystnb", "jupyter")
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE_INFO = {
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
}


class BuildError(Exception):
    """A lesson that cannot be built, with its cell and message."""


def convert(source: Path) -> NotebookNode:
    """The notebook, without outputs, of a py:percent source; a source needs no header."""
    try:
        notebook = jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent")
    except nbformat.ValidationError as error:
        raise BuildError(
            f"{source.name} is not py:percent: {str(error).splitlines()[0]}; leave its header out"
        ) from error
    notebook.cells = [cell for cell in notebook.cells if cell.source.strip()]
    return normalise(notebook, source.stem)


def execute(notebook: NotebookNode, folder: Path, *, timed: bool = False) -> None:
    """Run every cell in a fresh python3 kernel whose working directory is `folder`; outputs are
    stored in place, and with `timed` when each cell began and ended.
    """
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=timed,
        store_widget_state=False,
        coalesce_streams=True,
        extra_arguments=[
            "--IPKernelApp.log_level=40"
        ],  # without its warning that loopback is not encrypted
    )
    client.execute()


def normalise(notebook: NotebookNode, stem: str) -> NotebookNode:
    """Keep what a reader needs and what is the same on every machine; drop the rest. Changes the
    notebook in place.

    Cell ids come from the lesson's number and the cell's content, so that an inserted cell leaves
    the others alone.
    """
    notebook.metadata = NotebookNode(kernelspec=dict(KERNELSPEC), language_info=dict(LANGUAGE_INFO))
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        cell.metadata = NotebookNode(
            {key: cell.metadata[key] for key in KEPT_CELL_METADATA if key in cell.metadata}
        )
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:10]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = f"{stem.partition('_')[0]}-{digest}" + (
            f"-{seen[digest]}" if seen[digest] > 1 else ""
        )
        if cell.cell_type == "code":
            cell.outputs = [
                output for output in map(normalise_output, cell.outputs) if output is not None
            ]
    return notebook


def normalise_output(output: NotebookNode) -> NotebookNode | None:
    """One stored output without widget state, times and display ids; None where nothing a reader
    could see is left.
    """
    output.pop("transient", None)
    if "data" not in output:
        return output
    data = {mime: value for mime, value in output.data.items() if "widget-view" not in mime}
    if str(data.get("text/plain", "")).startswith("[progress]"):
        data = {"text/plain": data["text/plain"]}  # its text/html tells the seconds of this run
    output.data = NotebookNode(data)
    output.metadata = NotebookNode(
        {mime: value for mime, value in output.metadata.items() if mime in data}
    )
    return output if data else None


def write(notebook: NotebookNode, path: Path) -> None:
    """Write the notebook whole or not at all."""
    nbformat.validate(notebook)
    write_bytes(path, f"{nbformat.writes(notebook)}\n".encode())


def stored_run(target: Path) -> NotebookNode | None:
    """The stored notebook, if there is one that can be read and was run from top to bottom."""
    try:
        stored = nbformat.read(target, as_version=4)
    except (FileNotFoundError, nbformat.reader.NotJSONError):
        return None
    counts = [cell.execution_count for cell in code_cells(stored)]
    return stored if counts == list(range(1, len(counts) + 1)) else None


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that are run."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def is_built(source: Path, target: Path) -> bool:
    """Whether the notebook holds the inputs of its source and has been run."""
    stored = stored_run(target)
    return stored is not None and inputs(stored) == inputs(convert(source))


def take_outputs(notebook: NotebookNode, target: Path) -> bool:
    """Take the outputs of the stored run over if its code is this notebook's, so that a change of
    prose runs nothing.
    """
    stored = stored_run(target)
    if stored is None or [*map(run_key, code_cells(stored))] != [
        *map(run_key, code_cells(notebook))
    ]:
        return False
    for cell, run in zip(code_cells(notebook), code_cells(stored), strict=True):
        cell.outputs, cell.execution_count = run.outputs, run.execution_count
    return True


def run_key(cell: NotebookNode) -> tuple:
    """What decides a cell's outputs: its code and its tags."""
    return cell.source, tuple(cell.metadata.get("tags", ()))


def build(source: Path, target: Path, *, fresh: bool = True) -> float:
    """Build one notebook; returns the seconds it took. Raises BuildError when a cell fails; the old
    file then stays.

    Without `fresh` a notebook whose code did not change keeps its outputs.
    """
    start = time.perf_counter()
    notebook = convert(source)
    try:
        if fresh or not take_outputs(notebook, target):
            execute(notebook, target.parent)
    except (
        CellExecutionError,
        TimeoutError,
        RuntimeError,
    ) as error:  # RuntimeError: the kernel died
        raise BuildError(f"{source.name}: {error}") from error
    write(normalise(notebook, source.stem), target)
    return time.perf_counter() - start


def select(names: list[str], folder: Path = NOTEBOOKS) -> list[tuple[Path, Path]]:
    """(source, notebook) of the lessons whose file name starts with one of `names` (all of them for
    []).
    """
    pairs = [
        (source, folder / f"{source.stem}.ipynb")
        for source in sorted((folder / "source").glob("*.py"))
    ]
    for name in names:
        if not any(source.stem.startswith(name) for source, _ in pairs):
            raise BuildError(
                f"no lesson starts with {name!r}; there are {[source.stem for source, _ in pairs]}"
            )
    return [pair for pair in pairs if not names or pair[0].stem.startswith(tuple(names))]


def check_all(names: list[str], folder: Path = NOTEBOOKS) -> list[str]:
    """Every fault of the selected notebooks, and of notebooks without a source."""
    exported, costs = exported_names(), lesson_limits.costs(folder / "cost.json")
    faults = []
    for source, target in select(names, folder):
        if not target.exists():
            faults.append(f"{target.name}: not built")
            continue
        notebook = convert(source)
        faults += check_notebook(target, notebook, exported)
        limits = lesson_limits.limit_faults(source.stem, notebook, costs)
        faults += [f"{target.name}: {fault}" for fault in limits]
    if not names:
        sources = {source.stem for source, _ in select([], folder)}
        faults += [
            f"{p.name}: has no source"
            for p in sorted(folder.glob("*.ipynb"))
            if p.stem not in sources
        ]
    return faults


def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 1 when a build or a check fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("build", "check"))
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="lessons by the start of their file name, such as 03",
    )
    parser.add_argument("--all", action="store_true", help="build also what did not change")
    args = parser.parse_args(argv)
    try:
        if args.command == "build":
            for source, target in select(args.names):
                fresh = args.all or bool(args.names)
                if not fresh and is_built(source, target):
                    print(f"{target.name}: up to date")
                else:
                    print(
                        f"{target.name}: built in {build(source, target, fresh=fresh):.1f} s",
                        flush=True,
                    )
        faults = check_all(args.names)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(faults) if faults else "all notebooks pass the checks")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
