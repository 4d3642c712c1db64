"""The set-up script: what it decides, with the installing commands recorded instead of run."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tools import bootstrap, housekeeping, lab, test_ui
from tools import test as test_runner

ROOT = Path(__file__).resolve().parents[1]
# In one process with tests of nbgrader, which imports distutils.
pytestmark = pytest.mark.filterwarnings("ignore:Setuptools is replacing distutils")


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A copy of the two files that decide what is installed, and a record of the commands that would run."""
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    commands = []

    def record(command, *, dry_run, hint, venv=None):
        commands.append([str(part) for part in command])
        if "venv" in commands[-1]:
            make_python(Path(commands[-1][-1]))

    monkeypatch.setattr(bootstrap, "run", record)
    monkeypatch.setattr(bootstrap, "LOG", tmp_path / "bootstrap.log")
    monkeypatch.setattr(bootstrap, "NEEDED_BYTES", 1)
    monkeypatch.setattr(bootstrap, "has_pip", lambda python: True)
    return tmp_path, commands


def make_python(venv: Path) -> None:
    """Let an environment hold the running Python."""
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)


def test_a_missing_environment_is_made_under_the_constraints_and_then_left_alone(course):
    root, commands = course
    venv = root / ".venv"
    assert bootstrap.bootstrap(venv, root, named_by_user=False) == "made"
    python = str(venv / "bin" / "python")
    assert commands[0] == [sys.executable, "-m", "venv", "--without-pip", str(venv)]
    chosen = ["-c", str(root / "constraints.txt"), "-e", f"{root}[test]"]
    assert commands[-1] == [python, "-m", "pip", "install", *bootstrap.QUIET, *chosen]
    commands.clear()
    assert bootstrap.bootstrap(venv, root, named_by_user=False) == "ready"
    assert commands == []


def test_an_extra_is_added_once_and_stays(course):
    root, commands = course
    venv = root / ".venv"
    bootstrap.bootstrap(venv, root, named_by_user=False)
    commands.clear()
    assert bootstrap.bootstrap(venv, root, named_by_user=False, extras=("book",)) == "updated"
    assert commands[-1][-1] == f"{root}[test,book]"
    assert bootstrap.bootstrap(venv, root, named_by_user=False, extras=("book",)) == "ready"
    assert bootstrap.bootstrap(venv, root, named_by_user=False) == "ready"
    bootstrap.bootstrap(venv, root, named_by_user=False, extras=("ui",))
    assert commands[-1][-1] == f"{root}[test,book,ui]"


def test_a_stamp_from_before_there_were_extras_stands_for_the_tests(course):
    root, _ = course
    venv = root / ".venv"
    bootstrap.bootstrap(venv, root, named_by_user=False)
    stamp = bootstrap.read_stamp(venv)
    (venv / bootstrap.STAMP).write_text(json.dumps({key: stamp[key] for key in ("made_here", "installed")}))
    assert bootstrap.bootstrap(venv, root, named_by_user=False) == "ready"


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_are_installed_again_into_the_same_environment(course, name):
    root, commands = course
    bootstrap.bootstrap(root / ".venv", root, named_by_user=False)
    commands.clear()
    with (root / name).open("a") as file:
        file.write("# changed\n")
    assert bootstrap.bootstrap(root / ".venv", root, named_by_user=False) == "updated"
    assert [command[2:4] for command in commands] == [["pip", "install"]]


def test_a_killed_installation_is_made_again_from_nothing(course, monkeypatch):
    root, _ = course
    venv = root / ".venv"

    def killed(*args, **kwargs):
        (venv / "half-written").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(bootstrap, "install", killed)
        bootstrap.bootstrap(venv, root, named_by_user=False)
    assert json.loads((venv / bootstrap.STAMP).read_text()) == {"made_here": True, "installed": None, "extras": ["test"]}
    assert bootstrap.bootstrap(venv, root, named_by_user=False) == "made"
    assert not (venv / "half-written").exists()


