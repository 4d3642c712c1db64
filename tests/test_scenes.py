import re

import pytest
import torch
from PIL import ImageColor

from diffusion_course import (
    captions,
    code_to_scene,
    is_held_out,
    load_dataset,
    parse_caption,
    render_scenes,
    sample_scenes,
    scene_to_code,
)
from diffusion_course.datasets.scenes.backgrounds import BACKGROUND_PAINTERS
from diffusion_course.datasets.scenes.render import RGB
from diffusion_course.datasets.scenes.shapes import SHAPES
from diffusion_course.datasets.scenes.words import (
    ATTRIBUTES,
    BACKGROUNDS,
    CHOICES,
    COLOURS,
    CONTAINERS,
    HELD_OUT,
    KINDS,
    LAYOUTS,
    PATTERNS,
    SIZES,
    Scene,
    Thing,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def one(kind="ball", colour="red", pattern="plain", size="large", background="paper"):
    return scene_to_code(Scene("one", background, (Thing(kind, colour, pattern, size),)))[None]


def test_the_world_is_as_large_as_it_says():
    assert len(KINDS) == 14
    assert len(COLOURS) == 10
    assert len(PATTERNS) == 3
    assert len(SIZES) == 2
    assert len(BACKGROUNDS) == 8
    assert set(SHAPES) == set(KINDS)
    assert set(BACKGROUND_PAINTERS) == set(BACKGROUNDS)
    assert set(RGB) == set(COLOURS)
    assert len(ATTRIBUTES) == len(CHOICES) == 10


def test_a_tenth_of_the_pairs_is_held_out_one_of_every_kind():
    assert len(HELD_OUT) == 14 == len(KINDS) * len(COLOURS) // 10
    assert sorted(kind for kind, _ in HELD_OUT) == list(range(14))
    assert {colour for _, colour in HELD_OUT} == set(range(10))


@pytest.mark.parametrize("things", [None, 1, 2])
def test_splits_are_what_they_say(things):
    for split, share in (("train", 0.0), ("held_out", 1.0)):
        codes = sample_scenes(3000, generator=seeded(), split=split, things=things)
        pairs = [(k, c) for row in codes.tolist() for k, c in ((row[2], row[3]), (row[6], row[7]))]
        held = torch.tensor([pair in HELD_OUT for pair in pairs]).view(-1, 2).any(1)
        assert torch.equal(held, is_held_out(codes))
        assert held.float().mean() == share
    codes = sample_scenes(3000, generator=seeded(), things=things)
    assert 0.05 < is_held_out(codes).float().mean() < 0.3
    assert (codes[:, 0] == 0).float().mean() == pytest.approx({None: 0.25, 1: 1.0, 2: 0.0}[things], abs=0.03)


def test_every_choice_occurs_and_pairs_are_told_apart():
    codes = sample_scenes(20_000, generator=seeded())
    for column, choices in enumerate(CHOICES):
        seen = codes[:, column].unique().tolist()
        assert [v for v in seen if v >= 0] == list(range(len(choices)))
    two = codes[codes[:, 0] > 0]
    assert (two[:, 3] != two[:, 7]).all()
    assert (codes[codes[:, 0] == 0, 6:] == -1).all()
    nested = codes[codes[:, 0] == LAYOUTS.index("nested")]
    assert {KINDS[k] for k in nested[:, 2].tolist()} == set(CONTAINERS)
    assert (nested[:, 5] == 1).all()
    assert (nested[:, 9] == 0).all()
    assert (nested[:, 4] == 0).all()


def test_a_seed_gives_the_same_scenes_captions_and_pictures():
    first, second = (
        (codes := sample_scenes(20, generator=g), captions(codes, generator=g), render_scenes(codes, generator=g))
        for g in (seeded(3), seeded(3))
    )
    assert torch.equal(first[0], second[0])
    assert first[1] == second[1]
    assert torch.equal(first[2], second[2])
    torch.manual_seed(0)
    before = torch.get_rng_state()
    captions(sample_scenes(4, generator=seeded()), generator=seeded())
    assert torch.equal(before, torch.get_rng_state())


def test_codes_and_words_go_back_and_forth():
    for code in sample_scenes(200, generator=seeded()):
        assert torch.equal(scene_to_code(code_to_scene(code)), code)


def test_captions_are_read_back():
    g = seeded(1)
    codes = sample_scenes(4000, generator=g)
    for complete in (False, True):
        said = torch.stack([parse_caption(text) for text in captions(codes, generator=g, complete=complete)])
        assert ((said == codes) | (said == -1)).all()
        silent = (said != codes).float().mean(0)
        unsaid = {"background", "first size", "second size"} if not complete else set()
        assert {ATTRIBUTES[i] for i in silent.nonzero()[:, 0].tolist()} == unsaid
    assert (silent == 0).all()


def test_captions_have_several_wordings():
    code = one("ball", "red", "dotted", "small", "night").repeat(300, 1)
    assert len(set(captions(code, generator=seeded()))) >= 20
    two = scene_to_code(
        Scene("side by side", "sea", (Thing("boat", "white", "plain", "small"), Thing("heart", "pink", "plain", "large")))
    )
    texts = set(captions(two[None].repeat(300, 1), generator=seeded(), complete=True))
    assert any(re.search("boat.*left of.*heart", text) for text in texts) and any(
        re.search("heart.*right of.*boat", text) for text in texts
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a red star", [0, -1, 3, 0, 0, -1, -1, -1, -1, -1]),
        ("  At NIGHT, a Big Striped blue Fish ", [0, 1, 6, 4, 1, 1, -1, -1, -1, -1]),
        ("a small green cat to the right of a pink house on the sea", [1, 3, 7, 6, 0, -1, 13, 3, 0, 0]),
        ("a yellow moon inside a large black ball", [3, -1, 0, 8, 0, 1, 5, 2, 0, -1]),
    ],
)
def test_what_a_text_asks_for(text, code):
    assert parse_caption(text).tolist() == code


@pytest.mark.parametrize("text", ["", "a picture", "a red star and a blue fish", "a star above", "above a star", "звезда"])
def test_a_text_without_a_scene_is_refused(text):
    with pytest.raises(ValueError, match="text must describe a scene, got " + re.escape(repr(text))):
        parse_caption(text)
    with pytest.raises(TypeError, match="text must be a string, got int 3"):
        parse_caption(3)


@pytest.mark.parametrize("size", [16, 32, 64, 100, 256])
def test_pictures_of_any_size(size):
    images = render_scenes(sample_scenes(3, generator=seeded()), size=size, generator=seeded())
    assert images.shape == (3, 3, size, size)
    assert images.dtype == torch.float32
    assert images.min() >= -1
    assert images.max() <= 1
    assert images.flatten(1).std(1).min() > 0.05


def test_sizes_show_the_same_scene():
    codes = sample_scenes(40, generator=seeded())
    large, small = (render_scenes(codes, size=size, generator=seeded(1)) for size in (128, 64))
    assert (torch.nn.functional.avg_pool2d(large, 2) - small).abs().mean() < 0.02


def test_chunks_do_not_show(monkeypatch):
    from diffusion_course.datasets.scenes import render

    codes = sample_scenes(20, generator=seeded())
    whole = render_scenes(codes, generator=seeded(1))
    monkeypatch.setattr(render, "CHUNK", 3)
    assert torch.equal(render_scenes(codes, generator=seeded(1)), whole)


def test_dtype_and_lists():
    codes = sample_scenes(4, generator=seeded())
    images = render_scenes(codes, generator=seeded(1))
    assert torch.equal(render_scenes(codes.tolist(), generator=seeded(1)), images)
    assert torch.equal(render_scenes(codes, generator=seeded(1), dtype=torch.float64), images.double())
    assert render_scenes(codes, generator=seeded(1), dtype=torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize("colour", COLOURS)
def test_a_thing_has_its_colour(colour):
    images = render_scenes(one("square", colour).repeat(8, 1), generator=seeded())
    middle = (images[:, :, 30:34, 30:34].mean((0, 2, 3)) + 1) / 2
    assert torch.allclose(middle, torch.tensor(RGB[colour]), atol=0.06)
    assert min(COLOURS, key=lambda name: (torch.tensor(RGB[name]) - middle).norm().item()) == colour
    named = torch.tensor(ImageColor.getrgb(colour)) / 255
    assert (named - middle).norm() < 0.75


def test_places_follow_the_layout():
    """The red thing's centre of mass lies left, above or inside, as the layout says."""
    for layout, axis in (("side by side", 1), ("stacked", 0)):
        scene = Scene(layout, "paper", (Thing("square", "red", "plain", "small"), Thing("square", "blue", "plain", "small")))
        images = render_scenes(scene_to_code(scene)[None].repeat(16, 1), generator=seeded())
        is_red, is_blue = (images[:, a] - images[:, b] > 0.8 for a, b in ((0, 2), (2, 0)))
        place = torch.stack(torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij"))[axis]
        first, second = ((mask * place).sum((1, 2)) / mask.sum((1, 2)) for mask in (is_red, is_blue))
        assert (first + 15 < second).all()
    scene = Scene("nested", "paper", (Thing("ball", "red", "plain", "large"), Thing("square", "blue", "plain", "small")))
    images = render_scenes(scene_to_code(scene)[None], generator=seeded())
    assert images[0, 2, 32, 32] > images[0, 0, 32, 32]
    assert images[0, 0, 50, 32] > images[0, 2, 50, 32]


def test_large_covers_more_than_small_and_patterns_show_a_second_tone():
    area = {}
    for size in SIZES:
        images = render_scenes(one("heart", "blue", size=size).repeat(16, 1), generator=seeded())
        area[size] = (images[:, 2] - images[:, 0] > 0.6).float().mean((1, 2))
    assert area["small"].max() < 0.6 * area["large"].min()
    for pattern, low, high in (("striped", 0.3, 0.7), ("dotted", 0.12, 0.45)):
        plain, with_pattern = (
            render_scenes(one("square", "blue", p).repeat(16, 1), generator=seeded())[:, 0, 26:38, 26:38]
            for p in ("plain", pattern)
        )
        share = (with_pattern - plain > 0.5).float().mean()
        assert low < share < high


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros(2, 9, dtype=torch.int64), r"codes must hold rows of ten integers, \(N, 10\), got shape \(2, 9\)"),
        (torch.zeros(0, 10, dtype=torch.int64), "rows of ten integers"),
        ([[0, 0, 14, 0, 0, 0, -1, -1, -1, -1]], r"first kind must be one of 0..13, got 14"),
        ([[0, 0, 1, 0, 0, 0, 2, 0, 0, 0]], "second kind must be one of -1..13|layout 'one' has no second thing"),
        ([[1, 0, 1, 0, 0, 0, -1, 0, 0, 0]], r"second kind must be one of 0..13, got -1"),
        ([[0.5, 0, 1, 0, 0, 0, -1, -1, -1, -1]], r"codes\[0\]\[0\] must be an int, got float 0\.5"),
        ("a red star", r"codes must be a torch\.Tensor or a list, got str 'a red star'"),
    ],
)
def test_codes_without_a_meaning_are_refused(codes, message):
    for function in (render_scenes, captions):
        with pytest.raises((TypeError, ValueError), match=message):
            function(codes)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="size must be at least 16 pixels, got 8"):
        render_scenes(one(), size=8)
    with pytest.raises(ValueError, match="split must be one of 'train', 'held_out', 'all', got 'test'"):
        sample_scenes(3, split="test")
    with pytest.raises(ValueError, match="things must be 1, 2 or None, got int 3"):
        sample_scenes(3, things=3)
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        sample_scenes(0)
    with pytest.raises(ValueError, match="colour must be one of 'red'.* got 'mauve'"):
        one(colour="mauve")
    with pytest.raises(ValueError, match=r"layout 'stacked' holds 2 thing\(s\), got 1"):
        scene_to_code(Scene("stacked", "paper", (Thing("ball", "red", "plain", "small"),)))


def test_scenes_as_a_data_set():
    data, test = load_dataset("scenes", split="train"), load_dataset("scenes", split="test", size=32)
    assert data.images.shape == (2048, 3, 64, 64)
    assert test.images.shape == (2048, 3, 32, 32)
    assert data.labels.dtype == torch.int64
    assert set(data.labels.tolist()) == set(range(14))
