"""Submissions are found in every usual layout, and nothing that a student hands in follows, blocks, unpacks or raises."""

import io
import json
import os
import random
import stat
import string
import struct
import time
import zipfile
import zlib
from pathlib import Path

import pytest

from diffusion_course.classroom.files import Unreadable, printable, read_file, safe_name
from diffusion_course.classroom.grading import archives, cells, reading
from diffusion_course.classroom.grading.archives import notebooks_in
from diffusion_course.classroom.grading.cells import parse_notebook
from diffusion_course.classroom.grading.finding import find_submissions, scan
from diffusion_course.classroom.grading.reading import read_submission

POSIX = pytest.mark.skipif(os.name != "posix", reason="links, pipes and odd names as POSIX has them")


def code(source, grade_id=None):
    """A code cell as a notebook file holds it."""
    metadata = {"nbgrader": {"grade_id": grade_id, "solution": True}} if grade_id else {}
    return {"cell_type": "code", "source": source, "metadata": metadata, "outputs": [{"x": 1}], "execution_count": None}


def notebook(*parts, assignment=None, **more):
    """The bytes of a notebook."""
    metadata = {"diffusion_course": {"assignment": assignment}} if assignment else {}
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": list(parts), **more}).encode()


def answer(text="x = 1"):
    return notebook(code(text, "answer-02-1"))


