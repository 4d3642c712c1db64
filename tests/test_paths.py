"""One rule for paths that come in, one place that writes files: nothing but the named file's content changes."""

import contextlib
import os
import shutil
import stat
from pathlib import Path

import pytest
import torch
from torch import nn

from diffusion_course import load_dataset, load_parts, load_pretrained, make_schedule, train
from diffusion_course.classroom import __main__ as classroom
from diffusion_course.classroom.assignment.assignment import load_assignment
from diffusion_course.classroom.assignment.build import build_assignment
from diffusion_course.classroom.assignment.roster import read_roster
from diffusion_course.classroom.gradescope import write_autograder
from diffusion_course.classroom.grading.finding import scan
from diffusion_course.exercises.record import Record, default_path
from diffusion_course.files.checkpoints import load_tensors, save_tensors, sha256_of
from diffusion_course.files.paths import user_path, write_bytes
from diffusion_course.files.pretrained import data_dir

posix = pytest.mark.skipif(os.name != "posix", reason="modes, links and devices of POSIX")


def null_device(folder):
    """Return a null device of our own for root, who could destroy the machine's; for others that one."""
    with contextlib.suppress(OSError, AttributeError):
        os.mknod(folder / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        (folder / "null").write_bytes(b"")  # not where devices are shut
        return folder / "null"
    if os.geteuid() == 0:
        pytest.skip("no null device can be made here")
    return Path(os.devnull)


@contextlib.contextmanager
def umask(value):
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def one_step(path):
    """Train for one step with a checkpoint, as a learner does."""
    net = nn.Sequential()
    net.add_module("a", nn.Linear(2, 2))
    net.forward = lambda x, t: net.a(x)
    list(train(net, torch.zeros(4, 2), make_schedule("linear", 10), num_steps=1, batch_size=2, checkpoint=path))


WRITERS = {
    "write_bytes": lambda path: write_bytes(path, b"new"), "save_tensors": lambda path: save_tensors(path, {"a": torch.ones(2)}),
    "train": one_step,
}
writers = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


@posix
@writers
def test_a_link_stays_one_and_its_target_is_written(tmp_path, write):
    (tmp_path / "far").mkdir()
    link, target = tmp_path / "link", tmp_path / "far" / "file"
    link.symlink_to("far/file")
    for _ in range(2):  # where nothing is yet, then over it
        write(link)
        assert link.is_symlink() and target.stat().st_size > 0 and not target.is_symlink()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["far", "file", "link"]


@posix
@writers
def test_a_new_file_has_the_umasks_mode_and_an_old_one_its_own(tmp_path, write):
    for mask, expected in ((0o077, 0o600), (0o002, 0o664)):
        with umask(mask):
            write(tmp_path / oct(mask))
            assert mode(tmp_path / oct(mask)) == expected
    for kept in (0o600, 0o664, 0o755):
        (tmp_path / "old").write_bytes(b"")
        (tmp_path / "old").chmod(kept)
        with umask(0o077):
            write(tmp_path / "old")
        assert mode(tmp_path / "old") == kept and (tmp_path / "old").stat().st_size > 0


@writers
def test_a_file_that_is_read_only_stays_also_for_root(tmp_path, write):
    file = tmp_path / "file"
    file.write_bytes(b"old")
    file.chmod(0o444)
    with pytest.raises(PermissionError, match=r"(path|checkpoint)=.*file is read-only. Name another file"):
        write(file)
    assert file.read_bytes() == b"old" and list(tmp_path.iterdir()) == [file]


@posix
@writers
def test_a_device_is_written_to_and_stays(tmp_path, write):
    device = null_device(tmp_path)
    write(device)
    (tmp_path / "link").symlink_to(device)
    write(tmp_path / "link")
    assert stat.S_ISCHR(device.lstat().st_mode) and (tmp_path / "link").is_symlink()
    assert {path.name for path in tmp_path.iterdir()} <= {"null", "link"}


@posix
def test_a_record_on_a_device_is_kept_in_memory(tmp_path):
    from diffusion_course.exercises.engine import Result

    device = null_device(tmp_path)
    (tmp_path / "link").symlink_to(device)
    for one in (Record(device), Record(tmp_path / "link")):
        one.add(Result("01.1", "wrong", ""))
        assert one.attempts("01.1") == 1
        one.forget()
        assert one.state("01.1") == "open"
    assert stat.S_ISCHR(device.lstat().st_mode) and {path.name for path in tmp_path.iterdir()} <= {"null", "link"}


@posix
@writers
@pytest.mark.parametrize(("make", "message"), [(os.mkdir, "must be a file, got the folder"), (os.mkfifo, "must be a regular file, got .*a pipe")], ids=["folder", "pipe"])
def test_a_folder_or_a_pipe_is_refused_and_stays(tmp_path, write, make, message):
    make(tmp_path / "there")
    with pytest.raises(OSError, match=message):
        write(tmp_path / "there")
    assert [path.name for path in tmp_path.iterdir()] == ["there"] and not (tmp_path / "there").is_file()


@posix
@writers
@pytest.mark.parametrize("below", ["new", "new/newer"])
def test_a_file_is_no_folder_and_stays(tmp_path, write, below):
    (tmp_path / "there").write_text("a file")
    with pytest.raises(NotADirectoryError, match=f"there/{below}: its folder is a file. Name another"):
        write(tmp_path / "there" / below)
    assert [path.name for path in tmp_path.iterdir()] == ["there"] and (tmp_path / "there").read_text() == "a file"


@posix
def test_nothing_is_left_beside_a_file_that_could_not_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_bytes(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        (3, TypeError, "out must be a path, a str or pathlib.Path, got int 3"), (None, TypeError, "out must be a path"), (b"a", TypeError, "out must be a path"),
        (["a"], TypeError, "out must be a path"), ("", ValueError, "out must name a file or folder, got ''"), ("a\0b", ValueError, "out must name a file"),
        ("~nobody-of-this-name/a", ValueError, "out='~nobody-of-this-name/a': .*home"),
    ],
)
def test_what_is_no_path_is_named(path, error, message):
    with pytest.raises(error, match=message):
        user_path(path, "out")


