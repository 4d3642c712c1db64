"""Notebooks out of a student's zip file.

Nothing is unpacked to disk, and nothing is decompressed beyond the limits.
"""

from __future__ import annotations

import io
import posixpath
import stat
import struct
import zipfile
import zlib

from ..files import Unreadable, printable

ARCHIVE_BYTES = 40 * 2**20
ENTRIES = 1_000
UNPACKED_BYTES = 64 * 2**20
RATIO = 200  # text hardly ever compresses better than 1 : 50
_DIRECTORY_BYTES = 2**20  # of the zip's list of contents
_HARMLESS_BYTES = 2**20  # a small file may have any ratio
_END, _LOCATOR_64 = b"PK\x05\x06", b"PK\x06\x07"


def notebooks_in(content: bytes, largest: int) -> tuple[list[tuple[str, bytes]], list[str]]:
    """Return (name, content) of every notebook in a zip file, and notes on what was left out.

    Left out: paths that lead outside, links, zips within the zip, hidden files, and what is not a
    notebook. Raises Unreadable for what is no zip file, is encrypted, or unpacks to more than the
    limits (`largest` bytes for one notebook).
    """
    check_directory(content, _DIRECTORY_BYTES)
    notes: list[str] = []
    found: list[tuple[str, bytes]] = []
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            if len(entries) > ENTRIES:
                raise Unreadable(
                    f"the zip file has {len(entries)} entries, at most {ENTRIES} are read"
                )
            unpacked = 0
            for entry in entries:
                if not _is_wanted(entry, notes):
                    continue
                data = _unpack(archive, entry, largest)
                unpacked += len(data)
                if unpacked > UNPACKED_BYTES:
                    raise Unreadable(
                        f"the zip file unpacks to more than {UNPACKED_BYTES / 2**20:g} MiB"
                    )
                found.append((entry.filename, data))
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        ValueError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise Unreadable(
            f"the zip file is damaged or of an unknown kind ({printable(str(error), 100)})"
        ) from error
    return found, notes


def check_directory(content: bytes, most: int) -> None:
    """Refuse a list of contents so long that merely reading it would fill the memory.

    `content` is the zip or its end. Raises Unreadable for more than `most` bytes, and for no zip.
    """
    end = content.rfind(_END)
    if end < 0 or len(content) < end + 22:
        raise Unreadable("it is not a zip file")
    if content[-22:-18] == _END and end != len(content) - 22:
        raise Unreadable("the zip file has two ends")
    (size,) = struct.unpack_from("<L", content, end + 12)
    if end >= 76 and content[end - 20 : end - 16] == _LOCATOR_64:
        (size,) = struct.unpack_from("<Q", content, end - 76 + 40)
    if size > most:
        raise Unreadable(f"the zip file's list of contents takes {size / 2**20:.1f} MiB")


def is_left_out(name: str) -> bool:
    """Whether an entry is hidden or one that macOS adds; `name` has slashes."""
    return any(
        part.startswith(".") and part not in (".", "..") or part == "__MACOSX"
        for part in name.split("/")
    )


def leads_outside(entry: zipfile.ZipInfo, name: str) -> str:
    """Return why an entry is not taken, as the end of a sentence, or ""; `name` has slashes."""
    parts = name.split("/")
    if posixpath.isabs(name) or ".." in parts or ":" in parts[0][:2]:
        return "leads outside"
    return "is a symbolic link" if stat.S_ISLNK(entry.external_attr >> 16) else ""


def _is_wanted(entry: zipfile.ZipInfo, notes: list[str]) -> bool:
    name = entry.filename.replace("\\", "/")
    if entry.is_dir() or is_left_out(name):
        return False
    if why := leads_outside(entry, name):
        notes.append(f"the zip entry {printable(entry.filename, 80)!r} {why} and is left out")
        return False
    if name.lower().endswith(".zip"):
        notes.append(
            f"the zip file within the zip file, {printable(entry.filename, 80)!r}, is not opened"
        )
    return name.lower().endswith(".ipynb")


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, largest: int) -> bytes:
    name = repr(printable(entry.filename, 80))
    if entry.flag_bits & 1:
        raise Unreadable(f"{name} in the zip file is encrypted")
    if entry.compress_type not in (
        zipfile.ZIP_STORED,
        zipfile.ZIP_DEFLATED,
    ):  # the others cannot be unpacked bit by bit
        raise Unreadable(
            f"{name} in the zip file is compressed by method {entry.compress_type}; stored and"
            " deflate are read"
        )
    if entry.file_size > largest:
        size, most = entry.file_size / 2**20, largest / 2**20
        raise Unreadable(
            f"{name} in the zip file unpacks to {size:.1f} MiB, at most {most:g} are read"
        )
    if entry.file_size > max(_HARMLESS_BYTES, RATIO * entry.compress_size):
        raise Unreadable(f"{name} in the zip file unpacks to more than {RATIO} times its size")
    with archive.open(entry) as file:
        data = file.read(largest + 1)
    if len(data) > largest:
        raise Unreadable(f"{name} in the zip file unpacks to more than it says")
    return data
