"""Make the course's environment if it is missing: `python3 tools/bootstrap.py` (standard library
only).

`.venv` is made with the tested versions of constraints.txt. A stamp in it remembers what was
installed, so that a second run starts at once; an environment whose installation was killed carries
no finished stamp and is made again. An environment that the user names (`--venv PATH`) only gets
what it lacks: nothing in it is replaced. What pip says goes to build/bootstrap.log; a bar shows how
far it is, and where the output is no terminal, a few lines do.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOG = ROOT / "build" / "bootstrap.log"
LAST_LINES = 15  # of the log, shown when something fails
# People and the bar read the log.
QUIET = ("--progress-bar", "off", "--no-color", "--disable-pip-version-check")
# Name and version, name, size in lines of pip's: "Using cached torch-2.14.1-cp311.whl (821 MB)",
# from a folder "Processing /folder/torch-2.14.1-cp311.whl (from ...)".
FETCHED = (
    r"(?m)^\s*(?:Downloading|Using cached|Processing) (?:\S*/)?(([\w.]+)-[\w.+!]+)\S*"
    r"\.(?:whl|tar\.gz)(?: (\([\d.]+ [kMG]B\))| \(from .*)?$"
)
STAMP = "diffusion-course.json"
EXTRA = "test"  # always installed; the book and its browser tests ask for more by --extra
MIN_PYTHON = (3, 11)
NEEDED_BYTES = 8 * 2**30 if (sys.platform, platform.machine()) == ("linux", "x86_64") else 3 * 2**30
# Prints what is installed as `name==version` lines; run by the user's own interpreter.
LIST_INSTALLED = (
    "import importlib.metadata as m\nprint('\\n'.join(sorted({d.metadata['Name'] + '==' + d.version"
    " for d in m.distributions() if d.metadata['Name']})))"
)


class SetupError(Exception):
    """A set-up problem with a sentence that says what to do."""


def interpreter(venv: Path) -> Path | None:
    """The Python of an environment (POSIX, Windows and conda layouts), or None if it has none."""
    candidates = (venv / "bin" / "python", venv / "Scripts" / "python.exe", venv / "python.exe")
    return next((path for path in candidates if path.exists()), None)


def wanted(root: Path) -> str:
    """Hash of everything that decides what gets installed, with the place the editable install
    points to.
    """
    digest = hashlib.sha256(str(root).encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((root / name).read_bytes())
    return digest.hexdigest()


def read_stamp(venv: Path) -> dict:
    """The stamp of an environment, {} where there is none or where it was cut short."""
    try:
        stamp = json.loads((venv / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(venv: Path, *, made_here: bool, installed: str | None, extras: list[str]) -> None:
    """Write the stamp whole or not at all; `installed` is None while an installation runs."""
    part = venv / (STAMP + ".part")
    part.write_text(
        json.dumps({"made_here": made_here, "installed": installed, "extras": extras}),
        encoding="utf-8",
    )
    os.replace(part, venv / STAMP)


def run(command: list, *, dry_run: bool, hint: str, venv: Path | None = None) -> None:
    """Run one command with its output in the log; a failure shows the log's end and becomes a
    SetupError with the hint.

    With `venv`, where pip installs to, a bar follows the log until the command is done.
    """
    line = "+ " + " ".join(map(str, command))
    if dry_run:
        print(line, flush=True)
        return
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("a", encoding="utf-8", errors="replace") as log:
        start = log.tell()
        print(line, file=log, flush=True)
        bar = None if venv is None else Bar(venv)
        options = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(list(map(str, command)), **options)
        try:
            while (code := finished(process)) is None:
                if bar:
                    bar.show(pip_progress(log_from(start), bar.wanted, bar.installed()))
        finally:
            if process.poll() is None:  # Ctrl-C: pip has had it too
                process.wait()
            if bar:
                bar.close(done=process.returncode == 0)
    if code != 0:
        last = log_from(start).splitlines()[-LAST_LINES:]
        print("\n".join([*last, f"(the end of {LOG})"]), file=sys.stderr, flush=True)
        raise SetupError(hint)


def finished(process: subprocess.Popen, seconds: float = 0.3) -> int | None:
    """The exit code, or None after this many seconds."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def log_from(start: int) -> str:
    """What the log holds from a position on."""
    with LOG.open("rb") as log:
        log.seek(start)
        return log.read().decode("utf-8", "replace")


