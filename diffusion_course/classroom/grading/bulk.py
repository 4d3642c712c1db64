"""One zip of all submissions, as Canvas, Moodle and Gradescope give it for download.

It is unpacked into a temporary folder that its owner alone can read, and nothing of it is followed,
executed or trusted: names lead nowhere else, and sizes have limits. Only notebooks, zips and lists
are unpacked; of other files the name is kept, which is all that is read of them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ..files import Unreadable, printable
from .archives import ARCHIVE_BYTES, RATIO, check_directory, is_left_out, leads_outside
from .reading import NOTEBOOK_BYTES

ENTRIES = 50_000
UNPACKED_BYTES = 8 * 2**30
DIRECTORY_BYTES = 32 * 2**20  # of the zip's list of contents
_TAIL_BYTES = 2**17  # its end is there, with a comment of the longest
_HARMLESS_BYTES = 2**20  # a small file may have any ratio
_LARGEST = {".ipynb": NOTEBOOK_BYTES, ".zip": ARCHIVE_BYTES, ".yml": NOTEBOOK_BYTES, ".txt": 2**16}
_NAME_BYTES = 200  # of a file name; systems allow 255
_NO_NAME = str.maketrans(dict.fromkeys('<>:"|?*', "_"))  # what Windows takes for no name
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError)


@contextmanager
def submissions_in(path: Path, notes: list[str]) -> Iterator[Path]:
    """Give the folder of submissions: `path`, or the folder into which that zip is unpacked.

    `notes` are told what was left out. The folder is removed at the end. Raises FileNotFoundError,
    or ValueError for a zip that cannot be read or is larger than the limits.
    """
    if path.suffix.lower() != ".zip" or not path.is_file():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="classroom-") as folder:
        try:
            _unpack_all(path, Path(folder), notes)
        except (Unreadable, *_DAMAGED) as error:
            raise ValueError(f"{path} cannot be unpacked: {printable(str(error))}.") from error
        yield Path(folder)


def _unpack_all(path: Path, folder: Path, notes: list[str]) -> None:
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
        check_directory(file.read(), DIRECTORY_BYTES)
    taken: set[str] = set()
    room = UNPACKED_BYTES
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if len(entries) > ENTRIES:
            raise Unreadable(f"it has {len(entries)} entries, at most {ENTRIES} are read")
        if any(entry.flag_bits & 1 for entry in entries):
            raise Unreadable("it is encrypted. Unpack it yourself and give the folder")
        for entry in entries:
            name = _name(entry)
            if entry.is_dir() or is_left_out(name):
                continue
            if why := leads_outside(entry, name):
                notes.append(f"the zip entry {printable(name, 80)!r} {why} and is left out")
                continue
            target = _target(folder, name, taken)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.touch()
            except OSError as error:
                what = f"the zip entry {printable(name, 80)!r} cannot be unpacked"
                notes.append(f"{what} ({error.strerror})")
                continue
            try:
                _unpack(archive, entry, target, room)
            except (Unreadable, *_DAMAGED) as error:
                target.write_bytes(b"")  # it stays somebody's file, and is not gradable
                notes.append(f"{printable(name, 80)!r} in the zip file: {printable(str(error))}")
            room -= target.stat().st_size
            if room < 0:
                raise Unreadable(f"it unpacks to more than {UNPACKED_BYTES / 2**30:g} GiB")
            when = time.mktime((*entry.date_time, 0, 0, -1))  # as a zip means it: on this clock
            os.utime(target, (when, when))


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, room: int) -> None:
    most = min(_LARGEST.get(target.suffix.lower(), 0), room + 1)
    with open(target, "wb") as file:
        if not _LARGEST.get(target.suffix.lower()):
            return
        if entry.file_size > most:
            raise Unreadable(f"it unpacks to {entry.file_size / 2**20:.1f} MiB, too much to read")
        if entry.file_size > max(_HARMLESS_BYTES, RATIO * entry.compress_size):
            raise Unreadable(f"it unpacks to more than {RATIO} times its size")
        with archive.open(entry) as source:
            shutil.copyfileobj(source, file, 2**20)  # never more than it says


def _name(entry: zipfile.ZipInfo) -> str:
    """The name as it was meant: with slashes, and in UTF-8 also where the zip does not say so."""
    name = entry.filename
    if not entry.flag_bits & 0x800:
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            pass
    return name.replace("\\", "/")


def _target(folder: Path, name: str, taken: set[str]) -> Path:
    """Where an entry goes: a name that every system takes, and that no other entry has."""
    parts = [_short(printable(part, len(part) + 20)) for part in PurePosixPath(name).parts]
    path = folder.joinpath(*parts)
    number = 2
    while str(path).casefold() in taken:
        path = path.with_name(f"{Path(parts[-1]).stem}-{number}{path.suffix}")
        number += 1
    taken.add(str(path).casefold())
    return path


def _short(part: str) -> str:
    part = part.translate(_NO_NAME).rstrip(". ") or "_"
    stem, suffix = os.path.splitext(part)
    kept = stem.encode("utf-8", "replace")[: _NAME_BYTES - len(suffix.encode("utf-8", "replace"))]
    return kept.decode("utf-8", "ignore") + suffix
