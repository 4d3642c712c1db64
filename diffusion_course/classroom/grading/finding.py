"""Find the submissions in a folder: who handed in, and where it is. Nothing is followed.

A folder may hold `ID.ipynb`, `ID.zip` or folders `ID/` with a notebook somewhere inside; nbgrader's
`submitted/ID/NAME/NAME.ipynb`; what Canvas and Moodle give for download; or Gradescope's
`submission_N/` with `submission_metadata.yml`, which says whose they are.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...files.paths import user_path
from ..files import is_folder, is_link, printable, read_file
from ..records import Student
from .downloads import HandedIn, handed_in

_LIST_BYTES = 20 * 2**20  # of Gradescope's list of submissions
# Not notebooks, and still handed in as answers; `roster.csv` and the like are the instructor's.
HANDED_IN = tuple(
    ".py .html .htm .pdf .txt .md .rst .doc .docx .odt .rtf .json .rar .7z .tar .gz .tgz .bz2 .xz"
    " .png .jpg .jpeg".split()
)
_ID = 2_000  # characters of a student id, more than a file name can have
_GRADESCOPE = "submission_metadata.yml"
_DEPTH, _WIDTH = 4, 200  # of folders around the submissions
_Ranked = tuple[int, str, Path, HandedIn | None]  # what comes first, name, place, whose


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
    inner = [one for one in folder.iterdir() if not one.name.startswith((".", "__MACOSX"))]
    if len(inner) == 1 and is_folder(inner[0]) and (inner[0] / _GRADESCOPE).is_file():
        return inner[0]  # Gradescope's download is a zip with one folder
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
    found: dict[str, list[_Ranked]] = {}
    for path in _entries(folder, {*ids, *owners}, roster, notes):
        name, shown = _own_name(path.name, ids, roster), printable(path.name, 80)
        suffix, stem = path.suffix.lower(), name.removesuffix(path.suffix)
        if is_folder(path) or (is_link(path) and os.path.isdir(path)):
            rank, stem = 1, name if suffix not in (".ipynb", ".zip") else stem
        elif suffix in (".ipynb", ".zip"):
            rank = 0 if suffix == ".ipynb" else 2
        elif suffix in HANDED_IN or stem in ids:
            rank, stem = 3, stem.removesuffix(".ipynb")
        else:
            notes.append(f"{shown!r} is no submission and is left out")
            continue
        download = None if stem in ids else handed_in(name, roster)
        is_somebodys = stem in ids or stem in owners or download is not None
        if rank == 3 and ids and not is_somebodys and f".ipynb{suffix}" not in name.lower():
            notes.append(
                f"{shown!r} is left out: it is no notebook, and nobody on the roster has this id"
            )
            continue
        if download is not None:
            stem, rank = download.student, rank + 4 * download.is_text
            if download.is_late:
                notes.append(f"{printable(stem, 80)} handed in late, says Canvas")
        student = owners.get(stem) or printable(stem, _ID)
        found.setdefault(student, []).append((rank, path.name, path, download))
    for student, several in found.items():
        several.sort(key=lambda one: one[:2])
        _put_latest_first(student, several, notes)
        if len(several) > 1 and several[0][0] == several[1][0]:
            names = ", ".join(repr(printable(name, 80)) for _, name, *_ in several[:5])
            refused.append((student, f"there are {len(several)} files ({names}). Keep one"))
        elif len(several) > 1:
            taken, *rest = (repr(printable(name, 80)) for _, name, *_ in several)
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


def _entries(
    folder: Path,
    ids: Collection[str],
    roster: Collection[Student],
    notes: list[str],
    depth: int = 0,
) -> Iterator[Path]:
    """Yield what lies in `folder`, and in place of a folder of submissions what lies in that."""
    paths = _listed(folder) if depth else [folder / one for one in sorted(os.listdir(folder))]
    paths = [path for path in paths if not _is_hidden(path.name)]
    for path in paths:
        name = path.name
        is_somebodys = name in ids or handed_in(name, roster) is not None
        if depth < _DEPTH and not is_somebodys and is_folder(path):
            if _holds_submissions(path, ids, roster, is_alone=depth > 0 or len(paths) == 1):
                notes.append(f"the submissions in {printable(name, 80)!r} are read")
                yield from _entries(path, ids, roster, notes, depth + 1)
                continue
        yield path


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in (_GRADESCOPE, "__MACOSX")


def _holds_submissions(
    folder: Path, ids: Collection[str], roster: Collection[Student], *, is_alone: bool
) -> bool:
    """Whether a folder is no student's own: submissions of several lie in it, or it is all."""
    whose: set[str] = set()
    level = [folder]
    for _ in range(_DEPTH):
        below = []
        for path in (one for here in level[:_WIDTH] for one in _listed(here)):
            download = handed_in(path.name, roster)
            named = {download.student} if download else {path.name, path.stem} & {*ids}
            whose |= named
            if not named and is_folder(path):
                below.append(path)
        level = below
    if ids:
        whose &= {*ids}
    return len(whose) > 1 or (is_alone and bool(whose))


def _listed(folder: Path) -> list[Path]:
    try:
        return [folder / one for one in sorted(os.listdir(folder)) if not _is_hidden(one)]
    except OSError:
        return []


def _own_name(name: str, ids: Collection[str], roster: Collection[Student]) -> str:
    """The name that says whose a file is, where an old program wrote its folders into it."""
    parts = [part for part in name.split("\\") if part]
    if len(parts) < 2:
        return name
    own = (one for one in parts if Path(one).stem in ids or handed_in(one, roster) is not None)
    return next(own, parts[-1])


def _put_latest_first(student: str, several: list[_Ranked], notes: list[str]) -> None:
    """Of several versions of one file that Canvas has numbered, keep the latest, and say so."""
    alike = [one for one in several if one[0] == several[0][0] and one[3] is not None]
    if len(alike) < 2 or len(alike) < sum(one[0] == several[0][0] for one in several):
        return
    versions = [one[3].version for one in alike]
    if len({one[3].file for one in alike}) == 1 and len({*versions}) == len(versions):
        latest = max(alike, key=lambda one: one[3].version)
        names = ", ".join(repr(printable(one[1], 80)) for one in alike if one is not latest)
        notes.append(
            f"{student} handed in {len(alike)} versions: {printable(latest[1], 80)!r} is read,"
            f" {names} is older"
        )
        several[:] = [latest, *(one for one in several if one not in alike)]


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
