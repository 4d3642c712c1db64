"""The instructor's page: what to teach again, how the points lie, in words as much as in bars."""

import json
import re

from test_classroom_grading import NO_ROOT, Page, answers, assignment, notebook, pretend

from diffusion_course.classroom.assignment.assignment import Assignment
from diffusion_course.classroom.assignment.manual import get_question
from diffusion_course.classroom.assignment.notebooks import make_notebook
from diffusion_course.classroom.grading.folder import grade_folder
from diffusion_course.classroom.reasons import Reason
from diffusion_course.classroom.records import Attempt, Graded, Mark
from diffusion_course.classroom.reports.charts import histogram
from diffusion_course.classroom.reports.class_results import ClassResults
from diffusion_course.classroom.reports.feedback import student_page
from diffusion_course.classroom.reports.overview import index_page


def results(*rows):
    """A class: for each student the marks of 02.1 and 02.2 as (status, mistake or check)."""
    def mark(name, status, why):
        points = float(status == "right")
        is_check = why in set(Reason)
        return Mark(name, "Title", status, points, 1, "", None if is_check else why, why if is_check else None)

    graded = tuple(
        Graded(f"s{number}", "0", tuple(mark(name, *one) for name, one in zip(("02.1", "02.2"), row, strict=True)))
        for number, row in enumerate(rows))
    return ClassResults(assignment(exercises=("02.1", "02.2")), graded, {})


def test_the_most_frequent_mistakes_come_first_with_their_place_in_the_course():
    right, blank = ("right", None), ("unanswered", Reason.BLANK)
    class_ = results((("wrong", "no root"), right), (("wrong", "no root"), blank), (("wrong", "no root"), blank), (("wrong", Reason.TIME), right))
    page = index_page(class_, [])
    part = page.partition("What to teach again on Monday")[2].partition("<h2>")[0]
    told = re.findall(r"</strong>: (.*?)<br>.*?From one step to t steps.*?(\d of 4)", part)
    assert told == [("no root", "3 of 4"), ("not answered", "2 of 4"), ("it took too long and was ended", "1 of 4")]
    assert "0 right" in page and "4 not right" in page and "Mean 0.5, median 0.5, of 2 points" in page


def test_a_histogram_counts_every_value_and_says_so_in_words():
    html = histogram([0, 0.5, 1, 2.99, 3, 3], 3, "Points")
    assert 'aria-label="Points: 2 from 0, 1 from 1, 1 from 2, 2 from 3."' in html
    assert "40 from 20" in histogram([39.9] * 40, 200, "Points") and histogram([200], 200, "x").count('class="column"') == 11


def test_pages_have_no_script_no_network_and_a_title_and_words_for_every_picture(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ann.ipynb").write_text(notebook(answers(a1=NO_ROOT)))
    grade_folder(assignment(manual=("02.m1",)), tmp_path / "in", tmp_path / "out", jobs=1, progress=False, attempt=pretend)
    for path in [*(tmp_path / "out").glob("*.html"), *(tmp_path / "out" / "feedback").iterdir()]:
        text = path.read_text()
        page = Page(text)
        assert not {"script", "img", "link", "iframe"} & set(page.tags) and not any(":" in target for target in page.targets)
        assert "url(" not in text and "<title>" in text and text.count('role="img"') == text.count('role="img" aria-label="')


def test_the_notebook_and_the_feedback_agree_on_the_points():
    one = Assignment("hw", "Homework", ("02.1", "02.4"), ("02.m1",), 99, points={"02.4": 5})
    intro = "".join(make_notebook(one)["cells"][0]["source"])
    made = Graded("ann", "0", (
        Mark("02.1", "", "right", 1, 1, ""), Mark("02.4", "", "wrong", 0, 5, ""), Mark("02.m1", "", "manual", 0, get_question("02.m1").points, "")))
    assert one.max_points == made.max_points == 10
    assert "10 points" in intro and "1 of 10 points so far" in student_page(one, made)


def test_the_time_that_a_submission_took_is_shown_and_is_in_no_file_that_two_runs_must_agree_on(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ann.ipynb").write_text(notebook(answers()))

    def slow(submission, wanted, limits, *, meter, **options):
        meter.append(12.34)
        return {one.id: Attempt(reason=Reason.TIME) for one, _ in wanted}, ()

    for _ in range(2):  # the second time it is remembered
        grade_folder(assignment(), tmp_path / "in", tmp_path / "out", jobs=1, progress=False, attempt=slow)
        assert "12.3" in (tmp_path / "out" / "index.html").read_text()
    assert "12.3" not in (tmp_path / "out" / "results.json").read_text() + json.dumps((tmp_path / "out" / "grades.csv").read_text())
