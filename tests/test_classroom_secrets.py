"""What is secret stays so: seeds that cannot be guessed, files that only their owner reads, folders that the sandbox does not show."""

import csv
import io
import os
import re
import stat
import sys

import pytest
from test_classroom_grading import answers, assignment, notebook, pretend

from diffusion_course.classroom.assignment.assignment import save_assignment
from diffusion_course.classroom.assignment.build import WEAKEST_SEED, build_assignment
from diffusion_course.classroom.files import Unreadable, read_file
from diffusion_course.classroom.gradescope import write_autograder
from diffusion_course.classroom.grading import reading
from diffusion_course.classroom.grading.folder import grade_folder
from diffusion_course.classroom.grading.reading import read_submission
from diffusion_course.classroom.sandbox import bubblewrap
from diffusion_course.classroom.tables import csv_text

POSIX = pytest.mark.skipif(os.name != "posix", reason="modes and links as POSIX has them")


# Seeds


@pytest.mark.parametrize("seed", [0, 7, 20260930, 20260930235959, 10**18 - 1])
def test_a_seed_that_can_be_guessed_is_refused(tmp_path, seed):
    with pytest.raises(ValueError, match=f"seed {seed} can be guessed.*leave --seed out"):
        build_assignment("02", tmp_path / "hw", seed=seed)
    assert list(tmp_path.iterdir()) == []


def test_a_seed_that_was_drawn_builds_the_same_again(tmp_path):
    seeds = {build_assignment("00", tmp_path / str(one)).assignment.seed for one in range(3)}
    assert len(seeds) == 3 and min(seeds) >= WEAKEST_SEED
    assert build_assignment("00", tmp_path / "again", seed=min(seeds)).assignment.seed == min(seeds)


# Who may read what is written


@POSIX
def test_the_files_with_the_seed_are_for_their_owner(tmp_path):
    old = os.umask(0o022)
    try:
        save_assignment(assignment(), tmp_path / "assignment.json")
        (tmp_path / "open.json").touch(0o644)
        save_assignment(assignment(), tmp_path / "open.json")
        write_autograder(assignment(), tmp_path / "autograder.zip")
        build_assignment("00", tmp_path / "hw")
    finally:
        os.umask(old)
    names = ("assignment.json", "open.json", "autograder.zip", "hw/instructor/assignment.json")
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names} == {0o600}
    assert stat.S_IMODE((tmp_path / "hw" / "instructor").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "hw" / "student").stat().st_mode) == 0o755


# Links


@POSIX
def test_a_folder_that_becomes_a_link_while_it_is_read_is_not_followed(tmp_path, monkeypatch):
    """The student's own folder is exchanged for a link after it was looked at and before its file is opened."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "hw.ipynb").write_text(notebook({"answer-02-1": "secret"}))
    own = tmp_path / "in" / "ann" / "deep"
    own.mkdir(parents=True)
    (own / "hw.ipynb").write_text(notebook(answers()))
    walk = reading._walk

    def exchanging(*arguments):
        yield from walk(*arguments)
        own.rename(tmp_path / "away")
        own.symlink_to(secret)

    monkeypatch.setattr(reading, "_walk", exchanging)
    one = read_submission(tmp_path / "in" / "ann", "ann")
    assert one.problem and "secret" not in repr(one.cells)


@POSIX
def test_below_a_folder_no_level_is_followed(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "link").symlink_to("b")
    assert read_file(tmp_path / "a" / "b" / "file", 10, below=tmp_path) == b"x"
    assert read_file(tmp_path / "link" / "b" / "file", 10, below=tmp_path / "link") == b"x"  # the instructor's own link
    for path in (tmp_path / "link" / "b" / "file", tmp_path / "a" / "link" / "file"):
        with pytest.raises(Unreadable, match="cannot be read|link"):
            read_file(path, 10, below=tmp_path)
    with pytest.raises(Unreadable, match="outside"):
        read_file(tmp_path / "a" / ".." / "a" / "b" / "file", 10, below=tmp_path)


@POSIX
def test_a_file_that_has_another_name_is_noticed(tmp_path):
    (tmp_path / "bob.ipynb").write_text(notebook(answers()))
    os.link(tmp_path / "bob.ipynb", tmp_path / "ann.ipynb")
    one = read_submission(tmp_path / "ann.ipynb", "ann")
    assert one.problem is None and one.notes == ("'ann.ipynb' is a hard link: the same file has 2 names",)


@POSIX
def test_a_file_that_is_written_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "ann.ipynb"
    path.write_text(notebook(answers()))
    real, calls = os.fstat, []

    def fstat(handle):
        calls.append(handle)
        if len(calls) == 2:
            path.write_text("another")
        return real(handle)

    monkeypatch.setattr(os, "fstat", fstat)
    with pytest.raises(Unreadable, match="changed while it was read"):
        read_file(path, 10**6)


# Spreadsheets


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", "\n=", "＝", "＋", "－", "＠", "﹦", "−", " =", "\u200b=", "\ufeff=", "|", "%", "a;=", "a;＝", "a\n-", "a\t@"])
def test_no_cell_is_a_formula_in_any_spreadsheet(start):
    """OWASP, CSV injection; with a semicolon between columns another cell begins inside this one."""
    text = csv_text([[f"{start}cmd|' /C calc'!A0", "1"]])
    ((first, number),) = csv.reader(io.StringIO(text, newline=""))
    assert number == "1"
    for part in re.split(r"[;\t\r\n]", first):
        assert not part.lstrip(" \u200b\ufeff").startswith(tuple("=+-@＝＋－＠﹦−|%")), first


def test_an_ordinary_cell_stays_as_it_is():
    assert csv_text([["ann-marie", "x = a - b", "0.5", "it is cut; ask again"]]) == "ann-marie,x = a - b,0.5,it is cut; ask again\n"


# What the sandbox shows


@pytest.mark.parametrize("inside", ["submissions", "out"])
def test_what_the_sandbox_would_show_is_no_place_for_submissions_or_reports(tmp_path, monkeypatch, inside):
    shown = tmp_path / "environment"
    places = {"submissions": tmp_path / "in", "out": tmp_path / "out"} | {inside: shown / inside}
    places["submissions"].mkdir(parents=True)
    (places["submissions"] / "ann.ipynb").write_text(notebook(answers()))
    monkeypatch.setattr(bubblewrap, "_prefixes", lambda: [shown])
    monkeypatch.setattr(bubblewrap, "_problem", lambda: None)
    with pytest.raises(ValueError, match="a submission could read it.*elsewhere"):
        grade_folder(assignment(), *places.values(), progress=False, attempt=pretend)
    assert grade_folder(assignment(), *places.values(), progress=False, attempt=pretend, unsafe=True)


def test_nor_for_the_assignment(tmp_path, monkeypatch, capsys):
    from diffusion_course.classroom.__main__ import main

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ann.ipynb").write_text(notebook(answers()))
    save_assignment(assignment(), tmp_path / "week" / "assignment.json")
    monkeypatch.setattr(bubblewrap, "_prefixes", lambda: [tmp_path / "week"])
    monkeypatch.setattr(bubblewrap, "_problem", lambda: None)
    assert main(["grade", str(tmp_path / "in"), "--assignment", str(tmp_path / "week" / "assignment.json"), "--out", str(tmp_path / "out")]) == 2
    assert "a submission could read it" in capsys.readouterr().err


def test_usr_and_the_environment_are_shown(tmp_path):
    assert bubblewrap.shown_by(sys.prefix) is not None and bubblewrap.shown_by("/usr/share/class") is not None
    assert bubblewrap.shown_by(tmp_path) is None
