import pytest
import torch

from diffusion_course import (
    Judge,
    faithful,
    load_pretrained,
    read_scenes,
    render_scenes,
    sample_scenes,
)
from diffusion_course.datasets.scenes.words import ATTRIBUTES
from diffusion_course.measures.judge import JUDGE_SIZES, judge_loss


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def judge():
    return load_pretrained("judge")


def test_the_shipped_judge_reads_fresh_scenes(judge):
    codes = sample_scenes(2_000, generator=seeded(2**40 + 1))
    right = faithful(read_scenes(judge, render_scenes(codes, generator=seeded(7))), codes).float().mean(0)
    for name, share in zip(ATTRIBUTES, right.tolist(), strict=True):
        assert share >= 0.995, f"{name}: {share:.4f} right"


def test_it_does_not_read_what_is_not_there(judge):
    """Another scene's picture is not faithful, and a changed attribute is seen."""
    codes = sample_scenes(300, generator=seeded(1), things=1)
    images = render_scenes(codes, generator=seeded(2))
    assert not faithful(read_scenes(judge, images.flip(0)), codes).all(1).any()
    other = codes.clone()
    other[:, 3] = (other[:, 3] + 1) % 10
    right = faithful(read_scenes(judge, render_scenes(other, generator=seeded(2))), codes)
    assert right[:, 3].float().mean() < 0.02
    assert right[:, [0, 1, 2, 4, 5]].float().mean() > 0.99


def test_what_was_not_asked_for_is_right():
    read = torch.tensor([[1, 2, 3, 4, 0, 1, 5, 6, 2, 0]])
    asked = torch.tensor([[1, -1, 3, 9, 0, -1, 5, 6, 2, 1]])
    assert faithful(read, asked).tolist() == [[True, True, True, False, True, True, True, True, True, False]]
    with pytest.raises(ValueError, match=r"read and asked must both hold codes \(N, 10\), got .*shape \(2, 10\)"):
        faithful(read, asked.repeat(2, 1))


def test_reading_in_parts_is_reading_at_once(judge):
    images = render_scenes(sample_scenes(11, generator=seeded()), generator=seeded())
    assert torch.equal(read_scenes(judge, images), read_scenes(judge, images, batch_size=3))
    assert torch.equal(read_scenes(judge, images.double()), read_scenes(judge, images))


def test_a_second_thing_that_is_not_there_has_nothing_to_answer_for():
    judge = Judge(JUDGE_SIZES).eval()
    codes = sample_scenes(6, generator=seeded(), things=1)
    logits = torch.randn(6, sum(JUDGE_SIZES), generator=seeded(), dtype=torch.float64)
    first = sum(JUDGE_SIZES[:6])
    changed = torch.cat([logits[:, :first], logits[:, first:] + 5 * torch.rand(6, sum(JUDGE_SIZES) - first)], 1)
    assert judge_loss(judge, logits, codes) == judge_loss(judge, changed, codes)
    expected = sum(
        torch.nn.functional.cross_entropy(part.float(), codes[:, k])
        for k, part in enumerate(logits[:, :first].split(JUDGE_SIZES[:6], 1))
    )
    torch.testing.assert_close(judge_loss(judge, logits, codes), expected)


def test_other_pictures_are_refused():
    judge = Judge(JUDGE_SIZES).eval()
    with pytest.raises(ValueError, match=r"the judge takes pictures \(B, 3, 64, 64\) in \[-1, 1\], got shape \(2, 3, 32, 32\)"):
        read_scenes(judge, torch.zeros(2, 3, 32, 32))
    with pytest.raises(TypeError, match="images must have a floating dtype"):
        read_scenes(judge, torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
