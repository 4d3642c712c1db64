"""Find the submissions in a folder: who handed in, and where it is. Nothing is followed.

A folder may hold `ID.ipynb`, `ID.zip` or folders `ID/` with a notebook somewhere inside; nbgrader's
`submitted/ID/NAME/NAME.ipynb`; what Canvas and Moodle give for download; or Gradescope's
`submission_N/` with `submission_metadata.yml`, which says whose they are.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ...files.paths import user_path
from ..files import is_folder, is_link, printable, read_file
from ..records import Student
from .downloads import handed_in

_LIST_BYTES = 20 * 2**20  # of Gradescope's list of submissions
# Not notebooks, and still handed in as answers; `roster.csv` and the like are the instructor's.
HANDED_IN = tuple(
    ".py .html .htm .pdf .txt .md .rst .doc .docx .odt .rtf .json .rar .7z .tar .gz .tgz .bz2 .xz"
    " .png .jpg .jpeg".split()
)
_ID = 2_000  # characters of a student id, more than a file name can have
_GRADESCOPE = "submission_metadata.yml"


@dataclasses.dataclass(frozen=True)
class Found:
    """The submissions of a folder, one for each student id, and notes on what was left out.

    `refused` holds (student, why) of those who handed in files of which none can be chosen.
    """

    submissions: tuple[tuple[str, Path], ...]
    notes: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()


def find_submissions(folder: str | os.PathLike) -> list[tuple[str, Path]]:
    """Return (student id, path) of every submission in `folder`, without `scan`'s notes."""
    return list(scan(folder).submissions)


def submissions_folder(folder: str | os.PathLike) -> Path:
    """Return the folder that holds the submissions: `folder`, or nbgrader's `submitted` in it."""
    folder = user_path(folder, "folder")
    if not folder.exists():
        raise FileNotFoundError(f"there is no folder {printable(str(folder))}.")
    if not folder.is_dir():
        raise NotADirectoryError(
            f"{printable(str(folder))} is not a folder. Give the folder that holds the submissions."
        )
    return folder / "submitted" if is_folder(folder / "submitted") else folder


def scan(folder: str | os.PathLike, roster: Collection[Student] = ()) -> Found:
    """Find the submissions in `folder`, sorted by student id.

    The id is the name of file or folder, with whatever cannot be printed spelled as an escape. A
    path may be a link, a folder without a notebook or, where its name ends as what people hand in
    or is on the `roster`, another kind of file: `reading.read_submission` says so. Of two
    submissions with one id, the file comes before the folder and the folder before the zip. Raises
    FileNotFoundError or NotADirectoryError for `folder` itself.
    """
    folder = submissions_folder(folder)
    notes: list[str] = []
    refused: list[tuple[str, str]] = []
    ids = {student.id for student in roster}
    owners = _gradescope_owners(gradescope_entries(folder, notes), notes)
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
        elif suffix in HANDED_IN or path.stem in ids:
            rank, stem = 3, path.stem.removesuffix(".ipynb")
        else:
            notes.append(f"{shown!r} is no submission and is left out")
            continue
        download = None if stem in ids else handed_in(name, roster)
        if download is not None:
            stem = download.student
            if download.is_late:
                notes.append(f"{printable(stem, 80)} handed in late, says Canvas")
        found.setdefault(owners.get(stem) or printable(stem, _ID), []).append((rank, name, path))
    for student, several in found.items():
        several.sort()
        if len(several) > 1 and several[0][0] == several[1][0]:
            names = ", ".join(repr(printable(name, 80)) for _, name, _ in several[:5])
            refused.append((student, f"there are {len(several)} files ({names}). Keep one"))
        elif len(several) > 1:
            taken, *rest = (repr(printable(name, 80)) for _, name, _ in several)
            notes.append(
                f"{student} has {len(several)} submissions: {taken} is read, {', '.join(rest)}"
                " is not"
            )
    alike = {}
    for student in sorted(found):
        if (other := alike.setdefault(student.casefold(), student)) != student:
            notes.append(f"the student ids {other!r} and {student!r} differ in capitals only")
    for student, _ in refused:
        del found[student]
    chosen = tuple((student, found[student][0][2]) for student in sorted(found))
    return Found(chosen, tuple(notes), tuple(refused))


def gradescope_entries(folder: Path, notes: list[str]) -> dict[str, Any]:
    """Return what Gradescope's list of submissions in `folder` says of each, by folder name.

    It is empty where there is no such list; of one that cannot be used, `notes` are told.
    """
    path = folder / _GRADESCOPE
    if not os.path.lexists(path):
        return {}
    try:
        import yaml

        text = read_file(path, _LIST_BYTES).decode("utf-8")
        return dict(yaml.load(text, Loader=yaml.BaseLoader))  # values are texts only
    except Exception as error:  # whatever is wrong with it, the folders' own names remain
        notes.append(_not_used(error))
        return {}


def _gradescope_owners(entries: Mapping[str, Any], notes: list[str]) -> dict[str, str]:
    """Return folder name -> student id from Gradescope's list of submissions."""
    owners = {}
    try:
        for name, entry in entries.items():
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
    except Exception as error:
        notes.append(_not_used(error))
        return {}
    return owners


def _not_used(error: Exception) -> str:
    return (
        f"{_GRADESCOPE} is not used, the folders keep their names as ids"
        f" ({printable(str(error), 100)})"
    )
