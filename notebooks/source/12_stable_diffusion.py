# %% [markdown]
# # 12 · Stable Diffusion for real
#
# After this lesson you can:
#
# - say before a download whether a model fits on your card, and at which moment it would not,
# - choose the switch that helps that moment, and know what it costs,
# - reckon how long a picture takes, and what a few-step model saves,
# - open a file from a stranger: which model it is, and what it does not tell you,
# - add a LoRA, store weights in few bits, and say what a licence asks of you.
#
# You need: lessons 03, 06, 09 and 11.
#
# **Measured cost:** 1.5 min on 2 cores, 1.5 GB of memory at the peak. Core: about 22 minutes of reading, 0.8 of computing. Going further: about 12 and 0.7.
#
# In formulas $t$ runs from 1 to $T$ as in the papers. In code `t` is the index $0..T-1$, one less.

# %%
from dataclasses import replace

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing import assert_close
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
)

from diffusion_course import (
    STABLE_DIFFUSION_15,
    Explorer,
    MemoryEstimate,
    captions,
    count_flops,
    faithful,
    load_pretrained,
    load_stable_diffusion,
    make_generator,
    make_scheduler,
    measure_peak,
    parse_caption,
    plotting,
    predict_memory,
    read_scenes,
    sample_scenes,
    seed_everything,
    show,
)
from diffusion_course.latent.memory import LiveBytes
from diffusion_course.notebook import Drawing, figure

generator = seed_everything(0)

# %% [markdown]
# ## Will it fit?
#
# You have a graphics card with 8 GB of memory and want to try SDXL, the larger sister of Stable Diffusion 1.5.
# A whole SDXL in one file, [SDXL-Lightning](https://huggingface.co/ByteDance/SDXL-Lightning/tree/main) for example, has 6.94 GB (of $10^9$ bytes). That is less than 8, so it should fit.
#
# We can look without a download. We build each network from its configuration out of *fake* tensors, which have a shape and no data, run it once, and count the bytes that would be alive.

# %%
SDXL_UNET = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", *["CrossAttnDownBlock2D"] * 2),
    "up_block_types": (*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "use_linear_projection": True,
}

# %%
SDXL_VAE = {**STABLE_DIFFUSION_15["vae"], "sample_size": 1024}
TEXT_1 = CLIPTextConfig(**STABLE_DIFFUSION_15["text_encoder"])
TEXT_2 = CLIPTextConfig(
    hidden_size=1280, intermediate_size=5120, num_hidden_layers=32,
    num_attention_heads=20, projection_dim=1280,
)


def rehearse(make, run, dtype=torch.float16):
    torch.set_default_dtype(dtype)
    with FakeTensorMode(), torch.no_grad():
        network = make().eval()
        weights = sum(p.nbytes for p in network.parameters())
        with LiveBytes() as live:
            run(network)
    torch.set_default_dtype(torch.float32)
    return weights, live.peak  # bytes of the weights, and at most on top of them

# %%
def read_text(encoder):
    encoder(torch.zeros(1, 77, dtype=torch.long))


def one_step(unet):  # guidance: a batch of two
    more = {"text_embeds": torch.empty(2, 1280), "time_ids": torch.empty(2, 6)}
    x, words = torch.empty(2, 4, 128, 128), torch.empty(2, 77, 2048)
    unet(x, torch.tensor(1), words, added_cond_kwargs=more)


def decode(vae):
    vae.decode(torch.empty(1, 4, 128, 128))

# %%
def sdxl_vae():
    return AutoencoderKL(**SDXL_VAE)


sdxl_parts = {
    "text encoder 1": rehearse(lambda: CLIPTextModel(TEXT_1), read_text),
    "text encoder 2": rehearse(lambda: CLIPTextModelWithProjection(TEXT_2), read_text),
    "U-Net": rehearse(lambda: UNet2DConditionModel(**SDXL_UNET), one_step),
    "decoder": rehearse(sdxl_vae, decode),
    "decoder, float32": rehearse(sdxl_vae, decode, torch.float32),
}
for name, (weights, on_top) in sdxl_parts.items():
    print(f"{name:17s} weights {weights / 1e9:.2f} GB, on top {on_top / 1e9:.2f} GB")
file = sum(weights for weights, _ in list(sdxl_parts.values())[:4])
print(f"weights of the four parts in float16: {file / 1e9:.2f} GB")

# %% [markdown]
# The weights add up to the file's size, so the [configuration](https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0) is right.
# But a file holds weights only. While a network runs, its layers' outputs need room on top, and the decoder needs most, for two reasons. It works at full size, $1024 \times 1024$.
# And it leaves the range of float16, which made its pictures [black](https://github.com/huggingface/candle/issues/1060), so diffusers turns it to float32 before it decodes.

# %%
text_1, text_2, unet, vae, upcast = sdxl_parts.values()
sdxl = MemoryEstimate(
    weights={"text_encoder": text_1[0] + text_2[0], "unet": unet[0], "vae": vae[0]},
    activations={
        "text": text_2[1], "denoise": unet[1],
        "decode": upcast[1] + upcast[0] - vae[0],  # its weights grow to float32 too
    },
)
sd15 = predict_memory(STABLE_DIFFUSION_15, dtype=torch.float16)
models = {"SD 1.5, 512 pixels": sd15, "SDXL, 1024 pixels": sdxl}

# %%
fig, ax = figure(6.6, 2.7)
bars = [(f"{name}: {p}", e, p) for name, e in models.items() for p in e.activations]
for row, (name, estimate, phase) in enumerate(bars):
    resident, peak = sum(estimate.weights.values()) / 1e9, estimate.during(phase) / 1e9
    ax.barh(row, resident, color="#BBBBBB", label="weights" if row == 0 else None)
    ax.barh(
        row, peak - resident, left=resident, color="#D55E00",
        label="on top, while it runs" if row == 0 else None,
    )
    print(f"{name:26s} {peak:5.2f} GB")
ax.axvline(8, color="black", linestyle="--")
ax.set(yticks=range(6), yticklabels=[bar[0] for bar in bars], xlabel="GB on the card")
ax.set_title("SDXL passes 8 GB (dashed) when the picture is decoded", loc="left")
ax.invert_yaxis()
ax.legend(loc="center", bbox_to_anchor=(0.52, 0.78))
show(fig, alt=(
    "Bars for text, denoise and decode of two models. Stable Diffusion 1.5 stays below "
    "3 GB. SDXL has about 7 GB of weights; its bar for decode passes the line at 8 GB "
    "and ends above 10, its other two end before the line."
))

# %% [markdown]
# "The file is smaller than the card" was the wrong question. The right ones are: *which moment needs most, and what helps that moment?*
#
# (A card's label counts in $2^{30}$ bytes: 8 GB are 8.6 of ours. But the CUDA context takes [some 300 MB](https://github.com/pytorch/pytorch/issues/107667) or more, and your desktop and the kernels take a share. So the line stands at 8.
# The course's loader wants 20 % of room on top, by habit.)

# %% [markdown]
# ## Recall
#
# 1. From lesson 03: a network predicts $v = 0.5$ at $x_t = 1$ and $\bar\alpha_t = 0.64$. Which $x_0$ does it mean?
# 2. From lesson 11: a picture takes 20 steps with guidance. How often does each of the three networks run?
#
# <details><summary>Answers</summary>
#
# 1. $x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{1-\bar\alpha_t}\,v = 0.8 - 0.6 \cdot 0.5 = 0.5$.
# 2. The text encoder twice, for the prompt and for the empty one. The U-Net 20 times, on a batch of two. The decoder once, at the end.
#
# </details>

# %% [markdown]
# ## Predict first
#
# You switch on `enable_model_cpu_offload()`: text encoders, U-Net and decoder wait in main memory, and each is on the card only while it runs. How many GB does SDXL now need at its worst moment, and which moment is that?

# %%
my_gb, my_phase = 3.6, "decode"  # "text", "denoise" or "decode"

# %%
moved = replace(sdxl, offload="model")
worst = max(moved.activations, key=moved.during)
print(f"{moved.total / 1e9:.2f} GB, at {worst}; you said {my_gb:.2f} GB, at {my_phase}")

# %% [markdown]
# While the picture is decoded, the U-Net now waits outside. The worst moment is its own, and 8 GB are enough: one switch did it.

# %% [markdown]
# ## One layer by hand
#
# To trust such numbers you should get one yourself. The first convolution of SD 1.5 takes 4 channels of latents to 320, with $3 \times 3$ kernels and a bias. With guidance it sees a batch of 2, of $64 \times 64$ for a picture of $512 \times 512$.
#
# - Weights: $4 \cdot 320 \cdot 3 \cdot 3 + 320 = 11{,}840$ numbers, in float16 $23{,}680$ bytes, for a picture of any size.
# - Output: $2 \cdot 320 \cdot 64 \cdot 64 = 2{,}621{,}440$ numbers, $5.24$ MB. Four times as much for twice the side.
#
# Weights stay. Outputs count together only if they are alive together:
#
# $$\text{peak} = \sum_{\text{parts}} \text{weights} + \max_{\text{moments}} \; \sum_{\text{tensors alive}} \text{bytes} \tag{12.1}$$
#
# (With model offload: the weights of the part that runs.)

# %%
weights, on_top = rehearse(
    lambda: torch.nn.Conv2d(4, 320, 3, padding=1),
    lambda convolution: convolution(torch.empty(2, 4, 64, 64)),
)
given = 2 * 4 * 64 * 64 * 2  # the latents themselves, in bytes
print(f"weights {weights:,} bytes, output {on_top - given:,} bytes")

# %% [markdown]
# `predict_memory` does this for a whole pipeline like that of SD 1.5. It checks its arguments and is otherwise our `rehearse`, part after part.
#
# **Check by another route.** The course's miniature is a real Stable Diffusion, so we draw with it and count the bytes of its real tensors. To see the check fail, we also predict without the doubled batch of guidance.

# %%
mini = load_stable_diffusion("mini-stable-diffusion", device="cpu", dtype=torch.float32)
side = mini.unet.config.sample_size * mini.vae_scale_factor  # its pictures' own size
TRIALS = {
    "one picture": {},
    "four, decoded one by one": {"batch": 4, "vae_slicing": True},
    "twice the side": {"height": 2 * side},
}


def trial(batch=1, height=side, vae_slicing=False):
    mini.vae.use_slicing = vae_slicing
    return mini(
        ["a red star"] * batch, height=height, width=height, num_inference_steps=3,
        output_type="pt", guidance_scale=3.0,
    ).images

# %% tags=["nbval-ignore-output"]
for name, choice in TRIALS.items():
    trial(**choice)  # once before, so that nothing is made for the first time
    measured = measure_peak(lambda choice=choice: trial(**choice)).bytes
    given = {**choice, "width": choice.get("height", side)}
    predicted = max(predict_memory(mini, **given).activations.values())
    assert_close(predicted, measured, rtol=0.01, atol=0)
    print(f"{name:26s} {predicted / measured:.4f} of what was measured")
    if "slicing" in str(choice):
        less = max(predict_memory(mini, guidance=False, **given).activations.values())
        verdict = "passes" if abs(less / measured - 1) < 0.01 else "fails"
        print(f"{'  guidance forgotten':26s} {less / measured:.4f}: {verdict}")
mini.vae.use_slicing = False

# %% [markdown]
# ## Which switch first?
#
# The order of the switches follows from the worst moment, and we can predict that now.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
drawing = Drawing(7.4, 2.5, "SDXL: what each part weighs in float16, and what helps it")
row = drawing.row(
    ["prompt", "text encoders", "U-Net", "decoder", "picture"], 1.6, 0.6, 6.8,
    kinds=["words", "network", "network", "network", "data"],
    notes=["", *(f"{w / 1e9:.2f} GB" for w in sdxl.weights.values()), ""], width=1.15,
)
for pair in zip(row, row[1:], strict=False):
    drawing.arrow(*pair)
drawing.arrow((4.0, 1.85), (3.4, 1.85), "every step", via=[(4.0, 2.25), (3.4, 2.25)])
shapes = {2.92: "77 x 2048", 4.5: "4 x 128 x 128", 6.05: "3 x 1024 x 1024"}
for x, shape in shapes.items():
    drawing.text(x, 1.97, shape, size=8)
drawing.text(2.15, 0.75, "model offload\nfew bits")
drawing.text(3.7, 0.75, "model offload, few bits\nfused attention, few steps")
drawing.text(5.55, 0.75, "tiles, slices\na decoder for float16")
drawing.text(3.7, 0.2, "all: float16; if nothing else helps: layer by layer")
drawing.show(
    "Prompt, text encoders, U-Net with its loop, decoder, picture, and the shapes that "
    "go between them. Under each network its weights in GB and its switches. Text "
    "encoders: model offload, few bits. U-Net: these, fused attention, few steps. "
    "Decoder: tiles, slices, a decoder for float16. For all float16; if nothing else "
    "helps, layer by layer."
)

# %% [markdown]
# **1. float16** halves the bytes of every number, if you say so (`dtype=torch.float16`). Its largest number is 65,504, so the square of 256 is already infinite, and the square of 0.0001 is 0. Code that squares must do it in float32 (exercise 12.3).
#
# **2. Fused attention** is on by default. Without it a layer that compares all $N$ places with each other writes down scores. With guidance these take
#
# $$2 \cdot \text{heads} \cdot N^2 \cdot \text{bytes per number} \tag{12.2}$$
#
# bytes: 0.54 GB for $N = 64^2$ and 8 heads in float16. Torch's fused kernel never writes them down (FlashAttention, [arXiv 2205.14135](https://arxiv.org/abs/2205.14135)). The older way, one head at a time (`enable_attention_slicing`), gains nothing over it.
#
# **3. Model offload** keeps on the card the part that runs. The others need room in main memory, 7 GB for SDXL. For each picture every part crosses the bus there and back: 1.4 s at 10 GB/s.
#
# **4. The decoder.** `vae.enable_slicing()` decodes a batch one picture at a time, with the same result. `vae.enable_tiling()` decodes overlapping tiles and fades each into the next: column $i$ of an overlap takes the share $i / \text{overlap}$ of the new tile.
# A tile does not see the rest, so the result changes a little. For SDXL there is a [decoder tuned for float16](https://huggingface.co/madebyollin/sdxl-vae-fp16-fix).
#
# **5. Layer by layer** (`enable_sequential_cpu_offload`) comes last: every layer crosses the bus at every step, 26 s for 50 steps of SDXL at that speed.

