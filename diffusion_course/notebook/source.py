"""The package's own lines in a notebook, with their equation and what is checked at the door."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .display import publish

WIDTH = 88  # of a lesson's code line
TOGETHER = "\0"  # a space where no line ends
PARENTHESIS = re.compile(r"\(((?:[^()]|\([^()]*\))*)\)")
Definition = ast.FunctionDef | ast.AsyncFunctionDef


def show_source(*objects: Any, docstring: bool = False) -> None:
    """Show the tested lines of functions, methods or classes as they stand in the package.

    Above them their file and equation. What `door.checked` demands of the arguments is one comment
    line in place of its lines. Docstrings are left out unless `docstring=True`.
    """
    source = source_text(*objects, docstring=docstring)
    publish({"text/markdown": f"```python\n{source}\n```", "text/plain": source})


def source_text(*objects: Any, docstring: bool = False) -> str:
    """Return what `show_source` shows; raises TypeError for an object without Python source."""
    if not objects:
        raise TypeError(
            "show_source() needs a function or a class, got none: show_source(q_sample)."
        )
    parts, above = [], (None, "")
    for obj in objects:
        inner = inspect.unwrap(obj) if callable(obj) else obj
        try:
            source, file = textwrap.dedent(inspect.getsource(inner)).rstrip(), _file_name(inner)
        except (TypeError, OSError, AttributeError) as error:
            raise TypeError(
                f"show_source: no Python source for {inner!r} of type {type(inner).__name__}; "
                "pass a function, a method or a class that was defined in a file."
            ) from error
        here = file, equation(inspect.getdoc(inner) or "")
        news = here[1:] if file == above[0] else here
        heading = ", ".join(filter(None, news)) if here != above else ""
        shown = _rewritten(source, obj, docstring)
        parts.append(f"{_comment(heading)}\n{shown}" if heading else shown)
        above = here
    return "\n\n".join(parts)


def equation(docstring: str) -> str:
    """Return where a docstring says its formula stands, `arXiv 2006.11239, eq. 4`, or "".

    That is the first parenthesis with an equation or an algorithm, else one with an arXiv number in
    the first paragraph. Authors and year are left out.
    """
    text, _, _ = docstring.partition("\n\n")
    for place, words in ((docstring, r"\b(?:eq\.|Algorithm)"), (text, r"\barXiv\b")):
        for found in PARENTHESIS.findall(" ".join(place.split())):
            if re.search(words, found):
                return found[max(0, found.find("arXiv")) :]
    return ""


def _file_name(obj: Any) -> str:
    """Return the file of `obj` as a reader of the repository knows it, from the package's name."""
    if obj.__module__ == "__main__":
        return "this notebook"
    top = sys.modules[obj.__module__.partition(".")[0]]
    path = Path(inspect.getsourcefile(obj))
    is_package = hasattr(top, "__path__")
    return path.relative_to(Path(top.__path__[0]).parent).as_posix() if is_package else path.name


def _rewritten(source: str, obj: Any, docstring: bool) -> str:
    """Return the lines without docstrings, `checked(...)` become one comment inside."""
    lines, drop, insert = source.splitlines(), set(), {}
    for node, function in _definitions(ast.parse(source).body[0], obj):
        for decorator in getattr(node, "decorator_list", ()):
            if getattr(getattr(decorator, "func", None), "id", "") == "checked":
                drop.update(range(decorator.lineno, decorator.end_lineno + 1))
        said = ast.get_docstring(node) is not None
        first, last = node.body[0].lineno, node.body[0].end_lineno
        if said and not docstring and len(node.body) > 1:
            drop.update(range(first, last + 1))
            if last < len(lines) and not lines[last].strip():
                drop.add(last + 1)
        if checks := getattr(function, "checks", None):
            place = last if said else _end_of_signature(node, lines)
            insert[place] = _comment(_demands(checks), " " * node.body[0].col_offset)
    shown = []
    for number, line in enumerate(lines, 1):
        shown += [line] if number not in drop else []
        shown += [insert[number]] if number in insert else []
    return "\n".join(shown)


def _definitions(node: ast.AST, obj: Any) -> Iterator[tuple[ast.AST, Any]]:
    """Yield a class or function with the object it became, then those inside it."""
    if not isinstance(node, Definition | ast.ClassDef):
        return
    yield node, getattr(obj, "fget", obj)
    for child in node.body:
        name = getattr(child, "name", "")
        yield from _definitions(child, getattr(obj, name, None) if inspect.isclass(obj) else None)


def _end_of_signature(node: Definition, lines: list[str]) -> int:
    """Return the number of the line with the colon that ends `def ...:`."""
    named = [*ast.walk(node.args), *([node.returns] if node.returns else [])]
    start = max((getattr(part, "end_lineno", 0) for part in named), default=0) or node.lineno
    after = range(max(start, node.lineno), node.body[0].lineno + 1)
    return next(n for n in after if lines[n - 1].partition("#")[0].rstrip().endswith(":"))


def _demands(checks: dict[str, list[str]]) -> str:
    """Return `checked at the door: x0 (batch, finite), ...`; a check's name is its words."""
    rows = {
        argument: ", ".join(name.strip("_").replace("_", " ") for name in row)
        for argument, row in checks.items()
    }
    named = [f"{argument} ({row})".replace(" ", TOGETHER) for argument, row in rows.items()]
    return f"checked at the door: {', '.join(named)}"


def _comment(text: str, indent: str = "") -> str:
    """Return the text as comment lines; what `TOGETHER` joins stays on one."""
    first, later = f"{indent}# ", f"{indent}#   "
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=later,
        break_long_words=False,
        break_on_hyphens=False,
    ).replace(TOGETHER, " ")
