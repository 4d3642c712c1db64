import base64
import io
import itertools
import re

import pytest
import torch
from PIL import Image

from diffusion_course import Animation
from diffusion_course.notebook import animation
from diffusion_course.notebook.images import image_grid
from diffusion_course.notebook.style import figure
from tools.notebook_checks import FIGURE, output_faults

ALT = "A white line moves down eight rows of a black square."


def rows(count=8):
    """Frames (1, 1, 8, 8): one bright row, a row lower in each."""
    frames = -torch.ones(count, 1, 1, 8, 8)
    for index in range(count):
        frames[index, 0, 0, index % 8] = 1
    return frames


def parts(made):
    """(still, loop) as pictures, from the stored HTML."""
    found = re.findall(r'(?:srcset|src)="data:image/\w+;base64,([^"]+)"', made._repr_mimebundle_()["text/html"])
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def line(height):
    fig, ax = figure(2, 1.5)
    ax.plot([0, 1], [0, height])
    ax.set_ylim(0, 5)
    return fig


def test_the_stored_html_has_a_loop_a_still_and_the_alt_text():
    made = Animation(rows(), ALT, seconds=2.0, repeat=3)
    bundle = made._repr_mimebundle_()
    assert f'alt="{ALT}"' in bundle["text/html"]
    assert 'media="print, (prefers-reduced-motion: reduce)"' in bundle["text/html"]
    still, loop = parts(made)
    assert loop.n_frames == 8
    assert loop.info["loop"] == 3
    assert still.size == loop.size
    assert not getattr(still, "is_animated", False)
    times = []
    for index in range(8):
        loop.seek(index)
        loop.load()
        times.append(loop.info["duration"])
    assert times == [250] * 7 + [1250]


def test_places_that_show_pictures_only_get_the_still():
    made = Animation(rows(), ALT)
    bundle = made._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]) == made.still
    assert FIGURE.search(bundle["text/plain"])["alt"] == ALT
    output = {"output_type": "execute_result", "data": bundle}
    from nbformat import from_dict

    assert list(output_faults(from_dict({"outputs": [output], "metadata": {}}))) == []


def test_small_flat_frames_are_kept_without_loss():
    made = Animation(rows(), ALT, scale=0.8)
    loop = parts(made)[1]
    loop.seek(3)
    assert {0, 255} <= set(loop.convert("L").tobytes())
    assert made.kind == "image/webp"


def test_noise_is_compressed_until_it_fits():
    g = torch.Generator().manual_seed(0)
    made = Animation(torch.rand(12, 1, 3, 128, 128, generator=g) * 2 - 1, "Twelve squares of noise.", scale=1.28)
    assert len(made._repr_mimebundle_()["text/html"]) <= animation.MOST_BYTES


def test_too_much_says_what_to_do(monkeypatch):
    monkeypatch.setattr(animation, "MOST_BYTES", 3_000)
    with pytest.raises(ValueError, match="give fewer or smaller frames"):
        Animation(torch.rand(6, 1, 3, 64, 64) * 2 - 1, ALT)


def test_frames_may_be_figures_or_drawn_from_values():
    made = Animation([1, 2, 3], "A line gets steeper.", draw=line)
    same = Animation([line(1), line(2), line(3)], "A line gets steeper.")
    assert made.moving == same.moving
    assert made.still == same.still
    assert parts(made)[1].n_frames == 3


def test_the_still_is_the_last_frame_another_or_a_figure():
    last, first = Animation(rows(), ALT), Animation(rows(), ALT, still=0)
    assert last.still != first.still
    strip = image_grid(rows(4)[:, 0], columns=4)
    assert Animation(rows(), ALT, still=strip).still == animation.png_bytes(strip)


def test_titles_belong_to_their_frames():
    plain = Animation(rows(2), ALT)
    titled = Animation(rows(2), ALT, titles=["t = 0", "t = 1"])
    assert parts(titled)[1].size[1] > parts(plain)[1].size[1]


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [([], {}, "at least one frame"), (rows(2), {"titles": ["one"]}, "titles needs 2 entries"),
     ([rows(1)[0], torch.zeros(2, 1, 8, 8)], {}, "one size"), (rows(2), {"seconds": 0}, "seconds must be > 0"),
     (rows(2), {"repeat": -1}, "repeat >= 0"), ([figure(2, 1)[0]], {"titles": ["x"]}, "a Figure brings its own title")],
)
def test_wrong_calls_are_refused(frames, options, message):
    with pytest.raises(ValueError, match=message):
        Animation(frames, ALT, **options)


def test_a_frame_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="got int"):
        Animation([1, 2], ALT)


def test_alt_text_is_required_and_escaped():
    with pytest.raises(ValueError, match="alt text is missing"):
        Animation(rows(1), " ")
    assert 'alt="a &lt;b&gt; &quot;c&quot;"' in Animation(rows(1), 'a <b> "c"')._repr_mimebundle_()["text/html"]


def test_without_webp_the_loop_is_an_animated_png(monkeypatch):
    monkeypatch.setattr(animation.features, "check", lambda name: False)
    made = Animation(rows(), ALT)
    assert made.kind == "image/png"
    assert parts(made)[1].n_frames == 8


def test_a_figure_that_changes_between_frames_gives_different_frames():
    fig, ax = figure(2, 1.5)
    ax.set(xlim=(0, 1), ylim=(0, 5))
    (curve,) = ax.plot([0, 1], [0, 0])

    def changing(heights):
        for height in heights:
            curve.set_ydata([0, height])
            yield fig

    made = Animation(changing([0, 2, 4]), ALT)
    assert len({image.tobytes() for image in made._images}) == 3
    made = Animation([0, 2, 4], ALT, draw=lambda height: next(changing([height])))
    assert len({image.tobytes() for image in made._images}) == 3
    with pytest.raises(ValueError, match="frames holds one and the same Figure 3 times"):
        Animation(list(changing([0, 2, 4])), ALT)


def test_rounds_and_frames_are_bounded(monkeypatch):
    with pytest.raises(ValueError, match=r"repeat >= 0 and <= 65535, got 4\.0 and 65536"):
        Animation(rows(2), ALT, repeat=65536)
    monkeypatch.setattr(animation, "MOST_FRAMES", 3)
    with pytest.raises(ValueError, match="frames must be at most 3, got more"):
        Animation(itertools.repeat(rows(1)[0]), ALT)
