"""Gradescope: its format, its zip, and a run in the folders that it makes."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import psutil
import pytest
from attacks import HONEST
from test_classroom_grading import answers, assignment, notebook

from diffusion_course.classroom import gradescope
from diffusion_course.classroom.__main__ import main
from diffusion_course.classroom.assignment.assignment import load_assignment, save_assignment
from diffusion_course.classroom.sandbox.bubblewrap import sandbox_available
from diffusion_course.classroom.sandbox.other_user import OtherUser, OtherUserMissing


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


@pytest.mark.parametrize(("options", "name", "value", "said"), [
    (["--unsafe"], "os.geteuid", lambda: 1000, "only root can do that; this process is not root's"),
    ([], "diffusion_course.classroom.gradescope.memory_mib", lambda: 768.0, "this container has 768 MiB of memory, and grading takes 1500 MiB: choose more"),
])
def test_a_container_that_will_not_do_is_told_to_the_instructor(home, monkeypatch, capsys, options, name, value, said):
    monkeypatch.setattr(name, value)
    assert gradescope.main(options, home) == 1
    made = json.loads((home / "results" / "results.json").read_text())
    assert said in capsys.readouterr().out and "Your instructor has been told why." in made["output"] and made["score"] == 0


# Without a sandbox: students' code as another user.


@pytest.fixture(scope="module")
def everybodys():
    """A folder that every user can reach, with a Python and its libraries; without them there is nothing to try."""
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root can start processes as another user")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        for program in (os.path.realpath(sys.executable), f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
            made = Path(program).exists() and subprocess.run([program, "-m", "venv", "--clear", "--without-pip", str(folder / "venv")], check=False).returncode == 0
            command = [str(folder / "venv/bin/python"), "-S", "-c", ""]
            try:
                if made and subprocess.run(command, check=False, **OtherUser.fresh().start_options).returncode == 0:
                    break
            except OSError:
                continue
        else:
            pytest.skip("there is no Python here that another user could start")
        libraries = next(path for path in map(Path, sys.path) if (path / "torch").is_dir())
        (folder / f"venv/lib/{version}/site-packages/libraries.pth").write_text(f"{libraries}\n")
        yield folder
        for process in psutil.process_iter(["cmdline"]):  # of a test that failed
            if any(str(folder) in part for part in process.info["cmdline"] or ()):
                process.kill()


UNSAFE = "import sys\nfrom pathlib import Path\nfrom diffusion_course.classroom.gradescope import main\nsys.exit(main(['--unsafe'], Path(sys.argv[1])))"
STEALS = """import glob, os, sys, time
HOME = {home!r}
def tell(text):
    with open(HOME + "/stolen/" + str(os.getpid()), "a") as file:
        file.write(text + "\\n")
tell("ran as " + str(os.getresuid()))
for path in ("source/assignment.json", "submission_metadata.json", "results", "source/course/diffusion_course/exercises/lessons/lesson02.py", "../../proc/" + str(os.getppid()) + "/environ"):
    try:
        tell("read " + path + str(os.listdir(HOME + "/" + path) if os.path.isdir(HOME + "/" + path) else open(HOME + "/" + path).read()))
    except OSError:
        pass
sys.path.insert(0, HOME + "/source/course")
for name in [name for name in sys.modules if name.startswith("diffusion_course")]:
    del sys.modules[name]
try:
    from diffusion_course.exercises.registry import get_exercise
    jump = get_exercise("02.1").reference
    tell("took the references")
except Exception:
    pass
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        tell("a daemon lives")
        while True:
            try:
                open(HOME + "/results/results.json", "w").write('{{"score": 100}}')
                tell("wrote the results")
            except OSError:
                time.sleep(0.01)
    os._exit(0)