def test_the_users_environment_keeps_every_version_it_has(course, monkeypatch):
    root, commands = course
    venv = root / "mine"
    make_python(venv)
    seen = {}
    recorded = bootstrap.run

    def read_constraints(command, **options):
        seen["lines"] = Path(command[command.index("-c") + 1]).read_text().splitlines()
        recorded(command, **options)

    monkeypatch.setattr(bootstrap, "run", read_constraints)
    monkeypatch.setattr(bootstrap, "LIST_INSTALLED", "print('diffusion-course==0.1.0\\ntorch==2.5.0+cu121')")
    (venv / "keep").touch()
    assert bootstrap.bootstrap(venv, root, named_by_user=True) == "reused"
    assert seen["lines"] == ["torch==2.5.0+cu121"]
    assert str(root / "constraints.txt") not in commands[-1]
    assert not list(venv.glob("*.txt")), "the temporary constraints stay behind"
    # also when an installation into it was cut short, it is not removed
    bootstrap.write_stamp(venv, made_here=False, installed=None, extras=["test"])
    assert bootstrap.bootstrap(venv, root, named_by_user=True) == "reused"
    assert (venv / "keep").exists()


def test_installed_versions_are_listed_by_the_environments_own_python():
    listed = subprocess.run([sys.executable, "-c", bootstrap.LIST_INSTALLED], capture_output=True, text=True, check=True)
    assert f"torch=={metadata.version('torch')}" in listed.stdout.splitlines()


def test_an_environment_without_pip_is_served_by_the_outer_pip(course, monkeypatch):
    root, commands = course
    make_python(root / "mine")
    monkeypatch.setattr(bootstrap, "has_pip", lambda python: False)
    bootstrap.bootstrap(root / "mine", root, named_by_user=True)
    assert commands[-1][:5] == [sys.executable, "-m", "pip", "--python", str(root / "mine" / "bin" / "python")]


def test_a_named_environment_that_does_not_exist_is_an_error(course):
    root, commands = course
    with pytest.raises(bootstrap.SetupError, match="holds no Python"):
        bootstrap.bootstrap(root / "typo", root, named_by_user=True)
    assert commands == []


def test_a_folder_that_is_no_environment_is_not_touched(course):
    root, commands = course
    (root / ".venv").mkdir()
    (root / ".venv" / "precious").touch()
    with pytest.raises(bootstrap.SetupError, match="Move it away"):
        bootstrap.bootstrap(root / ".venv", root, named_by_user=False)
    assert (root / ".venv" / "precious").exists()
    assert commands == []


def test_a_full_disk_and_an_old_python_are_named_before_anything_is_written(course, monkeypatch):
    root, commands = course
    monkeypatch.setattr(bootstrap, "NEEDED_BYTES", 2**62)
    with pytest.raises(bootstrap.SetupError, match="GiB are free"):
        bootstrap.bootstrap(root / ".venv", root, named_by_user=False)
    monkeypatch.setattr(bootstrap, "MIN_PYTHON", (99, 0))
    with pytest.raises(bootstrap.SetupError, match="Python 99.0 or newer"):
        bootstrap.bootstrap(root / ".venv", root, named_by_user=False)
    assert commands == []
    assert not (root / ".venv").exists()


def test_without_pip_it_uses_ensurepip_and_without_both_says_so(course, monkeypatch):
    root, commands = course
    there = {"ensurepip"}
    monkeypatch.setattr(bootstrap.importlib.util, "find_spec", lambda name: name if name in there else None)
    bootstrap.bootstrap(root / ".venv", root, named_by_user=False)
    assert commands[0] == [sys.executable, "-m", "venv", str(root / ".venv")]
    there.clear()
    with pytest.raises(bootstrap.SetupError, match="neither pip nor ensurepip"):
        bootstrap.bootstrap(root / "other", root, named_by_user=False)


def test_windows_and_conda_layouts_are_found(tmp_path):
    for relative in ("Scripts/python.exe", "python.exe"):
        venv = tmp_path / relative.replace("/", "-")
        (venv / relative).parent.mkdir(parents=True)
        (venv / relative).touch()
        assert bootstrap.interpreter(venv) == venv / relative
    assert bootstrap.interpreter(tmp_path / "none") is None


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setattr(bootstrap, "LOG", tmp_path / "build" / "bootstrap.log")
    return bootstrap.LOG


