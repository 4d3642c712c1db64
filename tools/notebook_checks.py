"""What a committed notebook must satisfy; each rule is a function that yields its faults."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

MAX_LINES, MAX_COLUMNS = 16, 88
# A line that is there because a statement was broken: text alone, one name of an import, closing
# brackets; and a comment.
STRING = r"""[rbf]*(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
NOT_COUNTED = re.compile(rf"#.*|(?:{STRING}[\])}}:,\s]*)+|[\])}},]+:?|\w+,")
MAX_BYTES = 3 * 2**20
MACHINE_PATH = re.compile(r"/(?:root|work|tmp|home|Users)/\w|/var/folders/|[A-Z]:\\Users\\")
FILLER = re.compile(
    r"\b(simply|obviously|as we all know|dive in|it can be shown|exciting)\b", re.IGNORECASE
)
EMOJI = re.compile("[\U0001f000-\U0001faff\u2600-\u27bf\ufe0f]")
# What is not prose: fenced and inline code, formulas, comments, the bang of a picture.
NOT_PROSE = re.compile(
    r"```.*?```|~~~.*?~~~|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$|\\\[.*?\\\]|<!--.*?-->|!(?=\[)|<!",
    re.DOTALL,
)
DRAWING = re.compile(r"^\[drawing\] ", re.MULTILINE)
FIGURE = re.compile(
    r"^(?:\[figure\]|\[drawing\]|Explorer\([^\n]*\):) (?P<alt>\S[^\n]{14,})", re.MULTILINE
)


def inputs(notebook: NotebookNode) -> list[tuple]:
    """What a person wrote in a notebook: kind, text and tags of every cell."""
    return [
        (cell.cell_type, cell.source, tuple(cell.metadata.get("tags", ())))
        for cell in notebook.cells
    ]


def exported_names() -> frozenset[str]:
    """The names that the package exports, its modules aside."""
    import diffusion_course

    folder = Path(diffusion_course.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} | {
        path.parent.name for path in folder.glob("*/__init__.py")
    }
    return frozenset(diffusion_course.__all__) - modules


def check_notebook(path: Path, source: NotebookNode, exported: frozenset[str]) -> list[str]:
    """Every fault of one stored notebook, as `file: cell n: what is wrong`."""
    size = path.stat().st_size
    faults = (
        [f"{size / 2**20:.1f} MiB, at most {MAX_BYTES / 2**20:.0f} MiB"] if size > MAX_BYTES else []
    )
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except (nbformat.ValidationError, nbformat.reader.NotJSONError) as error:
        return [f"{path.name}: not a valid notebook: {str(error).splitlines()[0]}"]
    if inputs(notebook) != inputs(source):
        faults.append(
            f"differs from its source ({first_difference(inputs(notebook), inputs(source))}); run"
            " make notebooks"
        )
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    if counts != list(range(1, len(counts) + 1)):
        faults.append(f"execution counts are {counts}, not 1..{len(counts)}: not run top to bottom")
    if "widgets" in notebook.metadata:
        faults.append("stores widget state")
    for number, cell in enumerate(notebook.cells, start=1):
        rules = (
            (code_faults(cell, exported), output_faults(cell))
            if cell.cell_type == "code"
            else (prose_faults(cell),)
        )
        faults += [f"cell {number}: {fault}" for rule in rules for fault in rule]
    return [f"{path.name}: {fault}" for fault in faults]


def first_difference(stored: list[tuple], source: list[tuple]) -> str:
    """Where two lists of inputs part."""
    if len(stored) != len(source):
        return f"{len(stored)} cells, source has {len(source)}"
    return (
        f"cell {next(n for n, (a, b) in enumerate(zip(stored, source, strict=True), 1) if a != b)}"
    )


def code_faults(cell: NotebookNode, exported: frozenset[str]) -> Iterator[str]:
    """Too long or too wide, a machine path, or a name of the package defined a second time."""
    lines = code_lines(cell.source)
    if lines > MAX_LINES and "long" not in cell.metadata.get("tags", ()):
        yield f"{lines} lines of code, at most {MAX_LINES} (tag it `long` if it must be so)"
    for number, line in enumerate(cell.source.splitlines(), start=1):
        if len(line) > MAX_COLUMNS:
            found = f"{len(line)} characters of code, at most {MAX_COLUMNS}"
            yield f"line {number}: {found}: {line.strip()[:40]!r}"
    if MACHINE_PATH.search(cell.source):
        yield "names a path of one machine"
    try:
        tree = ast.parse(re.sub(r"^\s*[%!].*$", "", cell.source, flags=re.MULTILINE))
    except SyntaxError as error:
        yield f"is not Python: {error}"
        return
    for name in sorted(defined_names(tree) & exported):
        yield f"defines {name}, which the package exports; import it, or use another name"


def code_lines(source: str) -> int:
    """How many lines a reader has to follow: without blank lines, comments and what only breaking a
    statement adds.
    """
    lines = (line.strip() for line in source.splitlines())
    return sum(1 for line in lines if line and not NOT_COUNTED.fullmatch(line))


def defined_names(tree: ast.Module) -> set[str]:
    """Names that the cell binds at its top level, other than by importing them from the package
    under their own name.
    """
    names: set[str] = set()
    queue = list(ast.iter_child_nodes(tree))
    while queue:
        node = queue.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)  # its body has a scope of its own
        elif (
            isinstance(node, ast.ImportFrom)
            and (node.module or "").split(".")[0] == "diffusion_course"
        ):
            names |= {
                alias.asname for alias in node.names if alias.asname not in (None, alias.name)
            }
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif not isinstance(
            node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
        ):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            queue.extend(ast.iter_child_nodes(node))
    return names


def output_faults(cell: NotebookNode) -> Iterator[str]:
    """An error, stderr, a machine path, a widget view, or a picture without its text."""
    allowed = "raises-exception" in cell.metadata.get("tags", ())
    for output in cell.outputs:
        data = output.get("data", {})
        if output.output_type == "error" and not allowed:
            yield f"stores an error: {output.ename}: {output.evalue}"
        if output.get("name") == "stderr":
            yield f"stores stderr: {output.text.strip()[:80]!r}"
        if any("widget-view" in mime for mime in data):
            yield "stores a widget view"
        texts = [
            output.get("text", ""),
            *output.get("traceback", ()),
            *(v for m, v in data.items() if m.startswith("text/")),
        ]
        if any(MACHINE_PATH.search(str(text)) for text in texts):
            yield "shows a path of one machine"
        text = str(data.get("text/plain", ""))
        if any(mime.startswith("image/") for mime in data) and not FIGURE.search(text):
            yield (
                f"picture without alt text: text/plain is {text[:60]!r}, expected '[figure] <what"
                " it shows>'"
            )
        if "<img" in str(data.get("text/html", "")) and "alt=" not in data["text/html"]:
            yield "picture in HTML without alt text"


def prose_faults(cell: NotebookNode) -> Iterator[str]:
    """Exclamation marks, emoji, filler words and machine paths in Markdown."""
    prose = NOT_PROSE.sub(" ", cell.source)
    if "!" in prose:
        yield f"exclamation mark: {prose[max(0, prose.index('!') - 30) : prose.index('!') + 1]!r}"
    if match := EMOJI.search(prose):
        yield f"emoji {match.group()!r}"
    for match in FILLER.finditer(prose):
        yield f"filler word {match.group()!r}"
    if MACHINE_PATH.search(cell.source):
        yield "names a path of one machine"