# %%
def with_tiles(config):
    vae = AutoencoderKL(**config)
    vae.enable_tiling()
    return vae


in_tiles = rehearse(lambda: with_tiles(SDXL_VAE), decode, torch.float32)[1]
print(f"SDXL's own decoder: in tiles {in_tiles / upcast[1]:.2f} of what it needs whole")
tuned = rehearse(lambda: with_tiles(STABLE_DIFFUSION_15["vae"]), decode)[1]
print(f"the decoder for float16: in tiles {tuned / vae[1]:.2f}")

# %%
frugal = replace(sdxl, activations={**sdxl.activations, "decode": tuned})
plans = {
    "SD 1.5, all on the card": sd15,
    "SD 1.5, model offload": replace(sd15, offload="model"),
    "SDXL, all on the card": sdxl,
    "SDXL, decoder for float16 in tiles": frugal,
    "SDXL, model offload": moved,
    "SDXL, both": replace(frugal, offload="model"),
}
for name, plan in plans.items():
    worst = max(plan.activations, key=plan.during)
    print(f"{name:35s} {plan.total / 1e9:5.2f} GB, at {worst}")

# %% [markdown]
# SD 1.5 needs no switch on this card. SDXL needs one, model offload. Without it even the frugal decoder leaves no 20 % of room.
#
# A null result: tiles did *nothing* for SDXL's own decoder, because a tile is as large as the `sample_size` of its configuration, 1024. The decoder for float16, which has the layers of SD 1.5's, says 512.

# %% [markdown]
# ## Few bits
#
# Model offload cannot help when one part alone is too large. FLUX.1's transformer has 11.9 billion weights, 23.8 GB in 16 bits. So store each in fewer bits.
#
# Take a row of weights $w$. In $b$ bits store whole numbers from $-(2^{b-1} - 1)$ to $2^{b-1} - 1$, and beside them one step $\Delta$ for the row, unless all of it is zero:
#
# $$\Delta = \frac{\max |w|}{2^{b-1} - 1}, \qquad \hat w = \Delta \cdot \operatorname{round}\left(\frac{w}{\Delta}\right) \tag{12.3}$$
#
# **By hand.** Let $w = (0.9, -0.35, 0.1)$ and $b = 4$, so $\Delta = 0.9/7 = 0.1286$. We store $7, -3, 1$ and read back $0.9, -0.386, 0.129$.
#
# Now the same for all layers of the miniature's U-Net, drawing from the same noise.

# %%
def in_few_bits(w, bits):
    rows = w.flatten(1)
    step = rows.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
    return (step * (rows / step).round()).reshape(w.shape)


row = torch.tensor([[0.9, -0.35, 0.1]])
print([round(w, 3) for w in in_few_bits(row, 4)[0].tolist()])
with_weights = torch.nn.Linear | torch.nn.Conv2d
layers = [m for m in mini.unet.modules() if isinstance(m, with_weights)]
original = [layer.weight.detach().clone() for layer in layers]
judge = load_pretrained("judge")
codes = sample_scenes(24, split="train", generator=make_generator(1))
prompts = captions(codes, generator=make_generator(2))
asked = torch.stack([parse_caption(text) for text in prompts])  # -1: free
grid, channels = mini.unet.config.sample_size, mini.unet.config.in_channels
noise = torch.randn(24, channels, grid, grid, generator=make_generator(3))

# %%
def draw(n, steps, noise=noise, guidance_scale=3.0):  # (n, 3, side, side) in [-1, 1]
    pixels = noise.shape[-1] * mini.vae_scale_factor
    images = mini(
        prompts[:n], latents=noise[:n], height=pixels, width=pixels, output_type="pt",
        guidance_scale=guidance_scale, num_inference_steps=steps,
    ).images
    return 2 * images - 1


def verdict(images):  # how many are right in everything, with Wilson's 95 % interval
    found = faithful(read_scenes(judge, images), asked[: len(images)]).all(1)
    n, k, z2 = len(found), int(found.sum()), 1.96**2
    middle = (k + z2 / 2) / (n + z2)
    width = (z2 * k * (n - k) / n + z2**2 / 4) ** 0.5 / (n + z2)
    return f"{k} of {n} right ({middle - width:.2f} to {middle + width:.2f})"

# %% tags=["nbval-ignore-output"]
mini.scheduler = make_scheduler("dpmpp_2m", mini.scheduler.config)
stored = {}
for bits in (32, 8, 4, 3):
    for layer, w in zip(layers, original, strict=True):
        layer.weight.data = w if bits == 32 else in_few_bits(w, bits)
    stored[f"{bits} bits"] = draw(8, 8)
    change = (stored[f"{bits} bits"] - stored["32 bits"]).abs().mean()
    print(f"{bits:2d} bits: {verdict(stored[f'{bits} bits'])}, changed by {change:.3f}")
for layer, w in zip(layers, original, strict=True):
    layer.weight.data = w

# %%
fig = plotting.image_strip(
    list(stored.values()), row_labels=list(stored),
    title="Eight bits keep the pictures; fewer change them",
)
show(fig, alt=(
    "Four rows of eight scenes from the same noise. With 8 bits they look as with 32. "
    "With 4 the same things with small changes, such as a crescent that closes to a "
    "ring. With 3 bits pale, smeared scenes, some with broken things."
))

# %% [markdown]
# With 8 bits you see no change. With 4 the pixels change, and the judge still finds these eight scenes right. Three bits are too few.
#
# In diffusers you [configure](https://huggingface.co/docs/diffusers/quantization/bitsandbytes) the one part, not the pipeline:
#
# ```python
# few_bits = BitsAndBytesConfig(  # needs the package bitsandbytes
#     load_in_4bit=True,
#     bnb_4bit_quant_type="nf4",  # the default is fp4
#     bnb_4bit_compute_dtype=torch.bfloat16,  # the default is float32
# )
# transformer = FluxTransformer2DModel.from_pretrained(
#     "black-forest-labs/FLUX.1-schnell", subfolder="transformer",
#     quantization_config=few_bits, dtype=torch.bfloat16,
# )
# ```
#
# For FLUX.1's transformer [diffusers' benchmark](https://huggingface.co/datasets/diffusers/benchmarks) measured (in $10^9$ bytes) 24.3 GB and 0.49 s a call in 16 bits, 7.2 GB and 0.51 s in 4 bits (nf4), and 0.6 GB and 1.86 s when layers are moved in and out.
# So few bits save memory, not time.

# %% [markdown]
# ## How long will it take?
#
# Time goes into operations, which can be counted without data: those of one call of the U-Net, times the calls, plus the decoder's.

# %%
class Decoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.vae = AutoencoderKL(**STABLE_DIFFUSION_15["vae"])

    def forward(self, z):
        return self.vae.decode(z).sample

