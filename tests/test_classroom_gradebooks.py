"""Gradebooks go back to the LMS as they came from it, with one column filled: ids, header rows and all else stay."""

import csv
import dataclasses
import io
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from diffusion_course.classroom.assignment.assignment import Assignment
from diffusion_course.classroom.assignment.schedule import Schedule
from diffusion_course.classroom.records import Graded, Mark, Student, Submission
from diffusion_course.classroom.reports.class_results import ClassResults
from diffusion_course.classroom.reports.gradebook_templates import read_gradebook, read_gradebooks
from diffusion_course.classroom.reports.gradebooks import shown, write_gradebooks

NOW = datetime.fromisoformat("2026-10-13T00:00:00+02:00")
ROSTER = (Student("00123", "Ann Doe"), Student("bob@uni.edu", "Bob de la Cruz"), Student("cy", "Cy Young"), Student("dee", "Dee Doe"),
          Student("12345678901234567890", "Eve Poe"))
CANVAS = (
    "Student,ID,SIS User ID,SIS Login ID,Section,Quiz (11),Homework (12),Current Score\r\n"
    ",,,,,,Manual Posting,\r\n"
    "    Points Possible,,,,,5,3,(read only)\r\n"
    '"Doe, Ann",101,00123,ann,"S, 1",4,,80\r\n'
    '"de la Cruz, Bob",102,777,bob@uni.edu,S2,,1,\r\n'
    '"Young, Cy",103,cy77,cyy,S2,,EX,\r\n'
    '"Doe, Dee",104,dee,dee@uni.edu,S2,,2,\r\n'
    '"Poe, Eve",12345678901234567,12345678901234567890,eve,S2,,,\r\n'
    '"Student, Test",105,,aa11,S2,,,\r\n'
)
MOODLE = (
    "\ufeffIdentifier,Full name,ID number,Email address,Status,Grade,Maximum grade,Grade can be changed,Last modified (submission),"
    "Last modified (grade),Feedback comments\n"
    "Participant 4711,Ann Doe,00123,ann@uni.edu,Submitted,,3.00,Yes,-,-,\n"
    'Participant 4712,Bob de la Cruz,,Bob@Uni.edu,Submitted,1.00,3.00,Yes,-,"Monday, 5 October 2026, 9:00 PM","=good\n- more"\n'
    "Participant 4713,Cy Young,cy,cy@uni.edu,Submitted,,3.00,No,-,-,\n"
    "Participant 4714,Dee Doe,,dee@other.edu,Submitted,,3.00,Yes,-,-,\n"
)


def graded(student, points, open_points=0):
    marks = [Mark("02.1", "One", "right", points, 3, "Right.")]
    marks += [Mark("02.m1", "Words", "manual", 0, open_points, "")] if open_points else []
    return Graded(student, "0", tuple(marks))


def results(*made, failed=(), roster=ROSTER, **changed):
    assignment = Assignment("hw", "Homework", ("02.1",), (), 9, roster, {"02.1": 3}, **changed)
    submissions = {one.student: Submission(one.student, Path("x"), "0") for one in made}
    return ClassResults(assignment, made, submissions, failed)


def written(tmp_path, text, class_results, lms="canvas", numbers=None, now=NOW, **how):
    """The rows of the gradebook, its bytes and the notes."""
    name = lms
    if text is not None:
        (tmp_path / "export.csv").write_bytes(text.encode())
        name = f"{lms}:{tmp_path / 'export.csv'}"
    book = read_gradebook(name, ("Homework", "hw"), **how)
    notes = write_gradebooks(class_results, [book], tmp_path, numbers or {}, now)
    content = (tmp_path / f"gradebook-{lms}.csv").read_bytes()
    rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    return rows, content, "\n".join(notes)


def test_canvas_gets_its_own_rows_with_one_column_filled(tmp_path):
    made = results(graded("00123", 2.5), graded("bob@uni.edu", 3), graded("cy", 3), failed=(("dee", "it is empty"),))
    rows, content, notes = written(tmp_path, CANVAS, made)
    kept = (0, 1, 2, 3, 4, 6)
    template = [[row[index] for index in kept] for row in csv.reader(io.StringIO(CANVAS, newline=""))]
    assert [row[:5] for row in rows] == [row[:5] for row in template] and rows[:3] == template[:3], "ids, names, header rows to the letter"
    assert [row[5] for row in rows[3:]] == ["2.5", "3", "EX", "2", "", ""]
    assert content.startswith(b"Student,ID,SIS User ID,SIS Login ID,Section,Homework (12)\r\n") and b",00123," in content
    assert b",12345678901234567,12345678901234567890," in content
    for said in ("cy is excused there (EX), left so", "not gradable, left empty: dee", "no points from here, those that stand there stay: dee",
                 "nothing handed in, left empty: 12345678901234567890", "not on the roster, left as they are: Student, Test"):
        assert f"gradebook-canvas.csv: {said}" in notes or said in notes, notes


