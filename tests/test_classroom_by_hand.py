"""What an instructor sets by hand counts everywhere, is never lost, and a slip in a sheet is told by its place."""

import csv
import dataclasses
import io
import json
from pathlib import Path

import pytest
from test_classroom_grading import NO_ROOT, answers, assignment, notebook, pretend, table

from diffusion_course.classroom.__main__ import main
from diffusion_course.classroom.assignment.assignment import save_assignment
from diffusion_course.classroom.grading.folder import grade_folder
from diffusion_course.classroom.grading.given import Given
from diffusion_course.classroom.reports.sheets import read_manual, read_overrides

HOMEWORK = assignment("ann", "bob", "zoe", manual=("02.m1", "02.m2"))  # 3 points, and 4 and 3 for words
COLUMNS = ["id", "question", "text", "points", "possible", "comment"]


def written(text, **changed):
    """A notebook with an answer in words."""
    content = json.loads(notebook(answers(**changed)))
    marks = {"nbgrader": {"grade_id": "manual-02-m1", "solution": True, "grade": True}}
    content["cells"].append({"cell_type": "markdown", "metadata": marks, "source": text})
    return json.dumps(content)


@pytest.fixture
def homework(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "ann.ipynb").write_text(written("It is =0.78;\n<b>so</b>, no."))
    (folder / "bob.ipynb").write_text(written("bob's words", a1=NO_ROOT))
    return folder


def grade(folder, out, **given):
    return grade_folder(HOMEWORK, folder, out, jobs=1, progress=False, given=Given(**given), attempt=pretend)


def rows(path):
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8"), newline="")))


def fill(path, **points):
    """Fill a sheet as an instructor does: fill(path, ann_m1=(3, "well said"))."""
    filled = rows(path)
    for row in filled:
        one = points.get(f"{row['id']}_{row['question'][3:]}")
        if one is not None:
            row["points"], row["comment"] = one
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, filled[0])
        writer.writeheader()
        writer.writerows(filled)


def sheet(path, *lines, head="id,question,points,comment"):
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return str(path)


def test_a_filled_sheet_counts_on_every_page(homework, tmp_path):
    out = tmp_path / "out"
    first = grade(homework, out)
    assert first.sheets == (out / "manual.csv",) and "wait for your points: 4. Fill" in str(first)
    blank = rows(out / "manual.csv")
    assert [(row["id"], row["question"], row["points"], row["possible"]) for row in blank] == [
        ("ann", "02.m1", "", "4"), ("ann", "02.m2", "", "3"), ("bob", "02.m1", "", "4"), ("bob", "02.m2", "", "3")]
    page = (out / "feedback" / "ann.html").read_text()
    assert "3 of 10 points so far" in page and "7 of the 10 points are for questions in words" in page
    assert table(out)[0] | {"02.m1": "", "total": "3", "open": "7", "max": "10"} == table(out)[0]

    fill(out / "manual.csv", ann_m1=("2,5", "well said"), ann_m2=("0", ""), bob_m1=("4", "<i>all</i>"), bob_m2=("3", ""))
    second = grade(homework, out, overrides=sheet(tmp_path / "over.csv", "bob,02.1,1,on paper", head="id,exercise,points,reason"))
    assert second.new == 0 and second.sheets == ()
    ann, bob, zoe = table(out)
    assert (ann["02.m1"], ann["02.m2"], ann["total"], ann["open"]) == ("2.5", "0", "5.5", "0")
    assert (bob["02.1"], bob["total"], zoe["state"], zoe["total"]) == ("1", "10", "nothing handed in", "")
    page = (out / "feedback" / "ann.html").read_text()
    assert "5.5 of 10 points<" in page and "2.5 of 4 points" in page and "well said" in page
    page = (out / "feedback" / "bob.html").read_text()
    assert "10 of 10 points<" in page and "Set by your instructor, in place of 0: on paper" in page and "&lt;i&gt;all" in page
    assert "in place of 0, set by you: on paper" in (out / "index.html").read_text()
    marks = json.loads((out / "results.json").read_text())["submissions"][1]
    assert marks["points"] == 10 and [(one["points"], one["before"]) for one in marks["marks"]][0] == (1, 0)