def put(path, content=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(answer() if content is None else content)
    return path


def zipped(entries, **options):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return stream.getvalue()


def read(tmp_path, content, name="ann.ipynb", **options):
    return read_submission(put(tmp_path / name, content), "ann", **options)


# Layouts


def test_a_flat_folder(tmp_path):
    for name in ("zoe.ipynb", "ann.IPYNB", "ben.zip", ".DS_Store", "roster.csv"):
        put(tmp_path / name)
    found = scan(tmp_path)
    assert found.submissions == (("ann", tmp_path / "ann.IPYNB"), ("ben", tmp_path / "ben.zip"), ("zoe", tmp_path / "zoe.ipynb"))
    assert found.notes == ("'roster.csv' is no submission and is left out",)
    assert find_submissions(str(tmp_path)) == list(found.submissions)


@pytest.mark.parametrize("inside", ["submitted", "."])
def test_folders_as_nbgrader_collects_them(tmp_path, inside):
    for student in ("ann", "ben"):
        put(tmp_path / inside / student / "hw2" / "hw2.ipynb", answer(student))
        put(tmp_path / inside / student / "hw1" / "hw1.ipynb", answer("other"))
        put(tmp_path / inside / student / "hw2" / ".ipynb_checkpoints" / "hw2-checkpoint.ipynb", answer("old"))
    if inside == "submitted":
        put(tmp_path / "source" / "hw2" / "hw2.ipynb")
    found = find_submissions(tmp_path)
    assert [student for student, _ in found] == ["ann", "ben"]
    for student, path in found:
        one = read_submission(path, student, assignment="hw2")
        assert (one.problem, one.cells[0].source, one.path.name) == (None, student, "hw2.ipynb")


def test_a_folder_with_a_zip_and_a_zip_with_folders(tmp_path):
    put(tmp_path / "ann" / "work.zip", zipped([("work/hw.ipynb", answer("zip"))]))
    one = read_submission(tmp_path / "ann", "ann")
    assert (one.problem, one.cells[0].source, one.path.name) == (None, "zip", "work.zip")


def test_gradescope_says_whose_a_folder_is(tmp_path):
    for number in (1, 2, 3, 4):
        put(tmp_path / f"submission_{number}" / "hw.ipynb")
    put(tmp_path / "submission_metadata.yml", b"""---
submission_1:
  :submitters:
  - :name: "a long name that the file breaks: \\
      :sid: zoe"
    :sid: '007'
    :email: ann@example.edu
  :created_at: !ruby/object:Time {}
submission_2:
  :submitters:
  - :name: Ben
    :sid:
    :email: ben@example.edu
submission_3:
  :submitters:
  - :sid: cy
  - :sid: dee
""")
    found = scan(tmp_path)
    assert [(student, path.name[-1]) for student, path in found.submissions] == [
        ("007", "1"), ("ben@example.edu", "2"), ("cy", "3"), ("submission_4", "4"),
    ]
    assert found.notes == ("submission_3 is a group's: it is graded for cy, not for dee",)


@pytest.mark.parametrize("content", [b"- 1\n- 2", b"\xff\xfe\xfa", b"submission_1: [", b"submission_1: x"])
def test_a_broken_list_of_gradescope_leaves_the_names_of_the_folders(tmp_path, content):
    put(tmp_path / "submission_1" / "hw.ipynb")
    put(tmp_path / "submission_metadata.yml", content)
    found = scan(tmp_path)
    assert [student for student, _ in found.submissions] == ["submission_1"]
    assert len(found.notes) == 1 and "is not used" in found.notes[0]


def test_two_submissions_of_one_student_are_reported(tmp_path):
    for name in ("ann.zip", "ann/hw.ipynb", "ann.ipynb", "Ann.ipynb"):
        put(tmp_path / name)
    if len(os.listdir(tmp_path)) < 4:
        pytest.skip("this file system does not tell capitals apart")
    found = scan(tmp_path)
    assert [(student, path.name) for student, path in found.submissions] == [("Ann", "Ann.ipynb"), ("ann", "ann.ipynb")]
    assert found.notes == (
        "ann has 3 submissions: 'ann.ipynb' is read, 'ann', 'ann.zip' is not",
        "the student ids 'Ann' and 'ann' differ in capitals only",
    )


def test_the_folder_itself_must_be_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere"):
        scan(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match="not a folder"):
        scan(put(tmp_path / "file"))
    assert find_submissions(tmp_path / "..") != [] and find_submissions(tmp_path) == []


# Which of several notebooks


def several(tmp_path, **names):
    for name, content in names.items():
        put(tmp_path / "ann" / f"{name}.ipynb", content)
    return tmp_path / "ann"


def test_the_one_whose_metadata_names_the_assignment(tmp_path):
    path = several(tmp_path, hw2=answer("name"), mine=notebook(code("metadata"), assignment="hw2"))
    assert read_submission(path, "ann", assignment="hw2").cells[0].source == "metadata"


def test_the_one_that_is_called_so_then_the_only_one_with_answers(tmp_path):
    path = several(tmp_path, hw2=answer("name"), notes=answer("notes"), plain=notebook(code("1")))
    one = read_submission(path, "ann", assignment="hw2")
    assert one.cells[0].source == "name" and one.notes == ("of 3 notebooks 'hw2.ipynb' is read",)
    (path / "notes.ipynb").unlink()
    assert read_submission(path, "ann").cells[0].source == "name"


def test_two_that_may_be_it_are_a_problem_and_twice_the_same_is_not(tmp_path):
    path = several(tmp_path, a=answer("1"), b=answer("2"))
    one = read_submission(path, "ann", assignment="hw2")
    assert one.cells == () and "2 notebooks that may be the answer ('a.ipynb', 'b.ipynb')" in one.problem
    put(path / "b.ipynb", answer("1"))
    assert read_submission(path, "ann").problem is None


def test_another_assignments_notebook_is_not_graded_as_this_one(tmp_path):
    one = read(tmp_path, notebook(code("x"), assignment="hw1"), assignment="hw2")
    assert one.problem == "ann.ipynb: it is the notebook of assignment 'hw1', not 'hw2'."


def test_a_broken_notebook_beside_a_sound_one_does_not_matter(tmp_path):
    path = several(tmp_path, a=b"{", b=answer("2"))
    assert read_submission(path, "ann").cells[0].source == "2"


# What is in a notebook


def test_cells_and_written_answers(tmp_path):
    written = {"cell_type": "markdown", "source": ["It has\n", "two lines."], "metadata": {"nbgrader": {"grade_id": "manual-02-m1"}}}
    one = read(tmp_path, notebook(code(["a = 1\n", "b = 2"]), written, code("def f(): ...", "answer-02-1"), code(" \n")))
    assert [(cell.source, cell.grade_id) for cell in one.cells] == [("a = 1\nb = 2", None), ("def f(): ...", "answer-02-1")]
    assert one.written == {"02.m1": "It has\ntwo lines."} and one.notes == () and one.problem is None
    assert len(one.sha256) == 64 and one.sha256 != read(tmp_path, answer()).sha256


def test_duplicate_grade_ids_are_noted_and_kept(tmp_path):
    manual = {"cell_type": "markdown", "source": "text", "metadata": {"nbgrader": {"grade_id": "manual-02-m1"}}}
    one = read(tmp_path, notebook(code("1", "answer-02-1"), code("2", "answer-02-1"), manual, manual))
    assert [cell.source for cell in one.cells] == ["1", "2"] and one.written == {"02.m1": "text\n\ntext"}
    assert one.notes == ("2 cells have the grade_id 'answer-02-1'", "2 cells have the grade_id 'manual-02-m1'")


@pytest.mark.parametrize(
    "odd",
    [None, 3, [], {}, "x", {"cell_type": "code"}, {"cell_type": "code", "source": 5}, {"cell_type": "code", "source": ["a", 1]},
     {"cell_type": "code", "source": {"a": 1}}, {"cell_type": "code", "source": [["a"]]}],
    ids=repr,
)
def test_a_cell_that_is_none_is_left_out_and_the_others_count(tmp_path, odd):
    one = read(tmp_path, notebook(odd, code("x = 1")))
    assert [cell.source for cell in one.cells] == ["x = 1"]
    assert one.notes == ("cell 1 is not a cell and is left out",)


@pytest.mark.parametrize("metadata", [None, 3, [], {"nbgrader": 1}, {"nbgrader": {"grade_id": 1}}, {"nbgrader": {"grade_id": "x" * 10_000}}], ids=lambda value: repr(value)[:30])
def test_odd_metadata_of_a_cell_does_not_matter(tmp_path, metadata):
    one = read(tmp_path, notebook({"cell_type": "code", "source": "x = 1", "metadata": metadata}))
    assert [(cell.source, cell.grade_id) for cell in one.cells] == [("x = 1", None)] and one.problem is None


@pytest.mark.parametrize("metadata", [None, 3, {"diffusion_course": 1}, {"diffusion_course": {"assignment": ["hw2"]}}], ids=repr)
def test_odd_metadata_of_the_notebook_does_not_matter(tmp_path, metadata):
    content = json.dumps({"nbformat": 4, "metadata": metadata, "cells": [code("x = 1")]}).encode()
    assert read(tmp_path, content, assignment="hw2").problem is None


def test_format_3_is_read(tmp_path):
    cell = {"cell_type": "code", "input": ["x = 1\n", "y = 2"], "outputs": []}
    content = json.dumps({"nbformat": 3, "metadata": {}, "worksheets": [{"cells": [cell]}, {"cells": [cell]}]}).encode()
    assert [one.source for one in read(tmp_path, content).cells] == ["x = 1\ny = 2"] * 2


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not JSON"),
        (b"x = 1\n", "not JSON"),
        (b'{"nbformat": 4, "cells": [', "not JSON"),
        (b'{"nbformat": ' + b"9" * 5_000 + b"}", "not JSON"),
        (b'{"nbformat": ' + b"9" * 4_000 + b', "cells": []}', "format 99999"),
        (b"[" * 1_000_000, "nested too deeply"),
        (b'{"nbformat": 4, "cells": ' + b'[{"a":' * 200_000, "nested too deeply"),
        (b"[]", "not a notebook"),
        (b"NaN", "not a notebook"),
        (b"{}", "not a notebook"),
        (b'{"nbformat": "4", "cells": []}', "not a notebook"),
        (b'{"nbformat": NaN, "cells": []}', "not a notebook"),
        (b'{"nbformat": 2, "cells": []}', "format 2"),
        (b'{"nbformat": 5, "cells": []}', "format 5"),
        (b'{"nbformat": 4}', "no list of cells"),
        (b'{"nbformat": 4, "cells": {}}', "no list of cells"),
        (b'{"nbformat": 3, "cells": []}', "no worksheets"),
        (b'{"nbformat": 3, "worksheets": [1]}', "no list of cells"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value[:20]),
)
def test_what_is_no_notebook_is_a_problem_in_one_line(tmp_path, content, problem):
    one = read(tmp_path, content)
    assert problem in one.problem and "\n" not in one.problem and len(one.problem) < 300
    assert one.cells == () and one.written == {} and len(one.sha256) == 64


