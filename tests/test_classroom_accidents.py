"""What goes wrong on the way to the grader is told, with what to do: nothing ends as a silent 0."""

import json

import pytest
from test_classroom_grading import answers, assignment, needs_sandbox, notebook, pretend, table

from diffusion_course.classroom import gradescope
from diffusion_course.classroom.__main__ import main
from diffusion_course.classroom.assignment.assignment import save_assignment
from diffusion_course.classroom.grading.folder import grade_folder
from diffusion_course.classroom.grading.gradable import ReferenceFails
from diffusion_course.classroom.reasons import Reason
from diffusion_course.classroom.records import Attempt
from diffusion_course.classroom.sandbox.limits import Limits

BLANK = "def jump(x0, t, alphas_cumprod, noise):\n    ...\n"


def with_text_cell(grade_id="answer-02-1", kind="markdown"):
    """The honest answers, one in a cell of another kind."""
    content = json.loads(notebook(answers()))
    cell = next(one for one in content["cells"] if one["metadata"].get("nbgrader", {}).get("grade_id") == grade_id)
    cell["cell_type"] = kind
    return json.dumps(content)


def of_lesson_5():
    return notebook({"answer-05-1": "def f():\n    return 1", "answer-05-2": "x = 2"})


def too_long():
    return notebook(answers(a1=answers()["answer-02-1"] + "#" * 2**20))


METADATA = {"diffusion_course": {"assignment": "hw"}}
# name of the file -> its content, and a part of why it is not gradable
ACCIDENTS = {
    "empty.ipynb": ("", "the file is empty"),
    "cut.ipynb": (notebook(answers())[:400], "it is not JSON"),
    "script.py": ("def jump(): pass", "it is a .py file, not a notebook"),
    "page.html": ("<html>", "it is a .html file, not a notebook"),
    "saved.ipynb.txt": (notebook(answers()), "it is a .txt file, not a notebook"),
    "zoe.xyz": ("?", "it is a .xyz file, not a notebook"),
    "inside/work.py": ("x = 1", "holds no notebook (a file that ends in .ipynb) but 'work.py'"),
    "nothing/.keep": ("", "holds no notebook"),
    "other.ipynb": (of_lesson_5(), "it answers 05.1, 05.2 and none of this assignment's exercises"),
    "named.ipynb": (notebook(answers(), {"diffusion_course": {"assignment": "hw1"}}), "it is the notebook of assignment 'hw1', not 'hw'"),
    "bare.ipynb": (notebook({}), "it holds none of this assignment's answers"),
    "text.ipynb": (with_text_cell(), "the answer to 02.1 is in a cell of text"),
    "raw.ipynb": (with_text_cell(kind="raw"), "the answer to 02.1 is in a cell of text"),
    "long.ipynb": (too_long(), "the answer to 02.1 is in a cell with 10"),
}