def test_a_filled_sheet_is_never_written_again_and_later_answers_get_another(homework, tmp_path):
    out = tmp_path / "out"
    (homework / "bob.ipynb").rename(tmp_path / "bob.ipynb")
    grade(homework, out)
    fill(out / "manual.csv", ann_m1=("4", ""), ann_m2=("1", ""))
    kept = (out / "manual.csv").read_bytes()
    (tmp_path / "bob.ipynb").rename(homework / "bob.ipynb")
    (homework / "ann.ipynb").write_text(written("quite another text"))
    summary = grade(homework, out)
    assert (out / "manual.csv").read_bytes() == kept and summary.sheets == (out / "manual-2.csv",)
    assert [(row["id"], row["question"]) for row in rows(out / "manual-2.csv")] == [("ann", "02.m1"), ("bob", "02.m1"), ("bob", "02.m2")]
    assert any("ann handed in another text for 02.m1 after it was marked" in note for note in summary.notes)
    assert table(out)[0]["02.m1"] == "4"
    fill(out / "manual-2.csv", ann_m1=("2", ""), bob_m1=("1", ""))
    assert "wait for your points: 1. Fill" in str(grade(homework, out)) and not (out / "manual-3.csv").exists()
    fill(out / "manual-2.csv", bob_m2=("0", ""))
    summary = grade(homework, out)
    assert table(out)[0]["02.m1"] == "2" and summary.sheets == () and (out / "manual.csv").read_bytes() == kept
    assert not any("another text" in note for note in summary.notes)


def test_a_sheet_that_is_filled_while_grading_goes_on_is_not_lost(homework, tmp_path):
    out = tmp_path / "out"
    grade(homework, out)
    (homework / "zoe.ipynb").write_text(written("late"))

    def fills(*given, **options):
        fill(out / "manual.csv", ann_m1=("4", "in the meantime"))
        (out / "manual (1).csv").write_text("a copy")
        return pretend(*given, **options)

    summary = grade_folder(HOMEWORK, homework, out, jobs=1, progress=False, attempt=fills)
    assert any("manual.csv was filled while this ran" in note for note in summary.notes)
    assert "in the meantime" in (out / "manual.csv").read_text() and {row["id"] for row in rows(out / "manual-2.csv")} == {"ann", "bob", "zoe"}
    summary = grade(homework, out)
    assert table(out)[0]["02.m1"] == "4" and {row["id"] for row in rows(out / "manual-2.csv")} == {"zoe"}
    assert any("'manual (1).csv'" in note and "is not read" in note for note in summary.notes)


