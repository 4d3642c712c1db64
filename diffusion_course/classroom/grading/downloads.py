"""Whose a file is that was downloaded from Canvas or Moodle, told from its name.

Canvas: `doejane_12345_678910_hw1.ipynb`, or `doejane_LATE_12345_678910_hw1-1.ipynb`: the name
without what is no letter, last name first, the user's and the file's number
(https://github.com/instructure/canvas-lms/blob/master/lib/content_zipper.rb). Moodle: a folder
`Jane Doe_12345_assignsubmission_file_`, or files that begin so; the number is the participant's in
this assignment (https://docs.moodle.org/en/Using_Assignment).
"""

from __future__ import annotations

import dataclasses
import os
import re
import unicodedata
from collections.abc import Collection, Mapping

from ..files import printable, safe_name
from ..records import Student, Submission

_CANVAS = re.compile(r"(?P<name>[^_ ].*?)(?P<late>_LATE)?_(?P<user>\d+)_\d{5,}_.+")
_MOODLE = re.compile(
    r"(?P<start>(?P<name>[^_].*)_(?P<user>\d+)_assignsubmission_(?:file|onlinetext))(?:_.*)?"
)


@dataclasses.dataclass(frozen=True)
class HandedIn:
    """Whose a download is: an id of the roster, or name and number as the download has them."""

    student: str
    is_late: bool = False


def handed_in(name: str, roster: Collection[Student]) -> HandedIn | None:
    """Return whose the file or folder `name` is, or None where it is no such download.

    On the roster that is who has the number as id, or alone has the name.
    """
    canvas = _CANVAS.fullmatch(name)
    found = canvas or _MOODLE.fullmatch(name)
    if found is None:
        return None
    late = bool(canvas and canvas["late"])
    spelled = _letters(found["name"])
    alike = [one.id for one in roster if one.id == found["user"]]
    alike = alike or [one.id for one in roster if spelled in _spellings(one.name)]
    if len(alike) == 1:
        return HandedIn(alike[0], late)
    return HandedIn(f"{found['name']}_{found['user']}", late)


def return_names(folder: str | os.PathLike, read: Mapping[str, Submission]) -> dict[str, str]:
    """Return by student under which name in a zip their feedback goes back to Canvas or Moodle.

    Canvas takes a file back under the very name of the download. Moodle reads whose it is from the
    beginning, and gives the rest to the student as the file's name. Elsewhere it is `ID.html`.
    """
    names = {}
    for student, one in read.items():
        top = one.path.relative_to(folder).parts[0]
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
