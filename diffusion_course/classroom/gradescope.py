"""Gradescope: results in its format, and the autograder's zip.

https://gradescope-autograders.readthedocs.io/en/latest/specs/ describes both.
`python -m diffusion_course.classroom.gradescope` runs inside Gradescope's container, as
run_autograder of the zip says.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from ..files.paths import writable, write_bytes
from .assignment.assignment import Assignment, load_assignment, to_json
from .files import write_secret
from .grading.attempts import run_attempts
from .grading.folder import grade_one
from .grading.gradable import NotGradable, require_reference
from .grading.reading import read_submission
from .reasons import ENDED
from .records import Graded
from .sandbox.bubblewrap import DATA, course_copy
from .sandbox.limits import Limits
from .sandbox.other_user import OtherUser

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("pyproject.toml", "README.md", "LICENSE", "LICENSE-text", "constraints.txt")
PYTHON = "3.11"  # Ubuntu 22.04, Gradescope's default, has 3.10
MEMORY_MIB = 1500  # the grader takes 450 MiB, a worker with its runs 600; the rest is the answer's
GRADER_MIB = 500
SETUP = f"""#!/usr/bin/env bash
# Installs bubblewrap, Python {PYTHON} and the course with PyTorch for the CPU below /autograder.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive UV_PYTHON_INSTALL_DIR=/autograder/python
apt-get update
apt-get install -y --no-install-recommends bubblewrap ca-certificates python3 python3-venv
python3 -m venv /autograder/uv
/autograder/uv/bin/pip install uv
/autograder/uv/bin/uv venv --python {PYTHON} /autograder/venv
cd /autograder/source/course
/autograder/uv/bin/uv pip install --python /autograder/venv/bin/python --torch-backend cpu \\
    -c constraints.txt -e .
/autograder/venv/bin/python -c 'import diffusion_course.classroom.gradescope, torch'
echo 'the grader is installed'
"""
RUN = """#!/usr/bin/env bash
cd /autograder
if [ ! -x venv/bin/python ]; then
    echo 'setup.sh has not come to its end: read its output under "Configure Autograder".'
    exit 1
fi
exec venv/bin/python -m diffusion_course.classroom.gradescope{flags}
"""
TO_CHOOSE = f"""Upload it as the autograder of a programming assignment, and choose there:
- Container Specifications: at least {MEMORY_MIB / 1000:g} GB of memory. Gradescope's default of
  0.75 GB is not enough for PyTorch; the grader then says so and gives no points.
- Base Image: Ubuntu 22.04 or newer. Its own Python does not matter: setup.sh brings {PYTHON}.
Then hand in the solved notebook as a test. If bubblewrap is not allowed in that container, the
run's output says so: build the zip again with --unsafe. Students' code then runs as another user,
to whom the grader's folders are closed."""


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


def memory_mib() -> float:
    """The memory that this machine or container has."""
    most = [psutil.virtual_memory().total]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max" is no number
            most.append(int(Path("/sys/fs/cgroup", name).read_text()))
    return min(most) / 2**20


def limits_here() -> Limits:
    """What a submission may take in this container; raises RuntimeError where that is too little.

    The container must not come to its end of memory before the submission does.
    """
    if (there := memory_mib()) < 0.95 * MEMORY_MIB:
        raise RuntimeError(
            f"this container has {there:.0f} MiB of memory, and grading takes {MEMORY_MIB} MiB:"
            " choose more under Settings, Autograder, Container Specifications"
        )
    usual = Limits()
    return Limits(memory_mib=min(usual.memory_mib, int(there) - GRADER_MIB))


@contextlib.contextmanager
def another_user(home: Path) -> Iterator[dict[str, Any]]:
    """Give the options of `run_attempts` for a worker that is another user's.

    To that user source/, results/ and the metadata are closed. When this is left, none of its
    processes is there any more. Raises OtherUserMissing where that cannot be so.
    """
    user = OtherUser.fresh()
    closed = [home / name for name in ("source", "results", "submission_metadata.json")]
    for one in closed:
        os.chown(one, 0, 0)
        os.chmod(one, 0o700 if one.is_dir() else 0o600)
    secret = [home / "source" / "assignment.json", ROOT / "diffusion_course" / "exercises"]
    user.require_closed([*closed, *secret])
    with course_copy() as course:
        if DATA.is_dir():
            shutil.copytree(DATA, course / DATA.name, dirs_exist_ok=True)
        for one in [course, *course.rglob("*")]:
            os.chmod(one, 0o755 if one.is_dir() else 0o644)
        try:
            yield {"course": course, "user": user}
        finally:
            user.end_all()


def graded_here(home: Path, *, unsafe: bool) -> Graded:
    """Grade /autograder/submission; raises what `main` tells of."""
    with contextlib.ExitStack() as stack:
        limits = limits_here()
        options = stack.enter_context(another_user(home)) if unsafe else {}
        assignment = load_assignment(home / "source" / "assignment.json")
        student = student_of(home / "submission_metadata.json", assignment)
        submission = read_submission(home / "submission", student, assignment=assignment.name)
        course = options.pop("course", None)
        attempt = functools.partial(run_attempts, **options)
        given = {"unsafe": unsafe, "course": course, "attempt": attempt}
        graded = grade_one(assignment, submission, limits, **given)
        if any(one.check in ENDED for one in graded.marks):  # or is it this container?
            require_reference(assignment, student, limits, **given)
        return graded


def main(arguments: list[str], home: Path = Path("/autograder")) -> int:
    """Grade /autograder/submission into /autograder/results/results.json.

    It is written whole, when nothing of the submission runs any more.
    """
    out, code = home / "results" / "results.json", 1
    try:
        graded = graded_here(home, unsafe="--unsafe" in arguments)
        told, said, code = results(graded), "\n".join(graded.notes), 0
    except NotGradable as error:
        told, said = refusal(error.why), str(error)
    except Exception as error:  # the instructor reads stdout; the student must not
        told, said = refusal(), f"{type(error).__name__}: {error}"
    print(said)
    write_bytes(out, json.dumps(told, indent=1).encode())
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