# %%
with torch.device("meta"):
    t, small, large = torch.tensor(1), (1, 4, 64, 64), (1, 4, 128, 128)
    sizes = STABLE_DIFFUSION_15["unet"], SDXL_UNET
    unets = [UNet2DConditionModel(**config) for config in sizes]
    more = {"text_embeds": torch.empty(1, 1280), "time_ids": torch.empty(1, 6)}
    words = torch.empty(1, 77, 2048), *[None] * 4, more
    one_call = {
        "SD 1.5": count_flops(unets[0], torch.empty(small), t, torch.empty(1, 77, 768)),
        "SDXL": count_flops(unets[1], torch.empty(large), t, *words),
    }
    decoding = {
        "SD 1.5": count_flops(Decoder(), torch.empty(small)),
        "SDXL": count_flops(Decoder(), torch.empty(large)),
    }
for name, flops in one_call.items():
    rest = decoding[name] / 1e12
    print(f"{name}: {flops / 1e12:.2f} TFLOP for a call, {rest:.1f} to decode")

# %% [markdown]
# A guided step, with its batch of two, costs two calls. So diffusers' default of 50 guided steps costs 100.
#
# **Task.** Suppose your card attains 20 TFLOP/s. Which is faster: SDXL in 4 calls without guidance, or SD 1.5 in 50 guided steps?
# And at which of the explorer's steps does SDXL begin to take more than ten times as long as in 4 calls?

# %%
def seconds(model, calls, speed):
    return (calls * one_call[model] + decoding[model]) / (speed * 1e12)

# %%
def waiting(steps, speed):
    ways = {
        f"SD 1.5, {steps} guided steps": seconds("SD 1.5", 2 * steps, speed),
        f"SDXL, {steps} guided steps": seconds("SDXL", 2 * steps, speed),
        "SDXL, 4 calls": seconds("SDXL", 4, speed),
    }
    times = list(ways.values())
    fig, ax = figure(6.2, 1.9)
    ax.bar_label(ax.barh(list(ways), times, color="#0072B2"), fmt="%.1f s", padding=3)
    ax.set(xlabel="seconds for a picture", xlim=(0, 1.2 * max(times)))
    ax.set_title(f"A card that attains {speed} TFLOP/s", loc="left")
    ax.invert_yaxis()
    return fig, "; ".join(f"{name}: {s:.1f} s" for name, s in ways.items())


Explorer(
    waiting, steps=[10, 20, 30, 50], speed=[5, 10, 20, 40],
    start={"steps": 50, "speed": 20},
)

# %% [markdown]
# <details><summary>Answer</summary>
#
# SDXL in 4 calls: 1.9 s against 4.1 s. With 30 guided steps SDXL takes 20.8 s, more than ten times 1.9 s; with 20 it takes 14.0. The number of calls decides here, more than the size of the network. With 4 calls the decoder is already 28 % of the operations.
#
# What does your own card attain? Time one picture, and divide its operations by the seconds.
#
# </details>

# %% [markdown]
# ## Few steps
#
# So why not ask the same network for 4 steps? The miniature tries, with DPM-Solver++(2M) of lesson 06.

# %% tags=["nbval-ignore-output"]
by_steps = {}
for steps in (20, 8, 4):
    by_steps[f"{steps} steps"] = draw(24, steps)
    print(f"{steps:2d} steps: {verdict(by_steps[f'{steps} steps'])}")
fig = plotting.image_strip(
    [images[:8] for images in by_steps.values()], row_labels=list(by_steps),
    title="An ordinary model asked for few steps",
)
show(fig, alt=(
    "Three rows of eight scenes from the same noise, drawn in 20, 8 and 4 steps. The "
    "things are the same in all rows; with 4 steps some surfaces are blotched, such as "
    "a pink ball and a pink square."
))

# %% [markdown]
# Eight steps lose nothing here. With four the judge finds a third of the pictures wrong, though most of the eight above look nearly the same. A longer leap follows one estimate of $x_0$ for longer, and at noisy levels this is an average (lesson 04).
#
# A *few-step model* is another network, trained to do in one call what many guided steps of its teacher do (lesson 15). Each wants its own settings:
#
# | model | base | calls | guidance | scheduler |
# |---|---|---|---|---|
# | [SDXL-Turbo](https://huggingface.co/docs/diffusers/api/pipelines/stable_diffusion/sdxl_turbo) | SDXL, 512 pixels | 1 to 4 | off | trailing |
# | [LCM-LoRA](https://huggingface.co/latent-consistency/lcm-lora-sdxl) | SD 1.5, SDXL | 2 to 8 | off, or 1 to 2 | `LCMScheduler` |
# | [SDXL-Lightning](https://huggingface.co/ByteDance/SDXL-Lightning) | SDXL | 2, 4, 8: a file for each | off | Euler, trailing |
# | [FLUX.1-schnell](https://huggingface.co/docs/diffusers/v0.31.0/api/pipelines/flux) | FLUX.1 | 1 to 4 | off | its own |
#
# Guidance is already inside. If you leave it on (SDXL's default is 5.0), you pay double and push twice. In the Stable Diffusion pipelines any `guidance_scale` up to 1 switches it off. With the wrong spacing the first call sees a level for which the model was not trained.

# %% [markdown]
# ## The size it was trained at
#
# A larger picture is one argument away. SD 1.5 learned at 512 pixels and [SDXL at 1024](https://huggingface.co/docs/diffusers/api/pipelines/stable_diffusion/stable_diffusion_xl). What happens elsewhere? The miniature draws at its own size, and at twice the side.

# %% tags=["nbval-ignore-output"]
wide = torch.randn(8, channels, 2 * grid, 2 * grid, generator=make_generator(4))
own_size, twice = stored["32 bits"], draw(8, 8, noise=wide)
shrunk = torch.nn.functional.avg_pool2d(twice, 2)  # the judge knows one size
print(f"its own size: {verdict(own_size)}; twice the side: {verdict(shrunk)}")
fig = plotting.image_strip(
    [own_size, shrunk], row_labels=["own size", "twice the side"],
    title="The same prompts, at the trained size and at twice its side",
)
show(fig, alt=(
    "Two rows of eight scenes for the same prompts. At its own size each shows the one "
    "or two things asked for. At twice the side things are repeated: four umbrellas "
    "for one, several cats, and a crescent in two pieces."
))

# %% [markdown]
# The network knows how large things are among its own number of places. On four times as many it draws them again and again, and no error tells you. (Trust the pictures, not the 0 of 8: the judge knows one size.) Draw at the trained size and enlarge afterwards; image to image (lesson 11) can add detail.

# %% [markdown]
# ## A file from somewhere
#
# Many models come as one file. `StableDiffusionXLPipeline.from_single_file("model.safetensors", dtype=torch.float16)` loads it. Take safetensors only, because a pickle runs its author's code.
#
# Which family is it? As `from_single_file` does, read shapes without reading the weights. (In a single file `conv_in.weight` is called `model.diffusion_model.input_blocks.0.0.weight`.)

# %%
from safetensors import safe_open

from diffusion_course.files import data_dir

