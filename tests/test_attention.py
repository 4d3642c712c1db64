"""Attention by hand against diffusers and transformers; attention maps that record and change nothing."""

import gc
import weakref
from types import SimpleNamespace

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from helpers import DTYPES, assert_near, gap, normal
from tiny_stable_diffusion import make_tiny

from diffusion_course.latent.attention import (
    AttentionMaps,
    AttentionWeights,
    attend,
    attention_probabilities,
    split_heads,
    word_positions,
)

RED_STAR, TWO = "a large red star on a meadow", "a red star above a red fish"


def diffusers_layer(query_dim=24, context_dim=16, heads=3, dim_head=8, dtype=torch.float64, **options):
    torch.manual_seed(0)
    layer = Attention(query_dim, cross_attention_dim=context_dim, heads=heads, dim_head=dim_head, **options)
    return layer.to(dtype).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def pipe(folder):
    pipe = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture(pipe, prompts, **options):
    options = {"num_inference_steps": 3, "guidance_scale": 4.0} | options
    return pipe(prompts, output_type="pt", generator=torch.Generator().manual_seed(0), **options).images


def by_loops(x, context, weights):
    """The definition with one loop for each head, pixel and token, and plain numbers inside."""
    (wq, bq), (wk, bk), (wv, bv), (wo, bo) = (
        (w, 0 if b is None else b) for w, b in (weights.query, weights.key, weights.value, weights.output)
    )
    out = torch.zeros(*x.shape[:2], wo.shape[0], dtype=x.dtype)
    d = wq.shape[0] // weights.heads
    for b in range(len(x)):
        for n in range(x.shape[1]):
            read = []
            for h in range(weights.heads):
                rows = slice(h * d, (h + 1) * d)
                q = (wq @ x[b, n] + bq)[rows]
                scores = [(q @ (wk @ token + bk)[rows]).item() / d**0.5 for token in context[b]]
                shares = torch.tensor(scores, dtype=x.dtype).exp()
                shares = shares / shares.sum()
                read.append(sum(share * (wv @ token + bv)[rows] for share, token in zip(shares, context[b], strict=True)))
            out[b, n] = wo @ torch.cat(read) + bo
    return out


@pytest.mark.parametrize("options", [{}, {"heads": 1}, {"heads": 6, "dim_head": 5}, {"bias": True}, {"out_bias": False}], ids=str)
def test_attend_is_the_definition_and_the_module_of_diffusers(options):
    layer = diffusers_layer(**options)
    x, context = normal(2, 6, 24, seed=1), normal(2, 5, 16, seed=2)
    ours = attend(x, context, AttentionWeights.of(layer)).output
    assert_near(ours, by_loops(x, context, AttentionWeights.of(layer)))
    for processor in (AttnProcessor(), AttnProcessor2_0()):
        layer.set_processor(processor)
        assert_near(ours, layer(x, encoder_hidden_states=context))


@pytest.mark.parametrize("dtype", DTYPES)
def test_attend_in_any_dtype(dtype):
    layer = diffusers_layer(dtype=dtype)
    x, context = normal(2, 6, 24, seed=1, dtype=dtype), normal(2, 5, 16, seed=2, dtype=dtype)
    output, probabilities = attend(x, context, AttentionWeights.of(layer))
    assert output.dtype == probabilities.dtype == dtype
    assert_near(
        output, layer(x, encoder_hidden_states=context), {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 0.02}[dtype]
    )


def test_self_attention_of_diffusers():
    layer = diffusers_layer(context_dim=None)
    x = normal(2, 6, 24)
    assert_near(attend(x, None, AttentionWeights.of(layer)).output, layer(x))


def test_the_causal_attention_of_clip(pipe):
    encoder = pipe.text_encoder.double()
    ids = pipe.tokenizer([RED_STAR, TWO], padding="max_length", return_tensors="pt").input_ids
    mask = torch.full((16, 16), -torch.inf, dtype=torch.float64).triu(1)
    seen = []
    for block in encoder.encoder.layers:
        block.self_attn.register_forward_hook(
            lambda layer, args, kwargs, out: seen.append((layer, kwargs["hidden_states"], out[0])), with_kwargs=True
        )
    with torch.no_grad():
        encoder(ids)
    assert len(seen) == 2
    for layer, x, theirs in seen:
        output, probabilities = attend(x, None, AttentionWeights.of(layer), mask=mask)
        assert_near(output, theirs)
        assert gap(probabilities.triu(1), torch.zeros_like(probabilities)) == 0
        assert gap(attend(x, None, AttentionWeights.of(layer)).output, output) > 1e-3  # the mask matters