def test_a_problem_has_the_hash_of_its_content(tmp_path):
    assert read(tmp_path, b"a").sha256 != read(tmp_path, b"b").sha256


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_any_unicode_encoding_is_read(tmp_path, encoding):
    content = json.dumps({"nbformat": 4, "cells": [code("ä = 'β'")]}, ensure_ascii=False).encode(encoding)
    one = read(tmp_path, content)
    assert one.cells[0].source == "ä = 'β'" and one.notes == ()


def test_latin_letters_in_a_comment_do_not_cost_the_notebook(tmp_path):
    content = json.dumps({"nbformat": 4, "cells": [code("x = 1  # gr\xfc\xdfe")]}, ensure_ascii=False).encode("latin-1")
    one = read(tmp_path, content)
    assert one.cells[0].source.startswith("x = 1") and "not in UTF-8" in one.notes[0]
    one.cells[0].source.encode("utf-8")


def test_everything_that_is_read_can_be_written(tmp_path):
    content = notebook(code("'\ud800' # \udcff \U0001f600"), code("1\r\n2\r3", "answer-\udc80"))
    assert b"\\ud800" in content
    one = read(tmp_path, content)
    for cell in one.cells:
        (cell.source + cell.grade_id if cell.grade_id else cell.source).encode("utf-8")
    assert one.cells[0].source == "'\ufffd' # \ufffd \U0001f600" and one.cells[1].source == "1\n2\n3"