def test_moodle_gets_its_worksheet_without_what_the_import_does_not_need(tmp_path):
    made = results(graded("00123", 2), graded("bob@uni.edu", 2.25), graded("cy", 1), graded("dee", 0))
    rows, content, notes = written(tmp_path, MOODLE, made, "moodle")
    assert rows[0] == ["Identifier", "Full name", "ID number", "Email address", "Grade", "Maximum grade", "Grade can be changed", "Last modified (grade)"]
    assert [row[4] for row in rows[1:]] == ["2", "2.25", "", "0"] and rows[2][7] == "Monday, 5 October 2026, 9:00 PM" and rows[1][7] == "-"
    assert content.startswith(b"\xef\xbb\xbfIdentifier") and b"\r" not in content
    assert "cy: moodle takes no points any more" in notes and "no row, or no clear one, so not filled: 12345678901234567890" in notes


def test_the_number_in_a_downloads_name_finds_the_row_where_no_id_does(tmp_path):
    text = "Identifier,Grade,Last modified (grade)\nParticipant 4711,,-\nParticipant 4712,,-\n"  # names are hidden while marking
    made = results(graded("00123", 2), graded("cy", 1))
    rows, _, notes = written(tmp_path, text, made, "moodle", {"00123": ("moodle", "4712"), "cy": ("canvas", "4711")})
    assert [row[1] for row in rows[1:]] == ["", "2"] and "so not filled: " in notes and "cy" in notes
    assert "nothing handed in" in notes


def test_an_id_and_a_number_that_name_different_rows_fill_none(tmp_path):
    made = results(graded("00123", 2))
    rows, _, notes = written(tmp_path, CANVAS, made, numbers={"00123": ("canvas", "102")})
    assert [row[5] for row in rows[3:]] == ["", "1", "EX", "2", "", ""] and "so not filled: 00123" in notes


def test_two_of_one_name_are_not_filled_by_name(tmp_path):
    text = "Name,Email,Homework\nAnn Doe,x@u,\nAnn Doe,y@u,\nBob Roe,z@u,\n"
    made = results(graded("a", 1), graded("b", 2), roster=(Student("a", "Ann Doe"), Student("b", "Roe, Bob")))
    rows, _, notes = written(tmp_path, text, made, "gradescope")
    assert [row[2] for row in rows[1:]] == ["", "", "2"] and "so not filled: a" in notes
    twins = results(graded("x@u", 1), graded("b", 2), roster=(Student("x@u", "Ann Doe"), Student("b", "Ann Doe")))
    rows, _, notes = written(tmp_path, text.replace("Ann Doe,y@u,\n", ""), twins, "gradescope")
    assert [row[2] for row in rows[1:]] == ["1", ""] and "so not filled: b" in notes, "the other one's row is not claimed by name"


def test_absentees_get_nothing_or_0_and_nothing_while_they_have_time(tmp_path):
    late = Schedule(due=NOW - timedelta(days=1), extensions={"cy": NOW + timedelta(days=1)})
    made = results(graded("00123", 2), schedule=late)
    plain = CANVAS.replace(",EX,", ",,").replace("S2,,1,", "S2,,,").replace("S2,,2,", "S2,,,")
    assert [row[5] for row in written(tmp_path, plain, made)[0][3:]] == ["2", "", "", "", "", ""]
    rows, _, notes = written(tmp_path, plain, made, absent="zero")
    assert [row[5] for row in rows[3:]] == ["2", "0", "", "0", "0", ""]
    assert "nothing handed in and still has time, left empty: cy" in notes and "nothing handed in, 0 points: bob@uni.edu, dee" in notes


def test_a_grade_that_stands_there_is_not_overwritten_with_0_and_a_changed_one_is_told(tmp_path):
    made = results(graded("00123", 2), graded("bob@uni.edu", 3), graded("cy", 1))
    text = CANVAS.replace(",EX,", ",1.00,")
    rows, _, notes = written(tmp_path, text, made, absent="zero")
    assert [row[5] for row in rows[3:]] == ["2", "3", "1", "2", "0", ""]
    assert "nothing handed in, and the grade that stands there stays: dee (2)" in notes
    assert "another grade stood there, and is changed: bob@uni.edu (1 is now 3)" in notes


def test_most_points_that_differ_and_marks_that_wait_are_told(tmp_path):
    _, _, notes = written(tmp_path, CANVAS.replace(",5,3,", ",5,10,"), results(graded("00123", 2, open_points=2)))
    assert "the most points are 10 there and 3 here" in notes and "questions in words are not marked yet, so points are missing: 00123" in notes
    assert "of an earlier run" in "\n".join(write_gradebooks(results(), [], tmp_path, {}, NOW))


