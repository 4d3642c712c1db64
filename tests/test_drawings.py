"""Drawings: boxes, arrows and words where they were put, and nothing outside."""

import pytest
import torch

from diffusion_course.notebook import Drawing


def alt_of(capsys):
    return capsys.readouterr().out.strip()


def test_a_box_says_where_its_sides_are():
    box = Drawing(4, 2).box(2, 1, "middle", width=1.0, height=0.5)
    assert box == (2, 1, 1.0, 0.5)
    assert (box.left, box.right, box.top, box.bottom) == ((1.5, 1), (2.5, 1), (2, 1.25), (2, 0.75))
    assert box.edge((9, 1)) == box.right and box.edge((2, -9)) == box.bottom
    assert box.edge((3, 2)) == (2.25, 1.25)  # the diagonal leaves through the upper side
    assert box.edge((2, 1)) == (2, 1)


def test_a_row_is_spread_evenly():
    boxes = Drawing(6, 1).row(["a", "b", "c"], 0.5, 1, 5, kinds=["data", "noise", "network"], notes=["(B, 2)", "", ""])
    assert [box[:2] for box in boxes] == [(1, 0.5), (3, 0.5), (5, 0.5)]
    (alone,) = Drawing(6, 1).row(["a"], 0.5, 1, 5)
    assert alone.x == 1



def test_an_arrow_runs_from_edge_to_edge():
    drawing = Drawing(6, 2)
    a, b = drawing.row(["a", "b"], 1, 1, 5, width=1)
    drawing.arrow(a, b, "then", via=[(1, 1.8), (5, 1.8)])
    arrow = drawing.axes.patches[-1]
    assert arrow.get_path().vertices[0].tolist() == pytest.approx(list(a.top))
    label = drawing.axes.texts[-1]
    assert label.get_text() == "then" and label.get_position() == pytest.approx((3, 1.85))
    drawing.arrow(a, b, "below", below=True)
    assert drawing.axes.texts[-1].get_position() == pytest.approx((3, 0.95))
    drawing.arrow(a, (1, 0.1), "down")
    assert drawing.axes.texts[-1].get_position()[0] == pytest.approx(1.06)
    drawing.show("Two boxes and three arrows.")


def test_flat_drawings_and_those_with_a_picture_are_told_apart(capsys):
    drawing = Drawing(3, 1)
    drawing.text(1.5, 0.5, "words")
    drawing.show("One word in the middle.")
    assert alt_of(capsys) == "[drawing] One word in the middle."
    box = drawing.picture(0.5, 0.5, torch.zeros(3, 4, 8), size=0.4, note="x")
    assert box == (0.5, 0.5, 0.8, 0.4)
    drawing.show("A grey picture and a word.")
    assert alt_of(capsys) == "[figure] A grey picture and a word."


def test_what_does_not_fit_is_said():
    drawing = Drawing(3, 1)
    drawing.box(1.5, 0.5, "much too long for it", width=0.6)
    with pytest.raises(ValueError, match=r"'much too long for it' is 1\.\d\d inches wide, too wide for its box"):
        drawing.show("A box.")
    drawing = Drawing(3, 1)
    drawing.text(2.9, 0.5, "over the edge")
    with pytest.raises(ValueError, match="'over the edge' leaves the drawing, which is 3 inches wide"):
        drawing.show("A text.")


@pytest.mark.parametrize(("call", "message"), [
    (lambda d: d.box(1, 1, "a", kind="magic"), "kind must be"),
    (lambda d: d.box(1, 1, 5), "text must be a string"),
    (lambda d: d.box(float("nan"), 1, "a"), "x must be"),
    (lambda d: d.box(1, 1, "a", width=-1), "width must"),
    (lambda d: d.row(["a", "b"], 1, 1, 2, kinds=["data"]), "one kind and one note for each of its 2 boxes"),
    (lambda d: d.row(["a"], 1, 1, 2, depth=3), "row has no option 'depth'"),
    (lambda d: d.arrow("a", (1, 1)), r"start must be a Box or a tuple, got str 'a'"),
    (lambda d: d.picture(1, 1, torch.zeros(2, 4, 4), size=1), "must have shape"),
    (lambda d: d.show(), "alt text is missing"),
    (lambda d: Drawing(0, 1), "width must"),
])
def test_wrong_arguments_are_named(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call(Drawing(3, 2))