def test_nan_and_repeated_keys_are_no_reason_to_fail(tmp_path):
    content = answer()[:-1] + b', "score": NaN, "more": [Infinity, -Infinity, 1e999], "metadata": {}}'
    assert read(tmp_path, content).problem is None


def test_too_much_code_is_left_out_and_the_rest_counts(tmp_path):
    big = code("y = '" + "a" * cells.CELL_CHARACTERS + "'")
    one = read(tmp_path, notebook(code("x = 1"), big, code("z = 1")))
    assert [cell.source for cell in one.cells] == ["x = 1", "z = 1"] and "cell 2 has 32774 characters" in one.notes[0]
    one = read(tmp_path, notebook(*[code("a = 1")] * 100_000))
    assert len(one.cells) == cells.CELLS and "from cell 2001 on" in one.notes[0]
    one = read(tmp_path, notebook(*[code("#" * 32_000)] * 9, code("x = 1", "answer-02-1"), code("#" * 40_000, "answer-02-2")))
    assert len(one.cells) == 8 and "from cell 9 on" in one.notes[0] and len(one.notes) == 2
    assert one.unread == {"answer-02-1": "a cell that comes after too much code", "answer-02-2": "a cell with 40000 characters, at most 32768 are read"}
    one = read(tmp_path, notebook(*[code("")] * 100_000, code("x = 1")))
    assert len(one.cells) == 1 and one.notes == ()
    one = read(tmp_path, notebook(*[None] * 100_000, code("x = 1")))
    assert len(one.cells) == 1 and len(one.notes) == 21 and "99980 more" in one.notes[-1]


def test_a_long_written_answer_is_cut(tmp_path):
    long = {"cell_type": "markdown", "source": "a" * 1_000_000, "metadata": {"nbgrader": {"grade_id": "manual-02-m1"}}}
    one = read(tmp_path, notebook(long))
    assert len(one.written["02.m1"]) == cells.WRITTEN_CHARACTERS and "is cut" in one.notes[0]


def test_any_bytes_and_any_json_are_read_or_refused_but_never_raise(tmp_path):
    source = random.Random(5)
    sound = notebook(code("x = 1", "answer-02-1"), {"cell_type": "markdown", "source": "t", "metadata": {}})
    for _ in range(300):
        broken = bytearray(sound)
        for _ in range(source.randrange(1, 6)):
            broken[source.randrange(len(broken))] = source.randrange(256)
        one = read(tmp_path, bytes(broken))
        assert one.problem is None or "\n" not in one.problem

    def anything(depth=0):
        kind = source.randrange(8 if depth < 4 else 6)
        if kind == 6:
            return [anything(depth + 1) for _ in range(source.randrange(4))]
        if kind == 7:
            keys = ("cells", "nbformat", "metadata", "nbgrader", "grade_id", "source", "input", "worksheets", "cell_type")
            return {source.choice(keys): anything(depth + 1) for _ in range(source.randrange(5))}
        return [None, True, 4, 1.5, "code", "manual-02-m1"][kind]

    for _ in range(2_000):
        document = {"nbformat": source.choice([3, 4]), "metadata": anything(), source.choice(["cells", "worksheets"]): anything()}
        one = read(tmp_path, json.dumps(document).encode())
        assert one.problem is None or one.cells == ()


