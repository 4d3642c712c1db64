"""`python -m diffusion_course.classroom build|term|grade|gradescope`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..files.paths import user_path


def parser() -> argparse.ArgumentParser:
    """The command line."""
    name = "python -m diffusion_course.classroom"
    top = argparse.ArgumentParser(prog=name, description="Build assignments, grade submissions.")
    commands = top.add_subparsers(dest="command", required=True)
    what = "notebooks for students and instructor, and the grader's secrets"
    _add_build(commands.add_parser("build", help=what))
    what = "all assignments of a term, from its calendar; again, for who enrols late"
    _add_term(commands.add_parser("term", help=what))
    _add_grade(commands.add_parser("grade", help="grade a folder of submissions in a sandbox"))
    what = "make Gradescope's autograder.zip of an assignment"
    _add_gradescope(commands.add_parser("gradescope", help=what))
    return top


def _add_build(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--lessons", help="for example 02,04")
    what = "single ones, for example 01.1,02.5 (02.m1 is a question in words)"
    add("--exercises", help=what)
    add("--points", help="for example 01.1=3,02.5=2, or a CSV or TOML file")
    what = "share the points of an exercise over what an answer can have right on its own"
    add("--partial", action="store_true", help=what)
    add("--out", required=True, type=user_path, help="a new folder")
    add("--name", help="file name of the notebook: letters, digits, - and _")
    add("--title", help="what the notebook is headed")
    what = "CSV with the column id: each student gets numbers of their own"
    add("--roster", type=user_path, help=what)
    what = "secret, 19 digits; with the same one the same files are built (drawn if left out)"
    add("--seed", type=int, help=what)
    what = "without the questions that a person marks"
    add("--no-manual", action="store_true", help=what)


def _add_term(command: argparse.ArgumentParser) -> None:
    command.add_argument("calendar", type=user_path, help="for example term.toml")
    what = "the folder of the assignments; what is built there stays"
    command.add_argument("--out", required=True, type=user_path, help=what)


def _add_grade(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    what = "folder of ID.ipynb, ID/NAME.ipynb or ID.zip, nbgrader's submitted/, an LMS's zip"
    add("submissions", type=user_path, help=what)
    what = "assignment.json of build (looked for beside the submissions if left out)"
    add("--assignment", type=user_path, help=what)
    what = "where the reports go; a run that was stopped goes on there"
    add("--out", required=True, type=user_path, help=what)
    what = "a student or an exercise to grade again; give it several times for several"
    add("--regrade", action="append", default=[], metavar="ID", help=what)
    what = "a filled sheet of points for questions in words; several times for several"
    add("--manual", action="append", default=[], metavar="CSV", help=what)
    what = "points that you set for single exercises: columns id, exercise, points, reason"
    add("--overrides", default="", metavar="CSV", help=what)
    what = "when students handed in: columns id and time, or mtime for the times of the files"
    add("--times", default="", metavar="CSV", help=what)
    what = "which version counts where one handed in several (default last)"
    add("--keep", choices=("last", "best"), default="", help=what)
    what = "canvas, moodle or gradescope; better with what was exported there: canvas:export.csv"
    add("--gradebook", action="append", default=[], metavar="LMS[:CSV]", help=what)
    what = "the gradebook's column of points, where it is not called as the assignment"
    add("--column", default="", help=what)
    what = "what the gradebook says of who handed in nothing (default empty)"
    add("--absent", choices=("empty", "zero"), default="", help=what)
    add("--jobs", type=int, default=2, help="submissions at a time (default 2)")
    what = "seconds for one submission (default 60)"
    add("--timeout", type=float, default=60.0, help=what)
    add("--memory", type=int, default=2048, help="MiB for one submission (default 2048)")
    what = "without the sandbox: submissions can read and write what you can"
    add("--unsafe", action="store_true", help=what)


def _add_gradescope(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--assignment", required=True, type=user_path)
    add("--out", required=True, type=user_path, help="for example autograder.zip")
    what = "grade without bubblewrap: as another user, in Gradescope's own container"
    add("--unsafe", action="store_true", help=what)


def find_assignment(submissions: Path) -> Path:
    """Return the assignment.json beside or above the submissions.

    Raises FileNotFoundError that says where it looked.
    """
    for folder in list(submissions.resolve().parents)[:2]:
        for path in (folder / "instructor" / "assignment.json", folder / "assignment.json"):
            if path.is_file():
                return path
    raise FileNotFoundError(
        f"no assignment.json beside or above {submissions}; name it with --assignment."
    )


def carry_out(options: argparse.Namespace) -> int:
    """Do what was asked for; returns the exit code."""
    if options.command == "build":
        from .assignment.build import build_assignment
        from .assignment.points import read_points

        names = ("exercises", "partial", "name", "title", "roster", "seed")
        kept = {name: getattr(options, name) for name in names}
        kept["points"] = read_points(options.points) if options.points else {}
        print(build_assignment(options.lessons, options.out, manual=not options.no_manual, **kept))
        return 0
    if options.command == "term":
        from .assignment.enrolling import build_term
        from .assignment.term import read_term

        print(build_term(read_term(options.calendar), options.out))
        return 0
    from .assignment.assignment import load_assignment

    if options.command == "gradescope":
        from .gradescope import TO_CHOOSE, write_autograder

        write_autograder(load_assignment(options.assignment), options.out, unsafe=options.unsafe)
        print(f"{options.out} is made. {TO_CHOOSE}")
        return 0
    import torch

    from .grading.bulk import submissions_in
    from .grading.folder import grade_folder
    from .grading.given import Given
    from .reports.gradebook_templates import read_gradebooks
    from .sandbox.bubblewrap import require_hidden
    from .sandbox.limits import Limits

    torch.set_num_threads(1)
    path = options.assignment or find_assignment(options.submissions)
    assignment = load_assignment(path)
    if not options.unsafe:
        require_hidden(path, "the assignment")
        require_hidden(options.submissions, "the submissions")
    limits = Limits(seconds=options.timeout, memory_mib=options.memory)
    for name in ("absent", "column"):
        if getattr(options, name) and not options.gradebook:
            raise ValueError(
                f"--{name} {getattr(options, name)} says how a gradebook is filled, and there is no"
                " --gradebook. Give it too, such as --gradebook canvas:export.csv."
            )
    titles, how = (assignment.title, assignment.name), {"absent": options.absent or "empty"}
    gradebooks = read_gradebooks(options.gradebook, titles, column=options.column, **how)
    notes: list[str] = []
    with submissions_in(options.submissions, notes) as folder:
        summary = grade_folder(
            assignment,
            folder,
            options.out,
            jobs=options.jobs,
            limits=limits,
            unsafe=options.unsafe,
            regrade=options.regrade,
            given=Given(tuple(options.manual), options.overrides, options.times, options.keep),
            gradebooks=gradebooks,
        )
    print("\n".join([*notes, str(summary)]))
    return 1 if summary.failed else 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; what the user can mend is told in one line."""
    options = parser().parse_args(arguments)
    try:
        return carry_out(options)
    except (OSError, ValueError, LookupError, RuntimeError) as error:
        said = error.args[0] if isinstance(error, KeyError) else error
        print(f"classroom {options.command}: {said}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
