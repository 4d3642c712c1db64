"""A reader's settings of matplotlib change no figure of the course, and no figure changes them."""

import io
import threading

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from test_plotting import examples

from diffusion_course.notebook import Animation, figure, panels
from diffusion_course.notebook.display import png_bytes
from diffusion_course.notebook.look import COLORS, CourseAxes, CourseFigure, course_style


def by_hand():
    """A figure that a lesson fills with calls of its own."""
    fig, (ax, other) = figure(6, 3, ncols=2)
    ax.plot([1, 2, 3], [1000.5, 4000, 2000], label="a")
    ax.set(title="A title", xlabel="$x_1$", ylabel="y")
    ax.text(2, 2000, "in the middle")
    ax.legend()
    other.bar([1, 2], [3, 4])
    other.twinx().scatter([1, 2], [-5, 6])
    fig.legend(loc="upper right")
    fig.suptitle("Above")
    return fig


def loss():
    from diffusion_course.notebook import plotting

    return plotting.loss_curve([1 / (1 + i % 7) for i in range(80)], reference=0.2, title="Loss")


def two_panels():
    fig, axes = panels(["a", "b"], "A heading", width=2, height=2, xlabel="x", ylabel="y")
    axes[0].imshow([[1, 2], [3, 4]])
    axes[1].hist([1, 2, 2, 3])
    return fig


FIGURES = examples() | {"loss_curve": loss, "by hand": by_hand, "panels": two_panels}
FOREIGN = {
    "dark_background": lambda: plt.style.use("dark_background"),
    "seaborn": lambda: plt.style.use(["seaborn-v0_8-poster", "seaborn-v0_8-darkgrid"]),
    "classic": lambda: plt.style.use("classic"),
    "usetex": lambda: matplotlib.rcParams.update({"text.usetex": True}),
    "saving": lambda: matplotlib.rcParams.update({
        "savefig.bbox": "tight", "savefig.dpi": 30, "savefig.transparent": True, "savefig.facecolor": "red",
        "savefig.pad_inches": 2, "savefig.format": "svg",
    }),
    "a matplotlibrc": lambda: matplotlib.rcParams.update({
        "font.family": "monospace", "font.size": 20, "axes.formatter.limits": [0, 0], "axes.unicode_minus": False,
        "axes.labelcolor": "white", "xtick.color": "white", "ytick.labelcolor": "white", "text.color": "white",
        "xtick.direction": "in", "xtick.minor.visible": True, "axes.titlecolor": "white", "axes.titley": 0.5,
        "axes.xmargin": 0.4, "axes.autolimit_mode": "round_numbers", "lines.marker": "o", "image.origin": "lower",
        "image.aspect": "auto", "mathtext.default": "regular", "figure.autolayout": True, "figure.dpi": 30,
        "scatter.marker": "x", "patch.linewidth": 9, "legend.loc": "center", "path.sketch": (1, 100, 2), "hist.bins": 40,
        "text.antialiased": False,
    }),
    "interactive": plt.ion,
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "default device": lambda: torch.set_default_device("meta"),
}


@pytest.fixture
def _the_readers_own():
    backend, interactive = matplotlib.get_backend(), matplotlib.is_interactive()
    with matplotlib.rc_context():
        yield
    plt.close("all")
    plt.ioff() if not interactive else plt.ion()
    matplotlib.use(backend)
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)


@pytest.fixture(scope="module")
def under_defaults():
    with matplotlib.rc_context(matplotlib.rcParamsDefault):
        return {name: png_bytes(draw()) for name, draw in FIGURES.items()}


@pytest.mark.usefixtures("_the_readers_own")
@pytest.mark.parametrize("setting", FOREIGN)
def test_a_readers_settings_change_no_picture_and_are_there_afterwards(setting, under_defaults):
    arguments = examples()  # tensors are made before the reader's settings act
    FOREIGN[setting]()
    before = dict(matplotlib.rcParams)
    for name, draw in (FIGURES | arguments | {"loss_curve": loss}).items():
        assert png_bytes(draw()) == under_defaults[name], name
    assert dict(matplotlib.rcParams) == before


@pytest.mark.usefixtures("_the_readers_own")
def test_another_backend_draws_the_same(under_defaults):
    matplotlib.use("svg")
    fig = by_hand()
    assert png_bytes(fig) == under_defaults["by hand"]
    buffer = io.BytesIO()
    fig.savefig(buffer)  # by the reader: the course's look and format there, too
    assert buffer.getvalue().startswith(b"\x89PNG")


@pytest.mark.usefixtures("_the_readers_own")
def test_a_readers_own_figure_keeps_its_own_look_but_its_size():
    plt.style.use("dark_background")
    matplotlib.rcParams["savefig.bbox"] = "tight"
    fig = Figure(figsize=(2, 1))
    fig.subplots().plot([1, 2])
    image = Image.open(io.BytesIO(png_bytes(fig))).convert("RGB")
    assert image.size == (200, 100)
    assert image.getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.usefixtures("_the_readers_own")
def test_a_loop_is_the_same_too():
    frames = torch.linspace(-1, 1, 2 * 64).reshape(2, 1, 1, 8, 8)
    want = Animation(frames, "grey").moving
    FOREIGN["saving"]()
    FOREIGN["dark_background"]()
    assert Animation(frames, "grey").moving == want


@pytest.mark.usefixtures("_the_readers_own")
def test_the_readers_settings_are_back_after_an_error_and_after_threads():
    matplotlib.rcParams["lines.linewidth"] = 7
    before = dict(matplotlib.rcParams)
    fig, ax = figure()
    with pytest.raises(ValueError, match="must have same first dimension"):
        ax.plot([1, 2], [1, 2, 3])
    assert dict(matplotlib.rcParams) == before

    wait, go = threading.Event(), threading.Event()

    def other():
        with course_style():
            wait.set()
            go.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    wait.wait(10)
    with course_style():
        go.set()
        thread.join(10)
        assert matplotlib.rcParams["lines.linewidth"] == 1.8  # the other left first
    assert dict(matplotlib.rcParams) == before
    assert course_style.depth() == 0


def test_figures_of_the_course_are_matplotlibs_with_their_own_settings():
    fig, ax = figure(3, 2)
    assert isinstance(fig, CourseFigure)
    assert isinstance(ax, CourseAxes)
    assert ax.plot.__doc__ == Figure().subplots().plot.__doc__
    (line,) = ax.plot([1, 2])
    assert line.get_linewidth() == 1.8
    assert line.get_color() == COLORS[0]
    _, round_axes = figure(subplot_kw={"projection": "polar"})
    assert round_axes.name == "polar"
