"""What is common tells nothing; what two share and nobody else has is listed."""

from pathlib import Path

from attacks import HONEST
from test_classroom_grading import assignment

from diffusion_course.classroom.records import Cell, Submission
from diffusion_course.classroom.reports.similarity import features, similar_pairs

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
