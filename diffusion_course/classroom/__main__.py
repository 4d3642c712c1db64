"""`python -m diffusion_course.classroom build|grade|gradescope`."""

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
    _add_grade(commands.add_parser("grade", help="grade a folder of submissions in a sandbox"))
    what = "make Gradescope's autograder.zip of an assignment"
    _add_gradescope(commands.add_parser("gradescope", help=what))
    return top


def _add_build(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--lessons", required=True, help="for example 02,04")
    add("--out", required=True, type=user_path, help="a new folder")
    add("--name", help="file name of the notebook: letters, digits, - and _")
    add("--title", help="what the notebook is headed")
    what = "CSV with the column id: each student gets numbers of their own"
    add("--roster", type=user_path, help=what)
    what = "secret, 19 digits; with the same one the same files are built (drawn if left out)"
    add("--seed", type=int, help=what)
    what = "without the questions that a person marks"
    add("--no-manual", action="store_true", help=what)


def _add_grade(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    what = "ID.ipynb, ID/NAME.ipynb, ID.zip, or nbgrader's submitted/"
    add("submissions", type=user_path, help=what)
    what = "assignment.json of build (looked for beside the submissions if left out)"
    add("--assignment", type=user_path, help=what)
    what = "where the reports go; a run that was stopped goes on there"
    add("--out", required=True, type=user_path, help=what)
    what = "a student or an exercise to grade again; give it several times for several"
    add("--regrade", action="append", default=[], metavar="ID", help=what)
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

        kept = {name: getattr(options, name) for name in ("name", "title", "roster", "seed")}
        print(build_assignment(options.lessons, options.out, manual=not options.no_manual, **kept))
        return 0
    from .assignment.assignment import load_assignment

    if options.command == "gradescope":
        from .gradescope import TO_CHOOSE, write_autograder

        write_autograder(load_assignment(options.assignment), options.out, unsafe=options.unsafe)
        print(f"{options.out} is made. {TO_CHOOSE}")
        return 0
    import torch

    from .grading.folder import grade_folder
    from .sandbox.bubblewrap import require_hidden
    from .sandbox.limits import Limits

    torch.set_num_threads(1)
    path = options.assignment or find_assignment(options.submissions)
    assignment = load_assignment(path)
    if not options.unsafe:
        require_hidden(path, "the assignment")
    limits = Limits(seconds=options.timeout, memory_mib=options.memory)
    summary = grade_folder(
        assignment,
        options.submissions,
        options.out,
        jobs=options.jobs,
        limits=limits,
        unsafe=options.unsafe,
        regrade=options.regrade,
    )
    print(summary)
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