def pip_progress(text: str, wanted: int, installed: int) -> tuple[float, str, str]:
    """How far an installation is, from what pip has written: a share of 1, the stage, and the file
    that it is at.

    Each package is looked up, fetched and installed, and each of the three is a third of the bar.
    How many there are is only known at the end of looking up; until then it is taken to be
    `wanted`. `installed` counts those that are in place: of this pip says nothing.
    """
    has = set(re.findall(r"(?m)^\s*Requirement already satisfied: ([\w.-]+)", text))
    looked_for = re.findall(r"(?m)^\s*Collecting ([\w.-]+)", text)
    files = re.findall(FETCHED, text)
    names = [*has, *looked_for, *(name for _, name, _ in files)]
    known = {name.lower().replace("_", "-") for name in names}
    at = " ".join(filter(None, files[-1][::2])) if files else ""
    if listed := re.search(r"(?m)^Installing collected packages: (.+)$", text):
        count = len(listed[1].split(", "))
        return 2 / 3 + min(installed / count, 1) / 3, f"installing {count} packages", ""
    looked_up = min(len(known) / max(wanted, 1), 1)
    fetched = min((len(set(files)) + len(has)) / max(wanted, len(known), 1), 1)
    return (looked_up + fetched) / 3, "fetching packages" if files else "looking up versions", at


class Bar:
    """How far pip is: a bar that is drawn over itself on a terminal, elsewhere a line for each
    stage.
    """

    WIDTH = 24

    def __init__(self, venv: Path) -> None:
        self.venv, self.start, self.share, self.stage = venv, time.monotonic(), 0.0, ""
        self.wanted = (ROOT / "constraints.txt").read_text(encoding="utf-8").count("==")
        self.is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.before = self.count()

    def count(self) -> int:
        """How many packages the environment holds."""
        places = ("lib/*/site-packages", "Lib/site-packages")  # POSIX, Windows
        return sum(1 for place in places for _ in self.venv.glob(f"{place}/*.dist-info"))

    def installed(self) -> int:
        """How many came since the start."""
        return self.count() - self.before

    def show(self, progress: tuple[float, str, str]) -> None:
        """Draw the bar, which never goes back; without a terminal print a stage that is new."""
        share, stage, at = progress
        self.share = max(self.share, share)
        minutes, seconds = divmod(int(time.monotonic() - self.start), 60)
        if self.is_terminal:
            full = round(self.WIDTH * self.share)
            drawn = "#" * full + "." * (self.WIDTH - full)
            line = f"[{drawn}] {self.share:4.0%} {minutes}:{seconds:02d} {stage} {at}"
            width = shutil.get_terminal_size().columns - 1
            print("\r" + line[:width].ljust(width), end="", flush=True)
        elif stage != self.stage:
            print(f"  {stage} ({minutes}:{seconds:02d})", flush=True)
        self.stage = stage

    def close(self, *, done: bool) -> None:
        """Leave the last state on its line."""
        if done:
            self.show((1.0, "done", ""))
        if self.is_terminal:
            print(flush=True)


def has_pip(python: Path) -> bool:
    """Whether an interpreter has a pip of its own (environments made by uv have none)."""
    return subprocess.run([str(python), "-c", "import pip"], capture_output=True).returncode == 0


def check_machine(place: Path, *, skip_disk: bool) -> None:
    """Refuse a Python that is too old and a disk that is too full, before anything is written."""
    if sys.version_info < MIN_PYTHON:
        raise SetupError(
            f"Python {'.'.join(map(str, MIN_PYTHON))} or newer is needed, {sys.executable} is"
            f" {platform.python_version()}. Name a newer one: make lab PYTHON=python3.12"
        )
    free = shutil.disk_usage(place).free
    if free < NEEDED_BYTES and not skip_disk:
        raise SetupError(
            f"{free / 2**30:.1f} GiB are free in {place}, the installation needs about"
            f" {NEEDED_BYTES / 2**30:.0f} GiB (PyTorch brings its CUDA libraries on Linux). Free"
            " some space, or run tools/bootstrap.py --skip-disk-check if your pip installs a"
            " smaller CPU build."
        )


