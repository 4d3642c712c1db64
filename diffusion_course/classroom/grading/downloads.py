"""Whose a file is that was downloaded from Canvas or Moodle, told from its name.

Canvas: `doejane_12345_678910_hw1.ipynb`, or `doejane_LATE_12345_678910_hw1-1.ipynb`: the name
without what is no letter, last name first, the user's and the file's number
(https://github.com/instructure/canvas-lms/blob/master/lib/content_zipper.rb). Moodle: a folder
`Jane Doe_12345_assignsubmission_file_`, or files that begin so; the number is the participant's in
this assignment (https://docs.moodle.org/en/Using_Assignment).
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Collection

from ..records import Student

_CANVAS = re.compile(r"(?P<name>[^_ ].*?)(?P<late>_LATE)?_(?P<user>\d+)_\d{5,}_.+")
_MOODLE = re.compile(r"(?P<name>[^_].*)_(?P<user>\d+)_assignsubmission_(?:file|onlinetext)(?:_.*)?")


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


def _spellings(name: str) -> set[str]:
    """A name as it stands and with each of its ends first, as letters alone."""
    parts = name.replace(",", " ").split()
    return {_letters("".join(parts[cut:] + parts[:cut])) for cut in range(len(parts))} - {""}


def _letters(text: str) -> str:
    folded = unicodedata.normalize("NFC", text).casefold()
    return "".join(letter for letter in folded if letter.isalnum())