def test_a_failing_command_ends_with_the_hint_after_the_end_of_its_log(log, capfd):
    said = "import sys; print('\\n'.join(f'line {n}.' for n in range(99))); sys.exit('no space left')"
    with pytest.raises(bootstrap.SetupError, match="try the other door"):
        bootstrap.run([sys.executable, "-c", said], dry_run=False, hint="try the other door")
    shown = capfd.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert "no space left" in lines
    assert "line 98." in lines
    assert "line 50." not in lines
    assert len(lines) == bootstrap.LAST_LINES + 1
    assert lines[-1] == f"(the end of {log})"
    assert "line 50." in log.read_text()


def test_the_end_of_the_log_is_that_of_the_command_that_failed(log, capfd):
    bootstrap.run([sys.executable, "-c", "print('the first command')"], dry_run=False, hint="")
    with pytest.raises(bootstrap.SetupError):
        bootstrap.run([sys.executable, "-c", "raise SystemExit('the second')"], dry_run=False, hint="")
    shown = capfd.readouterr().err
    assert "the second" in shown
    assert "the first command" not in shown
    assert "the first command" in log.read_text()


# What pip 26 writes with --progress-bar off.
LOOKED_UP = """Obtaining file:///somewhere/course
  Preparing editable metadata (pyproject.toml): finished with status 'done'
Collecting torch>=2.4 (from -c constraints.txt (line 4))
  Downloading torch-2.14.1-cp311-cp311-manylinux_2_28_x86_64.whl.metadata (29 kB)
Collecting tqdm>=4.66 (from diffusion-course==0.1.0)
  Using cached tqdm-4.68.0-py3-none-any.whl.metadata (57 kB)
Requirement already satisfied: numpy>=1.26 in ./lib/python3.11/site-packages (2.4.0)
Collecting tqdm>=4.66 (from diffusion-course==0.1.0)
"""
FETCHED = """Using cached torch-2.14.1-cp311-cp311-manylinux_2_28_x86_64.whl (821.0 MB)
Downloading tqdm-4.68.0-py3-none-any.whl (79 kB)
"""
INSTALLING = "Installing collected packages: tqdm, torch, diffusion-course\n"


def test_how_far_pip_is():
    assert bootstrap.pip_progress("", wanted=6, installed=0) == (0.0, "looking up versions", "")
    share, stage, at = bootstrap.pip_progress(LOOKED_UP, wanted=6, installed=0)
    assert share == pytest.approx((3 / 6 + 1 / 6) / 3)
    assert (stage, at) == ("looking up versions", "")
    folder = "Processing /wheels/regex-2026.4.1+cpu-cp311-cp311-linux_x86_64.whl (from diffusion-course==0.1.0)\n"
    assert bootstrap.pip_progress(folder, wanted=6, installed=0) == (pytest.approx(1 / 9), "fetching packages", "regex-2026.4.1+cpu")
    share, stage, at = bootstrap.pip_progress(LOOKED_UP + FETCHED, wanted=6, installed=0)
    assert share == pytest.approx((3 / 6 + 3 / 6) / 3)
    assert (stage, at) == ("fetching packages", "tqdm-4.68.0 (79 kB)")
    for installed, share in ((0, 2 / 3), (1, 7 / 9), (3, 1), (9, 1)):
        said = bootstrap.pip_progress(LOOKED_UP + FETCHED + INSTALLING, wanted=6, installed=installed)
        assert said == (pytest.approx(share), "installing 3 packages", "")
    assert bootstrap.pip_progress(LOOKED_UP + FETCHED, wanted=1, installed=0)[0] <= 2 / 3  # more than there were thought to be


def shown_by(bar):
    bar.show((0.25, "looking up versions", ""))
    bar.show((0.5, "fetching packages", "torch-2.14.1 (821.0 MB)"))
    bar.show((0.4, "fetching packages", "tqdm-4.68.0 (79 kB)"))
    bar.close(done=True)