def make_venv(venv: Path, *, dry_run: bool) -> None:
    """Make an environment with pip in it, also on a Debian whose python3 has no ensurepip."""
    stamp = read_stamp(venv)
    if venv.exists() and stamp.get(
        "made_here"
    ):  # ours and unfinished: what it holds cannot be trusted
        print(f"+ removing the unfinished {venv}")
        if not dry_run:
            shutil.rmtree(venv)
    outer_pip, ensurepip = (
        importlib.util.find_spec(name) is not None for name in ("pip", "ensurepip")
    )
    if not outer_pip and not ensurepip:
        raise SetupError(
            f"{sys.executable} has neither pip nor ensurepip. Install pip (on Debian: apt install"
            " python3-pip) and try again."
        )
    if not dry_run:
        venv.mkdir(parents=True)
        write_stamp(venv, made_here=True, installed=None, extras=[])
    hint = f"{sys.executable} could not make an environment in {venv}: see the message above."
    if (
        outer_pip
    ):  # pip of 22.3 and later installs into another environment, so ensurepip is not needed
        run([sys.executable, "-m", "venv", "--without-pip", venv], dry_run=dry_run, hint=hint)
        python = interpreter(venv) or venv / "bin" / "python"
        hint = (
            f"pip could not be installed into {venv}. Is there a network? Is pip 22.3 or newer"
            " (python3 -m pip --version)?"
        )
        run(
            [sys.executable, "-m", "pip", "--python", python, "install", *QUIET, "pip>=24"],
            dry_run=dry_run,
            hint=hint,
        )
    else:
        run([sys.executable, "-m", "venv", venv], dry_run=dry_run, hint=hint)


def install(venv: Path, root: Path, extras: list[str], *, made_here: bool, dry_run: bool) -> None:
    """Install the course editable: under the tested versions where we made the environment, else
    around what is there.
    """
    python = interpreter(venv) or venv / "bin" / "python"
    if made_here:
        constraints = root / "constraints.txt"
        hint = (
            f"pip could not install the course into {venv}. With no network it cannot; else its"
            " last lines, above, say why."
        )
    else:
        constraints = venv / (STAMP + ".installed.txt")
        if not dry_run:
            listed = subprocess.run(
                [str(python), "-c", LIST_INSTALLED], capture_output=True, text=True, check=True
            ).stdout
            ours = "diffusion-course=="
            constraints.write_text(
                "\n".join(line for line in listed.splitlines() if not line.startswith(ours)),
                encoding="utf-8",
            )
        hint = (
            f"{venv} holds a package that the course cannot work with, or lacks one that cannot be"
            " fetched: pip's lines above name it. Nothing was replaced. Update that package"
            " yourself, or leave VENV out to get an environment of its own."
        )
    pip = (
        [python, "-m", "pip"]
        if dry_run or has_pip(python)
        else [sys.executable, "-m", "pip", "--python", python]
    )
    command = [*pip, "install", *QUIET, "-c", constraints, "-e", f"{root}[{','.join(extras)}]"]
    try:
        run(command, dry_run=dry_run, hint=hint, venv=venv)
    finally:
        if not made_here:
            constraints.unlink(missing_ok=True)


def bootstrap(
    venv: Path,
    root: Path,
    *,
    named_by_user: bool,
    dry_run: bool = False,
    skip_disk: bool = False,
    extras: tuple = (),
) -> str:
    """Bring the environment to what pyproject.toml asks for; returns "ready", "made", "updated" or
    "reused".

    `extras` come on top of those that it has.
    """
    stamp, python = read_stamp(venv), interpreter(venv)
    had = stamp.get("extras", [EXTRA])
    if python and stamp.get("installed") == wanted(root) and set(extras) <= set(had):
        return "ready"
    extras = [EXTRA, *sorted({*had, *extras} - {EXTRA})]
    ours = stamp.get("made_here", False)
    if named_by_user and not python and not ours:
        raise SetupError(
            f"VENV={venv} holds no Python. Name an existing environment, or leave VENV out to get"
            " one in .venv."
        )
    if venv.exists() and not python and not ours and any(venv.iterdir()):
        raise SetupError(
            f"{venv} exists and is not a Python environment. Move it away and try again."
        )
    fresh = not python or (ours and stamp.get("installed") is None)
    if not dry_run:
        LOG.unlink(missing_ok=True)
    if fresh:
        check_machine(venv.parent, skip_disk=skip_disk)
        print(
            f"Setting up {venv}: PyTorch, JupyterLab and the course. This takes a few minutes,"
            " once.",
            flush=True,
        )
        if venv.exists() and not ours:
            venv.rmdir()  # empty, checked above
        make_venv(venv, dry_run=dry_run)
    else:
        print(f"Installing into {venv} what it lacks.", flush=True)
    made_here = fresh or ours
    if not dry_run:
        write_stamp(venv, made_here=made_here, installed=None, extras=extras)
    install(venv, root, extras, made_here=made_here, dry_run=dry_run)
    if not dry_run:
        write_stamp(venv, made_here=made_here, installed=wanted(root), extras=extras)
    return "made" if fresh else "updated" if ours else "reused"


