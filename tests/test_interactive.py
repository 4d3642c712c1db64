import base64
import datetime
import html
import io

import ipywidgets
import numpy as np
import pytest
from PIL import Image

from diffusion_course.notebook.interactive import Explorer
from diffusion_course.notebook.style import figure


class Draw:
    """A picture of its values that counts how often it is drawn."""

    def __init__(self):
        self.calls = 0

    def __call__(self, t, schedule="linear"):
        self.calls += 1
        if t == 13:
            raise ValueError("thirteen <b>is</b> not drawn")
        fig, ax = figure(2, 1.5)
        ax.plot([0, 1], [0, t])
        return fig, f'At t = {t} the "{schedule}" line ends at <{t}>.'


def explorer():
    draw = Draw()
    return Explorer(draw, t=(0, 20), schedule=["linear", "cosine"]), draw


def shown_picture(made):
    """The bytes inside the live <img>."""
    source = made._picture.value.partition("base64,")[2].partition('"')[0]
    return base64.b64decode(source)


def test_bundle_has_stable_text_a_picture_and_no_view_without_a_kernel():
    made, _ = explorer()
    bundle = made._repr_mimebundle_()
    text = 'Explorer(t=0, schedule=linear): At t = 0 the "linear" line ends at <0>.'
    assert bundle["text/plain"] == text == repr(made)
    assert set(bundle) == {"text/plain", "image/png"}
    with Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))) as image:
        assert image.size == (200, 150)


def test_moving_a_control_changes_picture_alt_and_status():
    made, draw = explorer()
    first = shown_picture(made)
    made._controls["t"].value = 5  # what the browser does
    assert made.values == {"t": 5, "schedule": "linear"}
    assert draw.calls == 2
    assert shown_picture(made) != first
    assert shown_picture(made) == made.png
    assert made.alt.startswith("At t = 5")
    assert f'alt="{html.escape(made.alt)}"' in made._picture.value
    assert "&lt;5&gt;" in made._picture.value
    assert 'role="status"' in made._status.value
    assert "t=5, schedule=linear" in made._status.value


def test_going_back_is_not_drawn_again():
    made, draw = explorer()
    first = made.png
    made.set(t=5)
    made.set(t=0)
    assert made.png == first
    assert draw.calls == 2


def test_set_moves_several_controls_with_one_drawing():
    made, draw = explorer()
    made.set(t=7, schedule="cosine")
    assert draw.calls == 2
    assert made.values == {"t": 7, "schedule": "cosine"}
    assert '"cosine"' in made.alt


def test_error_is_shown_in_place_of_the_picture_and_goes_away():
    made, _ = explorer()
    made._controls["t"].value = 13
    assert isinstance(made.error, ValueError)
    assert 'role="alert"' in made._picture.value
    assert "<img" not in made._picture.value
    assert "ValueError: thirteen &lt;b&gt;is&lt;/b&gt; not drawn" in made._picture.value
    assert "__call__" in made._picture.value  # where it happened
    assert "image/png" not in made._repr_mimebundle_()
    assert "thirteen" in repr(made)
    made._controls["t"].value = 12
    assert made.error is None
    assert "<img" in made._picture.value


def test_error_in_the_first_picture_is_raised():
    with pytest.raises(ValueError, match="thirteen"):
        Explorer(Draw(), t=(0, 20), start={"t": 13})


@pytest.mark.parametrize(
    "spec, kind, first",
    [
        ((0, 999, 100), ipywidgets.IntSlider, 0),
        ((0.0, 1.0), ipywidgets.FloatSlider, 0.0),
        (range(10, 50, 10), ipywidgets.IntSlider, 10),
        ([1, 10, 100], ipywidgets.SelectionSlider, 1),
        (["linear", "cosine"], ipywidgets.Dropdown, "linear"),
        (ipywidgets.IntText(3), ipywidgets.IntText, 3),
    ],
)
def test_controls(spec, kind, first):
    made = Explorer(lambda noise_level: (figure(1, 1)[0], "nothing"), noise_level=spec)
    control = made._controls["noise_level"]
    assert type(control) is kind
    assert made.values == {"noise_level": first}
    assert control.description == "noise level" or kind is ipywidgets.IntText


def test_range_ends_at_its_last_value():
    made = Explorer(lambda t: (figure(1, 1)[0], "nothing"), t=range(0, 1000, 300))
    assert (made._controls["t"].max, made._controls["t"].step) == (900, 300)


@pytest.mark.parametrize("spec", [(3, 1), [], range(0), "linear", 3, (0, 1, 2, 3), None])
def test_bad_control(spec):
    with pytest.raises(ValueError, match="control 't' must be .low, high"):
        Explorer(Draw(), t=spec)