# Odd files


@POSIX
def test_links_are_not_followed(tmp_path):
    secret = put(tmp_path / "elsewhere" / "secret.ipynb", answer("secret"))
    folder = tmp_path / "all"
    folder.mkdir()
    (folder / "ann.ipynb").symlink_to(secret)
    (folder / "ben").symlink_to(secret.parent)
    (folder / "cy.ipynb").symlink_to(tmp_path / "nothing")
    put(folder / "dee" / "hw.ipynb", answer("own"))
    (folder / "dee" / "other.ipynb").symlink_to(secret)
    (folder / "dee" / "more").symlink_to(secret.parent)
    (folder / "eve").mkdir()
    (folder / "eve" / "hw.ipynb").symlink_to(secret)
    read_all = {student: read_submission(path, student) for student, path in find_submissions(folder)}
    for student in ("ann", "ben", "cy"):
        assert "symbolic link, which is not followed" in read_all[student].problem
    assert read_all["dee"].cells[0].source == "own" and len(read_all["dee"].notes) == 2
    assert "no notebook" in read_all["eve"].problem
    assert "secret" not in repr([(one.cells, one.written) for one in read_all.values()])


@POSIX
@pytest.mark.parametrize("where", ["ann.ipynb", "ann.zip", "ann/hw.ipynb"])
def test_a_pipe_does_not_block(tmp_path, where):
    (tmp_path / where).parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / where)
    ((student, path),) = find_submissions(tmp_path)
    started = time.monotonic()
    assert "a pipe, socket, device or folder" in read_submission(path, student).problem
    assert time.monotonic() - started < 5


@POSIX
def test_a_device_is_not_read():
    with pytest.raises(Unreadable, match="pipe, socket, device"):
        read_file("/dev/zero", 100)


@POSIX
def test_a_file_exchanged_for_a_link_or_pipe_between_looking_and_opening(tmp_path, monkeypatch):
    path, secret, pipe = put(tmp_path / "ann.ipynb"), put(tmp_path / "secret"), tmp_path / "pipe"
    os.mkfifo(pipe)
    looked_at = os.lstat(path)
    monkeypatch.setattr(os, "lstat", lambda _, **__: looked_at)
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(Unreadable, match="cannot be read"):
        read_file(path, 100)
    with pytest.raises(Unreadable, match="pipe, socket"):
        read_file(pipe, 100)


def test_folders_without_a_notebook_and_files_that_disappear(tmp_path):
    put(tmp_path / "ann" / "notes.txt")
    (tmp_path / "ben.ipynb").mkdir()
    for student, path in find_submissions(tmp_path):
        assert "holds no notebook" in read_submission(path, student).problem
    assert [student for student, _ in find_submissions(tmp_path)] == ["ann", "ben"]
    assert "cannot be read (No such file" in read_submission(tmp_path / "gone.ipynb", "gone").problem
    assert "cannot be opened" in read_submission(tmp_path / "a\0b.ipynb", "nul").problem


def test_without_permission_it_is_a_problem(tmp_path, monkeypatch):
    path = put(tmp_path / "ann.ipynb")
    folder = put(tmp_path / "ben" / "hw.ipynb").parent

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert "cannot be read (Permission denied)" in read_submission(path, "ann").problem
    monkeypatch.setattr(os, "listdir", refuse)
    one = read_submission(folder, "ben")
    assert "holds no notebook" in one.problem and "cannot be read (Permission denied)" in one.notes[0]


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "ann.ipynb"
    with open(path, "wb") as file:
        file.truncate(10**12)  # a file with a hole, which takes no room
    assert "larger than 20 MiB (953674.3 MiB)" in read_submission(path, "ann").problem


def test_many_files_and_deep_folders_are_bounded(tmp_path):
    deep = tmp_path / "deep"
    put(deep.joinpath(*"abcdefgh", "hw.ipynb"))
    one = read_submission(deep, "deep")
    assert "holds no notebook" in one.problem and "too deep" in one.notes[0]
    for number in range(21):
        put(tmp_path / "many" / f"{number}.ipynb")
    assert "holds 21 notebooks" in read_submission(tmp_path / "many", "many").problem
    for number in range(2_001):
        (tmp_path / "full").mkdir(exist_ok=True)
        (tmp_path / "full" / f"{number}").touch()
    assert "more than 2000 files" in read_submission(tmp_path / "full", "full").problem


