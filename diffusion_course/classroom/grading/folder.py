"""Grade a folder of submissions: several at a time, resumable, with reports at the end."""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from datetime import datetime
from pathlib import Path

from ...files.paths import user_path
from ..assignment.assignment import Assignment
from ..reasons import Reason
from ..records import Attempt, Graded, Submission
from ..reports.class_results import ClassResults
from ..reports.gradebook_templates import Gradebook
from ..reports.gradebooks import write_gradebooks
from ..reports.outputs import write_reports
from ..sandbox import cores
from ..sandbox.bubblewrap import course_copy, require_hidden, require_sandbox
from ..sandbox.limits import Limits
from ..sandbox.reuse import Workers
from .again import merged, regraded
from .attempts import run_attempts
from .desk import Desk
from .downloads import numbers_in, return_names
from .finding import scan, submissions_folder
from .given import Given
from .gradable import NotGradable, made_gradable, named_by_their_notebooks, require_reference
from .hand_offs import course_names
from .journal import Journal, grading_key, hold_folder
from .marking import hidden_cases, mark
from .reading import read_submission

Attempting = Callable[..., tuple[dict, tuple[str, ...]]]


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a run did.

    `failed` holds (student, why) of submissions that could not be graded, `new` how many were
    graded now, `sheets` the files in which answers wait for the instructor's points.
    """

    out: Path
    graded: tuple[Graded, ...]
    failed: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    new: int
    seconds: float
    sheets: tuple[Path, ...] = ()

    def __str__(self) -> str:
        lines = [f"{len(self.graded)} submissions graded, {self.new} of them now"]
        if self.graded:
            mean = sum(one.points for one in self.graded) / len(self.graded)
            lines[0] += f"; {mean:.1f} points in the mean"
        if self.new:
            lines.append(f"{60 * self.new / self.seconds:.1f} submissions a minute")
        lines += [f"not gradable: {student}: {why}" for student, why in self.failed]
        if self.sheets:
            count = sum(mark.waits for one in self.graded for mark in one.marks)
            named = " and ".join(map(str, self.sheets))
            said = f"answers in words that wait for your points: {count}. Fill {named}"
            if not count:
                said = (
                    "no answer in words waits; some were changed after you marked them. To give"
                    f" those other points fill {named}"
                )
            lines.append(f"{said} and run the same command again")
        return "\n".join(
            [*lines, *self.notes, f"reports: {self.out / 'index.html'}, {self.out / 'grades.csv'}"]
        )


def grade_one(
    assignment: Assignment,
    submission: Submission,
    limits: Limits,
    *,
    unsafe: bool,
    course: Path | None,
    attempt: Attempting,
    only: Collection[str] = (),
) -> Graded:
    """Grade one submission, or `only` some exercises of it.

    Raises NotGradable, or LookupError for a student who is not on the roster.
    """
    wanted = hidden_cases(assignment, submission.student)
    submission = made_gradable(submission, [exercise for exercise, _ in wanted])
    wanted = [one for one in wanted if not only or one[0].id in only]
    meter: list[float] = []
    way = {"unsafe": unsafe, "course": course, "meter": meter}
    attempts, notes = attempt(submission, wanted, limits, **way)
    used = [
        f"{one.id} uses the course's {names}"
        for one, _ in wanted
        if (names := _used(course_names(submission, one), attempts.get(one.id)))
    ]
    graded = mark(assignment, submission, wanted, attempts, (*notes, *used))
    return dataclasses.replace(graded, seconds=round(sum(meter), 1))


def _used(by_text: str, attempt: Attempt | None) -> str:
    """What an answer uses of the course, by its text and by what it called."""
    called = attempt.used if attempt is not None else ()
    return ", ".join(sorted({*filter(None, by_text.split(", ")), *called}))


def grade_folder(
    assignment: Assignment,
    submissions: str | Path,
    out: str | Path,
    *,
    jobs: int = 2,
    limits: Limits | None = None,
    unsafe: bool = False,
    progress: bool = True,
    regrade: Sequence[str] = (),
    given: Given | None = None,
    gradebooks: Sequence[Gradebook] = (),
    attempt: Attempting = run_attempts,
) -> Summary:
    """Grade every submission in a folder into `out`; what the same grader graded before is kept.

    Of that, `regrade` names students and exercises that are graded again; `given` is what the
    instructor set by hand, and when students handed in; `gradebooks` are written besides.
    Before anything else the course's own solutions are graded under the same limits. Raises
    SandboxMissing before anything is read, FileNotFoundError for a folder that is not there or
    empty, InUse where another run writes to `out`, ReferenceFails where the solutions do not have
    all points, ValueError for fewer than one job, an `out` among the submissions,
    folders that the sandbox would show, a `regrade` that is no student and no exercise, and what
    cannot be read of `given`.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}.")
    limits, out = limits or Limits(), user_path(out, "out")
    if not unsafe and attempt is run_attempts:
        require_sandbox()
    if not unsafe:
        require_hidden(submissions, "the folder of submissions")
        require_hidden(out, "--out")
    if (user_path(submissions, "submissions") / "instructor" / "assignment.json").is_file():
        raise ValueError(
            f"{submissions} is a built assignment (its instructor/ holds assignment.json), not what"
            " students handed in. Give the folder of what they handed in."
        )
    found = scan(submissions, assignment.roster)
    if not found.submissions and not found.refused:
        raise FileNotFoundError(
            f"there is no submission in {submissions}: files ID.ipynb or ID.zip, or folders ID."
        )
    if Path(os.path.realpath(out)).is_relative_to(
        os.path.realpath(submissions_folder(submissions))
    ):
        raise ValueError(
            f"--out {out} is inside the folder of submissions, and its files would be taken for"
            " submissions. Name a folder elsewhere."
        )
    with hold_folder(out), course_copy() as course, Workers() as workers:
        serving = functools.partial(attempt, workers=workers)
        journal = Journal(out / "graded", grading_key(assignment, repr((limits, unsafe))))
        started = time.monotonic()
        read = {
            student: read_submission(path, student, assignment=assignment.name)
            for student, path in found.submissions
        }
        read = named_by_their_notebooks(read, [one.id for one in assignment.roster])
        desk = Desk(assignment, submissions, out, read, given or Given())
        known = {one.id for one in assignment.roster} or read.keys()  # a stranger has no numbers
        kept = {one: journal.get(one, read[one].sha256) for one in read if one in known}
        graded = {student: one for student, one in kept.items() if one is not None}
        again, students = regraded(regrade, assignment.exercises, read)
        old = {one: graded.pop(one) for one in list(graded) if again or one in students}
        waiting = [student for student in read if student not in graded]
        way = {"unsafe": unsafe, "course": course, "attempt": serving}

        if attempt is run_attempts and any(read[one].problem is None for one in waiting):
            first = next((one.id for one in assignment.roster if one.id in waiting), "")
            if first or not assignment.roster:
                require_reference(assignment, first, limits, **way)

        def work(student: str) -> None:
            only = again if student in old and student not in students else ()
            made = grade_one(assignment, read[student], limits, only=only, **way)
            made = merged(old[student], made) if only else made
            journal.put(made)
            graded[student] = made

        failures = _at_a_time(jobs, work, waiting, progress=progress)
        if jobs > 1:  # beside others they had less of the machine than was theirs
            late = [one for one in waiting if one in graded and _ran_out_of_time(graded[one])]
            _at_a_time(1, work, late, progress=progress)  # if it fails, what was first stands
        unclear = [(student, str(NotGradable(why))) for student, why in found.refused]
        failed = tuple(sorted([*failures, *unclear]))
        now, folder = datetime.now().astimezone(), submissions_folder(submissions)
        settled = desk.settle(graded, now)
        sheets, notes = desk.write(settled), (*found.notes, *desk.notes)
        names = return_names(folder, read)
        results = ClassResults(assignment, settled, read, failed, notes, names)
        write_reports(results, out)
        notes += (*write_gradebooks(results, gradebooks, out, numbers_in(folder, read), now),)
        seconds, new = time.monotonic() - started, len(waiting) - len(failures)
        return Summary(out, settled, failed, notes, new, seconds, sheets)


