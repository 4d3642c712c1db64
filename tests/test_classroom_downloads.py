"""What Canvas and Moodle give for download is graded as it comes, and a notebook may say whose it is."""

import pytest
from test_classroom_grading import answers, assignment, notebook, pretend

from diffusion_course.classroom.assignment.assignment import Assignment
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
