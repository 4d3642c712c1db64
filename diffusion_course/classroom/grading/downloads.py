"""Whose a file is that was downloaded from Canvas or Moodle, told from its name.

Canvas: `doejane_12345_678910_hw1.ipynb`, or `doejane_LATE_12345_678910_hw1-1.ipynb`: the name
without what is no letter, last name first, the user's and the file's number; -1 is the second
version. Without names: `anon_aB3xZ_678910_hw1.ipynb`, `LATE_anon_...`
(https://github.com/instructure/canvas-lms/blob/master/lib/content_zipper.rb). Moodle: a folder
`Jane Doe_12345_assignsubmission_file_`, or files that begin so; the number is the participant's in
this assignment (https://docs.moodle.org/en/Using_Assignment).
"""

from __future__ import annotations

import dataclasses
import os
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence

from ..files import printable, safe_name
from ..records import Student, Submission

_CANVAS = re.compile(
    r"(?:(?P<first>LATE_)?anon_(?P<anonymous>[A-Za-z0-9]{5})"
    r"|(?P<name>[^_ ].*?)(?P<late>_LATE)?_(?P<user>\d+))_\d{5,}_(?P<file>.+)"
)
_MOODLE = re.compile(
    r"(?P<start>(?P<name>[^_].*?)_(?P<user>\d+)_assignsubmission_(?P<kind>file|onlinetext))"
    r"(?:_(?P<file>.*))?",
    re.DOTALL,
)
_VERSION = re.compile(r"-(\d{1,4})$")


@dataclasses.dataclass(frozen=True)
class HandedIn:
    """Whose a download is: an id of the roster, or name and number as the download has them.

    `number` is that of the user in Canvas, of the participant in Moodle, "" where there is none;
    `lms` says in which of them. `file` is what the student called the file, `version` how often
    Canvas had it before, `is_text` that it is what was typed into Moodle's own field.
    """

    student: str
    is_late: bool = False
    lms: str = ""
    number: str = ""
    file: str = ""
    version: int = 0
    is_text: bool = False


def handed_in(name: str, roster: Collection[Student]) -> HandedIn | None:
    """Return whose the file or folder `name` is, or None where it is no such download.

    On the roster that is who has the number as id, or alone has the name.
    """
    if canvas := _CANVAS.fullmatch(name):
        found, late = canvas, bool(canvas["late"] or canvas["first"])
        stem, dot, ending = canvas["file"].rpartition(".")
        again = _VERSION.search(stem)
        kept = stem[: again.start()] if again else stem
        more = {"file": f"{kept}{dot}{ending}", "version": int(again[1]) if again else 0}
        if canvas["anonymous"]:
            return HandedIn(f"anon_{canvas['anonymous']}", late, "canvas", **more)
    elif moodle := _MOODLE.fullmatch(name):
        found, late = moodle, False
        more = {"file": moodle["file"] or "", "is_text": moodle["kind"] == "onlinetext"}
    else:
        return None
    spelled = _letters(found["name"])
    alike = [one.id for one in roster if one.id == found["user"]]
    alike = alike or [one.id for one in roster if spelled in _spellings(one.name)]
    whose = alike[0] if len(alike) == 1 else f"{found['name']}_{found['user']}"
    return HandedIn(whose, late, "canvas" if canvas else "moodle", found["user"], **more)


def numbers_in(
    folder: str | os.PathLike, read: Mapping[str, Submission]
) -> dict[str, tuple[str, str]]:
    """Return by student the LMS that a submission is from, and its number of the student there."""
    labels = {student: label(one.path.relative_to(folder).parts) for student, one in read.items()}
    found = {student: handed_in(name, ()) for student, name in labels.items()}
    return {student: (one.lms, one.number) for student, one in found.items() if one and one.number}


def label(parts: Sequence[str], roster: Collection[Student] = ()) -> str:
    """Return the part of a path that says whose it is: a download's name, or else the first.

    Downloads may lie in folders, one for each section of a course.
    """
    return next((part for part in parts if handed_in(part, roster) is not None), parts[0])


def return_names(folder: str | os.PathLike, read: Mapping[str, Submission]) -> dict[str, str]:
    """Return by student under which name in a zip their feedback goes back to Canvas or Moodle.

    Canvas takes a file back under the very name of the download. Moodle reads whose it is from the
    beginning, and gives the rest to the student as the file's name. Elsewhere it is `ID.html`.
    """
    names = {}
    for student, one in read.items():
        top = label(one.path.relative_to(folder).parts)
        names[student] = f"{safe_name(student)}.html"
        if printable(top, len(top)) != top:  # no name that every zip can hold
            continue
        if _CANVAS.fullmatch(top) and one.path.name == top:
            names[student] = top
        elif found := _MOODLE.fullmatch(top):
            start, end = top[: found.end("start")], one.path.name == top
            names[student] = f"{start}_feedback.html" if end else f"{top}/feedback.html"
    return names


def _spellings(name: str) -> set[str]:
    """A name as it stands and with each of its ends first, as letters alone."""
    parts = name.replace(",", " ").split()
    return {_letters("".join(parts[cut:] + parts[:cut])) for cut in range(len(parts))} - {""}


def _letters(text: str) -> str:
    folded = unicodedata.normalize("NFC", text).casefold()
    return "".join(letter for letter in folded if letter.isalnum())