def test_only_a_leading_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert user_path("~") == tmp_path and user_path(Path("~/a")) == tmp_path / "a"
    assert user_path("a/~/b~") == Path("a/~/b~")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder with an assignment, weights and a roster, seen from an empty working folder."""
    folder, here = tmp_path / "home", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    build_assignment("01", folder / "hw", manual=False, seed=10**18)
    shutil.copytree(data_dir(), folder / "data")
    (folder / "roster.csv").write_text("id\nann\n")
    (folder / "submissions").mkdir()
    (folder / "submissions" / "ann.ipynb").touch()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    monkeypatch.chdir(here)
    yield folder
    assert list(here.iterdir()) == [], "a folder named ~ was made"


def from_data(set_to):
    os.environ["DIFFUSION_COURSE_DATA"] = set_to  # the caller's monkeypatch takes it back
    return load_pretrained("judge")


READERS = {
    "load_tensors": lambda home: load_tensors("~/data/digits.safetensors"),
    "sha256_of": lambda home: sha256_of(Path("~/data/digits.safetensors")),
    "load_parts": lambda home: load_parts("~/data/mini-stable-diffusion"),
    "DIFFUSION_COURSE_DATA": lambda home: from_data("~/data"),
    "read_roster": lambda home: read_roster("~/roster.csv"),
    "load_assignment": lambda home: load_assignment("~/hw/instructor/assignment.json"),
    "scan": lambda home: scan("~/submissions"),
}
MAKERS = {
    "write_bytes": ("a/b", lambda: write_bytes("~/a/b", b"")), "save_tensors": ("a/w", lambda: save_tensors(Path("~/a/w"), {})),
    "checkpoint": ("a/c", lambda: one_step("~/a/c")), "build_assignment": ("two", lambda: build_assignment("01", "~/two", roster="~/roster.csv")),
    "write_autograder": ("a.zip", lambda: write_autograder(load_assignment("~/hw/instructor/assignment.json"), "~/a.zip")),
    "build": ("three", lambda: classroom.main(["build", "--lessons", "01", "--out", "~/three", "--roster", "~/roster.csv"])),
    "gradescope": ("b.zip", lambda: classroom.main(["gradescope", "--assignment", "~/hw/instructor/assignment.json", "--out", "~/b.zip"])),
    "grade": ("out/grades.csv", lambda: classroom.main(["grade", "~/submissions", "--assignment", "~/hw/instructor/assignment.json", "--out", "~/out", "--unsafe"])),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_what_is_read_may_lie_in_the_home_folder(home, monkeypatch, read):
    monkeypatch.setenv("DIFFUSION_COURSE_DATA", str(home / "data"))
    read(home)


@pytest.mark.parametrize(("made", "make"), MAKERS.values(), ids=MAKERS)
def test_what_is_written_may_lie_in_the_home_folder(home, made, make):
    make()
    assert (home / made).exists()


def test_downloads_and_progress_may_lie_in_the_home_folder(home, monkeypatch):
    with pytest.raises(ConnectionError, match=str(home / "sets").replace("\\", "\\\\")):
        load_dataset("mnist", root="~/sets", download=False)
    monkeypatch.setenv("DIFFUSION_COURSE_PROGRESS", "~/p.json")
    assert default_path() == home / "p.json"


def test_a_tool_takes_a_path_in_the_home_folder(home, monkeypatch):
    from tools import book, train

    seen = {}
    monkeypatch.setattr(train, "PARTS", {"digits": train.Part(lambda job: seen.update(job._asdict()) or iter([train.ship]), 1, {}, None)})
    with pytest.raises(AttributeError):  # what it reports is no report
        train.main(["digits", "--device", "cpu", "--work", "~/work", "--data", "~/data"])
    assert seen["work"] == home / "work" and seen["data"] == home / "data"
    monkeypatch.setattr(book, "missing", lambda: ["sphinx"])
    assert book.main(["--output", "~/book"]) == 1


def test_a_run_that_was_complete_is_not_shipped_again(home, capsys):
    from tools import train

    save_tensors(home / "digits.safetensors", {}, {"step": 5})
    assert train.main(["digits", "--device", "cpu", "--steps", "5", "--work", "~", "--data", "~/data"]) == 1
    assert "the run was complete already; delete" in capsys.readouterr().err


@posix
def test_an_assignment_goes_through_a_link_and_follows_the_umask(tmp_path):
    (tmp_path / "far").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("far")
    with umask(0o027):
        build_assignment("01", tmp_path / "link", manual=False, seed=10**18)
        build_assignment("01", tmp_path / "new", manual=False, seed=10**18)
    assert (tmp_path / "link").is_symlink() and mode(tmp_path / "far") == 0o700
    assert mode(tmp_path / "new") == 0o750 and mode(tmp_path / "new" / "student") == 0o750
    assert mode(tmp_path / "new" / "instructor" / "assignment.json") == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["far", "link", "new"]


def test_an_autograder_that_cannot_be_written_is_refused_before_it_is_packed(tmp_path, monkeypatch):
    build_assignment("01", tmp_path / "hw", manual=False, seed=10**18)
    monkeypatch.setattr("zipfile.ZipFile", None)
    with pytest.raises(IsADirectoryError, match="must be a file, got the folder"):
        write_autograder(load_assignment(tmp_path / "hw" / "instructor" / "assignment.json"), tmp_path)