def test_without_a_terminal_there_is_a_line_for_each_stage(tmp_path, capsys):
    shown_by(bootstrap.Bar(tmp_path))
    assert capsys.readouterr().out == "  looking up versions (0:00)\n  fetching packages (0:00)\n  done (0:00)\n"


def on_terminal(monkeypatch, kind):
    monkeypatch.setenv("TERM", kind)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)


def test_on_a_terminal_one_bar_is_drawn_over_itself_and_never_goes_back(tmp_path, capsys, monkeypatch):
    on_terminal(monkeypatch, "xterm")
    shown_by(bootstrap.Bar(tmp_path))
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out.endswith("\n")
    first, *drawn = out[:-1].split("\r")
    assert first == "" and {len(line) for line in drawn} == {59}, "what was longer must be overwritten"
    assert [line.partition("]")[2].split()[0] for line in drawn] == ["25%", "50%", "50%", "100%"]
    assert drawn[-1].startswith("[" + "#" * bootstrap.Bar.WIDTH + "]")


def test_a_terminal_that_cannot_draw_gets_lines(tmp_path, capsys, monkeypatch):
    on_terminal(monkeypatch, "dumb")
    shown_by(bootstrap.Bar(tmp_path))
    out = capsys.readouterr().out
    assert "\r" not in out
    assert out.count("\n") == 3


def test_the_bar_counts_what_the_environment_gets_while_pip_runs(log, tmp_path, capsys):
    place = tmp_path / "lib" / "python3.11" / "site-packages"
    (place / "old-1.dist-info").mkdir(parents=True)
    bar = bootstrap.Bar(tmp_path)
    (place / "new-1.dist-info").mkdir()
    assert bar.installed() == 1
    said = f"import time; print({LOOKED_UP + FETCHED!r}, flush=True); time.sleep(1); print({INSTALLING!r}, flush=True); time.sleep(1)"
    bootstrap.run([sys.executable, "-c", said], dry_run=False, hint="", venv=tmp_path)
    stages = [line.partition(" (")[0] for line in capsys.readouterr().out.splitlines()]
    assert stages[-3:] == ["  fetching packages", "  installing 3 packages", "  done"]