# The files that define the options of a make target; what the others get is read by pytest, Jupyter
# or ruff.
READ_BY = {
    "book": "tools/book.py",
    "course": "tools/course.py",
    "notebooks": "tools/notebooks.py",
    "check": "tools/notebooks.py",
    "train": "tools/train.py",
    "bench": "bench/*.py",
    "doctor": "diffusion_course/__main__.py",
}


def options_of(goal: str, root: Path) -> set[str]:
    """The options that a make target's tool defines, read from its text: nothing is imported."""
    found = {"-h", "--help"}
    for path in root.glob(READ_BY[goal]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
                names = [one.value for one in node.args if isinstance(one, ast.Constant)]
                found |= {name for name in names if str(name).startswith("-")}
    return found


def check_arguments(goal: str, arguments: list[str], root: Path) -> None:
    """Raise SetupError for an option that the target does not have, before anything is installed.

    An option may be shortened, as argparse allows.
    """
    known = options_of(goal, root) if goal in READ_BY else set()
    for argument in arguments if known else ():
        name = argument.partition("=")[0]
        if name.startswith("--") and not any(one.startswith(name) for one in known):
            listed = ", ".join(sorted(known))
            raise SetupError(f"make {goal} has no option {name}; it has {listed}. Check ARGS.")


def main(argv: list | None = None) -> int:
    """Command line: exit code 0 when the environment is ready, 1 with a message that says what to
    do.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", type=Path, help="reuse this environment instead of making .venv")
    parser.add_argument(
        "--extra",
        action="append",
        default=[],
        help="install this extra of pyproject.toml too; may be repeated",
    )
    parser.add_argument("--dry-run", action="store_true", help="show the commands and run none")
    parser.add_argument("--skip-disk-check", action="store_true")
    parser.add_argument("--for", dest="goal", default="", help="the make target that this is for")
    parser.add_argument("arguments", nargs="*", help="what that target was given, after --")
    args = parser.parse_args(argv)
    default = ROOT / ".venv"
    venv = Path(
        os.path.abspath((args.venv or default).expanduser())
    )  # not resolve(): a venv may be a link
    start = time.monotonic()
    try:
        check_arguments(args.goal, args.arguments, ROOT)
        with only_one(ROOT):
            options = {
                "dry_run": args.dry_run,
                "skip_disk": args.skip_disk_check,
                "extras": tuple(args.extra),
            }
            done = bootstrap(venv, ROOT, named_by_user=venv != default, **options)
    except (SetupError, OSError) as error:
        print(f"\nSet-up failed: {error}", file=sys.stderr)
        return 1
    if done != "ready" and not args.dry_run:
        print(f"The environment {venv} is {done} ({(time.monotonic() - start) / 60:.1f} minutes).")
    return 0


class only_one:
    """A lock for the time of a set-up: two at once would destroy each other's work. Freed by the
    system if killed.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / "build" / "bootstrap.lock"

    def __enter__(self) -> None:
        self.path.parent.mkdir(exist_ok=True)
        self.file = self.path.open("w")
        if os.name == "posix":
            import fcntl

            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("Another set-up of this folder is running; waiting for it.", flush=True)
                fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *exception: object) -> None:
        self.file.close()


if __name__ == "__main__":
    sys.exit(main())