# Zip files


def test_a_zip_file_is_read_without_being_unpacked(tmp_path):
    content = zipped([("folder/hw.ipynb", answer("in a zip")), ("__MACOSX/folder/._hw.ipynb", b"\0"), ("folder/.ipynb_checkpoints/hw.ipynb", b"")])
    one = read(tmp_path, content, "ann.zip")
    assert one.cells[0].source == "in a zip" and one.problem is None and one.notes == ()
    assert sorted(os.listdir(tmp_path)) == ["ann.zip"]


def linked(name):
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    ("name", "note"),
    [("../../hw.ipynb", "leads outside"), ("/etc/hw.ipynb", "leads outside"), ("a/../../hw.ipynb", "leads outside"),
     ("C:\\hw.ipynb", "leads outside"), ("..\\hw.ipynb", "leads outside"), (linked("hw.ipynb"), "symbolic link"),
     ("inner.zip", "is not opened")],
    ids=str,
)
def test_a_zip_entry_that_leads_elsewhere_is_left_out_and_the_rest_counts(tmp_path, name, note):
    one = read(tmp_path, zipped([(name, answer("evil")), ("own.ipynb", answer("own"))]), "ann.zip")
    assert one.cells[0].source == "own" and len(one.notes) == 1 and note in one.notes[0]
    assert "holds no notebook" in read(tmp_path, zipped([(name, answer("evil"))]), "ann.zip").problem


def patched(content, signature, offset, value):
    """A zip file with a number in its first header of a kind overwritten."""
    at = content.index(signature) + offset
    return content[:at] + value + content[at + len(value) :]


def encrypted():
    content = zipped([("hw.ipynb", answer())])
    return patched(patched(content, b"PK\x01\x02", 8, b"\x01\x00"), b"PK\x03\x04", 6, b"\x01\x00")


def claims_to_be_small():
    content = zipped([("hw.ipynb", b" " * 10_000_000)])
    size = struct.pack("<L", 1_000)
    return patched(patched(content, b"PK\x01\x02", 24, size), b"PK\x03\x04", 22, size)


def with_method(method):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("hw.ipynb", answer())
    return stream.getvalue()


def long_directory(sixty_four):
    content = zipped([("hw.ipynb", answer())])
    end = content.rfind(b"PK\x05\x06")
    if not sixty_four:
        return content[: end + 12] + struct.pack("<L", 2**31) + content[end + 16 :]
    record = b"PK\x06\x06" + struct.pack("<QHHLLQQQQ", 44, 45, 45, 0, 0, 10**6, 10**6, 2**40, 0)
    return content[:end] + record + b"PK\x06\x07" + struct.pack("<LQL", 0, end, 1) + content[end:]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (lambda: b"", "not a zip file"),
        (lambda: b"PK\x03\x04 and no more", "not a zip file"),
        (lambda: answer(), "not a zip file"),
        (lambda: b"PK\x05\x06" + b"\0" * 18, "holds no notebook"),
        (lambda: zipped([("hw.ipynb", b" " * 19_000_000)]), "more than 200 times its size"),
        (lambda: zipped([("hw.ipynb", b" " * 30_000_000)]), "unpacks to 28.6 MiB"),
        (lambda: zipped([(f"{i}.ipynb", b" " * 1_000_000) for i in range(100)]), "unpacks to more than 64 MiB"),
        (lambda: zipped([(f"{i}.txt", b"") for i in range(1_001)]), "has 1001 entries"),
        (lambda: zipped([(f"{i}.txt" + "x" * 100, b"") for i in range(9_000)]), "list of contents takes"),
        (claims_to_be_small, "damaged"),
        (encrypted, "encrypted"),
        (lambda: with_method(zipfile.ZIP_BZIP2), "compressed by method 12"),
        (lambda: with_method(zipfile.ZIP_LZMA), "compressed by method 14"),
        (lambda: long_directory(False), "list of contents takes 2048.0 MiB"),
        (lambda: long_directory(True), "list of contents takes 1048576.0 MiB"),
        (lambda: zipped([("hw.ipynb", answer())])[:-30], "not a zip file"),
        (lambda: zipped([("hw.ipynb", answer())]).replace(b"PK\x01\x02", b"PK\x01\x03"), "damaged"),
        (lambda: zipped([("a.ipynb", answer("1")), ("b.ipynb", answer("2"))]), "2 notebooks that may be the answer"),
    ],
)
def test_a_zip_file_that_is_none_or_too_much_is_a_problem(tmp_path, content, problem):
    started = time.monotonic()
    one = read(tmp_path, content(), "ann.zip")
    assert problem in one.problem and one.cells == ()
    assert time.monotonic() - started < 10


