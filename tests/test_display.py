import base64
import io
import operator
import re
import textwrap
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from nbclient import NotebookClient
from PIL import Image

import diffusion_course as dc
from diffusion_course import validation
from diffusion_course.door import batch, checked, finite, like
from diffusion_course.notebook import display
from diffusion_course.notebook.display import Progress, png_bytes, show
from diffusion_course.notebook.source import equation, show_source, source_text
from diffusion_course.notebook.style import figure


def drawing():
    fig, ax = figure(3, 2)
    ax.plot([0, 1, 2], [0, 1, 4])
    return fig


class Shape:
    """A class with a docstring."""

    sides = 3

    def area(self, width):
        """Return an area.

        Over several lines.
        """

        # the comment stays
        return width * self.sides

    def only(self):
        """Nothing but words."""


def test_png_is_deterministic_and_has_the_stated_size():
    data = png_bytes(drawing())
    assert data == png_bytes(drawing())
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (300, 200)
        assert image.getpixel((1, 1))[:3] == (255, 255, 255)
        assert not set(image.info) & {"Software", "Creation Time", "date"}


@pytest.mark.parametrize("alt", ["", "  \n", None])
def test_alt_is_required(alt):
    with pytest.raises(ValueError, match="alt text is missing"):
        show(drawing(), alt=alt)


def test_alt_has_no_default():
    with pytest.raises(ValueError, match="alt text is missing"):
        show(drawing())


def test_show_takes_only_figures():
    with pytest.raises(TypeError, match="fig must be a Figure.*got list"):
        show([1], alt="a list")


def test_show_outside_a_notebook_prints_the_description(capsys):
    show(drawing(), alt="A line\n that bends.")
    assert capsys.readouterr().out == "[figure] A line that bends.\n"


def test_source_is_the_files_own_lines_without_docstrings():
    text = source_text(validation.check_floating)
    first, *shown = text.splitlines()
    assert first == "# diffusion_course/validation.py"
    with open(validation.__file__, encoding="utf-8") as file:
        lines = file.read().splitlines()
    start = lines.index(shown[0])
    with_words = source_text(validation.check_floating, docstring=True).splitlines()[1:]
    assert with_words == lines[start : start + len(with_words)]
    assert len(with_words) == len(shown) + 1
    assert '"""' in with_words[1]
    assert '"""' not in text


def test_docstrings_of_methods_are_folded_comments_and_bodies_stay():
    assert source_text(Shape).partition("\n")[2] == textwrap.dedent('''\
        class Shape:
            sides = 3

            def area(self, width):
                # the comment stays
                return width * self.sides

            def only(self):
                """Nothing but words."""''')
    assert source_text(Shape.area).splitlines()[1] == "def area(self, width):"


def test_two_objects_of_one_file_share_a_heading():
    text = source_text(validation.check_floating, validation.check_batch, Figure)
    assert text.count("# diffusion_course/validation.py\n") == 1
    assert text.count("\n# matplotlib/figure.py\n") == 1


def _of_one_kind(name, value, given):
    """Nothing is of another kind."""


class Lens:
    """Looks (Anybody 2020, arXiv 2001.00001, Algorithm 2)."""

    @checked(x=(batch, finite), y=like("x"), another_name=_of_one_kind, one_more_name=_of_one_kind)
    def look(self, x, y=None,
             another_name=(1, 2), one_more_name=3):  # a comment: here
        # the comment stays
        return x if y is None else x + y

    @property
    @checked(self=_of_one_kind)
    def focus(self):
        """Return 1."""
        return 1


def test_what_is_checked_at_the_door_is_one_comment_in_place_of_the_decorator():
    shown = textwrap.dedent('''\
        # diffusion_course/process/kernels.py, arXiv 2006.11239, eq. 4
        def q_sample(
            x0: Tensor, t: Tensor, alphas_cumprod: Tensor, noise: Tensor | None = None,
            *, generator: torch.Generator | None = None,
        ) -> Tensor:
            # checked at the door: x0 (batch, finite), alphas_cumprod (table), t (timesteps),
            #   noise (like x0)
            noise = noise_like(x0, generator) if noise is None else noise
            signal_scale, noise_scale = scales(column(alphas_cumprod[t], x0), x0)
            return signal_scale * x0 + noise_scale * noise''')
    assert source_text(dc.q_sample) == shown
    with_words = source_text(dc.q_sample, docstring=True)
    assert with_words.index('"""\n    # checked at the door') and "@checked" not in with_words
    assert "".join(with_words.split('"""')[::2]).replace("    \n", "") == shown
    assert "checked at the door" not in source_text(validation.check_floating)