def _ran_out_of_time(graded: Graded) -> bool:
    return any(mark.check == Reason.TIME for mark in graded.marks)


def _at_a_time(
    jobs: int, work: Callable[[str], None], students: Sequence[str], *, progress: bool
) -> list[tuple[str, str]]:
    """Do the work for all students, some at a time; returns those for whom it failed, and why."""
    failed = []
    shares = iter(cores.shares(jobs))
    with ThreadPoolExecutor(jobs, initializer=cores.keep_to, initargs=(shares,)) as pool:
        futures = {pool.submit(work, student): student for student in students}
        try:
            for future in _shown(futures, progress=progress):
                try:
                    future.result()
                except (LookupError, NotGradable) as error:
                    failed.append((futures[future], str(error.args[0])))
                # One submission must not end the run, and must not become a silent zero.
                except Exception as error:
                    failed.append((futures[future], f"{type(error).__name__}: {error}"))
        except BaseException:  # Ctrl-C: what runs is finished and kept, the rest is not begun
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return failed


def _shown(futures: Collection[Future[None]], *, progress: bool) -> Iterable[Future[None]]:
    """The futures as they finish, under a progress bar with the time that is left."""
    if not progress or not futures:
        return as_completed(futures)
    from tqdm import tqdm

    return tqdm(as_completed(futures), total=len(futures), desc="grading", unit="submission")
