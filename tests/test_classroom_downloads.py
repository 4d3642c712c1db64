"""What Canvas and Moodle give for download is graded as it comes, and a notebook may say whose it is."""

import io
import os
import time
import zipfile

import pytest
from test_classroom_grading import answers, assignment, notebook, pretend

from diffusion_course.classroom.assignment.assignment import Assignment
from diffusion_course.classroom.grading import bulk
from diffusion_course.classroom.grading.bulk import submissions_in
from diffusion_course.classroom.grading.downloads import handed_in
from diffusion_course.classroom.grading.finding import scan
from diffusion_course.classroom.grading.folder import grade_folder
from diffusion_course.classroom.records import Student

ROSTER = (Student("ann1", "Ann Doe"), Student("bob2", "Bob de la Cruz"), Student("991", "Cy Young"), Student("dee", "Dee Doe"))


@pytest.mark.parametrize(
    ("name", "student", "late"),
    [
        ("doeann_12345_678901_hw.ipynb", "ann1", False),
        ("doeann_LATE_12345_678901_hw-1.ipynb", "ann1", True),
        ("delacruzbob_22_678902_my_final_hw.ipynb", "bob2", False),
        ("youngcyrus_991_678903_hw.ipynb", "991", False),  # the roster's id is Canvas's number
        ("stranger_77_678904_hw.ipynb", "stranger_77", False),
        ("anon_31337_678905_hw.ipynb", "anon_31337", False),
        ("Ann Doe_4711_assignsubmission_file_hw.ipynb", "ann1", False),
        ("Bob de la Cruz_4712_assignsubmission_file_", "bob2", False),
        ("Bob de la Cruz_4712_assignsubmission_file", "bob2", False),
        ("Participant_4713_assignsubmission_file_", "Participant_4713", False),
        ("LATE_anon_aB3xZ_678906_hw.ipynb", "anon_aB3xZ", True),  # Canvas, where students have no names
        # a file that a student called like another's download
        ("Ann Doe_4711_assignsubmission_file_Dee Doe_4712_assignsubmission_file_hw.ipynb", "ann1", False),
        ("Cy Young_4714_assignsubmission_onlinetext_onlinetext.html", "991", False),
    ],
)
def test_whose_a_download_is(name, student, late):
    found = handed_in(name, ROSTER)
    assert (found.student, found.is_late) == (student, late)


@pytest.mark.parametrize("name", ["ann1.ipynb", "hw_1_2_final.ipynb", "submission_12", "a_b_c.zip", "doeann_12345.ipynb", "2024_10_01.ipynb"])
def test_an_ordinary_name_is_none_of_these(name):
    assert handed_in(name, ROSTER) is None


def test_two_of_one_name_are_told_apart_by_no_name():
    twins = (Student("a", "Ann Doe"), Student("b", "Ann Doe"))
    assert handed_in("doeann_12345_678901_hw.ipynb", twins).student == "doeann_12345"


def test_an_id_on_the_roster_that_looks_like_a_download_stays_itself(tmp_path):
    (tmp_path / "x_12_34_y.ipynb").write_text("{}")
    assert scan(tmp_path, (Student("x_12_34_y"),)).submissions[0][0] == "x_12_34_y"


def test_a_folder_of_each_is_found(tmp_path):
    (tmp_path / "canvas").mkdir()
    for name in ("doeann_LATE_12345_678901_hw.ipynb", "delacruzbob_22_678902_hw.ipynb"):
        (tmp_path / "canvas" / name).write_text("{}")
    found = scan(tmp_path / "canvas", ROSTER)
    assert [student for student, _ in found.submissions] == ["ann1", "bob2"]
    assert found.notes == ("ann1 handed in late, says Canvas",)
    for name in ("Ann Doe_4711_assignsubmission_file_", "Cy Young_4714_assignsubmission_file_"):
        (tmp_path / "moodle" / name).mkdir(parents=True)
    assert [student for student, _ in scan(tmp_path / "moodle", ROSTER).submissions] == ["991", "ann1"]


def homework():
    return Assignment("hw", "Homework", assignment().exercises, (), seed=99, roster=ROSTER)


def grade(tmp_path):
    summary = grade_folder(homework(), tmp_path / "in", tmp_path / "out", progress=False, attempt=pretend)
    return {one.student: one for one in summary.graded}, dict(summary.failed), summary.notes


def notes_of(tmp_path):
    return (tmp_path / "out" / "index.html").read_text()


def made_for(student, **changed):
    return notebook(answers(**changed), {"diffusion_course": {"assignment": "hw", "student": student}})