"""


def test_without_a_sandbox_a_blank_notebook_has_no_marks_and_no_secrets(everybodys):
    home = everybodys / "autograder"
    for name in ("source/course", "submission", "results", "stolen"):
        (home / name).mkdir(parents=True)
    (home / "stolen").chmod(0o777)
    package = Path(gradescope.__file__).parents[1]
    shutil.copytree(package, home / "source/course" / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    save_assignment(assignment("ann@example.org", exercises=("02.1",)), home / "source" / "assignment.json")
    (home / "submission_metadata.json").write_text(json.dumps({"users": [{"email": "ann@example.org"}]}))
    (home / "submission" / "hw.ipynb").write_text(notebook({"answer-02-1": STEALS.format(home=str(home))}))
    command = [str(everybodys / "venv/bin/python"), "-c", UNSAFE, str(home)]
    run = subprocess.run(command, env={"PYTHONPATH": str(home / "source/course"), "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, cwd=everybodys)
    made = (home / "results" / "results.json").read_text()
    stolen = [line for path in (home / "stolen").iterdir() for line in path.read_text().splitlines()]
    assert run.returncode == 0 and json.loads(made)["score"] == 0, (run, made)
    assert {line.split(" (")[0] for line in stolen} == {"ran as", "a daemon lives"}, stolen
    number = int(next(line for line in stolen if "(" in line).split("(")[1].split(",")[0])
    assert number and OtherUser(number).processes() == [] and "as another user" in run.stdout
    assert "99" not in run.stdout.split() and json.loads(made)["tests"]


def test_what_is_open_to_another_user_is_not_graded(everybodys, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(everybodys / "venv/bin/python"))
    open_to_all, closed = everybodys / "open", everybodys / "closed"
    for path, mode in ((open_to_all, 0o644), (closed, 0o600)):
        path.write_text("")
        path.chmod(mode)
    OtherUser.fresh().require_closed([closed])
    with pytest.raises(OtherUserMissing, match="open could be read by a submission"):
        OtherUser.fresh().require_closed([closed, open_to_all])
    monkeypatch.setattr(sys, "executable", str(closed))
    with pytest.raises(OtherUserMissing, match="cannot be started as another user"):
        OtherUser.fresh().require_closed([closed])


FIGHTS = """import os
print(flush=True)
os.close(1)
for _ in range(6):
    os.fork()
while True:
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat("/proc/" + process).st_uid == os.getuid() and os.getpgid(int(process)) != os.getpgrp():
                os.kill(int(process), 9)
        except OSError:
            pass
    if os.fork():
        os._exit(0)
"""


def test_processes_that_kill_their_killer_and_flee_are_ended(everybodys, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(everybodys / "venv/bin/python"))
    user = OtherUser.fresh()
    with subprocess.Popen([sys.executable, "-S", "-c", FIGHTS], stdout=subprocess.PIPE, start_new_session=True, **user.start_options) as fights:
        fights.stdout.readline()
        user.end_all()
        assert user.processes() == []


def test_who_makes_the_zip_is_told_what_to_choose(tmp_path, capsys):
    save_assignment(assignment("ann"), tmp_path / "assignment.json")
    assert main(["gradescope", "--assignment", str(tmp_path / "assignment.json"), "--out", str(tmp_path / "grader.zip")]) == 0
    said = capsys.readouterr().out
    assert "at least 1.5 GB of memory" in said and "Ubuntu 22.04 or newer" in said and "--unsafe" in said


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_the_zip_holds_what_the_container_needs(tmp_path):
    path = tmp_path / "autograder.zip"
    gradescope.write_autograder(assignment("ann"), path)
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        assert {"setup.sh", "run_autograder", "assignment.json", "course/pyproject.toml", "course/diffusion_course/classroom/sandbox/worker.py", "course/diffusion_course/classroom/assignment/questions/lesson02.md"} <= names
        assert archive.getinfo("run_autograder").external_attr >> 16 == 0o755
        (tmp_path / "assignment.json").write_bytes(archive.read("assignment.json"))
        assert b"--unsafe" not in archive.read("run_autograder")
        for name in ("setup.sh", "run_autograder"):
            assert subprocess.run(["bash", "-n"], input=archive.read(name), check=False).returncode == 0
        # Gradescope's own Python is older than what the package asks for.
        assert f'requires-python = ">={gradescope.PYTHON}"'.encode() in archive.read("course/pyproject.toml")
        assert f"uv venv --python {gradescope.PYTHON} ".encode() in archive.read("setup.sh")
    assert load_assignment(tmp_path / "assignment.json") == assignment("ann")
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []
