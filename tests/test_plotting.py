import subprocess
import sys

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from diffusion_course.notebook import plotting, style
from diffusion_course.notebook.display import png_bytes

GRID = torch.linspace(-4, 4, 81)
NORMAL = torch.exp(-(GRID**2) / 2) / (2 * torch.pi) ** 0.5


def gaussian(points):
    return torch.exp(-points.square().sum(-1) / 2) / (2 * torch.pi)


def examples():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(5, 1, 8, 8, generator=generator)
    points = torch.randn(50, 2, generator=generator)
    x = torch.arange(10)
    return {
        "image_grid": lambda: plotting.image_grid(images, columns=3, titles=list("abcde"), title="Noise"),
        "image_strip": lambda: plotting.image_strip([images, images], row_labels=["a", "b"], title="Noise"),
        "lines": lambda: plotting.lines(
            x, {"a": x / 2, "b": (x[:4], x[:4]), "level": 3.0}, xlabel="t", ylabel="y", title="Lines"
        ),
        "loss_curve": lambda: plotting.loss_curve(torch.rand(80), reference=0.2, title="Loss"),
        "histogram": lambda: plotting.histogram_against_density(points[:, 0], GRID, NORMAL, title="Samples"),
        "scatter_2d": lambda: plotting.scatter_2d({"t = 0": points, "t = 9": 2 * points}, title="Points"),
        "vector_field": lambda: plotting.vector_field(lambda p: -p, title="Score"),
    }


@pytest.mark.parametrize("name", examples())
def test_every_figure_is_drawn_titled_and_deterministic(name):
    before = dict(matplotlib.rcParams)
    fig = examples()[name]()
    assert isinstance(fig, Figure)
    assert dict(matplotlib.rcParams) == before
    texts = [text.get_text() for text in fig.texts]
    assert any(texts), "no heading"
    if not name.startswith("image"):
        labelled = [ax for ax in fig.axes if ax.get_xlabel() and ax.get_ylabel()]
        assert labelled, "no axis labels"
    if name not in ("loss_curve",):
        assert png_bytes(fig) == png_bytes(examples()[name]())


@pytest.mark.parametrize("name", examples())
def test_every_text_lies_inside_the_picture(name):
    fig = examples()[name]()
    fig.draw_without_rendering()
    frame = fig.bbox
    for ax in fig.axes:
        if ax.axison:
            box = ax.get_tightbbox()
            assert box.x0 >= frame.x0
            assert box.x1 <= frame.x1
            assert box.y0 >= frame.y0
            assert box.y1 <= frame.y1
        for text in (*ax.texts, *fig.texts):
            box = text.get_window_extent()
            if text.get_text():
                assert box.x0 >= frame.x0
                assert box.x1 <= frame.x1
                assert box.y0 >= frame.y0
                assert box.y1 <= frame.y1


def test_pyplot_is_never_imported():
    code = (
        "import sys, torch, diffusion_course.notebook.plotting as p, diffusion_course.notebook.display as d\n"
        "d.show(p.image_grid(torch.zeros(1, 1, 4, 4)), alt='grey')\n"
        "import diffusion_course.notebook.interactive\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'ipywidgets' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[figure] grey\n"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_and_gradients(dtype):
    images = torch.rand(2, 3, 4, 4).to(dtype).requires_grad_()
    points = torch.randn(6, 2).to(dtype).requires_grad_()
    assert png_bytes(plotting.image_grid(images))
    assert png_bytes(plotting.scatter_2d(points, title="p"))
    y = torch.rand(4).to(dtype).requires_grad_()
    assert png_bytes(plotting.lines(range(4), {"y": y, "level": y[0]}, xlabel="x", ylabel="y", title="t"))


def pictures(fig):
    return [np.asarray(image.get_array()) for ax in fig.axes for image in ax.images]


def test_images_share_one_scale_and_are_clipped_for_display_only():
    images = torch.tensor([-3.0, -1.0, 0.0, 1.0]).view(4, 1, 1, 1).expand(4, 1, 2, 2)
    copy = images.clone()
    fig = plotting.image_grid(images, columns=2)
    assert [float(p.flat[0]) for p in pictures(fig)] == [0.0, 0.0, 0.5, 1.0]
    assert {image.get_clim() for ax in fig.axes for image in ax.images} == {(0, 1)}
    assert torch.equal(images, copy)


def test_colour_images_keep_their_channels():
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 4, 6)
    (picture,) = pictures(plotting.image_grid(red))
    assert picture.shape == (4, 6, 3)
    assert (picture == [1, 0, 0]).all()


@pytest.mark.parametrize(
    "images, error, message",
    [
        (torch.zeros(8, 8), ValueError, r"\(N, 1 or 3, H, W\).*shape \(8, 8\)"),
        (torch.zeros(2, 2, 8, 8), ValueError, r"shape \(2, 2, 8, 8\)"),
        (torch.zeros(0, 1, 8, 8), ValueError, r"shape \(0, 1, 8, 8\)"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), TypeError, "uint8"),
        (torch.full((1, 1, 2, 2), torch.nan), ValueError, "4 values that are not finite"),
        ([[1.0]], TypeError, "torch.Tensor"),
    ],
)
def test_bad_images(images, error, message):
    with pytest.raises(error, match=message):
        plotting.image_grid(images)