def test_doors_of_methods():
    shown = textwrap.dedent("""\
        class Lens:
            def look(self, x, y=None,
                     another_name=(1, 2), one_more_name=3):  # a comment: here
                # checked at the door: x (batch, finite), y (like x),
                #   another_name (of one kind), one_more_name (of one kind)
                # the comment stays
                return x if y is None else x + y

            @property
            def focus(self):
                # checked at the door: self (of one kind)
                return 1""")
    assert source_text(Lens).partition("\n")[2] == shown
    assert source_text(Lens).startswith("# test_display.py, arXiv 2001.00001, Algorithm 2\n")
    assert source_text(Lens.look).splitlines()[3] == "    # checked at the door: x (batch, finite), y (like x), another_name (of one kind),"


@pytest.mark.parametrize(
    ("words", "found"),
    [("One step (Ho et al. 2020, arXiv 2006.11239, eq.\n    2).", "arXiv 2006.11239, eq. 2"),
     ("Two (twice).\n\nAs there (Lu 2022, DPM++(2M), arXiv 2211.01095, Algorithm 2).", "arXiv 2211.01095, Algorithm 2"),
     ("All of it (arXiv 2010.02502).", "arXiv 2010.02502"), ("A part.\n\nphi (arXiv 2305.08891, section 3.4).", ""),
     ("By (04.3) and (eq. 5).", "eq. 5"), ("Nothing (at all).", ""), ("", "")],
)
def test_the_equation_is_the_docstrings(words, found):
    assert equation(words) == found


def test_the_equation_of_a_second_object_stands_above_it():
    text = source_text(dc.q_sample, dc.q_step, dc.posterior_coefficients)
    assert text.count("kernels.py") == 1 and "\n\n# arXiv 2006.11239, eq. 2\ndef q_step(" in text