def test_a_zip_file_with_a_name_twice_shows_both(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("hw.ipynb", answer("1"))
        archive.writestr("hw.ipynb", answer("2"))
    assert "2 notebooks that may be the answer" in read(tmp_path, stream.getvalue(), "ann.zip").problem


def test_damaged_zip_files_never_raise(tmp_path):
    source = random.Random(5)
    sound = zipped([("a/hw.ipynb", answer()), ("b.txt", b"text")])
    seen = set()
    for _ in range(500):
        broken = bytearray(sound)
        for _ in range(source.randrange(1, 4)):
            broken[source.randrange(len(broken))] = source.randrange(256)
        seen.add(read(tmp_path, bytes(broken), "ann.zip").problem is None)
    assert seen == {True, False}


def test_reading_a_bomb_takes_little_memory(tmp_path):
    import tracemalloc

    bomb = zipped([(f"{i}.ipynb", b"\0" * 20_000_000) for i in range(20)])
    tracemalloc.start()
    with pytest.raises(Unreadable):
        notebooks_in(bomb, reading.NOTEBOOK_BYTES)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2 * archives.UNPACKED_BYTES
    assert len(zlib.compress(b"\0" * 20_000_000)) * archives.RATIO < 20_000_000


# Names


@POSIX
def test_a_name_that_is_not_utf_8_is_read_and_can_be_written(tmp_path):
    raw = os.fsencode(tmp_path) + b"/caf\xe9\n\x1b[31m\xe2\x80\xae.ipynb"
    try:
        Path(os.fsdecode(raw)).write_bytes(answer())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    ((student, path),) = find_submissions(tmp_path)
    assert student == "caf\\xe9\\n\\x1b[31m\\u202e"
    one = read_submission(path, student)
    assert one.problem is None and one.cells
    path.write_bytes(b"{")
    for text in (student, read_submission(path, student).problem):
        assert text.encode("utf-8").decode("utf-8").isprintable()


def test_printable_text_stays_as_it_is():
    assert printable("Zoë Ångström-2") == "Zoë Ångström-2"
    assert printable("a\tb\udc80\ud800") == "a\\tb\\udc80\\ud800"
    assert printable("\udcff") == "\\xff"
    assert printable("x" * 300) == "x" * 197 + "..."


@pytest.mark.parametrize(
    ("student", "name"),
    [("ann.b-2_c", "ann.b-2_c"), ("..", "=2e=2e"), (".hidden", "=2ehidden"), ("-rf", "=2drf"), ("a/b", "a=2fb"), ("a=2fb", "a=3d2fb"),
     ("é", "=c3=a9"), ("e\u0301", "e=cc=81"), ("ann@example.edu", "ann=40example.edu"), ("CON", "=43ON"), ("nul.txt", "=6eul.txt"), ("a.", "a=2e"), ("\udcff", "=ed=b3=bf")],
)
def test_safe_names(student, name):
    assert safe_name(student) == name


def test_safe_names_differ_where_ids_differ():
    source = random.Random(5)
    letters = string.ascii_letters + "./\\=-_ %\0\n\u00e9\u0301\udc80" + "con2e3d"
    ids = {"".join(source.choices(letters, k=source.randrange(1, 6))) for _ in range(20_000)}
    ids |= {safe_name(one) for one in ids} | {"x" * n for n in range(90, 400)} | {"é" * n for n in range(10, 100)}
    ids |= {safe_name("x" * n) for n in range(90, 400)}
    names = {safe_name(one) for one in ids}
    assert len(names) == len(ids)
    assert all(len(name) <= 100 and name.isascii() and Path(name).name == name and name not in (".", "..") for name in names)
    with pytest.raises(ValueError, match="must not be empty"):
        safe_name("")


def test_parsing_alone_needs_no_file():
    assert parse_notebook(answer("x = 1")).cells[0].source == "x = 1"