def test_what_was_given_once_is_remembered_and_said(homework, tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "mine.csv"
    grade(homework, out, manual=(sheet(elsewhere, "ann,02.m1,4,", "ann,02.m2,3,"),))
    summary = grade(homework, out)
    assert table(out)[0]["total"] == "10" and any(f"--manual {elsewhere}: as in the run before" in note for note in summary.notes)
    assert {row["id"] for row in rows(out / "manual.csv")} == {"bob"}
    elsewhere.rename(tmp_path / "moved.csv")
    with pytest.raises(FileNotFoundError, match=r"mine.csv, and the file is gone.*--manual none"):
        grade(homework, out)
    grade(homework, out, manual=("none",))
    assert table(out)[0]["total"] == "3"


@pytest.mark.parametrize(("line", "told"), [
    ("anne,02.m1,1,", "row 2, column id: 'anne' is nobody on the roster"),
    ("ann,02.m7,1,", "row 2, column question: '02.m7' is no question of the assignment, which has 02.m1, 02.m2"),
    ("ann,02.m1,5,", "row 2, column points: '5' is no number from 0 to 4"),
    ("ann,02.m1,nan,", "row 2, column points: 'nan' is no number"),
    ("ann,02.m1,-1,", "row 2, column points: '-1' is no number"),
    ("ann,02.m1,two,", "row 2, column points: 'two' is no number"),
    ("ann,02.m1,1,a\nann,02.m1,2,b", "ann and 02.m1 stand in .*row 2 already"),
    ("ann,02.m1,1,too, many", "row 2 has 5 cells, and there are 4 columns"),
])
def test_a_slip_in_the_sheet_is_told_by_row_and_column(tmp_path, line, told):
    with pytest.raises(ValueError, match=f"mine.csv, {told}" if told.startswith("row") else told):
        read_manual(Path(sheet(tmp_path / "mine.csv", line)), HOMEWORK, ("ann", "bob"))


@pytest.mark.parametrize(("line", "told"), [
    ("ann,02.1,1,", "row 2, column reason: '' is no reason"),
    ("ann,02.9,1,why", "row 2, column exercise: '02.9' is no exercise"),
    ("ann,02.m1,1,why", "its points stand in manual.csv"),
    ("ann,02.1,2,why", "row 2, column points: '2' is no number from 0 to 1"),
])
def test_a_slip_in_what_is_set_by_hand_is_told(tmp_path, line, told):
    with pytest.raises(ValueError, match=told):
        read_overrides(Path(sheet(tmp_path / "over.csv", line, head="id,exercise,points,reason")), HOMEWORK, ("ann", "bob"))


def test_points_for_somebody_without_a_submission_are_told(homework, tmp_path):
    summary = grade(homework, tmp_path / "out", manual=(sheet(tmp_path / "mine.csv", "zoe,02.m1,1,"),))
    assert any("row 2: zoe has no submission that was graded, so this does not count" in note for note in summary.notes)


def test_an_id_that_looks_like_a_formula_finds_its_student(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "=cmd.ipynb").write_text(written("words"))
    one = assignment(manual=("02.m1",))
    for _ in range(2):
        grade_folder(one, tmp_path / "in", tmp_path / "out", jobs=1, progress=False, attempt=pretend)
        fill(tmp_path / "out" / "manual.csv", **{"'=cmd_m1": ("4", "")})
    assert table(tmp_path / "out")[0]["total"] == "7"


def test_the_command_line_takes_sheets_and_names_a_slip(homework, tmp_path, capsys):
    save_assignment(HOMEWORK, tmp_path / "assignment.json")
    slip = sheet(tmp_path / "mine.csv", "ann;02.m1;9;", head="id;question;points;comment")
    assert main(["grade", str(homework), "--out", str(tmp_path / "out"), "--unsafe", "--manual", slip]) == 2
    assert "mine.csv, row 2, column points: '9'" in capsys.readouterr().err
    assert not (tmp_path / "out" / "grades.csv").exists() and not list((tmp_path / "out" / "graded").iterdir())


def test_a_second_sheet_comes_to_the_first_and_does_not_replace_it(homework, tmp_path):
    out, over = tmp_path / "out", "id,exercise,points,reason"
    first, second = sheet(tmp_path / "a.csv", "ann,02.m1,4,"), sheet(tmp_path / "b.csv", "bob,02.m1,3,", "ann,02.m1,1,")
    grade(homework, out, manual=(first,))
    summary = grade(homework, out, manual=(second,), overrides=sheet(tmp_path / "one.csv", "bob,02.1,1,why", head=over))
    assert [row["02.m1"] for row in table(out)[:2]] == ["1", "3"], "and of two rows that of the later sheet counts"
    assert any(f"{first}: counts besides, as in the run before" in note for note in summary.notes)
    grade(homework, out, manual=(first,))  # named again it is the later one
    assert [row["02.m1"] for row in table(out)[:2]] == ["4", "3"]
    summary = grade(homework, out, manual=("none", second), overrides=sheet(tmp_path / "two.csv", "ann,02.1,1,why", head=over))
    assert [row["02.m1"] for row in table(out)[:2]] == ["1", "3"]
    assert any("two.csv counts now in place of" in note and "one.csv" in note for note in summary.notes)


def test_a_filled_sheet_that_is_gone_is_told_before_its_points_are_lost(homework, tmp_path):
    out = tmp_path / "out"
    grade(homework, out)
    fill(out / "manual.csv", ann_m1=("4", ""))
    grade(homework, out)
    (out / "manual.csv").rename(tmp_path / "moved.csv")
    with pytest.raises(FileNotFoundError, match="manual.csv held points at the run before, and is gone"):
        grade(homework, out)
    grade(homework, out, manual=("none", str(tmp_path / "moved.csv")))
    assert table(out)[0]["02.m1"] == "4"


def test_a_folder_of_reports_belongs_to_one_assignment(homework, tmp_path):
    grade(homework, tmp_path / "out")
    before = (tmp_path / "out" / "grades.csv").read_bytes()
    for other, told in (({"name": "week2"}, "'hw', and this is 'week2'"), ({"seed": 7}, "built with another seed")):
        with pytest.raises(ValueError, match=told):
            grade_folder(dataclasses.replace(HOMEWORK, **other), homework, tmp_path / "out", jobs=1, progress=False, attempt=pretend)
    assert (tmp_path / "out" / "grades.csv").read_bytes() == before


def test_a_renamed_column_is_told_and_one_of_your_own_is_named(homework, tmp_path):
    path = sheet(tmp_path / "mine.csv", "ann;02.m1;4;;well said", head="ID;Question;Points;Possible;Comments")
    with pytest.raises(ValueError, match="mine.csv: there is a column 'comments' and none named 'comment'"):
        read_manual(Path(path), HOMEWORK, ("ann", "bob"))
    summary = grade(homework, tmp_path / "out", manual=(sheet(tmp_path / "own.csv", "ann,02.m1,4,,me", head="id,question,points,comment,marker"),))
    assert any("own.csv: nothing is read of 'marker'" in note for note in summary.notes)


def test_points_set_by_hand_that_are_fewer_than_the_graders_are_told(homework, tmp_path):
    lines = ("ann,02.1,0.5,half", "bob,02.1,0.5,half")
    summary = grade(homework, tmp_path / "out", overrides=sheet(tmp_path / "over.csv", *lines, head="id,exercise,points,reason"))
    told = [note for note in summary.notes if "stand in place of" in note]
    assert len(told) == 1 and told[0].startswith("ann, 02.1: your 0.5 stand in place of 1, which the grader gives (")


def test_a_sheet_in_capitals_is_the_sheet(homework, tmp_path):
    out = tmp_path / "out"
    grade(homework, out)
    fill(out / "manual.csv", ann_m1=("4", ""))
    (out / "manual.csv").rename(out / "Manual.csv")
    grade(homework, out)
    assert table(out)[0]["02.m1"] == "4" and not (out / "manual.csv").exists()


@pytest.mark.parametrize("start", ["\n;;;\n", "sep=;\n", '"sep=;"\r\n\n', "SEP=;;;\n"])
def test_lines_before_the_columns_are_passed_over(tmp_path, start):
    (tmp_path / "mine.csv").write_text(f"{start}id;question;points;text\nann;02.m1;2,5;a, b, c, d, e\nann;02.m2;9;\n", newline="")
    row = {"\n;;;\n": 5, '"sep=;"\r\n\n': 4}.get(start, 3)
    with pytest.raises(ValueError, match=f"row {row}, column points: '9'"):
        read_manual(tmp_path / "mine.csv", HOMEWORK, ("ann", "bob"))


def test_a_changed_text_alone_is_not_said_to_wait(homework, tmp_path):
    (homework / "bob.ipynb").unlink()
    grade(homework, tmp_path / "out")
    fill(tmp_path / "out" / "manual.csv", ann_m1=("4", ""), ann_m2=("1", ""))
    (homework / "ann.ipynb").write_text(written("quite another text"))
    said = str(grade(homework, tmp_path / "out"))
    assert "no answer in words waits; some were changed after you marked them. To give those other points fill" in said and "wait for your" not in said