def put(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


@pytest.mark.parametrize("name", ACCIDENTS)
def test_an_accident_is_told_everywhere_and_is_no_zero(tmp_path, name, capsys, monkeypatch):
    content, why = ACCIDENTS[name]
    put(tmp_path / "in", "ann.ipynb", notebook(answers()))
    put(tmp_path / "in", name, content)
    student = name.partition("/")[0].partition(".")[0]
    homework = assignment("ann", "zoe", "script", *({student} - {"ann", "zoe", "script"}))
    save_assignment(homework, tmp_path / "assignment.json")
    monkeypatch.setattr("diffusion_course.classroom.grading.folder.run_attempts", pretend)
    options = ["--assignment", str(tmp_path / "assignment.json"), "--out", str(tmp_path / "out"), "--unsafe"]
    monkeypatch.setattr("diffusion_course.classroom.grading.folder.require_reference", lambda *_, **__: None)
    monkeypatch.setitem(grade_folder.__kwdefaults__, "attempt", pretend)
    assert main(["grade", str(tmp_path / "in"), *options]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert f"not gradable: {student}: " in said and why in said and "run the same command again" in said
    rows = {row["student"]: row for row in table(tmp_path / "out")}
    assert rows[student]["state"].startswith("not gradable: ") and why in rows[student]["state"]
    assert rows[student]["total"] == "" and rows["ann"]["total"] == "3"
    page = (tmp_path / "out" / "index.html").read_text()
    assert "1 submissions graded, 1 not gradable" in page and why.replace("'", "&#x27;") in page
    assert not (tmp_path / "out" / "feedback" / f"{student}.html").exists()


def test_of_a_blank_and_a_filled_copy_none_is_chosen_silently(tmp_path):
    """The file that was handed out has the assignment's name; the student saved the answers as a copy."""
    put(tmp_path / "in", "ann/hw.ipynb", notebook(answers(a1=BLANK), METADATA))
    put(tmp_path / "in", "ann/hw-final.ipynb", notebook(answers(), METADATA))
    summary = grade_folder(assignment(), tmp_path / "in", tmp_path / "out", progress=False, attempt=pretend)
    ((student, why),) = summary.failed
    assert student == "ann" and "2 notebooks that may be the answer ('hw-final.ipynb', 'hw.ipynb')" in why


def test_a_notebook_without_answers_is_not_chosen_by_its_name(tmp_path):
    put(tmp_path / "in", "ann/hw.ipynb", notebook(dict.fromkeys(answers(), "...")))
    put(tmp_path / "in", "ann/mine.ipynb", notebook(answers()))
    summary = grade_folder(assignment(), tmp_path / "in", tmp_path / "out", progress=False, attempt=pretend)
    assert "'hw.ipynb' is blank" in summary.failed[0][1] and "mine.ipynb" in summary.failed[0][1]


def test_a_blank_answer_in_a_cell_of_text_and_one_that_is_elsewhere_are_no_accident(tmp_path):
    blank = json.loads(with_text_cell())
    blank["cells"][1]["source"] = BLANK
    put(tmp_path / "in", "ann.ipynb", json.dumps(blank))
    moved = json.loads(with_text_cell())
    moved["cells"].append({"cell_type": "code", "metadata": {}, "source": answers()["answer-02-1"], "outputs": []})
    put(tmp_path / "in", "bob.ipynb", json.dumps(moved))
    summary = grade_folder(assignment(), tmp_path / "in", tmp_path / "out", progress=False, attempt=pretend)
    assert {one.student: one.points for one in summary.graded} == {"ann": 2, "bob": 3}


@needs_sandbox
def test_the_locked_cell_of_imports_may_be_gone(tmp_path):
    content = json.loads(notebook(answers()))
    del content["cells"][0]
    put(tmp_path / "in", "ann.ipynb", json.dumps(content))
    summary = grade_folder(assignment(), tmp_path / "in", tmp_path / "out", progress=False)
    assert summary.graded[0].points == 3
    assert "the locked cell of imports is gone or changed: it was put back" in summary.graded[0].notes


@needs_sandbox
def test_limits_under_which_the_solutions_fail_end_the_run_before_anything_is_graded(tmp_path, capsys):
    put(tmp_path / "in", "ann.ipynb", notebook(answers()))
    with pytest.raises(ReferenceFails, match=r"02\.1: it took more memory.*--memory"):
        grade_folder(assignment(), tmp_path / "in", tmp_path / "out", limits=Limits(memory_mib=100), progress=False)
    save_assignment(assignment(), tmp_path / "assignment.json")
    assert main(["grade", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--memory", "100"]) == 2
    assert "even the course's own solutions" in capsys.readouterr().err and not list((tmp_path / "out" / "graded").iterdir())


@pytest.mark.parametrize("out", ["in", "in/out", "in/submitted/out"])
def test_reports_do_not_go_into_the_submissions(tmp_path, out):
    put(tmp_path / "in" / "submitted" if "submitted" in out else tmp_path / "in", "ann.ipynb", notebook(answers()))
    with pytest.raises(ValueError, match="inside the folder of submissions"):
        grade_folder(assignment(), tmp_path / "in", tmp_path / out, progress=False, attempt=pretend)
    assert not (tmp_path / out / "graded").exists()


def test_a_folder_without_submissions_is_told(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no submission in .*ID\.ipynb"):
        grade_folder(assignment(), tmp_path / "in", tmp_path / "out", progress=False, attempt=pretend)


def test_gradescope_tells_the_student_what_is_wrong_with_the_file(tmp_path):
    for name in ("source", "submission", "results"):
        (tmp_path / name).mkdir()
    save_assignment(assignment("ann"), tmp_path / "source" / "assignment.json")
    (tmp_path / "submission_metadata.json").write_text(json.dumps({"users": [{"sid": "ann"}]}))
    (tmp_path / "submission" / "hw.ipynb").write_text(with_text_cell())
    assert gradescope.main([], tmp_path) == 1
    made = json.loads((tmp_path / "results" / "results.json").read_text())
    assert "the answer to 02.1 is in a cell of text" in made["output"] and "tests" not in made
    assert "Hand in the notebook as Jupyter saves it" in made["output"] and "command" not in made["output"]


def test_a_container_of_gradescopes_that_is_too_small_costs_nobody_points(tmp_path, monkeypatch, capsys):
    for name in ("source", "submission", "results"):
        (tmp_path / name).mkdir()
    save_assignment(assignment("ann"), tmp_path / "source" / "assignment.json")
    (tmp_path / "submission_metadata.json").write_text(json.dumps({"users": [{"sid": "ann"}]}))
    (tmp_path / "submission" / "hw.ipynb").write_text(notebook(answers()))
    ended = {one: Attempt(reason=Reason.MEMORY) for one in assignment().exercises}
    monkeypatch.setattr("diffusion_course.classroom.gradescope.run_attempts", lambda *_, **__: (ended, ()))
    assert gradescope.main([], tmp_path) == 1
    made = json.loads((tmp_path / "results" / "results.json").read_text())
    assert "could not be graded" in made["output"] and "tests" not in made
    assert "even the course's own solutions" in capsys.readouterr().out


def test_folders_that_cannot_be_meant_are_told_before_anything_is_graded(tmp_path, capsys, monkeypatch):
    built, file = tmp_path / "week", tmp_path / "in" / "ann.ipynb"
    (built / "instructor").mkdir(parents=True)
    (built / "student").mkdir()
    save_assignment(assignment("ann"), built / "instructor" / "assignment.json")
    file.parent.mkdir()
    file.write_text(notebook(answers()))
    (tmp_path / "in" / "note.txt").write_text("late")
    (tmp_path / "in" / "anne.ipynb.txt").write_text("late")
    summary = grade_folder(assignment("ann"), file.parent, tmp_path / "out", jobs=1, progress=False, attempt=pretend)
    assert [one.student for one in summary.graded] == ["ann"] and [student for student, _ in summary.failed] == ["anne"]
    assert any("'note.txt' is left out: it is no notebook" in note for note in summary.notes)

    def refuses(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    command = ["grade", str(built), "--assignment", str(built / "instructor" / "assignment.json"), "--out", str(tmp_path / "new"), "--unsafe"]
    for more, told in ((["--absent", "zero"], "--absent zero says how a gradebook is filled, and there is no --gradebook"),
                       (["--column", "Week"], "--column Week says how"), ([], "is a built assignment (its instructor/ holds")):
        assert main([*command, *more]) == 2 and told in capsys.readouterr().err
    monkeypatch.setattr("tempfile.TemporaryFile", refuses)
    assert main([command[0], str(file.parent), *command[2:]]) == 2
    assert "nothing can be written into --out" in (said := capsys.readouterr().err) and "(Operation not permitted)" in said