def test_bad_shapes_elsewhere():
    with pytest.raises(ValueError, match=r"titles needs 2 entries, one for each of images, got 1"):
        plotting.image_grid(torch.zeros(2, 1, 4, 4), titles=["a"])
    with pytest.raises(ValueError, match=r"rows must have one shape"):
        plotting.image_strip([torch.zeros(2, 1, 4, 4), torch.zeros(3, 1, 4, 4)])
    with pytest.raises(ValueError, match=r"ys\['loss'\] must have one for each of x, \(4,\), got \(3,\)"):
        plotting.lines(range(4), {"loss": [1.0, 2, 3]}, xlabel="x", ylabel="y", title="t")
    with pytest.raises(ValueError, match=r"\(N, 2\), got \(5, 3\)"):
        plotting.scatter_2d(torch.zeros(5, 3), title="t")
    with pytest.raises(ValueError, match=r"must return shape \(256, 2\), got shape \(256,\)"):
        plotting.vector_field(gaussian, title="t")
    with pytest.raises(ValueError, match="same panels"):
        plotting.histogram_against_density({"a": GRID}, GRID, {"b": NORMAL}, title="t")


def test_histogram_counts_samples_outside_the_grid():
    samples = torch.cat([torch.zeros(50), torch.full((50,), 100.0)])
    fig = plotting.histogram_against_density(samples, GRID, NORMAL, title="t")
    (bars,) = fig.axes[0].patches
    heights, edges, _ = bars.get_data()
    assert (heights * np.diff(edges)).sum() == pytest.approx(0.5)


def test_log_axis_leaves_gaps_instead_of_inventing_values():
    fig = plotting.lines(range(4), {"snr": [100.0, 1, 0.01, 0]}, xlabel="t", ylabel="SNR", title="t", logy=True)
    (ax,) = fig.axes
    start = ax.collections[0].get_segments()[0][0]  # where the line that leads to the label begins
    point = ax.transData.inverted().transform(ax.transAxes.transform(start))
    assert point == pytest.approx((2.0, 0.01))  # the last value that can be drawn
    assert ax.get_ylim()[0] > 1e-4


def test_end_labels_do_not_overlap():
    ys = {f"curve {i}": [0.0, 1 + i / 1000] for i in range(8)}
    fig = plotting.lines([0, 1], ys, xlabel="x", ylabel="y", title="t")
    fig.draw_without_rendering()
    boxes = [text.get_window_extent() for text in fig.axes[0].texts]
    boxes.sort(key=lambda box: box.y0)
    assert len(boxes) == 8
    assert all(low.y1 <= high.y0 + 1 for low, high in zip(boxes, boxes[1:], strict=False))
    order = [text.get_text() for text in sorted(fig.axes[0].texts, key=lambda text: text.get_position()[1])]
    assert order == list(ys), "labels must keep the order of the lines"


def test_spread_moves_only_what_must_move():
    assert style.spread([0.2, 0.8], 0.1) == pytest.approx([0.2, 0.8])
    assert style.spread([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])
    assert style.spread([0.9, 0.1, 0.92], 0.2) == pytest.approx([0.8, 0.1, 1.0])
    assert style.spread([0.0, 0.0], 0.2) == pytest.approx([0.0, 0.2])
    assert style.spread([], 0.2) == []


def contrast_to_white(rgb):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(rgb)]
    return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)


def test_text_colours_have_contrast():
    assert contrast_to_white("white") == pytest.approx(1)
    assert contrast_to_white("black") == pytest.approx(21)
    assert all(contrast_to_white(style.ink(color)) >= 4.5 for color in style.COLORS)
    assert style.ink("#0072B2") == to_rgb("#0072B2")


def test_many_panels_share_axes_and_show_tick_labels_at_the_edge():
    fig = plotting.scatter_2d({f"t = {i}": torch.randn(9, 2) for i in range(5)}, limit=4, title="Five")
    assert len(fig.axes) == 5
    assert {ax.get_xlim() for ax in fig.axes} == {(-4.0, 4.0)}
    assert [bool(ax.get_xlabel()) for ax in fig.axes] == [False, False, True, True, True]
    assert [bool(ax.get_ylabel()) for ax in fig.axes] == [True, False, False, True, False]


def test_labels_may_be_numbers_and_a_title_may_be_missing():
    fig = plotting.lines([1, 2], {1: [1, 2], np.int64(2): [2, 3]}, xlabel="x", ylabel=None, title=None)
    assert {text.get_text() for text in fig.axes[0].texts} == {"1", "2"}
    fig = plotting.scatter_2d({0: torch.zeros(2, 2), 0.5: torch.ones(2, 2)}, title=None)
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["0", "0.5"]
    with pytest.raises(TypeError, match="a label in ys must be a string or a number, got NoneType None"):
        plotting.lines([1, 2], {None: [1, 2]}, xlabel="x", ylabel="y", title="t")
    with pytest.raises(ValueError, match=r"a panel's title in points must be there once, .* got \[1, '1'\]"):
        plotting.scatter_2d({1: torch.zeros(2, 2), "1": torch.ones(2, 2)}, title="t")


def test_advice_for_pictures_works_when_followed():
    with pytest.raises(TypeError, match=r"a list of 2 tensors\. Put them together: torch\.stack\(images\)"):
        plotting.image_grid([torch.zeros(1, 8, 8)] * 2)
    plotting.image_grid(torch.stack([torch.zeros(1, 8, 8)] * 2))
    eight = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    with pytest.raises(TypeError, match=r"images / 127\.5 - 1"):
        plotting.image_grid(eight)
    plotting.image_grid(eight / 127.5 - 1)
    broken = torch.full((2, 1, 8, 8), torch.nan)
    with pytest.raises(ValueError, match=r"128 values that are not finite.*images\.nan_to_num\(0, 1, -1\)"):
        plotting.image_grid(broken)
    plotting.image_grid(broken.nan_to_num(0, 1, -1))