def shown_in_lessons():
    """What lessons show of the package: (lesson, expression)."""
    for path in sorted((Path(__file__).parents[1] / "notebooks" / "source").glob("*.py")):
        for shown in re.findall(r"^(?:dc\.)?show_source\((.*)\)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE):
            yield from ((path.stem[:2], name.removeprefix("dc.")) for name in shown.split(", "))


@pytest.mark.parametrize(("lesson", "name"), list(shown_in_lessons()))
def test_what_lessons_show_fits_into_a_line(lesson, name):
    from diffusion_course import models
    from diffusion_course.latent import memory

    home = next(home for home in (dc, models, memory) if hasattr(home, name.partition(".")[0]))
    assert [line for line in source_text(operator.attrgetter(name)(home)).splitlines() if len(line) > 88] == []


@pytest.mark.parametrize("thing", [3, len, "q_sample"])
def test_no_source(thing):
    with pytest.raises(TypeError, match="show_source: no Python source"):
        show_source(thing)


def test_no_object():
    with pytest.raises(TypeError, match="needs a function or a class"):
        show_source()


def test_progress_outside_a_notebook_writes_to_stderr_only(capsys):
    assert list(Progress([1, 2, 3], "walk")) == [1, 2, 3]
    with Progress(4, "train") as progress:
        progress.update(4, message="loss 0.1")
    out, err = capsys.readouterr()
    assert out == ""
    assert "walk" in err
    assert "3/3" in err
    assert "loss 0.1" in err
    assert "4/4" in err


class Recorder:
    """Stands in for IPython's display handle."""

    def __init__(self):
        self.bundles = []

    def __call__(self, bundle, **options):
        self.bundles.append(bundle)
        return self

    def update(self, bundle, raw):
        assert raw
        self.bundles.append(bundle)


@pytest.fixture
def recorded(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(display, "in_notebook", lambda: True)
    monkeypatch.setattr(display, "publish", recorder)
    return recorder.bundles


def test_progress_text_is_constant_while_html_moves(recorded, capsys):
    with Progress(3, "train <b>", interval=0) as progress:
        for step in range(3):
            progress.update(message=f"loss {step} & more")
    assert {bundle["text/plain"] for bundle in recorded} == {"[progress] train <b>: 3 steps"}
    html = [bundle["text/html"] for bundle in recorded]
    assert len(set(html)) == 5
    assert 'max="3" value="2"' in html[2]
    assert "2 of 3 steps" in html[2]
    assert "left" in html[2]
    assert "loss 1 &amp; more" in html[2]
    assert "<b>" not in html[2]
    assert "done after" in html[-1]
    assert capsys.readouterr() == ("", "")


def test_progress_redraws_at_most_once_per_interval(recorded):
    assert len(list(Progress(range(10_000), "fast", interval=60))) == 10_000
    assert len(recorded) == 2  # the start and the end


def test_progress_over_a_generator_knows_no_total(recorded):
    assert list(Progress((i for i in range(2)), "stream")) == [0, 1]
    assert recorded[-1]["text/plain"] == "[progress] stream"
    assert "2 steps" in recorded[-1]["text/html"]
    assert " of " not in recorded[-1]["text/html"]


def test_progress_says_that_it_stopped(recorded):
    with pytest.raises(RuntimeError), Progress(3, "train") as progress:
        progress.update()
        raise RuntimeError
    assert "1 of 3 steps" in recorded[-1]["text/html"]
    assert "stopped after" in recorded[-1]["text/html"]


@pytest.mark.parametrize("total, error", [(-1, ValueError), (2.5, TypeError), (True, TypeError), (None, TypeError)])
def test_bad_progress(total, error):
    with pytest.raises(error, match="Progress: total must be"):
        Progress(total)


def test_in_a_real_kernel():
    cells = [
        "from diffusion_course.notebook import Progress, show, show_source\n"
        "from diffusion_course.notebook.interactive import Explorer\n"
        "from diffusion_course.notebook.style import figure",
        "show(figure(2, 1)[0], alt='An empty frame.')",
        "for step in Progress(range(3), 'walk', interval=0): pass",
        "show_source(figure)",
        "Explorer(lambda t: (figure(2, 1)[0], f't is {t}'), t=(0, 9), start={'t': 4})",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(Path(__file__).parents[1])}}).execute()
    assert not any(out.output_type in ("stream", "error") for cell in notebook.cells for out in cell.outputs)
    outputs = [cell.outputs for cell in notebook.cells]
    assert [len(output) for output in outputs] == [0, 1, 1, 1, 1]
    picture, progress, source, explorer = (output[0].data for output in outputs[1:])
    assert set(picture) == {"image/png", "text/plain"}
    assert picture["text/plain"] == "[figure] An empty frame."
    assert base64.b64decode(picture["image/png"]).startswith(b"\x89PNG")
    assert progress["text/plain"] == "[progress] walk: 3 steps"
    assert "3 of 3 steps" in progress["text/html"]
    assert source["text/markdown"] == f"```python\n{source['text/plain']}\n```"
    assert source["text/plain"].startswith("# diffusion_course/notebook/style.py\ndef figure(")
    assert explorer["text/plain"] == "Explorer(t=4): t is 4"
    assert set(explorer) == {"text/plain", "image/png", "application/vnd.jupyter.widget-view+json"}


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(range(3))


@pytest.mark.parametrize("number", [np.int64(3), np.uint8(3), 3])
def test_progress_takes_numpys_numbers(number, capsys):
    assert Progress(number).total == 3
    assert list(Progress(number)) == [0, 1, 2]


@pytest.mark.parametrize("number", [np.float64(3), np.bool_(True), torch.tensor(3)])
def test_progress_refuses_other_numbers(number):
    with pytest.raises(TypeError, match="total must be a number of steps or"):
        Progress(number)


def test_progress_goes_through_a_stream_and_a_numbered_data_set(capsys):
    loader = torch.utils.data.DataLoader(Stream(), batch_size=None)
    bar = Progress(loader)
    assert bar.total is None
    assert list(bar) == [0, 1, 2]
    numbered = torch.utils.data.TensorDataset(torch.arange(3))
    bar = Progress(numbered)
    assert bar.total == 3
    assert [int(x) for (x,) in bar] == [0, 1, 2]
    endless = SimpleNamespace  # a class is no list
    with pytest.raises(TypeError, match="a number of steps or an iterable"):
        Progress(endless)


def test_progress_counts_inside_its_context_only(capsys):
    bar = Progress(5, "training")
    with pytest.raises(RuntimeError, match=r"training: update\(\) counts inside the context only"):
        bar.update()
    with bar:
        bar.update()
    with pytest.raises(RuntimeError, match="inside the context only"):
        bar.update()
    assert bar.done == 1