def test_probabilities_sum_to_one_and_scores_may_be_huge():
    queries, keys = normal(2, 3, 5, 4), normal(2, 3, 7, 4, seed=1)
    for factor in (0.0, 1.0, 1e6):
        assert_near(attention_probabilities(factor * queries, keys).sum(-1), torch.ones(2, 3, 5).double())
    half = attention_probabilities(300 * queries.half(), 300 * keys.half())  # scores near 1e5 leave the range of float16
    assert half.dtype == torch.float16
    assert not torch.isfinite(half).all()
    assert torch.isfinite(attention_probabilities(100 * queries.half(), 100 * keys.half())).all()


def test_heads_are_neighbouring_channels():
    x = torch.arange(12.0).reshape(1, 2, 6)
    assert split_heads(x, 3)[0, 1].tolist() == [[2, 3], [8, 9]]  # head 1 at both places


def test_wrong_attention_input_is_named():
    weights = AttentionWeights.of(diffusers_layer())
    x, context = normal(2, 6, 24), normal(2, 5, 16)
    with pytest.raises(ValueError, match=r"context must have 16 channels for these weights, got shape \(2, 5, 24\)"):
        attend(x, normal(2, 5, 24), weights)
    with pytest.raises(ValueError, match=r"x must have 24 channels .* got shape \(2, 6, 4\)"):
        attend(normal(2, 6, 4), context, weights)
    with pytest.raises(ValueError, match=r"with one B, got shape \(2, 6, 24\).* and shape \(1, 5, 16\)"):
        attend(x, context[:1], weights)
    with pytest.raises(ValueError, match=r"multiple of the 5 heads, got shape \(2, 6, 24\)"):
        split_heads(x, 5)
    with pytest.raises(ValueError, match=r"must agree in B, heads and d, got shape \(2, 3, 5, 4\).* and shape \(2, 3, 5, 3\)"):
        attention_probabilities(normal(2, 3, 5, 4), normal(2, 3, 5, 3))
    with pytest.raises(TypeError, match="must be an attention layer of diffusers or of CLIP, got Linear"):
        AttentionWeights.of(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="more than attention: group_norm, residual_connection"):
        AttentionWeights.of(diffusers_layer(norm_num_groups=4, residual_connection=True))
    with pytest.raises(ValueError, match="it rescales its output"):
        AttentionWeights.of(diffusers_layer(rescale_output_factor=2.0))
    with pytest.raises(ValueError, match="more than attention: no scale"):
        AttentionWeights.of(diffusers_layer(scale_qk=False))


def test_word_positions(pipe):
    tokenizer = pipe.tokenizer
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(TWO)["input_ids"])
    for word, times in (("red", 2), ("STAR", 1), ("red fish", 1), ("a", 2), ("above", 1)):
        found = word_positions(tokenizer, TWO, word)
        assert len(found) == times
        for places in found:
            assert "".join(tokens[i] for i in places).replace("</w>", " ").strip() == word.lower()
    assert word_positions(tokenizer, "start art", "art") == [
        [i for i, t in enumerate(tokenizer.tokenize("start art"), 1)][-len(tokenizer.tokenize("art")) :]
    ]
    for word in ("moon", "tar", "", "  "):
        with pytest.raises(
            ValueError, match=f"word must be one of the prompt as the model reads it.*'a red star above a red fish', got '{word}'"
        ):
            word_positions(tokenizer, TWO, word)
    with pytest.raises(ValueError, match="word must be one of the prompt.*got 'end'"):  # cut off: the model has 16 tokens
        word_positions(tokenizer, "a red star above a red fish on the sea at night end", "end")


@pytest.mark.parametrize("options", [{}, {"guidance_scale": 1.0}, {"num_inference_steps": 1}], ids=str)
def test_the_picture_is_the_same_and_the_processors_come_back(pipe, options):
    before = dict(pipe.unet.attn_processors)
    plain = picture(pipe, [RED_STAR, TWO], **options)
    with AttentionMaps(pipe, [RED_STAR, TWO], keep=("step", "head")) as maps:
        assert pipe.unet.attn_processors != before
        recorded = picture(pipe, [RED_STAR, TWO], **options)
    assert torch.equal(plain, recorded)
    assert pipe.unet.attn_processors == before
    assert maps.steps == options.get("num_inference_steps", 3)
    again = maps.mass()
    picture(pipe, [RED_STAR, TWO], **options)
    assert torch.equal(maps.mass(), again), "it records after its end"


def test_the_processors_come_back_after_an_error(pipe):
    before = dict(pipe.unet.attn_processors)
    with pytest.raises(ValueError, match="called on 4 rows, but there are 1 prompts: expected 1, or twice that with guidance"):
        with AttentionMaps(pipe, [TWO]):
            picture(pipe, [RED_STAR, TWO])
    assert pipe.unet.attn_processors == before
    assert not pipe.unet._forward_pre_hooks


def test_the_shares_are_those_of_the_formula_on_what_the_layer_saw(pipe):
    """Independent route: hooks catch what goes into each layer; the shares come from the definition."""
    seen = []
    names = [name for name, m in pipe.unet.named_modules() if getattr(m, "is_cross_attention", False)]
    hooks = [pipe.unet.get_submodule(n).register_forward_pre_hook(lambda m, a, k, n=n: seen.append((n, a[0], k["encoder_hidden_states"])), with_kwargs=True)
             for n in names]
    with AttentionMaps(pipe, [RED_STAR, TWO]) as maps, AttentionMaps(pipe, [RED_STAR, TWO], half="unconditional") as empty:
        picture(pipe, [RED_STAR, TWO])
    for hook in hooks:
        hook.remove()
    assert len(seen) == 3 * len(names)
    assert set(maps.layers) == set(names)
    for half, rows in ((maps, slice(2, 4)), (empty, slice(0, 2))):
        for name in names:
            weights = AttentionWeights.of(pipe.unet.get_submodule(name))
            with torch.no_grad():
                runs = [attend(x[rows], c[rows], weights).probabilities.mean(1) for n, x, c in seen if n == name]
            for index in range(2):
                expected = torch.stack(runs).mean(0)[index]
                assert_near(half.mass(picture=index, layers=name), expected.mean(0), 1e-6)
                place = half.of(3, picture=index, layers=name, size=half.layers[name])
                assert_near(place, expected[:, 3].reshape(half.layers[name]), 1e-6)
    assert gap(maps.mass(), empty.mass()) > 1e-4


def test_shares_of_all_positions_add_up_to_one(pipe):
    with AttentionMaps(pipe, [TWO]) as maps:
        picture(pipe, [TWO])
    every = torch.stack([maps.of(i) for i in range(len(maps.tokens()))])
    assert every.shape == (16, 32, 32)
    assert every.dtype == torch.float32
    assert_near(every.sum(0), torch.ones(32, 32), 1e-5)
    assert_near(every.mean((1, 2)), maps.mass(), 1e-2)  # enlarging weighs the border differently
    assert_near(maps.mass().sum(), torch.tensor(1.0), 1e-5)
    red = [i for places in word_positions(pipe.tokenizer, TWO, "red") for i in places]
    assert_near(maps.of("red"), every[red].sum(0), 1e-6)
    assert_near(maps.of("red", occurrence=0) + maps.of("red", occurrence=1), maps.of("red"), 1e-6)
    assert maps.of("star", size=(5, 9)).shape == (5, 9)


def test_kept_steps_and_heads_average_to_the_running_sum(pipe):
    with AttentionMaps(pipe, [TWO]) as plain, AttentionMaps(pipe, [TWO], keep=("step", "head")) as kept:
        picture(pipe, [TWO])
    assert_near(kept.of("star"), plain.of("star"), 1e-6)
    assert_near(torch.stack([kept.of("star", step=i) for i in range(3)]).mean(0), plain.of("star"), 1e-6)
    assert_near(torch.stack([kept.of("star", head=i) for i in range(8)]).mean(0), plain.of("star"), 1e-6)
    assert gap(kept.of("star", step=0), kept.of("star", step=-1)) > 1e-5
    layers = [plain.of("star", layers=name) for name in plain.layers]
    assert len(layers) > 1
    assert_near(torch.stack(layers).mean(0), plain.of("star"), 1e-6)


def test_memory_does_not_grow_with_the_steps(pipe):
    def held(maps):
        return sum(total.numel() for total, _ in maps._sums.values())

    sizes = {}
    for steps in (1, 4):
        with AttentionMaps(pipe, [TWO]) as maps:
            picture(pipe, [TWO], num_inference_steps=steps)
        sizes[steps] = held(maps)
    assert sizes[1] == sizes[4] == sum(h * w * 16 for h, w in maps.layers.values())


def test_pictures_that_are_not_square(pipe):
    with AttentionMaps(pipe, [TWO]) as maps:
        picture(pipe, [TWO], height=24, width=40)
    assert maps.of("star").shape == maps.picture_size == (24, 40)
    assert set(maps.layers.values()) == {(3, 5)}


