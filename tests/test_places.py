"""Which words name a place, and the loss that teaches attention to follow them: tools.places."""

import copy
import math

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor
from helpers import assert_near
from transformers import CLIPTextModel, CLIPTokenizer

from diffusion_course import captions, make_generator, make_schedule, parse_caption, sample_scenes
from diffusion_course.datasets.scenes.captions import KIND_WORDS
from diffusion_course.datasets.scenes.words import COLOURS, KINDS
from diffusion_course.files.pretrained import data_dir
from diffusion_course.training import TrainConfig
from tools.places import (
    AXES,
    MARK,
    MarkRun,
    Mentions,
    PlacedAttention,
    PlacedDenoiser,
    PlacedTrainer,
    PlaceWords,
    place_loss,
    sides,
)
from tools.scene_runs import TextDenoiser, token_ids

FOLDER = data_dir() / "mini-stable-diffusion"


@pytest.fixture(scope="module")
def tokenizer():
    return CLIPTokenizer.from_pretrained(FOLDER / "tokenizer")


def test_phrases_are_those_of_the_caption_read_as_text(tokenizer):
    texts = captions(sample_scenes(600, generator=make_generator(3)), generator=make_generator(4))
    found = PlaceWords(tokenizer)(token_ids(tokenizer, texts))
    seen = set()
    for text, axis, phrases, later in zip(texts, found.axis.tolist(), found.phrases, found.later.tolist(), strict=True):
        code = parse_caption(text).tolist()
        assert axis == {1: 0, 2: 1}.get(code[0], -1), text
        if axis < 0:
            assert not phrases.any(), text
            continue
        ids, starts = token_ids(tokenizer, [text])[0], []
        for mask, (kind, colour) in zip(phrases, (code[2:4], code[6:8]), strict=True):
            words = tokenizer.decode(ids[mask]).split()
            assert words[-1] in KIND_WORDS[KINDS[kind]] and words[-2] == COLOURS[colour] and len(words) <= 4, (text, words)
            assert "a" not in words and "an" not in words, (text, words)
            starts.append(mask.int().argmax().item())
        assert (starts[1] > starts[0]) == bool(later), text
        seen.add((axis, later))
    assert len(seen) == 4  # left, right, above and below were all said last


def test_the_empty_prompt_and_one_thing_name_no_place(tokenizer):
    found = PlaceWords(tokenizer)(token_ids(tokenizer, ["", "a red star at night", "a small red star inside a large blue ball"]))
    assert found.axis.tolist() == [-1, -1, -1] and not found.phrases.any()


def test_words_of_several_tokens_are_refused(tokenizer):
    class Letters:
        def __call__(self, words, **_):
            return type("Ids", (), {"input_ids": [list(range(len(w))) for w in words]})

    with pytest.raises(ValueError, match="one token.*'ball'"):
        PlaceWords(Letters())


def test_sides_halve_the_square():
    left_right, up_down = sides(torch.tensor([0, 1]), 16).view(2, 4, 4)
    assert torch.equal(left_right, torch.tensor([-1.0, -1, 1, 1]).expand(4, 4)) and torch.equal(up_down, left_right.T)


def test_place_loss_by_hand():
    scores = torch.randn(3, 2, 16, 7, generator=make_generator(0), dtype=torch.float64)
    phrases = torch.zeros(3, 2, 7, dtype=torch.bool)
    phrases[:, 0, 1:3], phrases[:, 1, 4:6] = True, True
    phrases[1] = False
    total = []
    for i, axis in ((0, 0), (2, 1)):
        for head in range(2):
            for place in range(16):
                row = scores[i, head, place].exp()
                mine, other = row[1:3].sum(), row[4:6].sum()
                if (place % 4 if axis == 0 else place // 4) >= 2:
                    mine, other = other, mine
                total.append(-math.log(mine / (mine + other)))
    found = place_loss(scores, Mentions(torch.tensor([0, -1, 1]), phrases, torch.tensor([1, 1, 0])))
    assert_near(found, torch.tensor(sum(total) / len(total), dtype=torch.float64))
    nobody = place_loss(scores[1:2], Mentions(torch.tensor([-1]), phrases[1:2], torch.tensor([1])))
    assert nobody == 0


@pytest.mark.parametrize("cross", [False, True])
def test_the_plain_attention_is_that_of_diffusers(cross):
    torch.manual_seed(0)
    layer = Attention(query_dim=12, cross_attention_dim=10 if cross else None, heads=3, dim_head=4).double()
    x, words = torch.randn(2, 16, 12).double(), torch.randn(2, 7, 10).double() if cross else None
    assert_near(PlacedAttention()(layer, x, words), AttnProcessor()(layer, x, words))


def small_unet():
    torch.manual_seed(0)
    blocks = {"down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}
    sizes = {"block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 2, "attention_head_dim": 4}
    return UNet2DConditionModel(sample_size=8, in_channels=2, out_channels=2, cross_attention_dim=192, **sizes, **blocks)


def placed(tokenizer):
    text_encoder = CLIPTextModel.from_pretrained(FOLDER / "text_encoder", attn_implementation="eager").float()
    return PlacedDenoiser(text_encoder, tokenizer, small_unet(), token_ids(tokenizer, [""])[0])


def test_the_placed_denoiser_predicts_what_the_plain_one_does(tokenizer):
    model = placed(tokenizer)
    ids = token_ids(tokenizer, ["a red star left of a blue fish", "", "a cat at night"])
    x, t = torch.randn(3, 2, 8, 8, generator=make_generator(1)), torch.tensor([5, 500, 900])
    with torch.no_grad():
        plain = TextDenoiser(small_unet(), model.text_encoder, model.null_class)
        plain.unet.set_attn_processor(AttnProcessor())
        assert_near(model(x, t, ids), plain(x, t, ids), 1e-5)
    assert model.loss_of_places > 0 and model.attention.mentions is None
    assert len(model.attention.losses) == sum(name.endswith("attn2.processor") for name in model.unet.attn_processors)


def test_a_few_steps_teach_the_attention_its_side(tokenizer):
    model = placed(tokenizer)
    codes = sample_scenes(64, generator=make_generator(2), things=2)
    ids = token_ids(tokenizer, captions(codes, generator=make_generator(3)))
    data = torch.randn(64, 2, 8, 8, generator=make_generator(4))
    config = TrainConfig(num_steps=80, batch_size=16, learning_rate=3e-3, ema_decay=0.9, warmup_steps=1, precision="float32",
                         prediction_type="v_prediction", cond_dropout=0.1)
    run = PlacedTrainer(model, data, make_schedule("linear", 1000), ids, config)
    losses = []
    for _ in range(80):
        run.step()
        losses.append(model.loss_of_places.item())
    assert sum(losses[:5]) / 5 > 0.66 > 0.58 > sum(losses[-5:]) / 5  # log 2 = 0.69 is chance


def test_marks_go_to_the_words_said_last_and_nowhere_else(tokenizer):
    text_encoder = CLIPTextModel.from_pretrained(FOLDER / "text_encoder", attn_implementation="eager").float()
    config = TrainConfig(num_steps=3, batch_size=24, ema_decay=0.9, seed=2, precision="float32")
    run = MarkRun(copy.deepcopy(text_encoder), config, torch.device("cpu"), None, tokenizer)
    assert run.marks.shape == (2 * len(AXES), 192) and 0.7 * MARK < run.marks.std() < 1.3 * MARK
    assert run.loss().item() == pytest.approx(run.marks.square().mean().item(), rel=0.3)  # what is not marked costs nothing yet
    run.marks = torch.zeros_like(run.marks)
    assert run.loss().item() < 1e-10
