"""What an instructor gives a grading run besides the submissions, and what is remembered of it.

What was given once counts for later runs into the same folder, and is said there: points that were
set by hand must not vanish because an option was forgotten.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from ...files.paths import user_path, write_bytes
from ..assignment.assignment import Assignment
from .times import MTIME

FILE = "given.json"
NONE = "none"


@dataclasses.dataclass(frozen=True)
class Given:
    """Sheets of points for questions, points set by hand, times of handing in, what counts.

    `manual`, `overrides` and `times` name CSV files, or are "none" to leave out what an earlier run
    was given; `times` may be "mtime". `keep` is "last" or "best"; "" is as before, and "last" at
    first.
    """

    manual: tuple[str, ...] = ()
    overrides: str = ""
    times: str = ""
    keep: str = ""

    def __post_init__(self) -> None:
        if self.keep not in ("", "last", "best"):
            raise ValueError(f"keep must be last or best, got {self.keep!r}.")


@dataclasses.dataclass(frozen=True)
class Memory:
    """What a folder of reports keeps of its last run.

    `assignment` is the name of its assignment and `identity` tells it from another one of that
    name; `sheets` are the filled sheets that lay in the folder. `times` holds by student the time
    that was given, and the sha256 of the submission that it was given for.
    """

    given: Given = Given()
    assignment: str = ""
    identity: str = ""
    sheets: tuple[str, ...] = ()
    times: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)


def recall(out: Path, assignment: Assignment) -> Memory:
    """Return what the last run into `out` left there.

    Raises ValueError where its file is damaged, and where `out` belongs to another assignment.
    """
    path = out / FILE
    if not path.exists():
        return Memory()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = [field.name for field in dataclasses.fields(Given)]
        given = {name: content[name] for name in names if name in content}
        memory = Memory(
            Given(**{**given, "manual": tuple(given.get("manual", ()))}),
            *(content.get(name, "") for name in ("assignment", "identity")),
            tuple(content.get("sheets", ())),
            {one: (time, sha256) for one, (time, sha256) in content.get("given for", {}).items()},
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is damaged ({error}). Remove it, and give --manual, --overrides, --times and"
            " --keep again."
        ) from error
    if memory.identity and memory.identity != identity(assignment):
        what = f"of the assignment {memory.assignment!r}, and this is {assignment.name!r}"
        if memory.assignment == assignment.name:
            what = f"of another assignment of the name {assignment.name!r}, built with another seed"
        raise ValueError(
            f"--out {out} holds the reports {what}. Name another folder, one for each assignment."
        )
    return memory


def identity(assignment: Assignment) -> str:
    """Return a digest that tells an assignment from all others; it does not show the seed."""
    key = json.dumps(["identity", assignment.name, assignment.seed])
    return hashlib.sha256(key.encode("utf-8")).hexdigest()


def with_remembered(given: Given, old: Given) -> tuple[Given, list[str]]:
    """Return what counts after a run that was given `old`, with whole paths, and notes on that.

    Sheets of points come to those that are remembered: those first, then the new ones. Raises
    FileNotFoundError where a file that is remembered is gone.
    """
    notes: list[str] = []
    named = [_whole(one) for one in given.manual]
    kept = [] if NONE in given.manual else [one for one in old.manual if one not in named]
    _must_be_there("manual", kept)
    if kept:
        notes.append(_as_before("manual", ", ".join(kept), besides=bool(named)))
    chosen = {"manual": tuple(one for one in (*kept, *named) if one)}
    for name in ("overrides", "times", "keep"):
        new, before = getattr(given, name), getattr(old, name)
        chosen[name] = (new if name == "keep" else _whole(new)) if new else before
        if before and not new:
            _must_be_there(name, [before])
            if (name, before) != ("keep", "last"):
                notes.append(_as_before(name, before))
        elif before and chosen[name] not in ("", before) and name != "keep":
            notes.append(
                f"--{name} {chosen[name]} counts now in place of {before}, which the run before was"
                " given: what only stands there does not count any more"
            )
    return Given(**{**chosen, "keep": chosen["keep"] or "last"}), notes


def remember(memory: Memory, out: Path) -> None:
    """Keep for later runs what counts in this one."""
    content = {
        **dataclasses.asdict(memory.given),
        "assignment": memory.assignment,
        "identity": memory.identity,
        "sheets": memory.sheets,
        "given for": memory.times,
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    write_bytes(out / FILE, text.encode("utf-8"))


def _as_before(option: str, shown: str, *, besides: bool = False) -> str:
    way_out = "last" if option == "keep" else NONE
    what = "counts besides, " if besides else ""
    return f"--{option} {shown}: {what}as in the run before (--{option} {way_out} ends that)"


def _must_be_there(option: str, paths: list[str]) -> None:
    for path in paths:
        if option != "keep" and path != MTIME and not Path(path).is_file():
            again = f"give --{option} {NONE} to go on without it"
            if option == "manual":
                again += " (and with it, once more, each sheet that is to count)"
            raise FileNotFoundError(
                f"the run before was given --{option} {path}, and the file is gone. Put it back"
                f" there, or {again}."
            )


def _whole(path: str) -> str:
    if path in ("", NONE):
        return ""
    return path if path == MTIME else str(user_path(path).absolute())
