"""What is graded already, so that a run that was killed can go on.

There is one file for each submission, written whole.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import torch

from ...files.paths import write_bytes
from ..assignment.assignment import Assignment
from ..assignment.schedule import Schedule
from ..files import safe_name
from ..records import Graded, Mark

PARTS = ("graded", "history", "feedback")  # folders in the folder of reports
PACKAGE = Path(__file__).resolve().parents[2]


class InUse(RuntimeError):
    """Another run writes to the same folder."""


def grading_key(assignment: Assignment, settings: str) -> str:
    """Return a digest of everything besides the submission that marks depend on.

    That is the assignment without its dates, its title and who else is on the roster, the settings,
    the whole package, and the versions of what it runs on. A student's own numbers come from the
    seed and the id, and from whether there is a roster.
    """
    versions = (sys.version, torch.__version__, np.__version__)
    plain = dataclasses.replace(assignment, title="-", roster=(), schedule=Schedule())
    asked = (dataclasses.astuple(plain), bool(assignment.roster))
    digest = hashlib.sha256(repr((asked, settings, versions)).encode())
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in (".py", ".md"):
            digest.update(repr((str(path.relative_to(PACKAGE)), path.read_bytes())).encode())
    return digest.hexdigest()


class Journal:
    """The folder of graded submissions."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*"):  # cut short when a run was killed
            left.unlink()

    def path(self, student: str) -> Path:
        """The file of a student."""
        return self.folder / f"{safe_name(student)}.json"

    def get(self, student: str, sha256: str) -> Graded | None:
        """Return what was graded of this very submission by this very grader, or None."""
        try:
            content = json.loads(self.path(student).read_text(encoding="utf-8"))
            known = (content["key"], content["sha256"], content["student"])
            if known != (self.key, sha256, student):
                return None
            marks = tuple(Mark(**one) for one in content["marks"])
            notes, seconds = tuple(content["notes"]), float(content["seconds"])
            return Graded(student, sha256, marks, notes, seconds=seconds)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, graded: Graded) -> None:
        """Keep one graded submission."""
        content = {"key": self.key, **dataclasses.asdict(graded)}
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        write_bytes(self.path(graded.student), text.encode("utf-8"))


@contextmanager
def hold_folder(out: Path) -> Iterator[None]:
    """Hold the folder for this process.

    Raises InUse where another one that lives holds it, OSError where nothing can be written there.
    """
    path = out / ".running"
    try:
        for folder in (out, *(out / one for one in PARTS if (out / one).is_dir())):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"1")
                file.flush()
    except OSError as error:
        raise type(error)(
            f"nothing can be written into --out {out} ({error.strerror or error}). Name another"
            " folder, or make this one writable; nothing was graded."
        ) from error
    for _ in range(2):
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            break
        except FileExistsError:
            holder = _holder(path)
            if holder is not None:
                said = f"process {holder} grades into {out} already."
                raise InUse(f"{said} Wait for it, or name another folder.") from None
            path.unlink(missing_ok=True)  # its run was killed
    else:
        raise InUse(f"{path} appears again and again. Is another run starting?")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(f"{os.getpid()} {psutil.Process().create_time()}")
        yield
    finally:
        path.unlink(missing_ok=True)


def _holder(path: Path) -> int | None:
    """The process that wrote the file, if it still lives."""
    try:
        pid, created = path.read_text().split()
        alive = abs(psutil.Process(int(pid)).create_time() - float(created)) < 1
    except (OSError, ValueError, psutil.Error):
        return None
    return int(pid) if alive else None