def test_a_custom_processor_and_an_attention_mask_are_kept(pipe):
    pipe.unet.set_attn_processor(AttnProcessor())
    text = normal(2, 16, 24, dtype=torch.float32)
    mask = torch.ones(2, 16)
    mask[:, 9:] = 0
    args = (normal(2, 4, 8, 8, dtype=torch.float32), 7, text)
    with torch.no_grad():
        plain = pipe.unet(*args, encoder_attention_mask=mask).sample
        with AttentionMaps(pipe, [TWO, TWO]) as maps:
            recorded = pipe.unet(*args, encoder_attention_mask=mask).sample
    assert torch.equal(plain, recorded)
    assert maps.mass()[9:].abs().max() == 0
    assert maps.mass()[:9].min() > 0
    assert all(type(p) is AttnProcessor for p in pipe.unet.attn_processors.values())


def test_calls_on_the_condition_alone(pipe):
    args = (normal(1, 4, 8, 8, dtype=torch.float32), 7, normal(1, 16, 24, dtype=torch.float32))
    with AttentionMaps(pipe, [TWO], half="unconditional") as maps, torch.no_grad():
        pipe.unet(*args)
    with pytest.raises(ValueError, match="nothing was recorded"):
        maps.of("star")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_maps_in_any_dtype(pipe, dtype):
    pipe.unet.to(dtype)
    args = (normal(2, 4, 8, 8, dtype=dtype), 7, normal(2, 16, 24, dtype=dtype))
    with torch.no_grad(), AttentionMaps(pipe, [TWO]) as maps:
        pipe.unet(*args)
    assert maps.of("star").dtype == torch.float32
    assert_near(maps.mass().sum(), torch.tensor(1.0), 1e-2 if dtype == torch.bfloat16 else 1e-6)


def test_training_under_the_recorder_keeps_its_gradients(pipe):
    args = (normal(1, 4, 8, 8, dtype=torch.float32), 7, normal(1, 16, 24, dtype=torch.float32))
    with AttentionMaps(pipe, [TWO]) as maps:
        pipe.unet(*args).sample.sum().backward()
    assert all(p.grad is not None for n, p in pipe.unet.named_parameters() if "attn2" in n)
    assert not maps.of("star").requires_grad


def test_wrong_use_is_named(pipe):
    with pytest.raises(TypeError, match="prompts must be a list with one prompt for each picture, got str 'a star'"):
        AttentionMaps(pipe, "a star")
    with pytest.raises(TypeError, match=r"got list \[\]"):
        AttentionMaps(pipe, [])
    with pytest.raises(ValueError, match="half must be one of 'conditional', 'unconditional', got 'both'"):
        AttentionMaps(pipe, [TWO], half="both")
    with pytest.raises(ValueError, match="keep must be one of 'step', 'head', got 'layer'"):
        AttentionMaps(pipe, [TWO], keep=("layer",))
    with pytest.raises(ValueError, match="Linear has no cross-attention to record"):
        AttentionMaps(SimpleNamespace(unet=torch.nn.Linear(1, 1)), [TWO]).__enter__()
    with AttentionMaps(pipe, [TWO], keep=("step",)) as maps:
        with pytest.raises(RuntimeError, match="recording already"):
            maps.__enter__()
        with pytest.raises(ValueError, match="nothing was recorded in layers ''; recorded are none"):
            maps.of("star")
        picture(pipe, [TWO])
    with pytest.raises(ValueError, match="word must be one of the prompt.*got 'moon'"):
        maps.of("moon")
    with pytest.raises(ValueError, match=r"head=0 was not kept apart. Record with keep=\('head',\)"):
        maps.of("star", head=0)
    with pytest.raises(IndexError, match="step=3 is outside the 3 steps"):
        maps.of("star", step=3)
    with pytest.raises(ValueError, match="nothing was recorded in layers 'attn9'; recorded are down_blocks"):
        maps.of("star", layers="attn9")


def test_the_pipeline_is_not_kept_alive_by_its_hooks(pipe):
    maps = AttentionMaps(pipe, [TWO])
    with maps:
        picture(pipe, [TWO])
    watch = weakref.ref(maps)
    del maps
    gc.collect()
    assert watch() is None


@pytest.mark.gpu
def test_half_precision_on_a_gpu(pipe):
    prompts = [RED_STAR, TWO]
    with AttentionMaps(pipe, prompts) as on_cpu:
        picture(pipe, prompts)
    pipe.to("cuda", torch.float16)
    with AttentionMaps(pipe, prompts) as on_gpu:
        picture(pipe, prompts)
    assert on_gpu.of("star").device.type == "cuda"
    assert_near(on_gpu.of("star").cpu(), on_cpu.of("star"), 0.02)
