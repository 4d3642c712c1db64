"""Gradescope: results in its format, and the autograder's zip.

https://gradescope-autograders.readthedocs.io/en/latest/specs/ describes both.
`python -m diffusion_course.classroom.gradescope` runs inside Gradescope's container, as
run_autograder of the zip says.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from ..files.paths import writable, write_bytes
from .assignment.assignment import Assignment, load_assignment, to_json
from .files import write_secret
from .reasons import ENDED
from .records import Graded

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("pyproject.toml", "README.md", "LICENSE", "LICENSE-text", "constraints.txt")
SETUP = """#!/usr/bin/env bash
set -euo pipefail
apt-get install -y --no-install-recommends python3 python3-pip python3-venv bubblewrap
python3 -m venv /autograder/venv
cd /autograder/source/course
/autograder/venv/bin/pip install -c constraints.txt -e .
"""
RUN = """#!/usr/bin/env bash
cd /autograder
exec /autograder/venv/bin/python -m diffusion_course.classroom.gradescope{flags}
"""


def results(graded: Graded) -> dict[str, Any]:
    """Return Gradescope's results.json of one submission: a test for each exercise.

    Manual questions are left to Gradescope's rubric.
    """
    tests = [
        {
            "name": f"{mark.exercise_id} {mark.title}",
            "score": mark.points,
            "max_score": mark.max_points,
            "status": "passed" if mark.status == "right" else "failed",
            "output": mark.feedback,
            "visibility": "visible",
        }
        for mark in graded.marks
        if mark.status != "manual"
    ]
    return {"score": graded.points, "tests": tests, "stdout_visibility": "hidden"}


def refusal(why: str = "") -> dict[str, Any]:
    """Return results.json for a submission that could not be graded.

    It tells the student so, with the reason where that lies in what was handed in; other reasons go
    to stdout.
    """
    again = "Hand in the notebook as Jupyter saves it, with the answers in the cells that were made"
    told = f"{why}\n{again} for them." if why else "Your instructor has been told why."
    return {
        "score": 0,
        "output": f"This could not be graded. {told}",
        "stdout_visibility": "hidden",
    }


def write_autograder(assignment: Assignment, path: str | Path, *, unsafe: bool = False) -> None:
    """Write the zip: setup.sh, run_autograder, the assignment and the course, whole or not at all.

    Raises FileNotFoundError where the course was installed without its repository, and as
    `files.paths.writable` does for the path, before anything is packed.
    """
    writable(path)
    if missing := [name for name in SHIPPED if not (ROOT / name).is_file()]:
        what = f"{', '.join(missing)} not found in {ROOT}"
        raise FileNotFoundError(f"{what}: make the zip from a clone of the repository.")
    files = [ROOT / name for name in SHIPPED]
    files += sorted(
        one for one in (ROOT / "diffusion_course").rglob("*") if one.suffix in (".py", ".md")
    )
    files += sorted(one for one in (ROOT / "data").rglob("*") if one.is_file())
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        start = RUN.format(flags=" --unsafe" if unsafe else "")
        for name, text in (("setup.sh", SETUP), ("run_autograder", start)):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o755 << 16
            archive.writestr(entry, text)
        for file in files:
            archive.write(file, f"course/{file.relative_to(ROOT).as_posix()}")
        entry = zipfile.ZipInfo("assignment.json")
        entry.external_attr = 0o600 << 16
        archive.writestr(entry, to_json(assignment))
    write_secret(path, content.getvalue())


def student_of(metadata: Path, assignment: Assignment) -> str:
    """Return who handed in, by Gradescope's metadata.

    That is the id on the roster that is the student's number or address there.
    """
    user = json.loads(metadata.read_text(encoding="utf-8"))["users"][0]
    names = [str(user[key]) for key in ("sid", "email", "id") if user.get(key)]
    roster = {student.id for student in assignment.roster}
    return next((name for name in names if name in roster), names[0])


def main(arguments: list[str], home: Path = Path("/autograder")) -> int:
    """Grade /autograder/submission into /autograder/results/results.json."""
    from .grading.attempts import run_attempts
    from .grading.folder import grade_one
    from .grading.gradable import NotGradable, require_reference
    from .grading.reading import read_submission
    from .sandbox.limits import Limits

    out = home / "results" / "results.json"
    try:
        assignment = load_assignment(home / "source" / "assignment.json")
        student = student_of(home / "submission_metadata.json", assignment)
        submission = read_submission(home / "submission", student, assignment=assignment.name)
        unsafe = "--unsafe" in arguments
        given = {"unsafe": unsafe, "course": None, "attempt": run_attempts}
        graded = grade_one(assignment, submission, Limits(), **given)
        if any(one.check in ENDED for one in graded.marks):  # or is it this container?
            require_reference(assignment, student, Limits(), **given)
    except NotGradable as error:
        print(error)
        write_bytes(out, json.dumps(refusal(error.why)).encode())
        return 1
    except Exception as error:  # the instructor reads stdout; the student must not
        print(f"{type(error).__name__}: {error}")
        write_bytes(out, json.dumps(refusal()).encode())
        return 1
    print("\n".join(graded.notes))
    write_bytes(out, json.dumps(results(graded), indent=1).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