path = next((data_dir() / "mini-stable-diffusion" / "unet").glob("*.safetensors"))
with safe_open(path, framework="pt") as file:
    key = next(name for name in file.keys() if name.endswith("attn2.to_k.weight"))
    first, width = (file.get_slice(n).get_shape()[1] for n in ("conv_in.weight", key))
print(f"latents of {first} channels, words of {width} numbers")

# %% [markdown]
# Words of 768 numbers mean SD 1.x, 1024 SD 2.x, 2048 SDXL. Nine channels where four are usual mean inpainting. The miniature's 8 and 192 belong to no family.
#
# What the file does *not* say is what the network predicts. `from_single_file` takes that from the family's own folder, which says noise for SD 1.5 and SDXL. Some fine-tunes were trained on $v$. So was the miniature. Let us read it as noise:

# %% tags=["nbval-ignore-output"]
own = mini.scheduler
mini.scheduler = make_scheduler("dpmpp_2m", own.config, prediction_type="epsilon")
wrong_reading = draw(8, 8)
mini.scheduler = own
for name, images in (("as trained", own_size), ("read as noise", wrong_reading)):
    print(f"{name:14s} {verdict(images)}")
fig = plotting.image_strip(
    [own_size, wrong_reading], row_labels=["as trained", "read as noise"],
    title="One word in a small file",
)
show(fig, alt=(
    "Two rows of eight pictures. As trained: clear scenes. Read as noise: garish, "
    "speckled pictures, in which a thing shows through at best as a blur."
))

# %% [markdown]
# There is no warning, and this [happens to others](https://github.com/huggingface/peft/issues/421) too.
# In exercise 12.6 you write the test, which takes three lines.

# %% [markdown]
# ## A LoRA
#
# The U-Net of a fine-tune of SDXL is another 5 GB. A LoRA is a correction of a tenth of that or less. Each layer keeps its $W$ and gets two thin matrices, $A$ with $r$ rows and $B$ with $r$ columns:
#
# $$W x \;\to\; W x + \text{scale} \cdot B\,(A x) \tag{12.4}$$
#
# `pipe.load_lora_weights("file.safetensors")` adds them, and `pipe.fuse_lora()` adds $\text{scale} \cdot BA$ to $W$ once, so that it costs no time at each step. It must be of the same family, or the widths do not fit. Lesson 13 trains one.
#
# A layer gets $r$ numbers for each of its inputs and each of its outputs. We count that for the layers that few-step LoRAs change, with $r = 64$:

# %%
CHANGED = (
    "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj",
    "ff.net.2", "conv1", "conv2", "conv_shortcut", "samplers.0.conv", "time_emb_proj",
)
for name, unet in zip(("SD 1.5", "SDXL"), unets, strict=True):
    sizes = [
        64 * (m.weight[0].numel() + len(m.weight))
        for key, m in unet.named_modules() if key.endswith(CHANGED)
    ]
    print(
        f"{name}: {len(sizes)} layers, {sum(sizes) / 1e6:.1f} million numbers, "
        f"{2 * sum(sizes) / 1e6:.0f} MB in float16"
    )

# %% [markdown]
# SDXL-Lightning's file has [394 MB](https://huggingface.co/ByteDance/SDXL-Lightning/tree/main), and LCM-LoRA's card says [67.5 and 197 million](https://huggingface.co/latent-consistency/lcm-lora-sdxl), within half a percent of ours. So a few-step model may be 0.4 GB beside your SDXL.

# %% [markdown]
# ## Load it
#
# For SD 1.5 the course's `load_stable_diffusion` looks into your cache, asks `predict_memory` before it reads weights, and says what you got.
# On a GPU with a network this cell downloads 2.7 GB, once (`HF_HUB_OFFLINE=1` prevents it). Elsewhere you get the miniature.

# %% tags=["nbval-ignore-output"]
pipe = load_stable_diffusion("runwayml/stable-diffusion-v1-5")

# %% [markdown]
# For SDXL on 8 GB you now know every line:
#
# ```python
# from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline
#
# vae = AutoencoderKL.from_pretrained(  # decodes in float16: half the room
#     "madebyollin/sdxl-vae-fp16-fix", dtype=torch.float16
# )
# pipe = StableDiffusionXLPipeline.from_pretrained(
#     "stabilityai/stable-diffusion-xl-base-1.0", vae=vae, variant="fp16",
#     dtype=torch.float16,  # torch_dtype before diffusers 0.40
# )
# pipe.enable_model_cpu_offload()  # instead of pipe.to("cuda"); needs accelerate
# pipe.load_lora_weights(  # needs peft
#     "ByteDance/SDXL-Lightning", weight_name="sdxl_lightning_4step_lora.safetensors"
# )
# pipe.scheduler = EulerDiscreteScheduler.from_config(
#     pipe.scheduler.config, timestep_spacing="trailing"
# )
# prompt = "a photo of an astronaut"
# image = pipe(prompt, num_inference_steps=4, guidance_scale=0.0).images[0]
# ```

# %% [markdown]
# ## Before others see it
#
# The weights of SD 1.x are under CreativeML OpenRAIL-M, those of 2.x and SDXL under OpenRAIL++-M ([the text](https://huggingface.co/spaces/CompVis/stable-diffusion-license)). In short, not as legal advice: you may use, change, sell and pass on the model.
# A list of uses is forbidden, and you must pass that list on with the weights and with whatever is derived from them. The authors claim no rights in the pictures, and you answer for them. The licence leaves open what the model was allowed to learn from. Few-step models have their own licences: [SDXL-Turbo](https://huggingface.co/stabilityai/sdxl-turbo) has further terms for commercial use.
#
# SD 1.x comes with a *safety checker*, which our number left out: 0.6 GB more. It compares the CLIP vector of each finished picture with those of 17 fixed concepts and returns a black picture if one is too close. The concepts are sexual ones. Violence passes, and the checker is easy to avoid ([Rando et al. 2022](https://arxiv.org/abs/2210.04610)). SDXL's folder has none.

# %% [markdown]
# ## Where people go wrong
#
# **One saving for another's problem.** Attention slicing cannot help a decoder. Ask first which moment is the worst.
#
# **No error, but slow.** On Windows NVIDIA's driver moves what does not fit [into main memory](https://nvidia.custhelp.com/app/answers/detail/a_id/5490).
#
# **`pipe.to("cuda")` and then offload.** The first already needs room for all weights. Leave it out.
#
# **A copied scheduler.** Half of a scheduler's configuration belongs to the network: its betas, and what it predicts. Write `NewScheduler.from_config(pipe.scheduler.config)`, or the course's `make_scheduler`.

# %% [markdown]
# ## Your turn
#
# Each check runs your answer on several cases and names the mistake if it is a known one. `hint("12.1")` helps in steps, `solution("12.1")` comes after a try.

# %%
from diffusion_course import check, exercise

exercise("12.1")

# %%
scores = ...  # GB, for 512 x 512 pixels

check("12.1", scores)

# %%
exercise("12.2")

# %%
def peaks(weights, activations, largest_layers):
    ...


check("12.2", peaks)

# %%
exercise("12.3")

# %%
def rms(x):
    ...


check("12.3", rms)

# %%
exercise("12.4")

