"""`python -m diffusion_course.classroom build|grade|gradescope`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The command line."""
    name = "python -m diffusion_course.classroom"
    top = argparse.ArgumentParser(prog=name, description="Build assignments, grade submissions.")
    commands = top.add_subparsers(dest="command", required=True)
    build = commands.add_parser(
        "build", help="notebooks for students and instructor, and the grader's secrets"
    )
    build.add_argument("--lessons", required=True, help="for example 02,04")
    build.add_argument("--out", required=True, type=Path, help="a new folder")
    build.add_argument("--name", help="file name of the notebook: letters, digits, - and _")
    build.add_argument("--title", help="what the notebook is headed")
    build.add_argument(
        "--roster", type=Path, help="CSV with the column id: each student gets numbers of their own"
    )
    build.add_argument(
        "--seed",
        type=int,
        help="secret; with the same one the same files are built (drawn if left out)",
    )
    build.add_argument(
        "--no-manual", action="store_true", help="without the questions that a person marks"
    )
    grade = commands.add_parser("grade", help="grade a folder of submissions in a sandbox")
    grade.add_argument(
        "submissions", type=Path, help="ID.ipynb, ID/NAME.ipynb, ID.zip, or nbgrader's submitted/"
    )
    grade.add_argument(
        "--assignment",
        type=Path,
        help="assignment.json of build (looked for beside the submissions if left out)",
    )
    grade.add_argument(
        "--out",
        required=True,
        type=Path,
        help="where the reports go; a run that was stopped goes on there",
    )
    grade.add_argument("--jobs", type=int, default=2, help="submissions at a time (default 2)")
    grade.add_argument(
        "--timeout", type=float, default=60.0, help="seconds for one submission (default 60)"
    )
    grade.add_argument(
        "--memory", type=int, default=2048, help="MiB for one submission (default 2048)"
    )
    grade.add_argument(
        "--unsafe",
        action="store_true",
        help="without the sandbox: submissions can read and write what you can",
    )
    scope = commands.add_parser(
        "gradescope", help="make Gradescope's autograder.zip of an assignment"
    )
    scope.add_argument("--assignment", required=True, type=Path)
    scope.add_argument("--out", required=True, type=Path, help="for example autograder.zip")
    scope.add_argument(
        "--unsafe",
        action="store_true",
        help="grade without bubblewrap, in Gradescope's own container",
    )
    return top


def find_assignment(submissions: Path) -> Path:
    """Return the assignment.json beside or above the submissions; raises FileNotFoundError that
    says where it looked.
    """
    for folder in list(submissions.resolve().parents)[:2]:
        for path in (folder / "instructor" / "assignment.json", folder / "assignment.json"):
            if path.is_file():
                return path
    raise FileNotFoundError(
        f"no assignment.json beside or above {submissions}; name it with --assignment."
    )


def run(options: argparse.Namespace) -> int:
    """Do what was asked for; returns the exit code."""
    if options.command == "build":
        from .assignment.build import build_assignment

        kept = {name: getattr(options, name) for name in ("name", "title", "roster", "seed")}
        print(build_assignment(options.lessons, options.out, manual=not options.no_manual, **kept))
        return 0
    from .assignment.assignment import load_assignment

    if options.command == "gradescope":
        from .gradescope import write_autograder

        write_autograder(load_assignment(options.assignment), options.out, unsafe=options.unsafe)
        print(f"{options.out} is made. Upload it as the autograder of a programming assignment.")
        return 0
    import torch

    from .grading.run import grade_folder
    from .sandbox.limits import Limits

    torch.set_num_threads(1)
    assignment = load_assignment(options.assignment or find_assignment(options.submissions))
    limits = Limits(seconds=options.timeout, memory_mib=options.memory)
    summary = grade_folder(
        assignment,
        options.submissions,
        options.out,
        jobs=options.jobs,
        limits=limits,
        unsafe=options.unsafe,
    )
    print(summary)
    return 1 if summary.failed else 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; what the user can mend is told in one line."""
    options = parser().parse_args(arguments)
    try:
        return run(options)
    except (OSError, ValueError, LookupError, RuntimeError) as error:
        print(
            f"classroom {options.command}:"
            f" {error.args[0] if isinstance(error, KeyError) else error}",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
