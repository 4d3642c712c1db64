"""Find the submissions in a folder and read them. They are data: nothing is followed, unpacked to
disk or executed.

A folder may hold `ID.ipynb`, `ID.zip` or folders `ID/` with a notebook somewhere inside; nbgrader's
`submitted/ID/NAME/NAME.ipynb`; or Gradescope's `submission_N/` with `submission_metadata.yml`,
which says whose they are.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from ..files import Unreadable, is_folder, is_link, printable, read_file
from ..records import Submission
from .archives import ARCHIVE_BYTES, notebooks_in
from .cells import Notebook, parse_notebook

NOTEBOOK_BYTES = 20 * 2**20
_CANDIDATES = 20  # notebooks of one submission that are looked at
_DEPTH, _ENTRIES = 6, 2_000  # of the folders in one submission
_ID = 2_000  # characters of a student id, more than a file name can have
_GRADESCOPE = "submission_metadata.yml"


@dataclasses.dataclass(frozen=True)
class Found:
    """The submissions of a folder, one for each student id, and notes on what was left out."""

    submissions: tuple[tuple[str, Path], ...]
    notes: tuple[str, ...] = ()


def find_submissions(folder: str | os.PathLike) -> list[tuple[str, Path]]:
    """Return (student id, path) of every submission in `folder`, as `scan` does, without its notes.
    """
    return list(scan(folder).submissions)


def scan(folder: str | os.PathLike) -> Found:
    """Find the submissions in `folder`, sorted by student id.

    The id is the name of file or folder, with whatever cannot be printed spelled as an escape. A
    path may be a link or a
    folder without a notebook: `read_submission` says so. Of two submissions with one id, the file
    comes before the folder and the folder before the zip. Raises FileNotFoundError or
    NotADirectoryError for `folder` itself.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"there is no folder {printable(str(folder))}.")
    if not folder.is_dir():
        raise NotADirectoryError(
            f"{printable(str(folder))} is not a folder. Give the folder that holds the submissions."
        )
    if is_folder(folder / "submitted"):
        folder = folder / "submitted"
    notes: list[str] = []
    owners = _gradescope_owners(folder / _GRADESCOPE, notes)
    found: dict[str, list[tuple[int, str, Path]]] = {}
    for name in sorted(os.listdir(folder)):
        path, shown = folder / name, printable(name, 80)
        suffix = path.suffix.lower()
        if name.startswith(".") or name in (_GRADESCOPE, "__MACOSX"):
            continue
        if is_folder(path) or (is_link(path) and os.path.isdir(path)):
            rank, stem = 1, name if suffix not in (".ipynb", ".zip") else path.stem
        elif suffix in (".ipynb", ".zip"):
            rank, stem = 0 if suffix == ".ipynb" else 2, path.stem
        else:
            notes.append(f"{shown!r} is no submission and is left out")
            continue
        found.setdefault(owners.get(stem) or printable(stem, _ID), []).append((rank, name, path))
    for student, several in found.items():
        several.sort()
        if len(several) > 1:
            taken, *rest = (repr(printable(name, 80)) for _, name, _ in several)
            notes.append(
                f"{student} has {len(several)} submissions: {taken} is read, {', '.join(rest)}"
                " is not"
            )
    alike = {}
    for student in sorted(found):
        if (other := alike.setdefault(student.casefold(), student)) != student:
            notes.append(f"the student ids {other!r} and {student!r} differ in capitals only")
    return Found(tuple((student, found[student][0][2]) for student in sorted(found)), tuple(notes))


def _gradescope_owners(path: Path, notes: list[str]) -> dict[str, str]:
    """Return folder name -> student id, from Gradescope's list of submissions, where there is one.
    """
    if not os.path.lexists(path):
        return {}
    try:
        import yaml

        entries = yaml.load(
            read_file(path, NOTEBOOK_BYTES).decode("utf-8"), Loader=yaml.BaseLoader
        )  # text only
        owners = {}
        for name, entry in dict(entries).items():
            people = [
                str(one.get(":sid") or one.get(":email") or "") for one in entry[":submitters"]
            ]
            if people and people[0]:
                owners[str(name)] = printable(people[0], _ID)
            if len(people) > 1:
                others = ", ".join(map(printable, people[1:]))
                notes.append(
                    f"{printable(str(name))} is a group's: it is graded for {printable(people[0])},"
                    f" not for {others}"
                )
        return owners
    except Exception as error:  # whatever is wrong with it, the folders' own names remain
        notes.append(
            f"{path.name} is not used, the folders keep their names as ids"
            f" ({printable(str(error), 100)})"
        )
        return {}


def read_submission(
    path: str | os.PathLike, student_id: str, *, assignment: str | None = None
) -> Submission:
    """Read one submission: a notebook, a folder or a zip file that holds one. Never raises for what
    a student handed in.

    Of several notebooks, the one is read that names `assignment` in its metadata or is called so,
    else the only one that holds answers. `problem` says why there is none; `path` is the notebook
    that was read, for a zip file the zip.
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
        student_id, where, sha256, notebook.cells, notebook.written, notes=(*notes, *notebook.notes)
    )


_Candidate = tuple[str, Path, Notebook | Unreadable, str]


def _candidates(path: Path, notes: list[str], digest: hashlib._Hash) -> Iterator[_Candidate]:
    """Yield (name, file, content or why it cannot be read, sha256) of every notebook at `path`;
    none twice.
    """
    contents = _contents(path, notes)
    if not contents:
        raise Unreadable("it holds no notebook (a file that ends in .ipynb)")
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
        return _archive(path, notes) if path.suffix.lower() == ".zip" else [_file(path)]
    files = list(_walk(path, notes))
    if notebooks := [file for file in files if file.suffix.lower() == ".ipynb"]:
        return [_file(file) for file in notebooks]
    archives = [file for file in files if file.suffix.lower() == ".zip"]
    return _archive(archives[0], notes) if len(archives) == 1 else []


def _file(path: Path) -> tuple[str, Path, object]:
    return path.name, path, lambda: read_file(path, NOTEBOOK_BYTES)


def _archive(path: Path, notes: list[str]) -> list[tuple[str, Path, object]]:
    members, remarks = notebooks_in(read_file(path, ARCHIVE_BYTES), NOTEBOOK_BYTES)
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
        lambda one: any((cell.grade_id or "").startswith("answer-") for cell in one[2].cells),
        lambda one: len(good) == 1,
    )
    for test in tests:
        if len(fitting := [one for one in good if test(one)]) == 1:
            return fitting[0]
    names = ", ".join(repr(printable(one[0], 60)) for one in good[:5])
    raise Unreadable(
        f"it holds {len(good)} notebooks that may be the answer ({names}). Keep the one to grade"
    )