# %%
def sliced_attention(query, key, value, slice_size):
    out = torch.empty_like(query)
    for start in range(0, len(query), slice_size):
        out[start : start + slice_size] = ...
    return out


check("12.4", sliced_attention)

# %%
exercise("12.5")

# %%
def join_tiles(left, right, overlap):
    share = torch.arange(overlap, dtype=left.dtype) / overlap
    ...


check("12.5", join_tiles)

# %%
exercise("12.6")

# %%
def type_errors(output, x0, noise, alpha_bar):
    ...


check("12.6", type_errors)

# %% [markdown]
# ## What you now have

# %% jupyter={"source_hidden": true} tags=["hide-input"]
card = Drawing(7.4, 2.0)
ask, halve, move, piece, bits = card.row(
    ["worst moment?", "float16", "model offload", "tiles, slices", "few bits"],
    1.35, 0.7, 6.7, width=1.2,
    kinds=["formula", "data", "network", "data", "network"],
)
for start, end in ((ask, halve), (halve, move), (move, piece), (piece, bits)):
    card.arrow(start, end)
for box, said in (
    (ask, "predict_memory"), (halve, "all numbers"), (move, "weights"),
    (piece, "the decoder"), (bits, "one part too large"),
):
    card.text(box.x, 0.9, said)
card.text(3.7, 0.5, "time = calls x one call + decoder: fewer steps, no guidance")
card.text(3.7, 0.2, "still too large: layer by layer, at every step")
card.show(
    "The order of the switches in a row: ask for the worst moment, float16 for all "
    "numbers, model offload for weights, tiles and slices for the decoder, few bits if "
    "one part is too large. Time is calls times one call plus the decoder."
)

# %% [markdown]
# | in words | code | where |
# |---|---|---|
# | A file holds weights. The peak is weights and the worst moment. | `predict_memory`, `measure_peak` | (12.1) |
# | Fused attention writes no scores down. | `predict_memory(fused_attention=False)` | (12.2) |
# | Choose the switch for the moment that breaks. | `offload`, `vae_tiling`, `vae_slicing` | Which switch first? |
# | Time is calls times one call, plus the decoder. | `count_flops` | How long will it take? |
# | A file does not say what its network predicts. | `make_scheduler(name, config)` | A file from somewhere |
#
# This ends Part II: you have built every part of a Stable Diffusion and can run a large one. Part III changes what it knows, without training all of it.
#
# To read next: Rombach et al. 2022, https://arxiv.org/abs/2112.10752, and Podell et al. 2023, https://arxiv.org/abs/2307.01952.

# %% [markdown]
# ## Going further
#
# The core of this lesson ends here. What follows stands on its own, section by section: pick what you need.

# %% [markdown]
# ### Ids disappear
#
# The lines that everybody has copied begin with `"runwayml/stable-diffusion-v1-5"`. Its owner took that id down in August 2024 ([one of many reports](https://github.com/TencentARC/SmartEdit/issues/44)), and Stable Diffusion 2.1 went in November 2025 ([diffusers#12874](https://github.com/huggingface/diffusers/issues/12874)).
# So the course keeps, for each model, ids that carry the same weights, in the order in which they are tried:

# %%
from diffusion_course import CHECKPOINTS

for name, checkpoint in CHECKPOINTS.items():
    print(f"{name} predicts {checkpoint.prediction_type}, licence {checkpoint.licence}")
    print("   tried:", ", then ".join(checkpoint.ids))
    for old, when in checkpoint.gone.items():
        print(f"   gone since {when}: {old}")

# %% [markdown]
# A mirror can go too. So look into your own cache first, have a second id, and have a plan for neither. `fallback=False` raises an error where a miniature would be the wrong answer, such as in a script that runs at night:

# %% tags=["nbval-ignore-output"]
try:
    load_stable_diffusion(
        "diffusion-course/no-such-model", device="cpu", fallback=False
    )
except RuntimeError as error:
    print("RuntimeError:", error)

# %% [markdown]
# ### How the books are kept
#
# If you want to count the bytes of your own code, this is how. torch shows `LiveBytes` every operation. It adds the bytes of a new tensor's storage, and a weak reference tells it when the storage is freed.

# %%
from diffusion_course import show_source

show_source(LiveBytes._see, LiveBytes.__torch_dispatch__)

# %% [markdown]
# Keep the books yourself, and choose an example in which the peak, the sum and the end are three numbers:

# %%
with LiveBytes() as live:
    x = torch.ones(1000)  # + 4,000
    y = torch.cat([x, x])  # + 8,000: 12,000 are alive
    del x  # - 4,000
    z = y.half()  # + 4,000: 12,000
    del y  # - 8,000
    z2 = z + 1  # + 4,000: 8,000
print(f"at the peak {live.peak:,}, alive at the end {live.now:,}; made in all 20,000")

# %% [markdown]
# A kernel may take scratch space inside one operation. Tensors do not show that; the allocator does. On a GPU `measure_peak(..., device="cuda")` reads the allocator. On a CPU a test of the course holds the prediction against torch's profiler: for a picture of $128 \times 128$ by the miniature the allocator handed out up to a quarter more than the tensors need.
#
# How much more is it for SDXL on a GPU? With everything on the card diffusers' authors [measured](https://huggingface.co/datasets/sayakpaul/sample-datasets/blob/8285f7668326f13af8d213cd8087218cd7f97483/collated_results_sdxl.csv), in $10^9$ bytes, 18.1 GB in float32, and 9.6 GB with all parts in bfloat16. Our numbers for the tensors are $2 \cdot 6.94 + 3.22 = 17.1$ and $6.94 + 1.61 = 8.6$, so the allocator needed 6 % more, and an eighth more. The loader's 20 % would have covered both.

# %% [markdown]
# ### Three ways to attend
#
# Does attention slicing really gain nothing? Predict the three ways for SD 1.5, at the U-Net and at the peak of everything.

# %%
WAYS = {
    "all scores": {"fused_attention": False},
    "one head at a time": {"fused_attention": False, "attention_slicing": True},
    "fused": {},
}
for way, choice in WAYS.items():
    plan = predict_memory(STABLE_DIFFUSION_15, dtype=torch.float16, **choice)
    print(
        f"{way:18s} U-Net: {plan.activations['denoise'] / 1e6:7.1f} MB on top of the "
        f"weights; peak of everything {plan.total / 1e9:.2f} GB"
    )

# %% [markdown]
# Written out, the scores of (12.2) and their softmax cost the U-Net a gigabyte more. At the peak of everything it is about 0.7 GB, because without them the decoder is the peak. One head at a time needs what the fused kernel needs, and is slower: diffusers' own documentation warns against it where the fused kernel is used.

# %% [markdown]
# ### Sixteen bits, two ways
#
# In float16 SDXL's decoder gave black pictures. What is the other format, and when is it better?

# %%
for dtype in (torch.float32, torch.bfloat16, torch.float16):
    info = torch.finfo(dtype)
    print(
        f"{str(dtype)[6:]:8s} largest {info.max:.1e}, after 1: 1 + {info.eps:.1e}; "
        f"1.1 becomes {torch.tensor(1.1).to(dtype):.6f}, "
        f"300 squared {torch.tensor(300.0).to(dtype) ** 2:.0f}"
    )

# %% [markdown]
# bfloat16 keeps float32's range and has 8 digits of precision in base two; float16 has 11, and a range that ends at 65,504. **By hand.** Between 1 and 2 the numbers of bfloat16 are $1/128$ apart, those of float16 $1/1024$. So 1.1 becomes $1 + 13/128 = 1.1016$ in one and $1 + 102/1024 = 1.0996$ in the other.
#
# What does rounding do to a picture? The same prompts from the same noise, in three formats:

# %% tags=["nbval-ignore-output"]
def drawn_in(dtype):
    rounded = load_stable_diffusion("mini-stable-diffusion", device="cpu", dtype=dtype)
    images = rounded(
        prompts[:2], latents=noise[:2].to(dtype), guidance_scale=3.0,
        num_inference_steps=3, output_type="pt",
    ).images
    return 2 * images.float() - 1


exact = drawn_in(torch.float32)
for dtype in (torch.bfloat16, torch.float16):
    try:
        change = (drawn_in(dtype) - exact).abs()
        print(f"{dtype}: changed by {change.mean():.4f}, at most {change.max():.2f}")
    except ValueError as error:  # older builds of torch
        print(error)

# %% [markdown]
# Both come close, and float16 closer, as its three more digits promise. That is why it is the usual choice for pictures, wherever its range suffices.
#
# **Keep the schedule out of it.** The first $\bar\alpha$ of Stable Diffusion's schedule is 0.99915. Near 1 the numbers of float16 are $1/2048$ apart:

# %%
from diffusion_course import make_schedule

abar = make_schedule("scaled_linear", 1000).alphas_cumprod
for dtype in (torch.float64, torch.float16, torch.bfloat16):
    rest = 1 - abar[0].to(dtype)
    print(f"{str(dtype)[6:]:8s} 1 - abar at the first index: {rest.item():.6f}")

# %% [markdown]
# The variance of the noise at the first step is off by a seventh in float16, and in bfloat16 there is no noise. Tables are float64 in this course and float32 in diffusers, whatever the networks are in.

# %% [markdown]
# ### What a tile does not see
#
# Tiling changes the result "a little". How much, and where? Decode the latents of large scenes both ways. The tiles of the miniature have the side of its own pictures.

# %% tags=["nbval-ignore-output"]
from diffusion_course import psnr, render_scenes

scenes = render_scenes(codes[:4], size=2 * side, generator=make_generator(4))
with torch.no_grad():
    latents = mini.vae.encode(scenes).latent_dist.mean
    whole = mini.vae.decode(latents).sample.clamp(-1, 1)
    mini.vae.enable_tiling()
    pieces = mini.vae.decode(latents).sample.clamp(-1, 1)
    mini.vae.disable_tiling()
for name, images in (("whole", whole), ("in tiles", pieces)):
    print(f"{name}: {psnr(images, scenes).mean():.1f} dB to the scene")
gap = (pieces - whole).abs()
print(f"they differ by {gap.mean():.4f} on average, {gap.max():.2f} at the worst pixel")

# %%
shown = (4 * gap.mean(1, keepdim=True).expand(-1, 3, -1, -1) - 1).clamp(-1, 1)
fig = plotting.image_strip(
    [whole, pieces, shown], row_labels=["whole", "tiles", "difference x 4"], scale=1.5,
    title="A tile does not know the rest of the picture",
)
show(fig, alt=(
    "Three rows of four large scenes: decoded whole; decoded in tiles, with the same "
    "things but bands of another tint at the right and lower border; and the "
    "difference, brightest in these bands."
))

# %% [markdown]
# The difference is no line at a seam: seams are faded. It is a tint in bands at the right and lower border, where the last tiles are narrow. The decoder's group norms average over what they see, and a strip of plain sand has another average than the whole picture.

# %% [markdown]
# ### Which sampler, over five seeds
#
# Does a better sampler save steps on the miniature? The reference is DDIM with 40 steps, and the distance is the root of the mean square over pixels. Five seeds give a standard error.

# %% tags=["nbval-ignore-output"]
from diffusion_course import Progress

distances = {}
with Progress(5, "drawing with five seeds") as bar:
    for seed in range(5):
        start = torch.randn(3, channels, grid, grid, generator=make_generator(seed))
        mini.scheduler = make_scheduler("ddim", own.config)
        reference = draw(3, 40, noise=start)
        for name in ("ddim", "dpmpp_2m"):
            mini.scheduler = make_scheduler(name, own.config)
            for steps in (6, 20):
                gap = (draw(3, steps, noise=start) - reference).square().mean().sqrt()
                distances.setdefault((name, steps), []).append(gap)
        bar.update()
mini.scheduler = own

# %% tags=["nbval-ignore-output"]
for (name, steps), found in distances.items():
    found = torch.stack(found)
    error = found.std() / len(found) ** 0.5
    print(f"{name:9s} {steps:2d} steps: {found.mean():.3f} (error {error:.3f})")

# %% [markdown]
# DPM-Solver++(2M) is closer on average at both numbers of steps, but each difference is smaller than its two errors together. So these averages do not decide which sampler suits this network better. (Both began from the same five noises, so comparing them seed by seed would be sharper.)

# %% [markdown]
# ### The wrong reading, derived
#
# Why did the pictures above fall apart as they did? Put $v = \sqrt{\bar\alpha}\,\epsilon - \sqrt{1-\bar\alpha}\,x_0$ where noise is expected:
#
# $$\begin{aligned}
# \tilde x_0 &= \frac{x_t - \sqrt{1-\bar\alpha}\;v}{\sqrt{\bar\alpha}} \\[4pt]
# &= \frac{\sqrt{\bar\alpha} + 1 - \bar\alpha}{\sqrt{\bar\alpha}}\,x_0 + \frac{\sqrt{1-\bar\alpha}\,\big(1 - \sqrt{\bar\alpha}\big)}{\sqrt{\bar\alpha}}\,\epsilon
# \end{aligned} \tag{12.5}$$
#
# **Line by line.** Write $x_t = \sqrt{\bar\alpha}\,x_0 + \sqrt{1-\bar\alpha}\,\epsilon$ and subtract $\sqrt{1-\bar\alpha}\,v = \sqrt{\bar\alpha}\sqrt{1-\bar\alpha}\,\epsilon - (1-\bar\alpha)\,x_0$. Collect $x_0$, collect $\epsilon$, divide.
#
# **Check by another route**: the package's reading, with a perfect $v$ of random data.

# %%
from diffusion_course import from_x0_and_noise, to_x0_and_noise

x0, eps = torch.randn(2, 4000, dtype=torch.float64, generator=generator)
for alpha_bar in (0.99, 0.5, 0.01):
    v = from_x0_and_noise(x0, eps, alpha_bar, "v_prediction")
    root = alpha_bar**0.5
    xt = root * x0 + (1 - alpha_bar) ** 0.5 * eps
    wrong, _ = to_x0_and_noise(v, xt, alpha_bar, "epsilon")
    of_x0 = (root + 1 - alpha_bar) / root
    of_noise = (1 - alpha_bar) ** 0.5 * (1 - root) / root
    assert_close(wrong, of_x0 * x0 + of_noise * eps, rtol=1e-9, atol=1e-9)
    ratio = (of_x0 / of_noise) ** 2
    print(
        f"abar = {alpha_bar}: {of_x0:.2f} x0 + {of_noise:.2f} noise, "
        f"signal to noise {ratio:.4g}"
    )

# %% [markdown]
# With little noise the two factors are 1 and 0: no harm. With much, both explode. At $\bar\alpha = 0.01$ the estimate is eleven times too large, and it holds only one and a half times as much signal as noise.
#
# **Find out what a network predicts.** Noise latents yourself and ask once. You know both targets, so see which one the answer is closer to:

# %% tags=["nbval-ignore-output"]
from diffusion_course import (
    encode_images,
    encode_prompt,
    load_parts,
    prediction_target,
    q_sample,
)

shipped = load_parts()
pictures = render_scenes(codes[:16], size=side, generator=make_generator(5))
levels = shipped.schedule.alphas_cumprod.float()
with torch.no_grad():
    z, words = encode_images(shipped, pictures), encode_prompt(shipped, prompts[:16])
    for index in (100, 500, 900):
        t = torch.full((16,), index)
        eps = torch.randn(z.shape, generator=make_generator(6))
        answer = shipped.predict(q_sample(z, t, levels, eps), t, words)
        for kind in ("epsilon", "v_prediction"):
            target = prediction_target(z, eps, t, levels, kind)
            error = (answer - target).square().mean()
            print(f"t = {index}, {kind:12s} mean square distance {error:.2f}")

# %% [markdown]
# At every level the answer is closer to $v$. With little noise $v$ is almost the noise itself, so ask where there is much.

# %% [markdown]
# ### What the safety checker computes
#
# "Too close" needs a rule, and the published code has this one. A picture has the vector $u$. There are 17 concepts $c_k$ and three *special care* concepts, each with a threshold $\theta_k$. With $\cos$ for the cosine of two vectors,
#
# $$\text{flagged} \iff \max_k \operatorname{round}_3\big(\cos(u, c_k) - \theta_k + a\big) > 0 \tag{12.6}$$
#
# where $\operatorname{round}_3$ rounds to three decimals, and $a$ is 0.01 if the cosine with one of the special care concepts exceeds its threshold by the same rounding, else 0. So a picture near one of these three is judged a little more strictly, and an excess below 0.0005 passes.
#
# **Check by another route**: diffusers' own checker, with its picture network taken out, so that we can hand it vectors. The rule without $a$ and rounding must fail.

# %%
from diffusers import logging
from diffusers.pipelines.stable_diffusion.safety_checker import (
    StableDiffusionSafetyChecker,
)
from torch.nn.functional import normalize
from transformers import CLIPConfig


class Hand(torch.nn.Module):
    def forward(self, u):
        return None, u


logging.set_verbosity_error()  # it warns of every picture that it flags
checker = StableDiffusionSafetyChecker(CLIPConfig(projection_dim=16)).eval()
checker.vision_model, checker.visual_projection = Hand(), torch.nn.Identity()

# %%
u, c, special = (torch.randn(n, 16, generator=generator) for n in (4000, 17, 3))
theta, theta_special = torch.full((17,), 0.45), torch.full((3,), 0.2)
checker.concept_embeds.data, checker.concept_embeds_weights.data = c, theta
checker.special_care_embeds.data = special
checker.special_care_embeds_weights.data = theta_special

# %%
theirs = torch.tensor(checker(u, torch.ones(len(u), 3, 1, 1))[1])
cosines = normalize(u) @ normalize(c).T
careful = (normalize(u) @ normalize(special).T - theta_special > 0.0005).any(1)
ours = ((cosines - theta + 0.01 * careful[:, None]) > 0.0005).any(1)
naive = (cosines > theta).any(1)
print(f"flagged {int(theirs.sum())} of {len(u)}")
print(f"(12.6) differs in {int((ours != theirs).sum())} of them")
print(f"the rule without a and rounding differs in {int((naive != theirs).sum())}")

# %% [markdown]
# By its configuration, CLIP's ViT-L/14, the real checker weighs 0.6 GB in float16, and the peak of SD 1.5 grows by that:

# %%
vision = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "patch_size": 14,
}
config = {"projection_dim": 768, "vision_config": vision}
with_checker = predict_memory(
    {**STABLE_DIFFUSION_15, "safety_checker": config}, dtype=torch.float16
)
print(
    f"its weights: {with_checker.weights['safety_checker'] / 1e9:.2f} GB; the peak "
    f"{with_checker.total / 1e9:.2f} GB instead of {sd15.total / 1e9:.2f}"
)

# %% [markdown]
# ### Weights of a transformer
#
# How far do few bits carry you with FLUX.1? Its transformer and its large text model, T5-XXL, counted without data:

# %%
from diffusers import FluxTransformer2DModel
from transformers import T5Config, T5EncoderModel

T5_XXL = T5Config(
    d_model=4096, d_ff=10240, d_kv=64, num_heads=64, num_layers=24,
    vocab_size=32128, feed_forward_proj="gated-gelu",
)
with torch.device("meta"):
    giants = {"FLUX.1": FluxTransformer2DModel(), "T5-XXL": T5EncoderModel(T5_XXL)}
for name, network in giants.items():
    count = sum(p.numel() for p in network.parameters())
    sizes = ", ".join(f"{bits} bits {count * bits / 8e9:.1f} GB" for bits in (16, 8, 4))
    print(f"{name}: {count / 1e9:.1f} billion weights; {sizes}")

# %% [markdown]
# In 4 bits the transformer's weights alone fill three quarters of 8 GB (7.2 GB were measured while it ran), and the text model must be elsewhere while it runs. So FLUX.1 on 8 GB needs both: few bits *and* model offload.

# %% [markdown]
# ### A second pipeline that doubles the first
#
# diffusers makes another pipeline from the same parts with `from_pipe`. Without a dtype it converts them to float32, and they are the same parts:

# %% tags=["nbval-ignore-output"]
from diffusers import StableDiffusionImg2ImgPipeline

first = load_stable_diffusion(
    "mini-stable-diffusion", device="cpu", dtype=torch.bfloat16
)
before = sum(p.nbytes for p in first.unet.parameters())
second = StableDiffusionImg2ImgPipeline.from_pipe(first)
after = sum(p.nbytes for p in first.unet.parameters())
print(f"the first U-Net: now {first.unet.dtype}, {after / before:.0f} times the bytes")

# %% [markdown]
# Pass the dtype, `from_pipe(first, dtype=first.dtype)`, and look at a weight afterwards.

# %% [markdown]
# ### To read further
#
# - Dao et al. 2022, https://arxiv.org/abs/2205.14135: attention that never writes its scores down.
# - Luo et al. 2023, https://arxiv.org/abs/2311.05556: LCM-LoRA, few steps in a small file.
# - Dettmers et al. 2023, https://arxiv.org/abs/2305.14314: nf4, four bits placed where weights are dense.
# - Rando et al. 2022, https://arxiv.org/abs/2210.04610: what the safety checker does and does not do.
