"""Read a submission that was found. It is data: nothing is unpacked to disk or executed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from ..files import Unreadable, is_link, printable, read_file
from ..records import Submission
from .archives import ARCHIVE_BYTES, notebooks_in
from .cells import OPEN, Notebook, parse_notebook

NOTEBOOK_BYTES = 20 * 2**20
SUFFIXES = (".ipynb", ".zip")  # of what is read
NO_NOTEBOOK = "it holds no notebook (a file that ends in .ipynb)"
_LISTED = 5
_CANDIDATES = 20  # notebooks of one submission that are looked at
_DEPTH, _ENTRIES = 6, 2_000  # of the folders in one submission


def read_submission(
    path: str | os.PathLike, student_id: str, *, assignment: str | None = None
) -> Submission:
    """Read one submission: a notebook, or a folder or a zip file that holds one.

    Never raises for what a student handed in. Of several notebooks, the one is read that names
    `assignment` in its metadata or is called so, else the only one that holds answers. `problem`
    says why there is none; `path` is the notebook that was read, for a zip file the zip.
    """
    path = Path(path)
    shown = printable(path.name, 80)
    notes: list[str] = []
    digest = hashlib.sha256()
    try:
        candidates = list(_candidates(path, notes, digest))
        name, where, notebook, sha256 = _choose(candidates, assignment)
    except Unreadable as error:
        problem = f"{shown}: {error}."
        digest.update(problem.encode("utf-8"))
        return Submission(student_id, path, digest.hexdigest(), problem=problem, notes=tuple(notes))
    if len(candidates) > 1:
        notes.append(f"of {len(candidates)} notebooks {printable(name, 80)!r} is read")
    return Submission(
        student_id,
        where,
        sha256,
        notebook.cells,
        notebook.written,
        notebook.unread,
        made_for=notebook.student or "",
        notes=(*notes, *notebook.notes),
    )


_Candidate = tuple[str, Path, Notebook | Unreadable, str]


def _candidates(path: Path, notes: list[str], digest: hashlib._Hash) -> Iterator[_Candidate]:
    """Yield (name, file, content or why it cannot be read, sha256) of each notebook at `path`.

    Of equal files, one is yielded.
    """
    contents = _contents(path, notes)
    if not contents:
        raise Unreadable(NO_NOTEBOOK)
    if len(contents) > _CANDIDATES:
        raise Unreadable(
            f"it holds {len(contents)} notebooks, at most {_CANDIDATES} are looked at. Keep the one"
            " to grade"
        )
    seen = set()
    for name, where, read in contents:
        sha256 = ""
        try:
            data = read()
            digest.update(data)
            sha256 = hashlib.sha256(data).hexdigest()
            if sha256 in seen:
                continue
            seen.add(sha256)
            yield name, where, parse_notebook(data), sha256
        except Unreadable as error:
            yield name, where, error, sha256


def _contents(path: Path, notes: list[str]) -> list[tuple[str, Path, object]]:
    if is_link(path):
        raise Unreadable("it is a symbolic link, which is not followed")
    if not os.path.isdir(path):
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES and os.path.lexists(path):
            raise Unreadable(f"it is a {printable(suffix, 20)} file, not a notebook (.ipynb)")
        return (_archive if suffix == ".zip" else _file)(path, path.parent, notes)
    files = list(_walk(path, notes))
    if notebooks := [file for file in files if file.suffix.lower() == ".ipynb"]:
        return [one for file in notebooks for one in _file(file, path.parent, notes)]
    archives = [file for file in files if file.suffix.lower() == ".zip"]
    if len(archives) != 1 and files:
        listed = ", ".join(repr(printable(file.name, 60)) for file in files[:_LISTED])
        raise Unreadable(f"{NO_NOTEBOOK} but {listed}")
    return _archive(archives[0], path.parent, notes) if archives else []


def _file(path: Path, top: Path, notes: list[str]) -> list[tuple[str, Path, object]]:
    return [(path.name, path, lambda: read_file(path, NOTEBOOK_BYTES, below=top, notes=notes))]


def _archive(path: Path, top: Path, notes: list[str]) -> list[tuple[str, Path, object]]:
    content = read_file(path, ARCHIVE_BYTES, below=top, notes=notes)
    members, remarks = notebooks_in(content, NOTEBOOK_BYTES)
    notes += remarks
    return [(name, path, lambda data=data: data) for name, data in members]


def _walk(folder: Path, notes: list[str]) -> Iterator[Path]:
    """Yield the files in `folder` and below, in order of their names, without following links."""
    waiting, looked_at = [(folder, 0)], 0
    while waiting:
        here, depth = waiting.pop()
        try:
            names = sorted(os.listdir(here))
        except OSError as error:
            notes.append(
                f"the folder {printable(here.name, 80)!r} cannot be read ({error.strerror})"
            )
            continue
        looked_at += len(names)
        if looked_at > _ENTRIES:
            raise Unreadable(f"it holds more than {_ENTRIES} files. Hand in the notebook alone")
        below = []
        for name in names:
            path = here / name
            if name.startswith(".") or name == "__MACOSX":
                continue
            if is_link(path):
                notes.append(f"{printable(name, 80)!r} is a symbolic link and is not followed")
            elif not os.path.isdir(path):
                yield path
            elif depth < _DEPTH:
                below.append((path, depth + 1))
            else:
                notes.append(f"the folder {printable(name, 80)!r} is too deep and is left out")
        waiting += reversed(below)


def _choose(
    candidates: list[_Candidate], assignment: str | None
) -> tuple[str, Path, Notebook, str]:
    good = [one for one in candidates if isinstance(one[2], Notebook)]
    if not good:
        name, _, error, _ = candidates[0]
        raise Unreadable(
            str(error) if len(candidates) == 1 else f"{printable(name, 80)!r}: {error}"
        )
    if assignment is not None:
        others = [one for one in good if one[2].assignment not in (None, assignment)]
        good = [one for one in good if one not in others]
        if not good:
            raise Unreadable(
                f"it is the notebook of assignment {printable(others[0][2].assignment, 80)!r}, not"
                f" {assignment!r}"
            )
    tests = (
        lambda one: assignment is not None and one[2].assignment == assignment,
        lambda one: assignment is not None and Path(one[0]).stem == assignment,
        lambda one: bool(_answers(one[2])),
        lambda one: len(good) == 1,
    )
    for number, test in enumerate(tests):
        fitting = [one for one in good if test(one)]
        if len(fitting) > 1 and number == 0:
            good = fitting  # which of them the name cannot say: copies keep what is in them
            break
        if len(fitting) == 1:
            _must_not_be_blank(fitting[0], good)
            return fitting[0]
    names = ", ".join(repr(printable(one[0], 60)) for one in good[:_LISTED])
    raise Unreadable(
        f"it holds {len(good)} notebooks that may be the answer ({names}). Keep the one to grade"
    )


def _answers(notebook: Notebook) -> list[str]:
    return [cell.source for cell in notebook.cells if (cell.grade_id or "").startswith("answer-")]


def _must_not_be_blank(chosen: _Candidate, good: list[_Candidate]) -> None:
    """Raise Unreadable where nothing is answered in the one that was chosen, and in another is."""
    answers = _answers(chosen[2])
    if answers and all(map(OPEN.search, answers)):
        for other in good:
            if not all(map(OPEN.search, _answers(other[2]))):
                names = (printable(chosen[0], 60), printable(other[0], 60))
                raise Unreadable(f"{names[0]!r} is blank and {names[1]!r} is not. Keep the latter")
