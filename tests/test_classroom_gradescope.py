"""Gradescope: its format, its zip, and a run in the folders that it makes."""

import json
import zipfile

import pytest
from attacks import HONEST
from test_classroom_grading import answers, assignment, notebook

from diffusion_course.classroom import gradescope
from diffusion_course.classroom.assignment.assignment import load_assignment, save_assignment
from diffusion_course.classroom.sandbox.bubblewrap import sandbox_available


@pytest.fixture
def home(tmp_path):
    """The folders of Gradescope's container."""
    for name in ("source", "submission", "results"):
        (tmp_path / name).mkdir()
    save_assignment(assignment("ann@example.org"), tmp_path / "source" / "assignment.json")
    (tmp_path / "submission_metadata.json").write_text(json.dumps({"users": [{"id": 7, "email": "ann@example.org", "name": "Ann"}]}))
    (tmp_path / "submission" / "hw.ipynb").write_text(notebook(answers(a2="def cumulative_alphas(betas):\n    return betas\n")))
    return tmp_path


@pytest.mark.skipif(not sandbox_available(), reason="bubblewrap is not usable here")
def test_a_submission_is_graded_in_gradescopes_folders(home):
    assert gradescope.main([], home) == 0
    made = json.loads((home / "results" / "results.json").read_text())
    assert made["score"] == 2 and [one["score"] for one in made["tests"]] == [1, 0, 1] and len(HONEST) == 3
    assert made["tests"][1]["status"] == "failed" and made["tests"][1]["visibility"] == "visible"


def test_without_the_sandbox_the_instructor_is_told_and_not_the_student(home, monkeypatch, capsys):
    from diffusion_course.classroom.sandbox import bubblewrap as sandbox

    monkeypatch.setattr(sandbox, "_problem", lambda: "no user namespaces")
    assert gradescope.main([], home) == 1
    made = json.loads((home / "results" / "results.json").read_text())
    assert "namespaces" in capsys.readouterr().out and "namespaces" not in json.dumps(made) and made["stdout_visibility"] == "hidden"
    assert gradescope.main(["--unsafe"], home) == 0


def test_the_zip_holds_what_the_container_needs(tmp_path):
    path = tmp_path / "autograder.zip"
    gradescope.write_autograder(assignment("ann"), path)
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        assert {"setup.sh", "run_autograder", "assignment.json", "course/pyproject.toml", "course/diffusion_course/classroom/sandbox/worker.py", "course/diffusion_course/classroom/assignment/questions/lesson02.md"} <= names
        assert archive.getinfo("run_autograder").external_attr >> 16 == 0o755
        (tmp_path / "assignment.json").write_bytes(archive.read("assignment.json"))
        assert b"--unsafe" not in archive.read("run_autograder")
    assert load_assignment(tmp_path / "assignment.json") == assignment("ann")
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []
