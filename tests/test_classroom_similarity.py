"""What is common tells nothing; what two share and nobody else has is listed, and shown side by side."""

import dataclasses
from pathlib import Path

from attacks import HONEST
from test_classroom_grading import answers, assignment, notebook, pretend

from diffusion_course.classroom.grading.folder import grade_folder
from diffusion_course.classroom.records import Cell, Graded, Submission
from diffusion_course.classroom.reports.class_results import ClassResults
from diffusion_course.classroom.reports.origins import (
    as_published,
    equal_files,
    made_for_others,
    normal_form,
    origins_of,
)
from diffusion_course.classroom.reports.side_by_side import copies_page
from diffusion_course.classroom.reports.similarity import features, similar_pairs
from diffusion_course.exercises.registry import get_exercise

ODD = """def jump(x0, t, alphas_cumprod, noise):
    # flurbs first, as in the lab
    flurb = alphas_cumprod.index_select(0, t).view(len(t), *(1 for _ in range(x0.ndim - 1))).to(x0)
    wibble = torch.sub(torch.ones_like(flurb), flurb)
    return torch.addcmul(torch.mul(torch.sqrt(flurb), x0), torch.sqrt(wibble), noise)
"""
RENAMED = ODD.replace("    # flurbs first, as in the lab\n", "").replace("flurb", "qa").replace("wibble", "qb")


def handed_in(**sources):
    cells = {one: Cell(source, f"answer-{one.replace('.', '-')}") for one, source in HONEST.items()}
    return {
        name: Submission(name, Path(name), "0", (Cell(source, "answer-02-1"), cells["02.2"], cells["02.3"]))
        for name, source in sources.items()
    }


def test_the_same_right_answers_are_no_pair():
    assert similar_pairs(assignment(), handed_in(a=HONEST["02.1"], b=HONEST["02.1"], c=HONEST["02.1"])) == []


def test_two_with_the_same_oddities_are_listed_with_the_evidence():
    class_ = handed_in(a=HONEST["02.1"], b=ODD, c=HONEST["02.1"], d=ODD, e=HONEST["02.1"])
    (pair,) = similar_pairs(assignment(), class_)
    assert (pair.first, pair.second) == ("b", "d")
    assert "flurb" in pair.evidence[0]
    assert pair.score > 12


def test_other_names_and_no_comment_do_not_hide_a_copy():
    (pair,) = similar_pairs(assignment(), handed_in(a=HONEST["02.1"], b=ODD, c=RENAMED))
    assert (pair.first, pair.second) == ("b", "c")


def test_what_half_of_the_class_has_is_common():
    class_ = handed_in(**{f"s{number}": ODD if number % 2 else HONEST["02.1"] for number in range(12)})
    assert similar_pairs(assignment(), class_) == []


def test_features_of_what_is_no_python():
    assert features("this is (not python at all") == {("text", "this is (not python at all")}


def results(class_, one=None):
    return ClassResults(one or assignment(), tuple(Graded(name, "0", ()) for name in class_), class_)


def test_the_published_solution_is_known_by_its_form_and_not_by_its_names():
    exercise = get_exercise("02.1")
    same = """def jump(pictures, when: int, table, noise) -> torch.Tensor:
    '''My own words.'''
    bar = table[when].to(pictures.dtype).reshape(-1, *[1] * (pictures.ndim - 1))
    part = bar.sqrt() * pictures  # mine
    return part + (1 - bar).sqrt() * noise
"""
    assert normal_form(same, exercise) == normal_form(exercise.solution_source(), exercise) != ""
    assert normal_form(same.replace("part +", "part -"), exercise) != normal_form(same, exercise)
    assert normal_form("no python (", exercise) == normal_form("1 + 1", exercise) == ""
    class_ = handed_in(ann=same, bob=ODD, cy=exercise.solution_source())
    (found,) = as_published(results(class_))  # 02.2 and 02.3 are a line or two: nothing is said of them
    assert (found.exercise_id, found.students) == ("02.1", ("ann", "cy"))


def test_equal_files_are_told_unless_they_are_blank():
    class_ = handed_in(a=ODD, b=ODD, c=HONEST["02.1"]) | {name: Submission(name, Path(name), "1", (Cell("def jump():\n    ...", "answer-02-1"),)) for name in "de"}
    class_["c"] = dataclasses.replace(class_["c"], sha256="2")
    assert equal_files(results(class_)) == [("a", "b")]


def test_a_notebook_that_was_made_for_another_one_is_told():
    class_ = {name: dataclasses.replace(one, made_for="ann") for name, one in handed_in(ann=ODD, bob=ODD).items()}
    assert made_for_others(results(class_, assignment("ann", "bob"))) == [("bob", "ann")]


def test_a_pair_stands_side_by_side_with_what_is_rare_marked_and_nothing_is_html():
    evil = ODD.replace("# flurbs first", "# <script>flurbs</script> first")
    class_ = handed_in(a=HONEST["02.1"], b=evil, c=RENAMED, **{"<d>": HONEST["02.1"]})
    pairs = similar_pairs(assignment(), class_)
    page = copies_page(results(class_), pairs, origins_of(results(class_)))
    first, second = page.partition('<div class="pair">')[2].split("</pre>")[:2]
    for text, name in ((first, "wibble"), (second, "qb")):
        assert f"<mark>    {name} = torch.sub(" in text and "<mark>def jump" not in text
    assert "&lt;script&gt;flurbs" in page and "<script" not in page and "<d>" not in page
    assert "hints for a conversation" in page and not any(word in page.lower() for word in ("cheat", "plagiar", "guilt"))


def test_the_page_of_a_class_is_linked_where_there_is_something_to_see(tmp_path):
    (tmp_path / "in").mkdir()
    for name, source in (("ann", ODD), ("bob", ODD), ("cy", HONEST["02.1"])):
        (tmp_path / "in" / f"{name}.ipynb").write_text(notebook(answers(a1=source)))
    grade_folder(assignment(), tmp_path / "in", tmp_path / "out", jobs=1, progress=False, attempt=pretend)
    assert 'href="copies.html"' in (tmp_path / "out" / "index.html").read_text()
    assert "ann, bob" in (tmp_path / "out" / "copies.html").read_text()
