"""What an instructor gives a grading run besides the submissions, and what is remembered of it.

What was given once counts for later runs into the same folder, and is said there: points that were
set by hand must not vanish because an option was forgotten.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from ...files.paths import user_path, write_bytes
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


def with_remembered(given: Given, out: Path) -> tuple[Given, list[str]]:
    """Return what counts for a run into `out`, with whole paths, and notes on what is remembered.

    Raises ValueError where the file of what is remembered is damaged, FileNotFoundError where a
    file that is remembered is gone.
    """
    path = out / FILE
    try:
        old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        old = Given(**{**old, "manual": tuple(old.get("manual", ()))})
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is damaged ({error}). Remove it, and give --manual, --overrides, --times and"
            " --keep again."
        ) from error
    notes, chosen = [], {}
    for field in dataclasses.fields(Given):
        new, before = getattr(given, field.name), getattr(old, field.name)
        if not new and before:
            _must_be_there(field.name, before)
            shown = ", ".join(before) if isinstance(before, tuple) else before
            way_out = "last" if field.name == "keep" else NONE
            if (field.name, before) != ("keep", "last"):
                notes.append(
                    f"--{field.name} {shown}: as in the run before (--{field.name} {way_out} ends"
                    " that)"
                )
        chosen[field.name] = new or before
    return Given(
        manual=tuple(_whole(one) for one in chosen["manual"] if one != NONE),
        overrides=_whole(chosen["overrides"]),
        times=_whole(chosen["times"]),
        keep=chosen["keep"] or "last",
    ), notes


def remember(given: Given, out: Path) -> None:
    """Keep for later runs what `with_remembered` returned."""
    text = json.dumps(dataclasses.asdict(given), indent=1, ensure_ascii=False) + "\n"
    write_bytes(out / FILE, text.encode("utf-8"))


def _must_be_there(option: str, before: str | tuple[str, ...]) -> None:
    if option == "keep":
        return
    for path in (before,) if isinstance(before, str) else before:
        if path != MTIME and not Path(path).is_file():
            raise FileNotFoundError(
                f"the run before was given --{option} {path}, and the file is gone. Name it where"
                f" it is now, or give --{option} {NONE} to go on without it."
            )


def _whole(path: str) -> str:
    if path in ("", NONE):
        return ""
    return path if path == MTIME else str(user_path(path).absolute())