@pytest.mark.parametrize("lms", ["canvas", "moodle", "gradescope"])
def test_without_a_template_there_is_a_plain_form(tmp_path, lms):
    rows, content, _ = written(tmp_path, None, results(graded("00123", 2.5), graded("bob@uni.edu", 3)), lms)
    flat = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    by_points = {row["Homework"]: row for row in flat}
    assert "00123" in by_points["2.5"].values() and "Ann Doe" in by_points["2.5"].values() and "bob@uni.edu" in by_points["3"].values()
    assert b"12345678901234567890" in content and len(rows) == len(ROSTER) + 1 + (lms == "canvas")
    assert (rows[1] == ["    Points Possible", "", "", "", "", "3"]) == (lms == "canvas")


def test_no_cell_is_a_formula_and_no_number_has_an_exponent(tmp_path):
    text = CANVAS.replace('"Doe, Ann"', '"=cmd|\'/c calc\'!A1, Ann"').replace("S2", "@S2")
    rows, _, _ = written(tmp_path, text, results(graded("00123", 1000000)))
    assert rows[3][0].startswith("'=cmd") and rows[4][4] == "'@S2" and rows[3][5] == "1000000"
    assert [shown(value) for value in (0, 1 / 3, 2.50, 12345678.0, 0.1 + 0.2)] == ["0", "0.33", "2.5", "12345678", "0.3"]


def test_semicolons_and_the_end_of_lines_stay(tmp_path):
    text = "Student;ID;SIS User ID;SIS Login ID;Section;hw\n    Points Possible;;;;;3\nDoe, Ann;101;00123;ann;S;\n"
    _, content, _ = written(tmp_path, text, results(graded("00123", 2.5)))
    assert content.decode() == text.replace("S;\n", "S;2.5\n")


@pytest.mark.parametrize(("text", "how", "message"), [
    ("", {}, "is empty. Export it from canvas again"), (CANVAS.replace("Homework", "Home"), {}, "no column is called 'Homework' or 'hw'. Name the one to fill with --column; there are 'Student'"),
    (CANVAS, {"column": "Quizz"}, "no column is called 'Quizz'"), (CANVAS.replace("Quiz (11)", "Homework (11)"), {}, "2 columns are called 'Homework'. Name it whole"),
    (CANVAS.replace("00123", "1.23457E+15"), {}, "row 4: the SIS User ID '1.23457E\\+15' was rewritten by a spreadsheet"),
    ("Kennung,Homework\n1,\n", {}, "has none of the columns SIS User ID, .*; it has 'Kennung', 'Homework'. Export it with canvas set to English"),
    (CANVAS, {"column": "Current Score"}, "the column 'Current Score' is one that Canvas works out by itself"),
    (CANVAS.replace("(read only)", "").replace("Current Score", "Labs Final Score"), {"column": "Labs Final Score"}, "works out by itself"),
    (CANVAS.replace("Quiz (11)", "Lab").replace(",5,3", ",(read only),3"), {"column": "Lab"}, "the column 'Lab' is one that Canvas works out"),
    (CANVAS, {"column": "SIS User ID"}, "the column 'SIS User ID' does not hold points"), (CANVAS, {"column": "Section"}, "does not hold points"),
    (CANVAS, {"absent": "none"}, "absent must be empty or zero, got 'none'"), ('Student,"ID\n', {}, "line 2: unexpected end of data|line 1: unexpected"),
])
def test_templates_that_cannot_be_filled_are_refused(tmp_path, text, how, message):
    (tmp_path / "export.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_gradebook(f"canvas:{tmp_path / 'export.csv'}", ("Homework", "hw"), **how)


def test_other_gradebooks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="gradebook 'blackboard': it must begin with canvas, moodle, gradescope"):
        read_gradebook("blackboard", ("hw",))
    with pytest.raises(FileNotFoundError, match="there is no gradebook .*none.csv. Export it from moodle first"):
        read_gradebook(f"moodle:{tmp_path / 'none.csv'}", ("hw",))
    (tmp_path / "e.csv").write_bytes("Student,ID\nMüller,1\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"is not in UTF-8 \(byte 12\)"):
        read_gradebook(f"canvas:{tmp_path / 'e.csv'}", ("hw",))
    with pytest.raises(ValueError, match="two of one kind were given: canvas, canvas"):
        read_gradebooks(["canvas", "canvas"], ("hw",))


def test_a_class_without_a_roster_is_who_handed_in(tmp_path):
    made = dataclasses.replace(results(graded("dee", 1), roster=()), failed=(("cy", "empty"),))
    rows, _, _ = written(tmp_path, None, made, "gradescope")
    assert [row[1] for row in rows[1:]] == ["cy", "dee"]