def test_dry_run_leaves_no_trace(tmp_path):
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "bootstrap.py").write_bytes((ROOT / "tools" / "bootstrap.py").read_bytes())
    script = [sys.executable, "tools/bootstrap.py", "--dry-run", "--skip-disk-check"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "-m venv --without-pip" in done.stdout
    assert not (tmp_path / ".venv").exists()


def test_every_recipe_is_one_python_line_and_every_target_is_listed():
    makefile = (ROOT / "Makefile").read_text()
    recipes = [line.strip() for line in makefile.splitlines() if line.startswith("\t")]
    assert recipes
    assert all(line.startswith(("@$(PYTHON) tools/", "@$(RUN) -m ")) for line in recipes)
    wanted = {"help", "lab", "test", "test-all", "course", "notebooks", "check", "lint", "train", "bench", "book", "test-ui", "doctor", "clean"}
    assert {name for name, _ in housekeeping.targets(makefile)} == wanted


@pytest.mark.parametrize("goal", bootstrap.READ_BY)
def test_an_option_that_a_target_lacks_is_refused_before_anything_is_installed(goal, course, monkeypatch, capsys):
    root, commands = course
    monkeypatch.setattr(bootstrap, "only_one", None)  # not even the lock is taken
    assert bootstrap.main(["--venv", str(root / "env"), "--for", goal, "--", "03", "--nonsense=1"]) == 1
    assert f"Set-up failed: make {goal} has no option --nonsense; it has --" in capsys.readouterr().err.replace("it has -h, --", "it has --")
    assert commands == [] and not (root / "env").exists()


def test_options_that_a_target_has_or_another_program_reads_pass():
    for goal, arguments in {"book": ["--fresh", "--output=a", "--fr"], "train": ["--steps", "3"], "course": ["--write", "03"], "bench": ["--only", "ours", "--seeds", "1"],
                            "test": ["-k", "schedules", "--nonsense"], "lab": ["--no-browser"], "": ["--nonsense"], "notebooks check": ["--nonsense"]}.items():
        bootstrap.check_arguments(goal, arguments, ROOT)
    with pytest.raises(bootstrap.SetupError, match="make notebooks has no option --write; it has --all, --help, -h"):
        bootstrap.check_arguments("notebooks", ["--all", "--write"], ROOT)


def test_clean_removes_caches_and_keeps_environments_and_sources(tmp_path):
    for folder in ("build/course", "pkg/__pycache__", ".venv/lib/__pycache__", ".git/__pycache__"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / ".venv" / "pyvenv.cfg").touch()
    (tmp_path / "pkg" / "module.py").touch()
    assert set(housekeeping.clean(tmp_path)) == {tmp_path / "build", tmp_path / "pkg" / "__pycache__"}
    assert (tmp_path / ".venv/lib/__pycache__").exists()
    assert (tmp_path / "pkg" / "module.py").exists()


def arguments(flags=(), *, platform="linux", environ=None, is_root=False):
    return lab.lab_arguments(list(flags), platform=platform, environ=environ or {}, is_root=is_root)


def test_lab_opens_the_first_lesson_on_loopback():
    given = arguments(["--port", "9000"], environ={"DISPLAY": ":0"})
    assert given[:2] == ["--port", "9000"]
    assert "--ServerApp.ip=127.0.0.1" in given
    assert "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb" in given
    assert "--no-browser" not in given
    assert "--allow-root" not in given


def test_lab_as_root_and_without_a_display():
    assert {"--allow-root", "--no-browser"} <= set(arguments(is_root=True))
    assert arguments(["--no-browser"], is_root=True).count("--no-browser") == 1
    assert "--no-browser" not in arguments(platform="darwin")
    assert "--no-browser" not in arguments(environ={"WAYLAND_DISPLAY": "wayland-0"})


@pytest.mark.parametrize(
    "flag", ["--ip=0.0.0.0", "--ip", "--ServerApp.ip=*", "--IdentityProvider.token=", "--ServerApp.token=''", "--LabApp.token="]
)
def test_lab_refuses_to_open_the_server_to_others(flag):
    with pytest.raises(ValueError, match="127.0.0.1|token"):
        arguments([flag])


def test_lab_takes_a_token_of_ones_own():
    assert "--IdentityProvider.token=abc" in arguments(["--IdentityProvider.token=abc"])


def test_two_workers_share_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert test_runner.environment(cores=2)["OMP_NUM_THREADS"] == "1"
    assert test_runner.environment(cores=16)["OMP_NUM_THREADS"] == "8"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert test_runner.environment(cores=16)["OMP_NUM_THREADS"] == "3"


def test_make_test_runs_unit_tests_and_notebooks_in_one_pool():
    whole = test_runner.command([], "1/1")
    assert {"tests/test_seeds.py", "notebooks/00_start_here.ipynb", "--nbval", "--dist"} <= set(whole)
    chosen = test_runner.command(["-k", "snr"], "2/4")
    assert chosen[-3:] == ["tests", "-k", "snr"]
    assert "--part" not in chosen


def test_browser_tests_run_pages_in_parallel_and_lessons_one_by_one():
    pages, lessons = test_ui.commands(["-x"])
    assert "tests_ui/test_book.py" in pages
    assert "-n" in pages
    assert pages[-1] == "-x"
    assert "tests_ui/test_lab.py" in lessons
    assert "-n" not in lessons
    assert [command[-2:] for command in test_ui.commands(["tests_ui/test_book.py", "-v"])] == [["tests_ui/test_book.py", "-v"]]


def test_what_axe_found_is_added_up_over_pages_and_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(test_ui, "ARTEFACTS", tmp_path)
    (tmp_path / "axe-gw0.json").write_text(json.dumps({"minor: region": {"a light": 1, "a dark": 2}}))
    (tmp_path / "axe-gw1.json").write_text(json.dumps({"minor: region": {"b light": 3}, "moderate: x": {"b light": 1}}))
    assert test_ui.axe_by_rule() == {"minor: region": 6, "moderate: x": 1}