def test_two_files_of_one_student_are_not_gradable(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("doeann_12345_678901_hw.ipynb", "doeann_12345_678902_hw2.ipynb"):
        (tmp_path / "in" / name).write_text(notebook(answers()))
    (tmp_path / "in" / "dee.ipynb").write_text(notebook(answers()))
    graded, failed, _ = grade(tmp_path)
    assert set(failed) == {"ann1"}
    assert "2 files ('doeann_12345_678901_hw.ipynb', 'doeann_12345_678902_hw2.ipynb')" in failed["ann1"]
    assert set(graded) == {"dee"}
    assert "nothing handed in: bob2, 991" in notes_of(tmp_path)


def test_a_notebook_says_whose_it_is_where_its_name_does_not(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "my final version.ipynb").write_text(made_for("ann1"))
    (tmp_path / "in" / "bob2.ipynb").write_text(made_for("dee"))
    (tmp_path / "in" / "other.ipynb").write_text(made_for("991"))
    (tmp_path / "in" / "again.ipynb").write_text(made_for("991", a1="def jump(): 1"))
    (tmp_path / "in" / "bob.ipynb").write_text(made_for("bob2"))
    graded, failed, notes = grade(tmp_path)
    assert set(graded) == {"ann1", "bob2"} and set(failed) == {"other", "again", "bob"}
    assert "'my final version.ipynb' is taken for ann1's, for whom the notebook was made" in graded["ann1"].notes
    assert "the notebook was made for dee" in graded["bob2"].notes


# The zip itself, and what lies in folders


def zipped(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def scanned(path, roster=ROSTER):
    notes = []
    with submissions_in(path, notes) as folder:
        found = scan(folder, roster)
        return {student: where.name for student, where in found.submissions}, dict(found.refused), [*notes, *found.notes]


def test_the_zip_of_an_lms_is_read_as_it_comes(tmp_path):
    umlauts = (Student("mü1", "Jörg Müller"), Student("li", "李 小龙"), Student("bob2", "Bob de la Cruz"))
    found, refused, notes = scanned(zipped(tmp_path / "submissions.zip", {
        "mu\u0308llerjo\u0308rg_LATE_12_678901_hw.ipynb": "{}",  # a Mac's spelling of the letters
        "李小龙_13_678902_hw.ipynb": "{}",
        "delacruzbob_14_678903_hw-2.ipynb": "{}", "delacruzbob_LATE_14_678904_hw-10.ipynb": "{}", "delacruzbob_14_678899_hw.ipynb": "{}",
        "__MACOSX/._delacruzbob_14_678903_hw.ipynb": "x", ".DS_Store": "x",
    }), umlauts)
    assert set(found) == {"mü1", "li", "bob2"} and refused == {}
    assert found["bob2"] == "delacruzbob_LATE_14_678904_hw-10.ipynb"
    assert any("bob2 handed in 3 versions: 'delacruzbob_LATE_14_678904_hw-10.ipynb' is read" in note for note in notes)


@pytest.mark.parametrize("names", [
    ("hw/Section 1/doeann_12_678901_hw.ipynb", "hw/Section 2/delacruzbob_13_678902_hw.ipynb", "hw/Section 2/youngcy_14_678903_hw.ipynb"),
    ("Ann Doe_12_assignsubmission_file_\\\\hw.ipynb", "Bob de la Cruz_13_assignsubmission_file_\\\\hw.ipynb", "Cy Young_14_assignsubmission_file_\\\\hw.ipynb"),
    ("all/ann1.ipynb", "all/bob2/hw.ipynb", "all/991.zip"), ("week: 1/ann1/a.ipynb", "week: 1/bob2/a.ipynb", "week: 1/991/a.ipynb"),
    ("Ann Doe_12_assignsubmission_file_/hw.ipynb", "Ann Doe_12_assignsubmission_onlinetext_/onlinetext.html", "Bob de la Cruz_13_assignsubmission_file_/x/hw.ipynb", "991.ipynb"),
], ids=["sections", "backslashes", "a folder around", "a folder whose name has a colon", "text beside the file"])
def test_folders_around_submissions_are_looked_into(tmp_path, names):
    found, refused, _ = scanned(zipped(tmp_path / "in.zip", {name.replace("\\\\", "\\"): "{}" for name in names}))
    assert set(found) == {"ann1", "bob2", "991"} and refused == {}, found
    with zipfile.ZipFile(tmp_path / "in.zip") as archive:
        archive.extractall(tmp_path / "in")
    assert set(scan(tmp_path / "in", ROSTER).submissions) and {one for one, _ in scan(tmp_path / "in", ROSTER).submissions} == set(found)


def test_a_students_own_folder_is_not_looked_into_for_others(tmp_path):
    found, refused, _ = scanned(zipped(tmp_path / "in.zip", {
        "Ann Doe_12_assignsubmission_file_/bob2.ipynb": "{}", "Ann Doe_12_assignsubmission_file_/dee.ipynb": "{}", "bob2.ipynb": "{}", "mine/dee.ipynb": "{}"}))
    assert found == {"ann1": "Ann Doe_12_assignsubmission_file_", "bob2": "bob2.ipynb", "mine": "mine"} and refused == {}


def test_gradescopes_zip_says_whose_folders_are(tmp_path):
    people = "submission_1:\n  :submitters:\n  - :sid: ann1\nsubmission_2:\n  :submitters:\n  - :sid: bob2\n"
    entries = {"assignment_7_export/submission_metadata.yml": people, "assignment_7_export/submission_1/dee.ipynb": "{}",
               "assignment_7_export/submission_2/ann1.ipynb": "{}", "assignment_7_export/submission_2/dee.ipynb": "{}"}
    assert set(scanned(zipped(tmp_path / "in.zip", entries))[0]) == {"ann1", "bob2"}


def test_a_zip_leads_nowhere_else_and_unpacks_to_no_more_than_its_limits(tmp_path, monkeypatch):
    path = zipped(tmp_path / "in.zip", {
        "../up.ipynb": "{}", "/root.ipynb": "{}", "C:/x.ipynb": "{}", "a/../../up.ipynb": "{}", "ann1.ipynb": "{}", "ANN1.ipynb": "[]",
        "bob2.ipynb": "0" * 3_000_000, "dee.pdf": b"x" * 100, f"{'ö' * 200}.ipynb": "{}", "doeann_12_678901_h<w>.ipynb": "{}"})
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("991.ipynb")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    before = set(os.listdir(tmp_path))
    notes = []
    with submissions_in(path, notes) as folder:
        there = {one.name: one.stat().st_size for one in folder.rglob("*") if one.is_file()}
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists() and set(os.listdir(tmp_path)) == before
    assert {"ann1.ipynb", "ANN1-2.ipynb", "bob2.ipynb", "dee.pdf", "doeann_12_678901_h_w_.ipynb"} < set(there) and len(there) == 6
    assert there["bob2.ipynb"] == there["dee.pdf"] == 0, "a bomb is empty, and so is what is not read"
    assert sum("leads outside" in note for note in notes) == 4 and any("'991.ipynb' is a symbolic link" in note for note in notes)
    assert any("'bob2.ipynb' in the zip file: it unpacks to more than 200 times its size" in note for note in notes)
    for name, value, message in (("UNPACKED_BYTES", 3, "it unpacks to more than"), ("ENTRIES", 3, "it has 11 entries"), ("DIRECTORY_BYTES", 9, "list of contents takes")):
        with monkeypatch.context() as changed:
            changed.setattr(bulk, name, value)
            with pytest.raises(ValueError, match=f"in.zip cannot be unpacked: .*{message}"), submissions_in(path, []):
                pass


def test_what_is_no_zip_is_named_and_the_files_keep_their_times(tmp_path):
    (tmp_path / "in.zip").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match="in.zip cannot be unpacked: it is not a zip file"), submissions_in(tmp_path / "in.zip", []):
        pass
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(zipfile.ZipInfo("ann1.ipynb", (2026, 10, 12, 23, 58, 0)), "{}")
    (tmp_path / "in.zip").write_bytes(content.getvalue())
    with submissions_in(tmp_path / "in.zip", []) as folder:
        assert time.localtime((folder / "ann1.ipynb").stat().st_mtime)[:5] == (2026, 10, 12, 23, 58)


def test_a_name_in_utf_8_is_read_where_the_zip_does_not_say_so(tmp_path):
    content = zipped(tmp_path / "in.zip", {"müllerjörg_12_678901_hw.ipynb": "{}"}).read_bytes()
    plain = content.replace(b"\x00\x08\x08\x00", b"\x00\x00\x08\x00").replace(b"\x14\x00\x00\x08", b"\x14\x00\x00\x00")
    (tmp_path / "in.zip").write_bytes(plain)
    assert plain != content and set(scanned(tmp_path / "in.zip", (Student("j", "Jörg Müller"),))[0]) == {"j"}
