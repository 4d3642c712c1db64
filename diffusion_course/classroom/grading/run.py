"""Grade a folder of submissions: several at a time, resumable, with reports at the end."""

from __future__ import annotations

import ast
import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from ...exercises.registry import Exercise
from ..assignment.assignment import Assignment
from ..assignment.sources import answer_sources, parsed
from ..records import Graded, Submission
from ..reports.outputs import write_reports
from ..sandbox.bubblewrap import course_copy, require_sandbox
from ..sandbox.limits import Limits
from .attempts import run_attempts
from .journal import Journal, grading_key, only_run
from .marking import hidden_cases, mark
from .reading import read_submission, scan

SILENT = {"check", "exercise", "hint", "progress", "solution"}
Attempting = Callable[..., tuple[dict, tuple[str, ...]]]


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a run did. `failed` holds (student, why) of submissions that could not be graded, `new`
    how many were graded now.
    """

    out: Path
    graded: tuple[Graded, ...]
    failed: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    new: int
    seconds: float

    def __str__(self) -> str:
        lines = [f"{len(self.graded)} submissions graded, {self.new} of them now"]
        if self.graded:
            mean = sum(one.points for one in self.graded) / len(self.graded)
            lines[0] += f"; {mean:.1f} points in the mean, before the manual questions"
        if self.new:
            lines.append(f"{60 * self.new / self.seconds:.1f} submissions a minute")
        lines += [f"could not be graded: {student}: {why}" for student, why in self.failed]
        return "\n".join(
            [*lines, *self.notes, f"reports: {self.out / 'index.html'}, {self.out / 'grades.csv'}"]
        )


def course_names(submission: Submission, exercise: Exercise) -> str:
    """The names of the course's package that an answer uses, as far as its text tells."""
    imported: dict[str, str] = {}
    for cell in submission.cells:
        for node in ast.walk(parsed(cell.source)):
            if (
                isinstance(node, ast.ImportFrom)
                and (node.module or "").partition(".")[0] == "diffusion_course"
            ):
                imported |= {alias.asname or alias.name: alias.name for alias in node.names}
            elif isinstance(node, ast.Import):
                imported |= {
                    (alias.asname or "diffusion_course"): alias.name
                    for alias in node.names
                    if alias.name.partition(".")[0] == "diffusion_course"
                }
    used = set()
    for source in answer_sources(submission, exercise):
        names = {node.id for node in ast.walk(parsed(source)) if isinstance(node, ast.Name)}
        used |= {full for name, full in imported.items() if name in names} - SILENT
    return ", ".join(sorted(used))


def grade_one(
    assignment: Assignment,
    submission: Submission,
    limits: Limits,
    *,
    unsafe: bool,
    course: Path | None,
    attempt: Attempting,
) -> Graded:
    """Grade one submission; raises LookupError for a student who is not on the roster."""
    wanted = hidden_cases(assignment, submission.student)
    if submission.problem is not None:
        return mark(assignment, submission, wanted, {})
    attempts, notes = attempt(submission, wanted, limits, unsafe=unsafe, course=course)
    used = [
        f"{one.id} uses the course's {names}"
        for one, _ in wanted
        if (names := course_names(submission, one))
    ]
    return mark(assignment, submission, wanted, attempts, (*notes, *used))


def grade_folder(
    assignment: Assignment,
    submissions: str | Path,
    out: str | Path,
    *,
    jobs: int = 2,
    limits: Limits | None = None,
    unsafe: bool = False,
    progress: bool = True,
    attempt: Attempting = run_attempts,
) -> Summary:
    """Grade every submission in a folder into `out`; what was graded before by the same grader is
    kept.

    Raises SandboxMissing before anything is read, FileNotFoundError for the folder, InUse where
    another run writes to `out`, ValueError for fewer than one job.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}.")
    limits, out = limits or Limits(), Path(out)
    if not unsafe and attempt is run_attempts:
        require_sandbox()
    found = scan(submissions)
    with only_run(out), course_copy() as course:
        journal = Journal(out / "graded", grading_key(assignment, repr((limits, unsafe))))
        started = time.monotonic()
        read = {
            student: read_submission(path, student, assignment=assignment.name)
            for student, path in found.submissions
        }
        graded = {
            one: kept
            for one, sub in read.items()
            if (kept := journal.get(one, sub.sha256)) is not None
        }
        waiting, failed = [one for one in read if one not in graded], []

        def work(student: str) -> Graded:
            made = grade_one(
                assignment, read[student], limits, unsafe=unsafe, course=course, attempt=attempt
            )
            journal.put(made)
            return made

        with ThreadPoolExecutor(jobs) as pool:
            futures = {pool.submit(work, student): student for student in waiting}
            for future in _shown(futures, progress):
                try:
                    made = future.result()
                    graded[made.student] = made
                except LookupError as error:
                    failed.append((futures[future], str(error.args[0])))
                # One submission must not end the run, and must not become a silent zero
                except Exception as error:
                    failed.append((futures[future], f"{type(error).__name__}: {error}"))
        ordered = tuple(graded[student] for student in sorted(graded))
        write_reports(assignment, ordered, read, sorted(failed), found.notes, out)
        new = len(waiting) - len(failed)
        return Summary(
            out, ordered, tuple(sorted(failed)), found.notes, new, time.monotonic() - started
        )


def _shown(futures: dict, progress: bool):
    """The futures as they finish, under a progress bar with the time that is left."""
    if not progress or not futures:
        return as_completed(futures)
    from tqdm import tqdm

    return tqdm(as_completed(futures), total=len(futures), desc="grading", unit="submission")