def test_bad_values_and_results():
    made, _ = explorer()
    with pytest.raises(ValueError, match="no control 'T'; it has t, schedule"):
        made.set(T=1)
    for bad in ({"t": 21}, {"t": "1"}, {"schedule": "cubic"}):
        with pytest.raises(ValueError, match="does not go there, got"):
            made.set(**bad)
    assert made.values == {"t": 0, "schedule": "linear"}
    with pytest.raises(ValueError, match="needs a control"):
        Explorer(Draw())
    with pytest.raises(TypeError, match="draw must return"):
        Explorer(lambda t: figure(1, 1)[0], t=(0, 1))
    with pytest.raises(ValueError, match="alt text is missing"):
        Explorer(lambda t: (figure(1, 1)[0], " "), t=(0, 1))
    with pytest.raises(TypeError, match="draw must return a Figure"):
        Explorer(lambda t: ("picture", "alt"), t=(0, 1))


def test_alt_as_a_function():
    made = Explorer(lambda t: figure(1, 1)[0], alt=lambda t: f"t is {t}", t=(0, 3))
    made.set(t=2)
    assert repr(made) == "Explorer(t=2): t is 2"


def test_states_drawn_ahead_are_not_drawn_again():
    draw = Draw()
    made = Explorer(draw, t=(0, 3), schedule=["linear", "cosine"], start={"t": 2}, ahead=True)
    assert draw.calls == 8
    assert made.values == {"t": 2, "schedule": "linear"}
    made._controls["schedule"].value = "cosine"
    assert draw.calls == 8
    assert 'the "cosine" line ends at <2>' in made.alt


def test_too_many_states_cannot_be_drawn_ahead():
    with pytest.raises(ValueError, match="1000 states cannot be drawn ahead, at most 128 can"):
        Explorer(Draw(), t=(14, 1013), ahead=True)
    with pytest.raises(ValueError, match="states of a FloatSlider cannot be drawn ahead"):
        Explorer(Draw(), t=(0.0, 1.0), ahead=True)


def plain_picture(**values):
    return figure(1, 1)[0], f"A picture of {values}."


@pytest.mark.parametrize(
    ("control", "good", "bad"),
    [
        (lambda: ipywidgets.FloatLogSlider(value=10, min=0, max=3), 1000.0, 5000.0),
        (lambda: ipywidgets.IntRangeSlider(min=0, max=9), (1, 5), (3, 99)),
        (lambda: ipywidgets.SelectMultiple(options=["a", "b"]), ("a", "b"), ("z",)),
        (lambda: ipywidgets.SelectionRangeSlider(options=[1, 2, 3], index=(0, 1)), (1, 3), (1, 4)),
        (lambda: ipywidgets.DatePicker(), datetime.date(2020, 1, 1), "x"),
        (lambda: ipywidgets.Dropdown(options={"A": 1, "B": 2}), 2, "A"),
        (lambda: [("A", 1), ("B", 2)], 2, "A"),
        (lambda: ["a", "b"], "b", {}),
    ],
)
def test_every_control_goes_to_its_own_values(control, good, bad):
    made = Explorer(plain_picture, c=control(), start={"c": good})
    assert made.values == {"c": good}
    with pytest.raises(ValueError, match="control 'c' does not go there, got"):
        made.set(c=bad)


def test_pairs_and_dictionaries_can_be_drawn_ahead():
    for control in ([("A", 1), ("B", 2)], ipywidgets.Dropdown(options={"A": 1, "B": 2})):
        assert len(Explorer(plain_picture, c=control, ahead=True)._kept) == 2
    with pytest.raises(ValueError, match="1000000001 states cannot be drawn ahead"):
        Explorer(plain_picture, c=(0, 10**9), ahead=True)  # before a list of them is made


@pytest.mark.parametrize("choices", [[float("nan"), 1], [np.zeros(2)], [{}], [0, False], [0, 0.0]])
def test_choices_that_are_not_found_again_are_refused_by_name(choices):
    with pytest.raises(ValueError, match="control 'c' must have choices that"):
        Explorer(plain_picture, c=choices)


def test_pictures_of_equal_values_of_two_types_are_kept_apart():
    made = Explorer(lambda c: (figure(1, 1)[0], f"At {c!r}."), c=ipywidgets.ValueWidget())
    said = []
    for value in (0, False, 0.0):
        made._controls["c"].value = value
        made._redraw()
        said.append(made.alt)
    assert said == ["At 0.", "At False.", "At 0.0."]


def test_an_error_in_a_state_drawn_ahead_is_kept():
    made = Explorer(Draw(), t=(12, 14), ahead=True)
    assert "thirteen" in str(made.error)
    assert made.png is not None
